/*
 * What the files of the policy share: policy*.c only
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_POLICY_INT_H
#define MEMSCHED_POLICY_INT_H

#include "policy.h"

typedef unsigned __int128 MsWide;

#define MS_PERMILLE UINT64_C(1000)

/* The most that it may have: a min above its max counts. */
static inline uint64_t ms_policy_most(const MsPolicyGuest *g)
{
    return g->max > g->min ? g->max : g->min;
}

/* What it may hold before its balloon would have to shrink. */
static inline uint64_t ms_policy_size(const MsPolicyGuest *g)
{
    uint64_t most = ms_policy_most(g);
    uint64_t size = most > g->ballooned ? most - g->ballooned : 0;

    return size > g->allocated ? size : g->allocated;
}

static inline uint64_t ms_policy_part(uint64_t pages, uint64_t permille)
{
    return (uint64_t)((MsWide)pages * permille / MS_PERMILLE);
}

/* What it is active with, and waits for: without headroom. */
static inline uint64_t ms_policy_used(const MsPolicyGuest *g)
{
    uint64_t active = g->active < g->allocated ? g->active : g->allocated;

    return active + g->waiting + g->incoming;
}

/* What a page costs, in 1/1000 of one that is used: 1000 to 100000. */
uint64_t ms_policy_cost(const MsPolicyInput *input, const MsPolicyGuest *g);

/* Sets @wanted of each guest. */
void ms_policy_want(const MsPolicyInput *input, MsPolicyGuest *guests,
                    size_t count);

/* Sets @entitlement of each guest; needs @wanted. */
void ms_policy_entitle(const MsPolicyInput *input, MsPolicyGuest *guests,
                       size_t count);

/* What it uses and waits for, of what it has, x 100. */
unsigned ms_policy_guest_pressure(const MsPolicyGuest *g);

/* Pages that all guests together are expected to touch until the next tick. */
uint64_t ms_policy_growth(const MsPolicyInput *input,
                          const MsPolicyGuest *guests, size_t count);

#endif /* MEMSCHED_POLICY_INT_H */
