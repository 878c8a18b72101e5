/*
 * Requests and conditions of guests in the scheduler's steps: who is served
 * out of what, what is answered, and what ends early
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <string.h>

#include "sched-world.h"

#define COOKIE 77

/* "b" has a connection and room for everything. */
static World *asking_world(void)
{
    World *w = world_new();

    world_holes(w, w->guest[0], 30000);
    world_holes(w, w->guest[1], 40000);
    world_connect(w->guest[1]);
    world_step(w, SECOND);
    return w;
}

static int ask(World *w, uint64_t cookie, uint64_t pages, unsigned deadline_ms)
{
    MemSchedAppRequest r = {
        .app = 7, .cookie = cookie, .bytes = pages * 4096, .priority = 5,
        .deadline_ms = deadline_ms,
    };

    return memsched_app_request(&w->guest[1]->client, &r);
}

static MemSchedAppAnswer last(World *w)
{
    Guest *g = w->guest[1];

    g_assert_cmpuint(g->answers, >, 0);
    return g->answer[(g->answers - 1) % G_N_ELEMENTS(g->answer)];
}

static void assert_answer(World *w, unsigned count, MemSchedAnswer status,
                          MemSchedReason reason, uint64_t pages)
{
    g_assert_cmpuint(w->guest[1]->answers, ==, count);
    g_assert_cmpint(last(w).status, ==, status);
    g_assert_cmpint(last(w).reason, ==, reason);
    g_assert_cmpuint(last(w).bytes, ==, pages * 4096);
    g_assert_cmpuint(last(w).app, ==, 7);
}

/* Take the pool so that only @pages are to be had beyond min-free. */
static void leave_in_pool(World *w, uint64_t pages)
{
    MsLedger *l = &w->ms->ledger;
    MsGrant grant;

    ms_lock(&w->ms->ledger_lock);
    ms_ledger_grant(l, &w->guest[0]->client.account, POOL, 0,
                    w->ms->min_free_pages + pages, &grant);
    ms_unlock(&w->ms->ledger_lock);
}

/* ---- out of the pool ---- */

