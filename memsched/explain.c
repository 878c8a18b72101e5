/*
 * Decisions, told to whoever asks
 *
 * Owns the step from the policy's records (decision.c) to the public contract:
 * pages become bytes, points in time ages, and each record gets its words.
 *
 * The records have a lock of their own, a leaf; nothing here waits for the
 * scheduler's thread for longer than it copies one.
 *
 * As an event a decision is told when it is news: each tick decides anew, and
 * says mostly what the one before said.  What is left out is counted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "scheduler-int.h"

#define BYTES(pages) ((uint64_t)(pages) << MEMSCHED_PAGE_SHIFT)
#define NS_PER_MS    UINT64_C(1000000)
#define SECOND_NS    UINT64_C(1000000000)

/* The same again, of one guest; and of all guests in a second. */
#define SAME_NS      (10 * SECOND_NS)
#define TOLD_MOST    32u

void ms_decision_tell(const MsDecisionRecord *r, uint64_t now_ns,
                      MemSchedDecision *ret_decision)
{
    MemSchedDecision d = {
        .number = r->number,
        .age_ns = now_ns > r->time_ns ? now_ns - r->time_ns : 0,
        .give = r->give, .bytes = BYTES(r->pages), .dry_run = r->dry_run,
        .reason = ms_reason_name(r->reason),
        .allocated_bytes = BYTES(r->allocated),
        .active_bytes = BYTES(r->active), .wanted_bytes = BYTES(r->wanted),
        .entitlement_bytes = BYTES(r->entitlement),
        .min_bytes = BYTES(r->min), .max_bytes = BYTES(r->max),
        .ballooned_bytes = BYTES(r->ballooned),
        .waiting_bytes = BYTES(r->waiting),
        .outgoing_bytes = BYTES(r->outgoing),
        .shares = r->shares, .pressure = r->pressure,
        .again_ms = r->again_ns > now_ns
                    ? (r->again_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0,
        .policy = r->policy, .idle_tax_pct = r->idle_tax_pct,
        .state = r->state, .free_bytes = BYTES(r->free),
        .min_free_bytes = BYTES(r->min_free),
    };

    G_STATIC_ASSERT(sizeof(d.text) >= MS_DECISION_WORDS);
    g_strlcpy(d.id, r->id, sizeof(d.id));
    ms_decision_words(r, d.text);
    *ret_decision = d;
}

static bool is_news(MsSched *sched, const MsSchedGuest *record,
                    const MsDecisionRecord *r)
{
    bool same = record->decision_give == r->give &&
                record->decision_reason == r->reason;
    uint64_t rest = same ? SAME_NS : SECOND_NS;

    if (record->decision_ns > 0 && r->time_ns < record->decision_ns + rest) {
        return false;
    }
    if (r->time_ns >= sched->told_ns + SECOND_NS) {
        sched->told_ns = r->time_ns;
        sched->told = 0;
    }
    return sched->told++ < TOLD_MOST;
}

void ms_sched_decided(MsSched *sched, MemSchedClient *client,
                      const MsDecisionRecord *r)
{
    MsSchedGuest *record = client->sched;
    MemSchedEvent event = { .kind = MEMSCHED_EVENT_DECISION };

    ms_trace(sched->ms, MEMSCHED_TRACE_DECISION, client->id, r->give,
             r->pages);
    if (!is_news(sched, record, r)) {
        record->decisions_skipped++;
        return;
    }
    g_strlcpy(event.id, client->id, sizeof(event.id));
    event.skipped = record->decisions_skipped;
    ms_decision_tell(r, r->time_ns, &event.decision);
    ms_sched_event(sched, &event);
    record->decision_ns = r->time_ns;
    record->decision_give = r->give;
    record->decision_reason = r->reason;
    record->decisions_skipped = 0;
}

size_t memsched_query_decisions(MemSched *ms, const char *id,
                                MemSchedDecision *ret_decisions, size_t max)
{
    g_autofree MsDecisionRecord *records = NULL;
    uint64_t now_ns = ms->sys->now_ns(ms->sys);
    size_t count;

    max = MIN(max, MS_DECISIONS_KEPT);
    records = g_new(MsDecisionRecord, max);
    ms_lock(&ms->sched->decisions_lock);
    count = ms_decisions_list(&ms->sched->decisions, id, records, max);
    ms_unlock(&ms->sched->decisions_lock);
    for (size_t i = 0; i < count; i++) {
        ms_decision_tell(&records[i], now_ns, &ret_decisions[i]);
    }
    return count;
}

int memsched_explain(MemSched *ms, const char *id,
                     MemSchedDecision *ret_decision,
                     MemSchedMessage *ret_message)
{
    MemSchedClient *client = ms_client_get(ms, id);
    MsDecisionRecord why = { .time_ns = 0 };
    MsSchedGuest *record;

    if (client) {
        ms_lock(&ms->ledger_lock);
        record = ms_sched_guest_locked(client);
        ms_unlock(&ms->ledger_lock);
        ms_lock(&ms->sched->decisions_lock);
        why = record->why;
        ms_unlock(&ms->sched->decisions_lock);
        ms_client_unref(client);
    }
    if (why.id[0] == '\0') {
        if (ret_message) {
            g_snprintf(ret_message->text, sizeof(ret_message->text),
                       client ? "the scheduler has not looked at guest '%.*s'"
                                " yet"
                              : "there is no guest '%.*s'",
                       MEMSCHED_ID_MAX, id);
        }
        return -ENOENT;
    }
    ms_decision_tell(&why, ms->sys->now_ns(ms->sys), ret_decision);
    return 0;
}
