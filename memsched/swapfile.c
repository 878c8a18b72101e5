/*
 * A file, or a block device, with pages of guests
 *
 * Owns the descriptor, one bit a page (in use), and one checksum a page.  A
 * free run is looked for from where the last one ended: pages that left a guest
 * together lie together.
 *
 * The checksum is CRC-64, as of protected pages.  It is compared on every read,
 * since the page goes to a guest as its own memory: a disk that returns another
 * page's data without an error would be silent corruption.
 *
 * Errors.  A write that fails leaves the caller with the page, which stays in
 * its guest.  A read is tried once more; then the page is lost.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>

#include "lock.h"
#include "message.h"
#include "parity.h"
#include "swapfile.h"

#define READ_TRIES 2u
/* Numbers stay below 2^31 - 1, and memory for the books within reason. */
#define MOST_PAGES (UINT64_C(1) << 30)

struct MsSwapfile {
    const MsSys *sys;
    int fd;
    uint64_t *sum;              /* of pages in use: their owner's */
    MsLock lock;
    /* under the lock */
    uint64_t *used;             /* one bit a page */
    uint64_t next;              /* looked at first */
    MsSwapfileCounts counts;
};

int ms_swapfile_open(const MsSys *sys, const char *path, uint64_t bytes,
                     MsSwapfile **ret_file, MemSchedMessage *ret_message)
{
    uint64_t pages = bytes >> MEMSCHED_PAGE_SHIFT;
    MsSwapfile *file;
    int fd;

    if (pages == 0 || pages > MOST_PAGES) {
        ms_say(ret_message, "the swap file of memsched must have from 4 KiB to"
               " 4 TiB");
        return -EINVAL;
    }
    fd = sys->create(sys, path, pages << MEMSCHED_PAGE_SHIFT);
    if (fd == -EEXIST) {
        ms_say(ret_message, "the swap file '%s' of memsched exists already:"
               " give it a new name, so that nothing is overwritten", path);
    } else if (fd == -ENOSPC || fd == -EFBIG) {
        ms_say(ret_message, "the swap file '%s' of memsched does not fit: there"
               " is no room for %" PRIu64 " MiB", path,
               pages >> (20 - MEMSCHED_PAGE_SHIFT));
    } else if (fd < 0) {
        ms_say(ret_message, "the swap file '%s' of memsched cannot be used: %s",
               path, g_strerror(-fd));
    }
    if (fd < 0) {
        return fd;
    }
    file = g_new0(MsSwapfile, 1);
    file->sys = sys;
    file->fd = fd;
    file->sum = g_new0(uint64_t, pages);
    file->used = g_new0(uint64_t, (pages + 63) / 64);
    file->counts.pages = pages;
    ms_lock_init(&file->lock, MS_RANK_LEAF);
    *ret_file = file;
    return 0;
}

void ms_swapfile_close(MsSwapfile *file)
{
    if (file == NULL) {
        return;
    }
    file->sys->close(file->sys, file->fd);
    ms_lock_destroy(&file->lock);
    g_free(file->sum);
    g_free(file->used);
    g_free(file);
}

/* ---- which pages are in use ---- */

static bool is_used(const MsSwapfile *file, uint64_t page)
{
    return file->used[page / 64] >> (page % 64) & 1;
}

/* The first free page in [from, end), or @end. */
static uint64_t next_free(const MsSwapfile *file, uint64_t from, uint64_t end)
{
    while (from < end && is_used(file, from)) {
        if (from % 64 == 0 && file->used[from / 64] == UINT64_MAX) {
            from += 64;
        } else {
            from++;
        }
    }
    return MIN(from, end);
}

