/*
 * How good was it?
 *
 * Owns the measures.  Served is, each second, what guests wanted and had:
 *
 *     served = sum of min(wants_i, allocated_i)
 *
 * The oracle knows what is wanted now, moves any amount in no time, and keeps
 * nothing free:
 *
 *     oracle = min(sum of min(wants_i, ram_i), pool)
 *
 * No policy can serve more: no guest can be served more than it wants, so the
 * first term bounds it; all pages that serve are pages of the pool, each held
 * by one guest, so the second does.  The oracle reaches the smaller of both (it
 * gives pages to guests that want them until one of the two runs out), so the
 * bound is tight for each second by itself.  A real policy cannot reach it: it
 * learns of a wish a tick later, and min_free stays free.
 *
 * The other end of the scale is the pool divided once, by RAM, and never again:
 * what a host without a scheduler does.
 *
 *     score = served / oracle
 *     gain  = (served - fixed) / (oracle - fixed)
 *
 * A guest is short while 5 % or more of what it wants is missing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "memsched-sim.h"

/* Missing 1/20 of what it wants. */
#define SHORT_PART 20u

static void score_guest(SimRun *run, SimGuest *g, bool avoidable)
{
    SimResult *r = &run->result;
    uint64_t missing = g->wants - MIN(g->wants, g->allocated);

    if (missing > g->wants / SHORT_PART) {
        r->short_s++;
        r->short_avoidable_s += avoidable;
        g->short_s++;
        g->short_run_s = avoidable ? g->short_run_s + 1 : 0;
        r->short_longest_s = MAX(r->short_longest_s, g->short_run_s);
    } else {
        g->short_run_s = 0;
    }
    r->below_min += g->allocated < MIN(g->wants, g->min);
}

void sim_score_tick(SimRun *run)
{
    SimResult *r = &run->result;
    uint64_t served = 0, wanted = 0, fixed = 0;
    uint64_t pool = run->scenario->input.budget;

    for (size_t i = 0; i < run->alive; i++) {
        const SimGuest *g = &g_array_index(run->scenario->guests, SimGuest,
                                           run->index[i]);

        served += MIN(g->wants, g->allocated);
        wanted += g->wants;
        fixed += MIN(g->wants, run->fixed[run->index[i]]);
    }
    for (size_t i = 0; i < run->alive; i++) {
        score_guest(run, &g_array_index(run->scenario->guests, SimGuest,
                                        run->index[i]), wanted <= pool);
    }
    g_assert(served <= MIN(wanted, pool));
    r->ticks++;
    r->served += (double)served;
    r->oracle += (double)MIN(wanted, pool);
    r->fixed += (double)fixed;
}
