/*
 * Broken pages that are read again from a disk
 *
 * Owns the reads that the emulator has been asked for.
 *
 *   repair thread   page in C, and sure in the book: ask the emulator
 *                   the thread in the handler stays asleep (PARKED)
 *   emulator        reads into a buffer of ours, in a thread of its own
 *   that thread     the checksum of the note? into the guest, protected
 *                   C -> R; who sleeps for it is woken
 *
 * A disk may take long, or for ever, so nobody of the library waits for it:
 * the repair thread goes on to the next page.  Who touches a page that is
 * being read joins those who sleep for it; faults of others on it are parked,
 * as always in C.  Only a thread of the guest that called
 * memsched_repair_range() waits.
 *
 * The content is verified, nothing else: it may have been written to the disk
 * meanwhile, the image may be another by now.  What has the checksum is what
 * the page held, since it was protected when it was compared with it.
 *
 * The end of a guest.  Its reads are abandoned: the pages are lost at once, so
 * that its threads wake up and end, and the buffer stays until the emulator
 * answers, or has no thread any more (ms_refills_drop()).
 *
 * Locks: refill_lock, a leaf.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "instance.h"
#include "protect-int.h"
#include "repair-int.h"

#define PAGE ((size_t)MEMSCHED_PAGE_SIZE)

typedef enum ReadState {
    READING,
    ENDING,                     /* somebody puts the page in its place */
    TELLING,                    /* it is settled who sleeps for it */
    ENDED,
} ReadState;

struct MemSchedDiskRead {
    MemSchedDiskRead *next;
    MemSchedDisk *disk;         /* taken */
    MemSchedRegion *region;     /* a reference, and entered until ENDED */
    uint64_t page;
    MemSchedPageState was;
    uint64_t sum, since_ns, start_ns;
    char *buffer;
    /* refill_lock: */
    ReadState state;
    bool whole;
    unsigned refs;              /* the emulator, and who waits */
};

static MsRepair *repair_of(const MemSchedDiskRead *read)
{
    return read->region->ms->repair;
}

static void unref(MsRepair *repair, MemSchedDiskRead *read)
{
    bool last;

    ms_lock(&repair->refill_lock);
    last = --read->refs == 0;
    ms_unlock(&repair->refill_lock);
    if (last) {
        ms_region_unref(read->region);
        free(read->buffer);
        g_free(read);
    }
}

/* The emulator does not have it any more. */
static void give_up(MsRepair *repair, MemSchedDiskRead *read)
{
    MemSchedDiskRead **at = &repair->reads;
    MemSchedDisk *disk = read->disk;

    ms_lock(&repair->refill_lock);
    while (*at != read) {
        at = &(*at)->next;
    }
    *at = read->next;
    ms_unlock(&repair->refill_lock);
    unref(repair, read);
    ms_disk_release(disk);
}

/* ---- the end of one ---- */

static void wake(MsRepair *repair, MemSchedDiskRead *read, bool whole)
{
    ms_lock(&repair->refill_lock);
    read->state = ENDED;
    read->whole = whole;
    for (unsigned i = 0; i < MS_ASKS; i++) {
        MsAsk *ask = &repair->ask[i];

        if (atomic_load(&ask->state) == MS_ASK_PARKED && ask->read == read) {
            ms_ask_answer(repair, ask, whole ? MEMSCHED_SIGBUS_FIXED
                                             : MEMSCHED_SIGBUS_LOST);
        }
    }
    ms_cond_broadcast(&repair->refill_cond);
    ms_unlock(&repair->refill_lock);
}

/*
 * Somebody waits for it in the handler?  Nobody joins any more, so that this
 * stays the answer: who comes later looks the page up when it has left C.
 */
static bool settle(MsRepair *repair, MemSchedDiskRead *read)
{
    bool awaited = false;

    ms_lock(&repair->refill_lock);
    read->state = TELLING;
    for (unsigned i = 0; i < MS_ASKS; i++) {
        MsAsk *ask = &repair->ask[i];

        awaited |= atomic_load(&ask->state) == MS_ASK_PARKED &&
                   ask->read == read && !ask->alone;
    }
    ms_unlock(&repair->refill_lock);
    return awaited;
}

/* The caller has made it ENDING. */
static void end(MemSchedDiskRead *read, bool whole)
{
    MemSchedRegion *region = read->region;
    MsProtectStats *stats = &region->client->protect_stats;

    whole = whole && ms_repair_place(region, read->page, read->buffer, true);
    ms_count(&stats->recovered, whole);
    ms_count(&stats->disk_recovered, whole);
    ms_count(&stats->disk_failed, !whole);
    ms_histogram_add(&stats->disk, region->ms->sys->now_ns(region->ms->sys) -
                                   read->start_ns);
    ms_repair_page_end(region, read->page, read->was, whole,
                       settle(repair_of(read), read), read->since_ns);
    wake(repair_of(read), read, whole);
    ms_region_leave(region);
}

