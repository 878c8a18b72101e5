/*
 * Where each page of a region in state S is kept
 *
 * Owns one table of 3 KiB for each 2 MiB frame of which a page was ever held
 * (0.15 % of it), and nothing for others.  A table stays until the region goes:
 * the times in it are what keeps a page from going to and fro.
 *
 * Pure, without locks.  Allocation failure ends the process, as everywhere with
 * GLib.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "held-map.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define SWAPPED     0x80000000u

struct MsHeldFrame {
    uint32_t ref[FRAME_PAGES];  /* number + 1, SWAPPED; 0: none */
    uint16_t back[FRAME_PAGES]; /* second + 1, modulo 2^16; 0: never */
};

void ms_held_map_init(MsHeldMap *map, uint64_t frames)
{
    *map = (MsHeldMap) { .frames = frames };
}

void ms_held_map_destroy(MsHeldMap *map)
{
    for (uint64_t f = 0; map->frame && f < map->frames; f++) {
        g_free(map->frame[f]);
    }
    g_free(map->frame);
    *map = (MsHeldMap) { 0 };
}

static MsHeldFrame *frame_of(MsHeldMap *map, uint64_t page)
{
    MsHeldFrame **frame;

    if (map->frame == NULL) {
        map->frame = g_new0(MsHeldFrame *, map->frames);
    }
    frame = &map->frame[page / FRAME_PAGES];
    if (*frame == NULL) {
        *frame = g_new0(MsHeldFrame, 1);
    }
    return *frame;
}

void ms_held_map_set(MsHeldMap *map, uint64_t page, MsHeldRef ref)
{
    frame_of(map, page)->ref[page % FRAME_PAGES] =
        (ref.number + 1) | (ref.swapped ? SWAPPED : 0);
    map->pages++;
    map->swapped_pages += ref.swapped;
}

MsHeldRef ms_held_map_get(const MsHeldMap *map, uint64_t page)
{
    uint32_t ref = map->frame[page / FRAME_PAGES]->ref[page % FRAME_PAGES];

    return (MsHeldRef) {
        .number = (ref & ~SWAPPED) - 1, .swapped = ref & SWAPPED,
    };
}

bool ms_held_map_has(const MsHeldMap *map, uint64_t page)
{
    const MsHeldFrame *frame = map->frame ? map->frame[page / FRAME_PAGES]
                                          : NULL;

    return frame && frame->ref[page % FRAME_PAGES] != 0;
}

void ms_held_map_clear(MsHeldMap *map, uint64_t page)
{
    uint32_t *ref = &map->frame[page / FRAME_PAGES]->ref[page % FRAME_PAGES];

    map->pages--;
    map->swapped_pages -= (*ref & SWAPPED) != 0;
    *ref = 0;
}

void ms_held_map_came_back(MsHeldMap *map, uint64_t page, uint64_t now_s)
{
    uint16_t back = (uint16_t)(now_s + 1);

    /* 0 stands for never: a second late, once in 18 hours. */
    frame_of(map, page)->back[page % FRAME_PAGES] = back ? back : 1;
}

void ms_held_map_drop_recent(const MsHeldMap *map, uint64_t frame,
                             uint64_t now_s, unsigned rest_s, MsPageSet *set)
{
    const MsHeldFrame *f = map->frame ? map->frame[frame] : NULL;
    uint16_t now = (uint16_t)(now_s + 1);

    for (unsigned i = 0; f && i < FRAME_PAGES; i++) {
        if (f->back[i] && (uint16_t)(now - f->back[i]) < rest_s) {
            ms_pageset_remove(set, i, 1);
        }
    }
}

void ms_held_map_forget_times(MsHeldMap *map, uint64_t frame)
{
    if (map->frame && map->frame[frame]) {
        memset(map->frame[frame]->back, 0, sizeof(map->frame[frame]->back));
    }
}
