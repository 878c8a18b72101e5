/*
 * A scheduler without its thread, and guests that are nothing but an account
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "sched-world.h"

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

static void hear_answer(void *opaque, const MemSchedAppAnswer *answer)
{
    Guest *g = opaque;

    g_assert_true(ms_lock_none_held());
    g->answer[g->answers++ % G_N_ELEMENTS(g->answer)] = *answer;
}

static void hear_condition(void *opaque,
                           const MemSchedGuestCondition *condition)
{
    Guest *g = opaque;

    g_assert_true(ms_lock_none_held());
    g->conditions++;
    g->condition = *condition;
}

/* ---- the world ---- */

static Guest *guest_new(World *w, const char *id, uint64_t allocated)
{
    static const MemSchedClientOps ops = {
        .set_balloon = set_balloon, .poll_stats = poll_stats,
    };
    static const MemSchedMachineOps machine = { .set_paused = set_paused };
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
    c->apps = ms_apps_new(c);
    g_assert_cmpint(ms_ledger_admit(&ms->ledger, &c->account, 1000, 50000, 0),
                    ==, 0);
    ms_ledger_grant(&ms->ledger, &c->account, allocated, 0, 0, &grant);
    g_assert_cmpuint(grant.pages, ==, allocated);
    ms->clients[ms->clients_count++] = c;
    g_assert_cmpint(memsched_client_attach(c, &ops, g), ==, 0);
    memsched_client_set_machine(c, &machine, g);
    return g;
}

World *world_new(void)
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

void world_free(World *w)
{
    MemSched *ms = w->ms;

    ms_sched_free(w->sched);
    for (unsigned i = 0; i < 2; i++) {
        MemSchedClient *c = &w->guest[i]->client;
        MemSchedRegion *r = w->guest[i]->region;

        if (r) {
            ms_cond_destroy(&r->cond);
            ms_lock_destroy(&r->lock);
            g_free(r);
            g_free(c->regions);
        }
        memsched_client_detach_apps(c, w->guest[i]);
        ms_apps_free(c->apps);
        g_free(c->sched);
        g_free(c->waiters);
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

uint64_t world_transfer(World *w, uint64_t pages, unsigned deadline_ms)
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

void world_capture(World *w, uint64_t pages)
{
    MemSched *ms = w->ms;
    MemSchedClient *c = &w->guest[0]->client;

    ms_lock(&ms->ledger_lock);
    ms_ledger_capture(&ms->ledger, &c->account, pages);
    ms_count(&c->stats_counters.captured_pages, pages);
    ms->hooks->captured(ms, c, MEMSCHED_SOURCE_KERNEL, pages, MS_HOW_MOVED);
    ms_unlock(&ms->ledger_lock);
}

void world_populate(World *w, uint64_t pages)
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

MemSchedTransferInfo world_newest(World *w)
{
    MemSchedTransferInfo info;

    g_assert_cmpuint(memsched_query_transfers(w->ms, &info, 1), ==, 1);
    return info;
}

/* ---- what a guest has and says ---- */

void world_holes(World *w, Guest *g, uint64_t pages)
{
    MemSchedRegion *r = g->region;

    if (r == NULL) {
        r = g->region = g_new0(MemSchedRegion, 1);
        r->ms = w->ms;
        r->client = &g->client;
        atomic_init(&r->refs, 1);
        ms_lock_init(&r->lock, MS_RANK_REGION);
        ms_cond_init(&r->cond);
        g->client.regions = g_new0(MemSchedRegion *, 1);
        g->client.regions[0] = r;
        g->client.regions_count = 1;
    }
    r->pages.count[MEMSCHED_PAGE_HOLE] = pages;
}

void world_connect(Guest *g)
{
    static const MemSchedAppOps ops = {
        .answer = hear_answer, .condition = hear_condition,
    };
    MemSchedAppOptions seven = { .app = 7, .name = "cache" };
    uint8_t session[MEMSCHED_SESSION_BYTES];

    g_assert_cmpint(memsched_client_attach_apps(&g->client, &ops, g, session),
                    ==, 0);
    g_assert_cmpint(memsched_app_register(&g->client, &seven), ==, 0);
}

void world_active(Guest *g, uint64_t active)
{
    uint64_t stats[MEMSCHED_STATS];

    memset(stats, 0xff, sizeof(stats));
    stats[MEMSCHED_STAT_TOTAL] = 50000 * UINT64_C(4096);
    stats[MEMSCHED_STAT_AVAILABLE] = (50000 - active) * UINT64_C(4096);
    memsched_client_stats(&g->client, stats);
}

void world_step(World *w, uint64_t after_ns)
{
    fake_advance(w->fake, after_ns);
    ms_sched_step(w->sched);
}
