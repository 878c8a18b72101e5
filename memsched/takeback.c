/*
 * Taking back what was populated ahead and never used
 *
 * A transfer maps pages into the acceptor before it touches them: a guess.
 * When touches wait for memory (its own elsewhere, or another guest's) such
 * pages are of better use there.  Nobody tells us whether a page was touched;
 * but one that holds only zeros is no different from a hole to the guest (R ->
 * H of the protocol).
 *
 * What makes it safe is capture.c's order: the page is in C, so a touch waits;
 * it is moved out; the fence and the epoch are read; and then all of its bytes
 * are compared, in the arena, where no one can write them any more.  What is
 * not zero goes back before anybody sees that it was away.
 *
 * Which pages.  Frames that prefetch has filled carry a flag, which is dropped
 * when they are looked at: each costs one way out and back at most.  Frames
 * with given pages are left to the balloon, fenced ones for later.  A guest at
 * its min keeps all: SAFE would have to keep as many pages free for it.
 *
 * Threads: the mover's.  Locks: the region's and the ledger's, one after the
 * other; none while pages move.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "instance.h"
#include "takeback.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* So long other guests let it come to use them. */
#define GRACE_NS UINT64_C(10000000000)

void ms_takeback_note(MemSchedRegion *region, uint64_t frame)
{
    MemSched *ms = region->ms;

    ms_lock(&region->lock);
    ms_pages_set_flag(&region->pages, frame, MS_FRAME_AHEAD, true);
    ms_unlock(&region->lock);
    atomic_store(&region->client->ahead_ns, ms->sys->now_ns(ms->sys));
}

static uint64_t above_min(MemSchedClient *client)
{
    MsAccount *account = &client->account;
    uint64_t above;

    ms_lock(&client->ms->ledger_lock);
    above = account->allocated > account->min
            ? account->allocated - account->min : 0;
    ms_unlock(&client->ms->ledger_lock);
    return above;
}

/* Frames with the flag, from the cursor on, as many as a batch holds. */
static void add_frames_locked(MsCapture *c, uint64_t most)
{
    MemSchedRegion *region = c->region;
    MsPages *pages = &region->pages;
    uint64_t start = region->ahead_cursor, left = pages->ahead_frames;

    for (uint64_t i = 0; i < pages->frames && left > 0; i++) {
        uint64_t f = (start + i) % pages->frames;
        MsFrame *frame = &pages->frame[f];
        MsPageSet take;

        if (!(frame->flags & MS_FRAME_AHEAD)) {
            continue;
        }
        left--;
        if (frame->given > 0 || frame->transit > 0 ||
            ms_region_is_leased(region, f) ||
            c->pages_want + frame->resident > most ||
            ms_fence_is_raised(&region->ms->fence,
                               ms_region_address(region, f * FRAME_PAGES))) {
            continue;
        }
        ms_pages_select(pages, f * FRAME_PAGES, FRAME_PAGES,
                        MS_STATE_BIT(RESIDENT), &take);
        if (!ms_capture_add_locked(c, f, &take)) {
            break;
        }
        ms_pages_set_flag(pages, f, MS_FRAME_AHEAD, false);
        region->ahead_cursor = f + 1;
    }
}

static uint64_t take_region(MemSchedRegion *region, MsCapture *c,
                            uint64_t most)
{
    if (!ms_region_enter_locked(region)) {
        return 0;
    }
    ms_capture_init_locked(c, region, MEMSCHED_SOURCE_ANY,
                           MEMSCHED_PAGE_HOLE);
    c->zero = true;
    /* Without moves nothing could be put back. */
    if (region->movable) {
        add_frames_locked(c, most);
    }
    ms_unlock(&region->lock);
    ms_capture_run(c);
    ms_region_leave(region);
    return c->captured_pages;
}

uint64_t ms_takeback(MemSchedClient *client, MsCapture *scratch)
{
    uint64_t most = above_min(client), done = 0;
    MemSchedRegion **regions;
    size_t count;

    if (most == 0 || !ms_client_capture_enter(client, false)) {
        return 0;
    }
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        if (done < most) {
            done += take_region(regions[i], scratch, most - done);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    ms_client_capture_leave(client);
    return done;
}

uint64_t ms_takeback_step(MemSchedClient *client, MsCapture *scratch)
{
    MemSched *ms = client->ms;
    uint64_t ahead_ns = atomic_load(&client->ahead_ns);
    bool itself = atomic_load(&client->waiting_since_ns) != 0;

    if (atomic_load(&ms->waiters) == 0 ||
        /* Being filled just now. */
        atomic_load(&client->prefetch_pages) > 0 ||
        (!itself && ms->sys->now_ns(ms->sys) < ahead_ns + GRACE_NS &&
         ahead_ns != 0)) {
        return 0;
    }
    return ms_takeback(client, scratch);
}
