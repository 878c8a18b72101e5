/*
 * The tick: what everybody is entitled to, who gives and gets, how the host is
 *
 * Owns the snapshot that the policy decides on, and where its answers are
 * shown and kept; scheduler-carry.c does what it says.  (What a guest may
 * expect of that: scheduler-cond.c.)
 *
 * Active memory has two witnesses, each bounded by what the guest holds.  The
 * guest: its statistics' total less available, while they are younger than
 * FRESH_NS.  The host: the part of a random sample that was touched again
 * (sampler.c).  Where only one of them says anything, that counts; where
 * neither does, all of it is active, and so it is for a guest that waits for
 * its memory a tenth of the time.
 *
 * Where the guest says that it uses less than the host has seen touched, it is
 * right: it knows what it is about to use no more, and the sample lags.  Where
 * it says that it uses more, the rest is memory that it keeps and leaves alone:
 * half of that counts.  All of it, and a guest that claims everything would pay
 * no tax; none, and a guest without a swap device, which cannot give what it
 * keeps, would be asked for it.
 *
 * What a touch that waits will be followed by nobody knows: it is taken for
 * WAITING_PAGES, twice as much with each tick that the guest waits.
 *
 * Ballooned is what the guest's balloons hold, less what is promised to it
 * already and will be let go for that: one wish is served once.
 *
 * Between two ticks the policy looks again while touches wait, with what it
 * knew at the last tick: what a second tells, a tenth of one does not.
 *
 * Threads: the scheduler's only.  Locks: the ledger's and the client's, one
 * after the other; none in a callback.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "app.h"
#include "hold.h"
#include "less.h"
#include "policy.h"
#include "scheduler-int.h"

#define FRESH_NS UINT64_C(30000000000)
/* Waits for memory so much of the time: 10 %, in hundredths of one. */
#define PSI_SHORT 1000u
/* 8 MiB, the least headroom; doubled up to 16 times. */
#define WAITING_PAGES 2048u
#define WAITING_DOUBLINGS 4u

typedef struct Tick {
    MsSched *sched;
    MemSchedClient **clients;
    MsPolicyInput input;
    MsPolicyGuest *guests;
    MsDecision *decisions;
    size_t count, decided;
} Tick;

/* ---- the snapshot ---- */

/* False: it has not said lately what it uses, or nothing that can be. */
static bool claimed_pages(MemSchedClient *client, uint64_t allocated,
                          uint64_t now_ns, uint64_t *ret_pages)
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
        return false;
    }
    *ret_pages = MIN((total - available) >> MEMSCHED_PAGE_SHIFT, allocated);
    return true;
}

static uint64_t active_pages(MemSchedClient *client, uint64_t allocated,
                             uint64_t now_ns)
{
    uint64_t claimed = allocated, seen, told_ns;
    bool claims = claimed_pages(client, allocated, now_ns, &claimed), sees;
    MsSampledFigure sampled;
    const char *why;

    sees = ms_sampler_figure(client, now_ns, &sampled, &why);
    atomic_store(&client->claimed_bytes,
                 claims ? claimed << MEMSCHED_PAGE_SHIFT : UINT64_MAX);
    if (ms_sched_psi(client, now_ns, &told_ns) >= PSI_SHORT) {
        return allocated;
    }
    if (!sees) {
        return claimed;
    }
    /* Pages fit 52 bits. */
    seen = allocated * sampled.figure.active_permille / 1000;
    return !claims ? seen
           : claimed > seen ? seen + (claimed - seen) / 2 : claimed;
}

/*
 * What the guest's balloons hold, and its kernel's alone; what it reports it
 * takes back by touch.
 */
static uint64_t ballooned_pages(MemSchedClient *client, uint64_t *ret_kernel)
{
    MsClientPages pages;
    uint64_t apps = 0;

    ms_client_pages(client, &pages);
    *ret_kernel = ms_pages_ballooned(&pages);
    if (client->apps) {
        ms_lock(&client->apps->lock);
        apps = client->apps->epochs.credited;
        ms_unlock(&client->apps->lock);
    }
    return *ret_kernel + apps;
}

