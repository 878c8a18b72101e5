/*
 * libballoonex: memory conditions and balloon applications, for programs that
 * run in a guest
 *
 * A guest's operating system knows how much memory it was told to have.  How
 * much of that the host will really back is known to the host; the guest's
 * agent, balloon-exd, learns it and passes it on.  With this library a program
 *
 *  - reads the guest's memory condition: bx_condition_get();
 *  - is told when it changes: bx_fd(), bx_wait(), bx_dispatch();
 *  - asks for memory: bx_request();
 *  - takes part in giving memory up: bx_offer().
 *
 * Errors.  A function returns 0 or a positive number where it worked, and a
 * negative errno where it did not; each comment lists those that a caller may
 * want to tell apart.  There is no other error state, nothing is printed, and
 * no signal handler is set.
 *
 * The agent may be absent, end, or come back at any time.  A Bx outlives that:
 * what was offered is offered again once there is an agent.  Calls that need it
 * say -ENOTCONN meanwhile.
 *
 * Threads.  A Bx is for one thread at a time.  bx_condition_get() alone may be
 * called by any thread, at any time between bx_open() and bx_close().
 * Callbacks run in the thread that calls bx_dispatch(), and nowhere else; they
 * may call anything here but bx_dispatch(), bx_wait() and bx_close(); give()
 * and have() not bx_withdraw() and bx_take_back() either.  No thread is
 * created.
 *
 * fork().  A child must not use its parent's Bx; memory that was set aside is
 * not there in the child.
 *
 * Compatibility.  Structs are the caller's; their reserved fields are zero, and
 * later versions may give them a meaning.  Sizes are bytes unless said.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BALLOONEX_H
#define BALLOONEX_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; bx_version() has that of the library. */
#define BX_VERSION_MAJOR 1
#define BX_VERSION_MINOR 0

/* Major version × 256 + minor version. */
unsigned bx_version(void);

typedef struct Bx Bx;

/*
 * Where the agent's socket and condition page are, unless bx_open() is told
 * otherwise.
 */
#define BX_RUN_DIR "/run/balloon-ex"

/* bx_open(): flags */
#define BX_CONDITION_ONLY   0x0001u     /* no connection: reading only */

/*
 * Open.  @run_dir: NULL for BX_RUN_DIR.  Works without an agent, too: it is
 * found as soon as it is there and bx_dispatch() is called.
 *
 * With BX_CONDITION_ONLY the socket is left alone, which not everybody may
 * connect to; conditions are all there is then.
 *
 *   -EINVAL   unknown flags, or a path that is too long
 *   -ENOMEM, -EMFILE, -ENFILE
 */
int bx_open(const char *run_dir, unsigned flags, Bx **ret_bx);

/*
 * Close.  Memory that was set aside for the host is unmapped, without a
 * callback.  NULL is fine.
 */
void bx_close(Bx *bx);

/* Whether there is an agent that listens. */
int bx_is_connected(const Bx *bx);

/*
 * Waiting
 */

/*
 * A file descriptor that becomes readable when bx_dispatch() has something to
 * do.  It stays the same until bx_close(), which closes it.
 */
int bx_fd(const Bx *bx);

/*
 * Wait until then, at most @timeout_ms (-1: without limit).  Returns 1 when
 * there is something, 0 when time is up, -EINTR upon a signal.
 */
int bx_wait(Bx *bx, int timeout_ms);

/*
 * Do what there is to do, call back, return.  Does not block; one call sets
 * aside at most 16 MiB, so a program that gives much is called several times.
 * Returns how many messages and steps were done.
 */
int bx_dispatch(Bx *bx);

/*
 * Conditions
 */

/* In rising order of need. */
typedef enum BxLevel {
    BX_HIGH = 0,        /* the guest has what it wants; there is more */
    BX_SOFT = 1,        /* has what it wants; some may be asked back */
    BX_HARD = 2,        /* is asked to give: drop what can be dropped */
    BX_LOW  = 3,        /* any touch of new memory may have to wait */
} BxLevel;

