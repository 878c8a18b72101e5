/*
 * Taking pages out of guests that have too many, when there is no other way
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_HOLD_H
#define MEMSCHED_HOLD_H

#include "held.h"
#include "memsched/memsched.h"
#include "policy.h"

typedef struct MsHolder MsHolder;

/* The thread; ms->held is there, and stays until it is stopped. */
int ms_hold_start(MemSched *ms, MsHolder **ret_holder);
void ms_hold_stop(MsHolder *holder);    /* NULL is fine */

/*
 * What the tick has found of @count guests: take what the last resort asks for,
 * until the next tick says otherwise; ceilings for the grant rule are set at
 * once.  The scheduler's thread only, no lock held.  Nothing where no place for
 * held pages is configured.
 */
void ms_hold_tick(MemSched *ms, MemSchedClient **clients,
                  const MsPolicyGuest *guests, size_t count);

/* One batch of frames: the holder's, or a test's. */
typedef struct MsHoldBatch MsHoldBatch;

MsHoldBatch *ms_hold_batch_new(MemSched *ms);
void ms_hold_batch_free(MsHoldBatch *batch);

/*
 * Take one batch out of @client: up to 32 small pages of a frame, up to @most,
 * or, where there are none that may go, a whole huge one.  Returns how many
 * pages have left.  *ret_tried: how many were looked at; 0: there is nothing
 * (more) that may go.  *ret_flushes: move calls made.  No lock held.
 */
uint64_t ms_hold_step(MsHoldBatch *batch, MemSchedClient *client,
                      uint64_t most, uint64_t *ret_tried,
                      unsigned *ret_flushes);

#endif /* MEMSCHED_HOLD_H */
