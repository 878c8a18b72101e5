/*
 * Putting pool pages into a guest
 *
 * Owns the order of steps, for some holes of one 2 MiB frame:
 *
 *   region lock   which pages; ledger: how many of them; they -> C
 *   no lock       take from the pool, write what is no zero, move in
 *   ledger lock   what was not used goes back; transfers learn of the rest
 *   region lock   C -> R, or back to what they were
 *   no lock       wake whoever touched one of them meanwhile
 *
 * While a page is in C nobody else populates, captures or gives it up, so the
 * ledger's pages and the kernel's agree however many threads work on a frame.
 *
 * A frame that is wanted whole and is empty gets one huge page, if the pool has
 * one: by one call, and it stays huge later.  A page table that an earlier
 * small page left behind would split it silently: the range is discarded first,
 * which frees the table, and is known to be empty.
 *
 * Where moves do not work, zeros are copied in and the pool's frame goes back
 * to the kernel in exchange.
 *
 * Whose pages may be given is the ledger's to say; which of them, the caller's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <sys/mman.h>

#include "instance.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* 256 KiB: 43 us for 64 small pages against 26 us for a single one. */
#define WINDOW_PAGES 64u

typedef struct Job {
    const MsPopulate *p;
    MsPageSet take;             /* in C, ours */
    MsPageSet ballooned, reported;      /* what they were; the others: H */
    MsPageSet in;               /* populated */
    MsGrant grant;
    MsPoolClaim claim;          /* whose pages are taken first */
    unsigned take_flags;
    uint64_t moved, copied;
    bool whole;                 /* the frame is empty, and wanted whole */
    bool table;                 /* it may hold a page table */
    bool huge;                  /* it is one huge page now */
} Job;

/* ---- which, and how many ---- */

/*
 * Ask the ledger: for the touched page first, for the others only what leaves
 * @keep.  Less than all of a frame is not worth more than a window around the
 * touch.
 */
static void grant_locked(Job *job)
{
    const MsPopulate *p = job->p;
    MemSchedClient *client = p->region->client;
    MemSched *ms = client->ms;
    unsigned want = ms_pageset_count(&job->take), got;
    bool touched = p->touched < FRAME_PAGES;
    MsGrant more = { 0 };
    MsPageSet window;

    job->grant = (MsGrant) { 0 };
    job->claim = MS_POOL_NO_CLAIM;
    /* A touch does not wait for it: 1 ms. */
    job->take_flags = (touched ? 0 : MS_POOL_BREAK_CLAIM) |
                      (p->content && p->content->whole ? MS_POOL_DIRTY : 0);
    ms_lock(&ms->ledger_lock);
    if (touched) {
        ms_ledger_grant(&ms->ledger, &client->account, 1,
                        p->grant_flags & ~MS_GRANT_AHEAD, 0, &job->grant);
    }
    if (!touched || job->grant.pages == 1) {
        ms_ledger_grant(&ms->ledger, &client->account, want - touched,
                        (p->grant_flags & ~MS_GRANT_ALLOWANCE) |
                        (touched ? MS_GRANT_AHEAD : 0), p->keep, &more);
    }
    job->grant.pages += more.pages;
    job->grant.from_claim += more.from_claim;
    job->grant.from_allowance += more.from_allowance;
    got = job->grant.pages;
    if (got < (touched ? 1 : want)) {
        ms_trace(ms, MEMSCHED_TRACE_GRANT_REFUSED, client->id,
                 touched ? 1 : want, got);
    }
    if (job->grant.from_claim > 0) {
        job->claim = client->pool_claim;
    }

    if (got < want && touched) {
        ms_pageset_clear(&window);
        ms_pageset_add(&window, p->touched & ~(WINDOW_PAGES - 1),
                       WINDOW_PAGES);
        job->take = ms_pageset_and(&job->take, &window);
        if (ms_pageset_count(&job->take) > got) {
            ms_pageset_remove(&job->take, p->touched, 1);
            ms_pageset_keep_first(&job->take, got > 0 ? got - 1 : 0);
            ms_pageset_add(&job->take, p->touched, got > 0);
        }
    } else if (got < want) {
        ms_pageset_keep_first(&job->take, got);
    }
    want = ms_pageset_count(&job->take);
    if (got > want) {
        ms_ledger_ungrant(&ms->ledger, &client->account, &job->grant,
                          got - want);
    }
    ms_unlock(&ms->ledger_lock);
}

