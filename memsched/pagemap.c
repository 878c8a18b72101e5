/*
 * What the kernel says about pages: recounts and PFNs
 *
 * PAGEMAP_SCAN walks page tables and returns ranges of equal category.  Two of
 * its categories need care.  A zero page is "present", and "huge" where it is
 * the huge zero page.  A marker (poison, or left-over protection) is
 * "swapped": /proc/self/pagemap tells it from a page that really is in swap by
 * the number of the swap area, the last of which stands for markers.
 *
 * No state but the descriptor; no locks.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pagemap.h"

#include <errno.h>
#include <fcntl.h>

#include "abi.h"
#include "memsched/types.h"

/* A frame has at most 512 ranges; larger walks take several calls. */
#define MAX_RANGES 512
#define CATEGORIES (MS_ABI_PAGE_PRESENT | MS_ABI_PAGE_SWAPPED | \
                    MS_ABI_PAGE_ZERO | MS_ABI_PAGE_HUGE)

int ms_pagemap_open(MsPagemap *map, const MsSys *sys)
{
    int fd = sys->open(sys, "/proc/self/pagemap", O_RDONLY);

    map->sys = sys;
    map->fd = fd < 0 ? -1 : fd;
    return fd < 0 ? fd : 0;
}

void ms_pagemap_close(MsPagemap *map)
{
    if (map && map->fd >= 0) {
        map->sys->close(map->sys, map->fd);
        map->fd = -1;
    }
}

/* One call: number of ranges, or -errno; *@start moves to where it stopped. */
static int scan(const MsPagemap *map, uint64_t *start, uint64_t end,
                MsAbiPageRegion *ranges, unsigned max)
{
    MsAbiScan arg = {
        .size = sizeof(arg),
        .start = *start,
        .end = end,
        .vec = (uintptr_t)ranges,
        .vec_len = max,
        .category_anyof_mask = MS_ABI_PAGE_PRESENT | MS_ABI_PAGE_SWAPPED,
        .return_mask = CATEGORIES,
    };
    int n = map->sys->ioctl(map->sys, map->fd, MS_ABI_SCAN, &arg);

    if (n >= 0) {
        *start = arg.walk_end > *start ? arg.walk_end : end;
    }
    return n;
}

/* 1: the page of a "swapped" range is in swap; 0: it is a marker; -errno. */
static int in_swap(const MsPagemap *map, uint64_t address)
{
    uint64_t entry;
    uint64_t index = address >> MEMSCHED_PAGE_SHIFT;
    ssize_t n = map->sys->pread(map->sys, map->fd, &entry, sizeof(entry),
                                index * sizeof(entry));

    if (n != sizeof(entry)) {
        return n < 0 ? n : -EIO;
    }
    return (entry & MS_ABI_PAGEMAP_SWAPPED) &&
           (entry & MS_ABI_PAGEMAP_SWAP_TYPE) != MS_ABI_PAGEMAP_MARKER;
}

static int add_range(const MsPagemap *map, const MsAbiPageRegion *range,
                     MsPagemapCount *count)
{
    uint64_t pages = (range->end - range->start) >> MEMSCHED_PAGE_SHIFT;

    if (range->categories & MS_ABI_PAGE_ZERO) {
        count->zero_pages += pages;
    } else if (range->categories & MS_ABI_PAGE_PRESENT) {
        count->present_pages += pages;
        if (range->categories & MS_ABI_PAGE_HUGE) {
            count->huge_pages += pages;
        }
    } else {
        for (uint64_t p = 0; p < pages; p++) {
            int rc = in_swap(map, range->start + (p << MEMSCHED_PAGE_SHIFT));

            if (rc < 0) {
                return rc;
            }
            count->swapped_pages += rc;
        }
    }
    return 0;
}

int ms_pagemap_count(const MsPagemap *map, const void *address,
                     uint64_t pages, MsPagemapCount *ret_count)
{
    MsAbiPageRegion ranges[MAX_RANGES];
    uint64_t start = (uintptr_t)address;
    uint64_t end = start + (pages << MEMSCHED_PAGE_SHIFT);
    MsPagemapCount count = { 0 };

    while (start < end) {
        int n = scan(map, &start, end, ranges, MAX_RANGES);

        if (n < 0) {
            return n;
        }
        for (int i = 0; i < n; i++) {
            int rc = add_range(map, &ranges[i], &count);

            if (rc < 0) {
                return rc;
            }
        }
    }
    count.other_pages = pages - count.present_pages - count.swapped_pages -
                        count.zero_pages;
    *ret_count = count;
    return 0;
}

