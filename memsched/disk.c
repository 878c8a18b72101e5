/*
 * Disks of a guest, as far as its pages were filled from them
 *
 * Owns what the emulator says of its reads and writes: which pages were filled
 * from where (into the book of each region, diskmap.h), and which part of a
 * disk is no longer what was read.
 *
 * A read and a write of the same bytes may be under way together, and then
 * what was read is the old content or the new.  So each change is told twice,
 * when it is submitted and when it has ended, and is remembered for a while: a
 * read that has ended is noted first, and forgotten again if a change came
 * since its stamp.  Either the change sees the note, or the read sees the
 * change.  A read that has been overtaken by more changes than are remembered
 * is not noted.
 *
 * All of this is for the sake of what is promised, not of what is given: a page
 * that is read again must have the checksum of its note whatever was told here.
 *
 * Locks: client->lock guards the list; disk->lock the changes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "disk.h"
#include "instance.h"
#include "protect-int.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        ((size_t)MEMSCHED_PAGE_SIZE)

bool memsched_disk_wanted(MemSchedClient *client)
{
    return client && atomic_load(&client->disk_wanted);
}

/* ---- the list ---- */

int memsched_disk_new(MemSchedClient *client, const MemSchedDiskOps *ops,
                      void *opaque, MemSchedDisk **ret_disk)
{
    MemSchedDisk *disk = g_new0(MemSchedDisk, 1);

    disk->client = client;
    disk->ops = *ops;
    disk->opaque = opaque;
    ms_lock_init(&disk->lock, MS_RANK_LEAF);
    ms_lock(&client->lock);
    disk->number = ++client->disks_made;
    client->disks = g_renew(MemSchedDisk *, client->disks,
                            client->disks_count + 1);
    client->disks[client->disks_count++] = disk;
    ms_unlock(&client->lock);
    *ret_disk = disk;
    return 0;
}

