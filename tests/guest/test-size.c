/*
 * How large a cache should be
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "size.h"

#define MIB (UINT64_C(1) << 20)

static const SizeOptions usual = { .min = 16 * MIB, .keep = 64 * MIB };

/* A guest of 1 GiB that holds 600 MiB and could get 100 more. */
static BxCondition condition_of(uint32_t level)
{
    return (BxCondition) {
        .level = level, .is_connected = 1, .ram = 1024 * MIB,
        .allocated = 600 * MIB, .reservable = 100 * MIB,
    };
}

static void test_headroom_is_what_the_host_backs(void)
{
    BxCondition c = condition_of(BX_HIGH);
    SizeInput input = { .condition = &c, .available = 700 * MIB };

    /* 324 used, 700 backed at most: 376, though the kernel says 700. */
    g_assert_cmpuint(size_headroom(&input), ==, 376 * MIB);
    c.ballooned_kernel = 200 * MIB;
    c.ballooned_application = 24 * MIB;
    g_assert_cmpuint(size_headroom(&input), ==, 600 * MIB);
    input.available = 100 * MIB;
    g_assert_cmpuint(size_headroom(&input), ==, 0);
    c.allocated = 900 * MIB;
    g_assert_cmpuint(size_headroom(&input), ==, 100 * MIB);
}

static void test_headroom_without_a_host_is_what_the_kernel_says(void)
{
    SizeInput input = { .available = 700 * MIB };

    g_assert_cmpuint(size_headroom(&input), ==, 700 * MIB);
}

static void test_cache_grows_by_a_quarter_and_leaves_the_keep(void)
{
    BxCondition c = condition_of(BX_HIGH);
    SizeInput input = { .condition = &c, .available = 700 * MIB,
                        .cache = 200 * MIB, .limit = 200 * MIB };

    g_assert_cmpuint(size_next(&usual, &input), ==, 250 * MIB);
    input.cache = input.limit = 500 * MIB;
    /* 376 of headroom, less 64: 812 at most. */
    g_assert_cmpuint(size_next(&usual, &input), ==, 625 * MIB);
    input.cache = input.limit = 800 * MIB;
    input.available = 70 * MIB;
    c.allocated = 1024 * MIB;
    /* 6 MiB more is less than a 32nd: not worth a word. */
    g_assert_cmpuint(size_next(&usual, &input), ==, 800 * MIB);
}

static void test_small_cache_grows_by_a_step_that_is_worth_it(void)
{
    BxCondition c = condition_of(BX_SOFT);
    SizeInput input = { .condition = &c, .available = 700 * MIB,
                        .cache = 16 * MIB, .limit = 16 * MIB };

    g_assert_cmpuint(size_next(&usual, &input), ==, 32 * MIB);
}

static void test_cache_gives_up_what_the_keep_lacks(void)
{
    BxCondition c = condition_of(BX_HIGH);
    SizeInput input = { .condition = &c, .available = 40 * MIB,
                        .cache = 300 * MIB, .limit = 400 * MIB };

    c.allocated = 1024 * MIB;
    g_assert_cmpuint(size_next(&usual, &input), ==, 276 * MIB);
}

static void test_hard_and_low_never_grow_and_always_shrink(void)
{
    static const struct {
        uint32_t level;
        uint64_t expected;
    } rows[] = { { BX_HARD, 300 * MIB }, { BX_LOW, 280 * MIB },
                 { 17, 280 * MIB } };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        BxCondition c = condition_of(rows[i].level);
        SizeInput input = { .condition = &c, .available = 700 * MIB,
                            .cache = 320 * MIB, .limit = 330 * MIB };

        g_assert_cmpuint(size_next(&usual, &input), ==, rows[i].expected);
    }
}

static void test_stale_or_cut_off_figures_are_no_reason_to_grow(void)
{
    BxCondition c = condition_of(BX_HIGH);
    SizeInput input = { .condition = &c, .available = 700 * MIB,
                        .cache = 100 * MIB, .limit = 120 * MIB };

    c.age_ms = SIZE_STALE_MS + 1;
    g_assert_cmpuint(size_next(&usual, &input), ==, 120 * MIB);
    c.age_ms = 0;
    c.is_connected = 0;
    g_assert_cmpuint(size_next(&usual, &input), ==, 120 * MIB);
    c.is_connected = 1;
    g_assert_cmpuint(size_next(&usual, &input), >, 120 * MIB);
}

