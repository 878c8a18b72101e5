/*
 * Rates of guests that give, and what is expected by them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "rate.h"

#define SECOND UINT64_C(1000000000)
#define MIB    (UINT64_C(1) << 20)
#define PAGES(mib) ((uint64_t)(mib) * 256)

static void test_nothing_is_expected_of_a_stranger(void)
{
    MsRates rates = { 0 };
    MsRateEstimate e;

    g_assert_false(ms_rates_estimate(&rates, MEMSCHED_SOURCE_ANY, 1, &e));
    /* Too little, and in no time. */
    ms_rates_note(&rates, MEMSCHED_SOURCE_ANY, PAGES(2) - 1, SECOND, 7);
    ms_rates_note(&rates, MEMSCHED_SOURCE_ANY, PAGES(2), 0, 7);
    g_assert_false(ms_rates_estimate(&rates, MEMSCHED_SOURCE_ANY, 1, &e));
}

static void test_the_last_transfer_is_half_of_what_is_remembered(void)
{
    MsRates rates = { 0 };
    MsRateEstimate e;

    ms_rates_note(&rates, MEMSCHED_SOURCE_KERNEL, PAGES(100), SECOND, 7);
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_KERNEL,
                                    PAGES(50), &e));
    g_assert_cmpuint(e.ms, ==, 500);
    g_assert_cmpuint(e.rate.bytes_per_s, ==, 100 * MIB);
    g_assert_cmpuint(e.rate.at_ns, ==, 7);
    ms_rates_note(&rates, MEMSCHED_SOURCE_KERNEL, PAGES(300), SECOND, 9);
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_KERNEL,
                                    PAGES(50), &e));
    g_assert_cmpuint(e.ms, ==, 250);
    g_assert_cmpuint(e.rate.at_ns, ==, 9);
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_KERNEL, 1, &e));
    g_assert_cmpuint(e.ms, ==, 1);
}

static void test_one_source_stands_in_for_another(void)
{
    MsRates rates = { 0 };
    MsRateEstimate e;

    ms_rates_note(&rates, MEMSCHED_SOURCE_KERNEL, PAGES(100), SECOND, 7);
    ms_rates_note(&rates, MEMSCHED_SOURCE_APPLICATION, PAGES(10), SECOND, 8);
    /* Any: the slowest of them; a certain one: not another one's. */
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_ANY, PAGES(10),
                                    &e));
    g_assert_cmpuint(e.ms, ==, 1000);
    g_assert_false(ms_rates_estimate(&rates, MEMSCHED_SOURCE_REPORTED, 1,
                                     &e));
    ms_rates_note(&rates, MEMSCHED_SOURCE_ANY, PAGES(20), SECOND, 9);
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_ANY, PAGES(10),
                                    &e));
    g_assert_cmpuint(e.ms, ==, 500);
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_REPORTED,
                                    PAGES(10), &e));
    g_assert_cmpuint(e.ms, ==, 500);
}

static void test_no_size_and_no_time_overflows(void)
{
    MsRates rates = { 0 };
    MsRateEstimate e;

    ms_rates_note(&rates, MEMSCHED_SOURCE_ANY, PAGES(2), UINT64_MAX, 1);
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_ANY,
                                    UINT64_C(1) << 52, &e));
    g_assert_cmpuint(e.ms, ==, UINT64_MAX);
    ms_rates_note(&rates, MEMSCHED_SOURCE_KERNEL, UINT64_C(1) << 40, 1, 1);
    g_assert_true(ms_rates_estimate(&rates, MEMSCHED_SOURCE_KERNEL, 1, &e));
    g_assert_cmpuint(e.ms, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rate/stranger", test_nothing_is_expected_of_a_stranger);
    g_test_add_func("/rate/last",
                    test_the_last_transfer_is_half_of_what_is_remembered);
    g_test_add_func("/rate/stand-in", test_one_source_stands_in_for_another);
    g_test_add_func("/rate/overflow", test_no_size_and_no_time_overflows);
    return g_test_run();
}
