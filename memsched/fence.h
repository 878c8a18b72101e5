/*
 * Count of live DMA mappings of each 2 MiB of address space
 *
 * Indexed by host address, not by region: the counters outlive regions, so
 * that raising and dropping needs no lock and no reference.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_FENCE_H
#define MEMSCHED_FENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* User addresses of x86-64 without 5-level paging; others are refused. */
#define MS_FENCE_ADDRESS_BITS 47
#define MS_FENCE_LEAF_BITS    13
#define MS_FENCE_TOP \
    (1u << (MS_FENCE_ADDRESS_BITS - 21 - MS_FENCE_LEAF_BITS))
#define MS_FENCE_LEAF         (1u << MS_FENCE_LEAF_BITS)

typedef struct MsFence {
    _Atomic(_Atomic uint32_t *) top[MS_FENCE_TOP];
} MsFence;

/* Make counters for a range.  -EINVAL (beyond user space), -ENOMEM. */
int ms_fence_cover(MsFence *fence, const void *host, uint64_t bytes);

/* Ranges without counters are ignored.  Lock-free. */
void ms_fence_begin(MsFence *fence, const void *host, uint64_t bytes);
void ms_fence_end(MsFence *fence, const void *host, uint64_t bytes);

/* True while the 2 MiB that hold @host have a live mapping. */
bool ms_fence_is_raised(MsFence *fence, const void *host);

/* No thread uses it any more. */
void ms_fence_destroy(MsFence *fence);

#endif /* MEMSCHED_FENCE_H */
