/*
 * Tests of the ledger: each clause of the grant rule, then random operations
 * against the two invariants and a model that recounts from scratch.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "ledger.h"

#define NO_MAX UINT64_MAX

static void check_two(const MsLedger *l, const MsAccount *a,
                      const MsAccount *b)
{
    const MsAccount *accounts[] = { a, b };

    g_assert_cmpstr(ms_ledger_check(l, accounts, 2), ==, NULL);
}

static void test_admit_fits_succeeds_and_too_much_is_refused(void)
{
    MsLedger l;
    MsAccount a, b, untouched;

    ms_ledger_init(&l, 1000);
    g_assert_cmpint(ms_ledger_admit(&l, &a, 600, NO_MAX, 0), ==, 0);
    memset(&b, 0x5a, sizeof(b));
    untouched = b;
    g_assert_cmpint(ms_ledger_admit(&l, &b, 401, NO_MAX, 0), ==, -ENOSPC);
    g_assert_cmpint(ms_ledger_admit(&l, &b, 10, 9, 0), ==, -EINVAL);
    g_assert_cmpint(memcmp(&b, &untouched, sizeof(b)), ==, 0);
    g_assert_cmpint(ms_ledger_admit(&l, &b, 400, NO_MAX, 100), ==, 0);
    g_assert_cmpuint(b.allowance, ==, 0);
    check_two(&l, &a, &b);
    ms_ledger_leave(&l, &b);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 400);
    check_two(&l, &a, NULL);
}

static void test_grant_below_min_always_succeeds(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant g;

    ms_ledger_init(&l, 1000);
    ms_ledger_admit(&l, &a, 600, NO_MAX, 0);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    /* b takes all slack and not a page more */
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 999, 0, 0, &g), ==, 400);
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 1, 0, 0, &g), ==, 0);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 700, 0, 0, &g), ==, 600);
    g_assert_cmpuint(l.free, ==, 0);
    check_two(&l, &a, &b);
}

static void test_claim_is_used_first_and_only_by_its_owner(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant g;

    ms_ledger_init(&l, 1000);
    ms_ledger_admit(&l, &a, 0, NO_MAX, 0);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    g_assert_cmpuint(ms_ledger_claim(&l, &b, 300), ==, 300);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 1000, 0, 0, &g), ==, 700);
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 400, 0, 0, &g), ==, 300);
    g_assert_cmpuint(g.from_claim, ==, 300);
    /* the unused part goes back to the claim */
    ms_ledger_ungrant(&l, &b, &g, 100);
    g_assert_cmpuint(b.claim, ==, 100);
    g_assert_cmpuint(g.pages, ==, 200);
    g_assert_cmpuint(g.from_claim, ==, 200);
    check_two(&l, &a, &b);
    g_assert_cmpuint(ms_ledger_unclaim(&l, &b, 1000), ==, 100);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 100);
    check_two(&l, &a, &b);
}

static void test_claim_only_grant_leaves_slack_alone(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant g;

    ms_ledger_init(&l, 100);
    ms_ledger_admit(&l, &a, 10, NO_MAX, 0);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    ms_ledger_claim(&l, &a, 5);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 50, MS_GRANT_CLAIM_ONLY, 0, &g),
                     ==, 5);
    check_two(&l, &a, &b);
}

static void test_keep_leaves_slack_for_others(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant g;

    ms_ledger_init(&l, 100);
    ms_ledger_admit(&l, &a, 10, NO_MAX, 0);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 90, 0, 30, &g), ==, 60);
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 90, 0, 0, &g), ==, 30);
    check_two(&l, &a, &b);
}

static void test_ahead_grant_stays_within_max(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant g;

    ms_ledger_init(&l, 100);
    ms_ledger_admit(&l, &a, 0, 20, 0);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 50, MS_GRANT_AHEAD, 0, &g), ==,
                     20);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 1, MS_GRANT_AHEAD, 0, &g), ==, 0);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 1, 0, 0, &g), ==, 1);
    g_assert_cmpuint(ms_ledger_room(&a), ==, 0);
    check_two(&l, &a, &b);
}

