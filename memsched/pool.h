/*
 * The pool: host pages that no guest has
 *
 * An arena of 2 MiB slots of address space holds them.  A slot is either huge
 * (one huge page, or provably nothing, not even a page table) or small (up to
 * 512 base pages).  Address space is cheap: there are several times as many
 * slots as frames, so that huge pages always find a slot that keeps them huge.
 *
 * Ownership of a page.  A page in the arena is either *free* (the pool owns
 * it, and counts it as clean or dirty) or part of a *run* that somebody has
 * got from ms_pool_capture_begin() or ms_pool_take().  While a run is out,
 * its positions belong to the owner of the run alone: nobody else reads,
 * clears, moves or counts them.  Each run ends in exactly one
 * ms_pool_capture_end() or ms_pool_take_end(), which says what is in the
 * arena now.  So a page that was moved out of a guest to be compared is in
 * the arena and not in the pool until the capture ends, and a page that was
 * put back never was.
 *
 *     guest --move_in--> [capture run] --capture_end--> free, dirty
 *       ^                     |                            | scrubber
 *       |                  put back                        v
 *       +--------------- [taken run] <---- take ------ free, clean
 *
 * Claims.  What is captured for somebody is kept together, and comes out first
 * when somebody takes for the same claim: so a transfer maps the very frames
 * that the donor gave.  A claim is a preference and no more.  It promises no
 * number of pages (the ledger does), and its pages are free pages like all
 * others: they go to anybody once there are no others.
 *
 * Counts.  At any moment, under the pool's lock:
 *     free_clean + free_dirty + taken = pages of the pool,
 * where pages on loan to the pool's own background work stay counted as free.
 *
 * Locks.  One lock of rank MS_RANK_POOL inside.  Functions marked [any] make
 * no system call, never wait, and may be called with locks of lower rank held
 * (capture_end under the ledger's lock makes both sides of a transaction one
 * moment).  Functions marked [free] may wait or enter the kernel: call them
 * with no lock held.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_POOL_H
#define MEMSCHED_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "memsched/types.h"
#include "pagemap.h"
#include "pageset.h"
#include "sys.h"
#include "uffd.h"

typedef struct MsPool MsPool;

typedef struct MsPoolOptions {
    uint64_t frames;            /* size in 2 MiB; at least 1 */
    /*
     * Small clean pages kept ready, so that a fault need not break a huge
     * chunk; 0: default (pool / 64, 256 to 4096 pages).
     */
    uint32_t small_reserve_pages;
    /* Called from ms_pool_new()'s thread during prefaulting; may be NULL. */
    void (*progress)(void *opaque, uint64_t done_bytes, uint64_t total_bytes);
    void *opaque;
} MsPoolOptions;

/*
 * [free] Map the arena, open and register its userfaultfd, prefault @frames
 * by writes (clean, huge where the kernel gives it).  Takes seconds where it
 * is large.  -ENOMEM, -EPERM, -ENOSYS, -EINVAL.
 */
int ms_pool_new(const MsSys *sys, const MsPoolOptions *options,
                MsPool **ret_pool);

/* [free] Unmap everything.  All runs have ended; NULL is fine. */
void ms_pool_free(MsPool *pool);

/* The userfaultfd at which the arena is registered (for guest to arena). */
const MsUffd *ms_pool_uffd(const MsPool *pool);
const MsPagemap *ms_pool_pagemap(const MsPool *pool);

/* A run of positions inside one slot, owned by who got it. */
typedef struct MsPoolRun {
    char *address;              /* of its first page */
    uint32_t pages;             /* 1 to 512 */
    uint32_t slot;              /* the pool's */
    uint16_t first;             /* position in the slot; the pool's */
    bool huge;                  /* whole slot, one huge page (or, for a
                                   capture, ready to become one) */
    bool clean;                 /* taken run: all zero */
    bool scrubbed_inline;       /* take had to clear it just now */
    bool capture;               /* which of the two ends it */
} MsPoolRun;

/* ---- claims ---- */

/* A claim's name; one that was closed is the same as none. */
typedef uint32_t MsPoolClaim;

#define MS_POOL_NO_CLAIM 0

