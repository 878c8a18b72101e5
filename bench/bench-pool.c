/*
 * The lower half of the library alone: pool and moves, without page states,
 * ledger and faults.  bench-moves has the figures that count; the difference
 * of the two is what the bookkeeping costs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "bench.h"
#include "pool.h"
#include "scrub.h"

#define FRAMES 256u
#define ROUNDS 9u
#define BYTES ((uint64_t)FRAMES << MEMSCHED_FRAME_SHIFT)
#define FRAME_PAGES ((uint32_t)MEMSCHED_PAGES_PER_FRAME)

typedef struct Bench {
    MsPool *pool;
    MsUffd uffd;
    char *ram;
    const char *variant;
    BenchBusy *busy;
    BenchTimes discard_huge, discard_small, copy;
} Bench;

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench-pool: %s failed\n", what);
        exit(1);
    }
}

static char *frame_of(const Bench *b, uint32_t frame)
{
    return b->ram + ((uint64_t)frame << MEMSCHED_FRAME_SHIFT);
}

static void populate(Bench *b, unsigned flags, unsigned pages)
{
    for (uint32_t i = 0; i < FRAMES; i++) {
        for (uint32_t at = 0; at < FRAME_PAGES; ) {
            MsPoolRun run;
            uint32_t n = FRAME_PAGES - at < pages ? FRAME_PAGES - at : pages;
            int rc = ms_pool_take(b->pool, n, flags, &run);

            check(rc == 0, rc == -ENOMEM ? "take from an empty pool" : "take");
            n = run.pages;
            check(ms_pool_move_out(b->pool, &run, 0, &b->uffd, frame_of(b, i) +
                                   at * MEMSCHED_PAGE_SIZE, n, false)
                  .moved_pages == n, "move out");
            ms_pool_take_end(b->pool, &run, NULL, false);
            at += n;
        }
    }
}

static void capture(Bench *b, bool huge)
{
    for (uint32_t i = 0; i < FRAMES; i++) {
        for (uint32_t at = 0; at < FRAME_PAGES; ) {
            MsPoolRun run;
            uint32_t n;

            check(ms_pool_capture_begin(b->pool, FRAME_PAGES - at, huge, &run)
                  == 0, "capture");
            n = run.pages;
            check(ms_pool_move_in(b->pool, &run, 0, frame_of(b, i) +
                                  at * MEMSCHED_PAGE_SIZE, n)
                  .moved_pages == n, "move in");
            ms_pool_capture_end(b->pool, &run, NULL);
            at += n;
        }
    }
}

static void drop_tables(Bench *b)
{
    for (uint32_t i = 0; i < FRAMES; i++) {
        madvise(frame_of(b, i), MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
    }
}

/* Small or huge, out and in again; the scrubber's share only where asked. */
static void round_trips(Bench *b, bool huge)
{
    const char *name = huge ? "huge" : "runs";
    BenchTimes out = { 0 }, both = { 0 }, scrubbed = { 0 };
    unsigned dirty = MS_POOL_DIRTY | (huge ? MS_POOL_HUGE : MS_POOL_NOBREAK);
    char label[64];

    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t0, t1, t2;

        t0 = bench_now_ns();
        capture(b, huge);
        t1 = bench_now_ns();
        populate(b, dirty, FRAME_PAGES);
        t2 = bench_now_ns();
        bench_add(&out, t1 - t0);
        bench_add(&both, t2 - t0);
    }
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t0 = bench_now_ns();

        capture(b, huge);
        populate(b, dirty & ~MS_POOL_DIRTY, FRAME_PAGES);
        bench_add(&scrubbed, bench_now_ns() - t0);
        memset(b->ram, 1, BYTES);
    }
    snprintf(label, sizeof(label), "pool-capture-%s", name);
    bench_rate(label, b->variant, BYTES, &out, &b->copy, NULL);
    snprintf(label, sizeof(label), "pool-capture-populate-%s", name);
    bench_rate(label, b->variant, BYTES, &both,
               huge ? &b->discard_huge : &b->discard_small, NULL);
    snprintf(label, sizeof(label), "pool-capture-scrub-populate-%s", name);
    bench_rate(label, b->variant, BYTES, &scrubbed, &b->copy, NULL);
}

static void baselines(Bench *b)
{
    char *huge = bench_map(BYTES, true), *small = bench_map(BYTES, false);

    b->discard_huge.rounds = b->discard_small.rounds = b->copy.rounds = 0;
    memset(huge, 1, BYTES);
    memset(small, 1, BYTES);
    for (unsigned r = 0; r < 5; r++) {
        uint64_t t0, t1, t2, t3;

        t0 = bench_now_ns();
        memcpy(huge, small, BYTES);
        t1 = bench_now_ns();
        for (uint64_t at = 0; at < BYTES; at += MEMSCHED_FRAME_SIZE) {
            madvise(huge + at, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
        }
        for (uint64_t at = 0; at < BYTES; at += MEMSCHED_PAGE_SIZE) {
            huge[at] = 1;
        }
        t2 = bench_now_ns();
        for (uint64_t at = 0; at < BYTES; at += MEMSCHED_FRAME_SIZE) {
            madvise(small + at, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
        }
        for (uint64_t at = 0; at < BYTES; at += MEMSCHED_PAGE_SIZE) {
            small[at] = 1;
        }
        t3 = bench_now_ns();
        bench_add(&b->copy, t1 - t0);
        bench_add(&b->discard_huge, t2 - t1);
        bench_add(&b->discard_small, t3 - t2);
    }
    bench_unmap(huge, BYTES);
    bench_unmap(small, BYTES);
    bench_rate("memcpy", b->variant, BYTES, &b->copy, NULL, NULL);
    bench_rate("discard-and-fault-huge", b->variant, BYTES, &b->discard_huge,
               NULL, NULL);
    bench_rate("discard-and-fault-small", b->variant, BYTES,
               &b->discard_small, NULL, NULL);
}

static void pool_start(Bench *b)
{
    MsPoolOptions options = { .frames = FRAMES };

    check(ms_pool_new(ms_sys_real(), &options, &b->pool) == 0, "pool");
}

static void run_all(Bench *b)
{
    baselines(b);
    pool_start(b);
    populate(b, MS_POOL_HUGE, FRAME_PAGES);
    memset(b->ram, 1, BYTES);
    round_trips(b, true);
    drop_tables(b);
    ms_pool_free(b->pool);
    pool_start(b);
    populate(b, 0, FRAME_PAGES);        /* breaks every chunk */
    memset(b->ram, 1, BYTES);
    round_trips(b, false);
    drop_tables(b);
    ms_pool_free(b->pool);
}

int main(int argc, char **argv)
{
    Bench b = { .variant = "idle" };

    bench_header();
    bench_pin(0);
    b.ram = bench_map(BYTES, true);
    check(ms_uffd_open(&b.uffd, ms_sys_real(), MS_UFFD_MOVE) == 0,
          "userfaultfd");
    check(ms_uffd_register(&b.uffd, b.ram, FRAMES * FRAME_PAGES,
                           MS_UFFD_MODE_WP) == 0, "registration");
    run_all(&b);
    if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
        b.busy = bench_busy_start(1);
        b.variant = "busy";
        run_all(&b);
        bench_busy_stop(b.busy);
    }
    return 0;
}
