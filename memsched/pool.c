/*
 * The pool: taking pages out of it and putting pages in
 *
 * Runs of pages go out and come back here.  pool-take.c chooses what to take,
 * pool-arena.c made the arena, pool-slot.c keeps the books of its slots,
 * pool-claim.c knows for whom pages were captured, pool-work.c clears and
 * remakes behind, pool-check.c recounts.
 *
 * Invariants, under the lock:
 *   - a position is free (present), out (busy), or empty: never two of these;
 *   - counts.free_* are the sums over all slots, plus what is on loan to
 *     background work;
 *   - a slot on MS_LIST_HUGE_EMPTY has no page table.
 *
 * Threads: any.  One lock; never held over a system call, a clearing or a
 * move (positions that are out belong to their owner, that is enough).
 *
 * Not here: who may have pages (the ledger says so before), page states of
 * guests, DMA fences.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#include "pool-int.h"
#include "scrub.h"
#include "torn.h"

/* A run at least this long gets a slot of its own if no open one fits. */
#define LONG_RUN_PAGES 64

/* Slots looked at for room before a new one is opened. */
#define MAX_ROOM_LOOKS 8

const MsUffd *ms_pool_uffd(const MsPool *pool)
{
    return &pool->uffd;
}

const MsPagemap *ms_pool_pagemap(const MsPool *pool)
{
    return &pool->pagemap;
}

static bool is_full(const MsPageSet *set, unsigned pages)
{
    return !set || ms_pageset_next_gap(set, 0) >= pages;
}

/* ---- Guest to pool ---- */

/* The longest room for up to @want pages in a slot: its length. */
static unsigned slot_room(const MsSlot *slot, unsigned want,
                          unsigned *ret_first)
{
    MsPageSet room;

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        room.word[w] = ~(slot->present.word[w] | slot->busy.word[w]);
    }
    return ms_pageset_find(&room, want, ret_first);
}

static bool room_fits_locked(MsPool *pool, uint32_t slot, unsigned pages,
                             unsigned *ret_first)
{
    return slot != MS_NO_SLOT && pool->slots[slot].kind == MS_SLOT_SMALL &&
           slot_room(&pool->slots[slot], pages, ret_first) == pages;
}

/*
 * No empty slot is left: the best room there is in the small zone.  Walks all
 * of it; fragmentation has to be extreme to get here.
 */
static unsigned best_room_locked(MsPool *pool, unsigned pages,
                                 uint32_t *ret_slot, unsigned *ret_first)
{
    unsigned best = 0, first;

    for (uint32_t i = pool->small.first; i < pool->small.fresh &&
         best < pages; i++) {
        unsigned n = slot_room(&pool->slots[i], pages, &first);

        if (n > best) {
            best = n;
            *ret_slot = i;
            *ret_first = first;
        }
    }
    return best;
}

/*
 * Where a small run of @pages goes, beside others of its claim: the length that
 * fits, 0 for none.
 */
static unsigned find_room_locked(MsPool *pool, MsPoolClaim claim,
                                 unsigned pages, uint32_t *ret_slot,
                                 unsigned *ret_first)
{
    MsGroup *group = &pool->group[ms_claim_group(pool, claim)];
    uint32_t slot = group->open_slot;

    if (room_fits_locked(pool, slot, pages, ret_first) &&
        &pool->group[ms_claim_group(pool, pool->slots[slot].claim)] == group) {
        *ret_slot = slot;
        return pages;
    }
    if (pages < LONG_RUN_PAGES) {
        slot = group->lists[MS_LIST_DIRTY_PART].first;
        for (unsigned i = 0; i < MAX_ROOM_LOOKS && slot != MS_NO_SLOT; i++) {
            if (!ms_slot_in_huge_zone(pool, slot) &&
                room_fits_locked(pool, slot, pages, ret_first)) {
                *ret_slot = slot;
                return pages;
            }
            slot = pool->slots[slot].link[1].next;
        }
    }
    slot = ms_slot_empty_small_locked(pool);
    if (slot != MS_NO_SLOT) {
        pool->slots[slot].claim = claim;
        group->open_slot = slot;
        *ret_slot = slot;
        *ret_first = 0;
        return pages;
    }
    return best_room_locked(pool, pages, ret_slot, ret_first);
}

