/*
 * A huge page of which a part has gone: split for good, every page a frame
 *
 * After madvise(MADV_DONTNEED) of a part, what is left is mapped by small
 * entries and still is one huge page, until somebody wants one page of it: the
 * next move, or the kernel when it runs short.  Then it is split, and those of
 * its pages that hold only zeros lose their frames to the shared zero page
 * (Linux 6.13 and later), in the guest and the arena alike, with nobody there
 * who would notice.  So it is split at once, where it is torn.
 *
 * madvise(MADV_COLD) of one of its pages does that (Linux 5.4 and later:
 * a part of a large folio is split off before it is aged), 0.3 ms, and leaves
 * one page aged.  It fails silently where the page is pinned; then the split
 * comes later, as it would have.
 *
 * An uncorrectable error makes the kernel split the huge page by itself, with
 * the same effect; here nothing is left to split then.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <sys/mman.h>

#include "memsched/types.h"
#include "scrub.h"
#include "torn.h"

static char *page_address(char *frame, unsigned page)
{
    return frame + ((size_t)page << MEMSCHED_PAGE_SHIFT);
}

void ms_torn_split(const MsPagemap *map, char *frame, unsigned page,
                   MsPageSet *ret_lost)
{
    ms_pageset_clear(ret_lost);
    map->sys->madvise(map->sys, page_address(frame, page), MEMSCHED_PAGE_SIZE,
                      MADV_COLD);
    ms_pagemap_zeros(map, frame, ret_lost);
}

void ms_torn_touch(char *frame, const MsPageSet *lost)
{
    unsigned page, count;

    for (unsigned p = 0; ms_pageset_run(lost, p, &page, &count);
         p = page + count) {
        ms_touch_pages(page_address(frame, page), count);
    }
}
