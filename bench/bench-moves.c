/*
 * Memory from guest to guest through the library, as a device drives it:
 * inflate, deflate, faults, on pretended guests.  No guest CPU runs; the
 * variant "busy" has one other thread of the process computing, which is what
 * a vCPU is to the kernel's flushes.
 *
 * Baselines of the same run: memcpy(), and discard-and-fault, which is what a
 * balloon without moves makes the kernel do.
 *
 * "4k-runs" are small pages: the guest never gives the first page of each 2 MiB
 * frame, so no frame is ever whole, and runs of 511 pages move.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "memsched/memsched.h"

#define MIB (UINT64_C(1) << 20)
#define BYTES (512 * MIB)
#define FRAMES (BYTES >> MEMSCHED_FRAME_SHIFT)
#define PAGES (BYTES >> MEMSCHED_PAGE_SHIFT)
#define ROUNDS 9u
#define TRIPS 10u
#define BURST_FRAMES 32u        /* touched one after the other, 64 MiB */
#define SETTLE_NS (UINT64_C(20) * 1000 * 1000 * 1000)

/* Ten GiB/s in 2 MiB units: the load that a bystander has to bear. */
#define PACE_NS (UINT64_C(1000000000) * 2 / (10 * 1024))
#define BURST_NS (UINT64_C(1000000))

typedef struct Guest {
    MemSchedClient *client;
    MemSchedRegion *region;
    char *ram, *map;
} Guest;

typedef struct Bench {
    MemSched *ms;
    Guest a, b;
    bool huge;
    bool incomplete;            /* a figure could not be had */
    const char *variant;
    BenchTimes copy, discard, touch;
} Bench;

static void check(bool ok, const char *what, const MemSchedMessage *message)
{
    if (!ok) {
        fprintf(stderr, "bench-moves: %s failed%s%s\n", what,
                message ? ": " : "", message ? message->text : "");
        exit(1);
    }
}

/* ---- guests ---- */

static void guest_start(Bench *b, Guest *guest, const char *id)
{
    MemSchedMessage message = { "" };
    MemSchedClientOptions options = { .id = id };
    MemSchedRegionOptions region = {
        .length_bytes = BYTES, .name = id, .anonymous_private = true,
    };
    MemSchedGpaMapping mapping = { .length_bytes = BYTES };
    char *map = mmap(NULL, BYTES + MEMSCHED_FRAME_SIZE,
                     PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    check(map != MAP_FAILED, "mmap", NULL);
    guest->map = map;
    guest->ram = (char *)(((uintptr_t)map + MEMSCHED_FRAME_SIZE - 1) &
                          ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1));
    region.host = guest->ram;
    check(memsched_client_new(b->ms, &options, &guest->client, &message) == 0,
          "client", &message);
    check(memsched_region_new(guest->client, &region, &guest->region,
                              &message) == 0, "region", &message);
    mapping.region = guest->region;
    check(memsched_client_set_map(guest->client, &mapping, 1) == 0, "map",
          NULL);
    memsched_client_run(guest->client, true);
}

static void guest_end(Guest *guest)
{
    memsched_client_free(guest->client);
    munmap(guest->map, BYTES + MEMSCHED_FRAME_SIZE);
}

static void inflate(Guest *guest, uint64_t first, uint64_t bytes)
{
    MemSchedGpaRange range = { .gpa = first, .length_bytes = bytes };
    MemSchedOpResult result = { 0 };

    check(memsched_inflate(guest->client, &range, 1, false, &result) == 0,
          "inflate", NULL);
}

/* A deflate is cut after 2 ms, so it is asked for in parts, as a device. */
static void deflate(Guest *guest, uint64_t first, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += 16 * MIB) {
        uint64_t n = bytes - at < 16 * MIB ? bytes - at : 16 * MIB;
        MemSchedGpaRange range = { .gpa = first + at, .length_bytes = n };
        MemSchedOpResult result = { 0 };

        check(memsched_deflate(guest->client, &range, 1, &result) == 0,
              "deflate", NULL);
    }
}

/* What a guest gives and takes of each frame. */
static uint64_t unit_bytes(const Bench *b)
{
    return MEMSCHED_FRAME_SIZE - (b->huge ? 0 : MEMSCHED_PAGE_SIZE);
}

static uint64_t moved_bytes(const Bench *b)
{
    return FRAMES * unit_bytes(b);
}

static void ranges_of(const Bench *b, MemSchedGpaRange *ranges)
{
    uint64_t skip = MEMSCHED_FRAME_SIZE - unit_bytes(b);

    for (uint64_t f = 0; f < FRAMES; f++) {
        ranges[f] = (MemSchedGpaRange) {
            .gpa = (f << MEMSCHED_FRAME_SHIFT) + skip,
            .length_bytes = unit_bytes(b),
        };
    }
}

