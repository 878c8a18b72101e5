/*
 * Guests whose pages come back: when that is too much, how long they are left
 * alone, and what a burst may take
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "thrash.h"

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)
#define START  (1000 * SECOND)

static void test_more_than_a_quarter_is_too_much(void)
{
    static const struct {
        uint64_t captured, returned;
        bool too_much;
    } cases[] = {
        { 1024, 256, false },
        { 1024, 257, true },
        { 100000, 25000, false },
        { 100000, 25001, true },
        /* Too few to say anything. */
        { 1023, 1023, false },
        { 0, 100000, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t alone = cases[i].too_much * SECOND;
        MsThrash t;

        ms_thrash_init(&t, START);
        ms_thrash_captured(&t, cases[i].captured, START + MS);
        g_assert_cmpint(ms_thrash_returned(&t, cases[i].returned,
                                           START + 2 * MS), ==,
                        cases[i].too_much);
        g_assert_cmpuint(ms_thrash_left_ns(&t, START + 2 * MS), ==, alone);
        g_assert_cmpuint(t.backoffs, ==, cases[i].too_much);
        g_assert_cmpuint(t.returned_pages, ==, cases[i].returned);
    }
}

/* Pages that come back after two windows are no sign of anything. */
static void test_what_was_taken_long_ago_does_not_count(void)
{
    static const struct {
        uint64_t later;
        bool too_much;
    } cases[] = {
        { SECOND, true }, { 9 * SECOND, true }, { 11 * SECOND, true },
        { 19 * SECOND, true }, { 21 * SECOND, false },
        { 1000 * SECOND, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MsThrash t;

        ms_thrash_init(&t, START);
        ms_thrash_captured(&t, 2048, START);
        g_assert_cmpint(ms_thrash_returned(&t, 2048,
                                           START + cases[i].later), ==,
                        cases[i].too_much);
    }
}

/* Captured and touched again as soon as it is not left alone any more. */
static uint64_t again(MsThrash *t, uint64_t now)
{
    ms_thrash_captured(t, 4096, now);
    g_assert_true(ms_thrash_returned(t, 4096, now));
    return ms_thrash_left_ns(t, now);
}

static void test_time_alone_doubles_up_to_a_limit(void)
{
    uint64_t now = START, expected = SECOND;
    MsThrash t;

    ms_thrash_init(&t, START);
    for (unsigned i = 0; i < 12; i++) {
        uint64_t left = again(&t, now);

        g_assert_cmpuint(left, ==, expected);
        g_assert_cmpuint(ms_thrash_left_ns(&t, now + left - 1), ==, 1);
        g_assert_cmpuint(ms_thrash_left_ns(&t, now + left), ==, 0);
        now += left;
        expected = MIN(expected * 2, 256 * SECOND);
    }
    g_assert_cmpuint(t.backoffs, ==, 12);
}

static void test_quiet_times_are_forgotten_step_by_step(void)
{
    uint64_t now = START;
    MsThrash t;

    ms_thrash_init(&t, START);
    for (unsigned i = 0; i < 4; i++) {
        now += again(&t, now);
    }
    /* It was 8 s: after 8 quiet ones the next is 8 s again, not 16. */
    g_assert_cmpuint(again(&t, now + 8 * SECOND), ==, 8 * SECOND);
    now += 16 * SECOND;
    /* After 8 + 4 + 2 + 1 s it is as if nothing had ever been. */
    g_assert_cmpuint(again(&t, now + 15 * SECOND), ==, SECOND);
}

static void test_while_it_is_left_alone_nothing_adds_up(void)
{
    MsThrash t;

    ms_thrash_init(&t, START);
    again(&t, START);
    /* A transfer took these all the same. */
    ms_thrash_captured(&t, 4096, START + MS);
    g_assert_false(ms_thrash_returned(&t, 4096, START + 2 * MS));
    g_assert_cmpuint(t.backoffs, ==, 1);
}

static void test_shortage_of_the_guest_counts_once_while_it_lasts(void)
{
    MsThrash t;

    ms_thrash_init(&t, START);
    for (unsigned i = 0; i < 100; i++) {
        ms_thrash_oom(&t, START + i * MS);
    }
    g_assert_cmpuint(t.backoffs, ==, 1);
    g_assert_cmpuint(ms_thrash_left_ns(&t, START + 99 * MS), ==, 901 * MS);
    ms_thrash_oom(&t, START + SECOND);
    g_assert_cmpuint(ms_thrash_left_ns(&t, START + SECOND), ==, 2 * SECOND);
}

static void test_who_asks_expressly_ends_it_and_no_level_is_forgotten(void)
{
    MsThrash t;

    ms_thrash_init(&t, START);
    again(&t, START);
    ms_thrash_asked(&t, START + MS);
    g_assert_cmpuint(ms_thrash_left_ns(&t, START + MS), ==, 0);
    g_assert_cmpuint(again(&t, START + 2 * MS), ==, 2 * SECOND);
}

static void test_buckets(void)
{
    static const struct {
        MsCost cost;
        uint64_t burst, rate;
    } cases[] = {
        { MS_COST_CAPTURE, 4000, 2000 },
        { MS_COST_FAULT, 5000, 5000 },
        { MS_COST_SCRUB, 1 << 21, 1 << 20 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MsCost cost = cases[i].cost;
        uint64_t now = START, dry;
        MsThrash t;

        ms_thrash_init(&t, now);
        ms_thrash_charge(&t, cost, cases[i].burst - 1, now);
        g_assert_cmpuint(ms_thrash_dry_until_ns(&t, cost, now), ==, 0);
        ms_thrash_charge(&t, cost, 1, now);
        dry = ms_thrash_dry_until_ns(&t, cost, now);
        g_assert_cmpuint(dry, >, now);
        g_assert_cmpuint(dry, <=, now + SECOND / cases[i].rate + 2);
        g_assert_cmpuint(ms_thrash_dry_until_ns(&t, cost, dry), ==, 0);

        /* A second's worth on credit takes a second to pay. */
        ms_thrash_charge(&t, cost, cases[i].rate, now);
        dry = ms_thrash_dry_until_ns(&t, cost, now);
        g_assert_cmpuint(dry, >=, now + SECOND);
        g_assert_cmpuint(dry, <=, now + SECOND + SECOND / cases[i].rate + 2);

        /* No debt is for ever, and nothing is saved up beyond a burst. */
        ms_thrash_charge(&t, cost, UINT64_MAX, now);
        g_assert_cmpuint(ms_thrash_dry_until_ns(&t, cost, now), <=,
                         now + 12 * SECOND);
        now += UINT64_C(1) << 50;
        ms_thrash_charge(&t, cost, cases[i].burst, now);
        g_assert_cmpuint(ms_thrash_dry_until_ns(&t, cost, now), >, now);
        /* The other buckets know nothing of it. */
        for (unsigned other = 0; other < MS_COSTS; other++) {
            if (other != (unsigned)cost) {
                g_assert_cmpuint(ms_thrash_dry_until_ns(&t, other, now), ==,
                                 0);
            }
        }
    }
}

/* Steps of three quarters of a token's time: three in four get one. */
static void test_short_steps_lose_no_token(void)
{
    uint64_t now = START, taken = 0;
    MsThrash t;

    ms_thrash_init(&t, now);
    ms_thrash_charge(&t, MS_COST_CAPTURE, 4000, now);
    for (unsigned i = 0; i < 4000; i++) {
        now += 375000;
        if (ms_thrash_dry_until_ns(&t, MS_COST_CAPTURE, now) == 0) {
            ms_thrash_charge(&t, MS_COST_CAPTURE, 1, now);
            taken++;
        }
    }
    g_assert_cmpuint(taken, >=, 2999);
    g_assert_cmpuint(taken, <=, 3001);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/thrash/more-than-a-quarter-is-too-much",
                    test_more_than_a_quarter_is_too_much);
    g_test_add_func("/thrash/what-was-taken-long-ago-does-not-count",
                    test_what_was_taken_long_ago_does_not_count);
    g_test_add_func("/thrash/time-alone-doubles-up-to-a-limit",
                    test_time_alone_doubles_up_to_a_limit);
    g_test_add_func("/thrash/quiet-times-are-forgotten-step-by-step",
                    test_quiet_times_are_forgotten_step_by_step);
    g_test_add_func("/thrash/while-it-is-left-alone-nothing-adds-up",
                    test_while_it_is_left_alone_nothing_adds_up);
    g_test_add_func("/thrash/shortage-counts-once-while-it-lasts",
                    test_shortage_of_the_guest_counts_once_while_it_lasts);
    g_test_add_func("/thrash/who-asks-expressly-ends-it",
                    test_who_asks_expressly_ends_it_and_no_level_is_forgotten);
    g_test_add_func("/thrash/buckets", test_buckets);
    g_test_add_func("/thrash/short-steps-lose-no-token",
                    test_short_steps_lose_no_token);
    return g_test_run();
}
