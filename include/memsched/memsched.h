/*
 * libmemsched: the host memory scheduler of one process
 *
 * This header is the whole contract between the scheduler and everybody who
 * uses it: devices, monitor, migration code, launcher, tools and tests.
 *
 * What it does.  It owns a pool of host pages.  Guests (*clients*) register
 * their RAM blocks (*regions*) before the first touch; every page that they
 * ever hold comes out of the pool.  Pages that a guest confirms to have given
 * up are taken out of it (*capture*) and put under another guest's address
 * (*populate*) by UFFDIO_MOVE, without copying.
 *
 * Errors.  Functions return 0 or a positive number, or a negative errno.  A
 * ret_ parameter is written on success only.  Where a MemSchedMessage is
 * taken it may be NULL; on failure it receives one sentence that says what to
 * do.  Refusals that are part of normal work (a pinned page, a page that
 * went away) are numbers in MemSchedOpResult, not errors.
 *
 * Threads.  Every function may be called from any thread, with or without a
 * BQL held, unless it says otherwise.  None takes a BQL.  None calls back
 * into the caller, except where it says so.  Callbacks of MemSchedClientOps
 * and MemSchedObserver run in the scheduler's own thread with no scheduler
 * lock held; they must not block and must not call back into this library,
 * except for queries.  A thread that is cancelled in here returns first, so
 * that no lock stays held.
 *
 * Memory.  No GLib object crosses this header.  Strings that are passed in
 * are copied.  Arrays that are filled belong to the caller.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_H
#define MEMSCHED_H

#include "memsched/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMSCHED_API
#define MEMSCHED_API __attribute__((visibility("default")))
#endif

/* Applications and conditions, recovery, traces: parts of this contract. */
#include "memsched/apps.h"
#include "memsched/recovery.h"
#include "memsched/trace.h"

/*
 * The scheduler itself: one a process
 */

/* What the kernel can do, found by trying it once at start. */
typedef struct MemSchedKernel {
    bool full_userfaultfd;      /* faults of system calls are reported */
    bool move;                  /* UFFDIO_MOVE */
    bool poison;                /* UFFDIO_POISON */
    bool write_protect;
    bool write_protect_async;
    bool pagemap_scan;
    bool huge_pages;            /* madvise(MADV_HUGEPAGE) yields 2 MiB */
    char release[65];           /* uname -r */
    char warning[256];          /* too old for what; empty if nothing */
} MemSchedKernel;

/*
 * Probe the kernel.  Returns 0, or -EPERM where no full userfaultfd can be
 * had (the message names the three ways to grant it), or -ENOSYS.
 */
MEMSCHED_API int memsched_probe(MemSchedKernel *ret_kernel,
                                MemSchedMessage *ret_message);

typedef struct MemSchedOptions {
    const char *id;
    uint64_t pool_bytes;        /* whole pool; rounded down to 2 MiB */
    uint64_t min_free_bytes;    /* kept free ahead of demand; 0: default */
    MemSchedPolicy policy;
    unsigned interval_ms;       /* scheduler tick; 0: default 1000 */
    unsigned idle_tax_pct;      /* 0 to 99; 75 is the usual value */
    /*
     * How long memory that is sampled may be out of its guest, untouched, to
     * count as idle: 1000 to 3600000; 0: guests are not sampled.
     */
    unsigned sample_ms;
    bool allow_inject;
    /* places for the last resort; without one of them nothing is held */
    uint64_t held_memory_bytes; /* of the pool, for compressed pages; 0: none */
    const char *swap_path;      /* new file, or a block device; NULL: none */
    uint64_t swap_bytes;
} MemSchedOptions;

/*
 * Allocate and prefault the pool, start the threads.  Takes seconds for a
 * large pool: calls @progress (may be NULL) from this thread with the bytes
 * done.  -EEXIST if one runs already, -EINVAL, -ENOMEM (pool does not fit the
 * host or its memory cgroup; the message has both figures), -EPERM, -ENOSYS.
 */
MEMSCHED_API int memsched_start(const MemSchedOptions *options,
                                void (*progress)(void *opaque,
                                                 uint64_t done_bytes,
                                                 uint64_t total_bytes),
                                void *opaque, MemSched **ret_ms,
                                MemSchedMessage *ret_message);

