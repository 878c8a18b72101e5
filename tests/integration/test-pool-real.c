/*
 * The pool against the real kernel: frames go round between a pretended guest
 * and the arena, stay the same frames, and stay huge
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "abi.h"
#include "real-pool.h"
#include "scrub.h"

static void test_new_is_clean_and_huge(void)
{
    MsPool *pool;
    MsPoolCounts counts;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(8, 0);
    counts = counts_of(pool);
    g_assert_cmpuint(counts.free_clean_pages, ==, 8 * FRAME_PAGES);
    g_assert_cmpuint(counts.free_dirty_pages, ==, 0);
    g_assert_cmpuint(counts.huge_free, ==, 8);
    assert_sound(pool);
    ms_pool_free(pool);
}

static void test_huge_round_trips_keep_frame_and_hugeness(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;
    uint64_t pfn;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(4, 0);
    ram = real_ram_new(4, true, MS_UFFD_MODE_MISSING);
    for (int round = 0; round < 10; round++) {
        g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run),
                        ==, 0);
        g_assert_true(ms_pages_are_zero(run.address, run.pages));
        pfn = pfn_of(ram, run.address);
        g_assert_cmpuint(ms_pool_move_out(pool, &run, 0, &ram->uffd, ram->base,
                                          FRAME_PAGES, true).moved_pages,
                         ==, FRAME_PAGES);
        g_assert_true(run.huge);
        ms_pool_take_end(pool, &run, NULL, false);
        g_assert_cmphex(pfn_of(ram, ram->base), ==, pfn);
        real_ram_fill(ram, 0, FRAME_PAGES, round);
        assert_sound(pool);

        g_assert_cmpint(ms_pool_capture_begin(pool, FRAME_PAGES, true, &run),
                        ==, 0);
        g_assert_cmpint(ms_pool_move_in(pool, &run, 0, ram->base,
                                        FRAME_PAGES).stop, ==, MS_MOVE_DONE);
        g_assert_true(run.huge);
        g_assert_cmphex(pfn_of(ram, run.address), ==, pfn);
        real_assert_stamped(run.address, FRAME_PAGES, round);
        ms_pool_capture_end(pool, &run, NULL);
        assert_sound(pool);
        if (round % 2) {
            work_all(pool);
        }
    }
    g_assert_cmpuint(counts_of(pool).splits, ==, 0);
    g_assert_cmpuint(counts_of(pool).free_clean_pages +
                     counts_of(pool).free_dirty_pages, ==, 4 * FRAME_PAGES);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_move_onto_page_table_is_counted_as_split(void)
{
    MsPagemapCount count;
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(2, 0);
    ram = real_ram_new(1, true, MS_UFFD_MODE_MISSING);
    g_assert_cmpint(ms_uffd_poison(&ram->uffd, ram->base, 1, false), ==, 0);
    discard(ram, 0, 1);         /* the marker goes, the table stays */

    g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run), ==,
                    0);
    g_assert_cmpuint(ms_pool_move_out(pool, &run, 0, &ram->uffd, ram->base,
                                      FRAME_PAGES, true).moved_pages,
                     ==, FRAME_PAGES);
    g_assert_false(run.huge);
    ms_pool_take_end(pool, &run, NULL, false);
    g_assert_cmpuint(counts_of(pool).splits, ==, 1);
    assert_sound(pool);
    /* No frame was lost to the kernel's zero page. */
    g_assert_cmpint(ms_pagemap_count(&ram->pagemap, ram->base, FRAME_PAGES,
                                     &count), ==, 0);
    g_assert_cmpuint(count.present_pages, ==, FRAME_PAGES);
    g_assert_cmpuint(count.zero_pages, ==, 0);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_discard_of_empty_frame_lets_move_stay_huge(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(2, 0);
    ram = real_ram_new(1, true, MS_UFFD_MODE_MISSING);
    g_assert_cmpint(ms_uffd_poison(&ram->uffd, ram->base, 1, false), ==, 0);
    discard(ram, 0, FRAME_PAGES);

    g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run), ==,
                    0);
    ms_pool_move_out(pool, &run, 0, &ram->uffd, ram->base, FRAME_PAGES, true);
    g_assert_true(run.huge);
    ms_pool_take_end(pool, &run, NULL, false);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_failed_huge_move_out_loses_no_frame(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;
    MsPageSet left;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(2, 0);
    ram = real_ram_new(1, true, MS_UFFD_MODE_MISSING);
    g_assert_cmpint(ms_uffd_poison(&ram->uffd, ram->base, 1, false), ==, 0);
    g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run), ==,
                    0);
    g_assert_cmpint(ms_pool_move_out(pool, &run, 0, &ram->uffd, ram->base,
                                     FRAME_PAGES, true).stop,
                    ==, MS_MOVE_EXISTS);
    ms_pageset_clear(&left);
    ms_pool_take_end(pool, &run, &left, false);
    assert_sound(pool);
    work_all(pool);
    assert_sound(pool);
    /* Each single page can go, and takes a frame along. */
    for (unsigned i = 0; i < 8; i++) {
        uint64_t pfn;

        g_assert_cmpint(ms_pool_take(pool, 1, 0, &run), ==, 0);
        g_assert_cmpint(ms_pagemap_pfn(&ram->pagemap, run.address, &pfn), ==,
                        0);
        g_assert_cmpint(ms_pool_move_out(pool, &run, 0, &ram->uffd,
                                         real_page(ram, 1 + i), 1, true).stop,
                        ==, MS_MOVE_DONE);
        ms_pool_take_end(pool, &run, NULL, false);
        g_assert_cmphex(pfn_of(ram, real_page(ram, 1 + i)), ==, pfn);
        assert_sound(pool);
    }
    g_assert_cmpuint(counts_of(pool).free_clean_pages +
                     counts_of(pool).free_dirty_pages, ==,
                     2 * FRAME_PAGES - 8);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_touch_brings_frames_back_after_a_split(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;
    MsPagemapCount count;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(1, 0);
    ram = real_ram_new(1, true, MS_UFFD_MODE_WP);
    real_ram_fill(ram, 0, FRAME_PAGES, 3);
    memset(real_page(ram, 100), 0, 100 * MEMSCHED_PAGE_SIZE);
    g_assert_cmpint(ms_pool_capture_begin(pool, 64, false, &run), ==, 0);
    g_assert_cmpuint(ms_pool_move_in(pool, &run, 0, real_page(ram, 64),
                                     64).moved_pages, ==, 64);
    ms_touch_pages(run.address, 64);
    ms_touch_pages(ram->base, 64);
    ms_touch_pages(real_page(ram, 128), FRAME_PAGES - 128);
    ms_pool_capture_end(pool, &run, NULL);
    assert_sound(pool);
    g_assert_cmpint(ms_pagemap_count(&ram->pagemap, ram->base, FRAME_PAGES,
                                     &count), ==, 0);
    g_assert_cmpuint(count.present_pages, ==, FRAME_PAGES - 64);
    g_assert_cmpuint(count.zero_pages, ==, 0);
    real_assert_stamped(ram->base, 64, 3);
    g_assert_true(ms_pages_are_zero(real_page(ram, 128), 72));
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_capture_put_back_never_was_in_the_pool(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;
    MsPageSet none;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(2, 0);
    ram = real_ram_new(1, true, MS_UFFD_MODE_WP);
    real_ram_fill(ram, 0, FRAME_PAGES, 77);
    g_assert_cmpint(ms_pool_capture_begin(pool, FRAME_PAGES, true, &run), ==,
                    0);
    ms_pool_move_in(pool, &run, 0, ram->base, FRAME_PAGES);
    g_assert_cmpuint(counts_of(pool).free_dirty_pages, ==, 0);
    assert_sound(pool);
    g_assert_cmpuint(ms_uffd_move(&ram->uffd, ram->base, run.address,
                                  FRAME_PAGES, true).moved_pages,
                     ==, FRAME_PAGES);
    ms_pageset_clear(&none);
    ms_pool_capture_end(pool, &run, &none);
    real_assert_stamped(ram->base, FRAME_PAGES, 77);
    g_assert_cmpuint(counts_of(pool).free_clean_pages, ==, 2 * FRAME_PAGES);
    g_assert_cmpuint(counts_of(pool).free_dirty_pages, ==, 0);
    assert_sound(pool);
    work_all(pool);
    assert_sound(pool);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_short_capture_keeps_what_arrived(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;
    MsMoveResult moved;
    MsPageSet arrived;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(2, 0);
    ram = real_ram_new(1, false, MS_UFFD_MODE_WP);
    real_ram_fill(ram, 0, 40, 5);               /* then a hole */
    g_assert_cmpint(ms_pool_capture_begin(pool, 64, false, &run), ==, 0);
    g_assert_cmpuint(run.pages, ==, 64);
    moved = ms_pool_move_in(pool, &run, 0, ram->base, 64);
    g_assert_cmpuint(moved.moved_pages, ==, 40);
    g_assert_cmpint(moved.stop, ==, MS_MOVE_NOENT);
    ms_pageset_clear(&arrived);
    ms_pageset_add(&arrived, 0, 40);
    ms_pool_capture_end(pool, &run, &arrived);
    g_assert_cmpuint(counts_of(pool).free_dirty_pages, ==, 40);
    assert_sound(pool);
    real_ram_free(ram);
    ms_pool_free(pool);
}

/* A part of a huge page is given a new frame; the rest keeps its own. */
static void test_renewed_part_of_a_huge_page_costs_no_frame(void)
{
    MsPagemapCount count;
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(1, 0);
    ram = real_ram_new(1, false, MS_UFFD_MODE_WP);
    g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run), ==,
                    0);
    g_assert_cmpint(ms_pool_discard(pool, &run, 7, 1), ==, 0);
    g_assert_cmpint(ms_pool_fill(pool, &run, 7, 1), ==, 0);
    g_assert_false(run.huge);
    /* The next move of a part is what would split it. */
    g_assert_cmpuint(ms_pool_move_out(pool, &run, 0, &ram->uffd, ram->base, 1,
                                      false).moved_pages, ==, 1);
    g_assert_cmpint(ms_pagemap_count(&ram->pagemap, run.address, FRAME_PAGES,
                                     &count), ==, 0);
    g_assert_cmpuint(count.present_pages, ==, FRAME_PAGES - 1);
    g_assert_cmpuint(count.zero_pages, ==, 0);
    ms_pool_take_end(pool, &run, &(MsPageSet) { { 1 } }, true);
    assert_sound(pool);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_small_takes_are_zero_after_dirty_captures(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;
    uint64_t got = 0;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(1, 0);
    ram = real_ram_new(4, false, MS_UFFD_MODE_WP);
    /* Empty the pool, so that only dirty pages are left to hand out. */
    g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run), ==,
                    0);
    ms_pool_move_out(pool, &run, 0, &ram->uffd, real_page(ram, FRAME_PAGES),
                     FRAME_PAGES, false);
    ms_pool_take_end(pool, &run, NULL, false);
    real_ram_fill(ram, 0, 200, 9);
    g_assert_cmpint(ms_pool_capture_begin(pool, 200, false, &run), ==, 0);
    ms_pool_move_in(pool, &run, 0, ram->base, 200);
    ms_pool_capture_end(pool, &run, NULL);

    g_assert_cmpint(ms_pool_take(pool, 10, MS_POOL_NOWAIT, &run), ==, -EAGAIN);
    while (got < 200) {
        uint64_t at = 2 * FRAME_PAGES + got;

        g_assert_cmpint(ms_pool_take(pool, 64, 0, &run), ==, 0);
        g_assert_true(run.clean);
        g_assert_true(run.scrubbed_inline);
        g_assert_true(ms_pages_are_zero(run.address, run.pages));
        g_assert_cmpuint(ms_pool_move_out(pool, &run, 0, &ram->uffd,
                                          real_page(ram, at), run.pages,
                                          false).moved_pages, ==, run.pages);
        got += run.pages;
        ms_pool_take_end(pool, &run, NULL, false);
    }
    g_assert_cmpint(ms_pool_take(pool, 1, 0, &run), ==, -ENOMEM);
    assert_sound(pool);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_single_page_breaks_a_chunk_only_at_the_end(void)
{
    MsPool *pool;
    MsPoolRun run, run2;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(2, 0);
    g_assert_cmpint(ms_pool_take(pool, 1, MS_POOL_NOBREAK, &run), ==, -EAGAIN);
    g_assert_cmpint(ms_pool_take(pool, 1, 0, &run), ==, 0);
    g_assert_cmpuint(counts_of(pool).broken, ==, 1);
    g_assert_cmpint(ms_pool_take(pool, 1, MS_POOL_NOBREAK, &run2), ==, 0);
    g_assert_cmpuint(counts_of(pool).broken, ==, 1);
    g_assert_cmpuint(counts_of(pool).huge_free, ==, 1);
    ms_pool_take_end(pool, &run, &(MsPageSet) { { 0 } }, false);
    ms_pool_take_end(pool, &run2, &(MsPageSet) { { 0 } }, false);
    assert_sound(pool);
    ms_pool_free(pool);
}

