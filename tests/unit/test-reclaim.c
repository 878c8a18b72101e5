/*
 * The last resort: from whom, how much
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "reclaim.h"

static uint64_t run(MemSchedCondition state, uint64_t free,
                    MsReclaimGuest *guests, size_t count)
{
    MsReclaimInput input = { .state = state, .free = free, .min_free = 1000 };

    return ms_reclaim_run(&input, guests, count);
}

static void test_nothing_is_taken_while_others_can_help(void)
{
    MsReclaimGuest g[] = {
        { .allocated = 5000, .entitlement = 1000, .idle = 4000 },
        { .allocated = 1000, .entitlement = 1000, .waiting = 3 },
    };

    for (int s = MEMSCHED_CONDITION_HIGH; s < MEMSCHED_CONDITION_HARD; s++) {
        g_assert_cmpuint(run(s, 0, g, 2), ==, 0);
        g_assert_cmpuint(g[0].take + g[0].ceiling + g[1].ceiling, ==, 0);
    }
}

static void test_idle_memory_above_the_entitlement_goes_first(void)
{
    MsReclaimGuest g[] = {
        { .allocated = 3000, .entitlement = 1000, .idle = 0 },
        { .allocated = 3000, .entitlement = 1000, .idle = 500 },
        { .allocated = 900, .entitlement = 1000, .idle = 900 },
        { .allocated = 3000, .entitlement = 1000, .min = 2900, .idle = 3000 },
    };

    g_assert_cmpuint(run(MEMSCHED_CONDITION_HARD, 600, g, 4), ==, 400);
    g_assert_cmpuint(g[0].take, ==, 0);
    /* 500 and 100 of idle pages: in proportion */
    g_assert_cmpuint(g[1].take + g[3].take, ==, 400);
    g_assert_cmpuint(g[1].take, >=, 333);
    g_assert_cmpuint(g[3].take, <=, 100);
    g_assert_cmpuint(g[2].take, ==, 0);

    g_assert_cmpuint(run(MEMSCHED_CONDITION_HARD, 0, g, 4), ==, 1000);
    g_assert_cmpuint(g[1].take, >=, 500);
    g_assert_cmpuint(g[0].take, >, 0);
    g_assert_cmpuint(g[0].ceiling, ==, 0);
}

static void test_low_bounds_everybody_by_the_entitlement(void)
{
    MsReclaimGuest g[] = {
        { .allocated = 3000, .entitlement = 1000 },
        { .allocated = 10, .entitlement = 20, .min = 70 },
        { .allocated = 0 },
    };

    run(MEMSCHED_CONDITION_LOW, 0, g, 3);
    g_assert_cmpuint(g[0].ceiling, ==, 1000);
    g_assert_cmpuint(g[1].ceiling, ==, 70);
    g_assert_cmpuint(g[2].ceiling, ==, 1);      /* 0 would be none */
}

static void test_a_guest_that_is_owed_memory_and_waits_is_a_reason(void)
{
    MsReclaimGuest g[] = {
        { .allocated = 5000, .entitlement = 1000 },
        { .allocated = 500, .entitlement = 1000, .waiting = 2 },
    };

    g_assert_cmpuint(run(MEMSCHED_CONDITION_HIGH, 9000, g, 2), ==, 128);
    g_assert_cmpuint(g[0].take, ==, 128);
    g_assert_cmpuint(g[0].ceiling, ==, 0);
}

static void test_random_guests_never_fall_below_what_is_theirs(void)
{
    guint32 seed = g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    g_test_message("seed %u", seed);
    for (unsigned round = 0; round < 20000; round++) {
        MsReclaimGuest g[20];
        size_t count = g_rand_int_range(rand, 0, 21);
        uint64_t want = g_rand_int_range(rand, 0, 1001), all = 0, sum = 0;
        uint64_t taken;

        memset(g, 0, sizeof(g));
        for (size_t i = 0; i < count; i++) {
            uint64_t keep;

            g[i].allocated = g_rand_int_range(rand, 0, 2000);
            g[i].min = g_rand_int_range(rand, 0, 1000);
            g[i].entitlement = g_rand_int_range(rand, 0, 1500);
            g[i].idle = g_rand_int_range(rand, 0, g[i].allocated + 1);
            keep = MAX(g[i].min, g[i].entitlement);
            all += g[i].allocated > keep ? g[i].allocated - keep : 0;
        }
        taken = run(MEMSCHED_CONDITION_HARD, 1000 - want, g, count);
        g_assert_cmpuint(taken, ==, MIN(want, all));
        for (size_t i = 0; i < count; i++) {
            uint64_t keep = MAX(g[i].min, g[i].entitlement);

            sum += g[i].take;
            g_assert_true(g[i].take == 0 ||
                          g[i].allocated - g[i].take >= keep);
        }
        g_assert_cmpuint(sum, ==, taken);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reclaim/nothing-is-taken-while-others-can-help",
                    test_nothing_is_taken_while_others_can_help);
    g_test_add_func("/reclaim/idle-memory-goes-first",
                    test_idle_memory_above_the_entitlement_goes_first);
    g_test_add_func("/reclaim/low-bounds-everybody-by-the-entitlement",
                    test_low_bounds_everybody_by_the_entitlement);
    g_test_add_func("/reclaim/a-guest-that-is-owed-memory-is-a-reason",
                    test_a_guest_that_is_owed_memory_and_waits_is_a_reason);
    g_test_add_func("/reclaim/random-guests-never-fall-below-theirs",
                    test_random_guests_never_fall_below_what_is_theirs);
    return g_test_run();
}
