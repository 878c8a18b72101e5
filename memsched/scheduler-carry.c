/*
 * Decisions of the policy are carried out
 *
 * Owns the step from a decision to a balloon's target and a claim:
 *
 *     take            a transfer from the guest into the pool; its applications
 *                     are asked, then its kernel's balloon
 *     give, by its    a transfer out of the pool: as memory becomes free it is
 *     balloon         claimed, and the balloon shrinks by as much, so that it
 *                     never shrinks into a pool that has nothing
 *     give, touches   nothing to do: they are served as soon as something is
 *     wait            free, which the takes see to
 *     return          there is plenty: the balloon shrinks, nothing is claimed
 *     incoming        nothing: an operator's transfer sees to it
 *
 * Each look says anew what is left to do for each guest (transfer-auto.c):
 * what is not decided any more is not asked for any more, so a guest that has
 * become hungry itself is left in peace within a tick.  Balance between donors
 * and acceptors is the pool's: takes come first in the list and in here.
 *
 * With the policy static, and in a dry run, nothing is begun, and what runs is
 * withdrawn.
 *
 * Threads: the scheduler's.  Lock: the ledger's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "less.h"
#include "scheduler-int.h"

/* As long as an operator's, and anew with each look that still wants it. */
#define TAKE_MS 30000u
/* A claim that nobody takes lapses: the next look knows more. */
#define GIVE_MS 5000u
/* So much of min-free stays for touches while balloons shrink: a half. */
#define KEEP_PART 2u

typedef struct Carry {
    MsSched *sched;
    MemSchedClient *client;
    const MsPolicyGuest *guest;
    const MsDecision *take, *give;
    uint64_t ballooned;         /* B, G */
    uint64_t now_ns;
} Carry;

static void begin_locked(const Carry *c, bool give, uint64_t pages)
{
    MsTransferStart s = {
        .from = give ? NULL : c->client, .to = give ? c->client : NULL,
        .from_id = give ? "" : c->client->id,
        .to_id = give ? c->client->id : "",
        .source = MEMSCHED_SOURCE_ANY, .pages = pages,
        .deadline_ms = give ? GIVE_MS : TAKE_MS,
        .now_ns = c->now_ns, .automatic = true,
    };
    uint64_t id;

    /* Too many run: the next look decides again. */
    if (ms_transfers_start(&c->sched->transfers, &s, &id) == 0) {
        MsTransfer *x = ms_transfers_find(&c->sched->transfers, id);

        x->captured = give ? pages : 0;
        ms_sched_know_locked(c->client, c->ballooned);
        ms_sched_tags_locked(x, true);
    }
}

static void set_left_locked(const Carry *c, MsTransfer *x, uint64_t pages)
{
    ms_transfers_set_left(&c->sched->transfers, x, pages, c->now_ns,
                          &c->sched->actions);
    ms_sched_apply_locked(c->sched);
}

/* ---- takes ---- */

/* What it may still be asked for without a new decision. */
static uint64_t still_over(const Carry *c)
{
    const MsPolicyGuest *g = c->guest;

    if (g->fixed || g->held ||
        (g->memory.unresponsive && c->now_ns < g->memory.retry_ns)) {
        return 0;
    }
    return ms_less(g->allocated, MAX(g->entitlement, g->min));
}

static void take_locked(const Carry *c)
{
    MsTransfer *x = ms_transfers_automatic(&c->sched->transfers, c->client,
                                           NULL);
    uint64_t pages = c->take ? c->take->pages : 0;

    if (x) {
        uint64_t left = x->requested - x->claimed;

        pages += MIN(left, ms_less(still_over(c), pages));
        if (pages != left || c->take) {
            set_left_locked(c, x, pages);
        }
    } else if (pages > 0) {
        begin_locked(c, false, pages);
    }
}

/* ---- gives ---- */

/* By how much its balloon is to shrink, with memory for it. */
static uint64_t pressed(const Carry *c)
{
    const MsPolicyGuest *g = c->guest;
    uint64_t size = ms_less(MAX(g->max, g->min), g->ballooned);

    if (!c->give || c->give->reason == MS_REASON_RETURN) {
        return 0;
    }
    return MIN(c->give->pages, MIN(ms_less(g->wanted, MAX(size, g->allocated)),
                                   g->ballooned));
}

