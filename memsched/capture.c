/*
 * Taking pages out of a guest
 *
 * Owns the order of steps that makes a capture safe, for one batch of frames of
 * one region:
 *
 *   region lock   pages R or G -> C            ms_capture_add_locked()
 *   no lock       out of their stripes         ms_protect_leave()
 *   ledger lock   for whom they will be        ask_takers()
 *   no lock       guest --move--> arena        ms_capture_move_out()
 *   no lock       by value: equal?             MsCaptureOps.verify()
 *   no lock       fence, epoch: legal still?   judge()
 *   no lock       arena --move--> guest        ms_capture_put_back()
 *   ledger lock   frames to the pool, guest discharged, claims: one moment
 *   region lock   C -> B, P, T or S, or back to R, G
 *   no lock       wake whoever touched a page in C
 *
 * The fence is read after the page has left: who raises it later finds the
 * page gone and waits for the end of C.  The epoch is read under the region's
 * lock after the move: a reset that comes later waits for the end of C and then
 * sees the page as captured before it.
 *
 * How pages move, and what becomes of a part of a huge page: capture-move.c.
 * One ledger transaction and two region locks a batch.
 *
 * Who runs it: the mover's thread, or the thread of a device for captures that
 * must end inside a request.  It decides nothing about what to take.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "capture-int.h"
#include "instance.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* ---- the batch ---- */

static void reset_batch(MsCapture *c)
{
    c->frames = 0;
    c->runs = 0;
    c->small = 0;
    c->pages_want = 0;
}

void ms_capture_init_locked(MsCapture *capture, MemSchedRegion *region,
                            MemSchedSource source, MemSchedPageState state)
{
    capture->region = region;
    capture->source = source;
    capture->state = state;
    capture->home = false;
    capture->zero = false;
    capture->discard = !region->movable;
    capture->ops = NULL;
    capture->opaque = NULL;
    capture->epoch = region->epoch;
    capture->captured_pages = 0;
    capture->busy_pages = 0;
    capture->flushes = 0;
    reset_batch(capture);
}

/* To ask the kernel costs 0.2 us, not to ask 0.7 ms for the split. */
bool ms_capture_is_huge_locked(MemSchedRegion *region, uint64_t frame)
{
    MsFrame *f = &region->pages.frame[frame];

    if (!(f->flags & MS_FRAME_HUGE) && region->movable &&
        f->resident == FRAME_PAGES &&
        ms_pagemap_is_huge(ms_pool_pagemap(region->ms->pool),
                           ms_region_address(region,
                                             frame * FRAME_PAGES)) == 1) {
        ms_pages_set_flag(&region->pages, frame, MS_FRAME_HUGE, true);
    }
    return f->flags & MS_FRAME_HUGE;
}

bool ms_capture_add_locked(MsCapture *capture, uint64_t frame,
                           const MsPageSet *take)
{
    MemSchedRegion *region = capture->region;
    MsPages *pages = &region->pages;
    MsCaptureFrame *f = &capture->frame[capture->frames];
    uint64_t first = frame * FRAME_PAGES;
    bool huge = ms_capture_is_huge_locked(region, frame);
    MsPageSet set;

    if (capture->frames == MS_CAPTURE_FRAMES ||
        (!huge && capture->small == MS_CAPTURE_SMALL)) {
        return false;
    }
    ms_pages_select(pages, first, FRAME_PAGES,
                    MS_STATE_BIT(RESIDENT) | MS_STATE_BIT(GIVEN), &set);
    f->take = ms_pageset_and(&set, take);
    if (ms_pageset_empty(&f->take)) {
        return true;
    }
    if (ms_region_is_leased(region, frame)) {
        capture->busy_pages += ms_pageset_count(&f->take);
        return true;
    }
    capture->pages_want += ms_pageset_count(&f->take);
    ms_pageset_clear(&f->keep);
    if (huge) {
        f->keep = set;
        ms_pageset_subtract(&f->keep, &f->take);
        f->take = set;
    }
    ms_pages_select(pages, first, FRAME_PAGES, MS_STATE_BIT(GIVEN), &set);
    f->given = ms_pageset_and(&set, &f->take);
    ms_pageset_clear(&f->empty);
    ms_pageset_clear(&f->gone);
    f->frame = frame;
    f->huge = huge;
    f->table = !huge;
    f->put_back = false;
    ms_pages_change_set(pages, MS_PAGE_TAKE_OUT, frame, &f->take,
                        MEMSCHED_PAGE_TRANSIT);
    capture->frames++;
    capture->small += !f->huge;
    return true;
}

