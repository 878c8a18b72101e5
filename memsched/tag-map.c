/*
 * Which tag each page of a region in state T has
 *
 * Owns the records, as compact as the pages are regular.  An application tags
 * 2 MiB at a time, so a frame that left whole has 512 consecutive numbers: 16
 * bytes say so.  Pages that fit the same rule (number less position is one
 * value) stay in them, also where some are missing.  Else the frame gets a
 * table of 6 bytes a page, 3 KiB, until its last record goes.
 *
 * At worst 6 bytes a page and 16 a frame: 0.15 % of the region.  Nothing is
 * allocated before the first record.
 *
 * Pure, without locks.  Allocation failure ends the process, as everywhere with
 * GLib.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "tag-map.h"

struct MsTagDense {
    uint32_t sequence[MS_PAGESET_PAGES];
    uint16_t epoch[MS_PAGESET_PAGES];
};

void ms_tag_map_init(MsTagMap *map, uint64_t frames)
{
    *map = (MsTagMap) { .frames = frames };
}

void ms_tag_map_destroy(MsTagMap *map)
{
    for (uint64_t f = 0; map->frame && f < map->frames; f++) {
        g_free(map->frame[f].dense);
    }
    g_free(map->frame);
    *map = (MsTagMap) { 0 };
}

static void make_dense(MsTagMap *map, MsTagFrame *frame)
{
    MsTagDense *dense = g_new(MsTagDense, 1);

    for (unsigned i = 0; i < MS_PAGESET_PAGES; i++) {
        dense->sequence[i] = frame->first + i;
        dense->epoch[i] = frame->epoch;
    }
    frame->dense = dense;
    map->dense_frames++;
}

void ms_tag_map_set(MsTagMap *map, uint64_t page, MsTagRef ref)
{
    unsigned i = page % MS_PAGESET_PAGES;
    uint32_t first = ref.sequence - i;
    MsTagFrame *frame;

    if (map->frame == NULL) {
        map->frame = g_new0(MsTagFrame, map->frames);
    }
    frame = &map->frame[page / MS_PAGESET_PAGES];
    if (frame->pages == 0) {
        frame->first = first;
        frame->epoch = ref.epoch;
    } else if (!frame->dense &&
               (frame->first != first || frame->epoch != ref.epoch)) {
        make_dense(map, frame);
    }
    if (frame->dense) {
        frame->dense->sequence[i] = ref.sequence;
        frame->dense->epoch[i] = ref.epoch;
    }
    frame->pages++;
    map->pages++;
}

MsTagRef ms_tag_map_get(const MsTagMap *map, uint64_t page)
{
    const MsTagFrame *frame = &map->frame[page / MS_PAGESET_PAGES];
    unsigned i = page % MS_PAGESET_PAGES;

    if (frame->dense) {
        return (MsTagRef) {
            .sequence = frame->dense->sequence[i],
            .epoch = frame->dense->epoch[i],
        };
    }
    return (MsTagRef) { .sequence = frame->first + i, .epoch = frame->epoch };
}

void ms_tag_map_clear(MsTagMap *map, uint64_t page)
{
    MsTagFrame *frame = &map->frame[page / MS_PAGESET_PAGES];

    map->pages--;
    if (--frame->pages == 0 && frame->dense) {
        g_free(frame->dense);
        frame->dense = NULL;
        map->dense_frames--;
    }
}

uint64_t ms_tag_map_bytes(const MsTagMap *map)
{
    return (map->frame ? map->frames * sizeof(MsTagFrame) : 0) +
           map->dense_frames * sizeof(MsTagDense);
}