/* The pages that were captured. */
static uint64_t inflate_all(Bench *b, Guest *guest)
{
    MemSchedGpaRange ranges[FRAMES];
    MemSchedOpResult result = { 0 };

    ranges_of(b, ranges);
    check(memsched_inflate(guest->client, ranges, FRAMES, false, &result) == 0,
          "inflate", NULL);
    return result.captured_pages;
}

/* The pages that were populated; a request ends after 2 ms of work. */
static uint64_t deflate_all(Bench *b, Guest *guest)
{
    MemSchedGpaRange ranges[FRAMES];
    MemSchedOpResult result = { 0 };
    uint64_t pages = 0;

    ranges_of(b, ranges);
    for (uint64_t f = 0; f < FRAMES; f += 8) {
        check(memsched_deflate(guest->client, ranges + f, 8, &result) == 0,
              "deflate", NULL);
        pages += result.populated_pages;
    }
    return pages;
}

static void touch_all(char *ram)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        /* volatile: the touch counts, not what is written */
        *(volatile char *)(ram + page * MEMSCHED_PAGE_SIZE) = 1;
    }
}

/* Until the scrubber has nothing left to do: the pool is ahead. */
static void settle(Bench *b)
{
    uint64_t deadline = bench_now_ns() + SETTLE_NS;
    MemSchedInfo info;

    do {
        struct timespec ms = { .tv_nsec = 1000000 };

        nanosleep(&ms, NULL);
        memsched_query(b->ms, &info);
    } while (info.free_dirty_bytes && bench_now_ns() < deadline);
    check(!info.free_dirty_bytes, "scrubbing within 20 s", NULL);
}

static void start(Bench *b)
{
    MemSchedMessage message = { "" };
    MemSchedOptions options = {
        .id = "bench", .pool_bytes = BYTES + 128 * MIB,
    };

    check(memsched_start(&options, NULL, NULL, &b->ms, &message) == 0,
          "start", &message);
    guest_start(b, &b->a, "a");
    guest_start(b, &b->b, "b");
}

static void end(Bench *b)
{
    MemSchedMessage message = { "" };

    check(memsched_check(b->ms, &message) == 0, "check of the books",
          &message);
    guest_end(&b->a);
    guest_end(&b->b);
    check(memsched_stop(b->ms) == 0, "stop", NULL);
}

/* ---- baselines ---- */

static void baselines(Bench *b, bool huge)
{
    char *to = bench_map(BYTES, huge), *from = bench_map(BYTES, huge);

    b->copy.rounds = b->discard.rounds = b->touch.rounds = 0;
    touch_all(from);
    touch_all(to);
    for (unsigned r = 0; r < 5; r++) {
        uint64_t t0 = bench_now_ns(), t1, t2, t3;

        memcpy(to, from, BYTES);
        t1 = bench_now_ns();
        for (uint64_t at = 0; at < BYTES; at += MEMSCHED_FRAME_SIZE) {
            madvise(to + at, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
        }
        t2 = bench_now_ns();
        touch_all(to);
        t3 = bench_now_ns();
        bench_add(&b->copy, t1 - t0);
        bench_add(&b->discard, t3 - t1);
        bench_add(&b->touch, t3 - t2);
    }
    bench_unmap(to, BYTES);
    bench_unmap(from, BYTES);
    bench_rate("memcpy", b->variant, BYTES, &b->copy, NULL, NULL);
    bench_rate(huge ? "discard-and-fault-huge" : "discard-and-fault-4k",
               b->variant, BYTES, &b->discard, NULL, NULL);
    bench_rate(huge ? "kernel-first-touch-huge" : "kernel-first-touch-4k",
               b->variant, BYTES, &b->touch, NULL, NULL);
}

/* ---- the figures ---- */

static const char *mark(const Bench *b, const char *idle, const char *busy)
{
    return b->variant[0] == 'i' ? idle : busy;
}

/*
 * Round trips between the two guests.  @ahead: the pool is scrubbed between
 * capture and populate, off the clock; else in line, on the clock.
 */
static void round_trips(Bench *b, bool ahead, BenchTimes *out,
                        BenchTimes *both)
{
    Guest *from = &b->a, *to = &b->b, *swap;

    /* An even number: what a had, it has again. */
    for (unsigned r = 0; r < 2 * ROUNDS; r++) {
        uint64_t t0 = bench_now_ns(), t1, t2, pages;

        pages = inflate_all(b, from);
        t1 = bench_now_ns();
        check(pages == moved_bytes(b) >> MEMSCHED_PAGE_SHIFT,
              "capture of all pages", NULL);
        if (ahead) {
            settle(b);
        }
        t2 = bench_now_ns();
        deflate_all(b, to);
        bench_add(both, bench_now_ns() - t2 + t1 - t0);
        bench_add(out, t1 - t0);
        touch_all(to->ram);     /* what is left comes by fault */
        memset(to->ram, 1, BYTES);
        swap = from;
        from = to;
        to = swap;
    }
}

static void report_trips(Bench *b)
{
    const char *kind = b->huge ? "huge" : "4k-runs";
    BenchTimes out = { 0 }, both = { 0 }, none = { 0 }, inline_ = { 0 };
    char name[64];

    round_trips(b, true, &out, &both);
    round_trips(b, false, &none, &inline_);
    snprintf(name, sizeof(name), "capture-%s", kind);
    bench_rate(name, b->variant, moved_bytes(b), &out, &b->copy,
               b->huge ? mark(b, "500", "130") : mark(b, "30", "20"));
    snprintf(name, sizeof(name), "capture-populate-%s", kind);
    bench_rate(name, b->variant, moved_bytes(b), &both, &b->discard,
               b->huge ? mark(b, "250", "70") : mark(b, "15", "10"));
    if (!b->huge) {
        bench_rate("capture-populate-4k-runs-against-discard-and-fault",
                   b->variant, moved_bytes(b), &both, &b->discard, "10x");
    }
    snprintf(name, sizeof(name), "capture-scrub-populate-%s", kind);
    bench_rate(name, b->variant, moved_bytes(b), &inline_, &b->copy,
               b->huge ? "10" : mark(b, "6", "5.5"));
}

/* A guest touches memory that it does not have; the pool is clean. */
static void first_touch(Bench *b)
{
    BenchTimes times = { 0 };

    inflate_all(b, &b->a);
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t0;

        inflate_all(b, &b->b);
        memsched_reset(b->b.client, MEMSCHED_RESET_DEVICE);     /* holes */
        settle(b);
        t0 = bench_now_ns();
        touch_all(b->b.ram);
        bench_add(&times, bench_now_ns() - t0);
    }
    bench_rate(b->huge ? "first-touch-huge" : "first-touch-4k", b->variant,
               BYTES, &times, &b->touch, b->huge ? "1x" : "3x");
    inflate_all(b, &b->b);
    settle(b);
    deflate_all(b, &b->a);
    touch_all(b->a.ram);
    memset(b->a.ram, 1, BYTES);
}

