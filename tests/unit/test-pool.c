/*
 * The pool with the fake kernel: what fails at start, what runs short, what
 * the background does, and a random walk against a simple model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "fake-sys.h"
#include "pool.h"
#include "scrub.h"

#define FRAME_PAGES ((uint32_t)MEMSCHED_PAGES_PER_FRAME)
#define GUEST_FRAMES 12u

typedef struct Fixture {
    FakeSys *fake;
    const MsSys *sys;
    MsPool *pool;
    MsUffd uffd;
    void *map;
    char *ram;                  /* GUEST_FRAMES frames, advised huge */
} Fixture;

static const MsPageSet none;

static void pool_start(Fixture *f, uint64_t frames, uint32_t reserve)
{
    MsPoolOptions options = {
        .frames = frames, .small_reserve_pages = reserve,
    };

    g_assert_cmpint(ms_pool_new(f->sys, &options, &f->pool), ==, 0);
}

static void setup(Fixture *f, const void *data)
{
    f->fake = fake_sys_new();
    f->sys = fake_sys(f->fake);
    f->pool = NULL;
    g_assert_cmpint(ms_uffd_open(&f->uffd, f->sys, MS_UFFD_MOVE), ==, 0);
    f->sys->mmap(f->sys, NULL, (GUEST_FRAMES + 1) * MEMSCHED_FRAME_SIZE,
                 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, &f->map);
    f->ram = (char *)(((uintptr_t)f->map + MEMSCHED_FRAME_SIZE - 1) &
                      ~(MEMSCHED_FRAME_SIZE - 1));
    f->sys->madvise(f->sys, f->ram, GUEST_FRAMES * MEMSCHED_FRAME_SIZE,
                    MADV_HUGEPAGE);
}

static void teardown(Fixture *f, const void *data)
{
    ms_pool_free(f->pool);
    f->sys->munmap(f->sys, f->map, (GUEST_FRAMES + 1) * MEMSCHED_FRAME_SIZE);
    ms_uffd_close(&f->uffd);
    fake_sys_free(f->fake);
}

static char *ram_page(Fixture *f, unsigned page)
{
    return f->ram + page * MEMSCHED_PAGE_SIZE;
}

static void assert_sound(Fixture *f)
{
    MemSchedMessage message = { "" };

    if (ms_pool_check(f->pool, &message) != 0) {
        g_error("%s", message.text);
    }
}

static MsPoolCounts counts_of(Fixture *f)
{
    MsPoolCounts counts;

    ms_pool_counts(f->pool, &counts);
    return counts;
}

static void work_all(Fixture *f)
{
    for (int i = 0; i < 10000; i++) {
        if (ms_pool_work(f->pool) == 0) {
            return;
        }
    }
    g_error("the background never runs out of work");
}

/* Everything out of the pool and into the guest, as huge pages. */
static void drain(Fixture *f, unsigned frames)
{
    for (unsigned i = 0; i < frames; i++) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_take(f->pool, FRAME_PAGES, MS_POOL_HUGE, &run),
                        ==, 0);
        g_assert_cmpint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                         ram_page(f, i * FRAME_PAGES),
                                         FRAME_PAGES, true).stop,
                        ==, MS_MOVE_DONE);
        ms_pool_take_end(f->pool, &run, NULL, false);
        memset(ram_page(f, i * FRAME_PAGES), 1, MEMSCHED_FRAME_SIZE);
    }
}

static void capture(Fixture *f, unsigned page, unsigned pages)
{
    unsigned end = page + pages;

    while (page < end) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_capture_begin(f->pool, MIN(end - page, 512),
                                              false, &run), ==, 0);
        g_assert_cmpuint(ms_pool_move_in(f->pool, &run, 0, ram_page(f, page),
                                         run.pages).moved_pages,
                         ==, run.pages);
        page += run.pages;
        ms_pool_capture_end(f->pool, &run, NULL);
    }
}