/* Stop and free.  Clients that still exist: -EBUSY, nothing done. */
MEMSCHED_API int memsched_stop(MemSched *ms);

/* The running scheduler of this process, or NULL. */
MEMSCHED_API MemSched *memsched_running(void);

/* Version of this library, as "major.minor.micro". */
MEMSCHED_API const char *memsched_version(void);

typedef struct MemSchedChange {
    bool has_policy, has_interval, has_idle_tax, has_dry_run, has_sample;
    MemSchedPolicy policy;
    unsigned interval_ms;       /* 10 to 3,600,000 */
    unsigned idle_tax_pct;      /* 0 to 99 */
    bool dry_run;
    unsigned sample_ms;         /* 0, or 1000 to 3,600,000 */
} MemSchedChange;

/* Change options live; a bad one changes nothing: -EINVAL. */
MEMSCHED_API int memsched_set(MemSched *ms, const MemSchedChange *change,
                              MemSchedMessage *ret_message);

/*
 * Clients: a guest, as the scheduler sees it
 */

typedef struct MemSchedClientOptions {
    const char *id;             /* unique, 1 to MEMSCHED_ID_MAX - 1 bytes */
    uint64_t min_bytes;         /* guaranteed; rounded up to a page */
    uint64_t max_bytes;         /* limit; 0: the sum of its regions */
    unsigned shares;            /* 0: default 1000 */
} MemSchedClientOptions;

/*
 * Admit a guest.  -EEXIST (id taken), -EINVAL (min above max, bad id),
 * -ENOSPC (its min does not fit: SAFE of the grant rule would not hold; the
 * message has the figures).
 */
MEMSCHED_API int memsched_client_new(MemSched *ms,
                                     const MemSchedClientOptions *options,
                                     MemSchedClient **ret_client,
                                     MemSchedMessage *ret_message);

/*
 * Remove a guest: its transfers end, regions that are still registered are
 * freed (memsched_region_free()), its min and claims go back.  NULL is fine.
 */
MEMSCHED_API void memsched_client_free(MemSchedClient *client);

typedef struct MemSchedClientChange {
    bool has_min, has_max, has_shares;
    uint64_t min_bytes;
    uint64_t max_bytes;
    unsigned shares;
} MemSchedClientChange;

/* -ENOENT (no such guest), -EINVAL, -ENOSPC; on failure nothing changed. */
MEMSCHED_API int memsched_client_set(MemSched *ms, const char *id,
                                     const MemSchedClientChange *change,
                                     MemSchedMessage *ret_message);

/* What the scheduler asks of a guest's balloon.  Any member may be NULL. */
typedef struct MemSchedClientOps {
    /* The kernel balloon should hold this much.  Repeated when it changes. */
    void (*set_balloon)(void *opaque, uint64_t balloon_bytes);
    /* Ask for fresh balloon statistics. */
    void (*poll_stats)(void *opaque);
} MemSchedClientOps;

/*
 * Attach the guest's balloon.  -EBUSY if one is attached, or is not quite
 * detached yet.  Detaching waits until no callback of it runs any more; call it
 * without locks that a callback might want.
 */
MEMSCHED_API int memsched_client_attach(MemSchedClient *client,
                                        const MemSchedClientOps *ops,
                                        void *opaque);
MEMSCHED_API void memsched_client_detach(MemSchedClient *client,
                                         void *opaque);

/* What the scheduler asks of a guest's machine. */
typedef struct MemSchedMachineOps {
    /*
     * Pause the guest whole (a touch of it waits, and no page may be granted),
     * or let it go on.  The threads that wait stay asleep in their touch; the
     * others are to be stopped without waiting for those.
     */
    void (*set_paused)(void *opaque, bool paused);
} MemSchedMachineOps;

/*
 * The machine behind a guest, with a balloon or without one.  NULL takes it
 * away; none of its calls runs when this returns.
 */
MEMSCHED_API void memsched_client_set_machine(MemSchedClient *client,
                                              const MemSchedMachineOps *ops,
                                              void *opaque);

/*
 * Somebody waits until each vCPU of the guest has left its guest code, and can
 * do nothing else meanwhile: touches of any thread may use the give-allowance
 * until the call with @begin false.  Counted.
 */