static void test_broken_chunks_are_made_whole(void)
{
    MsPool *pool;
    RealRam *ram;
    MsPoolRun run;
    MsPoolCounts counts;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(4, 64);
    ram = real_ram_new(3, false, MS_UFFD_MODE_WP);
    /* Three huge chunks out, as many pages back in small ones. */
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run),
                        ==, 0);
        ms_pool_move_out(pool, &run, 0, &ram->uffd,
                         real_page(ram, i * FRAME_PAGES), FRAME_PAGES, false);
        ms_pool_take_end(pool, &run, NULL, false);
    }
    /* Not zero anywhere: the kernel would take frames away at the split. */
    real_ram_fill(ram, 0, 3 * FRAME_PAGES, 1);
    for (unsigned i = 0; i < 3 * FRAME_PAGES; i += 128) {
        g_assert_cmpint(ms_pool_capture_begin(pool, 128, false, &run), ==, 0);
        g_assert_cmpuint(ms_pool_move_in(pool, &run, 0, real_page(ram, i),
                                         128).moved_pages, ==, 128);
        ms_pool_capture_end(pool, &run, NULL);
    }
    assert_sound(pool);
    g_assert_cmpuint(counts_of(pool).huge_free, ==, 1);
    work_all(pool);
    assert_sound(pool);
    counts = counts_of(pool);
    g_assert_cmpuint(counts.free_clean_pages, ==, 4 * FRAME_PAGES);
    g_assert_cmpuint(counts.huge_free, ==, 3);
    g_assert_cmpuint(counts.remade, ==, 2);
    real_ram_free(ram);
    ms_pool_free(pool);
}

