/*
 * Pages in state S: kept by the host, compressed or in the swap file
 *
 * Owns the place where they are kept and the way back.  A page is kept once, by
 * one reference in its region's map, which is set and cleared while the
 * region's lock is held, together with the page's state.
 *
 * Back: the page goes to C with its reference still in the map; its content is
 * made in a page of the pool, compared with its checksum, and moved in; only
 * then is the reference dropped.  So a refusal on the way costs nothing.
 *
 * A page that cannot be read back is lost, as by a memory error without cover:
 * its guest is told (a machine check, or it stops) before it can see the zeros
 * that stand there instead.  Nobody else is concerned.
 *
 * Memory.  The store's pages come out of the pool and are the ledger's term
 * `held`.  RESERVE_PAGES of them are had from the start: when the pool is empty
 * the first batch must find room, and frees the pages for the next.
 *
 * Threads: any.  Locks: the region's, then the store's, the file's or
 * held->lock (leaf); the ledger's where pages of the pool change hands.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "held.h"
#include "instance.h"
#include "parity.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        MEMSCHED_PAGE_SIZE

/* More than a batch of 32 pages needs, each at its longest. */
#define RESERVE_PAGES 32u
/* A page that gets no shorter is not worth the two copies: 3/4. */
#define MOST_BYTES    3072u
#define SECOND_NS     UINT64_C(1000000000)

/* ---- the place ---- */

int ms_held_new(MemSched *ms, uint64_t held_bytes, const char *swap_path,
                uint64_t swap_bytes, MsHeld **ret_held,
                MemSchedMessage *ret_message)
{
    MsHeld *held = g_new0(MsHeld, 1);
    uint64_t pages;
    int ret = 0;

    held->ms = ms;
    held->most_pages = held_bytes >> MEMSCHED_PAGE_SHIFT;
    held->store = ms_store_new();
    ms_lock_init(&held->lock, MS_RANK_LEAF);
    if (swap_path) {
        ret = ms_swapfile_open(ms->sys, swap_path, swap_bytes, &held->swap,
                               ret_message);
    }
    if (ret < 0) {
        ms_held_free(held);
        return ret;
    }
    ms_lock(&ms->ledger_lock);
    pages = ms_ledger_hold(&ms->ledger, ms_held_wish(held));
    ms_unlock(&ms->ledger_lock);
    ms_held_grow(held, pages);
    *ret_held = held;
    return 0;
}

static void release_pages(MsHeld *held, uint64_t keep_cells)
{
    MemSched *ms = held->ms;
    bool any = false;
    MsPageSet none;
    MsPoolRun run;

    ms_pageset_clear(&none);
    while (ms_store_take_page(held->store, keep_cells, &run)) {
        ms_lock(&ms->ledger_lock);
        ms_pool_take_end(ms->pool, &run, &none, true);
        ms_ledger_unhold(&ms->ledger, 1);
        ms_unlock(&ms->ledger_lock);
        any = true;
    }
    if (any) {
        ms_ledger_rose(ms);
    }
}

void ms_held_free(MsHeld *held)
{
    if (held == NULL) {
        return;
    }
    release_pages(held, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(held->spare); i++) {
        ms_pack_free(held->spare[i]);
    }
    ms_swapfile_close(held->swap);
    ms_store_free(held->store);
    ms_lock_destroy(&held->lock);
    g_free(held);
}

uint64_t ms_held_wish(MsHeld *held)
{
    MsStoreCounts counts;
    uint64_t have, room;

    ms_store_counts(held->store, &counts);
    have = counts.free_cells / MS_STORE_CELLS;
    room = held->most_pages > counts.pages ? held->most_pages - counts.pages
                                           : 0;
    return MIN(have < RESERVE_PAGES ? RESERVE_PAGES - have : 0, room);
}

bool ms_held_is_full(MsHeld *held)
{
    MsSwapfileCounts file = { 0 };
    const MsSys *sys = held->ms->sys;
    MsStoreCounts counts;

    ms_store_counts(held->store, &counts);
    if (held->swap) {
        ms_swapfile_counts(held->swap, &file);
    }
    return counts.free_cells < MS_STORE_CELLS &&
           counts.pages >= held->most_pages &&
           (file.used_pages == file.pages ||
            sys->now_ns(sys) < atomic_load(&held->swap_rest_ns));
}

