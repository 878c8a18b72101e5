/*
 * Background work of the pool: clearing, remaking, keeping a reserve
 *
 * One piece at a time: choose it under the lock, borrow the pages (they stay
 * counted as free, "on loan"), do the slow part without the lock, give them
 * back.  A take that finds everything on loan waits for the next return, and
 * no new loan begins meanwhile, so the wait is bounded by one piece.
 *
 * Pieces, by value:
 *   0. clear what was captured for a claim: somebody is waiting for it, and
 *      gets these very pages;
 *   1. clear a dirty huge page (50 to 170 us): the next fault wants one;
 *   2. keep small clean pages in reserve: clearing dirty ones, or breaking a
 *      huge page off the fault path, where its split costs 0.7 ms;
 *   3. make a huge page out of small pages beyond the reserve: the kernel
 *      gives 512 fresh pages as one chunk in 0.1 ms, the small ones go back
 *      to it in 0.17 ms, together no more than clearing them would cost;
 *   4. clear dirty small pages;
 *   5. drop page tables of empty slots in the huge zone.
 *
 * Remaking takes the new chunk before it gives the old pages up, so a host
 * that is short of memory costs a try and never a page: the pool is above its
 * size by one chunk for that moment, which start-up leaves room for.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool.h"

#include <sys/mman.h>

#include "abi.h"
#include "pool-int.h"
#include "scrub.h"

#define FRAME_PAGES ((uint32_t)MEMSCHED_PAGES_PER_FRAME)

/* More scattered than this, pages are cleared where they are. */
#define MAX_PIECES 64

/* After the host had no huge page to give, it is left alone for a while. */
#define REMAKE_PAUSE_NS (UINT64_C(1000) * 1000 * 1000)

/*
 * Demand for small pages fades by an eighth each half second: after a burst
 * that used up the pool they are remade within some 10 s.
 */
#define DEMAND_STEP_NS (UINT64_C(500) * 1000 * 1000)
#define DEMAND_MAX_STEPS 64

/* A huge page is broken for the reserve only out of plenty. */
#define BREAK_RESERVE_FACTOR 4

typedef enum Job {
    JOB_NONE,
    JOB_CLEAR_CLAIM_HUGE,
    JOB_CLEAR_CLAIM,
    JOB_CLEAR_HUGE,
    JOB_RESERVE_CLEAR,
    JOB_RESERVE_BREAK,
    JOB_REMAKE,
    JOB_CLEAR_SMALL,
    JOB_DROP_TABLE,
} Job;

/*
 * Small pages that are not remade: the reserve, or as many as were taken
 * lately.  Otherwise guests that use small pages would have them made whole
 * behind one transfer and broken again, at 1 ms a chunk, in front of the next.
 */
static uint64_t kept_pages_locked(MsPool *pool)
{
    uint64_t now = pool->sys->now_ns(pool->sys);

    for (unsigned i = 0; i < DEMAND_MAX_STEPS && pool->demand_pages &&
         now - pool->demand_ns >= DEMAND_STEP_NS; i++) {
        pool->demand_pages -= pool->demand_pages / 8 + 1;
        pool->demand_ns += DEMAND_STEP_NS;
    }
    return pool->demand_pages > pool->reserve_pages ? pool->demand_pages
                                                    : pool->reserve_pages;
}

void ms_pool_note_demand_locked(MsPool *pool, uint32_t pages)
{
    if (!pool->demand_pages) {
        pool->demand_ns = pool->sys->now_ns(pool->sys);
    }
    pool->demand_pages += pages;
    if (pool->demand_pages > pool->pages) {
        pool->demand_pages = pool->pages;
    }
}

/* Twice what is kept before clean pages go: no back and forth with (2). */
static uint64_t surplus_from_locked(MsPool *pool)
{
    return 2 * (kept_pages_locked(pool) + FRAME_PAGES);
}

