/*
 * How much memory a simulated guest wants
 *
 * Owns the shapes of generated demand.  Each guest has its own random numbers,
 * seeded by the scenario's seed and its place, so that a run repeats exactly
 * and a guest that is added changes nobody else's demand.
 *
 *     steady  ________    wave  /\  /\     onoff  _|~~|___|~|_
 *     ramp    ____/~~~~          \/  \     burst  __|_____|___
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <math.h>

#include "memsched-sim.h"

/* A walk's largest step, of the distance from low to high. */
#define WALK_STEP 0.02
/* The part of its time that a bursting guest is high. */
#define BURST_PART 0.1

static uint64_t between(const SimGuest *g, double part)
{
    return g->low + (uint64_t)((double)(g->high - g->low) * part);
}

/* Exponential, one second at least. */
static uint64_t random_time(SimGuest *g, double mean_s)
{
    double x = g_rand_double_range(g->random, 0.001, 1.0);

    return (uint64_t)MAX(1.0, -log(x) * mean_s);
}

/* Is it high now?  @part of the time, in turns of period_s on average. */
static uint64_t switched(SimGuest *g, uint64_t now_s, double part)
{
    while (now_s >= g->until_s) {
        g->on = g->until_s == 0 ? g_rand_double(g->random) < part : !g->on;
        g->until_s = now_s + random_time(g, (double)g->period_s *
                                            (g->on ? part : 1.0 - part));
    }
    return g->on ? g->high : g->low;
}

static uint64_t walk(SimGuest *g)
{
    double step = (double)(g->high - g->low) * WALK_STEP;
    double next;

    if (g->level == 0) {
        g->level = between(g, g_rand_double(g->random));
    }
    next = (double)g->level + g_rand_double_range(g->random, -1, 1) * step;
    g->level = (uint64_t)CLAMP(next, (double)g->low, (double)g->high);
    return g->level;
}

static uint64_t traced(const SimGuest *g, uint64_t now_s)
{
    uint64_t pages = 0;

    for (guint i = 0; i < g->trace->len; i++) {
        const SimPoint *p = &g_array_index(g->trace, SimPoint, i);

        if (p->time_s > now_s) {
            break;
        }
        pages = p->pages;
    }
    return pages;
}

void sim_demand(SimGuest *g, uint64_t now_s, uint64_t duration_s)
{
    uint64_t age = now_s - g->start_s;

    switch (g->demand) {
    case SIM_DEMAND_STEADY:
        g->wants = g->high;
        break;
    case SIM_DEMAND_BOOT:
        g->wants = age < g->period_s ? g->high : g->low;
        break;
    case SIM_DEMAND_RAMP:
        g->wants = between(g, (double)age / (double)MAX(duration_s, 1));
        break;
    case SIM_DEMAND_WAVE:
        g->wants = between(g, 0.5 - 0.5 * cos(2 * G_PI *
                               (double)(age + g->phase_s) /
                               (double)g->period_s));
        break;
    case SIM_DEMAND_ONOFF:
        g->wants = switched(g, now_s, 0.5);
        break;
    case SIM_DEMAND_BURST:
        g->wants = switched(g, now_s, BURST_PART);
        break;
    case SIM_DEMAND_WALK:
        g->wants = walk(g);
        break;
    case SIM_DEMAND_TRACE:
        g->wants = traced(g, now_s);
        break;
    }
    g->wants = MIN(g->wants, g->ram);
}
