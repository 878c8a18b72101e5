/*
 * Requests of guests: who is served now, and what is answered
 *
 * Owns the step that looks at open requests: what has come of their transfers,
 * which of them end, and for which of the others a transfer can be started
 * (request.c has the rule).
 *
 * A request belongs to a registration in a session.  When either is gone the
 * request goes without an answer, and its transfers end.
 *
 * A part out of the pool is a transfer without a donor.  It holds a claim, so
 * it has POOL_MS to be mapped; a guest whose transfers end without a page
 * waits twice as long before each next try, so that claims which it does not
 * use are mostly others' to have.
 *
 * Locks.  The table is the ledger's, like that of transfers.  Page counts are
 * taken before, since they need regions' locks.  Work a step is bounded by
 * SERVED_A_STEP looks at all guests.
 *
 * Threads: the scheduler's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "app.h"
#include "app-order.h"
#include "less.h"
#include "scheduler-int.h"
#include "tagged.h"

#define NS_PER_MS     UINT64_C(1000000)
#define RETRY_MOST_NS (16000 * NS_PER_MS)
#define POOL_MS       5000u
#define DONOR_MS      30000u
#define SERVED_A_STEP 16u

/* A guest, as a giver or a taker. */
typedef struct Party {
    MemSchedClient *client;
    uint64_t ballooned;         /* B, G */
    uint64_t empty;             /* what could be mapped: H, P, B that its
                                   balloon gives back, T that is released
                                   or that nobody is left of */
    uint64_t idle;
    bool gives;
} Party;

typedef struct Round {
    MsSched *sched;
    uint64_t now_ns;
    Party *party;
    size_t count;
    MsRequestDonor *donors;     /* room for all */
    unsigned served;
} Round;

static void look(MemSchedClient *client, Party *p)
{
    bool responds = !atomic_load(&client->unresponsive);
    MsClientPages pages;
    bool attached;

    ms_client_pages(client, &pages);
    ms_lock(&client->lock);
    attached = client->attached;
    p->gives = client->running && client->inhibited == 0;
    ms_unlock(&client->lock);

    p->client = client;
    p->ballooned = ms_pages_ballooned(&pages);
    p->empty = pages.count[MEMSCHED_PAGE_HOLE] +
               pages.count[MEMSCHED_PAGE_REPORTED] +
               (attached && responds ? pages.count[MEMSCHED_PAGE_BALLOONED]
                                     : 0) +
               (ms_orders_usable(client) ? pages.count[MEMSCHED_PAGE_TAG]
                                         : ms_tagged_known_pages(client));
    p->idle = atomic_load(&client->idle_bytes) >> MEMSCHED_PAGE_SHIFT;
    p->gives = p->gives && responds && attached &&
               !atomic_load(&client->stalled) &&
               !atomic_load(&client->ending) &&
               atomic_load(&client->waiting_since_ns) == 0;
}

static Party *party_of(const Round *round, const void *client)
{
    for (size_t i = 0; i < round->count; i++) {
        if (round->party[i].client == client) {
            return &round->party[i];
        }
    }
    return NULL;
}

/* ---- is it still anybody's? ---- */

static bool is_current(const MsRequest *r)
{
    MsApps *apps = ((MemSchedClient *)r->client)->apps;
    MsApp *app;
    bool current;

    ms_lock(&apps->lock);
    app = ms_apps_find_locked(apps, r->app);
    current = apps->attached && apps->sessions == r->session &&
              (r->app == 0 || (app && app->serial == r->serial));
    ms_unlock(&apps->lock);
    return current;
}

void ms_sched_requests_stop_locked(MsSched *sched, MsRequest *r,
                                   uint64_t now_ns)
{
    for (unsigned i = 0; i < MS_REQUEST_TRANSFERS; i++) {
        MsTransfer *x = ms_transfers_find(&sched->transfers, r->transfer[i]);

        if (x) {
            ms_transfers_cancel(&sched->transfers, x, now_ns,
                                &sched->actions);
            ms_sched_apply_locked(sched);
        }
    }
}

static void drop_locked(MsSched *sched, MsRequest *r, uint64_t now_ns)
{
    ms_sched_requests_stop_locked(sched, r, now_ns);
    ms_requests_remove(&sched->requests, r);
}

void ms_sched_requests_purge_locked(MsSched *sched, MemSchedClient *client,
                                    bool all, uint64_t now_ns)
{
    MsRequests *t = &sched->requests;

    for (size_t i = t->count; i-- > 0;) {
        MsRequest *r = t->request[i];

        if (r->client == client && (all || !is_current(r))) {
            drop_locked(sched, r, now_ns);
        }
    }
}

/* ---- progress ---- */

