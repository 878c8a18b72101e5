/*
 * Looking for tags in the pages that a guest has
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SCAN_H
#define MEMSCHED_SCAN_H

#include "memsched/memsched.h"
#include "epoch.h"
#include "pageset.h"
#include "tag.h"

/* Frames that are read under one lease: some 20 to 40 us. */
#define MS_SCAN_FRAMES 8u
/* Epochs whose pages are found together; more wait for the next pass. */
#define MS_SCAN_KINDS  16u

typedef struct MsScanFrame {
    uint64_t frame;
    MsPageSet found;
    uint32_t sequence[MS_PAGESET_PAGES];        /* of what is found */
    uint8_t kind[MS_PAGESET_PAGES];
} MsScanFrame;

/* What one look has found: candidates, nothing more. */
typedef struct MsScan {
    MemSchedRegion *region;
    unsigned frames, kinds;
    MsEpoch *epoch[MS_SCAN_KINDS];              /* pinned */
    MsTagKind kind[MS_SCAN_KINDS];
    uint64_t tells;             /* of the guest, when the look began */
    uint64_t scanned;           /* pages looked at, summed up */
    uint64_t rejected;          /* of our epoch, but not our key, summed up */
    MsScanFrame frame[MS_SCAN_FRAMES];          /* those with a find */
} MsScan;

/*
 * Look at the resident pages of frames [first, first + count), at most
 * MS_SCAN_FRAMES of them.  The region has been entered, no lock is held; ends
 * in ms_scan_end().  How many candidates there are.
 */
unsigned ms_scan_frames(MsScan *scan, MemSchedRegion *region, uint64_t first,
                        uint64_t count);
void ms_scan_end(MsScan *scan);

/*
 * The reading alone: members of @look, pages of the frame at @base, that begin
 * as a tag does.
 */
void ms_scan_lines(const char *base, const MsPageSet *look,
                   MsPageSet *ret_found);

#endif /* MEMSCHED_SCAN_H */