/* False: nothing to do, or nothing granted. */
static bool begin(Job *job)
{
    const MsPopulate *p = job->p;
    MemSchedRegion *region = p->region;
    MsPages *pages = &region->pages;
    uint64_t first = p->frame * FRAME_PAGES;
    MsPageSet set;
    bool any;

    ms_lock(&region->lock);
    ms_pages_select(pages, first, FRAME_PAGES, p->mask, &set);
    job->take = ms_pageset_and(&set, &p->want);
    any = !ms_pageset_empty(&job->take) &&
          (p->touched >= FRAME_PAGES ||
           ms_pageset_has(&job->take, p->touched));
    if (any) {
        grant_locked(job);
        any = !ms_pageset_empty(&job->take);
    }
    if (any) {
        ms_pages_select(pages, first, FRAME_PAGES, MS_STATE_BIT(BALLOONED),
                        &set);
        job->ballooned = ms_pageset_and(&set, &job->take);
        ms_pages_select(pages, first, FRAME_PAGES, MS_STATE_BIT(REPORTED),
                        &set);
        job->reported = ms_pageset_and(&set, &job->take);
        ms_pageset_clear(&job->in);
        job->whole = region->huge &&
                     ms_pageset_count(&job->take) == FRAME_PAGES;
        job->table = pages->frame[p->frame].flags & MS_FRAME_TABLE;
        if (p->content) {
            p->content->begin_locked(p->content_opaque, p->frame, &job->take);
        }
        ms_pages_change_set(pages, MS_PAGE_TAKE_IN, p->frame, &job->take,
                            MEMSCHED_PAGE_TRANSIT);
    }
    ms_unlock(&region->lock);
    return any;
}

/* ---- arena to guest ---- */

static char *guest_address(const Job *job, unsigned page)
{
    return ms_region_address(job->p->region,
                             job->p->frame * FRAME_PAGES + page);
}

static void write_content(Job *job, MsPoolRun *run, unsigned at,
                          unsigned page, unsigned count)
{
    const MsPopulate *p = job->p;

    if (p->content) {
        p->content->write(p->content_opaque, run->address +
                          ((size_t)at << MEMSCHED_PAGE_SHIFT), page, count);
    }
}

/* The whole frame by one huge page.  False: by small ones, please. */
static bool put_huge(Job *job)
{
    MemSchedRegion *region = job->p->region;
    MemSched *ms = region->ms;
    char *guest = guest_address(job, 0);
    MsMoveResult moved;
    MsPageSet left;
    MsPoolRun run;

    if (ms_pool_take_for(ms->pool, job->claim, FRAME_PAGES,
                         MS_POOL_HUGE | MS_POOL_NOWAIT, &run) < 0 &&
        /* None is clean: to clear one (0.2 ms) keeps the guest huge. */
        ms_pool_take_for(ms->pool, job->claim, FRAME_PAGES, MS_POOL_HUGE,
                         &run) < 0) {
        return false;
    }
    write_content(job, &run, 0, 0, FRAME_PAGES);
    if (job->table &&
        ms->sys->madvise(ms->sys, guest, MEMSCHED_FRAME_SIZE,
                         MADV_DONTNEED) == 0) {
        job->table = false;
    }
    moved = ms_pool_move_out(ms->pool, &run, 0, &region->client->uffd, guest,
                             FRAME_PAGES, true);
    ms_count(&ms->stats.flushes, moved.calls);
    job->huge = run.huge && moved.moved_pages == FRAME_PAGES;
    ms_pageset_clear(&left);
    ms_pageset_add(&left, 0, moved.moved_pages);
    ms_pool_take_end(ms->pool, &run, &left, job->p->content != NULL);
    job->in = left;
    job->moved += moved.moved_pages;
    ms_count(&ms->stats.huge_moves, job->huge);
    job->table = !job->huge && moved.moved_pages > 0;
    return moved.moved_pages > 0;
}

