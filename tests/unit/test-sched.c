/*
 * The scheduler's thread without its thread: hooks, steps and callbacks under
 * a clock that the test turns, with guests that are nothing but an account
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "sched-world.h"

/* ---- transfers ---- */

static void test_a_transfer_asks_claims_prefetches_and_completes(void)
{
    World *w = world_new();
    MemSchedClient *b = &w->guest[1]->client;

    world_transfer(w, 5000, 0);
    g_assert_cmpuint(w->guest[0]->asked, ==, 1);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 5000 * 4096);
    world_capture(w, 3000);
    g_assert_cmpuint(b->account.claim, ==, 3000);
    g_assert_cmpuint(atomic_load(&b->prefetch_pages), ==, 3000);
    world_populate(w, 3000);
    world_capture(w, 2000);
    world_populate(w, 2000);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_TRANSFER_COMPLETED], ==, 1);
    g_assert_cmpint(world_newest(w).state, ==, MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(world_newest(w).moved_bytes, ==, 5000 * 4096);
    g_assert_cmpuint(b->account.claim, ==, 0);
    /* The balloon stays as it is. */
    g_assert_cmpuint(w->guest[0]->asked, ==, 1);
    world_free(w);
}

static void test_deadline_releases_the_claim_and_restores_the_target(void)
{
    World *w = world_new();
    MemSchedClient *b = &w->guest[1]->client;
    uint64_t wake;

    world_transfer(w, 5000, 700);
    world_capture(w, 3000);
    world_populate(w, 1000);
    fake_advance(w->fake, 695 * MS_NS);
    wake = ms_sched_step(w->sched);
    g_assert_cmpuint(wake, <=, w->ms->sys->now_ns(w->ms->sys) + 5 * MS_NS);
    g_assert_cmpint(world_newest(w).state, ==, MEMSCHED_TRANSFER_RUNNING);
    g_assert_cmpuint(b->account.claim, ==, 2000);
    fake_advance(w->fake, 5 * MS_NS);
    ms_sched_step(w->sched);
    g_assert_cmpint(world_newest(w).state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpuint(b->account.claim, ==, 0);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 1000 * 4096);
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_TRANSFER_COMPLETED], ==, 1);
    world_free(w);
}

static void test_a_claim_without_a_transfer_lapses(void)
{
    World *w = world_new();
    MemSched *ms = w->ms;
    MemSchedClient *b = &w->guest[1]->client;
    MsGrant grant;

    world_transfer(w, 5000, 100);
    world_capture(w, 5000);
    ms_lock(&ms->ledger_lock);
    ms_ledger_grant(&ms->ledger, &b->account, 100, MS_GRANT_CLAIM_ONLY, 0,
                    &grant);
    ms_unlock(&ms->ledger_lock);
    fake_advance(w->fake, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpuint(b->account.claim, ==, 0);
    /* What was on its way at the end comes back. */
    ms_lock(&ms->ledger_lock);
    ms_ledger_ungrant(&ms->ledger, &b->account, &grant, 100);
    ms_unlock(&ms->ledger_lock);
    g_assert_cmpuint(b->account.claim, ==, 100);
    ms_sched_step(w->sched);
    g_assert_cmpuint(b->account.claim, ==, 0);
    g_assert_cmpuint(ms->ledger.claims, ==, 0);
    world_free(w);
}

static void test_an_operators_balloon_is_where_transfers_start(void)
{
    World *w = world_new();

    memsched_client_balloon_manual(&w->guest[0]->client, 700 * 4096);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->guest[0]->asked, ==, 0);
    world_transfer(w, 5000, 700);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 5700 * 4096);
    fake_advance(w->fake, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpint(world_newest(w).state, ==, MEMSCHED_TRANSFER_FAILED);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 700 * 4096);
    world_free(w);
}

