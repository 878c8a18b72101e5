/*
 * The moves of a capture: out of the guest, and back where they must
 *
 * A frame that the guest maps with one huge page is moved whole, by one call,
 * into a slot that keeps it huge (2 to 3 us); everything else by runs of small
 * pages (about 0.1 us a page in runs of 2 MiB).
 *
 * A part of a huge page.  Moving it would split the page: 0.7 ms, and the
 * kernel then replaces its zero-filled pages by the shared zero page, so that
 * frames vanish from the books (Linux 6.13 and later).  Instead the whole page
 * goes, and copies of the pages that must stay come back in small pages of the
 * pool, before anybody can touch them (0.4 us a page); only without any to be
 * had is it split, and each of its pages written to, so that it has a frame
 * again.
 *
 * Where moves do not work (shared RAM, an old kernel) the same steps discard
 * the guest's page and put a fresh one into the arena; then the fence has to be
 * looked at before, since nothing could be put back.
 *
 * Everything here works on pages that are in C and belong to the batch, so it
 * holds no lock; what came of it is in the batch's sets, not in the books.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "capture-int.h"
#include "instance.h"
#include "scrub.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* Pages of one run that may be busy one after the other before it is left. */
#define BUSY_IN_A_ROW 3u
/* For a refusal that says "the address space changes". */
#define AGAIN_TRIES   3u

/* ---- guest to arena ---- */

/*
 * Whose the next run of up to @pages will probably be.  A guess: the claim is
 * made when the batch is credited.
 */
static MsPoolClaim claim_for(MsCapture *c, unsigned pages)
{
    MsCaptureTaker *to = &c->to[c->taker];

    if (c->taker == c->takers) {
        return MS_POOL_NO_CLAIM;
    }
    to->pages -= to->pages < pages ? to->pages : pages;
    c->taker += to->pages == 0;
    return to->claim;
}

/* A destination for up to @pages pages of frame @index, or NULL. */
static MsCaptureRun *open_run(MsCapture *c, unsigned index, unsigned pages,
                              bool huge)
{
    MsCaptureRun *r = &c->run[c->runs];

    if (c->runs == MS_CAPTURE_RUNS ||
        ms_pool_capture_begin_for(c->region->ms->pool, claim_for(c, pages),
                                  pages, huge, &r->run) < 0) {
        return NULL;
    }
    r->index = index;
    r->used = 0;
    ms_pageset_clear(&r->pages);
    ms_pageset_clear(&r->arrived);
    c->runs++;
    return r;
}

static void move_huge(MsCapture *c, unsigned index)
{
    MsCaptureFrame *f = &c->frame[index];
    MsCaptureRun *r = open_run(c, index, FRAME_PAGES, true);
    MsMoveResult moved;

    if (r == NULL) {
        return;
    }
    for (unsigned tries = 0; ; tries++) {
        moved = ms_pool_move_in(c->region->ms->pool, &r->run, 0,
                                ms_capture_address(c, f, 0), FRAME_PAGES);
        c->flushes += moved.calls;
        if (moved.stop != MS_MOVE_AGAIN || moved.moved_pages > 0 ||
            tries == AGAIN_TRIES) {
            break;
        }
    }
    r->used = FRAME_PAGES;
    ms_pageset_fill(&r->pages);
    ms_pageset_add(&r->arrived, 0, moved.moved_pages);
    f->table = !r->run.huge;
    if (r->run.huge && moved.moved_pages == FRAME_PAGES) {
        ms_count(&c->region->ms->stats.huge_moves, 1);
    }
}

/*
 * Pages [page, page + count) of the guest to positions from r->used on, around
 * whatever does not move.  False: this frame is better left alone now.
 */