/*
 * Pages [page, page + count) out of @run from @at on.  Sets what has arrived in
 * the guest and what has left the run; false: go no further.
 */
static bool put_segment(Job *job, MsPoolRun *run, unsigned at, unsigned page,
                        unsigned count, MsPageSet *left)
{
    MemSchedRegion *region = job->p->region;
    MemSched *ms = region->ms;
    const MsUffd *uffd = &region->client->uffd;
    unsigned done = 0;

    while (done < count) {
        char *guest = guest_address(job, page + done);
        char *arena = run->address +
                      ((size_t)(at + done) << MEMSCHED_PAGE_SHIFT);
        MsMoveResult put;

        if (region->movable) {
            put = ms_pool_move_out(ms->pool, run, at + done, uffd, guest,
                                   count - done, true);
            job->moved += put.moved_pages;
            ms_count(&ms->stats.flushes, put.calls);
        } else {
            put = ms_uffd_copy(uffd, guest, arena, count - done, false, true);
            job->copied += put.moved_pages;
            ms_pool_discard(ms->pool, run, at + done, put.moved_pages);
        }
        ms_pageset_add(&job->in, page + done, put.moved_pages);
        ms_pageset_add(left, at + done, put.moved_pages);
        done += put.moved_pages;
        if (put.stop == MS_MOVE_DONE) {
            break;
        }
        if (put.stop != MS_MOVE_EXISTS) {
            return false;
        }
        /*
         * Somebody else put a frame of the kernel's there, which must not
         * happen: count it as ours, and give one of ours for it.
         */
        ms_pool_discard(ms->pool, run, at + done, 1);
        ms_pageset_add(left, at + done, 1);
        ms_pageset_add(&job->in, page + done, 1);
        ms_region_wake(region, job->p->frame * FRAME_PAGES + page + done, 1);
        ms_count(&ms->stats.discarded_pages, 1);
        done++;
    }
    return true;
}

static void put_small(Job *job)
{
    MemSched *ms = job->p->region->ms;
    unsigned page, count, p = 0;
    MsPageSet todo = job->take;
    bool more = true;

    /* A huge page may have been split, and interrupted, on its way. */
    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        todo.word[w] &= ~job->in.word[w];
    }
    job->table = true;
    while (more && ms_pageset_run(&todo, p, &page, &count)) {
        MsPageSet left;
        MsPoolRun run;
        unsigned at = 0;

        if (ms_pool_take_for(ms->pool, job->claim, ms_pageset_count(&todo),
                             job->take_flags, &run) < 0) {
            break;
        }
        ms_pageset_clear(&left);
        while (more && at < run.pages &&
               ms_pageset_run(&todo, p, &page, &count)) {
            count = MIN(count, run.pages - at);
            write_content(job, &run, at, page, count);
            more = put_segment(job, &run, at, page, count, &left);
            ms_pageset_remove(&todo, page, count);
            at += count;
            p = page + count;
        }
        ms_pool_take_end(ms->pool, &run, &left, job->p->content != NULL);
    }
}

/* ---- the books ---- */

/*
 * A touch has brought back what the guest had given, or an application of it.
 */
static void note_returned(Job *job)
{
    MsPageSet back = ms_pageset_and(&job->in, &job->ballooned);
    MsPageSet reported = ms_pageset_and(&job->in, &job->reported);
    uint64_t pages = job->p->mask == MS_STATE_BIT(TAG)
        ? ms_pageset_count(&job->in)
        : ms_pageset_count(&back) + ms_pageset_count(&reported);

    if (job->p->touched < FRAME_PAGES && pages > 0) {
        ms_client_returned(job->p->region->client, pages);
    }
}

