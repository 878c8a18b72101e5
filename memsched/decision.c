/*
 * Decisions, kept with what they were made from
 *
 * Owns the ring of the last decisions and the words for them.  A record stands
 * alone: it has every figure that its sentence needs, so that an operator who
 * asks "why has this guest so little?" gets an answer that can be checked, and
 * not a guess made from today's figures.
 *
 * Record n is at n modulo the size of the ring.
 *
 * Sizes are rounded to the nearest MiB in words only.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "decision.h"

#define MIB_SHIFT (20 - MEMSCHED_PAGE_SHIFT)

void ms_decision_record(const MsPolicyInput *input, const MsPolicyGuest *guest,
                        const char *id, const MsDecision *decision,
                        MsDecisionRecord *ret_record)
{
    const MsPolicyMemory *m = &guest->memory;

    *ret_record = (MsDecisionRecord) {
        .time_ns = input->now_ns,
        .give = decision && decision->give,
        .reason = decision ? decision->reason : guest->reason,
        .pages = decision ? decision->pages : 0,
        .allocated = guest->allocated, .active = guest->active,
        .wanted = guest->wanted, .entitlement = guest->entitlement,
        .min = guest->min, .max = guest->max,
        .ballooned = guest->ballooned, .waiting = guest->waiting,
        .outgoing = guest->outgoing, .shares = guest->shares,
        .pressure = guest->pressure,
        .again_ns = m->unresponsive ? m->retry_ns : m->rest_ns,
        .policy = input->policy, .idle_tax_pct = input->idle_tax_pct,
        .state = input->state, .budget = input->budget,
        .free = input->free, .min_free = input->min_free,
    };
    g_strlcpy(ret_record->id, id, sizeof(ret_record->id));
}

void ms_decisions_add(MsDecisions *decisions, const MsDecisionRecord *record)
{
    uint64_t number = ++decisions->last_number;
    MsDecisionRecord *kept = &decisions->kept[number % MS_DECISIONS_KEPT];

    *kept = *record;
    kept->number = number;
}

size_t ms_decisions_list(const MsDecisions *decisions, const char *id,
                         MsDecisionRecord *ret_records, size_t max)
{
    uint64_t last = decisions->last_number;
    uint64_t end = last > MS_DECISIONS_KEPT ? last - MS_DECISIONS_KEPT : 0;
    size_t n = 0;

    for (uint64_t i = last; i > end && n < max; i--) {
        const MsDecisionRecord *r = &decisions->kept[i % MS_DECISIONS_KEPT];

        if (!id || strcmp(r->id, id) == 0) {
            ret_records[n++] = *r;
        }
    }
    return n;
}

/* ---- words ---- */

static const char *const names[MS_REASONS] = {
    [MS_REASON_NONE] = "none",
    [MS_REASON_BELOW_MIN] = "below-min",
    [MS_REASON_WAITING] = "waiting",
    [MS_REASON_INCOMING] = "incoming",
    [MS_REASON_PRESSURE] = "pressure",
    [MS_REASON_RETURN] = "return",
    [MS_REASON_IDLE] = "idle",
    [MS_REASON_SHARES] = "shares",
    [MS_REASON_PROBE] = "probe",
    [MS_REASON_STATIC] = "static",
    [MS_REASON_SMALL] = "small",
    [MS_REASON_FIXED] = "fixed",
    [MS_REASON_OPERATOR] = "operator",
    [MS_REASON_UNRESPONSIVE] = "unresponsive",
    [MS_REASON_RESTING] = "resting",
    [MS_REASON_ENTITLED] = "entitled",
    [MS_REASON_NO_MEMORY] = "no-memory",
};

/* Each follows the figures of the guest, as a sentence of its own. */
static const char *const words[MS_REASONS] = {
    [MS_REASON_NONE] = "It has what it wants, and nobody needs its memory.",
    [MS_REASON_BELOW_MIN] = "It waits for memory that its min guarantees.",
    [MS_REASON_WAITING] = "Touches of it wait for memory.",
    [MS_REASON_INCOMING] = "A transfer owes it memory.",
    [MS_REASON_PRESSURE] = "Its balloon keeps it from memory that it uses.",
    [MS_REASON_RETURN] = "There is plenty, so its balloon may shrink.",
    [MS_REASON_IDLE] = "It holds more idle memory than its shares pay for, "
                       "and it is needed elsewhere.",
    [MS_REASON_SHARES] = "It holds more than its shares give it while others "
                         "lack memory.",
    [MS_REASON_PROBE] = "It did not answer, and is asked for a little to see "
                        "whether it does now.",
    [MS_REASON_STATIC] = "With the policy static nothing moves unless asked "
                         "for.",
    [MS_REASON_SMALL] = "It is above its entitlement by too little to be "
                        "worth a move.",
    [MS_REASON_FIXED] = "It is above its entitlement, and cannot be asked: no "
                        "driver, stopped, or something in it forbids it.",
    [MS_REASON_OPERATOR] = "It is above its entitlement, and has what an "
                           "operator gave it or said that it should have.",
    [MS_REASON_UNRESPONSIVE] = "It is above its entitlement, and did not "
                               "answer when it was asked.",
    [MS_REASON_RESTING] = "It is above its entitlement, and is left alone "
                          "because it took back what it gave.",
    [MS_REASON_ENTITLED] = "It wants more than it is entitled to.",
    [MS_REASON_NO_MEMORY] = "It is entitled to more, and there is nothing to "
                            "be had yet.",
};

const char *ms_reason_name(MsReason reason)
{
    return reason < MS_REASONS ? names[reason] : "unknown";
}

static uint64_t mib(uint64_t pages)
{
    return (pages + (1u << (MIB_SHIFT - 1))) >> MIB_SHIFT;
}

void ms_decision_words(const MsDecisionRecord *r,
                       char ret_text[MS_DECISION_WORDS])
{
    MsReason reason = r->reason < MS_REASONS ? r->reason : MS_REASON_NONE;
    const char *verb = r->give ? "gets" : "gives";
    g_autofree char *what = r->pages > 0
        ? g_strdup_printf("%s %" PRIu64 " MiB", verb, mib(r->pages))
        : g_strdup("keeps what it has");

    g_snprintf(ret_text, MS_DECISION_WORDS,
               "%s %s: holds %" PRIu64 " MiB, uses %" PRIu64 ", is entitled "
               "to %" PRIu64 ".  %s", r->id, what, mib(r->allocated),
               mib(MIN(r->active, r->allocated)), mib(r->entitlement),
               words[reason]);
}
