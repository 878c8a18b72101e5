/*
 * Finding pages by their value: how fast RAM is looked over, tags are compared
 * and made, and tagged pages captured and returned
 *
 * "lines" is the reading alone, "scan" all of what a search does with a guest
 * that holds no tag (states, lease, reading).  A search of a guest costs no
 * more for the pages that it has no need to look at, so both are said in GiB of
 * RAM covered.  "capture" is of tagged pages, all 4,096 bytes compared.
 *
 * Baseline of a comparison: reading the same memory, all words added up.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "app.h"
#include "bench.h"
#include "capture-tag.h"
#include "instance.h"
#include "tagged.h"

#define MIB    (UINT64_C(1) << 20)
#define BYTES  (512 * MIB)
#define FRAMES (BYTES >> MEMSCHED_FRAME_SHIFT)
#define PAGES  (BYTES >> MEMSCHED_PAGE_SHIFT)
#define ROUNDS 15u

static const uint8_t key[MS_TAG_KEY_BYTES] = { 1, 2, 3 };

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench-scan: %s failed\n", what);
        exit(1);
    }
}

/* ---- memory alone ---- */

static void lines(const char *variant, bool huge, const char *mark)
{
    char *base = bench_map(BYTES, huge);
    BenchTimes times = { 0 };
    MsPageSet look, found;
    uint64_t any = 0;

    memset(base, 1, BYTES);
    ms_pageset_fill(&look);
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t0 = bench_now_ns();

        for (uint64_t f = 0; f < FRAMES; f++) {
            ms_scan_lines(base + (f << MEMSCHED_FRAME_SHIFT), &look, &found);
            any |= found.word[0];
        }
        bench_add(&times, bench_now_ns() - t0);
    }
    check(any == 0, "a look at pages without tags");
    bench_rate("tag-lines", variant, BYTES, &times, NULL, mark);
    bench_unmap(base, BYTES);
}

static uint64_t sum_of(const char *base)
{
    const uint64_t *word = (const uint64_t *)base;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < BYTES / sizeof(*word); i++) {
        sum += word[i];
    }
    return sum;
}

static void contents(void)
{
    BenchTimes make = { 0 }, stamp = { 0 }, equal = { 0 }, read = { 0 };
    char *base = bench_map(BYTES, true);
    uint64_t sum = 0;
    MsTagKind kind;

    ms_tag_kind(&kind, 1, 1, key);
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t0 = bench_now_ns(), t1;
        bool all = true;

        for (uint64_t p = 0; p < PAGES; p++) {
            ms_tag_make(base + (p << MEMSCHED_PAGE_SHIFT), &kind, p);
        }
        t1 = bench_now_ns();
        bench_add(&make, t1 - t0);
        for (uint64_t p = 0; p < PAGES; p++) {
            ms_tag_stamp(base + (p << MEMSCHED_PAGE_SHIFT), &kind, p);
        }
        t0 = bench_now_ns();
        bench_add(&stamp, t0 - t1);
        for (uint64_t p = 0; p < PAGES; p++) {
            all &= ms_tag_equal(base + (p << MEMSCHED_PAGE_SHIFT), &kind, p);
        }
        t1 = bench_now_ns();
        bench_add(&equal, t1 - t0);
        sum |= sum_of(base);
        bench_add(&read, bench_now_ns() - t1);
        check(all, "a comparison of tags");
    }
    /* Used, so that the reading is not left out. */
    check(sum != 0, "reading tags");
    bench_rate("tag-make", "idle", BYTES, &make, NULL, NULL);
    bench_rate("tag-stamp", "idle", BYTES, &stamp, NULL, NULL);
    bench_rate("tag-compare", "idle", BYTES, &equal, &read, NULL);
    bench_unmap(base, BYTES);
}

/* ---- a guest ---- */

typedef struct World {
    MemSched *ms;
    MemSchedClient *client;
    MemSchedRegion *region;
    char *map, *ram;
    bool huge;
    MsScan scan;
    MsCaptureTags capture;
} World;

static World *world_new(bool huge)
{
    World *w = calloc(1, sizeof(*w));
    MemSchedOptions options = { .id = "bench", .pool_bytes = BYTES + 64 * MIB };
    MemSchedClientOptions client = { .id = "a" };
    MemSchedRegionOptions region = {
        .length_bytes = BYTES, .name = "ram", .anonymous_private = true,
    };

    check(w != NULL, "calloc");
    w->huge = huge;
    check(memsched_start(&options, NULL, NULL, &w->ms, NULL) == 0, "start");
    w->map = mmap(NULL, BYTES + MEMSCHED_FRAME_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(w->map != MAP_FAILED, "mmap");
    w->ram = (char *)(((uintptr_t)w->map + MEMSCHED_FRAME_SIZE - 1) &
                      ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1));
    region.host = w->ram;
    check(memsched_client_new(w->ms, &client, &w->client, NULL) == 0,
          "client");
    check(memsched_region_new(w->client, &region, &w->region, NULL) == 0,
          "region");
    if (!huge) {
        MemSchedGpaMapping mapping = {
            .length_bytes = BYTES, .region = w->region,
        };

        check(memsched_client_set_map(w->client, &mapping, 1) == 0, "map");
    }
    return w;
}