void ms_held_grow(MsHeld *held, uint64_t pages)
{
    MemSched *ms = held->ms;
    MsPoolRun run;

    while (pages > 0 && ms_pool_take(ms->pool, 1, MS_POOL_DIRTY, &run) == 0) {
        ms_store_add_page(held->store, &run);
        pages--;
    }
    if (pages > 0) {
        ms_lock(&ms->ledger_lock);
        ms_ledger_unhold(&ms->ledger, pages);
        ms_unlock(&ms->ledger_lock);
    }
}

void ms_held_trim(MsHeld *held)
{
    release_pages(held, RESERVE_PAGES * MS_STORE_CELLS);
}

MsPack *ms_held_pack_get(MsHeld *held)
{
    MsPack *pack = NULL;

    ms_lock(&held->lock);
    for (unsigned i = 0; i < G_N_ELEMENTS(held->spare) && !pack; i++) {
        pack = held->spare[i];
        held->spare[i] = NULL;
    }
    ms_unlock(&held->lock);
    return pack ? pack : ms_pack_new();
}

void ms_held_pack_put(MsHeld *held, MsPack *pack)
{
    ms_lock(&held->lock);
    for (unsigned i = 0; i < G_N_ELEMENTS(held->spare) && pack; i++) {
        if (held->spare[i] == NULL) {
            held->spare[i] = pack;
            pack = NULL;
        }
    }
    ms_unlock(&held->lock);
    ms_pack_free(pack);
}

/* ---- in ---- */

int ms_held_keep(MsHeld *held, MsPack *pack, const void *arena,
                 MsHeldRef *ret_ref)
{
    uint8_t data[MOST_BYTES];
    unsigned bytes;

    if (held->most_pages == 0) {
        return -ENOSPC;
    }
    bytes = ms_pack(pack, arena, data, sizeof(data));
    ret_ref->swapped = false;
    return bytes == 0 ? -ENOSPC
           : ms_store_put(held->store, data, bytes,
                          ms_parity_best()->sum(arena, PAGE),
                          &ret_ref->number);
}

void ms_held_drop(MsHeld *held, MsHeldRef ref)
{
    if (ref.swapped) {
        ms_swapfile_release(held->swap, ref.number, 1);
    } else {
        ms_store_drop(held->store, ref.number);
    }
}

/* ---- forgotten ---- */

static void forget_run(MemSchedRegion *region, uint64_t first, uint64_t count)
{
    MsHeld *held = region->ms->held;

    for (uint64_t p = first; p < first + count; p++) {
        ms_held_drop(held, ms_held_map_get(&region->held, p));
        ms_held_map_clear(&region->held, p);
    }
    ms_count(&held->dropped_pages, count);
}

void ms_held_forget_locked(MemSchedRegion *region, uint64_t first,
                           uint64_t count)
{
    uint64_t end = first + count, run, n;

    if (region->pages.count[MEMSCHED_PAGE_HELD] == 0) {
        return;
    }
    while (ms_pages_next(&region->pages, first, end, MS_STATE_BIT(HELD), &run,
                         &n)) {
        forget_run(region, run, n);
        first = run + n;
    }
}

void ms_held_forget_region(MemSchedRegion *region)
{
    uint64_t end = region->pages.end, run, n;

    if (region->ms->held == NULL) {
        return;
    }
    ms_lock(&region->lock);
    for (uint64_t at = 0; ms_pages_next(&region->pages, at, end,
                                        MS_STATE_BIT(HELD), &run, &n);
         at = run + n) {
        forget_run(region, run, n);
        ms_pages_change(&region->pages, MS_PAGE_SYSTEM_RESET, run, n,
                        MEMSCHED_PAGE_HOLE);
    }
    ms_unlock(&region->lock);
    ms_held_trim(region->ms->held);
}

/* ---- back ---- */

typedef struct Content {
    MemSchedRegion *region;
    MsHeld *held;
    MsPack *pack;
    uint64_t frame, since_ns;
    unsigned touched;
    MsHeldRef ref[FRAME_PAGES];
    MsPageSet lost;
    unsigned stored, swapped;   /* pages that are back */
} Content;

