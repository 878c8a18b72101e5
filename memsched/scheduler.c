/*
 * The scheduler's own thread
 *
 * Owns the thread, the tables of transfers and of requests, and what waits for
 * the observer.
 *
 * Who drives a transfer.  The hooks run in whoever captures or populates, in
 * the ledger's own transaction: a captured page is claimed for its acceptor
 * before anybody else can be granted it, and an end is an end at once.  What
 * needs a callback, a look at page states or the clock is done by this thread,
 * which looks every STEP_BUSY_NS while something is under way, wakes up for
 * the next deadline, and is kicked by ends.
 *
 * Locks.  The table and the guests' base_pages are the ledger's (so that they
 * change with it); events and the wish to run have sched->lock, a leaf.
 * Callbacks and observers run with no lock held.
 *
 * A claim without a transfer: pages that were granted out of a claim and come
 * back after the transfer's end are claimed again by the ledger.  The step
 * lets whatever no transfer stands for lapse.
 *
 * It captures, moves and populates nothing: see mover.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "app.h"
#include "prefetch.h"
#include "scheduler-int.h"

#define NS_PER_MS    UINT64_C(1000000)
#define STEP_BUSY_NS (20 * NS_PER_MS)
/* A refused fault shows within a second: see STALL_NS, scheduler-guest.c. */
#define STEP_IDLE_NS (250 * NS_PER_MS)
/* Between two looks of the policy while touches wait. */
#define URGENT_NS    (100 * NS_PER_MS)
/* So long the policy leaves to a guest what a transfer has brought it. */
#define HOLD_NS      (60 * UINT64_C(1000) * NS_PER_MS)

#define INTERVAL_MIN_MS 10u
#define INTERVAL_MAX_MS 3600000u

MsSchedGuest *ms_sched_guest_locked(MemSchedClient *client)
{
    if (client->sched == NULL) {
        client->sched = g_new0(MsSchedGuest, 1);
    }
    return client->sched;
}

/* ---- events ---- */

void ms_sched_event(MsSched *sched, const MemSchedEvent *event)
{
    ms_lock(&sched->lock);
    ms_events_push(&sched->events, event);
    sched->kicked = true;
    ms_cond_signal(&sched->cond);
    ms_unlock(&sched->lock);
}

void ms_sched_guest_event(MsSched *sched, MemSchedClient *client,
                          MemSchedEventKind kind, bool active)
{
    MemSchedEvent event = {
        .kind = kind, .active = active,
        .condition = atomic_load(&client->condition),
    };

    g_strlcpy(event.id, client->id, sizeof(event.id));
    ms_sched_event(sched, &event);
}

static void deliver(MsSched *sched)
{
    MemSchedEvent event;
    bool more = true;

    while (more) {
        ms_lock(&sched->lock);
        more = ms_events_pop(&sched->events, &event);
        ms_unlock(&sched->lock);
        if (more) {
            ms_event_deliver(sched->ms, &event);
        }
    }
}

/* ---- actions of transfers ---- */

void ms_sched_tags_locked(MsTransfer *transfer, bool start)
{
    MemSchedClient *from = (MemSchedClient *)transfer->from;
    MemSchedTagCounters counters;

    if (from == NULL || from->apps == NULL) {
        return;
    }
    ms_lock(&from->apps->lock);
    counters = from->apps->counters;
    ms_unlock(&from->apps->lock);
    if (start) {
        ms_transfer_tags_start(transfer, &counters);
    } else {
        ms_transfer_tags(transfer, &counters);
    }
}

/* Over the time in which something came. */
static void note_rate_locked(MemSchedClient *from, const MsTransfer *x)
{
    ms_rates_note(&ms_sched_guest_locked(from)->rates, x->source, x->captured,
                  x->captured_ns - MIN(x->start_ns, x->captured_ns),
                  x->end_ns);
}

