/*
 * Claims of the pool: pages that were captured for somebody
 *
 * A slot carries the name of one claim, so what is captured for different
 * claims never shares a slot, and each claim has lists of its own ("group").
 * A name is used once: when a claim is closed its lists are put before those
 * of everybody, by four assignments each, and the slots that still carry the
 * name belong to group 0 from then on, without being visited.
 *
 * Pure bookkeeping under the pool's lock: no system call.  How many pages
 * somebody is promised is the ledger's, not ours.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool-int.h"

#define GROUPS (1 + MS_POOL_CLAIMS)

/* Names end at 2^32: after 66 million claims they begin again. */
#define MAX_SERIAL (UINT32_MAX / GROUPS - 1)

MsPoolClaim ms_pool_claim_open(MsPool *pool)
{
    MsPoolClaim claim = MS_POOL_NO_CLAIM;

    ms_lock(&pool->lock);
    for (unsigned g = 1; g < GROUPS && claim == MS_POOL_NO_CLAIM; g++) {
        MsGroup *group = &pool->group[g];

        if (!group->open) {
            group->open = true;
            group->serial = group->serial % MAX_SERIAL + 1;
            claim = group->serial * GROUPS + g;
        }
    }
    ms_unlock(&pool->lock);
    return claim;
}

/* All slots of list @which of @from come to the front of @to. */
static void splice_locked(MsPool *pool, unsigned which, MsSlotHead *from,
                          MsSlotHead *to)
{
    if (from->first == MS_NO_SLOT) {
        return;
    }
    pool->slots[from->last].link[which].next = to->first;
    if (to->first == MS_NO_SLOT) {
        to->last = from->last;
    } else {
        pool->slots[to->first].link[which].prev = from->last;
    }
    to->first = from->first;
    to->count += from->count;
    *from = (MsSlotHead) { .first = MS_NO_SLOT, .last = MS_NO_SLOT };
}

void ms_pool_claim_close(MsPool *pool, MsPoolClaim claim)
{
    unsigned g;

    if (claim == MS_POOL_NO_CLAIM) {
        return;
    }
    ms_lock(&pool->lock);
    g = ms_claim_group(pool, claim);
    if (g) {
        MsGroup *group = &pool->group[g];

        for (unsigned list = MS_LIST_NONE + 1; list < MS_LISTS; list++) {
            pool->claimed[list] -= group->lists[list].count;
            splice_locked(pool, list >= MS_LIST_DIRTY_FULL,
                          &group->lists[list], &pool->group[0].lists[list]);
        }
        group->open = false;
        group->open_slot = MS_NO_SLOT;
        /* Its name means nothing from here on, also before the next open. */
        group->serial = group->serial % MAX_SERIAL + 1;
        ms_pool_work_changed_locked(pool);
    }
    ms_unlock(&pool->lock);
}

uint32_t ms_claim_first_locked(const MsPool *pool, MsSlotList list)
{
    for (unsigned g = 1; pool->claimed[list] > 0 && g < GROUPS; g++) {
        if (pool->group[g].lists[list].first != MS_NO_SLOT) {
            return pool->group[g].lists[list].first;
        }
    }
    return MS_NO_SLOT;
}
