/*
 * Decisions, kept with what they were made from
 *
 * Pure: no clock, no lock, no system call.  The caller serialises.  Counts are
 * 4 KiB pages, as in policy.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_DECISION_H
#define MEMSCHED_DECISION_H

#include "policy.h"

/* At one a second and guest these are minutes of a small host. */
#define MS_DECISIONS_KEPT 512u
/* A sentence of ms_decision_words(), with its final NUL, fits. */
#define MS_DECISION_WORDS 320u

typedef struct MsDecisionRecord {
    uint64_t number;            /* from 1, no gaps; 0: not in the ring */
    uint64_t time_ns;
    char id[MEMSCHED_ID_MAX];   /* the guest's */
    bool give;                  /* else take; nothing where pages is 0 */
    bool dry_run;               /* recorded, not carried out */
    MsReason reason;
    uint64_t pages;
    /* what it was made from: the guest */
    uint64_t allocated, active, wanted, entitlement, min, max;
    uint64_t ballooned, waiting, outgoing;
    unsigned shares, pressure;
    uint64_t again_ns;          /* resting, unresponsive: until when */
    /* and the host */
    MemSchedPolicy policy;
    unsigned idle_tax_pct;
    MemSchedCondition state;
    uint64_t budget, free, min_free;
} MsDecisionRecord;

/* Large: belongs into memory of its owner, not on a stack. */
typedef struct MsDecisions {
    uint64_t last_number;
    MsDecisionRecord kept[MS_DECISIONS_KEPT];
} MsDecisions;

/*
 * The record of a decision about @guest, or, where @decision is NULL, of why
 * there is none.  @guest is as ms_policy_run() left it.  A longer id is cut.
 */
void ms_decision_record(const MsPolicyInput *input, const MsPolicyGuest *guest,
                        const char *id, const MsDecision *decision,
                        MsDecisionRecord *ret_record);

/* Keeps a copy, and gives it its number; the oldest one makes room. */
void ms_decisions_add(MsDecisions *decisions, const MsDecisionRecord *record);

/*
 * The last decisions, newest first; of the guest @id alone unless that is NULL.
 * Fills up to @max, returns how many.
 */
size_t ms_decisions_list(const MsDecisions *decisions, const char *id,
                         MsDecisionRecord *ret_records, size_t max);

/* A word for scripts: "idle", "below-min". */
const char *ms_reason_name(MsReason reason);

/* One or two sentences for a person: what, how much, why.  Sizes in MiB. */
void ms_decision_words(const MsDecisionRecord *record,
                       char ret_text[MS_DECISION_WORDS]);

#endif /* MEMSCHED_DECISION_H */
