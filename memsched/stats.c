/*
 * Histograms of latencies
 *
 * Logarithmic buckets, eight an octave: 280 counters of 8 bytes, and adding is
 * three relaxed atomic additions, about 15 ns.  Readers may see a sample's
 * bucket before its count; a quantile is off by that one sample at most.
 *
 * Pure: no lock, no clock, no system call.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "stats.h"

#define FIRST_OCTAVE 6u         /* 64 ns: below that lies measuring itself */

static unsigned bucket_of(uint64_t ns)
{
    unsigned octave, step, bucket;

    if (ns < (UINT64_C(1) << FIRST_OCTAVE)) {
        return 0;
    }
    octave = 63 - (unsigned)__builtin_clzll(ns);
    step = (ns >> (octave - 3)) & (MS_HISTOGRAM_STEPS - 1);
    bucket = (octave - FIRST_OCTAVE) * MS_HISTOGRAM_STEPS + step;
    return bucket < MS_HISTOGRAM_BUCKETS ? bucket : MS_HISTOGRAM_BUCKETS - 1;
}

/* First value that lies above the bucket. */
static uint64_t upper_edge(unsigned bucket)
{
    unsigned octave = FIRST_OCTAVE + bucket / MS_HISTOGRAM_STEPS;
    uint64_t step = bucket % MS_HISTOGRAM_STEPS;

    return (MS_HISTOGRAM_STEPS + step + 1) << (octave - 3);
}

void ms_histogram_add(MsHistogram *histogram, uint64_t ns)
{
    uint64_t max = ms_counter(&histogram->max_ns);

    ms_count(&histogram->bucket[bucket_of(ns)], 1);
    ms_count(&histogram->count, 1);
    ms_count(&histogram->total_ns, ns);
    while (ns > max &&
           !atomic_compare_exchange_weak(&histogram->max_ns, &max, ns)) {
        continue;
    }
}

uint64_t ms_histogram_quantile_ns(MsHistogram *histogram, unsigned permille)
{
    uint64_t total = 0, wanted, seen = 0;

    for (unsigned i = 0; i < MS_HISTOGRAM_BUCKETS; i++) {
        total += ms_counter(&histogram->bucket[i]);
    }
    if (total == 0) {
        return 0;
    }
    /* Rounded up; no overflow before 10^16 samples. */
    wanted = (total * permille + 999) / 1000;
    wanted = wanted ? wanted : 1;
    for (unsigned i = 0; i < MS_HISTOGRAM_BUCKETS; i++) {
        seen += ms_counter(&histogram->bucket[i]);
        if (seen >= wanted) {
            uint64_t edge = upper_edge(i);
            uint64_t max = ms_counter(&histogram->max_ns);

            return edge < max ? edge : max;
        }
    }
    return ms_counter(&histogram->max_ns);
}
