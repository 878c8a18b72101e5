/*
 * Decisions: which filter stops what, in which state; and a small host on which
 * they are carried out
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "policy.h"

#define MOST  40
#define MIB   UINT64_C(256)     /* pages */
#define TICKS 300

static MsPolicyInput host(uint64_t budget, uint64_t free)
{
    return (MsPolicyInput) {
        .policy = MEMSCHED_POLICY_IDLE_TAX, .idle_tax_pct = 75,
        .budget = budget, .free = free, .min_free = budget / 64,
        .interval_ms = 1000, .now_ns = 1000000000,
        .state = MEMSCHED_CONDITION_CLEAR, .tuning = ms_policy_tuning(),
    };
}

/* An idle donor of 1 GiB, and somebody who waits for @lack of its memory. */
static void pair(MsPolicyGuest g[2], uint64_t lack)
{
    memset(g, 0, 2 * sizeof(g[0]));
    g[0] = (MsPolicyGuest) {
        .max = 1024 * MIB, .shares = 1000, .allocated = 1024 * MIB,
        .active = 64 * MIB,
    };
    g[1] = (MsPolicyGuest) {
        .max = 1024 * MIB, .shares = 1000, .allocated = 256 * MIB,
        .active = 256 * MIB, .waiting = lack,
    };
}

static uint64_t taken(const MsDecision *d, size_t n, bool give)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += d[i].give == give ? d[i].pages : 0;
    }
    return sum;
}

static void test_a_step_bounds_takes_and_not_gives(void)
{
    MsPolicyInput input = host(1344 * MIB, 64 * MIB);
    MsPolicyGuest g[2];
    MsDecision d[2];
    size_t n;

    pair(g, 400 * MIB);
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpint(d[0].reason, ==, MS_REASON_IDLE);
    g_assert_cmpint(d[1].reason, ==, MS_REASON_WAITING);
    /* An eighth of 1 GiB, in whole frames; twice of it in soft. */
    g_assert_cmpuint(taken(d, n, false), ==, 128 * MIB);
    g_assert_cmpuint(taken(d, n, true), ==, (128 + 64 - 21) * MIB);
    input.state = MEMSCHED_CONDITION_SOFT;
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(taken(d, n, false), ==, 256 * MIB);
    input.state = MEMSCHED_CONDITION_HARD;
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(taken(d, n, false), >, 350 * MIB);
    g_assert_cmpuint(taken(d, n, true), >, 398 * MIB);
}

static void test_the_budget_of_flushes_bounds_takes_until_hard(void)
{
    MsPolicyInput input = host(1344 * MIB, 64 * MIB);
    MsPolicyGuest g[2];
    MsDecision d[2];
    size_t n;

    input.tuning.flushes_per_s = 20;
    pair(g, 400 * MIB);
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(taken(d, n, false), ==, 20 * MIB);
    input.state = MEMSCHED_CONDITION_HARD;
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(taken(d, n, false), >, 300 * MIB);
}

static void test_nothing_moves_inside_of_the_dead_band(void)
{
    MsPolicyInput input = host(1280 * MIB, 0);
    MsPolicyGuest g[2];
    MsDecision d[2];
    size_t n;

    input.min_free = 0;
    input.policy = MEMSCHED_POLICY_SHARES;
    pair(g, 2 * MIB);
    g[0].allocated = 655 * MIB;
    g[1].allocated = 625 * MIB;
    g[1].active = 625 * MIB;
    g[1].incoming = 300 * MIB;
    g[1].waiting = 0;
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(n, ==, 0);
    g_assert_cmpint(g[0].reason, ==, MS_REASON_SMALL);
    g_assert_cmpint(g[1].reason, ==, MS_REASON_NO_MEMORY);
    /* But for who waits. */
    g[1].incoming = 0;
    g[1].waiting = 300 * MIB;
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(taken(d, n, false), ==, 16 * MIB);
    input.state = MEMSCHED_CONDITION_HARD;
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(taken(d, n, false), ==, 14 * MIB);
}

