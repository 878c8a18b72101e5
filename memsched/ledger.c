/*
 * Who is charged for how many pages
 *
 * Owns the arithmetic of the grant rule.  Two invariants hold after every
 * function, whatever its arguments were:
 *
 *     free + sum of allocated + parity + held = budget
 *     SAFE: free >= need + claims,
 *           need = sum of max(0, min - allocated) + allowance
 *
 * Why SAFE is kept, in one place.  A grant from a claim, below min or out of
 * the allowance lowers both sides by the same number.  A grant out of slack
 * is bounded by slack.  A capture raises the left side by n and the right one
 * by n at most (the shortfall below min); the allowance is refilled out of
 * what is left between them.  Everything that raises the right side alone
 * (admission, a higher min, a claim) is bounded by slack as well.
 *
 * Overflow: every number is bounded by the budget but min and max, which are
 * checked against slack, respectively only compared and subtracted.
 *
 * Threads and locks: none of its own; the caller holds the ledger's lock.
 * It does not know pages, regions, or which frame is whose.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>

#include "ledger.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t below_min(const MsAccount *account)
{
    return account->min > account->allocated
           ? account->min - account->allocated : 0;
}

static uint64_t below_ceiling(const MsAccount *account)
{
    if (account->ceiling == 0) {
        return UINT64_MAX;
    }
    return account->ceiling > account->allocated
           ? account->ceiling - account->allocated : 0;
}

static uint64_t need_of(const MsAccount *account)
{
    return below_min(account) + account->allowance;
}

/* Move pages between the pool and an account, need following. */
static void charge(MsLedger *ledger, MsAccount *account, uint64_t pages)
{
    ledger->need -= below_min(account);
    ledger->free -= pages;
    ledger->allocated += pages;
    account->allocated += pages;
    ledger->need += below_min(account);
}

static void discharge(MsLedger *ledger, MsAccount *account, uint64_t pages)
{
    ledger->need -= below_min(account);
    ledger->free += pages;
    ledger->allocated -= pages;
    account->allocated -= pages;
    ledger->need += below_min(account);
    ledger->rises++;
}

/* Up to @pages more allowance, out of slack. */
static void refill(MsLedger *ledger, MsAccount *account, uint64_t pages)
{
    uint64_t space = account->allowance_limit - account->allowance;
    uint64_t n = min_u64(min_u64(pages, space), ms_ledger_slack(ledger));

    account->allowance += n;
    ledger->need += n;
}

void ms_ledger_init(MsLedger *ledger, uint64_t budget)
{
    *ledger = (MsLedger) { .budget = budget, .free = budget };
}

uint64_t ms_ledger_slack(const MsLedger *ledger)
{
    uint64_t promised = ledger->need + ledger->claims;

    return ledger->free > promised ? ledger->free - promised : 0;
}

uint64_t ms_ledger_room(const MsAccount *account)
{
    return account->max > account->allocated
           ? account->max - account->allocated : 0;
}

int ms_ledger_admit(MsLedger *ledger, MsAccount *account, uint64_t min,
                    uint64_t max, uint64_t allowance_limit)
{
    if (min > max) {
        return -EINVAL;
    }
    if (min > ms_ledger_slack(ledger)) {
        return -ENOSPC;
    }
    *account = (MsAccount) {
        .min = min, .max = max, .allowance_limit = allowance_limit,
    };
    ledger->need += min;
    refill(ledger, account, allowance_limit);
    return 0;
}

void ms_ledger_leave(MsLedger *ledger, MsAccount *account)
{
    ledger->need -= need_of(account);
    ledger->claims -= account->claim;
    /* Nothing is allocated by contract; if it were, its pages are gone. */
    ledger->budget -= account->allocated;
    ledger->allocated -= account->allocated;
    ledger->rises++;
    *account = (MsAccount) { 0 };
}

int ms_ledger_set_limits(MsLedger *ledger, MsAccount *account, uint64_t min,
                         uint64_t max)
{
    uint64_t before = below_min(account), after;

    if (min > max) {
        return -EINVAL;
    }
    after = min > account->allocated ? min - account->allocated : 0;
    if (after > before && after - before > ms_ledger_slack(ledger)) {
        return -ENOSPC;
    }
    ledger->need = ledger->need - before + after;
    account->min = min;
    account->max = max;
    ledger->rises++;
    return 0;
}