static void finish_locked(MsSched *sched, MsTransfer *transfer)
{
    MemSchedEvent event = { .kind = MEMSCHED_EVENT_TRANSFER_COMPLETED };
    MemSchedClient *from = (MemSchedClient *)transfer->from;
    MemSchedClient *to = (MemSchedClient *)transfer->to;
    MsTransferSums sums;

    ms_sched_tags_locked(transfer, false);
    if (from) {
        note_rate_locked(from, transfer);
    }
    if (to) {
        ms_transfers_sums(&sched->transfers, to, &sums);
    }
    if (to && sums.taking == 0) {
        /* Frames that nobody has taken are anybody's. */
        ms_pool_claim_close(sched->ms->pool, to->pool_claim);
        to->pool_claim = MS_POOL_NO_CLAIM;
    }
    if (from && (transfer->state == MEMSCHED_TRANSFER_COMPLETED ||
                 transfer->automatic)) {
        ms_sched_guest_locked(from)->settle = true;
    } else if (to) {
        /* What was put into the acceptor for it need not stay there. */
        atomic_store(&to->ahead_ns, 0);
    }
    if (transfer->automatic && transfer->moved + transfer->copied +
                               transfer->discarded == 0) {
        return;                 /* the policy has thought better of it */
    }
    if (from && to) {
        ms_sched_guest_locked(to)->hold_ns = transfer->end_ns + HOLD_NS;
    }
    ms_transfer_info(transfer, transfer->end_ns, &event.transfer);
    g_strlcpy(event.id, transfer->to_id, sizeof(event.id));
    ms_trace(sched->ms, MEMSCHED_TRACE_TRANSFER_END, event.id, transfer->id,
             event.transfer.moved_bytes);
    ms_sched_event(sched, &event);
}

static void claim_locked(MsSched *sched, const MsTransferAction *a)
{
    MemSched *ms = sched->ms;
    MemSchedClient *to = (MemSchedClient *)a->client;
    uint64_t got = ms_ledger_claim(&ms->ledger, &to->account, a->pages);

    ms_transfers_claimed(a->transfer, got);
    ms_trace(ms, MEMSCHED_TRACE_CLAIM, to->id, got, to->account.claim);
    /*
     * One with a balloon is to shrink that first, one whose touches wait takes
     * what it needs by them: the thread sees to what remains.
     */
    if (got > 0 && ms_sched_guest_locked(to)->base_pages == 0 &&
        ms_sched_guest_locked(to)->apps_pages == 0 &&
        atomic_load(&to->waiting_since_ns) == 0 &&
        !atomic_load(&to->stalled)) {
        ms_prefetch(to, got);
    }
}

/* How much of @by there was to take. */
static uint64_t less(uint64_t *pages, uint64_t by)
{
    by = MIN(*pages, by);
    *pages -= by;
    return by;
}

/* The kernel's balloon first: see scheduler-guest.c. */
void ms_sched_lower_locked(MsSchedGuest *record, uint64_t pages)
{
    pages -= less(&record->base_pages, pages);
    less(&record->apps_pages, pages);
}

void ms_sched_apply_locked(MsSched *sched)
{
    MemSched *ms = sched->ms;
    bool rose = false;

    for (unsigned i = 0; i < sched->actions.count; i++) {
        const MsTransferAction *a = &sched->actions.action[i];
        MemSchedClient *client = (MemSchedClient *)a->client;

        switch (a->kind) {
        case MS_TRANSFER_KEEP:
            ms_sched_guest_locked(client)->base_pages += a->pages;
            break;
        case MS_TRANSFER_KEEP_APP:
            ms_sched_guest_locked(client)->apps_pages += a->pages;
            break;
        case MS_TRANSFER_CLAIM:
            claim_locked(sched, a);
            break;
        case MS_TRANSFER_RELEASE:
            rose |= ms_ledger_unclaim(&ms->ledger, &client->account,
                                      a->pages) > 0;
            break;
        case MS_TRANSFER_RESTORE:
            less(&ms_sched_guest_locked(client)->base_pages, a->pages);
            break;
        case MS_TRANSFER_RESTORE_APP:
            less(&ms_sched_guest_locked(client)->apps_pages, a->pages);
            break;
        case MS_TRANSFER_LOWER:
            ms_sched_lower_locked(ms_sched_guest_locked(client), a->pages);
            break;
        case MS_TRANSFER_FINISH:
            finish_locked(sched, a->transfer);
            break;
        }
    }
    if (rose) {
        ms_ledger_rose(ms);
    }
}

/* ---- hooks: the ledger's lock is held ---- */

static uint64_t now(const MemSched *ms)
{
    return ms->sys->now_ns(ms->sys);
}