/* At once: one for each transfer that may run. */
#define MS_POOL_CLAIMS 64u

/* [any] A new one, or MS_POOL_NO_CLAIM: too many are open. */
MsPoolClaim ms_pool_claim_open(MsPool *pool);

/* [any] Its pages are anybody's now.  Constant time; no claim is fine. */
void ms_pool_claim_close(MsPool *pool, MsPoolClaim claim);

/* ---- guest to pool ---- */

/*
 * [free] Reserve empty positions as the destination of a capture.
 *
 * @huge: an aligned 2 MiB destination without page table (pages is then 512):
 * for a source that is a huge page.  Otherwise up to @pages (1 to 512)
 * contiguous small positions; fewer may come, never 0.  -ENOMEM: no position
 * left (cannot happen while the frames in flight came out of this pool).
 */
int ms_pool_capture_begin(MsPool *pool, uint32_t pages, bool huge,
                          MsPoolRun *ret_run);

/* [free] The same, for a claim. */
int ms_pool_capture_begin_for(MsPool *pool, MsPoolClaim claim,
                              uint32_t pages, bool huge, MsPoolRun *ret_run);

/*
 * [free] Move @pages pages from @src to position @first of the run; outcomes
 * of ms_uffd_move().  For a huge run also finds out whether the page stayed
 * huge; if not, run->huge becomes false and the split is counted.  May be
 * called several times with different positions (never twice for one that
 * arrived).
 *
 * A source that is a part of a huge page is split by the kernel, which takes
 * away the frames of its zero-filled pages: afterwards call ms_touch_pages()
 * (scrub.h) on what arrived and on what stayed in the guest.  Better move the
 * whole huge page and put copies of the live pages back.
 */
MsMoveResult ms_pool_move_in(MsPool *pool, MsPoolRun *run, uint32_t first,
                             void *src, uint32_t pages);

/*
 * [any] End a capture.  @arrived: bit i set where page i of the run is in
 * the arena now and is the pool's from this moment on, dirty; NULL: all of
 * them.  Bits clear: the position is empty (never moved, or put back).
 */
void ms_pool_capture_end(MsPool *pool, MsPoolRun *run,
                         const MsPageSet *arrived);

/* ---- pool to guest ---- */

typedef enum MsPoolTake {
    MS_POOL_HUGE   = 1 << 0,    /* one huge page, or -EAGAIN */
    MS_POOL_DIRTY  = 1 << 1,    /* content does not matter: do not clear */
    MS_POOL_NOWAIT = 1 << 2,    /* -EAGAIN instead of waiting for background
                                   work, breaking a huge chunk, or clearing
                                   a dirty page */
    /* Not from huge chunks: -EAGAIN when no small page is left. */
    MS_POOL_NOBREAK = 1 << 3,
    /* Rather break a huge chunk of the claim than take somebody's page. */
    MS_POOL_BREAK_CLAIM = 1 << 4,
} MsPoolTake;

/*
 * [free] Take free pages out of the pool: one huge page, or a run of 1 to
 * @pages small ones, contiguous in the arena, the longest that is at hand (a
 * single page out of broken chunks first, long runs out of whole slots).
 * Without MS_POOL_DIRTY the pages are zero: dirty ones are cleared here when
 * no clean one is left.
 *
 * Breaks a huge chunk where nothing else is left.  Waits (bounded: the clearing
 * of one chunk) where all free pages are on loan to background work.
 * -ENOMEM: nothing is free.  -EAGAIN: see the flags.
 *
 * The owner may write the pages before it moves them.
 */
int ms_pool_take(MsPool *pool, uint32_t pages, unsigned flags,
                 MsPoolRun *ret_run);

/*
 * [free] The same for a claim: its pages first, dirty ones (cleared here) too,
 * and those that are just being cleared are waited for.  A huge page that is
 * not the claim's comes only when the claim has no small pages either
 * (-EAGAIN).  With MS_POOL_NOWAIT what is dirty, or on loan, is left where it
 * is, and nobody else's is taken instead: -EAGAIN.
 */
int ms_pool_take_for(MsPool *pool, MsPoolClaim claim, uint32_t pages,
                     unsigned flags, MsPoolRun *ret_run);