uint64_t ms_ledger_grant(MsLedger *ledger, MsAccount *account, uint64_t want,
                         unsigned flags, uint64_t keep, MsGrant *ret_grant)
{
    MsGrant grant = { 0 };
    uint64_t n, slack;

    if (flags & MS_GRANT_AHEAD) {
        want = min_u64(want, ms_ledger_room(account));
    }

    n = min_u64(want, account->claim);
    account->claim -= n;
    ledger->claims -= n;
    charge(ledger, account, n);
    grant.from_claim = n;
    grant.pages = n;

    if (!(flags & MS_GRANT_CLAIM_ONLY)) {
        n = min_u64(want - grant.pages, below_min(account));
        charge(ledger, account, n);
        grant.pages += n;

        slack = ms_ledger_slack(ledger);
        n = min_u64(want - grant.pages, slack > keep ? slack - keep : 0);
        n = min_u64(n, below_ceiling(account));
        charge(ledger, account, n);
        grant.pages += n;
    }
    if (flags & MS_GRANT_ALLOWANCE) {
        n = min_u64(want - grant.pages, account->allowance);
        account->allowance -= n;
        ledger->need -= n;
        charge(ledger, account, n);
        grant.from_allowance = n;
        grant.pages += n;
    }
    *ret_grant = grant;
    return grant.pages;
}

bool ms_ledger_would_grant(const MsLedger *ledger, const MsAccount *account,
                           unsigned flags)
{
    MsLedger try_ledger = *ledger;
    MsAccount try_account = *account;
    MsGrant grant;

    return ms_ledger_grant(&try_ledger, &try_account, 1, flags, 0,
                           &grant) == 1;
}

void ms_ledger_ungrant(MsLedger *ledger, MsAccount *account, MsGrant *grant,
                       uint64_t pages)
{
    uint64_t other, claim, allowance;

    pages = min_u64(pages, grant->pages);
    if (pages == 0) {
        return;
    }
    other = min_u64(pages, grant->pages - grant->from_claim);
    claim = pages - other;
    allowance = min_u64(other, grant->from_allowance);

    discharge(ledger, account, pages);
    grant->pages -= pages;
    grant->from_claim -= claim;
    grant->from_allowance -= allowance;

    refill(ledger, account, allowance);
    /* The rest of the slack that came back may have gone below min again. */
    ms_ledger_claim(ledger, account, claim);
}

void ms_ledger_capture(MsLedger *ledger, MsAccount *account, uint64_t pages)
{
    discharge(ledger, account, pages);
    refill(ledger, account, pages);
}

uint64_t ms_ledger_claim(MsLedger *ledger, MsAccount *account, uint64_t pages)
{
    uint64_t n = min_u64(pages, ms_ledger_slack(ledger));

    account->claim += n;
    ledger->claims += n;
    ledger->rises += n > 0;
    return n;
}

uint64_t ms_ledger_unclaim(MsLedger *ledger, MsAccount *account,
                           uint64_t pages)
{
    uint64_t n = min_u64(pages, account->claim);

    account->claim -= n;
    ledger->claims -= n;
    ledger->rises += n > 0;
    return n;
}

int ms_ledger_parity(MsLedger *ledger, MsAccount *account, uint64_t pages)
{
    if (pages > ms_ledger_slack(ledger)) {
        return -ENOSPC;
    }
    ledger->free -= pages;
    ledger->parity += pages;
    account->parity += pages;
    return 0;
}

void ms_ledger_unparity(MsLedger *ledger, MsAccount *account, uint64_t pages)
{
    ledger->free += pages;
    ledger->parity -= pages;
    account->parity -= pages;
    ledger->rises++;
}

uint64_t ms_ledger_hold(MsLedger *ledger, uint64_t pages)
{
    uint64_t n = min_u64(pages, ms_ledger_slack(ledger));

    ledger->free -= n;
    ledger->held += n;
    return n;
}

void ms_ledger_unhold(MsLedger *ledger, uint64_t pages)
{
    ledger->free += pages;
    ledger->held -= pages;
    ledger->rises += pages > 0;
}

bool ms_ledger_safe(const MsLedger *ledger)
{
    return ledger->free >= ledger->need &&
           ledger->free - ledger->need >= ledger->claims;
}

const char *ms_ledger_check(const MsLedger *ledger,
                            const MsAccount *const *accounts, size_t count)
{
    uint64_t allocated = 0, need = 0, claims = 0, parity = 0;

    for (size_t i = 0; i < count; i++) {
        if (accounts[i] == NULL) {
            continue;
        }
        if (accounts[i]->allowance > accounts[i]->allowance_limit) {
            return "an allowance is above its limit";
        }
        allocated += accounts[i]->allocated;
        need += need_of(accounts[i]);
        claims += accounts[i]->claim;
        parity += accounts[i]->parity;
    }
    if (allocated != ledger->allocated) {
        return "sum of allocated pages differs from the accounts";
    }
    if (need != ledger->need) {
        return "sum of needed pages differs from the accounts";
    }
    if (claims != ledger->claims) {
        return "sum of claims differs from the accounts";
    }
    if (parity != ledger->parity) {
        return "sum of parity pages differs from the accounts";
    }
    if (ledger->free + ledger->allocated + ledger->parity + ledger->held !=
        ledger->budget) {
        return "free, allocated, parity and held pages do not add up to the"
               " budget";
    }
    if (!ms_ledger_safe(ledger)) {
        return "SAFE does not hold: more is promised than is free";
    }
    return NULL;
}
