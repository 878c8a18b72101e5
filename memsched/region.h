/*
 * One RAMBlock of a guest
 *
 * Locks.  region->lock (rank region) guards the page states, epoch, busy and
 * dying; region->cond is signalled at every end of C and when busy drops.
 * Moves run without the lock, on pages that their owner has put into C.
 *
 * Lifetime.  The map and whoever looks a region up hold a reference, which
 * keeps the struct alive, not the memory.  Who works on the memory is *in* it:
 * ms_region_enter() to ms_region_leave(); memsched_region_free() waits for
 * them and lets nobody in any more.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_REGION_H
#define MEMSCHED_REGION_H

#include <stdatomic.h>

#include "memsched/memsched.h"
#include "held-map.h"
#include "lock.h"
#include "pagestate.h"
#include "sample.h"
#include "tag-map.h"

struct MemSchedRegion {
    MemSched *ms;
    MemSchedClient *client;
    char name[64];
    char *base;                 /* 2 MiB boundary at or below the first byte */
    char *host;
    uint64_t length_bytes;
    bool movable;               /* UFFDIO_MOVE works; else discard and copy */
    bool shared;                /* discard by MADV_REMOVE */
    bool huge;                  /* 2 MiB pages may be put here */

    _Atomic unsigned refs;

    MsLock lock;
    MsCond cond;
    MsPages pages;
    uint64_t epoch;             /* raised by every reset */
    unsigned busy;              /* operations inside */
    bool dying;
    uint64_t ready_cursor;      /* the mover's place, a frame */
    uint64_t retry_ns;          /* nothing ready could be taken: not before */
    uint64_t prefetch_cursor;   /* the same of ms_prefetch() */
    uint64_t ahead_cursor;      /* the same of ms_takeback_step() */
    uint64_t lease_first, lease_end;    /* frames that the scan reads now:
                                           nothing is taken out of them */
    MsTagMap tags;              /* of the pages in state T */
    MsHeldMap held;             /* of those in state S */
    uint64_t hold_cursor;       /* where the hand of hold.c stands, a page */
    MsSamples samples;          /* units out of the guest, in state C */

    /* Set once, when its guest is first protected; NULL until then. */
    _Atomic(struct MsProtect *) protect;
};

MemSchedRegion *ms_region_ref(MemSchedRegion *region);
void ms_region_unref(MemSchedRegion *region);

/* False: it is going away.  Takes the lock; true returns with it held. */
bool ms_region_enter_locked(MemSchedRegion *region);
/* Takes no lock: call without it. */
void ms_region_leave(MemSchedRegion *region);

static inline char *ms_region_address(const MemSchedRegion *region,
                                      uint64_t page)
{
    return region->base + (page << MEMSCHED_PAGE_SHIFT);
}

/*
 * Pages in state C that come back by themselves: not those that are out for a
 * sample.  Region lock held.
 */
static inline uint64_t ms_region_transit_locked(const MemSchedRegion *region)
{
    return region->pages.count[MEMSCHED_PAGE_TRANSIT] - region->samples.pages;
}

/*
 * Note a fault at a page in C, whose owner will wake it.  False: the page is
 * out for a sample and has none; wake the toucher, whose next fault brings it
 * back.  Region lock held.
 */
bool ms_region_park_locked(MemSchedRegion *region, uint64_t page);

/* Wait without the lock until no page of [first, first + count) is in C. */
void ms_region_wait_transit_locked(MemSchedRegion *region, uint64_t first,
                                   uint64_t count);

/* Leased to the scan: see scan.c. */
static inline bool ms_region_is_leased(const MemSchedRegion *region,
                                       uint64_t frame)
{
    return frame >= region->lease_first && frame < region->lease_end;
}

/*
 * Wait without the lock until the scan has read @frame, some 40 us; at most
 * 10 ms, so that nobody depends on it.
 */
void ms_region_wait_lease_locked(MemSchedRegion *region, uint64_t frame);

/*
 * The kernel forgets @pages pages at @address, also where a file has them.  0,
 * or -errno of madvise().  The pages are in C, or nobody touches them.
 */
int ms_region_discard(const MemSchedRegion *region, char *address,
                      uint64_t pages);

/* Wake whoever touched pages [first, first + count); no lock held. */
void ms_region_wake(MemSchedRegion *region, uint64_t first, uint64_t count);

#endif /* MEMSCHED_REGION_H */
