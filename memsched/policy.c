/*
 * What each guest is entitled to
 *
 * Owns three rules over one scheme.  A guest i has a weight w_i, and a use
 * u_i, which its idle memory is counted from; there is one level L, and its
 * entitlement is
 *
 *     x_i = L * w_i
 *     e_i = x_i                       where x_i <= u_i
 *           u_i + (x_i - u_i) / k_i   else
 *
 * but at least low_i and at most high_i, with the largest L for which the sum
 * of all fits the budget, found by bisection.  Guests that a bound stops leave
 * more, or less, for the others: no iteration over who is stopped.
 *
 *     static     w = max, k = 1: everybody the same part of what it may have
 *     shares     w = shares, k = 1
 *     idle-tax   w = shares, k = 1 / (1 - tax)
 *
 * The last one is min-funding revocation with an idle memory tax: C.
 * Waldspurger, "Memory Resource Management in VMware ESX Server" (OSDI 2002),
 * section 5.  There a guest that holds e, the part f of it in use, pays with
 * shares / (e (f + k (1 - f))) for each page, since an idle page costs k times
 * a used one, and memory is revoked from whoever pays the least until all pay
 * the same.  With e f = min(e, u) that ends where all pay 1 / L, which is the
 * form above: no guest needs to be followed there step by step.
 *
 * The tax is progressive, which the paper's is not: k - 1 doubles with every
 * IDLE_S that a guest's memory stays idle, up to what a tax of 99 % takes.  A
 * guest that pauses keeps most of its memory; one that sleeps loses it to those
 * who lack it.
 *
 * It is done up to three times.  At first nobody gets more than it uses or
 * holds already, or, if its balloon presses it, what it wants: memory that a
 * guest neither has nor asks for is lent to those who do.  If something is
 * left, everybody gets headroom on top of that; if something is left again, up
 * to its max.  All by the same weights.  So shares decide as soon as there is
 * not enough, headroom never keeps memory from somebody who uses it, and
 * neither does a share that nobody claims.
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
 * (2^44 pages by a weight of 1), all of it idle and taxed a hundredfold (2^7).
 */
#define FRACTION_BITS 52u
#define LEVEL_BITS    104u
#define PRESSURE_MOST 10000u

/* Of the budget: what growth may be expected to take at most, in permille. */
#define GROWTH_MOST 125u
/* The tax on idle memory doubles after so long, and again: 1 % becomes 99 % */
#define IDLE_S 15u
#define IDLE_DOUBLINGS 14u
/* k, in permille, is at most that of a tax of 99 %. */
#define IDLE_PERMILLE_MOST 100000u
#define IDLE_PERMILLE_BITS 7u
/* Growth is expected to be so many times the smoothed one: it is not steady. */
#define GROWTH_SAFETY 2u
/* Headroom of a guest under pressure doubles a tick, up to 16 times. */
#define DOUBLINGS 4u

/* What is in use, headroom, and all that a guest may have. */
#define STAGES 3u

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
        /* Who is throttled grows although something in it seems unused. */
        g->wanted = clamp(MAX(ms_policy_used(g),
                              g->memory.throttled ? g->allocated : 0) + room,
                          g->min, ms_policy_most(g));
    }
}

uint64_t ms_policy_growth(const MsPolicyInput *input,
                          const MsPolicyGuest *guests, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        sum += guests[i].memory.growth;
    }
    return MIN(sum * GROWTH_SAFETY,
               ms_policy_part(input->budget, GROWTH_MOST));
}

/* ---- weights ---- */

/* What would show as used if no balloon kept the guest from it. */
static uint64_t proven_use(const MsPolicyGuest *g)
{
    return g->memory.pressed_ticks > 0 ? g->wanted : ms_policy_used(g);
}

