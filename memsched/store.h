/*
 * Many small objects in few pages
 *
 * Keeps compressed pages of guests.  An object is a chain of cells of 128
 * bytes, anywhere in the store's pages, so whatever comes and goes leaves no
 * gaps: all that is lost is half a cell an object.  Cells can move, so pages
 * that are no
 * longer needed can be emptied and given back.
 *
 * The store owns the use of its pages; the caller gives them and gets them
 * back. It makes no system call.
 *
 * Threads: any; one lock of rank leaf inside, held for as long as it takes to
 * copy one page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_STORE_H
#define MEMSCHED_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"

typedef struct MsStore MsStore;

/* Of one page: 32 cells. */
#define MS_STORE_CELLS 32u
/* Content of a cell. */
#define MS_STORE_CELL_BYTES 120u

/* The longest object. */
#define MS_STORE_OBJECT_BYTES MEMSCHED_PAGE_SIZE

MsStore *ms_store_new(void);
/* Every page has been taken back; NULL is fine. */
void ms_store_free(MsStore *store);

/* One more page: @run has one, is taken, and stays until it comes back. */
void ms_store_add_page(MsStore *store, const MsPoolRun *run);

/*
 * A page that can be done without, so that at least @keep_cells stay free:
 * true, and it is the caller's.  It is emptied first where it has to be.
 */
bool ms_store_take_page(MsStore *store, uint64_t keep_cells,
                        MsPoolRun *ret_run);

/*
 * Keep a copy of @bytes (1 to MS_STORE_OBJECT_BYTES) and of @sum, whatever that
 * is.  -ENOSPC: too few cells are free.  @ret_object names it until it is
 * dropped.
 */
int ms_store_put(MsStore *store, const void *data, unsigned bytes,
                 uint64_t sum, uint32_t *ret_object);

/* Copy it to @buf, which has room for the longest; returns its length. */
unsigned ms_store_get(MsStore *store, uint32_t object, void *buf,
                      uint64_t *ret_sum);

/* Returns its length. */
unsigned ms_store_drop(MsStore *store, uint32_t object);

typedef struct MsStoreCounts {
    uint64_t pages;
    uint64_t cells, free_cells; /* cells = pages x MS_STORE_CELLS */
    uint64_t objects;
    uint64_t bytes;             /* of all objects */
    uint64_t moved_cells;       /* to empty pages, since start */
} MsStoreCounts;

void ms_store_counts(MsStore *store, MsStoreCounts *ret_counts);

/* Walk all chains and pages: NULL, or what differs. */
const char *ms_store_check(MsStore *store);

#endif /* MEMSCHED_STORE_H */
