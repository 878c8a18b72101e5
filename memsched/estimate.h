/*
 * How much of what a guest holds it uses, from a random sample of it
 *
 * Pure: integers, no clock, no lock.  The caller takes random units of a
 * guest's memory out of it, tells of each whether it was touched again within a
 * window, and closes a round every window.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_ESTIMATE_H
#define MEMSCHED_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

/* Units, touched ones, and how long that took; older rounds count less. */
typedef struct MsEstimateSum {
    uint64_t units, touched;    /* times MS_ESTIMATE_SCALE */
    uint64_t after_us;          /* of the touched ones, summed; the same */
} MsEstimateSum;

#define MS_ESTIMATE_SCALE 256u

typedef struct MsEstimate {
    MsEstimateSum now;          /* the round that runs */
    MsEstimateSum fast, slow;   /* rounds before it */
    uint64_t told_ns;           /* the last unit; 0: none yet */
} MsEstimate;

/*
 * Fewer units than this say nothing: with 16 of them a half may as well be a
 * quarter or three quarters (two standard deviations).
 */
#define MS_ESTIMATE_UNITS 16u

/* A unit was touched again after so long, or was not within its window. */
void ms_estimate_add(MsEstimate *estimate, bool touched, uint64_t after_ns,
                     uint64_t now_ns);

/* A window has passed: what was told since is older from now on. */
void ms_estimate_close(MsEstimate *estimate);

/* What is known; all zero: too little. */
typedef struct MsEstimateFigure {
    unsigned units;             /* that it rests on, weighed by age */
    unsigned active_permille;   /* the largest of the three averages */
    unsigned fast_permille, slow_permille;
    uint64_t after_ns;          /* mean time until a touch, where one came */
} MsEstimateFigure;

/* False: fewer than MS_ESTIMATE_UNITS so far. */
bool ms_estimate_figure(const MsEstimate *estimate,
                        MsEstimateFigure *ret_figure);

#endif /* MEMSCHED_ESTIMATE_H */