static bool make_ending(MsRepair *repair, MemSchedDiskRead *read)
{
    bool ours;

    ms_lock(&repair->refill_lock);
    ours = read->state == READING;
    read->state = ours ? ENDING : read->state;
    ms_unlock(&repair->refill_lock);
    return ours;
}

void memsched_disk_read_done(MemSchedDiskRead *read, int64_t result)
{
    MsRepair *repair = repair_of(read);

    if (make_ending(repair, read)) {
        if (result >= 0 && (uint64_t)result < PAGE) {
            memset(read->buffer + result, 0, PAGE - result);
        }
        end(read, result >= 0 &&
            ms_parity_best()->sum(read->buffer, PAGE) == read->sum);
    }
    give_up(repair, read);
}

/* ---- the beginning ---- */

/* The page is sure, and its disk is there: the disk, taken. */
static MemSchedDisk *find(MemSchedRegion *region, uint64_t page,
                          MsDiskPlace *ret_place)
{
    MsProtect *protect = ms_protect_of(region);
    bool sure;

    if (protect == NULL) {
        return NULL;
    }
    ms_lock(&protect->disk_lock);
    sure = ms_diskmap_get(&protect->disk, page, ret_place) && ret_place->sure;
    ms_unlock(&protect->disk_lock);
    return sure ? ms_disk_take(region->client, ret_place->disk) : NULL;
}

MemSchedDiskRead *ms_refill_begin(MemSchedRegion *region, uint64_t page,
                                  MemSchedPageState was, uint64_t since_ns,
                                  MsAsk *ask)
{
    MsRepair *repair = region->ms->repair;
    MemSchedDiskRead *read;
    MsDiskPlace place;
    MemSchedDisk *disk = find(region, page, &place);

    if (disk == NULL) {
        return NULL;
    }
    if (!ms_region_enter_locked(region)) {
        ms_disk_release(disk);
        return NULL;
    }
    ms_unlock(&region->lock);
    read = g_new0(MemSchedDiskRead, 1);
    read->disk = disk;
    read->region = ms_region_ref(region);
    read->page = page;
    read->was = was;
    read->sum = place.sum;
    read->since_ns = since_ns;
    read->start_ns = region->ms->sys->now_ns(region->ms->sys);
    read->buffer = aligned_alloc(PAGE, PAGE);
    g_assert(read->buffer);     /* GLib's allocators end the process, too */
    read->refs = ask ? 1 : 2;
    ms_lock(&repair->refill_lock);
    read->next = repair->reads;
    repair->reads = read;
    if (ask) {
        ask->read = read;
        atomic_store(&ask->state, MS_ASK_PARKED);
    }
    ms_unlock(&repair->refill_lock);
    disk->ops.read(disk->opaque, read, place.offset_bytes, read->buffer, PAGE);
    return read;
}

bool ms_refill_wait(MemSchedDiskRead *read)
{
    MsRepair *repair = repair_of(read);
    bool whole;

    ms_lock(&repair->refill_lock);
    while (read->state != ENDED) {
        ms_cond_wait(&repair->refill_cond, &repair->refill_lock);
    }
    whole = read->whole;
    ms_unlock(&repair->refill_lock);
    unref(repair, read);
    return whole;
}

bool ms_refill_join(MemSchedRegion *region, uint64_t page, MsAsk *ask)
{
    MsRepair *repair = region->ms->repair;
    bool joined = false;

    ms_lock(&repair->refill_lock);
    for (MemSchedDiskRead *r = repair->reads; r && !joined; r = r->next) {
        if (r->region == region && r->page == page && r->state < TELLING) {
            ask->read = r;
            atomic_store(&ask->state, MS_ASK_PARKED);
            joined = true;
        }
    }
    ms_unlock(&repair->refill_lock);
    return joined;
}

/* ---- the end of a guest ---- */

/* One of this guest, or NULL; @reading: nobody has begun to end it. */
static MemSchedDiskRead *find_read_locked(MsRepair *repair,
                                          const MemSchedClient *client,
                                          bool reading)
{
    MemSchedDiskRead *read = repair->reads;

    while (read && (read->region->client != client ||
                    (reading && read->state != READING))) {
        read = read->next;
    }
    return read;
}

void ms_refills_abandon(MemSchedClient *client)
{
    MsRepair *repair = client->ms->repair;
    MemSchedDiskRead *read;

    if (repair == NULL) {
        return;                 /* it never ran */
    }
    do {
        ms_lock(&repair->refill_lock);
        read = find_read_locked(repair, client, true);
        if (read) {
            read->state = ENDING;
            read->refs++;
        }
        ms_unlock(&repair->refill_lock);
        if (read) {
            end(read, false);
            unref(repair, read);
        }
    } while (read);
}

void ms_refills_drop(MemSchedClient *client)
{
    MsRepair *repair = client->ms->repair;
    MemSchedDiskRead *read;

    if (repair == NULL) {
        return;                 /* it never ran */
    }
    do {
        ms_lock(&repair->refill_lock);
        read = find_read_locked(repair, client, false);
        ms_unlock(&repair->refill_lock);
        if (read) {
            give_up(repair, read);
        }
    } while (read);
}
