/*
 * A pool over the real kernel, for tests of the pool
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef REAL_POOL_H
#define REAL_POOL_H

#include <glib.h>
#include <sys/mman.h>

#include "pool.h"
#include "real.h"

#define FRAME_PAGES MEMSCHED_PAGES_PER_FRAME

static inline MsPool *pool_new(uint64_t frames, uint32_t reserve)
{
    MsPoolOptions options = {
        .frames = frames, .small_reserve_pages = reserve,
    };
    MsPool *pool = NULL;
    int rc = ms_pool_new(ms_sys_real(), &options, &pool);

    g_assert_cmpint(rc, ==, 0);
    return pool;
}

static inline void assert_sound(MsPool *pool)
{
    MemSchedMessage message = { "" };

    if (ms_pool_check(pool, &message) != 0) {
        g_error("%s", message.text);
    }
}

static inline MsPoolCounts counts_of(MsPool *pool)
{
    MsPoolCounts counts;

    ms_pool_counts(pool, &counts);
    return counts;
}

static inline void work_all(MsPool *pool)
{
    /* Each piece makes progress; far more than any test here needs. */
    for (int i = 0; i < 10000; i++) {
        if (ms_pool_work(pool) == 0) {
            return;
        }
    }
    g_error("the background never runs out of work");
}

static inline void discard(const RealRam *ram, uint64_t first, uint64_t pages)
{
    madvise(real_page(ram, first), pages * MEMSCHED_PAGE_SIZE, MADV_DONTNEED);
}

static inline uint64_t pfn_of(const RealRam *ram, const void *address)
{
    uint64_t pfn = 0;
    int rc = ms_pagemap_pfn(&ram->pagemap, address, &pfn);

    g_assert_cmpint(rc, ==, 0);
    return pfn;
}

#endif /* REAL_POOL_H */
