/*
 * What each guest is entitled to
 *
 * Owns three rules over one scheme.  A guest i has a weight w_i; there is one
 * level L, and its entitlement is
 *
 *     e_i = min(max(L * w_i, min_i), max_i),     sum of e_i <= budget
 *
 * with the largest such L, found by bisection.  Guests that their min or max
 * stops leave more, or less, for the others: no iteration over who is stopped.
 *
 *     static     w_i = max_i: everybody the same part of what it may have
 *     shares     w_i = shares_i
 *     idle-tax   w_i = shares_i / (f_i + k (1 - f_i)),  k = 1 / (1 - tax)
 *
 * The last one is the shares-per-page ratio with an idle memory tax of C.
 * Waldspurger, "Memory Resource Management in VMware ESX Server" (OSDI 2002),
 * section 5: f is the active part of a guest's memory; a page that lies idle
 * costs k times an active one.  Revoking from whoever pays the least per page
 * until all pay the same gives just the e_i above.
 *
 * Rounding: down; what is left over, less than a page a guest, goes to the
 * first guests that their max does not stop, a page each.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "policy.h"

typedef unsigned __int128 u128;

/*
 * The level is a fixed-point number: a step of it must be less than a page of
 * the heaviest guest (2^52), its largest value the RAM of the lightest one
 * (2^44 pages by a weight of 1).
 */
#define FRACTION_BITS 52u
#define LEVEL_BITS    96u
#define PERMILLE    1000u
#define PRESSURE_MOST 10000u

static uint64_t clamp(uint64_t x, uint64_t low, uint64_t high)
{
    return x < low ? low : MIN(x, high);
}

static uint64_t most(const MsPolicyGuest *g)
{
    return MAX(g->max, g->min);
}

/* ---- weights ---- */

static uint64_t active_permille(const MsPolicyGuest *g)
{
    if (g->allocated == 0) {
        return PERMILLE;
    }
    /* Pages fit 52 bits: the product fits 62. */
    return MIN(g->active, g->allocated) * PERMILLE / g->allocated;
}

/*
 * What a page costs, in units of 1/1000 of an active one: f + k (1 - f), with
 * k = 100 / (100 - tax).  1000 to 100000.
 */
static uint64_t cost_permille(const MsPolicyInput *input,
                              const MsPolicyGuest *g)
{
    uint64_t f = active_permille(g);
    unsigned tax = MIN(input->idle_tax_pct, 99u);

    if (input->policy != MEMSCHED_POLICY_IDLE_TAX) {
        return PERMILLE;
    }
    return f + (PERMILLE - f) * 100 / (100 - tax);
}

/* At most 2^52; 0 only where there is nothing to give. */
static uint64_t weight(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    if (input->policy == MEMSCHED_POLICY_STATIC) {
        return most(g);
    }
    /* 2^32 * 10^6 / 10^3: 42 bits; at least 10, so the tax is felt. */
    return (uint64_t)MAX(g->shares, 1u) * PERMILLE * PERMILLE /
           cost_permille(input, g);
}

/* ---- the level ---- */

/* A product that does not fit 127 bits is more than anybody may have. */
static uint64_t fill_at(u128 level, uint64_t w, const MsPolicyGuest *g)
{
    unsigned bits = 64 - __builtin_clzll(w | 1);
    u128 pages;

    if (level >> (127 - bits)) {
        return most(g);
    }
    pages = (level * w) >> FRACTION_BITS;
    return clamp(pages > UINT64_MAX ? UINT64_MAX : (uint64_t)pages, g->min,
                 most(g));
}

static bool fits(u128 level, const MsPolicyInput *input,
                 const MsPolicyGuest *guests, size_t count, uint64_t budget)
{
    u128 sum = 0;

    for (size_t i = 0; i < count; i++) {
        sum += fill_at(level, weight(input, &guests[i]), &guests[i]);
    }
    return sum <= budget;
}

static void entitle(const MsPolicyInput *input, MsPolicyGuest *guests,
                    size_t count)
{
    uint64_t budget = input->budget > input->min_free
                      ? input->budget - input->min_free : 0;
    uint64_t left = budget;
    u128 level = 0;

    for (int bit = LEVEL_BITS - 1; bit >= 0; bit--) {
        u128 try = level | (u128)1 << bit;

        if (fits(try, input, guests, count, budget)) {
            level = try;
        }
    }
    for (size_t i = 0; i < count; i++) {
        guests[i].entitlement = fill_at(level, weight(input, &guests[i]),
                                        &guests[i]);
        left -= MIN(left, guests[i].entitlement);
    }
    for (size_t i = 0; i < count && left > 0; i++) {
        if (guests[i].entitlement < most(&guests[i])) {
            guests[i].entitlement++;
            left--;
        }
    }
}