MEMSCHED_API void memsched_client_awaited(MemSchedClient *client, bool begin);

/* The guest's driver says how much its balloon holds now. */
MEMSCHED_API void memsched_client_balloon_actual(MemSchedClient *client,
                                                 uint64_t balloon_bytes);

/* The operator set a balloon size by QEMU's own `balloon` command. */
MEMSCHED_API void memsched_client_balloon_manual(MemSchedClient *client,
                                                 uint64_t balloon_bytes);

/* The guest took balloon pages back because of its own OOM: policy backs off */
MEMSCHED_API void memsched_client_oom_deflate(MemSchedClient *client);

/* The VM runs or is stopped; no page in state G is captured while stopped. */
MEMSCHED_API void memsched_client_run(MemSchedClient *client, bool running);

/*
 * The guest is about to end: its threads that sleep in a touch which the grant
 * rule refused get pages out of its give-allowance, so that they can be stopped
 * and joined.  Its balloon, its applications and its machine are detached, as
 * by memsched_client_detach() and the like: no callback runs in the guest when
 * this returns.  Call it before that; it cannot
 * be taken back, and may be repeated.  NULL is fine.
 */
MEMSCHED_API void memsched_client_ending(MemSchedClient *client);

/*
 * Forbid captures (VFIO, migration of RAM, a vhost backend) or allow them
 * again; counted.  Captures in flight have ended when it returns.
 */
MEMSCHED_API void memsched_client_inhibit(MemSchedClient *client, bool inhibit);

/* Balloon statistics, virtio's numbering of tags is not used here. */
typedef enum MemSchedStat {
    MEMSCHED_STAT_SWAP_IN, MEMSCHED_STAT_SWAP_OUT, MEMSCHED_STAT_MAJOR_FAULTS,
    MEMSCHED_STAT_MINOR_FAULTS, MEMSCHED_STAT_FREE, MEMSCHED_STAT_TOTAL,
    MEMSCHED_STAT_AVAILABLE, MEMSCHED_STAT_CACHES, MEMSCHED_STAT_HTLB_ALLOC,
    MEMSCHED_STAT_HTLB_FAIL, MEMSCHED_STAT_OOM_KILL, MEMSCHED_STAT_ALLOC_STALL,
    MEMSCHED_STAT_SCAN_ASYNC, MEMSCHED_STAT_SCAN_DIRECT,
    MEMSCHED_STAT_RECLAIM_ASYNC, MEMSCHED_STAT_RECLAIM_DIRECT,
    MEMSCHED_STATS
} MemSchedStat;

#define MEMSCHED_STAT_UNKNOWN UINT64_MAX

/*
 * A sample of what the guest says about itself (untrusted: shown and weighed,
 * never believed).  Bytes where a size; MEMSCHED_STAT_UNKNOWN where not told.
 * The library stamps it with its clock.
 */
MEMSCHED_API void memsched_client_stats(MemSchedClient *client,
                                        const uint64_t stats[MEMSCHED_STATS]);

/*
 * Regions: guest RAM blocks
 */

typedef struct MemSchedRegionOptions {
    void *host;                 /* aligned to 2 MiB is best, 4 KiB is needed */
    uint64_t length_bytes;
    const char *name;           /* of the RAMBlock, for people */
    bool anonymous_private;     /* else: discard-and-allocate, by fallback */
} MemSchedRegionOptions;

/*
 * Register guest RAM that nobody has touched yet.  From now on every missing
 * page is served from the pool, also for the calling thread.  -EINVAL
 * (alignment, length), -EEXIST (overlaps a registered region), -EBUSY
 * (another userfaultfd has it), -ENOMEM, -ENOTSUP (no faults are reported of
 * this kind of RAM).  RAM of hugetlbfs must not be given.
 */
MEMSCHED_API int memsched_region_new(MemSchedClient *client,
                                     const MemSchedRegionOptions *options,
                                     MemSchedRegion **ret_region,
                                     MemSchedMessage *ret_message);

/*
 * Take all pages home and unregister.  No thread may touch the RAM during or
 * after this call; afterwards the caller may unmap it.  NULL is fine.
 */
