/*
 * Repair of pages with uncorrectable errors
 *
 * The calls of recovery.h that meet an error, and the thread behind them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_REPAIR_H
#define MEMSCHED_REPAIR_H

#include "memsched/recovery.h"
#include "pagestate.h"

typedef struct MsRepair MsRepair;

int ms_repair_start(MemSched *ms, MsRepair **ret_repair);
void ms_repair_stop(MsRepair *repair);  /* NULL is fine */

/*
 * What broken and lost pages in [page, end) held does not matter any more: the
 * machine starts anew, the region goes away, or the guest gives them up.  They
 * are ordinary pages with zeros afterwards.  No lock held.
 */
void ms_repair_forget(MemSchedRegion *region, uint64_t page, uint64_t end);

/*
 * A page is lost for another reason (held.c): its guest is told, before there
 * are zeros in its place.  No lock held.
 */
void ms_repair_tell_lost(MemSchedRegion *region, uint64_t page,
                         uint64_t since_ns);

/*
 * A page with an error that nobody has met: the repair thread's, as if somebody
 * had.  False: it has too much to do; ask again.  Waits for nothing.
 */
bool ms_repair_ask(MemSched *ms, void *address);

/* The scrubber has found what is not as it should be.  Rows may be held. */
void ms_repair_tell_mismatch(MemSchedRegion *region, uint64_t page,
                             MemSchedMismatch what);

/* ---- repair.c and repair-inject.c only ---- */

/* The page's owner ends C. */
void ms_repair_end(MemSchedRegion *region, uint64_t page, MsPageEvent event,
                   MemSchedPageState state);
/* Zeros in the place of what is there; false: the kernel has no frame. */
bool ms_repair_place_zeros(MemSchedRegion *region, uint64_t page);

#endif /* MEMSCHED_REPAIR_H */
