/*
 * The pool against the real kernel under random traffic, from one thread and
 * from several: no page is lost or seen twice
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "abi.h"
#include "real-pool.h"
#include "scrub.h"

/* ---- random operations, with the scrubber at work ---- */

typedef struct Guest {
    RealRam *ram;
    MsPageSet *resident;        /* one a frame */
} Guest;

/* The kernel (compaction) has a page in its hands for a moment now and then. */
static MsMoveResult move_in(MsPool *pool, MsPoolRun *run, char *src)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    uint32_t done = 0;
    MsMoveResult moved;

    do {
        moved = ms_pool_move_in(pool, run, done,
                                src + done * MEMSCHED_PAGE_SIZE,
                                run->pages - done);
        done += moved.moved_pages;
    } while ((moved.stop == MS_MOVE_BUSY || moved.stop == MS_MOVE_AGAIN) &&
             g_get_monotonic_time() < end);
    moved.moved_pages = done;
    return moved;
}

static void capture_some(MsPool *pool, Guest *guest, unsigned frame,
                         unsigned first, unsigned count)
{
    uint64_t page = frame * FRAME_PAGES + first;
    bool huge = count == FRAME_PAGES &&
                ms_pagemap_is_huge(&guest->ram->pagemap,
                                   real_page(guest->ram, page)) == 1;
    unsigned at = 0;

    while (at < count) {
        MsPoolRun run;
        MsPageSet arrived;
        MsMoveResult moved;

        g_assert_cmpint(ms_pool_capture_begin(pool, count - at, huge, &run),
                        ==, 0);
        moved = move_in(pool, &run, real_page(guest->ram, page + at));
        g_assert_cmpint(moved.stop, ==, MS_MOVE_DONE);
        ms_pageset_clear(&arrived);
        ms_pageset_add(&arrived, 0, moved.moved_pages);
        at += run.pages;
        ms_pool_capture_end(pool, &run, &arrived);
    }
    ms_pageset_remove(&guest->resident[frame], first, count);
    if (ms_pageset_empty(&guest->resident[frame])) {
        discard(guest->ram, frame * FRAME_PAGES, FRAME_PAGES);
    }
}

static void populate_some(MsPool *pool, Guest *guest, unsigned frame,
                          unsigned first, unsigned count, unsigned flags)
{
    uint64_t page = frame * FRAME_PAGES + first;
    MsPoolRun run;
    MsPageSet left;
    int rc;

    rc = ms_pool_take(pool, count, flags, &run);
    if (rc < 0) {
        g_assert_true(rc == -ENOMEM || rc == -EAGAIN);
        return;
    }
    g_assert_true(ms_pages_are_zero(run.address, run.pages));
    g_assert_cmpuint(ms_pool_move_out(pool, &run, 0, &guest->ram->uffd,
                                      real_page(guest->ram, page), run.pages,
                                      true).moved_pages, ==, run.pages);
    memset(real_page(guest->ram, page), 0x5a, run.pages * MEMSCHED_PAGE_SIZE);
    ms_pageset_add(&guest->resident[frame], first, run.pages);
    ms_pageset_clear(&left);
    ms_pageset_add(&left, 0, run.pages);
    ms_pool_take_end(pool, &run, &left, false);
}

static void random_step(MsPool *pool, Guest *guest, GRand *rand,
                        unsigned frames)
{
    unsigned frame = g_rand_int_range(rand, 0, frames);
    MsPageSet *resident = &guest->resident[frame];
    unsigned from = g_rand_int_range(rand, 0, FRAME_PAGES);
    unsigned first, count, room;

    if (g_rand_int_range(rand, 0, 4) == 0) {
        from = 0;
    }
    if (g_rand_boolean(rand)) {
        if (ms_pageset_run(resident, from, &first, &count)) {
            if (g_rand_boolean(rand)) {
                count = g_rand_int_range(rand, 1, count + 1);
            }
            capture_some(pool, guest, frame, first, count);
        }
    } else if (ms_pageset_empty(resident) && g_rand_boolean(rand)) {
        populate_some(pool, guest, frame, 0, FRAME_PAGES, MS_POOL_HUGE);
    } else {
        first = ms_pageset_next_gap(resident, from);
        if (first < FRAME_PAGES) {
            room = ms_pageset_next(resident, first) - first;
            populate_some(pool, guest, frame, first,
                          g_rand_int_range(rand, 1, room + 1), 0);
        }
    }
}

