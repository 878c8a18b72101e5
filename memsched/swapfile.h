/*
 * A file, or a block device, with pages of guests
 *
 * Pages are kept by number and read back with their checksum compared: what
 * comes back is what was written, or an error.
 *
 * The file is nobody's but this process's: it is created anew, readable by its
 * owner only, and has no name any more when ms_swapfile_open() returns, so that
 * nothing of a guest's memory is left behind however the process ends.  The
 * kernel's page cache is passed by where the file system allows it.
 *
 * Threads: any; one lock of rank leaf inside, not held while the file is read
 * or written.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SWAPFILE_H
#define MEMSCHED_SWAPFILE_H

#include <stdint.h>

#include "memsched/types.h"
#include "sys.h"

typedef struct MsSwapfile MsSwapfile;

/* Buffers for reading and writing are aligned to it. */
#define MS_SWAPFILE_ALIGN MEMSCHED_PAGE_SIZE

/*
 * A new file of @bytes (rounded down to a page), or the first @bytes of a block
 * device that nobody else has open.  -EEXIST: there is a file of this name;
 * -EBUSY, -ENOSPC, -EINVAL, or another error of open(); the message says which
 * and why.
 */
int ms_swapfile_open(const MsSys *sys, const char *path, uint64_t bytes,
                     MsSwapfile **ret_file, MemSchedMessage *ret_message);
void ms_swapfile_close(MsSwapfile *file);       /* NULL is fine */

/*
 * Up to @want pages in a row that are free, and now the caller's: how many,
 * and the first one; 0: none is left.
 */
unsigned ms_swapfile_reserve(MsSwapfile *file, unsigned want,
                             uint32_t *ret_first);
void ms_swapfile_release(MsSwapfile *file, uint32_t first, unsigned count);

/* -EIO and the like: none of them is to be relied on.  Waits for the disk. */
int ms_swapfile_write(MsSwapfile *file, uint32_t first, unsigned count,
                      const void *pages);

/*
 * One page.  -EBADMSG: it is not what was written; -EIO and the like.  Waits
 * for the disk.
 */
int ms_swapfile_read(MsSwapfile *file, uint32_t number, void *ret_page);

typedef struct MsSwapfileCounts {
    uint64_t pages, used_pages;
    uint64_t written_pages, read_pages;         /* since start */
    uint64_t write_errors, read_errors;
} MsSwapfileCounts;

void ms_swapfile_counts(MsSwapfile *file, MsSwapfileCounts *ret_counts);

/* NULL if the counts equal a recount, else what differs. */
const char *ms_swapfile_check(MsSwapfile *file);

#endif /* MEMSCHED_SWAPFILE_H */
