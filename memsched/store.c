/*
 * Many small objects in few pages
 *
 * Owns cells, chains, and the order of pages by how full they are.
 *
 *   object -> cell -> cell -> cell
 *
 * next and prev stand in the cell; prev of the first one names the object.
 *
 * A new cell comes out of the fullest page that has one; a page to be emptied
 * is the one with the fewest cells in use.  So a few pages are partly filled,
 * the others are full or empty.  Emptying moves cells one by one: both
 * neighbours are in the cell, so each costs a copy of 128 bytes.
 *
 * Invariants, recounted by ms_store_check():
 *     a cell that is not free is in exactly one chain
 *     a chain has as many cells as its object's length needs
 *     page.free = the cells of it that are in no chain
 *     a page is in the list of its number of used cells
 *
 * Bookkeeping beside the pages: 64 bytes a page, 16 an object.
 *
 * Threads and locks: one lock, of rank leaf.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "lock.h"
#include "store.h"

#define CELLS    MS_STORE_CELLS
#define ALL_FREE UINT32_MAX     /* bits of the CELLS cells of a page */
#define NONE     UINT32_MAX
/* In a cell's prev: the rest is the number of an object. */
#define FIRST    0x80000000u

typedef struct Cell {
    uint32_t next, prev;
    uint8_t data[MS_STORE_CELL_BYTES];
} Cell;

_Static_assert(sizeof(Cell) * CELLS == MEMSCHED_PAGE_SIZE,
               "cells fill a page");

typedef struct Page {
    MsPoolRun run;              /* address NULL: this number is not in use */
    uint32_t free;              /* bit i: cell i */
    uint32_t next, prev;        /* of its list */
} Page;

typedef struct Object {
    uint64_t sum;
    uint32_t first;             /* a cell; free: the next free number */
    uint32_t bytes;             /* 0: free */
} Object;

struct MsStore {
    MsLock lock;
    /* all under the lock */
    Page *page;
    uint32_t pages_size;
    uint32_t spare_page;        /* numbers that are not in use, by next */
    uint32_t list[CELLS + 1];   /* pages with so many cells in use */
    Object *object;
    uint32_t objects_size;
    uint32_t spare_object;
    MsStoreCounts counts;
};

MsStore *ms_store_new(void)
{
    MsStore *store = g_new0(MsStore, 1);

    ms_lock_init(&store->lock, MS_RANK_LEAF);
    store->spare_page = NONE;
    store->spare_object = NONE;
    memset(store->list, 0xff, sizeof(store->list));
    return store;
}

void ms_store_free(MsStore *store)
{
    if (store == NULL) {
        return;
    }
    g_assert(store->counts.pages == 0);
    ms_lock_destroy(&store->lock);
    g_free(store->page);
    g_free(store->object);
    g_free(store);
}

/* ---- pages ---- */

static unsigned used_cells(const Page *page)
{
    return CELLS - (unsigned)__builtin_popcount(page->free);
}

static void list_add(MsStore *store, uint32_t p)
{
    Page *page = &store->page[p];
    uint32_t *list = &store->list[used_cells(page)];

    page->next = *list;
    page->prev = NONE;
    if (*list != NONE) {
        store->page[*list].prev = p;
    }
    *list = p;
}

static void list_remove(MsStore *store, uint32_t p)
{
    Page *page = &store->page[p];

    if (page->next != NONE) {
        store->page[page->next].prev = page->prev;
    }
    if (page->prev != NONE) {
        store->page[page->prev].next = page->next;
    } else {
        store->list[used_cells(page)] = page->next;
    }
}

static Cell *cell_at(const MsStore *store, uint32_t cell)
{
    return (Cell *)store->page[cell / CELLS].run.address + cell % CELLS;
}

/* The fullest page that has a free cell, and is not @but; NONE: no other. */
static uint32_t fullest(const MsStore *store, uint32_t but)
{
    for (unsigned used = CELLS; used-- > 0; ) {
        uint32_t p = store->list[used];

        if (p != NONE && p == but) {
            p = store->page[p].next;
        }
        if (p != NONE) {
            return p;
        }
    }
    return NONE;
}

static uint32_t new_cell(MsStore *store, uint32_t p)
{
    Page *page = &store->page[p];
    unsigned i = (unsigned)__builtin_ctz(page->free);

    list_remove(store, p);
    page->free &= ~(1u << i);
    list_add(store, p);
    store->counts.free_cells--;
    return p * CELLS + i;
}

static void free_cell(MsStore *store, uint32_t cell)
{
    Page *page = &store->page[cell / CELLS];

    list_remove(store, cell / CELLS);
    page->free |= 1u << cell % CELLS;
    list_add(store, cell / CELLS);
    store->counts.free_cells++;
}