static void test_takes_are_whole_frames(void)
{
    MsPolicyInput input = host(1280 * MIB, 0);
    MsPolicyGuest g[2];
    MsDecision d[2];
    size_t n;

    input.min_free = 0;
    pair(g, 3);
    n = ms_policy_run(&input, g, 2, d, 2);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpuint(d[0].pages, ==, MEMSCHED_PAGES_PER_FRAME);
    g_assert_cmpuint(d[1].pages, ==, 3);
}

static void test_who_cannot_or_does_not_give_is_not_asked(void)
{
    MsPolicyInput input = host(1280 * MIB, 0);
    MsPolicyGuest g[2];
    MsDecision d[2];

    pair(g, 100 * MIB);
    g[0].fixed = true;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 0);
    g_assert_cmpint(g[0].reason, ==, MS_REASON_FIXED);
    g[0].fixed = false;
    g[0].memory.rest_ns = input.now_ns + 1;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 0);
    g_assert_cmpint(g[0].reason, ==, MS_REASON_RESTING);
    input.state = MEMSCHED_CONDITION_HARD;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 2);
    input.state = MEMSCHED_CONDITION_CLEAR;
    g[0].memory.rest_ns = 0;
    g[0].memory.unresponsive = true;
    g[0].memory.retry_ns = input.now_ns + 1;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 0);
    g_assert_cmpint(g[0].reason, ==, MS_REASON_UNRESPONSIVE);
    /* Its time has come: it is asked for a little, and nobody counts on it. */
    g[0].memory.retry_ns = input.now_ns;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 1);
    g_assert_cmpint(d[0].reason, ==, MS_REASON_PROBE);
    g_assert_cmpuint(d[0].pages, ==, 8 * MIB);
}

static void test_what_is_under_way_is_not_asked_for_again(void)
{
    MsPolicyInput input = host(1344 * MIB, 64 * MIB);
    MsPolicyGuest g[2];
    MsDecision d[2];

    pair(g, 100 * MIB);
    g[0].outgoing = 100 * MIB;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 1);
    g_assert_true(d[0].give);
    g_assert_cmpuint(d[0].pages, ==, 100 * MIB);
}

static void test_the_pool_is_filled_ahead_of_growth(void)
{
    MsPolicyInput input = host(1344 * MIB, 64 * MIB);
    MsPolicyGuest g[2];
    MsDecision d[2];

    pair(g, 0);
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 0);
    g[1].memory.growth = 50 * MIB;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 1);
    g_assert_false(d[0].give);
    /* Within a frame. */
    g_assert_cmpuint(d[0].pages, >, (100 - 64 + 21 - 2) * MIB);
    g_assert_cmpuint(d[0].pages, <=, (100 - 64 + 24) * MIB);
}

/* Pressed for long, it wants more and more; what it is entitled to, at once. */
static void test_pressure_gives_all_that_is_entitled_at_once(void)
{
    MsPolicyInput input = host(2048 * MIB, 768 * MIB);
    MsPolicyGuest g[2];
    MsDecision d[2];

    pair(g, 0);
    g[1].ballooned = 768 * MIB;
    g[1].memory.pressed_ticks = 1;
    input.state = MEMSCHED_CONDITION_HIGH;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 1);
    g_assert_true(d[0].give);
    g_assert_cmpint(d[0].reason, ==, MS_REASON_PRESSURE);
    g_assert_cmpuint(d[0].pages, >, 512 * MIB);
    g_assert_cmpuint(g[1].allocated + d[0].pages, <=, g[1].entitlement);
}