static int capture_begin_huge(MsPool *pool, MsPoolClaim claim,
                              MsPoolRun *ret_run)
{
    uint32_t slot;
    bool table;

    ms_lock(&pool->lock);
    slot = ms_slot_empty_huge_locked(pool, &table);
    if (slot != MS_NO_SLOT) {
        pool->slots[slot].claim = claim;
        pool->counts.capture_pages += MEMSCHED_PAGES_PER_FRAME;
    }
    ms_unlock(&pool->lock);
    if (slot == MS_NO_SLOT) {
        return -ENOMEM;
    }
    if (table) {
        /* Empty by our own sets, and ours alone: only its table goes. */
        pool->sys->madvise(pool->sys, ms_slot_address(pool, slot),
                           MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
    }
    *ret_run = (MsPoolRun) {
        .address = ms_slot_address(pool, slot),
        .pages = MEMSCHED_PAGES_PER_FRAME,
        .slot = slot,
        .huge = true,
        .capture = true,
    };
    return 0;
}

int ms_pool_capture_begin(MsPool *pool, uint32_t pages, bool huge,
                          MsPoolRun *ret_run)
{
    return ms_pool_capture_begin_for(pool, MS_POOL_NO_CLAIM, pages, huge,
                                     ret_run);
}

int ms_pool_capture_begin_for(MsPool *pool, MsPoolClaim claim,
                              uint32_t pages, bool huge, MsPoolRun *ret_run)
{
    uint32_t slot = MS_NO_SLOT;
    unsigned first = 0, n;

    assert(pages >= 1 && pages <= MEMSCHED_PAGES_PER_FRAME);
    if (huge) {
        return capture_begin_huge(pool, claim, ret_run);
    }
    ms_lock(&pool->lock);
    n = find_room_locked(pool, claim, pages, &slot, &first);
    if (n) {
        ms_pageset_add(&pool->slots[slot].busy, first, n);
        ms_slot_sort_locked(pool, slot);
        pool->counts.capture_pages += n;
    }
    ms_unlock(&pool->lock);
    if (!n) {
        return -ENOMEM;
    }
    *ret_run = (MsPoolRun) {
        .address = ms_slot_address(pool, slot) + first * MEMSCHED_PAGE_SIZE,
        .pages = n,
        .slot = slot,
        .first = first,
        .capture = true,
    };
    return 0;
}

static void note_split(MsPool *pool, MsPoolRun *run)
{
    run->huge = false;
    ms_lock(&pool->lock);
    pool->counts.splits++;
    ms_unlock(&pool->lock);
}

MsMoveResult ms_pool_move_in(MsPool *pool, MsPoolRun *run, uint32_t first,
                             void *src, uint32_t pages)
{
    MsMoveResult result;

    assert(first + pages <= run->pages);
    result = ms_uffd_move(&pool->uffd, run->address +
                          first * MEMSCHED_PAGE_SIZE, src, pages, false);
    if (run->huge && result.moved_pages &&
        ms_pagemap_is_huge(&pool->pagemap, run->address) != 1) {
        /* The source may have been one until now: see ms_touch_pages(). */
        ms_touch_pages(run->address + first * MEMSCHED_PAGE_SIZE,
                       result.moved_pages);
        /* Or the kernel was migrating it: the touch has waited for that. */
        if (ms_pagemap_is_huge(&pool->pagemap, run->address) != 1) {
            note_split(pool, run);
        }
    } else if (!run->huge && result.moved_pages == MEMSCHED_PAGES_PER_FRAME &&
               ms_pagemap_is_huge(&pool->pagemap, run->address) == 1) {
        /* It was a huge page after all, and found no table here: fine. */
        run->huge = true;
    }
    return result;
}

static void end_huge_locked(MsPool *pool, MsPoolRun *run,
                            const MsPageSet *present, bool clean, bool table)
{
    MsSlot *slot = &pool->slots[run->slot];

    ms_pageset_clear(&slot->busy);      /* all of it, in a small slot */
    if (run->huge && is_full(present, run->pages)) {
        slot->kind = MS_SLOT_WHOLE;
        slot->clean_whole = clean;
        ms_pool_count_huge_locked(pool, clean, 1);
    } else {
        slot->kind = MS_SLOT_SMALL;
        slot->table = table;
        if (present) {
            slot->present = *present;
        } else {
            ms_pageset_fill(&slot->present);
        }
        if (clean) {
            slot->clean = slot->present;
        }
        ms_pool_count_small_locked(pool, clean,
                                   ms_pageset_count(&slot->present));
    }
    ms_slot_sort_locked(pool, run->slot);
}

static void end_small_locked(MsPool *pool, MsPoolRun *run,
                             const MsPageSet *present, bool clean)
{
    unsigned n = present ? ms_pageset_count(present) : run->pages;

    ms_slot_return_locked(pool, run->slot, run->first, run->pages, present,
                          clean);
    ms_pool_count_small_locked(pool, clean, n);
}

void ms_pool_capture_end(MsPool *pool, MsPoolRun *run,
                         const MsPageSet *arrived)
{
    assert(run->capture && run->pages);
    assert(!arrived || run->pages == MS_PAGESET_PAGES ||
           ms_pageset_next(arrived, run->pages) == MS_PAGESET_PAGES);
    ms_lock(&pool->lock);
    pool->counts.capture_pages -= run->pages;
    if (run->huge || pool->slots[run->slot].kind == MS_SLOT_OUT) {
        /* Whatever happened to pages that did not stay may leave a table. */
        end_huge_locked(pool, run, arrived, false, true);
    } else {
        end_small_locked(pool, run, arrived, false);
    }
    ms_pool_work_changed_locked(pool);
    ms_unlock(&pool->lock);
    run->pages = 0;
}

/* ---- Pool to guest (what to take: pool-take.c) ---- */

/*
 * A huge page was split on its way out, or found its destination taken after
 * the kernel had split its mapping.  What was zero may have lost its frame
 * (ms_touch_pages()): give it back one, there and here.  What is still here is
 * marked, and split for good where that is still to come.
 */
static void repair_split(MsPool *pool, MsPoolRun *run, void *dst,
                         uint64_t moved)
{
    const void *where = moved ? dst : run->address;

    ms_touch_pages(dst, moved);
    ms_pool_mark_pages(run->address + moved * MEMSCHED_PAGE_SIZE,
                       run->pages - moved);
    run->clean = run->clean && moved == run->pages;
    if (ms_pagemap_is_huge(&pool->pagemap, where) == 1) {
        /* The kernel was migrating it: the touch has waited for that. */
        return;
    }
    if (!moved) {
        ms_pool_split(pool, run->address);
    }
    note_split(pool, run);
}

MsMoveResult ms_pool_move_out(MsPool *pool, MsPoolRun *run, uint32_t first,
                              const MsUffd *uffd, void *dst, uint32_t pages,
                              bool wake)
{
    const void *where = dst;
    MsMoveResult result;

    assert(first + pages <= run->pages);
    assert(!run->huge || pages == run->pages);
    result = ms_uffd_move(uffd, dst, run->address +
                          first * MEMSCHED_PAGE_SIZE, pages, wake);
    if (run->huge) {
        if (!result.moved_pages) {
            where = run->address;
        }
        if (ms_pagemap_is_huge(&pool->pagemap, where) != 1) {
            repair_split(pool, run, dst, result.moved_pages);
        }
    }
    return result;
}

void ms_pool_take_end(MsPool *pool, MsPoolRun *run, const MsPageSet *left,
                      bool dirtied)
{
    bool clean = run->clean && !dirtied;
    bool all_left = is_full(left, run->pages);
    MsPageSet stayed;

    assert(!run->capture && run->pages);
    ms_pageset_clear(&stayed);
    if (!all_left) {
        ms_pageset_add(&stayed, 0, run->pages);
        for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
            stayed.word[w] &= ~left->word[w];
        }
    }
    ms_lock(&pool->lock);
    pool->counts.taken_pages -= run->pages;
    if (pool->slots[run->slot].kind == MS_SLOT_OUT) {
        /* A huge page that left as one takes its table along. */
        end_huge_locked(pool, run, &stayed, clean, !(all_left && run->huge));
    } else {
        end_small_locked(pool, run, &stayed, clean);
    }
    ms_pool_work_changed_locked(pool);
    ms_unlock(&pool->lock);
    run->pages = 0;
}