static uint32_t new_page_number(MsStore *store)
{
    uint32_t p = store->spare_page;

    if (p == NONE) {
        uint32_t size = store->pages_size ? store->pages_size * 2 : 64;

        /* Numbers of cells fit below FIRST: 256 GiB of pages. */
        g_assert(size <= FIRST / CELLS);
        store->page = g_renew(Page, store->page, size);
        for (uint32_t i = size; i-- > store->pages_size; ) {
            store->page[i] = (Page) { .next = store->spare_page };
            store->spare_page = i;
        }
        store->pages_size = size;
        p = store->spare_page;
    }
    store->spare_page = store->page[p].next;
    return p;
}

void ms_store_add_page(MsStore *store, const MsPoolRun *run)
{
    uint32_t p;

    ms_lock(&store->lock);
    p = new_page_number(store);
    store->page[p].run = *run;
    store->page[p].free = ALL_FREE;
    list_add(store, p);
    store->counts.pages++;
    store->counts.cells += CELLS;
    store->counts.free_cells += CELLS;
    ms_unlock(&store->lock);
}

/* Put the content of a cell that is in a chain into another one. */
static void move_cell(MsStore *store, uint32_t from, uint32_t to)
{
    Cell *cell = cell_at(store, to);

    *cell = *cell_at(store, from);
    if (cell->prev & FIRST) {
        store->object[cell->prev & ~FIRST].first = to;
    } else {
        cell_at(store, cell->prev)->next = to;
    }
    if (cell->next != NONE) {
        cell_at(store, cell->next)->prev = to;
    }
    free_cell(store, from);
    store->counts.moved_cells++;
}

static uint32_t emptiest(const MsStore *store)
{
    for (unsigned used = 0; used <= CELLS; used++) {
        if (store->list[used] != NONE) {
            return store->list[used];
        }
    }
    return NONE;
}

bool ms_store_take_page(MsStore *store, uint64_t keep_cells,
                        MsPoolRun *ret_run)
{
    uint32_t p;
    bool taken;

    ms_lock(&store->lock);
    taken = store->counts.pages > 0 &&
            store->counts.free_cells >= keep_cells + CELLS;
    if (taken) {
        p = emptiest(store);
        while (store->page[p].free != ALL_FREE) {
            unsigned i = (unsigned)__builtin_ctz(~store->page[p].free);

            /* There are as many free ones elsewhere as are in use here. */
            move_cell(store, p * CELLS + i,
                      new_cell(store, fullest(store, p)));
        }
        list_remove(store, p);
        *ret_run = store->page[p].run;
        store->page[p] = (Page) { .next = store->spare_page };
        store->spare_page = p;
        store->counts.pages--;
        store->counts.cells -= CELLS;
        store->counts.free_cells -= CELLS;
    }
    ms_unlock(&store->lock);
    return taken;
}

/* ---- objects ---- */

static unsigned cells_of(unsigned bytes)
{
    return (bytes + MS_STORE_CELL_BYTES - 1) / MS_STORE_CELL_BYTES;
}

static uint32_t new_object(MsStore *store)
{
    uint32_t o = store->spare_object;

    if (o == NONE) {
        uint32_t size = store->objects_size ? store->objects_size * 2 : 256;

        /* Each has a cell at least, so there are fewer than FIRST. */
        store->object = g_renew(Object, store->object, size);
        for (uint32_t i = size; i-- > store->objects_size; ) {
            store->object[i] = (Object) { .first = store->spare_object };
            store->spare_object = i;
        }
        store->objects_size = size;
        o = store->spare_object;
    }
    store->spare_object = store->object[o].first;
    return o;
}

int ms_store_put(MsStore *store, const void *data, unsigned bytes,
                 uint64_t sum, uint32_t *ret_object)
{
    const uint8_t *from = data;
    uint32_t o, before;

    g_assert(bytes > 0 && bytes <= MS_STORE_OBJECT_BYTES);
    ms_lock(&store->lock);
    if (store->counts.free_cells < cells_of(bytes)) {
        ms_unlock(&store->lock);
        return -ENOSPC;
    }
    o = new_object(store);
    store->object[o].sum = sum;
    store->object[o].bytes = bytes;
    before = o | FIRST;
    for (unsigned at = 0, n; at < bytes; at += n) {
        uint32_t c = new_cell(store, fullest(store, NONE));
        Cell *cell = cell_at(store, c);

        n = MIN(bytes - at, MS_STORE_CELL_BYTES);
        memcpy(cell->data, from + at, n);
        cell->prev = before;
        cell->next = NONE;
        if (before & FIRST) {
            store->object[o].first = c;
        } else {
            cell_at(store, before)->next = c;
        }
        before = c;
    }
    store->counts.objects++;
    store->counts.bytes += bytes;
    ms_unlock(&store->lock);
    *ret_object = o;
    return 0;
}

