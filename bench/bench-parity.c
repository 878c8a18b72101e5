/*
 * Recovery from memory errors: the codec against ISA-L's own functions in a
 * loop, how fast pages join, how long a repair takes, and what a guest pays
 *
 * A guest's thread is this one, pinned to CPU 0; the library's threads run
 * where they like.  "unprotected" is the baseline of what a guest pays.
 *
 * Mirroring, the other way to survive an error, is here as what it costs at
 * least: a copy of each page (memcpy), and as much memory again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <isa-l/erasure_code.h>
#include <isa-l/raid.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "instance.h"
#include "parity.h"

#define MIB     (UINT64_C(1) << 20)
#define PAGE    4096u
#define ROUNDS  15u
#define REPAIRS 250u
/* What of a stripe is worked on in the codec: more than a cache holds. */
#define CODEC_BYTES (64 * MIB)
#define GUEST_BYTES (256 * MIB)
#define SETTLE_NS   (UINT64_C(30) * 1000 * 1000 * 1000)

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench-parity: %s failed\n", what);
        exit(1);
    }
}

/* ---- codec ---- */

typedef struct Codec {
    char *data, *parity[2], *out[2];
    unsigned members;
    size_t unit;
} Codec;

/* One stripe after the other through all of the data. */
static void stripe_of(const Codec *c, size_t at, MsParityRow *row)
{
    *row = (MsParityRow) { .bytes = c->unit, .count = c->members };
    for (unsigned i = 0; i < c->members; i++) {
        row->slot[i] = i;
        row->page[i] = c->data + (at * c->members + i) * c->unit;
    }
}

static uint64_t build(const Codec *c, const MsParityKernel *kernel,
                      unsigned parities)
{
    uint64_t start = bench_now_ns();

    for (size_t at = 0; at < CODEC_BYTES / c->members / c->unit; at++) {
        void *parity[2] = { c->parity[0], parities > 1 ? c->parity[1] : NULL };
        MsParityRow row;

        stripe_of(c, at, &row);
        ms_parity_build(kernel, &row, parity);
    }
    return bench_now_ns() - start;
}

static uint64_t build_isal(const Codec *c, unsigned parities)
{
    uint64_t start = bench_now_ns();

    for (size_t at = 0; at < CODEC_BYTES / c->members / c->unit; at++) {
        void *array[MS_PARITY_SLOTS + 2];

        for (unsigned i = 0; i < c->members; i++) {
            array[i] = c->data + (at * c->members + i) * c->unit;
        }
        array[c->members] = c->parity[0];
        array[c->members + 1] = c->parity[1];
        if (parities > 1) {
            pq_gen(c->members + 2, c->unit, array);
        } else {
            xor_gen(c->members + 1, c->unit, array);
        }
    }
    return bench_now_ns() - start;
}

/* The first @lost pages of each stripe. */
static uint64_t rebuild(const Codec *c, const MsParityKernel *kernel,
                        unsigned lost)
{
    const uint8_t slot[] = { 0, 1 };
    uint64_t start = bench_now_ns();

    for (size_t at = 0; at < CODEC_BYTES / c->members / c->unit; at++) {
        MsParityRow row, known;

        stripe_of(c, at, &row);
        known = row;
        known.count = row.count - lost;
        memmove(known.slot, row.slot + lost, known.count);
        memmove(known.page, row.page + lost,
                known.count * sizeof(known.page[0]));
        known.parity[0] = c->parity[0];
        known.parity[1] = c->parity[1];
        check(ms_parity_rebuild(kernel, &known, lost, slot,
                                (void *const *)c->out) == 0, "rebuild");
    }
    return bench_now_ns() - start;
}

