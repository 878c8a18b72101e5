/*
 * Who is asked for how much, and what goes back: the orders' rules under a
 * clock that the test turns, with applications that are nothing but answers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "app.h"
#include "app-order.h"
#include "fake-sys.h"
#include "instance.h"

#define MS_NS  UINT64_C(1000000)
#define SECOND (1000 * MS_NS)
#define RAM    100000u

typedef struct World {
    FakeSys *fake;
    MemSched ms;
    MemSchedClient client;
    MsApps *apps;
    MsOrderWish wish;
    MsOrderState state;
} World;

static World *world_new(void)
{
    static const MemSchedAppOps ops = { 0 };
    World *w = g_new0(World, 1);
    uint8_t session[MEMSCHED_SESSION_BYTES];

    w->fake = fake_sys_new();
    w->ms.sys = fake_sys(w->fake);
    w->client.ms = &w->ms;
    w->apps = w->client.apps = ms_apps_new(&w->client);
    ms_lock_init(&w->client.lock, MS_RANK_LEAF);
    g_assert_cmpint(memsched_client_attach_apps(&w->client, &ops, w, session),
                    ==, 0);
    w->wish.ram = RAM;
    return w;
}

static void world_free(World *w)
{
    g_assert_cmpstr(ms_epochs_check(&w->apps->epochs), ==, NULL);
    memsched_client_detach_apps(&w->client, w);
    ms_apps_free(w->apps);
    ms_lock_destroy(&w->client.lock);
    fake_sys_free(w->fake);
    g_free(w);
}

static void add(World *w, uint32_t number, unsigned priority, uint64_t offer)
{
    MemSchedAppOptions o = {
        .app = number, .name = "x", .reserves = true, .priority = priority,
        .offer_bytes = offer == UINT64_MAX ? offer
                                           : offer << MEMSCHED_PAGE_SHIFT,
    };

    g_assert_cmpint(memsched_app_register(&w->client, &o), ==, 0);
}

static void step(World *w)
{
    w->wish.now_ns = w->ms.sys->now_ns(w->ms.sys);
    ms_orders_step(w->apps, &w->wish, &w->state);
}

/* A wish for applications alone, for 10 s from now. */
static void want(World *w, uint64_t application, uint64_t any)
{
    uint64_t now = w->ms.sys->now_ns(w->ms.sys);

    w->wish.application = application;
    w->wish.any = any;
    w->wish.captured_ns = now;
    w->wish.deadline_ns = now + 10 * SECOND;
    step(w);
}

/* The next call that waits, which is of this kind. */
static MsAppCall next(World *w, MsAppCallKind kind)
{
    MsApps *apps = w->apps;
    MsAppCall call = apps->call[apps->first_call];

    g_assert_cmpuint(apps->calls, >, 0);
    g_assert_cmpint(call.kind, ==, kind);
    apps->first_call = (apps->first_call + 1) % MS_APP_CALLS;
    apps->calls--;
    return call;
}

static void expect_nothing(World *w)
{
    g_assert_cmpuint(w->apps->calls, ==, 0);
}

static void answer(World *w, const MemSchedAppOrder *o, uint64_t count,
                   MemSchedReserveStatus status, MemSchedReason reason)
{
    MemSchedAppRange range = {
        .app = o->app, .epoch = o->epoch, .count_pages = count,
    };

    g_assert_cmpint(memsched_app_reserved(&w->client, o->cookie, &range,
                                          status, reason), ==, 0);
}

/* The pages were found. */
static void found(World *w, const MemSchedAppOrder *o, uint32_t first,
                  uint32_t count)
{
    MsEpoch *epoch = ms_epochs_find(&w->apps->epochs, o->app, o->epoch);

    for (uint32_t i = first; i < first + count; i++) {
        ms_epoch_add_page(&w->apps->epochs, epoch, i);
    }
}

static void test_order_has_frames_then_the_rest(void)
{
    World *w = world_new();
    MemSchedAppOrder first, second;

    add(w, 1, 0, UINT64_MAX);
    step(w);
    expect_nothing(w);
    want(w, 1100, 0);
    first = next(w, MS_APP_CALL_RESERVE).order;
    g_assert_cmpuint(first.bytes, ==, 1024 * MEMSCHED_PAGE_SIZE);
    g_assert_cmpuint(first.granule_bytes, ==, MEMSCHED_FRAME_SIZE);
    g_assert_cmpuint(first.deadline_ms, ==, 9500);
    g_assert_cmpuint(w->state.expected, ==, 1024);
    /* one at a time */
    step(w);
    expect_nothing(w);
    answer(w, &first, 1024, MEMSCHED_RESERVE_WHOLE, 0);
    step(w);
    second = next(w, MS_APP_CALL_RESERVE).order;
    g_assert_cmpuint(second.bytes, ==, 76 * MEMSCHED_PAGE_SIZE);
    g_assert_cmpuint(second.granule_bytes, ==, MEMSCHED_PAGE_SIZE);
    g_assert_cmpuint(second.epoch, >, first.epoch);
    g_assert_cmpuint(w->state.expected, ==, 1100);
    world_free(w);
}