/* As above, in runs that leave no page huge. */
static void capture_in_parts(Fixture *f, unsigned pages)
{
    for (unsigned at = 0; at < pages; at += 128) {
        capture(f, at, 128);
    }
}

/* ---- start ---- */

static void test_start_fails_whole_at_each_failing_call(Fixture *f,
                                                        const void *data)
{
    static const struct {
        FakeCall call;
        unsigned skip;
        int rc;
        int expected;
    } cases[] = {
        { FAKE_OPEN_PAGEMAP, 0, -ENOENT, -ENOENT },
        { FAKE_USERFAULTFD, 0, -EPERM, -EPERM },
        { FAKE_MMAP, 0, -ENOMEM, -ENOMEM },
        { FAKE_MMAP, 1, -ENOMEM, -ENOMEM },
        { FAKE_DONTFORK, 0, -EINVAL, -EINVAL },
        { FAKE_DONTFORK, 1, -EINVAL, -EINVAL },
        { FAKE_REGISTER, 0, -EINVAL, -EINVAL },
        { FAKE_POPULATE, 0, -ENOMEM, -ENOMEM },
        { FAKE_POPULATE, 1, -EFAULT, -ENOMEM },
    };
    MsPoolOptions options = { .frames = 40 };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MsPool *pool = NULL;
        /* The system call is tried after the device: both have to fail. */
        unsigned times = 1 + (cases[i].call == FAKE_USERFAULTFD);

        fake_fail(f->fake, cases[i].call, cases[i].skip, times, cases[i].rc);
        g_assert_cmpint(ms_pool_new(f->sys, &options, &pool), ==,
                        cases[i].expected);
        g_assert_null(pool);
        g_assert_cmpuint(fake_frames(f->fake), ==, 0);
    }
    options.frames = 0;
    g_assert_cmpint(ms_pool_new(f->sys, &options, &f->pool), ==, -EINVAL);
}

static void count_progress(void *opaque, uint64_t done, uint64_t total)
{
    uint64_t *last = opaque;

    g_assert_cmpuint(done, >, *last);
    g_assert_cmpuint(total, ==, 40 * MEMSCHED_FRAME_SIZE);
    *last = done;
}

static void test_progress_rises_to_the_total(Fixture *f, const void *data)
{
    uint64_t last = 0;
    MsPoolOptions options = {
        .frames = 40, .progress = count_progress, .opaque = &last,
    };

    g_assert_cmpint(ms_pool_new(f->sys, &options, &f->pool), ==, 0);
    g_assert_cmpuint(last, ==, 40 * MEMSCHED_FRAME_SIZE);
    g_assert_cmpuint(fake_frames(f->fake), ==, 40 * FRAME_PAGES);
    assert_sound(f);
}

static void test_host_without_huge_pages_gives_small_ones(Fixture *f,
                                                          const void *data)
{
    MsPoolRun run;

    fake_huge(f->fake, false);
    pool_start(f, 2, 64);
    g_assert_cmpuint(counts_of(f).huge_free, ==, 0);
    g_assert_cmpuint(counts_of(f).free_clean_pages, ==, 2 * FRAME_PAGES);
    assert_sound(f);
    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE, &run), ==,
                    -EAGAIN);
    g_assert_cmpint(ms_pool_take(f->pool, 512, 0, &run), ==, 0);
    g_assert_cmpuint(run.pages, ==, 512);
    ms_pool_take_end(f->pool, &run, &none, false);
    work_all(f);
    assert_sound(f);
}

