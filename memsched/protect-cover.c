/*
 * Which pages are to be covered, and by what
 *
 * Owns the cover of each frame: what its guest's settings want for the guest
 * physical addresses at which the guest has it now.  Settings say it by ranges
 * of whole frames; where firmware has cut a frame (below 1 MiB), a range that
 * has a part of it has it all.  A frame that is at no address has all.
 *
 * It is asked, without a lock, by who chooses frames to join, and by who notes
 * what a disk has filled.  A frame that joined before it lost its cover leaves
 * when the parity thread comes by.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "gpamap.h"
#include "instance.h"
#include "protect-int.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        ((size_t)MEMSCHED_PAGE_SIZE)

static void fill_range(MsProtect *protect, const MsGpaMap *map,
                       const MemSchedCoverRange *range, uint8_t *wanted)
{
    MemSchedGpaRange all = {
        .gpa = range->gpa, .length_bytes = range->length_bytes,
    };
    uint64_t refused;
    MsRuns runs;

    ms_runs_init(&runs);
    /* Out of memory: what was translated counts, as if it were all. */
    (void)ms_gpamap_translate(map, &all, 1, &runs, &refused);
    for (size_t i = 0; i < runs.count; i++) {
        const MsRun *run = &runs.run[i];
        uint64_t first = run->first / FRAME_PAGES;

        if (run->region == protect->region && run->count > 0) {
            memset(&wanted[first], range->cover,
                   (run->first + run->count - 1) / FRAME_PAGES - first + 1);
        }
    }
    ms_runs_destroy(&runs);
}

void ms_cover_set(MsProtect *protect, const MemSchedProtection *settings)
{
    uint64_t frames = protect->region->pages.frames;
    MsGpaMap *map = ms_client_map(protect->region->client);
    uint8_t *wanted = g_malloc(frames);
    MsPageSet all;

    ms_pageset_fill(&all);
    memset(wanted, MEMSCHED_COVER_ALL, frames);
    for (unsigned i = 0; i < settings->ranges; i++) {
        fill_range(protect, map, &settings->range[i], wanted);
    }
    for (uint64_t f = 0; f < frames; f++) {
        atomic_store_explicit(&protect->cover[f], wanted[f],
                              memory_order_relaxed);
        if (!(wanted[f] & MEMSCHED_COVER_DISK)) {
            ms_protect_disk_forget(protect, f, &all);
        }
    }
    g_free(wanted);
    ms_gpamap_unref(map);
}

static unsigned disk_only_locked(MsProtect *protect, uint64_t frame)
{
    const MsMember *member = ms_stripes_member(&protect->stripes, frame);
    MsPageSet sure;

    ms_diskmap_select(&protect->disk, frame, true, &sure);
    if (member) {
        ms_pageset_subtract(&sure, &member->in);
    }
    return ms_pageset_count(&sure);
}

void ms_cover_count(MsProtect *protect, MemSchedProtectionInfo *info)
{
    MemSchedRegion *region = protect->region;
    uint64_t disk = 0, excluded = 0;

    ms_lock(&region->lock);
    ms_lock(&protect->lock);
    ms_lock(&protect->disk_lock);
    for (uint64_t f = 0; f < region->pages.frames; f++) {
        if (protect->disk.frame && protect->disk.frame[f].sure > 0) {
            disk += disk_only_locked(protect, f);
        }
        if (!ms_cover_has(protect, f, MEMSCHED_COVER_ALL)) {
            excluded += region->pages.frame[f].resident;
        }
    }
    ms_unlock(&protect->disk_lock);
    ms_unlock(&protect->lock);
    ms_unlock(&region->lock);
    info->disk_only_bytes += disk * PAGE;
    info->excluded_bytes += excluded * PAGE;
}
