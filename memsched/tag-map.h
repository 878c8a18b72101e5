/*
 * Which tag each page of a region in state T has
 *
 * Pure: the caller holds the region's lock and knows which pages are in state
 * T.  A tag is named by a number of 16 bits (its epoch, for the caller to
 * give) and a sequence number of 32 bits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TAG_MAP_H
#define MEMSCHED_TAG_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "pageset.h"

typedef struct MsTagRef {
    uint32_t sequence;
    uint16_t epoch;
} MsTagRef;

typedef struct MsTagDense MsTagDense;

/*
 * One 2 MiB frame.  Without @dense, page i of the frame has sequence number
 * first + i (modulo 2^32) of one epoch, for each of its pages that is recorded.
 */
typedef struct MsTagFrame {
    MsTagDense *dense;
    uint32_t first;
    uint16_t epoch;
    uint16_t pages;             /* recorded; 0: none */
} MsTagFrame;

typedef struct MsTagMap {
    MsTagFrame *frame;          /* NULL until the first record */
    uint64_t frames;
    uint64_t pages;             /* recorded */
    uint64_t dense_frames;
} MsTagMap;

void ms_tag_map_init(MsTagMap *map, uint64_t frames);
void ms_tag_map_destroy(MsTagMap *map);

/* Record a page that has none (pages as in pagestate.h). */
void ms_tag_map_set(MsTagMap *map, uint64_t page, MsTagRef ref);

/* Of a page that is recorded. */
MsTagRef ms_tag_map_get(const MsTagMap *map, uint64_t page);

/* Forget a page that is recorded. */
void ms_tag_map_clear(MsTagMap *map, uint64_t page);

/* Recorded pages of a frame. */
static inline unsigned ms_tag_map_frame(const MsTagMap *map, uint64_t frame)
{
    return map->frame ? map->frame[frame].pages : 0;
}

/* Bytes of memory that it takes. */
uint64_t ms_tag_map_bytes(const MsTagMap *map);

#endif /* MEMSCHED_TAG_MAP_H */
