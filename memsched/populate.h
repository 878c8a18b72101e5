/*
 * Putting pool pages into a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_POPULATE_H
#define MEMSCHED_POPULATE_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"
#include "memsched/memsched.h"
#include "pageset.h"

/*
 * What the pages are to hold, if not zeros: those in state T (tagged.c) and S
 * (held.c).  Page numbers are positions in the frame.
 */
typedef struct MsPopulateContent {
    /* These are the pages; they change to C now.  Region lock held. */
    void (*begin_locked)(void *opaque, uint64_t frame, const MsPageSet *take);
    /*
     * Pages [page, page + count) stand at @arena, zero so far (unless @whole).
     * No lock.
     */
    void (*write)(void *opaque, char *arena, unsigned page, unsigned count);
    /* These are in the guest now, the others as before.  Region lock held. */
    void (*end_locked)(void *opaque, uint64_t frame, const MsPageSet *in);
    /* Their content could not be had: state L.  NULL: there are none. */
    void (*lost)(void *opaque, MsPageSet *ret_lost);
    MemSchedPageState state;    /* what the pages are */
    bool whole;                 /* write() sets every byte of a page */
} MsPopulateContent;

/* What to put where, in one 2 MiB frame. */
typedef struct MsPopulate {
    MemSchedRegion *region;     /* the caller has entered it */
    uint64_t frame;
    MsPageSet want;
    unsigned mask;              /* of states: the others are left alone */
    unsigned touched;           /* a page of the frame that comes first, or
                                   MS_PAGESET_PAGES */
    unsigned grant_flags;       /* MsGrantFlag */
    uint64_t keep;              /* slack that is left for others; does not
                                   apply to the touched page */
    const MsPopulateContent *content;   /* NULL: zeros */
    void *content_opaque;
} MsPopulate;

/*
 * Populate as many of them as the grant rule gives at once: with one huge page
 * where the whole frame is empty and wanted.  With a touched page, around it
 * only 64 pages or all.  No lock held.  Returns how many pages are there now
 * that were not; @ret_touched (may be NULL): the touched one is populated.
 */
uint64_t ms_populate_frame(const MsPopulate *populate, bool *ret_touched);

#endif /* MEMSCHED_POPULATE_H */