static bool claims_small_locked(const MsPool *pool)
{
    const uint32_t *n = pool->claimed;

    return n[MS_LIST_CLEAN_FULL] + n[MS_LIST_CLEAN_PART] +
           n[MS_LIST_DIRTY_FULL] + n[MS_LIST_DIRTY_PART] > 0;
}

static bool wants_remake_locked(MsPool *pool)
{
    uint64_t small = pool->small_clean + pool->small_dirty;

    /*
     * Nor while pages are claimed: their frames are to stay as they are, the
     * counters do not tell them apart, and the transfer needs the CPU.
     */
    if (small < FRAME_PAGES || claims_small_locked(pool) ||
        (pool->remake_after_ns &&
         pool->sys->now_ns(pool->sys) < pool->remake_after_ns)) {
        return false;
    }
    return (pool->small_dirty >= FRAME_PAGES &&
            small >= kept_pages_locked(pool) + FRAME_PAGES) ||
           pool->small_clean > surplus_from_locked(pool);
}

static Job next_job_locked(MsPool *pool)
{
    if (pool->paused || pool->waiters) {
        return JOB_NONE;
    }
    if (pool->claimed[MS_LIST_HUGE_DIRTY]) {
        return JOB_CLEAR_CLAIM_HUGE;
    }
    if (pool->claimed[MS_LIST_DIRTY_FULL] +
        pool->claimed[MS_LIST_DIRTY_PART]) {
        return JOB_CLEAR_CLAIM;
    }
    if (ms_slot_listed(pool, MS_LIST_HUGE_DIRTY)) {
        return JOB_CLEAR_HUGE;
    }
    if (pool->small_clean < pool->reserve_pages) {
        if (pool->small_dirty) {
            return JOB_RESERVE_CLEAR;
        }
        if (ms_slot_listed(pool, MS_LIST_HUGE_CLEAN) * FRAME_PAGES >
            BREAK_RESERVE_FACTOR * pool->reserve_pages &&
            (ms_slot_listed(pool, MS_LIST_SMALL_EMPTY) ||
             pool->small.fresh < pool->small.end)) {
            return JOB_RESERVE_BREAK;
        }
    }
    if (wants_remake_locked(pool)) {
        return JOB_REMAKE;
    }
    if (pool->small_dirty) {
        return JOB_CLEAR_SMALL;
    }
    if (ms_slot_listed(pool, MS_LIST_HUGE_TABLE)) {
        return JOB_DROP_TABLE;
    }
    return JOB_NONE;
}

/* @group: of the claim that the pages are from; 0 for several. */
static void loan_begin_locked(MsPool *pool, unsigned group, bool huge)
{
    pool->loans++;
    pool->huge_loans += huge;
    pool->group[group].loans++;
}

static void loan_end_locked(MsPool *pool, unsigned group, bool huge)
{
    pool->loans--;
    pool->huge_loans -= huge;
    pool->group[group].loans--;
    ms_cond_broadcast(&pool->returned);
}

static void clear_huge_locked(MsPool *pool, uint32_t index)
{
    MsSlot *slot = &pool->slots[index];
    unsigned group = ms_claim_group(pool, slot->claim);

    ms_slot_unlist_locked(pool, index);
    slot->kind = MS_SLOT_OUT;
    loan_begin_locked(pool, group, true);
    ms_unlock(&pool->lock);

    ms_clear_pages(ms_slot_address(pool, index), FRAME_PAGES);

    ms_lock(&pool->lock);
    ms_pool_count_huge_locked(pool, false, -1);
    ms_pool_count_huge_locked(pool, true, 1);
    slot->kind = MS_SLOT_WHOLE;
    slot->clean_whole = true;
    ms_slot_sort_locked(pool, index);
    pool->counts.scrubbed_pages += FRAME_PAGES;
    loan_end_locked(pool, group, true);
}

/* Small pages on loan. */
typedef struct Piece {
    uint32_t slot;
    uint16_t first;
    uint16_t pages;
    bool clean;
} Piece;

