/*
 * The last resort: how fast pages of a guest are packed away, and come back
 *
 * A pretended guest of small pages, each a page of this program's own file with
 * its number written into it.  All of them are taken out as the holder's thread
 * takes them, in batches of 32 and without its pauses, and then touched one
 * after the other by one thread, which waits for each, as a vCPU does.
 *
 *     compressed  kept in the pool
 *     file        written to a file in the folder for temporary files, without
 *                 the page cache where the file system lets that be
 *
 * Baselines of the same run, on the same pages: compression alone; batches
 * written to a file, and pages read from it, one at a time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "hold.h"
#include "instance.h"
#include "pack.h"

#define MIB    (UINT64_C(1) << 20)
#define BYTES  (32 * MIB)
#define PAGE   MEMSCHED_PAGE_SIZE
#define PAGES  (BYTES / PAGE)
#define FRAMES (BYTES / MEMSCHED_FRAME_SIZE)
#define BATCH  (32 * PAGE)
#define ROUNDS 5u

typedef struct Bench {
    const char *variant;
    char *dir, *map, *ram, *pages;      /* pages: what RAM is filled with */
    MemSched *ms;
    MemSchedClient *client;
    MemSchedRegion *region;
    BenchTimes out, back, out_alone, back_alone;
    uint64_t *touch_ns;                 /* of all rounds */
    size_t touches;
} Bench;

static void check(bool ok, const char *what, const MemSchedMessage *message)
{
    if (!ok) {
        fprintf(stderr, "bench-held: %s failed%s%s\n", what,
                message ? ": " : "", message ? message->text : "");
        exit(1);
    }
}

/* The last page of each frame: so no frame stays huge. */
static bool is_given(uint64_t page)
{
    return page % MEMSCHED_PAGES_PER_FRAME == MEMSCHED_PAGES_PER_FRAME - 1;
}

static void make_pages(Bench *b)
{
    g_autofree char *text = NULL;
    gsize bytes;

    check(g_file_get_contents("/proc/self/exe", &text, &bytes, NULL) &&
          bytes >= PAGE, "reading the program", NULL);
    b->pages = aligned_alloc(PAGE, BYTES);
    check(b->pages != NULL, "memory", NULL);
    for (uint64_t p = 0; p < PAGES; p++) {
        memcpy(b->pages + p * PAGE, text + p % (bytes / PAGE) * PAGE, PAGE);
        memcpy(b->pages + p * PAGE, &p, sizeof(p));
    }
}

static void start(Bench *b, uint64_t held_bytes, const char *swap_path)
{
    MemSchedMessage message = { "" };
    MemSchedOptions options = {
        .id = "bench", .pool_bytes = 4 * BYTES,
        .policy = MEMSCHED_POLICY_STATIC, .held_memory_bytes = held_bytes,
        .swap_path = swap_path, .swap_bytes = swap_path ? BYTES : 0,
    };
    MemSchedClientOptions client = { .id = "a" };
    MemSchedRegionOptions region = {
        .length_bytes = BYTES, .name = "a", .anonymous_private = true,
    };
    MemSchedGpaMapping mapping = { .length_bytes = BYTES };
    MemSchedOpResult result = { 0 };

    check(memsched_start(&options, NULL, NULL, &b->ms, &message) == 0,
          "start", &message);
    b->map = mmap(NULL, BYTES + MEMSCHED_FRAME_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(b->map != MAP_FAILED, "mmap", NULL);
    b->ram = (char *)(((uintptr_t)b->map + MEMSCHED_FRAME_SIZE - 1) &
                      ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1));
    region.host = b->ram;
    check(memsched_client_new(b->ms, &client, &b->client, &message) == 0,
          "client", &message);
    check(memsched_region_new(b->client, &region, &mapping.region,
                              &message) == 0, "region", &message);
    check(memsched_client_set_map(b->client, &mapping, 1) == 0, "map", NULL);
    b->region = mapping.region;
    memsched_client_run(b->client, true);
    memcpy(b->ram, b->pages, BYTES);
    for (uint64_t f = 0; f < FRAMES; f++) {
        MemSchedGpaRange range = {
            .gpa = (f + 1) * MEMSCHED_FRAME_SIZE - PAGE, .length_bytes = PAGE,
        };

        check(memsched_inflate(b->client, &range, 1, false, &result) == 0,
              "inflate", NULL);
    }
}

static void stop(Bench *b)
{
    memsched_client_free(b->client);
    check(memsched_stop(b->ms) == 0, "stop", NULL);
    munmap(b->map, BYTES + MEMSCHED_FRAME_SIZE);
}

/* ---- ours ---- */

static uint64_t held_pages(Bench *b)
{
    MsClientPages pages;

    ms_client_pages(b->client, &pages);
    return pages.count[MEMSCHED_PAGE_HELD];
}

static void take_all(Bench *b)
{
    MsHoldBatch *batch = ms_hold_batch_new(b->ms);
    uint64_t start_ns = bench_now_ns(), tried, kept;
    unsigned flushes;

    do {
        ms_hold_step(batch, b->client, PAGES, &tried, &flushes);
    } while (tried > 0);
    bench_add(&b->out, bench_now_ns() - start_ns);
    ms_hold_batch_free(batch);
    kept = held_pages(b);
    check(kept * 10 >= PAGES * 9, "taking pages out", NULL);
}

