/*
 * The memory that one application has set aside, epoch by epoch
 *
 * An *epoch* is one order of the host: its page k is the k-th page that was set
 * aside for it.  When a session ends its epochs are dead: their memory becomes
 * *stock*, which the next orders use first.
 *
 * Sizes are bytes or, where said, pages of 4 KiB.  Calls return 0 or -errno.
 * One thread at a time.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_RESERVOIR_H
#define BX_RESERVOIR_H

#include <stdbool.h>
#include <stdint.h>

#include "standard-headers/linux/virtio_balloon_ex.h"
#include "sys.h"

typedef struct BxReservoir BxReservoir;

typedef struct BxEpochId {
    uint32_t app;
    uint32_t granule_bytes;     /* 4096 or VBX_GRANULE_BYTES */
    uint64_t epoch;
    uint8_t key[VBX_KEY_BYTES];
} BxEpochId;

/* Pages [first_seq, first_seq + count) of an epoch. */
typedef struct BxPages {
    uint64_t epoch;
    uint64_t first_seq;
    uint64_t count;
} BxPages;

typedef struct BxReservoirInfo {
    uint64_t held_bytes;        /* all of it */
    uint64_t stock_bytes;       /* of dead epochs */
    uint64_t huge_bytes;        /* came as huge pages */
} BxReservoirInfo;

/* @huge: make huge pages of large granules.  -ENOMEM. */
int bx_reservoir_new(const BxSys *sys, bool huge, BxReservoir **ret_reservoir);

/* Unmaps everything.  NULL is fine. */
void bx_reservoir_free(BxReservoir *reservoir);

/* A new epoch, empty.  -EEXIST, -ENOMEM. */
int bx_reservoir_begin(BxReservoir *reservoir, const BxEpochId *id);

/*
 * Set up to @bytes more aside for the epoch and tag them; stock goes first.
 * May be short: what was done is in *ret_pages, never 0 pages on success.
 *
 *   -ENOENT   no such epoch
 *   -EINVAL   @bytes is less than a granule
 *   -EDQUOT   a limit of this process
 *   -ENOMEM   the guest has no memory left
 */
int bx_reservoir_set_aside(BxReservoir *reservoir, uint64_t epoch,
                           uint64_t bytes, BxPages *ret_pages);

/*
 * Unmap what there is of @pages; *ret_bytes is how much that was.  An epoch
 * whose last page goes is forgotten, unless it is @keep.  -ENOENT where there
 * is nothing of it.
 */
int bx_reservoir_unmap(BxReservoir *reservoir, const BxPages *pages,
                       uint64_t keep, uint64_t *ret_bytes);

/* The newest pages of any epoch, at most @max_pages in a row.  -ENOENT. */
int bx_reservoir_newest(const BxReservoir *reservoir, uint64_t max_pages,
                        BxPages *ret_pages);

/* Forget an epoch of which there is no page. */
void bx_reservoir_forget_empty(BxReservoir *reservoir, uint64_t epoch);

/* All epochs are dead: their memory is stock from now on. */
void bx_reservoir_end_session(BxReservoir *reservoir);

/* How much of the stock an order in such granules can use. */
uint64_t bx_reservoir_usable_stock(const BxReservoir *reservoir,
                                   uint32_t granule_bytes);

/* Unmap stock of at least @bytes, if there is so much; returns what went. */
uint64_t bx_reservoir_drop_stock(BxReservoir *reservoir, uint64_t bytes);

/*
 * Where page @seq is, and how many pages follow it without a gap, itself
 * included.  -ENOENT.
 */
int bx_reservoir_find(const BxReservoir *reservoir, uint64_t epoch,
                      uint64_t seq, const void **ret_address,
                      uint64_t *ret_count);

void bx_reservoir_info(const BxReservoir *reservoir, BxReservoirInfo *ret_info);

#endif
