/*
 * Who gives, who gets, and how much of it now
 *
 * Owns the decisions of a tick.  policy.c has said what everybody is entitled
 * to; here is what is done about it:
 *
 *     lack of the guests + what the pool is to hold      wanted of the pool
 *   - what it has free, and what is on its way           there already
 *   = need                                               taken from donors
 *
 * The pool is to hold min_free and what all guests together are expected to
 * touch until the next tick.  Nothing is taken without need: a guest may keep
 * idle memory for as long as nobody misses it.
 *
 * Donors hold more than they are entitled to.  The cheapest, by shares for each
 * taxed page, gives first (min-funding revocation), down to its entitlement,
 * never below its min; a step at most in one tick, so that a wrong estimate
 * does little harm; whole frames of 2 MiB, because that is what moves well; not
 * for less than the dead band, so that an estimate that trembles moves nothing,
 * unless touches wait and nobody else has anything.
 * All of a tick's takes fit the mover's budget of TLB flushes, two for each
 * frame: out of one guest, into another.
 *
 * Acceptors lack memory below their entitlement, and get all of that at once:
 * no step.  Where there is not enough, the most urgent reason goes first, then
 * the dearest guest.  With plenty (state high) balloons are let go as far as
 * entitlements go: that costs nothing, and a guest fills it by touch.
 *
 * Balance: gives <= free - min_free + on its way + taken now.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "less.h"
#include "policy-int.h"

/* A guest that did not answer is asked for so many least moves. */
#define PROBE_MOVES 4u
/* In state high so much of min_free stays when balloons are let go. */
#define PLENTY 4u
/* Out of one guest and into another. */
#define FLUSHES_PER_FRAME 2u

typedef struct Tick {
    const MsPolicyInput *input;
    MsPolicyGuest *guests;
    size_t count;
    MsDecision *takes, *gives;
    MsDecision *lasts;          /* takes, where nothing else is left */
    size_t take_count, give_count, last_count;
    uint64_t *extra;            /* by guest: to let go with plenty */
    uint64_t lack;              /* all that gives ask for */
    uint64_t coming;            /* asked of guests that answer */
    uint64_t taken;
    bool urgent;                /* somebody waits */
} Tick;

static uint64_t least(const MsPolicyInput *input)
{
    return MAX(input->tuning.least_pages, 1);
}

static bool takes_for(MsReason reason)
{
    return reason == MS_REASON_IDLE || reason == MS_REASON_SHARES ||
           reason == MS_REASON_PROBE;
}

static bool short_of_memory(const MsPolicyInput *input)
{
    return input->state >= MEMSCHED_CONDITION_HARD;
}

/* Shares for each taxed page that it holds. */
static uint64_t price(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    MsWide cost = (MsWide)MAX(g->allocated, 1) * ms_policy_cost(input, g);
    MsWide p = ((MsWide)MAX(g->shares, 1u) * MS_PERMILLE << 32) / cost;

    return p > UINT64_MAX ? UINT64_MAX : (uint64_t)p;
}

/* ---- acceptors ---- */

/*
 * What it lacks below its entitlement, and why.  Touches that wait are inside
 * of its size; a balloon that shrinks makes it larger.
 */
static uint64_t lack_of(const MsPolicyInput *input, const MsPolicyGuest *g,
                        MsReason *ret_reason)
{
    uint64_t size = ms_policy_size(g);
    uint64_t owed = g->waiting + g->incoming;
    uint64_t by_touch = MIN(owed, ms_less(g->entitlement, g->allocated));
    uint64_t pressed = MIN(ms_less(g->wanted, size), g->ballooned);
    uint64_t by_balloon = MIN(pressed, ms_less(g->entitlement, size));

    if (by_balloon < least(input) ||
        by_balloon < ms_policy_part(size, input->tuning.dead_band_permille)) {
        by_balloon = 0;
    }
    *ret_reason = MS_REASON_NONE;
    if (by_touch == 0 && by_balloon == 0) {
        if (owed > 0 || pressed >= least(input)) {
            *ret_reason = MS_REASON_ENTITLED;
        }
        return 0;
    }
    if (g->waiting > 0 && g->allocated < g->min) {
        *ret_reason = MS_REASON_BELOW_MIN;
    } else if (g->waiting > 0) {
        *ret_reason = MS_REASON_WAITING;
    } else if (by_balloon == 0) {
        *ret_reason = MS_REASON_INCOMING;
    } else {
        *ret_reason = MS_REASON_PRESSURE;
    }
    return MAX(by_touch, by_balloon);
}

/* Its balloon, as far as it is entitled to that; in whole moves. */
static uint64_t extra_of(const MsPolicyInput *input, const MsPolicyGuest *g,
                         uint64_t lack)
{
    uint64_t size = ms_policy_size(g);
    uint64_t pages = ms_less(MIN(g->ballooned, ms_less(g->entitlement, size)),
                             lack);

    if (input->state != MEMSCHED_CONDITION_HIGH || pages < least(input) ||
        pages < ms_policy_part(size, input->tuning.dead_band_permille)) {
        return 0;
    }
    return pages;
}

