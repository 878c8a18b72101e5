/*
 * What a fuzz target offers, to libFuzzer and to the short run of the tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Aborts where something does not hold for @size bytes of @data. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Make most words of a message's body such as a good message may have: small
 * numbers side by side, pages, and some as they came.  The words say so
 * themselves, in their highest bits, so that a fuzzer can learn it.
 */
static inline void fuzz_tame(uint8_t *bytes, size_t count)
{
    static const uint64_t kept[] = {
        UINT64_C(0xff), UINT64_C(0x0000000300000003),
        UINT64_C(0x00030007000000ff), UINT64_C(0x000000ff00000000),
        UINT64_C(0xff000), UINT64_MAX, UINT64_MAX, UINT64_MAX,
    };

    for (size_t at = 0; at + 8 <= count; at += 8) {
        uint64_t word;
        unsigned kind;

        memcpy(&word, bytes + at, sizeof(word));
        kind = word >> 61;
        word &= kept[kind];
        word |= kind == 3 ? 4096 : 0;
        memcpy(bytes + at, &word, sizeof(word));
    }
}

#endif
