/*
 * Entitlements, decisions, states and pressure, by hand and at random
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "policy.h"

#define MOST 40

/* No headroom, no band, no step: what the rules say, to the page. */
static MsPolicyInput exact(MemSchedPolicy policy, uint64_t budget,
                           const MsPolicyGuest *g, size_t count)
{
    MsPolicyInput input = {
        .policy = policy, .idle_tax_pct = 75, .budget = budget,
        .free = budget, .interval_ms = 1000, .tuning = ms_policy_tuning(),
    };

    input.tuning.headroom_permille = 0;
    input.tuning.headroom_pages = 0;
    input.tuning.dead_band_permille = 0;
    input.tuning.step_permille = 1000;
    input.tuning.least_pages = 1;
    for (size_t i = 0; i < count; i++) {
        input.free -= MIN(input.free, g[i].allocated);
    }
    return input;
}

static size_t run(MemSchedPolicy policy, uint64_t budget, MsPolicyGuest *g,
                  size_t count, MsDecision *decisions)
{
    MsPolicyInput input = exact(policy, budget, g, count);

    return ms_policy_run(&input, g, count, decisions, MOST);
}

static void test_shares_divide_what_there_is(void)
{
    MsPolicyGuest g[] = {
        { .max = 10000, .shares = 1000 }, { .max = 10000, .shares = 2000 },
        { .max = 10000, .shares = 3000 },
    };
    MsDecision d[MOST];

    run(MEMSCHED_POLICY_SHARES, 6000, g, 3, d);
    g_assert_cmpuint(g[0].entitlement, ==, 1000);
    g_assert_cmpuint(g[1].entitlement, ==, 2000);
    g_assert_cmpuint(g[2].entitlement, ==, 3000);
}

static void test_min_and_max_bound_what_shares_give(void)
{
    MsPolicyGuest g[] = {
        { .min = 2000, .max = 10000, .shares = 1 },
        { .max = 500, .shares = 1000 }, { .max = 10000, .shares = 1000 },
    };
    MsDecision d[MOST];

    run(MEMSCHED_POLICY_SHARES, 6000, g, 3, d);
    g_assert_cmpuint(g[0].entitlement, ==, 2000);
    g_assert_cmpuint(g[1].entitlement, ==, 500);
    g_assert_cmpuint(g[2].entitlement, ==, 3500);
}

static void test_static_gives_all_their_max_where_it_fits(void)
{
    MsPolicyGuest g[] = {
        { .max = 1000, .shares = 1 }, { .max = 3000, .shares = 1000 },
    };
    MsDecision d[MOST];

    run(MEMSCHED_POLICY_STATIC, 6000, g, 2, d);
    g_assert_cmpuint(g[0].entitlement, ==, 1000);
    g_assert_cmpuint(g[1].entitlement, ==, 3000);
    run(MEMSCHED_POLICY_STATIC, 2000, g, 2, d);
    g_assert_cmpuint(g[0].entitlement, ==, 500);
    g_assert_cmpuint(g[1].entitlement, ==, 1500);
}

/*
 * Two guests with the same shares, one idle, tax 75 %: an idle page costs four
 * active ones, so the active guest ends with four times as much.
 */
static void test_idle_tax_takes_from_who_does_not_use_it(void)
{
    MsPolicyGuest g[] = {
        { .max = 10000, .shares = 1000, .allocated = 2500, .active = 2500,
          .waiting = 1500 },
        { .max = 10000, .shares = 1000, .allocated = 2500, .active = 0 },
    };
    MsDecision d[MOST];
    size_t n = run(MEMSCHED_POLICY_IDLE_TAX, 5000, g, 2, d);

    g_assert_cmpuint(g[0].entitlement, ==, 4000);
    g_assert_cmpuint(g[1].entitlement, ==, 1000);
    g_assert_cmpuint(n, ==, 2);
    g_assert_false(d[0].give);
    g_assert_cmpuint(d[0].guest, ==, 1);
    g_assert_cmpuint(d[0].pages, ==, 1500);
    g_assert_true(d[1].give);
    g_assert_cmpuint(d[1].guest, ==, 0);
    g_assert_cmpuint(d[1].pages, ==, 1500);
}