static void give_locked(const Carry *c)
{
    MsTransfer *x = ms_transfers_automatic(&c->sched->transfers, NULL,
                                           c->client);
    uint64_t pages = pressed(c);

    if (c->give && c->give->reason == MS_REASON_RETURN) {
        ms_sched_know_locked(c->client, c->ballooned);
        ms_sched_lower_locked(ms_sched_guest_locked(c->client),
                              MIN(c->give->pages, c->guest->ballooned));
    }
    if (x) {
        if (pages > 0 || x->requested > x->claimed) {
            set_left_locked(c, x, pages);
        }
    } else if (pages > 0 && atomic_load(&c->client->unresponsive)) {
        /* It would not take what is claimed for it; if it does, by touch. */
        ms_sched_know_locked(c->client, c->ballooned);
        ms_sched_lower_locked(ms_sched_guest_locked(c->client), pages);
    } else if (pages > 0) {
        begin_locked(c, true, pages);
    }
}

void ms_sched_claim_more(MsSched *sched)
{
    MemSched *ms = sched->ms;
    uint64_t keep = ms->min_free_pages / KEEP_PART;

    ms_lock(&ms->ledger_lock);
    for (unsigned i = 0; sched->transfers.automatic > 0 &&
         i < MS_TRANSFERS_KEPT; i++) {
        MsTransfer *x = &sched->transfers.kept[i];

        if (x->id && x->automatic && x->to &&
            x->state == MEMSCHED_TRANSFER_RUNNING) {
            ms_transfers_claim_more(x, ms_less(ms_ledger_slack(&ms->ledger),
                                               keep), &sched->actions);
            ms_sched_apply_locked(sched);
        }
    }
    ms_unlock(&ms->ledger_lock);
}

/* ---- all ---- */

static void withdraw(MsSched *sched, uint64_t now_ns)
{
    ms_lock(&sched->ms->ledger_lock);
    for (unsigned i = 0; sched->transfers.automatic > 0 &&
         i < MS_TRANSFERS_KEPT; i++) {
        MsTransfer *x = &sched->transfers.kept[i];

        if (x->id && x->automatic) {
            ms_transfers_cancel(&sched->transfers, x, now_ns,
                                &sched->actions);
            ms_sched_apply_locked(sched);
        }
    }
    ms_unlock(&sched->ms->ledger_lock);
}

void ms_sched_carry_out(MsSched *sched, MemSchedClient **clients,
                        const MsPolicyInput *input,
                        const MsPolicyGuest *guests, size_t count,
                        const MsDecision *decisions, size_t decided)
{
    MemSched *ms = sched->ms;
    g_autofree Carry *carry = NULL;

    if (input->policy == MEMSCHED_POLICY_STATIC ||
        atomic_load(&ms->dry_run)) {
        withdraw(sched, input->now_ns);
        return;
    }
    carry = g_new0(Carry, count);
    for (size_t i = 0; i < count; i++) {
        const MsSchedGuest *record = clients[i]->sched;

        carry[i] = (Carry) {
            .sched = sched, .client = clients[i], .guest = &guests[i],
            .ballooned = record->ballooned, .now_ns = input->now_ns,
        };
    }
    for (size_t i = 0; i < decided; i++) {
        const MsDecision *d = &decisions[i];

        *(d->give ? &carry[d->guest].give : &carry[d->guest].take) = d;
    }
    ms_lock(&ms->ledger_lock);
    for (size_t i = 0; i < count; i++) {
        if (!ms_sched_guest_locked(clients[i])->gone) {
            take_locked(&carry[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!ms_sched_guest_locked(clients[i])->gone) {
            give_locked(&carry[i]);
        }
    }
    ms_unlock(&ms->ledger_lock);
    if (decided > 0) {
        /* Balloons are set without waiting for the next step. */
        ms_sched_kick(sched);
    }
}
