/*
 * Sets of 512 pages, against an array of booleans
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib.h>

#include "pageset.h"

static void test_edges_of_words_are_exact(void)
{
    static const struct {
        unsigned first, count;
    } ranges[] = {
        { 0, 1 }, { 0, 64 }, { 63, 2 }, { 64, 64 }, { 1, 511 }, { 0, 512 },
        { 511, 1 }, { 100, 0 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++) {
        MsPageSet set;

        ms_pageset_clear(&set);
        ms_pageset_add(&set, ranges[i].first, ranges[i].count);
        g_assert_cmpuint(ms_pageset_count(&set), ==, ranges[i].count);
        for (unsigned p = 0; p < MS_PAGESET_PAGES; p++) {
            g_assert_cmpint(ms_pageset_has(&set, p), ==,
                            p >= ranges[i].first &&
                            p < ranges[i].first + ranges[i].count);
        }
        ms_pageset_remove(&set, ranges[i].first, ranges[i].count);
        g_assert_true(ms_pageset_empty(&set));
    }
}

static void test_search_of_empty_and_full_sets(void)
{
    MsPageSet set;
    unsigned first, count;

    ms_pageset_clear(&set);
    g_assert_cmpuint(ms_pageset_next(&set, 0), ==, MS_PAGESET_PAGES);
    g_assert_cmpuint(ms_pageset_next_gap(&set, 5), ==, 5);
    g_assert_false(ms_pageset_run(&set, 0, &first, &count));
    g_assert_cmpuint(ms_pageset_find(&set, 1, &first), ==, 0);
    ms_pageset_fill(&set);
    g_assert_cmpuint(ms_pageset_next_gap(&set, 0), ==, MS_PAGESET_PAGES);
    g_assert_true(ms_pageset_run(&set, 511, &first, &count));
    g_assert_cmpuint(first, ==, 511);
    g_assert_cmpuint(count, ==, 1);
    g_assert_false(ms_pageset_run(&set, 512, &first, &count));
    g_assert_cmpuint(ms_pageset_find(&set, 512, &first), ==, 512);
}

static void test_only_the_first_members_are_kept(void)
{
    static const unsigned counts[] = { 0, 1, 3, 4, 70, 103, 104, 512 };

    for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
        MsPageSet set;
        unsigned left = 0;

        ms_pageset_clear(&set);
        ms_pageset_add(&set, 10, 3);
        ms_pageset_add(&set, 60, 101);
        ms_pageset_keep_first(&set, counts[i]);
        g_assert_cmpuint(ms_pageset_count(&set), ==, MIN(counts[i], 104));
        for (unsigned p = 0; p < MS_PAGESET_PAGES; p++) {
            bool was = (p >= 10 && p < 13) || (p >= 60 && p < 161);

            g_assert_cmpint(ms_pageset_has(&set, p), ==,
                            was && left < counts[i]);
            left += was;
        }
    }
}

static void test_find_takes_first_fit_else_longest(void)
{
    MsPageSet set;
    unsigned first = 0;

    ms_pageset_clear(&set);
    ms_pageset_add(&set, 10, 3);
    ms_pageset_add(&set, 60, 10);
    ms_pageset_add(&set, 200, 7);
    g_assert_cmpuint(ms_pageset_find(&set, 3, &first), ==, 3);
    g_assert_cmpuint(first, ==, 10);
    g_assert_cmpuint(ms_pageset_find(&set, 5, &first), ==, 5);
    g_assert_cmpuint(first, ==, 60);
    g_assert_cmpuint(ms_pageset_find(&set, 100, &first), ==, 10);
    g_assert_cmpuint(first, ==, 60);
}

static void test_random_sets_agree_with_an_array(void)
{
    uint32_t seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    bool model[MS_PAGESET_PAGES] = { false };
    MsPageSet set;

    g_test_message("seed %u", seed);
    ms_pageset_clear(&set);
    for (unsigned step = 0; step < 2000; step++) {
        unsigned first = g_rand_int_range(rand, 0, 512);
        unsigned count = g_rand_int_range(rand, 0, 513 - first);
        bool add = g_rand_boolean(rand);
        unsigned n = 0, at, len, p = 0;

        if (add) {
            ms_pageset_add(&set, first, count);
        } else {
            ms_pageset_remove(&set, first, count);
        }
        for (unsigned i = first; i < first + count; i++) {
            model[i] = add;
        }
        for (unsigned i = 0; i < 512; i++) {
            n += model[i];
            g_assert_cmpint(ms_pageset_has(&set, i), ==, model[i]);
        }
        g_assert_cmpuint(ms_pageset_count(&set), ==, n);
        for (; ms_pageset_run(&set, p, &at, &len); p = at + len) {
            for (; p < at; p++) {
                g_assert_false(model[p]);
            }
            for (; p < at + len; p++) {
                g_assert_true(model[p]);
            }
            p = at;
        }
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pageset/edges-of-words-are-exact",
                    test_edges_of_words_are_exact);
    g_test_add_func("/pageset/search-of-empty-and-full-sets",
                    test_search_of_empty_and_full_sets);
    g_test_add_func("/pageset/find-takes-first-fit-else-longest",
                    test_find_takes_first_fit_else_longest);
    g_test_add_func("/pageset/keep-first",
                    test_only_the_first_members_are_kept);
    g_test_add_func("/pageset/random-sets-agree-with-an-array",
                    test_random_sets_agree_with_an_array);
    return g_test_run();
}