static void test_plenty_lets_balloons_go(void)
{
    MsPolicyInput input = host(2048 * MIB, 1024 * MIB);
    MsPolicyGuest g[2];
    MsDecision d[2];

    pair(g, 0);
    g[1].allocated = g[1].active = 16 * MIB;
    g[1].ballooned = 512 * MIB;
    input.state = MEMSCHED_CONDITION_HIGH;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 1);
    g_assert_cmpint(d[0].reason, ==, MS_REASON_RETURN);
    /* min-free, a 64th of the pool, is nobody's. */
    g_assert_cmpuint(d[0].pages, ==, (512 - 32) * MIB);
    input.state = MEMSCHED_CONDITION_CLEAR;
    g_assert_cmpuint(ms_policy_run(&input, g, 2, d, 2), ==, 0);
}

static void test_low_gives_only_what_mins_guarantee(void)
{
    MsPolicyInput input = host(1312 * MIB, MIB);
    MsPolicyGuest g[3];
    MsDecision d[3];
    size_t n;

    pair(g, 100 * MIB);
    g[2] = (MsPolicyGuest) {
        .min = 32 * MIB, .max = 64 * MIB, .shares = 1, .allocated = 31 * MIB,
        .active = 31 * MIB, .waiting = 1,
    };
    input.state = MEMSCHED_CONDITION_LOW;
    n = ms_policy_run(&input, g, 3, d, 3);
    g_assert_cmpuint(n, ==, 2);
    g_assert_false(d[0].give);
    g_assert_cmpuint(d[1].guest, ==, 2);
    g_assert_cmpint(d[1].reason, ==, MS_REASON_BELOW_MIN);
    g_assert_cmpint(g[1].reason, ==, MS_REASON_NO_MEMORY);
}

/* ---- a small host ---- */

typedef struct Host {
    MsPolicyInput input;
    MsPolicyGuest g[MOST];
    uint64_t demand[MOST];
    uint64_t free;
    size_t count;
} Host;

/* What is kept for mins, as the grant rule keeps it. */
static uint64_t need(const Host *h)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < h->count; i++) {
        sum += h->g[i].min - MIN(h->g[i].min, h->g[i].allocated);
    }
    return sum;
}

/* Touches: up to what it wants, what its size allows, and what is granted. */
static void touch(Host *h)
{
    for (size_t i = 0; i < h->count; i++) {
        MsPolicyGuest *g = &h->g[i];
        uint64_t size = g->max - g->ballooned;
        uint64_t want = MIN(h->demand[i], size);
        uint64_t more = want > g->allocated ? want - g->allocated : 0;
        uint64_t to_min = g->min - MIN(g->min, g->allocated);
        uint64_t got = MIN(more, to_min), keep;

        g->allocated += got;
        h->free -= got;
        more -= got;
        keep = need(h) + h->input.min_free;
        got = MIN(more, h->free - MIN(h->free, keep));
        g->allocated += got;
        h->free -= got;
        g->waiting = more - got;
        g->active = MIN(MIN(h->demand[i], size), g->allocated);
    }
}

static void carry_out(Host *h, const MsDecision *d, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        MsPolicyGuest *g = &h->g[d[i].guest];

        if (d[i].give) {
            g->ballooned -= MIN(d[i].pages, g->ballooned);
        } else {
            g_assert_cmpuint(g->allocated, >=, d[i].pages + g->min);
            g->ballooned = g->max - (g->allocated - d[i].pages);
            g->allocated -= d[i].pages;
            g->captured += d[i].pages;
            h->free += d[i].pages;
        }
    }
}

/* Pages that this tick's decisions take. */
static uint64_t step(Host *h)
{
    MsDecision d[MOST];
    uint64_t held = 0;
    size_t n;

    touch(h);
    for (size_t i = 0; i < h->count; i++) {
        held += h->g[i].allocated;
    }
    g_assert_cmpuint(held + h->free, ==, h->input.budget);
    h->input.free = h->free - MIN(h->free, need(h));
    h->input.now_ns += (uint64_t)h->input.interval_ms * 1000000;
    h->input.state = ms_policy_host_state(h->input.state, h->input.free,
                                          h->input.min_free);
    ms_policy_watch(&h->input, h->g, h->count);
    n = ms_policy_run(&h->input, h->g, h->count, d, MOST);
    carry_out(h, d, n);
    return taken(d, n, false);
}