/* ---- pressure ---- */

static uint64_t wanted(const MsPolicyGuest *g)
{
    return MIN(g->active, g->allocated) + g->waiting + g->incoming;
}

static unsigned ratio(uint64_t want, uint64_t have)
{
    if (have == 0) {
        return want ? PRESSURE_MOST : 100;
    }
    return (unsigned)MIN((u128)want * 100 / have, (u128)PRESSURE_MOST);
}

unsigned ms_policy_pressure(const MsPolicyInput *input,
                            const MsPolicyGuest *guests, size_t count)
{
    uint64_t want = 0;

    for (size_t i = 0; i < count; i++) {
        want += wanted(&guests[i]);
    }
    return ratio(want, input->budget);
}

/* ---- decisions ---- */

/* Shares for each taxed page that it holds. */
static uint64_t price(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    u128 cost = (u128)MAX(g->allocated, 1) * cost_permille(input, g);
    u128 p = ((u128)MAX(g->shares, 1u) * PERMILLE << 32) / cost;

    return p > UINT64_MAX ? UINT64_MAX : (uint64_t)p;
}

static int compare(const void *a, const void *b)
{
    const MsDecision *x = a, *y = b;

    if (x->give != y->give) {
        return x->give ? 1 : -1;
    }
    if (x->price != y->price) {
        return (x->price < y->price) == !x->give ? -1 : 1;
    }
    return x->guest < y->guest ? -1 : x->guest > y->guest;
}

/* Cut the sorted half that is too long, from its end. */
static void cut(MsDecision *d, size_t count, bool give, uint64_t keep)
{
    for (size_t i = 0; i < count; i++) {
        if (d[i].give == give) {
            d[i].pages = MIN(d[i].pages, keep);
            keep -= d[i].pages;
        }
    }
}

size_t ms_policy_run(const MsPolicyInput *input, MsPolicyGuest *guests,
                     size_t count, MsDecision *ret_decisions, size_t max)
{
    g_autofree MsDecision *all = g_new0(MsDecision, count);
    uint64_t give = 0, take = 0, held = 0, spare;
    size_t n = 0, out = 0;

    entitle(input, guests, count);
    for (size_t i = 0; i < count; i++) {
        MsPolicyGuest *g = &guests[i];
        uint64_t lack = MIN(g->waiting + g->incoming,
                            g->entitlement > g->allocated
                            ? g->entitlement - g->allocated : 0);
        uint64_t over = g->allocated > g->entitlement
                        ? g->allocated - g->entitlement : 0;

        g->pressure = ratio(wanted(g), g->allocated);
        held += g->allocated;
        give += lack;
        take += over;
        if (lack + over > 0) {
            all[n++] = (MsDecision) {
                .guest = i, .give = lack > 0, .pages = lack + over,
                .price = price(input, g),
            };
        }
    }
    /* Free memory is given before anybody is asked for his. */
    spare = input->budget > held + input->min_free
            ? input->budget - held - input->min_free : 0;
    if (n > 0) {
        qsort(all, n, sizeof(all[0]), compare);
    }
    cut(all, n, false, give > spare ? give - spare : 0);
    cut(all, n, true, take + spare);
    for (size_t i = 0; i < n && out < max; i++) {
        if (all[i].pages > 0) {
            ret_decisions[out++] = all[i];
        }
    }
    return out;
}

/* ---- states ---- */

MemSchedCondition ms_policy_host_state(MemSchedCondition before,
                                       uint64_t free, uint64_t min_free)
{
    /* Per cent of min_free between a state and the next worse one. */
    static const unsigned down[] = { 300, 64, 32, 16 };
    static const unsigned up[] = { 400, 100, 48, 24 };
    MemSchedCondition state = before;
    u128 level = (u128)free * 100;

    while (state < MEMSCHED_CONDITION_LOW &&
           level < (u128)min_free * down[state]) {
        state++;
    }
    while (state > MEMSCHED_CONDITION_HIGH &&
           level >= (u128)min_free * up[state - 1]) {
        state--;
    }
    return state;
}

MemSchedCondition ms_policy_condition(MemSchedCondition host, bool stalled,
                                      const MsPolicyGuest *guest)
{
    if (stalled) {
        return MEMSCHED_CONDITION_LOW;
    }
    if (guest->waiting > 0) {
        return MEMSCHED_CONDITION_HARD;
    }
    if (host <= MEMSCHED_CONDITION_CLEAR ||
        guest->allocated <= guest->entitlement) {
        return MEMSCHED_CONDITION_HIGH;
    }
    return host;
}
