/*
 * Recount of the pool, from the bottom
 *
 * Two passes.  The first, under one hold of the lock, walks all slots and all
 * lists in memory and compares sums with counters: about 50 ns a slot.  The
 * second asks the kernel about each slot in turn, holding the lock for that
 * slot only (3 to 11 us): a position that is not out changes under the lock
 * alone, so what it finds there is exact; positions that are out are left out.
 *
 * Background work is paused meanwhile.  Nothing is repaired.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "pool-int.h"

typedef struct Sums {
    uint64_t small_clean, small_dirty;
    uint64_t huge_clean, huge_dirty;
    uint32_t listed[1 + MS_POOL_CLAIMS][MS_LISTS];
} Sums;

static int __attribute__((format(printf, 2, 3)))
differs(MemSchedMessage *message, const char *format, ...)
{
    va_list ap;

    if (message) {
        va_start(ap, format);
        vsnprintf(message->text, sizeof(message->text), format, ap);
        va_end(ap);
    }
    return -EUCLEAN;
}

static bool slot_used(const MsPool *pool, uint32_t i)
{
    return ms_slot_in_huge_zone(pool, i) ? i < pool->huge.fresh
                                         : i < pool->small.fresh;
}

static int check_small_sets(const MsSlot *slot, uint32_t index, Sums *sums,
                            MemSchedMessage *message)
{
    unsigned present = ms_pageset_count(&slot->present);
    unsigned clean = ms_pageset_count(&slot->clean);

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        if (slot->clean.word[w] & ~slot->present.word[w]) {
            return differs(message, "pool slot %u: clean page that is not "
                           "there", index);
        }
        if (slot->busy.word[w] & slot->present.word[w]) {
            return differs(message, "pool slot %u: page both free and out",
                           index);
        }
    }
    sums->small_clean += clean;
    sums->small_dirty += present - clean;
    return 0;
}

/* The lists that a slot should be on, worked out independently of sorting. */
static int check_membership(const MsPool *pool, uint32_t index,
                            MemSchedMessage *message)
{
    const MsSlot *slot = &pool->slots[index];
    unsigned clean = ms_pageset_count(&slot->clean);
    unsigned dirty = ms_pageset_count(&slot->present) - clean;
    MsSlotList rest = MS_LIST_NONE, want_dirty = MS_LIST_NONE;

    if (slot->kind == MS_SLOT_WHOLE) {
        rest = slot->clean_whole ? MS_LIST_HUGE_CLEAN : MS_LIST_HUGE_DIRTY;
    } else if (slot->kind == MS_SLOT_SMALL) {
        if (dirty) {
            want_dirty = dirty == MS_PAGESET_PAGES ? MS_LIST_DIRTY_FULL
                                                   : MS_LIST_DIRTY_PART;
        }
        if (clean) {
            rest = clean == MS_PAGESET_PAGES ? MS_LIST_CLEAN_FULL
                                             : MS_LIST_CLEAN_PART;
        } else if (!dirty && ms_pageset_empty(&slot->busy)) {
            rest = !ms_slot_in_huge_zone(pool, index) ? MS_LIST_SMALL_EMPTY :
                   slot->table ? MS_LIST_HUGE_TABLE : MS_LIST_HUGE_EMPTY;
        }
    }
    if (slot->link[0].list != rest || slot->link[1].list != want_dirty) {
        return differs(message, "pool slot %u: on lists %d and %d, should be "
                       "on %d and %d", index, slot->link[0].list,
                       slot->link[1].list, rest, want_dirty);
    }
    return 0;
}

static int check_slots_locked(MsPool *pool, Sums *sums,
                              MemSchedMessage *message)
{
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        const MsSlot *slot = &pool->slots[i];
        unsigned group;
        int rc = 0;

        if (!slot_used(pool, i)) {
            /* Not looked at: that would touch memory for nothing. */
            i = i < pool->huge.end ? pool->huge.end - 1 : pool->slot_count - 1;
            continue;
        }
        if (slot->kind == MS_SLOT_WHOLE) {
            if (slot->clean_whole) {
                sums->huge_clean++;
            } else {
                sums->huge_dirty++;
            }
        } else if (slot->kind == MS_SLOT_SMALL) {
            rc = check_small_sets(slot, i, sums, message);
        }
        if (rc == 0) {
            rc = check_membership(pool, i, message);
        }
        if (rc < 0) {
            return rc;
        }
        group = ms_claim_group(pool, slot->claim);
        sums->listed[group][slot->link[0].list]++;
        sums->listed[group][slot->link[1].list]++;
    }
    return 0;
}

static int check_group_locked(const MsPool *pool, unsigned group,
                              const Sums *sums, MemSchedMessage *message)
{
    for (unsigned list = MS_LIST_NONE + 1; list < MS_LISTS; list++) {
        const MsSlotHead *head = &pool->group[group].lists[list];
        unsigned which = list >= MS_LIST_DIRTY_FULL;
        uint32_t n = 0, prev = MS_NO_SLOT;

        for (uint32_t i = head->first; i != MS_NO_SLOT;
             i = pool->slots[i].link[which].next) {
            const MsSlotLink *link = &pool->slots[i].link[which];

            if (link->list != list || link->prev != prev ||
                n++ > pool->slot_count) {
                return differs(message, "pool list %u is broken at slot %u",
                               list, i);
            }
            prev = i;
        }
        if (n != head->count || n != sums->listed[group][list] ||
            head->last != prev) {
            return differs(message, "pool list %u of claim %u: %u slots, "
                           "counted as %u, %u say that they are on it", list,
                           group, n, head->count, sums->listed[group][list]);
        }
    }
    return 0;
}