/* Some come with others of their frame: only those that wait are timed. */
static bool is_held(Bench *b, uint64_t page)
{
    bool held;

    ms_lock(&b->region->lock);
    held = ms_pages_get(&b->region->pages, page) == MEMSCHED_PAGE_HELD;
    ms_unlock(&b->region->lock);
    return held;
}

static void touch_all(Bench *b)
{
    uint64_t start_ns = bench_now_ns();
    MemSchedMessage message = { "" };

    for (uint64_t p = 0; p < PAGES; p++) {
        /* volatile: read here and now, that is what is timed. */
        volatile uint64_t *number = (void *)(b->ram + p * PAGE);
        bool waits = is_held(b, p);
        uint64_t before_ns = bench_now_ns();

        check(is_given(p) || *number == p, "a page as it was", NULL);
        if (waits) {
            b->touch_ns[b->touches++] = bench_now_ns() - before_ns;
        }
    }
    bench_add(&b->back, bench_now_ns() - start_ns);
    for (uint64_t p = 0; p < PAGES; p++) {
        check(is_given(p) || memcmp(b->ram + p * PAGE, b->pages + p * PAGE,
                                    PAGE) == 0, "all as it was", NULL);
    }
    check(memsched_check(b->ms, &message) == 0, "exact books", &message);
}

/* ---- the same work alone ---- */

static void pack_alone(Bench *b)
{
    MsPack *pack = ms_pack_new();
    char *packed = malloc(BYTES), *page = malloc(PAGE);
    g_autofree unsigned *bytes = g_new(unsigned, PAGES);
    uint64_t start_ns = bench_now_ns(), total = 0;

    check(packed && page, "memory", NULL);
    for (uint64_t p = 0; p < PAGES; p++) {
        bytes[p] = ms_pack(pack, b->pages + p * PAGE, packed + p * PAGE,
                           PAGE - 1);
        total += bytes[p];
    }
    bench_add(&b->out_alone, bench_now_ns() - start_ns);
    start_ns = bench_now_ns();
    for (uint64_t p = 0; p < PAGES; p++) {
        check(bytes[p] == 0 || ms_unpack(pack, packed + p * PAGE, bytes[p],
                                         page) == 0, "unpacking", NULL);
    }
    bench_add(&b->back_alone, bench_now_ns() - start_ns);
    if (b->out_alone.rounds == 1) {
        bench_value("held-size", b->variant, "% of the pages",
                    100.0 * (double)total / (double)BYTES, NULL);
    }
    free(page);
    free(packed);
    ms_pack_free(pack);
}

static void file_alone(Bench *b)
{
    g_autofree char *path = g_build_filename(b->dir, "alone", NULL);
    const MsSys *sys = ms_sys_real();
    char *page = aligned_alloc(PAGE, PAGE);
    int fd = sys->create(sys, path, BYTES);
    uint64_t start_ns = bench_now_ns();

    check(fd >= 0 && page, "a file", NULL);
    for (uint64_t at = 0; at < BYTES; at += BATCH) {
        check(sys->pwrite(sys, fd, b->pages + at, BATCH, at) == BATCH,
              "writing", NULL);
    }
    bench_add(&b->out_alone, bench_now_ns() - start_ns);
    start_ns = bench_now_ns();
    for (uint64_t at = 0; at < BYTES; at += PAGE) {
        check(sys->pread(sys, fd, page, PAGE, at) == PAGE, "reading", NULL);
    }
    bench_add(&b->back_alone, bench_now_ns() - start_ns);
    sys->close(sys, fd);
    free(page);
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void show_touches(Bench *b)
{
    static const struct {
        const char *name;
        unsigned permille;
    } quantiles[] = { { "p50", 500 }, { "p99", 990 } };

    bench_value("held-fault-pages", b->variant, "pages a touch",
                (double)(PAGES * ROUNDS) / (double)b->touches, NULL);
    qsort(b->touch_ns, b->touches, sizeof(b->touch_ns[0]), compare);
    for (size_t i = 0; i < G_N_ELEMENTS(quantiles); i++) {
        g_autofree char *variant = g_strdup_printf("%s-%s", b->variant,
                                                   quantiles[i].name);
        size_t at = (b->touches - 1) * quantiles[i].permille / 1000;

        bench_value("held-fault", variant, "us",
                    (double)b->touch_ns[at] / 1000, NULL);
    }
}

static void measure(const char *variant, bool file)
{
    Bench b = { .variant = variant };
    g_autofree char *path = NULL;

    b.dir = g_dir_make_tmp("memsched-bench-XXXXXX", NULL);
    check(b.dir != NULL, "a folder", NULL);
    path = g_build_filename(b.dir, "swap", NULL);
    b.touch_ns = g_new(uint64_t, PAGES * ROUNDS);
    make_pages(&b);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (file) {
            file_alone(&b);
        } else {
            pack_alone(&b);
        }
        start(&b, file ? 0 : 2 * BYTES, file ? path : NULL);
        take_all(&b);
        touch_all(&b);
        stop(&b);
    }
    bench_rate("held-out", variant, BYTES, &b.out, &b.out_alone, NULL);
    bench_rate("held-back", variant, BYTES, &b.back, &b.back_alone, NULL);
    show_touches(&b);
    g_rmdir(b.dir);
    g_free(b.dir);
    g_free(b.touch_ns);
    free(b.pages);
}

int main(void)
{
    bench_header();
    bench_pin(0);
    measure("compressed", false);
    measure("file", true);
    return 0;
}