static bool move_segment(MsCapture *c, MsCaptureRun *r, unsigned page,
                         unsigned count)
{
    MemSched *ms = c->region->ms;
    MsCaptureFrame *f = &c->frame[r->index];
    unsigned busy = 0, tries = 0, done = 0, at = r->used;

    ms_pageset_add(&r->pages, page, count);
    r->used += count;
    while (done < count) {
        MsMoveResult moved =
            ms_pool_move_in(ms->pool, &r->run, at + done,
                            ms_capture_address(c, f, page + done),
                            count - done);

        c->flushes += moved.calls;
        ms_pageset_add(&r->arrived, at + done, moved.moved_pages);
        done += moved.moved_pages;
        busy = moved.moved_pages ? 0 : busy;
        switch (moved.stop) {
        case MS_MOVE_DONE:
            break;
        case MS_MOVE_AGAIN:
            if (tries++ == AGAIN_TRIES) {
                return false;
            }
            break;
        case MS_MOVE_BUSY:
            if (++busy == BUSY_IN_A_ROW) {
                return false;
            }
            done++;
            break;
        case MS_MOVE_FAULT:
            if (!ms_capture_is_dead(c) ||
                ms_region_discard(c->region,
                                  ms_capture_address(c, f, page + done), 1)) {
                return false;
            }
            /* Broken, and nobody needs its content: as a hole. */
            /* fall through */
        case MS_MOVE_NOENT:
            /*
             * Discarded behind our back: its frame went to the kernel, so
             * another one takes its place.
             */
            if (ms_pool_fill(ms->pool, &r->run, at + done, 1) == 0) {
                ms_pageset_add(&r->arrived, at + done, 1);
                ms_count(&ms->stats.discarded_pages, 1);
            }
            done++;
            break;
        default:
            return false;
        }
    }
    return true;
}

/* ---- the same without moves ---- */

/* As move_segment(). */
static bool discard_segment(MsCapture *c, MsCaptureRun *r, unsigned page,
                            unsigned count)
{
    MsPool *pool = c->region->ms->pool;
    char *address = ms_capture_address(c, &c->frame[r->index], page);
    unsigned at = r->used;

    ms_pageset_add(&r->pages, page, count);
    r->used += count;
    c->flushes++;
    if (c->home) {
        /* Nobody wants it any more: first give, then take. */
        ms_region_discard(c->region, address, count);
        if (ms_pool_fill(pool, &r->run, at, count) == 0) {
            ms_pageset_add(&r->arrived, at, count);
        }
        return true;
    }
    if (ms_pool_fill(pool, &r->run, at, count) < 0) {
        return true;
    }
    if (ms_region_discard(c->region, address, count) < 0) {
        ms_pool_discard(pool, &r->run, at, count);
        return true;
    }
    ms_pageset_add(&r->arrived, at, count);
    return true;
}

/* ---- all frames of the batch ---- */

/* One frame by runs of small pages, each of them by @segment. */
static void by_small_pages(MsCapture *c, unsigned index,
                           bool (*segment)(MsCapture *c, MsCaptureRun *r,
                                           unsigned page, unsigned count))
{
    MsCaptureFrame *f = &c->frame[index];
    unsigned left = ms_pageset_count(&f->take), page, count;
    MsCaptureRun *r = NULL;

    for (unsigned p = 0; ms_pageset_run(&f->take, p, &page, &count);
         p = page + count) {
        if (r == NULL || r->used == r->run.pages) {
            r = open_run(c, index, left, false);
        }
        if (r == NULL) {
            return;
        }
        if (count > r->run.pages - r->used) {
            count = r->run.pages - r->used;
        }
        if (!segment(c, r, page, count)) {
            return;
        }
        left -= count;
    }
}

void ms_capture_move_out(MsCapture *c)
{
    for (unsigned i = 0; i < c->frames; i++) {
        MsCaptureFrame *f = &c->frame[i];

        if (!c->discard && f->huge) {
            move_huge(c, i);
        } else if (!c->discard) {
            by_small_pages(c, i, move_segment);
        } else if (c->home ||
                   !ms_fence_is_raised(&c->region->ms->fence,
                                       ms_capture_address(c, f, 0))) {
            by_small_pages(c, i, discard_segment);
        }
    }
}

/* ---- back ---- */

/*
 * One page that would not move back: its mapping looks shared until it is
 * written once; and if that does not help, its content goes into a new frame.
 * Returns only when the page is back: its content is the guest's.
 */
static void put_back_page(MsCapture *c, MsCaptureRun *r, unsigned at,
                          char *guest)
{
    MemSched *ms = c->region->ms;
    const MsUffd *uffd = &c->region->client->uffd;
    char *arena = r->run.address + ((size_t)at << MEMSCHED_PAGE_SHIFT);

    for (;;) {
        MsMoveResult back;

        /* volatile: made for its fault. */
        *(volatile char *)arena = *(volatile char *)arena;
        back = ms_uffd_move(uffd, guest, arena, 1, true);
        c->flushes += back.calls;
        if (back.moved_pages == 1) {
            return;
        }
        back = ms_uffd_copy(uffd, guest, arena, 1, false, true);
        if (back.moved_pages == 1 || back.stop == MS_MOVE_EXISTS ||
            back.stop == MS_MOVE_GONE) {
            ms_pool_discard(ms->pool, &r->run, at, 1);
            ms_count(&ms->stats.copied_pages, 1);
            return;
        }
        ms->sys->sleep_ns(ms->sys, 1000000);
    }
}