static void test_the_pool_serves_a_request_at_once(void)
{
    World *w = asking_world();
    MemSchedClient *b = &w->guest[1]->client;
    MemSchedAppsInfo info;

    g_assert_cmpint(ask(w, COOKIE, 5000, 10000), ==, 0);
    world_step(w, 0);
    assert_answer(w, 1, MEMSCHED_ANSWER_QUEUED, 0, 0);
    g_assert_cmpuint(b->account.claim, ==, 5000);
    g_assert_cmpstr(world_newest(w).from, ==, "");
    g_assert_cmpuint(atomic_load(&b->prefetch_pages), ==, 5000);

    world_populate(w, 2000);
    world_step(w, 20 * MS_NS);
    g_assert_cmpint(memsched_query_apps(w->ms, "b", &info), ==, 0);
    g_assert_cmpuint(info.requests_count, ==, 1);
    g_assert_cmpuint(info.request[0].bytes, ==, 5000 * 4096);
    g_assert_cmpuint(info.request[0].got_bytes, ==, 2000 * 4096);
    g_assert_cmpuint(info.request[0].left_ms, ==, 9980);
    g_assert_cmpstr(info.request[0].name, ==, "cache");

    world_populate(w, 3000);
    world_step(w, 20 * MS_NS);
    assert_answer(w, 2, MEMSCHED_ANSWER_GRANTED, 0, 5000);
    memsched_query_apps(w->ms, "b", &info);
    g_assert_cmpuint(info.requests_count, ==, 0);
    g_assert_cmpint(world_newest(w).state, ==, MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(b->account.claim, ==, 0);
    world_free(w);
}

static void test_min_free_is_left_in_the_pool(void)
{
    World *w = asking_world();

    leave_in_pool(w, 300);
    ask(w, COOKIE, 5000, 600);
    world_step(w, 0);
    g_assert_cmpuint(w->guest[1]->client.account.claim, ==, 300);
    world_populate(w, 300);
    world_step(w, 20 * MS_NS);
    g_assert_cmpuint(w->guest[1]->answers, ==, 1);
    world_step(w, 600 * MS_NS);
    assert_answer(w, 2, MEMSCHED_ANSWER_PARTIAL, MEMSCHED_REASON_DEADLINE,
                  300);
    world_free(w);
}

static void test_nothing_to_be_had_is_refused_in_time(void)
{
    World *w = asking_world();

    leave_in_pool(w, 0);
    ask(w, COOKIE, 5000, 600);
    world_step(w, 0);
    world_step(w, 599 * MS_NS);
    g_assert_cmpuint(w->guest[1]->answers, ==, 1);
    world_step(w, MS_NS);
    assert_answer(w, 2, MEMSCHED_ANSWER_REFUSED, MEMSCHED_REASON_HOST, 0);
    world_free(w);
}

static void test_now_or_never_is_tried_once(void)
{
    World *w = asking_world();

    ask(w, COOKIE, 100, 0);
    world_step(w, 0);
    g_assert_cmpuint(w->guest[1]->client.account.claim, ==, 100);
    world_populate(w, 100);
    world_step(w, 0);
    assert_answer(w, 2, MEMSCHED_ANSWER_GRANTED, 0, 100);
    leave_in_pool(w, 0);
    ask(w, COOKIE, 100, 0);
    world_step(w, 0);
    assert_answer(w, 4, MEMSCHED_ANSWER_REFUSED, MEMSCHED_REASON_HOST, 0);
    world_free(w);
}

static void test_a_guest_without_room_is_refused_at_once(void)
{
    World *w = asking_world();

    world_holes(w, w->guest[1], 0);
    ask(w, COOKIE, 100, 60000);
    world_step(w, 0);
    assert_answer(w, 2, MEMSCHED_ANSWER_REFUSED, MEMSCHED_REASON_LIMIT, 0);
    g_assert_cmpuint(w->guest[1]->client.account.claim, ==, 0);
    world_free(w);
}

static void test_a_claim_that_is_not_used_lapses_and_tries_get_rare(void)
{
    World *w = asking_world();
    uint64_t claimed_ms = 0, total_ms = 120000;

    ask(w, COOKIE, 5000, 600000);
    for (uint64_t ms = 0; ms < total_ms; ms += 20) {
        world_step(w, 20 * MS_NS);
        claimed_ms += w->guest[1]->client.account.claim ? 20 : 0;
    }
    /* 5 s each, between waits of 0.5, 1, 2, 4, 8, 16, 16, ... s */
    g_assert_cmpuint(claimed_ms, <=, total_ms / 2);
    g_assert_cmpuint(claimed_ms, >=, total_ms / 8);
    world_free(w);
}

/* ---- from other guests ---- */

/* Nothing is left; the policy wants nothing free, expects nobody to grow. */
static void leave_to_requests(World *w)
{
    w->ms->min_free_pages = 0;
    leave_in_pool(w, 0);
    for (unsigned i = 0; i < 40; i++) {
        world_step(w, SECOND);
    }
}

static void test_idle_memory_of_another_guest_is_asked_for(void)
{
    World *w = asking_world();
    MemSchedTransferInfo info;

    leave_to_requests(w);
    atomic_store(&w->ms->policy, MEMSCHED_POLICY_SHARES);
    world_active(w->guest[0], 4000);
    world_step(w, SECOND);
    ask(w, COOKIE, 5000, 10000);
    world_step(w, 0);
    info = world_newest(w);
    g_assert_cmpstr(info.from, ==, "a");
    g_assert_cmpstr(info.to, ==, "b");
    g_assert_cmpuint(info.requested_bytes, ==, 5000 * 4096);
    world_step(w, 20 * MS_NS);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 5000 * 4096);
    world_capture(w, 5000);
    world_populate(w, 5000);
    world_step(w, 20 * MS_NS);
    assert_answer(w, 2, MEMSCHED_ANSWER_GRANTED, 0, 5000);
    world_free(w);
}

static void test_nobody_gives_under_static_policy_or_without_figures(void)
{
    World *w = asking_world();
    MemSchedTransferInfo info;

    leave_in_pool(w, 0);
    ask(w, COOKIE, 5000, 500);  /* "a" says nothing: all of it is in use */
    world_step(w, 0);
    g_assert_cmpuint(memsched_query_transfers(w->ms, &info, 1), ==, 0);
    world_step(w, 500 * MS_NS);
    atomic_store(&w->ms->policy, MEMSCHED_POLICY_STATIC);
    world_active(w->guest[0], 4000);
    world_step(w, SECOND);
    ask(w, COOKIE, 5000, 500);
    world_step(w, 0);
    g_assert_cmpuint(memsched_query_transfers(w->ms, &info, 1), ==, 0);
    world_step(w, 500 * MS_NS);
    atomic_store(&w->ms->policy, MEMSCHED_POLICY_SHARES);
    ask(w, COOKIE, 5000, 500);
    world_step(w, 0);
    g_assert_cmpuint(memsched_query_transfers(w->ms, &info, 1), ==, 1);
    world_free(w);
}