/* ---- may it go? ---- */

static void judge(MsCapture *c)
{
    MemSched *ms = c->region->ms;
    bool legal;

    if (c->home || c->discard) {
        return;
    }
    ms_lock(&c->region->lock);
    legal = c->region->epoch == c->epoch;
    ms_unlock(&c->region->lock);
    for (unsigned i = 0; i < c->frames; i++) {
        MsCaptureFrame *f = &c->frame[i];

        f->put_back |= !legal ||
                       ms_fence_is_raised(&ms->fence,
                                          ms_capture_address(c, f, 0));
    }
}

/* ---- the books ---- */

/* The members of @run's pages whose position has arrived. */
static void add_gone(MsCaptureFrame *f, const MsCaptureRun *r)
{
    unsigned at = 0, page, count;

    if (ms_pageset_count(&r->arrived) == r->used) {
        for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
            f->gone.word[w] |= r->pages.word[w];
        }
        return;
    }
    for (unsigned p = 0; ms_pageset_run(&r->pages, p, &page, &count);
         p = page + count) {
        for (unsigned i = 0; i < count; i++, at++) {
            if (ms_pageset_has(&r->arrived, at)) {
                ms_pageset_add(&f->gone, page + i, 1);
            }
        }
    }
}

/* The guest gave these pages: transfers may have them. */
static bool gives(const MsCapture *c)
{
    return !c->home && !c->zero && c->state != MEMSCHED_PAGE_HELD;
}

static uint64_t credit(MsCapture *c)
{
    MemSchedClient *client = c->region->client;
    MemSched *ms = client->ms;
    MsHow how = c->discard ? MS_HOW_DISCARDED : MS_HOW_MOVED;
    uint64_t pages = 0, arrived = 0;

    for (unsigned i = 0; i < c->runs; i++) {
        add_gone(&c->frame[c->run[i].index], &c->run[i]);
        arrived += ms_pageset_count(&c->run[i].arrived);
    }
    for (unsigned i = 0; i < c->frames; i++) {
        ms_pageset_subtract(&c->frame[i].gone, &c->frame[i].keep);
        pages += ms_pageset_count(&c->frame[i].gone);
    }
    ms_lock(&ms->ledger_lock);
    for (unsigned i = 0; i < c->runs; i++) {
        ms_pool_capture_end(ms->pool, &c->run[i].run, &c->run[i].arrived);
    }
    if (arrived > 0) {
        /* Copies that came back were granted: what is left is @pages. */
        ms_ledger_capture(&ms->ledger, &client->account, arrived);
        if (pages > 0 && c->ops && c->ops->credited) {
            c->ops->credited(c, pages);
        }
        if (pages > 0 && gives(c) && ms->hooks && ms->hooks->captured) {
            ms->hooks->captured(ms, client, c->source, pages, how);
        }
    }
    ms_unlock(&ms->ledger_lock);

    ms_count(&ms->stats.captured_pages, pages);
    /* What the host takes is no answer of the guest's. */
    ms_count(&client->stats_counters.captured_pages,
             c->state != MEMSCHED_PAGE_HELD ? pages : 0);
    ms_count(how == MS_HOW_MOVED ? &ms->stats.moved_pages
                                 : &ms->stats.discarded_pages, pages);
    ms_count(&ms->stats.flushes, c->flushes);
    if (gives(c)) {
        ms_client_captured(client, pages, c->flushes);
    }
    return pages;
}

