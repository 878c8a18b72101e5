/*
 * Guests that exchange pages while their threads work, on the real kernel
 *
 * Every page carries a stamp of its guest, number and generation in all of its
 * 512 words.  A page that comes back into a guest must be zero, or its own; a
 * page that was not given up must hold its stamp at every read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "client.h"
#include "guest.h"

#define FRAMES(n) ((uint64_t)(n) * MEMSCHED_FRAME_SIZE)
/* A sanitizer on a busy machine takes minutes; the runner has limits too. */
#define WAIT_US   (300 * G_USEC_PER_SEC)

/* ---- a million pages ---- */

#define CHUNK       512u
#define CHUNKS      16u         /* of each guest; half of them are ballooned */
#define STILL_PAGES 64u         /* never given up, always read */
#define WANT_PAGES  1000000u

typedef struct Worker {
    Guest *guest;
    GRand *rand;
    uint64_t seed[CHUNKS];      /* 0: ballooned */
    uint64_t old[CHUNKS];       /* what it held when it was given to be
                                   captured later; 0: captured at once */
    _Atomic uint64_t exchanged;
    _Atomic bool done;
    uint64_t next_seed;
    GThread *thread, *reader;
    uint64_t still;             /* page number */
    _Atomic uint64_t reads;
} Worker;

static unsigned pick(Worker *w, bool resident)
{
    unsigned i;

    do {
        i = g_rand_int_range(w->rand, 0, CHUNKS);
    } while ((w->seed[i] != 0) != resident);
    return i;
}

/* What was deflated before it was captured is still there, the rest zero. */
static void assert_taken(Worker *w, unsigned chunk)
{
    for (unsigned p = chunk * CHUNK; p < (chunk + 1) * CHUNK; p++) {
        if (!guest_page_is_zero(w->guest, p) &&
            (!w->old[chunk] || !guest_page_is(w->guest, p, w->old[chunk]))) {
            g_error("guest %s, page %u holds what is neither its own nor"
                    " zeros", w->guest->id, p);
        }
    }
}

/* Give a chunk, take another one: the guest's size stays what it is. */
static void exchange(Worker *w)
{
    unsigned give = pick(w, true), take = pick(w, false), half;
    bool later = g_rand_boolean(w->rand);

    guest_assert(w->guest, give * CHUNK, CHUNK, w->seed[give]);
    /* in two requests of 1 MiB, as a driver would */
    half = CHUNK / 2;
    guest_inflate(w->guest, give * CHUNK, half, later);
    guest_inflate(w->guest, give * CHUNK + half, half, later);
    w->old[give] = later ? w->seed[give] : 0;
    w->seed[give] = 0;

    guest_deflate(w->guest, take * CHUNK, half);
    guest_deflate(w->guest, take * CHUNK + half, half);
    assert_taken(w, take);
    w->seed[take] = ++w->next_seed;
    guest_fill(w->guest, take * CHUNK, CHUNK, w->seed[take]);
    atomic_fetch_add(&w->exchanged, CHUNK);
}

static void *work(void *opaque)
{
    Worker *w = opaque;

    while (!atomic_load(&w->done)) {
        exchange(w);
    }
    return NULL;
}

/* Reads what stays, while its frame is offered under a raised fence. */
static void *read_still(void *opaque)
{
    Worker *w = opaque;

    while (!atomic_load(&w->done)) {
        guest_assert(w->guest, w->still, STILL_PAGES, 1);
        atomic_fetch_add(&w->reads, STILL_PAGES);
    }
    return NULL;
}

static void worker_start(Worker *w, MemSched *ms, const char *id, guint32 seed)
{
    w->guest = guest_new(ms, id, FRAMES(CHUNKS + 1), 0);
    w->rand = g_rand_new_with_seed(seed);
    w->next_seed = (uint64_t)seed << 32;
    w->still = CHUNKS * CHUNK;
    for (unsigned i = 0; i < CHUNKS; i++) {
        if (i % 2 == 0) {
            w->seed[i] = ++w->next_seed;
            guest_fill(w->guest, i * CHUNK, CHUNK, w->seed[i]);
        } else {
            guest_inflate(w->guest, i * CHUNK, CHUNK, false);
        }
    }
    guest_fill(w->guest, w->still, CHUNK, 1);
    memsched_dma_begin(w->guest->ram + w->still * 4096, 4096);
    w->thread = g_thread_new("work", work, w);
    w->reader = g_thread_new("read", read_still, w);
}

static void worker_stop(Worker *w)
{
    atomic_store(&w->done, true);
    g_thread_join(w->thread);
    g_thread_join(w->reader);
    memsched_dma_end(w->guest->ram + w->still * 4096, 4096);
    for (unsigned i = 0; i < CHUNKS; i++) {
        if (w->seed[i]) {
            guest_assert(w->guest, i * CHUNK, CHUNK, w->seed[i]);
        }
    }
    g_rand_free(w->rand);
}

