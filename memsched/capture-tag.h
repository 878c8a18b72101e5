/*
 * Taking pages out of a guest by their value
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_CAPTURE_TAG_H
#define MEMSCHED_CAPTURE_TAG_H

#include "capture.h"
#include "scan.h"

typedef struct MsCaptureTags {
    MsCapture capture;
    MsScan *scan;
    uint8_t of[MS_CAPTURE_FRAMES];      /* frame of the batch: of the scan */
    uint64_t whole_until[MS_CAPTURE_FRAMES];    /* 0: parts may be taken */
    bool split;                 /* also parts of huge pages */
    bool hinted;                /* the scan looked where it was told to */
    /* results, summed up */
    uint64_t captured_pages, rejected_pages;
    unsigned flushes;
    uint64_t again_ns;          /* parts are waited for until then; 0: none */
} MsCaptureTags;

/*
 * Capture what @tc->scan has found and is a tag; the region has been entered,
 * captures are allowed, no lock is held.  Adds to the results.
 */
void ms_capture_tags(MsCaptureTags *tc);

#endif /* MEMSCHED_CAPTURE_TAG_H */
