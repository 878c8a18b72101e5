/*
 * Units of a guest's memory that are out of it for a while, to see whether it
 * touches them again
 *
 * Owns the way out and the way back of one unit, and the record of it.  The
 * kernel has no accessed bit that would be cheap to read (a look at 2 MiB costs
 * what a move costs, and breaks huge pages); a page that is not there has one,
 * its fault.
 *
 *   region lock   R -> C, record MOVES            choose_locked()
 *   no lock       guest --move--> arena, fence    ms_capture_take_out()
 *   region lock   MOVES -> OUT; somebody parked?  settle()
 *   ...           for a window of seconds
 *   region lock   OUT -> MOVES                    claim_locked()
 *   no lock       arena --move--> guest           ms_capture_bring_back()
 *   region lock   C -> R, record TOUCHED or VOID  returned_locked()
 *
 * The pages are in state C all the time, and everything that the protocol says
 * of C holds, with one addition: this C has no owner who will end it soon, so
 * whoever would wait for its end (a fault, an inflate, a reset, an injected
 * error) ends it himself, at once and with the very frame that left: no grant
 * is needed, since the guest is charged for it throughout.  The one who turns
 * OUT into MOVES is the owner, so C ends exactly once.
 *
 * What is never taken: a page that is given up already, that is protected (its
 * stripe would lose it, the protection of a page does not survive a move), that
 * the scan reads now; a part of a huge page; anything of a region without
 * moves.  What is pinned or fenced comes back at once, and is in use.
 *
 * A frame leaves and returns in one piece, and nothing else can be mapped in
 * its 2 MiB meanwhile, so a huge page stays huge.
 *
 * Threads: the sampler's takes out; any brings back.  Locks: the region's; none
 * while pages move.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "capture-int.h"
#include "instance.h"
#include "sample.h"

#define FRAME_PAGES MS_PAGESET_PAGES

void ms_samples_destroy(MsSamples *samples)
{
    g_free(samples->sample);
    *samples = (MsSamples) { 0 };
}

static uint64_t now_ns(const MemSchedRegion *region)
{
    return region->ms->sys->now_ns(region->ms->sys);
}

static uint64_t first_page(const MsSample *s)
{
    return s->frame * FRAME_PAGES + s->first;
}

static bool is_in_transit(const MsSample *s)
{
    return s->state == MS_SAMPLE_MOVES || s->state == MS_SAMPLE_OUT;
}

/* Of those in state C, the one that has a page of [first, first + count). */
static MsSample *find_locked(MemSchedRegion *region, uint64_t first,
                             uint64_t count)
{
    MsSamples *all = &region->samples;

    for (unsigned i = 0; all->pages > 0 && i < all->count; i++) {
        MsSample *s = &all->sample[i];

        if (is_in_transit(s) && first_page(s) < first + count &&
            first < first_page(s) + s->pages) {
            return s;
        }
    }
    return NULL;
}

/* ---- back ---- */

typedef struct Return {
    MsSample sample;            /* a copy of the record, which may move */
    MsSampleState state;        /* what it becomes */
    uint64_t now_ns;
} Return;

/* C has ended just now; region lock held. */
static void returned_locked(MsCapture *c, unsigned index)
{
    const Return *back = c->opaque;
    MemSchedRegion *region = c->region;
    MsSample *s = find_locked(region, first_page(&back->sample), 1);

    g_assert(index == 0 && s && s->state == MS_SAMPLE_MOVES);
    s->state = back->state;
    s->after_ns = back->now_ns > s->out_ns ? back->now_ns - s->out_ns : 0;
    region->samples.pages -= s->pages;
}

static const MsCaptureOps ops = { .captured_locked = returned_locked };

/* As it was when it left. */
static void remake(MsCapture *c, const MsSample *s)
{
    MsCaptureFrame *f = &c->frame[0];
    MsCaptureRun *r = &c->run[0];

    f->frame = s->frame;
    f->huge = s->pages == FRAME_PAGES;
    f->table = s->table;
    ms_pageset_clear(&f->take);
    ms_pageset_add(&f->take, s->first, s->pages);
    ms_pageset_clear(&f->given);
    ms_pageset_clear(&f->keep);
    ms_pageset_clear(&f->empty);
    ms_pageset_clear(&f->gone);
    c->frames = 1;

    r->run = s->run;
    r->index = 0;
    r->used = s->pages;
    r->pages = f->take;
    ms_pageset_clear(&r->arrived);
    ms_pageset_add(&r->arrived, 0, s->pages);
    c->runs = 1;
}

