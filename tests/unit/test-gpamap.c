/*
 * Tests of the map of guest physical addresses: what a guest names, however
 * badly, becomes runs that hold each page once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "gpamap.h"
#include "region.h"

#define PAGE MEMSCHED_PAGE_SIZE

static MemSchedRegion *region_new(uint64_t pages, uint64_t lead)
{
    MemSchedRegion *region = g_new0(MemSchedRegion, 1);

    region->length_bytes = pages * PAGE;
    atomic_init(&region->refs, 1);
    ms_lock_init(&region->lock, MS_RANK_REGION);
    ms_cond_init(&region->cond);
    g_assert_cmpint(ms_pages_init(&region->pages, lead, pages), ==, 0);
    return region;
}

static MemSchedGpaMapping map_of(uint64_t page, uint64_t pages,
                                 MemSchedRegion *region, uint64_t offset)
{
    return (MemSchedGpaMapping) {
        .gpa = page * PAGE, .length_bytes = pages * PAGE,
        .region = region, .offset_bytes = offset * PAGE,
    };
}

static void assert_runs(const MsRuns *runs, const MsRun *want, size_t count)
{
    g_assert_cmpuint(runs->count, ==, count);
    for (size_t i = 0; i < count; i++) {
        g_assert_true(runs->run[i].region == want[i].region);
        g_assert_cmpuint(runs->run[i].first, ==, want[i].first);
        g_assert_cmpuint(runs->run[i].count, ==, want[i].count);
    }
}

static void test_bad_maps_are_refused(void)
{
    MemSchedRegion *r = region_new(100, 0);
    MemSchedGpaMapping m[2];
    MsGpaMap *map;

    m[0] = map_of(0, 101, r, 0);
    g_assert_cmpint(ms_gpamap_new(m, 1, &map), ==, -EINVAL);
    m[0] = map_of(0, 50, r, 51);
    g_assert_cmpint(ms_gpamap_new(m, 1, &map), ==, -EINVAL);
    m[0] = map_of(0, 0, r, 0);
    g_assert_cmpint(ms_gpamap_new(m, 1, &map), ==, -EINVAL);
    m[0] = map_of(0, 10, r, 0);
    m[0].gpa += 1;
    g_assert_cmpint(ms_gpamap_new(m, 1, &map), ==, -EINVAL);
    m[0] = map_of(0, 10, r, 0);
    m[1] = map_of(9, 10, r, 0);
    g_assert_cmpint(ms_gpamap_new(m, 2, &map), ==, -EINVAL);
    m[1] = map_of(20, 10, r, 0);
    m[0] = map_of(40, 10, r, 0);
    g_assert_cmpint(ms_gpamap_new(m, 2, &map), ==, -EINVAL);
    m[0] = map_of(UINT64_MAX / PAGE - 3, 10, r, 0);
    g_assert_cmpint(ms_gpamap_new(m, 1, &map), ==, -EINVAL);
    g_assert_cmpuint(atomic_load(&r->refs), ==, 1);
    ms_region_unref(r);
}

static void test_aliases_overlaps_and_repetitions_become_one_run(void)
{
    MemSchedRegion *r = region_new(1000, 0);
    MemSchedGpaMapping m[] = { map_of(0, 640, r, 0),
                               map_of(10000, 1000, r, 0) };
    MemSchedGpaRange ranges[] = {
        { 10100 * PAGE, 10 * PAGE }, { 100 * PAGE, 10 * PAGE },
        { 105 * PAGE, 20 * PAGE }, { 10090 * PAGE, 10 * PAGE },
        { 100 * PAGE, 10 * PAGE },
    };
    uint64_t refused;
    MsGpaMap *map;
    MsRuns runs;

    g_assert_cmpint(ms_gpamap_new(m, 2, &map), ==, 0);
    ms_runs_init(&runs);
    g_assert_cmpint(ms_gpamap_translate(map, ranges, 5, &runs, &refused), ==,
                    0);
    assert_runs(&runs, (MsRun[]) { { r, 90, 35 } }, 1);
    g_assert_cmpuint(refused, ==, 0);
    ms_runs_destroy(&runs);
    ms_gpamap_unref(map);
    ms_region_unref(r);
}

static void test_range_over_gaps_and_mappings_is_cut(void)
{
    MemSchedRegion *a = region_new(100, 7), *b = region_new(100, 0);
    MemSchedGpaMapping m[] = { map_of(10, 20, a, 50), map_of(40, 100, b, 0) };
    MemSchedGpaRange range = { 0, 50 * PAGE };
    MsRun want[] = { { a, 57, 20 }, { b, 0, 10 } };
    uint64_t refused;
    MsGpaMap *map;
    MsRuns runs;

    if ((uintptr_t)a > (uintptr_t)b) {
        MsRun swap = want[0];

        want[0] = want[1];
        want[1] = swap;
    }
    g_assert_cmpint(ms_gpamap_new(m, 2, &map), ==, 0);
    ms_runs_init(&runs);
    g_assert_cmpint(ms_gpamap_translate(map, &range, 1, &runs, &refused), ==,
                    0);
    assert_runs(&runs, want, 2);
    g_assert_cmpuint(refused, ==, 20);
    ms_runs_destroy(&runs);
    ms_gpamap_unref(map);
    ms_region_unref(a);
    ms_region_unref(b);
}

static void test_partial_pages_and_wrapping_ranges_are_refused(void)
{
    MemSchedRegion *r = region_new(100, 0);
    MemSchedGpaMapping m[] = { map_of(0, 100, r, 0) };
    MemSchedGpaRange partial = { 5 * PAGE + 1, 3 * PAGE };
    MemSchedGpaRange inside = { 5 * PAGE + 1, 7 };
    MemSchedGpaRange wraps = { 99 * PAGE, UINT64_MAX };
    MemSchedGpaRange empty = { 5, 0 };
    uint64_t refused;
    MsGpaMap *map;
    MsRuns runs;

    g_assert_cmpint(ms_gpamap_new(m, 1, &map), ==, 0);
    ms_runs_init(&runs);
    ms_gpamap_translate(map, &partial, 1, &runs, &refused);
    assert_runs(&runs, (MsRun[]) { { r, 6, 2 } }, 1);
    g_assert_cmpuint(refused, ==, 2);
    runs.count = 0;
    ms_gpamap_translate(map, &inside, 1, &runs, &refused);
    g_assert_cmpuint(runs.count, ==, 0);
    g_assert_cmpuint(refused, ==, 1);
    ms_gpamap_translate(map, &wraps, 1, &runs, &refused);
    assert_runs(&runs, (MsRun[]) { { r, 99, 1 } }, 1);
    g_assert_cmpuint(refused, ==, (UINT64_MAX >> 12) - 99);
    runs.count = 0;
    ms_gpamap_translate(map, &empty, 1, &runs, &refused);
    g_assert_cmpuint(runs.count + refused, ==, 0);
    ms_gpamap_translate(NULL, &partial, 1, &runs, &refused);
    g_assert_cmpuint(runs.count, ==, 0);
    g_assert_cmpuint(refused, ==, 4);
    ms_runs_destroy(&runs);
    ms_gpamap_unref(map);
    ms_region_unref(r);
}

static void test_find_agrees_with_the_map(void)
{
    MemSchedRegion *r = region_new(100, 0), *found;
    MemSchedGpaMapping m[] = { map_of(10, 20, r, 50) };
    uint64_t offset;
    MsGpaMap *map;

    g_assert_cmpint(ms_gpamap_new(m, 1, &map), ==, 0);
    g_assert_false(ms_gpamap_find(map, 10 * PAGE - 1, &found, &offset));
    g_assert_true(ms_gpamap_find(map, 10 * PAGE + 3, &found, &offset));
    g_assert_true(found == r);
    g_assert_cmpuint(offset, ==, 50 * PAGE + 3);
    g_assert_true(ms_gpamap_find(map, 30 * PAGE - 1, &found, &offset));
    g_assert_false(ms_gpamap_find(map, 30 * PAGE, &found, &offset));
    g_assert_false(ms_gpamap_find(NULL, 10 * PAGE, &found, &offset));
    ms_gpamap_unref(map);
    ms_region_unref(r);
}

/* Single pages in any order against a plain set of pages. */
static void test_random_requests_agree_with_a_set(void)
{
    guint32 seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    MemSchedRegion *r = region_new(600, 100);
    MemSchedGpaMapping m[] = { map_of(0, 300, r, 0), map_of(350, 200, r, 400),
                               map_of(1000, 600, r, 0) };
    MsGpaMap *map;

    g_test_message("seed %u", seed);
    g_assert_cmpint(ms_gpamap_new(m, 3, &map), ==, 0);
    for (int round = 0; round < 300; round++) {
        MemSchedGpaRange ranges[256];
        bool set[700] = { false };
        uint64_t refused, bad = 0, seen = 0;
        unsigned count = g_rand_int_range(rand, 0, 256);
        MsRuns runs;

        for (unsigned i = 0; i < count; i++) {
            uint64_t page = g_rand_int_range(rand, 0, 1700);
            int64_t at = page < 300 ? (int64_t)page
                         : page >= 350 && page < 550 ? (int64_t)page + 50
                         : page >= 1000 && page < 1600 ? (int64_t)page - 1000
                         : -1;

            ranges[i] = (MemSchedGpaRange) { page * PAGE, PAGE };
            if (at < 0) {
                bad++;
            } else {
                set[at + 100] = true;
            }
        }
        ms_runs_init(&runs);
        g_assert_cmpint(ms_gpamap_translate(map, ranges, count, &runs,
                                            &refused), ==, 0);
        g_assert_cmpuint(refused, ==, bad);
        for (size_t i = 0; i < runs.count; i++) {
            MsRun *run = &runs.run[i];

            g_assert_true(i == 0 || run[-1].first + run[-1].count <
                          run->first);
            for (uint64_t p = run->first; p < run->first + run->count; p++) {
                g_assert_true(set[p]);
                set[p] = false;
                seen++;
            }
        }
        for (unsigned p = 0; p < 700; p++) {
            g_assert_false(set[p]);
        }
        ms_runs_destroy(&runs);
    }
    ms_gpamap_unref(map);
    g_assert_cmpuint(atomic_load(&r->refs), ==, 1);
    ms_region_unref(r);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpamap/bad", test_bad_maps_are_refused);
    g_test_add_func("/gpamap/aliases",
                    test_aliases_overlaps_and_repetitions_become_one_run);
    g_test_add_func("/gpamap/gaps",
                    test_range_over_gaps_and_mappings_is_cut);
    g_test_add_func("/gpamap/partial",
                    test_partial_pages_and_wrapping_ranges_are_refused);
    g_test_add_func("/gpamap/find", test_find_agrees_with_the_map);
    g_test_add_func("/gpamap/random",
                    test_random_requests_agree_with_a_set);
    return g_test_run();
}
