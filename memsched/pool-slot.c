/*
 * Slots of the pool: sets of pages, and lists of slots that can give some
 *
 * Pure bookkeeping: no system call, no lock taken (the caller holds the
 * pool's).  Each change of a slot ends in
 * ms_slot_sort_locked(), which puts it on the lists that its contents ask for,
 * so that every search below starts at the head of a list and looks at a
 * bounded number of slots.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool-int.h"

#include <assert.h>

/*
 * Slots looked at for a run of the wished length before the best so far is
 * good enough: 8 slots are 4 KiB of bitmaps, some 100 ns.
 */
#define MAX_LOOKS 8

/* A run at least this long is worth a slot that is still whole. */
#define LONG_RUN_PAGES 64

static void unlink_locked(MsPool *pool, uint32_t index, unsigned which)
{
    MsSlot *slot = &pool->slots[index];
    MsSlotLink *link = &slot->link[which];
    unsigned group;
    MsSlotHead *head;

    if (link->list == MS_LIST_NONE) {
        return;
    }
    group = ms_claim_group(pool, slot->claim);
    head = &pool->group[group].lists[link->list];
    if (link->prev == MS_NO_SLOT) {
        head->first = link->next;
    } else {
        pool->slots[link->prev].link[which].next = link->next;
    }
    if (link->next == MS_NO_SLOT) {
        head->last = link->prev;
    } else {
        pool->slots[link->next].link[which].prev = link->prev;
    }
    head->count--;
    pool->claimed[link->list] -= group != 0;
    link->list = MS_LIST_NONE;
}

static void link_locked(MsPool *pool, uint32_t index, unsigned which,
                        MsSlotList list)
{
    MsSlot *slot = &pool->slots[index];
    MsSlotLink *link = &slot->link[which];
    unsigned group;
    MsSlotHead *head;

    if (link->list == list) {
        return;
    }
    unlink_locked(pool, index, which);
    if (list == MS_LIST_NONE) {
        return;
    }
    group = ms_claim_group(pool, slot->claim);
    head = &pool->group[group].lists[list];
    link->list = list;
    link->prev = MS_NO_SLOT;
    link->next = head->first;
    if (head->first == MS_NO_SLOT) {
        head->last = index;
    } else {
        pool->slots[head->first].link[which].prev = index;
    }
    head->first = index;
    head->count++;
    pool->claimed[list] += group != 0;
}

void ms_slot_unlist_locked(MsPool *pool, uint32_t index)
{
    unlink_locked(pool, index, 0);
    unlink_locked(pool, index, 1);
}

static void sort_small_locked(MsPool *pool, uint32_t index)
{
    MsSlot *slot = &pool->slots[index];
    uint64_t any_clean = 0, all_clean = ~UINT64_C(0);
    uint64_t any_dirty = 0, all_dirty = ~UINT64_C(0);
    uint64_t busy = 0;
    MsSlotList rest = MS_LIST_NONE, dirty = MS_LIST_NONE;

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        uint64_t d = slot->present.word[w] & ~slot->clean.word[w];

        any_clean |= slot->clean.word[w];
        all_clean &= slot->clean.word[w];
        any_dirty |= d;
        all_dirty &= d;
        busy |= slot->busy.word[w];
    }
    if (any_dirty) {
        dirty = all_dirty == ~UINT64_C(0) ? MS_LIST_DIRTY_FULL
                                          : MS_LIST_DIRTY_PART;
    }
    if (any_clean) {
        rest = all_clean == ~UINT64_C(0) ? MS_LIST_CLEAN_FULL
                                         : MS_LIST_CLEAN_PART;
    } else if (!any_dirty && !busy) {
        if (slot->claim != MS_POOL_NO_CLAIM) {
            ms_slot_unlist_locked(pool, index);
            slot->claim = MS_POOL_NO_CLAIM;
        }
        if (!ms_slot_in_huge_zone(pool, index)) {
            rest = MS_LIST_SMALL_EMPTY;
        } else {
            rest = slot->table ? MS_LIST_HUGE_TABLE : MS_LIST_HUGE_EMPTY;
        }
    }
    link_locked(pool, index, 0, rest);
    link_locked(pool, index, 1, dirty);
}

void ms_slot_sort_locked(MsPool *pool, uint32_t index)
{
    const MsSlot *slot = &pool->slots[index];

    assert(ms_lock_held(&pool->lock));
    switch ((MsSlotKind)slot->kind) {
    case MS_SLOT_SMALL:
        sort_small_locked(pool, index);
        break;
    case MS_SLOT_WHOLE:
        link_locked(pool, index, 0, slot->clean_whole ? MS_LIST_HUGE_CLEAN
                                                      : MS_LIST_HUGE_DIRTY);
        break;
    case MS_SLOT_UNUSED:
    case MS_SLOT_OUT:
        ms_slot_unlist_locked(pool, index);
        break;
    }
}

static uint32_t zone_fresh(MsZone *zone)
{
    return zone->fresh < zone->end ? zone->fresh++ : MS_NO_SLOT;
}

uint32_t ms_slot_empty_huge_locked(MsPool *pool, bool *ret_table)
{
    uint32_t index = ms_slot_first(pool, MS_LIST_HUGE_EMPTY);

    *ret_table = false;
    if (index == MS_NO_SLOT) {
        index = zone_fresh(&pool->huge);
    }
    if (index == MS_NO_SLOT) {
        index = ms_slot_first(pool, MS_LIST_HUGE_TABLE);
        *ret_table = true;
    }
    if (index != MS_NO_SLOT) {
        ms_slot_unlist_locked(pool, index);
        pool->slots[index].kind = MS_SLOT_OUT;
        pool->slots[index].table = false;
    }
    return index;
}

