/*
 * The scheduler's thread without its thread: hooks, steps and callbacks under
 * a clock that the test turns, with guests that are nothing but an account
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "fake-sys.h"
#include "instance.h"
#include "scheduler.h"
#include "scheduler-int.h"

#define MS_NS    UINT64_C(1000000)
#define SECOND   (1000 * MS_NS)
#define POOL     100000u        /* pages */

typedef struct Guest {
    MemSchedClient client;
    uint64_t balloon_bytes;
    unsigned asked, paused, resumed, polled;
} Guest;

typedef struct World {
    FakeSys *fake;
    MemSched *ms;
    MsSched *sched;
    Guest *guest[3];
    unsigned events[4];
    MemSchedEvent last[4];
} World;

/* ---- callbacks ---- */

static void set_balloon(void *opaque, uint64_t balloon_bytes)
{
    Guest *g = opaque;

    g_assert_true(ms_lock_none_held());
    g->balloon_bytes = balloon_bytes;
    g->asked++;
}

static void set_paused(void *opaque, bool paused)
{
    Guest *g = opaque;

    g_assert_true(ms_lock_none_held());
    g->paused += paused;
    g->resumed += !paused;
}

static void poll_stats(void *opaque)
{
    Guest *g = opaque;

    g_assert_true(ms_lock_none_held());
    g->polled++;
}

static void hear(void *opaque, const MemSchedEvent *event)
{
    World *w = opaque;

    g_assert_true(ms_lock_none_held());
    w->events[event->kind]++;
    w->last[event->kind] = *event;
}

/* ---- the world ---- */

static Guest *guest_new(World *w, const char *id, uint64_t allocated)
{
    static const MemSchedClientOps ops = {
        .set_balloon = set_balloon, .set_paused = set_paused,
        .poll_stats = poll_stats,
    };
    Guest *g = g_new0(Guest, 1);
    MemSchedClient *c = &g->client;
    MemSched *ms = w->ms;
    MsGrant grant;

    c->ms = ms;
    g_strlcpy(c->id, id, sizeof(c->id));
    c->running = true;
    c->shares = 1000;
    memset(c->stats, 0xff, sizeof(c->stats));
    atomic_init(&c->refs, 1);
    atomic_init(&c->ram_pages, 50000);
    ms_lock_init(&c->lock, MS_RANK_LEAF);
    ms_cond_init(&c->cond);
    g_assert_cmpint(ms_ledger_admit(&ms->ledger, &c->account, 1000, 50000, 0),
                    ==, 0);
    ms_ledger_grant(&ms->ledger, &c->account, allocated, 0, 0, &grant);
    g_assert_cmpuint(grant.pages, ==, allocated);
    ms->clients[ms->clients_count++] = c;
    g_assert_cmpint(memsched_client_attach(c, &ops, g), ==, 0);
    return g;
}

static World *world_new(void)
{
    MemSchedObserver observer = { .event = hear };
    World *w = g_new0(World, 1);
    MemSched *ms = w->ms = g_new0(MemSched, 1);

    w->fake = fake_sys_new();
    ms->sys = fake_sys(w->fake);
    ms->min_free_pages = 1000;
    atomic_init(&ms->interval_ms, 1000);
    atomic_init(&ms->policy, MEMSCHED_POLICY_SHARES);
    ms_lock_init(&ms->ledger_lock, MS_RANK_LEDGER);
    ms_lock_init(&ms->clients_lock, MS_RANK_LEAF);
    ms_lock_init(&ms->observer_lock, MS_RANK_LEAF);
    ms_cond_init(&ms->observer_cond);
    ms_ledger_init(&ms->ledger, POOL);
    ms->clients = g_new0(MemSchedClient *, 3);
    w->sched = ms_sched_new(ms);
    memsched_observe(ms, &observer, w);
    w->guest[0] = guest_new(w, "a", 20000);
    w->guest[1] = guest_new(w, "b", 10000);
    ms_sched_step(w->sched);
    return w;
}

static void world_free(World *w)
{
    MemSched *ms = w->ms;

    ms_sched_free(w->sched);
    for (unsigned i = 0; i < 2; i++) {
        MemSchedClient *c = &w->guest[i]->client;

        g_free(c->sched);
        ms_cond_destroy(&c->cond);
        ms_lock_destroy(&c->lock);
        g_free(w->guest[i]);
    }
    g_free(ms->clients);
    ms_cond_destroy(&ms->observer_cond);
    ms_lock_destroy(&ms->observer_lock);
    ms_lock_destroy(&ms->clients_lock);
    ms_lock_destroy(&ms->ledger_lock);
    fake_sys_free(w->fake);
    g_free(ms);
    g_free(w);
}

