/*
 * What all benches share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define GIB ((double)(UINT64_C(1) << 30))
#define ALIGN ((size_t)2 << 20)

struct BenchBusy {
    pthread_t thread;
    unsigned cpu;
    atomic_bool stop;
    _Atomic uint64_t steps;
    uint64_t last_steps, last_ns;
};

void bench_header(void)
{
    printf("name,variant,unit,value,baseline,ratio,mark\n");
}

bool bench_pin(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static void *busy_thread(void *opaque)
{
    BenchBusy *busy = opaque;

    bench_pin(busy->cpu);
    while (!atomic_load_explicit(&busy->stop, memory_order_relaxed)) {
        /* volatile: the compiler must not drop the work */
        for (volatile int i = 0; i < 1000; i++) {
            /* an interrupt a flush is all that slows this down */
        }
        atomic_fetch_add_explicit(&busy->steps, 1, memory_order_relaxed);
    }
    return NULL;
}

BenchBusy *bench_busy_start(unsigned cpu)
{
    BenchBusy *busy = calloc(1, sizeof(*busy));

    if (!busy) {
        abort();
    }
    busy->cpu = cpu;
    if (pthread_create(&busy->thread, NULL, busy_thread, busy)) {
        abort();
    }
    while (!atomic_load(&busy->steps)) {
        sched_yield();
    }
    bench_busy_speed(busy);
    return busy;
}

double bench_busy_speed(BenchBusy *busy)
{
    uint64_t steps = atomic_load(&busy->steps), now = bench_now_ns();
    double speed = (steps - busy->last_steps) * 1e9 / (now - busy->last_ns);

    busy->last_steps = steps;
    busy->last_ns = now;
    return speed;
}

void bench_busy_stop(BenchBusy *busy)
{
    atomic_store(&busy->stop, true);
    pthread_join(busy->thread, NULL);
    free(busy);
}

uint64_t bench_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

void bench_add(BenchTimes *times, uint64_t ns)
{
    if (times->rounds < BENCH_MAX_ROUNDS) {
        times->ns[times->rounds++] = ns ? ns : 1;
    }
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

uint64_t bench_quantile(const BenchTimes *times, unsigned q)
{
    BenchTimes sorted = *times;

    if (!sorted.rounds) {
        return 1;
    }
    qsort(sorted.ns, sorted.rounds, sizeof(sorted.ns[0]), by_time);
    return sorted.ns[(sorted.rounds - 1) * q / 1000];
}

/* A line of the output; baseline 0: none. */
typedef struct Line {
    const char *name, *variant, *suffix, *unit, *mark;
    double value, baseline, ratio;
} Line;

static void print_line(const Line *line)
{
    printf("%s,%s%s,%s,%.6g,", line->name, line->variant,
           line->suffix ? line->suffix : "", line->unit, line->value);
    if (line->baseline > 0) {
        printf("%.6g,%.3g,", line->baseline, line->ratio);
    } else {
        printf(",,");
    }
    printf("%s\n", line->mark ? line->mark : "");
    fflush(stdout);
}

void bench_rate(const char *name, const char *variant, uint64_t bytes,
                const BenchTimes *times, const BenchTimes *baseline,
                const char *mark)
{
    for (unsigned q = 0; q < 2; q++) {
        unsigned at = q ? 0 : 500;
        Line line = {
            .name = name, .variant = variant, .suffix = q ? "-best" : "",
            .unit = "GiB/s", .mark = mark,
            .value = bytes / GIB * 1e9 / bench_quantile(times, at),
        };

        if (baseline) {
            line.baseline = bytes / GIB * 1e9 / bench_quantile(baseline, at);
            line.ratio = line.value / line.baseline;
        }
        print_line(&line);
    }
}

void bench_time(const char *name, const char *variant,
                const BenchTimes *times, const BenchTimes *baseline,
                const char *mark)
{
    for (unsigned q = 0; q < 2; q++) {
        unsigned at = q ? 0 : 500;
        Line line = {
            .name = name, .variant = variant, .suffix = q ? "-best" : "",
            .unit = "ns", .mark = mark, .value = bench_quantile(times, at),
        };

        if (baseline) {
            line.baseline = bench_quantile(baseline, at);
            line.ratio = line.baseline / line.value;
        }
        print_line(&line);
    }
}

void bench_value(const char *name, const char *variant, const char *unit,
                 double value, const char *mark)
{
    print_line(&(Line) {
        .name = name, .variant = variant, .unit = unit, .value = value,
        .mark = mark,
    });
}

char *bench_map(size_t bytes, bool huge)
{
    char *map = mmap(NULL, bytes + ALIGN, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *base;

    if (map == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    base = (char *)(((uintptr_t)map + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
    /* Only the aligned part stays, so that bench_unmap() knows it all. */
    munmap(map, base - map);
    munmap(base + bytes, map + ALIGN - base);
    madvise(base, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    madvise(base, bytes, MADV_DONTFORK);
    for (unsigned i = 0; i < 2; i++) {
        memset(base, 1, bytes);
        madvise(base, bytes, MADV_DONTNEED);
    }
    return base;
}

void bench_unmap(char *base, size_t bytes)
{
    munmap(base, bytes);
}
