/*
 * What the scheduler's thread does for one guest at a time
 *
 * Owns the answers to: how much should its balloon hold; which claimed pages
 * should be put into it ahead of use; which given pages are wanted although
 * their frames are incomplete; does it answer; does it stall.
 *
 * Stalled: a touch has been refused for STALL_NS.  With a look every 250 ms
 * that is shown, and the guest paused whole, within a second (I4).  It goes on
 * as soon as no touch of it waits any more.
 *
 * Unresponsive: the balloon is asked to change by SLACK_PAGES or more, and has
 * moved towards it at less than SLOW_BYTES_PER_S in SLOW_WINDOWS windows of a
 * second, one after the other.  A stopped, stalled or inhibited guest is not
 * measured.  The rate is that of the last window in which it was asked.
 *
 * Threads: the scheduler's only, but for what the device says, which kicks it.
 * Locks: the ledger's and the client's, one at a time; none in a callback.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "app-order.h"
#include "prefetch.h"
#include "scheduler-int.h"
#include "tagged.h"

#define NS_PER_S UINT64_C(1000000000)
#define STALL_NS (NS_PER_S / 2)

/* 1 MiB: what one request of a stock driver holds. */
#define SLACK_PAGES      256u
#define WINDOW_NS        NS_PER_S
#define SLOW_BYTES_PER_S (UINT64_C(64) << 10)
#define SLOW_WINDOWS     3u

/* ---- what its device says ---- */

void memsched_client_balloon_actual(MemSchedClient *client,
                                    uint64_t balloon_bytes)
{
    bool changed;

    ms_lock(&client->lock);
    changed = client->balloon_actual_bytes != balloon_bytes;
    if (changed) {
        client->balloon_actual_ns = client->ms->sys->now_ns(client->ms->sys);
    }
    client->balloon_actual_bytes = balloon_bytes;
    ms_unlock(&client->lock);
    if (changed &&
        atomic_load(&client->balloon_target_bytes) == balloon_bytes) {
        /* A transfer goes on from here, and not 20 ms later. */
        ms_sched_kick(client->ms->sched);
    }
}

void memsched_client_balloon_manual(MemSchedClient *client,
                                    uint64_t balloon_bytes)
{
    ms_lock(&client->lock);
    client->balloon_manual = true;
    client->balloon_manual_bytes = balloon_bytes;
    ms_thrash_asked(&client->thrash, client->ms->sys->now_ns(client->ms->sys));
    ms_unlock(&client->lock);
    ms_sched_kick(client->ms->sched);
}

typedef struct Look {
    MsTransferGuest guest;
    MsTransferSums sums;
    MsSchedGuest *record;
    uint64_t claim, allocated;
    bool attached, running, inhibited;
    bool orders;                /* applications may be asked */
    uint64_t goal, apps_goal;
} Look;

/* The operator's own `balloon` command: that much, transfers apart. */
static void take_manual(MemSchedClient *client, MsSchedGuest *record)
{
    MemSched *ms = client->ms;
    uint64_t pages = 0, oom_deflates;
    bool manual;

    ms_lock(&client->lock);
    manual = client->balloon_manual;
    oom_deflates = client->oom_deflates;
    if (manual) {
        pages = client->balloon_manual_bytes >> MEMSCHED_PAGE_SHIFT;
        client->balloon_manual = false;
    }
    ms_unlock(&client->lock);
    if (manual) {
        ms_lock(&ms->ledger_lock);
        record->base_pages = pages;
        record->known = true;
        record->manual_pages = pages;
        /* Asked for after it ran short. */
        record->oom_deflates = oom_deflates;
        ms_unlock(&ms->ledger_lock);
        record->sent_pages = pages;
    }
}

/*
 * A donor whose part is done: what its balloon holds by then, holes that it
 * gave too, is what it keeps.  Else it would deflate, and take from the pool
 * what it has just given.
 */
static bool is_to_settle_locked(const Look *l)
{
    return l->record->settle ||
           (l->sums.giving > 0 && l->sums.give_left == 0);
}

static void settle_locked(Look *l, uint64_t ballooned)
{
    if (is_to_settle_locked(l)) {
        l->record->base_pages = MAX(l->record->base_pages, ballooned);
        l->record->settle = false;
    }
}

/*
 * Its pages and its sums, with the ledger locked.  The last of what a donor
 * gives may come between the one and the other: what it keeps is counted after
 * that.
 */
static void count_and_lock(MsSched *sched, MemSchedClient *client, Look *l,
                           MsClientPages *ret_pages)
{
    bool counted_after = false;

    for (;;) {
        ms_client_pages(client, ret_pages);
        ms_lock(&sched->ms->ledger_lock);
        ms_transfers_sums(&sched->transfers, client, &l->sums);
        if (counted_after || !is_to_settle_locked(l)) {
            return;
        }
        counted_after = true;
        ms_unlock(&sched->ms->ledger_lock);
    }
}

/*
 * Its balloon applications: asked before the kernel's balloon, which gets what
 * they are not expected to give, and give back after it.  Ledger's lock held.
 */
