/*
 * Units of a guest's memory that are out of it for a while, to see whether it
 * touches them again
 *
 * A unit is what one entry of the page tables maps: 2 MiB where the page is
 * huge, 4 KiB where it is small.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SAMPLE_H
#define MEMSCHED_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "memsched/types.h"
#include "pool.h"

typedef enum MsSampleState {
    MS_SAMPLE_MOVES,            /* on its way out, or back: its owner's */
    MS_SAMPLE_OUT,              /* whoever wants it may bring it back */
    MS_SAMPLE_TOUCHED,          /* is back, by a touch */
    MS_SAMPLE_VOID,             /* is back, for a reason that says nothing */
} MsSampleState;

typedef struct MsSample {
    uint64_t frame;
    uint16_t first, pages;      /* in the frame: all of it, or one page */
    bool table;                 /* it left a page table behind */
    MsSampleState state;
    MsPoolRun run;              /* where it is while it is out */
    uint64_t out_ns;            /* since when */
    uint64_t after_ns;          /* TOUCHED: how long that took */
} MsSample;

/* All of one region, in no order; the region's lock guards it. */
typedef struct MsSamples {
    MsSample *sample;
    unsigned count, size;
    uint64_t pages;             /* in state C, MOVES or OUT */
} MsSamples;

/* None may be out. */
void ms_samples_destroy(MsSamples *samples);

/*
 * Take the unit that @page is part of out of its guest.  How many pages: 0 if
 * it may not go now.  (What a device has in use comes back at once, as
 * touched.)  @most: pages it may have.  The region is entered, captures are
 * permitted, no lock held.
 */
unsigned ms_sample_take(MemSchedRegion *region, uint64_t page, uint64_t most);

/*
 * A touch of @page, which is in state C.  True: it was out, and is back and
 * woken.  False: somebody else has it in C.  The region is entered, no lock.
 */
bool ms_sample_touched(MemSchedRegion *region, uint64_t page);

/* It is; region lock held. */
bool ms_sample_is_out_locked(MemSchedRegion *region, uint64_t page);

/*
 * Bring back what is out of pages [first, first + count), and learn nothing
 * from it.  True: there was some.  The region is entered, or gone for anybody
 * else; its lock is held, and given up meanwhile.
 */
bool ms_sample_recall_locked(MemSchedRegion *region, uint64_t first,
                             uint64_t count);
/* The same, without the lock. */
void ms_sample_recall(MemSchedRegion *region, uint64_t first, uint64_t count);

/*
 * The next unit that went out @window_ns ago or more: true, and what became of
 * it; one that is still out is brought back first (state OUT: nobody touched
 * it).  Those that are void are passed over.  The region is entered, no lock.
 */
bool ms_sample_harvest(MemSchedRegion *region, uint64_t window_ns,
                       MsSample *ret_sample);

/* NULL, or what differs: records against states, and against the kernel. */
const char *ms_sample_check(MemSchedRegion *region);

#endif /* MEMSCHED_SAMPLE_H */