static void random_host(Host *h)
{
    uint64_t mins = 0;

    memset(h, 0, sizeof(*h));
    h->count = g_test_rand_int_range(2, MOST + 1);
    h->input = host(h->count * 512 * MIB, h->count * 512 * MIB);
    h->free = h->input.free;
    h->input.idle_tax_pct = g_test_rand_int_range(0, 100);
    h->input.policy = g_test_rand_int_range(1, 3);
    for (size_t i = 0; i < h->count; i++) {
        MsPolicyGuest *g = &h->g[i];

        g->max = g_test_rand_int_range(256, 1024) * MIB;
        g->min = g_test_rand_int_range(0, 128) * MIB;
        g->shares = g_test_rand_int_range(1, 10000);
        mins += g->min;
    }
    g_assert_cmpuint(mins, <, h->input.budget / 2);
}

static void change_demand(Host *h)
{
    for (size_t i = 0; i < h->count; i++) {
        h->demand[i] = g_test_rand_int_range(0, (int)h->g[i].max);
    }
}

/*
 * Whatever was before, demand that stays the same ends in quiet: after TICKS
 * nothing is taken any more, and everybody has its min.  Most of that time the
 * tax on what stays idle still rises.
 */
static void test_constant_demand_ends_in_quiet(void)
{
    for (unsigned round = 0; round < 50; round++) {
        Host h;

        random_host(&h);
        for (unsigned change = 0; change < 4; change++) {
            change_demand(&h);
            for (unsigned i = 0; i < TICKS; i++) {
                step(&h);
            }
            for (unsigned i = 0; i < 30; i++) {
                g_assert_cmpuint(step(&h), ==, 0);
            }
            for (size_t i = 0; i < h.count; i++) {
                g_assert_cmpuint(h.g[i].allocated, >=,
                                 MIN(h.demand[i], h.g[i].min));
            }
        }
    }
}

/*
 * Demand that fits, with the headroom that guests keep, is met in K ticks: a
 * step of an eighth halves what is held too much in five.  Shares differ by
 * less than the tax: else they may keep idle memory from one who has few.
 */
static void test_demand_that_fits_is_met_in_time(void)
{
    enum { K = 30 };

    for (unsigned round = 0; round < 100; round++) {
        Host h;
        uint64_t sum = 0;

        random_host(&h);
        h.input.policy = MEMSCHED_POLICY_IDLE_TAX;
        h.input.idle_tax_pct = 99;
        for (size_t i = 0; i < h.count; i++) {
            h.g[i].shares = g_test_rand_int_range(1000, 8000);
        }
        change_demand(&h);
        for (unsigned i = 0; i < 60; i++) {
            step(&h);
        }
        change_demand(&h);
        for (size_t i = 0; i < h.count; i++) {
            sum += h.demand[i];
        }
        for (size_t i = 0; i < h.count; i++) {
            h.demand[i] = h.demand[i] * MIN(h.input.budget * 3 / 4, sum) / sum;
        }
        for (unsigned i = 0; i < K; i++) {
            step(&h);
        }
        touch(&h);
        for (size_t i = 0; i < h.count; i++) {
            g_assert_cmpuint(h.g[i].allocated, >=, h.demand[i]);
        }
    }
}

/* Mins hold in every tick of demand that never rests. */
static void test_mins_hold_under_random_demand(void)
{
    for (unsigned round = 0; round < 50; round++) {
        Host h;

        random_host(&h);
        for (unsigned t = 0; t < TICKS; t++) {
            if (g_test_rand_int_range(0, 5) == 0) {
                change_demand(&h);
            }
            step(&h);
            touch(&h);
            for (size_t i = 0; i < h.count; i++) {
                g_assert_cmpuint(h.g[i].allocated, >=,
                                 MIN(MIN(h.demand[i], h.g[i].min),
                                     h.g[i].max));
            }
        }
    }
}

