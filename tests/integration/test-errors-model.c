/*
 * Errors without end: injected into a guest that reads, writes, gives and takes
 * at the same time, against a model that knows every page's content
 *
 * What must hold: a page that is read holds what was written last, or zeros
 * that somebody was told of before; and a page that was covered, in a stripe
 * with no more errors than parity, is never lost.
 *
 * 2,000 errors are injected; with MEMSCHED_TEST_LONG=1, 100,000.
 * MEMSCHED_TEST_SEED repeats the choices of a run, not its timing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "errors.h"
#include "instance.h"
#include "protect-int.h"

#define MIB     (UINT64_C(1) << 20)
#define FRAMES  12u
#define PAGES   (FRAMES * 512u)
#define THREADS 2u
#define CHECKED 8u              /* pages looked at in one go */
#define PEACE_US 20000
#define SCRUB   (256 * MIB)     /* ten passes a second */

typedef struct Frame {
    pthread_mutex_t lock;       /* of whoever uses it as the guest does */
    bool given;                 /* inflated, not deflated */
} Frame;

typedef struct Run {
    Guest *guest;
    GRand *rand;                /* the main thread's */
    Frame frame[FRAMES];
    uint64_t seed[PAGES];       /* 0: zeros */
    _Atomic bool told[PAGES];   /* lost, and not seen yet */
    _Atomic bool must[PAGES];   /* must not be lost */
    _Atomic uint64_t next_seed;
    _Atomic bool stop;
    _Atomic uint64_t reads, writes, calls;
    unsigned injected, broken_parity;
} Run;

static void on_error(void *opaque, const MemSchedError *error)
{
    Run *run = opaque;
    uint64_t page = error->offset_bytes / 4096;

    if (error->mismatch) {
        /* Nobody changes a page behind our back here. */
        g_error("page %" G_GUINT64_FORMAT ": the scrubber finds %s that is not"
                " as it should be", page, error->mismatch ==
                MEMSCHED_MISMATCH_PAGE ? "content" : "parity");
    }
    if (error->lost && run->must[page]) {
        g_error("page %" G_GUINT64_FORMAT " is lost, which was covered", page);
    }
    run->must[page] = false;
    if (error->lost) {
        run->told[page] = true;
    }
}

/* ---- what the guest does ---- */

/* What is there instead, for whoever has to find out why. */
static void G_GNUC_NORETURN describe(Run *run, unsigned page)
{
    uint64_t older = 0;

    for (uint64_t seed = 1; seed <= run->next_seed; seed++) {
        older = guest_page_is(run->guest, page, seed) ? seed : older;
    }
    g_error("page %u holds neither what it should (write %" G_GUINT64_FORMAT
            ") nor told zeros, but %s %" G_GUINT64_FORMAT "; told %d", page,
            run->seed[page], guest_page_is_zero(run->guest, page) ? "zeros"
            : older ? "write" : "something else", older, run->told[page]);
}

static void look_at(Run *run, unsigned page)
{
    bool right = run->seed[page]
                 ? guest_page_is(run->guest, page, run->seed[page])
                 : guest_page_is_zero(run->guest, page);

    if (!right && run->told[page] && guest_page_is_zero(run->guest, page)) {
        run->seed[page] = 0;
        right = true;
    }
    /* An error may have come between two words that were read. */
    if (!right && run->seed[page] && run->told[page]) {
        right = guest_page_is_zero(run->guest, page);
        run->seed[page] = 0;
    }
    if (!right) {
        describe(run, page);
    }
    run->told[page] = false;
    run->reads++;
}

/* As a device would: by a system call, again after EFAULT. */
static void call_with(Run *run, unsigned page, int fd[2])
{
    char *address = run->guest->ram + page * 4096, drain[4096];
    ssize_t n;

    while ((n = write(fd[1], address, 4096)) < 0) {
        g_assert_cmpint(errno, ==, EFAULT);
        g_assert_cmpint(memsched_repair_range(address, 4096), !=, -ENOENT);
    }
    /* Cut short where it broke in the middle. */
    g_assert_cmpint(read(fd[0], drain, n), ==, n);
    run->calls++;
}

static void write_to(Run *run, unsigned page)
{
    uint64_t seed = ++run->next_seed;

    do {
        /* Lost in the middle of being written: then it is written again. */
        run->told[page] = false;
        run->seed[page] = seed;
        guest_fill(run->guest, page, 1, seed);
    } while (run->told[page]);
    run->writes++;
}

static void *guest_thread(void *opaque)
{
    Run *run = opaque;
    GRand *rand = g_rand_new();
    int fd[2];

    g_assert_cmpint(pipe(fd), ==, 0);
    while (!run->stop) {
        unsigned f = g_rand_int_range(rand, 0, FRAMES);
        unsigned kind = g_rand_int_range(rand, 0, 64);

        pthread_mutex_lock(&run->frame[f].lock);
        for (unsigned i = 0; i < CHECKED && !run->frame[f].given; i++) {
            unsigned page = f * 512 + g_rand_int_range(rand, 0, 512);

            if (kind == 0 && i < 2) {
                write_to(run, page);
            } else if (kind < 8) {
                call_with(run, page, fd);
            } else {
                look_at(run, page);
            }
        }
        pthread_mutex_unlock(&run->frame[f].lock);
    }
    close(fd[0]);
    close(fd[1]);
    g_rand_free(rand);
    return NULL;
}

