/*
 * Inside of the pool, shared by the pool-*.c files only
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_POOL_INT_H
#define MEMSCHED_POOL_INT_H

#include "lock.h"
#include "pool.h"

#define MS_NO_SLOT UINT32_MAX

/* What a slot holds as a whole. */
typedef enum MsSlotKind {
    MS_SLOT_UNUSED,             /* never used, no page table */
    MS_SLOT_SMALL,              /* the bitmaps say what */
    MS_SLOT_WHOLE,              /* one free huge page, in whichever zone;
                                   bitmaps empty */
    MS_SLOT_OUT,                /* a huge run is out; bitmaps empty */
} MsSlotKind;

/*
 * Lists of slots that have something to give.  A slot is on at most one list
 * of each of two kinds: those for dirty small pages (from MS_LIST_DIRTY_FULL
 * on), and all others.  The first slot of a list always has at least one page
 * of what the list names.
 */
typedef enum MsSlotList {
    MS_LIST_NONE,
    MS_LIST_HUGE_CLEAN,         /* WHOLE */
    MS_LIST_HUGE_DIRTY,
    MS_LIST_HUGE_EMPTY,         /* huge zone, empty, no page table */
    MS_LIST_HUGE_TABLE,         /* huge zone, empty, may have a page table */
    MS_LIST_SMALL_EMPTY,        /* small zone, empty */
    MS_LIST_CLEAN_FULL,         /* 512 free clean pages */
    MS_LIST_CLEAN_PART,         /* fewer */
    MS_LIST_DIRTY_FULL,         /* 512 free dirty pages */
    MS_LIST_DIRTY_PART,
    MS_LISTS
} MsSlotList;

#define MS_LINKS 2

typedef struct MsSlotLink {
    uint32_t next, prev;
    uint8_t list;               /* MsSlotList */
} MsSlotLink;

/*
 * One 2 MiB slot.  Sets are exact where kind is SMALL:
 *     free pages = present and not busy;  clean is a subset of present.
 * busy positions belong to a run (or to background work) and only its owner
 * knows what is there; their present and clean bits are clear.
 */
typedef struct MsSlot {
    MsPageSet present;
    MsPageSet clean;
    MsPageSet busy;
    MsSlotLink link[MS_LINKS];  /* 1: dirty small pages; 0: the rest */
    MsPoolClaim claim;          /* for whom its pages were captured */
    uint8_t kind;               /* MsSlotKind */
    bool clean_whole;           /* WHOLE: all zero */
    bool table;                 /* a page table may be there */
} MsSlot;

typedef struct MsSlotHead {
    uint32_t first, last;
    uint32_t count;
} MsSlotHead;

/*
 * Free pages of one claim, or (group 0) everybody's.  A slot whose claim was
 * closed belongs to group 0, whatever its name says.
 */
typedef struct MsGroup {
    MsSlotHead lists[MS_LISTS];
    uint32_t open_slot;         /* small captures go here while they fit */
    uint32_t loans;             /* of its pages */
    uint32_t serial;            /* of the claim: a name is used once */
    bool open;
} MsGroup;

/* A part of the arena that is advised one way: slots [first, end). */
typedef struct MsZone {
    uint32_t first, end;
    uint32_t fresh;             /* slots from here on were never used */
} MsZone;

struct MsPool {
    const MsSys *sys;
    MsUffd uffd;
    MsPagemap pagemap;
    char *arena;                /* aligned; slot i at arena + i * 2 MiB */
    void *map;                  /* what was mapped, for munmap */
    size_t map_bytes;
    MsSlot *slots;
    size_t slots_bytes;
    uint32_t slot_count;
    uint64_t pages;             /* size of the pool; immutable */
    uint32_t reserve_pages;     /* small clean pages kept ready */

    MsLock lock;                /* guards everything below */
    MsZone huge, small;
    MsGroup group[1 + MS_POOL_CLAIMS];
    uint32_t claimed[MS_LISTS]; /* slots on lists of claims */
    MsPoolCounts counts;
    uint64_t small_clean;       /* part of free_clean: in small slots */
    uint64_t small_dirty;

    uint32_t loans;             /* pieces of background work under way */
    uint32_t huge_loans;        /* those that bring a huge page back soon */
    uint32_t paused;            /* ms_pool_pause_work() in force */
    uint32_t waiters;           /* takes that wait for a loan to come back */
    bool kicked;
    uint64_t demand_pages;      /* small pages taken lately, fading */
    uint64_t demand_ns;         /* when it faded last */
    uint64_t remake_after_ns;   /* no huge page was to be had: not before */
    MsCond returned;            /* a loan came back */
    MsCond work;                /* there may be work */
};

static inline char *ms_slot_address(const MsPool *pool, uint32_t slot)
{
    return pool->arena + ((uint64_t)slot << MEMSCHED_FRAME_SHIFT);
}

