/*
 * Claimed pages put into a guest before it touches them
 *
 * Owns the choice of places for what a transfer brings.  Each is a page without
 * a frame that the guest may use without a word:
 *
 *     H, P    holes, and what it has reported free: zeros
 *     T       whose tag earns nobody anything, since its application is gone or
 *             has unmapped it: its tag.  Only where no hole is left.
 *
 * A page in T that is credited comes back by its application's release, one in
 * B by a deflate: both are told to give back first.
 *
 * Threads: ms_prefetch() any, the step the mover's.  Locks: the region's,
 * released before anything moves.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "instance.h"
#include "prefetch.h"
#include "tagged.h"
#include "takeback.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* Frames looked at in one step, so that the mover comes back soon. */
#define STEP_FRAMES 16u

#define EMPTY_STATES (MS_STATE_BIT(HOLE) | MS_STATE_BIT(REPORTED))

void ms_prefetch(MemSchedClient *client, uint64_t pages)
{
    atomic_fetch_add(&client->prefetch_pages, pages);
    ms_mover_kick(client->ms->mover);
}

/*
 * Next frame with pages of @mask at or after the cursor, going round; false:
 * none.  Region lock held.
 */
static bool next_frame_locked(MemSchedRegion *region, unsigned mask,
                              uint64_t *ret_frame)
{
    MsPages *pages = &region->pages;
    uint64_t from = region->prefetch_cursor * FRAME_PAGES, first, count;
    bool found;

    found = ms_pages_next(pages, from, UINT64_MAX, mask, &first, &count) ||
            ms_pages_next(pages, 0, from, mask, &first, &count);
    if (found) {
        *ret_frame = first / FRAME_PAGES;
        region->prefetch_cursor = *ret_frame + 1;
    }
    return found;
}

/* The next frame with empty pages, and which: false if there is none. */
static bool choose_empty(MemSchedRegion *region, MsPopulate *p)
{
    bool found;

    ms_lock(&region->lock);
    found = next_frame_locked(region, EMPTY_STATES, &p->frame);
    if (found) {
        ms_pages_select(&region->pages, p->frame * FRAME_PAGES, FRAME_PAGES,
                        EMPTY_STATES, &p->want);
    }
    ms_unlock(&region->lock);
    return found;
}

/* The same with known pages; looks at each frame with tags once. */
static bool choose_known(MemSchedRegion *region, MsPopulate *p)
{
    uint64_t first = UINT64_MAX;
    bool found = false;

    ms_lock(&region->lock);
    while (!found && next_frame_locked(region, MS_STATE_BIT(TAG), &p->frame) &&
           p->frame != first) {
        first = first == UINT64_MAX ? p->frame : first;
        ms_tagged_known_locked(region, p->frame, &p->want);
        found = !ms_pageset_empty(&p->want);
    }
    ms_unlock(&region->lock);
    return found;
}

static uint64_t fill_empty(MemSchedRegion *region, MsPopulate *p)
{
    uint64_t n;

    p->mask = EMPTY_STATES;
    n = ms_populate_frame(p, NULL);
    if (n > 0) {
        ms_takeback_note(region, p->frame);
    }
    return n;
}

/* Up to @pages pages into @region; 0: nothing could be done there. */
static uint64_t prefetch_region(MemSchedRegion *region, uint64_t pages,
                                bool known)
{
    uint64_t done = 0;

    if (!ms_region_enter_locked(region)) {
        return 0;
    }
    ms_unlock(&region->lock);
    for (unsigned i = 0; i < STEP_FRAMES && done < pages; i++) {
        MsPopulate populate = {
            .region = region, .touched = FRAME_PAGES,
            .grant_flags = MS_GRANT_CLAIM_ONLY | MS_GRANT_AHEAD,
        };
        uint64_t n;

        if (!(known ? choose_known : choose_empty)(region, &populate)) {
            break;
        }
        ms_pageset_keep_first(&populate.want,
                              MIN(pages - done, FRAME_PAGES));
        n = known ? ms_tagged_populate(&populate, MS_TAGGED_BY_RELEASE, NULL)
                  : fill_empty(region, &populate);
        if (n == 0) {
            break;
        }
        done += n;
    }
    ms_region_leave(region);
    return done;
}

static uint64_t prefetch_client(MemSchedClient *client, uint64_t pages,
                                bool known)
{
    MemSchedRegion **regions;
    uint64_t done = 0;
    size_t count;

    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        if (done < pages) {
            done += prefetch_region(regions[i], pages - done, known);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return done;
}

static bool has_claim(MemSchedClient *client)
{
    bool has;

    ms_lock(&client->ms->ledger_lock);
    has = client->account.claim > 0;
    ms_unlock(&client->ms->ledger_lock);
    return has;
}

bool ms_prefetch_step(MemSchedClient *client, bool *ret_later)
{
    uint64_t wish = atomic_load(&client->prefetch_pages), done, n;

    if (wish == 0) {
        return false;
    }
    done = prefetch_client(client, wish, false);
    if (done == 0 && ms_tagged_known_pages(client) > 0) {
        done = prefetch_client(client, wish, true);
    }

    /* Pages that are still being cleared: the wish stays. */
    if (done == 0 && has_claim(client)) {
        *ret_later = true;
        return false;
    }
    /* No claim: what is left of the wish is void. */
    n = done ? done : wish;
    wish = atomic_load(&client->prefetch_pages);
    while (!atomic_compare_exchange_weak(&client->prefetch_pages, &wish,
                                         wish - MIN(n, wish))) {
        continue;
    }
    return done > 0 && wish > n;
}