/* Idle for 15 s: twice the tax; for long: as with a tax of 99 %. */
static void test_long_idle_memory_is_taxed_more(void)
{
    MsPolicyGuest g[] = {
        { .max = 10000, .shares = 1000, .allocated = 2500, .active = 2500,
          .waiting = 5000 },
        { .max = 10000, .shares = 1000, .allocated = 2500, .active = 0,
          .memory.idle_ns = 1 },
    };
    MsPolicyInput input = exact(MEMSCHED_POLICY_IDLE_TAX, 5000, g, 2);
    MsDecision d[MOST];

    input.now_ns = UINT64_C(15000000001);
    ms_policy_run(&input, g, 2, d, MOST);
    g_assert_cmpuint(g[1].entitlement, ==, 5000 / 8);
    input.now_ns = UINT64_C(7200000000000);
    ms_policy_run(&input, g, 2, d, MOST);
    g_assert_cmpuint(g[1].entitlement, ==, 5000 / 101);
    input.idle_tax_pct = 0;
    ms_policy_run(&input, g, 2, d, MOST);
    g_assert_cmpuint(g[1].entitlement, ==, 2500);
}

/* Headroom is for when there is enough. */
static void test_headroom_yields_to_use(void)
{
    MsPolicyGuest g[] = {
        { .max = 10000, .shares = 1000, .allocated = 2000, .active = 2000 },
        { .max = 10000, .shares = 1000, .allocated = 2500, .active = 2500,
          .waiting = 400 },
    };
    MsPolicyInput input = exact(MEMSCHED_POLICY_SHARES, 5000, g, 2);
    MsDecision d[MOST];

    input.tuning.headroom_permille = 500;
    ms_policy_run(&input, g, 2, d, MOST);
    g_assert_cmpuint(g[0].wanted, ==, 3000);
    g_assert_cmpuint(g[0].entitlement, ==, 2100);
    g_assert_cmpuint(g[1].entitlement, ==, 2900);
}

/* An idle guest is taxed; one that does not hold its part does not lack it. */
static void test_memory_that_nobody_holds_or_wants_is_lent(void)
{
    MsPolicyGuest g[] = {
        { .max = 10000, .shares = 1000, .allocated = 500, .active = 500 },
        { .max = 10000, .shares = 1000, .allocated = 3500, .active = 3500,
          .waiting = 1500 },
    };
    MsDecision d[MOST];

    run(MEMSCHED_POLICY_SHARES, 5000, g, 2, d);
    g_assert_cmpuint(g[0].entitlement, ==, 500);
    g_assert_cmpuint(g[1].entitlement, ==, 4500);
    /* It wants it back: shares decide. */
    g[0].waiting = 3000;
    run(MEMSCHED_POLICY_SHARES, 5000, g, 2, d);
    g_assert_cmpuint(g[0].entitlement, ==, 2500);
    g_assert_cmpuint(g[1].entitlement, ==, 2500);
}

/* Overloaded: in proportion to shares, and each has its min. */
static void test_overload_degrades_by_shares_and_keeps_mins(void)
{
    MsPolicyGuest g[] = {
        { .min = 1000, .max = 9000, .shares = 1, .allocated = 1000,
          .active = 1000, .waiting = 8000 },
        { .max = 9000, .shares = 1000, .allocated = 2000, .active = 2000,
          .waiting = 7000 },
        { .max = 9000, .shares = 3000, .allocated = 2000, .active = 2000,
          .waiting = 7000 },
    };
    MsDecision d[MOST];

    run(MEMSCHED_POLICY_IDLE_TAX, 5000, g, 3, d);
    g_assert_cmpuint(g[0].entitlement, ==, 1000);
    g_assert_cmpuint(g[1].entitlement, ==, 1000);
    g_assert_cmpuint(g[2].entitlement, ==, 3000);
}

static void test_static_policy_moves_nothing(void)
{
    MsPolicyGuest g[] = {
        { .max = 5000, .shares = 1, .allocated = 4900, .active = 0 },
        { .max = 5000, .shares = 1, .allocated = 100, .active = 100,
          .waiting = 1000 },
    };
    MsDecision d[MOST];

    g_assert_cmpuint(run(MEMSCHED_POLICY_STATIC, 5000, g, 2, d), ==, 0);
    g_assert_cmpint(g[0].reason, ==, MS_REASON_STATIC);
}

static void test_nobody_gives_while_free_memory_is_enough(void)
{
    MsPolicyGuest g[] = {
        { .max = 1000, .shares = 1000, .waiting = 100 },
        { .max = 9000, .shares = 1000, .allocated = 6000, .active = 6000 },
    };
    MsDecision d[MOST];
    size_t n = run(MEMSCHED_POLICY_SHARES, 6500, g, 2, d);

    g_assert_cmpuint(n, ==, 1);
    g_assert_true(d[0].give);
    g_assert_cmpuint(d[0].pages, ==, 100);
}

