/*
 * The giving side of one application: orders, and what becomes of them
 *
 * A state machine between messages and a reservoir.  It knows no sockets, no
 * clock and no loop: messages that came in are handed to it, messages that go
 * out are handed to its owner, the time is an argument, and it works when it is
 * told to, a bounded step at a time.
 *
 * Times are milliseconds of any clock that does not go back.  One thread at a
 * time; no callback may call the giver.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_GIVER_H
#define BX_GIVER_H

#include "reservoir.h"
#include "wire.h"

/* Memory of an earlier session is kept for so long, for orders to come. */
#define BX_STOCK_MS 30000u

typedef struct BxGiver BxGiver;

typedef struct BxGiverOps {
    /* Of this application; not packed yet.  It cannot fail. */
    void (*send)(void *opaque, BxMessage *message);
    /*
     * How much of @bytes may be set aside now, in addition to what is.  Where
     * it is less than asked for, *ret_reason is why (VBX_REASON_*).
     */
    uint64_t (*spare)(void *opaque, uint64_t bytes, unsigned *ret_reason);
    /* So much has been unmapped: the guest has it again. */
    void (*have)(void *opaque, uint64_t bytes);
} BxGiverOps;

typedef struct BxGiverOptions {
    const BxSys *sys;           /* NULL: the real one */
    bool huge;                  /* huge pages for large granules */
    uint32_t granule_min_bytes; /* never in smaller ones; 0: as ordered */
    uint64_t step_bytes;        /* between two looks at anything else */
    int pagemap;                /* for hints; -1: none */
    uint32_t stock_ms;          /* 0: BX_STOCK_MS */
} BxGiverOptions;

typedef struct BxGiverInfo {
    BxReservoirInfo memory;
    bool busy;                  /* an order is being worked on */
    uint64_t orders;
    uint64_t given_back_bytes;
    uint64_t hints;             /* runs told */
} BxGiverInfo;

/* -ENOMEM */
int bx_giver_new(const BxGiverOptions *options, const BxGiverOps *ops,
                 void *opaque, BxGiver **ret_giver);

/* Unmaps everything and says nothing.  NULL is fine. */
void bx_giver_free(BxGiver *giver);

/* Whether the host wants hints.  It does unless this says otherwise. */
void bx_giver_use_hints(BxGiver *giver, bool use);

/*
 * RESERVE, CANCEL, RELEASE or RELEASED came, unpacked.  Returns 0, or the
 * VBX_ERROR_* that it is to be answered with.
 */
int bx_giver_message(BxGiver *giver, const BxMessage *message,
                     uint64_t now_ms);

/* A step.  True where there is more to do at once. */
bool bx_giver_work(BxGiver *giver, uint64_t now_ms);

/* When bx_giver_work() is worth a call; UINT64_MAX: not before a message. */
uint64_t bx_giver_due_ms(const BxGiver *giver);

/* The order that is being worked on ends here, for VBX_REASON_*. */
void bx_giver_stop(BxGiver *giver, unsigned reason);

/*
 * Give back at least @bytes if there is so much: what is of no use to the host
 * first, then the newest.  Does not wait for the host, and tells it.  Returns
 * how much that was.
 */
uint64_t bx_giver_shrink(BxGiver *giver, uint64_t bytes, unsigned reason);

/*
 * The session has ended: the order and all epochs are dead, nobody is told.
 * Also to be called when the next session begins, which gives the stock its
 * time anew.
 */
void bx_giver_end_session(BxGiver *giver, uint64_t now_ms);

void bx_giver_info(const BxGiver *giver, BxGiverInfo *ret_info);

#endif