typedef struct BxCondition {
    uint8_t session[16];        /* changes on reset, migration, restore */
    uint64_t generation;        /* rises with every change of what follows */
    uint32_t level;             /* BxLevel of this guest */
    uint32_t host_level;        /* the same of the host, coarse */
    uint32_t pressure;          /* wanted / had x 100: 100 is content */
    uint32_t shares;            /* the guest's weight */
    uint32_t is_connected;      /* 0: the agent does not reach the host, the
                                   figures are the last ones */
    uint32_t reserved0;
    uint64_t age_ms;            /* since the host gathered the figures */
    uint64_t ram;               /* what the guest was told to have */
    uint64_t min, max;          /* guaranteed; never exceeded */
    uint64_t entitlement;       /* its share when all want all */
    uint64_t target;            /* what the host steers it to */
    uint64_t allocated;         /* host memory that it has now */
    uint64_t reservable;        /* what it could still get now */
    uint64_t ballooned_kernel, ballooned_application, ballooned_reported;
    uint64_t reserved[8];
} BxCondition;

/*
 * The condition as the agent last heard of it.  Reads a mapped page and the
 * clock: no system call, a few hundred nanoseconds at most, any thread.
 *
 *   -ENODATA  nothing is known yet: no agent, or it has not heard from the host
 *   -EAGAIN   it changed each time that it was read
 */
int bx_condition_get(Bx *bx, BxCondition *ret_condition);

/* "high", "soft", "hard", "low"; "?" for anything else. */
const char *bx_level_name(unsigned level);

typedef void BxConditionFunc(void *opaque, const BxCondition *condition);

/*
 * Called by bx_dispatch() with each condition of a new generation, and when
 * the agent loses or finds the host.  NULL ends that.
 */
void bx_on_condition(Bx *bx, BxConditionFunc *func, void *opaque);

/*
 * Asking for memory
 */

/* Why memory is wanted; shown to the host's operator. */
typedef enum BxWant {
    BX_WANT_UNSAID   = 0,
    BX_WANT_CACHE    = 1,       /* to be faster */
    BX_WANT_HEAP     = 2,       /* to go on at all */
    BX_WANT_START    = 3,       /* a program is about to start */
    BX_WANT_PRESSURE = 4,       /* the guest is reclaiming */
} BxWant;

typedef enum BxStatus {
    BX_QUEUED  = 0,             /* noted; another answer follows */
    BX_GRANTED = 1,
    BX_PARTIAL = 2,             /* this is what could be had */
    BX_REFUSED = 3,
} BxStatus;

/* Why there is less than was asked for. */
typedef enum BxReason {
    BX_REASON_NONE      = 0,
    BX_REASON_PRESSURE  = 1,    /* the guest is short of memory */
    BX_REASON_LIMIT     = 2,
    BX_REASON_DEADLINE  = 3,    /* time was up */
    BX_REASON_VETO      = 4,
    BX_REASON_BUSY      = 5,
    BX_REASON_UNKNOWN   = 6,
    BX_REASON_END       = 7,    /* agent or connection ended */
    BX_REASON_HOST      = 8,    /* the host has none to give */
    BX_REASON_CANCELLED = 9,
    BX_REASON_HIBERNATE = 10,
} BxReason;

const char *bx_reason_name(unsigned reason);

#define BX_PRIORITY_MAX 9u
#define BX_DEADLINE_MAX_MS 600000u
#define BX_VETO_MAX_MS 60000u

typedef struct BxRequest {
    uint64_t bytes;
    uint32_t deadline_ms;       /* from now, at most BX_DEADLINE_MAX_MS */
    uint16_t priority;          /* 0 to BX_PRIORITY_MAX, the most urgent */
    uint16_t want;              /* BxWant */
    uint64_t reserved[4];
} BxRequest;