/* The record is MOVES and ours; no lock held. */
static void bring_back(MemSchedRegion *region, const MsSample *s,
                       MsSampleState state)
{
    Return back = {
        .sample = *s, .state = state, .now_ns = now_ns(region),
    };
    MsCapture c;

    ms_lock(&region->lock);
    ms_capture_init_locked(&c, region, MEMSCHED_SOURCE_ANY,
                           MEMSCHED_PAGE_HELD);
    ms_unlock(&region->lock);
    c.ops = &ops;
    c.opaque = &back;
    remake(&c, s);
    ms_capture_bring_back(&c);
}

/* Somebody's, from now on: OUT -> MOVES. */
static bool claim_locked(MemSchedRegion *region, uint64_t first,
                         uint64_t count, MsSample *ret_sample)
{
    MsSample *s = find_locked(region, first, count);

    if (s == NULL || s->state != MS_SAMPLE_OUT) {
        return false;
    }
    s->state = MS_SAMPLE_MOVES;
    *ret_sample = *s;
    return true;
}

bool ms_sample_is_out_locked(MemSchedRegion *region, uint64_t page)
{
    const MsSample *s = find_locked(region, page, 1);

    return s && s->state == MS_SAMPLE_OUT;
}

bool ms_sample_touched(MemSchedRegion *region, uint64_t page)
{
    MsSample s;
    bool mine;

    ms_lock(&region->lock);
    mine = claim_locked(region, page, 1, &s);
    ms_unlock(&region->lock);
    if (mine) {
        bring_back(region, &s, MS_SAMPLE_TOUCHED);
    }
    return mine;
}

/*
 * Several may have a page of the range, and the first that is found may be on
 * its way: those are waited for by whoever waits for C.
 */
bool ms_sample_recall_locked(MemSchedRegion *region, uint64_t first,
                             uint64_t count)
{
    MsSamples *all = &region->samples;
    bool any = false;

    for (unsigned i = 0; all->pages > 0 && i < all->count; ) {
        MsSample s = all->sample[i];

        if (s.state != MS_SAMPLE_OUT || first_page(&s) >= first + count ||
            first >= first_page(&s) + s.pages) {
            i++;
            continue;
        }
        all->sample[i].state = MS_SAMPLE_MOVES;
        ms_unlock(&region->lock);
        bring_back(region, &s, MS_SAMPLE_VOID);
        ms_lock(&region->lock);
        any = true;
        i = 0;                  /* they may have changed places */
    }
    return any;
}

void ms_sample_recall(MemSchedRegion *region, uint64_t first, uint64_t count)
{
    ms_lock(&region->lock);
    ms_sample_recall_locked(region, first, count);
    ms_unlock(&region->lock);
}

/* ---- out ---- */

static bool is_protected_locked(MemSchedRegion *region, uint64_t frame,
                                const MsPageSet *set)
{
    MsPageSet in, both;

    ms_protect_covered_locked(region, frame, &in);
    both = ms_pageset_and(&in, set);
    return !ms_pageset_empty(&both);
}

/* The unit of @page into state C and on record; 0: it may not go. */
static unsigned choose_locked(MsCapture *c, uint64_t page, uint64_t most)
{
    MemSchedRegion *region = c->region;
    MsSamples *all = &region->samples;
    uint64_t frame = page / FRAME_PAGES;
    unsigned count;
    MsPageSet take;

    if (!region->movable ||
        ms_pages_get(&region->pages, page) != MEMSCHED_PAGE_RESIDENT ||
        ms_region_is_leased(region, frame)) {
        return 0;
    }
    ms_pageset_clear(&take);
    if (ms_capture_is_huge_locked(region, frame)) {
        ms_pages_select(&region->pages, frame * FRAME_PAGES, FRAME_PAGES,
                        MS_STATE_BIT(RESIDENT), &take);
        if (ms_pageset_count(&take) < FRAME_PAGES) {
            return 0;           /* some of it is given: it goes soon */
        }
    } else {
        ms_pageset_add(&take, page % FRAME_PAGES, 1);
    }
    count = ms_pageset_count(&take);
    if (count > most || is_protected_locked(region, frame, &take) ||
        !ms_capture_add_locked(c, frame, &take) || c->frames == 0) {
        return 0;
    }
    if (all->count == all->size) {
        all->size = all->size ? all->size * 2 : 16;
        all->sample = g_renew(MsSample, all->sample, all->size);
    }
    all->sample[all->count++] = (MsSample) {
        .frame = frame, .pages = count,
        .first = count == FRAME_PAGES ? 0 : page % FRAME_PAGES,
        .state = MS_SAMPLE_MOVES, .out_ns = now_ns(region),
    };
    all->pages += count;
    return count;
}