static uint64_t waiting_pages(MemSchedClient *client, const MsPolicyGuest *g)
{
    uint64_t waiters = ms_client_waiters(client);
    uint64_t room = ms_less(ms_less(g->max, g->ballooned), g->allocated);
    uint64_t each = (uint64_t)WAITING_PAGES << MIN(g->memory.pressed_ticks,
                                                   WAITING_DOUBLINGS);

    return waiters ? CLAMP(waiters * each, 1, MAX(room, 1)) : 0;
}

/* Whether it can be asked, and what its past is. */
static void look_at_client(MemSchedClient *client, MsPolicyGuest *g)
{
    ms_lock(&client->lock);
    g->shares = client->shares;
    g->oom_deflates = client->oom_deflates;
    g->returned = client->thrash.returned_pages;
    g->fixed = !(client->attached && client->ops.set_balloon) ||
               !client->running || client->inhibited > 0;
    ms_unlock(&client->lock);
    g->fixed |= atomic_load(&client->stalled) ||
                atomic_load(&client->ending);
    g->captured = ms_counter(&client->stats_counters.captured_pages);
}

static void snapshot(MsSched *sched, MemSchedClient *client,
                     uint64_t now_ns, MsPolicyGuest *ret_guest)
{
    MemSched *ms = sched->ms;
    uint64_t ram = atomic_load(&client->ram_pages), hold_ns, kernel;
    MsPolicyGuest g = { .ballooned = ballooned_pages(client, &kernel) };
    MsSchedGuest *record;
    MsTransferSums sums;

    ms_lock(&ms->ledger_lock);
    ms_transfers_sums(&sched->transfers, client, &sums);
    record = ms_sched_guest_locked(client);
    record->ballooned = kernel;
    g.allocated = client->account.allocated;
    g.min = client->account.min;
    g.max = MIN(client->account.max, ram);
    hold_ns = record->hold_ns;
    if (record->manual_pages > 0) {
        /* So much of it is the operator's, and its size is his word. */
        g.held = true;
        g.max = ms_less(g.max, record->base_pages);
        g.ballooned = ms_less(g.ballooned, record->base_pages);
    }
    ms_unlock(&ms->ledger_lock);

    g.held |= now_ns < hold_ns && !ms_is_short(ms);
    g.memory = record->policy;
    g.ballooned = ms_less(g.ballooned, sums.outstanding);
    g.outgoing = sums.give_left;
    g.incoming = ms_less(sums.take_left, sums.take_auto_left);
    look_at_client(client, &g);
    g.waiting = waiting_pages(client, &g);
    g.active = active_pages(client, g.allocated, now_ns);
    *ret_guest = g;
}

/*
 * What can be divided: not what keeps parity and held pages, nor what each
 * guest keeps to be able to give.
 */
static uint64_t budget_locked(const Tick *t)
{
    const MsLedger *ledger = &t->sched->ms->ledger;
    uint64_t budget = ms_less(ledger->budget, ledger->parity + ledger->held);

    for (size_t i = 0; i < t->count; i++) {
        budget = ms_less(budget, t->clients[i]->account.allowance);
    }
    return budget;
}

static void fill_input(Tick *t, uint64_t now_ns)
{
    MemSched *ms = t->sched->ms;

    t->input = (MsPolicyInput) {
        .policy = atomic_load(&ms->policy),
        .idle_tax_pct = atomic_load(&ms->idle_tax_pct),
        .min_free = ms->min_free_pages,
        .interval_ms = atomic_load(&ms->interval_ms),
        .now_ns = now_ns, .tuning = ms_policy_tuning(),
    };
    ms_lock(&ms->ledger_lock);
    t->input.budget = budget_locked(t);
    t->input.free = ms_ledger_slack(&ms->ledger);
    ms_unlock(&ms->ledger_lock);
    t->input.state = ms_policy_host_state(atomic_load(&ms->host_state),
                                          t->input.free, t->input.min_free);
}

/* ---- what the guest's past says ---- */

/*
 * Two protections see the same pages come back.  thrash.c is the quick one: it
 * stops what is taken without anybody's asking.  While it does, the policy does
 * not ask either; its own, slow one goes on from there.
 */
static void rest_with_thrash(MemSchedClient *client, MsPolicyGuest *g,
                             uint64_t now_ns)
{
    uint64_t left;

    ms_lock(&client->lock);
    left = ms_thrash_left_ns(&client->thrash, now_ns);
    ms_unlock(&client->lock);
    if (left > 0) {
        g->memory.rest_ns = MAX(g->memory.rest_ns, now_ns + left);
    }
}

