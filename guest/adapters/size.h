/*
 * How large a cache should be
 *
 * Pure: figures in, a size out.  Bytes, and milliseconds where said.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BX_SIZE_H
#define BX_SIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "balloonex.h"

/* Older figures are no reason to grow. */
#define SIZE_STALE_MS 15000u

typedef struct SizeOptions {
    uint64_t min, max;          /* of the cache; max 0: no limit of its own */
    uint64_t keep;              /* stays free for everybody else */
} SizeOptions;

typedef struct SizeInput {
    const BxCondition *condition;       /* NULL: no host has told any */
    uint64_t available;         /* MemAvailable of this guest */
    uint64_t cache;             /* what the cache uses now */
    uint64_t limit;             /* what it is allowed now */
} SizeInput;

/*
 * What this guest can still use: no more than its kernel says, and no more
 * than the host will back.
 */
uint64_t size_headroom(const SizeInput *input);

/*
 * The limit that the cache should have now.  Call it about once a second: one
 * call lets the cache grow by a quarter at most, and each call shrinks it
 * further while there is need.
 */
uint64_t size_next(const SizeOptions *options, const SizeInput *input);

#endif
