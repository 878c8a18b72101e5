/*
 * The tick: what everybody is entitled to, how the host is, fresh statistics
 *
 * Owns the snapshot that the policy decides on, and where its answers are
 * shown.  Nothing moves by itself: decisions end in entitlements and pressure.
 * (What a guest may expect of that: scheduler-cond.c.)
 *
 * Active memory is what the guest says of itself, bounded by what it holds:
 * its statistics' total less available, while the sample is younger than
 * FRESH_NS.  A guest that says nothing counts as active with all it holds.
 *
 * Threads: the scheduler's only.  Locks: the ledger's and the client's, one
 * after the other; none in a callback.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "app.h"
#include "hold.h"
#include "policy.h"
#include "scheduler-int.h"

#define FRESH_NS UINT64_C(30000000000)

static uint64_t active_pages(MemSchedClient *client, uint64_t allocated,
                             uint64_t now_ns)
{
    uint64_t total, available, sampled;

    ms_lock(&client->lock);
    total = client->stats[MEMSCHED_STAT_TOTAL];
    available = client->stats[MEMSCHED_STAT_AVAILABLE];
    sampled = client->stats_ns;
    ms_unlock(&client->lock);

    if (sampled == 0 || now_ns > sampled + FRESH_NS ||
        total == MEMSCHED_STAT_UNKNOWN ||
        available == MEMSCHED_STAT_UNKNOWN || available > total) {
        return allocated;
    }
    return MIN((total - available) >> MEMSCHED_PAGE_SHIFT, allocated);
}

static void snapshot(MsSched *sched, MemSchedClient *client,
                     uint64_t now_ns, MsPolicyGuest *ret_guest)
{
    MemSched *ms = sched->ms;
    uint64_t ram = atomic_load(&client->ram_pages);
    MsPolicyGuest g = { 0 };
    MsTransferSums sums;

    ms_lock(&ms->ledger_lock);
    ms_transfers_sums(&sched->transfers, client, &sums);
    g.allocated = client->account.allocated;
    g.min = client->account.min;
    g.max = MIN(client->account.max, ram);
    ms_unlock(&ms->ledger_lock);

    ms_lock(&client->lock);
    g.shares = client->shares;
    ms_unlock(&client->lock);

    g.incoming = sums.take_left;
    g.waiting = ms_client_waiters(client);
    g.active = active_pages(client, g.allocated, now_ns);
    *ret_guest = g;
}

static void show(MemSchedClient *client, const MsPolicyGuest *g)
{
    atomic_store(&client->entitlement_bytes,
                 g->entitlement << MEMSCHED_PAGE_SHIFT);
    atomic_store(&client->active_bytes, g->active << MEMSCHED_PAGE_SHIFT);
    atomic_store(&client->idle_bytes,
                 (g->allocated - g->active) << MEMSCHED_PAGE_SHIFT);
    atomic_store(&client->pressure, g->pressure);
}

static void show_host(MsSched *sched, const MsPolicyInput *input,
                                   const MsPolicyGuest *guests, size_t count)
{
    MemSched *ms = sched->ms;
    MemSchedCondition before = atomic_load(&ms->host_state), state;
    MemSchedEvent event = {
        .kind = MEMSCHED_EVENT_CONDITION_CHANGED, .active = true,
    };
    uint64_t free;

    ms_lock(&ms->ledger_lock);
    free = ms->ledger.free - MIN(ms->ledger.claims, ms->ledger.free);
    ms_unlock(&ms->ledger_lock);

    state = ms_policy_host_state(before, free, input->min_free);
    atomic_store(&ms->pressure, ms_policy_pressure(input, guests, count));
    atomic_store(&ms->host_state, state);
    if (state != before) {
        event.condition = state;
        ms_sched_event(sched, &event);
        /* Hard or worse lifts the mover's budget. */
        ms_mover_kick(ms->mover);
    }
}

static void poll_stats(MemSchedClient *client)
{
    MemSchedClientOps ops;
    void *opaque;

    if (ms_client_ops_enter(client, &ops, &opaque)) {
        if (ops.poll_stats) {
            ops.poll_stats(opaque);
        }
        ms_client_ops_leave(client);
    }
}

void ms_sched_tick(MsSched *sched, MemSchedClient **clients, size_t count,
                   uint64_t now_ns)
{
    MemSched *ms = sched->ms;
    g_autofree MsPolicyGuest *guests = g_new0(MsPolicyGuest, count);
    g_autofree MsDecision *decisions = g_new0(MsDecision, count);
    MsPolicyInput input = {
        .policy = atomic_load(&ms->policy),
        .idle_tax_pct = atomic_load(&ms->idle_tax_pct),
        .min_free = ms->min_free_pages,
    };

    ms_lock(&ms->ledger_lock);
    input.budget = ms->ledger.budget;
    ms_unlock(&ms->ledger_lock);

    for (size_t i = 0; i < count; i++) {
        snapshot(sched, clients[i], now_ns, &guests[i]);
    }
    ms_policy_run(&input, guests, count, decisions, count);
    show_host(sched, &input, guests, count);
    ms_hold_tick(ms, clients, guests, count);
    for (size_t i = 0; i < count; i++) {
        show(clients[i], &guests[i]);
        poll_stats(clients[i]);
        ms_apps_poll(clients[i]->apps);
    }
}
