/*
 * A recorded snapshot replays
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "policy.h"

#define MOST 20

static void fill_random(void *at, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((unsigned char *)at)[i] = g_test_rand_int();
    }
}

static void random_guest(MsPolicyGuest *g)
{
    memset(g, 0, sizeof(*g));
    g->allocated = g_test_rand_int();
    g->min = g_test_rand_int_range(0, 1 << 20);
    g->max = g_test_rand_int();
    g->active = g_test_rand_int();
    g->waiting = g_test_rand_int_range(0, 1 << 20);
    g->ballooned = g_test_rand_int_range(0, 1 << 30);
    g->shares = g_test_rand_int();
    g->fixed = g_test_rand_int_range(0, 4) == 0;
    g->held = g_test_rand_int_range(0, 4) == 0;
    fill_random(&g->memory.rests, sizeof(g->memory.rests));
    g->memory.known = true;
    g->memory.pressed_ticks = g_test_rand_int_range(0, 4);
    g->memory.growth = g_test_rand_int_range(0, 1 << 20);
}

static void test_a_snapshot_replays(void)
{
    for (unsigned round = 0; round < 200; round++) {
        MsPolicyInput input = {
            .policy = g_test_rand_int_range(0, 3), .idle_tax_pct = 50,
            .budget = UINT64_C(1) << 34, .free = g_test_rand_int(),
            .min_free = 12345, .interval_ms = 1000, .now_ns = 77,
            .state = g_test_rand_int_range(0, 5),
            .tuning = ms_policy_tuning(),
        }, again;
        MsPolicyGuest g[MOST];
        MsDecision d[MOST], e[MOST];
        g_autofree MsPolicyGuest *back = NULL;
        g_autofree char *text = NULL, *text2 = NULL;
        size_t count = g_test_rand_int_range(1, MOST), n, found;

        for (size_t i = 0; i < count; i++) {
            random_guest(&g[i]);
        }
        text = ms_policy_dump(&input, g, count);
        g_assert_cmpint(ms_policy_parse(text, &again, &back, &found, NULL),
                        ==, 0);
        g_assert_cmpuint(found, ==, count);
        text2 = ms_policy_dump(&again, back, found);
        g_assert_cmpstr(text, ==, text2);
        n = ms_policy_run(&input, g, count, d, MOST);
        g_assert_cmpuint(ms_policy_run(&again, back, found, e, MOST), ==, n);
        g_assert_cmpmem(d, n * sizeof(d[0]), e, n * sizeof(e[0]));
    }
}

static void refused(const char *text, const char *words)
{
    MsPolicyInput input;
    MsPolicyGuest *guests;
    MemSchedMessage message;
    size_t count;

    g_assert_cmpint(ms_policy_parse(text, &input, &guests, &count, &message),
                    ==, -EINVAL);
    g_assert_nonnull(strstr(message.text, words));
    g_assert_cmpint(ms_policy_parse(text, &input, &guests, &count, NULL), ==,
                    -EINVAL);
}

static void test_nonsense_is_refused_by_line(void)
{
    refused("", "line 1 ");
    refused("snapshot 2\n", "line 1 ");
    refused("snapshot 1\nbudget\n", "line 2 of the snapshot is no name");
    refused("snapshot 1\nbudget -1\n", "line 2 ");
    refused("snapshot 1\nbudget 1x\n", "line 2 ");
    refused("snapshot 1\n\n# a word\nallocated 1\n",
            "line 4 of the snapshot has a name");
    refused("snapshot 1\nguest\nallocate 1\n", "line 3 ");
    refused("snapshot 1\nguest\nshares 4294967296\n", "too large");
    refused("snapshot 1\nguest\nfixed 2\n", "too large");
}

static void test_what_is_left_out_is_zero(void)
{
    MsPolicyInput input;
    g_autofree MsPolicyGuest *guests = NULL;
    size_t count;

    g_assert_cmpint(ms_policy_parse("snapshot 1\nguest\nguest\nmin 5\n",
                                    &input, &guests, &count, NULL), ==, 0);
    g_assert_cmpuint(count, ==, 2);
    g_assert_cmpuint(input.budget, ==, 0);
    g_assert_cmpuint(guests[0].min, ==, 0);
    g_assert_cmpuint(guests[1].min, ==, 5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/a-snapshot-replays", test_a_snapshot_replays);
    g_test_add_func("/nonsense-is-refused-by-line",
                    test_nonsense_is_refused_by_line);
    g_test_add_func("/what-is-left-out-is-zero",
                    test_what_is_left_out_is_zero);
    return g_test_run();
}