static void test_allowance_serves_a_giver_and_captures_refill_it(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant g;

    ms_ledger_init(&l, 100);
    ms_ledger_admit(&l, &a, 10, NO_MAX, 16);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    g_assert_cmpuint(a.allowance, ==, 16);
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 100, 0, 0, &g), ==, 74);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 10, 0, 0, &g), ==, 10);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 1, 0, 0, &g), ==, 0);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 20, MS_GRANT_ALLOWANCE, 0, &g),
                     ==, 16);
    g_assert_cmpuint(g.from_allowance, ==, 16);
    check_two(&l, &a, &b);
    /* unused pages refill it, and so do captures while a is above its min */
    ms_ledger_ungrant(&l, &a, &g, 4);
    g_assert_cmpuint(a.allowance, ==, 4);
    ms_ledger_capture(&l, &a, 8);
    g_assert_cmpuint(a.allowance, ==, 12);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 0);
    /* what is captured below min is a's own again: no slack for anybody */
    ms_ledger_capture(&l, &a, 10);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 0);
    g_assert_cmpuint(a.allowance, ==, 16);
    check_two(&l, &a, &b);
}

static void test_capture_below_min_never_becomes_a_claim(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant g;

    ms_ledger_init(&l, 100);
    ms_ledger_admit(&l, &a, 50, NO_MAX, 0);
    ms_ledger_admit(&l, &b, 50, NO_MAX, 0);
    ms_ledger_grant(&l, &a, 50, 0, 0, &g);
    ms_ledger_capture(&l, &a, 20);
    g_assert_cmpuint(ms_ledger_claim(&l, &b, 20), ==, 0);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 20, 0, 0, &g), ==, 20);
    check_two(&l, &a, &b);
}

static void test_limits_change_within_slack_only(void)
{
    MsLedger l;
    MsAccount a, b;

    ms_ledger_init(&l, 100);
    ms_ledger_admit(&l, &a, 50, 100, 0);
    ms_ledger_admit(&l, &b, 40, 100, 0);
    g_assert_cmpint(ms_ledger_set_limits(&l, &a, 61, 100), ==, -ENOSPC);
    g_assert_cmpint(ms_ledger_set_limits(&l, &a, 61, 60), ==, -EINVAL);
    g_assert_cmpuint(a.min, ==, 50);
    g_assert_cmpint(ms_ledger_set_limits(&l, &a, 60, 100), ==, 0);
    g_assert_cmpint(ms_ledger_set_limits(&l, &a, 0, 1), ==, 0);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 60);
    check_two(&l, &a, &b);
}

/* ---- random operations ---- */

#define ACCOUNTS 5

typedef struct Model {
    MsLedger ledger;
    MsAccount account[ACCOUNTS];
    bool open[ACCOUNTS];
    MsGrant grant[ACCOUNTS];
} Model;

/* The letter of the grant rule, recounted from nothing. */
static void model_check(Model *m, uint64_t budget)
{
    const MsAccount *accounts[ACCOUNTS];
    uint64_t sum = 0, promised = 0;

    for (int i = 0; i < ACCOUNTS; i++) {
        const MsAccount *a = &m->account[i];

        accounts[i] = m->open[i] ? a : NULL;
        if (m->open[i]) {
            sum += a->allocated;
            promised += a->claim + a->allowance;
            promised += a->min > a->allocated ? a->min - a->allocated : 0;
        }
    }
    g_assert_cmpstr(ms_ledger_check(&m->ledger, accounts, ACCOUNTS), ==, NULL);
    g_assert_cmpuint(m->ledger.budget, ==, budget);
    g_assert_cmpuint(m->ledger.free + sum, ==, budget);
    g_assert_cmpuint(m->ledger.free, >=, promised);
}