/* k, in permille: by the tax, and by how long its memory has been idle. */
static uint64_t idle_permille(const MsPolicyInput *input,
                              const MsPolicyGuest *g)
{
    unsigned tax = MIN(input->idle_tax_pct, 99u);
    uint64_t more = MS_PERMILLE * 100 / (100 - tax) - MS_PERMILLE;
    uint64_t idle_s = 0;

    if (input->policy != MEMSCHED_POLICY_IDLE_TAX) {
        return MS_PERMILLE;
    }
    if (g->memory.idle_ns > 0 && input->now_ns > g->memory.idle_ns) {
        idle_s = (input->now_ns - g->memory.idle_ns) / 1000000000;
    }
    /* 99,000 << 14 fits. */
    more <<= MIN(idle_s / IDLE_S, IDLE_DOUBLINGS);
    return MIN(MS_PERMILLE + more, IDLE_PERMILLE_MOST);
}

uint64_t ms_policy_cost(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    uint64_t use = MIN(ms_policy_used(g), g->allocated);
    /* Pages fit 52 bits: the product fits 62. */
    uint64_t f = g->allocated > 0 ? use * MS_PERMILLE / g->allocated
                                  : MS_PERMILLE;

    return f + (MS_PERMILLE - f) * idle_permille(input, g) / MS_PERMILLE;
}

/* ---- the level ---- */

/* What a guest may get by its weight. */
typedef struct Fill {
    uint64_t weight, low, high;
    uint64_t use, idle_permille;
    unsigned weight_bits;
} Fill;

/* The weight is 0 only where there is nothing to give. */
static Fill fill_of(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    uint64_t w = input->policy == MEMSCHED_POLICY_STATIC
                 ? ms_policy_most(g) : MAX(g->shares, 1u);

    return (Fill) {
        .weight = w, .weight_bits = 64u - __builtin_clzll(w | 1),
        .use = proven_use(g), .idle_permille = idle_permille(input, g),
        .high = g->min,
    };
}

/* A product that does not fit 127 bits is more than anybody may have. */
static uint64_t fill_at(MsWide level, const Fill *f)
{
    MsWide wide;
    uint64_t pages;

    if (level >> (127 - f->weight_bits)) {
        return f->high;
    }
    wide = (level * f->weight) >> FRACTION_BITS;
    /* 2^53 times 1000 fits. */
    pages = wide >> 53 ? UINT64_C(1) << 53 : (uint64_t)wide;
    if (pages > f->use) {
        pages = f->use + (pages - f->use) * MS_PERMILLE / f->idle_permille;
    }
    return clamp(pages, f->low, f->high);
}

static bool fits(MsWide level, const Fill *fills, size_t count,
                 uint64_t budget)
{
    MsWide sum = 0;

    for (size_t i = 0; i < count && sum <= budget; i++) {
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
    /* weight >= 2^(bits-1) and level >= 2^first give 2^most taxed pages. */
    most += IDLE_PERMILLE_BITS;
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

/*
 * What a guest gets at most, the first, second and third time.  What a guest
 * under pressure would use does not show in what it uses.
 */
static uint64_t bound(const MsPolicyGuest *g, unsigned stage)
{
    uint64_t most = ms_policy_most(g);
    uint64_t wants = stage == 0 ? proven_use(g) : g->wanted;

    return stage == STAGES - 1
           ? most : clamp(MAX(wants, g->allocated), g->min, most);
}

void ms_policy_entitle(const MsPolicyInput *input, MsPolicyGuest *guests,
                       size_t count)
{
    g_autofree Fill *fills = g_new(Fill, count);
    uint64_t growth = ms_policy_growth(input, guests, count);
    uint64_t budget = input->budget > input->min_free
                      ? input->budget - input->min_free : 0;

    for (size_t i = 0; i < count; i++) {
        fills[i] = fill_of(input, &guests[i]);
    }
    for (unsigned stage = 0; stage < STAGES; stage++) {
        MsWide sum = 0;

        for (size_t i = 0; i < count; i++) {
            fills[i].low = fills[i].high;
            fills[i].high = bound(&guests[i], stage);
            sum += fills[i].high;
        }
        if (sum + growth > budget) {
            break;
        }
    }
    fill(fills, guests, count, budget > growth ? budget - growth : 0);
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
        want += ms_policy_used(&guests[i]);
    }
    return ratio(want, input->budget);
}

unsigned ms_policy_guest_pressure(const MsPolicyGuest *g)
{
    return ratio(ms_policy_used(g), g->allocated);
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
