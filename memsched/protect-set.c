/*
 * Who is protected, and how
 *
 * Owns the settings of each guest and the beginning and end of each region's
 * protection.
 *
 * Lifetime.  A region's MsProtect is made when its guest is first protected,
 * published once (atomically; the region's struct keeps it), and freed with the
 * region.  "Off" empties it: with the lock held and no row busy, so nobody has
 * a pointer into it.  One change of settings a guest at a time (changing).
 *
 * A region is registered for write protection when its guest is first
 * protected:
 * the same userfaultfd, synchronous mode, which is chosen when it is opened;
 * the kernel adds the mode to the whole mapping without splitting it.  Guests
 * that are never protected have none of it.
 *
 * Locks: client->lock and protect->lock, one after the other.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "instance.h"
#include "message.h"
#include "protect-int.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        ((size_t)MEMSCHED_PAGE_SIZE)

#define DEFAULT_GROUP  8u
#define DEFAULT_COOL   1000u
#define DEFAULT_RATE   (UINT64_C(64) << 20)

MemSchedProtection ms_protect_settings(MemSchedClient *client)
{
    MemSchedProtection settings;

    ms_lock(&client->lock);
    settings = client->protection;
    ms_unlock(&client->lock);
    return settings;
}

/* ---- on and off, of one region ---- */

/* Everybody out, nothing covered; what is protected stays so. */
static void empty(MsProtect *protect)
{
    ms_lock(&protect->lock);
    protect->on = false;
    while (protect->users > 0) {
        ms_cond_wait(&protect->cond, &protect->lock);
    }
    for (unsigned g = 0; g < protect->stripes.groups; g++) {
        ms_parity_release(protect, protect->stripes.group[g]->opaque);
    }
    ms_stripes_destroy(&protect->stripes);
    ms_unlock(&protect->lock);
}

static void begin_heat_locked(MsProtect *protect)
{
    uint64_t frames = protect->region->pages.frames;
    uint32_t now_ms = ms_protect_clock_ms(protect);

    memset(protect->heat, 0, frames * sizeof(MsHeat));
    for (uint64_t f = 0; f < frames; f++) {
        protect->heat[f].next_ms = now_ms;
    }
}

/* Made once, and published; NULL: this region cannot be protected. */
static MsProtect *protect_of_or_new(MemSchedRegion *region)
{
    MsProtect *protect = ms_protect_of(region), *none = NULL;

    if (protect) {
        return protect;
    }
    /* The same mode again, and one more: the range stays registered. */
    if (!region->movable ||
        ms_uffd_register(&region->client->uffd, region->host,
                         region->length_bytes >> MEMSCHED_PAGE_SHIFT,
                         MS_UFFD_MODE_MISSING | MS_UFFD_MODE_WP) < 0) {
        return NULL;
    }
    protect = g_new0(MsProtect, 1);
    protect->region = region;
    protect->heat = g_new0(MsHeat, region->pages.frames);
    protect->cover = g_malloc(region->pages.frames);
    memset(protect->cover, MEMSCHED_COVER_ALL, region->pages.frames);
    ms_lock_init(&protect->lock, MS_RANK_STRIPE);
    ms_cond_init(&protect->cond);
    ms_lock_init(&protect->disk_lock, MS_RANK_LEAF);
    begin_heat_locked(protect);
    if (!atomic_compare_exchange_strong(&region->protect, &none, protect)) {
        ms_cond_destroy(&protect->cond);
        ms_lock_destroy(&protect->lock);
        ms_lock_destroy(&protect->disk_lock);
        g_free(protect->heat);
        g_free(protect->cover);
        g_free(protect);
        protect = none;
    }
    return protect;
}

/* No page of the region is protected any more. */
static void open_region(MsProtect *protect)
{
    MemSchedRegion *region = protect->region;
    bool disk = atomic_load(&protect->disk_on);

    empty(protect);
    /* Off meanwhile: nobody calls a page sure that is opened here. */
    atomic_store(&protect->disk_on, false);
    ms_protect_disk_unsure_all(protect);
    ms_uffd_protect(&region->client->uffd, region->host,
                    region->length_bytes >> MEMSCHED_PAGE_SHIFT, false, true);
    ms_protect_disk_unsure_all(protect);
    atomic_store(&protect->disk_on, disk);
}

