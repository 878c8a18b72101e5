/*
 * What the kernel says about pages: recounts and PFNs
 *
 * Counts come from the PAGEMAP_SCAN ioctl and addresses of frames from
 * /proc/self/pagemap.  Used by checks, translation and split detection, never
 * to decide what to move: that is our own map's to say.
 *
 * Threads: one MsPagemap may be used by any number of threads.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PAGEMAP_H
#define MEMSCHED_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "pageset.h"
#include "sys.h"

typedef struct MsPagemap {
    const MsSys *sys;
    int fd;                     /* -1: closed */
} MsPagemap;

/* -errno where /proc is not there. */
int ms_pagemap_open(MsPagemap *map, const MsSys *sys);
void ms_pagemap_close(MsPagemap *map);

/* Pages of a range by what they are; the first four exclude each other. */
typedef struct MsPagemapCount {
    uint64_t present_pages;     /* mapped, a frame of ours */
    uint64_t swapped_pages;
    uint64_t zero_pages;        /* the kernel's zero page: no frame */
    uint64_t other_pages;       /* neither: holes, markers */
    uint64_t huge_pages;        /* part of present: 4 KiB pages that are
                                   mapped by a 2 MiB entry */
} MsPagemapCount;

/* -ENOTTY where the kernel has no PAGEMAP_SCAN. */
int ms_pagemap_count(const MsPagemap *map, const void *address,
                     uint64_t pages, MsPagemapCount *ret_count);

/* Which pages of one aligned 2 MiB frame hold a frame (present or swapped). */
int ms_pagemap_frame(const MsPagemap *map, const void *frame,
                     MsPageSet *ret_pages);

/* Which of its pages are the kernel's zero page, and hold no frame. */
int ms_pagemap_zeros(const MsPagemap *map, const void *frame,
                     MsPageSet *ret_pages);

/*
 * 1: the aligned 2 MiB at @frame is one huge page; 0: it is not; or -errno.
 * 0.2 us: cheap enough after each move of a huge page.
 */
int ms_pagemap_is_huge(const MsPagemap *map, const void *frame);

/*
 * How many of @pages from @address on are there before the first hole.  A
 * system call for each 64.  -errno.
 */
int ms_pagemap_until_hole(const MsPagemap *map, const void *address,
                          unsigned pages);

/* 1: nothing is there, no frame, no swapped page, no marker; 0; -errno. */
int ms_pagemap_is_hole(const MsPagemap *map, const void *address);

/*
 * Frame number behind an address.  -ENOENT (no frame: a hole, or swapped),
 * -EPERM (the kernel hides PFNs: CAP_SYS_ADMIN is missing).
 */
int ms_pagemap_pfn(const MsPagemap *map, const void *address,
                   uint64_t *ret_pfn);

#endif /* MEMSCHED_PAGEMAP_H */