MEMSCHED_API void memsched_region_free(MemSchedRegion *region);

/* Guest physical addresses: one run of GPA to one run of a region. */
typedef struct MemSchedGpaMapping {
    uint64_t gpa;
    uint64_t length_bytes;
    MemSchedRegion *region;
    uint64_t offset_bytes;
} MemSchedGpaMapping;

/*
 * Publish the guest's address map: sorted by GPA, not overlapping, page
 * aligned; writable RAM only.  Aliases (two GPAs of one page) are fine.
 * Replaces the map before.  -EINVAL, -ENOMEM.
 */
MEMSCHED_API int memsched_client_set_map(MemSchedClient *client,
                                         const MemSchedGpaMapping *mappings,
                                         size_t count);

/*
 * DMA fence: somebody holds a pointer into [host, host + length) that the
 * kernel may use without a fault.  Captured pages are put back while it is
 * raised.  Addresses outside every region are ignored.  Lock-free.
 */
MEMSCHED_API void memsched_dma_begin(const void *host, uint64_t length_bytes);
MEMSCHED_API void memsched_dma_end(const void *host, uint64_t length_bytes);

/*
 * Balloon operations: what a guest confirms
 *
 * Ranges are guest physical and untrusted: pages that are not registered
 * writable RAM are counted in refused_pages and ignored.  Overlaps, aliases
 * and repetitions count once.
 */

typedef struct MemSchedGpaRange {
    uint64_t gpa;
    uint64_t length_bytes;
} MemSchedGpaRange;

typedef struct MemSchedOpResult {
    uint64_t captured_pages;    /* taken out of the guest now */
    uint64_t given_pages;       /* state G: taken when their frame is whole */
    uint64_t populated_pages;   /* put into the guest now */
    uint64_t noop_pages;        /* nothing to do (already so, or a hole) */
    uint64_t busy_pages;        /* pinned or fenced: stayed with the guest */
    uint64_t refused_pages;     /* not RAM of this guest */
} MemSchedOpResult;

/*
 * Inflate.  With @must_tell_host pages may be captured after this call
 * returns, until deflated, reset or stopped: where captures are forbidden now,
 * once they are allowed again.  Without it all captures happen inside the call
 * and incomplete frames are split; -EBUSY if inhibited or stopped (nothing
 * taken; the guest's pages stay with it).
 */
MEMSCHED_API int memsched_inflate(MemSchedClient *client,
                                  const MemSchedGpaRange *ranges, size_t count,
                                  bool must_tell_host,
                                  MemSchedOpResult *ret_result);

/*
 * Deflate.  Populates what can be had at once, at most 2 ms of work; the
 * rest comes by fault.  Never discards.
 */
MEMSCHED_API int memsched_deflate(MemSchedClient *client,
                                  const MemSchedGpaRange *ranges, size_t count,
                                  MemSchedOpResult *ret_result);

/*
 * Free page report.  All moves happen inside the call; what cannot be taken
 * within @budget_ns stays with the guest.
 */
MEMSCHED_API int memsched_report(MemSchedClient *client,
                                 const MemSchedGpaRange *ranges, size_t count,
                                 uint64_t budget_ns,
                                 MemSchedOpResult *ret_result);

/*
 * The driver went away, or the machine was reset: raises the epoch, waits
 * (bounded) for captures in flight, populates nothing.
 */
MEMSCHED_API void memsched_reset(MemSchedClient *client, MemSchedReset kind);

/*
 * The next run of pages of @region at or after @from_page whose state is in
 * @state_mask (1u << MemSchedPageState): true and the run, or false.  For
 * migration and dumps; freeze captures first.
 */
MEMSCHED_API bool memsched_region_next_run(MemSchedRegion *region,
                                           uint64_t from_page,
                                           unsigned state_mask,
                                           uint64_t *ret_first_page,
                                           uint64_t *ret_count_pages);

/*
 * Incoming migration or loadvm: pages [first, first + count) hold no content
 * that the stream would overwrite; they become @state (B or P only).
 */
MEMSCHED_API int memsched_region_restore(MemSchedRegion *region,
                                         uint64_t first_page,
                                         uint64_t count_pages,
                                         MemSchedPageState state);

/*
 * Transfers
 */

