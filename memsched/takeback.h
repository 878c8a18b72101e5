/*
 * Taking back what was populated ahead and never used
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TAKEBACK_H
#define MEMSCHED_TAKEBACK_H

#include "capture.h"

/* Pages of this frame were populated ahead of use.  No lock held. */
void ms_takeback_note(MemSchedRegion *region, uint64_t frame);

/*
 * Up to a batch of such pages of @client that hold nothing but zeros, back to
 * the pool, if touches wait for memory: its own, or (some seconds later) other
 * guests'.  Each frame is looked at once.  @scratch is the caller's to lend.
 * Returns the pages taken.  No lock held; the mover's thread.
 */
uint64_t ms_takeback_step(MemSchedClient *client, MsCapture *scratch);

/* The same, whether anybody waits or not. */
uint64_t ms_takeback(MemSchedClient *client, MsCapture *scratch);

#endif /* MEMSCHED_TAKEBACK_H */
