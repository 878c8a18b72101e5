/*
 * A guest's memory condition
 *
 * Owns the rule that makes one of four words, and a few figures, out of what
 * is known of a guest; and the rule when the guest is told.
 *
 * Hysteresis is twofold.  Each number has two thresholds, the second one for
 * leaving, at least half as far away again as noise is expected to reach; and
 * whatever makes a condition bad must have been away for HOLD_NS before it is
 * called better.  So a figure that wavers inside its band changes nothing, and
 * an event that comes and goes changes the condition once a second at most.
 *
 * Telling.  A change of the condition or of a limit is told after FAST_NS, of
 * a figure after SLOW_NS, nothing new after IDLE_NS.  The generation rises with
 * each change that is told, and with nothing else.
 *
 * Stalls.  The guest tells an average over ten seconds, which stays above any
 * threshold for as long after the last stall: 14 s from 40 % to 10 %.  So what
 * it is made of since the guest told it before is worked out, and a guest whose
 * tasks do not wait any more is not pressed, whatever the average says.
 *
 * What depends on other guests (the host's state, the entitlement, what could
 * be got) is looked at once a second, and the figures are rounded down to a
 * 64th of the guest's RAM, with a rounding that sticks: a guest should not read
 * its neighbours' every move in them.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "cond.h"
#include "less.h"

#define NS_PER_MS    UINT64_C(1000000)
#define HOLD_NS      (1000 * NS_PER_MS)
#define FAST_NS      (100 * NS_PER_MS)
#define SLOW_NS      (1000 * NS_PER_MS)
#define IDLE_NS      (5000 * NS_PER_MS)
#define COARSE_NS    (1000 * NS_PER_MS)

#define PRESSURE_HIGH 110u
#define PRESSURE_BACK 103u
#define PRESSURE_MOST 10000u
#define PSI_HIGH      2000u     /* 20 %, in hundredths of a per cent */
#define PSI_BACK      1000u

/* Averages are renewed every two seconds; older ones say nothing of one. */
#define PSI_LEAST_NS  (2000 * NS_PER_MS)
#define PSI_MOST_NS   (20000 * NS_PER_MS)

/* 1 MiB: no figure of the host is finer. */
#define COARSE_LEAST  256u

/* ---- figures ---- */

/* Pages fit 52 bits: products by 100 fit 64. */
static unsigned pressure_of(const MsConditionInput *in)
{
    uint64_t want = MIN(in->active, in->allocated) + in->waiting +
                    MIN(in->requested, in->ram);

    if (in->allocated == 0) {
        return want ? PRESSURE_MOST : 100;
    }
    return (unsigned)MIN(want * 100 / in->allocated, PRESSURE_MOST);
}

static uint64_t most(const MsConditionInput *in)
{
    return MIN(in->max, in->ram);
}

/* What the grant rule would give it now. */
static uint64_t grantable(const MsConditionInput *in)
{
    return ms_less(in->min, in->allocated) + in->claim + in->slack;
}

/* What it could still get: see @reservable_bytes. */
static uint64_t gettable(const MsConditionInput *in)
{
    uint64_t host = ms_less(in->min, in->allocated) + in->claim +
                    ms_less(in->slack, in->min_free);
    uint64_t may = MIN(MAX(in->entitlement, in->min), most(in));

    return MIN(host, ms_less(may, in->allocated));
}

/* ---- stalls ---- */

/*
 * The mean of stalls in @ns, at whose begin the average was @before and at
 * whose end it is @after.  Of the old average e^-z is left, z = ns / 10 s, by
 * (12 - 6z + z^2) / (12 + 6z + z^2); z is in thousandths, 2000 at most, so
 * that all products stay below 10^12.
 */
static unsigned stalls_of(unsigned before, unsigned after, uint64_t ns)
{
    int64_t z = ns / (10 * NS_PER_MS);
    int64_t rise = 12000000 + 6000 * z + z * z;
    int64_t fall = 12000000 - 6000 * z + z * z;
    int64_t mean = (after * rise - before * fall) / (rise - fall);

    return (unsigned)CLAMP(mean, 0, 10000);
}

static void look_at_stalls(MsCondition *c, const MsConditionInput *in)
{
    uint64_t ns = ms_less(in->psi_ns, c->psi_ns);

    if (c->psi_ns != 0 && ns < PSI_LEAST_NS) {
        return;
    }
    c->psi_now = c->psi_ns == 0 || ns > PSI_MOST_NS
        ? in->psi_some : stalls_of(c->psi_before, in->psi_some, ns);
    c->psi_before = in->psi_some;
    c->psi_ns = in->psi_ns;
}

/* ---- the condition ---- */

/* Below @level; below half as much again where it is so already. */
static bool is_below(uint64_t figure, uint64_t level, bool already)
{
    return figure < level + (already ? level / 2 : 0);
}

static bool is_low(const MsCondition *c, const MsConditionInput *in)
{
    uint64_t gone = in->allocated + in->kernel + in->application;
    uint64_t level = MIN(ms_less(in->ram, gone), in->ram / 64);

    return in->stalled || is_below(grantable(in), level,
                                   c->state == MEMSCHED_CONDITION_LOW);
}

static bool is_over(const MsCondition *c, const MsConditionInput *in)
{
    bool already = c->state >= MEMSCHED_CONDITION_SOFT;

    return in->allocated > in->entitlement +
                           (already ? 0 : in->entitlement / 50);
}

static bool is_hard(const MsCondition *c, const MsConditionInput *in,
                    unsigned pressure)
{
    bool already = c->state >= MEMSCHED_CONDITION_HARD;

    return in->asked > 0 || in->waiting > 0 ||
           pressure >= (already ? PRESSURE_BACK : PRESSURE_HIGH) ||
           (in->psi_some >= (already ? PSI_BACK : PSI_HIGH) &&
            c->psi_now >= PSI_BACK) ||
           (in->host >= MEMSCHED_CONDITION_HARD && is_over(c, in));
}

