/*
 * What all benches share: rounds, baselines, marks, one CSV line a figure
 *
 * Lines are
 *     name,variant,unit,value,baseline,ratio,mark
 * value is the median of the rounds; a second line of the same name with
 * "-best" appended to its variant has the best.  baseline is the figure of the
 * same run that it is compared with, ratio how many times better value is.
 * baseline, ratio and mark are empty where there is none.  A mark is in
 * the unit of value, or, with an x behind it, for the ratio.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_MAX_ROUNDS 256

/* Times of the rounds of one measurement. */
typedef struct BenchTimes {
    uint64_t ns[BENCH_MAX_ROUNDS];
    unsigned rounds;
} BenchTimes;

void bench_header(void);

/* Pin the calling thread; false where the machine has no such CPU. */
bool bench_pin(unsigned cpu);

/* A thread that only computes, on CPU @cpu, until stopped: a running vCPU. */
typedef struct BenchBusy BenchBusy;
BenchBusy *bench_busy_start(unsigned cpu);
/* Its speed since the last call, in steps a second. */
double bench_busy_speed(BenchBusy *busy);
void bench_busy_stop(BenchBusy *busy);

uint64_t bench_now_ns(void);
void bench_add(BenchTimes *times, uint64_t ns);

/* @q in permille: 500 the median, 0 the best. */
uint64_t bench_quantile(const BenchTimes *times, unsigned q);

/* GiB/s of @bytes a round; @baseline and @mark may be NULL. */
void bench_rate(const char *name, const char *variant, uint64_t bytes,
                const BenchTimes *times, const BenchTimes *baseline,
                const char *mark);

/* Nanoseconds: less is better. */
void bench_time(const char *name, const char *variant,
                const BenchTimes *times, const BenchTimes *baseline,
                const char *mark);

/* Any other single figure. */
void bench_value(const char *name, const char *variant, const char *unit,
                 double value, const char *mark);

/*
 * Anonymous memory aligned to 2 MiB; @huge: advised so, else advised against.
 * Touched and given back twice, so that the machine has it at hand.
 */
char *bench_map(size_t bytes, bool huge);
void bench_unmap(char *base, size_t bytes);

#endif /* BENCH_H */
