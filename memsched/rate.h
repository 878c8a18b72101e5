/*
 * How fast a guest has given memory, and how long a transfer will take by that
 *
 * Pure: counts and times in, no clock, no lock.  Counts are 4 KiB pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_RATE_H
#define MEMSCHED_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "memsched/types.h"

#define MS_RATE_SOURCES (MEMSCHED_SOURCE_REPORTED + 1)

/* Less than this is over before it can be measured: 2 MiB. */
#define MS_RATE_LEAST_PAGES MEMSCHED_PAGES_PER_FRAME

typedef struct MsRate {
    uint64_t bytes_per_s;       /* 0: never measured */
    uint64_t at_ns;             /* when that was */
} MsRate;

/* Of one guest, by the source that was asked for. */
typedef struct MsRates {
    MsRate of[MS_RATE_SOURCES];
} MsRates;

/* A guest that was asked for this source gave @pages in @duration_ns. */
void ms_rates_note(MsRates *rates, MemSchedSource source, uint64_t pages,
                   uint64_t duration_ns, uint64_t now_ns);

/* What is to be expected. */
typedef struct MsRateEstimate {
    uint64_t ms;                /* rounded up */
    MsRate rate;
} MsRateEstimate;

/*
 * @pages of this source.  False: nothing like it was ever measured.  What was
 * measured of any source stands in for a certain one, and the slowest of the
 * certain ones for any.
 */
bool ms_rates_estimate(const MsRates *rates, MemSchedSource source,
                       uint64_t pages, MsRateEstimate *ret_estimate);

#endif /* MEMSCHED_RATE_H */
