/*
 * The one scheduler of this process
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_INSTANCE_H
#define MEMSCHED_INSTANCE_H

#include "memsched/memsched.h"
#include "capture.h"
#include "client.h"
#include "fault.h"
#include "fence.h"
#include "ledger.h"
#include "lock.h"
#include "pagemap.h"
#include "pool.h"
#include "populate.h"
#include "protect.h"
#include "region.h"
#include "repair.h"
#include "sampler.h"
#include "scrub.h"
#include "stats.h"
#include "sys.h"

typedef struct MsSched MsSched;         /* scheduler.h */
typedef struct MsTagger MsTagger;       /* tagger.h */
typedef struct MsHeld MsHeld;           /* held.h */
typedef struct MsHolder MsHolder;       /* hold.h */
typedef struct MsSwapin MsSwapin;       /* swapin.h */

/* How a page changed hands. */
typedef enum MsHow {
    MS_HOW_MOVED, MS_HOW_COPIED, MS_HOW_DISCARDED,
} MsHow;

/*
 * What transfers want to know of the ledger.  Called with the ledger's lock
 * held, as part of its transaction: take locks of rank leaf only, make no
 * system call, call ms_ledger_claim() and the like as needed.
 */
typedef struct MsHooks {
    /*
     * For whom pages that @donor gives next are: up to @max, in the order in
     * which they will be claimed.  A forecast, binding nobody.
     */
    unsigned (*takers)(MemSched *ms, MemSchedClient *donor,
                       MemSchedSource source, MsCaptureTaker *ret_takers,
                       unsigned max);
    /* @pages of @donor have become free; claim them for whom they are. */
    void (*captured)(MemSched *ms, MemSchedClient *donor,
                     MemSchedSource source, uint64_t pages, MsHow how);
    /* @pages of @acceptor's claim are mapped in it now. */
    void (*populated)(MemSched *ms, MemSchedClient *acceptor, uint64_t pages,
                      MsHow how);
    /* The guest was reset, or goes away: its transfers end. */
    void (*client_reset)(MemSched *ms, MemSchedClient *client);
    void (*client_gone)(MemSched *ms, MemSchedClient *client);
} MsHooks;

struct MemSched {
    char id[MEMSCHED_ID_MAX];
    const MsSys *sys;
    MemSchedKernel kernel;
    bool fallback;              /* no UFFDIO_MOVE at all */
    uint64_t min_free_pages;
    bool allow_inject;

    MsPool *pool;
    MsScrub *scrub;
    MsFaults *faults;
    MsMover *mover;
    MsSampler *sampler;         /* sampler.c: what guests use */
    MsTagger *tagger;           /* tagger.c: balloon applications' pages */
    MsProtector *protector;
    MsRepair *repair;
    MsHeld *held;               /* NULL: no place is configured; each of these
                                   three */
    MsHolder *holder;
    MsSwapin *swapin;           /* NULL without a swap file, too */
    _Atomic unsigned protected_clients;
    MsSched *sched;             /* scheduler.c: tick, policy, transfers */
    MsFence fence;
    MsStats stats;

    MsLock ledger_lock;
    MsLedger ledger;
    const MsHooks *hooks;       /* NULL until the scheduler's thread runs */

    /* Guests in the order of admission; changed under both locks. */
    MsLock clients_lock;        /* rank leaf */
    MemSchedClient **clients;
    size_t clients_count, clients_size;
    MemSchedRegion **regions;           /* of all guests; clients_lock */
    size_t regions_count, regions_size;
    _Atomic unsigned waiters;           /* faults that wait for a grant */

    /* options that change live; scheduler.c writes */
    _Atomic unsigned policy, interval_ms, idle_tax_pct;
    _Atomic bool dry_run;
    _Atomic unsigned sample_ms;         /* a sampled unit's window; 0: off */
    _Atomic unsigned host_state;        /* MemSchedCondition */
    _Atomic unsigned pressure;

    MsLock observer_lock;       /* rank leaf */
    MsCond observer_cond;
    MemSchedObserver observer;
    void *observer_opaque;
    unsigned observer_calls;    /* calls that run now */
    _Atomic bool tracing;       /* the observer wants traces */
    _Atomic unsigned traces;    /* calls of it that run now */

#ifdef MEMSCHED_DEBUG
    /* Between the look at a guest's pages and their capture; set before. */
    void (*found_hook)(void *opaque, MemSchedRegion *region);
    void *found_opaque;
#endif
};

/*
 * References to all guests, in the order of admission; g_free() the array
 * after ms_client_unref() of each.
 */
MemSchedClient **ms_clients(MemSched *ms, size_t *ret_count);

/* By id, with a reference, or NULL. */
MemSchedClient *ms_client_get(MemSched *ms, const char *id);

/* Pages that the pool should keep ahead of demand are not there. */
bool ms_is_short(MemSched *ms);

/* The ledger changed: if faults wait, let them be tried again. */
void ms_ledger_rose(MemSched *ms);

/* event.c: tell the observer, who wants to know. */
void ms_trace_out(MemSched *ms, MemSchedTracePoint point, const char *id,
                  uint64_t a, uint64_t b);

/* Any thread, any lock held. */
static inline void ms_trace(MemSched *ms, MemSchedTracePoint point,
                            const char *id, uint64_t a, uint64_t b)
{
    if (atomic_load_explicit(&ms->tracing, memory_order_relaxed)) {
        ms_trace_out(ms, point, id, a, b);
    }
}

#endif /* MEMSCHED_INSTANCE_H */
