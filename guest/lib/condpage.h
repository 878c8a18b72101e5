/*
 * The condition page: one writer, any number of readers, no system call
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_CONDPAGE_H
#define BX_CONDPAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "balloonex.h"
#include "wire.h"

#define BX_CONDPAGE_NAME "condition"
#define BX_CONDPAGE_BYTES 4096u

/* As in the file: all fields of a condition, in 64-bit words. */
typedef struct BxFigures {
    uint8_t session[16];
    uint64_t generation;
    uint32_t level, host_level;
    uint32_t pressure, shares;
    uint32_t is_connected, reserved;
    uint64_t gathered_ns;       /* CLOCK_MONOTONIC of this guest */
    uint64_t ram, min, max, entitlement, target, allocated, reservable;
    uint64_t ballooned_kernel, ballooned_application, ballooned_reported;
} BxFigures;

typedef struct BxCondPage BxCondPage;   /* the mapped file */

/*
 * For the agent.  Open or make the file @path, 0644, and map it.  A file that
 * is there is used again, so that those who have it mapped go on: it must be
 * a regular file of ours.
 *
 *   -EPERM    it is something else
 *   -errno    of open(), ftruncate(), mmap()
 */
int bx_condpage_create(const char *path, BxCondPage **ret_page);

/* One thread of one process. */
void bx_condpage_write(BxCondPage *page, const BxFigures *figures);

/* For readers.  -ENODATA: the file is not there, or nothing was written. */
int bx_condpage_open(const char *path, const BxCondPage **ret_page,
                     uint64_t *ret_inode);

/*
 * Any thread; never waits for the writer.  -ENODATA: nothing was written yet.
 * -EAGAIN: it is written anew faster than it can be read.
 */
int bx_condpage_read(const BxCondPage *page, BxFigures *ret_figures);

/* NULL is fine. */
void bx_condpage_unmap(const BxCondPage *page);

/* Of CLOCK_MONOTONIC. */
uint64_t bx_now_ns(void);

void bx_figures_from_message(const struct vbx_condition *message,
                             uint64_t now_ns, BxFigures *ret_figures);
void bx_figures_to_condition(const BxFigures *figures, uint64_t now_ns,
                             BxCondition *ret_condition);

#endif