static unsigned takers(MemSched *ms, MemSchedClient *donor,
                       MemSchedSource source, MsCaptureTaker *ret_takers,
                       unsigned max)
{
    MsTransferTaker next[MS_CAPTURE_TAKERS];
    unsigned count = ms_transfers_takers(&ms->sched->transfers, donor, source,
                                         next, MIN(max, G_N_ELEMENTS(next)));

    for (unsigned i = 0; i < count; i++) {
        MemSchedClient *to = (MemSchedClient *)next[i].to;

        if (to->pool_claim == MS_POOL_NO_CLAIM) {
            to->pool_claim = ms_pool_claim_open(ms->pool);
        }
        ret_takers[i] = (MsCaptureTaker) {
            .claim = to->pool_claim, .pages = next[i].pages,
        };
    }
    return count;
}

static void captured(MemSched *ms, MemSchedClient *donor,
                     MemSchedSource source, uint64_t pages, MsHow how)
{
    MsSched *sched = ms->sched;

    if (sched->transfers.running > 0) {
        ms_transfers_captured(&sched->transfers, donor, source, pages,
                              how != MS_HOW_MOVED, now(ms), &sched->actions);
        ms_sched_apply_locked(sched);
    }
}

static void populated(MemSched *ms, MemSchedClient *acceptor, uint64_t pages,
                      MsHow how)
{
    MsSched *sched = ms->sched;

    if (sched->transfers.running > 0) {
        ms_transfers_populated(&sched->transfers, acceptor, pages,
                               how == MS_HOW_COPIED, now(ms),
                               &sched->actions);
        ms_sched_apply_locked(sched);
    }
}

static void client_reset(MemSched *ms, MemSchedClient *client)
{
    MsSched *sched = ms->sched;

    ms_transfers_gone(&sched->transfers, client, true, now(ms),
                      &sched->actions);
    ms_sched_apply_locked(sched);
}

static void client_gone(MemSched *ms, MemSchedClient *client)
{
    MsSched *sched = ms->sched;

    ms_sched_guest_locked(client)->gone = true;
    ms_sched_requests_purge_locked(sched, client, true, now(ms));
    ms_transfers_gone(&sched->transfers, client, false, now(ms),
                      &sched->actions);
    ms_sched_apply_locked(sched);
}

static const MsHooks hooks = {
    .takers = takers, .captured = captured, .populated = populated,
    .client_reset = client_reset, .client_gone = client_gone,
};

/* ---- the thread ---- */