static void test_two_guests_exchange_a_million_pages(void)
{
    guint32 seed = (guint32)g_test_rand_int();
    gint64 end = g_get_monotonic_time() + WAIT_US;
    /* Both, their give-allowances, and two frames on their way. */
    MemSched *ms = guest_start(FRAMES(CHUNKS + 2 + 4 + 4));
    Worker *w = g_new0(Worker, 2);
    uint64_t want = g_getenv("MEMSCHED_TEST_PAGES")
                    ? g_ascii_strtoull(g_getenv("MEMSCHED_TEST_PAGES"), NULL,
                                       0) : WANT_PAGES;
    uint64_t exchanged = 0;
    MemSchedInfo info;

    g_test_message("seed %u", seed);
    worker_start(&w[0], ms, "a", seed);
    worker_start(&w[1], ms, "b", seed + 1);
    while (exchanged < want) {
        /* is moved out and put back, again and again, while it is read */
        for (int i = 0; i < 2; i++) {
            MemSchedOpResult r = guest_inflate(w[i].guest, w[i].still, CHUNK,
                                               false);

            g_assert_cmpuint(r.busy_pages, ==, CHUNK);
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        /* some come back before the mover has got to them */
        memsched_query(ms, &info);
        exchanged = info.captured_pages;
    }
    worker_stop(&w[0]);
    worker_stop(&w[1]);
    guest_check(ms);
    memsched_query(ms, &info);
    g_test_message("%" G_GUINT64_FORMAT " pages captured, %"
                   G_GUINT64_FORMAT " put back under %" G_GUINT64_FORMAT
                   " reads, %" G_GUINT64_FORMAT " faults, p99 %"
                   G_GUINT64_FORMAT " us, %" G_GUINT64_FORMAT " splits",
                   exchanged, info.put_back_pages,
                   atomic_load(&w[0].reads) + atomic_load(&w[1].reads),
                   info.faults, info.fault_p99_ns / 1000, info.split_frames);
    g_assert_cmpuint(info.put_back_pages, >, 0);
    g_assert_cmpuint(atomic_load(&w[0].exchanged) +
                     atomic_load(&w[1].exchanged), >=, want);
    guest_free(w[0].guest);
    guest_free(w[1].guest);
    guest_stop(ms);
    g_free(w);
}

/* ---- a guest that gets nothing ---- */

typedef struct Toucher {
    Guest *guest;
    uint64_t first, count;
    _Atomic uint64_t touched;
    GThread *thread;
} Toucher;

static void *touch(void *opaque)
{
    Toucher *t = opaque;

    pthread_setname_np(pthread_self(), "CPU 0/test");
    for (uint64_t p = t->first; p < t->first + t->count; p++) {
        guest_fill(t->guest, p, 1, 3);
        atomic_fetch_add(&t->touched, 1);
    }
    return NULL;
}

static Toucher *touch_start(Guest *guest, uint64_t first, uint64_t count)
{
    Toucher *t = g_new0(Toucher, 1);

    t->guest = guest;
    t->first = first;
    t->count = count;
    t->thread = g_thread_new("touch", touch, t);
    return t;
}

static void touch_end(Toucher *t)
{
    g_thread_join(t->thread);
    g_assert_cmpuint(atomic_load(&t->touched), ==, t->count);
    g_free(t);
}

static void wait_for_waiter(Guest *guest, bool waiting)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while ((atomic_load(&guest->client->waiting_since_ns) != 0) != waiting) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

/*
 * The greedy guest has four vCPUs asleep in faults that cannot be granted; each
 * page of the modest one, which is below its min, must still come.
 */
static void test_guest_below_min_is_served_while_another_one_waits(void)
{
    MemSched *ms = guest_start(FRAMES(16));
    Guest *modest = guest_new(ms, "modest", FRAMES(6), FRAMES(6));
    Guest *greedy = guest_new(ms, "greedy", FRAMES(32), 0);
    Toucher *t[4], *m;
    uint64_t before[4];

    for (int i = 0; i < 4; i++) {
        t[i] = touch_start(greedy, FRAMES(8) / 4096 * i, FRAMES(8) / 4096);
    }
    wait_for_waiter(greedy, true);
    m = touch_start(modest, 0, FRAMES(6) / 4096);
    touch_end(m);
    g_assert_true(atomic_load(&greedy->client->waiting_since_ns) != 0);
    guest_assert(modest, 0, FRAMES(6) / 4096, 3);

    /* and what it gives up lets the greedy one go on */
    for (int i = 0; i < 4; i++) {
        before[i] = atomic_load(&t[i]->touched);
    }
    memsched_client_set(ms, "modest", &(MemSchedClientChange) {
        .has_min = true }, NULL);
    guest_inflate(modest, 0, FRAMES(6) / 4096, false);
    {
        gint64 end = g_get_monotonic_time() + WAIT_US;
        bool on = false;

        while (!on) {
            for (int i = 0; i < 4; i++) {
                on |= atomic_load(&t[i]->touched) > before[i];
            }
            g_assert_cmpint(g_get_monotonic_time(), <, end);
            g_usleep(100);
        }
    }
    guest_check(ms);
    /* the rest of its threads can only end with its memory given back */
    for (uint64_t p = 0; ; p = (p + 512) % (FRAMES(32) / 4096)) {
        bool all = true;

        for (int i = 0; i < 4; i++) {
            all &= atomic_load(&t[i]->touched) == t[i]->count;
        }
        if (all) {
            break;
        }
        guest_report(greedy, p, 512);
    }
    for (int i = 0; i < 4; i++) {
        touch_end(t[i]);
    }
    guest_check(ms);
    guest_free(greedy);
    guest_free(modest);
    guest_stop(ms);
}

/* A vCPU that sleeps in a touch cannot be joined until it gets its page. */
static void test_ending_guest_gets_its_waiting_threads_back(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *greedy = guest_new(ms, "greedy", FRAMES(32), 0);
    MemSchedInfo info;
    Toucher *t, *last;

    memsched_query(ms, &info);
    t = touch_start(greedy, 0, (info.pool_bytes - info.reserved_bytes) / 4096);
    touch_end(t);
    last = touch_start(greedy, FRAMES(30) / 4096, 3);
    wait_for_waiter(greedy, true);
    g_assert_cmpuint(atomic_load(&last->touched), ==, 0);
    memsched_client_ending(greedy->client);
    touch_end(last);
    guest_check(ms);
    guest_free(greedy);
    guest_stop(ms);
}

/* ---- the end of a region ---- */

typedef struct Churn {
    Guest *guest;
    _Atomic bool stop;
} Churn;

static void *churn(void *opaque)
{
    Churn *c = opaque;
    uint64_t p = 0;

    while (!atomic_load(&c->stop)) {
        guest_inflate(c->guest, p, 700, p % 2);
        guest_deflate(c->guest, p, 700);
        p = (p + 391) % (FRAMES(6) / 4096);
    }
    return NULL;
}

static void test_region_freed_amid_captures_leaves_the_books_right(void)
{
    for (int round = 0; round < 20; round++) {
        MemSched *ms = guest_start(FRAMES(16));
        Churn c = { .guest = guest_new(ms, "a", FRAMES(8), 0) };
        GThread *thread;

        guest_fill(c.guest, 0, FRAMES(8) / 4096, 5);
        thread = g_thread_new("churn", churn, &c);
        g_usleep(round * 200);  /* another point of the work each time */
        memsched_region_free(c.guest->region);
        guest_check(ms);
        atomic_store(&c.stop, true);
        g_thread_join(thread);
        guest_check(ms);
        guest_free(c.guest);
        guest_stop(ms);
    }
}

static void test_address_reused_belongs_to_the_new_guest(void)
{
    MemSched *ms = guest_start(FRAMES(16));
    Guest *old = guest_new(ms, "old", FRAMES(4), 0);
    Guest *other = guest_new(ms, "other", FRAMES(4), 0);
    MemSchedRegionOptions ram = {
        .host = old->ram, .length_bytes = FRAMES(4), .name = "again",
        .anonymous_private = true,
    };
    MemSchedRegion *again;
    Guest view;

    guest_fill(old, 0, 2048, 5);
    guest_inflate(old, 100, 1000, true);
    memsched_region_free(old->region);
    g_assert_true(mmap(old->ram, FRAMES(4), PROT_READ | PROT_WRITE,
                       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                  old->ram);
    g_assert_cmpint(memsched_region_new(other->client, &ram, &again, NULL),
                    ==, 0);
    view = *other;
    view.ram = old->ram;
    guest_assert_zero(&view, 0, 2048);
    guest_fill(&view, 0, 2048, 6);
    /* the old guest's map still names the dead region: nothing happens */
    g_assert_cmpuint(guest_inflate(old, 0, 2048, false).captured_pages, ==,
                     0);
    guest_assert(&view, 0, 2048, 6);
    guest_check(ms);
    memsched_region_free(again);
    guest_free(old);
    guest_free(other);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    g_test_add_func("/exchange/million",
                    test_two_guests_exchange_a_million_pages);
    g_test_add_func("/exchange/stuck",
                    test_guest_below_min_is_served_while_another_one_waits);
    g_test_add_func("/exchange/ending",
                    test_ending_guest_gets_its_waiting_threads_back);
    g_test_add_func("/exchange/region-freed",
                    test_region_freed_amid_captures_leaves_the_books_right);
    g_test_add_func("/exchange/address-reused",
                    test_address_reused_belongs_to_the_new_guest);
    return g_test_run();
}