unsigned ms_store_get(MsStore *store, uint32_t object, void *buf,
                      uint64_t *ret_sum)
{
    uint8_t *to = buf;
    unsigned bytes;
    uint32_t c;

    ms_lock(&store->lock);
    bytes = store->object[object].bytes;
    *ret_sum = store->object[object].sum;
    c = store->object[object].first;
    for (unsigned at = 0, n; at < bytes; at += n) {
        const Cell *cell = cell_at(store, c);

        n = MIN(bytes - at, MS_STORE_CELL_BYTES);
        memcpy(to + at, cell->data, n);
        c = cell->next;
    }
    ms_unlock(&store->lock);
    return bytes;
}

unsigned ms_store_drop(MsStore *store, uint32_t object)
{
    Object *o;
    unsigned bytes;

    ms_lock(&store->lock);
    o = &store->object[object];
    bytes = o->bytes;
    for (uint32_t c = o->first, next; c != NONE; c = next) {
        next = cell_at(store, c)->next;
        free_cell(store, c);
    }
    *o = (Object) { .first = store->spare_object };
    store->spare_object = object;
    store->counts.objects--;
    store->counts.bytes -= bytes;
    ms_unlock(&store->lock);
    return bytes;
}

void ms_store_counts(MsStore *store, MsStoreCounts *ret_counts)
{
    ms_lock(&store->lock);
    *ret_counts = store->counts;
    ms_unlock(&store->lock);
}

/* ---- check ---- */

static const char *check_pages(const MsStore *store)
{
    uint64_t pages = 0, free_cells = 0;

    for (unsigned used = 0; used <= CELLS; used++) {
        for (uint32_t p = store->list[used]; p != NONE;
             p = store->page[p].next) {
            const Page *page = &store->page[p];

            if (page->run.address == NULL || used_cells(page) != used) {
                return "a page of the store is in the wrong list";
            }
            if (++pages > store->counts.pages) {
                return "the store's lists of pages go round";
            }
            free_cells += CELLS - used;
        }
    }
    if (pages != store->counts.pages || pages * CELLS != store->counts.cells ||
        free_cells != store->counts.free_cells) {
        return "the store's pages differ from their counts";
    }
    return NULL;
}

/* Cells of one object, marked in @seen; NULL or what is wrong. */
static const char *check_chain(const MsStore *store, uint32_t o,
                               uint32_t *seen)
{
    unsigned left = cells_of(store->object[o].bytes);
    uint32_t before = o | FIRST;

    for (uint32_t c = store->object[o].first; c != NONE;
         c = cell_at(store, c)->next) {
        uint32_t bit = 1u << c % CELLS;

        if (c / CELLS >= store->pages_size ||
            store->page[c / CELLS].run.address == NULL ||
            (store->page[c / CELLS].free & bit) || (seen[c / CELLS] & bit)) {
            return "an object has a cell that is not its own";
        }
        if (cell_at(store, c)->prev != before || left-- == 0) {
            return "a chain of the store is broken";
        }
        seen[c / CELLS] |= bit;
        before = c;
    }
    return left ? "a chain of the store is too short" : NULL;
}

static const char *check_locked(const MsStore *store)
{
    g_autofree uint32_t *seen = g_new0(uint32_t, store->pages_size + 1);
    uint64_t objects = 0, bytes = 0;
    const char *wrong = check_pages(store);

    for (uint32_t o = 0; o < store->objects_size && !wrong; o++) {
        if (store->object[o].bytes > 0) {
            wrong = check_chain(store, o, seen);
            objects++;
            bytes += store->object[o].bytes;
        }
    }
    for (uint32_t p = 0; p < store->pages_size && !wrong; p++) {
        if (store->page[p].run.address &&
            seen[p] != ~store->page[p].free) {
            wrong = "a cell of the store is in use for nothing";
        }
    }
    if (!wrong && (objects != store->counts.objects ||
                   bytes != store->counts.bytes)) {
        wrong = "the store's objects differ from their counts";
    }
    return wrong;
}

const char *ms_store_check(MsStore *store)
{
    const char *wrong;

    ms_lock(&store->lock);
    wrong = check_locked(store);
    ms_unlock(&store->lock);
    return wrong;
}