/* The sums alone, with tables made once: the least that it can cost. */
static uint64_t rebuild_isal(const Codec *c, unsigned lost)
{
    unsigned k = c->members - lost + lost;
    unsigned char table[32 * 2 * (MS_PARITY_SLOTS + 2)];
    unsigned char coef[2 * (MS_PARITY_SLOTS + 2)];
    uint64_t start;

    memset(coef, 0x35, sizeof(coef));
    ec_init_tables(k, lost, coef, table);
    start = bench_now_ns();
    for (size_t at = 0; at < CODEC_BYTES / c->members / c->unit; at++) {
        void *src[MS_PARITY_SLOTS + 2];
        unsigned n = 0;

        for (unsigned i = lost; i < c->members; i++) {
            src[n++] = c->data + (at * c->members + i) * c->unit;
        }
        src[n++] = c->parity[0];
        src[n++] = c->parity[1];
        if (lost == 1) {
            src[n - 1] = c->out[0];
            xor_gen(n, c->unit, src);
        } else {
            ec_encode_data(c->unit, k, lost, table, (unsigned char **)src,
                           (unsigned char **)c->out);
        }
    }
    return bench_now_ns() - start;
}

static void bench_codec_unit(Codec *c, const MsParityKernel *kernel,
                             unsigned rounds, const char *mark)
{
    BenchTimes own[4] = { 0 }, isal[4] = { 0 }, sum = { 0 };
    const char *what[] = { "build-p", "build-pq", "rebuild-1", "rebuild-2" };
    /* volatile: what is computed is wanted. */
    static volatile uint64_t sink;

    for (unsigned r = 0; r < rounds; r++) {
        uint64_t start = bench_now_ns();

        for (size_t at = 0; at < CODEC_BYTES; at += PAGE) {
            sink += kernel->sum(c->data + at, PAGE);
        }
        bench_add(&sum, bench_now_ns() - start);
        for (unsigned k = 0; k < 2; k++) {
            bench_add(&own[k], build(c, kernel, k + 1));
            bench_add(&isal[k], build_isal(c, k + 1));
            bench_add(&own[2 + k], rebuild(c, kernel, k + 1));
            bench_add(&isal[2 + k], rebuild_isal(c, k + 1));
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        char variant[64];

        snprintf(variant, sizeof(variant), "%s-%s-%u-of-%s", kernel->name,
                 what[i], c->members, c->unit == PAGE ? "4k" : "2m");
        bench_rate("parity-codec", variant, CODEC_BYTES, &own[i], &isal[i],
                   mark);
    }
    if (c->unit == PAGE) {
        bench_rate("parity-checksum", kernel->name, CODEC_BYTES, &sum, NULL,
                   NULL);
    }
}

static void bench_codec(void)
{
    Codec c = { .members = 8 };
    size_t count;
    const MsParityKernel *kernels = ms_parity_kernels(&count);

    c.data = bench_map(CODEC_BYTES, true);
    for (size_t at = 0; at < CODEC_BYTES; at += 8) {
        uint64_t x = at * UINT64_C(0x9e3779b97f4a7c15);

        memcpy(c.data + at, &x, 8);
    }
    c.parity[0] = bench_map(8 * MIB, true);
    c.parity[1] = c.parity[0] + 2 * MIB;
    c.out[0] = c.parity[0] + 4 * MIB;
    c.out[1] = c.parity[0] + 6 * MIB;
    for (size_t i = 0; i < count; i++) {
        bool best = &kernels[i] == ms_parity_best();

        for (unsigned k = 0; k < 2; k++) {
            c.unit = k ? 2 * MIB : PAGE;
            bench_codec_unit(&c, &kernels[i], best ? ROUNDS : 1,
                             best ? "0.7x" : NULL);
        }
    }
    bench_unmap(c.data, CODEC_BYTES);
    bench_unmap(c.parity[0], 8 * MIB);
}

/* ---- a guest ---- */

typedef struct Guest {
    MemSched *ms;
    MemSchedClient *client;
    MemSchedRegion *region;
    char *ram, *map;
    volatile uint64_t read_sum; /* so that reading is not left out */
} Guest;

static _Atomic uint64_t signal_ns;      /* when the handler was entered */

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    atomic_store(&signal_ns, bench_now_ns());
    if (memsched_sigbus(info->si_addr) != MEMSCHED_SIGBUS_FIXED) {
        abort();
    }
}

