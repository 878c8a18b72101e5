/*
 * Who answers, who is left alone, who grows
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "policy.h"

#define MIB UINT64_C(256)       /* pages */
#define S   UINT64_C(1000000000)

static MsPolicyInput clock_at(uint64_t seconds)
{
    return (MsPolicyInput) {
        .budget = 1024 * MIB, .interval_ms = 1000, .now_ns = seconds * S,
        .tuning = ms_policy_tuning(),
    };
}

static void tick(MsPolicyGuest *g, uint64_t seconds)
{
    MsPolicyInput input = clock_at(seconds);

    ms_policy_watch(&input, g, 1);
}

static void test_guest_that_gives_nothing_is_excluded_and_probed(void)
{
    MsPolicyGuest g = { .allocated = 100 * MIB, .outgoing = 50 * MIB };

    for (unsigned t = 1; t <= 4; t++) {
        tick(&g, t);
        g_assert_false(g.memory.unresponsive);
    }
    tick(&g, 5);
    g_assert_true(g.memory.unresponsive);
    g_assert_cmpuint(g.memory.rate_bytes_per_s, ==, 0);
    g_assert_cmpuint(g.memory.retry_ns, ==, 15 * S);
    /* It is asked for 8 MiB, in vain: the rest doubles. */
    g.outgoing = 8 * MIB;
    for (unsigned t = 6; t <= 8; t++) {
        tick(&g, t);
    }
    g_assert_cmpuint(g.memory.retry_ns, ==, 28 * S);
    /* It comes: the guest counts again, and its fault is forgotten. */
    g.captured += 8 * MIB;
    g.outgoing = 0;
    tick(&g, 9);
    g_assert_false(g.memory.unresponsive);
    g_assert_cmpuint(g.memory.retries, ==, 0);
}

static void test_slow_guest_is_excluded_by_its_rate(void)
{
    MsPolicyGuest g = { .allocated = 100 * MIB, .outgoing = 90 * MIB };

    for (unsigned t = 1; t <= 6; t++) {
        tick(&g, t);
        g.captured += MIB / 2;
    }
    g_assert_true(g.memory.unresponsive);
    g_assert_cmpuint(g.memory.rate_bytes_per_s, ==, 1 << 19);
    for (unsigned t = 7; t <= 9; t++) {
        g.captured += 2 * MIB;
        tick(&g, t);
    }
    g_assert_false(g.memory.unresponsive);
    g_assert_cmpuint(g.memory.rate_bytes_per_s, ==, 2 << 20);
}

static void test_fixed_guest_is_not_judged(void)
{
    MsPolicyGuest g = { .allocated = 100 * MIB, .outgoing = 50 * MIB,
                        .fixed = true };

    for (unsigned t = 1; t <= 20; t++) {
        tick(&g, t);
    }
    g_assert_false(g.memory.unresponsive);
}

static void test_rest_after_oom_doubles_and_calm_halves_it(void)
{
    MsPolicyGuest g = { .allocated = 100 * MIB };

    tick(&g, 1);
    g.oom_deflates = 1;
    tick(&g, 2);
    g_assert_cmpuint(g.memory.rest_ns, ==, 12 * S);
    tick(&g, 12);
    g_assert_cmpuint(g.memory.rest_ns, ==, 0);
    g.oom_deflates = 2;
    tick(&g, 13);
    g_assert_cmpuint(g.memory.rest_ns, ==, 33 * S);
    g_assert_cmpuint(g.memory.rests, ==, 2);
    tick(&g, 52);
    g_assert_cmpuint(g.memory.rests, ==, 2);
    tick(&g, 53);
    g_assert_cmpuint(g.memory.rests, ==, 1);
    tick(&g, 53 + 20);
    g_assert_cmpuint(g.memory.rests, ==, 0);
    for (unsigned t = 100; t < 140; t++) {
        g.oom_deflates++;
        tick(&g, t);
    }
    g_assert_cmpuint(g.memory.rest_ns, ==, (139 + 600) * S);
}

