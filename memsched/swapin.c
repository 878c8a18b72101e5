/*
 * Pages in the swap file that somebody touches
 *
 * Owns a queue and a few threads that may wait for the disk.  The threads of
 * fault.c must not: other guests' faults are theirs to serve.
 *
 * Guests take turns: the next touch is one of another guest than the last one,
 * if there is any, so that a guest that thrashes delays another one's read by
 * one read.  The queue is bounded by the number of threads that all guests
 * have, since each of them sleeps in its touch.
 *
 * Threads: READERS of its own.  Lock: swapin->lock (leaf), not held while a
 * page is read.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "held.h"
#include "instance.h"
#include "swapin.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define READERS     2u

struct MsSwapin {
    MemSched *ms;
    GThread *thread[READERS];
    MsLock lock;
    MsCond cond;
    /* under the lock */
    bool stop;
    GQueue queue;               /* MsSwapinTouch, each with a reference */
    const MemSchedClient *last; /* whose turn it was; not to be followed */
};

static MsSwapinTouch *next_locked(MsSwapin *s)
{
    GList *at = s->queue.head;
    MsSwapinTouch *touch;

    for (GList *i = at; i; i = i->next) {
        touch = i->data;
        if (touch->region->client != s->last) {
            at = i;
            break;
        }
    }
    touch = at ? at->data : NULL;
    if (at) {
        s->last = touch->region->client;
        g_queue_delete_link(&s->queue, at);
    }
    return touch;
}

/* What is to be done with a touch that brought nothing. */
static MemSchedPageState look(MemSchedRegion *region, uint64_t page)
{
    MemSchedPageState state;

    ms_lock(&region->lock);
    state = ms_pages_get(&region->pages, page);
    if (state == MEMSCHED_PAGE_TRANSIT &&
        !ms_region_park_locked(region, page)) {
        state = MEMSCHED_PAGE_RESIDENT;         /* as good as: to be woken */
    }
    ms_unlock(&region->lock);
    return state;
}

/* The region is entered. */
static void serve(MsSwapin *s, const MsSwapinTouch *touch)
{
    MemSchedRegion *region = touch->region;
    MemSchedClient *client = region->client;
    MemSched *ms = s->ms;
    MsPopulate p = {
        .region = region, .frame = touch->page / FRAME_PAGES,
        .touched = touch->page % FRAME_PAGES,
        .grant_flags = touch->grant_flags,
    };
    MemSchedPageState state;
    bool touched;

    ms_pageset_clear(&p.want);
    ms_pageset_add(&p.want, p.touched, 1);
    ms_held_populate(&p, touch->since_ns, &touched);
    if (touched) {
        return;
    }
    state = look(region, touch->page);
    if (state == MEMSCHED_PAGE_HELD) {
        if (ms_client_wait(client, region, touch->page, touch->device,
                           touch->since_ns) == 0) {
            ms_count(&ms->stats.faults_waited, 1);
            ms_count(&client->stats_counters.faults_waited, 1);
        }
        ms_faults_retry(ms->faults);
    } else if (state != MEMSCHED_PAGE_TRANSIT) {
        /* There by now, or given up: the touch comes again if need be. */
        ms_region_wake(region, touch->page, 1);
    }
}

static void *swapin_thread(void *opaque)
{
    MsSwapin *s = opaque;
    MsSwapinTouch *touch;

    s->ms->sys->name_thread(s->ms->sys, "memsched/swap");
    ms_lock(&s->lock);
    while (!s->stop) {
        touch = next_locked(s);
        if (touch == NULL) {
            ms_cond_wait(&s->cond, &s->lock);
            continue;
        }
        ms_unlock(&s->lock);
        if (ms_region_enter_locked(touch->region)) {
            ms_unlock(&touch->region->lock);
            serve(s, touch);
            ms_region_leave(touch->region);
        }
        ms_region_unref(touch->region);
        g_free(touch);
        ms_lock(&s->lock);
    }
    ms_unlock(&s->lock);
    return NULL;
}

void ms_swapin_queue(MsSwapin *swapin, const MsSwapinTouch *touch)
{
    bool queued = false;

    ms_lock(&swapin->lock);
    for (GList *i = swapin->queue.head; i && !queued; i = i->next) {
        MsSwapinTouch *other = i->data;

        /* One read wakes all who touch the page, by the best of rights. */
        if (other->region == touch->region && other->page == touch->page) {
            other->device |= touch->device;
            other->grant_flags |= touch->grant_flags;
            queued = true;
        }
    }
    if (!queued) {
        MsSwapinTouch *copy = g_memdup2(touch, sizeof(*touch));

        ms_region_ref(copy->region);
        g_queue_push_tail(&swapin->queue, copy);
        ms_cond_signal(&swapin->cond);
    }
    ms_unlock(&swapin->lock);
}

int ms_swapin_start(MemSched *ms, MsSwapin **ret_swapin)
{
    MsSwapin *s = g_new0(MsSwapin, 1);

    s->ms = ms;
    ms_lock_init(&s->lock, MS_RANK_LEAF);
    ms_cond_init(&s->cond);
    g_queue_init(&s->queue);
    for (unsigned i = 0; i < READERS; i++) {
        s->thread[i] = g_thread_try_new("memsched/swap", swapin_thread, s,
                                        NULL);
        if (s->thread[i] == NULL) {
            ms_swapin_stop(s);
            return -EAGAIN;
        }
    }
    *ret_swapin = s;
    return 0;
}

void ms_swapin_stop(MsSwapin *swapin)
{
    MsSwapinTouch *touch;

    if (swapin == NULL) {
        return;
    }
    ms_lock(&swapin->lock);
    swapin->stop = true;
    ms_cond_broadcast(&swapin->cond);
    ms_unlock(&swapin->lock);
    for (unsigned i = 0; i < READERS; i++) {
        if (swapin->thread[i]) {
            g_thread_join(swapin->thread[i]);
        }
    }
    while ((touch = g_queue_pop_head(&swapin->queue)) != NULL) {
        ms_region_unref(touch->region);
        g_free(touch);
    }
    ms_cond_destroy(&swapin->cond);
    ms_lock_destroy(&swapin->lock);
    g_free(swapin);
}