static bool borrow_locked(MsPool *pool, unsigned group, bool clean,
                          unsigned max, Piece *piece)
{
    uint32_t slot;
    unsigned first = 0;
    unsigned n = ms_slot_find_run_locked(pool, group, clean, max, &slot,
                                         &first);

    if (n) {
        ms_slot_lend_locked(pool, slot, first, n);
        *piece = (Piece) {
            .slot = slot, .first = first, .pages = n, .clean = clean,
        };
    }
    return n;
}

static char *piece_address(const MsPool *pool, const Piece *piece)
{
    return ms_slot_address(pool, piece->slot) +
           piece->first * MEMSCHED_PAGE_SIZE;
}

static void clear_small_locked(MsPool *pool, unsigned group)
{
    Piece piece;

    if (!borrow_locked(pool, group, false, FRAME_PAGES, &piece)) {
        return;
    }
    loan_begin_locked(pool, group, false);
    ms_unlock(&pool->lock);

    ms_clear_pages(piece_address(pool, &piece), piece.pages);

    ms_lock(&pool->lock);
    ms_slot_return_locked(pool, piece.slot, piece.first, piece.pages, NULL,
                          true);
    ms_pool_count_small_locked(pool, false, -(int64_t)piece.pages);
    ms_pool_count_small_locked(pool, true, piece.pages);
    pool->counts.scrubbed_pages += piece.pages;
    loan_end_locked(pool, group, false);
}

/* Clear dirty small pages of any claim. */
static void clear_claim_locked(MsPool *pool)
{
    uint32_t index = ms_claim_first_locked(pool, MS_LIST_DIRTY_FULL);

    if (index == MS_NO_SLOT) {
        index = ms_claim_first_locked(pool, MS_LIST_DIRTY_PART);
    }
    clear_small_locked(pool, ms_claim_group(pool, pool->slots[index].claim));
}

/* ---- breaking ---- */

/*
 * The page is marked first, then really split, by moving all of it to a small
 * slot: only after that may its pages be cleared (ms_touch_pages() says why).
 * A dirty one first, where there is one: marked pages are dirty anyway.
 */
bool ms_pool_break_locked(MsPool *pool, unsigned group)
{
    const MsSlotHead *lists = pool->group[group].lists;
    uint32_t from = lists[MS_LIST_HUGE_DIRTY].first;
    uint32_t to = MS_NO_SLOT;
    MsMoveResult moved;
    MsPageSet here, there;

    if (from == MS_NO_SLOT) {
        from = lists[MS_LIST_HUGE_CLEAN].first;
    }
    if (from != MS_NO_SLOT) {
        to = ms_slot_empty_small_locked(pool);
    }
    if (to == MS_NO_SLOT) {
        return false;
    }
    ms_slot_unlist_locked(pool, from);
    pool->slots[from].kind = MS_SLOT_OUT;
    ms_pageset_add(&pool->slots[to].busy, 0, FRAME_PAGES);
    pool->slots[to].claim = pool->slots[from].claim;
    ms_slot_sort_locked(pool, to);
    loan_begin_locked(pool, group, false);
    ms_unlock(&pool->lock);

    ms_pool_mark_pages(ms_slot_address(pool, from), FRAME_PAGES);
    /* In two parts: in one, the page would arrive huge in a new slot. */
    moved = ms_uffd_move(&pool->uffd, ms_slot_address(pool, to),
                         ms_slot_address(pool, from), 1, false);
    if (moved.moved_pages) {
        moved = ms_uffd_move(&pool->uffd,
                             ms_slot_address(pool, to) + MEMSCHED_PAGE_SIZE,
                             ms_slot_address(pool, from) + MEMSCHED_PAGE_SIZE,
                             FRAME_PAGES - 1, false);
        moved.moved_pages++;
    }

    ms_pageset_clear(&there);
    ms_pageset_add(&there, 0, moved.moved_pages);
    ms_pageset_fill(&here);
    ms_pageset_remove(&here, 0, moved.moved_pages);
    ms_lock(&pool->lock);
    ms_slot_break_locked(pool, from);
    pool->slots[from].present = here;
    ms_slot_sort_locked(pool, from);
    ms_slot_return_locked(pool, to, 0, FRAME_PAGES, &there, false);
    pool->counts.broken++;
    loan_end_locked(pool, group, false);
    return true;
}

