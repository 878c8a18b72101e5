/*
 * A pool over the fake kernel, and pretended guest RAM, for tests of the pool
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef POOL_FIXTURE_H
#define POOL_FIXTURE_H

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "fake-sys.h"
#include "pool.h"

#define FRAME_PAGES ((uint32_t)MEMSCHED_PAGES_PER_FRAME)
#define GUEST_FRAMES 12u

typedef struct Fixture {
    FakeSys *fake;
    const MsSys *sys;
    MsPool *pool;
    MsUffd uffd;
    void *map;
    char *ram;                  /* GUEST_FRAMES frames, advised huge */
} Fixture;

static inline void pool_start(Fixture *f, uint64_t frames, uint32_t reserve)
{
    MsPoolOptions options = {
        .frames = frames, .small_reserve_pages = reserve,
    };

    g_assert_cmpint(ms_pool_new(f->sys, &options, &f->pool), ==, 0);
}

static inline void setup(Fixture *f, const void *data)
{
    f->fake = fake_sys_new();
    f->sys = fake_sys(f->fake);
    f->pool = NULL;
    g_assert_cmpint(ms_uffd_open(&f->uffd, f->sys, MS_UFFD_MOVE), ==, 0);
    f->sys->mmap(f->sys, NULL, (GUEST_FRAMES + 1) * MEMSCHED_FRAME_SIZE,
                 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, &f->map);
    f->ram = (char *)(((uintptr_t)f->map + MEMSCHED_FRAME_SIZE - 1) &
                      ~(MEMSCHED_FRAME_SIZE - 1));
    f->sys->madvise(f->sys, f->ram, GUEST_FRAMES * MEMSCHED_FRAME_SIZE,
                    MADV_HUGEPAGE);
}

static inline void teardown(Fixture *f, const void *data)
{
    ms_pool_free(f->pool);
    f->sys->munmap(f->sys, f->map, (GUEST_FRAMES + 1) * MEMSCHED_FRAME_SIZE);
    ms_uffd_close(&f->uffd);
    fake_sys_free(f->fake);
}

static inline char *ram_page(Fixture *f, unsigned page)
{
    return f->ram + page * MEMSCHED_PAGE_SIZE;
}

static inline void assert_sound(Fixture *f)
{
    MemSchedMessage message = { "" };

    if (ms_pool_check(f->pool, &message) != 0) {
        g_error("%s", message.text);
    }
}

static inline MsPoolCounts counts_of(Fixture *f)
{
    MsPoolCounts counts;

    ms_pool_counts(f->pool, &counts);
    return counts;
}

static inline void work_all(Fixture *f)
{
    for (int i = 0; i < 10000; i++) {
        if (ms_pool_work(f->pool) == 0) {
            return;
        }
    }
    g_error("the background never runs out of work");
}

/* Everything out of the pool and into the guest, as huge pages. */
static inline void drain(Fixture *f, unsigned frames)
{
    for (unsigned i = 0; i < frames; i++) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_take(f->pool, FRAME_PAGES, MS_POOL_HUGE, &run),
                        ==, 0);
        g_assert_cmpint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                         ram_page(f, i * FRAME_PAGES),
                                         FRAME_PAGES, true).stop,
                        ==, MS_MOVE_DONE);
        ms_pool_take_end(f->pool, &run, NULL, false);
        memset(ram_page(f, i * FRAME_PAGES), 1, MEMSCHED_FRAME_SIZE);
    }
}

static inline void capture(Fixture *f, unsigned page, unsigned pages)
{
    unsigned end = page + pages;

    while (page < end) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_capture_begin(f->pool, MIN(end - page, 512),
                                              false, &run), ==, 0);
        g_assert_cmpuint(ms_pool_move_in(f->pool, &run, 0, ram_page(f, page),
                                         run.pages).moved_pages,
                         ==, run.pages);
        page += run.pages;
        ms_pool_capture_end(f->pool, &run, NULL);
    }
}

/* As above, in runs that leave no page huge. */
static inline void capture_in_parts(Fixture *f, unsigned pages)
{
    for (unsigned at = 0; at < pages; at += 128) {
        capture(f, at, 128);
    }
}

#define POOL_TEST(name, func) \
    g_test_add("/pool/" name, Fixture, NULL, setup, func, teardown)

#endif /* POOL_FIXTURE_H */