static void huge_share(Bench *b)
{
    Guest *from = &b->a, *to = &b->b, *swap;
    MemSchedClientInfo info;
    const char *id = "b";

    for (unsigned r = 0; r < TRIPS; r++) {
        inflate_all(b, from);
        settle(b);
        deflate_all(b, to);
        touch_all(to->ram);
        swap = from;
        from = to;
        to = swap;
        id = r % 2 ? "a" : "b";
    }
    check(memsched_query_client(b->ms, id, &info) == 0, "query", NULL);
    bench_value("huge-share-after-10-round-trips", b->variant, "%",
                100.0 * info.huge_bytes / BYTES, "100");
}

/* ---- a transfer beside ---- */

typedef struct Mover {
    Bench *b;
    unsigned cpu;
    atomic_bool stop;
    _Atomic uint64_t bytes;
} Mover;

/* Frames of a go out and in again, one at a time. */
static void *mover_thread(void *opaque)
{
    Mover *m = opaque;
    uint64_t next = bench_now_ns(), now;

    bench_pin(m->cpu);
    for (uint64_t f = 0; !atomic_load(&m->stop); f = (f + 1) % FRAMES) {
        uint64_t at = f << MEMSCHED_FRAME_SHIFT;

        inflate(&m->b->a, at, MEMSCHED_FRAME_SIZE);
        deflate(&m->b->a, at, MEMSCHED_FRAME_SIZE);
        atomic_fetch_add(&m->bytes, MEMSCHED_FRAME_SIZE);
        next += PACE_NS;
        now = bench_now_ns();
        if (next > now + BURST_NS) {
            /* Ahead by some frames: let others have this CPU. */
            struct timespec ts = { .tv_nsec = next - now };

            nanosleep(&ts, NULL);
        }
    }
    return NULL;
}

/*
 * Until the pool has the pages of one burst clean, beside the transfer; a
 * burst that comes earlier measures how fast this CPU clears memory.  False:
 * not within 20 s.
 */
static bool settle_beside(Bench *b)
{
    uint64_t deadline = bench_now_ns() + SETTLE_NS;
    MemSchedInfo info;

    do {
        struct timespec ms = { .tv_nsec = 1000000 };

        nanosleep(&ms, NULL);
        memsched_query(b->ms, &info);
    } while (info.free_clean_bytes < BURST_FRAMES * MEMSCHED_FRAME_SIZE &&
             bench_now_ns() < deadline);
    return info.free_clean_bytes >= BURST_FRAMES * MEMSCHED_FRAME_SIZE;
}