unsigned ms_swapfile_reserve(MsSwapfile *file, unsigned want,
                             uint32_t *ret_first)
{
    uint64_t pages = file->counts.pages, first;
    unsigned n = 0;

    ms_lock(&file->lock);
    first = next_free(file, file->next, pages);
    if (first == pages) {
        first = next_free(file, 0, pages);
    }
    while (n < want && first + n < pages && !is_used(file, first + n)) {
        file->used[(first + n) / 64] |= UINT64_C(1) << (first + n) % 64;
        n++;
    }
    file->counts.used_pages += n;
    file->next = first + n < pages ? first + n : 0;
    ms_unlock(&file->lock);
    *ret_first = (uint32_t)first;
    return n;
}

void ms_swapfile_release(MsSwapfile *file, uint32_t first, unsigned count)
{
    ms_lock(&file->lock);
    for (uint64_t p = first; p < (uint64_t)first + count; p++) {
        file->used[p / 64] &= ~(UINT64_C(1) << p % 64);
    }
    file->counts.used_pages -= count;
    ms_unlock(&file->lock);
}

/* ---- reading and writing ---- */

static int write_all(MsSwapfile *file, const char *from, size_t bytes,
                     uint64_t offset)
{
    while (bytes > 0) {
        ssize_t n = file->sys->pwrite(file->sys, file->fd, from, bytes,
                                      offset);

        if (n <= 0) {
            return n < 0 ? (int)n : -EIO;
        }
        from += n;
        bytes -= n;
        offset += n;
    }
    return 0;
}

int ms_swapfile_write(MsSwapfile *file, uint32_t first, unsigned count,
                      const void *pages)
{
    const MsParityKernel *kernel = ms_parity_best();
    const char *page = pages;
    int ret = write_all(file, page, (size_t)count << MEMSCHED_PAGE_SHIFT,
                        (uint64_t)first << MEMSCHED_PAGE_SHIFT);

    for (unsigned i = 0; i < count && ret == 0; i++) {
        file->sum[first + i] =
            kernel->sum(page + ((size_t)i << MEMSCHED_PAGE_SHIFT),
                        MEMSCHED_PAGE_SIZE);
    }
    ms_lock(&file->lock);
    file->counts.written_pages += ret == 0 ? count : 0;
    file->counts.write_errors += ret < 0;
    ms_unlock(&file->lock);
    return ret;
}

static int read_page(MsSwapfile *file, uint32_t number, char *to)
{
    uint64_t offset = (uint64_t)number << MEMSCHED_PAGE_SHIFT;
    size_t done = 0;

    while (done < MEMSCHED_PAGE_SIZE) {
        ssize_t n = file->sys->pread(file->sys, file->fd, to + done,
                                     MEMSCHED_PAGE_SIZE - done,
                                     offset + done);

        if (n <= 0) {
            return n < 0 ? (int)n : -EIO;
        }
        done += n;
    }
    return ms_parity_best()->sum(to, MEMSCHED_PAGE_SIZE) == file->sum[number]
           ? 0 : -EBADMSG;
}

int ms_swapfile_read(MsSwapfile *file, uint32_t number, void *ret_page)
{
    int ret = -EIO;

    for (unsigned i = 0; i < READ_TRIES && ret < 0; i++) {
        ret = read_page(file, number, ret_page);
    }
    ms_lock(&file->lock);
    file->counts.read_pages += ret == 0;
    file->counts.read_errors += ret < 0;
    ms_unlock(&file->lock);
    return ret;
}

/* ---- numbers ---- */

void ms_swapfile_counts(MsSwapfile *file, MsSwapfileCounts *ret_counts)
{
    ms_lock(&file->lock);
    *ret_counts = file->counts;
    ms_unlock(&file->lock);
}

const char *ms_swapfile_check(MsSwapfile *file)
{
    uint64_t used = 0;
    bool same;

    ms_lock(&file->lock);
    for (uint64_t p = 0; p < file->counts.pages; p++) {
        used += is_used(file, p);
    }
    same = used == file->counts.used_pages;
    ms_unlock(&file->lock);
    return same ? NULL : "pages in use of the swap file differ from their"
                         " count";
}
