/*
 * Clearing pages, and the thread that does it ahead of demand
 *
 * The thread owns nothing: it asks the pool for one piece of work after the
 * other (pool-work.c) and pays for each out of a bucket of bytes a second.
 * It stops between two pieces; stopping is a flag and a kick.
 *
 * Clearing.  memset() of the C library uses the fastest stores that the CPU
 * has ("rep stosb", or vectors) and streams large blocks past the cache by
 * itself.  A fence after it orders those streaming stores, which are weakly
 * ordered, before the flag that calls the page clean.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "scrub.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "memsched/types.h"

/* Without work the thread looks again this often: remaking may be allowed. */
#define IDLE_NS (UINT64_C(1000) * 1000 * 1000)

/*
 * Fewer clean huge pages than the first, while dirty ones wait, and touches are
 * about to clear what they need themselves, 0.2 ms on a vCPU's time: the thread
 * runs like any other until there are as many as the second.  On busy CPUs it
 * would else get 3 % of one.
 */
#define BEHIND_FRAMES 16u
#define AHEAD_FRAMES  32u

#define MIN_BYTES_PER_S (UINT64_C(16) << 20)

struct MsScrub {
    const MsSys *sys;
    MsPool *pool;
    uint64_t max_bytes_per_s;
    pthread_t thread;
    atomic_bool stop;
};

void ms_clear_pages(void *address, uint64_t pages)
{
    memset(address, 0, pages << MEMSCHED_PAGE_SHIFT);
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_sfence();
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

void ms_touch_pages(void *address, uint64_t pages)
{
    char *page = address;

    for (uint64_t i = 0; i < pages; i++, page += MEMSCHED_PAGE_SIZE) {
        __atomic_fetch_or((uint64_t *)page, 0, __ATOMIC_RELAXED);
    }
}

bool ms_pages_are_zero(const void *address, uint64_t pages)
{
    const uint64_t *word = address;
    const uint64_t *end = word + (pages << MEMSCHED_PAGE_SHIFT) / 8;

    /* 64 bytes a step: the compiler makes vectors of it, a miss ends early. */
    for (; word < end; word += 8) {
        if (word[0] | word[1] | word[2] | word[3] |
            word[4] | word[5] | word[6] | word[7]) {
            return false;
        }
    }
    return true;
}

bool ms_pages_equal(const void *a, const void *b, uint64_t pages)
{
    return memcmp(a, b, pages << MEMSCHED_PAGE_SHIFT) == 0;
}

/*
 * Sleep off what the last piece was ahead of the budget.  With the smallest
 * sensible budget, 16 MiB a second, that is 125 ms: stopping waits no longer.
 */
static void throttle(MsScrub *scrub, uint64_t spent_ns)
{
    uint64_t due_ns;

    if (!scrub->max_bytes_per_s) {
        return;
    }
    /* A piece is at most 2^21 bytes, and 10^9 < 2^30: below 2^51. */
    due_ns = MEMSCHED_FRAME_SIZE * 1000000000u / scrub->max_bytes_per_s;
    if (due_ns > spent_ns) {
        scrub->sys->sleep_ns(scrub->sys, due_ns - spent_ns);
    }
}

/* Behind the others while there is enough; @is: as it is now. */
static bool in_background(MsScrub *scrub, bool is)
{
    MsPoolCounts counts;
    bool should;

    ms_pool_counts(scrub->pool, &counts);
    should = counts.huge_free == counts.huge_clean ||
             counts.huge_clean >= (is ? BEHIND_FRAMES : AHEAD_FRAMES);
    if (should != is) {
        /* Where it may not rise again it stays behind: faults clear. */
        scrub->sys->background(scrub->sys, should);
    }
    return should;
}

static void *scrub_thread(void *opaque)
{
    MsScrub *scrub = opaque;
    const MsSys *sys = scrub->sys;
    bool background = true;

    sys->name_thread(sys, "memsched-scrub");
    sys->background(sys, true);
    while (!atomic_load(&scrub->stop)) {
        uint64_t start_ns = sys->now_ns(sys);

        background = in_background(scrub, background);
        if (ms_pool_work(scrub->pool) > 0) {
            /*
             * Else the scheduler would let it run for a whole slice, 3 ms,
             * and somebody wait that long for this CPU.
             */
            sys->yield(sys);
            throttle(scrub, sys->now_ns(sys) - start_ns);
        } else {
            ms_pool_wait_work(scrub->pool, IDLE_NS);
        }
    }
    return NULL;
}

int ms_scrub_start(const MsSys *sys, MsPool *pool, uint64_t max_bytes_per_s,
                   MsScrub **ret_scrub)
{
    MsScrub *scrub = calloc(1, sizeof(*scrub));
    int rc;

    if (!scrub) {
        return -ENOMEM;
    }
    if (max_bytes_per_s && max_bytes_per_s < MIN_BYTES_PER_S) {
        max_bytes_per_s = MIN_BYTES_PER_S;
    }
    scrub->sys = sys;
    scrub->pool = pool;
    scrub->max_bytes_per_s = max_bytes_per_s;
    rc = pthread_create(&scrub->thread, NULL, scrub_thread, scrub);
    if (rc) {
        free(scrub);
        return -rc;
    }
    *ret_scrub = scrub;
    return 0;
}

void ms_scrub_stop(MsScrub *scrub)
{
    if (!scrub) {
        return;
    }
    atomic_store(&scrub->stop, true);
    ms_pool_kick(scrub->pool);
    pthread_join(scrub->thread, NULL);
    free(scrub);
}