/* Demand that trembles by 1 % moves nothing once the host has settled. */
static void test_trembling_demand_moves_nothing(void)
{
    for (unsigned round = 0; round < 50; round++) {
        uint64_t base[MOST], moved = 0, pool;
        Host h;

        random_host(&h);
        change_demand(&h);
        pool = h.input.budget;
        memcpy(base, h.demand, sizeof(base));
        for (unsigned t = 0; t < TICKS; t++) {
            uint64_t took;

            for (size_t i = 0; i < h.count; i++) {
                h.demand[i] = base[i] * g_test_rand_int_range(990, 1001) /
                              1000;
            }
            took = step(&h);
            moved += t >= TICKS - 100 ? took : 0;
        }
        /* A hundred ticks; less than a two-hundredth of the pool in all. */
        g_assert_cmpuint(moved, <, pool / 200);
    }
}

/* As seen: two have idle memory; the touches of a third get a page each. */
static void test_who_grows_out_of_a_short_pool_gets_idle_memory(void)
{
    MsPolicyInput input = host(909 * MIB, 9 * MIB);
    MsPolicyGuest g[3] = {
        { .allocated = 372 * MIB, .active = 88 * MIB },
        { .allocated = 373 * MIB, .active = 78 * MIB },
        { .allocated = 150 * MIB, .active = 79 * MIB },
    };
    MsDecision d[3];
    size_t n;

    input.state = MEMSCHED_CONDITION_SOFT;
    for (unsigned i = 0; i < 3; i++) {
        g[i].max = 512 * MIB;
        g[i].min = 96 * MIB;
        g[i].shares = 1000;
    }
    ms_policy_watch(&input, g, 3);
    g[2].allocated += MIB / 4;
    ms_policy_watch(&input, g, 3);
    n = ms_policy_run(&input, g, 3, d, 3);
    g_assert_cmpuint(g[2].entitlement, >, g[2].allocated + 8 * MIB);
    g_assert_cmpuint(taken(d, n, false), >=, 4 * MIB);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/a-step-bounds-takes-and-not-gives",
                    test_a_step_bounds_takes_and_not_gives);
    g_test_add_func("/the-budget-of-flushes-bounds-takes-until-hard",
                    test_the_budget_of_flushes_bounds_takes_until_hard);
    g_test_add_func("/nothing-moves-inside-of-the-dead-band",
                    test_nothing_moves_inside_of_the_dead_band);
    g_test_add_func("/takes-are-whole-frames", test_takes_are_whole_frames);
    g_test_add_func("/who-cannot-or-does-not-give-is-not-asked",
                    test_who_cannot_or_does_not_give_is_not_asked);
    g_test_add_func("/what-is-under-way-is-not-asked-for-again",
                    test_what_is_under_way_is_not_asked_for_again);
    g_test_add_func("/the-pool-is-filled-ahead-of-growth",
                    test_the_pool_is_filled_ahead_of_growth);
    g_test_add_func("/pressure-gives-all-that-is-entitled-at-once",
                    test_pressure_gives_all_that_is_entitled_at_once);
    g_test_add_func("/plenty-lets-balloons-go", test_plenty_lets_balloons_go);
    g_test_add_func("/low-gives-only-what-mins-guarantee",
                    test_low_gives_only_what_mins_guarantee);
    g_test_add_func("/constant-demand-ends-in-quiet",
                    test_constant_demand_ends_in_quiet);
    g_test_add_func("/demand-that-fits-is-met-in-time",
                    test_demand_that_fits_is_met_in_time);
    g_test_add_func("/mins-hold-under-random-demand",
                    test_mins_hold_under_random_demand);
    g_test_add_func("/who-grows-out-of-a-short-pool-gets-idle-memory",
                    test_who_grows_out_of_a_short_pool_gets_idle_memory);
    g_test_add_func("/trembling-demand-moves-nothing",
                    test_trembling_demand_moves_nothing);
    return g_test_run();
}