static void test_random_traffic_conserves_pages(void)
{
    enum { FRAMES = 24, STEPS = 4000 };
    uint32_t seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    MsPageSet resident[FRAMES] = { 0 };
    Guest guest = { .resident = resident };
    MsPool *pool;
    MsScrub *scrub = NULL;
    uint64_t total = 0;

    if (!real_usable()) {
        return;
    }
    g_test_message("seed %u", seed);
    pool = pool_new(16, 256);
    guest.ram = real_ram_new(FRAMES, true, MS_UFFD_MODE_WP);
    g_assert_cmpint(ms_scrub_start(ms_sys_real(), pool, 0, &scrub), ==, 0);
    for (unsigned i = 0; i < STEPS; i++) {
        random_step(pool, &guest, rand, FRAMES);
        if (i % 500 == 0) {
            assert_sound(pool);
        }
    }
    ms_scrub_stop(scrub);
    assert_sound(pool);
    for (unsigned i = 0; i < FRAMES; i++) {
        total += ms_pageset_count(&resident[i]);
    }
    total += counts_of(pool).free_clean_pages +
             counts_of(pool).free_dirty_pages;
    g_assert_cmpuint(total, ==, 16 * FRAME_PAGES);
    g_assert_cmpuint(counts_of(pool).taken_pages, ==, 0);
    g_assert_cmpuint(counts_of(pool).capture_pages, ==, 0);
    real_ram_free(guest.ram);
    ms_pool_free(pool);
    g_rand_free(rand);
}

/* ---- several threads, a pool that runs dry ---- */

typedef struct Worker {
    MsPool *pool;
    Guest guest;
    MsPageSet resident[8];
    uint32_t seed;
} Worker;

static void *worker_thread(void *opaque)
{
    Worker *worker = opaque;
    GRand *rand = g_rand_new_with_seed(worker->seed);

    for (unsigned i = 0; i < 1500; i++) {
        random_step(worker->pool, &worker->guest, rand, 8);
    }
    g_rand_free(rand);
    return NULL;
}

static void test_threads_on_a_dry_pool_conserve_pages(void)
{
    enum { WORKERS = 3, FRAMES = 10 };
    uint32_t seed = g_test_rand_int();
    Worker workers[WORKERS] = { 0 };
    GThread *threads[WORKERS];
    MsScrub *scrub = NULL;
    MsPoolCounts counts;
    uint64_t total = 0;
    MsPool *pool;

    if (!real_usable()) {
        return;
    }
    g_test_message("seed %u", seed);
    pool = pool_new(FRAMES, 256);
    g_assert_cmpint(ms_scrub_start(ms_sys_real(), pool, 0, &scrub), ==, 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        Worker *worker = &workers[i];

        worker->pool = pool;
        worker->seed = seed + i;
        worker->guest.resident = worker->resident;
        worker->guest.ram = real_ram_new(8, true, MS_UFFD_MODE_WP);
        threads[i] = g_thread_new("worker", worker_thread, worker);
    }
    for (unsigned i = 0; i < 10; i++) {
        assert_sound(pool);     /* while they work */
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        g_thread_join(threads[i]);
    }
    ms_scrub_stop(scrub);
    assert_sound(pool);
    for (unsigned i = 0; i < WORKERS; i++) {
        MsPagemapCount count;

        for (unsigned f = 0; f < 8; f++) {
            total += ms_pageset_count(&workers[i].resident[f]);
        }
        g_assert_cmpint(ms_pagemap_count(&workers[i].guest.ram->pagemap,
                                         workers[i].guest.ram->base,
                                         8 * FRAME_PAGES, &count), ==, 0);
        g_assert_cmpuint(count.zero_pages, ==, 0);
        real_ram_free(workers[i].guest.ram);
    }
    counts = counts_of(pool);
    g_assert_cmpuint(total + counts.free_clean_pages +
                     counts.free_dirty_pages, ==, FRAMES * FRAME_PAGES);
    g_assert_cmpuint(counts.taken_pages + counts.capture_pages, ==, 0);
    ms_pool_free(pool);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pool-traffic/random-traffic-conserves-pages",
                    test_random_traffic_conserves_pages);
    g_test_add_func("/pool-traffic/threads-on-a-dry-pool-conserve-pages",
                    test_threads_on_a_dry_pool_conserve_pages);
    return g_test_run();
}