/*
 * Move pages [page, page + count) of the guest back, which stand at positions
 * from @at on; those that never left are skipped.
 */
static void put_back_segment(MsCapture *c, MsCaptureRun *r, unsigned at,
                             unsigned page, unsigned count)
{
    MsCaptureFrame *f = &c->frame[r->index];
    unsigned done = 0;

    while (done < count) {
        MsMoveResult back;
        unsigned n = 0;

        while (done + n < count &&
               ms_pageset_has(&r->arrived, at + done + n)) {
            n++;
        }
        if (n == 0) {
            done++;
            continue;
        }
        back = ms_uffd_move(&c->region->client->uffd,
                            ms_capture_address(c, f, page + done),
                            r->run.address + ((size_t)(at + done) <<
                                              MEMSCHED_PAGE_SHIFT), n, true);
        c->flushes += back.calls;
        done += back.moved_pages;
        if (back.moved_pages < n) {
            put_back_page(c, r, at + done,
                          ms_capture_address(c, f, page + done));
            done++;
        }
    }
}

static void put_back_run(MsCapture *c, MsCaptureRun *r)
{
    MsCaptureFrame *f = &c->frame[r->index];
    unsigned at = 0, page, count;

    for (unsigned p = 0; ms_pageset_run(&r->pages, p, &page, &count);
         p = page + count) {
        put_back_segment(c, r, at, page, count);
        at += count;
    }
    if (f->huge &&
        ms_pagemap_is_huge(ms_pool_pagemap(c->region->ms->pool),
                           ms_capture_address(c, f, 0)) != 1) {
        /* Split on its way: its zero pages may have lost their frames. */
        ms_touch_pages(ms_capture_address(c, f, 0),
                       ms_pageset_count(&r->arrived));
    }
    ms_count(&c->region->ms->stats.put_back_pages,
             ms_pageset_count(&r->arrived));
    ms_pageset_clear(&r->arrived);
}

/* ---- only what is zero ---- */

/* Nothing is read where nothing has arrived: that would make a zero page. */
static bool holds_something(const MsCaptureRun *r, unsigned at)
{
    return ms_pageset_has(&r->arrived, at) &&
           !ms_pages_are_zero(r->run.address +
                              ((size_t)at << MEMSCHED_PAGE_SHIFT), 1);
}

/* Positions [at, at + count) stand for pages [page, page + count). */
static void put_back_nonzero(MsCapture *c, MsCaptureRun *r, unsigned at,
                             unsigned page, unsigned count)
{
    for (unsigned i = 0, n; i < count; i += n) {
        n = 0;
        while (i + n < count && holds_something(r, at + i + n)) {
            n++;
        }
        if (n == 0) {
            n = 1;
            continue;
        }
        put_back_segment(c, r, at + i, page + i, n);
        ms_pageset_remove(&r->arrived, at + i, n);
        ms_count(&c->region->ms->stats.put_back_pages, n);
    }
}

/*
 * What holds anything goes back.  A huge page goes or stays as a whole: a guest
 * that uses a part of it keeps it huge.
 */
static void keep_zeros(MsCapture *c, MsCaptureRun *r)
{
    MsCaptureFrame *f = &c->frame[r->index];
    unsigned at = 0, page, count;

    if (f->huge) {
        if (ms_pageset_count(&r->arrived) < r->used ||
            !ms_pages_are_zero(r->run.address, r->used)) {
            put_back_run(c, r);
        }
        return;
    }
    for (unsigned p = 0; ms_pageset_run(&r->pages, p, &page, &count);
         p = page + count) {
        put_back_nonzero(c, r, at, page, count);
        at += count;
    }
}

/* ---- what is left of a huge page ---- */

/*
 * Copies of the members of @live, in small pages of the pool, into the guest.
 * Removes from @live those that are there; returns how many.
 */
