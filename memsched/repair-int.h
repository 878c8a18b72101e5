/*
 * Inside of repair: repair*.c and refill.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_REPAIR_INT_H
#define MEMSCHED_REPAIR_INT_H

#include <glib.h>
#include <stdatomic.h>

#include "lock.h"
#include "pageset.h"
#include "region.h"
#include "repair.h"

/* Threads that may wait in the handler at once; more of them spin. */
#define MS_ASKS 256u

/* State of an MsAsk. */
enum {
    MS_ASK_FREE,
    MS_ASK_TAKEN,
    MS_ASK_ASKED,
    MS_ASK_PARKED,              /* its page is being read from a disk */
    MS_ASK_ANSWERED,            /* + MemSchedSigbus */
};

/* A thread in the handler of SIGBUS. */
typedef struct MsAsk {
    _Atomic uint32_t state;     /* a futex */
    void *address;
    uint64_t since_ns;
    bool alone;                 /* nobody sleeps for it: ms_repair_ask() */
    MemSchedDiskRead *read;     /* PARKED: refill_lock */
} MsAsk;

struct MsRepair {
    MemSched *ms;
    GThread *thread;
    _Atomic int tid;
    _Atomic uint32_t bell;      /* a futex; rises with each that asks */
    _Atomic bool stop;
    MsAsk ask[MS_ASKS];

    MsLock lock;                /* leaf: who watches */
    MsCond cond;
    void (*watch)(void *opaque, const MemSchedError *error);
    void *watch_opaque;
    unsigned watch_calls;

    MsLock refill_lock;         /* leaf: what follows */
    MsCond refill_cond;         /* one has ended */
    MemSchedDiskRead *reads;    /* those that the emulator has */
};

/* ---- repair.c ---- */

/* Its thread goes on. */
void ms_ask_answer(MsRepair *repair, MsAsk *ask, MemSchedSigbus answer);

/* A fresh frame with @content for what is broken; the page is in C. */
bool ms_repair_place(MemSchedRegion *region, uint64_t page,
                     const void *content, bool protect);

/*
 * The end of a repair of a page in C that was @was: it is whole, or zeros take
 * its place.  Whoever watches is told.
 */
void ms_repair_page_end(MemSchedRegion *region, uint64_t page,
                        MemSchedPageState was, bool whole, bool awaited,
                        uint64_t since_ns);

/* ---- repair-tell.c ---- */

/* Whoever watches is told of a page that was repaired, or is lost. */
void ms_repair_tell(MemSchedRegion *region, uint64_t page, bool lost,
                    bool awaited, uint64_t since_ns);

/* ---- repair-torn.c ---- */

/* What is in C beside a page that is to go. */
typedef struct MsTorn {
    uint64_t frame;
    unsigned page;              /* the one that is to go */
    bool huge;                  /* it was in a huge page */
    MsPageSet resident, given;  /* the others, and what they were */
} MsTorn;

/*
 * The region is locked, the page not in C yet.  False: others have a part of
 * its huge page in C; it has waited for them, look again.  Else the others of
 * its huge page, if it is in one, are in C.
 */
bool ms_torn_begin_locked(MemSchedRegion *region, uint64_t page,
                          MsTorn *ret_torn);

/* Nothing is to go after all.  No lock held. */
void ms_torn_cancel(MemSchedRegion *region, const MsTorn *torn);

/*
 * The page is gone, or broken, and in C: its frame is of small pages from now
 * on, each with a frame of its own; the others are no longer in C.  No lock
 * held.
 */
void ms_torn_end(MemSchedRegion *region, const MsTorn *torn);

/* ---- refill.c ---- */

/*
 * Have the page, in C, read from its disk, if it is known to be there.  NULL:
 * it is not.  With @ask the thread that waits there is answered in the end, and
 * the result must not be used; without, call ms_refill_wait().
 */
MemSchedDiskRead *ms_refill_begin(MemSchedRegion *region, uint64_t page,
                                  MemSchedPageState was, uint64_t since_ns,
                                  MsAsk *ask);
/* True: the page is whole. */
bool ms_refill_wait(MemSchedDiskRead *read);

/* True: the page is being read, and @ask waits for that too. */
bool ms_refill_join(MemSchedRegion *region, uint64_t page, MsAsk *ask);

#endif /* MEMSCHED_REPAIR_INT_H */
