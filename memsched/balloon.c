/*
 * What a guest's balloon does: inflate, deflate, report, reset, restore
 *
 * Owns the entry points of the device: translate what the guest named, mark the
 * pages under the region's lock, and start or run what follows (capture.c,
 * populate.c).  The order of steps is the protocol's; each function returns
 * when the device may complete the guest's request.
 *
 * With must-tell-host an inflate only marks (state G): the guest will say so
 * before it uses such a page again, so the mover may collect whole frames over
 * many requests.  Without it, and for reports, the right to take a page ends
 * when the request is completed: the captures run here, in the device's thread.
 *
 * Guest input: ranges are translated and bounded by the map (gpamap.c), so that
 * every request works on each page of RAM at most once.
 *
 * Locks: the region's, given up while pages move and while a page in C is
 * waited for.  Two regions are never locked together.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "app.h"
#include "gpamap.h"
#include "held.h"
#include "instance.h"
#include "tagged.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* A deflate is answered within this: a guest's OOM path waits for it. */
#define DEFLATE_NS UINT64_C(2000000)

/* Reports of fewer small pages cost more calls than they are worth. */
#define REPORT_MIN_PAGES 32u

/* Pages whose states change in one go under a lock: 0.1 ms. */
#define CHUNK_PAGES (64u * FRAME_PAGES)