void ms_pool_split(MsPool *pool, char *page)
{
    MsPageSet none;
    MsPoolRun run;

    if (ms_pool_capture_begin(pool, 1, false, &run) < 0) {
        return;
    }
    if (ms_uffd_move(&pool->uffd, run.address, page, 1, false).moved_pages) {
        ms_uffd_move(&pool->uffd, page, run.address, 1, false);
    }
    ms_pageset_clear(&none);
    ms_pool_capture_end(pool, &run, &none);
}

/* ---- remaking ---- */

static unsigned gather_locked(MsPool *pool, bool clean, Piece *pieces,
                              unsigned count, uint32_t *pages)
{
    while (*pages < FRAME_PAGES && count < MAX_PIECES &&
           borrow_locked(pool, 0, clean, FRAME_PAGES - *pages,
                         &pieces[count])) {
        *pages += pieces[count].pages;
        count++;
    }
    return count;
}

/* All pieces come back as they were, or (@gone) as empty positions. */
static void pieces_return_locked(MsPool *pool, const Piece *pieces,
                                 unsigned count, bool gone)
{
    MsPageSet none;

    ms_pageset_clear(&none);
    for (unsigned i = 0; i < count; i++) {
        const Piece *piece = &pieces[i];

        ms_slot_return_locked(pool, piece->slot, piece->first, piece->pages,
                              gone ? &none : NULL, piece->clean);
        if (gone) {
            ms_pool_count_small_locked(pool, piece->clean,
                                       -(int64_t)piece->pages);
        }
    }
}

