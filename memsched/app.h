/*
 * Balloon applications of one guest: who is there, and what is said to them
 *
 * Inside of the library.  The contract is include/memsched/apps.h.
 *
 * Locks.  apps->lock is a leaf: it may be taken under a region's lock or the
 * ledger's, and nothing is taken under it.  Callbacks run in the scheduler's
 * thread with no lock held.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_APP_H
#define MEMSCHED_APP_H

#include <stdatomic.h>

#include "memsched/memsched.h"
#include "epoch.h"
#include "lock.h"

typedef struct MsApp {
    uint32_t number;            /* 0: the slot is free */
    char name[MEMSCHED_APP_NAME_MAX];
    bool reserves, agent;
    unsigned priority;
    uint64_t offer_bytes;
    uint64_t serial;            /* order of registration */
    uint8_t key[MEMSCHED_KEY_BYTES];
    uint64_t veto_until_ns;     /* 0: none */
    MemSchedReason veto_reason;
    uint64_t cache_bytes, cache_hits, cache_misses;     /* UINT64_MAX: untold */
    uint64_t stats_ns;          /* 0: never */
    /* How it answered its last order that has ended: app-order.c. */
    MemSchedReserveStatus status;
    MemSchedReason reason;
    uint64_t rest_until_ns;     /* it gave less than asked: not before */
    unsigned rests;             /* one after the other */
} MsApp;

/* What waits to be said to the connection, in this order. */
typedef enum MsAppCallKind {
    MS_APP_CALL_RESERVE, MS_APP_CALL_CANCEL, MS_APP_CALL_RELEASE,
    MS_APP_CALL_RELEASED, MS_APP_CALL_ANSWER, MS_APP_CALL_POLL,
} MsAppCallKind;

typedef struct MsAppCall {
    MsAppCallKind kind;
    union {
        MemSchedAppOrder order;
        MemSchedAppRange range;
        MemSchedAppAnswer answer;
        struct {
            uint32_t app;
            uint64_t cookie;
        } cancel;
    };
} MsAppCall;

/* A guest cannot make more wait than this: see ms_apps_post(). */
#define MS_APP_CALLS 256u

/* Pages that are to come back: app-return.c queues, tagger.c does it. */
typedef struct MsAppRelease {
    MsEpoch *epoch;             /* pinned; NULL: none */
    uint64_t first, count;      /* sequence numbers */
    bool tell;                  /* RELEASED when it is done */
} MsAppRelease;

#define MS_APP_RELEASES 256u
/* Hints that have not been looked at; more are not needed, and dropped. */
#define MS_APP_HINTS    1024u

/* Where the search for a guest's tags is: the tagger's own. */
typedef struct MsTagSearch {
    uint64_t region, frame;     /* ordinal; next one to look at */
    uint64_t regions;           /* when the pass began */
    bool passing;
    bool idle;                  /* nothing was missing when it last looked */
    uint64_t pass_ns;           /* when it began */
    uint64_t found;             /* captured in it */
    uint64_t next_ns;           /* not before */
    uint64_t backoff_ns;
    uint64_t again_ns;          /* parts that were passed over; UINT64_MAX */
    /* thrash: see tagger.c */
    uint64_t window_ns, window_captured, window_returned;
    uint64_t rest_until_ns;
    unsigned rests;
    /* the release that is being worked on */
    MsAppRelease release;
    uint64_t release_region, release_frame;
    bool release_refused;       /* the ledger has no more */
} MsTagSearch;

struct MsApps {
    MemSchedClient *client;
    MsLock lock;
    MsCond cond;                /* callbacks == 0 */

    /* lock: */
    MemSchedAppOps ops;
    void *opaque;
    bool attached;
    unsigned callbacks;         /* callbacks that run now */
    unsigned detaching;         /* threads that wait for the end of those */
    uint8_t session[MEMSCHED_SESSION_BYTES];
    uint64_t sessions;          /* how many there were */
    MsApp app[MEMSCHED_APPS_MAX];
    unsigned count;             /* registered */
    uint64_t serials;
    MsAppCall call[MS_APP_CALLS];       /* a ring */
    unsigned first_call, calls;
    bool poll_waits;            /* a POLL is in the ring */
    /* What the guest says of itself beside what its balloon tells. */
    uint64_t guest_stat[MEMSCHED_APP_STATS];    /* UINT64_MAX: untold */
    uint64_t guest_stats_ns;    /* 0: never */
    MsEpochs epochs;
    MemSchedTagCounters counters;
    MsAppRelease release[MS_APP_RELEASES];      /* a ring */
    unsigned first_release, releases;
    MemSchedAppHint hint[MS_APP_HINTS];         /* a ring */
    unsigned first_hint, hints;
    char why[112];              /* the last one that gave less, and why */
    bool why_changed;
    bool told;                  /* since the tagger last looked */
    uint64_t urge_pages;        /* wanted soon, also out of huge pages */

    MsTagSearch search;
};

typedef struct MsApps MsApps;

MsApps *ms_apps_new(MemSchedClient *client);
void ms_apps_free(MsApps *apps);        /* NULL is fine; nothing is attached */

/* The connection, if there is one, is closed for good: see detach. */
void ms_apps_end(MsApps *apps);         /* NULL is fine */

/*
 * Say it, later, in the scheduler's thread.  -EAGAIN: so much waits already
 * (the guest does not read); -ENOTCONN.  Any lock of lower rank may be held; no
 * thread is woken: ms_apps_kick().
 */
int ms_apps_post(MsApps *apps, const MsAppCall *call);
int ms_apps_post_locked(MsApps *apps, const MsAppCall *call);
void ms_apps_kick(MsApps *apps);        /* no leaf held */

/* Make the calls that wait.  Scheduler's thread, no lock held. */
void ms_apps_deliver(MsApps *apps);     /* NULL is fine */

/* Ask the agent for statistics, once for all wishes that wait. */
void ms_apps_poll(MsApps *apps);        /* NULL is fine */

/*
 * The ops, for one call: true, a copy, and they stay until ms_apps_leave().
 * Scheduler's thread only, no lock held.
 */
bool ms_apps_enter(MsApps *apps, MemSchedAppOps *ret_ops, void **ret_opaque);
void ms_apps_leave(MsApps *apps);

/* The application of this number, or NULL.  Lock held. */
MsApp *ms_apps_find_locked(MsApps *apps, uint32_t number);

/* The machine starts anew: all epochs die. */
void ms_apps_reset(MsApps *apps);       /* NULL is fine */

/*
 * Pages [first, first + count) of a live epoch are to come back: from now on
 * they are not credited.  -EAGAIN: too many wait.  Lock held; kick the tagger.
 */
int ms_apps_release_locked(MsApps *apps, MsEpoch *epoch, uint64_t first,
                           uint64_t count, bool tell);

#endif /* MEMSCHED_APP_H */
