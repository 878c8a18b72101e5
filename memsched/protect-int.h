/*
 * Inside of protection: protect-*.c and repair.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PROTECT_INT_H
#define MEMSCHED_PROTECT_INT_H

#include "capture.h"
#include "diskmap.h"
#include "lock.h"
#include "pool.h"
#include "protect.h"
#include "region.h"
#include "stripe.h"

/* Pages that are worked on at a time: four times 128 KiB stay in a cache. */
#define MS_PROTECT_CHUNK 32u

/* Buffers of one operation on stripes. */
typedef struct MsWork {
    char *base;
    char *data;                 /* MS_PROTECT_CHUNK pages */
    char *old;                  /* the same: parity as it was */
    char *aside[MS_PARITY_PAGES];       /* the same: parity to be */
    char *page[MS_PARITY_SLOTS];        /* one page each, of one stripe */
    char *parity[MS_PARITY_PAGES];
    char *out[MS_PARITY_PAGES]; /* rebuilt */
} MsWork;

/* When a frame may join again. */
typedef struct MsHeat {
    uint32_t joined_ms;         /* of the protection's own clock */
    uint32_t next_ms;
    uint8_t backoff;            /* 2^n times cool_ms */
} MsHeat;

/* The scrubber's place in a region. */
typedef struct MsScrubPlace {
    uint64_t next_ns;           /* no step before; the worker's own */
    uint32_t pass;              /* that goes on; from 1 */
    uint64_t done_pages;        /* of it */
    uint64_t begun_ns;
    uint64_t ended_ns, took_ns; /* the last one; ended_ns 0: none */
    uint64_t passes;
} MsScrubPlace;

struct MsProtect {
    MemSchedRegion *region;
    MsLock lock;                /* rank stripe; guards what follows */
    MsCond cond;                /* rows are no longer busy */
    bool on;
    MsStripes stripes;
    unsigned users;             /* operations with busy rows, and a join */
    MsWork *spare;              /* buffers that nobody uses now */
    MsHeat *heat;               /* of each frame */
    _Atomic uint8_t *cover;     /* of each frame: MemSchedCover that is wanted;
                                   written by protect-cover.c */
    uint64_t cursor;            /* the next one to look at */
    uint64_t disk_cursor;       /* the same of protect-disk.c */
    MsScrubPlace scrub;         /* next_ns: the worker's */

    MsLock disk_lock;           /* leaf; guards what follows */
    _Atomic bool disk_on;
    MsDiskmap disk;
};

static inline bool ms_protection_is_on(const MemSchedProtection *settings)
{
    return settings->scheme != MEMSCHED_SCHEME_NONE || settings->disk;
}

/* Frames of one group's parity, the opaque of MsGroup. */
typedef struct MsParityFrames {
    MsPoolRun run[MS_PARITY_PAGES];
} MsParityFrames;

/* NULL: this region was never protected. */
static inline MsProtect *ms_protect_of(MemSchedRegion *region)
{
    return atomic_load_explicit(&region->protect, memory_order_acquire);
}

static inline char *ms_parity_address(const MsGroup *group, unsigned k,
                                      unsigned page)
{
    return group->parity[k] + ((size_t)page << MEMSCHED_PAGE_SHIFT);
}

/* ---- protect-row.c ---- */

/*
 * Read pages of a guest by the kernel, up to the first that is broken, or a
 * hole: a hole is not read, for its fault would be waited for, and whoever
 * serves it may wait for rows.  How many were read.  A page that is discarded
 * this very moment is waited for all the same.
 */
unsigned ms_protect_peek(MsProtect *protect, uint64_t page, unsigned count,
                         void *buf);

MsWork *ms_work_get(MsProtect *protect);
void ms_work_put(MsProtect *protect, MsWork *work);
void ms_work_free(MsWork *work);        /* NULL is fine */

/*
 * The rows of the pages of @set that are in (which @set then is) become busy,
 * the caller's; waits until nobody else has one of them.  NULL: none is in.
 */
MsMember *ms_rows_begin_locked(MsProtect *protect, uint64_t frame,
                               MsPageSet *set);
/* Rows of a group that is kept, whoever is in. */
void ms_rows_take_locked(MsProtect *protect, MsGroup *group,
                         const MsPageSet *set);
/*
 * The caller's rows are no longer busy.  Members and groups without a page
 * go, so that @group is not to be used any more unless it is kept.
 */
void ms_rows_end_locked(MsProtect *protect, MsGroup *group,
                        const MsPageSet *set);

/* Rows are the caller's in all of these; no lock held. */

/*
 * A row as its owner may use it without a lock.  Members of other rows alone
 * come and go, and are freed, meanwhile: a group's table is not to be read.
 */
typedef struct MsRow {
    unsigned count;
    MsMember *member[MS_PARITY_SLOTS];  /* they stay while the row is busy */
    bool gone[MS_PARITY_SLOTS];         /* as it was when asked */
    bool bad[MS_PARITY_PAGES];          /* or not of this scheme */
} MsRow;

void ms_row_members(MsProtect *protect, const MsGroup *group, unsigned page,
                    MsRow *row);

/*
 * The content that @member's page should have, from the others of its stripe,
 * verified: in @work->out[0].  -EIO: not to be had.
 */
int ms_row_rebuild(MsProtect *protect, MsWork *work, MsMember *member,
                   unsigned page);

/*
 * The parity of a row anew from what can be read of it, @except apart; whose
 * content is not what it should be leaves.
 */