static void test_kernel_gets_half_of_the_time_for_what_anybody_may_give(void)
{
    World *w = world_new();

    add(w, 1, 0, 100);
    want(w, 0, 300);
    g_assert_cmpuint(next(w, MS_APP_CALL_RESERVE).order.deadline_ms, ==, 5000);
    g_assert_cmpuint(w->state.expected, ==, 100);
    world_free(w);
}

static void test_order_without_answer_is_cancelled_then_over(void)
{
    World *w = world_new();
    MemSchedAppOrder o;

    add(w, 1, 0, UINT64_MAX);
    want(w, 0, 512);
    o = next(w, MS_APP_CALL_RESERVE).order;
    fake_advance(w->fake, 5 * SECOND);
    step(w);
    g_assert_cmpuint(next(w, MS_APP_CALL_CANCEL).cancel.cookie, ==, o.cookie);
    g_assert_cmpuint(w->state.expected, ==, 0);
    step(w);
    expect_nothing(w);
    fake_advance(w->fake, SECOND);
    step(w);
    /* over: an answer comes too late, and for `any` nobody is asked again */
    {
        MemSchedAppRange r = { .app = 1, .epoch = o.epoch, .count_pages = 1 };

        g_assert_cmpint(memsched_app_reserved(&w->client, o.cookie, &r,
                                              MEMSCHED_RESERVE_WHOLE, 0), ==,
                        -ENOENT);
    }
    expect_nothing(w);
    g_assert_true(w->state.changed);
    g_assert_nonnull(strstr(w->state.why, "time was up"));
    world_free(w);
}

static void test_who_gave_less_rests_longer_each_time(void)
{
    World *w = world_new();
    MemSchedAppOrder o;

    add(w, 1, 0, UINT64_MAX);
    want(w, 512, 0);
    o = next(w, MS_APP_CALL_RESERVE).order;
    answer(w, &o, 0, MEMSCHED_RESERVE_REFUSED, MEMSCHED_REASON_LIMIT);
    step(w);
    expect_nothing(w);
    g_assert_nonnull(strstr(w->state.why, "a limit of its own"));
    g_assert_cmpuint(w->apps->epochs.count, ==, 0);
    fake_advance(w->fake, 250 * MS_NS);
    step(w);
    o = next(w, MS_APP_CALL_RESERVE).order;
    answer(w, &o, 0, MEMSCHED_RESERVE_REFUSED, MEMSCHED_REASON_LIMIT);
    fake_advance(w->fake, 250 * MS_NS);
    step(w);
    expect_nothing(w);
    fake_advance(w->fake, 250 * MS_NS);
    step(w);
    next(w, MS_APP_CALL_RESERVE);
    /* no wish: forgotten */
    want(w, 0, 0);
    next(w, MS_APP_CALL_CANCEL);
    g_assert_cmpuint(w->apps->app[0].rests, ==, 0);
    world_free(w);
}

static void test_what_was_told_and_not_found_is_doubted(void)
{
    World *w = world_new();
    MemSchedAppOrder o;

    add(w, 1, 0, UINT64_MAX);
    add(w, 2, 1, UINT64_MAX);
    want(w, 200, 0);
    o = next(w, MS_APP_CALL_RESERVE).order;
    answer(w, &o, 200, MEMSCHED_RESERVE_WHOLE, 0);
    found(w, &o, 0, 150);
    w->wish.application = 50;           /* 150 are claimed */
    w->wish.base = 150;
    step(w);
    expect_nothing(w);
    g_assert_cmpuint(w->state.expected, ==, 50);
    fake_advance(w->fake, SECOND);
    step(w);
    o = next(w, MS_APP_CALL_RESERVE).order;
    g_assert_cmpuint(o.app, ==, 2);     /* the first one rests */
    g_assert_cmpuint(o.bytes, ==, 50 * MEMSCHED_PAGE_SIZE);
    g_assert_nonnull(strstr(w->state.why, "200 KiB"));
    g_assert_nonnull(strstr(w->state.why, "not found"));
    expect_nothing(w);                  /* nothing is released for it */
    world_free(w);
}

