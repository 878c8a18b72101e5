/*
 * Between capture.c and capture-move.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_CAPTURE_INT_H
#define MEMSCHED_CAPTURE_INT_H

#include "capture.h"
#include "region.h"

/*
 * All of the frame is one huge page.  Our map may not know: the kernel
 * collapses frames that are full of small pages.  Region lock held.
 */
bool ms_capture_is_huge_locked(MemSchedRegion *region, uint64_t frame);

/* Guest to arena, as far as it goes: run[], with what has arrived. */
void ms_capture_move_out(MsCapture *capture);

/*
 * Back go frames with put_back set, and the pages to keep of those that left
 * whole because they are huge.  What stays arrived is the pool's.
 */
void ms_capture_put_back(MsCapture *capture);

/* The guest has given up what the pages hold. */
static inline bool ms_capture_is_dead(const MsCapture *capture)
{
    return capture->ops == NULL &&
           (capture->state == MEMSCHED_PAGE_BALLOONED ||
            capture->state == MEMSCHED_PAGE_REPORTED);
}

static inline char *ms_capture_address(const MsCapture *capture,
                                       const MsCaptureFrame *frame,
                                       unsigned page)
{
    return ms_region_address(capture->region,
                             frame->frame * MS_PAGESET_PAGES + page);
}

#endif /* MEMSCHED_CAPTURE_INT_H */
