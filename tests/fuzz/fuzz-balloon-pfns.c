/*
 * Fuzzer of a balloon request's page numbers
 *
 * What must hold for any bytes: ranges ascend, do not touch, hold exactly the
 * pages that were listed, and stay within 44 bits.  The first input byte
 * chooses the byte order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "virtio-balloon-ex-pfns.h"

#define REQUIRE(condition)      \
    do {                        \
        if (!(condition)) {     \
            abort();            \
        }                       \
    } while (0)

static bool is_in(const MemSchedGpaRange *ranges, size_t count, uint64_t gpa)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (gpa < ranges[middle].gpa) {
            high = middle;
        } else if (gpa >= ranges[middle].gpa + ranges[middle].length_bytes) {
            low = middle + 1;
        } else {
            return true;
        }
    }
    return false;
}

static uint32_t word_at(const uint8_t *bytes, bool big_endian)
{
    uint32_t word = 0;

    for (int i = 0; i < 4; i++) {
        word = word << 8 | bytes[big_endian ? i : 3 - i];
    }
    return word;
}

/* Each page of the ranges was listed, each listed page is in one range. */
static void check_pages(const uint8_t *bytes, size_t words, bool big_endian,
                        const uint32_t *sorted,
                        const MemSchedGpaRange *ranges, size_t count)
{
    uint64_t pages = 0, distinct = 0;

    for (size_t i = 0; i < words; i++) {
        REQUIRE(is_in(ranges, count,
                      (uint64_t)word_at(bytes + 4 * i, big_endian) << 12));
        REQUIRE(i == 0 || sorted[i - 1] <= sorted[i]);
        distinct += i == 0 || sorted[i - 1] != sorted[i];
    }
    for (size_t i = 0; i < count; i++) {
        pages += ranges[i].length_bytes >> MEMSCHED_PAGE_SHIFT;
    }
    REQUIRE(pages == distinct);
}

static void check_whole_pages(const uint8_t *bytes, size_t size)
{
    MemSchedGpaRange range;
    uint64_t gpa, length;

    if (size < 16) {
        return;
    }
    memcpy(&gpa, bytes, 8);
    memcpy(&length, bytes + 8, 8);
    if (balloon_ex_whole_pages(gpa, length, &range)) {
        REQUIRE(range.length_bytes && range.length_bytes <= length);
        REQUIRE(range.gpa >= gpa && range.gpa - gpa < MEMSCHED_PAGE_SIZE);
        REQUIRE(!((range.gpa | range.length_bytes) & 0xfff));
        REQUIRE(range.gpa - gpa + range.length_bytes <= length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool big_endian = size && data[0] & 1;
    const uint8_t *bytes = data + (size ? 1 : 0);
    size_t left = size ? size - 1 : 0, words = left / 4, count;
    /* Exactly as large as promised: an overrun is seen by the sanitizer. */
    uint32_t *pfns = malloc(words * sizeof(*pfns));
    MemSchedGpaRange *ranges = malloc(words * sizeof(*ranges));

    REQUIRE(words == 0 || (pfns && ranges));
    count = balloon_ex_pfns_to_ranges(bytes, left, big_endian, pfns, ranges);
    REQUIRE(count <= words);
    for (size_t i = 0; i < count; i++) {
        REQUIRE(ranges[i].length_bytes >= MEMSCHED_PAGE_SIZE);
        REQUIRE(!((ranges[i].gpa | ranges[i].length_bytes) & 0xfff));
        REQUIRE(ranges[i].gpa + ranges[i].length_bytes <= UINT64_C(1) << 44);
        REQUIRE(i == 0 || ranges[i - 1].gpa + ranges[i - 1].length_bytes <
                ranges[i].gpa);
    }
    check_pages(bytes, words, big_endian, pfns, ranges, count);
    check_whole_pages(bytes, left);
    free(ranges);
    free(pfns);
    return 0;
}