/* As memsched_reallocate() does, but for the acceptor's regions: none. */
static uint64_t begin(World *w, uint64_t pages, unsigned deadline_ms)
{
    MsTransferStart start = {
        .from = &w->guest[0]->client, .to = &w->guest[1]->client,
        .from_id = "a", .to_id = "b", .pages = pages,
        .deadline_ms = deadline_ms, .now_ns = w->ms->sys->now_ns(w->ms->sys),
    };
    uint64_t id;

    ms_lock(&w->ms->ledger_lock);
    g_assert_cmpint(ms_transfers_start(&w->sched->transfers, &start, &id), ==,
                    0);
    ms_unlock(&w->ms->ledger_lock);
    ms_sched_step(w->sched);
    return id;
}

static void capture(World *w, uint64_t pages)
{
    MemSched *ms = w->ms;
    MemSchedClient *c = &w->guest[0]->client;

    ms_lock(&ms->ledger_lock);
    ms_ledger_capture(&ms->ledger, &c->account, pages);
    ms->hooks->captured(ms, c, MEMSCHED_SOURCE_KERNEL, pages, MS_HOW_MOVED);
    ms_unlock(&ms->ledger_lock);
}

static void populate(World *w, uint64_t pages)
{
    MemSched *ms = w->ms;
    MemSchedClient *c = &w->guest[1]->client;
    MsGrant grant;

    ms_lock(&ms->ledger_lock);
    ms_ledger_grant(&ms->ledger, &c->account, pages, MS_GRANT_CLAIM_ONLY, 0,
                    &grant);
    ms->hooks->populated(ms, c, grant.from_claim, MS_HOW_MOVED);
    ms_unlock(&ms->ledger_lock);
}

static MemSchedTransferInfo newest(World *w)
{
    MemSchedTransferInfo info;

    g_assert_cmpuint(memsched_query_transfers(w->ms, &info, 1), ==, 1);
    return info;
}

/* ---- transfers ---- */

static void test_a_transfer_asks_claims_prefetches_and_completes(void)
{
    World *w = world_new();
    MemSchedClient *b = &w->guest[1]->client;

    begin(w, 5000, 0);
    g_assert_cmpuint(w->guest[0]->asked, ==, 1);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 5000 * 4096);
    capture(w, 3000);
    g_assert_cmpuint(b->account.claim, ==, 3000);
    g_assert_cmpuint(atomic_load(&b->prefetch_pages), ==, 3000);
    populate(w, 3000);
    capture(w, 2000);
    populate(w, 2000);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_TRANSFER_COMPLETED], ==, 1);
    g_assert_cmpint(newest(w).state, ==, MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(newest(w).moved_bytes, ==, 5000 * 4096);
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

    begin(w, 5000, 700);
    capture(w, 3000);
    populate(w, 1000);
    fake_advance(w->fake, 695 * MS_NS);
    wake = ms_sched_step(w->sched);
    g_assert_cmpuint(wake, <=, w->ms->sys->now_ns(w->ms->sys) + 5 * MS_NS);
    g_assert_cmpint(newest(w).state, ==, MEMSCHED_TRANSFER_RUNNING);
    g_assert_cmpuint(b->account.claim, ==, 2000);
    fake_advance(w->fake, 5 * MS_NS);
    ms_sched_step(w->sched);
    g_assert_cmpint(newest(w).state, ==, MEMSCHED_TRANSFER_PARTIAL);
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

    begin(w, 5000, 100);
    capture(w, 5000);
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
    begin(w, 5000, 700);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 5700 * 4096);
    fake_advance(w->fake, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpint(newest(w).state, ==, MEMSCHED_TRANSFER_FAILED);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 700 * 4096);
    world_free(w);
}

static void test_reset_and_going_away_end_transfers(void)
{
    World *w = world_new();
    MemSched *ms = w->ms;

    begin(w, 5000, 0);
    ms_lock(&ms->ledger_lock);
    ms->hooks->client_reset(ms, &w->guest[1]->client);
    ms_unlock(&ms->ledger_lock);
    g_assert_cmpstr(newest(w).reason, ==, "guest 'b' was reset");
    begin(w, 5000, 0);
    capture(w, 100);
    populate(w, 100);
    ms_lock(&ms->ledger_lock);
    ms->hooks->client_gone(ms, &w->guest[0]->client);
    ms_unlock(&ms->ledger_lock);
    g_assert_cmpint(newest(w).state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpstr(newest(w).reason, ==, "guest 'a' went away");
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_TRANSFER_COMPLETED], ==, 2);
    world_free(w);
}

/* ---- guests ---- */

static void test_a_guest_that_does_not_move_is_unresponsive_in_4_s(void)
{
    World *w = world_new();
    MemSchedClient *a = &w->guest[0]->client;

    begin(w, 5000, 0);
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

    begin(w, 5000, 0);
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
    g_assert_cmpint(atomic_load(&w->guest[1]->client.condition), ==,
                    MEMSCHED_CONDITION_HIGH);
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_CONDITION_CHANGED], ==, 2);
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
    return g_test_run();
}