static void test_kernel_without_moves_still_has_a_pool(Fixture *f,
                                                       const void *data)
{
    MsPoolRun run;

    fake_features(f->fake, 1);
    pool_start(f, 2, 64);
    g_assert_cmpint(ms_pool_uffd(f->pool)->fd, ==, -1);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==, 0);
    g_assert_cmpint(ms_pool_fill(f->pool, &run, 0, 512), ==, 0);
    ms_pool_capture_end(f->pool, &run, NULL);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==, FRAME_PAGES);
    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE, &run), ==, 0);
    g_assert_cmpint(ms_pool_discard(f->pool, &run, 0, 512), ==, 0);
    ms_pool_take_end(f->pool, &run, NULL, false);
    assert_sound(f);
    fake_fail(f->fake, FAKE_POPULATE, 0, 1, -EFAULT);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 8, false, &run), ==, 0);
    g_assert_cmpint(ms_pool_fill(f->pool, &run, 0, 8), ==, -ENOMEM);
    ms_pool_capture_end(f->pool, &run, &none);
    assert_sound(f);
}

/* ---- takes ---- */

static void test_clean_before_dirty_unless_content_does_not_matter(
    Fixture *f, const void *data)
{
    MsPoolRun run;

    pool_start(f, 2, 64);
    drain(f, 1);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==, 0);
    ms_pool_move_in(f->pool, &run, 0, f->ram, 512);
    ms_pool_capture_end(f->pool, &run, NULL);
    g_assert_cmpuint(counts_of(f).huge_free, ==, 2);
    g_assert_cmpuint(counts_of(f).huge_clean, ==, 1);

    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE | MS_POOL_DIRTY,
                                 &run), ==, 0);
    g_assert_false(run.clean);
    ms_pool_take_end(f->pool, &run, &none, false);
    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE, &run), ==, 0);
    g_assert_true(run.clean && !run.scrubbed_inline);
    g_assert_cmpuint(counts_of(f).taken_pages, ==, FRAME_PAGES);
    ms_pool_take_end(f->pool, &run, &none, true);
    g_assert_cmpuint(counts_of(f).huge_clean, ==, 0);
    assert_sound(f);
}

static void test_dirty_huge_is_not_cleared_when_told_not_to_wait(
    Fixture *f, const void *data)
{
    MsPoolRun run;

    pool_start(f, 1, 64);
    drain(f, 1);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==, 0);
    ms_pool_move_in(f->pool, &run, 0, f->ram, 512);
    ms_pool_capture_end(f->pool, &run, NULL);
    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE | MS_POOL_NOWAIT,
                                 &run), ==, -EAGAIN);
    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE, &run), ==, 0);
    g_assert_true(run.scrubbed_inline);
    g_assert_true(ms_pages_are_zero(run.address, 512));
    g_assert_cmpuint(counts_of(f).scrubbed_inline_pages, ==, 512);
    ms_pool_take_end(f->pool, &run, &none, false);
    assert_sound(f);
}

static void test_empty_pool_says_enomem(Fixture *f, const void *data)
{
    MsPoolRun run;

    pool_start(f, 1, 64);
    drain(f, 1);
    g_assert_cmpint(ms_pool_take(f->pool, 1, 0, &run), ==, -ENOMEM);
    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE, &run), ==,
                    -ENOMEM);
}

static void test_single_pages_come_out_of_the_broken_chunk(Fixture *f,
                                                           const void *data)
{
    MsPoolRun run;

    pool_start(f, 4, 64);
    for (unsigned i = 0; i < 512; i++) {
        g_assert_cmpint(ms_pool_take(f->pool, 1, 0, &run), ==, 0);
        g_assert_cmpint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                         ram_page(f, i), 1, true).stop,
                        ==, MS_MOVE_DONE);
        ms_pool_take_end(f->pool, &run, NULL, false);
        g_assert_cmpuint(counts_of(f).broken, ==, 1);
    }
    g_assert_cmpuint(counts_of(f).huge_free, ==, 3);
    g_assert_cmpuint(fake_frames(f->fake), ==, 4 * FRAME_PAGES);
    assert_sound(f);
}

