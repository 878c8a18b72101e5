/*
 * What each guest is entitled to
 *
 * Owns three rules over one scheme.  A guest i has a weight w_i; there is one
 * level L, and its entitlement is
 *
 *     e_i = min(max(L * w_i, low_i), high_i),     sum of e_i <= budget
 *
 * with the largest such L, found by bisection.  Guests that a bound stops leave
 * more, or less, for the others: no iteration over who is stopped.
 *
 *     static     w_i = max_i: everybody the same part of what it may have
 *     shares     w_i = shares_i
 *     idle-tax   w_i = shares_i / (f_i + k (1 - f_i)),  k = 1 / (1 - tax)
 *
 * The last one is the shares-per-page ratio with an idle memory tax of C.
 * Waldspurger, "Memory Resource Management in VMware ESX Server" (OSDI 2002),
 * section 5: f is the used part of a guest's memory; a page that lies idle
 * costs k times a used one.  Revoking from whoever pays the least per page
 * until all pay the same gives just the e_i above.  Used is what a guest is
 * active with and its headroom: it is not taxed for what it is to keep.
 *
 * It is done twice.  At first nobody gets more than it wants or holds already:
 * memory that a guest neither has nor asks for is lent to those who do.  If
 * something is left, all wants are met, and the rest goes on top of them by the
 * same weights, up to each guest's max.  So shares decide as soon as there is
 * not enough, and never keep memory from somebody while nobody else wants it.
 *
 * Rounding: down; what is left over, less than two pages a guest, goes to the
 * first guests that their bound does not stop, a page each in turn.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "policy-int.h"

/*
 * The level is a fixed-point number: a step of it must be less than a page of
 * the heaviest guest (2^52), its largest value the RAM of the lightest one
 * (2^44 pages by a weight of 1).
 */
#define FRACTION_BITS 52u
#define LEVEL_BITS    96u
#define PRESSURE_MOST 10000u

/* Of the budget: what growth may be expected to take at most, in permille. */
#define GROWTH_MOST 125u
/* Headroom of a guest under pressure doubles a tick, up to 16 times. */
#define DOUBLINGS 4u

static uint64_t clamp(uint64_t x, uint64_t low, uint64_t high)
{
    return x < low ? low : MIN(x, high);
}

/* ---- settings ---- */

MsPolicyTuning ms_policy_tuning(void)
{
    return (MsPolicyTuning) {
        .headroom_permille = 125, .headroom_pages = 2048,
        .dead_band_permille = 30, .step_permille = 125,
        .least_pages = MEMSCHED_PAGES_PER_FRAME,
        .flushes_per_s = 2000,
        .slow_bytes_per_s = UINT64_C(1) << 20, .slow_windows = 3,
        .returned_permille = 250,
        .rest_ms = 10000, .rest_most_ms = 600000,
    };
}

static const char *bad_tuning(const MsPolicyTuning *t)
{
    if (t->headroom_permille > MS_PERMILLE) {
        return "the headroom is more than all active memory";
    }
    if (t->dead_band_permille > MS_PERMILLE) {
        return "the dead band is more than all that a guest holds";
    }
    if (t->step_permille == 0 || t->step_permille > MS_PERMILLE) {
        return "the step is not between 1 and 1000 permille";
    }
    if (t->least_pages == 0) {
        return "the least move is 0 pages";
    }
    if (t->flushes_per_s == 0) {
        return "the budget of flushes is 0";
    }
    if (t->slow_windows == 0) {
        return "a guest that is asked needs one window or more to answer";
    }
    if (t->rest_ms == 0 || t->rest_ms > t->rest_most_ms) {
        return "the first rest is 0, or longer than the longest one";
    }
    return NULL;
}

