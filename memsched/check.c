/*
 * The check of all books, from the bottom
 *
 * Three levels, each against the one below: page states against the kernel,
 * accounts against page states, the ledger and the pool against the accounts.
 *
 * A frame without a page in C is compared with the kernel under its region's
 * lock, under which no page of it can come or go.  Sums are compared when
 * nothing is in flight; while something is, they are taken again, for up to
 * SETTLE_NS.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdarg.h>

#include "held.h"
#include "instance.h"
#include "message.h"
#include "tagged.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* Frames that are compared under one lock: 0.1 ms. */
#define CHUNK_FRAMES 16u
#define SETTLE_NS    UINT64_C(2000000000)

static int G_GNUC_PRINTF(2, 3) wrong(MemSchedMessage *message,
                                     const char *format, ...)
{
    va_list args;

    va_start(args, format);
    ms_say_va(message, format, args);
    va_end(args);
    return -EUCLEAN;
}

/* ---- states against the kernel ---- */

/* A broken page is charged for, though its frame is no more. */
static uint64_t broken_pages_locked(MemSchedRegion *region, uint64_t f)
{
    const MsPagemap *pagemap = ms_pool_pagemap(region->ms->pool);
    MsPageSet held, frames;
    unsigned page, count;
    uint64_t broken = 0;

    ms_pages_select(&region->pages, f * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(RESIDENT) | MS_STATE_BIT(GIVEN) |
                    MS_STATE_BIT(POISONED), &held);
    if (ms_pagemap_frame(pagemap, ms_region_address(region, f * FRAME_PAGES),
                         &frames) < 0) {
        return 0;
    }
    ms_pageset_subtract(&held, &frames);
    for (unsigned p = 0; ms_pageset_run(&held, p, &page, &count);
         p = page + 1) {
        broken += ms_pagemap_is_hole(pagemap, ms_region_address(
                                     region, f * FRAME_PAGES + page)) == 0;
    }
    return broken;
}

static int check_frame_locked(MemSchedRegion *region, uint64_t f,
                              MemSchedMessage *ret_message)
{
    MsPages *pages = &region->pages;
    const MsFrame *frame = &pages->frame[f];
    const MsPagemap *pagemap = ms_pool_pagemap(region->ms->pool);
    uint64_t first = MAX(f * FRAME_PAGES, pages->lead);
    uint64_t end = MIN((f + 1) * FRAME_PAGES, pages->end);
    char *address = ms_region_address(region, first);
    MsPagemapCount count;
    uint64_t there;
    int ret;

    if (frame->transit > 0) {
        return 0;
    }
    ret = ms_pagemap_count(pagemap, address, end - first, &count);
    if (ret < 0) {
        /* No PAGEMAP_SCAN: the kernel cannot be asked. */
        return ret == -ENOTTY ? 0 : ret;
    }
    there = count.present_pages + count.swapped_pages;
    if (there < frame->resident && count.zero_pages == 0) {
        there += broken_pages_locked(region, f);
    }
    if (there != frame->resident) {
        return wrong(ret_message, "guest '%s', %s, frame at offset 0x%" PRIx64
                     ": %u pages are resident by our map, %" PRIu64
                     " by the kernel's", region->client->id, region->name,
                     (uint64_t)(address - region->host), frame->resident,
                     there);
    }
    if (count.zero_pages > 0) {
        return wrong(ret_message, "guest '%s', %s, frame at offset 0x%" PRIx64
                     ": %" PRIu64 " zero pages of the kernel",
                     region->client->id, region->name,
                     (uint64_t)(address - region->host), count.zero_pages);
    }
    if ((frame->flags & MS_FRAME_HUGE) && count.huge_pages != FRAME_PAGES) {
        return wrong(ret_message, "guest '%s', %s, frame at offset 0x%" PRIx64
                     " is no huge page any more", region->client->id,
                     region->name, (uint64_t)(address - region->host));
    }
    return 0;
}

static int check_region(MemSchedRegion *region, MemSchedMessage *ret_message)
{
    const char *what;
    int ret = 0;

    if (!ms_region_enter_locked(region)) {
        return 0;
    }
    what = ms_pages_check(&region->pages);
    ms_unlock(&region->lock);
    what = what ? what : ms_sample_check(region);
    if (what) {
        ret = wrong(ret_message, "guest '%s', %s: %s", region->client->id,
                    region->name, what);
    }
    for (uint64_t f = 0; f < region->pages.frames && ret == 0;
         f += CHUNK_FRAMES) {
        uint64_t end = MIN(f + CHUNK_FRAMES, region->pages.frames);

        ms_lock(&region->lock);
        for (uint64_t i = f; i < end && ret == 0; i++) {
            ret = check_frame_locked(region, i, ret_message);
        }
        ms_unlock(&region->lock);
    }
    ms_region_leave(region);
    return ret;
}