/* One fresh huge page in an empty slot: true, or the slot is empty again. */
static bool fresh_huge(MsPool *pool, uint32_t slot, bool table)
{
    const MsSys *sys = pool->sys;
    char *address = ms_slot_address(pool, slot);

    if (table) {
        sys->madvise(sys, address, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
    }
    if (sys->madvise(sys, address, MEMSCHED_FRAME_SIZE,
                     MS_MADV_POPULATE_WRITE) == 0 &&
        ms_pagemap_is_huge(&pool->pagemap, address) == 1) {
        return true;
    }
    sys->madvise(sys, address, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
    return false;
}

/* The rest of a remake, once its pages are on loan and a slot is there. */
static void remake_borrowed_locked(MsPool *pool, const Piece *pieces,
                                   unsigned count, uint32_t index, bool table)
{
    MsSlot *slot = &pool->slots[index];
    bool done;

    loan_begin_locked(pool, 0, false);
    ms_unlock(&pool->lock);

    done = fresh_huge(pool, index, table);
    for (unsigned i = 0; done && i < count; i++) {
        pool->sys->madvise(pool->sys, piece_address(pool, &pieces[i]),
                           pieces[i].pages * MEMSCHED_PAGE_SIZE,
                           MADV_DONTNEED);
    }

    ms_lock(&pool->lock);
    pieces_return_locked(pool, pieces, count, done);
    if (done) {
        slot->kind = MS_SLOT_WHOLE;
        slot->clean_whole = true;
        ms_pool_count_huge_locked(pool, true, 1);
        pool->counts.remade++;
        pool->counts.scrubbed_pages += FRAME_PAGES;
        pool->remake_after_ns = 0;
    } else {
        slot->kind = MS_SLOT_SMALL;
        slot->table = true;
        pool->remake_after_ns = pool->sys->now_ns(pool->sys) +
                                REMAKE_PAUSE_NS;
    }
    ms_slot_sort_locked(pool, index);
    loan_end_locked(pool, 0, false);
}

/* Pages that are too scattered are left; the next piece clears them. */
static void remake_locked(MsPool *pool)
{
    Piece pieces[MAX_PIECES];
    uint32_t pages = 0, slot = MS_NO_SLOT;
    unsigned count;
    bool table = false;

    count = gather_locked(pool, false, pieces, 0, &pages);
    if (pool->small_clean > surplus_from_locked(pool)) {
        count = gather_locked(pool, true, pieces, count, &pages);
    }
    if (pages == FRAME_PAGES) {
        slot = ms_slot_empty_huge_locked(pool, &table);
    }
    if (slot == MS_NO_SLOT) {
        pieces_return_locked(pool, pieces, count, false);
        pool->remake_after_ns = pool->sys->now_ns(pool->sys) +
                                REMAKE_PAUSE_NS;
        return;
    }
    remake_borrowed_locked(pool, pieces, count, slot, table);
}

static void drop_table_locked(MsPool *pool)
{
    uint32_t index = ms_slot_first(pool, MS_LIST_HUGE_TABLE);
    MsSlot *slot = &pool->slots[index];

    ms_slot_unlist_locked(pool, index);
    slot->kind = MS_SLOT_OUT;
    loan_begin_locked(pool, 0, false);
    ms_unlock(&pool->lock);

    pool->sys->madvise(pool->sys, ms_slot_address(pool, index),
                       MEMSCHED_FRAME_SIZE, MADV_DONTNEED);

    ms_lock(&pool->lock);
    slot->kind = MS_SLOT_SMALL;
    slot->table = false;
    ms_slot_sort_locked(pool, index);
    loan_end_locked(pool, 0, false);
}

int ms_pool_work(MsPool *pool)
{
    Job job;

    ms_lock(&pool->lock);
    job = next_job_locked(pool);
    switch (job) {
    case JOB_NONE:
        break;
    case JOB_CLEAR_CLAIM_HUGE:
        clear_huge_locked(pool, ms_claim_first_locked(pool,
                                                      MS_LIST_HUGE_DIRTY));
        break;
    case JOB_CLEAR_CLAIM:
        clear_claim_locked(pool);
        break;
    case JOB_CLEAR_HUGE:
        clear_huge_locked(pool, ms_slot_first(pool, MS_LIST_HUGE_DIRTY));
        break;
    case JOB_RESERVE_CLEAR:
    case JOB_CLEAR_SMALL:
        clear_small_locked(pool, 0);
        break;
    case JOB_RESERVE_BREAK:
        ms_pool_break_locked(pool, 0);
        break;
    case JOB_REMAKE:
        remake_locked(pool);
        break;
    case JOB_DROP_TABLE:
        drop_table_locked(pool);
        break;
    }
    ms_unlock(&pool->lock);
    return job != JOB_NONE;
}

void ms_pool_work_changed_locked(MsPool *pool)
{
    /* No system call where the background is busy or awake already. */
    if (next_job_locked(pool) != JOB_NONE) {
        ms_cond_signal(&pool->work);
    }
}

void ms_pool_wait_work(MsPool *pool, uint64_t timeout_ns)
{
    ms_lock(&pool->lock);
    if (!pool->kicked && next_job_locked(pool) == JOB_NONE) {
        ms_cond_wait_ns(&pool->work, &pool->lock, timeout_ns);
    }
    pool->kicked = false;
    ms_unlock(&pool->lock);
}

void ms_pool_kick(MsPool *pool)
{
    ms_lock(&pool->lock);
    pool->kicked = true;
    ms_cond_signal(&pool->work);
    ms_unlock(&pool->lock);
}

void ms_pool_pause_work(MsPool *pool)
{
    ms_lock(&pool->lock);
    pool->paused++;
    while (pool->loans) {
        ms_cond_wait(&pool->returned, &pool->lock);
    }
    ms_unlock(&pool->lock);
}

void ms_pool_resume_work(MsPool *pool)
{
    ms_lock(&pool->lock);
    pool->paused--;
    ms_pool_work_changed_locked(pool);
    ms_unlock(&pool->lock);
}
