/*
 * Which pages hold what a disk holds too
 *
 * Pure bookkeeping of one region: no page is read, no lock taken, no system
 * call made; the caller holds the lock of the book.
 *
 * A page that was filled from a disk has an *entry*: the disk, the offset
 * there, and a checksum of what was read.  The entry alone proves nothing, for
 * the page may have been written since.  It is *sure* once somebody has
 * protected the page and then found the content of the checksum; whoever lifts
 * the protection calls it unsure first.  Only what is sure may be read again
 * in the place of a page.
 *
 * Indexed both ways: by page, and by place on a disk, since a write to a disk
 * makes all entries of that part wrong.  A page has one entry at most; a part
 * of a disk may be in many pages.
 *
 * Each 2 MiB frame counts the changes that made an entry go or unsure: who has
 * looked at pages without the lock compares before he calls them sure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_DISKMAP_H
#define MEMSCHED_DISKMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "pageset.h"

/* An entry, as it is told. */
typedef struct MsDiskPlace {
    uint32_t disk;              /* the caller's number, not 0 */
    bool sure;
    uint64_t offset_bytes;      /* of the first of the page's 4096 bytes */
    uint64_t sum;               /* of all of them */
} MsDiskPlace;

typedef struct MsDiskEntry {
    uint64_t offset_bytes;
    uint64_t sum;
    uint32_t page;
    uint32_t disk;              /* 0: free */
    uint32_t next;              /* of the bucket, or of the free ones; 0: none,
                                   else the number of the entry + 1 */
    bool sure;
} MsDiskEntry;

typedef struct MsDiskFrame {
    uint32_t *entry;            /* of each of 512 pages: number + 1, or 0; NULL
                                   while the frame has none */
    uint16_t located, sure;
    uint32_t changes;           /* wraps */
} MsDiskFrame;

typedef struct MsDiskmap {
    MsDiskFrame *frame;
    uint64_t frames;
    MsDiskEntry *entry;
    uint32_t *bucket;           /* by disk and offset */
    uint32_t size, used;        /* entries there are, entries ever used */
    uint32_t free;              /* the first free one, number + 1, or 0 */
    uint32_t limit;             /* entries there may be */
    uint64_t located, sure;     /* pages */
} MsDiskmap;

/* -EINVAL, -ENOMEM.  At most a page an entry: 2^32 pages, 16 TiB. */
int ms_diskmap_init(MsDiskmap *map, uint64_t frames);
/* All zero is fine. */
void ms_diskmap_destroy(MsDiskmap *map);

/*
 * @page was filled from @place; unsure, whatever it was before.  -ENOMEM,
 * -ERANGE (no such page): the page has no entry then.
 */
int ms_diskmap_note(MsDiskmap *map, uint64_t page, const MsDiskPlace *place);

/* False: the page has no entry. */
bool ms_diskmap_get(const MsDiskmap *map, uint64_t page,
                    MsDiskPlace *ret_place);

/* Pages of @frame that have an entry, or one that is sure. */
void ms_diskmap_select(const MsDiskmap *map, uint64_t frame, bool sure,
                       MsPageSet *ret_set);

/* Pages of @set with an entry are sure; how many became so. */
unsigned ms_diskmap_sure(MsDiskmap *map, uint64_t frame,
                         const MsPageSet *set);
/* Pages of @set are no longer; how many were. */
unsigned ms_diskmap_unsure(MsDiskmap *map, uint64_t frame,
                           const MsPageSet *set);
/* Pages of @set have no entry any more; how many had one. */
unsigned ms_diskmap_forget(MsDiskmap *map, uint64_t frame,
                           const MsPageSet *set);
/* No entry overlaps these bytes of @disk any more; how many did. */
uint64_t ms_diskmap_forget_disk(MsDiskmap *map, uint32_t disk,
                                uint64_t offset_bytes, uint64_t length_bytes);

/* Bytes of bookkeeping. */
uint64_t ms_diskmap_bytes(const MsDiskmap *map);

/* NULL if all counts equal a recount, else what differs. */
const char *ms_diskmap_check(const MsDiskmap *map);

#endif /* MEMSCHED_DISKMAP_H */