typedef struct MemSchedTransferOptions {
    const char *from, *to;
    uint64_t size_bytes;        /* more than 0; rounded up to a page */
    MemSchedSource source;
    unsigned deadline_ms;       /* 0: default 30 s */
    bool in_time;               /* refuse it if, by what the donor gave before,
                                   it would not end by its deadline */
} MemSchedTransferOptions;

/*
 * Start a transfer; it runs by itself.  The acceptor gets the host frames that
 * the donor gave, before any others that are free, as far as they can be moved.
 * -ENOENT (no such guest; the message names it), -EINVAL (same guest, size 0,
 * more than the donor has above its min), -ENOSPC (no room in the acceptor),
 * -EOPNOTSUPP (no such source), -EAGAIN (too many transfers run), -ETIME (see
 * in_time; the message has both times).
 */
MEMSCHED_API int memsched_reallocate(MemSched *ms,
                                     const MemSchedTransferOptions *options,
                                     uint64_t *ret_id,
                                     MemSchedMessage *ret_message);

typedef struct MemSchedTransferInfo {
    uint64_t id;
    char from[MEMSCHED_ID_MAX], to[MEMSCHED_ID_MAX];
    MemSchedSource source;
    MemSchedTransferState state;
    uint64_t requested_bytes;
    uint64_t captured_bytes;    /* out of the donor */
    uint64_t moved_bytes;       /* mapped in the acceptor, without copying */
    uint64_t copied_bytes;
    uint64_t discarded_bytes;
    uint64_t elapsed_ns;
    uint64_t deadline_ms;
    /*
     * What was expected at its start, by the rate at which the donor gave
     * before.  0: it never gave enough to be measured.
     */
    uint64_t estimate_ms;       /* from the start to the end */
    uint64_t rate_bytes_per_s, rate_age_ms;     /* measured so long before */
    uint64_t left_ms;           /* of a running one, by its own rate as soon as
                                   that can be measured; 0: not known */
    /*
     * What identifying by value has done in the donor while the transfer ran
     * (for others that ran from it too).
     */
    MemSchedTagCounters tags;
    char reason[160];           /* why partial or failed */
} MemSchedTransferInfo;

/* The last transfers, newest first: fills up to @max, returns how many. */
MEMSCHED_API size_t memsched_query_transfers(MemSched *ms,
                                             MemSchedTransferInfo *ret_infos,
                                             size_t max);

/*
 * What the policy decides, and why
 */

#define MEMSCHED_DECISIONS_MAX 512u     /* kept at most */

/* One decision, with what it was made from; or why there is none. */
typedef struct MemSchedDecision {
    uint64_t number;            /* from 1, one more each; 0: none was made */
    uint64_t age_ns;
    char id[MEMSCHED_ID_MAX];   /* the guest's */
    bool give;                  /* it gets; else it is to give */
    uint64_t bytes;             /* 0: it keeps what it has */
    bool dry_run;               /* nothing was done about it */
    const char *reason;         /* a word: "idle", "below-min" */
    char text[320];             /* what and why, for a person */
    uint64_t allocated_bytes, active_bytes, wanted_bytes, entitlement_bytes;
    uint64_t min_bytes, max_bytes, ballooned_bytes;
    uint64_t waiting_bytes;     /* what touches that wait are taken for */
    uint64_t outgoing_bytes;    /* asked of it before, not given yet */
    unsigned shares, pressure;
    uint64_t again_ms;          /* until it is asked again; 0: it may be */
    /* the host */
    MemSchedPolicy policy;
    unsigned idle_tax_pct;
    MemSchedCondition state;
    uint64_t free_bytes, min_free_bytes;
} MemSchedDecision;

/*
 * The last decisions, newest first; about the guest @id alone unless that is
 * NULL.  Fills up to @max, returns how many.
 */
MEMSCHED_API size_t memsched_query_decisions(MemSched *ms, const char *id,
                                             MemSchedDecision *ret_decisions,
                                             size_t max);

/*
 * Why a guest has what it has: what the last look at it found.  -ENOENT, also
 * before the first look.
 */
MEMSCHED_API int memsched_explain(MemSched *ms, const char *id,
                                  MemSchedDecision *ret_decision,
                                  MemSchedMessage *ret_message);