/* End C for one frame; 1 if a fault was parked there. */
static int end_transit_locked(MsCapture *c, MsCaptureFrame *f)
{
    MsPages *pages = &c->region->pages;
    MsPageSet rest = f->take, gone = f->gone, empty, given;
    bool same = c->region->epoch == c->epoch;
    int parked;

    empty = ms_pageset_and(&f->gone, &f->empty);
    ms_pageset_subtract(&gone, &empty);
    parked = ms_pages_change_set(pages, MS_PAGE_CAPTURED, f->frame, &gone,
                                 c->state);
    parked |= ms_pages_change_set(pages, MS_PAGE_CAPTURED, f->frame, &empty,
                                  MEMSCHED_PAGE_HOLE);
    ms_pageset_subtract(&rest, &f->gone);
    given = ms_pageset_and(&rest, &f->given);
    if (!same) {
        ms_pageset_clear(&given);       /* reset: the guest's own again */
    }
    ms_pageset_subtract(&rest, &given);
    parked |= ms_pages_change_set(pages, MS_PAGE_PUT_BACK, f->frame, &given,
                                  MEMSCHED_PAGE_GIVEN);
    parked |= ms_pages_change_set(pages, MS_PAGE_PUT_BACK, f->frame, &rest,
                                  MEMSCHED_PAGE_RESIDENT);
    return parked;
}

static void end_frame_flags_locked(MsCapture *c, MsCaptureFrame *f)
{
    MsPages *pages = &c->region->pages;
    bool huge = false;

    if (f->huge && !f->table &&
        pages->frame[f->frame].resident == FRAME_PAGES) {
        /* All of it came back, or never went. */
        huge = ms_pagemap_is_huge(ms_pool_pagemap(c->region->ms->pool),
                                  ms_capture_address(c, f, 0)) == 1;
        f->table = !huge;
    }
    ms_pages_set_flag(pages, f->frame, MS_FRAME_HUGE, huge);
    ms_pages_set_flag(pages, f->frame, MS_FRAME_TABLE, f->table);
}

static void end_transit(MsCapture *c)
{
    MemSchedRegion *region = c->region;
    bool parked[MS_CAPTURE_FRAMES];

    ms_lock(&region->lock);
    for (unsigned i = 0; i < c->frames; i++) {
        parked[i] = end_transit_locked(c, &c->frame[i]) > 0;
        if (c->ops && c->ops->captured_locked) {
            c->ops->captured_locked(c, i);
        }
        end_frame_flags_locked(c, &c->frame[i]);
    }
    ms_cond_broadcast(&region->cond);
    ms_unlock(&region->lock);

    for (unsigned i = 0; i < c->frames; i++) {
        if (parked[i]) {
            /* Touches again: finds the page, or a fault that can be served. */
            ms_region_wake(region, c->frame[i].frame * FRAME_PAGES,
                           FRAME_PAGES);
        }
    }
}

/* No capture: all of it goes back. */
static bool is_look(const MsCapture *c)
{
    return c->ops && c->ops->returned;
}

/* So that frames of a transfer are kept together from the start. */
static void ask_takers(MsCapture *c)
{
    MemSched *ms = c->region->ms;

    c->takers = 0;
    c->taker = 0;
    if (gives(c) && !c->discard && !is_look(c) && ms->hooks &&
        ms->hooks->takers) {
        ms_lock(&ms->ledger_lock);
        c->takers = ms->hooks->takers(ms, c->region->client, c->source, c->to,
                                      MS_CAPTURE_TAKERS);
        ms_unlock(&ms->ledger_lock);
    }
}

void ms_capture_run(MsCapture *capture)
{
    MemSched *ms = capture->region->ms;
    bool look = is_look(capture);
    uint64_t gone;

    if (capture->frames == 0) {
        return;
    }
    ask_takers(capture);
    for (unsigned i = 0; i < capture->frames; i++) {
        ms_protect_leave(capture->region, capture->frame[i].frame,
                         &capture->frame[i].take, ms_capture_is_dead(capture));
    }
    ms_capture_move_out(capture);
    if (capture->ops) {
        capture->ops->verify(capture);
    }
    judge(capture);
    ms_capture_put_back(capture);
    if (look) {
        capture->ops->returned(capture);
    }
    gone = credit(capture);
    end_transit(capture);

    capture->captured_pages += gone;
    if (!look) {
        ms_trace(ms, MEMSCHED_TRACE_CAPTURE, capture->region->client->id, gone,
                 capture->pages_want - gone);
    }
    if (!capture->zero && !look && capture->state != MEMSCHED_PAGE_HELD) {
        capture->busy_pages += capture->pages_want - gone;
        ms_count(&ms->stats.busy_pages, capture->pages_want - gone);
    }
    if (gone > 0) {
        ms_ledger_rose(ms);
    }
    reset_batch(capture);
}