/* ---- what happens to it ---- */

static bool can_read(Run *run, const void *address)
{
    const MsSys *sys = ms_sys_real();
    char byte;

    return sys->peek(sys, &byte, address, 1) == 1;
}

/*
 * The page has just been broken.  If its stripe still makes good for all of its
 * errors, it must not be lost; if not, none of them need be saved.
 */
static void judge(Run *run, uint64_t page)
{
    MemSchedRegion *region = run->guest->region;
    MsProtect *p = ms_protect_of(region);
    unsigned broken = 0, good = 0;
    uint64_t mate[MS_PARITY_SLOTS];
    MsMember *m;

    ms_lock(&region->lock);
    ms_lock(&p->lock);
    m = ms_stripes_member(&p->stripes, page / 512);
    /* In a busy row it may be about to leave: as if it had left before. */
    if (m && ms_pageset_has(&m->in, page % 512) &&
        !ms_pageset_has(&m->group->busy, page % 512)) {
        for (unsigned s = 0; s < p->stripes.size; s++) {
            MsMember *other = m->group->member[s];
            uint64_t i = other ? other->frame * 512 + page % 512 : 0;

            if (other && ms_pageset_has(&other->in, page % 512) &&
                ms_pages_get(&region->pages, i) != MEMSCHED_PAGE_RESIDENT) {
                mate[broken++] = i;
            }
        }
        for (unsigned k = 0; k < p->stripes.parities; k++) {
            good += !ms_pageset_has(&m->group->bad[k], page % 512) &&
                    can_read(run, ms_parity_address(m->group, k, page % 512));
        }
        for (unsigned i = 0; i < broken; i++) {
            if (broken > good) {
                run->must[mate[i]] = false;
            } else if (mate[i] == page &&
                       ms_pages_get(&region->pages, page) ==
                       MEMSCHED_PAGE_POISONED) {
                run->must[page] = true;
            }
        }
    }
    ms_unlock(&p->lock);
    ms_unlock(&region->lock);
}

/*
 * One more error is about to be where this page may have its stripe.  Whoever
 * may be in it may be lost then: members come and go all the time.
 */
static void excuse_mates(Run *run, unsigned page)
{
    for (unsigned f = 0; f < FRAMES; f++) {
        run->must[f * 512 + page % 512] = false;
    }
}

static void inject(Run *run, unsigned page)
{
    int ret;

    excuse_mates(run, page);
    ret = memsched_inject_error(run->guest->ms, run->guest->id,
                                page * UINT64_C(4096), NULL);
    if (ret == 0) {
        run->injected++;
        judge(run, page);
    } else {
        g_assert_cmpint(ret, ==, -ENODATA);
    }
}

static void inject_some(Run *run)
{
    unsigned page = g_rand_int_range(run->rand, 0, PAGES);

    switch (g_rand_int_range(run->rand, 0, 16)) {
    case 0:                     /* a run of them */
        for (unsigned i = 0; i < 16 && page + i < PAGES; i++) {
            inject(run, page + i);
        }
        break;
    case 1:                     /* the same page of two frames */
        inject(run, page);
        inject(run, (page + 512) % PAGES);
        break;
    default:
        inject(run, page);
    }
}

static void break_parity(Run *run, unsigned page)
{
    MemSched *ms = run->guest->ms;
    MsProtect *p = ms_protect_of(run->guest->region);
    unsigned k = g_rand_int_range(run->rand, 0, p->stripes.parities);
    MsMember *m;

    ms_lock(&p->lock);
    m = ms_stripes_member(&p->stripes, page / 512);
    if (m && m->group->count[page % 512] > 0 &&
        !ms_pageset_has(&m->group->busy, page % 512)) {
        char *address = ms_parity_address(m->group, k, page % 512);

        excuse_mates(run, page);
        madvise(address, 4096, MADV_DONTNEED);
        ms_uffd_poison(ms_pool_uffd(ms->pool), address, 1, false);
        run->broken_parity++;
    }
    ms_unlock(&p->lock);
}

/* Give a frame, and take it back some time later. */
static void balloon(Run *run, unsigned f)
{
    Frame *frame = &run->frame[f];

    pthread_mutex_lock(&frame->lock);
    if (frame->given) {
        guest_deflate(run->guest, f * 512, 512);
    } else if (g_rand_boolean(run->rand)) {
        guest_inflate(run->guest, f * 512, 512, g_rand_boolean(run->rand));
    }
    frame->given = !frame->given;
    for (unsigned i = f * 512; i < (f + 1) * 512 && !frame->given; i++) {
        /* Zeros, or what was there and not taken: as good as new. */
        run->must[i] = false;
        write_to(run, i);
    }
    pthread_mutex_unlock(&frame->lock);
}