static void count_locked(MsSched *sched, MsRequest *r)
{
    r->moving = 0;
    r->coming = 0;
    for (unsigned i = 0; i < MS_REQUEST_TRANSFERS; i++) {
        MsTransfer *x = ms_transfers_find(&sched->transfers, r->transfer[i]);
        uint64_t mapped;

        if (x == NULL) {
            r->transfer[i] = 0;
            continue;
        }
        mapped = x->moved + x->copied + x->discarded;
        if (x->state == MEMSCHED_TRANSFER_RUNNING) {
            r->moving += mapped;
            r->coming += x->requested;
        } else {
            r->got += mapped;
            r->transfer[i] = 0;
            /* In vain: not again so soon. */
            r->retry_ns = mapped ? MS_REQUEST_RETRY_NS
                                 : MIN(r->retry_ns * 2, RETRY_MOST_NS);
            r->next_try_ns = x->end_ns + r->retry_ns;
        }
    }
}

static int answer_locked(MsRequest *r, MemSchedAnswer status,
                         MemSchedReason reason)
{
    MsAppCall call = {
        .kind = MS_APP_CALL_ANSWER,
        .answer = {
            .app = r->app, .cookie = r->cookie, .status = status,
            .reason = reason, .bytes = r->got << MEMSCHED_PAGE_SHIFT,
        },
    };

    return ms_apps_post(((MemSchedClient *)r->client)->apps, &call);
}

/* ---- serving ---- */

static size_t donors_locked(Round *round, const Party *taker)
{
    MsSched *sched = round->sched;
    size_t count = 0;

    if (atomic_load(&sched->ms->policy) == MEMSCHED_POLICY_STATIC ||
        atomic_load(&sched->ms->dry_run)) {
        return 0;
    }
    for (size_t i = 0; i < round->count; i++) {
        Party *p = &round->party[i];
        const MsAccount *a = &p->client->account;
        MsTransferSums sums;

        if (!p->gives || p == taker || ms_sched_guest_locked(p->client)->gone) {
            continue;
        }
        ms_transfers_sums(&sched->transfers, p->client, &sums);
        round->donors[count++] = (MsRequestDonor) {
            .client = p,
            .pages = sums.taking ? 0
                     : ms_request_donation(a->allocated,
                                           ms_less(a->allocated, p->idle),
                                           a->min, sums.give_left),
        };
    }
    return count;
}

static void start_locked(Round *round, MsRequest *r, Party *taker,
                         const MsRequestPart *part)
{
    MsSched *sched = round->sched;
    Party *donor = part->client;
    uint64_t left_ms = ms_less(r->deadline_ns, round->now_ns) / NS_PER_MS;
    MsTransferStart s = {
        .to = taker->client, .to_id = taker->client->id, .from_id = "",
        .source = MEMSCHED_SOURCE_ANY, .pages = part->pages,
        /* Also one whose time is up gets what it takes to map pages. */
        .deadline_ms = (unsigned)CLAMP(left_ms, 1000,
                                       donor ? DONOR_MS : POOL_MS),
        .now_ns = round->now_ns,
    };
    unsigned slot = 0;
    uint64_t id;
    int ret;

    while (r->transfer[slot] != 0) {
        slot++;
    }
    if (donor) {
        s.from = donor->client;
        s.from_id = donor->client->id;
        ms_sched_know_locked(donor->client, donor->ballooned);
        ret = ms_transfers_start(&sched->transfers, &s, &id);
    } else {
        ret = ms_transfers_from_pool(&sched->transfers, &s, &id,
                                     &sched->actions);
    }
    if (ret == 0) {
        ms_sched_know_locked(taker->client, taker->ballooned);
        ms_sched_tags_locked(ms_transfers_find(&sched->transfers, id), true);
        r->transfer[slot] = id;
        r->coming += part->pages;
        if (!donor) {
            ms_sched_apply_locked(sched);
        }
    }
}

static void serve_locked(Round *round, MsRequest *r, Party *taker,
                         uint64_t room)
{
    MsSched *sched = round->sched;
    MemSched *ms = sched->ms;
    const MsAccount *a = &taker->client->account;
    uint64_t slack = ms_ledger_slack(&ms->ledger);
    uint64_t entitled =
        atomic_load(&taker->client->entitlement_bytes) >> MEMSCHED_PAGE_SHIFT;
    unsigned all = ms_requests_transfers(&sched->requests, NULL);
    unsigned own = ms_requests_transfers(&sched->requests, taker->client);
    MsRequestPart parts[MS_REQUEST_TRANSFERS];
    MsTransferSums sums;
    MsRequestLimits limits;
    unsigned count;

    ms_transfers_sums(&sched->transfers, taker->client, &sums);
    limits = (MsRequestLimits) {
        .room = room,
        .pool = ms_less(slack, ms->min_free_pages),
        .donors = ms_less(entitled, a->allocated + sums.take_left),
        .parts = (unsigned)MIN(ms_less(MS_REQUESTS_TRANSFERS, all),
                               ms_less(MS_REQUEST_TRANSFERS, own)),
    };
    count = ms_request_plan(r, &limits, round->donors,
                            donors_locked(round, taker), parts);
    for (unsigned i = 0; i < count; i++) {
        start_locked(round, r, taker, &parts[i]);
    }
    r->next_try_ns = round->now_ns + r->retry_ns;
}

