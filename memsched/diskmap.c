/*
 * Which pages hold what a disk holds too
 *
 * Memory.  16 bytes for each frame of the region, 2 KiB for a frame that has an
 * entry, and for each entry 32 bytes and at most 8 of its bucket: 1.2 % of the
 * pages that have one, where whole frames have.  No more entries than pages.
 * Frames give theirs back; the table of entries only grows, to the most that
 * there have been.
 *
 * Buckets.  An entry is in the bucket of its disk and of the 4 KiB unit in
 * which it begins.  Since a page is 4 KiB long but may begin anywhere, a
 * search begins one unit before the bytes that it is about.  Where these are
 * more units than there are entries (a disk that is discarded whole), the
 * entries are looked at one by one instead.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "diskmap.h"

#define PAGE        UINT64_C(4096)
#define UNIT_SHIFT  12
#define FIRST_SIZE  256u

int ms_diskmap_init(MsDiskmap *map, uint64_t frames)
{
    uint64_t pages = frames * MS_PAGESET_PAGES;

    if (frames == 0 || frames > UINT32_MAX) {
        return -EINVAL;
    }
    *map = (MsDiskmap) {
        .frames = frames,
        .limit = pages < UINT32_MAX - 1 ? pages : UINT32_MAX - 1,
    };
    map->frame = calloc(frames, sizeof(map->frame[0]));
    return map->frame ? 0 : -ENOMEM;
}

void ms_diskmap_destroy(MsDiskmap *map)
{
    for (uint64_t f = 0; f < map->frames; f++) {
        free(map->frame[f].entry);
    }
    free(map->frame);
    free(map->entry);
    free(map->bucket);
    *map = (MsDiskmap) { 0 };
}

/* ---- entries and buckets ---- */

/* There are as many buckets as entries, a power of two. */
static uint32_t *bucket_of(const MsDiskmap *map, uint32_t disk, uint64_t unit)
{
    uint64_t hash = (unit + ((uint64_t)disk << 44)) *
                    UINT64_C(0x9e3779b97f4a7c15);

    return &map->bucket[(hash >> 32) & (map->size - 1)];
}

static void link_entry(MsDiskmap *map, uint32_t number)
{
    MsDiskEntry *e = &map->entry[number];
    uint32_t *first = bucket_of(map, e->disk, e->offset_bytes >> UNIT_SHIFT);

    e->next = *first;
    *first = number + 1;
}

static void unlink_entry(MsDiskmap *map, uint32_t number)
{
    MsDiskEntry *e = &map->entry[number];
    uint32_t *at = bucket_of(map, e->disk, e->offset_bytes >> UNIT_SHIFT);

    while (*at != number + 1) {
        at = &map->entry[*at - 1].next;
    }
    *at = e->next;
}

/* Twice as many; what there is stays where it is if memory is short. */
static int grow(MsDiskmap *map)
{
    uint32_t size = map->size ? map->size * 2 : FIRST_SIZE;
    MsDiskEntry *entry;
    uint32_t *bucket;

    /* 2^31 entries are 8 TiB of pages; doubling that would not fit. */
    if (map->size > UINT32_MAX / 2 || map->size >= map->limit) {
        return -ENOMEM;
    }
    bucket = calloc(size, sizeof(bucket[0]));
    entry = realloc(map->entry, size * sizeof(entry[0]));
    if (entry) {
        map->entry = entry;
    }
    if (bucket == NULL || entry == NULL) {
        free(bucket);
        return -ENOMEM;
    }
    free(map->bucket);
    map->bucket = bucket;
    map->size = size;
    for (uint32_t i = 0; i < map->used; i++) {
        if (map->entry[i].disk) {
            link_entry(map, i);
        }
    }
    return 0;
}

/* An entry that nobody has: its number + 1, or 0. */
static uint32_t take_entry(MsDiskmap *map)
{
    uint32_t got = map->free;

    if (got) {
        map->free = map->entry[got - 1].next;
        return got;
    }
    if (map->used == map->size && grow(map) < 0) {
        return 0;
    }
    return ++map->used;
}

static void drop(MsDiskmap *map, uint32_t number)
{
    MsDiskEntry *e = &map->entry[number];
    MsDiskFrame *frame = &map->frame[e->page / MS_PAGESET_PAGES];

    unlink_entry(map, number);
    frame->entry[e->page % MS_PAGESET_PAGES] = 0;
    frame->changes++;
    frame->located--;
    frame->sure -= e->sure;
    map->located--;
    map->sure -= e->sure;
    if (frame->located == 0) {
        free(frame->entry);
        frame->entry = NULL;
    }
    *e = (MsDiskEntry) { .next = map->free };
    map->free = number + 1;
}