/* Whatever the figures: inside its bounds, and no growth in need. */
static void test_any_figures_give_a_size_within_bounds(void)
{
    for (unsigned i = 0; i < 200000; i++) {
        BxCondition c = {
            .level = g_test_rand_int_range(0, 5),
            .is_connected = g_test_rand_bit(),
            .age_ms = g_test_rand_int_range(0, 30000),
            .ram = g_test_rand_int_range(0, 4096) * MIB,
            .allocated = g_test_rand_int_range(0, 4096) * MIB,
            .reservable = g_test_rand_int_range(0, 4096) * MIB,
            .ballooned_kernel = g_test_rand_int_range(0, 4096) * MIB,
            .ballooned_application = g_test_rand_int_range(0, 4096) * MIB,
        };
        SizeOptions o = {
            .min = g_test_rand_int_range(0, 64) * MIB,
            .max = g_test_rand_bit() ? g_test_rand_int_range(64, 4096) * MIB
                                     : 0,
            .keep = g_test_rand_int_range(0, 512) * MIB,
        };
        SizeInput input = {
            .condition = g_test_rand_bit() ? &c : NULL,
            .available = g_test_rand_int_range(0, 4096) * MIB,
            .cache = g_test_rand_int_range(0, 4096) * MIB,
            .limit = g_test_rand_int_range(0, 4096) * MIB,
        };
        uint64_t next = size_next(&o, &input);

        g_assert_cmpuint(next, >=, o.min);
        if (o.max) {
            g_assert_cmpuint(next, <=, o.max);
        }
        g_assert_cmpuint(size_headroom(&input), <=, input.available);
        if (input.condition && c.level >= BX_HARD) {
            g_assert_cmpuint(next, <=, MAX(input.limit, o.min));
        }
        if (input.limit >= 64 * MIB) {
            g_assert_cmpuint(next, <=, MAX(input.limit + input.limit / 4,
                                           o.min));
        }
    }
}

/* Two caches that both see the same headroom do not chase each other. */
static void test_steady_figures_settle(void)
{
    BxCondition c = condition_of(BX_HIGH);
    uint64_t cache = 16 * MIB, before = 0, others = 100 * MIB;
    unsigned steps = 0;

    while (cache != before) {
        SizeInput input = { .condition = &c, .cache = cache, .limit = cache,
                            .available = c.ram - others - cache };

        before = cache;
        cache = size_next(&usual, &input);
        g_assert_cmpuint(++steps, <, 50);
    }
    /* 700 backed, less others and keep; within the dead band. */
    g_assert_cmpuint(cache, <=, 536 * MIB);
    g_assert_cmpuint(cache, >=, 536 * MIB - 536 * MIB / 32);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/size/headroom-is-what-the-host-backs",
                    test_headroom_is_what_the_host_backs);
    g_test_add_func("/size/headroom-without-a-host-is-the-kernel-s",
                    test_headroom_without_a_host_is_what_the_kernel_says);
    g_test_add_func("/size/grows-by-a-quarter-and-leaves-the-keep",
                    test_cache_grows_by_a_quarter_and_leaves_the_keep);
    g_test_add_func("/size/small-cache-grows-by-a-step",
                    test_small_cache_grows_by_a_step_that_is_worth_it);
    g_test_add_func("/size/gives-up-what-the-keep-lacks",
                    test_cache_gives_up_what_the_keep_lacks);
    g_test_add_func("/size/hard-and-low-shrink",
                    test_hard_and_low_never_grow_and_always_shrink);
    g_test_add_func("/size/stale-figures-do-not-grow",
                    test_stale_or_cut_off_figures_are_no_reason_to_grow);
    g_test_add_func("/size/any-figures-stay-within-bounds",
                    test_any_figures_give_a_size_within_bounds);
    g_test_add_func("/size/steady-figures-settle", test_steady_figures_settle);
    return g_test_run();
}
