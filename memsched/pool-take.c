/*
 * The pool: which free pages somebody gets
 *
 * For everybody, in this order: a page of everybody's, clean before dirty
 * where the caller may wait; a huge chunk of everybody's, broken; what was
 * captured for somebody.  For a claim, its own pages before all of these, and
 * they are waited for while they are being cleared: a transfer is to map the
 * frames that the donor gave, and clearing 64 small pages (20 us) or a huge one
 * (170 us) delays a touch no more than the fault itself does.  A huge chunk of
 * the claim is broken in front of a touch only where one would have to be
 * broken anyway (1 ms).
 *
 * Locks: the pool's, given up while a chunk is broken and while waiting.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool.h"

#include <assert.h>
#include <errno.h>

#include "pool-int.h"
#include "scrub.h"

/* A waiting take looks again at least this often. */
#define WAIT_NS (100 * 1000 * 1000)

static bool take_whole_locked(MsPool *pool, unsigned group, bool clean,
                              MsPoolRun *run)
{
    uint32_t index = pool->group[group].lists[clean ? MS_LIST_HUGE_CLEAN
                                                    : MS_LIST_HUGE_DIRTY].first;

    if (index == MS_NO_SLOT) {
        return false;
    }
    ms_slot_unlist_locked(pool, index);
    pool->slots[index].kind = MS_SLOT_OUT;
    ms_pool_count_huge_locked(pool, clean, -1);
    *run = (MsPoolRun) {
        .address = ms_slot_address(pool, index),
        .pages = MEMSCHED_PAGES_PER_FRAME,
        .slot = index,
        .huge = true,
        .clean = clean,
    };
    return true;
}

static bool take_huge_locked(MsPool *pool, unsigned group, unsigned flags,
                             MsPoolRun *run)
{
    if (flags & MS_POOL_DIRTY) {
        return take_whole_locked(pool, group, false, run) ||
               take_whole_locked(pool, group, true, run);
    }
    return take_whole_locked(pool, group, true, run) ||
           (!(flags & MS_POOL_NOWAIT) &&
            take_whole_locked(pool, group, false, run));
}

static bool take_small_locked(MsPool *pool, unsigned group, unsigned flags,
                              unsigned pages, MsPoolRun *run)
{
    bool clean = !(flags & MS_POOL_DIRTY);
    bool other = !clean || !(flags & MS_POOL_NOWAIT);
    uint32_t slot = MS_NO_SLOT, slot2 = MS_NO_SLOT;
    unsigned first = 0, first2 = 0, n, n2 = 0;

    n = ms_slot_find_run_locked(pool, group, clean, pages, &slot, &first);
    /*
     * The other kind where the wished one gives a much shorter run: a call
     * and a fault cost as much as clearing some 20 pages.
     */
    if (other && n * 4 < pages && n < 16) {
        n2 = ms_slot_find_run_locked(pool, group, !clean, pages, &slot2,
                                     &first2);
        if (n2 > n * 4) {
            clean = !clean;
            n = n2;
            slot = slot2;
            first = first2;
        }
    }
    if (!n) {
        return false;
    }
    ms_slot_lend_locked(pool, slot, first, n);
    ms_pool_count_small_locked(pool, clean, -(int64_t)n);
    ms_pool_note_demand_locked(pool, n);
    *run = (MsPoolRun) {
        .address = ms_slot_address(pool, slot) + first * MEMSCHED_PAGE_SIZE,
        .pages = n,
        .slot = slot,
        .first = first,
        .clean = clean,
    };
    return true;
}

/* Breaking gives the lock up, another take may be first: once more. */
static bool take_broken_locked(MsPool *pool, unsigned group, unsigned flags,
                               unsigned pages, MsPoolRun *run)
{
    while (!(flags & (MS_POOL_NOWAIT | MS_POOL_NOBREAK)) &&
           ms_pool_break_locked(pool, group)) {
        if (take_small_locked(pool, group, flags, pages, run)) {
            return true;
        }
    }
    return false;
}

static bool take_of_locked(MsPool *pool, unsigned group, unsigned flags,
                           unsigned pages, MsPoolRun *run)
{
    if (flags & MS_POOL_HUGE) {
        return take_huge_locked(pool, group, flags, run);
    }
    return take_small_locked(pool, group, flags, pages, run);
}

/* Where nothing else is left: pages that were captured for somebody. */
static bool take_claimed_locked(MsPool *pool, unsigned flags, unsigned pages,
                                MsPoolRun *run)
{
    uint32_t left = 0;

    for (unsigned list = 0; list < MS_LISTS; list++) {
        left += pool->claimed[list];
    }
    for (unsigned g = 1; left > 0 && g <= MS_POOL_CLAIMS; g++) {
        if (take_of_locked(pool, g, flags, pages, run) ||
            (!(flags & MS_POOL_HUGE) &&
             take_broken_locked(pool, g, flags, pages, run))) {
            return true;
        }
    }
    return false;
}