static bool is_soft(const MsCondition *c, const MsConditionInput *in)
{
    bool already = c->state >= MEMSCHED_CONDITION_SOFT;
    uint64_t level = MIN(ms_less(most(in), in->allocated), in->ram / 32);

    return (in->host >= MEMSCHED_CONDITION_SOFT && is_over(c, in)) ||
           is_below(gettable(in), level, already);
}

static MemSchedCondition state_of(const MsCondition *c,
                                  const MsConditionInput *in,
                                  unsigned pressure)
{
    if (is_low(c, in)) {
        return MEMSCHED_CONDITION_LOW;
    }
    if (is_hard(c, in, pressure)) {
        return MEMSCHED_CONDITION_HARD;
    }
    return is_soft(c, in) ? MEMSCHED_CONDITION_SOFT
                          : MEMSCHED_CONDITION_HIGH;
}

static void set_state(MsCondition *c, const MsConditionInput *in)
{
    MemSchedCondition now;

    c->pressure = pressure_of(in);
    look_at_stalls(c, in);
    now = state_of(c, in, c->pressure);
    if (now >= c->state) {
        c->bad_ns = in->now_ns;
    }
    if (now > c->state || in->now_ns >= c->bad_ns + HOLD_NS) {
        c->state = now;
        c->bad_ns = in->now_ns;
    }
}

/* ---- what the guest is told ---- */

static uint64_t bytes(uint64_t pages)
{
    return pages << MEMSCHED_PAGE_SHIFT;
}

static uint64_t step_of(const MsConditionInput *in)
{
    uint64_t step = COARSE_LEAST;

    while (step < in->ram / 64) {
        step *= 2;
    }
    return step;
}

/*
 * Rounded down; what was told before stays until it is too much, or more than
 * a step and a half too little.
 */
static uint64_t coarse(bool first, uint64_t before, uint64_t figure,
                       uint64_t step)
{
    if (!first && figure >= before && figure - before < step + step / 2) {
        return before;
    }
    return figure / step * step;
}

static void look_at_host(const MsConditionInput *in, bool first,
                         MemSchedGuestCondition *now)
{
    uint64_t step = step_of(in);
    uint64_t entitlement = now->entitlement_bytes >> MEMSCHED_PAGE_SHIFT;
    uint64_t reservable = now->reservable_bytes >> MEMSCHED_PAGE_SHIFT;

    now->host = in->host;
    entitlement = coarse(first, entitlement, in->entitlement, step);
    now->entitlement_bytes = bytes(MAX(entitlement, in->min));
    now->reservable_bytes = bytes(coarse(first, reservable, gettable(in),
                                         step));
}

/* What is its own. */
static void look_at_guest(const MsCondition *c, const MsConditionInput *in,
                          MemSchedGuestCondition *now)
{
    now->condition = c->state;
    now->pressure = c->pressure;
    now->shares = in->shares;
    now->ram_bytes = bytes(in->ram);
    now->min_bytes = bytes(in->min);
    now->max_bytes = bytes(most(in));
    now->target_bytes = bytes(in->target);
    now->allocated_bytes = bytes(in->allocated);
    now->ballooned_kernel_bytes = bytes(in->kernel);
    now->ballooned_application_bytes = bytes(in->application);
    now->ballooned_reported_bytes = bytes(in->reported);
    /* A min is the guest's own, and known at once. */
    now->entitlement_bytes = MAX(now->entitlement_bytes, bytes(in->min));
}

static bool is_urgent(const MemSchedGuestCondition *a,
                      const MemSchedGuestCondition *b)
{
    return a->condition != b->condition || a->min_bytes != b->min_bytes ||
           a->max_bytes != b->max_bytes || a->shares != b->shares ||
           a->ram_bytes != b->ram_bytes || a->target_bytes != b->target_bytes;
}

static bool is_same(const MemSchedGuestCondition *a,
                    const MemSchedGuestCondition *b)
{
    return !is_urgent(a, b) && a->host == b->host &&
           a->pressure == b->pressure &&
           a->entitlement_bytes == b->entitlement_bytes &&
           a->allocated_bytes == b->allocated_bytes &&
           a->reservable_bytes == b->reservable_bytes &&
           a->ballooned_kernel_bytes == b->ballooned_kernel_bytes &&
           a->ballooned_application_bytes == b->ballooned_application_bytes &&
           a->ballooned_reported_bytes == b->ballooned_reported_bytes;
}

static uint64_t wait_of(const MemSchedGuestCondition *now,
                        const MemSchedGuestCondition *told)
{
    if (is_urgent(now, told)) {
        return FAST_NS;
    }
    return is_same(now, told) ? IDLE_NS : SLOW_NS;
}

bool ms_condition_step(MsCondition *cond, const MsConditionInput *input,
                  MemSchedGuestCondition *ret_told)
{
    bool first = cond->generation == 0;
    bool host = first || input->now_ns >= cond->coarse_ns + COARSE_NS;
    MemSchedGuestCondition now = cond->told;

    set_state(cond, input);
    look_at_guest(cond, input, &now);
    if (host) {
        look_at_host(input, first, &now);
    }
    if (!first &&
        input->now_ns < cond->told_ns + wait_of(&now, &cond->told)) {
        return false;
    }
    if (host) {
        cond->coarse_ns = input->now_ns;
    }
    cond->generation += first || !is_same(&now, &cond->told);
    now.generation = cond->generation;
    now.age_ns = input->age_ns;
    cond->told = now;
    cond->told_ns = input->now_ns;
    *ret_told = now;
    return true;
}