static void test_partial_take_leaves_the_rest_free(Fixture *f,
                                                   const void *data)
{
    MsPoolRun run;
    MsPageSet left;

    pool_start(f, 1, 64);
    g_assert_cmpint(ms_pool_take(f->pool, 64, 0, &run), ==, 0);
    g_assert_cmpuint(run.pages, ==, 64);
    g_assert_cmpuint(ms_pool_move_out(f->pool, &run, 0, &f->uffd, f->ram, 20,
                                      true).moved_pages, ==, 20);
    ms_pageset_clear(&left);
    ms_pageset_add(&left, 0, 20);
    ms_pool_take_end(f->pool, &run, &left, false);
    g_assert_cmpuint(counts_of(f).free_clean_pages +
                     counts_of(f).free_dirty_pages, ==, FRAME_PAGES - 20);
    g_assert_cmpuint(counts_of(f).taken_pages, ==, 0);
    assert_sound(f);
}

/* ---- captures ---- */

static void test_busy_huge_source_leaves_the_slot_empty(Fixture *f,
                                                        const void *data)
{
    MsPoolRun run;
    MsMoveResult moved;

    pool_start(f, 1, 64);
    drain(f, 1);
    fake_block(f->fake, ram_page(f, 100), -EBUSY);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==, 0);
    moved = ms_pool_move_in(f->pool, &run, 0, f->ram, 512);
    g_assert_cmpint(moved.stop, ==, MS_MOVE_BUSY);
    g_assert_cmpuint(moved.moved_pages, ==, 0);
    g_assert_cmpuint(counts_of(f).capture_pages, ==, 512);
    ms_pool_capture_end(f->pool, &run, &none);
    g_assert_cmpuint(counts_of(f).capture_pages, ==, 0);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==, 0);
    assert_sound(f);
    work_all(f);
    assert_sound(f);
}

static void test_pages_around_a_busy_one_are_captured(Fixture *f,
                                                      const void *data)
{
    MsPoolRun run;
    MsPageSet arrived;

    pool_start(f, 1, 64);
    drain(f, 1);
    fake_block(f->fake, ram_page(f, 7), -EBUSY);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 16, false, &run), ==, 0);
    g_assert_cmpuint(ms_pool_move_in(f->pool, &run, 0, f->ram, 16).moved_pages,
                     ==, 7);
    g_assert_cmpuint(ms_pool_move_in(f->pool, &run, 8, ram_page(f, 8),
                                     8).moved_pages, ==, 8);
    ms_pageset_clear(&arrived);
    ms_pageset_add(&arrived, 0, 7);
    ms_pageset_add(&arrived, 8, 8);
    ms_pool_capture_end(f->pool, &run, &arrived);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==, 15);
    assert_sound(f);
}

static void test_unknown_huge_source_is_a_huge_page_of_the_pool(
    Fixture *f, const void *data)
{
    MsPoolRun run;

    pool_start(f, 1, 64);
    drain(f, 1);
    capture(f, 0, 512);
    g_assert_cmpuint(counts_of(f).huge_free, ==, 1);
    assert_sound(f);
    work_all(f);
    g_assert_cmpint(ms_pool_take(f->pool, 1, 0, &run), ==, 0);
    ms_pool_take_end(f->pool, &run, &none, false);
    g_assert_cmpuint(fake_frames(f->fake), ==, FRAME_PAGES);
    assert_sound(f);
}

static void test_page_that_only_looked_split_stays_huge(Fixture *f,
                                                        const void *data)
{
    MsPoolRun run;

    pool_start(f, 1, 64);
    g_assert_cmpint(ms_pool_take(f->pool, 512, MS_POOL_HUGE, &run), ==, 0);
    /* As while the kernel migrates it: the first look does not see it. */
    fake_fail(f->fake, FAKE_SCAN, 0, 1, -EAGAIN);
    g_assert_cmpint(ms_pool_move_out(f->pool, &run, 0, &f->uffd, f->ram, 512,
                                     true).stop, ==, MS_MOVE_DONE);
    g_assert_true(run.huge);
    ms_pool_take_end(f->pool, &run, NULL, false);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==, 0);
    fake_fail(f->fake, FAKE_SCAN, 0, 1, -EAGAIN);
    g_assert_cmpint(ms_pool_move_in(f->pool, &run, 0, f->ram, 512).stop, ==,
                    MS_MOVE_DONE);
    g_assert_true(run.huge);
    ms_pool_capture_end(f->pool, &run, NULL);
    g_assert_cmpuint(counts_of(f).splits, ==, 0);
    g_assert_cmpuint(counts_of(f).huge_free, ==, 1);
    assert_sound(f);
}

