/*
 * Taking pages out of a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_CAPTURE_H
#define MEMSCHED_CAPTURE_H

#include "memsched/memsched.h"

typedef struct MsMover MsMover;

/* The one thread that captures pages in state G, and prefetches claims. */
int ms_mover_start(MemSched *ms, MsMover **ret_mover);
void ms_mover_stop(MsMover *mover);     /* NULL is fine */
void ms_mover_kick(MsMover *mover);     /* any lock may be held */

/* TLB flushes a second that it may cause; 0: no limit.  Default 2000. */
void ms_mover_set_budget(MsMover *mover, unsigned flushes_per_s);

/*
 * Up to @pages pages of @client in state G are wanted now, also out of frames
 * that are not complete (which splits them): a transfer runs short, or a
 * fault waits.  Returns at once; replaces an earlier wish.
 */
void ms_capture_urge(MemSchedClient *client, uint64_t pages);

/*
 * All resident pages of a region that nobody touches any more, home to the
 * pool.  The region is dying and nobody is in it.
 */
void ms_capture_region_home(MemSchedRegion *region);

#endif /* MEMSCHED_CAPTURE_H */
