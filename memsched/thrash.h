/*
 * Guests whose pages come back, and what one guest may cost the others
 *
 * Pure: times and counts in, answers out; no clock, no lock, no system call.
 * The caller serialises.  Counts are 4 KiB pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_THRASH_H
#define MEMSCHED_THRASH_H

#include <stdbool.h>
#include <stdint.h>

/* A token bucket: fills at a rate a second up to what a burst may take. */
typedef struct MsBucket {
    int64_t tokens;             /* below 0: something was taken on credit */
    uint64_t filled_ns;
} MsBucket;

typedef enum MsCost {
    MS_COST_CAPTURE,            /* move calls that take pages out of it */
    MS_COST_FAULT,              /* faults on pages that it had given */
    MS_COST_SCRUB,              /* pages of it that have to be cleared */
    MS_COSTS
} MsCost;

typedef struct MsThrash {
    MsBucket bucket[MS_COSTS];
    uint64_t window_ns;         /* when this window began */
    uint64_t captured[2];       /* pages; in this window and the one before */
    uint64_t returned[2];
    unsigned level;             /* how often in a row it came to that */
    uint64_t until_ns;          /* left alone so long; 0: never was */
    uint64_t backoffs;          /* since start */
    uint64_t returned_pages;    /* since start */
} MsThrash;

void ms_thrash_init(MsThrash *t, uint64_t now_ns);

/* It has cost so much: on credit, if need be. */
void ms_thrash_charge(MsThrash *t, MsCost cost, uint64_t amount,
                      uint64_t now_ns);

/* 0, or when the bucket holds a token again. */
uint64_t ms_thrash_dry_until_ns(const MsThrash *t, MsCost cost,
                                uint64_t now_ns);

/* @pages were taken out of it, and will have to be cleared. */
void ms_thrash_captured(MsThrash *t, uint64_t pages, uint64_t now_ns);

/*
 * @pages that had been given were touched.  True: that was too much, from now
 * on it is left alone.
 */
bool ms_thrash_returned(MsThrash *t, uint64_t pages, uint64_t now_ns);

/* Its kernel ran out of memory and took some back: left alone from now on. */
void ms_thrash_oom(MsThrash *t, uint64_t now_ns);

/* Somebody asks for its memory expressly: not left alone from here on. */
void ms_thrash_asked(MsThrash *t, uint64_t now_ns);

/* How much longer it is left alone; 0: it is not. */
uint64_t ms_thrash_left_ns(const MsThrash *t, uint64_t now_ns);

#endif /* MEMSCHED_THRASH_H */