static void test_short_captures_share_a_slot(Fixture *f, const void *data)
{
    MsPoolRun first, second;

    pool_start(f, 1, 64);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 3, false, &first), ==, 0);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 5, false, &second), ==, 0);
    g_assert_cmpuint(first.slot, ==, second.slot);
    g_assert_true(second.address == first.address + 3 * MEMSCHED_PAGE_SIZE);
    ms_pool_capture_end(f->pool, &first, &none);
    ms_pool_capture_end(f->pool, &second, &none);
    assert_sound(f);
}

static void test_captures_of_any_length_always_find_room(Fixture *f,
                                                         const void *data)
{
    pool_start(f, GUEST_FRAMES, 64);
    drain(f, GUEST_FRAMES);
    /* The worst length: one more than half a slot. */
    for (unsigned at = 0; at + 257 <= GUEST_FRAMES * FRAME_PAGES; at += 257) {
        capture(f, at, 257);
    }
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==,
                     GUEST_FRAMES * FRAME_PAGES / 257 * 257);
}

/* ---- background ---- */

static void test_background_clears_huge_pages_first(Fixture *f,
                                                    const void *data)
{
    MsPoolRun run;

    pool_start(f, 4, 64);
    drain(f, 2);
    capture(f, 0, 100);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==, 0);
    ms_pool_move_in(f->pool, &run, 0, ram_page(f, 512), 512);
    ms_pool_capture_end(f->pool, &run, NULL);
    g_assert_cmpint(ms_pool_work(f->pool), ==, 1);
    g_assert_cmpuint(counts_of(f).huge_clean, ==, 3);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==, 100);
    work_all(f);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==, 0);
    assert_sound(f);
}

static void test_host_short_of_huge_pages_loses_no_page(Fixture *f,
                                                        const void *data)
{
    uint64_t frames;

    pool_start(f, 4, 64);
    drain(f, 3);
    capture_in_parts(f, 3 * FRAME_PAGES);
    frames = fake_frames(f->fake);
    fake_huge(f->fake, false);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, ==, 0);
    g_assert_cmpuint(fake_frames(f->fake), ==, frames);
    g_assert_cmpuint(counts_of(f).free_clean_pages, ==, 4 * FRAME_PAGES);
    /* Later, when there are some again, surplus small pages are remade. */
    fake_huge(f->fake, true);
    fake_advance(f->fake, UINT64_C(2) * 1000 * 1000 * 1000);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, >, 0);
    g_assert_cmpuint(fake_frames(f->fake), ==, frames);
}

static void test_small_pages_in_demand_are_not_remade_until_it_fades(
    Fixture *f, const void *data)
{
    pool_start(f, 8, 64);
    /* Three frames' worth taken in small runs, and given back. */
    for (unsigned at = 0; at < 3 * FRAME_PAGES; ) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_take(f->pool, 64, 0, &run), ==, 0);
        g_assert_cmpint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                         ram_page(f, at), run.pages,
                                         true).stop, ==, MS_MOVE_DONE);
        at += run.pages;
        ms_pool_take_end(f->pool, &run, NULL, false);
    }
    memset(f->ram, 1, 3 * MEMSCHED_FRAME_SIZE);
    capture_in_parts(f, 3 * FRAME_PAGES);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, ==, 0);
    g_assert_cmpuint(counts_of(f).free_clean_pages, ==, 8 * FRAME_PAGES);
    fake_advance(f->fake, UINT64_C(60) * 1000 * 1000 * 1000);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, >, 0);
    g_assert_cmpuint(fake_frames(f->fake), ==, 8 * FRAME_PAGES);
}

