/*
 * The arena: address space of the pool, and its first pages
 *
 * One reservation in two zones of slots, huge and small, advised apart:
 * MADV_HUGEPAGE for one, MADV_NOHUGEPAGE for the other, so that neither
 * khugepaged nor a fault makes of a slot what its zone is not.  It is
 * registered for write protection only: it must be registered to be a
 * destination of moves, and missing mode would make a stray touch of a hole
 * hang.
 *
 * Making and freeing happen in one thread, before and after all other use.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "abi.h"
#include "pool-int.h"

/*
 * Slots for each frame of the pool.  Huge: each frame may leave one slot
 * behind with a few small pages in it.  Small: runs of 257 pages, the worst
 * length, leave half a slot unused, and takes out of the middle as much again.
 */
#define HUGE_SLOTS_PER_FRAME  2
#define SMALL_SLOTS_PER_FRAME 4
#define SPARE_SLOTS           64    /* and an open one for each claim */

/* Prefault in pieces that take a few milliseconds, for progress. */
#define PREFAULT_FRAMES 32

static int advise_zone(const MsSys *sys, char *start, uint64_t slots,
                       int size_advice)
{
    size_t bytes = slots << MEMSCHED_FRAME_SHIFT;
    int rc = sys->madvise(sys, start, bytes, MADV_DONTFORK);

    if (rc < 0) {
        return rc;
    }
    /*
     * Best effort: a kernel without huge pages or without KSM says EINVAL,
     * and has nothing to be kept from.
     */
    sys->madvise(sys, start, bytes, size_advice);
    sys->madvise(sys, start, bytes, MADV_UNMERGEABLE);
    /* Other tenants' data does not belong into a core dump. */
    sys->madvise(sys, start, bytes, MADV_DONTDUMP);
    return 0;
}

static int map_arena(MsPool *pool)
{
    size_t bytes = ((size_t)pool->slot_count << MEMSCHED_FRAME_SHIFT)
                   + MEMSCHED_FRAME_SIZE;
    uint32_t huge = pool->huge.end;
    int rc;

    rc = pool->sys->mmap(pool->sys, NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                         &pool->map);
    if (rc < 0) {
        return rc;
    }
    pool->map_bytes = bytes;
    pool->arena = (char *)(((uintptr_t)pool->map + MEMSCHED_FRAME_SIZE - 1)
                           & ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1));
    rc = advise_zone(pool->sys, pool->arena, huge, MADV_HUGEPAGE);
    if (rc < 0) {
        return rc;
    }
    return advise_zone(pool->sys, ms_slot_address(pool, huge),
                       pool->slot_count - huge, MADV_NOHUGEPAGE);
}

int ms_pool_populate(const MsPool *pool, char *address, uint64_t bytes)
{
    int rc = pool->sys->madvise(pool->sys, address, bytes,
                                MS_MADV_POPULATE_WRITE);

    if (rc == -EINVAL) {        /* before Linux 5.14 */
        for (uint64_t at = 0; at < bytes; at += MEMSCHED_PAGE_SIZE) {
            /* volatile: the store is the purpose, not the value */
            *(volatile char *)(address + at) = 0;
        }
        rc = 0;
    }
    return rc;
}

static int prefault(MsPool *pool, const MsPoolOptions *options)
{
    uint64_t frames = options->frames;
    int rc;

    for (uint64_t done = 0; done < frames; ) {
        uint64_t n = frames - done < PREFAULT_FRAMES ? frames - done
                                                     : PREFAULT_FRAMES;

        rc = ms_pool_populate(pool, ms_slot_address(pool, done),
                              n << MEMSCHED_FRAME_SHIFT);
        if (rc < 0) {
            return rc == -EFAULT ? -ENOMEM : rc;
        }
        done += n;
        if (options->progress) {
            options->progress(options->opaque, done << MEMSCHED_FRAME_SHIFT,
                              frames << MEMSCHED_FRAME_SHIFT);
        }
    }
    ms_lock(&pool->lock);
    /* Backwards, so that the lists hand slots out by rising address. */
    for (uint32_t i = frames; i-- > 0; ) {
        MsSlot *slot = &pool->slots[i];

        slot->kind = MS_SLOT_WHOLE;
        slot->clean_whole = true;
        ms_pool_count_huge_locked(pool, true, 1);
        rc = ms_pagemap_is_huge(&pool->pagemap, ms_slot_address(pool, i));
        if (rc != 1) {
            /* Not one page: 512 of them, clean all the same. */
            ms_pool_count_huge_locked(pool, true, -1);
            ms_pool_count_small_locked(pool, true, MEMSCHED_PAGES_PER_FRAME);
            slot->kind = MS_SLOT_SMALL;
            slot->table = true;
            ms_pageset_fill(&slot->present);
            ms_pageset_fill(&slot->clean);
        }
        ms_slot_sort_locked(pool, i);
    }
    pool->huge.fresh = frames;
    ms_unlock(&pool->lock);
    return 0;
}

