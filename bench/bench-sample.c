/*
 * Sampling what a guest uses: what a unit costs that is not touched, and one
 * that is, and what that makes of a core for one guest
 *
 * All CPU time of the process is counted, but for the computing of the guest's
 * own thread, which only touches.  A guest with the most units that there are
 * (100) in the usual window (30 s) is the worst case: "idle" where none of them
 * is touched, "busy" where all are.  The looks at the guest that find nothing
 * to do are part of both.
 *
 * "touch" is what the guest's thread waits for its page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"
#include "instance.h"
#include "sample.h"
#include "sampler.h"

#define MIB      (UINT64_C(1) << 20)
#define BYTES    (512 * MIB)
#define PAGES    (BYTES >> MEMSCHED_PAGE_SHIFT)
#define FRAMES   (BYTES >> MEMSCHED_FRAME_SHIFT)
#define ROUNDS   100u
#define WINDOW_S 30u
#define LOOKS    32u            /* of the sampler, in a window */
#define MARK     "0.5"          /* per cent of a core */

typedef struct World {
    MemSched *ms;
    MemSchedClient *client;
    MemSchedRegion *region;
    char *map, *ram;
    bool huge;
} World;

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench-sample: %s failed\n", what);
        exit(1);
    }
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static World *world_new(bool huge)
{
    World *w = calloc(1, sizeof(*w));
    MemSchedOptions options = { .id = "bench", .pool_bytes = BYTES + 64 * MIB };
    MemSchedClientOptions client = { .id = "guest" };
    MemSchedRegionOptions region = {
        .length_bytes = BYTES, .anonymous_private = true,
    };
    MemSchedMessage message = { "" };

    check(w && memsched_start(&options, NULL, NULL, &w->ms, &message) == 0,
          message.text[0] ? message.text : "start");
    check(memsched_client_new(w->ms, &client, &w->client, &message) == 0,
          message.text);
    w->huge = huge;
    w->map = mmap(NULL, BYTES + MEMSCHED_FRAME_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(w->map != MAP_FAILED, "map");
    w->ram = (char *)(((uintptr_t)w->map + MEMSCHED_FRAME_SIZE - 1) &
                      ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1));
    region.host = w->ram;
    check(memsched_region_new(w->client, &region, &w->region, &message) == 0,
          message.text);
    if (!huge) {
        madvise(w->ram, BYTES, MADV_NOHUGEPAGE);
        w->region->huge = false;
    }
    memsched_client_run(w->client, true);
    memset(w->ram, 1, BYTES);
    return w;
}

static void world_free(World *w)
{
    memsched_client_free(w->client);
    munmap(w->map, BYTES + MEMSCHED_FRAME_SIZE);
    check(memsched_stop(w->ms) == 0, "stop");
    free(w);
}

/* One of the units, far from the one before. */
static uint64_t page_of(const World *w, unsigned round)
{
    return w->huge ? round * UINT64_C(37) % FRAMES *
                     MEMSCHED_PAGES_PER_FRAME + 5
                   : round * UINT64_C(7919) % PAGES;
}

static void take(World *w, uint64_t page)
{
    check(ms_region_enter_locked(w->region), "enter");
    ms_unlock(&w->region->lock);
    check(ms_sample_take(w->region, page, MEMSCHED_PAGES_PER_FRAME) > 0,
          "taking a unit");
    ms_region_leave(w->region);
}

static void harvest(World *w)
{
    MsSample sample;

    check(ms_region_enter_locked(w->region), "enter");
    ms_unlock(&w->region->lock);
    while (ms_sample_harvest(w->region, 0, &sample)) {
        continue;
    }
    ms_region_leave(w->region);
}

static void touch(World *w, uint64_t page)
{
    /* volatile: for the fault */
    (void)*(volatile char *)(w->ram + (page << MEMSCHED_PAGE_SHIFT));
}

/* CPU time of a unit, in ns; @touched: and back by a touch. */
static double cost(World *w, const char *variant, bool touched)
{
    BenchTimes wait = { 0 };
    uint64_t cpu0 = cpu_ns();

    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t page = page_of(w, r), t0;

        take(w, page);
        if (touched) {
            t0 = bench_now_ns();
            touch(w, page);
            bench_add(&wait, bench_now_ns() - t0);
        }
        harvest(w);
    }
    cpu0 = cpu_ns() - cpu0;
    if (touched) {
        bench_time("sample-touch", variant, &wait, NULL, NULL);
    }
    return (double)cpu0 / ROUNDS;
}

/* A look that finds nothing to do. */
static double look_ns(World *w)
{
    MsSampler *sampler = ms_sampler_new(w->ms, 1);
    uint64_t cpu0;

    atomic_store(&w->ms->sample_ms, WINDOW_S * 1000);
    cpu0 = cpu_ns();
    for (unsigned r = 0; r < 10 * ROUNDS; r++) {
        ms_sampler_step(sampler);
    }
    cpu0 = cpu_ns() - cpu0;
    ms_sampler_free(sampler);
    atomic_store(&w->ms->sample_ms, 0);
    ms_sampler_recall(w->client);
    harvest(w);
    return (double)cpu0 / (10 * ROUNDS);
}

static void guest(const char *variant, bool huge)
{
    World *w = world_new(huge);
    double idle = cost(w, variant, false), busy = cost(w, variant, true);
    double look = look_ns(w) * LOOKS;
    char name[32];

    bench_value("sample-unit-idle", variant, "us", idle / 1000, NULL);
    bench_value("sample-unit-busy", variant, "us", busy / 1000, NULL);
    snprintf(name, sizeof(name), "%s-idle", variant);
    bench_value("sample-cost", name, "% of a core", (idle * MS_SAMPLE_UNITS +
                look) / (WINDOW_S * 1e9) * 100, MARK);
    snprintf(name, sizeof(name), "%s-busy", variant);
    bench_value("sample-cost", name, "% of a core", (busy * MS_SAMPLE_UNITS +
                look) / (WINDOW_S * 1e9) * 100, MARK);
    world_free(w);
}

int main(int argc, char **argv)
{
    bench_header();
    guest("4k", false);
    guest("2m", true);
    return 0;
}
