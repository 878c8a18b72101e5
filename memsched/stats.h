/*
 * Counters, and histograms of latencies
 *
 * Pure.  All members are atomic: any thread adds, any thread reads, nothing is
 * locked; a snapshot of several is not one moment.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_STATS_H
#define MEMSCHED_STATS_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t MsCounter;

static inline void ms_count(MsCounter *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t ms_counter(MsCounter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* 8 steps an octave from 64 ns to 2^40 ns: a quantile is at most 12.5 % off. */
#define MS_HISTOGRAM_STEPS   8u
#define MS_HISTOGRAM_BUCKETS (MS_HISTOGRAM_STEPS * 35u)

typedef struct MsHistogram {
    MsCounter bucket[MS_HISTOGRAM_BUCKETS];
    MsCounter count;
    MsCounter total_ns;
    MsCounter max_ns;
} MsHistogram;

void ms_histogram_add(MsHistogram *histogram, uint64_t ns);

/* Upper edge of the bucket of the @permille quantile; 0 where it is empty. */
uint64_t ms_histogram_quantile_ns(MsHistogram *histogram, unsigned permille);

/* Of one guest, and of the whole. */
typedef struct MsStats {
    MsHistogram fault;          /* event read to toucher woken */
    MsCounter faults_stale;     /* woken, nothing to do */
    MsCounter faults_parked;    /* waited for the end of C */
    MsCounter faults_waited;    /* waited for the grant rule */
    MsCounter captured_pages;
    MsCounter populated_pages;
    MsCounter moved_pages;      /* UFFDIO_MOVE, out of a guest or into it */
    MsCounter copied_pages;
    MsCounter discarded_pages;
    MsCounter huge_moves;       /* 2 MiB pages that moved whole */
    MsCounter split_frames;     /* huge pages that were split on the way */
    MsCounter flushes;          /* move calls */
    MsCounter busy_pages;
    MsCounter put_back_pages;
    MsCounter refused_pages;
    MsCounter refused_requests;
} MsStats;

#endif /* MEMSCHED_STATS_H */
