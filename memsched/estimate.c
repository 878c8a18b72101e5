/*
 * How much of what a guest holds it uses, from a random sample of it
 *
 * Owns the averages of C. Waldspurger, "Memory Resource Management in VMware
 * ESX Server" (OSDI 2002), section 5.3: a slow one that is steady, a fast one
 * that adapts, and the fast one together with what the present round has told
 * so far.  The largest is what counts: a guest that begins to use memory is
 * believed at once, one that stops only after a while.
 *
 * Averages are kept as two sums, units and touched ones, which lose the same
 * part of themselves with each round: half for the fast one, an eighth for the
 * slow one.  So a round with few units weighs little.
 *
 * Rounding: down, below 1/256 of a unit a round.  Overflow: times are cut at
 * 2^32 us, more than any window; 2^16 units a round, 2^8 for the scale and
 * eight rounds in a sum make 2^59.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "estimate.h"

#define SCALE      MS_ESTIMATE_SCALE
#define PERMILLE   1000u
#define MOST_US    (UINT64_C(1) << 32)
#define NS_PER_US  1000u
/* Of each sum that is lost with a round: a half, an eighth. */
#define FAST_SHIFT 1u
#define SLOW_SHIFT 3u

void ms_estimate_add(MsEstimate *estimate, bool touched, uint64_t after_ns,
                     uint64_t now_ns)
{
    uint64_t us = after_ns / NS_PER_US;

    estimate->now.units += SCALE;
    if (touched) {
        estimate->now.touched += SCALE;
        estimate->now.after_us += MIN(us, MOST_US) * SCALE;
    }
    estimate->told_ns = now_ns;
}

static MsEstimateSum aged(const MsEstimateSum *sum, unsigned shift)
{
    return (MsEstimateSum) {
        .units = sum->units - (sum->units >> shift),
        .touched = sum->touched - (sum->touched >> shift),
        .after_us = sum->after_us - (sum->after_us >> shift),
    };
}

static MsEstimateSum plus(MsEstimateSum a, const MsEstimateSum *b)
{
    a.units += b->units;
    a.touched += b->touched;
    a.after_us += b->after_us;
    return a;
}

void ms_estimate_close(MsEstimate *estimate)
{
    estimate->fast = plus(aged(&estimate->fast, FAST_SHIFT), &estimate->now);
    estimate->slow = plus(aged(&estimate->slow, SLOW_SHIFT), &estimate->now);
    estimate->now = (MsEstimateSum) { 0 };
}

static unsigned permille(const MsEstimateSum *sum)
{
    return sum->units ? (unsigned)(sum->touched * PERMILLE / sum->units) : 0;
}

bool ms_estimate_figure(const MsEstimate *estimate,
                        MsEstimateFigure *ret_figure)
{
    MsEstimateSum slow = plus(estimate->slow, &estimate->now);
    MsEstimateSum with = plus(aged(&estimate->fast, FAST_SHIFT),
                              &estimate->now);
    MsEstimateFigure f = {
        .units = (unsigned)(slow.units / SCALE),
        .fast_permille = permille(&estimate->fast),
        .slow_permille = permille(&estimate->slow),
    };

    if (f.units < MS_ESTIMATE_UNITS) {
        *ret_figure = (MsEstimateFigure) { 0 };
        return false;
    }
    f.active_permille = MAX(MAX(f.fast_permille, f.slow_permille),
                            permille(&with));
    if (slow.touched > 0) {
        f.after_ns = slow.after_us / slow.touched * NS_PER_US;
    }
    *ret_figure = f;
    return true;
}