static MsDiskEntry *entry_at(const MsDiskmap *map, uint64_t frame,
                             unsigned page)
{
    const MsDiskFrame *f = &map->frame[frame];

    return f->entry && f->entry[page] ? &map->entry[f->entry[page] - 1] : NULL;
}

/* ---- by page ---- */

int ms_diskmap_note(MsDiskmap *map, uint64_t page, const MsDiskPlace *place)
{
    MsDiskFrame *frame;
    uint32_t *slot, got;

    if (page / MS_PAGESET_PAGES >= map->frames || page > UINT32_MAX) {
        return -ERANGE;
    }
    frame = &map->frame[page / MS_PAGESET_PAGES];
    if (frame->entry && frame->entry[page % MS_PAGESET_PAGES]) {
        drop(map, frame->entry[page % MS_PAGESET_PAGES] - 1);
    }
    if (frame->entry == NULL) {
        frame->entry = calloc(MS_PAGESET_PAGES, sizeof(frame->entry[0]));
        if (frame->entry == NULL) {
            return -ENOMEM;
        }
    }
    got = take_entry(map);
    if (got == 0) {
        if (frame->located == 0) {
            free(frame->entry);
            frame->entry = NULL;
        }
        return -ENOMEM;
    }
    slot = &frame->entry[page % MS_PAGESET_PAGES];
    *slot = got;
    map->entry[got - 1] = (MsDiskEntry) {
        .offset_bytes = place->offset_bytes, .sum = place->sum,
        .page = page, .disk = place->disk,
    };
    link_entry(map, got - 1);
    frame->located++;
    map->located++;
    return 0;
}

bool ms_diskmap_get(const MsDiskmap *map, uint64_t page,
                    MsDiskPlace *ret_place)
{
    const MsDiskEntry *e = page / MS_PAGESET_PAGES < map->frames
                           ? entry_at(map, page / MS_PAGESET_PAGES,
                                      page % MS_PAGESET_PAGES) : NULL;

    if (e == NULL) {
        return false;
    }
    *ret_place = (MsDiskPlace) {
        .disk = e->disk, .sure = e->sure, .offset_bytes = e->offset_bytes,
        .sum = e->sum,
    };
    return true;
}

void ms_diskmap_select(const MsDiskmap *map, uint64_t frame, bool sure,
                       MsPageSet *ret_set)
{
    ms_pageset_clear(ret_set);
    if (map->frames == 0 || map->frame[frame].located == 0 ||
        (sure && map->frame[frame].sure == 0)) {
        return;
    }
    for (unsigned p = 0; p < MS_PAGESET_PAGES; p++) {
        const MsDiskEntry *e = entry_at(map, frame, p);

        if (e && (e->sure || !sure)) {
            ms_pageset_add(ret_set, p, 1);
        }
    }
}

static unsigned set_sure(MsDiskmap *map, uint64_t frame, const MsPageSet *set,
                         bool sure)
{
    unsigned page, count, changed = 0;

    if (map->frames == 0 || map->frame[frame].located == 0) {
        return 0;
    }
    for (unsigned p = 0; ms_pageset_run(set, p, &page, &count);
         p = page + count) {
        for (unsigned i = page; i < page + count; i++) {
            MsDiskEntry *e = entry_at(map, frame, i);

            if (e && e->sure != sure) {
                e->sure = sure;
                changed++;
            }
        }
    }
    map->frame[frame].sure += sure ? changed : -changed;
    map->sure += sure ? (uint64_t)changed : -(uint64_t)changed;
    return changed;
}

unsigned ms_diskmap_sure(MsDiskmap *map, uint64_t frame, const MsPageSet *set)
{
    return set_sure(map, frame, set, true);
}

unsigned ms_diskmap_unsure(MsDiskmap *map, uint64_t frame,
                           const MsPageSet *set)
{
    if (map->frames == 0) {
        return 0;
    }
    map->frame[frame].changes++;
    return set_sure(map, frame, set, false);
}

unsigned ms_diskmap_forget(MsDiskmap *map, uint64_t frame,
                           const MsPageSet *set)
{
    unsigned page, count, forgotten = 0;

    if (map->frames == 0) {
        return 0;
    }
    map->frame[frame].changes++;
    for (unsigned p = 0; ms_pageset_run(set, p, &page, &count);
         p = page + count) {
        for (unsigned i = page; i < page + count &&
             map->frame[frame].located > 0; i++) {
            if (map->frame[frame].entry[i]) {
                drop(map, map->frame[frame].entry[i] - 1);
                forgotten++;
            }
        }
    }
    return forgotten;
}

