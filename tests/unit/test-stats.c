/*
 * Tests of the histograms
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "stats.h"

static void test_empty_histogram_says_zero(void)
{
    g_autofree MsHistogram *h = g_new0(MsHistogram, 1);

    g_assert_cmpuint(ms_histogram_quantile_ns(h, 500), ==, 0);
    g_assert_cmpuint(ms_histogram_quantile_ns(h, 1000), ==, 0);
}

static void test_one_sample_is_every_quantile(void)
{
    g_autofree MsHistogram *h = g_new0(MsHistogram, 1);

    ms_histogram_add(h, 43210);
    g_assert_cmpuint(ms_histogram_quantile_ns(h, 0), ==, 43210);
    g_assert_cmpuint(ms_histogram_quantile_ns(h, 500), ==, 43210);
    g_assert_cmpuint(ms_histogram_quantile_ns(h, 990), ==, 43210);
}

static void test_quantiles_are_at_most_an_eighth_too_high(void)
{
    g_autofree MsHistogram *h = g_new0(MsHistogram, 1);

    for (uint64_t i = 1; i <= 1000; i++) {
        ms_histogram_add(h, i * 1000);
    }
    for (unsigned permille = 1; permille <= 1000; permille += 37) {
        uint64_t q = ms_histogram_quantile_ns(h, permille);

        g_assert_cmpuint(q, >=, permille * 1000);
        g_assert_cmpuint(q, <=, permille * 1000 * 9 / 8 + 64);
    }
    g_assert_cmpuint(ms_counter(&h->count), ==, 1000);
    g_assert_cmpuint(ms_counter(&h->total_ns), ==, 500500000);
    g_assert_cmpuint(ms_counter(&h->max_ns), ==, 1000000);
}

static void test_extreme_samples_find_a_bucket(void)
{
    g_autofree MsHistogram *h = g_new0(MsHistogram, 1);

    ms_histogram_add(h, 0);
    ms_histogram_add(h, 63);
    ms_histogram_add(h, 64);
    ms_histogram_add(h, UINT64_MAX);
    g_assert_cmpuint(ms_counter(&h->count), ==, 4);
    g_assert_cmpuint(ms_histogram_quantile_ns(h, 500), <=, 72);
    g_assert_cmpuint(ms_counter(&h->max_ns), ==, UINT64_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stats/empty", test_empty_histogram_says_zero);
    g_test_add_func("/stats/one", test_one_sample_is_every_quantile);
    g_test_add_func("/stats/quantiles",
                    test_quantiles_are_at_most_an_eighth_too_high);
    g_test_add_func("/stats/extremes", test_extreme_samples_find_a_bucket);
    return g_test_run();
}
