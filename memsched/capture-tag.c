/*
 * Taking pages out of a guest by their value
 *
 * Owns what the capture of a tag adds to that of a given page.  The guest may
 * change a page at any moment until it has left, may have copied it, and may
 * hold whatever looks like a tag.  So the order is the protocol's:
 *
 *   region lock   still R, epoch live, number told      -> C
 *   no lock       guest --move--> arena
 *   no lock       all 4,096 bytes compared, in the arena      verify()
 *   no lock       DMA fence, read after the page has left
 *   no lock       whatever differs --move--> guest, bit for bit
 *   region lock   C -> T with a record of the tag, or R
 *   no lock       touches that were parked: the tag by a fault, or the page
 *
 * The page cannot change between comparison and end: no thread of the guest
 * reaches the arena, and a device that had it mapped for DMA has raised the
 * fence before, which puts it back.
 *
 * Huge pages.  One whose 512 pages are all candidates moves whole and stays
 * huge.  If one of them turns out not to be a tag, all of it goes back as it
 * came; a part of a huge page is taken only with @split (the host is short, or
 * a transfer waits for it), by copies of the pages that stay, and not while an
 * order of one of its pages runs: what is missing is being tagged just now.
 * Near the end of its time an order is not waited for any more.
 *
 * Locks: the region's, then apps->lock; none is held in a move or comparison.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "app.h"
#include "capture-int.h"
#include "capture-tag.h"
#include "instance.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* What an order has not made whole so long before its deadline, it will not. */
#define NEAR_NS UINT64_C(250000000)

static MsScanFrame *scan_frame(const MsCapture *c, unsigned index)
{
    const MsCaptureTags *tc = c->opaque;

    return &tc->scan->frame[tc->of[index]];
}

/* ---- compare ---- */

static bool is_tag(const MsCapture *c, const MsScanFrame *sf, unsigned page,
                   const char *arena)
{
    const MsCaptureTags *tc = c->opaque;

    return ms_tag_equal(arena, &tc->scan->kind[sf->kind[page]],
                        sf->sequence[page]);
}

static void wait_until(MsCaptureTags *tc, uint64_t when_ns)
{
    if (tc->again_ns == 0 || when_ns < tc->again_ns) {
        tc->again_ns = when_ns;
    }
}

/* One page of a huge page is no tag. */
static void keep_whole(MsCaptureTags *tc, MsCaptureFrame *f, unsigned index)
{
    if (tc->whole_until[index] > 0) {
        f->put_back = true;
        wait_until(tc, tc->whole_until[index]);
    }
}

static void verify_run(MsCapture *c, MsCaptureRun *r)
{
    MsCaptureTags *tc = c->opaque;
    MsCaptureFrame *f = &c->frame[r->index];
    const MsScanFrame *sf = scan_frame(c, r->index);
    unsigned at = 0, page, count;

    for (unsigned p = 0; ms_pageset_run(&r->pages, p, &page, &count);
         p = page + count) {
        for (unsigned i = page; i < page + count; i++, at++) {
            if (ms_pageset_has(&r->arrived, at) &&
                !ms_pageset_has(&f->keep, i) &&
                !is_tag(c, sf, i, r->run.address +
                        ((size_t)at << MEMSCHED_PAGE_SHIFT))) {
                tc->rejected_pages++;
                ms_pageset_add(&f->keep, i, 1);
                if (f->huge) {
                    keep_whole(tc, f, r->index);
                }
            }
        }
    }
}

static void verify(MsCapture *c)
{
    for (unsigned i = 0; i < c->runs; i++) {
        verify_run(c, &c->run[i]);
    }
}

/* ---- the books ---- */

/* Before a transfer that they complete can end: it shows what was found. */
static void credited(MsCapture *c, uint64_t pages)
{
    const MsCaptureTags *tc = c->opaque;
    MsApps *apps = c->region->client->apps;

    ms_lock(&apps->lock);
    if (tc->hinted) {
        apps->counters.found_by_hint += pages;
    } else {
        apps->counters.found_by_scan += pages;
    }
    ms_unlock(&apps->lock);
}

static void captured_locked(MsCapture *c, unsigned index)
{
    const MsCaptureTags *tc = c->opaque;
    const MsCaptureFrame *f = &c->frame[index];
    const MsScanFrame *sf = scan_frame(c, index);
    MsApps *apps = c->region->client->apps;
    uint64_t now = c->region->ms->sys->now_ns(c->region->ms->sys);
    unsigned first, count;

    ms_lock(&apps->lock);
    for (unsigned p = 0; ms_pageset_run(&f->gone, p, &first, &count);
         p = first + count) {
        for (unsigned i = first; i < first + count; i++) {
            MsEpoch *epoch = tc->scan->epoch[sf->kind[i]];
            uint64_t again = epoch->returned > 0;

            epoch->news_ns = now;
            epoch->returned -= again;
            apps->counters.recaptured += again;
            ms_tag_map_set(&c->region->tags, f->frame * FRAME_PAGES + i,
                           ms_epoch_add_page(&apps->epochs, epoch,
                                             sf->sequence[i]));
        }
    }
    ms_unlock(&apps->lock);
}