/*
 * Of the claim's own.  False and *ret_more: some would do, but not with these
 * flags, or not just now.
 */
static bool take_own_locked(MsPool *pool, unsigned group, unsigned flags,
                            unsigned pages, MsPoolRun *run, bool *ret_more)
{
    const MsGroup *own = &pool->group[group];
    bool small = !(flags & MS_POOL_HUGE);

    if (take_of_locked(pool, group, flags, pages, run) ||
        (small && (flags & MS_POOL_BREAK_CLAIM) &&
         take_broken_locked(pool, group, flags, pages, run))) {
        pool->counts.claim_taken_pages += run->pages;
        return true;
    }
    *ret_more = own->loans > 0 || ms_group_small(pool, group) > 0 ||
                (!small && own->lists[MS_LIST_HUGE_DIRTY].first != MS_NO_SLOT);
    return false;
}

static bool take_locked(MsPool *pool, unsigned group, unsigned flags,
                        unsigned pages, MsPoolRun *run)
{
    bool small = !(flags & MS_POOL_HUGE);

    if (take_of_locked(pool, 0, flags, pages, run)) {
        return true;
    }
    if (small && group && take_broken_locked(pool, group, flags, pages, run)) {
        pool->counts.claim_taken_pages += run->pages;
        return true;
    }
    return (small && take_broken_locked(pool, 0, flags, pages, run)) ||
           take_claimed_locked(pool, flags, pages, run);
}

/* 0, -EAGAIN, -ENOMEM; or 1: after a loan has come back. */
static int try_locked(MsPool *pool, MsPoolClaim claim, unsigned flags,
                      unsigned pages, MsPoolRun *run)
{
    unsigned group = ms_claim_group(pool, claim);
    bool wait = !(flags & MS_POOL_NOWAIT), more = false;
    uint32_t loans;

    if (group && take_own_locked(pool, group, flags, pages, run, &more)) {
        return 0;
    }
    if (more) {
        return wait && pool->group[group].loans > 0 ? 1 : -EAGAIN;
    }
    if (take_locked(pool, group, flags, pages, run)) {
        pool->counts.claim_other_pages += group ? run->pages : 0;
        return 0;
    }
    if (pool->counts.free_clean_pages + pool->counts.free_dirty_pages == 0) {
        return -ENOMEM;
    }
    loans = flags & MS_POOL_HUGE ? pool->huge_loans : pool->loans;
    return wait && loans > 0 ? 1 : -EAGAIN;
}

static int take_or_wait(MsPool *pool, MsPoolClaim claim, unsigned flags,
                        unsigned pages, MsPoolRun *run)
{
    int rc;

    ms_lock(&pool->lock);
    while ((rc = try_locked(pool, claim, flags, pages, run)) > 0) {
        /* No new loan begins while somebody waits: this ends. */
        pool->waiters++;
        pool->counts.waits++;
        ms_cond_wait_ns(&pool->returned, &pool->lock, WAIT_NS);
        pool->waiters--;
        ms_pool_work_changed_locked(pool);
    }
    if (rc == 0) {
        pool->counts.taken_pages += run->pages;
    }
    ms_unlock(&pool->lock);
    return rc;
}

int ms_pool_take(MsPool *pool, uint32_t pages, unsigned flags,
                 MsPoolRun *ret_run)
{
    return ms_pool_take_for(pool, MS_POOL_NO_CLAIM, pages, flags, ret_run);
}

int ms_pool_take_for(MsPool *pool, MsPoolClaim claim, uint32_t pages,
                     unsigned flags, MsPoolRun *ret_run)
{
    MsPoolRun run;
    int rc;

    assert(pages >= 1 && pages <= MEMSCHED_PAGES_PER_FRAME);
    rc = take_or_wait(pool, claim, flags, pages, &run);
    if (rc < 0) {
        return rc;
    }
    if (!run.clean && !(flags & MS_POOL_DIRTY)) {
        ms_clear_pages(run.address, run.pages);
        run.clean = true;
        run.scrubbed_inline = true;
        ms_lock(&pool->lock);
        pool->counts.scrubbed_inline_pages += run.pages;
        ms_unlock(&pool->lock);
    }
#ifdef MEMSCHED_DEBUG
    assert(!run.clean || ms_pages_are_zero(run.address, run.pages));
#endif
    *ret_run = run;
    return 0;
}