uint64_t ms_sched_step(MsSched *sched)
{
    MemSched *ms = sched->ms;
    uint64_t time = now(ms), wake;
    MemSchedClient **clients;
    bool busy = false;
    size_t count;

    ms_lock(&ms->ledger_lock);
    ms_transfers_time(&sched->transfers, time, &sched->actions);
    ms_sched_apply_locked(sched);
    wake = ms_transfers_deadline_ns(&sched->transfers);
    ms_unlock(&ms->ledger_lock);

    clients = ms_clients(ms, &count);
    for (size_t i = 0; i < count; i++) {
        busy |= ms_sched_guest_step(sched, clients[i], time);
    }
    if (atomic_exchange(&sched->tick_now, false) ||
        time >= sched->next_tick_ns) {
        ms_sched_tick(sched, clients, count, time);
        sched->looked_ns = time;
        sched->next_tick_ns = time +
                              atomic_load(&ms->interval_ms) * NS_PER_MS;
    } else if (atomic_load(&ms->waiters) > 0 &&
               time >= sched->looked_ns + URGENT_NS) {
        ms_sched_look(sched, clients, count, time);
        sched->looked_ns = time;
    }
    ms_sched_claim_more(sched);
    busy |= ms_sched_requests_step(sched, clients, count, time);
    for (size_t i = 0; i < count; i++) {
        ms_sched_condition_step(sched, clients[i], time);
        ms_apps_deliver(clients[i]->apps);
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    deliver(sched);
    wake = MIN(wake, time + (busy ? STEP_BUSY_NS : STEP_IDLE_NS));
    return MIN(wake, sched->next_tick_ns);
}

static void *sched_thread(void *opaque)
{
    MsSched *sched = opaque;
    const MsSys *sys = sched->ms->sys;
    uint64_t wake, time;

    sys->name_thread(sys, "memsched/sched");
    ms_lock(&sched->lock);
    while (!sched->stop) {
        sched->kicked = false;
        ms_unlock(&sched->lock);
        wake = ms_sched_step(sched);
        time = now(sched->ms);
        ms_lock(&sched->lock);
        if (!sched->kicked && !sched->stop && wake > time) {
            ms_cond_wait_ns(&sched->cond, &sched->lock, wake - time);
        }
    }
    ms_unlock(&sched->lock);
    deliver(sched);
    return NULL;
}

void ms_sched_kick(MsSched *sched)
{
    if (sched) {
        ms_lock(&sched->lock);
        sched->kicked = true;
        ms_cond_signal(&sched->cond);
        ms_unlock(&sched->lock);
    }
}

MsSched *ms_sched_new(MemSched *ms)
{
    MsSched *sched = g_new0(MsSched, 1);

    sched->ms = ms;
    ms_lock_init(&sched->lock, MS_RANK_LEAF);
    ms_lock_init(&sched->decisions_lock, MS_RANK_LEAF);
    ms_cond_init(&sched->cond);
    ms_lock(&ms->ledger_lock);
    ms->sched = sched;
    ms->hooks = &hooks;
    ms_unlock(&ms->ledger_lock);
    return sched;
}

void ms_sched_free(MsSched *sched)
{
    MemSched *ms = sched->ms;

    ms_lock(&ms->ledger_lock);
    ms->hooks = NULL;
    ms->sched = NULL;
    ms_requests_clear(&sched->requests);
    ms_unlock(&ms->ledger_lock);
    ms_cond_destroy(&sched->cond);
    ms_lock_destroy(&sched->decisions_lock);
    ms_lock_destroy(&sched->lock);
    g_free(sched);
}

int ms_sched_start(MemSched *ms, MsSched **ret_sched)
{
    MsSched *sched = ms_sched_new(ms);

    sched->thread = g_thread_try_new("memsched/sched", sched_thread, sched,
                                     NULL);
    if (sched->thread == NULL) {
        ms_sched_free(sched);
        return -EAGAIN;
    }
    *ret_sched = sched;
    return 0;
}

void ms_sched_stop(MsSched *sched)
{
    if (sched == NULL) {
        return;
    }
    ms_lock(&sched->lock);
    sched->stop = true;
    ms_cond_signal(&sched->cond);
    ms_unlock(&sched->lock);
    g_thread_join(sched->thread);
    ms_sched_free(sched);
}

/* ---- options ---- */

int memsched_set(MemSched *ms, const MemSchedChange *change,
                 MemSchedMessage *ret_message)
{
    const char *wrong = NULL;

    if (change->has_policy && change->policy > MEMSCHED_POLICY_IDLE_TAX) {
        wrong = "the policy of memsched is static, shares or idle-tax";
    } else if (change->has_interval &&
               (change->interval_ms < INTERVAL_MIN_MS ||
                change->interval_ms > INTERVAL_MAX_MS)) {
        wrong = "the interval of memsched is 10 to 3600000 ms";
    } else if (change->has_idle_tax && change->idle_tax_pct > 99) {
        wrong = "the idle tax of memsched is a number from 0 to 99";
    } else if (change->has_sample &&
               !ms_sampler_window_is_valid(change->sample_ms)) {
        wrong = "the sample interval of memsched is 1000 to 3600000 ms, or 0";
    }
    if (wrong) {
        if (ret_message) {
            g_strlcpy(ret_message->text, wrong, sizeof(ret_message->text));
        }
        return -EINVAL;
    }
    if (change->has_policy) {
        atomic_store(&ms->policy, change->policy);
    }
    if (change->has_interval) {
        atomic_store(&ms->interval_ms, change->interval_ms);
    }
    if (change->has_idle_tax) {
        atomic_store(&ms->idle_tax_pct, change->idle_tax_pct);
    }
    if (change->has_sample) {
        atomic_store(&ms->sample_ms, change->sample_ms);
        ms_sampler_kick(ms->sampler);
    }
    if (change->has_dry_run) {
        atomic_store(&ms->dry_run, change->dry_run);
    }
    atomic_store(&ms->sched->tick_now, true);
    ms_sched_kick(ms->sched);
    return 0;
}
