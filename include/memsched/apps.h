/*
 * libmemsched: balloon applications and memory conditions
 *
 * A part of the contract in memsched.h, which includes this file; the rules
 * about errors, threads and memory at its top hold here too.
 *
 * Programs in a guest set memory aside for the host, write a tag into each of
 * its pages and say so; the scheduler finds the pages by that value, takes
 * them out and compares all of it before it believes.  A page that was taken so
 * is in state T: its content is known, and comes back upon a touch.
 *
 * One guest has one *connection* (the device or port that carries messages,
 * with the agent behind it) and up to MEMSCHED_APPS_MAX applications, told
 * apart by a number that the agent chose.  The caller has parsed the messages;
 * what they say is untrusted here all the same.  The layout of tags is that of
 * include/standard-headers/linux/virtio_balloon_ex.h.
 *
 * An *order* asks one application for memory.  It has an epoch of its own, and
 * the page with sequence number k of that epoch is the k-th page that the
 * application sets aside for it.  An epoch is *live* from the order on until
 * its pages are unmapped, the application or its connection goes away, or the
 * machine is reset; pages in state T of a live epoch are credited to the
 * guest as ballooned by an application, once for each sequence number.  Those
 * of a dead one keep their content and earn nothing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_APPS_H
#define MEMSCHED_APPS_H

#include "memsched/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMSCHED_API            /* memsched.h has it */
#define MEMSCHED_API __attribute__((visibility("default")))
#endif

#define MEMSCHED_APPS_MAX       64      /* of one guest, at a time */
#define MEMSCHED_APP_NAME_MAX   32      /* bytes, with the final NUL */
#define MEMSCHED_REQUESTS_MAX   64      /* open ones of one guest */
#define MEMSCHED_SESSION_BYTES  16
#define MEMSCHED_KEY_BYTES      16

/* How an application answers an order. */
typedef enum MemSchedReserveStatus {
    MEMSCHED_RESERVE_PROGRESS,  /* so much, more follows */
    MEMSCHED_RESERVE_WHOLE,     /* that was all of it */
    MEMSCHED_RESERVE_PARTIAL,   /* that was all that it gives */
    MEMSCHED_RESERVE_REFUSED,   /* nothing */
} MemSchedReserveStatus;

/* Why less was given, or something goes back; the wire's numbers. */
typedef enum MemSchedReason {
    MEMSCHED_REASON_NONE,
    MEMSCHED_REASON_PRESSURE,
    MEMSCHED_REASON_LIMIT,
    MEMSCHED_REASON_DEADLINE,
    MEMSCHED_REASON_VETO,
    MEMSCHED_REASON_BUSY,
    MEMSCHED_REASON_UNKNOWN,
    MEMSCHED_REASON_END,
    MEMSCHED_REASON_HOST,
    MEMSCHED_REASON_CANCELLED,
    MEMSCHED_REASON_HIBERNATE,
    MEMSCHED_REASONS
} MemSchedReason;

/* What came of a request for memory. */
typedef enum MemSchedAnswer {
    MEMSCHED_ANSWER_QUEUED,     /* noted; another answer follows */
    MEMSCHED_ANSWER_GRANTED,
    MEMSCHED_ANSWER_PARTIAL,
    MEMSCHED_ANSWER_REFUSED,
} MemSchedAnswer;

typedef struct MemSchedAppOrder {
    uint32_t app;
    uint64_t cookie;            /* of this order */
    uint64_t epoch;
    uint64_t bytes;
    uint32_t granule_bytes;
    unsigned deadline_ms;       /* from now */
    uint8_t key[MEMSCHED_KEY_BYTES];
} MemSchedAppOrder;

/* Pages [first_seq, first_seq + count) of an epoch. */
typedef struct MemSchedAppRange {
    uint32_t app;
    uint64_t epoch;
    uint64_t first_seq;
    uint64_t count_pages;
} MemSchedAppRange;

typedef struct MemSchedAppAnswer {
    uint32_t app;
    uint64_t cookie;            /* of the request */
    MemSchedAnswer status;
    MemSchedReason reason;
    uint64_t bytes;             /* got so far */
} MemSchedAppAnswer;

/*
 * A guest's memory condition: what it may expect.  Bytes.  Figures of the
 * host are coarse, since they show what other guests do.
 */
typedef struct MemSchedGuestCondition {
    uint8_t session[MEMSCHED_SESSION_BYTES];
    uint64_t generation;        /* rises with every change of what follows */
    MemSchedCondition condition;        /* never CLEAR */
    MemSchedCondition host;
    unsigned pressure;          /* wanted / had x 100 */
    unsigned shares;
    uint64_t age_ns;            /* since the figures were gathered */
    uint64_t ram_bytes, min_bytes, max_bytes;
    uint64_t entitlement_bytes, target_bytes;
    uint64_t allocated_bytes;
    uint64_t reservable_bytes;  /* what the guest could still get now */
    uint64_t ballooned_kernel_bytes, ballooned_application_bytes;
    uint64_t ballooned_reported_bytes;
} MemSchedGuestCondition;