static int check_lists_locked(const MsPool *pool, const Sums *sums,
                              MemSchedMessage *message)
{
    uint32_t claimed[MS_LISTS] = { 0 };
    int rc = 0;

    for (unsigned g = 0; g <= MS_POOL_CLAIMS && rc == 0; g++) {
        for (unsigned list = 0; g && list < MS_LISTS; list++) {
            claimed[list] += pool->group[g].lists[list].count;
        }
        rc = check_group_locked(pool, g, sums, message);
    }
    for (unsigned list = 0; list < MS_LISTS && rc == 0; list++) {
        if (claimed[list] != pool->claimed[list]) {
            rc = differs(message, "pool list %u: %u slots are claimed, "
                         "counted as %u", list, claimed[list],
                         pool->claimed[list]);
        }
    }
    return rc;
}

static int check_sums_locked(MsPool *pool, const Sums *s,
                             MemSchedMessage *message)
{
    const MsPoolCounts *c = &pool->counts;
    uint64_t clean = s->small_clean +
                     s->huge_clean * MEMSCHED_PAGES_PER_FRAME;
    uint64_t dirty = s->small_dirty +
                     s->huge_dirty * MEMSCHED_PAGES_PER_FRAME;

    if (clean != c->free_clean_pages || dirty != c->free_dirty_pages) {
        return differs(message, "pool: %" PRIu64 " clean and %" PRIu64
                       " dirty pages free, %" PRIu64 " and %" PRIu64
                       " by the counters", clean, dirty, c->free_clean_pages,
                       c->free_dirty_pages);
    }
    if (s->huge_clean != c->huge_clean ||
        s->huge_clean + s->huge_dirty != c->huge_free ||
        s->small_clean != pool->small_clean ||
        s->small_dirty != pool->small_dirty) {
        return differs(message, "pool: shares of huge (%" PRIu64 " of %" PRIu64
                       ") or small pages differ from the counters",
                       s->huge_clean + s->huge_dirty, c->huge_free);
    }
    return 0;
}

static int check_memory(MsPool *pool, MemSchedMessage *message)
{
    Sums sums = { 0 };
    int rc;

    ms_lock(&pool->lock);
    rc = check_slots_locked(pool, &sums, message);
    if (rc == 0) {
        rc = check_lists_locked(pool, &sums, message);
    }
    if (rc == 0) {
        rc = check_sums_locked(pool, &sums, message);
    }
    ms_unlock(&pool->lock);
    return rc;
}

static int check_kernel_slot_locked(MsPool *pool, uint32_t index,
                                    MemSchedMessage *message)
{
    const MsSlot *slot = &pool->slots[index];
    char *address = ms_slot_address(pool, index);
    MsPageSet there;
    int rc;

    if (slot->kind == MS_SLOT_WHOLE) {
        rc = ms_pagemap_is_huge(&pool->pagemap, address);
        if (rc != 1) {
            return rc < 0 ? rc : differs(message, "pool slot %u should be one "
                                         "huge page and is not", index);
        }
        return 0;
    }
    if (slot->kind != MS_SLOT_SMALL) {
        return 0;
    }
    rc = ms_pagemap_frame(&pool->pagemap, address, &there);
    if (rc < 0) {
        return rc;
    }
    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        uint64_t diff = (there.word[w] ^ slot->present.word[w]) &
                        ~slot->busy.word[w];

        if (diff) {
            unsigned page = w * 64 + __builtin_ctzll(diff);

            return differs(message, "pool slot %u page %u: %s by our map, %s "
                           "by the kernel", index, page,
                           ms_pageset_has(&slot->present, page) ? "there"
                                                                : "empty",
                           ms_pageset_has(&there, page) ? "there" : "empty");
        }
    }
    return 0;
}

static int check_kernel(MsPool *pool, MemSchedMessage *message)
{
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        bool used;
        int rc = 0;

        ms_lock(&pool->lock);
        used = slot_used(pool, i);
        if (used) {
            rc = check_kernel_slot_locked(pool, i, message);
        }
        ms_unlock(&pool->lock);
        if (rc == -ENOTTY) {
            /* Before Linux 6.7 the kernel cannot be asked. */
            return 0;
        }
        if (rc < 0) {
            if (rc != -EUCLEAN) {
                differs(message, "pool: the kernel's page map cannot be read "
                        "(error %d)", -rc);
            }
            return -EUCLEAN;
        }
        if (!used) {
            i = i < pool->huge.end ? pool->huge.end - 1 : pool->slot_count - 1;
        }
    }
    return 0;
}

int ms_pool_check(MsPool *pool, MemSchedMessage *ret_message)
{
    int rc;

    ms_pool_pause_work(pool);
    rc = check_memory(pool, ret_message);
    if (rc == 0) {
        rc = check_kernel(pool, ret_message);
    }
    ms_pool_resume_work(pool);
    return rc;
}
