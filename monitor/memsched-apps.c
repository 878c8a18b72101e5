/*
 * Balloon applications of a guest, from the scheduler's types to those of QAPI.
 *
 * Owns nothing.  Names come from a guest: the library has made them printable.
 * Keys and session numbers are never shown.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "memsched-internal.h"

static uint64_t ms_of_ns(uint64_t ns)
{
    return ns / SCALE_MS;
}

/* No overflow: the pages of 2^64 bytes are 2^52. */
static uint64_t bytes(uint64_t pages)
{
    return pages << MEMSCHED_PAGE_SHIFT;
}

/* The wire's numbers; the library passes on nothing else. */
static MemschedWant want_to_qapi(unsigned want)
{
    static const MemschedWant wants[] = {
        QAPI_MEMSCHED_WANT_UNSAID, QAPI_MEMSCHED_WANT_CACHE,
        QAPI_MEMSCHED_WANT_HEAP, QAPI_MEMSCHED_WANT_START,
        QAPI_MEMSCHED_WANT_PRESSURE,
    };

    return want < ARRAY_SIZE(wants) ? wants[want] : QAPI_MEMSCHED_WANT_UNSAID;
}

static MemschedCache *cache_to_qapi(const MemSchedAppInfo *from)
{
    MemschedCache *cache;

    if (from->stats_age_ns == UINT64_MAX) {
        return NULL;
    }
    cache = g_new0(MemschedCache, 1);
    cache->has_size = from->cache_bytes != UINT64_MAX;
    cache->size = cache->has_size ? from->cache_bytes : 0;
    cache->has_hits = from->cache_hits != UINT64_MAX;
    cache->hits = cache->has_hits ? from->cache_hits : 0;
    cache->has_misses = from->cache_misses != UINT64_MAX;
    cache->misses = cache->has_misses ? from->cache_misses : 0;
    cache->age = ms_of_ns(from->stats_age_ns);
    return cache;
}

static MemschedApplication *app_to_qapi(const MemSchedAppInfo *from)
{
    MemschedApplication *app = g_new0(MemschedApplication, 1);

    app->number = from->app;
    app->name = g_strdup(from->name);
    app->agent = from->agent;
    app->reserves = from->reserves;
    app->priority = from->priority;
    app->has_offer = from->offer_bytes != UINT64_MAX;
    app->offer = app->has_offer ? from->offer_bytes : 0;
    app->ordered = from->ordered_bytes;
    app->reserved = from->reserved_bytes;
    app->captured = from->captured_bytes;
    app->veto = from->veto_ms;
    app->cache = cache_to_qapi(from);
    return app;
}

static MemschedRequest *request_to_qapi(const MemSchedRequestInfo *from)
{
    MemschedRequest *request = g_new0(MemschedRequest, 1);

    request->application = from->app;
    request->name = from->name[0] ? g_strdup(from->name) : NULL;
    request->size = from->bytes;
    request->got = from->got_bytes;
    request->priority = from->priority;
    request->reason = want_to_qapi(from->want);
    request->age = ms_of_ns(from->age_ns);
    request->left = from->left_ms;
    return request;
}

bool memsched_tags_are_zero(const MemSchedTagCounters *tags)
{
    return !tags->scanned && !tags->found_by_scan && !tags->found_by_hint &&
        !tags->rejected && !tags->recaptured && !tags->returned_by_fault &&
        !tags->returned_by_release;
}

MemschedTags *memsched_tags_to_qapi(const MemSchedTagCounters *from)
{
    MemschedTags *tags = g_new0(MemschedTags, 1);

    tags->scanned = bytes(from->scanned);
    tags->scan_ns = from->scan_ns;
    tags->found_by_scan = bytes(from->found_by_scan);
    tags->found_by_hint = bytes(from->found_by_hint);
    tags->rejected = bytes(from->rejected);
    tags->recaptured = bytes(from->recaptured);
    tags->returned_by_fault = bytes(from->returned_by_fault);
    tags->returned_by_release = bytes(from->returned_by_release);
    return tags;
}

static MemschedTold *told_to_qapi(const MemSchedGuestCondition *from)
{
    MemschedTold *told;

    if (!from->generation) {
        return NULL;
    }
    told = g_new0(MemschedTold, 1);
    told->generation = from->generation;
    told->age = ms_of_ns(from->age_ns);
    told->condition = memsched_condition_to_qapi(from->condition);
    told->host = memsched_condition_to_qapi(from->host);
    told->pressure = from->pressure;
    told->entitlement = from->entitlement_bytes;
    told->target = from->target_bytes;
    told->allocated = from->allocated_bytes;
    told->reservable = from->reservable_bytes;
    return told;
}

MemschedApplications *memsched_apps_to_qapi(const MemSchedAppsInfo *from)
{
    MemschedApplications *apps = g_new0(MemschedApplications, 1);
    MemschedApplicationList **app = &apps->list;
    MemschedRequestList **request = &apps->requests;

    apps->connected = from->connected;
    apps->told = told_to_qapi(&from->condition);
    for (size_t i = 0; i < from->apps_count; i++) {
        QAPI_LIST_APPEND(app, app_to_qapi(&from->app[i]));
    }
    for (size_t i = 0; i < from->requests_count; i++) {
        QAPI_LIST_APPEND(request, request_to_qapi(&from->request[i]));
    }
    apps->known = from->known_bytes;
    apps->tags = memsched_tags_to_qapi(&from->counters);
    return apps;
}
