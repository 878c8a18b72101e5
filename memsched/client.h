/*
 * One guest, as the scheduler sees it
 *
 * Locks.  client->lock (rank leaf: nothing is taken under it) guards the
 * region list, the map, the callbacks and what the guest says of itself.
 * The account is the ledger's: MemSched.ledger_lock.  Atomics are for reading
 * without a lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_CLIENT_H
#define MEMSCHED_CLIENT_H

#include <stdatomic.h>

#include "memsched/memsched.h"
#include "ledger.h"
#include "lock.h"
#include "pool.h"
#include "protect.h"
#include "sampler.h"
#include "stats.h"
#include "thrash.h"
#include "uffd.h"

typedef struct MsApps MsApps;           /* app.h */
typedef struct MsGpaMap MsGpaMap;

/* A touch that the grant rule refused; its thread sleeps in the kernel. */
typedef struct MsWaiter {
    MemSchedRegion *region;     /* a reference */
    uint64_t page;
    uint64_t since_ns;
    bool device;                /* not a vCPU's thread */
} MsWaiter;

struct MemSchedClient {
    MemSched *ms;
    char id[MEMSCHED_ID_MAX];
    MsUffd uffd;
    MsAccount account;          /* ledger_lock */
    MsPoolClaim pool_claim;     /* ledger_lock: where frames that transfers
                                   capture for it are kept together */
    _Atomic unsigned refs;      /* fault threads and list walkers */

    MsLock lock;
    MsCond cond;                /* callbacks == 0, captures == 0 */

    /* client->lock: */
    MemSchedRegion **regions;
    size_t regions_count;
    MsGpaMap *map;
    unsigned captures;          /* capture operations in flight */
    unsigned inhibited;         /* counted */
    bool running;
    unsigned shares;
    uint64_t min_bytes, max_bytes;      /* as given; max 0: all RAM */
    uint64_t stats[MEMSCHED_STATS];
    uint64_t stats_ns;          /* 0: never */
    bool app_stats;             /* from the agent, not the balloon's driver */
    uint64_t balloon_actual_bytes;
    uint64_t balloon_actual_ns; /* when it last changed */
    uint64_t balloon_manual_bytes;
    bool balloon_manual;        /* an operator has set a size by `balloon` */
    uint64_t oom_deflates;
    uint64_t oom_deflate_ns;    /* the last one; 0: never */
    uint64_t refused_pages;
    MsThrash thrash;
    MsSampled sampled;

    /* Callbacks: entered by ms_client_ops_enter(). */
    MemSchedClientOps ops;
    void *ops_opaque;
    bool attached;
    unsigned callbacks;         /* callbacks that run now */
    MemSchedMachineOps machine;
    void *machine_opaque;
    unsigned machine_calls;     /* of those, that run now */

    MemSchedGuestCondition told;        /* generation 0: nothing yet */
    uint64_t told_ns;

    MsApps *apps;               /* its balloon applications; has a lock of its
                                   own */
    /* recovery from memory errors, client->lock */
    MemSchedProtection protection;
    bool protect_changing;
    MemSchedDisk **disks;       /* disk.c */
    size_t disks_count;
    uint32_t disks_made;        /* its disks' numbers: 1, 2, ... */
    _Atomic bool disk_wanted;
    MsProtectStats protect_stats;
    uint64_t join_ns;           /* no page joins before; the protector's */

    /* fault queue, client->lock */
    MsWaiter *waiters;
    size_t waiters_count, waiters_size;
    _Atomic uint64_t waiting_since_ns;  /* oldest waiter; 0: nobody waits */

    /* Written by the scheduler's thread (scheduler.c), read by queries. */
    _Atomic uint64_t balloon_target_bytes;
    _Atomic uint64_t target_bytes, entitlement_bytes;
    _Atomic uint64_t active_bytes, idle_bytes;
    _Atomic uint64_t claimed_bytes;     /* what it says it uses; UINT64_MAX:
                                           nothing of late */
    _Atomic uint64_t responsiveness_bytes_per_s;
    _Atomic unsigned condition;         /* MemSchedCondition */
    _Atomic unsigned pressure;
    _Atomic bool stalled, unresponsive;
    _Atomic bool ending;                /* memsched_client_ending() */
    _Atomic unsigned awaited;           /* memsched_client_awaited() */
    _Atomic bool unmet_request;         /* asked to inflate, has not yet: its
                                           touches may use the allowance */
    _Atomic bool giving;                /* a transfer wants more of it */
    void *sched;                        /* scheduler.c's own record */

