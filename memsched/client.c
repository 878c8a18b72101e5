/*
 * One guest, as the scheduler sees it
 *
 * Owns the record of a guest: its userfaultfd, its account, the list of its
 * regions, its address map, and the callbacks of its balloon.  (The queue of
 * its touches that the grant rule refused: waiters.c.)
 *
 * Lifetime.  A client lives until memsched_client_free(), which removes it from
 * the list, waits until no fault thread looks at its userfaultfd, and closes
 * that.  The struct stays until the last reference (a query, the mover, the
 * scheduler's thread in the middle of a walk) goes.
 *
 * Locks.  client->lock is a leaf.  Admission takes the ledger's lock and then
 * the list's.  Nothing here waits with one of them held but on client->cond,
 * which gives client->lock up.
 *
 * It does not decide anything: see scheduler.c.  It moves no page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "app.h"
#include "client.h"
#include "gpamap.h"
#include "instance.h"
#include "message.h"
#include "tagger.h"

/* 4 MiB: what an agent touches while it clears and tags one batch. */
#define ALLOWANCE_PAGES 1024u
#define DEFAULT_SHARES  1000u

#define MAX_MIB(bytes) ((bytes) >> 20)

static uint64_t pages_up(uint64_t bytes)
{
    /* No overflow: the remainder is added after the shift. */
    return (bytes >> MEMSCHED_PAGE_SHIFT) +
           (bytes % MEMSCHED_PAGE_SIZE != 0);
}

MemSchedClient *ms_client_ref(MemSchedClient *client)
{
    atomic_fetch_add(&client->refs, 1);
    return client;
}

void ms_client_unref(MemSchedClient *client)
{
    if (atomic_fetch_sub(&client->refs, 1) != 1) {
        return;
    }
    ms_uffd_close(&client->uffd);
    ms_apps_free(client->apps);
    ms_gpamap_unref(client->map);
    g_free(client->regions);
    g_free(client->waiters);
    g_free(client->sched);
    ms_cond_destroy(&client->cond);
    ms_lock_destroy(&client->lock);
    g_free(client);
}

/* ---- admission ---- */

static MemSchedClient *find_locked(MemSched *ms, const char *id)
{
    for (size_t i = 0; i < ms->clients_count; i++) {
        if (strcmp(ms->clients[i]->id, id) == 0) {
            return ms->clients[i];
        }
    }
    return NULL;
}

/* Into the ledger and the list, in one moment. */
static int admit(MemSched *ms, MemSchedClient *client,
                 MemSchedMessage *ret_message)
{
    uint64_t min = pages_up(client->min_bytes);
    uint64_t max = client->max_bytes ? pages_up(client->max_bytes)
                                     : UINT64_MAX;
    uint64_t slack;
    int ret;

    ms_lock(&ms->ledger_lock);
    ms_lock(&ms->clients_lock);
    slack = ms_ledger_slack(&ms->ledger);
    if (find_locked(ms, client->id)) {
        ms_say(ret_message, "a guest '%s' exists already", client->id);
        ret = -EEXIST;
    } else {
        ret = ms_ledger_admit(&ms->ledger, &client->account, min, max,
                              ALLOWANCE_PAGES);
    }
    if (ret == -ENOSPC) {
        ms_say(ret_message, "guest '%s' wants a guaranteed minimum of %" PRIu64
               " MiB, but only %" PRIu64 " MiB of the pool are not promised"
               " yet: give it less, or the pool more", client->id,
               MAX_MIB(client->min_bytes), slack >> 8);
    }
    if (ret == 0) {
        if (ms->clients_count == ms->clients_size) {
            ms->clients_size = ms->clients_size ? ms->clients_size * 2 : 16;
            ms->clients = g_renew(MemSchedClient *, ms->clients,
                                  ms->clients_size);
        }
        ms->clients[ms->clients_count++] = client;
    }
    ms_unlock(&ms->clients_lock);
    ms_unlock(&ms->ledger_lock);
    return ret;
}

static int check_options(const MemSchedClientOptions *options,
                         MemSchedMessage *ret_message)
{
    size_t length = options->id ? strlen(options->id) : 0;

    if (length == 0 || length >= MEMSCHED_ID_MAX) {
        ms_say(ret_message, "a guest's id has 1 to %d bytes",
               MEMSCHED_ID_MAX - 1);
        return -EINVAL;
    }
    if (options->max_bytes && options->min_bytes > options->max_bytes) {
        ms_say(ret_message, "min of guest '%s' is above its max", options->id);
        return -EINVAL;
    }
    return 0;
}