static void test_other_guests_give_up_to_the_entitlement_only(void)
{
    World *w = asking_world();
    MemSchedClientInfo info;

    leave_to_requests(w);
    world_active(w->guest[0], 1000);
    world_step(w, SECOND);
    g_assert_cmpint(memsched_query_client(w->ms, "b", &info), ==, 0);
    /* shares: half each, and nothing is kept free */
    g_assert_cmpuint(info.entitlement_bytes, <=, 50000 * UINT64_C(4096));
    g_assert_cmpuint(info.entitlement_bytes, >=, 45000 * UINT64_C(4096));
    ask(w, COOKIE, 40000, 10000);
    world_step(w, 0);
    g_assert_cmpuint(world_newest(w).requested_bytes, ==,
                     info.entitlement_bytes - info.allocated_bytes);
    world_free(w);
}

/* ---- bounds ---- */

static void test_bad_requests_are_refused(void)
{
    World *w = asking_world();
    MemSchedClient *b = &w->guest[1]->client;
    MemSchedAppRequest r = { .app = 7, .bytes = 1, .deadline_ms = 1 };

    r.bytes = 0;
    g_assert_cmpint(memsched_app_request(b, &r), ==, -EINVAL);
    r.bytes = UINT64_C(1) << 63;
    g_assert_cmpint(memsched_app_request(b, &r), ==, -EINVAL);
    r.bytes = 1;
    r.priority = 10;
    g_assert_cmpint(memsched_app_request(b, &r), ==, -EINVAL);
    r.priority = 9;
    r.deadline_ms = 600001;
    g_assert_cmpint(memsched_app_request(b, &r), ==, -EINVAL);
    r.deadline_ms = 1;
    r.app = 8;
    g_assert_cmpint(memsched_app_request(b, &r), ==, -ENOENT);
    g_assert_cmpint(memsched_app_request(&w->guest[0]->client, &r), ==,
                    -ENOTCONN);
    g_assert_cmpint(memsched_app_cancel(b, 7, 1), ==, -ENOENT);
    g_assert_cmpint(ask(w, COOKIE, 1, 1000), ==, 0);
    g_assert_cmpint(ask(w, COOKIE, 1, 1000), ==, -EEXIST);
    world_free(w);
}

static void test_a_guest_cannot_take_all_transfers(void)
{
    World *w = asking_world();
    unsigned accepted = 0;

    leave_in_pool(w, 64);
    for (unsigned i = 0; i < 100; i++) {
        accepted += ask(w, i, 1, 60000) == 0;
    }
    g_assert_cmpuint(accepted, ==, MEMSCHED_REQUESTS_MAX);
    for (unsigned i = 0; i < 20; i++) {
        world_step(w, 20 * MS_NS);
        g_assert_cmpuint(w->sched->transfers.running, <=,
                         MS_REQUEST_TRANSFERS);
    }
    g_assert_cmpuint(w->sched->transfers.running, ==, MS_REQUEST_TRANSFERS);
    world_free(w);
}

/* ---- early ends ---- */

static void test_a_withdrawn_request_is_answered_and_its_claim_lapses(void)
{
    World *w = asking_world();
    MemSchedClient *b = &w->guest[1]->client;

    ask(w, COOKIE, 5000, 60000);
    world_step(w, 0);
    world_populate(w, 1000);
    g_assert_cmpint(memsched_app_cancel(b, 7, COOKIE), ==, 0);
    g_assert_cmpuint(b->account.claim, ==, 0);
    world_step(w, 0);
    assert_answer(w, 2, MEMSCHED_ANSWER_PARTIAL, MEMSCHED_REASON_CANCELLED,
                  1000);
    g_assert_cmpint(memsched_app_cancel(b, 7, COOKIE), ==, -ENOENT);
    world_free(w);
}

static void test_requests_end_with_application_and_session(void)
{
    World *w = asking_world();
    MemSchedClient *b = &w->guest[1]->client;
    uint8_t session[MEMSCHED_SESSION_BYTES];

    ask(w, COOKIE, 5000, 60000);
    world_step(w, 0);
    g_assert_cmpuint(b->account.claim, ==, 5000);
    memsched_app_unregister(b, 7);
    world_step(w, 0);
    g_assert_cmpuint(b->account.claim, ==, 0);
    g_assert_cmpuint(w->sched->requests.count, ==, 0);
    g_assert_cmpuint(w->guest[1]->answers, ==, 1);

    memsched_client_detach_apps(b, w->guest[1]);
    world_connect(w->guest[1]);
    ask(w, COOKIE, 5000, 60000);
    world_step(w, 0);
    memsched_client_new_session(b, session);
    world_step(w, 20 * MS_NS);
    g_assert_cmpuint(w->sched->requests.count, ==, 0);
    g_assert_cmpuint(b->account.claim, ==, 0);
    world_free(w);
}