/* ---- by disk ---- */

static bool overlaps(const MsDiskEntry *e, uint32_t disk, uint64_t first,
                     uint64_t last)
{
    return e->disk == disk && e->offset_bytes <= last &&
           e->offset_bytes + (PAGE - 1) >= first;
}

static uint64_t forget_unit(MsDiskmap *map, uint32_t disk, uint64_t unit,
                            uint64_t first, uint64_t last)
{
    uint32_t at = *bucket_of(map, disk, unit), next;
    uint64_t forgotten = 0;

    for (; at; at = next) {
        next = map->entry[at - 1].next;
        if (map->entry[at - 1].offset_bytes >> UNIT_SHIFT == unit &&
            overlaps(&map->entry[at - 1], disk, first, last)) {
            drop(map, at - 1);
            forgotten++;
        }
    }
    return forgotten;
}

uint64_t ms_diskmap_forget_disk(MsDiskmap *map, uint32_t disk,
                                uint64_t offset_bytes, uint64_t length_bytes)
{
    uint64_t last = offset_bytes + length_bytes - 1, forgotten = 0, unit;

    if (map->located == 0 || length_bytes == 0) {
        return 0;
    }
    if (last < offset_bytes) {
        last = UINT64_MAX;
    }
    unit = offset_bytes >> UNIT_SHIFT;
    unit -= unit > 0;
    if ((last >> UNIT_SHIFT) - unit >= map->used) {
        for (uint32_t i = 0; i < map->used; i++) {
            if (overlaps(&map->entry[i], disk, offset_bytes, last)) {
                drop(map, i);
                forgotten++;
            }
        }
        return forgotten;
    }
    for (; unit <= last >> UNIT_SHIFT; unit++) {
        forgotten += forget_unit(map, disk, unit, offset_bytes, last);
    }
    return forgotten;
}

/* ---- what it takes, and whether it is right ---- */

uint64_t ms_diskmap_bytes(const MsDiskmap *map)
{
    uint64_t bytes = map->frames * sizeof(map->frame[0]) +
                     (uint64_t)map->size * (sizeof(map->entry[0]) +
                                            sizeof(map->bucket[0]));

    for (uint64_t f = 0; f < map->frames; f++) {
        bytes += map->frame[f].entry ? MS_PAGESET_PAGES *
                                       sizeof(map->frame[f].entry[0]) : 0;
    }
    return bytes;
}

static const char *check_frame(const MsDiskmap *map, uint64_t frame,
                               uint64_t *located, uint64_t *sure)
{
    const MsDiskFrame *f = &map->frame[frame];
    unsigned with_entry = 0, with_sure = 0;

    for (unsigned p = 0; f->entry && p < MS_PAGESET_PAGES; p++) {
        const MsDiskEntry *e = entry_at(map, frame, p);

        if (e && (e->disk == 0 || e->page != frame * MS_PAGESET_PAGES + p)) {
            return "a page's place on a disk is another page's";
        }
        with_entry += e != NULL;
        with_sure += e && e->sure;
    }
    if (with_entry != f->located || with_sure != f->sure ||
        (f->entry != NULL) != (f->located > 0)) {
        return "a frame's count of pages that are on a disk is wrong";
    }
    *located += with_entry;
    *sure += with_sure;
    return NULL;
}

const char *ms_diskmap_check(const MsDiskmap *map)
{
    uint64_t located = 0, sure = 0, linked = 0, spare = 0;
    const char *wrong = NULL;

    for (uint64_t f = 0; f < map->frames && !wrong; f++) {
        wrong = check_frame(map, f, &located, &sure);
    }
    if (wrong) {
        return wrong;
    }
    for (uint32_t b = 0; b < map->size; b++) {
        for (uint32_t at = map->bucket[b]; at; at = map->entry[at - 1].next) {
            const MsDiskEntry *e = &map->entry[at - 1];

            linked++;
            if (bucket_of(map, e->disk, e->offset_bytes >> UNIT_SHIFT) !=
                &map->bucket[b]) {
                return "a place on a disk is in the wrong bucket";
            }
        }
    }
    for (uint32_t at = map->free; at; at = map->entry[at - 1].next) {
        spare++;
    }
    if (linked != located || linked + spare != map->used ||
        located != map->located || sure != map->sure) {
        return "the count of pages that are on a disk is wrong";
    }
    return NULL;
}
