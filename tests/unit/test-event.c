/*
 * The ring of events, and observers that come and go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "event.h"
#include "instance.h"

static MemSchedEvent numbered(unsigned n)
{
    return (MemSchedEvent) { .transfer.id = n };
}

static void test_events_come_out_in_order(void)
{
    g_autofree MsEvents *events = g_new0(MsEvents, 1);
    MemSchedEvent e;

    g_assert_false(ms_events_pop(events, &e));
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < 7; i++) {
            e = numbered(round * 7 + i);
            ms_events_push(events, &e);
        }
        for (unsigned i = 0; i < 7; i++) {
            g_assert_true(ms_events_pop(events, &e));
            g_assert_cmpuint(e.transfer.id, ==, round * 7 + i);
        }
        g_assert_false(ms_events_pop(events, &e));
    }
    g_assert_cmpuint(events->dropped, ==, 0);
}

static void test_a_full_ring_drops_the_oldest_and_counts_it(void)
{
    g_autofree MsEvents *events = g_new0(MsEvents, 1);
    MemSchedEvent e;

    for (unsigned i = 0; i < MS_EVENTS + 10; i++) {
        e = numbered(i);
        ms_events_push(events, &e);
    }
    g_assert_cmpuint(events->dropped, ==, 10);
    for (unsigned i = 10; i < MS_EVENTS + 10; i++) {
        g_assert_true(ms_events_pop(events, &e));
        g_assert_cmpuint(e.transfer.id, ==, i);
    }
    g_assert_false(ms_events_pop(events, &e));
}

typedef struct Observed {
    MsLock lock;
    MsCond cond;
    bool inside, may_return;
    unsigned calls;
} Observed;

static void observe(void *opaque, const MemSchedEvent *event)
{
    Observed *o = opaque;

    ms_lock(&o->lock);
    o->calls++;
    o->inside = true;
    ms_cond_broadcast(&o->cond);
    while (!o->may_return) {
        ms_cond_wait(&o->cond, &o->lock);
    }
    o->inside = false;
    ms_unlock(&o->lock);
}

static gpointer deliver(gpointer opaque)
{
    MemSchedEvent e = numbered(1);

    ms_event_deliver(opaque, &e);
    return NULL;
}

static gpointer let_return(gpointer opaque)
{
    Observed *o = opaque;

    ms_lock(&o->lock);
    o->may_return = true;
    ms_cond_broadcast(&o->cond);
    ms_unlock(&o->lock);
    return NULL;
}

static void test_no_call_runs_when_the_observer_is_gone(void)
{
    g_autofree MemSched *ms = g_new0(MemSched, 1);
    MemSchedObserver observer = { .event = observe };
    Observed o = { .calls = 0 };
    GThread *calls, *lets;

    ms_lock_init(&ms->observer_lock, MS_RANK_LEAF);
    ms_cond_init(&ms->observer_cond);
    ms_lock_init(&o.lock, MS_RANK_LEAF);
    ms_cond_init(&o.cond);

    memsched_observe(ms, &observer, &o);
    calls = g_thread_new("deliver", deliver, ms);
    ms_lock(&o.lock);
    while (!o.inside) {
        ms_cond_wait(&o.cond, &o.lock);
    }
    ms_unlock(&o.lock);
    lets = g_thread_new("let-return", let_return, &o);
    memsched_observe(ms, NULL, NULL);
    ms_lock(&o.lock);
    g_assert_false(o.inside);
    g_assert_cmpuint(o.calls, ==, 1);
    ms_unlock(&o.lock);
    g_thread_join(calls);
    g_thread_join(lets);
    deliver(ms);
    g_assert_cmpuint(o.calls, ==, 1);

    ms_cond_destroy(&o.cond);
    ms_lock_destroy(&o.lock);
    ms_cond_destroy(&ms->observer_cond);
    ms_lock_destroy(&ms->observer_lock);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/events-come-out-in-order",
                    test_events_come_out_in_order);
    g_test_add_func("/a-full-ring-drops-the-oldest-and-counts-it",
                    test_a_full_ring_drops_the_oldest_and_counts_it);
    g_test_add_func("/no-call-runs-when-the-observer-is-gone",
                    test_no_call_runs_when_the_observer_is_gone);
    return g_test_run();
}
