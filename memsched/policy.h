/*
 * What each guest is entitled to
 *
 * Pure: a snapshot in, entitlements and ordered decisions out.  No clock, no
 * lock, no floating point.  Counts are 4 KiB pages.  Nothing here moves memory:
 * whether a decision is carried out is for the caller to say.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_POLICY_H
#define MEMSCHED_POLICY_H

#include "memsched/memsched.h"

/* One guest in a snapshot. */
typedef struct MsPolicyGuest {
    uint64_t allocated, min, max;       /* max: RAM at most */
    uint64_t active;            /* of allocated, as far as known */
    uint64_t waiting;           /* touches that the grant rule refuses */
    uint64_t incoming;          /* asked for it by an operator, not there yet */
    unsigned shares;
    /* out */
    uint64_t entitlement;
    unsigned pressure;          /* wanted / had x 100 */
} MsPolicyGuest;

typedef struct MsPolicyInput {
    MemSchedPolicy policy;
    unsigned idle_tax_pct;      /* 0 to 99 */
    uint64_t budget;            /* B */
    uint64_t min_free;          /* kept out of entitlements */
} MsPolicyInput;

/* Take @pages from a guest above its entitlement, or give to one below. */
typedef struct MsDecision {
    unsigned guest;             /* index in the snapshot */
    bool give;
    uint64_t pages;
    /*
     * Shares for each taxed page, in no unit: who pays least gives first, who
     * pays most gets first.
     */
    uint64_t price;
} MsDecision;

/*
 * Sets entitlement and pressure of each guest.  Then up to @max decisions:
 * donors, the cheapest first, before acceptors, the dearest first; takes and
 * gives add up to the same, but for what the pool has free above @min_free.
 * Returns how many.
 */
size_t ms_policy_run(const MsPolicyInput *input, MsPolicyGuest *guests,
                     size_t count, MsDecision *ret_decisions, size_t max);

/* Pressure of the whole: wanted by all, of what there is, x 100. */
unsigned ms_policy_pressure(const MsPolicyInput *input,
                            const MsPolicyGuest *guests, size_t count);

/*
 * State of the host by what is free and not promised, against min_free:
 *
 *                   going down, below     going up, at or above
 *     high -> clear     300 %                   400 %
 *     clear -> soft      64 %                   100 %
 *     soft -> hard       32 %                    48 %
 *     hard -> low        16 %                    24 %
 *
 * The distance between the columns keeps it from flapping.
 */
MemSchedCondition ms_policy_host_state(MemSchedCondition before,
                                       uint64_t free, uint64_t min_free);

/*
 * A guest's condition: low while its faults have been refused so long that it
 * was paused, hard while they are refused at all; else the host's state for
 * one that holds more than it is entitled to, and high for every other one.
 */
MemSchedCondition ms_policy_condition(MemSchedCondition host, bool stalled,
                                      const MsPolicyGuest *guest);

#endif /* MEMSCHED_POLICY_H */
