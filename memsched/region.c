/*
 * One RAMBlock of a guest
 *
 * Owns the registration of guest RAM with the guest's userfaultfd, and its
 * end.  Registered means: the kernel gives it no page any more, only we do, out
 * of the pool; it is not inherited by a child process (a page that was ever
 * shared by a fork stays EBUSY) and not merged by KSM.
 *
 * The end, in this order: let nobody in, wait until everybody is out (faults,
 * captures, populates), forget the touches that wait, capture every page home,
 * unregister.  Only then may the caller unmap; another guest may get the same
 * addresses at once, which is why everything that is queued holds a reference
 * to the region and not an address.
 *
 * Threads: any.  Locks: region->lock; the list of all regions (clients_lock)
 * and of the client's (client->lock) one after the other, never nested.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "held.h"
#include "instance.h"
#include "tagged.h"

static void say(MemSchedMessage *message, const char *text)
{
    if (message) {
        g_strlcpy(message->text, text, sizeof(message->text));
    }
}

MemSchedRegion *ms_region_ref(MemSchedRegion *region)
{
    atomic_fetch_add(&region->refs, 1);
    return region;
}

void ms_region_unref(MemSchedRegion *region)
{
    if (atomic_fetch_sub(&region->refs, 1) != 1) {
        return;
    }
    ms_protect_free(atomic_load(&region->protect));
    ms_samples_destroy(&region->samples);
    ms_held_map_destroy(&region->held);
    ms_tag_map_destroy(&region->tags);
    ms_pages_destroy(&region->pages);
    ms_cond_destroy(&region->cond);
    ms_lock_destroy(&region->lock);
    g_free(region);
}

bool ms_region_enter_locked(MemSchedRegion *region)
{
    ms_lock(&region->lock);
    if (region->dying) {
        ms_unlock(&region->lock);
        return false;
    }
    region->busy++;
    return true;
}

void ms_region_leave(MemSchedRegion *region)
{
    ms_lock(&region->lock);
    if (--region->busy == 0) {
        ms_cond_broadcast(&region->cond);
    }
    ms_unlock(&region->lock);
}

void ms_region_wait_transit_locked(MemSchedRegion *region, uint64_t first,
                                   uint64_t count)
{
    uint64_t run, n;

    while (ms_pages_next(&region->pages, first, first + count,
                         MS_STATE_BIT(TRANSIT), &run, &n)) {
        if (!ms_sample_recall_locked(region, run, n)) {
            ms_cond_wait(&region->cond, &region->lock);
        }
    }
}

bool ms_region_park_locked(MemSchedRegion *region, uint64_t page)
{
    if (ms_sample_is_out_locked(region, page)) {
        return false;
    }
    ms_pages_park(&region->pages, page);
    return true;
}

#define LEASE_WAIT_NS UINT64_C(10000000)

void ms_region_wait_lease_locked(MemSchedRegion *region, uint64_t frame)
{
    while (ms_region_is_leased(region, frame) &&
           ms_cond_wait_ns(&region->cond, &region->lock, LEASE_WAIT_NS)) {
        continue;
    }
}

int ms_region_discard(const MemSchedRegion *region, char *address,
                      uint64_t pages)
{
    const MsSys *sys = region->ms->sys;
    size_t bytes = pages << MEMSCHED_PAGE_SHIFT;
    int ret = -EACCES;

    if (region->shared) {
        ret = sys->madvise(sys, address, bytes, MADV_REMOVE);
    }
    /* A private mapping, of a file too: its pages are nobody else's. */
    if (ret == -EACCES) {
        ret = sys->madvise(sys, address, bytes, MADV_DONTNEED);
    }
    return ret;
}

void ms_region_wake(MemSchedRegion *region, uint64_t first, uint64_t count)
{
    uint64_t end = first + count;

    first = first > region->pages.lead ? first : region->pages.lead;
    end = end < region->pages.end ? end : region->pages.end;
    if (first < end) {
        ms_uffd_wake(&region->client->uffd, ms_region_address(region, first),
                     end - first);
    }
}

/* ---- lists ---- */

static bool overlaps(const MemSchedRegion *a, const MemSchedRegion *b)
{
    return a->host < b->host + b->length_bytes &&
           b->host < a->host + a->length_bytes;
}