/*
 * What the scheduler asks of the connection.  All run in the scheduler's
 * thread, hold no scheduler lock, must not block: they queue a message.  Any
 * may be NULL.
 */
typedef struct MemSchedAppOps {
    void (*reserve)(void *opaque, const MemSchedAppOrder *order);
    /* Stop working on this order; what was tagged so far counts. */
    void (*cancel)(void *opaque, uint32_t app, uint64_t cookie);
    /* The host gives this back: it is about to populate it. */
    void (*release)(void *opaque, const MemSchedAppRange *range);
    /* It is populated as far as could be: unmap it. */
    void (*released)(void *opaque, const MemSchedAppRange *range);
    void (*answer)(void *opaque, const MemSchedAppAnswer *answer);
    void (*condition)(void *opaque, const MemSchedGuestCondition *condition);
    void (*poll_stats)(void *opaque);
} MemSchedAppOps;

/*
 * The connection is open: a new session begins, *ret_session is its number.
 * Epochs of earlier sessions are dead.  -EBUSY if one is attached, or the guest
 * is about to end.
 */
MEMSCHED_API int
memsched_client_attach_apps(MemSchedClient *client, const MemSchedAppOps *ops,
                            void *opaque,
                            uint8_t ret_session[MEMSCHED_SESSION_BYTES]);

/*
 * The connection is closed: all applications are gone, their orders end, their
 * epochs die.  Returns when no callback runs any more.  Harmless where nothing
 * is attached by this @opaque.
 */
MEMSCHED_API void memsched_client_detach_apps(MemSchedClient *client,
                                              void *opaque);

/*
 * A new session on the same connection (the machine was reset, restored or has
 * migrated in): as detach and attach, without the applications going away.
 * -ENOTCONN.
 */
MEMSCHED_API int
memsched_client_new_session(MemSchedClient *client,
                            uint8_t ret_session[MEMSCHED_SESSION_BYTES]);

typedef struct MemSchedAppOptions {
    uint32_t app;               /* 1 to 65535 */
    const char *name;           /* printable ASCII; other bytes become '?' */
    bool reserves;              /* takes orders */
    bool agent;                 /* the guest's own balloon */
    unsigned priority;          /* asked in rising order, 0 to 9 */
    uint64_t offer_bytes;       /* about what it could give; UINT64_MAX */
} MemSchedAppOptions;

/* -EEXIST (number taken), -ENOSPC (too many), -EINVAL, -ENOTCONN. */
MEMSCHED_API int memsched_app_register(MemSchedClient *client,
                                       const MemSchedAppOptions *options);

/* Its orders end, its epochs die.  -ENOENT. */
MEMSCHED_API int memsched_app_unregister(MemSchedClient *client, uint32_t app);

/*
 * An application says that pages are tagged.  Checked: cookie and epoch are
 * those of an order that runs, the range is inside what was ordered and not
 * larger than the guest's RAM.  -ENOENT, -ERANGE.  What was said twice counts
 * once.
 */
MEMSCHED_API int memsched_app_reserved(MemSchedClient *client, uint64_t cookie,
                                       const MemSchedAppRange *range,
                                       MemSchedReserveStatus status,
                                       MemSchedReason reason);

/*
 * Where tagged pages lie, so the application says: @count runs of pages from
 * sequence number @seq at guest physical address @gpa.  Verified like any
 * other candidate.  -ENOENT, -ERANGE (refused as a whole).
 */
typedef struct MemSchedAppHint {
    uint64_t seq;
    uint64_t gpa;
    uint64_t count_pages;
} MemSchedAppHint;

MEMSCHED_API int memsched_app_hints(MemSchedClient *client, uint32_t app,
                                    uint64_t epoch,
                                    const MemSchedAppHint *hints, size_t count);

/*
 * An application wants pages back: they are not credited any more.  Answered by
 * released() when they are there as far as could be.  -ENOENT, -ERANGE,
 * -EAGAIN (too many of these wait: say it again).
 */
MEMSCHED_API int memsched_app_release(MemSchedClient *client,
                                      const MemSchedAppRange *range,
                                      MemSchedReason reason);

/*
 * An application has unmapped them: they are not credited any more.  -ENOENT
 * (there never was such an epoch), -ERANGE.
 */
MEMSCHED_API int memsched_app_unmapped(MemSchedClient *client,
                                       const MemSchedAppRange *range);

/*
 * It gives nothing for so long (at most 60 s); 0 ends that.  -ENOENT, -ERANGE.
 */
MEMSCHED_API int memsched_app_veto(MemSchedClient *client, uint32_t app,
                                   unsigned duration_ms,
                                   MemSchedReason reason);

/*
 * What page @page of @region holds that is in state T, for migration, dumps and
 * snapshots: 4,096 bytes, without a fault, and without its coming back.
 * -ENOENT: it is not in state T (any more): read it.  -EINVAL.
 */
MEMSCHED_API int memsched_region_tag_content(MemSchedRegion *region,
                                             uint64_t page, void *ret_page);

