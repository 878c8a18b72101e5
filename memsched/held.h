/*
 * Pages in state S: kept by the host, compressed or in the swap file
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_HELD_H
#define MEMSCHED_HELD_H

#include "held-map.h"
#include "lock.h"
#include "memsched/memsched.h"
#include "pack.h"
#include "populate.h"
#include "stats.h"
#include "store.h"
#include "swapfile.h"

typedef struct MsHeld MsHeld;

/* The place for them, of all guests. */
struct MsHeld {
    MemSched *ms;
    MsStore *store;
    MsSwapfile *swap;           /* NULL: none */
    uint64_t most_pages;        /* of the store; 0: none */
    _Atomic uint64_t swap_rest_ns;      /* writing failed: not before */

    MsLock lock;                /* leaf: spare */
    MsPack *spare[4];           /* contexts that nobody uses now */

    /* counters since start */
    MsCounter stored_pages, swapped_pages;      /* taken out of guests */
    MsCounter zero_pages;       /* the same, held nothing: holes now */
    MsCounter refused_pages;    /* stayed: no room, or not compressible */
    MsCounter back_pages, read_pages;   /* came back: from store, from file */
    MsCounter dropped_pages;    /* their guest gave them up, or went */
    MsCounter lost_pages;       /* could not be read back */
    MsHistogram back;           /* touch read to page in, from the store */
    MsHistogram read;           /* the same, from the file */
};

/*
 * @held_bytes of the pool at most for compressed pages, a swap file of
 * @swap_bytes at @swap_path (NULL: none).  -errno and a message.
 */
int ms_held_new(MemSched *ms, uint64_t held_bytes, const char *swap_path,
                uint64_t swap_bytes, MsHeld **ret_held,
                MemSchedMessage *ret_message);
void ms_held_free(MsHeld *held);        /* nothing is held; NULL is fine */

/* ---- taking in; the thread of hold.c ---- */

/*
 * Keep a copy of the page at @arena in the store: 0 and the reference, or
 * -ENOSPC: it does not get small enough, or there is no room.
 */
int ms_held_keep(MsHeld *held, MsPack *pack, const void *arena,
                 MsHeldRef *ret_ref);

/* What is kept is not needed after all, or any more. */
void ms_held_drop(MsHeld *held, MsHeldRef ref);

MsPack *ms_held_pack_get(MsHeld *held);
void ms_held_pack_put(MsHeld *held, MsPack *pack);

/* Neither the store nor the file has room: not worth a try. */
bool ms_held_is_full(MsHeld *held);

/*
 * Pages of the pool that the store could do with, so that a batch finds room;
 * 0: it has enough, or all it may have.
 */
uint64_t ms_held_wish(MsHeld *held);
/* That many, which the ledger has given: into the store.  No lock held. */
void ms_held_grow(MsHeld *held, uint64_t pages);
/* Give back to the pool what the store can do without.  No lock held. */
void ms_held_trim(MsHeld *held);

/* ---- what happens to pages and regions ---- */

/*
 * Pages of [first, first + count) that are in state S are about to change to
 * another one without being populated.  Region lock held; the others are
 * passed over.
 */
void ms_held_forget_locked(MemSchedRegion *region, uint64_t first,
                           uint64_t count);

/* The same for all of a region that goes away. */
void ms_held_forget_region(MemSchedRegion *region);

/*
 * ms_populate_frame() for pages in state S: they come back as they were.  Sets
 * what is for it to say in @populate: mask and content.  A page that cannot be
 * read is lost: its guest is told, and zeros take its place.  @since_ns: of the
 * touch, for the statistics.  Waits for the disk where one of them is swapped.
 */
uint64_t ms_held_populate(MsPopulate *populate, uint64_t since_ns,
                          bool *ret_touched);

/* What there is to say of it; @held may be NULL. */
void ms_held_query(MsHeld *held, MemSchedHeldInfo *ret_info);

/*
 * Records against the store and the file: NULL, or what differs, or "" where
 * pages are in transit and it cannot be told now.
 */
const char *ms_held_check(MsHeld *held);

#endif /* MEMSCHED_HELD_H */
