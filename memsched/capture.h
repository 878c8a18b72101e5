/*
 * Taking pages out of a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_CAPTURE_H
#define MEMSCHED_CAPTURE_H

#include "memsched/memsched.h"
#include "pageset.h"
#include "pool.h"

/* ---- the thread (mover.c) ---- */

typedef struct MsMover MsMover;

/* The one thread that captures pages in state G, and prefetches claims. */
int ms_mover_start(MemSched *ms, MsMover **ret_mover);
void ms_mover_stop(MsMover *mover);     /* NULL is fine */
void ms_mover_kick(MsMover *mover);     /* any lock may be held; NULL is fine */

/* TLB flushes a second that it may cause; 0: no limit.  Default 2000. */
void ms_mover_set_budget(MsMover *mover, unsigned flushes_per_s);

/*
 * Up to @pages pages of @client in state G are wanted now, also out of frames
 * that are not complete (which splits them): a transfer runs short, or a
 * fault waits.  Returns at once; replaces an earlier wish.
 */
void ms_capture_urge(MemSchedClient *client, uint64_t pages);

/* ---- one batch of frames of one region (capture.c) ---- */

/*
 * 32 huge pages take 0.1 ms, 8 MiB of small ones 0.3 ms: so long a touch of
 * one of the pages may have to wait.
 */
#define MS_CAPTURE_FRAMES 32u
#define MS_CAPTURE_RUNS   48u
#define MS_CAPTURE_SMALL  4u    /* frames of small pages in a batch */

typedef struct MsCaptureFrame {
    uint64_t frame;
    MsPageSet take;             /* in C, and ours */
    MsPageSet given;            /* part of take: was G, else R */
    MsPageSet keep;             /* part of take: only out because they are of
                                   the same huge page, or turned out not to
                                   be what they seemed; go back */
    MsPageSet empty;            /* part of take: hold nothing, and become
                                   holes if they go */
    MsPageSet gone;             /* left the guest for good */
    bool huge;                  /* all of it is one huge page */
    bool table;                 /* a page table is left in the guest */
    bool put_back;              /* fence raised, or no longer legal */
} MsCaptureFrame;

typedef struct MsCaptureRun {
    MsPoolRun run;
    unsigned index;             /* of its frame in the batch */
    unsigned used;              /* positions that stand for a page */
    MsPageSet pages;            /* position k: the k-th member */
    MsPageSet arrived;          /* positions */
} MsCaptureRun;

/* For whom the next pages of a batch will be claimed, in this order. */
#define MS_CAPTURE_TAKERS 4u

typedef struct MsCaptureTaker {
    MsPoolClaim claim;
    uint64_t pages;             /* that it still wants */
} MsCaptureTaker;

typedef struct MsCapture MsCapture;

/*
 * What a capture by value adds to the steps (capture-tag.c), or a look at pages
 * (protect-join.c).  NULL: nothing; so each of the last two.
 */
typedef struct MsCaptureOps {
    /*
     * The batch is in the arena, no lock is held: pages that have to go back
     * are added to frame.keep, whole frames get put_back.
     */
    void (*verify)(MsCapture *capture);
    /* @pages are the pool's now, and about to be anybody's; ledger's lock. */
    void (*credited)(MsCapture *capture, uint64_t pages);
    /* frame.gone has changed to capture->state just now; region lock held. */
    void (*captured_locked)(MsCapture *capture, unsigned index);
    /*
     * What has to go back is back, C has not ended, no lock is held.  Given:
     * this is no capture but a look at pages, all of which go back.
     */
    void (*returned)(MsCapture *capture);
} MsCaptureOps;

struct MsCapture {
    MemSchedRegion *region;     /* entered by the caller */
    MemSchedSource source;      /* for transfers */
    MemSchedPageState state;    /* of what has left */
    bool home;                  /* region goes away: no fence, nothing stays */
    bool discard;               /* without moves */
    bool zero;                  /* only what holds nothing but zeros, compared
                                   when it has left; a huge page as a whole */
    uint64_t epoch;             /* of the region when the guest gave */
    const MsCaptureOps *ops;
    void *opaque;               /* of the ops' owner */
    uint64_t pages_want;        /* in the batch */
    unsigned frames, runs, small;
    unsigned takers, taker;     /* how many; whose turn it is */
    MsCaptureTaker to[MS_CAPTURE_TAKERS];
    /* results, summed up over batches */
    uint64_t captured_pages, busy_pages;
    unsigned flushes;
    MsCaptureFrame frame[MS_CAPTURE_FRAMES];
    MsCaptureRun run[MS_CAPTURE_RUNS];
};

/* Region lock held, so that the epoch belongs to the state of the pages. */
void ms_capture_init_locked(MsCapture *capture, MemSchedRegion *region,
                            MemSchedSource source, MemSchedPageState state);

/*
 * Put members of @take that are R or G into C and into the batch.  False: the
 * batch is full, nothing done.  A frame that is leased to the scan is left
 * alone, and its pages count as busy.  Region lock held.
 */
bool ms_capture_add_locked(MsCapture *capture, uint64_t frame,
                           const MsPageSet *take);

/*
 * Move the batch, put back what may not go, credit the rest, end C.  No lock
 * held.  The batch is empty then.
 */
void ms_capture_run(MsCapture *capture);

/*
 * Half of that: what is in the batch, a single frame, leaves the guest but
 * stays in C.  True: all of it is in run[0] now.  False: it has to be brought
 * back, as what may not leave, or did not.  No lock held.
 */
bool ms_capture_take_out(MsCapture *capture);
/*
 * All of it back, end C; capture->state is HELD, so that nobody takes it for
 * the guest's doing.  No lock held.  The batch is empty then.
 */
void ms_capture_bring_back(MsCapture *capture);

/*
 * A page that is resident by our map gave a fault: if the kernel says that it
 * is gone too (somebody discarded it), make it a hole, and take a new frame
 * for the pool in exchange: true.  The region is entered; no lock held.
 */
bool ms_capture_discarded(MemSchedRegion *region, uint64_t page);

/*
 * All resident pages of a region that nobody touches any more, home to the
 * pool.  The region is dying and nobody is in it.
 */
void ms_capture_region_home(MemSchedRegion *region);

#endif /* MEMSCHED_CAPTURE_H */
