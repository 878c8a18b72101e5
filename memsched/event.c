/*
 * Events that wait for the observer
 *
 * Owns the ring and the way out of it.  Events are raised under whatever lock
 * their reason is known under, and delivered by the scheduler's thread with no
 * lock held, because the observer belongs to somebody else's program.
 *
 * memsched_observe() waits until the calls of the observer before have
 * returned: MemSched.observer_calls counts them, under observer_lock (leaf).
 * It must therefore not be called by the observer itself.
 *
 * Traces go out at once, from any thread and with any lock held, so they are
 * counted without a lock: the observer's fields change only while tracing is
 * false and MemSched.traces is 0.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "event.h"
#include "instance.h"

void ms_events_push(MsEvents *events, const MemSchedEvent *event)
{
    if (events->count == MS_EVENTS) {
        events->first = (events->first + 1) % MS_EVENTS;
        events->count--;
        events->dropped++;
    }
    events->event[(events->first + events->count++) % MS_EVENTS] = *event;
}

bool ms_events_pop(MsEvents *events, MemSchedEvent *ret_event)
{
    if (events->count == 0) {
        return false;
    }
    *ret_event = events->event[events->first];
    events->first = (events->first + 1) % MS_EVENTS;
    events->count--;
    return true;
}

void ms_event_deliver(MemSched *ms, const MemSchedEvent *event)
{
    MemSchedObserver observer;
    void *opaque;

    ms_lock(&ms->observer_lock);
    observer = ms->observer;
    opaque = ms->observer_opaque;
    ms->observer_calls++;
    ms_unlock(&ms->observer_lock);

    if (observer.event) {
        observer.event(opaque, event);
    }

    ms_lock(&ms->observer_lock);
    if (--ms->observer_calls == 0) {
        ms_cond_broadcast(&ms->observer_cond);
    }
    ms_unlock(&ms->observer_lock);
}

void ms_trace_out(MemSched *ms, MemSchedTracePoint point, const char *id,
                  uint64_t a, uint64_t b)
{
    atomic_fetch_add(&ms->traces, 1);
    /* Again: who takes the observer away looks at traces after this. */
    if (atomic_load(&ms->tracing)) {
        ms->observer.trace(ms->observer_opaque, point, id, a, b);
    }
    atomic_fetch_sub(&ms->traces, 1);
}

void memsched_observe(MemSched *ms, const MemSchedObserver *observer,
                      void *opaque)
{
    ms_lock(&ms->observer_lock);
    atomic_store(&ms->tracing, false);
    /* Each of them is quick, and no new one begins. */
    while (atomic_load(&ms->traces) > 0) {
        g_thread_yield();
    }
    ms->observer = observer ? *observer : (MemSchedObserver) { 0 };
    ms->observer_opaque = observer ? opaque : NULL;
    while (ms->observer_calls > 0) {
        ms_cond_wait(&ms->observer_cond, &ms->observer_lock);
    }
    atomic_store(&ms->tracing, ms->observer.trace != NULL);
    ms_unlock(&ms->observer_lock);
}