/*
 * What is: queries never wait for a guest
 */

/* The last resort: pages of guests that the host keeps. */
typedef struct MemSchedHeldInfo {
    bool configured;            /* else all of it is 0 */
    uint64_t store_bytes, store_most_bytes;     /* of the pool: now, at most */
    uint64_t stored_pages;      /* compressed, now */
    uint64_t compressed_bytes;  /* what is left of them */
    uint64_t swap_bytes;        /* of the file; 0: none */
    uint64_t swapped_pages;     /* in it, now */
    /* counters since start */
    uint64_t out_pages;         /* left a guest, zero ones included */
    uint64_t zero_pages;        /* held nothing, and became holes */
    uint64_t refused_pages;     /* stayed: incompressible, or no room */
    uint64_t back_pages, read_pages;    /* came back: from store, from file */
    uint64_t lost_pages;        /* could not be read back */
    uint64_t write_errors, read_errors;         /* of the file */
    /* from touch to page, and how many of such touches */
    uint64_t back, back_p50_ns, back_p99_ns, back_max_ns;
    uint64_t read, read_p50_ns, read_p99_ns, read_max_ns;
} MemSchedHeldInfo;

typedef struct MemSchedInfo {
    char id[MEMSCHED_ID_MAX];
    MemSchedKernel kernel;
    MemSchedPolicy policy;
    unsigned interval_ms, idle_tax_pct;
    unsigned sample_ms;         /* 0: guests are not sampled */
    bool dry_run, allow_inject;
    bool fallback;              /* moves cannot be used: copy and discard */
    MemSchedCondition state;
    unsigned pressure;          /* wanted / had x 100 */
    unsigned clients;
    /* terms of I1, bytes */
    uint64_t pool_bytes;        /* B */
    uint64_t free_clean_bytes, free_dirty_bytes;
    uint64_t allocated_bytes, transit_bytes, held_bytes, parity_bytes;
    uint64_t quarantine_bytes, retired_bytes;
    uint64_t claimed_bytes, reserved_bytes;     /* part of free: c, need */
    uint64_t min_free_bytes;
    uint64_t free_huge_bytes;   /* part of free: whole 2 MiB frames */
    /* counters since start */
    uint64_t captured_pages, populated_pages, moved_pages, copied_pages;
    uint64_t discarded_pages, scrubbed_pages, huge_moves, split_frames;
    uint64_t faults, faults_stale, faults_waited, fault_ns_total;
    uint64_t fault_p50_ns, fault_p99_ns, fault_max_ns;
    uint64_t flushes, busy_pages, put_back_pages;
    uint64_t refused_requests;
    MemSchedHeldInfo held;
} MemSchedInfo;

MEMSCHED_API void memsched_query(MemSched *ms, MemSchedInfo *ret_info);

typedef struct MemSchedClientInfo {
    char id[MEMSCHED_ID_MAX];
    uint64_t min_bytes, max_bytes, ram_bytes;
    unsigned shares;
    uint64_t entitlement_bytes, target_bytes;
    uint64_t allocated_bytes;   /* host pages that it holds, in transit too */
    uint64_t active_bytes, idle_bytes;
    uint64_t ballooned_kernel_bytes, ballooned_application_bytes;
    uint64_t ballooned_reported_bytes;
    uint64_t given_bytes;       /* inflated, not captured yet */
    uint64_t held_bytes;        /* kept by the host for it, */
    uint64_t swapped_bytes;     /* part of that: in the swap file */
    uint64_t huge_bytes;        /* resident as 2 MiB pages, by our own map */
    uint64_t balloon_target_bytes, balloon_actual_bytes;
    uint64_t claimed_bytes;
    MemSchedCondition condition;
    unsigned pressure;
    bool attached;              /* has a balloon driver */
    bool running, stalled, unresponsive, inhibited;
    uint64_t responsiveness_bytes_per_s;
    uint64_t faults, fault_p50_ns, fault_p99_ns, fault_max_ns;
    uint64_t captured_pages, populated_pages, oom_deflates;
    uint64_t refused_pages;
    uint64_t stats[MEMSCHED_STATS];
    uint64_t stats_age_ns;      /* UINT64_MAX: never sampled */
    /* how much of allocated_bytes it uses: by itself, and by a sample of it */
    uint64_t claimed_active_bytes;      /* UINT64_MAX: it does not say */
    uint64_t sampled_active_bytes;      /* 0 where sampled_why is set */
    const char *sampled_why;    /* why the sample says nothing; NULL: it does */
    uint64_t sampled_age_ns;    /* of the last unit that came back */
    unsigned sampled_units;     /* that it rests on, older ones less */
    unsigned sampled_fast_permille, sampled_slow_permille;  /* averages */
    uint64_t sampled_after_ns;  /* mean time until a touch, where one came */
    uint64_t sampled_out_bytes; /* out of the guest now, part of allocated */
    /* pages of it that were captured and came back by touch; since start */
    uint64_t returned_pages;
    uint64_t backoffs;          /* times that it was left alone for that */
    uint64_t backoff_ns;        /* how much longer it is; 0: it is not */
} MemSchedClientInfo;