/* What the guest could take beyond what is on its way. */
static uint64_t room_locked(MsSched *sched, const Party *taker)
{
    MsTransferSums sums;

    ms_transfers_sums(&sched->transfers, taker->client, &sums);
    return ms_less(MIN(ms_ledger_room(&taker->client->account), taker->empty),
                   sums.take_left);
}

static void step_locked(Round *round, MsRequest *r)
{
    MsSched *sched = round->sched;
    Party *taker = party_of(round, r->client);
    MsRequestEnd end;
    uint64_t room;

    if (taker == NULL) {
        return;                 /* came while the list was made */
    }
    count_locked(sched, r);
    if (!is_current(r)) {
        drop_locked(sched, r, round->now_ns);
        return;
    }
    room = room_locked(sched, taker);
    if (room > 0 && r->pages > r->got + r->coming && !r->withdrawn &&
        round->now_ns >= r->next_try_ns && round->served < SERVED_A_STEP &&
        (round->now_ns < r->deadline_ns || !r->tried)) {
        round->served++;
        r->tried = true;
        serve_locked(round, r, taker, room);
    }
    end = ms_request_end(r, room, round->now_ns);
    /* A guest that does not read its answers keeps it until there is room. */
    if (end.ends && answer_locked(r, end.status, end.reason) != -EAGAIN) {
        ms_requests_remove(&sched->requests, r);
    }
}

static bool is_due(const MsRequest *r, uint64_t now_ns)
{
    return r->coming > 0 || r->withdrawn || now_ns >= r->next_try_ns ||
           now_ns >= r->deadline_ns;
}

bool ms_sched_requests_step(MsSched *sched, MemSchedClient **clients,
                            size_t count, uint64_t now_ns)
{
    MemSched *ms = sched->ms;
    Round round = { .sched = sched, .now_ns = now_ns, .count = count };
    bool any;

    ms_lock(&ms->ledger_lock);
    any = sched->requests.count > 0;
    ms_unlock(&ms->ledger_lock);
    if (!any) {
        return false;
    }
    round.party = g_new0(Party, count);
    round.donors = g_new(MsRequestDonor, count);
    for (size_t i = 0; i < count; i++) {
        look(clients[i], &round.party[i]);
    }
    ms_lock(&ms->ledger_lock);
    for (size_t i = 0; i < sched->requests.count;) {
        MsRequest *r = sched->requests.request[i];

        if (is_due(r, now_ns)) {
            step_locked(&round, r);
        }
        /* One that went has left its place to the next. */
        i += i < sched->requests.count && sched->requests.request[i] == r;
    }
    any = ms_requests_transfers(&sched->requests, NULL) > 0;
    ms_unlock(&ms->ledger_lock);
    g_free(round.donors);
    g_free(round.party);
    return any;
}

/* ---- for people ---- */

static const char *name_of(const MemSchedAppsInfo *info, uint32_t app)
{
    for (size_t i = 0; i < info->apps_count; i++) {
        if (info->app[i].app == app) {
            return info->app[i].name;
        }
    }
    return "";
}

void ms_sched_requests_info(MsSched *sched, const MemSchedClient *client,
                            MemSchedAppsInfo *info)
{
    MemSched *ms = sched->ms;
    uint64_t now_ns = ms->sys->now_ns(ms->sys);

    ms_lock(&ms->ledger_lock);
    for (size_t i = 0; i < sched->requests.count &&
         info->requests_count < MEMSCHED_REQUESTS_MAX; i++) {
        const MsRequest *r = sched->requests.request[i];
        MemSchedRequestInfo *shown = &info->request[info->requests_count];

        if (r->client != client) {
            continue;
        }
        info->requests_count++;
        *shown = (MemSchedRequestInfo) {
            .app = r->app, .priority = r->priority, .want = r->want,
            .bytes = r->pages << MEMSCHED_PAGE_SHIFT,
            .got_bytes = (r->got + r->moving) << MEMSCHED_PAGE_SHIFT,
            .age_ns = ms_less(now_ns, r->start_ns),
            .left_ms = ms_less(r->deadline_ns, now_ns) / NS_PER_MS,
            .status = MEMSCHED_ANSWER_QUEUED,
        };
        g_strlcpy(shown->name, name_of(info, r->app), sizeof(shown->name));
    }
    ms_unlock(&ms->ledger_lock);
}