int ms_policy_check(const MsPolicyInput *input, MemSchedMessage *ret_message)
{
    const char *bad = NULL;

    if (input->policy < MEMSCHED_POLICY_STATIC ||
        input->policy > MEMSCHED_POLICY_IDLE_TAX) {
        bad = "there is no such policy";
    } else if (input->idle_tax_pct > 99) {
        bad = "the idle tax is a number from 0 to 99";
    } else if (input->budget == 0) {
        bad = "the pool is empty";
    } else if (input->min_free > input->budget) {
        bad = "min-free is more than the pool";
    } else if (input->interval_ms == 0) {
        bad = "the interval is 0";
    } else {
        bad = bad_tuning(&input->tuning);
    }
    if (bad && ret_message) {
        g_strlcpy(ret_message->text, bad, sizeof(ret_message->text));
    }
    return bad ? -EINVAL : 0;
}

/* ---- wants ---- */

static uint64_t used(const MsPolicyGuest *g)
{
    return MIN(g->active, g->allocated) + g->waiting + g->incoming;
}

void ms_policy_want(const MsPolicyInput *input, MsPolicyGuest *guests,
                    size_t count)
{
    const MsPolicyTuning *t = &input->tuning;

    for (size_t i = 0; i < count; i++) {
        MsPolicyGuest *g = &guests[i];
        uint64_t room = MAX(ms_policy_part(MIN(g->active, g->allocated),
                                           t->headroom_permille),
                            t->headroom_pages);

        /* Pages fit 52 bits. */
        room <<= MIN(g->memory.pressed_ticks, DOUBLINGS);
        g->wanted = clamp(used(g) + room, g->min, ms_policy_most(g));
    }
}

uint64_t ms_policy_growth(const MsPolicyGuest *guests, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        sum += guests[i].memory.growth;
    }
    return sum;
}

/* ---- weights ---- */

static uint64_t used_permille(const MsPolicyGuest *g)
{
    if (g->allocated == 0) {
        return MS_PERMILLE;
    }
    /* Pages fit 52 bits: the product fits 62. */
    return MIN(g->wanted, g->allocated) * MS_PERMILLE / g->allocated;
}

uint64_t ms_policy_cost(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    uint64_t f = used_permille(g);
    unsigned tax = MIN(input->idle_tax_pct, 99u);

    if (input->policy != MEMSCHED_POLICY_IDLE_TAX) {
        return MS_PERMILLE;
    }
    return f + (MS_PERMILLE - f) * 100 / (100 - tax);
}

/* At most 2^52; 0 only where there is nothing to give. */
static uint64_t weight(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    if (input->policy == MEMSCHED_POLICY_STATIC) {
        return ms_policy_most(g);
    }
    /* 2^32 * 10^6 / 10^3: 42 bits; at least 10, so the tax is felt. */
    return (uint64_t)MAX(g->shares, 1u) * MS_PERMILLE * MS_PERMILLE /
           ms_policy_cost(input, g);
}

/* ---- the level ---- */

/* What a guest may get by its weight. */
typedef struct Fill {
    uint64_t weight, low, high;
    unsigned weight_bits;
} Fill;

/* A product that does not fit 127 bits is more than anybody may have. */
static uint64_t fill_at(MsWide level, const Fill *f)
{
    MsWide pages;

    if (level >> (127 - f->weight_bits)) {
        return f->high;
    }
    pages = (level * f->weight) >> FRACTION_BITS;
    return clamp(pages > UINT64_MAX ? UINT64_MAX : (uint64_t)pages, f->low,
                 f->high);
}

static bool fits(MsWide level, const Fill *fills, size_t count,
                 uint64_t budget)
{
    MsWide sum = 0;

    for (size_t i = 0; i < count; i++) {
        sum += fill_at(level, &fills[i]);
    }
    return sum <= budget;
}

/*
 * Bits of the level that can make a difference: above the first, even the
 * lightest guest has its most; below the last, even the heaviest one gains less
 * than a 1/256 of a page.
 */
