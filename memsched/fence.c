/*
 * Count of live DMA mappings of each 2 MiB of address space
 *
 * A two-level table over user addresses: 2^13 leaves of 2^13 counters, each
 * leaf (32 KiB) stands for 16 GiB.  Leaves are made when a region is
 * registered and stay until the end, so a device thread needs neither lock
 * nor reference.
 *
 * Order.  A mover reads the counter after the page has left the guest; a
 * device raises it before it hands the address to the kernel.  With both
 * sequentially consistent, either the mover sees the mapping and puts the page
 * back, or the device's access finds the page gone, faults, and waits for the
 * end of the move.
 *
 * A mapping that was made before the leaf existed is not counted; its end must
 * not take another one's count away below zero, hence the loop.  RAM is
 * registered when its block is made, before anything can be mapped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>

#include "fence.h"

#define FRAME_SHIFT 21
#define LAST_FRAME  ((UINT64_C(1) << (MS_FENCE_ADDRESS_BITS - FRAME_SHIFT)) - 1)

/* First and last frame of a range; false: empty or beyond user space. */
static bool frames_of(const void *host, uint64_t bytes, uint64_t *ret_first,
                      uint64_t *ret_last)
{
    uint64_t start = (uintptr_t)host;

    if (bytes == 0 || start + (bytes - 1) < start ||
        (start + (bytes - 1)) >> FRAME_SHIFT > LAST_FRAME) {
        return false;
    }
    *ret_first = start >> FRAME_SHIFT;
    *ret_last = (start + (bytes - 1)) >> FRAME_SHIFT;
    return true;
}

static _Atomic uint32_t *counter(MsFence *fence, uint64_t frame)
{
    _Atomic uint32_t *leaf = atomic_load(&fence->top[frame / MS_FENCE_LEAF]);

    return leaf ? &leaf[frame % MS_FENCE_LEAF] : NULL;
}

int ms_fence_cover(MsFence *fence, const void *host, uint64_t bytes)
{
    uint64_t first, last;

    if (!frames_of(host, bytes, &first, &last)) {
        return -EINVAL;
    }
    for (uint64_t i = first / MS_FENCE_LEAF; i <= last / MS_FENCE_LEAF; i++) {
        _Atomic uint32_t *none = NULL, *leaf;

        if (atomic_load(&fence->top[i])) {
            continue;
        }
        leaf = calloc(MS_FENCE_LEAF, sizeof(*leaf));
        if (leaf == NULL) {
            return -ENOMEM;
        }
        if (!atomic_compare_exchange_strong(&fence->top[i], &none, leaf)) {
            free(leaf);         /* another region was faster */
        }
    }
    return 0;
}

void ms_fence_begin(MsFence *fence, const void *host, uint64_t bytes)
{
    uint64_t first, last;

    if (!frames_of(host, bytes, &first, &last)) {
        return;
    }
    for (uint64_t f = first; f <= last; f++) {
        _Atomic uint32_t *count = counter(fence, f);

        if (count) {
            atomic_fetch_add(count, 1);
        }
    }
}

void ms_fence_end(MsFence *fence, const void *host, uint64_t bytes)
{
    uint64_t first, last;

    if (!frames_of(host, bytes, &first, &last)) {
        return;
    }
    for (uint64_t f = first; f <= last; f++) {
        _Atomic uint32_t *count = counter(fence, f);
        uint32_t was = count ? atomic_load(count) : 0;

        while (was && !atomic_compare_exchange_weak(count, &was, was - 1)) {
            continue;
        }
    }
}

bool ms_fence_is_raised(MsFence *fence, const void *host)
{
    uint64_t first, last;
    _Atomic uint32_t *count;

    if (!frames_of(host, 1, &first, &last)) {
        return false;
    }
    count = counter(fence, first);
    return count && atomic_load(count) != 0;
}

void ms_fence_destroy(MsFence *fence)
{
    for (unsigned i = 0; i < MS_FENCE_TOP; i++) {
        free(atomic_exchange(&fence->top[i], NULL));
    }
}
