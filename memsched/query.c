/*
 * What is: queries, translation, and the check of all books
 *
 * Queries copy under one short lock after another and never wait for a guest;
 * the terms of one answer are therefore not of one moment.
 *
 * The check is of one moment for each part that it compares: a frame without a
 * page in C is compared with the kernel under its region's lock, under which no
 * page of it can come or go.  Sums over guests and the pool are compared when
 * nothing is in flight; while something is, they are taken again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "app.h"
#include "gpamap.h"
#include "held.h"
#include "instance.h"
#include "message.h"

#define BYTES(pages) ((uint64_t)(pages) << MEMSCHED_PAGE_SHIFT)

/* ---- the whole ---- */

static void query_counters(MemSched *ms, MemSchedInfo *info,
                           const MsPoolCounts *pool)
{
    MsStats *s = &ms->stats;

    info->captured_pages = ms_counter(&s->captured_pages);
    info->populated_pages = ms_counter(&s->populated_pages);
    info->moved_pages = ms_counter(&s->moved_pages);
    info->copied_pages = ms_counter(&s->copied_pages);
    info->discarded_pages = ms_counter(&s->discarded_pages);
    info->scrubbed_pages = pool->scrubbed_pages + pool->scrubbed_inline_pages;
    info->huge_moves = ms_counter(&s->huge_moves);
    info->split_frames = ms_counter(&s->split_frames) + pool->splits;
    info->faults = ms_counter(&s->fault.count);
    info->faults_stale = ms_counter(&s->faults_stale);
    info->faults_waited = ms_counter(&s->faults_waited);
    info->fault_ns_total = ms_counter(&s->fault.total_ns);
    info->fault_p50_ns = ms_histogram_quantile_ns(&s->fault, 500);
    info->fault_p99_ns = ms_histogram_quantile_ns(&s->fault, 990);
    info->fault_max_ns = ms_counter(&s->fault.max_ns);
    info->flushes = ms_counter(&s->flushes);
    info->busy_pages = ms_counter(&s->busy_pages);
    info->put_back_pages = ms_counter(&s->put_back_pages);
    info->refused_requests = ms_counter(&s->refused_requests);
}