/* Fills up to @max, in the order of admission; returns how many there are. */
MEMSCHED_API size_t memsched_query_clients(MemSched *ms,
                                           MemSchedClientInfo *ret_infos,
                                           size_t max);

/* -ENOENT where there is no such guest. */
MEMSCHED_API int memsched_query_client(MemSched *ms, const char *id,
                                       MemSchedClientInfo *ret_info);

/* The client by its id, or NULL; valid until memsched_client_free(). */
MEMSCHED_API MemSchedClient *memsched_client_find(MemSched *ms,
                                                  const char *id);

typedef struct MemSchedTranslation {
    char region[64];            /* name of the RAMBlock */
    uint64_t offset_bytes;
    uint64_t host_address;
    bool has_pfn;
    uint64_t pfn;               /* from /proc/self/pagemap */
    bool huge;
    MemSchedPageState state;
} MemSchedTranslation;

/* -ENOENT (no such guest), -EFAULT (no RAM at this address). */
MEMSCHED_API int memsched_translate(MemSched *ms, const char *id, uint64_t gpa,
                                    MemSchedTranslation *ret_translation,
                                    MemSchedMessage *ret_message);

/*
 * Recount every term of I1 from page states and from the kernel, check SAFE
 * and all internal lists.  Takes each region's lock in turn.  0, or -EUCLEAN
 * with the first difference in words.
 */
MEMSCHED_API int memsched_check(MemSched *ms, MemSchedMessage *ret_message);

/*
 * Events and traces
 */

typedef enum MemSchedEventKind {
    MEMSCHED_EVENT_TRANSFER_COMPLETED,  /* any end of a transfer */
    MEMSCHED_EVENT_CONDITION_CHANGED,
    MEMSCHED_EVENT_GUEST_UNRESPONSIVE,
    MEMSCHED_EVENT_GUEST_STALLED,
    MEMSCHED_EVENT_DECISION,            /* of the policy; not all: see below */
} MemSchedEventKind;

/*
 * A decision about a guest is told when it is another one than the last that
 * was told (it gives instead of getting, or for another reason), or 10 s after
 * that; one guest's at most every second, 32 a second of all guests.
 * memsched_query_decisions() has all of them.
 */

typedef struct MemSchedEvent {
    MemSchedEventKind kind;
    char id[MEMSCHED_ID_MAX];           /* guest; empty: the host */
    bool active;                        /* stalled, unresponsive: began */
    MemSchedCondition condition;
    MemSchedTransferInfo transfer;
    MemSchedDecision decision;
    uint64_t skipped;                   /* decisions about this guest that were
                                           not told since the last one */
} MemSchedEvent;

typedef struct MemSchedObserver {
    void (*event)(void *opaque, const MemSchedEvent *event);
    /* Called from any thread with any lock held: be quick, call nothing. */
    void (*trace)(void *opaque, MemSchedTracePoint point, const char *id,
                  uint64_t a, uint64_t b);
} MemSchedObserver;

/* NULL takes the observer away; none of its calls runs when this returns. */
MEMSCHED_API void memsched_observe(MemSched *ms,
                                   const MemSchedObserver *observer,
                                   void *opaque);

#ifdef __cplusplus
}
#endif

#endif /* MEMSCHED_H */
