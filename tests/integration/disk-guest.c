/*
 * A pretended disk, and a guest that reads it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "disk-guest.h"
#include "errors.h"

#define PAGE    ((size_t)MEMSCHED_PAGE_SIZE)
#define WAIT_US (20 * G_USEC_PER_SEC)

typedef struct Request {
    MemSchedDiskRead *read;     /* NULL: the thread is to end */
    uint64_t offset, length;
    void *buffer;
} Request;

static void ask(Disk *disk, Request *r)
{
    ms_lock(&disk->lock);
    g_queue_push_tail(&disk->requests, r);
    ms_cond_broadcast(&disk->cond);
    ms_unlock(&disk->lock);
}

static Request *next(Disk *disk)
{
    Request *r;

    ms_lock(&disk->lock);
    while ((r = g_queue_pop_head(&disk->requests)) == NULL) {
        ms_cond_wait(&disk->cond, &disk->lock);
    }
    ms_unlock(&disk->lock);
    return r;
}

static void disk_read(void *opaque, MemSchedDiskRead *read, uint64_t offset,
                      void *buffer, uint64_t length)
{
    Disk *disk = opaque;
    Request *r = g_new(Request, 1);

    *r = (Request) {
        .read = read, .offset = offset, .length = length, .buffer = buffer,
    };
    disk->asked++;
    ask(disk, r);
}

static const MemSchedDiskOps disk_ops = { .read = disk_read };

static void *disk_thread(void *opaque)
{
    Disk *disk = opaque;

    for (;;) {
        Request *r = next(disk);
        int64_t n = 0;

        if (r->read == NULL) {
            g_free(r);
            return NULL;
        }
        while (disk->held) {
            g_usleep(100);
        }
        if (r->offset < disk->bytes) {
            n = MIN(r->length, disk->bytes - r->offset);
            memcpy(r->buffer, disk->data + r->offset, n);
        }
        memsched_disk_read_done(r->read, disk->fails ? -EIO : n);
        disk->answered++;
        g_free(r);
    }
}

Disk *disk_new(Guest *guest, uint64_t pages)
{
    Disk *disk = g_new0(Disk, 1);

    disk->bytes = pages * PAGE;
    disk->data = g_malloc(disk->bytes);
    for (uint64_t i = 0; i < disk->bytes / 8; i++) {
        ((uint64_t *)disk->data)[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    }
    ms_lock_init(&disk->lock, MS_RANK_LEAF);
    ms_cond_init(&disk->cond);
    g_queue_init(&disk->requests);
    g_assert_cmpint(memsched_disk_new(guest->client, &disk_ops, disk,
                                      &disk->disk), ==, 0);
    disk->thread = g_thread_new("disk", disk_thread, disk);
    return disk;
}

void disk_kill(Disk *disk)
{
    ask(disk, g_new0(Request, 1));
    g_thread_join(disk->thread);
    disk->thread = NULL;
}

void disk_free(Disk *disk, bool closed)
{
    if (!closed) {
        g_assert_true(memsched_disk_free(disk->disk));
    }
    if (disk->thread) {
        disk_kill(disk);
    }
    g_queue_clear_full(&disk->requests, g_free);
    ms_cond_destroy(&disk->cond);
    ms_lock_destroy(&disk->lock);
    g_free(disk->data);
    g_free(disk);
}

/* As an emulator does it. */
uint64_t disk_fill(Guest *guest, Disk *disk, uint64_t page, uint64_t count,
                   uint64_t offset)
{
    uint64_t stamp = memsched_disk_stamp(disk->disk);

    memsched_dma_begin(guest->ram + page * PAGE, count * PAGE);
    memcpy(guest->ram + page * PAGE, disk->data + offset, count * PAGE);
    stamp = memsched_disk_filled(disk->disk, stamp, offset,
                                 guest->ram + page * PAGE, count * PAGE);
    memsched_dma_end(guest->ram + page * PAGE, count * PAGE);
    return stamp;
}

void disk_wait(Guest *guest, uint64_t pages)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedProtectionInfo info;

    do {
        info = errors_query(guest);
        if (info.disk_bytes == pages * PAGE && info.disk_unsure_bytes == 0) {
            return;
        }
        g_usleep(200);
    } while (g_get_monotonic_time() < end);
    g_error("guest %s: %" G_GUINT64_FORMAT " pages located and %"
            G_GUINT64_FORMAT " unsure after 20 s, not %" G_GUINT64_FORMAT
            " and 0", guest->id, info.disk_bytes / PAGE,
            info.disk_unsure_bytes / PAGE, pages);
}

bool disk_is_page(Guest *guest, Disk *disk, uint64_t page, uint64_t offset)
{
    return memcmp(guest->ram + page * PAGE, disk->data + offset, PAGE) == 0;
}