static uint64_t now_ns(const MemSched *ms)
{
    return ms->sys->now_ns(ms->sys);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* On its way through the runs of one client.  Large: never cleared whole. */
typedef struct Request {
    MemSchedClient *client;
    MsGpaMap *map;              /* keeps the regions */
    MsRuns runs;
    MemSchedOpResult result;
    uint64_t deadline_ns;
    bool must_tell_host;
    MsCapture capture;
} Request;

static int request_begin(Request *rq, MemSchedClient *client,
                         const MemSchedGpaRange *ranges, size_t count)
{
    uint64_t refused = 0;
    int ret;

    rq->client = client;
    rq->result = (MemSchedOpResult) { 0 };
    rq->map = ms_client_map(client);
    ms_runs_init(&rq->runs);
    ret = ms_gpamap_translate(rq->map, ranges, count, &rq->runs, &refused);
    if (ret < 0) {
        ms_runs_destroy(&rq->runs);
        ms_gpamap_unref(rq->map);
        return ret;
    }
    rq->result.refused_pages = refused;
    if (refused > 0) {
        ms_count(&client->ms->stats.refused_pages, refused);
        ms_count(&client->ms->stats.refused_requests, 1);
        ms_count(&client->stats_counters.refused_pages, refused);
    }
    return 0;
}

static void request_end(Request *rq, MemSchedOpResult *ret_result)
{
    ms_runs_destroy(&rq->runs);
    ms_gpamap_unref(rq->map);
    if (ret_result) {
        *ret_result = rq->result;
    }
}

/* Some page of it is in C, or the scan reads it. */
static bool is_in_use_locked(const MemSchedRegion *region, uint64_t frame)
{
    return region->pages.frame[frame].transit > 0 ||
           ms_region_is_leased(region, frame);
}

/* One page run after the other, each in the region that it belongs to. */
static void for_each_run(Request *rq, void (*work)(Request *rq,
                                                   const MsRun *run))
{
    for (size_t i = 0; i < rq->runs.count; i++) {
        const MsRun *run = &rq->runs.run[i];

        if (!ms_region_enter_locked(run->region)) {
            continue;           /* it goes away, and its pages with it */
        }
        ms_unlock(&run->region->lock);
        work(rq, run);
        ms_region_leave(run->region);
    }
}

/* From the guest's ranges to the answer. */
static int request_run(Request *rq, MemSchedClient *client,
                       const MemSchedGpaRange *ranges, size_t count,
                       void (*work)(Request *rq, const MsRun *run),
                       MemSchedOpResult *ret_result)
{
    int ret = request_begin(rq, client, ranges, count);

    if (ret == 0) {
        for_each_run(rq, work);
        request_end(rq, ret_result);
    }
    return ret;
}

/* The same for one whose captures end within the call. */
static int request_capture(Request *rq, MemSchedClient *client,
                           const MemSchedGpaRange *ranges, size_t count,
                           void (*work)(Request *rq, const MsRun *run),
                           MemSchedOpResult *ret_result)
{
    int ret = -EBUSY;

    if (ms_client_capture_enter(client, true)) {
        ret = request_run(rq, client, ranges, count, work, ret_result);
        ms_client_capture_leave(client);
    }
    return ret;
}

/* ---- inflate ---- */

/*
 * What needs no move is done, pages in C are waited for, and resident pages are
 * marked G with must-tell-host, left as they are without.
 */
static void mark_inflated_locked(Request *rq, MemSchedRegion *region,
                                 uint64_t first, uint64_t count)
{
    MsPages *pages = &region->pages;
    MemSchedOpResult *result = &rq->result;
    uint64_t n;

    ms_pages_renew(pages, first, count);
    for (; count > 0; first += n, count -= n) {
        n = ms_pages_run(pages, first, count);
        switch (ms_pages_get(pages, first)) {
        case MEMSCHED_PAGE_HOLE:
        case MEMSCHED_PAGE_REPORTED:
        case MEMSCHED_PAGE_TAG:
        case MEMSCHED_PAGE_HELD:
            ms_tagged_forget_locked(region, first, n);
            ms_held_forget_locked(region, first, n);
            ms_pages_change(pages, MS_PAGE_INFLATE, first, n,
                            MEMSCHED_PAGE_BALLOONED);
            result->noop_pages += n;
            break;
        case MEMSCHED_PAGE_RESIDENT:
            if (rq->must_tell_host) {
                ms_pages_change(pages, MS_PAGE_INFLATE, first, n,
                                MEMSCHED_PAGE_GIVEN);
                result->given_pages += n;
            }
            break;
        case MEMSCHED_PAGE_BALLOONED:
            result->noop_pages += n;
            break;
        case MEMSCHED_PAGE_GIVEN:
            result->noop_pages += rq->must_tell_host ? n : 0;
            break;
        case MEMSCHED_PAGE_TRANSIT:
            ms_region_wait_transit_locked(region, first, n);
            n = 0;              /* look again */
            break;
        default:
            result->busy_pages += n;
            break;
        }
    }
}

static void inflate_later(Request *rq, const MsRun *run)
{
    MemSchedRegion *region = run->region;
    uint64_t first = run->first, end = first + run->count, n;
    bool ready = false;

    ms_repair_forget(region, first, end);
    for (; first < end; first += n) {
        n = min_u64(end - first, CHUNK_PAGES);
        ms_lock(&region->lock);
        mark_inflated_locked(rq, region, first, n);
        ready |= region->pages.ready_frames > 0;
        ms_unlock(&region->lock);
    }
    if (ready || ms_is_short(rq->client->ms)) {
        ms_mover_kick(rq->client->ms->mover);
    }
}

static void capture_and_relock(MsCapture *capture)
{
    ms_unlock(&capture->region->lock);
    ms_capture_run(capture);
    ms_lock(&capture->region->lock);
}

static void inflate_now(Request *rq, const MsRun *run)
{
    MemSchedRegion *region = run->region;
    MsCapture *capture = &rq->capture;
    uint64_t first = run->first, end = first + run->count, n;

    ms_repair_forget(region, first, end);
    ms_lock(&region->lock);
    ms_capture_init_locked(capture, region, MEMSCHED_SOURCE_KERNEL,
                           MEMSCHED_PAGE_BALLOONED);
    for (; first < end; first += n) {
        uint64_t frame = first / FRAME_PAGES;
        MsPageSet take;

        n = min_u64(end - first, FRAME_PAGES - first % FRAME_PAGES);
        if (is_in_use_locked(region, frame)) {
            /* Somebody else's: not to be waited for with pages of our own. */
            capture_and_relock(capture);
            ms_region_wait_lease_locked(region, frame);
        }
        mark_inflated_locked(rq, region, first, n);
        ms_pages_select(&region->pages, first, n, MS_STATE_BIT(RESIDENT) |
                        MS_STATE_BIT(GIVEN), &take);
        while (!ms_capture_add_locked(capture, frame, &take)) {
            capture_and_relock(capture);
        }
    }
    ms_unlock(&region->lock);
    ms_capture_run(capture);
    rq->result.captured_pages += capture->captured_pages;
    rq->result.busy_pages += capture->busy_pages;
}

int memsched_inflate(MemSchedClient *client, const MemSchedGpaRange *ranges,
                     size_t count, bool must_tell_host,
                     MemSchedOpResult *ret_result)
{
    Request rq;

    rq.must_tell_host = must_tell_host;
    /*
     * Marking needs no leave: the mover captures what is marked when it may.
     * A driver does not repeat what it has told once, so it must not be lost.
     */
    if (must_tell_host) {
        return request_run(&rq, client, ranges, count, inflate_later,
                           ret_result);
    }
    return request_capture(&rq, client, ranges, count, inflate_now,
                           ret_result);
}

/* ---- report ---- */

/* Members of [first, first + count) to capture; the others are dealt with. */
static void mark_reported_locked(Request *rq, MemSchedRegion *region,
                                 uint64_t first, uint64_t count,
                                 MsPageSet *ret_take)
{
    MsPages *pages = &region->pages;
    const MsFrame *frame = &pages->frame[first / FRAME_PAGES];
    uint64_t at = first, left = count, n;
    unsigned resident;

    ms_pages_renew(pages, first, count);
    for (; left > 0; at += n, left -= n) {
        MemSchedPageState state = ms_pages_get(pages, at);

        n = ms_pages_run(pages, at, left);
        if (ms_page_change_is_legal(MS_PAGE_REPORT, state,
                                    MEMSCHED_PAGE_REPORTED)) {
            ms_tagged_forget_locked(region, at, n);
            ms_held_forget_locked(region, at, n);
            ms_pages_change(pages, MS_PAGE_REPORT, at, n,
                            MEMSCHED_PAGE_REPORTED);
        }
        if (state == MEMSCHED_PAGE_TRANSIT ||
            state == MEMSCHED_PAGE_POISONED) {
            rq->result.busy_pages += n;
        } else if (state != MEMSCHED_PAGE_RESIDENT) {
            rq->result.noop_pages += n;
        }
    }
    ms_pages_select(pages, first, count, MS_STATE_BIT(RESIDENT), ret_take);
    resident = ms_pageset_count(ret_take);
    /* A part of a huge page, or crumbs: leave them, a report is only a hint. */
    if (resident > 0 && resident < FRAME_PAGES &&
        ((frame->flags & MS_FRAME_HUGE) || resident < REPORT_MIN_PAGES)) {
        rq->result.busy_pages += resident;
        ms_pageset_clear(ret_take);
    }
}

static void report_run(Request *rq, const MsRun *run)
{
    MemSchedRegion *region = run->region;
    MsCapture *capture = &rq->capture;
    MemSched *ms = region->ms;
    uint64_t first = run->first, end = first + run->count, n;

    ms_repair_forget(region, first, end);
    ms_lock(&region->lock);
    ms_capture_init_locked(capture, region, MEMSCHED_SOURCE_REPORTED,
                           MEMSCHED_PAGE_REPORTED);
    for (; first < end && now_ns(ms) < rq->deadline_ns; first += n) {
        uint64_t frame = first / FRAME_PAGES;
        MsPageSet take;

        n = min_u64(end - first, FRAME_PAGES - first % FRAME_PAGES);
        if (is_in_use_locked(region, frame)) {
            /* A page is touched, then freed, before its populate has ended. */
            capture_and_relock(capture);
            ms_region_wait_lease_locked(region, frame);
            ms_region_wait_transit_locked(region, first, n);
        }
        mark_reported_locked(rq, region, first, n, &take);
        while (!ms_capture_add_locked(capture, frame, &take)) {
            capture_and_relock(capture);
        }
    }
    ms_unlock(&region->lock);
    ms_capture_run(capture);
    rq->result.captured_pages += capture->captured_pages;
    rq->result.busy_pages += capture->busy_pages + (end - first);
}

int memsched_report(MemSchedClient *client, const MemSchedGpaRange *ranges,
                    size_t count, uint64_t budget_ns,
                    MemSchedOpResult *ret_result)
{
    uint64_t now = now_ns(client->ms);
    Request rq;

    rq.deadline_ns = budget_ns > UINT64_MAX - now ? UINT64_MAX
                                                  : now + budget_ns;
    if (ms_client_left_alone(client)) {
        /* Its pages come back too often: they stay where they are. */
        rq.deadline_ns = 0;
    }
    return request_capture(&rq, client, ranges, count, report_run,
                           ret_result);
}

/* ---- deflate ---- */

/* Pages of one frame; what became a hole is added to @ret_holes. */
static void mark_deflated_locked(Request *rq, MemSchedRegion *region,
                                 uint64_t first, uint64_t count,
                                 MsPageSet *ret_holes)
{
    MsPages *pages = &region->pages;
    uint64_t n;

    ms_pageset_clear(ret_holes);
    for (; count > 0; first += n, count -= n) {
        n = ms_pages_run(pages, first, count);
        switch (ms_pages_get(pages, first)) {
        case MEMSCHED_PAGE_GIVEN:
            ms_pages_change(pages, MS_PAGE_DEFLATE, first, n,
                            MEMSCHED_PAGE_RESIDENT);
            rq->result.noop_pages += n;
            break;
        case MEMSCHED_PAGE_BALLOONED:
        case MEMSCHED_PAGE_REPORTED:
            ms_pages_change(pages, MS_PAGE_DEFLATE, first, n,
                            MEMSCHED_PAGE_HOLE);
            ms_pageset_add(ret_holes, first % FRAME_PAGES, n);
            break;
        case MEMSCHED_PAGE_TRANSIT:
            ms_region_wait_transit_locked(region, first, n);
            n = 0;              /* look again */
            break;
        default:
            rq->result.noop_pages += n;
            break;
        }
    }
}

/*
 * What to populate after a deflate of @holes.  In a frame without any page, a
 * few small ones would cost the guest its huge page: a driver deflates 1 MiB a
 * request, so the frame is left until its last ballooned page comes back, and
 * is then populated whole.  (If it does not, its pages come by touch.)
 */
static void choose_deflated_locked(MemSchedRegion *region, uint64_t frame,
                                   MsPageSet *holes)
{
    MsPages *pages = &region->pages;
    MsFrame *f = &pages->frame[frame];
    MsPageSet empty;

    if (!region->huge || f->resident > 0 || f->transit > 0 ||
        frame * FRAME_PAGES < pages->lead ||
        (frame + 1) * FRAME_PAGES > pages->end ||
        ms_pageset_empty(holes)) {
        return;
    }
    ms_pages_select(pages, frame * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(HOLE) | MS_STATE_BIT(REPORTED), &empty);
    if (ms_pageset_count(&empty) == FRAME_PAGES) {
        *holes = empty;
    } else {
        ms_pageset_clear(holes);
    }
}

/* It names pages that it had set aside: they come back with their tags. */
static void deflate_tags(Request *rq, MemSchedRegion *region, uint64_t frame,
                         const MsPageSet *tags)
{
    MsPopulate p = {
        .region = region, .frame = frame, .want = *tags,
        .touched = MS_PAGESET_PAGES, .grant_flags = MS_GRANT_AHEAD,
    };

    if (!ms_pageset_empty(tags) && now_ns(region->ms) < rq->deadline_ns) {
        rq->result.populated_pages +=
            ms_tagged_populate(&p, MS_TAGGED_BY_RELEASE, NULL);
    }
}

static void deflate_run(Request *rq, const MsRun *run)
{
    MemSchedRegion *region = run->region;
    MsPopulate p = {
        .region = region, .touched = MS_PAGESET_PAGES,
        .mask = MS_STATE_BIT(HOLE) | MS_STATE_BIT(REPORTED),
        .grant_flags = MS_GRANT_AHEAD,
    };
    uint64_t first = run->first, end = first + run->count, n;
    MsPageSet tags;

    for (; first < end; first += n) {
        n = min_u64(end - first, FRAME_PAGES - first % FRAME_PAGES);
        p.frame = first / FRAME_PAGES;
        ms_lock(&region->lock);
        mark_deflated_locked(rq, region, first, n, &p.want);
        choose_deflated_locked(region, p.frame, &p.want);
        ms_pages_select(&region->pages, first, n, MS_STATE_BIT(TAG), &tags);
        ms_unlock(&region->lock);
        if (!ms_pageset_empty(&p.want) &&
            now_ns(region->ms) < rq->deadline_ns) {
            rq->result.populated_pages += ms_populate_frame(&p, NULL);
        }
        deflate_tags(rq, region, p.frame, &tags);
    }
}

int memsched_deflate(MemSchedClient *client, const MemSchedGpaRange *ranges,
                     size_t count, MemSchedOpResult *ret_result)
{
    Request rq;

    rq.deadline_ns = now_ns(client->ms) + DEFLATE_NS;
    return request_run(&rq, client, ranges, count, deflate_run, ret_result);
}

/* ---- reset, restore ---- */

static void reset_pages(MemSchedRegion *region, MemSchedReset kind)
{
    MsPageEvent event = kind == MEMSCHED_RESET_SYSTEM ? MS_PAGE_SYSTEM_RESET
                                                      : MS_PAGE_DEVICE_RESET;
    MsPages *pages = &region->pages;
    uint64_t first = pages->lead, chunk, n, limit;

    for (; first < pages->end; first = limit) {
        chunk = min_u64(pages->end - first, CHUNK_PAGES);
        limit = first + chunk;
        ms_lock(&region->lock);
        /* Captures end by themselves; the new epoch makes them put back. */
        ms_region_wait_transit_locked(region, first, chunk);
        for (; first < limit; first += n) {
            MemSchedPageState from = ms_pages_get(pages, first);
            MemSchedPageState to = from == MEMSCHED_PAGE_GIVEN
                                   ? MEMSCHED_PAGE_RESIDENT
                                   : MEMSCHED_PAGE_HOLE;

            n = ms_pages_run(pages, first, limit - first);
            if (ms_page_change_is_legal(event, from, to)) {
                ms_tagged_forget_locked(region, first, n);
                ms_held_forget_locked(region, first, n);
                ms_pages_change(pages, event, first, n, to);
            }
        }
        ms_unlock(&region->lock);
    }
}

void memsched_reset(MemSchedClient *client, MemSchedReset kind)
{
    MemSched *ms = client->ms;
    MemSchedRegion **regions;
    size_t count;

    regions = ms_client_regions(client, &count);
    ms_trace(ms, MEMSCHED_TRACE_RESET, client->id, kind, count);
    /* First of all: nothing that is in flight counts as given any more. */
    for (size_t i = 0; i < count; i++) {
        ms_lock(&regions[i]->lock);
        regions[i]->epoch++;
        ms_unlock(&regions[i]->lock);
    }
    if (kind == MEMSCHED_RESET_SYSTEM) {
        ms_apps_reset(client->apps);
    }
    atomic_store(&client->urge_pages, 0);
    atomic_store(&client->prefetch_pages, 0);
    ms_lock(&ms->ledger_lock);
    if (ms->hooks && ms->hooks->client_reset) {
        ms->hooks->client_reset(ms, client);
    }
    ms_unlock(&ms->ledger_lock);

    for (size_t i = 0; i < count; i++) {
        if (ms_region_enter_locked(regions[i])) {
            ms_unlock(&regions[i]->lock);
            if (kind == MEMSCHED_RESET_SYSTEM) {
                ms_repair_forget(regions[i], 0, UINT64_MAX);
            }
            reset_pages(regions[i], kind);
            ms_region_leave(regions[i]);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
}

static void restore_pages(MemSchedRegion *region, uint64_t first,
                          uint64_t count, MemSchedPageState state)
{
    MsPages *pages = &region->pages;
    uint64_t end = first + count, n;
    MsCapture capture;

    ms_lock(&region->lock);
    ms_capture_init_locked(&capture, region, MEMSCHED_SOURCE_KERNEL, state);
    for (; first < end; first += n) {
        uint64_t frame = first / FRAME_PAGES, run, holes;
        MsPageSet take;

        n = min_u64(end - first, FRAME_PAGES - first % FRAME_PAGES);
        if (is_in_use_locked(region, frame)) {
            capture_and_relock(&capture);
            ms_region_wait_lease_locked(region, frame);
        }
        ms_region_wait_transit_locked(region, first, n);
        ms_tagged_forget_locked(region, first, n);
        ms_held_forget_locked(region, first, n);
        for (uint64_t p = first;
             ms_pages_next(pages, p, first + n, MS_STATE_BIT(TAG) |
                           MS_STATE_BIT(HELD), &run, &holes);
             p = run + holes) {
            ms_pages_change(pages, state == MEMSCHED_PAGE_BALLOONED
                            ? MS_PAGE_INFLATE : MS_PAGE_REPORT, run, holes,
                            state);
        }
        for (uint64_t p = first;
             ms_pages_next(pages, p, first + n, MS_STATE_BIT(HOLE), &run,
                           &holes); p = run + holes) {
            ms_pages_change(pages, MS_PAGE_RESTORE, run, holes, state);
        }
        /* Something was loaded there before, which is not to stay. */
        ms_pages_select(pages, first, n, MS_STATE_BIT(RESIDENT), &take);
        while (!ms_capture_add_locked(&capture, frame, &take)) {
            capture_and_relock(&capture);
        }
    }
    ms_unlock(&region->lock);
    ms_capture_run(&capture);
}

int memsched_region_restore(MemSchedRegion *region, uint64_t first_page,
                            uint64_t count_pages, MemSchedPageState state)
{
    uint64_t pages = region->length_bytes >> MEMSCHED_PAGE_SHIFT;

    if (first_page > pages || count_pages > pages - first_page ||
        (state != MEMSCHED_PAGE_BALLOONED &&
         state != MEMSCHED_PAGE_REPORTED)) {
        return -EINVAL;
    }
    if (!ms_region_enter_locked(region)) {
        return -EINVAL;
    }
    ms_unlock(&region->lock);
    restore_pages(region, region->pages.lead + first_page, count_pages, state);
    ms_region_leave(region);
    return 0;
}