static void test_reset_and_going_away_end_transfers(void)
{
    World *w = world_new();
    MemSched *ms = w->ms;

    world_transfer(w, 5000, 0);
    ms_lock(&ms->ledger_lock);
    ms->hooks->client_reset(ms, &w->guest[1]->client);
    ms_unlock(&ms->ledger_lock);
    g_assert_cmpstr(world_newest(w).reason, ==, "guest 'b' was reset");
    world_transfer(w, 5000, 0);
    world_capture(w, 100);
    world_populate(w, 100);
    ms_lock(&ms->ledger_lock);
    ms->hooks->client_gone(ms, &w->guest[0]->client);
    ms_unlock(&ms->ledger_lock);
    g_assert_cmpint(world_newest(w).state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpstr(world_newest(w).reason, ==, "guest 'a' went away");
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_TRANSFER_COMPLETED], ==, 2);
    world_free(w);
}

/* ---- guests ---- */

static void test_a_guest_that_does_not_move_is_unresponsive_in_4_s(void)
{
    World *w = world_new();
    MemSchedClient *a = &w->guest[0]->client;

    world_transfer(w, 5000, 0);
    for (unsigned i = 0; i < 2 * 4; i++) {
        g_assert_false(atomic_load(&a->unresponsive));
        fake_advance(w->fake, 250 * MS_NS);
        ms_sched_step(w->sched);
    }
    for (unsigned i = 0; i < 2 * 4; i++) {
        fake_advance(w->fake, 250 * MS_NS);
        ms_sched_step(w->sched);
    }
    g_assert_true(atomic_load(&a->unresponsive));
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_GUEST_UNRESPONSIVE], ==, 1);
    g_assert_cmpstr(w->last[MEMSCHED_EVENT_GUEST_UNRESPONSIVE].id, ==, "a");
    fake_advance(w->fake, 30 * SECOND);
    ms_sched_step(w->sched);
    ms_sched_step(w->sched);
    g_assert_false(atomic_load(&a->unresponsive));
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_GUEST_UNRESPONSIVE], ==, 2);
    world_free(w);
}

static void test_a_stopped_guest_is_not_called_unresponsive(void)
{
    World *w = world_new();
    MemSchedClient *a = &w->guest[0]->client;

    world_transfer(w, 5000, 0);
    memsched_client_run(a, false);
    for (unsigned i = 0; i < 20; i++) {
        fake_advance(w->fake, SECOND);
        ms_sched_step(w->sched);
    }
    g_assert_false(atomic_load(&a->unresponsive));
    world_free(w);
}

static void test_a_refused_touch_stalls_within_a_second(void)
{
    World *w = world_new();
    MemSchedClient *b = &w->guest[1]->client;
    uint64_t start = w->ms->sys->now_ns(w->ms->sys);

    atomic_store(&b->waiting_since_ns, start);
    while (w->guest[1]->paused == 0) {
        fake_advance(w->fake, 250 * MS_NS);
        ms_sched_step(w->sched);
    }
    g_assert_cmpuint(w->ms->sys->now_ns(w->ms->sys) - start, <=, SECOND);
    g_assert_true(atomic_load(&b->stalled));
    g_assert_true(w->last[MEMSCHED_EVENT_GUEST_STALLED].active);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->guest[1]->paused, ==, 1);
    g_assert_cmpuint(w->guest[0]->paused, ==, 0);
    atomic_store(&b->waiting_since_ns, 0);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->guest[1]->resumed, ==, 1);
    g_assert_false(atomic_load(&b->stalled));
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_GUEST_STALLED], ==, 2);
    g_assert_false(w->last[MEMSCHED_EVENT_GUEST_STALLED].active);
    world_free(w);
}

/* ---- tick ---- */