    _Atomic uint64_t faults_dry_ns;     /* no further faults until then; 0 */

    _Atomic uint64_t ram_pages;
    _Atomic uint64_t prefetch_pages;    /* ms_prefetch(), pending */
    _Atomic uint64_t ahead_ns;          /* when that last brought a page; 0:
                                           long ago, or for nothing */
    _Atomic uint64_t urge_pages;        /* ms_capture_urge(), pending */
    MsStats stats_counters;
};

MemSchedClient *ms_client_ref(MemSchedClient *client);
void ms_client_unref(MemSchedClient *client);

/*
 * The attached callbacks, for one call: true, a copy, and they stay until
 * ms_client_ops_leave(); false where nothing is attached.  Scheduler's thread
 * only, no lock held.
 */
bool ms_client_ops_enter(MemSchedClient *client, MemSchedClientOps *ret_ops,
                         void **ret_opaque);
void ms_client_ops_leave(MemSchedClient *client);

/*
 * client-machine.c: pause its machine or let it go on.  Scheduler's thread
 * only, no lock held.
 */
void ms_client_set_paused(MemSchedClient *client, bool paused);

/*
 * Permission to take pages out of the guest; false while inhibited, or (if
 * @needs_running) stopped.
 */
bool ms_client_capture_enter(MemSchedClient *client, bool needs_running);
void ms_client_capture_leave(MemSchedClient *client);

/* client-thrash.c: pages left the guest, by so many move calls. */
void ms_client_captured(MemSchedClient *client, uint64_t pages,
                        unsigned calls);
/* A touch brought back pages that the guest had given or reported. */
void ms_client_returned(MemSchedClient *client, uint64_t pages);
/* True: take nothing from it that nobody waits for. */
bool ms_client_left_alone(MemSchedClient *client);
/* True: it has had its share of faults, others are to come first. */
bool ms_client_faults_dry(MemSchedClient *client, uint64_t now_ns);

/* Sums of page counts over the regions; takes each region's lock in turn. */
typedef struct MsClientPages {
    uint64_t count[MEMSCHED_PAGE_STATES];
    uint64_t sampled;           /* of those resident, out for a sample */
    uint64_t huge_frames;
    uint64_t swapped;           /* part of state S */
} MsClientPages;

void ms_client_pages(MemSchedClient *client, MsClientPages *ret_pages);

/* What the guest's balloon holds, captured (B) or not yet (G). */
static inline uint64_t ms_pages_ballooned(const MsClientPages *pages)
{
    return pages->count[MEMSCHED_PAGE_BALLOONED] +
           pages->count[MEMSCHED_PAGE_GIVEN];
}

/*
 * References to the regions, g_free() the array after unref'ing each; NULL and
 * *ret_count 0 where there is none.
 */
MemSchedRegion **ms_client_regions(MemSchedClient *client, size_t *ret_count);

/* Queue a refused touch (once); what it was refused for comes later. */
int ms_client_wait(MemSchedClient *client, MemSchedRegion *region,
                   uint64_t page, bool device, uint64_t now_ns);
size_t ms_client_waiters(MemSchedClient *client);
/* The first one out of the queue: true, and its reference is yours. */
bool ms_client_wait_next(MemSchedClient *client, MsWaiter *ret_waiter);
/*
 * Put one back, as the last; a pass keeps the order so.  The reference goes
 * with it.
 */
void ms_client_wait_again(MemSchedClient *client, const MsWaiter *waiter);
/* After a pass over the queue: say since when somebody waits. */
void ms_client_wait_settle(MemSchedClient *client);
/* Forget the waiters of a region that goes away. */
void ms_client_wait_forget(MemSchedClient *client, MemSchedRegion *region);

/* Touches of any thread may use the give-allowance now. */
static inline bool ms_client_may_use_allowance(MemSchedClient *client)
{
    return atomic_load(&client->unmet_request) ||
           atomic_load(&client->awaited) > 0 || atomic_load(&client->ending);
}

/* Account limits after a change of RAM or options.  -ENOSPC, -EINVAL. */
int ms_client_set_limits(MemSchedClient *client, uint64_t min_bytes,
                         uint64_t max_bytes);

/* Reference to the present map; may be NULL. */
MsGpaMap *ms_client_map(MemSchedClient *client);

/* The region that holds a host address, with a reference, or NULL. */
MemSchedRegion *ms_client_region_at(MemSchedClient *client,
                                    const void *address);

#endif /* MEMSCHED_CLIENT_H */