int memsched_client_new(MemSched *ms, const MemSchedClientOptions *options,
                        MemSchedClient **ret_client,
                        MemSchedMessage *ret_message)
{
    unsigned features = MS_UFFD_THREAD_ID | MS_UFFD_EXACT;
    MemSchedClient *client;
    int ret = check_options(options, ret_message);

    if (ret < 0) {
        return ret;
    }
    client = g_new0(MemSchedClient, 1);
    client->ms = ms;
    g_strlcpy(client->id, options->id, sizeof(client->id));
    client->min_bytes = options->min_bytes;
    client->max_bytes = options->max_bytes;
    client->shares = options->shares ? options->shares : DEFAULT_SHARES;
    client->running = true;
    memset(client->stats, 0xff, sizeof(client->stats));
    ms_thrash_init(&client->thrash, ms->sys->now_ns(ms->sys));
    atomic_init(&client->refs, 1);
    atomic_init(&client->claimed_bytes, UINT64_MAX);
    ms_lock_init(&client->lock, MS_RANK_LEAF);
    ms_cond_init(&client->cond);
    client->apps = ms_apps_new(client);
    client->uffd.fd = -1;

    features |= ms->kernel.move ? MS_UFFD_MOVE : 0;
    features |= ms->kernel.poison ? MS_UFFD_POISON : 0;
    features |= ms->kernel.write_protect ? MS_UFFD_WP : 0;
    ret = ms_uffd_open(&client->uffd, ms->sys, features);
    if (ret < 0) {
        ms_say(ret_message, "no userfaultfd for guest '%s': %s", client->id,
               g_strerror(-ret));
        goto fail;
    }
    ret = admit(ms, client, ret_message);
    if (ret < 0) {
        goto fail;
    }
    ms_faults_clients_changed(ms->faults, false);
    *ret_client = client;
    return 0;

fail:
    ms_client_unref(client);
    return ret;
}

/*
 * Who detaches while somebody else does so waits as well: for both of them no
 * callback may run afterwards.
 */
static void detach_locked(MemSchedClient *client)
{
    client->attached = false;
    while (client->callbacks > 0) {
        ms_cond_wait(&client->cond, &client->lock);
    }
    if (!client->attached) {
        client->ops = (MemSchedClientOps) { 0 };
        client->ops_opaque = NULL;
    }
}

static void leave(MemSched *ms, MemSchedClient *client)
{
    ms_lock(&ms->ledger_lock);
    ms_lock(&ms->clients_lock);
    for (size_t i = 0; i < ms->clients_count; i++) {
        if (ms->clients[i] == client) {
            ms->clients_count--;
            memmove(&ms->clients[i], &ms->clients[i + 1],
                    (ms->clients_count - i) * sizeof(ms->clients[0]));
            break;
        }
    }
    ms_unlock(&ms->clients_lock);
    ms_ledger_leave(&ms->ledger, &client->account);
    ms_unlock(&ms->ledger_lock);
}

void memsched_client_free(MemSchedClient *client)
{
    MemSched *ms;
    MemSchedRegion **regions;
    size_t count;

    if (client == NULL) {
        return;
    }
    ms = client->ms;
    memsched_client_set_machine(client, NULL, NULL);
    ms_lock(&client->lock);
    detach_locked(client);
    ms_unlock(&client->lock);
    ms_apps_end(client->apps);
    ms_lock(&ms->ledger_lock);
    if (ms->hooks && ms->hooks->client_gone) {
        ms->hooks->client_gone(ms, client);
    }
    ms_unlock(&ms->ledger_lock);

    ms_refills_abandon(client);
    ms_protect_client_gone(client);
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        memsched_region_free(regions[i]);
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    ms_disks_end(client);

    leave(ms, client);
    ms_faults_clients_changed(ms->faults, true);
    ms_uffd_close(&client->uffd);
    ms_ledger_rose(ms);
    ms_client_unref(client);
}

/* ---- limits ---- */

int ms_client_set_limits(MemSchedClient *client, uint64_t min_bytes,
                         uint64_t max_bytes)
{
    MemSched *ms = client->ms;
    uint64_t min = pages_up(min_bytes);
    uint64_t max = max_bytes ? pages_up(max_bytes)
                             : MAX(min, atomic_load(&client->ram_pages));
    int ret;

    ms_lock(&ms->ledger_lock);
    ret = ms_ledger_set_limits(&ms->ledger, &client->account, min, max);
    ms_unlock(&ms->ledger_lock);
    if (ret == 0) {
        ms_ledger_rose(ms);
    }
    return ret;
}