static void test_failing_populate_while_remaking_changes_nothing(
    Fixture *f, const void *data)
{
    pool_start(f, 4, 64);
    drain(f, 3);
    capture_in_parts(f, 3 * FRAME_PAGES);
    fake_fail(f->fake, FAKE_POPULATE, 0, 1000, -ENOMEM);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(fake_frames(f->fake), ==, 4 * FRAME_PAGES);
    g_assert_cmpuint(counts_of(f).free_clean_pages, ==, 4 * FRAME_PAGES);
}

static void test_paused_background_does_nothing(Fixture *f, const void *data)
{
    pool_start(f, 2, 64);
    drain(f, 1);
    capture(f, 0, FRAME_PAGES);
    ms_pool_pause_work(f->pool);
    g_assert_cmpint(ms_pool_work(f->pool), ==, 0);
    ms_pool_resume_work(f->pool);
    g_assert_cmpint(ms_pool_work(f->pool), ==, 1);
}

static void test_check_finds_a_page_that_vanished(Fixture *f,
                                                  const void *data)
{
    MemSchedMessage message = { "" };
    MsPoolRun run;

    pool_start(f, 1, 64);
    g_assert_cmpint(ms_pool_take(f->pool, 1, 0, &run), ==, 0);
    f->sys->madvise(f->sys, run.address, MEMSCHED_PAGE_SIZE, MADV_DONTNEED);
    assert_sound(f);            /* it is out: not the pool's affair */
    ms_pool_take_end(f->pool, &run, &none, true);
    g_assert_cmpint(ms_pool_check(f->pool, &message), ==, -EUCLEAN);
    g_assert_nonnull(strstr(message.text, "there by our map"));
}

/* ---- a random walk against a model ---- */

typedef struct Model {
    bool resident[GUEST_FRAMES * 512];
    uint64_t count;
} Model;

static void walk_capture(Fixture *f, Model *m, GRand *rand, unsigned page)
{
    unsigned n = 0, want = g_rand_int_range(rand, 1, 513);

    while (n < want && page + n < GUEST_FRAMES * FRAME_PAGES &&
           m->resident[page + n] && page / 512 == (page + n) / 512) {
        n++;
    }
    if (!n) {
        return;
    }
    if (n == 512 && fake_is_huge(f->fake, ram_page(f, page))) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==,
                        0);
        g_assert_cmpint(ms_pool_move_in(f->pool, &run, 0, ram_page(f, page),
                                        512).stop, ==, MS_MOVE_DONE);
        g_assert_true(run.huge);
        ms_pool_capture_end(f->pool, &run, NULL);
    } else {
        capture(f, page, n);
    }
    memset(&m->resident[page], 0, n);
    m->count -= n;
}

static void walk_populate(Fixture *f, Model *m, GRand *rand, unsigned page)
{
    unsigned n = 0, want = g_rand_int_range(rand, 1, 513);
    unsigned flags = 0;
    MsPoolRun run;
    int rc;

    while (n < want && page + n < GUEST_FRAMES * FRAME_PAGES &&
           !m->resident[page + n] && page / 512 == (page + n) / 512) {
        n++;
    }
    if (!n) {
        return;
    }
    if (n == 512 && page % 512 == 0) {
        f->sys->madvise(f->sys, ram_page(f, page), MEMSCHED_FRAME_SIZE,
                        MADV_DONTNEED);
        flags = MS_POOL_HUGE;
    }
    rc = ms_pool_take(f->pool, n, flags, &run);
    if (rc < 0) {
        return;
    }
    g_assert_true(ms_pages_are_zero(run.address, run.pages));
    g_assert_cmpuint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                      ram_page(f, page), run.pages,
                                      true).moved_pages, ==, run.pages);
    memset(ram_page(f, page), 0x77, run.pages * MEMSCHED_PAGE_SIZE);
    memset(&m->resident[page], 1, run.pages);
    m->count += run.pages;
    ms_pool_take_end(f->pool, &run, NULL, false);
}