static uint64_t transit_pages(MemSched *ms)
{
    MemSchedClient **clients;
    size_t count;
    uint64_t transit = 0;

    clients = ms_clients(ms, &count);
    for (size_t i = 0; i < count; i++) {
        MsClientPages pages;

        ms_client_pages(clients[i], &pages);
        transit += pages.count[MEMSCHED_PAGE_TRANSIT];
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    return transit;
}

void memsched_query(MemSched *ms, MemSchedInfo *ret_info)
{
    MemSchedInfo info = { .kernel = ms->kernel };
    MsPoolCounts pool;

    g_strlcpy(info.id, ms->id, sizeof(info.id));
    info.policy = atomic_load(&ms->policy);
    info.interval_ms = atomic_load(&ms->interval_ms);
    info.idle_tax_pct = atomic_load(&ms->idle_tax_pct);
    info.sample_ms = atomic_load(&ms->sample_ms);
    info.dry_run = atomic_load(&ms->dry_run);
    info.allow_inject = ms->allow_inject;
    info.fallback = ms->fallback;
    info.state = atomic_load(&ms->host_state);
    info.pressure = atomic_load(&ms->pressure);
    info.min_free_bytes = BYTES(ms->min_free_pages);

    ms_lock(&ms->clients_lock);
    info.clients = ms->clients_count;
    ms_unlock(&ms->clients_lock);

    ms_lock(&ms->ledger_lock);
    ms_pool_counts(ms->pool, &pool);
    info.pool_bytes = BYTES(ms->ledger.budget);
    info.allocated_bytes = BYTES(ms->ledger.allocated);
    info.parity_bytes = BYTES(ms->ledger.parity);
    info.held_bytes = BYTES(ms->ledger.held);
    info.claimed_bytes = BYTES(ms->ledger.claims);
    info.reserved_bytes = BYTES(ms->ledger.need);
    /*
     * The ledger's number, so that the terms add up at every moment; pages
     * that are granted but still on their way out of the pool are clean.
     */
    info.free_dirty_bytes = BYTES(MIN(pool.free_dirty_pages,
                                      ms->ledger.free));
    info.free_clean_bytes = BYTES(ms->ledger.free) - info.free_dirty_bytes;
    ms_unlock(&ms->ledger_lock);

    info.free_huge_bytes = pool.huge_free << MEMSCHED_FRAME_SHIFT;
    info.transit_bytes = BYTES(transit_pages(ms));
    query_counters(ms, &info, &pool);
    ms_held_query(ms->held, &info.held);
    *ret_info = info;
}

/* ---- one guest ---- */

static void query_account(MemSchedClient *client, MemSchedClientInfo *info)
{
    MemSched *ms = client->ms;

    ms_lock(&ms->ledger_lock);
    info->allocated_bytes = BYTES(client->account.allocated);
    info->claimed_bytes = BYTES(client->account.claim);
    ms_unlock(&ms->ledger_lock);
}

static void query_said(MemSchedClient *client, MemSchedClientInfo *info)
{
    uint64_t now = client->ms->sys->now_ns(client->ms->sys);

    ms_lock(&client->lock);
    info->min_bytes = client->min_bytes;
    info->max_bytes = client->max_bytes ? client->max_bytes
                                        : info->ram_bytes;
    info->shares = client->shares;
    info->attached = client->attached;
    info->running = client->running;
    info->inhibited = client->inhibited > 0;
    info->balloon_actual_bytes = client->balloon_actual_bytes;
    info->oom_deflates = client->oom_deflates;
    info->returned_pages = client->thrash.returned_pages;
    info->backoffs = client->thrash.backoffs;
    info->backoff_ns = ms_thrash_left_ns(&client->thrash, now);
    memcpy(info->stats, client->stats, sizeof(info->stats));
    info->stats_age_ns = client->stats_ns ? now - client->stats_ns
                                          : UINT64_MAX;
    ms_unlock(&client->lock);
}

/* Two witnesses of what it uses, side by side. */
static void query_usage(MemSchedClient *client, const MsClientPages *pages,
                        MemSchedClientInfo *info)
{
    const MsSys *sys = client->ms->sys;
    MsSampledFigure f;

    info->claimed_active_bytes = atomic_load(&client->claimed_bytes);
    info->sampled_out_bytes = BYTES(pages->sampled);
    if (ms_sampler_figure(client, sys->now_ns(sys), &f, &info->sampled_why)) {
        info->sampled_active_bytes = BYTES((info->allocated_bytes >>
                                            MEMSCHED_PAGE_SHIFT) *
                                           f.figure.active_permille / 1000);
        info->sampled_age_ns = f.age_ns;
        info->sampled_units = f.figure.units;
        info->sampled_fast_permille = f.figure.fast_permille;
        info->sampled_slow_permille = f.figure.slow_permille;
        info->sampled_after_ns = f.figure.after_ns;
    }
}

static void query_client(MemSchedClient *client, MemSchedClientInfo *ret_info)
{
    MemSchedClientInfo info = { 0 };
    MsStats *s = &client->stats_counters;
    MsClientPages pages;

    g_strlcpy(info.id, client->id, sizeof(info.id));
    info.ram_bytes = BYTES(atomic_load(&client->ram_pages));
    query_account(client, &info);
    query_said(client, &info);
    ms_client_pages(client, &pages);
    info.ballooned_kernel_bytes = BYTES(pages.count[MEMSCHED_PAGE_BALLOONED]);
    ms_lock(&client->apps->lock);
    info.ballooned_application_bytes = BYTES(client->apps->epochs.credited);
    ms_unlock(&client->apps->lock);
    info.ballooned_reported_bytes = BYTES(pages.count[MEMSCHED_PAGE_REPORTED]);
    info.given_bytes = BYTES(pages.count[MEMSCHED_PAGE_GIVEN]);
    info.huge_bytes = pages.huge_frames << MEMSCHED_FRAME_SHIFT;
    info.held_bytes = BYTES(pages.count[MEMSCHED_PAGE_HELD]);
    info.swapped_bytes = BYTES(pages.swapped);
    query_usage(client, &pages, &info);

    info.entitlement_bytes = atomic_load(&client->entitlement_bytes);
    info.target_bytes = atomic_load(&client->target_bytes);
    info.active_bytes = atomic_load(&client->active_bytes);
    info.idle_bytes = atomic_load(&client->idle_bytes);
    info.balloon_target_bytes = atomic_load(&client->balloon_target_bytes);
    info.condition = atomic_load(&client->condition);
    info.pressure = atomic_load(&client->pressure);
    info.stalled = atomic_load(&client->stalled);
    info.unresponsive = atomic_load(&client->unresponsive);
    info.responsiveness_bytes_per_s =
        atomic_load(&client->responsiveness_bytes_per_s);

    info.faults = ms_counter(&s->fault.count);
    info.fault_p50_ns = ms_histogram_quantile_ns(&s->fault, 500);
    info.fault_p99_ns = ms_histogram_quantile_ns(&s->fault, 990);
    info.fault_max_ns = ms_counter(&s->fault.max_ns);
    info.captured_pages = ms_counter(&s->captured_pages);
    info.populated_pages = ms_counter(&s->populated_pages);
    info.refused_pages = ms_counter(&s->refused_pages);
    *ret_info = info;
}

size_t memsched_query_clients(MemSched *ms, MemSchedClientInfo *ret_infos,
                              size_t max)
{
    MemSchedClient **clients;
    size_t count;

    clients = ms_clients(ms, &count);
    for (size_t i = 0; i < count; i++) {
        if (i < max) {
            query_client(clients[i], &ret_infos[i]);
        }
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    return count;
}

int memsched_query_client(MemSched *ms, const char *id,
                          MemSchedClientInfo *ret_info)
{
    MemSchedClient *client = ms_client_get(ms, id);

    if (client == NULL) {
        return -ENOENT;
    }
    query_client(client, ret_info);
    ms_client_unref(client);
    return 0;
}

/* ---- one address ---- */

static void translate_page(MemSchedRegion *region, uint64_t offset,
                           MemSchedTranslation *ret_translation)
{
    const MsPagemap *pagemap = ms_pool_pagemap(region->ms->pool);
    MemSchedTranslation t = { 0 };
    char *address = region->host + offset;
    uint64_t page = (uint64_t)(address - region->base) >> MEMSCHED_PAGE_SHIFT;
    MsFrame *frame = &region->pages.frame[page / MS_PAGESET_PAGES];

    g_strlcpy(t.region, region->name, sizeof(t.region));
    t.offset_bytes = offset;
    t.host_address = (uintptr_t)address;
    /* Under the lock, so that state and frame belong together. */
    ms_lock(&region->lock);
    ms_sample_recall_locked(region, page, 1);
    t.state = ms_pages_get(&region->pages, page);
    t.huge = frame->flags & MS_FRAME_HUGE;
    t.has_pfn = ms_pagemap_pfn(pagemap, address, &t.pfn) == 0;
    ms_unlock(&region->lock);
    *ret_translation = t;
}

int memsched_translate(MemSched *ms, const char *id, uint64_t gpa,
                       MemSchedTranslation *ret_translation,
                       MemSchedMessage *ret_message)
{
    MemSchedClient *client = ms_client_get(ms, id);
    MemSchedRegion *region;
    uint64_t offset;
    MsGpaMap *map;
    int ret = -EFAULT;

    if (client == NULL) {
        ms_say(ret_message, "there is no guest '%.*s'", MEMSCHED_ID_MAX, id);
        return -ENOENT;
    }
    map = ms_client_map(client);
    if (ms_gpamap_find(map, gpa, &region, &offset) &&
        ms_region_enter_locked(region)) {
        ms_unlock(&region->lock);
        translate_page(region, offset, ret_translation);
        ms_region_leave(region);
        ret = 0;
    } else {
        ms_say(ret_message, "guest '%s' has no RAM at address 0x%" PRIx64, id,
               gpa);
    }
    ms_gpamap_unref(map);
    ms_client_unref(client);
    return ret;
}
