/*
 * Clearing pages, and the thread that does it ahead of demand
 *
 * The thread calls ms_pool_work() in small pieces, behind ordinary threads of
 * the host (nice), within a budget of bytes a second, and stops within one
 * piece (2 MiB, about 0.2 ms).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SCRUB_H
#define MEMSCHED_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"
#include "sys.h"

/*
 * Clear whole pages.  On return the stores are visible to every CPU before
 * any later store of this thread (store fence): only then may a page be
 * called clean.
 */
void ms_clear_pages(void *address, uint64_t pages);

/*
 * Give each page a frame of its own, whatever it holds: ORs 0 into its first
 * word, atomically, so that others may use the page meanwhile.
 *
 * Why.  When the kernel splits a huge page (a move of a part of it, or onto
 * a range with a page table), it maps those of the 512 pages that hold zeros
 * to its shared zero page and frees their frames (Linux 6.13 and later).  A
 * write brings the frame back: about 1 us a page.  Call it after a split on
 * all pages of the former huge page, here and there, with every page present.
 */
void ms_touch_pages(void *address, uint64_t pages);

/* True if all bytes are zero. */
bool ms_pages_are_zero(const void *address, uint64_t pages);

/* True if both ranges hold the same bytes. */
bool ms_pages_equal(const void *a, const void *b, uint64_t pages);

typedef struct MsScrub MsScrub;

/*
 * Start the thread.  @max_bytes_per_s: 0 for no limit,
 * else at least 16 MiB (lower ones count as that).  -EAGAIN, -ENOMEM.
 * The pool outlives it.
 */
int ms_scrub_start(const MsSys *sys, MsPool *pool, uint64_t max_bytes_per_s,
                   MsScrub **ret_scrub);

/* End and join the thread; NULL is fine. */
void ms_scrub_stop(MsScrub *scrub);

#endif /* MEMSCHED_SCRUB_H */