/* Into the list of all, unless it overlaps. */
static int reserve_address(MemSched *ms, MemSchedRegion *region)
{
    int ret = 0;

    ms_lock(&ms->clients_lock);
    for (size_t i = 0; i < ms->regions_count && ret == 0; i++) {
        ret = overlaps(region, ms->regions[i]) ? -EEXIST : 0;
    }
    if (ret == 0) {
        if (ms->regions_count == ms->regions_size) {
            ms->regions_size = ms->regions_size ? ms->regions_size * 2 : 16;
            ms->regions = g_renew(MemSchedRegion *, ms->regions,
                                  ms->regions_size);
        }
        ms->regions[ms->regions_count++] = region;
    }
    ms_unlock(&ms->clients_lock);
    return ret;
}

static void remove_pointer(MemSchedRegion **array, size_t *count,
                           const MemSchedRegion *region)
{
    for (size_t i = 0; i < *count; i++) {
        if (array[i] == region) {
            array[i] = array[--*count];
            return;
        }
    }
}

static void release_address(MemSched *ms, MemSchedRegion *region)
{
    ms_lock(&ms->clients_lock);
    remove_pointer(ms->regions, &ms->regions_count, region);
    ms_unlock(&ms->clients_lock);
}

static void join_client(MemSchedClient *client, MemSchedRegion *region)
{
    ms_lock(&client->lock);
    client->regions = g_renew(MemSchedRegion *, client->regions,
                              client->regions_count + 1);
    client->regions[client->regions_count++] = region;
    ms_unlock(&client->lock);
}

static void leave_client(MemSchedClient *client, MemSchedRegion *region)
{
    ms_lock(&client->lock);
    remove_pointer(client->regions, &client->regions_count, region);
    ms_unlock(&client->lock);
}

/* RAM comes or goes; without a max of its own, the guest's max follows. */
static void change_ram(MemSchedClient *client, int64_t pages)
{
    uint64_t min, max;

    atomic_fetch_add(&client->ram_pages, (uint64_t)pages);
    ms_lock(&client->lock);
    min = client->min_bytes;
    max = client->max_bytes;
    ms_unlock(&client->lock);
    if (max == 0) {
        /* min does not change: cannot be refused */
        ms_client_set_limits(client, min, max);
    }
}

/* ---- registration ---- */

static int check_options(const MemSchedRegionOptions *options,
                         MemSchedMessage *ret_message)
{
    uint64_t host = (uintptr_t)options->host;
    uint64_t end = host + options->length_bytes;

    if (host == 0 || options->length_bytes == 0 || end < host ||
        (host | options->length_bytes) % MEMSCHED_PAGE_SIZE ||
        end >> MS_FENCE_ADDRESS_BITS) {
        say(ret_message, "guest RAM must be whole 4 KiB pages below 128 TiB");
        return -EINVAL;
    }
    return 0;
}

/*
 * Advice to the kernel.  Refusals only mean that the kernel lacks what is to be
 * forbidden or preferred; a fork that does inherit shows up as EBUSY.
 */
static void advise(const MsSys *sys, MemSchedRegion *region)
{
    sys->madvise(sys, region->host, region->length_bytes, MADV_DONTFORK);
    sys->madvise(sys, region->host, region->length_bytes, MADV_UNMERGEABLE);
    if (region->huge) {
        sys->madvise(sys, region->host, region->length_bytes, MADV_HUGEPAGE);
    }
}

static int check_untouched(MemSched *ms, const MemSchedRegion *region,
                           MemSchedMessage *ret_message)
{
    MsPagemapCount count;
    int ret = ms_pagemap_count(ms_pool_pagemap(ms->pool), region->host,
                               region->length_bytes >> MEMSCHED_PAGE_SHIFT,
                               &count);

    if (ret < 0) {
        /* No PAGEMAP_SCAN: memsched_check() cannot recount either. */
        return ret == -ENOTTY ? 0 : ret;
    }
    if (count.present_pages + count.swapped_pages + count.zero_pages) {
        say(ret_message, "guest RAM was touched before it was registered: its"
            " pages are not the pool's");
        return -EINVAL;
    }
    return 0;
}