static void step_apps_locked(MsSched *sched, MemSchedClient *client, Look *l,
                             uint64_t now_ns)
{
    MsOrderWish wish = {
        .application = l->orders ? l->sums.give_app_left : 0,
        .any = l->orders ? l->sums.give_any_left : 0,
        .base = ms_transfers_apps(&l->sums, &l->guest),
        .ram = l->guest.ram, .captured_ns = l->sums.captured_ns,
        .deadline_ns = l->sums.deadline_ns, .now_ns = now_ns,
    };
    MsOrderState state;

    ms_orders_step(client->apps, &wish, &state);
    if (state.changed) {
        ms_transfers_note(&sched->transfers, client, state.why);
    }
    if (!l->orders && l->sums.give_app_left > 0) {
        ms_transfers_hasten(&sched->transfers, client, "no balloon application"
                            " is connected any more", now_ns);
        ms_sched_kick(sched);
    }
    /* What they hold at rest: what is lent to running transfers, too. */
    l->record->apps_pages =
        MIN(l->record->apps_pages, state.held +
            (l->sums.take_claimed - MIN(l->sums.take_claimed,
                                        l->guest.base)));
    l->guest.apps_held = l->record->apps_held = state.held;
    l->apps_goal = MIN(wish.base, state.held);
    l->sums.give_kernel_left -= MIN(l->sums.give_any_left,
                                    state.expected -
                                    MIN(state.expected, wish.application));
}

/*
 * It has run out of memory and taken some back: it is not asked for that again,
 * until an operator or a transfer asks.
 */
static void back_off_locked(Look *l, uint64_t oom_deflates,
                            uint64_t ballooned)
{
    MsSchedGuest *record = l->record;

    if (record->oom_deflates != oom_deflates) {
        record->oom_deflates = oom_deflates;
        record->base_pages = MIN(record->base_pages, ballooned);
    }
}

/*
 * What is counted into its balloon by transfers may have been in it before, and
 * left it unasked: the sum would grow with each time round.  Only an operator's
 * word steers a guest below its min.
 */
static void keep_min_locked(MemSchedClient *client, MsSchedGuest *record)
{
    uint64_t ram = atomic_load(&client->ram_pages);
    uint64_t most = ram - MIN(client->account.min, ram);

    record->base_pages = MIN(record->base_pages,
                             MAX(most, record->manual_pages));
}

static void look(MsSched *sched, MemSchedClient *client, Look *l,
                 uint64_t now_ns)
{
    MemSched *ms = sched->ms;
    MsClientPages pages;
    uint64_t extra, oom_deflates, known = ms_tagged_known_pages(client);
    uint64_t ballooned;

    l->orders = ms_orders_usable(client);
    ms_lock(&client->lock);
    oom_deflates = client->oom_deflates;
    l->attached = client->attached && client->ops.set_balloon;
    l->running = client->running;
    l->inhibited = client->inhibited > 0;
    ms_unlock(&client->lock);

    count_and_lock(sched, client, l, &pages);
    ballooned = ms_pages_ballooned(&pages);
    settle_locked(l, ballooned);
    back_off_locked(l, oom_deflates, ballooned);
    keep_min_locked(client, l->record);
    extra = client->account.claim > l->sums.outstanding
            ? client->account.claim - l->sums.outstanding : 0;
    if (extra > 0 &&
        ms_ledger_unclaim(&ms->ledger, &client->account, extra) > 0) {
        ms_ledger_rose(ms);
    }
    l->claim = client->account.claim;
    l->allocated = client->account.allocated;
    l->guest = (MsTransferGuest) {
        .base = l->record->base_pages,
        .ballooned = ballooned,
        .given = pages.count[MEMSCHED_PAGE_GIVEN],
        .holes = pages.count[MEMSCHED_PAGE_HOLE] +
                 pages.count[MEMSCHED_PAGE_REPORTED] +
                 pages.count[MEMSCHED_PAGE_TRANSIT] + known,
        .ram = atomic_load(&client->ram_pages), .min = client->account.min,
        .hungry_ns = l->record->hungry_ns,
        .deflates = l->attached && !atomic_load(&client->unresponsive),
        .apps_base = l->record->apps_pages,
        .apps_held = l->record->apps_held,
    };
    atomic_store(&client->giving, l->sums.give_left > 0);
    if (client->apps) {
        step_apps_locked(sched, client, l, now_ns);
    }
    l->goal = ms_transfers_balloon(&l->sums, &l->guest);
    if (l->sums.taking > 0 && l->sums.give_kernel_left == 0) {
        /* Lowered further than by what was claimed: for good. */
        l->record->base_pages = MIN(l->record->base_pages,
                                    l->goal + l->sums.take_claimed);
    }
    ms_unlock(&ms->ledger_lock);
}

/* ---- balloon ---- */