typedef struct MemSchedAppRequest {
    uint32_t app;               /* 0: the guest as a whole */
    uint64_t cookie;
    uint64_t bytes;
    unsigned priority;          /* 0 to 9 */
    unsigned want;              /* VBX_WANT_*: shown */
    unsigned deadline_ms;       /* from now; at most 600,000 */
} MemSchedAppRequest;

/*
 * Ask for memory: the guest's target rises by so much as pool and donors
 * allow.  Answered by answer(), at least once.  -ENOSPC (too many open),
 * -EEXIST (cookie in use), -EINVAL, -ENOENT, -ENOTCONN.
 */
MEMSCHED_API int memsched_app_request(MemSchedClient *client,
                                      const MemSchedAppRequest *request);

/* -ENOENT */
MEMSCHED_API int memsched_app_cancel(MemSchedClient *client, uint32_t app,
                                     uint64_t cookie);

/* What a figure is of; the wire's numbers.  Sizes are bytes. */
typedef enum MemSchedAppStatTag {
    MEMSCHED_APP_STAT_TOTAL = 1,
    MEMSCHED_APP_STAT_FREE,
    MEMSCHED_APP_STAT_AVAILABLE,
    MEMSCHED_APP_STAT_CACHED,
    MEMSCHED_APP_STAT_SWAP_TOTAL,
    MEMSCHED_APP_STAT_SWAP_FREE,
    MEMSCHED_APP_STAT_RESERVED,
    MEMSCHED_APP_STAT_PSI_SOME = 16,    /* avg10, hundredths of a per cent */
    MEMSCHED_APP_STAT_PSI_FULL,
    MEMSCHED_APP_STAT_OOM_KILLS,
    MEMSCHED_APP_STAT_CACHE_SIZE = 32,  /* of an application */
    MEMSCHED_APP_STAT_CACHE_HITS,
    MEMSCHED_APP_STAT_CACHE_MISSES,
    MEMSCHED_APP_STATS
} MemSchedAppStatTag;

/* A figure that the guest (app 0) or an application tells. */
typedef struct MemSchedAppStat {
    uint32_t tag;               /* MemSchedAppStatTag */
    uint64_t value;
} MemSchedAppStat;

/*
 * Unknown tags are passed over.  What app 0 tells of the guest's memory counts
 * as a sample of its balloon's statistics too, if that brings none of its own.
 * -ENOENT, -ENOTCONN.
 */
MEMSCHED_API int memsched_app_stats(MemSchedClient *client, uint32_t app,
                                    const MemSchedAppStat *stats,
                                    size_t count);

/* -ENOENT where the guest has no RAM yet. */
MEMSCHED_API int
memsched_client_condition(MemSchedClient *client,
                          MemSchedGuestCondition *ret_condition);

/*
 * What is
 */

typedef struct MemSchedAppInfo {
    uint32_t app;
    char name[MEMSCHED_APP_NAME_MAX];
    bool reserves, agent;
    unsigned priority;
    uint64_t offer_bytes;
    uint64_t ordered_bytes;     /* of live epochs */
    uint64_t reserved_bytes;    /* said to be tagged */
    uint64_t captured_bytes;    /* credited */
    uint64_t veto_ms;           /* that is left */
    uint64_t cache_bytes, cache_hits, cache_misses;     /* UINT64_MAX: untold */
    uint64_t stats_age_ns;      /* UINT64_MAX: never */
} MemSchedAppInfo;

typedef struct MemSchedRequestInfo {
    uint32_t app;
    char name[MEMSCHED_APP_NAME_MAX];
    uint64_t bytes, got_bytes;
    unsigned priority, want;
    uint64_t age_ns, left_ms;   /* until its deadline */
    MemSchedAnswer status;
} MemSchedRequestInfo;

/* What identifying by value has done, pages since start. */
typedef struct MemSchedTagCounters {
    uint64_t scanned;           /* pages looked at */
    uint64_t scan_ns;
    uint64_t found_by_scan;     /* candidates that turned out right */
    uint64_t found_by_hint;
    uint64_t rejected;          /* header was right, something else not */
    uint64_t recaptured;        /* captured again after they had come back */
    uint64_t returned_by_fault;
    uint64_t returned_by_release;
} MemSchedTagCounters;

typedef struct MemSchedAppsInfo {
    bool connected;
    MemSchedGuestCondition condition;   /* last told; generation 0: none yet */
    MemSchedTagCounters counters;
    uint64_t known_bytes;       /* state T that earns nothing: of dead epochs,
                                   copies, released or unmapped */
    size_t apps_count, requests_count;
    MemSchedAppInfo app[MEMSCHED_APPS_MAX];
    MemSchedRequestInfo request[MEMSCHED_REQUESTS_MAX];
} MemSchedAppsInfo;

/* Of the guest @id.  -ENOENT. */
MEMSCHED_API int memsched_query_apps(MemSched *ms, const char *id,
                                     MemSchedAppsInfo *ret_info);

#ifdef __cplusplus
}
#endif

#endif /* MEMSCHED_APPS_H */
