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

/* ---- traces ---- */

typedef struct Traced {
    _Atomic uint64_t calls, after;
    _Atomic bool gone;
    MemSchedTracePoint point;
    const char *id;
    uint64_t a, b;
} Traced;

static void trace(void *opaque, MemSchedTracePoint point, const char *id,
                  uint64_t a, uint64_t b)
{
    Traced *t = opaque;

    atomic_fetch_add(&t->after, atomic_load(&t->gone));
    if (atomic_fetch_add(&t->calls, 1) == 0) {
        t->point = point;
        t->id = id;
        t->a = a;
        t->b = b;
    }
}

static MemSched *traced_new(void)
{
    MemSched *ms = g_new0(MemSched, 1);

    ms_lock_init(&ms->observer_lock, MS_RANK_LEAF);
    ms_cond_init(&ms->observer_cond);
    return ms;
}

static void traced_free(MemSched *ms)
{
    ms_cond_destroy(&ms->observer_cond);
    ms_lock_destroy(&ms->observer_lock);
    g_free(ms);
}

static void test_a_trace_tells_point_guest_and_numbers(void)
{
    MemSchedObserver observer = { .trace = trace };
    MemSched *ms = traced_new();
    Traced t = { 0 };

    ms_trace(ms, MEMSCHED_TRACE_CLAIM, "web", 1, 2);    /* to nobody */
    memsched_observe(ms, &observer, &t);
    /* Any lock may be held. */
    ms_lock(&ms->observer_lock);
    ms_trace(ms, MEMSCHED_TRACE_CAPTURE, "db", 3, UINT64_MAX);
    ms_unlock(&ms->observer_lock);
    g_assert_cmpuint(atomic_load(&t.calls), ==, 1);
    g_assert_cmpint(t.point, ==, MEMSCHED_TRACE_CAPTURE);
    g_assert_cmpstr(t.id, ==, "db");
    g_assert_cmpuint(t.a, ==, 3);
    g_assert_cmpuint(t.b, ==, UINT64_MAX);
    observer.trace = NULL;
    memsched_observe(ms, &observer, &t);
    ms_trace(ms, MEMSCHED_TRACE_CAPTURE, "db", 3, 4);
    g_assert_cmpuint(atomic_load(&t.calls), ==, 1);
    traced_free(ms);
}

typedef struct Tracer {
    MemSched *ms;
    _Atomic bool stop;
} Tracer;

static gpointer trace_on(gpointer opaque)
{
    Tracer *tracer = opaque;

    while (!atomic_load(&tracer->stop)) {
        ms_trace(tracer->ms, MEMSCHED_TRACE_POPULATE, "web", 0, 1);
    }
    return NULL;
}

static void test_no_trace_comes_when_the_observer_is_gone(void)
{
    MemSchedObserver observer = { .trace = trace };
    MemSched *ms = traced_new();
    Tracer tracer = { .ms = ms };
    GThread *thread = g_thread_new("tracer", trace_on, &tracer);

    for (unsigned round = 0; round < 200; round++) {
        Traced t = { 0 };

        memsched_observe(ms, &observer, &t);
        while (atomic_load(&t.calls) == 0) {
            g_thread_yield();
        }
        memsched_observe(ms, NULL, NULL);
        atomic_store(&t.gone, true);
        g_thread_yield();
        g_assert_cmpuint(atomic_load(&t.after), ==, 0);
    }
    atomic_store(&tracer.stop, true);
    g_thread_join(thread);
    traced_free(ms);
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
    g_test_add_func("/a-trace-tells-point-guest-and-numbers",
                    test_a_trace_tells_point_guest_and_numbers);
    g_test_add_func("/no-trace-comes-when-the-observer-is-gone",
                    test_no_trace_comes_when_the_observer_is_gone);
    return g_test_run();
}