bool ms_capture_take_out(MsCapture *capture)
{
    const MsCaptureFrame *f = &capture->frame[0];

    capture->takers = 0;
    capture->taker = 0;
    ms_capture_move_out(capture);
    judge(capture);
    return !f->put_back && capture->runs == 1 &&
           ms_pageset_count(&capture->run[0].arrived) ==
           ms_pageset_count(&f->take);
}

void ms_capture_bring_back(MsCapture *capture)
{
    capture->frame[0].put_back = true;
    ms_capture_put_back(capture);
    credit(capture);
    end_transit(capture);
    reset_batch(capture);
}

/* ---- behind our back ---- */

bool ms_capture_discarded(MemSchedRegion *region, uint64_t page)
{
    MemSched *ms = region->ms;
    uint64_t frame = page / FRAME_PAGES;
    MsPagemapCount count;
    MsPoolRun run;
    MsPageSet arrived;
    bool gone;

    ms_lock(&region->lock);
    gone = ms_page_change_is_legal(MS_PAGE_DISCARDED,
                                   ms_pages_get(&region->pages, page),
                                   MEMSCHED_PAGE_HOLE) &&
           ms_pagemap_count(ms_pool_pagemap(ms->pool),
                            ms_region_address(region, page), 1,
                            &count) == 0 &&
           count.present_pages + count.swapped_pages + count.zero_pages == 0 &&
           /* A broken page has a marker: not discarded. */
           ms_pagemap_is_hole(ms_pool_pagemap(ms->pool),
                              ms_region_address(region, page)) == 1;
    if (gone) {
        ms_protect_dropped_locked(region, page);
        ms_pages_change(&region->pages, MS_PAGE_DISCARDED, page, 1,
                        MEMSCHED_PAGE_HOLE);
        ms_pages_set_flag(&region->pages, frame, MS_FRAME_HUGE, false);
        ms_pages_set_flag(&region->pages, frame, MS_FRAME_TABLE, true);
    }
    ms_unlock(&region->lock);
    if (!gone) {
        return false;
    }
    ms_pageset_clear(&arrived);
    if (ms_pool_capture_begin(ms->pool, 1, false, &run) == 0) {
        if (ms_pool_fill(ms->pool, &run, 0, 1) == 0) {
            ms_pageset_add(&arrived, 0, 1);
        }
        ms_lock(&ms->ledger_lock);
        ms_pool_capture_end(ms->pool, &run, &arrived);
        if (!ms_pageset_empty(&arrived)) {
            ms_ledger_capture(&ms->ledger, &region->client->account, 1);
        }
        ms_unlock(&ms->ledger_lock);
    }
    ms_count(&ms->stats.discarded_pages, 1);
    return true;
}

/* ---- home ---- */

static void home_pass(MsCapture *c)
{
    MemSchedRegion *region = c->region;
    MsPageSet all;
    uint64_t frame = 0;

    ms_pageset_fill(&all);
    while (frame < region->pages.frames) {
        ms_lock(&region->lock);
        while (frame < region->pages.frames &&
               (region->pages.frame[frame].resident == 0 ||
                ms_capture_add_locked(c, frame, &all))) {
            frame++;
        }
        ms_unlock(&region->lock);
        ms_capture_run(c);
    }
}

void ms_capture_region_home(MemSchedRegion *region)
{
    MsCapture capture;

    ms_lock(&region->lock);
    ms_capture_init_locked(&capture, region, MEMSCHED_SOURCE_ANY,
                           MEMSCHED_PAGE_HOLE);
    ms_unlock(&region->lock);
    capture.home = true;
    home_pass(&capture);
    if (region->pages.count[MEMSCHED_PAGE_RESIDENT] +
        region->pages.count[MEMSCHED_PAGE_GIVEN] > 0) {
        /* Pinned, or locked: the content is nobody's, the frame counts. */
        capture.discard = true;
        home_pass(&capture);
    }
}