int memsched_client_set(MemSched *ms, const char *id,
                        const MemSchedClientChange *change,
                        MemSchedMessage *ret_message)
{
    MemSchedClient *client = ms_client_get(ms, id);
    uint64_t min, max;
    unsigned shares;
    int ret;

    if (client == NULL) {
        ms_say(ret_message, "there is no guest '%.*s'", MEMSCHED_ID_MAX, id);
        return -ENOENT;
    }
    ms_lock(&client->lock);
    min = change->has_min ? change->min_bytes : client->min_bytes;
    max = change->has_max ? change->max_bytes : client->max_bytes;
    shares = change->has_shares ? change->shares : client->shares;
    ms_unlock(&client->lock);

    if ((max && min > max) || shares == 0) {
        ms_say(ret_message, shares ? "min of guest '%s' would be above its max"
               : "shares of guest '%s' must be at least 1", id);
        ret = -EINVAL;
    } else {
        ret = ms_client_set_limits(client, min, max);
        if (ret == -ENOSPC) {
            ms_say(ret_message, "min of guest '%s' cannot be %" PRIu64 " MiB:"
                   " so much of the pool is not free of promises", id,
                   MAX_MIB(min));
        }
    }
    if (ret == 0) {
        ms_lock(&client->lock);
        client->min_bytes = min;
        client->max_bytes = max;
        client->shares = shares;
        ms_unlock(&client->lock);
    }
    ms_client_unref(client);
    return ret;
}

/* ---- walking ---- */

MemSchedClient **ms_clients(MemSched *ms, size_t *ret_count)
{
    MemSchedClient **clients;

    ms_lock(&ms->clients_lock);
    *ret_count = ms->clients_count;
    clients = g_new(MemSchedClient *, ms->clients_count);
    for (size_t i = 0; i < ms->clients_count; i++) {
        clients[i] = ms_client_ref(ms->clients[i]);
    }
    ms_unlock(&ms->clients_lock);
    return clients;
}

MemSchedClient *ms_client_get(MemSched *ms, const char *id)
{
    MemSchedClient *client;

    ms_lock(&ms->clients_lock);
    client = find_locked(ms, id);
    if (client) {
        ms_client_ref(client);
    }
    ms_unlock(&ms->clients_lock);
    return client;
}

MemSchedClient *memsched_client_find(MemSched *ms, const char *id)
{
    MemSchedClient *client;

    ms_lock(&ms->clients_lock);
    client = find_locked(ms, id);
    ms_unlock(&ms->clients_lock);
    return client;
}

MemSchedRegion **ms_client_regions(MemSchedClient *client, size_t *ret_count)
{
    MemSchedRegion **regions;

    ms_lock(&client->lock);
    *ret_count = client->regions_count;
    regions = g_new(MemSchedRegion *, client->regions_count);
    for (size_t i = 0; i < client->regions_count; i++) {
        regions[i] = ms_region_ref(client->regions[i]);
    }
    ms_unlock(&client->lock);
    return regions;
}

MemSchedRegion *ms_client_region_at(MemSchedClient *client,
                                    const void *address)
{
    MemSchedRegion *region = NULL;

    ms_lock(&client->lock);
    for (size_t i = 0; i < client->regions_count; i++) {
        MemSchedRegion *r = client->regions[i];

        if ((uintptr_t)address - (uintptr_t)r->host < r->length_bytes) {
            region = ms_region_ref(r);
            break;
        }
    }
    ms_unlock(&client->lock);
    return region;
}

void ms_client_pages(MemSchedClient *client, MsClientPages *ret_pages)
{
    MemSchedRegion **regions;
    size_t count;

    *ret_pages = (MsClientPages) { 0 };
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        MemSchedRegion *r = regions[i];

        ms_lock(&r->lock);
        for (int s = 0; s < MEMSCHED_PAGE_STATES; s++) {
            ret_pages->count[s] += r->pages.count[s];
        }
        /* Out for a sample: a touch finds them, nobody else has them. */
        ret_pages->count[MEMSCHED_PAGE_RESIDENT] += r->samples.pages;
        ret_pages->count[MEMSCHED_PAGE_TRANSIT] -= r->samples.pages;
        ret_pages->sampled += r->samples.pages;
        ret_pages->huge_frames += r->pages.huge_frames;
        ret_pages->swapped += r->held.swapped_pages;
        ms_unlock(&r->lock);
        ms_region_unref(r);
    }
    g_free(regions);
}

MsGpaMap *ms_client_map(MemSchedClient *client)
{
    MsGpaMap *map;

    ms_lock(&client->lock);
    map = ms_gpamap_ref(client->map);
    ms_unlock(&client->lock);
    return map;
}

