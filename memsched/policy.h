/*
 * What each guest is entitled to, who gives, and who gets
 *
 * Pure: a snapshot in, entitlements and ordered decisions out.  No clock (the
 * time is part of the snapshot), no lock, no floating point.  Counts are 4 KiB
 * pages.  Nothing here moves memory: whether a decision is carried out is for
 * the caller to say.
 *
 * A tick, for the caller:
 *
 *     take a snapshot: MsPolicyInput, and a MsPolicyGuest for each guest with
 *         its MsPolicyMemory of the tick before (all zero for a new guest)
 *     ms_policy_watch()       who answers, who is to be left alone
 *     ms_policy_run()         entitlements, pressure, decisions
 *     carry the decisions out in their order; keep each guest's memory
 *
 * The same snapshot gives the same decisions: ms_policy_dump() writes one down,
 * ms_policy_parse() reads it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_POLICY_H
#define MEMSCHED_POLICY_H

#include "memsched/memsched.h"

/*
 * Why a guest gives, gets, or is left as it is.  The order of gives and takes
 * is the order of their urgency.
 */
typedef enum MsReason {
    MS_REASON_NONE,             /* has what it wants; nobody wants its */
    /* gives */
    MS_REASON_BELOW_MIN,        /* wants memory that it is guaranteed */
    MS_REASON_WAITING,          /* touches of it wait */
    MS_REASON_INCOMING,         /* a transfer owes it memory */
    MS_REASON_PRESSURE,         /* its balloon keeps it from what it uses */
    MS_REASON_RETURN,           /* there is plenty: its balloon shrinks */
    /* takes */
    MS_REASON_IDLE,             /* more idle memory than its shares pay for */
    MS_REASON_SHARES,           /* more than its shares give it */
    MS_REASON_PROBE,            /* did not answer: is asked for a little */
    /* left as it is, although it could give or get */
    MS_REASON_STATIC,           /* the policy moves nothing */
    MS_REASON_SMALL,            /* not worth a move */
    MS_REASON_FIXED,            /* cannot be asked */
    MS_REASON_OPERATOR,         /* has what an operator said it should */
    MS_REASON_UNRESPONSIVE,     /* does not answer */
    MS_REASON_RESTING,          /* took back what it gave: left alone */
    MS_REASON_ENTITLED,         /* wants more than it is entitled to */
    MS_REASON_NO_MEMORY,        /* entitled, and there is none to be had */
    MS_REASONS
} MsReason;

/*
 * What a guest's past says; the policy's own, kept by the caller between ticks.
 * All zero: nothing is known.
 */
typedef struct MsPolicyMemory {
    bool known;
    /* the snapshot before: differences are what happened in between */
    uint64_t allocated, captured, returned, oom_deflates;
    /* does it answer? */
    uint64_t window_ns;         /* start; 0: nothing is asked of it */
    uint64_t window_pages;      /* captured when it began */
    unsigned slow_windows;      /* one after the other */
    bool unresponsive;
    uint64_t retry_ns;          /* unresponsive: when to ask a little */
    unsigned retries;
    uint64_t rate_bytes_per_s;  /* of the last window */
    /* is it to be left alone? */
    uint64_t rest_ns;           /* until when; 0: no */
    unsigned rests;             /* doublings of its length */
    uint64_t captured_late, returned_late;      /* of late */
    uint64_t calm_ns;           /* when they become fewer */
    unsigned pressed_ticks;     /* under pressure, one after the other */
    bool throttled;             /* by a pool that is short, while it grows */
    bool was_short;             /* the pool, at the last look */
    uint64_t idle_ns;           /* since when it has much idle; 0: has not */
    uint64_t growth;            /* pages a tick, smoothed */
} MsPolicyMemory;

/* One guest in a snapshot. */
typedef struct MsPolicyGuest {
    uint64_t allocated, min, max;       /* max: RAM at most */
    uint64_t active;            /* of allocated, as far as known */
    uint64_t waiting;           /* touches that the grant rule refuses */
    uint64_t incoming;          /* asked for it by an operator, not there yet */
    unsigned shares;
    uint64_t ballooned;         /* of max, kept from it until returned */
    uint64_t outgoing;          /* asked of it, not given yet */
    uint64_t captured;          /* taken out of it since it started */
    uint64_t returned;          /* part of captured that it took back itself */
    uint64_t oom_deflates;      /* since it started */
    bool fixed;                 /* no driver, stopped, or inhibited */
    bool held;                  /* an operator's word: nothing is taken */
    MsPolicyMemory memory;
    /* out */
    uint64_t entitlement;
    uint64_t wanted;            /* with headroom; within min and max */
    unsigned pressure;          /* wanted / had x 100 */
    MsReason reason;            /* of its decision, or of having none */
} MsPolicyGuest;