/* The region is entered, or nobody else knows it. */
static void set_region(MemSchedRegion *region, const MemSchedProtection *s)
{
    MsProtect *protect = ms_protection_is_on(s) ? protect_of_or_new(region)
                                                : ms_protect_of(region);
    unsigned parities = s->scheme == MEMSCHED_SCHEME_PQ ? 2 : 1;
    MsStripes stripes;
    bool disk;

    if (protect == NULL) {
        return;
    }
    ms_cover_set(protect, s);
    disk = atomic_load(&protect->disk_on);
    if (disk != s->disk) {
        ms_protect_disk_set(protect, s->disk);
    }
    if ((protect->on && s->scheme != MEMSCHED_SCHEME_NONE &&
         protect->stripes.parities == parities &&
         protect->stripes.size == s->group_size) ||
        (!protect->on && s->scheme == MEMSCHED_SCHEME_NONE &&
         disk <= s->disk)) {
        return;
    }
    if (protect->on || disk) {
        open_region(protect);
    }
    if (s->scheme != MEMSCHED_SCHEME_NONE &&
        ms_stripes_init(&stripes, region->pages.frames, parities,
                        s->group_size) == 0) {
        ms_lock(&protect->lock);
        protect->stripes = stripes;
        protect->scrub.done_pages = 0;
        begin_heat_locked(protect);
        protect->on = true;
        ms_unlock(&protect->lock);
    }
}

static void change_begin(MemSchedClient *client)
{
    ms_lock(&client->lock);
    while (client->protect_changing) {
        ms_cond_wait(&client->cond, &client->lock);
    }
    client->protect_changing = true;
    ms_unlock(&client->lock);
}

static void change_end(MemSchedClient *client)
{
    ms_lock(&client->lock);
    client->protect_changing = false;
    ms_cond_broadcast(&client->cond);
    ms_unlock(&client->lock);
}

void ms_protect_region_new(MemSchedRegion *region)
{
    MemSchedProtection settings;

    change_begin(region->client);
    settings = ms_protect_settings(region->client);
    set_region(region, &settings);
    change_end(region->client);
}

void ms_protect_region_gone(MemSchedRegion *region)
{
    MsProtect *protect = ms_protect_of(region);

    if (protect) {
        empty(protect);
    }
}

void ms_protect_free(MsProtect *protect)
{
    if (protect) {
        ms_work_free(protect->spare);
        ms_diskmap_destroy(&protect->disk);
        ms_lock_destroy(&protect->disk_lock);
        ms_cond_destroy(&protect->cond);
        ms_lock_destroy(&protect->lock);
        g_free(protect->heat);
        g_free(protect->cover);
        g_free(protect);
    }
}

/* ---- of one guest ---- */

static int check_settings(MemSched *ms, MemSchedProtection *s,
                          MemSchedMessage *ret_message)
{
    if (!ms_protection_is_on(s)) {
        return 0;
    }
    s->group_size = s->group_size ? s->group_size : DEFAULT_GROUP;
    s->cool_ms = s->cool_ms ? s->cool_ms : DEFAULT_COOL;
    s->rate_bytes_per_s = s->rate_bytes_per_s ? s->rate_bytes_per_s
                                              : DEFAULT_RATE;
    if (s->scheme > MEMSCHED_SCHEME_PQ ||
        s->group_size < 2 || s->group_size > MS_PARITY_SLOTS) {
        ms_say(ret_message, "a group of protected pages has 2 to %u members,"
               " not %u", MS_PARITY_SLOTS, s->group_size);
        return -EINVAL;
    }
    for (unsigned i = 0; i < MIN(s->ranges, MEMSCHED_COVER_RANGES); i++) {
        const MemSchedCoverRange *r = &s->range[i];

        if ((r->gpa | r->length_bytes) % MEMSCHED_FRAME_SIZE ||
            r->length_bytes == 0 || r->gpa + (r->length_bytes - 1) < r->gpa ||
            r->cover > MEMSCHED_COVER_ALL) {
            ms_say(ret_message, "a range of protected memory begins and ends"
                   " at multiples of 2 MiB");
            return -EINVAL;
        }
    }
    if (s->ranges > MEMSCHED_COVER_RANGES) {
        ms_say(ret_message, "at most %u ranges of memory can be told apart",
               MEMSCHED_COVER_RANGES);
        return -EINVAL;
    }
    if (s->cool_ms > 3600000) {
        ms_say(ret_message, "protected pages cool down in an hour at most");
        return -EINVAL;
    }
    if (!ms->kernel.write_protect || !ms->kernel.move || !ms->kernel.poison) {
        ms_say(ret_message, "this kernel (%s) lacks userfaultfd's write"
               " protection, moves or poison, which protection of memory needs",
               ms->kernel.release);
        return -ENOTSUP;
    }
    return 0;
}