void ms_row_recompute(MsProtect *protect, MsWork *work, MsGroup *group,
                      unsigned page, const MsMember *except);

/*
 * Take the pages of @set out of the sums, and out of the books.  Nothing is
 * left but to unprotect them.  Without @dead broken pages stay, and are taken
 * out of @set: nobody can write to them, and they are to be rebuilt yet.
 */
void ms_rows_leave(MsProtect *protect, MsWork *work, MsMember *member,
                   MsPageSet *set, bool dead);

/*
 * @count pages at @data, not in yet, into the sums; not into the books.
 * @fresh: they are the first of their rows.
 */
void ms_rows_add(MsProtect *protect, MsWork *work, const MsMember *member,
                 unsigned page, unsigned count, const char *data, bool fresh);

/* A parity page is broken, or was: a new one, and bad from now on. */
void ms_parity_renew(MsProtect *protect, MsGroup *group, unsigned k,
                     unsigned page);

/* What one page of a row turned out to be. */
typedef enum MsLook {
    MS_LOOK_NONE,               /* not in; or parity that is bad anyway */
    MS_LOOK_RIGHT,
    MS_LOOK_OTHER,              /* it has not the content that it should */
    MS_LOOK_BROKEN,             /* it cannot be read */
    MS_LOOK_GONE,               /* its content went before, and is known to */
    MS_LOOK_UNKNOWN,            /* parity, while not all pages can be read */
} MsLook;

typedef struct MsRowLook {
    unsigned pages;             /* that were read */
    uint64_t frame[MS_PARITY_SLOTS];    /* of a member that is not NONE */
    MsLook member[MS_PARITY_SLOTS];
    MsLook parity[MS_PARITY_PAGES];
} MsRowLook;

/* Compare a row with its checksums and its parity; changes nothing. */
void ms_row_look(MsProtect *protect, MsWork *work, const MsGroup *group,
                 unsigned page, MsRowLook *ret_look);

/* Give the frames back; locks of lower rank may be held. */
void ms_parity_release(MsProtect *protect, MsParityFrames *frames);

/* ---- protect-join.c ---- */

/*
 * The next frame that may join does.  Bytes that were worked on; 0: there is
 * none now.  The worker's thread; the region is entered, no lock held.
 */
uint64_t ms_protect_join(MsProtect *protect, MsCapture *capture);

static inline bool ms_cover_has(const MsProtect *protect, uint64_t frame,
                                MemSchedCover cover)
{
    return atomic_load_explicit(&protect->cover[frame],
                                memory_order_relaxed) & cover;
}

/* ---- protect-cover.c ---- */

/*
 * Each frame's cover, as @settings and the guest's map say.  Frames that are
 * not to have it any more lose what they had on disks; their pages leave their
 * stripes one frame at a time (protect-join.c).  One call at a time.
 */
void ms_cover_set(MsProtect *protect, const MemSchedProtection *settings);

/* Add this region's pages that a disk alone covers, and those left out. */
void ms_cover_count(MsProtect *protect, MemSchedProtectionInfo *info);

/* ---- protect-scrub.c ---- */

/*
 * The next rows are verified, if it is time.  When the next step of this region
 * may come.  The worker's thread; the region is entered, no lock held.
 */
uint64_t ms_protect_scrub(MsProtect *protect, uint64_t rate_bytes_per_s);

/* ---- protect-disk.c ---- */

/* Pages are noted from now on, or nothing is known any more. */
void ms_protect_disk_set(MsProtect *protect, bool on);

/* Pages of @set, NULL for all of the frame, may be written from now on. */
void ms_protect_disk_unsure(MsProtect *protect, uint64_t frame,
                            const MsPageSet *set);
/* The same for the whole region. */
void ms_protect_disk_unsure_all(MsProtect *protect);

/* Pages of @set hold something else, or nothing; how many were known. */
unsigned ms_protect_disk_forget(MsProtect *protect, uint64_t frame,
                                const MsPageSet *set);
/* The same of one page; the region may be locked, or never protected. */
void ms_protect_disk_forget_page(MemSchedRegion *region, uint64_t page);

/* Pages of @frame that are, or may be, on a disk. */
void ms_protect_disk_located(MsProtect *protect, uint64_t frame,
                             MsPageSet *ret_set);

/*
 * A page is about to be written: it is forgotten.  True: it, or others of its
 * huge page, were known.
 */
bool ms_protect_disk_written(MsProtect *protect, uint64_t page);

/*
 * The next frame with pages that were read is protected, and looked at.  Bytes
 * that were; 0: there is none now.  The worker's thread; the region is entered,
 * no lock held.
 */
uint64_t ms_protect_join_disk(MsProtect *protect);

/* ---- protect.c ---- */

/*
 * Those pages of @set that are in leave, as by ms_rows_leave(); how many, and
 * which.  They stay protected.  No lock held.
 */
uint64_t ms_protect_leave_rows(MsProtect *protect, uint64_t frame,
                               MsPageSet *set, bool dead);

/*
 * The unit of @page leaves its stripes and is unprotected: whoever waits to
 * write is woken.  How many pages did.
 */
uint64_t ms_protect_leave_unit(MsProtect *protect, uint64_t page);

/* Unprotect pages of @set of a frame, all of it where it is huge. */
void ms_protect_open(MemSchedRegion *region, uint64_t frame,
                     const MsPageSet *set, bool wake);

uint32_t ms_protect_clock_ms(const MsProtect *protect);
MemSchedProtection ms_protect_settings(MemSchedClient *client);

#endif /* MEMSCHED_PROTECT_INT_H */