static void test_the_tick_polls_and_shows_entitlements(void)
{
    World *w = world_new();
    MemSchedClient *a = &w->guest[0]->client;
    uint64_t stats[MEMSCHED_STATS];
    unsigned polled = w->guest[0]->polled;

    g_assert_cmpuint(polled, ==, 1);
    fake_advance(w->fake, 999 * MS_NS);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->guest[0]->polled, ==, 1);
    memset(stats, 0xff, sizeof(stats));
    stats[MEMSCHED_STAT_TOTAL] = 40000 * 4096;
    stats[MEMSCHED_STAT_AVAILABLE] = 35000 * 4096;
    memsched_client_stats(a, stats);
    fake_advance(w->fake, MS_NS);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->guest[0]->polled, ==, 2);
    g_assert_cmpuint(atomic_load(&a->entitlement_bytes), ==,
                     (POOL - 1000) / 2 * UINT64_C(4096));
    g_assert_cmpuint(atomic_load(&a->active_bytes), ==, 5000 * 4096);
    g_assert_cmpuint(atomic_load(&a->idle_bytes), ==, 15000 * 4096);
    g_assert_cmpuint(atomic_load(&a->pressure), ==, 25);
    g_assert_cmpuint(atomic_load(&w->guest[1]->client.pressure), ==, 100);
    g_assert_cmpuint(atomic_load(&w->ms->pressure), ==, 15);
    world_free(w);
}

static void test_the_hosts_state_follows_the_pool_with_an_event(void)
{
    World *w = world_new();
    MsGrant grant;

    g_assert_cmpint(atomic_load(&w->ms->host_state), ==,
                    MEMSCHED_CONDITION_HIGH);
    ms_lock(&w->ms->ledger_lock);
    ms_ledger_grant(&w->ms->ledger, &w->guest[0]->client.account, POOL, 0,
                    310, &grant);
    ms_unlock(&w->ms->ledger_lock);
    fake_advance(w->fake, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpint(atomic_load(&w->ms->host_state), ==,
                    MEMSCHED_CONDITION_HARD);
    g_assert_cmpint(atomic_load(&w->guest[0]->client.condition), ==,
                    MEMSCHED_CONDITION_HARD);
    /* It holds less than its entitlement, but the next touch may wait. */
    g_assert_cmpint(atomic_load(&w->guest[1]->client.condition), ==,
                    MEMSCHED_CONDITION_LOW);
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_CONDITION_CHANGED], ==, 3);
    world_free(w);
}

static void test_options_change_all_or_nothing(void)
{
    World *w = world_new();
    MemSchedChange good = {
        .has_policy = true, .policy = MEMSCHED_POLICY_STATIC,
        .has_interval = true, .interval_ms = 10,
        .has_idle_tax = true, .idle_tax_pct = 99,
        .has_dry_run = true, .dry_run = true,
    };
    MemSchedChange bad = good;
    MemSchedMessage message = { "" };

    bad.policy = MEMSCHED_POLICY_SHARES;
    bad.interval_ms = 9;
    g_assert_cmpint(memsched_set(w->ms, &bad, &message), ==, -EINVAL);
    g_assert_nonnull(strstr(message.text, "interval"));
    bad.interval_ms = 3600001;
    g_assert_cmpint(memsched_set(w->ms, &bad, NULL), ==, -EINVAL);
    bad.interval_ms = 10;
    bad.idle_tax_pct = 100;
    g_assert_cmpint(memsched_set(w->ms, &bad, NULL), ==, -EINVAL);
    g_assert_cmpuint(atomic_load(&w->ms->interval_ms), ==, 1000);
    g_assert_cmpint(memsched_set(w->ms, &good, &message), ==, 0);
    g_assert_cmpuint(atomic_load(&w->ms->interval_ms), ==, 10);
    g_assert_cmpuint(atomic_load(&w->ms->policy), ==, MEMSCHED_POLICY_STATIC);
    g_assert_true(atomic_load(&w->ms->dry_run));
    world_free(w);
}