static void set_client(MemSchedClient *client, const MemSchedProtection *s)
{
    MemSchedRegion **regions;
    size_t count;
    bool was;

    change_begin(client);
    ms_lock(&client->lock);
    was = ms_protection_is_on(&client->protection);
    client->protection = *s;
    ms_unlock(&client->lock);
    atomic_store(&client->disk_wanted, s->disk);
    if (was != ms_protection_is_on(s)) {
        atomic_fetch_add(&client->ms->protected_clients, was ? -1u : 1u);
    }
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        if (ms_region_enter_locked(regions[i])) {
            ms_unlock(&regions[i]->lock);
            set_region(regions[i], s);
            ms_region_leave(regions[i]);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    change_end(client);
}

void ms_protect_map_changed(MemSchedClient *client)
{
    MemSchedProtection settings;
    MemSchedRegion **regions;
    size_t count;

    settings = ms_protect_settings(client);
    if (settings.ranges == 0) {
        return;
    }
    change_begin(client);
    settings = ms_protect_settings(client);
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        MsProtect *protect = ms_protect_of(regions[i]);

        /* The region's struct keeps it, whether it is dying or not. */
        if (protect) {
            ms_cover_set(protect, &settings);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    change_end(client);
}

void ms_protect_client_gone(MemSchedClient *client)
{
    const MemSchedProtection none = { 0 };

    set_client(client, &none);
}

int memsched_protect(MemSched *ms, const char *id,
                     const MemSchedProtection *protection,
                     MemSchedMessage *ret_message)
{
    MemSchedProtection settings = *protection;
    MemSchedClient *client;
    int ret = check_settings(ms, &settings, ret_message);

    if (ret < 0) {
        return ret;
    }
    client = ms_client_get(ms, id);
    if (client == NULL) {
        ms_say(ret_message, "there is no guest '%.*s'", MEMSCHED_ID_MAX, id);
        return -ENOENT;
    }
    set_client(client, &settings);
    ms_protector_kick(ms->protector);
    ms_client_unref(client);
    return 0;
}

/* ---- what is ---- */

/* A guest's last pass is that of the region which is last. */
static void add_scrub_locked(const MsProtect *protect, uint64_t now_ns,
                             MemSchedProtectionInfo *info)
{
    const MsScrubPlace *place = &protect->scrub;

    if (!protect->on) {
        return;
    }
    info->scrub_done_bytes += place->done_pages * PAGE;
    info->scrub_all_bytes += (protect->stripes.pages +
                              protect->stripes.parities * FRAME_PAGES *
                              (uint64_t)protect->stripes.groups) * PAGE;
    info->scrub_passes = MIN(info->scrub_passes, place->passes);
    info->scrub_age_ns = place->ended_ns && info->scrub_age_ns != UINT64_MAX
                         ? MAX(info->scrub_age_ns, now_ns - place->ended_ns)
                         : UINT64_MAX;
    info->scrub_took_ns = MAX(info->scrub_took_ns, place->took_ns);
}

static void add_region(MemSchedRegion *region, MemSchedProtectionInfo *info)
{
    MsProtect *protect = ms_protect_of(region);

    ms_lock(&region->lock);
    info->resident_bytes += region->pages.count[MEMSCHED_PAGE_RESIDENT] * PAGE;
    info->poisoned_bytes += region->pages.count[MEMSCHED_PAGE_POISONED] * PAGE;
    info->lost_bytes += region->pages.count[MEMSCHED_PAGE_LOST] * PAGE;
    ms_unlock(&region->lock);
    if (protect) {
        ms_lock(&protect->lock);
        info->covered_bytes += protect->stripes.pages * PAGE;
        info->groups += protect->stripes.groups;
        info->bookkeeping_bytes += ms_stripes_bytes(&protect->stripes) +
                                   region->pages.frames * sizeof(MsHeat);
        add_scrub_locked(protect, region->ms->sys->now_ns(region->ms->sys),
                         info);
        ms_unlock(&protect->lock);
        ms_lock(&protect->disk_lock);
        info->disk_bytes += protect->disk.sure * PAGE;
        info->disk_unsure_bytes += (protect->disk.located -
                                    protect->disk.sure) * PAGE;
        info->bookkeeping_bytes += ms_diskmap_bytes(&protect->disk);
        ms_unlock(&protect->disk_lock);
        ms_cover_count(protect, info);
    }
}

static void add_more_stats(MsProtectStats *stats,
                           MemSchedProtectionInfo *info)
{
    info->scrubbed_pages = ms_counter(&stats->scrubbed);
    info->mismatched_pages = ms_counter(&stats->mismatched);
    info->mismatched_parity_pages = ms_counter(&stats->mismatched_parity);
    info->found_broken_pages = ms_counter(&stats->found_broken);
    info->disk_noted_pages = ms_counter(&stats->disk_noted);
    info->disk_left_by_write_pages = ms_counter(&stats->disk_left_by_write);
    info->disk_left_by_disk_pages = ms_counter(&stats->disk_left_by_disk);
    info->disk_changed_pages = ms_counter(&stats->disk_changed);
    info->disk_recovered_pages = ms_counter(&stats->disk_recovered);
    info->disk_failed_pages = ms_counter(&stats->disk_failed);
    info->disk_p50_ns = ms_histogram_quantile_ns(&stats->disk, 500);
    info->disk_p99_ns = ms_histogram_quantile_ns(&stats->disk, 990);
}

static void add_regions(MemSchedClient *client, MemSchedProtectionInfo *info)
{
    MemSchedRegion **regions;
    size_t count;

    info->scrub_passes = UINT64_MAX;
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        add_region(regions[i], info);
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    if (info->scrub_passes == UINT64_MAX) {
        info->scrub_passes = 0; /* no region is in stripes */
    }
    if (info->scrub_passes == 0) {
        info->scrub_age_ns = UINT64_MAX;
    }
}

int memsched_query_protection(MemSched *ms, const char *id,
                              MemSchedProtectionInfo *ret_info)
{
    MemSchedClient *client = ms_client_get(ms, id);
    MemSchedProtectionInfo info = { 0 };
    MsProtectStats *stats;
    uint64_t last_ns;

    if (client == NULL) {
        return -ENOENT;
    }
    info.settings = ms_protect_settings(client);
    add_regions(client, &info);
    ms_lock(&ms->ledger_lock);
    info.parity_bytes = client->account.parity * PAGE;
    ms_unlock(&ms->ledger_lock);

    stats = &client->protect_stats;
    info.joined_pages = ms_counter(&stats->joined);
    info.left_by_write_pages = ms_counter(&stats->left_by_write);
    info.left_by_capture_pages = ms_counter(&stats->left_by_capture);
    info.changed_pages = ms_counter(&stats->changed);
    info.recovered_pages = ms_counter(&stats->recovered);
    info.recovered_dead_pages = ms_counter(&stats->recovered_dead);
    info.lost_pages = ms_counter(&stats->lost);
    info.repair_p50_ns = ms_histogram_quantile_ns(&stats->repair, 500);
    info.repair_p99_ns = ms_histogram_quantile_ns(&stats->repair, 990);
    info.repair_max_ns = ms_counter(&stats->repair.max_ns);
    info.write_p50_ns = ms_histogram_quantile_ns(&stats->write, 500);
    info.write_p99_ns = ms_histogram_quantile_ns(&stats->write, 990);
    add_more_stats(stats, &info);
    last_ns = atomic_load(&stats->last_ns);
    info.last_age_ns = last_ns ? ms->sys->now_ns(ms->sys) - last_ns
                               : UINT64_MAX;
    ms_client_unref(client);
    *ret_info = info;
    return 0;
}