static void watch(Tick *t)
{
    ms_policy_watch(&t->input, t->guests, t->count);
    for (size_t i = 0; i < t->count; i++) {
        MsSchedGuest *record = t->clients[i]->sched;

        rest_with_thrash(t->clients[i], &t->guests[i], t->input.now_ns);
        record->policy = t->guests[i].memory;
    }
}

/* ---- answers ---- */

static void show(MemSchedClient *client, const MsPolicyGuest *g)
{
    atomic_store(&client->entitlement_bytes,
                 g->entitlement << MEMSCHED_PAGE_SHIFT);
    atomic_store(&client->active_bytes, g->active << MEMSCHED_PAGE_SHIFT);
    atomic_store(&client->idle_bytes,
                 (g->allocated - g->active) << MEMSCHED_PAGE_SHIFT);
    atomic_store(&client->pressure, g->pressure);
}

static void show_host(const Tick *t)
{
    MemSched *ms = t->sched->ms;
    MemSchedEvent event = {
        .kind = MEMSCHED_EVENT_CONDITION_CHANGED, .active = true,
        .condition = t->input.state,
    };

    atomic_store(&ms->pressure,
                 ms_policy_pressure(&t->input, t->guests, t->count));
    if (atomic_exchange(&ms->host_state, t->input.state) != t->input.state) {
        ms_sched_event(t->sched, &event);
        /* Hard or worse lifts the mover's budget. */
        ms_mover_kick(ms->mover);
    }
}

/* Of each guest the first decision about it, or NULL; to be freed. */
static const MsDecision **decisions_by_guest(const Tick *t)
{
    const MsDecision **of = g_new0(const MsDecision *, t->count);

    for (size_t i = t->decided; i > 0; i--) {
        of[t->decisions[i - 1].guest] = &t->decisions[i - 1];
    }
    return of;
}

static void note(const Tick *t, size_t i, const MsDecision *d)
{
    MsSched *sched = t->sched;
    MsSchedGuest *record = t->clients[i]->sched;
    MsDecisionRecord r;

    /* What an operator's transfer brings is not the policy's doing. */
    bool decided = d && d->reason != MS_REASON_INCOMING;

    ms_decision_record(&t->input, &t->guests[i], t->clients[i]->id, d, &r);
    r.dry_run = atomic_load(&sched->ms->dry_run);
    ms_lock(&sched->decisions_lock);
    if (decided) {
        ms_decisions_add(&sched->decisions, &r);
        r.number = sched->decisions.last_number;
    }
    record->why = r;
    ms_unlock(&sched->decisions_lock);
    if (decided) {
        ms_sched_decided(sched, t->clients[i], &r);
    }
}

/* ---- a tick ---- */

static void look(Tick *t, uint64_t now_ns, bool is_tick)
{
    g_autofree const MsDecision **of = NULL;

    fill_input(t, now_ns);
    t->guests = g_new0(MsPolicyGuest, t->count);
    t->decisions = g_new0(MsDecision, t->count);
    for (size_t i = 0; i < t->count; i++) {
        snapshot(t->sched, t->clients[i], now_ns, &t->guests[i]);
    }
    if (is_tick) {
        watch(t);
    }
    t->decided = ms_policy_run(&t->input, t->guests, t->count, t->decisions,
                               t->count);
    of = decisions_by_guest(t);
    show_host(t);
    ms_hold_tick(t->sched->ms, t->clients, t->guests, t->count);
    for (size_t i = 0; i < t->count; i++) {
        show(t->clients[i], &t->guests[i]);
        note(t, i, of[i]);
    }
    ms_sched_carry_out(t->sched, t->clients, &t->input, t->guests, t->count,
                       t->decisions, t->decided);
    g_free(t->guests);
    g_free(t->decisions);
}

void ms_sched_look(MsSched *sched, MemSchedClient **clients, size_t count,
                   uint64_t now_ns)
{
    Tick t = { .sched = sched, .clients = clients, .count = count };

    look(&t, now_ns, false);
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
    Tick t = { .sched = sched, .clients = clients, .count = count };

    look(&t, now_ns, true);
    for (size_t i = 0; i < count; i++) {
        poll_stats(clients[i]);
        ms_apps_poll(clients[i]->apps);
    }
}