static void set_balloon(MemSchedClient *client, const Look *l)
{
    uint64_t bytes = l->goal << MEMSCHED_PAGE_SHIFT;
    MemSchedClientOps ops;
    void *opaque;

    atomic_store(&client->balloon_target_bytes, bytes);
    atomic_store(&client->target_bytes,
                 (l->guest.ram - MIN(l->goal + l->apps_goal, l->guest.ram))
                 << MEMSCHED_PAGE_SHIFT);
    atomic_store(&client->unmet_request, l->goal > l->guest.ballooned);
    if (!l->attached) {
        /* Whoever comes next has to be told. */
        l->record->sent_pages = 0;
        return;
    }
    if (l->goal != l->record->sent_pages &&
        ms_client_ops_enter(client, &ops, &opaque)) {
        if (ops.set_balloon) {
            ops.set_balloon(opaque, bytes);
            l->record->sent_pages = l->goal;
        }
        ms_client_ops_leave(client);
    }
}

static void move_on(MemSchedClient *client, const Look *l, uint64_t now_ns)
{
    uint64_t n = ms_transfers_prefetch(&l->sums, &l->guest, l->claim,
                                       now_ns);

    if (n > 0 && atomic_load(&client->prefetch_pages) == 0) {
        ms_prefetch(client, n);
    }
    n = ms_transfers_urge(&l->sums, &l->guest, now_ns);
    if (n > 0 || l->record->urged) {
        ms_capture_urge(client, n);
        l->record->urged = n > 0;
    }
}

/* ---- does it answer? ---- */

static void set_unresponsive(MsSched *sched, MemSchedClient *client, bool is)
{
    if (atomic_exchange(&client->unresponsive, is) != is) {
        ms_sched_guest_event(sched, client,
                             MEMSCHED_EVENT_GUEST_UNRESPONSIVE, is);
    }
}

static void measure(MsSched *sched, MemSchedClient *client, const Look *l,
                    uint64_t now_ns)
{
    MsSchedGuest *r = l->record;
    uint64_t has = l->guest.ballooned, distance, done, rate;
    bool grow = l->goal > has;
    /* The policy has given it up for a while, and does not ask it. */
    bool excluded = r->policy.unresponsive && now_ns < r->policy.retry_ns;

    distance = grow ? l->goal - has : has - l->goal;
    if (!l->attached || distance < SLACK_PAGES) {
        r->window_ns = 0;
        r->slow_windows = 0;
        set_unresponsive(sched, client, excluded);
        return;
    }
    if (!l->running || l->inhibited || atomic_load(&client->stalled) ||
        r->window_ns == 0) {
        r->window_ns = now_ns;
        r->window_pages = has;
        return;
    }
    if (now_ns - r->window_ns < WINDOW_NS) {
        return;
    }
    done = grow ? has - MIN(has, r->window_pages)
                : r->window_pages - MIN(has, r->window_pages);
    /* Milliseconds: pages of a whole host in bytes x 1000 fit 64 bits. */
    rate = (done << MEMSCHED_PAGE_SHIFT) * 1000 /
           MAX((now_ns - r->window_ns) / 1000000, 1);
    atomic_store(&client->responsiveness_bytes_per_s, rate);
    r->slow_windows = rate < SLOW_BYTES_PER_S ? r->slow_windows + 1 : 0;
    r->window_ns = now_ns;
    r->window_pages = has;
    set_unresponsive(sched, client, excluded ||
                                    r->slow_windows >= SLOW_WINDOWS);
}

/* ---- does it stall? ---- */

static void set_paused(MsSched *sched, MemSchedClient *client, bool paused)
{
    atomic_store(&client->stalled, paused);
    ms_sched_guest_event(sched, client, MEMSCHED_EVENT_GUEST_STALLED, paused);
    ms_trace(client->ms, MEMSCHED_TRACE_STALLED, client->id, paused,
             ms_client_waiters(client));
    ms_client_set_paused(client, paused);
}

/* True while touches of it wait. */
static bool watch_stall(MsSched *sched, MemSchedClient *client,
                        uint64_t now_ns)
{
    uint64_t since = atomic_load(&client->waiting_since_ns);
    bool stalled = atomic_load(&client->stalled);

    if (since == 0 && stalled) {
        set_paused(sched, client, false);
    } else if (since != 0 && !stalled && now_ns >= since + STALL_NS) {
        set_paused(sched, client, true);
    }
    return since != 0;
}

bool ms_sched_guest_step(MsSched *sched, MemSchedClient *client,
                         uint64_t now_ns)
{
    MemSched *ms = sched->ms;
    Look l = { 0 };
    bool gone;

    ms_lock(&ms->ledger_lock);
    l.record = ms_sched_guest_locked(client);
    gone = l.record->gone;
    ms_unlock(&ms->ledger_lock);
    if (gone) {
        return false;
    }
    if (atomic_load(&client->waiting_since_ns) != 0 ||
        atomic_load(&client->stalled)) {
        l.record->hungry_ns = now_ns;
    }
    take_manual(client, l.record);
    look(sched, client, &l, now_ns);
    set_balloon(client, &l);
    move_on(client, &l, now_ns);
    measure(sched, client, &l, now_ns);
    return watch_stall(sched, client, now_ns) || l.sums.giving > 0 ||
           l.sums.taking > 0;
}
