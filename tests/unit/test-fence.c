/*
 * Tests of the DMA fence
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "fence.h"

#define MIB(n) ((void *)(uintptr_t)((uint64_t)(n) << 20))

static void test_mapping_raises_the_frames_that_it_touches(void)
{
    g_autofree MsFence *f = g_new0(MsFence, 1);

    g_assert_cmpint(ms_fence_cover(f, MIB(100), 64 << 20), ==, 0);
    g_assert_false(ms_fence_is_raised(f, MIB(100)));
    /* the last byte of one frame and the first of the next */
    ms_fence_begin(f, (char *)MIB(102) - 1, 2);
    g_assert_true(ms_fence_is_raised(f, MIB(100)));
    g_assert_true(ms_fence_is_raised(f, MIB(102)));
    g_assert_false(ms_fence_is_raised(f, MIB(104)));
    ms_fence_begin(f, MIB(102), 1);
    ms_fence_end(f, (char *)MIB(102) - 1, 2);
    g_assert_false(ms_fence_is_raised(f, MIB(100)));
    g_assert_true(ms_fence_is_raised(f, MIB(102)));
    ms_fence_end(f, MIB(102), 1);
    g_assert_false(ms_fence_is_raised(f, MIB(102)));
    ms_fence_destroy(f);
}

static void test_addresses_without_counters_are_ignored(void)
{
    g_autofree MsFence *f = g_new0(MsFence, 1);

    ms_fence_begin(f, MIB(100), 1 << 20);
    g_assert_false(ms_fence_is_raised(f, MIB(100)));
    g_assert_cmpint(ms_fence_cover(f, MIB(100), 1), ==, 0);
    /* what was begun before cannot take a count below zero */
    ms_fence_end(f, MIB(100), 1 << 20);
    g_assert_false(ms_fence_is_raised(f, MIB(100)));
    ms_fence_begin(f, MIB(100), 1);
    g_assert_true(ms_fence_is_raised(f, MIB(100)));
    ms_fence_destroy(f);
}

static void test_ranges_beyond_user_space_or_empty_are_refused(void)
{
    g_autofree MsFence *f = g_new0(MsFence, 1);
    void *high = (void *)(uintptr_t)(UINT64_C(1) << MS_FENCE_ADDRESS_BITS);

    g_assert_cmpint(ms_fence_cover(f, high, 4096), ==, -EINVAL);
    g_assert_cmpint(ms_fence_cover(f, MIB(1), UINT64_MAX), ==, -EINVAL);
    g_assert_cmpint(ms_fence_cover(f, MIB(1), 0), ==, -EINVAL);
    ms_fence_begin(f, (void *)(uintptr_t)UINT64_MAX, 100);
    ms_fence_end(f, high, 4096);
    g_assert_false(ms_fence_is_raised(f, high));
    ms_fence_destroy(f);
}

static void test_range_across_leaves_is_covered(void)
{
    g_autofree MsFence *f = g_new0(MsFence, 1);
    char *edge = (char *)(uintptr_t)(UINT64_C(16) << 30);

    g_assert_cmpint(ms_fence_cover(f, edge - 4096, 8192), ==, 0);
    ms_fence_begin(f, edge - 4096, 8192);
    g_assert_true(ms_fence_is_raised(f, edge - 1));
    g_assert_true(ms_fence_is_raised(f, edge));
    ms_fence_end(f, edge - 4096, 8192);
    g_assert_false(ms_fence_is_raised(f, edge - 1));
    g_assert_false(ms_fence_is_raised(f, edge));
    ms_fence_destroy(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fence/raise",
                    test_mapping_raises_the_frames_that_it_touches);
    g_test_add_func("/fence/uncovered",
                    test_addresses_without_counters_are_ignored);
    g_test_add_func("/fence/refused",
                    test_ranges_beyond_user_space_or_empty_are_refused);
    g_test_add_func("/fence/leaves", test_range_across_leaves_is_covered);
    return g_test_run();
}
