/*
 * Inside of the scheduler's thread: scheduler*.c only
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SCHEDULER_INT_H
#define MEMSCHED_SCHEDULER_INT_H

#include <glib.h>

#include "cond.h"
#include "decision.h"
#include "event.h"
#include "instance.h"
#include "request.h"
#include "scheduler.h"
#include "transfer.h"

struct MsSched {
    MemSched *ms;
    GThread *thread;

    MsTransfers transfers;      /* ledger_lock */
    MsTransferActions actions;  /* ledger_lock: scratch */
    MsRequests requests;        /* ledger_lock */

    MsLock lock;                /* rank leaf */
    MsCond cond;
    bool kicked, stop;          /* lock */
    MsEvents events;            /* lock */

    MsLock decisions_lock;      /* rank leaf */
    MsDecisions decisions;      /* decisions_lock */

    uint64_t next_tick_ns;      /* the thread's own */
    uint64_t looked_ns;         /* the same: when the policy last looked */
    uint64_t told_ns;           /* the same: a second of decisions told */
    unsigned told;              /* the same: how many in it */
    _Atomic bool tick_now;      /* options changed */
};

/* What the scheduler keeps of a guest: client->sched. */
typedef struct MsSchedGuest {
    /* ledger_lock: */
    uint64_t base_pages;        /* its balloon, running transfers apart */
    uint64_t apps_pages;        /* the same of its applications */
    bool known;                 /* base_pages stands for what it has */
    bool settle;                /* what its balloon holds now, stays in it */
    bool gone;
    uint64_t oom_deflates;      /* seen so far */
    uint64_t manual_pages;      /* what an operator has said that its balloon
                                   is to hold; 0: the policy's to say */
    MsRates rates;              /* at which it gave */
    uint64_t hold_ns;           /* until then it keeps what one moved to it */

    /* decisions_lock: */
    MsDecisionRecord why;       /* of the last tick; no number: none yet */

    /* the thread's own: */
    uint64_t ballooned;         /* B, G, when the policy last looked */
    uint64_t apps_held;         /* what they said last that they hold */
    uint64_t hungry_ns;         /* when a touch of it last waited; 0: never */
    uint64_t sent_pages;        /* last set_balloon() */
    bool urged;
    uint64_t window_ns;         /* responsiveness: start, and balloon then */
    uint64_t window_pages;
    unsigned slow_windows;      /* one after the other */
    uint64_t decision_ns;       /* last one that was told; 0: none */
    bool decision_give;         /* what it was */
    MsReason decision_reason;
    uint64_t decisions_skipped; /* since then */
    MsCondition cond;
    MsPolicyMemory policy;
} MsSchedGuest;

/* The record of a guest; made at the first call.  Ledger's lock held. */
MsSchedGuest *ms_sched_guest_locked(MemSchedClient *client);

/* Raise an event; the ledger's lock may be held. */
void ms_sched_event(MsSched *sched, const MemSchedEvent *event);
void ms_sched_guest_event(MsSched *sched, MemSchedClient *client,
                          MemSchedEventKind kind, bool active);

/* Carry out sched->actions; ledger's lock held. */
void ms_sched_apply_locked(MsSched *sched);

/*
 * reallocate.c: from now on what its balloon holds is what we want it to hold.
 * Ledger's lock held.
 */
void ms_sched_know_locked(MemSchedClient *client, uint64_t ballooned);

/*
 * What identifying by value has done in a guest, for a transfer out of it:
 * at its start, or since then.  Ledger's lock held.
 */
void ms_sched_tags_locked(MsTransfer *transfer, bool start);

/* scheduler-guest.c: one guest, now.  True: look at it again soon. */
bool ms_sched_guest_step(MsSched *sched, MemSchedClient *client,
                         uint64_t now_ns);

/* So much less in its balloon, transfers apart.  Ledger's lock held. */
void ms_sched_lower_locked(MsSchedGuest *record, uint64_t pages);

/*
 * scheduler-cond.c: its pressure stalls, hundredths of a per cent, and when it
 * told them; 0 and no time if untold.
 */
unsigned ms_sched_psi(MemSchedClient *client, uint64_t now_ns,
                      uint64_t *ret_psi_ns);

/* explain.c: a record for the outside. */
void ms_decision_tell(const MsDecisionRecord *record, uint64_t now_ns,
                      MemSchedDecision *ret_decision);

/* explain.c: the policy has decided this; an event, if it is worth one. */
void ms_sched_decided(MsSched *sched, MemSchedClient *client,
                      const MsDecisionRecord *record);

/* scheduler-tick.c: entitlements, states, statistics, decisions. */
void ms_sched_tick(MsSched *sched, MemSchedClient **clients, size_t count,
                   uint64_t now_ns);

/* The same between two ticks, because touches wait: decisions alone. */
void ms_sched_look(MsSched *sched, MemSchedClient **clients, size_t count,
                   uint64_t now_ns);

/*
 * scheduler-carry.c: what the policy has decided is carried out, as far as
 * options allow.  @guests as ms_policy_run() left them.
 */
void ms_sched_carry_out(MsSched *sched, MemSchedClient **clients,
                        const MsPolicyInput *input,
                        const MsPolicyGuest *guests, size_t count,
                        const MsDecision *decisions, size_t decided);

/* Promise what has become free to those that the policy gives to. */
void ms_sched_claim_more(MsSched *sched);

/* scheduler-cond.c: the condition of one guest, now. */
void ms_sched_condition_step(MsSched *sched, MemSchedClient *client,
                             uint64_t now_ns);

/*
 * scheduler-request.c: look at all open requests; true while transfers run for
 * them.  No lock held.
 */
bool ms_sched_requests_step(MsSched *sched, MemSchedClient **clients,
                            size_t count, uint64_t now_ns);

/*
 * Forget those of @client whose session or application is gone, or @all; their
 * transfers end.  Ledger's lock held.
 */
void ms_sched_requests_purge_locked(MsSched *sched, MemSchedClient *client,
                                    bool all, uint64_t now_ns);

/* End the transfers of @request.  Ledger's lock held. */
void ms_sched_requests_stop_locked(MsSched *sched, MsRequest *request,
                                   uint64_t now_ns);

#endif /* MEMSCHED_SCHEDULER_INT_H */