static void test_pages_that_come_back_make_it_rest(void)
{
    MsPolicyGuest g = { .allocated = 100 * MIB };

    tick(&g, 1);
    g.captured = 40 * MIB;
    tick(&g, 2);
    g.returned = 7 * MIB;
    tick(&g, 3);
    /* 7 of 30: below a quarter. */
    g_assert_cmpuint(g.memory.rest_ns, ==, 0);
    g.returned += 6 * MIB;
    tick(&g, 4);
    g_assert_cmpuint(g.memory.rest_ns, ==, 14 * S);
}

static void test_growth_is_smoothed(void)
{
    MsPolicyGuest g = { .allocated = 0 };
    uint64_t peak;

    tick(&g, 1);
    for (unsigned t = 2; t < 20; t++) {
        g.allocated += 64 * MIB;
        tick(&g, t);
    }
    peak = g.memory.growth;
    g_assert_cmpuint(peak, >, 60 * MIB);
    g_assert_cmpuint(peak, <=, 64 * MIB);
    tick(&g, 20);
    g_assert_cmpuint(g.memory.growth, ==, peak * 3 / 4);
    for (unsigned t = 21; t < 100; t++) {
        tick(&g, t);
    }
    g_assert_cmpuint(g.memory.growth, ==, 0);
}

static void test_idle_time_begins_when_much_is_idle(void)
{
    MsPolicyGuest g = { .allocated = 80 * MIB, .active = 71 * MIB };

    tick(&g, 1);
    g_assert_cmpuint(g.memory.idle_ns, ==, 0);
    g.active = 70 * MIB;
    tick(&g, 2);
    g_assert_cmpuint(g.memory.idle_ns, ==, 2 * S);
    g.active = 0;
    tick(&g, 3);
    g_assert_cmpuint(g.memory.idle_ns, ==, 2 * S);
    g.waiting = 75 * MIB;
    tick(&g, 4);
    g_assert_cmpuint(g.memory.idle_ns, ==, 0);
}

static void test_pressure_is_a_full_size_with_a_balloon(void)
{
    MsPolicyGuest g = { .max = 512 * MIB, .allocated = 200 * MIB,
                        .active = 200 * MIB };

    tick(&g, 1);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 0);
    g.ballooned = 300 * MIB;
    tick(&g, 2);
    tick(&g, 3);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 2);
    g.active = 100 * MIB;
    tick(&g, 4);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 0);
}

static void test_growth_out_of_a_short_pool_is_pressure(void)
{
    MsPolicyGuest g = { .max = 512 * MIB, .allocated = 150 * MIB,
                        .active = 80 * MIB };
    MsPolicyInput input = clock_at(1);

    input.min_free = 14 * MIB;
    input.free = 13 * MIB;
    ms_policy_watch(&input, &g, 1);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 0);
    g.allocated += 8;
    ms_policy_watch(&input, &g, 1);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 1);
    /* Until there is plenty; not where only a page or two are touched. */
    input.free = 27 * MIB;
    g.allocated += MIB;
    ms_policy_watch(&input, &g, 1);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 2);
    g.allocated += 7;
    ms_policy_watch(&input, &g, 1);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 0);
    g.allocated += MIB;
    ms_policy_watch(&input, &g, 1);
    g_assert_cmpuint(g.memory.pressed_ticks, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-that-gives-nothing-is-excluded-and-probed",
                    test_guest_that_gives_nothing_is_excluded_and_probed);
    g_test_add_func("/slow-guest-is-excluded-by-its-rate",
                    test_slow_guest_is_excluded_by_its_rate);
    g_test_add_func("/fixed-guest-is-not-judged",
                    test_fixed_guest_is_not_judged);
    g_test_add_func("/rest-after-oom-doubles-and-calm-halves-it",
                    test_rest_after_oom_doubles_and_calm_halves_it);
    g_test_add_func("/pages-that-come-back-make-it-rest",
                    test_pages_that_come_back_make_it_rest);
    g_test_add_func("/growth-is-smoothed", test_growth_is_smoothed);
    g_test_add_func("/idle-time-begins-when-much-is-idle",
                    test_idle_time_begins_when_much_is_idle);
    g_test_add_func("/pressure-is-a-full-size-with-a-balloon",
                    test_pressure_is_a_full_size_with_a_balloon);
    g_test_add_func("/growth-out-of-a-short-pool-is-pressure",
                    test_growth_out_of_a_short_pool_is_pressure);
    return g_test_run();
}
