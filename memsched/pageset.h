/*
 * A set of the 512 base pages of one 2 MiB frame, as a bitmap
 *
 * Bit i stands for the page at byte i * 4096.  All functions work a word of
 * 64 pages at a time; none allocates.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PAGESET_H
#define MEMSCHED_PAGESET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MS_PAGESET_PAGES 512u
#define MS_PAGESET_WORDS 8u

typedef struct MsPageSet {
    uint64_t word[MS_PAGESET_WORDS];
} MsPageSet;

static inline void ms_pageset_clear(MsPageSet *set)
{
    memset(set, 0, sizeof(*set));
}

static inline void ms_pageset_fill(MsPageSet *set)
{
    memset(set, 0xff, sizeof(*set));
}

static inline bool ms_pageset_has(const MsPageSet *set, unsigned page)
{
    return set->word[page / 64] >> (page % 64) & 1;
}

/* The bits of [first, first + count) that fall into word @w. */
static inline uint64_t ms_pageset_mask(unsigned w, unsigned first,
                                       unsigned count)
{
    unsigned begin = w * 64, end = begin + 64;
    unsigned lo = first > begin ? first : begin;
    unsigned hi = first + count < end ? first + count : end;

    if (lo >= hi) {
        return 0;
    }
    return (hi - lo == 64 ? ~UINT64_C(0) : (UINT64_C(1) << (hi - lo)) - 1)
           << (lo - begin);
}

static inline void ms_pageset_add(MsPageSet *set, unsigned first,
                                  unsigned count)
{
    for (unsigned w = first / 64; w < MS_PAGESET_WORDS &&
         w * 64 < first + count; w++) {
        set->word[w] |= ms_pageset_mask(w, first, count);
    }
}

static inline void ms_pageset_remove(MsPageSet *set, unsigned first,
                                     unsigned count)
{
    for (unsigned w = first / 64; w < MS_PAGESET_WORDS &&
         w * 64 < first + count; w++) {
        set->word[w] &= ~ms_pageset_mask(w, first, count);
    }
}

static inline unsigned ms_pageset_count(const MsPageSet *set)
{
    unsigned n = 0;

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        n += __builtin_popcountll(set->word[w]);
    }
    return n;
}

static inline bool ms_pageset_empty(const MsPageSet *set)
{
    uint64_t any = 0;

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        any |= set->word[w];
    }
    return any == 0;
}

/* Members of both. */
static inline MsPageSet ms_pageset_and(const MsPageSet *a, const MsPageSet *b)
{
    MsPageSet both;

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        both.word[w] = a->word[w] & b->word[w];
    }
    return both;
}

/* Take the members of @less out of @set. */
static inline void ms_pageset_subtract(MsPageSet *set, const MsPageSet *less)
{
    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        set->word[w] &= ~less->word[w];
    }
}

/* First member at or after @from, or MS_PAGESET_PAGES. */
static inline unsigned ms_pageset_next(const MsPageSet *set, unsigned from)
{
    for (unsigned w = from / 64; w < MS_PAGESET_WORDS; w++) {
        uint64_t bits = set->word[w];

        if (w == from / 64) {
            bits &= ~UINT64_C(0) << (from % 64);
        }
        if (bits) {
            return w * 64 + __builtin_ctzll(bits);
        }
    }
    return MS_PAGESET_PAGES;
}

/* First non-member at or after @from, or MS_PAGESET_PAGES. */
static inline unsigned ms_pageset_next_gap(const MsPageSet *set, unsigned from)
{
    for (unsigned w = from / 64; w < MS_PAGESET_WORDS; w++) {
        uint64_t bits = ~set->word[w];

        if (w == from / 64) {
            bits &= ~UINT64_C(0) << (from % 64);
        }
        if (bits) {
            return w * 64 + __builtin_ctzll(bits);
        }
    }
    return MS_PAGESET_PAGES;
}

/*
 * Next run of members at or after @from: true and the run, or false.
 * Use: for (p = 0; ms_pageset_run(set, p, &first, &n); p = first + n)
 */
static inline bool ms_pageset_run(const MsPageSet *set, unsigned from,
                                  unsigned *ret_first, unsigned *ret_count)
{
    unsigned first = from < MS_PAGESET_PAGES ? ms_pageset_next(set, from)
                                             : MS_PAGESET_PAGES;

    if (first == MS_PAGESET_PAGES) {
        return false;
    }
    *ret_first = first;
    *ret_count = ms_pageset_next_gap(set, first) - first;
    return true;
}

/*
 * A run of at least @want members, the first such; else the longest run.
 * Returns its length (0: the set is empty), cut to @want.
 */
static inline unsigned ms_pageset_find(const MsPageSet *set, unsigned want,
                                       unsigned *ret_first)
{
    unsigned best = 0, first, count;

    for (unsigned p = 0; ms_pageset_run(set, p, &first, &count);
         p = first + count) {
        if (count > best) {
            best = count;
            *ret_first = first;
            if (best >= want) {
                return want;
            }
        }
    }
    return best;
}

/* Leave only the first @count members. */
static inline void ms_pageset_keep_first(MsPageSet *set, unsigned count)
{
    unsigned first, n;

    for (unsigned p = 0; ms_pageset_run(set, p, &first, &n); p = first + n) {
        if (n > count) {
            ms_pageset_remove(set, first + count, n - count);
            n = count;
        }
        count -= n;
    }
}

#endif /* MEMSCHED_PAGESET_H */