static void test_pressure_is_wanted_by_had(void)
{
    MsPolicyInput input = exact(MEMSCHED_POLICY_SHARES, 1000, NULL, 0);
    MsPolicyGuest g[] = {
        { .max = 900, .shares = 1, .allocated = 400, .active = 100 },
        { .max = 900, .shares = 1, .allocated = 400, .active = 400,
          .incoming = 200 },
        { .max = 900, .shares = 1, .waiting = 1 },
        { .max = 900, .shares = 1 },
    };
    MsDecision d[MOST];

    ms_policy_run(&input, g, 4, d, MOST);
    g_assert_cmpuint(g[0].pressure, ==, 25);
    g_assert_cmpuint(g[1].pressure, ==, 150);
    g_assert_cmpuint(g[2].pressure, ==, 10000);
    g_assert_cmpuint(g[3].pressure, ==, 100);
    g_assert_cmpuint(ms_policy_pressure(&input, g, 4), ==, 70);
}

static void test_host_state_has_hysteresis(void)
{
    MemSchedCondition s = MEMSCHED_CONDITION_HIGH;

    s = ms_policy_host_state(s, 300, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_HIGH);
    s = ms_policy_host_state(s, 299, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_CLEAR);
    s = ms_policy_host_state(s, 399, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_CLEAR);
    g_assert_cmpint(ms_policy_host_state(s, 400, 100), ==,
                    MEMSCHED_CONDITION_HIGH);
    s = ms_policy_host_state(s, 63, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_SOFT);
    s = ms_policy_host_state(s, 99, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_SOFT);
    s = ms_policy_host_state(s, 31, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_HARD);
    s = ms_policy_host_state(s, 47, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_HARD);
    s = ms_policy_host_state(s, 0, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_LOW);
    s = ms_policy_host_state(s, 23, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_LOW);
    s = ms_policy_host_state(s, 1000, 100);
    g_assert_cmpint(s, ==, MEMSCHED_CONDITION_HIGH);
}

/* ---- at random ---- */

static void check_sums(const MsPolicyInput *input, const MsPolicyGuest *g,
                       size_t count)
{
    uint64_t sum = 0, room = 0, mins = 0;

    for (size_t i = 0; i < count; i++) {
        g_assert_cmpuint(g[i].entitlement, >=, g[i].min);
        g_assert_cmpuint(g[i].entitlement, <=, MAX(g[i].max, g[i].min));
        sum += g[i].entitlement;
        mins += g[i].min;
        room += MAX(g[i].max, g[i].min) - g[i].entitlement;
    }
    if (mins <= input->budget - input->min_free) {
        g_assert_cmpuint(sum, <=, input->budget - input->min_free);
        /* All is given away that anybody may have. */
        g_assert_true(room == 0 ||
                      sum == input->budget - input->min_free);
    }
}

static void check_decisions(const MsPolicyInput *input,
                            const MsPolicyGuest *g, size_t count,
                            const MsDecision *d, size_t n)
{
    uint64_t give = 0, take = 0;

    for (size_t i = 0; i < n; i++) {
        const MsPolicyGuest *x = &g[d[i].guest];

        g_assert_cmpuint(d[i].pages, >, 0);
        g_assert_cmpint(x->reason, ==, d[i].reason);
        if (d[i].give) {
            give += d[i].pages;
            g_assert_cmpuint(x->allocated + d[i].pages, <=, x->entitlement);
        } else {
            take += d[i].pages;
            /* Donors before acceptors; entitlements, but for a part move. */
            g_assert_true(i == 0 || !d[i - 1].give);
            g_assert_cmpuint(x->allocated + input->tuning.least_pages, >,
                             x->entitlement + d[i].pages);
            g_assert_cmpuint(x->allocated, >=, x->min + d[i].pages);
        }
    }
    g_assert_cmpuint(give, <=, take + input->free);
}

/*
 * A guest with more shares, all else being the same, is entitled to no less;
 * two pages are rounding.
 */
static void check_monotone(const MsPolicyInput *input, MsPolicyGuest *g,
                           size_t count)
{
    unsigned i = g_test_rand_int_range(0, count);
    unsigned more = g_test_rand_int_range(0, 1 << 20);
    uint64_t before = g[i].entitlement;
    MsDecision d[MOST];

    g[i].shares += MIN(UINT32_MAX - g[i].shares, more);
    ms_policy_run(input, g, count, d, MOST);
    g_assert_cmpuint(g[i].entitlement + 2, >=, before);
}