static void test_a_guest_that_goes_takes_its_requests_along(void)
{
    World *w = asking_world();
    MemSched *ms = w->ms;

    ask(w, COOKIE, 5000, 60000);
    world_step(w, 0);
    ms_lock(&ms->ledger_lock);
    ms->hooks->client_gone(ms, &w->guest[1]->client);
    ms_unlock(&ms->ledger_lock);
    g_assert_cmpuint(w->sched->requests.count, ==, 0);
    g_assert_cmpuint(w->sched->transfers.running, ==, 0);
    world_free(w);
}

/* ---- conditions ---- */

static void test_conditions_reach_the_connection_and_the_caller(void)
{
    World *w = world_new();
    Guest *b = w->guest[1];
    MemSchedGuestCondition c;
    unsigned before;

    world_holes(w, b, 40000);
    world_connect(b);
    world_step(w, 6 * SECOND);
    g_assert_cmpuint(b->conditions, ==, 1);
    g_assert_cmpuint(b->condition.allocated_bytes, ==, 10000 * 4096);
    g_assert_cmpuint(b->condition.ram_bytes, ==, 50000 * UINT64_C(4096));
    g_assert_cmpmem(b->condition.session, MEMSCHED_SESSION_BYTES,
                    b->client.apps->session, MEMSCHED_SESSION_BYTES);
    before = b->conditions;
    ask(w, COOKIE, 40000, 60000);
    leave_in_pool(w, 0);
    world_step(w, 250 * MS_NS);
    g_assert_cmpuint(b->conditions, ==, before + 1);
    /* It wants five times what it has. */
    g_assert_cmpint(b->condition.condition, ==, MEMSCHED_CONDITION_HARD);
    g_assert_cmpuint(b->condition.pressure, ==, 500);
    fake_advance(w->fake, 30 * MS_NS);
    g_assert_cmpint(memsched_client_condition(&b->client, &c), ==, 0);
    g_assert_cmpuint(c.generation, ==, b->condition.generation);
    g_assert_cmpuint(c.age_ns, ==, 30 * MS_NS);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/scheduler-request/the-pool-serves-at-once",
                    test_the_pool_serves_a_request_at_once);
    g_test_add_func("/scheduler-request/min-free-is-left-in-the-pool",
                    test_min_free_is_left_in_the_pool);
    g_test_add_func("/scheduler-request/nothing-to-be-had-is-refused-in-time",
                    test_nothing_to_be_had_is_refused_in_time);
    g_test_add_func("/scheduler-request/now-or-never-is-tried-once",
                    test_now_or_never_is_tried_once);
    g_test_add_func("/scheduler-request/without-room-is-refused-at-once",
                    test_a_guest_without_room_is_refused_at_once);
    g_test_add_func("/scheduler-request/a-claim-that-is-not-used-lapses",
                    test_a_claim_that_is_not_used_lapses_and_tries_get_rare);
    g_test_add_func("/scheduler-request/idle-memory-of-another-is-asked-for",
                    test_idle_memory_of_another_guest_is_asked_for);
    g_test_add_func("/scheduler-request/nobody-gives-under-static-policy",
                    test_nobody_gives_under_static_policy_or_without_figures);
    g_test_add_func("/scheduler-request/others-give-up-to-the-entitlement",
                    test_other_guests_give_up_to_the_entitlement_only);
    g_test_add_func("/scheduler-request/bad-requests-are-refused",
                    test_bad_requests_are_refused);
    g_test_add_func("/scheduler-request/a-guest-cannot-take-all-transfers",
                    test_a_guest_cannot_take_all_transfers);
    g_test_add_func("/scheduler-request/a-withdrawn-one-is-answered",
                    test_a_withdrawn_request_is_answered_and_its_claim_lapses);
    g_test_add_func("/scheduler-request/ends-with-application-and-session",
                    test_requests_end_with_application_and_session);
    g_test_add_func("/scheduler-request/a-guest-that-goes-takes-them-along",
                    test_a_guest_that_goes_takes_its_requests_along);
    g_test_add_func("/scheduler-request/conditions-reach-the-connection",
                    test_conditions_reach_the_connection_and_the_caller);
    return g_test_run();
}