static void test_reserve_is_filled_off_the_fault_path(void)
{
    MsPool *pool;
    MsPoolRun run;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(16, 256);
    work_all(pool);
    assert_sound(pool);
    g_assert_cmpuint(counts_of(pool).huge_free, ==, 15);
    g_assert_cmpint(ms_pool_take(pool, 64, MS_POOL_NOWAIT, &run), ==, 0);
    g_assert_cmpuint(run.pages, ==, 64);
    ms_pool_take_end(pool, &run, &(MsPageSet) { { 0 } }, false);
    g_assert_cmpuint(counts_of(pool).free_clean_pages, ==, 16 * FRAME_PAGES);
    assert_sound(pool);
    ms_pool_free(pool);
}

static void test_fill_and_discard_replace_moves(void)
{
    MsPool *pool;
    MsPoolRun run;

    if (!real_usable()) {
        return;
    }
    pool = pool_new(2, 0);
    g_assert_cmpint(ms_pool_take(pool, FRAME_PAGES, MS_POOL_HUGE, &run), ==,
                    0);
    g_assert_cmpint(ms_pool_discard(pool, &run, 0, FRAME_PAGES), ==, 0);
    ms_pool_take_end(pool, &run, NULL, false);
    assert_sound(pool);
    g_assert_cmpint(ms_pool_capture_begin(pool, FRAME_PAGES, true, &run), ==,
                    0);
    g_assert_cmpint(ms_pool_fill(pool, &run, 0, FRAME_PAGES), ==, 0);
    ms_pool_capture_end(pool, &run, NULL);
    g_assert_cmpuint(counts_of(pool).free_dirty_pages, ==, FRAME_PAGES);
    g_assert_cmpuint(counts_of(pool).huge_free, ==, 2);
    assert_sound(pool);
    ms_pool_free(pool);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pool-real/new-is-clean-and-huge",
                    test_new_is_clean_and_huge);
    g_test_add_func("/pool-real/huge-round-trips-keep-frame-and-hugeness",
                    test_huge_round_trips_keep_frame_and_hugeness);
    g_test_add_func("/pool-real/move-onto-page-table-is-counted-as-split",
                    test_move_onto_page_table_is_counted_as_split);
    g_test_add_func("/pool-real/discard-of-empty-frame-lets-move-stay-huge",
                    test_discard_of_empty_frame_lets_move_stay_huge);
    g_test_add_func("/pool-real/failed-huge-move-out-loses-no-frame",
                    test_failed_huge_move_out_loses_no_frame);
    g_test_add_func("/pool-real/touch-brings-frames-back-after-a-split",
                    test_touch_brings_frames_back_after_a_split);
    g_test_add_func("/pool-real/capture-put-back-never-was-in-the-pool",
                    test_capture_put_back_never_was_in_the_pool);
    g_test_add_func("/pool-real/short-capture-keeps-what-arrived",
                    test_short_capture_keeps_what_arrived);
    g_test_add_func("/pool-real/renewed-part-of-a-huge-page-costs-no-frame",
                    test_renewed_part_of_a_huge_page_costs_no_frame);
    g_test_add_func("/pool-real/small-takes-are-zero-after-dirty-captures",
                    test_small_takes_are_zero_after_dirty_captures);
    g_test_add_func("/pool-real/single-page-breaks-a-chunk-only-at-the-end",
                    test_single_page_breaks_a_chunk_only_at_the_end);
    g_test_add_func("/pool-real/broken-chunks-are-made-whole",
                    test_broken_chunks_are_made_whole);
    g_test_add_func("/pool-real/reserve-is-filled-off-the-fault-path",
                    test_reserve_is_filled_off_the_fault_path);
    g_test_add_func("/pool-real/fill-and-discard-replace-moves",
                    test_fill_and_discard_replace_moves);
    return g_test_run();
}
