/*
 * Who is charged for how many pages, and who may have more
 *
 * Pure: integers, no clock, no lock, no system call.  The caller serialises
 * (MemSched.ledger_lock).  All numbers are 4 KiB pages.
 *
 *     free + sum of allocated + parity + held = budget               (I1)
 *     SAFE: free >= need + claims
 *     need = sum over accounts of max(0, min - allocated) + allowance left
 *
 * Every function keeps both; one that cannot changes nothing and says so.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_LEDGER_H
#define MEMSCHED_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct MsLedger {
    uint64_t budget;            /* B */
    uint64_t free;              /* F: clean or dirty, and granted to nobody */
    uint64_t allocated;         /* sum of a_i */
    uint64_t parity;            /* protects some account's pages */
    uint64_t held;              /* keeps compressed pages of guests */
    uint64_t need;              /* see above */
    uint64_t claims;            /* sum of c_i */
    uint64_t rises;             /* how often somebody might get more than
                                   before: a refused fault looks at it */
} MsLedger;

/* One guest's.  Read it under the ledger's lock only. */
typedef struct MsAccount {
    uint64_t allocated;         /* a: resident, given, in transit */
    uint64_t parity;            /* frames that protect them: apart */
    uint64_t min;               /* m */
    uint64_t max;               /* limit of what is given ahead of a touch */
    uint64_t ceiling;           /* nothing out of slack above it; 0: none */
    uint64_t claim;             /* c */
    uint64_t allowance;         /* g: give-allowance that is left */
    uint64_t allowance_limit;
} MsAccount;

void ms_ledger_init(MsLedger *ledger, uint64_t budget);

/*
 * Open an account.  -EINVAL (min > max), -ENOSPC: SAFE would not hold.  The
 * give-allowance is filled as far as SAFE allows.
 */
int ms_ledger_admit(MsLedger *ledger, MsAccount *account, uint64_t min,
                    uint64_t max, uint64_t allowance_limit);

/* Close it: claim, allowance and min lapse.  Nothing may be allocated. */
void ms_ledger_leave(MsLedger *ledger, MsAccount *account);

/* Both or none: -EINVAL, -ENOSPC. */
int ms_ledger_set_limits(MsLedger *ledger, MsAccount *account, uint64_t min,
                         uint64_t max);

/* free - need - claims: what may go to anybody.  SAFE says: never negative. */
uint64_t ms_ledger_slack(const MsLedger *ledger);

/* What an account may still be given ahead of a touch: max - allocated. */
uint64_t ms_ledger_room(const MsAccount *account);

/* Where granted pages came from, so that the rest can be given back. */
typedef struct MsGrant {
    uint64_t pages;
    uint64_t from_claim;
    uint64_t from_allowance;    /* the others: below min, or slack */
} MsGrant;

typedef enum MsGrantFlag {
    MS_GRANT_CLAIM_ONLY = 1 << 0,       /* for prefetch of a transfer */
    MS_GRANT_ALLOWANCE  = 1 << 1,       /* the give-allowance may be used */
    MS_GRANT_AHEAD      = 1 << 2,       /* not touched yet: stay within max */
} MsGrantFlag;

/*
 * Grant up to @want pages: from the claim, then below min, then from slack as
 * long as @keep pages of slack remain, then from the allowance.  Returns how
 * many (0 is a refusal) and the same in @ret_grant.
 */
uint64_t ms_ledger_grant(MsLedger *ledger, MsAccount *account, uint64_t want,
                         unsigned flags, uint64_t keep, MsGrant *ret_grant);

/* A grant of one page would not be a refusal. */
bool ms_ledger_would_grant(const MsLedger *ledger, const MsAccount *account,
                           unsigned flags);

/*
 * @pages of @grant were not used after all: takes them out of it, the claim's
 * last.  grant->from_claim is then what was really used of the claim.
 */
void ms_ledger_ungrant(MsLedger *ledger, MsAccount *account, MsGrant *grant,
                       uint64_t pages);

/* @pages went from the guest to the pool. */
void ms_ledger_capture(MsLedger *ledger, MsAccount *account, uint64_t pages);

/* Promise up to @pages free pages to the account; how many SAFE allowed. */
uint64_t ms_ledger_claim(MsLedger *ledger, MsAccount *account,
                         uint64_t pages);

/* Let up to @pages of the claim lapse; how many did. */
uint64_t ms_ledger_unclaim(MsLedger *ledger, MsAccount *account,
                           uint64_t pages);

/*
 * @pages of the pool become parity of the account's pages, out of slack alone:
 * -ENOSPC, SAFE would not hold.
 */
int ms_ledger_parity(MsLedger *ledger, MsAccount *account, uint64_t pages);

/* They are free again. */
void ms_ledger_unparity(MsLedger *ledger, MsAccount *account, uint64_t pages);

/* Up to @pages of the pool keep compressed pages: how many slack allowed. */
uint64_t ms_ledger_hold(MsLedger *ledger, uint64_t pages);

/* They are free again. */
void ms_ledger_unhold(MsLedger *ledger, uint64_t pages);

bool ms_ledger_safe(const MsLedger *ledger);

/*
 * Recount all sums from @accounts (NULLs are skipped).  NULL if right, else
 * what differs, as a constant string.
 */
const char *ms_ledger_check(const MsLedger *ledger,
                            const MsAccount *const *accounts, size_t count);

#endif /* MEMSCHED_LEDGER_H */