static void fault_latency(Bench *b, bool transfer)
{
    BenchTimes times = { 0 };
    /* Whoever touches has the other CPU, as one vCPU of two. */
    Mover mover = { .b = b, .cpu = 1 };
    bool settled = true;
    pthread_t thread;

    if (transfer) {
        check(pthread_create(&thread, NULL, mover_thread, &mover) == 0,
              "thread", NULL);
    }
    for (unsigned k = 0; k < 8 && settled; k++) {
        for (unsigned i = 0; i < BURST_FRAMES; i++) {
            char *page = b->b.ram + ((uint64_t)i << MEMSCHED_FRAME_SHIFT);
            uint64_t t0 = bench_now_ns();

            /* volatile: this store is the fault that is timed */
            *(volatile char *)page = 1;
            bench_add(&times, bench_now_ns() - t0);
        }
        inflate(&b->b, 0, BURST_FRAMES * MEMSCHED_FRAME_SIZE);
        if (transfer) {
            settled = settle_beside(b);
        } else {
            settle(b);
        }
    }
    if (transfer) {
        atomic_store(&mover.stop, true);
        pthread_join(thread, NULL);
    }
    if (!settled) {
        settle(b);
        fprintf(stderr, "bench-moves: no figure of faults beside a transfer: "
                "this machine clears less memory than is moved\n");
        b->incomplete = true;
        return;
    }
    bench_value(transfer ? "fault-beside-transfer-p50" : "fault-p50",
                b->variant, "us", bench_quantile(&times, 500) / 1e3, NULL);
    bench_value(transfer ? "fault-beside-transfer-p99" : "fault-p99",
                b->variant, "us", bench_quantile(&times, 990) / 1e3,
                transfer ? "100" : NULL);
}

/* How fast a thread computes beside a transfer of 10 GiB/s. */
static void bystander(Bench *b, BenchBusy *busy)
{
    struct timespec second = { .tv_sec = 1 };
    Mover mover = { .b = b };
    double alone, beside;
    pthread_t thread;
    uint64_t t0;

    bench_busy_speed(busy);
    nanosleep(&second, NULL);
    alone = bench_busy_speed(busy);
    t0 = bench_now_ns();
    check(pthread_create(&thread, NULL, mover_thread, &mover) == 0, "thread",
          NULL);
    nanosleep(&second, NULL);
    beside = bench_busy_speed(busy);
    atomic_store(&mover.stop, true);
    pthread_join(thread, NULL);
    bench_value("transfer-beside-bystander", b->variant, "GiB/s",
                mover.bytes / 1.073741824 / (bench_now_ns() - t0), NULL);
    bench_value("bystander-speed", b->variant, "%",
                100 * beside / alone, "95");
}

/* What is measured as small is small, and the other way round. */
static void check_hugeness(Bench *b)
{
    MemSchedClientInfo info;

    check(memsched_query_client(b->ms, "a", &info) == 0, "query", NULL);
    check(info.huge_bytes == (b->huge ? BYTES : 0),
          b->huge ? "huge pages for a guest" : "small pages for a guest",
          NULL);
}

static void run_variant(Bench *b, BenchBusy *busy)
{
    for (unsigned i = 0; i < 2; i++) {
        b->huge = i == 0;
        baselines(b, b->huge);
        start(b);
        inflate_all(b, &b->a);          /* holes: nothing moves yet */
        inflate_all(b, &b->b);
        for (uint64_t f = 0; !b->huge && f < FRAMES; f++) {
            /* The page that is never given keeps its frame from being huge. */
            b->a.ram[f << MEMSCHED_FRAME_SHIFT] = 1;
            b->b.ram[f << MEMSCHED_FRAME_SHIFT] = 1;
        }
        while (deflate_all(b, &b->a)) {
            /* breaking chunks for small pages takes several requests */
        }
        touch_all(b->a.ram);
        memset(b->a.ram, 1, BYTES);
        check_hugeness(b);
        report_trips(b);
        first_touch(b);
        if (b->huge) {
            huge_share(b);
            fault_latency(b, false);
            fault_latency(b, true);
            if (busy) {
                bystander(b, busy);
            }
        }
        end(b);
    }
}

int main(int argc, char **argv)
{
    Bench b = { .variant = "idle" };

    bench_header();
    bench_pin(0);
    run_variant(&b, NULL);
    if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
        BenchBusy *busy = bench_busy_start(1);

        b.variant = "busy";
        run_variant(&b, busy);
        bench_busy_stop(busy);
    } else {
        fprintf(stderr, "bench-moves: one CPU only: no variant \"busy\"\n");
    }
    return b.incomplete;
}
