/*
 * Page numbers of a balloon request, and the ranges that they make.
 *
 * Owns nothing: pure functions of what a guest sent.  Whether there is memory
 * at an address is not known here; the scheduler checks each range against
 * its map of the guest.
 *
 * Drivers list pages in either direction, so both are turned into ranges
 * without sorting.  Anything else is sorted, which costs the sender's request
 * n log n, with n bounded by the caller.
 *
 * Threads: any.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>

#include "virtio-balloon-ex-pfns.h"

static uint32_t load_word(const uint8_t *bytes, bool big_endian)
{
    if (big_endian) {
        return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
               (uint32_t)bytes[2] << 8 | bytes[3];
    }
    return (uint32_t)bytes[3] << 24 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[1] << 8 | bytes[0];
}

static int compare_pfns(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void reverse(uint32_t *pfns, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        uint32_t kept = pfns[i];

        pfns[i] = pfns[count - 1 - i];
        pfns[count - 1 - i] = kept;
    }
}

static void sort(uint32_t *pfns, size_t count)
{
    bool up = true, down = true;

    for (size_t i = 1; i < count; i++) {
        up &= pfns[i - 1] <= pfns[i];
        down &= pfns[i - 1] >= pfns[i];
    }
    if (up) {
        return;
    }
    if (down) {
        reverse(pfns, count);
    } else {
        qsort(pfns, count, sizeof(*pfns), compare_pfns);
    }
}

size_t balloon_ex_pfns_to_ranges(const uint8_t *untrusted_words, size_t bytes,
                                 bool big_endian, uint32_t *pfns,
                                 MemSchedGpaRange *ranges)
{
    size_t count = bytes / sizeof(*pfns);
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        pfns[i] = load_word(untrusted_words + i * sizeof(*pfns), big_endian);
    }
    sort(pfns, count);
    for (size_t i = 0; i < count; i++) {
        /* 32 bits shifted by 12, and a page more, fit 64. */
        uint64_t gpa = (uint64_t)pfns[i] << MEMSCHED_PAGE_SHIFT;

        if (i && pfns[i] == pfns[i - 1]) {
            continue;
        }
        if (used && ranges[used - 1].gpa + ranges[used - 1].length_bytes ==
            gpa) {
            ranges[used - 1].length_bytes += MEMSCHED_PAGE_SIZE;
        } else {
            ranges[used++] = (MemSchedGpaRange) {
                .gpa = gpa,
                .length_bytes = MEMSCHED_PAGE_SIZE,
            };
        }
    }
    return used;
}

bool balloon_ex_whole_pages(uint64_t untrusted_gpa, uint64_t untrusted_bytes,
                            MemSchedGpaRange *ret_range)
{
    uint64_t mask = MEMSCHED_PAGE_SIZE - 1;
    uint64_t start, end;

    if (untrusted_bytes > UINT64_MAX - untrusted_gpa ||
        untrusted_gpa > UINT64_MAX - mask) {
        return false;
    }
    start = (untrusted_gpa + mask) & ~mask;
    end = (untrusted_gpa + untrusted_bytes) & ~mask;
    if (start >= end) {
        return false;
    }
    *ret_range = (MemSchedGpaRange) {
        .gpa = start,
        .length_bytes = end - start,
    };
    return true;
}
