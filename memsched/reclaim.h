/*
 * From whom the host takes memory by itself when there is no other way
 *
 * Pure: numbers in, numbers out.  Counts are 4 KiB pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_RECLAIM_H
#define MEMSCHED_RECLAIM_H

#include <stddef.h>

#include "memsched/types.h"

typedef struct MsReclaimInput {
    MemSchedCondition state;    /* of the host */
    uint64_t free;              /* of the pool, not claimed */
    uint64_t min_free;          /* what is to be free again */
} MsReclaimInput;

typedef struct MsReclaimGuest {
    uint64_t allocated, min, entitlement;
    uint64_t idle;              /* of allocated, as far as known */
    uint64_t waiting;           /* touches that the grant rule refuses */
    /* out */
    uint64_t take;              /* pages to take out of it now */
    uint64_t ceiling;           /* it gets nothing above; 0: no such limit */
} MsReclaimGuest;

/*
 * Better than hard: nothing, unless a guest below its entitlement waits.  In
 * hard and low: pages of guests above their entitlement (and min), idle ones
 * before others, in proportion, until @min_free would be free.  In low such
 * guests get nothing further.  Returns the sum of what is to be taken.
 */
uint64_t ms_reclaim_run(const MsReclaimInput *input, MsReclaimGuest *guests,
                        size_t count);

#endif /* MEMSCHED_RECLAIM_H */
