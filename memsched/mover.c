/*
 * The one thread that captures pages in state G, and prefetches claims
 *
 * Why one: two threads that move huge pages reach together a third of what one
 * reaches, since both flush the TLBs of all CPUs of the process.
 *
 * Why a budget: every move call interrupts every CPU that runs a thread of this
 * process, all guests' vCPUs, for about 5 us.  2,000 calls a second cost each
 * of them 1 %.  It is exceeded when faults wait for memory, or the host's state
 * is hard or worse: then speed is what they need.
 *
 * What it takes: frames whose resident pages are all in state G.  Incomplete
 * ones wait in place, because single pages out of a huge page cost 1 ms; they
 * are taken when the host is short, or when somebody urges (a transfer that
 * would miss its size).
 *
 * A guest whose pages come back is left alone (client-thrash.c), unless
 * somebody waits for them.
 *
 * Guests take turns, one batch each.  A region where nothing could be taken
 * (pinned, fenced) is left alone for RETRY_NS.
 *
 * Locks: mover->lock (leaf) guards the wish to run; no lock is held in a move.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "instance.h"
#include "prefetch.h"
#include "takeback.h"

#define FRAME_PAGES MS_PAGESET_PAGES

#define DEFAULT_FLUSHES_PER_S 2000u
#define RETRY_NS              UINT64_C(50000000)
#define SECOND_NS             UINT64_C(1000000000)

struct MsMover {
    MemSched *ms;
    GThread *thread;
    MsLock lock;
    MsCond cond;
    bool kicked, stop;          /* lock */
    _Atomic unsigned flushes_per_s;

    /* the thread's own */
    int64_t tokens;             /* calls that may be made now */
    uint64_t filled_ns;         /* when tokens were last added */
    bool later;                 /* something was left for RETRY_NS */
    bool was_short;             /* when it looked last */
    unsigned turn;
    MsCapture capture;
};

static uint64_t now_ns(const MemSched *ms)
{
    return ms->sys->now_ns(ms->sys);
}

/* ---- budget ---- */

static void fill_bucket(MsMover *m)
{
    uint64_t now = now_ns(m->ms), rate = atomic_load(&m->flushes_per_s);
    uint64_t passed = MIN(now - m->filled_ns, SECOND_NS);
    /* At most 2^32 * 10^9: fits. */
    uint64_t more = rate * passed / SECOND_NS;

    if (more > 0) {
        /* A tenth of a second's worth may be saved up. */
        m->tokens = MIN(m->tokens + (int64_t)more,
                        MAX((int64_t)rate / 10, 1));
        m->filled_ns = now;
    }
}

static bool may_move(MsMover *m)
{
    if (atomic_load(&m->flushes_per_s) == 0 || ms_is_short(m->ms)) {
        m->tokens = 0;
        m->filled_ns = now_ns(m->ms);
        return true;
    }
    fill_bucket(m);
    return m->tokens > 0;
}

/* ---- one batch ---- */

static void add_frames_locked(MsMover *m, MemSchedRegion *region,
                              unsigned flag)
{
    MsPages *pages = &region->pages;
    uint64_t start = region->ready_cursor, left = pages->ready_frames;
    MsPageSet all;

    ms_pageset_fill(&all);
    for (uint64_t i = 0; i < pages->frames && (left > 0 || !flag); i++) {
        uint64_t f = (start + i) % pages->frames;
        MsFrame *frame = &pages->frame[f];

        if (frame->given == 0 || (flag && !(frame->flags & flag))) {
            continue;
        }
        left -= left > 0;
        /*
         * Leased to the scan for an instant; or raised before already: not
         * worth the way out and back.  It is read again, with effect, when
         * the pages have left.
         */
        if (ms_region_is_leased(region, f) ||
            ms_fence_is_raised(&m->ms->fence,
                               ms_region_address(region, f * FRAME_PAGES))) {
            m->later = true;
            continue;
        }
        {
            MsPageSet given;

            ms_pages_select(pages, f * FRAME_PAGES, FRAME_PAGES,
                            MS_STATE_BIT(GIVEN), &given);
            if (!ms_capture_add_locked(&m->capture, f, &given)) {
                break;
            }
        }
        region->ready_cursor = f + 1;
    }
}

/* Pages captured. */
static uint64_t take_region(MsMover *m, MemSchedRegion *region, bool split)
{
    MsCapture *c = &m->capture;
    uint64_t pages;

    if (!ms_region_enter_locked(region)) {
        return 0;
    }
    ms_capture_init_locked(c, region, MEMSCHED_SOURCE_KERNEL,
                           MEMSCHED_PAGE_BALLOONED);
    if (region->pages.count[MEMSCHED_PAGE_GIVEN] > 0 &&
        now_ns(m->ms) >= region->retry_ns) {
        if (region->pages.ready_frames > 0) {
            add_frames_locked(m, region, MS_FRAME_READY);
        }
        if (split && c->frames == 0) {
            add_frames_locked(m, region, 0);
        }
    }
    pages = c->pages_want;
    ms_unlock(&region->lock);

    ms_capture_run(c);
    m->tokens -= c->flushes;
    if (pages > 0 && c->captured_pages == 0) {
        ms_lock(&region->lock);
        region->retry_ns = now_ns(m->ms) + RETRY_NS;
        ms_unlock(&region->lock);
        m->later = true;
    }
    pages = c->captured_pages;
    ms_region_leave(region);
    return pages;
}