static void change_protection(Run *run)
{
    for (unsigned i = 0; i < PAGES; i++) {
        run->must[i] = false;
    }
    errors_protect_and_scrub(run->guest, g_rand_boolean(run->rand)
                             ? MEMSCHED_SCHEME_P : MEMSCHED_SCHEME_PQ,
                             g_rand_int_range(run->rand, 2, 9),
                             g_rand_boolean(run->rand) ? SCRUB : 0);
}

/* Where too little is covered there is nothing to save: a moment of peace. */
static void let_cool(Run *run)
{
    gint64 end = g_get_monotonic_time() + PEACE_US;

    while (errors_query(run->guest).covered_bytes < PAGES * 4096 / 2 &&
           g_get_monotonic_time() < end) {
        g_usleep(200);
    }
}

static void step(Run *run)
{
    unsigned f = g_rand_int_range(run->rand, 0, FRAMES);

    switch (g_rand_int_range(run->rand, 0, 600)) {
    case 0:
        change_protection(run);
        break;
    case 1 ... 4:
        balloon(run, f);
        break;
    case 5 ... 13:
        break_parity(run, g_rand_int_range(run->rand, 0, PAGES));
        break;
    case 14 ... 50:
        memsched_repair_range(run->guest->ram + f * 2 * MIB, 2 * MIB);
        break;
    default:
        inject_some(run);
    }
    let_cool(run);
}

static void look_at_all(Run *run)
{
    for (unsigned f = 0; f < FRAMES; f++) {
        for (unsigned i = 0; i < 512 && !run->frame[f].given; i++) {
            look_at(run, f * 512 + i);
        }
    }
}

static uint32_t seed_of_run(void)
{
    const char *text = g_getenv("MEMSCHED_TEST_SEED");

    return text ? g_ascii_strtoull(text, NULL, 10) : g_random_int();
}

static void test_model(void)
{
    unsigned most = g_getenv("MEMSCHED_TEST_LONG") ? 100000 : 2000;
    MemSched *ms = errors_start(96 * MIB);
    Run *run = g_new0(Run, 1);
    uint32_t seed = seed_of_run();
    MemSchedProtectionInfo info;
    GThread *thread[THREADS];

    g_test_message("MEMSCHED_TEST_SEED=%u", seed);
    run->rand = g_rand_new_with_seed(seed);
    for (unsigned f = 0; f < FRAMES; f++) {
        pthread_mutex_init(&run->frame[f].lock, NULL);
    }
    run->guest = guest_new(ms, "one", PAGES * UINT64_C(4096), 0);
    for (unsigned i = 0; i < PAGES; i++) {
        write_to(run, i);
    }
    memsched_watch_errors(ms, on_error, run);
    errors_protect_and_scrub(run->guest, MEMSCHED_SCHEME_PQ, 4, SCRUB);
    errors_wait_covered(run->guest, PAGES);
    for (unsigned i = 0; i < THREADS; i++) {
        thread[i] = g_thread_new("guest", guest_thread, run);
    }
    while (run->injected < most) {
        step(run);
    }
    run->stop = true;
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(thread[i]);
    }
    look_at_all(run);
    errors_check(run->guest);
    info = errors_query(run->guest);
    g_test_message("%u injected, %u parity pages broken; %" G_GUINT64_FORMAT
                   " recovered, %" G_GUINT64_FORMAT " dead, %"
                   G_GUINT64_FORMAT " lost; %" G_GUINT64_FORMAT " pages"
                   " joined, %" G_GUINT64_FORMAT " left by write, %"
                   G_GUINT64_FORMAT " by capture, %" G_GUINT64_FORMAT
                   " changed, %" G_GUINT64_FORMAT " scrubbed; %"
                   G_GUINT64_FORMAT " reads, %" G_GUINT64_FORMAT
                   " writes, %" G_GUINT64_FORMAT " system calls; repair p50 %"
                   G_GUINT64_FORMAT " us",
                   run->injected, run->broken_parity, info.recovered_pages,
                   info.recovered_dead_pages, info.lost_pages,
                   info.joined_pages, info.left_by_write_pages,
                   info.left_by_capture_pages, info.changed_pages,
                   info.scrubbed_pages,
                   (uint64_t)run->reads, (uint64_t)run->writes,
                   (uint64_t)run->calls, info.repair_p50_ns / 1000);
    /* If all were lost, nothing would have been tested. */
    g_assert_cmpuint(info.recovered_pages, >, run->injected / 3);
    memsched_watch_errors(ms, NULL, NULL);
    guest_free(run->guest);
    guest_stop(ms);
    g_rand_free(run->rand);
    g_free(run);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/errors/model", test_model);
    }
    return g_test_run();
}
