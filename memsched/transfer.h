/*
 * Transfers: memory on its way from one guest to another
 *
 * Pure: counts and times in, ordered actions out; no clock, no lock, no system
 * call.  The caller serialises (MemSched.ledger_lock), carries the actions out
 * in their order, and reports what a claim really got.  All counts are 4 KiB
 * pages.  Guests are opaque pointers that are compared, never followed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TRANSFER_H
#define MEMSCHED_TRANSFER_H

#include "memsched/memsched.h"
#include "rate.h"

/* At once; more are refused. */
#define MS_TRANSFERS_RUNNING    64u
/* And of the policy's own, which take nobody's place. */
#define MS_TRANSFERS_AUTOMATIC  32u
/* With the last ones that have ended. */
#define MS_TRANSFERS_KEPT       256u
#define MS_TRANSFER_DEADLINE_MS 30000u

typedef struct MsTransfer {
    uint64_t id;                /* 0: not used yet */
    const void *from, *to;      /* NULL: out of the pool, into it */
    bool automatic;             /* the policy's: see transfer-auto.c */
    char from_id[MEMSCHED_ID_MAX], to_id[MEMSCHED_ID_MAX];
    MemSchedSource source;
    MemSchedTransferState state;
    uint64_t requested;
    uint64_t captured;          /* out of the donor */
    uint64_t captured_kernel;   /* part of it: by its kernel's balloon */
    uint64_t captured_app;      /* part of it: by balloon applications */
    uint64_t captured_discarded;/* part of it: frames that did not move */
    uint64_t claimed;           /* promised to the acceptor, all in all */
    uint64_t moved, copied, discarded;          /* mapped in the acceptor */
    uint64_t start_ns, end_ns, deadline_ns;
    uint64_t captured_ns;       /* the last capture, or the start */
    uint64_t mapped_ns;         /* the last page in the acceptor, or that */
    unsigned deadline_ms;
    MsRateEstimate expected;    /* at the start; ms 0: not known */
    char why[112];              /* an application gave less; or empty */
    MemSchedTagCounters tags_before;    /* of the donor, at the start */
    MemSchedTagCounters tags;   /* since then: ms_transfer_tags() */
    char reason[160];
} MsTransfer;

typedef enum MsTransferActionKind {
    MS_TRANSFER_KEEP,           /* from's balloon: so many more stay in it */
    MS_TRANSFER_KEEP_APP,       /* the same of its applications */
    MS_TRANSFER_CLAIM,          /* for to; answer by ms_transfers_claimed() */
    MS_TRANSFER_RELEASE,        /* let so much of to's claim lapse */
    MS_TRANSFER_RESTORE,        /* from's balloon: so many fewer */
    MS_TRANSFER_RESTORE_APP,    /* the same of its applications */
    MS_TRANSFER_LOWER,          /* to's balloon, then its applications: so many
                                   fewer */
    MS_TRANSFER_FINISH,         /* tell whoever listens */
} MsTransferActionKind;

typedef struct MsTransferAction {
    MsTransferActionKind kind;
    MsTransfer *transfer;       /* good until the next start */
    const void *client;         /* whose claim, or balloon */
    uint64_t pages;
} MsTransferAction;

/* A transfer gives at most five actions a call: those of its end. */
typedef struct MsTransferActions {
    unsigned count;
    MsTransferAction action[(MS_TRANSFERS_RUNNING +
                             MS_TRANSFERS_AUTOMATIC) * 5];
} MsTransferActions;

typedef struct MsTransfers {
    uint64_t last_id;
    unsigned running;
    unsigned automatic;         /* part of running */
    MsTransfer kept[MS_TRANSFERS_KEPT];         /* in no order */
} MsTransfers;

typedef struct MsTransferStart {
    const void *from, *to;
    const char *from_id, *to_id;
    MemSchedSource source;
    uint64_t pages;
    unsigned deadline_ms;       /* 0: default */
    uint64_t now_ns;
    bool automatic;
} MsTransferStart;

/*
 * 0 and the id, or -EAGAIN: too many run.  With to NULL what is captured stays
 * in the pool, and is where it should be at once.
 */
int ms_transfers_start(MsTransfers *t, const MsTransferStart *start,
                       uint64_t *ret_id);

/*
 * The same without a donor (start->from is not looked at): the pages are free,
 * and are claimed by *ret_actions.
 */
int ms_transfers_from_pool(MsTransfers *t, const MsTransferStart *start,
                           uint64_t *ret_id, MsTransferActions *ret_actions);

/* End one that runs: nobody wants it any more.  Else nothing. */
void ms_transfers_cancel(MsTransfers *t, MsTransfer *transfer,
                         uint64_t now_ns, MsTransferActions *ret_actions);

MsTransfer *ms_transfers_find(MsTransfers *t, uint64_t id);

/*
 * transfer-auto.c: the policy's transfer of @from into the pool (@to NULL), or
 * out of it to @to (@from NULL), that runs; or NULL.
 */
MsTransfer *ms_transfers_automatic(MsTransfers *t, const void *from,
                                   const void *to);

/*
 * So much is still to be claimed for it, from now on, and it has its time anew.
 * With nothing left it completes where all that was claimed is mapped.
 */
void ms_transfers_set_left(MsTransfers *t, MsTransfer *transfer,
                           uint64_t pages, uint64_t now_ns,
                           MsTransferActions *ret_actions);

/* Claim @pages for one out of the pool, as far as it still lacks them. */
void ms_transfers_claim_more(MsTransfer *transfer, uint64_t pages,
                             MsTransferActions *ret_actions);