static void world_free(World *w)
{
    memsched_client_free(w->client);
    munmap(w->map, BYTES + MEMSCHED_FRAME_SIZE);
    check(memsched_stop(w->ms) == 0, "stop");
    free(w);
}

/* Small pages: a ballooned page in each frame keeps it from being huge. */
static void fill(World *w)
{
    memset(w->ram, 1, BYTES);
    for (uint64_t f = 0; f < FRAMES && !w->huge; f++) {
        MemSchedGpaRange range = {
            .gpa = f << MEMSCHED_FRAME_SHIFT,
            .length_bytes = MEMSCHED_PAGE_SIZE,
        };

        check(memsched_inflate(w->client, &range, 1, false, NULL) == 0,
              "inflate");
    }
}

static uint64_t pages_of(const World *w)
{
    return PAGES - (w->huge ? 0 : FRAMES);
}

static uint64_t look_over(World *w, bool take)
{
    uint64_t found = 0;

    w->capture.scan = &w->scan;
    w->capture.captured_pages = 0;
    for (uint64_t f = 0; f < FRAMES; f += MS_SCAN_FRAMES) {
        found += ms_scan_frames(&w->scan, w->region, f, MS_SCAN_FRAMES);
        if (take) {
            ms_capture_tags(&w->capture);
        }
        ms_scan_end(&w->scan);
    }
    return found;
}

/* Tag all pages that the guest has; the epoch is opened by hand. */
static MsEpoch *tag_all(World *w)
{
    MsApps *apps = w->client->apps;
    MsEpoch *epoch;
    MsTagKind kind;

    ms_lock(&apps->lock);
    epoch = ms_epochs_open(&apps->epochs, 1, key, PAGES, PAGES);
    check(epoch != NULL, "epoch");
    ms_epoch_tell(&apps->epochs, epoch, 0, PAGES);
    kind = epoch->kind;
    ms_unlock(&apps->lock);
    for (uint64_t p = 0; p < PAGES; p++) {
        if (w->huge || p % MEMSCHED_PAGES_PER_FRAME) {
            ms_tag_make(w->ram + (p << MEMSCHED_PAGE_SHIFT), &kind, p);
        }
    }
    return epoch;
}

static void release_all(World *w, uint16_t slot)
{
    for (uint64_t f = 0; f < FRAMES; f++) {
        MsPopulate p = {
            .region = w->region, .frame = f, .touched = MS_PAGESET_PAGES,
        };

        ms_lock(&w->region->lock);
        ms_tagged_select_locked(w->region, f, slot, 0, PAGES, &p.want);
        ms_unlock(&w->region->lock);
        ms_tagged_populate(&p, MS_TAGGED_BY_RELEASE, NULL);
    }
}

static void guest(const char *variant, bool huge, const char *mark)
{
    BenchTimes scan = { 0 }, capture = { 0 }, back = { 0 };
    World *w = world_new(huge);
    uint64_t bytes = pages_of(w) << MEMSCHED_PAGE_SHIFT;

    fill(w);
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t t0 = bench_now_ns();

        check(look_over(w, false) == 0, "a scan of pages without tags");
        bench_add(&scan, bench_now_ns() - t0);
    }
    bench_rate("tag-scan", variant, bytes, &scan, NULL, mark);

    for (unsigned r = 0; r < ROUNDS; r++) {
        MsEpoch *epoch = tag_all(w);
        uint64_t t0 = bench_now_ns(), t1;

        look_over(w, true);
        t1 = bench_now_ns();
        bench_add(&capture, t1 - t0);
        check(w->capture.captured_pages == pages_of(w), "capture of tags");
        if (r == 0) {
            double own = ms_tag_map_bytes(&w->region->tags) + PAGES +
                         PAGES + FRAMES * sizeof(MsFrame) + sizeof(MsApps) +
                         sizeof(MemSchedClient) + sizeof(MemSchedRegion);

            bench_value("tag-bookkeeping", variant, "% of RAM",
                        own * 100 / BYTES, "0.2");
        }
        t0 = bench_now_ns();
        release_all(w, epoch->slot);
        bench_add(&back, bench_now_ns() - t0);
        ms_lock(&w->client->apps->lock);
        ms_epoch_kill(&w->client->apps->epochs, epoch);
        ms_unlock(&w->client->apps->lock);
    }
    bench_rate("tag-capture", variant, bytes, &capture, NULL, NULL);
    bench_rate("tag-release", variant, bytes, &back, NULL, NULL);
    world_free(w);
}

int main(int argc, char **argv)
{
    bench_header();
    bench_pin(0);
    lines("4k", false, "200");
    lines("2m", true, "500");
    contents();
    guest("4k", false, "200");
    guest("2m", true, "500");
    return 0;
}