/* ---- donors ---- */

/*
 * For one who waits: @over in whole moves, and one more where that leaves the
 * guest all that it uses.  Else nobody would give the last page.
 */
static uint64_t last_moves(const MsPolicyInput *input, const MsPolicyGuest *g,
                           uint64_t over)
{
    uint64_t unit = least(input);
    uint64_t down = over - over % unit;
    uint64_t keep = MAX(ms_policy_used(g), g->min) + g->outgoing;

    return down < over && g->allocated >= keep + down + unit
           ? down + unit : down;
}

static bool resting(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    return g->memory.rest_ns > input->now_ns && !short_of_memory(input);
}

/* What it could give now; and why, or why not. */
static uint64_t over_of(const MsPolicyInput *input, const MsPolicyGuest *g,
                        MsReason *ret_reason)
{
    uint64_t band = ms_policy_part(g->allocated,
                                   input->tuning.dead_band_permille);
    uint64_t step = ms_policy_part(g->allocated, input->tuning.step_permille);
    uint64_t over = ms_less(ms_less(g->allocated, MAX(g->entitlement, g->min)),
                            g->outgoing);
    bool again = input->now_ns >= g->memory.retry_ns && g->outgoing == 0;

    if (input->state == MEMSCHED_CONDITION_SOFT) {
        step *= 2;
    }
    if (over == 0) {
        *ret_reason = MS_REASON_NONE;
    } else if (g->fixed) {
        *ret_reason = MS_REASON_FIXED;
    } else if (g->held) {
        *ret_reason = MS_REASON_OPERATOR;
    } else if (g->memory.unresponsive && !again) {
        *ret_reason = MS_REASON_UNRESPONSIVE;
    } else if (g->memory.unresponsive) {
        *ret_reason = MS_REASON_PROBE;
        step = PROBE_MOVES * least(input);
    } else if (resting(input, g)) {
        *ret_reason = MS_REASON_RESTING;
    } else if (over < band && !short_of_memory(input)) {
        *ret_reason = MS_REASON_SMALL;
    } else {
        *ret_reason = g->allocated > g->wanted ? MS_REASON_IDLE
                                               : MS_REASON_SHARES;
        step = short_of_memory(input) ? over : step;
    }
    if (!takes_for(*ret_reason)) {
        return 0;
    }
    over = MIN(over, MAX(step, least(input)));
    if (over < least(input)) {
        *ret_reason = MS_REASON_SMALL;
    }
    return over - over % least(input);
}

/* What a guest gives that has too little for whole moves, or the dead band. */
static uint64_t last_of(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    uint64_t over = ms_less(ms_less(g->allocated, MAX(g->entitlement, g->min)),
                            g->outgoing);

    return last_moves(input, g, over);
}

/* ---- order ---- */

static int compare_takes(const void *a, const void *b)
{
    const MsDecision *x = a, *y = b;

    if (x->price != y->price) {
        return x->price < y->price ? -1 : 1;
    }
    return x->guest < y->guest ? -1 : x->guest > y->guest;
}

static int compare_gives(const void *a, const void *b)
{
    const MsDecision *x = a, *y = b;

    if (x->reason != y->reason) {
        return x->reason < y->reason ? -1 : 1;
    }
    if (x->price != y->price) {
        return x->price > y->price ? -1 : 1;
    }
    return x->guest < y->guest ? -1 : x->guest > y->guest;
}

static void sort(MsDecision *d, size_t count,
                 int (*compare)(const void *, const void *))
{
    if (count > 1) {
        qsort(d, count, sizeof(d[0]), compare);
    }
}

/* ---- a tick ---- */

static void look_for_lack(Tick *t, size_t i)
{
    const MsPolicyInput *input = t->input;
    MsPolicyGuest *g = &t->guests[i];
    uint64_t lack = lack_of(input, g, &g->reason);

    if (!g->fixed && !g->memory.unresponsive) {
        t->coming += g->outgoing;
    }
    t->extra[i] = extra_of(input, g, lack);
    if (lack > 0 || t->extra[i] > 0) {
        t->gives[t->give_count++] = (MsDecision) {
            .guest = i, .give = true, .pages = lack,
            .reason = lack > 0 ? g->reason : MS_REASON_RETURN,
            .price = price(input, g),
        };
        t->lack += lack;
        t->urgent |= lack > 0 && g->reason <= MS_REASON_WAITING;
    }
}

static void look_for_donor(Tick *t, size_t i)
{
    MsPolicyGuest *g = &t->guests[i];
    MsReason reason;
    uint64_t over = over_of(t->input, g, &reason);

    if (over > 0) {
        t->takes[t->take_count++] = (MsDecision) {
            .guest = i, .pages = over, .reason = reason,
            .price = price(t->input, g),
        };
        return;
    }
    over = reason == MS_REASON_SMALL ? last_of(t->input, g) : 0;
    if (over > 0) {
        t->lasts[t->last_count++] = (MsDecision) {
            .guest = i, .pages = over, .reason = MS_REASON_SHARES,
            .price = price(t->input, g),
        };
    }
    if (g->reason == MS_REASON_NONE) {
        g->reason = reason;
    }
}