static const MsCaptureOps ops = {
    .verify = verify, .credited = credited,
    .captured_locked = captured_locked,
};

/* ---- the batch ---- */

/*
 * 0, or until when its order may still bring what is missing.  What was told
 * since the look may be that: to be looked at again, now.
 */
static uint64_t comes_until(const MsScan *scan, const MsEpoch *epoch,
                            uint64_t now)
{
    if (epoch->tell > scan->tells) {
        return now;
    }
    return epoch->running && !epoch->cancelled &&
           epoch->deadline_ns > now + NEAR_NS ? epoch->deadline_ns - NEAR_NS
                                              : 0;
}

/*
 * Leave only pages whose number is told, of an epoch that lives.  Until when
 * more of them may come; 0: not any more.
 */
static uint64_t drop_unwanted(const MsScan *scan, const MsScanFrame *sf,
                              MsPageSet *set)
{
    const MsSys *sys = scan->region->ms->sys;
    MsApps *apps = scan->region->client->apps;
    uint64_t now = sys->now_ns(sys), until = 0;
    unsigned first, count;
    MsPageSet all = *set;

    ms_lock(&apps->lock);
    for (unsigned p = 0; ms_pageset_run(&all, p, &first, &count);
         p = first + count) {
        for (unsigned i = first; i < first + count; i++) {
            const MsEpoch *epoch = scan->epoch[sf->kind[i]];

            if (!ms_epoch_wants(epoch, sf->sequence[i])) {
                ms_pageset_remove(set, i, 1);
            } else {
                until = MAX(until, comes_until(scan, epoch, now));
            }
        }
    }
    ms_unlock(&apps->lock);
    return until;
}

/* A part of a huge page: not now.  A whole one may turn out to be a part. */
static bool must_wait_locked(MsCaptureTags *tc, uint64_t frame,
                             const MsPageSet *set, uint64_t whole_until)
{
    if (whole_until == 0 || ms_pageset_count(set) == FRAME_PAGES ||
        !ms_capture_is_huge_locked(tc->scan->region, frame)) {
        return false;
    }
    wait_until(tc, whole_until);
    return true;
}

/* False: the batch is full. */
static bool add_locked(MsCaptureTags *tc, unsigned index)
{
    MemSchedRegion *region = tc->scan->region;
    const MsScanFrame *sf = &tc->scan->frame[index];
    unsigned before = tc->capture.frames;
    uint64_t until;
    MsPageSet set;

    ms_pages_select(&region->pages, sf->frame * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(RESIDENT), &set);
    set = ms_pageset_and(&set, &sf->found);
    until = drop_unwanted(tc->scan, sf, &set);
    until = tc->split ? until : UINT64_MAX;
    if (ms_pageset_empty(&set) ||
        must_wait_locked(tc, sf->frame, &set, until)) {
        return true;
    }
    /* Raised before already: not worth the way out and back. */
    if (ms_fence_is_raised(&region->ms->fence,
                           ms_region_address(region,
                                             sf->frame * FRAME_PAGES))) {
        return true;
    }
    if (!ms_capture_add_locked(&tc->capture, sf->frame, &set)) {
        return false;
    }
    if (tc->capture.frames > before) {
        tc->of[before] = index;
        tc->whole_until[before] = until;
    }
    return true;
}

void ms_capture_tags(MsCaptureTags *tc)
{
    MemSchedRegion *region = tc->scan->region;
    uint64_t rejected;
    unsigned i = 0;

    while (i < tc->scan->frames) {
        rejected = tc->rejected_pages;
        ms_lock(&region->lock);
        ms_capture_init_locked(&tc->capture, region,
                               MEMSCHED_SOURCE_APPLICATION,
                               MEMSCHED_PAGE_TAG);
        tc->capture.ops = &ops;
        tc->capture.opaque = tc;
        while (i < tc->scan->frames && add_locked(tc, i)) {
            i++;
        }
        ms_unlock(&region->lock);
        ms_capture_run(&tc->capture);
        ms_trace(region->ms, MEMSCHED_TRACE_TAGS_FOUND, region->client->id,
                 tc->capture.captured_pages, tc->rejected_pages - rejected);
        tc->captured_pages += tc->capture.captured_pages;
        tc->flushes += tc->capture.flushes;
    }
}