static int register_memory(MemSchedClient *client, MemSchedRegion *region,
                           MemSchedMessage *ret_message)
{
    MemSched *ms = client->ms;
    uint64_t pages = region->length_bytes >> MEMSCHED_PAGE_SHIFT;
    int ret;

    advise(ms->sys, region);
    ret = check_untouched(ms, region, ret_message);
    if (ret < 0) {
        return ret;
    }
    ret = ms_uffd_register(&client->uffd, region->host, pages,
                           MS_UFFD_MODE_MISSING);
    if (ret == -EBUSY) {
        say(ret_message, "another userfaultfd has this guest RAM: postcopy and"
            " background snapshot cannot be used together with memsched");
    } else if (ret == -EINVAL) {
        say(ret_message, "the kernel cannot report faults of this kind of"
            " guest RAM");
        ret = -ENOTSUP;
    }
    return ret;
}

int memsched_region_new(MemSchedClient *client,
                        const MemSchedRegionOptions *options,
                        MemSchedRegion **ret_region,
                        MemSchedMessage *ret_message)
{
    MemSched *ms = client->ms;
    uint64_t offset = (uintptr_t)options->host & (MEMSCHED_FRAME_SIZE - 1);
    MemSchedRegion *region;
    int ret = check_options(options, ret_message);

    if (ret < 0) {
        return ret;
    }
    region = g_new0(MemSchedRegion, 1);
    region->ms = ms;
    region->client = client;
    g_strlcpy(region->name, options->name ? options->name : "ram",
              sizeof(region->name));
    region->host = options->host;
    region->base = (char *)options->host - offset;
    region->length_bytes = options->length_bytes;
    region->shared = !options->anonymous_private;
    region->movable = !region->shared && !ms->fallback;
    region->huge = region->movable && ms->kernel.huge_pages;
    atomic_init(&region->refs, 1);
    ms_lock_init(&region->lock, MS_RANK_REGION);
    ms_cond_init(&region->cond);

    ret = ms_pages_init(&region->pages, offset >> MEMSCHED_PAGE_SHIFT,
                        options->length_bytes >> MEMSCHED_PAGE_SHIFT);
    ms_tag_map_init(&region->tags, region->pages.frames);
    ms_held_map_init(&region->held, region->pages.frames);
    if (ret == 0) {
        ret = ms_fence_cover(&ms->fence, region->host, region->length_bytes);
    }
    if (ret == 0) {
        ret = reserve_address(ms, region);
        if (ret == -EEXIST) {
            say(ret_message, "this guest RAM is registered already");
        }
    }
    if (ret < 0) {
        goto fail;
    }
    /* Known to the fault threads before the first fault can come. */
    join_client(client, region);
    ret = register_memory(client, region, ret_message);
    if (ret < 0) {
        leave_client(client, region);
        release_address(ms, region);
        goto fail;
    }
    change_ram(client, region->length_bytes >> MEMSCHED_PAGE_SHIFT);
    ms_protect_region_new(region);
    *ret_region = region;
    return 0;

fail:
    ms_region_unref(region);
    return ret;
}

void memsched_region_free(MemSchedRegion *region)
{
    MemSchedClient *client;
    MemSched *ms;

    if (region == NULL) {
        return;
    }
    client = region->client;
    ms = region->ms;

    ms_lock(&region->lock);
    region->dying = true;
    while (region->busy > 0) {
        ms_cond_wait(&region->cond, &region->lock);
    }
    ms_unlock(&region->lock);

    ms_sample_recall(region, 0, region->pages.end);
    ms_client_wait_forget(client, region);
    ms_protect_region_gone(region);
    ms_repair_forget(region, 0, UINT64_MAX);
    ms_tagged_forget_region(region);
    ms_held_forget_region(region);
    ms_capture_region_home(region);
    ms_uffd_unregister(&client->uffd, region->host,
                       region->length_bytes >> MEMSCHED_PAGE_SHIFT);
    leave_client(client, region);
    release_address(ms, region);
    change_ram(client, -(int64_t)(region->length_bytes >>
                                  MEMSCHED_PAGE_SHIFT));
    ms_ledger_rose(ms);
    ms_region_unref(region);
}

bool memsched_region_next_run(MemSchedRegion *region, uint64_t from_page,
                              unsigned state_mask, uint64_t *ret_first_page,
                              uint64_t *ret_count_pages)
{
    uint64_t lead = region->pages.lead, first, count;
    bool found;

    if (from_page > region->length_bytes >> MEMSCHED_PAGE_SHIFT) {
        return false;
    }
    ms_lock(&region->lock);
    found = ms_pages_next(&region->pages, lead + from_page, UINT64_MAX,
                          state_mask, &first, &count);
    ms_unlock(&region->lock);
    if (found) {
        *ret_first_page = first - lead;
        *ret_count_pages = count;
    }
    return found;
}
