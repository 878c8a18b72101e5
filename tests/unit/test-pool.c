/*
 * The pool with the fake kernel: what fails at start, what runs short, and
 * captures of any shape
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool-fixture.h"
#include "scrub.h"

static const MsPageSet none;

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    POOL_TEST("start-fails-whole-at-each-failing-call",
              test_start_fails_whole_at_each_failing_call);
    POOL_TEST("progress-rises-to-the-total", test_progress_rises_to_the_total);
    POOL_TEST("host-without-huge-pages-gives-small-ones",
              test_host_without_huge_pages_gives_small_ones);
    POOL_TEST("kernel-without-moves-still-has-a-pool",
              test_kernel_without_moves_still_has_a_pool);
    POOL_TEST("clean-before-dirty-unless-content-does-not-matter",
              test_clean_before_dirty_unless_content_does_not_matter);
    POOL_TEST("dirty-huge-is-not-cleared-when-told-not-to-wait",
              test_dirty_huge_is_not_cleared_when_told_not_to_wait);
    POOL_TEST("empty-pool-says-enomem", test_empty_pool_says_enomem);
    POOL_TEST("single-pages-come-out-of-the-broken-chunk",
              test_single_pages_come_out_of_the_broken_chunk);
    POOL_TEST("partial-take-leaves-the-rest-free",
              test_partial_take_leaves_the_rest_free);
    POOL_TEST("busy-huge-source-leaves-the-slot-empty",
              test_busy_huge_source_leaves_the_slot_empty);
    POOL_TEST("pages-around-a-busy-one-are-captured",
              test_pages_around_a_busy_one_are_captured);
    POOL_TEST("unknown-huge-source-is-a-huge-page-of-the-pool",
              test_unknown_huge_source_is_a_huge_page_of_the_pool);
    POOL_TEST("page-that-only-looked-split-stays-huge",
              test_page_that_only_looked_split_stays_huge);
    POOL_TEST("short-captures-share-a-slot", test_short_captures_share_a_slot);
    POOL_TEST("captures-of-any-length-always-find-room",
              test_captures_of_any_length_always_find_room);
    return g_test_run();
}
