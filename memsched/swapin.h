/*
 * Pages in the swap file that somebody touches: read apart, so that no other
 * fault waits for the disk
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SWAPIN_H
#define MEMSCHED_SWAPIN_H

#include <stdint.h>

#include "memsched/types.h"

typedef struct MsSwapin MsSwapin;

int ms_swapin_start(MemSched *ms, MsSwapin **ret_swapin);
void ms_swapin_stop(MsSwapin *swapin);  /* NULL is fine */

/* A touch of a page: who touched it, and since when it waits. */
typedef struct MsSwapinTouch {
    MemSchedRegion *region;
    uint64_t page;
    uint64_t since_ns;
    unsigned grant_flags;       /* MsGrantFlag */
    bool device;                /* not a vCPU's thread */
} MsSwapinTouch;

/*
 * Queue it; returns at once.  It ends as every fault does: populated, woken as
 * stale, parked, or waiting in its guest's queue where the ledger has changed
 * its mind.
 */
void ms_swapin_queue(MsSwapin *swapin, const MsSwapinTouch *touch);

#endif /* MEMSCHED_SWAPIN_H */
