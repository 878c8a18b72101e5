/*
 * Pages in state T: what is known of them, and how they come back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TAGGED_H
#define MEMSCHED_TAGGED_H

#include "memsched/memsched.h"
#include "populate.h"

/*
 * Pages of [first, first + count) that are in state T are about to change to
 * another one without being populated.  Region lock held; the others are
 * passed over.
 */
void ms_tagged_forget_locked(MemSchedRegion *region, uint64_t first,
                          uint64_t count);

/* The same for all of a region that goes away. */
void ms_tagged_forget_region(MemSchedRegion *region);

typedef enum MsTaggedReturn {
    MS_TAGGED_BY_FAULT,
    MS_TAGGED_BY_RELEASE,          /* or by a deflate */
} MsTaggedReturn;

/*
 * ms_populate_frame() for pages in state T: they get their tags.  Sets what is
 * for it to say in @populate: mask and content.
 */
uint64_t ms_tagged_populate(MsPopulate *populate, MsTaggedReturn how,
                         bool *ret_touched);

/*
 * Pages of @frame whose tag is of @epoch (a slot's number) and in [first,
 * first + count).  Region lock held.
 */
void ms_tagged_select_locked(MemSchedRegion *region, uint64_t frame,
                          uint16_t epoch, uint64_t first, uint64_t count,
                          MsPageSet *ret_set);

/*
 * Pages of @frame in state T that are known, not credited: of a dead epoch,
 * released or unmapped, or copies.  Region lock held.
 */
void ms_tagged_known_locked(MemSchedRegion *region, uint64_t frame,
                            MsPageSet *ret_set);

/* How many a guest has. */
uint64_t ms_tagged_known_pages(MemSchedClient *client);

/*
 * All records of a guest against its pages and its epochs: NULL, or what
 * differs, or "" where pages are in transit and it cannot be told now.
 */
const char *ms_tagged_check(MemSchedClient *client);

#endif /* MEMSCHED_TAGGED_H */