/* Settings that have one good value; ms_policy_tuning() has it. */
typedef struct MsPolicyTuning {
    unsigned headroom_permille; /* of active memory, on top of it */
    uint64_t headroom_pages;    /* at least */
    unsigned dead_band_permille;/* of what is held: not worth a move */
    unsigned step_permille;     /* of what is held: taken a tick at most */
    uint64_t least_pages;       /* a move smaller than this is not made */
    unsigned flushes_per_s;     /* the mover's budget; one moves 2 MiB */
    uint64_t slow_bytes_per_s;  /* gives less: does not answer */
    unsigned slow_windows;      /* that often, a second each */
    unsigned returned_permille; /* of captured pages: more is thrashing */
    unsigned rest_ms, rest_most_ms;     /* first rest, longest rest */
} MsPolicyTuning;

typedef struct MsPolicyInput {
    MemSchedPolicy policy;
    unsigned idle_tax_pct;      /* 0 to 99 */
    uint64_t budget;            /* B less parity, held and retired pages */
    uint64_t min_free;          /* kept out of entitlements */
    uint64_t free;              /* not held, not claimed, not kept for mins */
    MemSchedCondition state;    /* of the host */
    unsigned interval_ms;       /* between two ticks */
    uint64_t now_ns;
    MsPolicyTuning tuning;
} MsPolicyInput;

/* Take @pages from a guest above its entitlement, or give to one below. */
typedef struct MsDecision {
    unsigned guest;             /* index in the snapshot */
    bool give;
    MsReason reason;
    uint64_t pages;
    /*
     * Shares for each taxed page, in no unit: who pays least gives first, who
     * pays most gets first.
     */
    uint64_t price;
} MsDecision;

/*
 *     headroom    12.5 % of active, 8 MiB at least
 *     dead band   3 %                  step    12.5 % a tick
 *     least move  2 MiB                budget  2,000 flushes a second
 *     answers     1 MiB/s or more in one of 3 windows
 *     thrashes    25 % of captured pages come back
 *     rests       10 s, doubled up to 10 min
 */
MsPolicyTuning ms_policy_tuning(void);

/*
 * Whether these settings can be used: 0, or -EINVAL with a sentence that names
 * the bad one in @ret_message, which may be NULL.
 */
int ms_policy_check(const MsPolicyInput *input, MemSchedMessage *ret_message);

/*
 * Compares each guest with the tick before, and updates its memory: does it
 * answer, does it thrash, how fast does it grow.
 */
void ms_policy_watch(const MsPolicyInput *input, MsPolicyGuest *guests,
                     size_t count);

/*
 * Sets entitlement, wanted, pressure and reason of each guest.  Then up to @max
 * decisions, at most one a guest: donors, the cheapest first, before acceptors,
 * the most urgent and then the dearest first.  What is given is free above
 * min_free already, on its way from donors, or taken by a decision before it.
 * Returns how many.  Reads each guest's memory, and does not change it.
 */
size_t ms_policy_run(const MsPolicyInput *input, MsPolicyGuest *guests,
                     size_t count, MsDecision *ret_decisions, size_t max);

/* Pressure of the whole: wanted by all, of what there is, x 100. */
unsigned ms_policy_pressure(const MsPolicyInput *input,
                            const MsPolicyGuest *guests, size_t count);

/*
 * State of the host by what is free and not promised, against min_free:
 *
 *                   going down, below     going up, at or above
 *     high -> clear     300 %                   400 %
 *     clear -> soft      64 %                   100 %
 *     soft -> hard       32 %                    48 %
 *     hard -> low        16 %                    24 %
 *
 * The distance between the columns keeps it from flapping.  What the policy
 * does in each:
 *
 *     high   balloons shrink to what their guests are entitled to
 *     clear  memory is taken for guests that lack it, and ahead of growth
 *     soft   twice the step
 *     hard   no step, no dead band, no budget of flushes; resting guests are
 *            asked too
 *     low    besides, only guests below their min get anything
 */
MemSchedCondition ms_policy_host_state(MemSchedCondition before,
                                       uint64_t free, uint64_t min_free);

/*
 * The snapshot as text, a line a member; to be freed with g_free().  Outputs
 * are left out.
 */
char *ms_policy_dump(const MsPolicyInput *input, const MsPolicyGuest *guests,
                     size_t count);

/*
 * Reads what ms_policy_dump() wrote: 0 and the guests, to be freed with
 * g_free(), or -EINVAL with a sentence that names the line.
 */
int ms_policy_parse(const char *text, MsPolicyInput *ret_input,
                    MsPolicyGuest **ret_guests, size_t *ret_count,
                    MemSchedMessage *ret_message);

#endif /* MEMSCHED_POLICY_H */