static void step_grant(Model *m, GRand *r, int i)
{
    MsAccount *a = &m->account[i];
    uint64_t want = g_rand_int_range(r, 0, 300);
    uint64_t keep = g_rand_boolean(r) ? 0 : g_rand_int_range(r, 0, 200);
    unsigned flags = g_rand_int_range(r, 0, 8);
    uint64_t entitled = a->claim, got;

    if (!(flags & MS_GRANT_CLAIM_ONLY)) {
        entitled = a->min > a->allocated
                   ? MAX(entitled, a->min - a->allocated) : entitled;
    }
    if (flags & MS_GRANT_AHEAD) {
        want = MIN(want, ms_ledger_room(a));
    }
    got = ms_ledger_grant(&m->ledger, a, want, flags, keep, &m->grant[i]);
    g_assert_cmpuint(got, <=, want);
    g_assert_cmpuint(got, ==, m->grant[i].pages);
    /* what the rule says is granted always, is */
    g_assert_cmpuint(got, >=, MIN(want, entitled));
}

static void model_step(Model *m, GRand *r)
{
    int i = g_rand_int_range(r, 0, ACCOUNTS);
    MsAccount *a = &m->account[i];
    uint64_t n = g_rand_int_range(r, 0, 400);

    if (!m->open[i]) {
        uint64_t max = n + g_rand_int_range(r, 0, 500);

        m->open[i] = ms_ledger_admit(&m->ledger, a, n, max,
                                     g_rand_int_range(r, 0, 64)) == 0;
        m->grant[i] = (MsGrant) { 0 };
        return;
    }
    switch (g_rand_int_range(r, 0, 8)) {
    case 0:
    case 1:
    case 2:
        step_grant(m, r, i);
        break;
    case 3:
        ms_ledger_ungrant(&m->ledger, a, &m->grant[i], n);
        m->grant[i] = (MsGrant) { 0 };
        break;
    case 4:
        ms_ledger_capture(&m->ledger, a, MIN(n, a->allocated));
        m->grant[i] = (MsGrant) { 0 };
        break;
    case 5:
        g_assert_cmpuint(ms_ledger_claim(&m->ledger, a, n), <=, n);
        break;
    case 6:
        ms_ledger_unclaim(&m->ledger, a, n);
        break;
    case 7:
        if (g_rand_int_range(r, 0, 4)) {
            ms_ledger_set_limits(&m->ledger, a, n,
                                 g_rand_int_range(r, 0, 900));
        } else {
            ms_ledger_capture(&m->ledger, a, a->allocated);
            ms_ledger_leave(&m->ledger, a);
            m->open[i] = false;
        }
        break;
    }
}

static void test_random_operations_keep_sum_and_safe(void)
{
    guint32 seed = g_test_rand_int();
    GRand *r = g_rand_new_with_seed(seed);

    g_test_message("seed %u", seed);
    for (int round = 0; round < 200; round++) {
        uint64_t budget = g_rand_int_range(r, 1, 2000);
        Model m = { 0 };

        ms_ledger_init(&m.ledger, budget);
        for (int step = 0; step < 1000; step++) {
            model_step(&m, r);
            model_check(&m, budget);
        }
    }
    g_rand_free(r);
}

static void test_held_pages_come_out_of_slack_alone(void)
{
    MsLedger l;
    MsAccount a, b;

    ms_ledger_init(&l, 1000);
    ms_ledger_admit(&l, &a, 300, NO_MAX, 0);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    g_assert_cmpuint(ms_ledger_hold(&l, 600), ==, 600);
    g_assert_cmpuint(ms_ledger_hold(&l, 600), ==, 100);
    g_assert_cmpuint(l.held, ==, 700);
    check_two(&l, &a, &b);
    g_assert_true(ms_ledger_would_grant(&l, &a, 0));
    g_assert_false(ms_ledger_would_grant(&l, &b, 0));
    ms_ledger_unhold(&l, 1);
    g_assert_true(ms_ledger_would_grant(&l, &b, 0));
    check_two(&l, &a, &b);
    ms_ledger_unhold(&l, 699);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 700);
    l.held = 1;
    g_assert_nonnull(ms_ledger_check(&l, NULL, 0));
}