static void guest_start(Guest *g, bool huge)
{
    MemSchedOptions options = {
        .id = "bench", .pool_bytes = 2 * GUEST_BYTES, .allow_inject = true,
    };
    MemSchedClientOptions client = { .id = "guest" };
    MemSchedRegionOptions region = {
        .length_bytes = GUEST_BYTES, .name = "ram", .anonymous_private = true,
    };
    MemSchedGpaMapping mapping = { .length_bytes = GUEST_BYTES };
    MemSchedMessage message = { "" };

    if (memsched_start(&options, NULL, NULL, &g->ms, &message) < 0) {
        fprintf(stderr, "bench-parity: %s\n", message.text);
        exit(1);
    }
    g->map = mmap(NULL, GUEST_BYTES + 2 * MIB, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(g->map != MAP_FAILED, "mmap");
    g->ram = (char *)(((uintptr_t)g->map + 2 * MIB - 1) &
                      ~(uintptr_t)(2 * MIB - 1));
    region.host = g->ram;
    check(memsched_client_new(g->ms, &client, &g->client, &message) == 0,
          "client");
    check(memsched_region_new(g->client, &region, &g->region, &message) == 0,
          "region");
    mapping.region = g->region;
    check(memsched_client_set_map(g->client, &mapping, 1) == 0, "map");
    ms_lock(&g->region->lock);
    g->region->huge = huge;
    ms_unlock(&g->region->lock);
    for (size_t at = 0; at < GUEST_BYTES; at += 8) {
        uint64_t x = at * UINT64_C(0x9e3779b97f4a7c15);

        memcpy(g->ram + at, &x, 8);
    }
}

static void guest_end(Guest *g)
{
    memsched_client_free(g->client);
    munmap(g->map, GUEST_BYTES + 2 * MIB);
    check(memsched_stop(g->ms) == 0, "stop");
}

static MemSchedProtectionInfo query(Guest *g)
{
    MemSchedProtectionInfo info;

    check(memsched_query_protection(g->ms, "guest", &info) == 0, "query");
    return info;
}

/* @cool_ms: an hour, so that what has left stays out. */
static void protect(Guest *g, MemSchedScheme scheme, unsigned group,
                    uint64_t rate)
{
    MemSchedProtection p = {
        .scheme = scheme, .group_size = group, .cool_ms = 3600000,
        .rate_bytes_per_s = rate,
    };

    check(memsched_protect(g->ms, "guest", &p, NULL) == 0, "protect");
}

/* Protect anew, from nothing; how long until all is covered. */
static uint64_t cover(Guest *g, MemSchedScheme scheme, unsigned group)
{
    uint64_t start;

    protect(g, MEMSCHED_SCHEME_NONE, 0, 0);
    start = bench_now_ns();
    protect(g, scheme, group, UINT64_C(1) << 40);
    while (query(g).covered_bytes < GUEST_BYTES) {
        check(bench_now_ns() - start < SETTLE_NS, "cover");
        usleep(100);
    }
    return bench_now_ns() - start;
}

typedef struct Way {
    const char *name;
    MemSchedScheme scheme;
    unsigned group;
} Way;

static const Way ways[] = {
    { "p-4", MEMSCHED_SCHEME_P, 4 }, { "p-8", MEMSCHED_SCHEME_P, 8 },
    { "p-16", MEMSCHED_SCHEME_P, 16 }, { "pq-8", MEMSCHED_SCHEME_PQ, 8 },
    { "pq-16", MEMSCHED_SCHEME_PQ, 16 },
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static const char *label(char buf[64], const char *size, const Way *way)
{
    snprintf(buf, 64, "%s-%s", size, way->name);
    return buf;
}

/* From the signal to the access that goes on, and all that the thread lost. */
static void bench_repair(Guest *g, const char *size, const Way *way)
{
    BenchTimes repair = { 0 }, touch = { 0 };
    char name[64], p99[80];

    for (unsigned i = 0; i < REPAIRS; i++) {
        size_t page = (size_t)i * 7919 % (GUEST_BYTES / PAGE);
        /* volatile: made for its fault. */
        volatile char *at = g->ram + page * PAGE;
        uint64_t start, end;

        check(memsched_inject_error(g->ms, "guest", page * PAGE, NULL) == 0,
              "inject");
        start = bench_now_ns();
        (void)*at;
        end = bench_now_ns();
        bench_add(&repair, end - atomic_load(&signal_ns));
        bench_add(&touch, end - start);
    }
    label(name, size, way);
    bench_time("parity-repair", name, &repair, NULL, "1000000");
    bench_value("parity-repair-p99", name, "ns", bench_quantile(&repair, 990),
                NULL);
    snprintf(p99, sizeof(p99), "%s-whole", name);
    bench_time("parity-repair", p99, &touch, NULL, NULL);
    check(query(g).lost_pages == 0, "recovery");
}

static uint64_t write_all(Guest *g)
{
    uint64_t start = bench_now_ns();

    for (size_t at = 0; at < GUEST_BYTES; at += PAGE) {
        /* volatile: made for its fault. */
        *(volatile char *)(g->ram + at) += 1;
    }
    return bench_now_ns() - start;
}

static uint64_t read_all(Guest *g)
{
    uint64_t start = bench_now_ns(), sum = 0;

    for (size_t at = 0; at < GUEST_BYTES; at += 64) {
        sum += *(uint64_t *)(g->ram + at);
    }
    g->read_sum = sum;
    return bench_now_ns() - start;
}

/* The first write to each page, and reading all of it. */
static void bench_guest(Guest *g, const char *size, const Way *way,
                        const BenchTimes *plain_write,
                        const BenchTimes *plain_read)
{
    BenchTimes join = { 0 }, write = { 0 }, read = { 0 }, copy = { 0 };
    MemSchedProtectionInfo info;
    char name[64], *mirror = bench_map(GUEST_BYTES, true);

    for (unsigned r = 0; r < 3; r++) {
        uint64_t start;

        bench_add(&join, cover(g, way->scheme, way->group));
        info = query(g);
        bench_add(&read, read_all(g));
        bench_add(&write, write_all(g));
        start = bench_now_ns();
        memcpy(mirror, g->ram, GUEST_BYTES);
        bench_add(&copy, bench_now_ns() - start);
    }
    bench_unmap(mirror, GUEST_BYTES);
    label(name, size, way);
    bench_rate("parity-join-against-mirror", name, GUEST_BYTES, &join, &copy,
               NULL);
    bench_rate("parity-read", name, GUEST_BYTES, &read, plain_read, NULL);
    bench_value("parity-first-write", name, "ns",
                (double)(bench_quantile(&write, 500) -
                         bench_quantile(plain_write, 500)) /
                (GUEST_BYTES / (*size == 'h' ? 2 * MIB : PAGE)), NULL);
    bench_value("parity-memory", name, "percent",
                100.0 * (info.parity_bytes + info.bookkeeping_bytes) /
                info.covered_bytes, NULL);
}

/* A thread that only computes, while pages join at the usual rate. */
static void bench_bystander(Guest *g, const char *size, const Way *way)
{
    BenchBusy *busy = bench_busy_start(0);
    double alone, beside;
    char name[64];

    usleep(300000);
    alone = bench_busy_speed(busy);
    protect(g, MEMSCHED_SCHEME_NONE, 0, 0);
    protect(g, way->scheme, way->group, 0);
    bench_busy_speed(busy);
    usleep(700000);
    beside = bench_busy_speed(busy);
    bench_busy_stop(busy);
    bench_value("parity-bystander-while-joining", label(name, size, way),
                "percent", 100.0 * beside / alone, NULL);
}

static void bench_guests(bool huge)
{
    const char *size = huge ? "huge" : "4k";
    BenchTimes write = { 0 }, read = { 0 };
    Guest g;

    guest_start(&g, huge);
    write_all(&g);
    for (unsigned r = 0; r < 3; r++) {
        bench_add(&read, read_all(&g));
        bench_add(&write, write_all(&g));
    }
    for (size_t i = 0; i < WAYS; i++) {
        bench_guest(&g, size, &ways[i], &write, &read);
    }
    bench_bystander(&g, size, &ways[1]);
    for (size_t i = 0; i < WAYS; i++) {
        cover(&g, ways[i].scheme, ways[i].group);
        bench_repair(&g, size, &ways[i]);
    }
    guest_end(&g);
}

int main(int argc, char **argv)
{
    struct sigaction action = {
        .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER,
    };

    bench_header();
    sigaction(SIGBUS, &action, NULL);
    bench_codec();
    bench_pin(0);
    bench_guests(true);
    bench_guests(false);
    bench_value("parity-memory", "mirror", "percent", 100, NULL);
    return 0;
}