int memsched_client_set_map(MemSchedClient *client,
                            const MemSchedGpaMapping *mappings, size_t count)
{
    MsGpaMap *map, *old;
    int ret;

    for (size_t i = 0; i < count; i++) {
        if (mappings[i].region && mappings[i].region->client != client) {
            return -EINVAL;
        }
    }
    ret = ms_gpamap_new(mappings, count, &map);
    if (ret < 0) {
        return ret;
    }
    ms_lock(&client->lock);
    old = client->map;
    client->map = map;
    ms_unlock(&client->lock);
    ms_gpamap_unref(old);
    ms_protect_map_changed(client);
    return 0;
}

/* ---- callbacks ---- */

int memsched_client_attach(MemSchedClient *client,
                           const MemSchedClientOps *ops, void *opaque)
{
    int ret = 0;

    ms_lock(&client->lock);
    if (client->attached || client->callbacks > 0) {
        ret = -EBUSY;
    } else {
        client->ops = *ops;
        client->ops_opaque = opaque;
        client->attached = true;
    }
    ms_unlock(&client->lock);
    return ret;
}

void memsched_client_detach(MemSchedClient *client, void *opaque)
{
    ms_lock(&client->lock);
    if (client->ops_opaque == opaque) {
        detach_locked(client);
    }
    ms_unlock(&client->lock);
}

bool ms_client_ops_enter(MemSchedClient *client, MemSchedClientOps *ret_ops,
                         void **ret_opaque)
{
    bool attached;

    ms_lock(&client->lock);
    attached = client->attached;
    if (attached) {
        client->callbacks++;
        *ret_ops = client->ops;
        *ret_opaque = client->ops_opaque;
    }
    ms_unlock(&client->lock);
    return attached;
}

void ms_client_ops_leave(MemSchedClient *client)
{
    ms_lock(&client->lock);
    if (--client->callbacks == 0) {
        ms_cond_broadcast(&client->cond);
    }
    ms_unlock(&client->lock);
}

/* ---- captures: may they? ---- */

bool ms_client_capture_enter(MemSchedClient *client, bool needs_running)
{
    bool allowed;

    ms_lock(&client->lock);
    allowed = client->inhibited == 0 && (client->running || !needs_running);
    client->captures += allowed;
    ms_unlock(&client->lock);
    return allowed;
}

void ms_client_capture_leave(MemSchedClient *client)
{
    ms_lock(&client->lock);
    if (--client->captures == 0) {
        ms_cond_broadcast(&client->cond);
    }
    ms_unlock(&client->lock);
}

static void wait_captures_locked(MemSchedClient *client)
{
    while (client->captures > 0) {
        ms_cond_wait(&client->cond, &client->lock);
    }
}

void memsched_client_run(MemSchedClient *client, bool running)
{
    ms_lock(&client->lock);
    client->running = running;
    if (!running) {
        wait_captures_locked(client);
    }
    ms_unlock(&client->lock);
    if (!running) {
        ms_sampler_recall(client);
    }
    if (running) {
        ms_mover_kick(client->ms->mover);
        ms_tagger_kick(client->ms->tagger);
    }
}

void memsched_client_ending(MemSchedClient *client)
{
    if (client) {
        /* Its code and data are about to go. */
        atomic_store(&client->ending, true);
        memsched_client_set_machine(client, NULL, NULL);
        ms_lock(&client->lock);
        detach_locked(client);
        ms_cond_broadcast(&client->cond);       /* memsched_disk_free() */
        ms_unlock(&client->lock);
        ms_apps_end(client->apps);
        ms_refills_abandon(client);
        ms_faults_retry(client->ms->faults);
    }
}

void memsched_client_inhibit(MemSchedClient *client, bool inhibit)
{
    ms_lock(&client->lock);
    if (inhibit) {
        client->inhibited++;
        wait_captures_locked(client);
    } else if (client->inhibited > 0) {
        client->inhibited--;
    }
    ms_unlock(&client->lock);
    if (inhibit) {
        ms_sampler_recall(client);
    }
    if (!inhibit) {
        ms_mover_kick(client->ms->mover);
        ms_tagger_kick(client->ms->tagger);
    }
}

/* ---- what the guest says of itself ---- */

void memsched_client_oom_deflate(MemSchedClient *client)
{
    ms_lock(&client->lock);
    client->oom_deflates++;
    client->oom_deflate_ns = client->ms->sys->now_ns(client->ms->sys);
    ms_thrash_oom(&client->thrash, client->oom_deflate_ns);
    ms_unlock(&client->lock);
}

void memsched_client_stats(MemSchedClient *client,
                           const uint64_t stats[MEMSCHED_STATS])
{
    ms_lock(&client->lock);
    memcpy(client->stats, stats, sizeof(client->stats));
    client->stats_ns = client->ms->sys->now_ns(client->ms->sys);
    client->app_stats = false;
    ms_unlock(&client->lock);
}