static void level_bits(const Fill *fills, size_t count, int *ret_first,
                       int *ret_last)
{
    unsigned lightest = 64, heaviest = 1, most = 1;

    for (size_t i = 0; i < count; i++) {
        if (fills[i].weight > 0) {
            lightest = MIN(lightest, fills[i].weight_bits);
        }
        heaviest = MAX(heaviest, fills[i].weight_bits);
        most = MAX(most, 64u - __builtin_clzll(fills[i].high | 1));
    }
    /* weight >= 2^(bits-1) and level >= 2^first give 2^most pages. */
    *ret_first = MIN((int)LEVEL_BITS - 1,
                     (int)(FRACTION_BITS + most + 1) - (int)lightest);
    *ret_last = MAX(0, (int)FRACTION_BITS - 8 - (int)heaviest);
}

static void fill(const Fill *fills, MsPolicyGuest *guests, size_t count,
                 uint64_t budget)
{
    uint64_t left = budget;
    MsWide level = 0;
    bool more = true;
    int first, last;

    level_bits(fills, count, &first, &last);
    for (int bit = first; bit >= last; bit--) {
        MsWide try = level | (MsWide)1 << bit;

        if (fits(try, fills, count, budget)) {
            level = try;
        }
    }
    for (size_t i = 0; i < count; i++) {
        guests[i].entitlement = fill_at(level, &fills[i]);
        left -= MIN(left, guests[i].entitlement);
    }
    while (left > 0 && more) {
        more = false;
        for (size_t i = 0; i < count && left > 0; i++) {
            if (guests[i].entitlement < fills[i].high) {
                guests[i].entitlement++;
                left--;
                more = true;
            }
        }
    }
}

void ms_policy_entitle(const MsPolicyInput *input, MsPolicyGuest *guests,
                       size_t count)
{
    g_autofree Fill *fills = g_new(Fill, count);
    uint64_t growth = MIN(ms_policy_growth(guests, count),
                          ms_policy_part(input->budget, GROWTH_MOST));
    uint64_t kept = input->min_free + growth;
    uint64_t budget = input->budget > kept ? input->budget - kept : 0;
    MsWide sum = 0;

    for (size_t i = 0; i < count; i++) {
        const MsPolicyGuest *g = &guests[i];
        uint64_t w = weight(input, g);

        fills[i] = (Fill) {
            .weight = w, .weight_bits = 64u - __builtin_clzll(w | 1),
            .low = g->min,
            .high = clamp(MAX(g->wanted, g->allocated), g->min,
                          ms_policy_most(g)),
        };
        sum += fills[i].high;
    }
    if (sum <= budget) {
        for (size_t i = 0; i < count; i++) {
            fills[i].low = fills[i].high;
            fills[i].high = ms_policy_most(&guests[i]);
        }
        /* Growth comes out of what is left anyway. */
        budget = input->budget > input->min_free
                 ? input->budget - input->min_free : 0;
    }
    fill(fills, guests, count, budget);
}

/* ---- pressure ---- */

static unsigned ratio(uint64_t want, uint64_t have)
{
    if (have == 0) {
        return want ? PRESSURE_MOST : 100;
    }
    return (unsigned)MIN((MsWide)want * 100 / have, (MsWide)PRESSURE_MOST);
}

unsigned ms_policy_pressure(const MsPolicyInput *input,
                            const MsPolicyGuest *guests, size_t count)
{
    uint64_t want = 0;

    for (size_t i = 0; i < count; i++) {
        want += used(&guests[i]);
    }
    return ratio(want, input->budget);
}

unsigned ms_policy_guest_pressure(const MsPolicyGuest *g)
{
    return ratio(used(g), g->allocated);
}

/* ---- states ---- */

MemSchedCondition ms_policy_host_state(MemSchedCondition before,
                                       uint64_t free, uint64_t min_free)
{
    /* Per cent of min_free between a state and the next worse one. */
    static const unsigned down[] = { 300, 64, 32, 16 };
    static const unsigned up[] = { 400, 100, 48, 24 };
    MemSchedCondition state = before;
    MsWide level = (MsWide)free * 100;

    while (state < MEMSCHED_CONDITION_LOW &&
           level < (MsWide)min_free * down[state]) {
        state++;
    }
    while (state > MEMSCHED_CONDITION_HIGH &&
           level >= (MsWide)min_free * up[state - 1]) {
        state--;
    }
    return state;
}