static unsigned copy_live(MsCapture *c, MsCaptureRun *r, MsPageSet *live)
{
    MsCaptureFrame *f = &c->frame[r->index];
    MsPool *pool = c->region->ms->pool;
    unsigned page, count, copied = 0, left = ms_pageset_count(live);
    bool more = true;

    while (more && left > 0) {
        unsigned at = 0;
        MsPageSet used;
        MsPoolRun run;

        if (ms_pool_take(pool, left, MS_POOL_DIRTY, &run) < 0) {
            break;
        }
        ms_pageset_clear(&used);
        while (more && at < run.pages &&
               ms_pageset_run(live, 0, &page, &count)) {
            size_t offset = (size_t)page << MEMSCHED_PAGE_SHIFT;
            MsMoveResult put;

            count = count < run.pages - at ? count : run.pages - at;
            memcpy(run.address + ((size_t)at << MEMSCHED_PAGE_SHIFT),
                   r->run.address + offset,
                   (size_t)count << MEMSCHED_PAGE_SHIFT);
            put = ms_pool_move_out(pool, &run, at,
                                   &c->region->client->uffd,
                                   ms_capture_address(c, f, page), count, true);
            c->flushes += put.calls;
            ms_pageset_add(&used, at, put.moved_pages);
            ms_pageset_remove(live, page, put.moved_pages);
            copied += put.moved_pages;
            more = put.moved_pages == count;
            at += count;
        }
        left = ms_pageset_count(live);
        ms_pool_take_end(pool, &run, &used, true);
    }
    ms_count(&c->region->ms->stats.copied_pages, copied);
    return copied;
}

/* The pages that had to leave with others of their huge page. */
static void give_back_live(MsCapture *c, MsCaptureRun *r)
{
    MemSched *ms = c->region->ms;
    MemSchedClient *client = c->region->client;
    MsPageSet live = ms_pageset_and(&c->frame[r->index].keep, &r->arrived);
    unsigned count = ms_pageset_count(&live), copied = 0, page, n;
    MsGrant grant;

    c->frame[r->index].table = true;
    if (r->run.huge) {
        /* The frame goes whole, so copies need pages of their own. */
        ms_lock(&ms->ledger_lock);
        ms_ledger_grant(&ms->ledger, &client->account, count, 0, 0, &grant);
        if (grant.pages < count) {
            ms_ledger_ungrant(&ms->ledger, &client->account, &grant,
                              grant.pages);
        }
        ms_unlock(&ms->ledger_lock);
        copied = grant.pages == count ? copy_live(c, r, &live) : 0;
        if (copied < grant.pages) {
            ms_lock(&ms->ledger_lock);
            ms_ledger_ungrant(&ms->ledger, &client->account, &grant,
                              grant.pages - copied);
            ms_unlock(&ms->ledger_lock);
        }
    }
    if (copied == count) {
        return;
    }
    for (unsigned p = 0; ms_pageset_run(&live, p, &page, &n); p = page + n) {
        put_back_segment(c, r, page, page, n);
        ms_pageset_remove(&r->arrived, page, n);
        if (r->run.huge) {
            ms_touch_pages(ms_capture_address(c, &c->frame[r->index], page), n);
        }
    }
    if (r->run.huge) {
        for (unsigned p = 0; ms_pageset_run(&r->arrived, p, &page, &n);
             p = page + n) {
            ms_touch_pages(r->run.address +
                           ((size_t)page << MEMSCHED_PAGE_SHIFT), n);
        }
        r->run.huge = false;
        ms_count(&ms->stats.split_frames, 1);
    }
}

/* Single pages of a run of small ones that have to stay in the guest. */
static void give_back_small(MsCapture *c, MsCaptureRun *r)
{
    const MsPageSet *keep = &c->frame[r->index].keep;
    unsigned at = 0, page, count;

    for (unsigned p = 0; ms_pageset_run(&r->pages, p, &page, &count);
         p = page + count, at += count) {
        for (unsigned i = 0, n; i < count; i += n) {
            bool kept = ms_pageset_has(keep, page + i);

            for (n = 1; i + n < count &&
                 ms_pageset_has(keep, page + i + n) == kept; n++) {
                continue;
            }
            if (kept) {
                put_back_segment(c, r, at + i, page + i, n);
                ms_pageset_remove(&r->arrived, at + i, n);
                ms_count(&c->region->ms->stats.put_back_pages, n);
            }
        }
    }
}

void ms_capture_put_back(MsCapture *c)
{
    for (unsigned i = 0; i < c->runs; i++) {
        MsCaptureRun *r = &c->run[i];

        MsCaptureFrame *f = &c->frame[r->index];

        if (ms_pageset_empty(&r->arrived)) {
            continue;
        }
        if (f->put_back) {
            put_back_run(c, r);
        } else if (c->zero) {
            keep_zeros(c, r);
        } else if (!ms_pageset_empty(&f->keep)) {
            if (f->huge) {
                give_back_live(c, r);
            } else {
                give_back_small(c, r);
            }
        }
    }
}