static void test_random_snapshots_keep_mins_and_the_budget(void)
{
    for (unsigned round = 0; round < 3000; round++) {
        MsPolicyGuest g[MOST];
        MsDecision d[MOST];
        size_t count = g_test_rand_int_range(0, MOST + 1), n;
        MsPolicyInput input = {
            .policy = g_test_rand_int_range(0, 3),
            .idle_tax_pct = g_test_rand_int_range(0, 100),
            .budget = g_test_rand_int_range(1000, 1 << 30),
            .state = g_test_rand_int_range(0, 5),
            .interval_ms = g_test_rand_int_range(10, 10000),
            .tuning = ms_policy_tuning(),
        };

        input.min_free = input.budget / 64;
        input.free = input.budget;
        memset(g, 0, sizeof(g));
        for (size_t i = 0; i < count; i++) {
            uint64_t part = input.budget / count;

            g[i].max = g_test_rand_int_range(0, 1 << 28);
            g[i].min = MIN(g[i].max, (uint64_t)g_test_rand_int_range(0, 2) *
                           (part / 2));
            g[i].allocated = g_test_rand_int_range(0, part);
            g[i].active = g_test_rand_int_range(0, 1 << 20);
            g[i].waiting = g_test_rand_int_range(0, 100);
            g[i].incoming = g_test_rand_int_range(0, 1000);
            g[i].shares = g_test_rand_int();
            g[i].ballooned = g_test_rand_int_range(0, 2) *
                             g_test_rand_int_range(0, 1 << 20);
            g[i].memory.pressed_ticks = g_test_rand_int_range(0, 9);
            input.free -= g[i].allocated;
        }
        n = ms_policy_run(&input, g, count, d, MOST);
        check_sums(&input, g, count);
        check_decisions(&input, g, count, d, n);
        if (count > 0) {
            check_monotone(&input, g, count);
        }
    }
}

/* ---- settings ---- */

static void refused(MsPolicyInput input, const char *words)
{
    MemSchedMessage message = { "" };

    g_assert_cmpint(ms_policy_check(&input, &message), ==, -EINVAL);
    g_assert_nonnull(strstr(message.text, words));
    g_assert_cmpint(ms_policy_check(&input, NULL), ==, -EINVAL);
}

static void test_bad_settings_are_refused_by_name(void)
{
    MsPolicyInput good = exact(MEMSCHED_POLICY_IDLE_TAX, 1000, NULL, 0), bad;

    good.tuning = ms_policy_tuning();
    g_assert_cmpint(ms_policy_check(&good, NULL), ==, 0);
#define REFUSED(member, value, words) \
    do { \
        bad = good; \
        bad.member = value; \
        refused(bad, words); \
    } while (0)
    REFUSED(policy, 3, "no such policy");
    REFUSED(idle_tax_pct, 100, "idle tax");
    REFUSED(budget, 0, "pool");
    REFUSED(min_free, 1001, "min-free");
    REFUSED(interval_ms, 0, "interval");
    REFUSED(tuning.headroom_permille, 1001, "headroom");
    REFUSED(tuning.dead_band_permille, 1001, "dead band");
    REFUSED(tuning.step_permille, 0, "step");
    REFUSED(tuning.step_permille, 1001, "step");
    REFUSED(tuning.least_pages, 0, "least move");
    REFUSED(tuning.flushes_per_s, 0, "flushes");
    REFUSED(tuning.slow_windows, 0, "window");
    REFUSED(tuning.rest_ms, 0, "rest");
    REFUSED(tuning.rest_ms, 600001, "rest");
#undef REFUSED
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/shares-divide-what-there-is",
                    test_shares_divide_what_there_is);
    g_test_add_func("/min-and-max-bound-what-shares-give",
                    test_min_and_max_bound_what_shares_give);
    g_test_add_func("/static-gives-all-their-max-where-it-fits",
                    test_static_gives_all_their_max_where_it_fits);
    g_test_add_func("/idle-tax-takes-from-who-does-not-use-it",
                    test_idle_tax_takes_from_who_does_not_use_it);
    g_test_add_func("/long-idle-memory-is-taxed-more",
                    test_long_idle_memory_is_taxed_more);
    g_test_add_func("/headroom-yields-to-use", test_headroom_yields_to_use);
    g_test_add_func("/memory-that-nobody-holds-or-wants-is-lent",
                    test_memory_that_nobody_holds_or_wants_is_lent);
    g_test_add_func("/overload-degrades-by-shares-and-keeps-mins",
                    test_overload_degrades_by_shares_and_keeps_mins);
    g_test_add_func("/static-policy-moves-nothing",
                    test_static_policy_moves_nothing);
    g_test_add_func("/nobody-gives-while-free-memory-is-enough",
                    test_nobody_gives_while_free_memory_is_enough);
    g_test_add_func("/pressure-is-wanted-by-had",
                    test_pressure_is_wanted_by_had);
    g_test_add_func("/host-state-has-hysteresis",
                    test_host_state_has_hysteresis);
    g_test_add_func("/random-snapshots-keep-mins-and-the-budget",
                    test_random_snapshots_keep_mins_and_the_budget);
    g_test_add_func("/bad-settings-are-refused-by-name",
                    test_bad_settings_are_refused_by_name);
    return g_test_run();
}
