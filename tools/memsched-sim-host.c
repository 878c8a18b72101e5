/*
 * The simulated host: guests that touch, wait, give, and lie
 *
 * Owns the model.  A second of it:
 *
 *     demand    each guest wants a number of pages
 *     touch     it grows to what it wants, as far as its balloon lets it and
 *               the grant rule grants: its min always, its claim, and above
 *               that what leaves min_free and the mins of all others free
 *     score     what was wanted, what was there
 *     give      guests that are asked give, at their own rate; at a quarter of
 *               it once they have to reclaim what they use
 *     tick      the policy, the same code as in the process, sees a snapshot of
 *               what guests say, and its decisions become requests and claims
 *
 * A guest shrinks only when asked: memory that it does not use any more stays
 * with it, as on a real host.  One that uses more than it holds is short: it
 * would swap or drop caches.
 *
 * What this model leaves out: the time that moves take (a tick moves what it
 * decided in the next second, at the guest's rate), huge pages, the wrong
 * estimates of honest guests (they are right to 2 %).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "memsched-sim.h"

/* A claim that nobody uses lapses. */
#define CLAIM_LIFE_S 30u
/* A guest that lied about idle memory deflates when so much is missing. */
#define OOM_PART 10u
/* Reclaiming what is in use is so many times slower. */
#define RECLAIM_SLOWER 4u

static SimGuest *guest_at(const SimRun *run, unsigned i)
{
    return &g_array_index(run->scenario->guests, SimGuest, i);
}

static uint64_t above(uint64_t x, uint64_t y)
{
    return x > y ? x - y : 0;
}

static uint64_t size_of(const SimGuest *g)
{
    return MAX(above(g->ram, g->ballooned), g->allocated);
}

/* Kept free, whoever asks: mins that are not there yet, and claims. */
static uint64_t reserved(const SimRun *run)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < run->alive; i++) {
        const SimGuest *g = guest_at(run, run->index[i]);

        sum += above(g->min, g->allocated) + g->claim;
    }
    return sum;
}

/* ---- life ---- */

static void end(SimRun *run, SimGuest *g)
{
    run->free += g->allocated;
    g->allocated = g->ballooned = g->outgoing = g->claim = g->waiting = 0;
    g->wants = 0;
    memset(&g->memory, 0, sizeof(g->memory));
}

/* What each would have if the pool were divided once, by RAM. */
static void divide_once(SimRun *run)
{
    MsPolicyInput input = run->scenario->input;

    input.policy = MEMSCHED_POLICY_STATIC;
    input.min_free = 0;
    for (size_t i = 0; i < run->alive; i++) {
        const SimGuest *g = guest_at(run, run->index[i]);

        run->snapshot[i] = (MsPolicyGuest) { .max = g->ram, .min = g->min };
    }
    ms_policy_run(&input, run->snapshot, run->alive, run->decisions, 0);
    for (size_t i = 0; i < run->alive; i++) {
        run->fixed[run->index[i]] = run->snapshot[i].entitlement;
    }
}

static void live(SimRun *run)
{
    bool changed = false;

    run->alive = 0;
    for (guint i = 0; i < run->scenario->guests->len; i++) {
        SimGuest *g = guest_at(run, i);
        bool alive = run->now_s >= g->start_s && run->now_s < g->stop_s;

        changed |= alive != g->alive;
        if (g->alive && !alive) {
            end(run, g);
        }
        g->alive = alive;
        if (alive) {
            sim_demand(g, run->now_s, run->scenario->duration_s);
            run->index[run->alive++] = i;
        }
    }
    if (changed) {
        divide_once(run);
    }
}

/* ---- touch ---- */

/* @kept: what stays free of all others, claims and mins, and min_free. */
static void touch_one(SimRun *run, SimGuest *g, uint64_t *kept)
{
    uint64_t more = above(MIN(g->wants, size_of(g)), g->allocated);
    uint64_t got = MIN(more, above(g->min, g->allocated)), n;

    *kept -= got;
    n = MIN(more - got, g->claim);
    g->claim -= n;
    *kept -= n;
    got += n;
    got += MIN(more - got, above(run->free - got, *kept));
    g->allocated += got;
    run->free -= got;
    g->waiting = more - got;
}

static void touch(SimRun *run)
{
    uint64_t kept = reserved(run) + run->scenario->input.min_free;

    /* Nobody is always the first. */
    for (size_t i = 0; i < run->alive; i++) {
        size_t turn = (i + run->now_s) % run->alive;
        SimGuest *g = guest_at(run, run->index[turn]);

        touch_one(run, g, &kept);
        if (g->claim > 0 && ++g->claim_age > CLAIM_LIFE_S) {
            kept -= g->claim;
            g->claim = 0;
        }
    }
}

/* ---- give ---- */

static void deflate_on_oom(SimRun *run, SimGuest *g)
{
    uint64_t missing = above(g->wants, size_of(g));

    if (g->answer == SIM_ANSWER_LIE_IDLE && missing > g->wants / OOM_PART) {
        g->oom_deflates++;
        g->ballooned -= MIN(g->ballooned, missing);
        g->outgoing = 0;
    }
}