static void forget_everywhere(MemSchedDisk *disk, uint64_t offset,
                              uint64_t length)
{
    MemSchedClient *client = disk->client;
    MemSchedRegion **regions;
    size_t count;

    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        MsProtect *protect = ms_protect_of(regions[i]);

        if (protect) {
            ms_lock(&protect->disk_lock);
            ms_count(&client->protect_stats.disk_left_by_disk,
                     ms_diskmap_forget_disk(&protect->disk, disk->number,
                                            offset, length));
            ms_unlock(&protect->disk_lock);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
}

static void destroy(MemSchedDisk *disk)
{
    ms_lock_destroy(&disk->lock);
    g_free(disk);
}

bool memsched_disk_free(MemSchedDisk *disk)
{
    MemSchedClient *client;

    if (disk == NULL) {
        return true;
    }
    client = disk->client;
    ms_lock(&client->lock);
    disk->closing = true;
    while (disk->reads > 0 && !atomic_load(&client->ending)) {
        ms_cond_wait(&client->cond, &client->lock);
    }
    if (disk->reads > 0) {
        /* The thread that would answer may be gone: ms_disks_end(). */
        ms_unlock(&client->lock);
        return false;
    }
    for (size_t i = 0; i < client->disks_count; i++) {
        if (client->disks[i] == disk) {
            client->disks[i] = client->disks[--client->disks_count];
        }
    }
    ms_unlock(&client->lock);
    forget_everywhere(disk, 0, UINT64_MAX);
    destroy(disk);
    return true;
}

void ms_disks_end(MemSchedClient *client)
{
    ms_refills_abandon(client);
    ms_refills_drop(client);
    for (size_t i = 0; i < client->disks_count; i++) {
        destroy(client->disks[i]);
    }
    g_free(client->disks);
    client->disks = NULL;
    client->disks_count = 0;
}

MemSchedDisk *ms_disk_take(MemSchedClient *client, uint32_t number)
{
    MemSchedDisk *disk = NULL;

    ms_lock(&client->lock);
    for (size_t i = 0; i < client->disks_count &&
         !atomic_load(&client->ending); i++) {
        if (client->disks[i]->number == number && !client->disks[i]->closing) {
            disk = client->disks[i];
            disk->reads++;
        }
    }
    ms_unlock(&client->lock);
    return disk;
}

void ms_disk_release(MemSchedDisk *disk)
{
    MemSchedClient *client = disk->client;

    ms_lock(&client->lock);
    disk->reads--;
    ms_cond_broadcast(&client->cond);
    ms_unlock(&client->lock);
}

/* ---- changes ---- */

uint64_t memsched_disk_stamp(MemSchedDisk *disk)
{
    uint64_t stamp;

    ms_lock(&disk->lock);
    stamp = disk->changes;
    ms_unlock(&disk->lock);
    return stamp;
}

void memsched_disk_changed(MemSchedDisk *disk, uint64_t offset,
                           uint64_t length_bytes)
{
    uint64_t last = offset + length_bytes - 1;

    if (length_bytes == 0) {
        return;
    }
    ms_lock(&disk->lock);
    disk->change[disk->changes++ % MS_DISK_CHANGES] = (MsDiskChange) {
        .offset_bytes = offset,
        .last_byte = last < offset ? UINT64_MAX : last,
    };
    ms_unlock(&disk->lock);
    if (atomic_load(&disk->noted)) {
        forget_everywhere(disk, offset, length_bytes);
    }
}

static bool changed_since(MemSchedDisk *disk, uint64_t stamp, uint64_t offset,
                          uint64_t last)
{
    bool changed;

    ms_lock(&disk->lock);
    changed = disk->changes - stamp > MS_DISK_CHANGES;
    for (uint64_t i = stamp; i < disk->changes && !changed; i++) {
        const MsDiskChange *c = &disk->change[i % MS_DISK_CHANGES];

        changed = c->offset_bytes <= last && c->last_byte >= offset;
    }
    ms_unlock(&disk->lock);
    return changed;
}

/* ---- reads ---- */

/* The frame is left alone for a while: more of it may be read. */
static void keep_warm(MsProtect *protect, uint64_t frame, uint32_t cool_ms)
{
    uint32_t next_ms = ms_protect_clock_ms(protect) + cool_ms;
    MsHeat *heat = &protect->heat[frame];

    ms_lock(&protect->lock);
    if ((int32_t)(next_ms - heat->next_ms) > 0) {
        heat->next_ms = next_ms;
    }
    ms_unlock(&protect->lock);
}

/* At most a chunk of pages, all of one frame; how many were noted. */
static unsigned note_pages(MsProtect *protect, MemSchedDisk *disk,
                           uint64_t offset, uint64_t page, unsigned count)
{
    uint64_t sum[MS_PROTECT_CHUNK];
    unsigned noted = 0;

    for (unsigned i = 0; i < count; i++) {
        /* By plain loads: a broken page is repaired by the way. */
        sum[i] = ms_parity_best()->sum(ms_region_address(protect->region,
                                                         page + i), PAGE);
    }
    ms_lock(&protect->disk_lock);
    for (unsigned i = 0; i < count && atomic_load(&protect->disk_on); i++) {
        MsDiskPlace place = {
            .disk = disk->number, .offset_bytes = offset + i * PAGE,
            .sum = sum[i],
        };

        noted += ms_diskmap_note(&protect->disk, page + i, &place) == 0;
    }
    ms_unlock(&protect->disk_lock);
    return noted;
}

static uint64_t note_run(MsProtect *protect, MemSchedDisk *disk,
                         uint64_t offset, uint64_t page, uint64_t count)
{
    MemSchedClient *client = disk->client;
    uint32_t cool_ms = ms_protect_settings(client).cool_ms;
    uint64_t noted = 0;

    while (count > 0) {
        unsigned n = MIN(count, MS_PROTECT_CHUNK);

        n = MIN(n, FRAME_PAGES - page % FRAME_PAGES);
        keep_warm(protect, page / FRAME_PAGES, cool_ms);
        if (ms_cover_has(protect, page / FRAME_PAGES, MEMSCHED_COVER_DISK)) {
            noted += note_pages(protect, disk, offset, page, n);
        }
        page += n;
        count -= n;
        offset += n * PAGE;
    }
    ms_count(&client->protect_stats.disk_noted, noted);
    return noted;
}

uint64_t memsched_disk_filled(MemSchedDisk *disk, uint64_t stamp,
                              uint64_t offset, const void *host,
                              uint64_t length_bytes)
{
    MemSchedClient *client = disk->client;
    uint64_t skip = -(uintptr_t)host & (PAGE - 1), noted = 0, left;
    const char *start = (const char *)host + skip;
    MemSchedRegion *region;
    MsProtect *protect;

    if (!atomic_load(&client->disk_wanted) || length_bytes < skip + PAGE) {
        return 0;
    }
    region = ms_client_region_at(client, start);
    if (region == NULL) {
        return 0;
    }
    left = MIN(length_bytes - skip, (uint64_t)(region->host +
                                               region->length_bytes - start));
    protect = ms_protect_of(region);
    if (protect && atomic_load(&protect->disk_on)) {
        atomic_store(&disk->noted, true);
        noted = note_run(protect, disk, offset + skip,
                         (uint64_t)(start - region->base) / PAGE, left / PAGE);
        if (changed_since(disk, stamp, offset, offset + length_bytes - 1)) {
            forget_everywhere(disk, offset, length_bytes);
            noted = 0;
        }
    }
    ms_region_unref(region);
    return noted;
}
