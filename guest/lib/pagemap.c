/*
 * Where our pages are in the guest's memory, if we may know
 *
 * The kernel shows frame numbers in /proc/self/pagemap to those who have
 * CAP_SYS_ADMIN, and 0 to everybody else (its documentation:
 * admin-guide/mm/pagemap.rst).  Without them the host finds the pages by their
 * content, which takes it longer.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define ENTRY_PRESENT   (UINT64_C(1) << 63)
#define ENTRY_PFN       ((UINT64_C(1) << 55) - 1)

/* Entries read at a time: a page of them, 2 MiB of memory. */
#define ENTRIES 512u

int bx_pagemap_open(void)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int read_entries(int fd, const char *address, uint64_t pages,
                        uint64_t entries[ENTRIES])
{
    size_t bytes = (pages < ENTRIES ? pages : ENTRIES) * sizeof(uint64_t);
    off_t offset = (uintptr_t)address / VBX_PAGE_BYTES * sizeof(uint64_t);
    ssize_t got = pread(fd, entries, bytes, offset);

    if (got < 0) {
        return -errno;
    }
    return got < (ssize_t)sizeof(uint64_t) ? -EIO
                                           : (int)(got / sizeof(uint64_t));
}

int bx_pagemap_runs(int fd, const void *address, uint64_t pages, uint64_t seq,
                    struct vbx_hint *ret_runs, size_t max, uint64_t *ret_pages)
{
    uint64_t entries[ENTRIES], done = 0;
    size_t runs = 0;

    while (done < pages) {
        int count = read_entries(fd, (const char *)address +
                                 done * VBX_PAGE_BYTES, pages - done, entries);

        if (count < 0) {
            return count;
        }
        for (int i = 0; i < count; i++, done++) {
            uint64_t gfn = entries[i] & ENTRY_PFN;
            struct vbx_hint *last = runs ? &ret_runs[runs - 1] : NULL;

            if (!(entries[i] & ENTRY_PRESENT)) {
                continue;
            }
            if (gfn == 0) {
                return -EPERM;
            }
            if (last && last->gfn + last->count == gfn &&
                last->seq + last->count == seq + done) {
                last->count++;
                continue;
            }
            if (runs == max) {
                *ret_pages = done;
                return (int)runs;
            }
            ret_runs[runs++] = (struct vbx_hint) { seq + done, gfn, 1 };
        }
    }
    *ret_pages = done;
    return (int)runs;
}
