/*
 * Averages of a sample: what they say, and how fast they follow
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "estimate.h"

#define MS UINT64_C(1000000)

static void add(MsEstimate *e, unsigned units, unsigned touched)
{
    for (unsigned i = 0; i < units; i++) {
        ms_estimate_add(e, i < touched, 3 * MS, 7);
    }
}

static void round_of(MsEstimate *e, unsigned units, unsigned touched)
{
    add(e, units, touched);
    ms_estimate_close(e);
}

static MsEstimateFigure figure(const MsEstimate *e)
{
    MsEstimateFigure f;

    g_assert_true(ms_estimate_figure(e, &f));
    g_assert_cmpuint(f.active_permille, >=, f.fast_permille);
    g_assert_cmpuint(f.active_permille, >=, f.slow_permille);
    g_assert_cmpuint(f.active_permille, <=, 1000);
    return f;
}

static void test_few_units_say_nothing(void)
{
    MsEstimate e = { 0 };
    MsEstimateFigure f;

    g_assert_false(ms_estimate_figure(&e, &f));
    add(&e, MS_ESTIMATE_UNITS - 1, 3);
    g_assert_false(ms_estimate_figure(&e, &f));
    g_assert_cmpuint(f.units, ==, 0);
    add(&e, 1, 1);
    g_assert_true(ms_estimate_figure(&e, &f));
    g_assert_cmpuint(f.units, ==, MS_ESTIMATE_UNITS);
    g_assert_cmpuint(f.active_permille, ==, 250);
    g_assert_cmpuint(f.after_ns, ==, 3 * MS);
}

static void test_a_steady_guest_has_one_figure(void)
{
    MsEstimate e = { 0 };

    for (unsigned i = 0; i < 50; i++) {
        round_of(&e, 100, 30);
        g_assert_cmpuint(figure(&e).active_permille, <=, 301);
        g_assert_cmpuint(figure(&e).active_permille, >=, 299);
        /* Whole microseconds, rounded down. */
        g_assert_cmpuint(figure(&e).after_ns, <=, 3 * MS);
        g_assert_cmpuint(figure(&e).after_ns, >=, 3 * MS - 1000);
    }
}

static void test_use_is_believed_before_its_round_ends(void)
{
    MsEstimate e = { 0 };

    for (unsigned i = 0; i < 20; i++) {
        round_of(&e, 100, 0);
    }
    g_assert_cmpuint(figure(&e).active_permille, ==, 0);
    add(&e, 100, 100);
    /* 100 of the round, and half of the 200 of the fast average. */
    g_assert_cmpuint(figure(&e).active_permille, >=, 490);
}

static void test_idleness_is_believed_after_a_while(void)
{
    MsEstimate e = { 0 };
    unsigned before = 1000;

    for (unsigned i = 0; i < 20; i++) {
        round_of(&e, 100, 100);
    }
    for (unsigned i = 1; i <= 16; i++) {
        unsigned now;

        round_of(&e, 100, 0);
        now = figure(&e).active_permille;
        g_assert_cmpuint(now, <, before);
        before = now;
        if (i == 1) {
            g_assert_cmpuint(now, >, 800);
        }
    }
    /* (7/8)^16 */
    g_assert_cmpuint(before, <, 150);
}

static void test_a_round_of_few_units_weighs_little(void)
{
    MsEstimate e = { 0 };

    for (unsigned i = 0; i < 20; i++) {
        round_of(&e, 100, 0);
    }
    round_of(&e, 2, 2);
    g_assert_cmpuint(figure(&e).active_permille, <, 30);
}

static void test_a_time_of_any_length_does_not_overflow(void)
{
    MsEstimate e = { 0 };

    for (unsigned i = 0; i < 100; i++) {
        for (unsigned k = 0; k < 1000; k++) {
            ms_estimate_add(&e, true, UINT64_MAX, UINT64_MAX);
        }
        ms_estimate_close(&e);
    }
    g_assert_cmpuint(figure(&e).active_permille, ==, 1000);
    g_assert_cmpuint(figure(&e).after_ns, <=, (UINT64_C(1) << 32) * 1000);
    g_assert_cmpuint(figure(&e).after_ns, >, (UINT64_C(1) << 32) * 999);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/estimate/few", test_few_units_say_nothing);
    g_test_add_func("/estimate/steady", test_a_steady_guest_has_one_figure);
    g_test_add_func("/estimate/use",
                    test_use_is_believed_before_its_round_ends);
    g_test_add_func("/estimate/idle",
                    test_idleness_is_believed_after_a_while);
    g_test_add_func("/estimate/weight",
                    test_a_round_of_few_units_weighs_little);
    g_test_add_func("/estimate/overflow",
                    test_a_time_of_any_length_does_not_overflow);
    return g_test_run();
}