/*
 * [free] Move pages [first, first + pages) of a taken run to @dst through
 * @uffd, the guest's.  Outcomes of ms_uffd_move().  A huge run moves whole;
 * this also finds out whether it is huge at @dst: if not, run->huge becomes
 * false, the split is counted, and pages that lost their frame by it get one
 * again (so the destination must not change hands meanwhile: state C).
 *
 * A huge run stays huge only where the 2 MiB at @dst have no page table.  One
 * is left behind by any small page that ever was there: whoever owns the
 * range proves it empty under the region's lock and calls
 * madvise(MADV_DONTNEED) on the whole 2 MiB first (3.7 us).
 *
 * An owner that moves pages out by other means sets run->huge to false
 * itself where the page did not leave as one.
 */
MsMoveResult ms_pool_move_out(MsPool *pool, MsPoolRun *run, uint32_t first,
                              const MsUffd *uffd, void *dst, uint32_t pages,
                              bool wake);

/*
 * [any] End a taken run.  @left: bit i set where page i has left the arena;
 * NULL: all have.  The others are free again: still clean only if the run was
 * and @dirtied is false.
 */
void ms_pool_take_end(MsPool *pool, MsPoolRun *run, const MsPageSet *left,
                      bool dirtied);

/* ---- without UFFDIO_MOVE: discard and allocate ---- */

/*
 * [free] Put fresh, zeroed frames of the kernel under pages [first, first +
 * pages) of a capture run (the guest's were discarded).  0 or -ENOMEM.
 */
int ms_pool_fill(MsPool *pool, MsPoolRun *run, uint32_t first, uint32_t pages);

/* [free] Give the frames under pages of a run back to the kernel. */
int ms_pool_discard(MsPool *pool, MsPoolRun *run, uint32_t first,
                    uint32_t pages);

/* ---- numbers ---- */

typedef struct MsPoolCounts {
    uint64_t free_clean_pages;
    uint64_t free_dirty_pages;
    uint64_t taken_pages;       /* in taken runs that have not ended */
    uint64_t capture_pages;     /* positions of captures that have not ended */
    uint64_t huge_free;         /* free huge pages, clean or dirty */
    uint64_t huge_clean;
    /* since start */
    uint64_t scrubbed_pages;    /* cleared by the background */
    uint64_t scrubbed_inline_pages;
    uint64_t splits;            /* huge pages that a move has split */
    uint64_t broken;            /* huge chunks broken for small pages */
    uint64_t remade;            /* huge chunks made out of small pages */
    uint64_t waits;             /* takes that waited for background work */
    uint64_t claim_taken_pages; /* of a claim's own, for that claim */
    uint64_t claim_other_pages; /* of somebody else's, for a claim */
} MsPoolCounts;

/* [any] One consistent snapshot. */
void ms_pool_counts(MsPool *pool, MsPoolCounts *ret_counts);

/*
 * [free] Recount from the bottom: lists against bitmaps, bitmaps against
 * counters, and every position that is not part of a run against the kernel
 * (present or not, never the zero page; huge where we say so).  0, or -EUCLEAN
 * and one sentence.  Waits for background work to pause; runs that are out
 * are left out.
 */
int ms_pool_check(MsPool *pool, MemSchedMessage *ret_message);

/* ---- background work: see scrub.h ---- */

/*
 * [free] Do one bounded piece of it (at most one 2 MiB): clear what was
 * captured for a claim; clear a dirty huge chunk; fill the small reserve;
 * remake a huge chunk out of surplus small pages; clear dirty small pages; in
 * this order of value.  1: something was done, 0: nothing to do, or -errno.
 */
int ms_pool_work(MsPool *pool);

/*
 * [free] Wait until there may be work, or ms_pool_kick(), or the time is up.
 */
void ms_pool_wait_work(MsPool *pool, uint64_t timeout_ns);

/* [any] Make ms_pool_wait_work() return. */
void ms_pool_kick(MsPool *pool);

/* [free] No background work runs when this returns, until resumed; counted. */
void ms_pool_pause_work(MsPool *pool);
void ms_pool_resume_work(MsPool *pool);

#endif /* MEMSCHED_POOL_H */