/*
 * Called at least once for each request: any number of times with BX_QUEUED,
 * and then once with something else, unless the request was cancelled.  @bytes
 * is what has been granted so far.  When the agent or its connection goes away,
 * a request ends with BX_REFUSED, BX_REASON_END.
 */
typedef void BxAnswerFunc(void *opaque, uint64_t request, BxStatus status,
                          BxReason reason, uint64_t bytes);

void bx_on_answer(Bx *bx, BxAnswerFunc *func, void *opaque);

/*
 * Ask the host for memory.  Its answer comes by the function of
 * bx_on_answer().  A program that has offered memory asks for itself, and its
 * request ends with it.  Else the request is the guest's: it goes on, up to its
 * deadline, when the program has ended.  *ret_request is never 0.
 *
 *   -ENOTCONN there is no agent
 *   -EINVAL   bytes is 0, or something is beyond its range
 *   -ENOSPC   more than 16 requests are open
 *   -EAGAIN   the agent does not read: try again after bx_dispatch()
 */
int bx_request(Bx *bx, const BxRequest *request, uint64_t *ret_request);

/* Take it back; no more answers come.  -ENOENT, -ENOTCONN, -EAGAIN. */
int bx_cancel(Bx *bx, uint64_t request);

/*
 * Giving memory up
 */

typedef struct BxOffer {
    const char *name;           /* for people; at most 31 bytes are kept */
    uint32_t priority;          /* asked to give in rising order, 0 to 9 */
    uint32_t reserved0;
    uint64_t bytes;             /* about what it could give; UINT64_MAX */
    /*
     * The host wants memory: free up to @bytes, and say how much was freed.
     * 0 ends the order.  What was freed is set aside by the library at once, so
     * it must have been given back to the system (munmap(), MADV_DONTNEED,
     * malloc_trim()), or the guest pays twice.
     */
    uint64_t (*give)(void *opaque, uint64_t bytes);
    /* The host has given @bytes back: the program may use them again. */
    void (*have)(void *opaque, uint64_t bytes);
    void *opaque;
    uint64_t reserved[4];
} BxOffer;

/*
 * Take part: the host may ask this program for memory from now on.  The
 * program's limit on locked memory (RLIMIT_MEMLOCK) is the most that it can
 * give.  Works without an agent; it is told when it is there.
 *
 *   -EINVAL   no name, no give(), or something is beyond its range
 *   -EALREADY there is an offer
 *   -ENOMEM
 */
int bx_offer(Bx *bx, const BxOffer *offer);

/*
 * Take it back, and all memory with it, without a callback.  Open requests
 * end.  Harmless where there is no offer.
 */
void bx_withdraw(Bx *bx);

/* How much is set aside for the host at present. */
uint64_t bx_given(const Bx *bx);

/*
 * Take back @bytes of what was given (UINT64_MAX: all), because the program or
 * its guest needs it; have() is called.  Returns how much was taken back in
 * *ret_bytes (NULL is fine).  -ENOENT: there is no offer.
 */
int bx_take_back(Bx *bx, uint64_t bytes, uint64_t *ret_bytes);

/*
 * Not now: for @duration_ms, at most BX_VETO_MAX_MS, the host is asked to send
 * no order.  0 ends it.  A host in need may send one all the same.
 *
 *   -ENOENT (no offer), -EINVAL, -ENOTCONN, -EAGAIN
 */
int bx_veto(Bx *bx, uint32_t duration_ms, BxReason reason);

typedef struct BxStats {
    uint64_t cache_bytes;
    uint64_t cache_hits, cache_misses;  /* counts since start */
    uint64_t reserved[5];
} BxStats;

/*
 * Tell the host how the program's cache does.  Cheap; what is told more often
 * than once a second replaces what was told before.  -ENOENT: no offer.
 */
int bx_stats(Bx *bx, const BxStats *stats);

#ifdef __cplusplus
}
#endif

#endif /* BALLOONEX_H */
