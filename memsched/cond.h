/*
 * A guest's memory condition
 *
 * Pure: a snapshot and the condition before in, the condition now out; no
 * clock, no lock.  Counts are 4 KiB pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_COND_H
#define MEMSCHED_COND_H

#include "memsched/memsched.h"

/* How a guest is, at @now_ns. */
typedef struct MsConditionInput {
    uint64_t now_ns;
    uint64_t age_ns;            /* of its own figures */
    uint64_t ram, min, max, entitlement, target;
    uint64_t allocated;
    uint64_t kernel, application, reported;     /* ballooned */
    uint64_t active;            /* of allocated, as far as known */
    uint64_t waiting;           /* touches that the grant rule refuses */
    uint64_t requested;         /* of open requests, not got yet */
    uint64_t asked;             /* it is to give, and has not given yet */
    uint64_t claim;
    uint64_t slack;             /* free pages that are promised to nobody */
    uint64_t min_free;          /* kept free ahead of demand */
    unsigned shares;
    unsigned psi_some;          /* hundredths of a per cent; 0 if untold */
    uint64_t psi_ns;            /* when it was told */
    bool stalled;
    MemSchedCondition host;
} MsConditionInput;

/* What is kept of a guest.  Zeroed at the start. */
typedef struct MsCondition {
    MemSchedCondition state;    /* never CLEAR */
    uint64_t bad_ns;            /* when it last was as bad as that */
    unsigned pressure;
    unsigned psi_before, psi_now;       /* told before; stalls since then */
    uint64_t psi_ns;            /* when psi_before was told; 0: never */
    uint64_t coarse_ns;         /* when figures of the host were last told */
    uint64_t told_ns;
    uint64_t generation;        /* 0: nothing was told yet */
    MemSchedGuestCondition told;
} MsCondition;

/*
 * The condition now is cond->state.  True where it is to be told to the guest:
 * *ret_told has everything but the session.
 *
 *     from high    at                                 back below
 *     to soft      above 102 % of its entitlement,    its entitlement, or the
 *                  and the host is soft               host is clear
 *                  can get less than 1/32 of its RAM  3/64 (and less than all)
 *     to hard      is asked to give, a touch waits    not any more
 *                  pressure 110, PSI 20 %             103, 10 % or no stalls
 *                                                     behind it any more
 *                  above entitlement, host is hard    as above
 *     to low       paused because touches wait        goes on
 *                  could be granted less than 1/64    3/128
 *                  of its RAM, and might touch more
 *
 * It gets worse at once, and better when nothing has been as bad as that for a
 * second.
 */
bool ms_condition_step(MsCondition *cond, const MsConditionInput *input,
                  MemSchedGuestCondition *ret_told);

#endif /* MEMSCHED_COND_H */