static void content_begin_locked(void *opaque, uint64_t frame,
                                 const MsPageSet *take)
{
    Content *c = opaque;
    unsigned first, count;

    c->frame = frame;
    for (unsigned p = 0; ms_pageset_run(take, p, &first, &count);
         p = first + count) {
        for (unsigned i = first; i < first + count; i++) {
            c->ref[i] = ms_held_map_get(&c->region->held,
                                        frame * FRAME_PAGES + i);
        }
    }
}

static int from_store(Content *c, uint32_t object, char *arena)
{
    uint8_t data[MS_STORE_OBJECT_BYTES];
    uint64_t sum;
    unsigned bytes = ms_store_get(c->held->store, object, data, &sum);

    if (ms_unpack(c->pack, data, bytes, arena) < 0 ||
        ms_parity_best()->sum(arena, PAGE) != sum) {
        return -EBADMSG;
    }
    return 0;
}

/* Not into the arena: a page there must not be pinned. */
static int from_swap(Content *c, uint32_t number, char *arena)
{
    char *buf = aligned_alloc(MS_SWAPFILE_ALIGN, PAGE);
    int ret = buf ? ms_swapfile_read(c->held->swap, number, buf) : -ENOMEM;

    if (ret == 0) {
        memcpy(arena, buf, PAGE);
    }
    free(buf);
    return ret;
}

static void content_write(void *opaque, char *arena, unsigned page,
                          unsigned count)
{
    Content *c = opaque;

    for (unsigned i = 0; i < count; i++, arena += PAGE) {
        MsHeldRef ref = c->ref[page + i];
        int ret = ref.swapped ? from_swap(c, ref.number, arena)
                              : from_store(c, ref.number, arena);

        if (ret < 0) {
            /* Told before it is there: nobody takes zeros for the content. */
            memset(arena, 0, PAGE);
            ms_pageset_add(&c->lost, page + i, 1);
            ms_repair_tell_lost(c->region, c->frame * FRAME_PAGES + page + i,
                                c->since_ns);
        }
    }
}

static void content_end_locked(void *opaque, uint64_t frame,
                               const MsPageSet *in)
{
    Content *c = opaque;
    MemSched *ms = c->region->ms;
    unsigned first, count;

    for (unsigned p = 0; ms_pageset_run(in, p, &first, &count);
         p = first + count) {
        for (unsigned i = first; i < first + count; i++) {
            ms_held_drop(c->held, c->ref[i]);
            ms_held_map_clear(&c->region->held, frame * FRAME_PAGES + i);
            c->swapped += c->ref[i].swapped;
            c->stored += !c->ref[i].swapped;
        }
    }
    if (c->touched < FRAME_PAGES && ms_pageset_has(in, c->touched)) {
        ms_held_map_came_back(&c->region->held,
                              frame * FRAME_PAGES + c->touched,
                              ms->sys->now_ns(ms->sys) / SECOND_NS);
    }
}

static void content_lost(void *opaque, MsPageSet *ret_lost)
{
    Content *c = opaque;

    *ret_lost = c->lost;
}

static const MsPopulateContent content = {
    .begin_locked = content_begin_locked, .write = content_write,
    .end_locked = content_end_locked, .lost = content_lost,
    .state = MEMSCHED_PAGE_HELD, .whole = true,
};

uint64_t ms_held_populate(MsPopulate *populate, uint64_t since_ns,
                          bool *ret_touched)
{
    MemSched *ms = populate->region->ms;
    MsHeld *held = ms->held;
    uint64_t pages, took_ns;
    Content c;

    c.region = populate->region;
    c.held = held;
    c.pack = ms_held_pack_get(held);
    c.since_ns = since_ns;
    c.touched = populate->touched;
    c.stored = 0;
    c.swapped = 0;
    ms_pageset_clear(&c.lost);
    populate->mask = MS_STATE_BIT(HELD);
    populate->content = &content;
    populate->content_opaque = &c;
    pages = ms_populate_frame(populate, ret_touched);
    ms_held_pack_put(held, c.pack);
    if (pages > 0) {
        took_ns = ms->sys->now_ns(ms->sys) - since_ns;
        ms_histogram_add(c.swapped ? &held->read : &held->back, took_ns);
        ms_count(&held->back_pages, c.stored);
        ms_count(&held->read_pages, c.swapped);
        ms_count(&held->lost_pages, ms_pageset_count(&c.lost));
        ms_held_trim(held);
    }
    return pages;
}