uint32_t ms_slot_empty_small_locked(MsPool *pool)
{
    uint32_t index = ms_slot_first(pool, MS_LIST_SMALL_EMPTY);

    if (index == MS_NO_SLOT) {
        index = zone_fresh(&pool->small);
    }
    if (index != MS_NO_SLOT) {
        ms_slot_unlist_locked(pool, index);
        pool->slots[index].kind = MS_SLOT_SMALL;
        pool->slots[index].table = true;
    }
    return index;
}

void ms_slot_free_set(const MsSlot *slot, bool clean, MsPageSet *ret_set)
{
    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        ret_set->word[w] = clean ? slot->clean.word[w]
                                 : slot->present.word[w] &
                                   ~slot->clean.word[w];
    }
}

void ms_slot_lend_locked(MsPool *pool, uint32_t index, unsigned first,
                         unsigned pages)
{
    MsSlot *slot = &pool->slots[index];

    ms_pageset_remove(&slot->present, first, pages);
    ms_pageset_remove(&slot->clean, first, pages);
    ms_pageset_add(&slot->busy, first, pages);
    ms_slot_sort_locked(pool, index);
}

void ms_slot_return_locked(MsPool *pool, uint32_t index, unsigned first,
                           unsigned pages, const MsPageSet *present,
                           bool clean)
{
    MsSlot *slot = &pool->slots[index];
    unsigned at, count;

    ms_pageset_remove(&slot->busy, first, pages);
    if (!present) {
        ms_pageset_add(&slot->present, first, pages);
        if (clean) {
            ms_pageset_add(&slot->clean, first, pages);
        }
    } else {
        for (unsigned p = 0; ms_pageset_run(present, p, &at, &count) &&
             at < pages; p = at + count) {
            count = at + count > pages ? pages - at : count;
            ms_pageset_add(&slot->present, first + at, count);
            if (clean) {
                ms_pageset_add(&slot->clean, first + at, count);
            }
        }
    }
    ms_slot_sort_locked(pool, index);
}

void ms_pool_count_small_locked(MsPool *pool, bool clean, int64_t pages)
{
    if (clean) {
        pool->counts.free_clean_pages += pages;
        pool->small_clean += pages;
    } else {
        pool->counts.free_dirty_pages += pages;
        pool->small_dirty += pages;
    }
}

void ms_pool_count_huge_locked(MsPool *pool, bool clean, int sign)
{
    int64_t pages = sign * (int64_t)MEMSCHED_PAGES_PER_FRAME;

    pool->counts.huge_free += sign;
    if (clean) {
        pool->counts.free_clean_pages += pages;
        pool->counts.huge_clean += sign;
    } else {
        pool->counts.free_dirty_pages += pages;
    }
}

/* The longest run of one list's first slots, if longer than @best. */
static unsigned find_in_list(MsPool *pool, const MsSlotHead *head, bool clean,
                             unsigned want, unsigned best,
                             uint32_t *ret_slot, unsigned *ret_first)
{
    uint32_t index = head->first;

    for (unsigned look = 0; look < MAX_LOOKS && index != MS_NO_SLOT &&
         best < want; look++) {
        unsigned first = 0, n;
        MsPageSet set;

        ms_slot_free_set(&pool->slots[index], clean, &set);
        n = ms_pageset_find(&set, want, &first);
        if (n > best) {
            best = n;
            *ret_slot = index;
            *ret_first = first;
        }
        index = pool->slots[index].link[!clean].next;
    }
    return best;
}

unsigned ms_slot_find_run_locked(MsPool *pool, unsigned group, bool clean,
                                 unsigned want, uint32_t *ret_slot,
                                 unsigned *ret_first)
{
    const MsSlotHead *lists = pool->group[group].lists;
    const MsSlotHead *full = &lists[clean ? MS_LIST_CLEAN_FULL
                                          : MS_LIST_DIRTY_FULL];
    const MsSlotHead *part = &lists[clean ? MS_LIST_CLEAN_PART
                                          : MS_LIST_DIRTY_PART];
    bool whole_first = want >= LONG_RUN_PAGES;
    unsigned best;

    best = find_in_list(pool, whole_first ? full : part, clean, want, 0,
                        ret_slot, ret_first);
    if (best < want) {
        /* Short runs out of broken slots before a whole one is broken. */
        if (!whole_first && best * 4 >= want) {
            return best;
        }
        best = find_in_list(pool, whole_first ? part : full, clean, want, best,
                            ret_slot, ret_first);
    }
    return best;
}

void ms_slot_break_locked(MsPool *pool, uint32_t index)
{
    MsSlot *slot = &pool->slots[index];

    ms_slot_unlist_locked(pool, index);
    ms_pool_count_huge_locked(pool, slot->clean_whole, -1);
    ms_pool_count_small_locked(pool, false, MEMSCHED_PAGES_PER_FRAME);
    slot->kind = MS_SLOT_SMALL;
    slot->table = true;
    ms_pageset_fill(&slot->present);
    ms_slot_sort_locked(pool, index);
}

void ms_pool_mark_pages(char *address, uint32_t pages)
{
    for (uint32_t i = 0; i < pages; i++) {
        /* volatile: must happen here, before the page is split */
        *(volatile uint64_t *)(address + i * MEMSCHED_PAGE_SIZE) = 1;
    }
}
