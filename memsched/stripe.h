/*
 * Which pages share parity
 *
 * Pure bookkeeping of one region: no page is read, no lock taken, no system
 * call made; the caller holds the lock of the region's protection.
 *
 * A *group* is up to `size` guest frames of 2 MiB (its *members*, each in a
 * slot of its own) and one or two parity frames of 2 MiB.  Page i of each
 * member and of each parity frame is one *stripe*: a group is 512 stripes, its
 * *rows*.  So
 * no two pages of a stripe share a 2 MiB frame, whatever else happens; a member
 * may be one huge page, which joins and leaves as a whole, or small pages that
 * come and go one by one.  A group belongs to one region, so a stripe never
 * spans guests.
 *
 * A page is `in` its stripe while its content is part of the sums.  The pages
 * whose content has gone without anybody having known it (`gone`, part of
 * `in`) still are in the sums and can be rebuilt for the sake of the others,
 * but are no longer what the guest has.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_STRIPE_H
#define MEMSCHED_STRIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "pageset.h"
#include "parity.h"

typedef struct MsGroup MsGroup;

/* A guest frame that is in a group. */
typedef struct MsMember {
    MsGroup *group;
    uint64_t frame;
    unsigned slot;
    bool huge;                  /* one unit */
    bool keep;                  /* pages are about to join */
    MsPageSet in;
    MsPageSet gone;             /* part of in */
    uint64_t sum[MS_PAGESET_PAGES];     /* of each page that is in */
} MsMember;

struct MsGroup {
    unsigned index;             /* in MsStripes.group */
    unsigned used;              /* members */
    unsigned keep;              /* users who want it to stay though empty */
    MsMember *member[MS_PARITY_SLOTS];
    uint8_t count[MS_PAGESET_PAGES];    /* members in each row */
    MsPageSet busy;             /* rows that somebody works on */
    MsPageSet bad[MS_PARITY_PAGES];     /* parity pages not to be used; of an
                                           empty row only while it is busy */
    char *parity[MS_PARITY_PAGES];      /* NULL: not of this scheme */
    void *opaque;               /* the caller's, who owns the frames */
    uint32_t scrub_pass;        /* the last one of the scrubber that has read
                                   all of it */
    uint16_t scrub_row;         /* where the next step begins */
};

typedef struct MsStripes {
    unsigned size;              /* slots of a group: 2 to MS_PARITY_SLOTS */
    unsigned parities;          /* 1: P; 2: P and Q */
    uint64_t frames;
    MsMember **member;          /* of each frame of the region, or NULL */
    MsGroup **group;
    unsigned groups, groups_size;
    uint64_t members;
    uint64_t pages;             /* in */
} MsStripes;

/* -EINVAL, -ENOMEM. */
int ms_stripes_init(MsStripes *stripes, uint64_t frames, unsigned parities,
                    unsigned size);
/* Groups that are left are freed; their frames are the caller's. */
void ms_stripes_destroy(MsStripes *stripes);

/* NULL: the frame is in no group. */
static inline MsMember *ms_stripes_member(const MsStripes *stripes,
                                          uint64_t frame)
{
    return stripes->member ? stripes->member[frame] : NULL;
}

/* The group with a free slot that is fullest, or NULL. */
MsGroup *ms_stripes_open(const MsStripes *stripes);

/* A group without members; NULL: no memory. */
MsGroup *ms_stripes_add_group(MsStripes *stripes,
                              char *const parity[MS_PARITY_PAGES],
                              void *opaque);

/* It has no member and no busy row; true: it is gone, @ret_opaque is yours. */
bool ms_stripes_reap_group(MsStripes *stripes, MsGroup *group,
                           void **ret_opaque);

/* The frame is in no group, the group has a free slot; NULL: no memory. */
MsMember *ms_stripes_add_member(MsStripes *stripes, MsGroup *group,
                                uint64_t frame, bool huge);

/* If none of its pages is in, and it is not kept: removed, freed, true. */
bool ms_stripes_reap_member(MsStripes *stripes, MsMember *member);

/* Pages of @set, none of which is in: in now.  sum[] is the caller's. */
void ms_stripes_join(MsStripes *stripes, MsMember *member,
                     const MsPageSet *set);
/* Pages of @set, all of which are in: not in any more. */
void ms_stripes_leave(MsStripes *stripes, MsMember *member,
                      const MsPageSet *set);

/* This page can be rebuilt, as far as the books know. */
bool ms_stripes_covered(const MsStripes *stripes, const MsMember *member,
                        unsigned page);

/* Bytes of bookkeeping, parity frames apart. */
uint64_t ms_stripes_bytes(const MsStripes *stripes);

/* NULL if all counts equal a recount, else what differs. */
const char *ms_stripes_check(const MsStripes *stripes);

#endif /* MEMSCHED_STRIPE_H */