/* It is asked for no more than it has left, until somebody asks anew. */
static void test_a_guest_out_of_memory_is_not_asked_again(void)
{
    World *w = world_new();
    Guest *g = w->guest[0];

    memsched_client_balloon_manual(&g->client, 400 * MEMSCHED_PAGE_SIZE);
    ms_sched_step(w->sched);
    g_assert_cmpuint(atomic_load(&g->client.balloon_target_bytes), ==,
                     400 * MEMSCHED_PAGE_SIZE);
    memsched_client_oom_deflate(&g->client);
    g_assert_cmpuint(ms_thrash_left_ns(&g->client.thrash,
                                       w->ms->sys->now_ns(w->ms->sys)), ==,
                     SECOND);
    g_assert_true(ms_client_left_alone(&g->client));
    ms_sched_step(w->sched);
    /* This guest has no RAM, so there is nothing in its balloon. */
    g_assert_cmpuint(g->balloon_bytes, ==, 0);
    fake_advance(w->fake, SECOND);
    g_assert_false(ms_client_left_alone(&g->client));

    memsched_client_balloon_manual(&g->client, 300 * MEMSCHED_PAGE_SIZE);
    ms_sched_step(w->sched);
    g_assert_cmpuint(atomic_load(&g->client.balloon_target_bytes), ==,
                     300 * MEMSCHED_PAGE_SIZE);
    world_free(w);
}

/*
 * It takes back what it gave, and is asked while it gives that again: both
 * count into its balloon, and with time that would be more than it has.
 */
static void test_a_balloon_refilled_in_turn_leaves_the_min(void)
{
    World *w = world_new();
    MemSched *ms = w->ms;
    Guest *a = w->guest[0];
    uint64_t most = 49000 * 4096;
    MsGrant got;

    for (unsigned turn = 0; turn < 4; turn++) {
        world_transfer(w, 15000, 0);
        g_assert_cmpuint(a->balloon_bytes, <=, most);
        world_capture(w, 15000);
        ms_sched_step(w->sched);
        g_assert_cmpuint(a->balloon_bytes, <=, most);
        world_populate(w, 15000);
        ms_lock(&ms->ledger_lock);
        ms_ledger_grant(&ms->ledger, &a->client.account, 15000, 0, 0, &got);
        ms_ledger_capture(&ms->ledger, &w->guest[1]->client.account, 15000);
        ms_unlock(&ms->ledger_lock);
        g_assert_cmpuint(got.pages, ==, 15000);
    }
    ms_sched_step(w->sched);
    g_assert_cmpuint(a->balloon_bytes, ==, most);
    g_assert_cmpuint(atomic_load(&a->client.target_bytes), ==, 1000 * 4096);

    /* An operator may. */
    memsched_client_balloon_manual(&a->client, 49500 * 4096);
    ms_sched_step(w->sched);
    g_assert_cmpuint(atomic_load(&a->client.target_bytes), ==, 500 * 4096);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/a-transfer-asks-claims-prefetches-and-completes",
                    test_a_transfer_asks_claims_prefetches_and_completes);
    g_test_add_func("/deadline-releases-the-claim-and-restores-the-target",
                    test_deadline_releases_the_claim_and_restores_the_target);
    g_test_add_func("/a-claim-without-a-transfer-lapses",
                    test_a_claim_without_a_transfer_lapses);
    g_test_add_func("/an-operators-balloon-is-where-transfers-start",
                    test_an_operators_balloon_is_where_transfers_start);
    g_test_add_func("/reset-and-going-away-end-transfers",
                    test_reset_and_going_away_end_transfers);
    g_test_add_func("/a-guest-that-does-not-move-is-unresponsive-in-4-s",
                    test_a_guest_that_does_not_move_is_unresponsive_in_4_s);
    g_test_add_func("/a-stopped-guest-is-not-called-unresponsive",
                    test_a_stopped_guest_is_not_called_unresponsive);
    g_test_add_func("/a-refused-touch-stalls-within-a-second",
                    test_a_refused_touch_stalls_within_a_second);
    g_test_add_func("/the-tick-polls-and-shows-entitlements",
                    test_the_tick_polls_and_shows_entitlements);
    g_test_add_func("/the-hosts-state-follows-the-pool-with-an-event",
                    test_the_hosts_state_follows_the_pool_with_an_event);
    g_test_add_func("/options-change-all-or-nothing",
                    test_options_change_all_or_nothing);
    g_test_add_func("/a-balloon-refilled-in-turn-leaves-the-min",
                    test_a_balloon_refilled_in_turn_leaves_the_min);
    g_test_add_func("/a-guest-out-of-memory-is-not-asked-again",
                    test_a_guest_out_of_memory_is_not_asked_again);
    return g_test_run();
}