static int check_regions(MemSchedClient *client, MemSchedMessage *ret_message)
{
    MemSchedRegion **regions;
    size_t count;
    int ret = 0;

    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        if (ret == 0) {
            ret = check_region(regions[i], ret_message);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return ret;
}

/* ---- accounts against states ---- */

static int check_account(MemSchedClient *client, MemSchedMessage *ret_message)
{
    MemSched *ms = client->ms;
    MsClientPages pages;
    uint64_t resident, before, after;

    ms_lock(&ms->ledger_lock);
    before = client->account.allocated;
    ms_unlock(&ms->ledger_lock);
    ms_client_pages(client, &pages);
    ms_lock(&ms->ledger_lock);
    after = client->account.allocated;
    ms_unlock(&ms->ledger_lock);

    resident = pages.count[MEMSCHED_PAGE_RESIDENT] +
               pages.count[MEMSCHED_PAGE_GIVEN] +
               pages.count[MEMSCHED_PAGE_POISONED] +
               pages.count[MEMSCHED_PAGE_LOST];
    if (pages.count[MEMSCHED_PAGE_TRANSIT] > 0 || before != after) {
        return wrong(ret_message, "guest '%s': pages are in transit for more"
                     " than 2 s", client->id);
    }
    if (resident != after) {
        return wrong(ret_message, "guest '%s' holds %" PRIu64 " pages, but is"
                     " charged for %" PRIu64, client->id, resident, after);
    }
    return 0;
}

/* ---- ledger and pool against accounts ---- */

static int check_ledger(MemSched *ms, MemSchedMessage *ret_message)
{
    const MsAccount **accounts;
    MsPoolCounts pool;
    const char *what;
    uint64_t free_pages;

    ms_lock(&ms->ledger_lock);
    ms_lock(&ms->clients_lock);
    accounts = g_new(const MsAccount *, ms->clients_count + 1);
    for (size_t i = 0; i < ms->clients_count; i++) {
        accounts[i] = &ms->clients[i]->account;
    }
    what = ms_ledger_check(&ms->ledger, accounts, ms->clients_count);
    ms_unlock(&ms->clients_lock);
    ms_pool_counts(ms->pool, &pool);
    free_pages = ms->ledger.free;
    ms_unlock(&ms->ledger_lock);
    g_free(accounts);

    if (what) {
        return wrong(ret_message, "ledger: %s", what);
    }
    if (pool.free_clean_pages + pool.free_dirty_pages != free_pages) {
        return wrong(ret_message, "the pool has %" PRIu64 " free pages, the"
                     " ledger %" PRIu64, pool.free_clean_pages +
                     pool.free_dirty_pages, free_pages);
    }
    return 0;
}

static int check_tags(MemSchedClient *client, MemSchedMessage *ret_message)
{
    const char *what = ms_tagged_check(client);

    if (what && what[0] == '\0') {
        what = "pages are in transit for more than 2 s";
    }
    return what ? wrong(ret_message, "guest '%s': %s", client->id, what) : 0;
}

static int check_held(MemSched *ms, MemSchedMessage *ret_message)
{
    const char *what = ms->held ? ms_held_check(ms->held) : NULL;

    if (what && what[0] == '\0') {
        what = "pages are in transit for more than 2 s";
    }
    return what ? wrong(ret_message, "%s", what) : 0;
}

static int check_sums(MemSched *ms, MemSchedClient **clients, size_t count,
                      MemSchedMessage *ret_message)
{
    uint64_t start = ms->sys->now_ns(ms->sys);
    int ret;

    for (;;) {
        ret = check_ledger(ms, ret_message);
        for (size_t i = 0; i < count && ret == 0; i++) {
            ret = check_account(clients[i], ret_message);
            if (ret == 0) {
                ret = check_tags(clients[i], ret_message);
            }
        }
        ret = ret ? ret : check_held(ms, ret_message);
        if (ret == 0 || ms->sys->now_ns(ms->sys) - start > SETTLE_NS) {
            return ret;
        }
        ms->sys->sleep_ns(ms->sys, 1000000);
    }
}

int memsched_check(MemSched *ms, MemSchedMessage *ret_message)
{
    MemSchedClient **clients;
    size_t count;
    int ret = 0;

    clients = ms_clients(ms, &count);
    for (size_t i = 0; i < count && ret == 0; i++) {
        ret = check_regions(clients[i], ret_message);
    }
    if (ret == 0) {
        ret = check_sums(ms, clients, count, ret_message);
    }
    for (size_t i = 0; i < count; i++) {
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    return ret == 0 ? ms_pool_check(ms->pool, ret_message) : ret;
}
