/*
 * One cache that follows the memory condition
 *
 * Owns the loop's one step: measure the cache and the guest, decide by size.h,
 * set the limit; and, where the cache takes part in giving memory up, what
 * give() and have() of libballoonex mean for it.
 *
 * One thread, which also calls bx_dispatch().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BX_FOLLOW_H
#define BX_FOLLOW_H

#include <stdbool.h>

#include "cache.h"
#include "size.h"

typedef struct Follow {
    Cache *cache;
    Bx *bx;
    SizeOptions size;
    const char *meminfo;        /* /proc/meminfo, but in tests */
    bool offers;                /* bx_offer() was called */
    uint64_t limit;             /* that was set last; 0: none yet */
    CacheFigures figures;       /* as measured last */
    uint64_t limits_set;
} Follow;

/* MemAvailable, bytes.  -EIO */
int follow_available(const char *meminfo, uint64_t *ret_bytes);

/* Once a second, or when the condition changes.  0, or what cache.h says. */
int follow_step(Follow *follow);

/* For BxOffer: opaque is the Follow. */
uint64_t follow_give(void *opaque, uint64_t bytes);
void follow_have(void *opaque, uint64_t bytes);

#endif