/* ---- Without moves ---- */

int ms_pool_fill(MsPool *pool, MsPoolRun *run, uint32_t first, uint32_t pages)
{
    int rc;

    assert(first + pages <= run->pages);
    rc = ms_pool_populate(pool, run->address + first * MEMSCHED_PAGE_SIZE,
                          pages * MEMSCHED_PAGE_SIZE);
    if (rc == 0 && run->huge &&
        ms_pagemap_is_huge(&pool->pagemap, run->address) != 1) {
        run->huge = false;
    }
    return rc == -EFAULT ? -ENOMEM : rc;
}

int ms_pool_discard(MsPool *pool, MsPoolRun *run, uint32_t first,
                    uint32_t pages)
{
    bool torn = run->huge && pages < run->pages;
    MsPageSet lost;
    int ret;

    assert(first + pages <= run->pages);
    ret = pool->sys->madvise(pool->sys, run->address +
                             first * MEMSCHED_PAGE_SIZE,
                             pages * MEMSCHED_PAGE_SIZE, MADV_DONTNEED);
    if (torn) {
        run->huge = false;
        ms_torn_split(&pool->pagemap, run->address, first ? 0 : pages, &lost);
        ms_torn_touch(run->address, &lost);
    }
    return ret;
}

void ms_pool_counts(MsPool *pool, MsPoolCounts *ret_counts)
{
    ms_lock(&pool->lock);
    *ret_counts = pool->counts;
    ms_unlock(&pool->lock);
}