static void settle(Job *job)
{
    MemSchedClient *client = job->p->region->client;
    MemSched *ms = client->ms;
    uint64_t in = ms_pageset_count(&job->in);
    bool unused = in < job->grant.pages;

    ms_lock(&ms->ledger_lock);
    ms_ledger_ungrant(&ms->ledger, &client->account, &job->grant,
                      job->grant.pages - in);
    if (job->grant.from_claim && ms->hooks && ms->hooks->populated) {
        ms->hooks->populated(ms, client, job->grant.from_claim,
                             job->copied ? MS_HOW_COPIED : MS_HOW_MOVED);
    }
    ms_unlock(&ms->ledger_lock);

    ms_count(&ms->stats.populated_pages, in);
    ms_count(&client->stats_counters.populated_pages, in);
    ms_count(&ms->stats.moved_pages, job->moved);
    ms_count(&ms->stats.copied_pages, job->copied);
    note_returned(job);
    if (unused) {
        ms_ledger_rose(ms);
    }
}

static void end(Job *job)
{
    const MsPopulate *p = job->p;
    MemSchedRegion *region = p->region;
    MsPages *pages = &region->pages;
    MsPageSet not_in = job->take, in = job->in, lost, was;
    int parked;

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        not_in.word[w] &= ~job->in.word[w];
    }
    ms_pageset_clear(&lost);
    if (p->content && p->content->lost) {
        p->content->lost(p->content_opaque, &lost);
        lost = ms_pageset_and(&lost, &job->in);
        ms_pageset_subtract(&in, &lost);
    }
    ms_lock(&region->lock);
    parked = ms_pages_change_set(pages, MS_PAGE_POPULATED, p->frame, &in,
                                 MEMSCHED_PAGE_RESIDENT);
    parked |= ms_pages_change_set(pages, MS_PAGE_POPULATED, p->frame, &lost,
                                  MEMSCHED_PAGE_LOST);
    if (p->content) {
        p->content->end_locked(p->content_opaque, p->frame, &job->in);
    }
    if (!ms_pageset_empty(&not_in)) {
        was = ms_pageset_and(&not_in, &job->ballooned);
        parked |= ms_pages_change_set(pages, MS_PAGE_NOT_POPULATED, p->frame,
                                      &was, MEMSCHED_PAGE_BALLOONED);
        was = ms_pageset_and(&not_in, &job->reported);
        parked |= ms_pages_change_set(pages, MS_PAGE_NOT_POPULATED, p->frame,
                                      &was, MEMSCHED_PAGE_REPORTED);
        for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
            not_in.word[w] &= ~(job->ballooned.word[w] |
                                job->reported.word[w]);
        }
        parked |= ms_pages_change_set(pages, MS_PAGE_NOT_POPULATED, p->frame,
                                      &not_in, p->content
                                      ? p->content->state
                                      : MEMSCHED_PAGE_HOLE);
    }
    if (job->huge) {
        ms_pages_set_flag(pages, p->frame, MS_FRAME_HUGE, true);
    }
    ms_pages_set_flag(pages, p->frame, MS_FRAME_TABLE, job->table);
    ms_cond_broadcast(&region->cond);
    ms_unlock(&region->lock);

    if (parked > 0) {
        ms_region_wake(region, p->frame * FRAME_PAGES, FRAME_PAGES);
    }
}

uint64_t ms_populate_frame(const MsPopulate *populate, bool *ret_touched)
{
    Job job = { .p = populate };

    if (!begin(&job)) {
        if (ret_touched) {
            *ret_touched = false;
        }
        return 0;
    }
    if (!job.whole || !put_huge(&job)) {
        put_small(&job);
    }
    settle(&job);
    end(&job);
    ms_trace(populate->region->ms, MEMSCHED_TRACE_POPULATE,
             populate->region->client->id,
             populate->frame * MEMSCHED_FRAME_SIZE,
             ms_pageset_count(&job.in));
    if (ret_touched) {
        *ret_touched = populate->touched < FRAME_PAGES &&
                       ms_pageset_has(&job.in, populate->touched);
    }
    return ms_pageset_count(&job.in);
}