static void look(Tick *t)
{
    for (size_t i = 0; i < t->count; i++) {
        t->guests[i].pressure = ms_policy_guest_pressure(&t->guests[i]);
        look_for_lack(t, i);
    }
    for (size_t i = 0; i < t->count; i++) {
        look_for_donor(t, i);
    }
}

static uint64_t need_of(const Tick *t)
{
    const MsPolicyInput *input = t->input;
    MsWide wanted = (MsWide)t->lack + input->min_free +
                    ms_policy_growth(input, t->guests, t->count);
    MsWide there = (MsWide)input->free + t->coming;
    uint64_t need, budget;

    if (wanted <= there) {
        return 0;
    }
    need = (uint64_t)MIN(wanted - there, (MsWide)input->budget);
    need += least(input) - 1;
    need -= need % least(input);
    budget = (uint64_t)input->tuning.flushes_per_s * input->interval_ms / 1000 *
             MEMSCHED_PAGES_PER_FRAME / FLUSHES_PER_FRAME;
    return short_of_memory(input) ? need : MIN(need, MAX(budget, least(input)));
}

/* As many of @from as @need takes. */
static size_t take_some(Tick *t, MsDecision *from, size_t count,
                        uint64_t *need, MsDecision *ret, size_t max)
{
    size_t n = 0;

    sort(from, count, compare_takes);
    for (size_t i = 0; i < count && *need > 0 && n < max; i++) {
        MsDecision d = from[i];

        d.pages = MIN(d.pages, *need);
        t->guests[d.guest].reason = d.reason;
        ret[n++] = d;
        if (d.reason != MS_REASON_PROBE) {
            /* Nobody counts on what a probe may bring. */
            *need -= d.pages;
            t->taken += d.pages;
        }
    }
    return n;
}

static size_t take(Tick *t, MsDecision *ret, size_t max)
{
    uint64_t need = need_of(t);
    size_t n = take_some(t, t->takes, t->take_count, &need, ret, max);

    if (t->urgent) {
        n += take_some(t, t->lasts, t->last_count, &need, ret + n, max - n);
    }
    return n;
}

static size_t give(Tick *t, MsDecision *ret, size_t max)
{
    const MsPolicyInput *input = t->input;
    MsWide there = (MsWide)input->free + t->coming + t->taken;
    uint64_t left = there > input->min_free
                    ? (uint64_t)(there - input->min_free) : 0;
    uint64_t plenty = ms_less(input->free, PLENTY * input->min_free +
                              ms_policy_growth(input, t->guests, t->count));
    bool low = input->state == MEMSCHED_CONDITION_LOW;
    size_t n = 0;

    plenty = ms_less(plenty, t->lack);
    sort(t->gives, t->give_count, compare_gives);
    for (size_t i = 0; i < t->give_count && n < max; i++) {
        MsDecision d = t->gives[i];
        MsPolicyGuest *g = &t->guests[d.guest];
        uint64_t extra = MIN(t->extra[d.guest], plenty);

        if (d.reason == MS_REASON_BELOW_MIN) {
            /* What is kept free is kept for this. */
            d.pages = MIN(d.pages, (uint64_t)MIN(there, UINT64_MAX));
        } else {
            d.pages = low ? 0 : MIN(d.pages, left);
        }
        if (extra >= least(input)) {
            plenty -= extra;
            d.pages += extra;
        }
        left = ms_less(left, d.pages);
        there -= MIN(there, d.pages);
        if (d.pages > 0) {
            g->reason = d.reason;
            ret[n++] = d;
        } else if (d.reason != MS_REASON_RETURN) {
            g->reason = MS_REASON_NO_MEMORY;
        }
    }
    return n;
}

size_t ms_policy_run(const MsPolicyInput *input, MsPolicyGuest *guests,
                     size_t count, MsDecision *ret_decisions, size_t max)
{
    g_autofree MsDecision *takes = g_new(MsDecision, count);
    g_autofree MsDecision *gives = g_new(MsDecision, count);
    g_autofree MsDecision *lasts = g_new(MsDecision, count);
    g_autofree uint64_t *extra = g_new0(uint64_t, count);
    Tick t = {
        .input = input, .guests = guests, .count = count, .takes = takes,
        .gives = gives, .lasts = lasts, .extra = extra,
    };
    size_t n;

    ms_policy_want(input, guests, count);
    ms_policy_entitle(input, guests, count);
    look(&t);
    if (input->policy == MEMSCHED_POLICY_STATIC) {
        for (size_t i = 0; i < count; i++) {
            guests[i].reason = MS_REASON_STATIC;
        }
        return 0;
    }
    n = take(&t, ret_decisions, max);
    return n + give(&t, ret_decisions + n, max - n);
}
