/*
 * The rest of a huge page of a guest, of which one page breaks or is repaired
 *
 * The huge page is split there and then (torn.c says why), and those of its
 * pages that lose their frames, which all hold zeros, get new ones.  Nothing of
 * the frame is moved meanwhile: all of it is in C.  The guest goes on reading
 * and writing it.
 *
 *   region lock   all R, G of the frame -> C          ms_torn_begin_locked()
 *   rows busy     split; what lost its frame leaves its stripes: of zeros
 *                 nothing is in the sums, so only the books change
 *   no lock       unprotect those, touch them
 *   region lock   C -> R, G, wake whoever waits       ms_torn_end()
 *
 * A write to such a page while its rows are busy is a fault that waits for the
 * end of C; and on a kernel that would let it through, nothing that is in a sum
 * would have changed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "instance.h"
#include "protect-int.h"
#include "repair-int.h"
#include "torn.h"

#define FRAME_PAGES MS_PAGESET_PAGES

bool ms_torn_begin_locked(MemSchedRegion *region, uint64_t page,
                          MsTorn *ret_torn)
{
    MsPages *pages = &region->pages;
    uint64_t frame = page / FRAME_PAGES, first = frame * FRAME_PAGES;
    const MsFrame *f = &pages->frame[frame];
    MsTorn torn = {
        .frame = frame, .page = page % FRAME_PAGES,
        .huge = f->flags & MS_FRAME_HUGE,
    };

    if (torn.huge && f->transit > 0) {
        ms_region_wait_transit_locked(region, first, FRAME_PAGES);
        return false;
    }
    ms_pageset_clear(&torn.resident);
    ms_pageset_clear(&torn.given);
    if (torn.huge) {
        ms_pages_select(pages, first, FRAME_PAGES, MS_STATE_BIT(RESIDENT),
                        &torn.resident);
        ms_pages_select(pages, first, FRAME_PAGES, MS_STATE_BIT(GIVEN),
                        &torn.given);
        ms_pageset_remove(&torn.resident, torn.page, 1);
        ms_pageset_remove(&torn.given, torn.page, 1);
        ms_pages_change_set(pages, MS_PAGE_TAKE_OUT, frame, &torn.resident,
                            MEMSCHED_PAGE_TRANSIT);
        ms_pages_change_set(pages, MS_PAGE_TAKE_OUT, frame, &torn.given,
                            MEMSCHED_PAGE_TRANSIT);
    }
    *ret_torn = torn;
    return true;
}

void ms_torn_cancel(MemSchedRegion *region, const MsTorn *torn)
{
    int parked;

    if (!torn->huge) {
        return;
    }
    ms_lock(&region->lock);
    parked = ms_pages_change_set(&region->pages, MS_PAGE_PUT_BACK, torn->frame,
                                 &torn->resident, MEMSCHED_PAGE_RESIDENT);
    parked |= ms_pages_change_set(&region->pages, MS_PAGE_PUT_BACK, torn->frame,
                                  &torn->given, MEMSCHED_PAGE_GIVEN);
    ms_cond_broadcast(&region->cond);
    ms_unlock(&region->lock);
    if (parked) {
        ms_region_wake(region, torn->frame * FRAME_PAGES, FRAME_PAGES);
    }
}

/* Rows of all of the frame's members; what has lost its frame leaves them. */
static void split(MemSchedRegion *region, const MsTorn *torn, char *frame,
                  MsPageSet *ret_lost)
{
    const MsPagemap *map = ms_pool_pagemap(region->ms->pool);
    MsProtect *protect = ms_protect_of(region);
    unsigned other = torn->page ? 0 : 1;
    MsMember *member = NULL;
    MsPageSet in, leaving;

    ms_pageset_fill(&in);
    if (protect) {
        ms_lock(&protect->lock);
        member = ms_rows_begin_locked(protect, torn->frame, &in);
        if (member) {
            member->huge = false;
        }
        ms_unlock(&protect->lock);
    }
    ms_torn_split(map, frame, other, ret_lost);
    if (member) {
        MsGroup *group = member->group;

        leaving = ms_pageset_and(ret_lost, &in);
        ms_lock(&protect->lock);
        ms_stripes_leave(&protect->stripes, member, &leaving);
        ms_rows_end_locked(protect, group, &in);
        ms_unlock(&protect->lock);
    }
}

void ms_torn_end(MemSchedRegion *region, const MsTorn *torn)
{
    char *frame = ms_region_address(region, torn->frame * FRAME_PAGES);
    MsPageSet lost;

    if (torn->huge) {
        split(region, torn, frame, &lost);
        if (!ms_pageset_empty(&lost)) {
            ms_protect_open(region, torn->frame, &lost, false);
            ms_torn_touch(frame, &lost);
        }
    }
    ms_lock(&region->lock);
    ms_pages_set_flag(&region->pages, torn->frame, MS_FRAME_HUGE, false);
    ms_pages_set_flag(&region->pages, torn->frame, MS_FRAME_TABLE, true);
    ms_unlock(&region->lock);
    ms_torn_cancel(region, torn);
}