/* transfer-expect.c: what is expected of it, into @info. */
void ms_transfer_expect(const MsTransfer *transfer, uint64_t now_ns,
                        MemSchedTransferInfo *info);

/* A running transfer of @from that may have pages of this source. */
typedef struct MsTransferTaker {
    const void *to;
    uint64_t pages;             /* not claimed yet */
} MsTransferTaker;

/* Oldest first: the order in which ms_transfers_captured() serves them. */
unsigned ms_transfers_takers(const MsTransfers *t, const void *from,
                             MemSchedSource source,
                             MsTransferTaker *ret_takers, unsigned max);

/* @pages of @from are free; @discarded: not the same frames. */
void ms_transfers_captured(MsTransfers *t, const void *from,
                           MemSchedSource source, uint64_t pages,
                           bool discarded, uint64_t now_ns,
                           MsTransferActions *ret_actions);

/* What a CLAIM action got. */
void ms_transfers_claimed(MsTransfer *transfer, uint64_t pages);

/* @pages out of @to's claim are mapped; @copied: their bytes were copied. */
void ms_transfers_populated(MsTransfers *t, const void *to, uint64_t pages,
                            bool copied, uint64_t now_ns,
                            MsTransferActions *ret_actions);

/* Ends those whose deadline has come. */
void ms_transfers_time(MsTransfers *t, uint64_t now_ns,
                       MsTransferActions *ret_actions);

/* Ends those of @client: it went away, or (@reset) was reset. */
void ms_transfers_gone(MsTransfers *t, const void *client, bool reset,
                       uint64_t now_ns, MsTransferActions *ret_actions);

/*
 * An application of @from gave less than it was asked for: @why, in words, for
 * those that it may be the reason of.
 */
void ms_transfers_note(MsTransfers *t, const void *from, const char *why);

/*
 * No application of @from is there any more: those that only they can fulfil
 * end at the next ms_transfers_time().
 */
void ms_transfers_hasten(MsTransfers *t, const void *from, const char *why,
                         uint64_t now_ns);

/* The earliest deadline, or UINT64_MAX. */
uint64_t ms_transfers_deadline_ns(const MsTransfers *t);

/* Sums over the running transfers of one guest. */
typedef struct MsTransferSums {
    unsigned giving, taking;    /* how many */
    uint64_t give_left;         /* requested of it, not claimed yet */
    uint64_t give_kernel_left;  /* part of it that its balloon may give */
    uint64_t give_app_left;     /* part of it that applications alone give */
    uint64_t give_any_left;     /* part of both: that anybody may give */
    uint64_t give_auto_left;    /* part of give_left: asked by the policy */
    uint64_t take_left;         /* requested for it, not mapped yet */
    uint64_t take_auto_left;    /* part of it: given by the policy */
    uint64_t take_claimed;      /* promised to it so far, mapped or not */
    uint64_t outstanding;       /* promised to it, not mapped yet */
    uint64_t captured_ns;       /* last capture of what it gives */
    uint64_t mapped_ns;         /* last progress of what it takes */
    uint64_t deadline_ns;       /* earliest of what it gives */
    uint64_t take_deadline_ns;  /* earliest of what it takes */
} MsTransferSums;

void ms_transfers_sums(const MsTransfers *t, const void *client,
                       MsTransferSums *ret_sums);

/* What is known of a guest when its balloon is to be set. */
typedef struct MsTransferGuest {
    uint64_t base;              /* its balloon, transfers apart */
    uint64_t ballooned;         /* pages in B and G by our own map */
    uint64_t apps_base, apps_held;      /* the same of its applications: what
                                           they should hold, and do */
    uint64_t given;             /* in G: not captured yet */
    uint64_t holes;             /* in H, P, and T that nobody is credited, and
                                   in C, which may become H */
    uint64_t ram, min;
    uint64_t hungry_ns;         /* when a touch of it last waited; 0: never */
    bool deflates;              /* has a driver that answers */
} MsTransferGuest;

/* How much its balloon should hold now. */
uint64_t ms_transfers_balloon(const MsTransferSums *sums,
                              const MsTransferGuest *guest);

/*
 * How much its applications should hold now, wishes apart: less by what its
 * kernel's balloon cannot make room for, pages that it was given but that were
 * not taken included.
 */
uint64_t ms_transfers_apps(const MsTransferSums *sums,
                           const MsTransferGuest *guest);

/*
 * How much of @claim should be put into holes ahead of use: what its balloon
 * is not expected to make room for, or all of it when nothing else has come
 * of it for a second.
 */
uint64_t ms_transfers_prefetch(const MsTransferSums *sums,
                               const MsTransferGuest *guest, uint64_t claim,
                               uint64_t now_ns);

/*
 * How many given pages are wanted now although their frames are incomplete: the
 * guest has given all that it was asked for, so that nothing more comes which
 * could complete them; or captures have stopped; or the deadline is near.
 */
uint64_t ms_transfers_urge(const MsTransferSums *sums,
                           const MsTransferGuest *guest, uint64_t now_ns);

/* The donor's counters are @now: at its start, its end, and before a look. */
void ms_transfer_tags_start(MsTransfer *transfer,
                            const MemSchedTagCounters *now);
void ms_transfer_tags(MsTransfer *transfer, const MemSchedTagCounters *now);

void ms_transfer_info(const MsTransfer *transfer, uint64_t now_ns,
                      MemSchedTransferInfo *ret_info);

/* Newest first. */
size_t ms_transfers_list(const MsTransfers *t, uint64_t now_ns,
                         MemSchedTransferInfo *ret_infos, size_t max);

#endif /* MEMSCHED_TRANSFER_H */
