/*
 * Where each page of a region in state S is kept
 *
 * Pure: the caller holds the region's lock and knows which pages are in state
 * S.  Also remembers when a page last came back, so that it is left alone for a
 * while.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_HELD_MAP_H
#define MEMSCHED_HELD_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "pageset.h"

/* In the store, or in the swap file: a number there. */
typedef struct MsHeldRef {
    uint32_t number;            /* below 2^31 - 1 */
    bool swapped;
} MsHeldRef;

typedef struct MsHeldFrame MsHeldFrame;

typedef struct MsHeldMap {
    MsHeldFrame **frame;        /* NULL until the first record */
    uint64_t frames;
    uint64_t pages;             /* recorded */
    uint64_t swapped_pages;     /* part of them */
} MsHeldMap;

void ms_held_map_init(MsHeldMap *map, uint64_t frames);
void ms_held_map_destroy(MsHeldMap *map);

/* Record a page that has none (pages as in pagestate.h). */
void ms_held_map_set(MsHeldMap *map, uint64_t page, MsHeldRef ref);

/* Of a page that is recorded. */
MsHeldRef ms_held_map_get(const MsHeldMap *map, uint64_t page);

bool ms_held_map_has(const MsHeldMap *map, uint64_t page);

/* Forget a page that is recorded. */
void ms_held_map_clear(MsHeldMap *map, uint64_t page);

/* The page is back by a touch, in second @now_s of whatever clock. */
void ms_held_map_came_back(MsHeldMap *map, uint64_t page, uint64_t now_s);

/*
 * Members of @set, pages of @frame, that came back less than @rest_s ago are
 * taken out of it.  (Clocks are compared modulo 18 hours.)
 */
void ms_held_map_drop_recent(const MsHeldMap *map, uint64_t frame,
                             uint64_t now_s, unsigned rest_s, MsPageSet *set);

/* No page of the frame came back, ever. */
void ms_held_map_forget_times(MsHeldMap *map, uint64_t frame);

#endif /* MEMSCHED_HELD_MAP_H */