static bool has_given(MemSchedClient *client)
{
    MsClientPages pages;

    ms_client_pages(client, &pages);
    return pages.count[MEMSCHED_PAGE_GIVEN] > 0;
}

static uint64_t take_client(MsMover *m, MemSchedClient *client)
{
    uint64_t urge = atomic_load(&client->urge_pages), pages = 0;
    bool split = urge > 0 || ms_is_short(m->ms);
    MemSchedRegion **regions;
    size_t count;

    if (has_given(client) && ms_client_left_alone(client)) {
        m->later = true;
        return 0;
    }
    if (!ms_client_capture_enter(client, true)) {
        return 0;
    }
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        if (pages == 0) {
            pages = take_region(m, regions[i], split);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    ms_client_capture_leave(client);

    while (urge > 0 &&
           !atomic_compare_exchange_weak(&client->urge_pages, &urge,
                                         urge - MIN(urge, pages))) {
        continue;
    }
    return pages;
}

static void note_shortage(MsMover *m)
{
    bool is_short = ms_is_short(m->ms);

    if (is_short != m->was_short) {
        m->was_short = is_short;
        ms_trace(m->ms, MEMSCHED_TRACE_POOL_SHORT, "", is_short,
                 atomic_load(&m->ms->waiters));
    }
}

/* True: something was done, there may be more. */
static bool pass(MsMover *m)
{
    MemSchedClient **clients;
    size_t count;
    bool any = false;

    m->later = false;
    m->turn++;
    note_shortage(m);
    clients = ms_clients(m->ms, &count);
    for (size_t i = 0; i < count; i++) {
        MemSchedClient *client = clients[(m->turn + i) % count];

        if (may_move(m)) {
            any |= take_client(m, client) > 0;
            any |= ms_prefetch_step(client, &m->later);
            any |= ms_takeback_step(client, &m->capture) > 0;
        } else {
            m->later = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    return any;
}

/* ---- the thread ---- */

/* Time until the bucket holds a token again, or for busy pages. */
static uint64_t pause_ns(MsMover *m)
{
    uint64_t rate = atomic_load(&m->flushes_per_s);

    if (m->tokens > 0 || rate == 0) {
        return RETRY_NS;
    }
    return MIN((uint64_t)(1 - m->tokens) * SECOND_NS / rate + 1, RETRY_NS);
}

static void *mover_thread(void *opaque)
{
    MsMover *m = opaque;
    const MsSys *sys = m->ms->sys;
    bool any;

    sys->name_thread(sys, "memsched/mover");
    ms_lock(&m->lock);
    while (!m->stop) {
        m->kicked = false;
        ms_unlock(&m->lock);
        any = pass(m);
        ms_lock(&m->lock);
        if (any || m->stop || m->kicked) {
            continue;
        }
        if (m->later || atomic_load(&m->ms->waiters) > 0) {
            ms_cond_wait_ns(&m->cond, &m->lock, pause_ns(m));
        } else {
            ms_cond_wait(&m->cond, &m->lock);
        }
    }
    ms_unlock(&m->lock);
    return NULL;
}

void ms_mover_kick(MsMover *mover)
{
    if (mover) {
        ms_lock(&mover->lock);
        mover->kicked = true;
        ms_cond_signal(&mover->cond);
        ms_unlock(&mover->lock);
    }
}

void ms_mover_set_budget(MsMover *mover, unsigned flushes_per_s)
{
    atomic_store(&mover->flushes_per_s, flushes_per_s);
    ms_mover_kick(mover);
}

void ms_capture_urge(MemSchedClient *client, uint64_t pages)
{
    atomic_store(&client->urge_pages, pages);
    ms_mover_kick(client->ms->mover);
}

int ms_mover_start(MemSched *ms, MsMover **ret_mover)
{
    MsMover *mover = g_new0(MsMover, 1);

    mover->ms = ms;
    mover->filled_ns = now_ns(ms);
    atomic_init(&mover->flushes_per_s, DEFAULT_FLUSHES_PER_S);
    ms_lock_init(&mover->lock, MS_RANK_LEAF);
    ms_cond_init(&mover->cond);
    mover->thread = g_thread_try_new("memsched/mover", mover_thread, mover,
                                     NULL);
    if (mover->thread == NULL) {
        ms_cond_destroy(&mover->cond);
        ms_lock_destroy(&mover->lock);
        g_free(mover);
        return -EAGAIN;
    }
    *ret_mover = mover;
    return 0;
}

void ms_mover_stop(MsMover *mover)
{
    if (mover == NULL) {
        return;
    }
    ms_lock(&mover->lock);
    mover->stop = true;
    ms_cond_signal(&mover->cond);
    ms_unlock(&mover->lock);
    g_thread_join(mover->thread);
    ms_cond_destroy(&mover->cond);
    ms_lock_destroy(&mover->lock);
    g_free(mover);
}