/*
 * All of it is out.  Who touched it on its way is parked, and nobody would wake
 * him: then it goes back, and was touched.
 */
static void settle(MsCapture *c, uint64_t page)
{
    MemSchedRegion *region = c->region;
    MsSample *s, copy;
    bool parked;

    ms_lock(&region->lock);
    s = find_locked(region, page, 1);
    s->run = c->run[0].run;
    s->table = c->frame[0].table;
    parked = ms_pages_are_parked(&region->pages, first_page(s), s->pages);
    copy = *s;
    if (!parked) {
        s->state = MS_SAMPLE_OUT;
        /* Who waits for the end of C ends it himself from now on. */
        ms_cond_broadcast(&region->cond);
    }
    ms_unlock(&region->lock);
    if (parked) {
        bring_back(region, &copy, MS_SAMPLE_TOUCHED);
    }
}

unsigned ms_sample_take(MemSchedRegion *region, uint64_t page, uint64_t most)
{
    Return back = { .state = MS_SAMPLE_TOUCHED };
    unsigned count;
    MsCapture c;

    ms_lock(&region->lock);
    ms_capture_init_locked(&c, region, MEMSCHED_SOURCE_ANY,
                           MEMSCHED_PAGE_HELD);
    count = choose_locked(&c, page, most);
    if (count > 0) {
        back.sample = *find_locked(region, page, 1);
    }
    ms_unlock(&region->lock);
    if (count == 0) {
        return 0;
    }
    c.ops = &ops;
    c.opaque = &back;
    if (ms_capture_take_out(&c)) {
        settle(&c, page);
    } else {
        back.now_ns = now_ns(region);
        ms_capture_bring_back(&c);
    }
    return count;
}

/* ---- the window is over ---- */

static void drop_locked(MsSamples *all, unsigned i)
{
    all->sample[i] = all->sample[--all->count];
}

bool ms_sample_harvest(MemSchedRegion *region, uint64_t window_ns,
                       MsSample *ret_sample)
{
    uint64_t now = now_ns(region);
    MsSamples *all = &region->samples;
    bool any = false;

    ms_lock(&region->lock);
    for (unsigned i = 0; i < all->count && !any; ) {
        MsSample *s = &all->sample[i];
        bool over = now - s->out_ns >= window_ns || now < s->out_ns;

        if (s->state == MS_SAMPLE_VOID) {
            drop_locked(all, i);
        } else if (!over || s->state == MS_SAMPLE_MOVES) {
            i++;
        } else {
            *ret_sample = *s;
            any = true;
            if (s->state == MS_SAMPLE_OUT) {
                s->state = MS_SAMPLE_MOVES;
            } else {
                drop_locked(all, i);
            }
        }
    }
    ms_unlock(&region->lock);
    if (any && ret_sample->state == MS_SAMPLE_OUT) {
        bring_back(region, ret_sample, MS_SAMPLE_VOID);
    }
    return any;
}

/* ---- check ---- */

static const char *check_one(MemSchedRegion *region, const MsSample *s)
{
    const MsPagemap *pagemap = ms_pool_pagemap(region->ms->pool);
    uint64_t first, count;
    MsPagemapCount there;

    if (!ms_pages_next(&region->pages, first_page(s), first_page(s) + s->pages,
                       MS_STATE_BIT(TRANSIT), &first, &count) ||
        count != s->pages) {
        return "a page that is out for a sample is not in transit";
    }
    if (s->state == MS_SAMPLE_OUT &&
        ms_pagemap_count(pagemap, s->run.address, s->pages, &there) == 0 &&
        there.present_pages + there.swapped_pages != s->pages) {
        return "a page that is out for a sample is not in the arena";
    }
    if (s->state == MS_SAMPLE_OUT &&
        ms_pages_are_parked(&region->pages, first_page(s), s->pages)) {
        return "a touch waits for a page that is out for a sample";
    }
    return NULL;
}

const char *ms_sample_check(MemSchedRegion *region)
{
    MsSamples *all = &region->samples;
    const char *wrong = NULL;
    uint64_t pages = 0;

    ms_lock(&region->lock);
    for (unsigned i = 0; i < all->count; i++) {
        if (is_in_transit(&all->sample[i])) {
            pages += all->sample[i].pages;
            wrong = wrong ? wrong : check_one(region, &all->sample[i]);
        }
    }
    if (!wrong && (pages != all->pages ||
                   pages > region->pages.count[MEMSCHED_PAGE_TRANSIT])) {
        wrong = "the count of pages that are out for a sample is wrong";
    }
    ms_unlock(&region->lock);
    return wrong;
}
