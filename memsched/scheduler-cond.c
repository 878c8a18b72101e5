/*
 * Conditions of guests: what cond.c is asked, and where its answers go
 *
 * Owns the snapshot of one guest that its condition is made of.  A change is
 * an event; what is to be told goes to the guest's connection, and stays with
 * the client for whoever asks.
 *
 * Figures that the guest tells of itself (statistics, pressure stalls) count
 * while they are younger than FRESH_NS; they change nobody's condition but its
 * own.
 *
 * Threads: the scheduler's, but for memsched_client_condition().  Locks: one
 * after the other; none in a callback.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "app.h"
#include "less.h"
#include "scheduler-int.h"

#define FRESH_NS UINT64_C(30000000000)

/* One request of a stock driver: less is not "being asked to give". */
#define SLACK_PAGES 256u

static uint64_t pages_of(uint64_t bytes)
{
    return bytes >> MEMSCHED_PAGE_SHIFT;
}

unsigned ms_sched_psi(MemSchedClient *client, uint64_t now_ns,
                      uint64_t *ret_psi_ns)
{
    MsApps *apps = client->apps;
    uint64_t psi = UINT64_MAX;

    if (apps) {
        ms_lock(&apps->lock);
        if (apps->guest_stats_ns && now_ns < apps->guest_stats_ns + FRESH_NS) {
            psi = apps->guest_stat[MEMSCHED_APP_STAT_PSI_SOME];
            *ret_psi_ns = apps->guest_stats_ns;
        }
        ms_unlock(&apps->lock);
    }
    /* Untold, or more than all of the time: nothing. */
    return psi <= 10000 ? (unsigned)psi : 0;
}

static void snapshot(MsSched *sched, MemSchedClient *client, uint64_t now_ns,
                     MsConditionInput *in)
{
    MemSched *ms = sched->ms;
    MsTransferSums sums;
    MsClientPages pages;
    uint64_t balloon;

    ms_client_pages(client, &pages);
    in->now_ns = now_ns;
    in->ram = atomic_load(&client->ram_pages);
    in->kernel = pages.count[MEMSCHED_PAGE_BALLOONED];
    in->application = pages.count[MEMSCHED_PAGE_TAG];
    in->reported = pages.count[MEMSCHED_PAGE_REPORTED];
    in->entitlement = pages_of(atomic_load(&client->entitlement_bytes));
    in->target = pages_of(atomic_load(&client->target_bytes));
    in->active = pages_of(atomic_load(&client->active_bytes));
    in->waiting = ms_client_waiters(client);
    in->stalled = atomic_load(&client->stalled);
    in->host = atomic_load(&ms->host_state);
    in->min_free = ms->min_free_pages;
    in->psi_some = ms_sched_psi(client, now_ns, &in->psi_ns);

    ms_lock(&client->lock);
    in->shares = client->shares;
    ms_unlock(&client->lock);

    ms_lock(&ms->ledger_lock);
    ms_transfers_sums(&sched->transfers, client, &sums);
    in->requested = ms_requests_wanted(&sched->requests, client);
    in->min = client->account.min;
    in->max = client->account.max;
    in->allocated = client->account.allocated;
    in->claim = client->account.claim;
    in->slack = ms_ledger_slack(&ms->ledger);
    ms_unlock(&ms->ledger_lock);

    balloon = ms_less(pages_of(atomic_load(&client->balloon_target_bytes)),
                      in->kernel + pages.count[MEMSCHED_PAGE_GIVEN]);
    in->asked = sums.give_left + (balloon >= SLACK_PAGES ? balloon : 0);
}

static void tell(MemSchedClient *client, MemSchedGuestCondition *told,
                 uint64_t now_ns)
{
    MsApps *apps = client->apps;
    MemSchedAppOps ops;
    void *opaque;

    ms_lock(&client->lock);
    client->told = *told;
    client->told_ns = now_ns;
    ms_unlock(&client->lock);

    if (apps == NULL || !ms_apps_enter(apps, &ops, &opaque)) {
        return;
    }
    ms_lock(&apps->lock);
    memcpy(told->session, apps->session, sizeof(told->session));
    ms_unlock(&apps->lock);
    if (ops.condition) {
        ops.condition(opaque, told);
    }
    ms_apps_leave(apps);
}

void ms_sched_condition_step(MsSched *sched, MemSchedClient *client,
                             uint64_t now_ns)
{
    MemSchedGuestCondition told;
    MsConditionInput in = { 0 };
    MsSchedGuest *record;
    bool news;

    ms_lock(&sched->ms->ledger_lock);
    record = ms_sched_guest_locked(client);
    ms_unlock(&sched->ms->ledger_lock);
    snapshot(sched, client, now_ns, &in);
    if (in.ram == 0) {
        return;
    }
    news = ms_condition_step(&record->cond, &in, &told);
    if (atomic_exchange(&client->condition, record->cond.state) !=
        record->cond.state) {
        ms_sched_guest_event(sched, client, MEMSCHED_EVENT_CONDITION_CHANGED,
                             true);
    }
    if (news) {
        tell(client, &told, now_ns);
    }
}

int memsched_client_condition(MemSchedClient *client,
                              MemSchedGuestCondition *ret_condition)
{
    uint64_t now_ns = client->ms->sys->now_ns(client->ms->sys), told_ns;
    MemSchedGuestCondition told;
    MsApps *apps = client->apps;

    ms_lock(&client->lock);
    told = client->told;
    told_ns = client->told_ns;
    ms_unlock(&client->lock);
    if (told.generation == 0) {
        return -ENOENT;
    }
    told.age_ns += ms_less(now_ns, told_ns);
    if (apps) {
        ms_lock(&apps->lock);
        memcpy(told.session, apps->session, sizeof(told.session));
        ms_unlock(&apps->lock);
    }
    *ret_condition = told;
    return 0;
}