static void test_ceiling_bounds_what_comes_out_of_slack(void)
{
    MsLedger l;
    MsAccount a, b;
    MsGrant grant;

    ms_ledger_init(&l, 1000);
    ms_ledger_admit(&l, &a, 100, NO_MAX, 10);
    ms_ledger_admit(&l, &b, 0, NO_MAX, 0);
    a.ceiling = 150;
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 500, 0, 0, &grant), ==, 150);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 1, 0, 0, &grant), ==, 0);
    g_assert_false(ms_ledger_would_grant(&l, &a, 0));
    /* what was promised to it is not concerned */
    g_assert_cmpuint(ms_ledger_claim(&l, &a, 20), ==, 20);
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 500, MS_GRANT_ALLOWANCE, 0,
                                     &grant), ==, 30);
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 500, 0, 0, &grant), ==, 500);
    a.ceiling = 0;
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 7, 0, 0, &grant), ==, 7);
    check_two(&l, &a, &b);
}

static void test_parity_comes_out_of_slack_alone(void)
{
    const MsAccount *both[2];
    MsLedger l;
    MsAccount a, b;
    MsGrant grant;

    ms_ledger_init(&l, 1000);
    g_assert_cmpint(ms_ledger_admit(&l, &a, 300, NO_MAX, 0), ==, 0);
    g_assert_cmpint(ms_ledger_admit(&l, &b, 100, NO_MAX, 0), ==, 0);
    g_assert_cmpuint(ms_ledger_claim(&l, &b, 50), ==, 50);
    g_assert_cmpint(ms_ledger_parity(&l, &a, 551), ==, -ENOSPC);
    g_assert_cmpuint(l.parity + a.parity, ==, 0);
    g_assert_cmpint(ms_ledger_parity(&l, &a, 550), ==, 0);
    g_assert_cmpuint(l.free, ==, 450);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 0);
    check_two(&l, &a, &b);
    /* What was promised is still there. */
    g_assert_cmpuint(ms_ledger_grant(&l, &a, 400, 0, 0, &grant), ==, 300);
    g_assert_cmpuint(ms_ledger_grant(&l, &b, 400, 0, 0, &grant), ==, 150);
    check_two(&l, &a, &b);
    ms_ledger_unparity(&l, &a, 550);
    g_assert_cmpuint(ms_ledger_slack(&l), ==, 550);
    a.parity = 1;
    both[0] = &a;
    both[1] = &b;
    g_assert_nonnull(ms_ledger_check(&l, both, 2));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ledger/admit",
                    test_admit_fits_succeeds_and_too_much_is_refused);
    g_test_add_func("/ledger/below-min", test_grant_below_min_always_succeeds);
    g_test_add_func("/ledger/claim-first",
                    test_claim_is_used_first_and_only_by_its_owner);
    g_test_add_func("/ledger/claim-only",
                    test_claim_only_grant_leaves_slack_alone);
    g_test_add_func("/ledger/keep", test_keep_leaves_slack_for_others);
    g_test_add_func("/ledger/ahead", test_ahead_grant_stays_within_max);
    g_test_add_func("/ledger/allowance",
                    test_allowance_serves_a_giver_and_captures_refill_it);
    g_test_add_func("/ledger/capture-below-min",
                    test_capture_below_min_never_becomes_a_claim);
    g_test_add_func("/ledger/limits", test_limits_change_within_slack_only);
    g_test_add_func("/ledger/held", test_held_pages_come_out_of_slack_alone);
    g_test_add_func("/ledger/ceiling",
                    test_ceiling_bounds_what_comes_out_of_slack);
    g_test_add_func("/ledger/parity", test_parity_comes_out_of_slack_alone);
    g_test_add_func("/ledger/random",
                    test_random_operations_keep_sum_and_safe);
    return g_test_run();
}
