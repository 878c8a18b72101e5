/*
 * Epochs: what was ordered, what is said to be tagged, what is credited
 *
 * Pure: no clock, no lock (the caller holds the guest's apps->lock).  Counts
 * are 4 KiB pages.  Each sequence number of a live epoch is *told* (the
 * application says that the page is tagged), then perhaps *retired* (it was
 * released or unmapped: for good); and it has a number of pages in state T
 * that carry it.  Credited: told, not retired, and at such a page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_EPOCH_H
#define MEMSCHED_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

#include "memsched/apps.h"
#include "tag.h"
#include "tag-map.h"

/* Live ones, and dead ones that some page in state T is left of. */
#define MS_EPOCHS 1024u

typedef struct MsEpoch {
    uint64_t number;            /* on the wire; never used again */
    uint64_t cookie;            /* of the order */
    uint32_t app;
    uint16_t slot;              /* its own */
    bool live;
    bool running;               /* the order has not ended */
    bool cancelled;             /* it was taken back, */
    bool late;                  /* since its time was up */
    MsTagKind kind;
    uint64_t pages;             /* ordered */
    uint64_t told;              /* and not retired */
    uint64_t tell;              /* number of the last time */
    uint64_t credited;          /* part of told */
    uint64_t tag_pages;         /* in state T, live or dead */
    uint64_t returned;          /* came back by a touch, not found again yet */
    unsigned pins;              /* who works with the record */
    uint64_t deadline_ns;       /* of the order */
    uint64_t news_ns;           /* when something last was told or found */
    uint8_t *sequence;          /* of each: see epoch.c; NULL when dead */
} MsEpoch;

typedef struct MsEpochs {
    MsEpoch *slot[MS_EPOCHS];
    unsigned count;             /* in use */
    uint64_t numbers;           /* handed out */
    uint64_t tells;             /* how often something was told */
    uint64_t live_pages;        /* ordered, sum over live ones */
    uint64_t told, credited, tag_pages;         /* sums over all */
} MsEpochs;

void ms_epochs_destroy(MsEpochs *epochs);

/*
 * A new one, for an order of @pages; NULL: too many, or together more than
 * @most pages are ordered.  pages < 2^32.
 */
MsEpoch *ms_epochs_open(MsEpochs *epochs, uint32_t app,
                        const uint8_t key[MS_TAG_KEY_BYTES], uint64_t pages,
                        uint64_t most);

/* The live one of this number, or NULL. */
MsEpoch *ms_epochs_find(MsEpochs *epochs, uint32_t app, uint64_t number);

/* True if [first, first + count) is inside of what was ordered. */
bool ms_epoch_has_range(const MsEpoch *epoch, uint64_t first, uint64_t count);

/* Both: a range that it has.  What was so already stays so. */
void ms_epoch_tell(MsEpochs *epochs, MsEpoch *epoch, uint64_t first,
                   uint64_t count);
void ms_epoch_retire(MsEpochs *epochs, MsEpoch *epoch, uint64_t first,
                     uint64_t count);

/*
 * The order has ended; @reason is for the caller to keep.  An epoch without
 * told pages dies of it.  Returns false if it is gone now.
 */
bool ms_epoch_end_order(MsEpochs *epochs, MsEpoch *epoch);

/* It dies; its pages in state T stay known.  @epoch may be gone. */
void ms_epoch_kill(MsEpochs *epochs, MsEpoch *epoch);

/* The record stays, also of a dead one, until it is unpinned as often. */
void ms_epoch_pin(MsEpoch *epoch);
void ms_epoch_unpin(MsEpochs *epochs, MsEpoch *epoch);

/* Dies if its order has ended and nothing is told any more: true. */
bool ms_epoch_reap(MsEpochs *epochs, MsEpoch *epoch);

/* A page with this tag may be captured. */
bool ms_epoch_wants(const MsEpoch *epoch, uint64_t sequence);

/*
 * A page in state T with this tag is known, not credited: of the epoch's pages
 * there are as many as tag_pages - credited.  Of several with one tag any is.
 */
bool ms_epoch_spares(const MsEpoch *epoch, uint64_t sequence);

/*
 * The last run of numbers that are told, and credited or (not @credited)
 * missing: false if there is none.
 */
bool ms_epoch_last_run(const MsEpoch *epoch, bool credited,
                       uint64_t *ret_first, uint64_t *ret_count);

/*
 * A page has come to state T; what to note about it.  The epoch may be dead by
 * now.
 */
MsTagRef ms_epoch_add_page(MsEpochs *epochs, MsEpoch *epoch,
                           uint32_t sequence);

/* It leaves state T.  The epoch's record may go with it. */
void ms_epoch_remove_page(MsEpochs *epochs, MsTagRef ref);

/* Of a page in state T. */
MsEpoch *ms_epochs_of(const MsEpochs *epochs, MsTagRef ref);

/* NULL if all sums equal a recount, else what differs. */
const char *ms_epochs_check(const MsEpochs *epochs);

#endif /* MEMSCHED_EPOCH_H */