/* ---- numbers ---- */

static void query_store(MsHeld *held, MemSchedHeldInfo *info)
{
    MsStoreCounts counts;

    ms_store_counts(held->store, &counts);
    info->store_bytes = counts.pages << MEMSCHED_PAGE_SHIFT;
    info->store_most_bytes = held->most_pages << MEMSCHED_PAGE_SHIFT;
    info->stored_pages = counts.objects;
    info->compressed_bytes = counts.bytes;
}

static void query_swap(MsHeld *held, MemSchedHeldInfo *info)
{
    MsSwapfileCounts counts;

    if (held->swap) {
        ms_swapfile_counts(held->swap, &counts);
        info->swap_bytes = counts.pages << MEMSCHED_PAGE_SHIFT;
        info->swapped_pages = counts.used_pages;
        info->write_errors = counts.write_errors;
        info->read_errors = counts.read_errors;
    }
}

void ms_held_query(MsHeld *held, MemSchedHeldInfo *ret_info)
{
    MemSchedHeldInfo info = { .configured = held != NULL };

    if (held) {
        query_store(held, &info);
        query_swap(held, &info);
        info.zero_pages = ms_counter(&held->zero_pages);
        info.out_pages = ms_counter(&held->stored_pages) +
                         ms_counter(&held->swapped_pages) + info.zero_pages;
        info.refused_pages = ms_counter(&held->refused_pages);
        info.back_pages = ms_counter(&held->back_pages);
        info.read_pages = ms_counter(&held->read_pages);
        info.lost_pages = ms_counter(&held->lost_pages);
        info.back = ms_counter(&held->back.count);
        info.back_p50_ns = ms_histogram_quantile_ns(&held->back, 500);
        info.back_p99_ns = ms_histogram_quantile_ns(&held->back, 990);
        info.back_max_ns = ms_counter(&held->back.max_ns);
        info.read = ms_counter(&held->read.count);
        info.read_p50_ns = ms_histogram_quantile_ns(&held->read, 500);
        info.read_p99_ns = ms_histogram_quantile_ns(&held->read, 990);
        info.read_max_ns = ms_counter(&held->read.max_ns);
    }
    *ret_info = info;
}

/* ---- check ---- */

static const char *check_region(MemSchedRegion *region, uint64_t *stored,
                                uint64_t *swapped)
{
    MsHeldMap *map = &region->held;
    const char *wrong = NULL;

    ms_lock(&region->lock);
    if (ms_region_transit_locked(region) > 0) {
        wrong = "";
    } else if (region->pages.count[MEMSCHED_PAGE_HELD] != map->pages) {
        wrong = "pages in state S and their records differ in number";
    }
    *stored += map->pages - map->swapped_pages;
    *swapped += map->swapped_pages;
    ms_unlock(&region->lock);
    return wrong;
}

static const char *check_client(MemSchedClient *client, uint64_t *stored,
                                uint64_t *swapped)
{
    const char *wrong = NULL;
    MemSchedRegion **regions;
    size_t count;

    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        wrong = wrong ? wrong : check_region(regions[i], stored, swapped);
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return wrong;
}

const char *ms_held_check(MsHeld *held)
{
    MsSwapfileCounts file = { 0 };
    uint64_t stored = 0, swapped = 0;
    const char *wrong = NULL;
    MemSchedClient **clients;
    MsStoreCounts store;
    uint64_t charged;
    size_t count;

    clients = ms_clients(held->ms, &count);
    for (size_t i = 0; i < count; i++) {
        wrong = wrong ? wrong : check_client(clients[i], &stored, &swapped);
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    ms_lock(&held->ms->ledger_lock);
    charged = held->ms->ledger.held;
    ms_unlock(&held->ms->ledger_lock);
    ms_store_counts(held->store, &store);
    if (held->swap) {
        ms_swapfile_counts(held->swap, &file);
    }
    wrong = wrong ? wrong : ms_store_check(held->store);
    if (!wrong && held->swap) {
        wrong = ms_swapfile_check(held->swap);
    }
    if (!wrong && (stored != store.objects || swapped != file.used_pages)) {
        wrong = "what is held differs from the records of it";
    }
    if (!wrong && charged != store.pages) {
        wrong = "the ledger's held pages are not those of the store";
    }
    return wrong;
}