/* Add the pages of a range that hold a frame; @first: the range's first. */
static int add_frames(const MsPagemap *map, const MsAbiPageRegion *range,
                      unsigned first, MsPageSet *set)
{
    unsigned pages = (range->end - range->start) >> MEMSCHED_PAGE_SHIFT;

    if (range->categories & MS_ABI_PAGE_ZERO) {
        return 0;
    }
    if (range->categories & MS_ABI_PAGE_PRESENT) {
        ms_pageset_add(set, first, pages);
        return 0;
    }
    for (unsigned p = 0; p < pages; p++) {
        int rc = in_swap(map, range->start + p * MEMSCHED_PAGE_SIZE);

        if (rc < 0) {
            return rc;
        }
        if (rc) {
            ms_pageset_add(set, first + p, 1);
        }
    }
    return 0;
}

/* The same of those that are the zero page. */
static int add_zeros(const MsPagemap *map, const MsAbiPageRegion *range,
                     unsigned first, MsPageSet *set)
{
    if (range->categories & MS_ABI_PAGE_ZERO) {
        ms_pageset_add(set, first,
                       (range->end - range->start) >> MEMSCHED_PAGE_SHIFT);
    }
    return 0;
}

static int scan_frame(const MsPagemap *map, const void *frame,
                      int (*add)(const MsPagemap *map,
                                 const MsAbiPageRegion *range, unsigned first,
                                 MsPageSet *set),
                      MsPageSet *ret_pages)
{
    MsAbiPageRegion ranges[MAX_RANGES];
    uint64_t base = (uintptr_t)frame, start = base;
    uint64_t end = base + MEMSCHED_FRAME_SIZE;
    MsPageSet set;

    ms_pageset_clear(&set);
    while (start < end) {
        int n = scan(map, &start, end, ranges, MAX_RANGES);

        if (n < 0) {
            return n;
        }
        for (int i = 0; i < n; i++) {
            unsigned first = (ranges[i].start - base) >> MEMSCHED_PAGE_SHIFT;
            int rc = add(map, &ranges[i], first, &set);

            if (rc < 0) {
                return rc;
            }
        }
    }
    *ret_pages = set;
    return 0;
}

int ms_pagemap_frame(const MsPagemap *map, const void *frame,
                     MsPageSet *ret_pages)
{
    return scan_frame(map, frame, add_frames, ret_pages);
}

int ms_pagemap_zeros(const MsPagemap *map, const void *frame,
                     MsPageSet *ret_pages)
{
    return scan_frame(map, frame, add_zeros, ret_pages);
}

int ms_pagemap_is_huge(const MsPagemap *map, const void *frame)
{
    MsAbiPageRegion range;
    uint64_t start = (uintptr_t)frame;
    /* The first page says it for all: a 2 MiB entry maps the whole frame. */
    int n = scan(map, &start, start + MEMSCHED_PAGE_SIZE, &range, 1);

    if (n <= 0) {
        return n;
    }
    return (range.categories & (MS_ABI_PAGE_HUGE | MS_ABI_PAGE_ZERO))
           == MS_ABI_PAGE_HUGE;
}

int ms_pagemap_until_hole(const MsPagemap *map, const void *address,
                          unsigned pages)
{
    uint64_t entry[64];
    uint64_t index = (uintptr_t)address >> MEMSCHED_PAGE_SHIFT;
    unsigned done = 0;

    while (done < pages) {
        unsigned count = pages - done < 64 ? pages - done : 64;
        ssize_t n = map->sys->pread(map->sys, map->fd, entry,
                                    count * sizeof(entry[0]),
                                    (index + done) * sizeof(entry[0]));

        if (n < 0 || (size_t)n != count * sizeof(entry[0])) {
            return n < 0 ? n : -EIO;
        }
        for (unsigned i = 0; i < count; i++, done++) {
            if (!(entry[i] & (MS_ABI_PAGEMAP_PRESENT |
                              MS_ABI_PAGEMAP_SWAPPED))) {
                return done;
            }
        }
    }
    return done;
}

int ms_pagemap_is_hole(const MsPagemap *map, const void *address)
{
    int there = ms_pagemap_until_hole(map, address, 1);

    return there < 0 ? there : !there;
}

int ms_pagemap_pfn(const MsPagemap *map, const void *address,
                   uint64_t *ret_pfn)
{
    uint64_t entry;
    uint64_t index = (uintptr_t)address >> MEMSCHED_PAGE_SHIFT;
    ssize_t n = map->sys->pread(map->sys, map->fd, &entry, sizeof(entry),
                                index * sizeof(entry));

    if (n != sizeof(entry)) {
        return n < 0 ? n : -EIO;
    }
    if (!(entry & MS_ABI_PAGEMAP_PRESENT)) {
        return -ENOENT;
    }
    if (!(entry & MS_ABI_PAGEMAP_PFN_MASK)) {
        return -EPERM;
    }
    *ret_pfn = entry & MS_ABI_PAGEMAP_PFN_MASK;
    return 0;
}
