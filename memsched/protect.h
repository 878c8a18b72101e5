/*
 * Protection of guest pages by parity: what the rest of the library calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PROTECT_H
#define MEMSCHED_PROTECT_H

#include <stdatomic.h>
#include <stdint.h>

#include "memsched/recovery.h"
#include "pageset.h"
#include "stats.h"

typedef struct MsProtect MsProtect;     /* of one region */
typedef struct MsProtector MsProtector; /* the thread */

/* Of one guest. */
typedef struct MsProtectStats {
    MsCounter joined, left_by_write, left_by_capture, changed;
    MsCounter recovered, recovered_dead, lost;
    MsCounter disk_noted, disk_left_by_write, disk_left_by_disk;
    MsCounter disk_changed, disk_recovered, disk_failed;
    MsCounter scrubbed;         /* pages verified, parity too */
    MsCounter mismatched, mismatched_parity;    /* found by that */
    MsCounter found_broken;     /* the same: errors that nobody had met */
    MsHistogram disk;           /* the part of repair that read a disk */
    MsHistogram repair;         /* signal or call to restart */
    MsHistogram write;          /* fault read to writer woken */
    _Atomic uint64_t last_ns;   /* clock at the last repair or loss; 0: none */
} MsProtectStats;

/* ---- the thread: joins, and leaves at a first write ---- */

int ms_protector_start(MemSched *ms, MsProtector **ret_protector);
void ms_protector_stop(MsProtector *protector);         /* NULL is fine */
void ms_protector_kick(MsProtector *protector);         /* a join, now */

/*
 * A write to a write-protected page waits: queued, never refused.  The region
 * is entered; no lock held.
 */
void ms_protect_fault(MsProtector *protector, MemSchedRegion *region,
                      uint64_t page);

/* ---- what happens to pages and regions ---- */

/* A new region of a guest that is protected.  Failure: it is not covered. */
void ms_protect_region_new(MemSchedRegion *region);

/* Its addresses are other pages now. */
void ms_protect_map_changed(MemSchedClient *client);

/* The guest goes away. */
void ms_protect_client_gone(MemSchedClient *client);

/* NULL is fine. */
void ms_protect_free(MsProtect *protect);

/* It goes away; nobody is in it. */
void ms_protect_region_gone(MemSchedRegion *region);

/*
 * Pages of @set, in state C and still in the guest, are about to leave it: out
 * of their stripes, and unprotected.  Waits for who works on these stripes
 * (at most a join or a repair, which wait for nobody).  Not @dead: the guest
 * has not given up what they hold, so that broken ones stay.  No lock held.
 */
void ms_protect_leave(MemSchedRegion *region, uint64_t frame,
                      const MsPageSet *set, bool dead);

/*
 * Pages of @frame that are in a stripe, or known to be on a disk.  The region's
 * lock is held: none joins meanwhile.
 */
void ms_protect_covered_locked(MemSchedRegion *region, uint64_t frame,
                               MsPageSet *ret_set);

/*
 * A page's content is gone without having been read: never again give it the
 * old one.  The region's lock is held.
 */
void ms_protect_dropped_locked(MemSchedRegion *region, uint64_t page);

/* ---- disk.c: what is on a disk too ---- */

/* The guest goes away, and none of its threads runs. */
void ms_disks_end(MemSchedClient *client);

/* refill.c: the guest's pages that are being read are lost, now. */
void ms_refills_abandon(MemSchedClient *client);
/* Nobody of the guest answers any more: what was abandoned is freed. */
void ms_refills_drop(MemSchedClient *client);

/*
 * Recount: books, and each stripe's parity and checksums from its pages.
 * NULL, or what differs.  Nothing else may be going on.
 */
const char *ms_protect_check(MemSchedRegion *region);

#endif /* MEMSCHED_PROTECT_H */
