/*
 * What the observer of a scheduler has heard
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "heard.h"

#define WAIT_NS UINT64_C(60000000000)

static void hear(void *opaque, const MemSchedEvent *event)
{
    Heard *heard = opaque;

    ms_lock(&heard->lock);
    switch (event->kind) {
    case MEMSCHED_EVENT_TRANSFER_COMPLETED:
        heard->ends++;
        heard->last = event->transfer;
        break;
    case MEMSCHED_EVENT_GUEST_STALLED:
        heard->stalled += event->active;
        heard->went_on += !event->active;
        break;
    case MEMSCHED_EVENT_GUEST_UNRESPONSIVE:
        heard->unresponsive += event->active;
        break;
    case MEMSCHED_EVENT_CONDITION_CHANGED:
    case MEMSCHED_EVENT_DECISION:
        break;
    }
    ms_cond_broadcast(&heard->cond);
    ms_unlock(&heard->lock);
}

static void hear_trace(void *opaque, MemSchedTracePoint point,
                       const char *id, uint64_t a, uint64_t b)
{
    Heard *heard = opaque;

    /* What is the host's alone has no guest. */
    g_assert_true((point == MEMSCHED_TRACE_POOL_SHORT) == (id[0] == '\0'));
    atomic_fetch_add(&heard->traces[point], 1);
    atomic_fetch_add(&heard->traced[point], a);
}

void heard_start(MemSched *ms, Heard *heard)
{
    MemSchedObserver observer = { .event = hear, .trace = hear_trace };

    memset(heard, 0, sizeof(*heard));
    ms_lock_init(&heard->lock, MS_RANK_LEAF);
    ms_cond_init(&heard->cond);
    memsched_observe(ms, &observer, heard);
}

void heard_stop(MemSched *ms, Heard *heard)
{
    memsched_observe(ms, NULL, NULL);
    ms_lock_destroy(&heard->lock);
    ms_cond_destroy(&heard->cond);
}

void heard_wait(Heard *heard, const unsigned *count, unsigned n)
{
    ms_lock(&heard->lock);
    while (*count < n) {
        if (!ms_cond_wait_ns(&heard->cond, &heard->lock, WAIT_NS)) {
            g_error("no event after 60 s");
        }
    }
    ms_unlock(&heard->lock);
}