static void give(SimRun *run, SimGuest *g)
{
    uint64_t idle = above(g->allocated, g->wants), n;

    if (g->memory.unresponsive &&
        run->now_s * 1000000000 < g->memory.retry_ns) {
        /* Nobody counts on it any more: it is not asked either. */
        g->outgoing = 0;
    }
    if (g->outgoing == 0 || g->answer == SIM_ANSWER_REFUSE) {
        return;
    }
    n = MIN(g->outgoing, g->rate);
    if (n > idle) {
        n = MAX(idle, n / RECLAIM_SLOWER);
    }
    n = MIN(n, above(g->allocated, g->min));
    g->allocated -= n;
    g->captured += n;
    g->outgoing -= n;
    run->free += n;
    run->result.moved += n;
    /* Holes are given first; what is captured is what moves. */
    g->ballooned = MAX(g->ballooned, g->ram - g->allocated);
}

/* ---- tick ---- */

static uint64_t says_active(const SimRun *run, SimGuest *g)
{
    uint64_t used = MIN(g->wants, g->allocated);

    if (g->answer == SIM_ANSWER_LIE_ACTIVE) {
        return g->allocated;
    }
    if (g->answer == SIM_ANSWER_LIE_IDLE) {
        return 0;
    }
    return used - used * g_rand_int_range(g->random, 0, 20) / 1000;
}

static void look(SimRun *run)
{
    for (size_t i = 0; i < run->alive; i++) {
        SimGuest *g = guest_at(run, run->index[i]);

        run->snapshot[i] = (MsPolicyGuest) {
            .allocated = g->allocated, .min = g->min, .max = g->ram,
            .active = says_active(run, g), .waiting = g->waiting,
            .shares = g->shares, .ballooned = g->ballooned,
            .outgoing = g->outgoing, .captured = g->captured,
            .returned = g->returned, .oom_deflates = g->oom_deflates,
            .memory = g->memory,
        };
    }
}

static void carry_out(SimRun *run, const MsDecision *d)
{
    SimGuest *g = guest_at(run, run->index[d->guest]);
    uint64_t use = above(run->snapshot[d->guest].wanted, g->allocated);
    uint64_t there;

    if (!d->give) {
        g->outgoing += d->pages;
        return;
    }
    there = above(run->free, reserved(run));
    if (d->reason == MS_REASON_RETURN) {
        g->ballooned -= MIN(d->pages, g->ballooned);
        return;
    }
    /* Promised is what is there; the rest is decided about again. */
    use = MIN(MIN(use, d->pages), there);
    g->claim += use;
    g->claim_age = 0;
    g->ballooned -= MIN(MIN(d->pages, there), g->ballooned);
}

static void decide(SimRun *run)
{
    MsPolicyInput *input = &run->scenario->input;
    gint64 start, us;

    look(run);
    input->now_ns = run->now_s * 1000000000;
    input->free = above(run->free, reserved(run));
    input->state = ms_policy_host_state(input->state, input->free,
                                        input->min_free);
    start = g_get_monotonic_time();
    ms_policy_watch(input, run->snapshot, run->alive);
    run->decided = ms_policy_run(input, run->snapshot, run->alive,
                                 run->decisions, run->alive);
    us = g_get_monotonic_time() - start;
    run->result.policy_us += (double)us;
    run->result.policy_us_most = MAX(run->result.policy_us_most, (double)us);
    run->result.decisions += run->decided;
    run->result.state_s[input->state]++;
    for (size_t i = 0; i < run->alive; i++) {
        SimGuest *g = guest_at(run, run->index[i]);
        const MsPolicyMemory *m = &run->snapshot[i].memory;

        run->result.unresponsive += m->unresponsive && !g->memory.unresponsive
                                    && m->retries == 1;
        g->memory = *m;
    }
    for (size_t i = 0; i < run->decided; i++) {
        carry_out(run, &run->decisions[i]);
    }
}

/* Every page of the pool is free or with one guest. */
static void check(const SimRun *run)
{
    uint64_t sum = run->free;

    for (size_t i = 0; i < run->alive; i++) {
        sum += guest_at(run, run->index[i])->allocated;
    }
    g_assert(sum == run->scenario->input.budget);
}

void sim_run_tick(SimRun *run)
{
    live(run);
    touch(run);
    sim_score_tick(run);
    for (size_t i = 0; i < run->alive; i++) {
        SimGuest *g = guest_at(run, run->index[i]);

        give(run, g);
        deflate_on_oom(run, g);
    }
    decide(run);
    check(run);
    run->now_s++;
}

void sim_run_init(SimRun *run, SimScenario *scenario)
{
    guint count = scenario->guests->len;

    *run = (SimRun) {
        .scenario = scenario, .free = scenario->input.budget,
        .fixed = g_new0(uint64_t, count),
        .snapshot = g_new0(MsPolicyGuest, count),
        .decisions = g_new0(MsDecision, count),
        .index = g_new0(unsigned, count),
    };
}

void sim_run_clear(SimRun *run)
{
    g_free(run->fixed);
    g_free(run->snapshot);
    g_free(run->decisions);
    g_free(run->index);
}