static int alloc_slots(MsPool *pool)
{
    void *p;
    int rc;

    /* Mapped, not allocated: slots that are never used cost nothing. */
    pool->slots_bytes = (size_t)pool->slot_count * sizeof(MsSlot);
    rc = pool->sys->mmap(pool->sys, NULL, pool->slots_bytes,
                         PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         &p);
    if (rc < 0) {
        return rc;
    }
    pool->slots = p;
    for (unsigned g = 0; g <= MS_POOL_CLAIMS; g++) {
        pool->group[g].open_slot = MS_NO_SLOT;
        for (unsigned i = 0; i < MS_LISTS; i++) {
            pool->group[g].lists[i].first = MS_NO_SLOT;
            pool->group[g].lists[i].last = MS_NO_SLOT;
        }
    }
    return 0;
}

static int pool_setup(MsPool *pool, const MsPoolOptions *options)
{
    int rc = ms_pagemap_open(&pool->pagemap, pool->sys);

    if (rc < 0) {
        return rc;
    }
    rc = ms_uffd_open(&pool->uffd, pool->sys, MS_UFFD_MOVE | MS_UFFD_WP);
    if (rc == -ENOSYS) {
        /* No moves: the arena is filled and emptied by ms_pool_fill(). */
        rc = 0;
    }
    if (rc < 0) {
        return rc;
    }
    rc = alloc_slots(pool);
    if (rc < 0) {
        return rc;
    }
    rc = map_arena(pool);
    if (rc < 0) {
        return rc;
    }
    if (pool->uffd.fd >= 0) {
        rc = ms_uffd_register(&pool->uffd, pool->arena,
                              (uint64_t)pool->slot_count *
                              MEMSCHED_PAGES_PER_FRAME, MS_UFFD_MODE_WP);
        if (rc < 0) {
            return rc;
        }
    }
    return prefault(pool, options);
}

int ms_pool_new(const MsSys *sys, const MsPoolOptions *options,
                MsPool **ret_pool)
{
    uint64_t frames = options->frames, reserve = options->small_reserve_pages;
    uint64_t huge = frames * HUGE_SLOTS_PER_FRAME + SPARE_SLOTS;
    uint64_t all = huge + frames * SMALL_SLOTS_PER_FRAME + SPARE_SLOTS +
                   MS_POOL_CLAIMS;
    MsPool *pool;
    int rc;

    /* 2^28 frames are 512 TiB: slot numbers fit 32 bits, sizes 64. */
    if (frames == 0 || frames > UINT64_C(1) << 28) {
        return -EINVAL;
    }
    pool = calloc(1, sizeof(*pool));
    if (!pool) {
        return -ENOMEM;
    }
    if (reserve == 0) {
        reserve = frames * MEMSCHED_PAGES_PER_FRAME / 64;
        reserve = reserve < 256 ? 256 : reserve > 4096 ? 4096 : reserve;
    }
    pool->sys = sys;
    pool->uffd = (MsUffd) { .sys = sys, .fd = -1 };
    pool->pagemap = (MsPagemap) { .sys = sys, .fd = -1 };
    pool->pages = frames * MEMSCHED_PAGES_PER_FRAME;
    pool->reserve_pages = reserve;
    pool->slot_count = all;
    pool->huge.end = huge;
    pool->small = (MsZone) { .first = huge, .fresh = huge, .end = all };
    ms_lock_init(&pool->lock, MS_RANK_POOL);
    ms_cond_init(&pool->returned);
    ms_cond_init(&pool->work);

    rc = pool_setup(pool, options);
    if (rc < 0) {
        ms_pool_free(pool);
        return rc;
    }
    *ret_pool = pool;
    return 0;
}

void ms_pool_free(MsPool *pool)
{
    if (!pool) {
        return;
    }
    /* Unmapped before the descriptor closes: no hole turns into zero pages. */
    if (pool->map) {
        pool->sys->munmap(pool->sys, pool->map, pool->map_bytes);
    }
    if (pool->slots) {
        pool->sys->munmap(pool->sys, pool->slots, pool->slots_bytes);
    }
    ms_uffd_close(&pool->uffd);
    ms_pagemap_close(&pool->pagemap);
    ms_cond_destroy(&pool->work);
    ms_cond_destroy(&pool->returned);
    ms_lock_destroy(&pool->lock);
    free(pool);
}
