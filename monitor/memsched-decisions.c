/*
 * QMP commands about the policy's decisions.
 *
 * Owns nothing: asks libmemsched, and puts its answers into QAPI's types.  A
 * guest's own monitor sees what was decided about that guest, without the
 * figures of the pool, which tell of its neighbours.
 *
 * Threads: any; takes no BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-memsched.h"
#include "qapi/util.h"
#include "memsched-internal.h"

/* Of one guest, with its explanation. */
#define EXPLAINED_MAX 16

static MemschedAction action_of(const MemSchedDecision *from)
{
    if (from->bytes == 0) {
        return QAPI_MEMSCHED_ACTION_KEEP;
    }
    return from->give ? QAPI_MEMSCHED_ACTION_GIVE : QAPI_MEMSCHED_ACTION_TAKE;
}

MemschedDecision *memsched_decision_to_qapi(const MemSchedDecision *from,
                                            bool host)
{
    MemschedDecision *d = g_new0(MemschedDecision, 1);

    d->number = from->number;
    d->age = from->age_ns / 1000000;
    d->id = g_strdup(from->id);
    d->action = action_of(from);
    d->size = from->bytes;
    d->reason = g_strdup(from->reason);
    d->text = g_strdup(from->text);
    d->dry_run = from->dry_run;
    d->allocated = from->allocated_bytes;
    d->active = from->active_bytes;
    d->wanted = from->wanted_bytes;
    d->entitlement = from->entitlement_bytes;
    d->min = from->min_bytes;
    d->max = from->max_bytes;
    d->ballooned = from->ballooned_bytes;
    d->waiting = from->waiting_bytes;
    d->outgoing = from->outgoing_bytes;
    d->shares = from->shares;
    d->pressure = from->pressure;
    d->has_again = from->again_ms > 0;
    d->again = from->again_ms;
    d->policy = memsched_policy_to_qapi(from->policy);
    d->idle_tax = from->idle_tax_pct;
    d->state = memsched_condition_to_qapi(from->state);
    d->has_free = d->has_min_free = host;
    d->free = host ? from->free_bytes : 0;
    d->min_free = host ? from->min_free_bytes : 0;
    return d;
}

/* In a guest's monitor without the figures of the pool. */
static MemschedDecision *of_here(const MemSchedDecision *from)
{
    return memsched_decision_to_qapi(from, !memsched_scope_guest());
}

static MemschedDecisionList *list_of(MemSched *ms, const char *id, size_t max)
{
    g_autofree MemSchedDecision *found = g_new(MemSchedDecision, max);
    size_t count = MIN(memsched_query_decisions(ms, id, found, max), max);
    MemschedDecisionList *list = NULL, **tail = &list;

    for (size_t i = 0; i < count; i++) {
        QAPI_LIST_APPEND(tail, of_here(&found[i]));
    }
    return list;
}

MemschedDecisionList *qmp_query_memsched_decisions(Error **errp)
{
    g_autoptr(MemSched) ms = memsched_hold();

    if (!ms) {
        memsched_set_not_running(errp);
        return NULL;
    }
    return list_of(ms, memsched_scope_guest(), MEMSCHED_DECISIONS_MAX);
}

MemschedExplanation *qmp_memsched_explain(const char *id, Error **errp)
{
    g_autoptr(MemSched) ms = memsched_hold();
    MemSchedMessage message = { "" };
    MemschedExplanation *explanation;
    MemSchedDecision now;
    const char *whose;

    if (!ms) {
        memsched_set_not_running(errp);
        return NULL;
    }
    whose = memsched_whose(id, errp);
    if (!whose) {
        return NULL;
    }
    if (memsched_explain(ms, whose, &now, &message) < 0) {
        error_setg(errp, "%s", message.text);
        return NULL;
    }
    explanation = g_new0(MemschedExplanation, 1);
    explanation->id = g_strdup(whose);
    explanation->text = g_strdup(now.text);
    explanation->now = of_here(&now);
    explanation->decisions = list_of(ms, whose, EXPLAINED_MAX);
    return explanation;
}