static void test_random_walk_agrees_with_the_model(Fixture *f,
                                                   const void *data)
{
    uint32_t seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    Model *m = g_new0(Model, 1);

    g_test_message("seed %u", seed);
    pool_start(f, 8, 100);
    for (unsigned i = 0; i < 1500; i++) {
        unsigned page = g_rand_int_range(rand, 0, GUEST_FRAMES * 512);
        MsPoolCounts counts;

        if (g_rand_boolean(rand)) {
            page &= ~511u;
        }
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
        case 1:
            walk_capture(f, m, rand, page);
            break;
        case 2:
        case 3:
            walk_populate(f, m, rand, page);
            break;
        case 4:
            ms_pool_work(f->pool);
            fake_advance(f->fake, 200 * 1000 * 1000);
            break;
        }
        counts = counts_of(f);
        g_assert_cmpuint(counts.free_clean_pages + counts.free_dirty_pages +
                         m->count, ==, 8 * FRAME_PAGES);
        if (i % 50 == 0) {
            assert_sound(f);
            g_assert_cmpuint(fake_frames(f->fake), ==, 8 * FRAME_PAGES);
        }
    }
    assert_sound(f);
    g_free(m);
    g_rand_free(rand);
}

#define ADD(name, func) \
    g_test_add("/pool/" name, Fixture, NULL, setup, func, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("start-fails-whole-at-each-failing-call",
        test_start_fails_whole_at_each_failing_call);
    ADD("progress-rises-to-the-total", test_progress_rises_to_the_total);
    ADD("host-without-huge-pages-gives-small-ones",
        test_host_without_huge_pages_gives_small_ones);
    ADD("kernel-without-moves-still-has-a-pool",
        test_kernel_without_moves_still_has_a_pool);
    ADD("clean-before-dirty-unless-content-does-not-matter",
        test_clean_before_dirty_unless_content_does_not_matter);
    ADD("dirty-huge-is-not-cleared-when-told-not-to-wait",
        test_dirty_huge_is_not_cleared_when_told_not_to_wait);
    ADD("empty-pool-says-enomem", test_empty_pool_says_enomem);
    ADD("single-pages-come-out-of-the-broken-chunk",
        test_single_pages_come_out_of_the_broken_chunk);
    ADD("partial-take-leaves-the-rest-free",
        test_partial_take_leaves_the_rest_free);
    ADD("busy-huge-source-leaves-the-slot-empty",
        test_busy_huge_source_leaves_the_slot_empty);
    ADD("pages-around-a-busy-one-are-captured",
        test_pages_around_a_busy_one_are_captured);
    ADD("unknown-huge-source-is-a-huge-page-of-the-pool",
        test_unknown_huge_source_is_a_huge_page_of_the_pool);
    ADD("page-that-only-looked-split-stays-huge",
        test_page_that_only_looked_split_stays_huge);
    ADD("short-captures-share-a-slot", test_short_captures_share_a_slot);
    ADD("captures-of-any-length-always-find-room",
        test_captures_of_any_length_always_find_room);
    ADD("background-clears-huge-pages-first",
        test_background_clears_huge_pages_first);
    ADD("host-short-of-huge-pages-loses-no-page",
        test_host_short_of_huge_pages_loses_no_page);
    ADD("small-pages-in-demand-are-not-remade-until-it-fades",
        test_small_pages_in_demand_are_not_remade_until_it_fades);
    ADD("failing-populate-while-remaking-changes-nothing",
        test_failing_populate_while_remaking_changes_nothing);
    ADD("paused-background-does-nothing",
        test_paused_background_does_nothing);
    ADD("check-finds-a-page-that-vanished",
        test_check_finds_a_page_that_vanished);
    ADD("random-walk-agrees-with-the-model",
        test_random_walk_agrees_with_the_model);
    return g_test_run();
}