static void test_excess_goes_back_in_reverse_order(void)
{
    World *w = world_new();
    MemSchedAppOrder a, b;
    MemSchedAppRange r;

    add(w, 1, 0, 100);
    add(w, 2, 1, UINT64_MAX);
    want(w, 250, 0);
    a = next(w, MS_APP_CALL_RESERVE).order;
    b = next(w, MS_APP_CALL_RESERVE).order;
    g_assert_cmpuint(a.app, ==, 1);
    g_assert_cmpuint(b.bytes, ==, 150 * MEMSCHED_PAGE_SIZE);
    answer(w, &a, 100, MEMSCHED_RESERVE_WHOLE, 0);
    answer(w, &b, 150, MEMSCHED_RESERVE_WHOLE, 0);
    found(w, &a, 0, 90);
    found(w, &b, 0, 150);
    w->wish.base = 240;
    want(w, 0, 0);
    /* what was never found, then the last one asked */
    r = next(w, MS_APP_CALL_RELEASE).range;
    g_assert_cmpuint(r.app, ==, 1);
    g_assert_cmpuint(r.first_seq, ==, 90);
    g_assert_cmpuint(r.count_pages, ==, 10);
    w->wish.base = 70;
    step(w);
    r = next(w, MS_APP_CALL_RELEASE).range;
    g_assert_cmpuint(r.app, ==, 2);
    g_assert_cmpuint(r.first_seq, ==, 0);
    g_assert_cmpuint(r.count_pages, ==, 150);
    r = next(w, MS_APP_CALL_RELEASE).range;
    g_assert_cmpuint(r.app, ==, 1);
    g_assert_cmpuint(r.first_seq, ==, 70);
    g_assert_cmpuint(r.count_pages, ==, 20);
    step(w);
    expect_nothing(w);
    g_assert_cmpuint(w->apps->epochs.credited, ==, 70);
    g_assert_cmpuint(w->apps->releases, ==, 3);
    world_free(w);
}

static void test_orders_never_exceed_ram(void)
{
    World *w = world_new();
    MemSchedAppOrder o;

    add(w, 1, 0, UINT64_MAX);
    w->wish.ram = 1000;
    want(w, 600, 0);
    o = next(w, MS_APP_CALL_RESERVE).order;
    answer(w, &o, 512, MEMSCHED_RESERVE_WHOLE, 0);
    found(w, &o, 0, 512);
    w->wish.base = 512;
    want(w, 600, 0);            /* 488 are left to be ordered: not 512 */
    expect_nothing(w);
    want(w, 400, 0);
    next(w, MS_APP_CALL_RESERVE);
    world_free(w);
}

static void test_releases_by_the_guest_are_bounded(void)
{
    World *w = world_new();
    MemSchedAppRange r;
    MemSchedAppOrder o;

    add(w, 1, 0, UINT64_MAX);
    want(w, 512, 0);
    o = next(w, MS_APP_CALL_RESERVE).order;
    answer(w, &o, 512, MEMSCHED_RESERVE_PROGRESS, 0);
    r = (MemSchedAppRange) {
        .app = 1, .epoch = o.epoch, .count_pages = 1,
    };
    for (unsigned i = 0; i < MS_APP_RELEASES; i++) {
        r.first_seq = i;
        g_assert_cmpint(memsched_app_release(&w->client, &r, 0), ==, 0);
    }
    g_assert_cmpint(memsched_app_release(&w->client, &r, 0), ==, -EAGAIN);
    g_assert_cmpuint(w->apps->epochs.told, ==, 512 - MS_APP_RELEASES);
    world_free(w);
}

static void test_parts_of_huge_pages_are_urged_only_when_it_is_late(void)
{
    World *w = world_new();
    MemSchedAppOrder o;

    add(w, 1, 0, UINT64_MAX);
    want(w, 512, 0);
    o = next(w, MS_APP_CALL_RESERVE).order;
    answer(w, &o, 512, MEMSCHED_RESERVE_WHOLE, 0);
    step(w);
    g_assert_cmpuint(w->apps->urge_pages, ==, 0);
    fake_advance(w->fake, 200 * MS_NS);
    step(w);
    g_assert_cmpuint(w->apps->urge_pages, ==, 512);
    found(w, &o, 0, 512);
    step(w);
    g_assert_cmpuint(w->apps->urge_pages, ==, 0);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/app-order/frames", test_order_has_frames_then_the_rest);
    g_test_add_func("/app-order/any",
        test_kernel_gets_half_of_the_time_for_what_anybody_may_give);
    g_test_add_func("/app-order/late",
                    test_order_without_answer_is_cancelled_then_over);
    g_test_add_func("/app-order/rest",
                    test_who_gave_less_rests_longer_each_time);
    g_test_add_func("/app-order/doubt",
                    test_what_was_told_and_not_found_is_doubted);
    g_test_add_func("/app-order/back",
                    test_excess_goes_back_in_reverse_order);
    g_test_add_func("/app-order/ram", test_orders_never_exceed_ram);
    g_test_add_func("/app-order/releases",
                    test_releases_by_the_guest_are_bounded);
    g_test_add_func("/app-order/urge",
        test_parts_of_huge_pages_are_urged_only_when_it_is_late);
    return g_test_run();
}