static inline bool ms_slot_in_huge_zone(const MsPool *pool, uint32_t slot)
{
    return slot < pool->huge.end;
}

/* ---- pool-arena.c ---- */

/*
 * Fault pages in for writing: the kernel's zero page must never be there.
 * -ENOMEM, -EFAULT.
 */
int ms_pool_populate(const MsPool *pool, char *address, uint64_t bytes);

/* ---- pool-slot.c: lists and sets; the pool's lock is held ---- */

/* Put the slot on the lists that its contents ask for; empty: no claim's. */
void ms_slot_sort_locked(MsPool *pool, uint32_t slot);

/* Take it off its lists. */
void ms_slot_unlist_locked(MsPool *pool, uint32_t slot);

/* The first of a list of everybody's, or MS_NO_SLOT. */
static inline uint32_t ms_slot_first(const MsPool *pool, MsSlotList list)
{
    return pool->group[0].lists[list].first;
}

static inline uint32_t ms_slot_listed(const MsPool *pool, MsSlotList list)
{
    return pool->group[0].lists[list].count;
}

/*
 * An empty slot of the huge zone, off every list, kind OUT; or MS_NO_SLOT.
 * *ret_table: the caller clears its page table before it is used.
 */
uint32_t ms_slot_empty_huge_locked(MsPool *pool, bool *ret_table);

/* An empty slot of the small zone, off every list, kind SMALL. */
uint32_t ms_slot_empty_small_locked(MsPool *pool);

/* Pages of a small slot that are free and clean, or free and dirty. */
void ms_slot_free_set(const MsSlot *slot, bool clean, MsPageSet *ret_set);

/*
 * Turn free pages [first, first + pages), all clean or all dirty, into busy
 * ones and sort the slot anew.  Counters of free pages are the caller's.
 */
void ms_slot_lend_locked(MsPool *pool, uint32_t slot, unsigned first,
                         unsigned pages);

/* Busy positions come back: those in @present as free pages. */
void ms_slot_return_locked(MsPool *pool, uint32_t slot, unsigned first,
                           unsigned pages, const MsPageSet *present,
                           bool clean);

/* free_clean or free_dirty, and the small share of it, by @pages. */
void ms_pool_count_small_locked(MsPool *pool, bool clean, int64_t pages);

/* The same for one huge page: @sign is 1 or -1. */
void ms_pool_count_huge_locked(MsPool *pool, bool clean, int sign);

/*
 * Find a run of up to @want free small pages of a group, clean or dirty.
 * Looks at a bounded number of slots.  Its length, 0 where there is none.
 */
unsigned ms_slot_find_run_locked(MsPool *pool, unsigned group, bool clean,
                                 unsigned want, uint32_t *ret_slot,
                                 unsigned *ret_first);

/* The books of a whole slot that has been broken: small, dirty pages. */
void ms_slot_break_locked(MsPool *pool, uint32_t slot);

/* Write something into each page of a slot, or a run: none is zero then. */
void ms_pool_mark_pages(char *address, uint32_t pages);

/* ---- pool-claim.c ---- */

/* The group of a claim's pages: 0 for none, and for one that was closed. */
static inline unsigned ms_claim_group(const MsPool *pool, MsPoolClaim claim)
{
    unsigned group = claim % (1 + MS_POOL_CLAIMS);

    return group && pool->group[group].serial == claim / (1 + MS_POOL_CLAIMS)
           ? group : 0;
}

/* A slot of any claim that is on @list, or MS_NO_SLOT. */
uint32_t ms_claim_first_locked(const MsPool *pool, MsSlotList list);

/* Slots of a group with small pages. */
static inline uint32_t ms_group_small(const MsPool *pool, unsigned group)
{
    const MsSlotHead *lists = pool->group[group].lists;

    return lists[MS_LIST_CLEAN_FULL].count + lists[MS_LIST_CLEAN_PART].count +
           lists[MS_LIST_DIRTY_FULL].count + lists[MS_LIST_DIRTY_PART].count;
}

/* ---- pool-work.c ---- */

/* Small pages were taken: so many are wanted again soon, perhaps. */
void ms_pool_note_demand_locked(MsPool *pool, uint32_t pages);

/*
 * Make small pages out of a huge one of a group, in a small slot; all of them
 * dirty.  Gives the lock up for about 1 ms.  False: there is none.
 */
bool ms_pool_break_locked(MsPool *pool, unsigned group);

/*
 * Have the kernel split the huge page that @page is a part of, though no
 * longer mapped as one.  None of its pages holds zeros alone (marked before);
 * the lock is not held.
 */
void ms_pool_split(MsPool *pool, char *page);

/* Wake the background if there is something for it. */
void ms_pool_work_changed_locked(MsPool *pool);

#endif /* MEMSCHED_POOL_INT_H */
