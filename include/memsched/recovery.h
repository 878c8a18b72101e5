/*
 * libmemsched: recovery from uncorrectable memory errors
 *
 * A part of the contract in memsched.h, which includes this file; the rules
 * about errors, threads and memory at its top hold here too.
 *
 * Pages of a protected guest are grouped, and each group has one parity page
 * (P: any one of its pages can be rebuilt) or two (P+Q: any two).  A page that
 * is in a group is write-protected; its first write takes it out.  Pages that
 * were not written for a while go in by themselves.
 *
 * An error is met in one of three ways, each with its call here: a thread gets
 * SIGBUS (memsched_sigbus()), a system call says EFAULT
 * (memsched_repair_range()), or the kernel tells of it before anybody does
 * (SIGBUS with BUS_MCEERR_AO: memsched_repair_range()).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_RECOVERY_H
#define MEMSCHED_RECOVERY_H

#include "memsched/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MEMSCHED_API            /* memsched.h has it */
#define MEMSCHED_API __attribute__((visibility("default")))
#endif

typedef enum MemSchedScheme {
    MEMSCHED_SCHEME_NONE,
    MEMSCHED_SCHEME_P,
    MEMSCHED_SCHEME_PQ,
} MemSchedScheme;

typedef struct MemSchedProtection {
    MemSchedScheme scheme;
    unsigned group_size;        /* pages of a stripe, parity apart: 2 to 32;
                                   0: 8.  1 in so many, or 2, is the price */
    uint64_t max_parity_bytes;  /* 0: what the pool has to spare */
    unsigned cool_ms;           /* unwritten for so long, before a page that
                                   was written joins again; doubles with each
                                   time, up to 64 times; 0: 1000 */
    uint64_t rate_bytes_per_s;  /* pages that join; 0: 64 MiB/s */
} MemSchedProtection;

/*
 * Protect a guest, change how, or (MEMSCHED_SCHEME_NONE) end it; at any time.
 * A change of scheme or group size begins anew, without any cover at first.
 * Returns at once; pages join in the background.  A guest that was never
 * protected pays nothing.  -ENOENT, -EINVAL, -ENOTSUP (the kernel lacks write
 * protection, moves, or a way to see an error).
 */
MEMSCHED_API int memsched_protect(MemSched *ms, const char *id,
                                  const MemSchedProtection *protection,
                                  MemSchedMessage *ret_message);

typedef struct MemSchedProtectionInfo {
    MemSchedProtection settings;
    uint64_t resident_bytes;    /* what there is to cover */
    uint64_t covered_bytes;
    uint64_t parity_bytes;
    uint64_t bookkeeping_bytes;
    uint64_t groups;
    uint64_t poisoned_bytes;    /* errors that nobody has met yet */
    uint64_t lost_bytes;        /* zeros stand there now */
    /* since start, pages */
    uint64_t joined_pages, left_by_write_pages, left_by_capture_pages;
    uint64_t changed_pages;     /* joins and leaves that found other content
                                   than they should: harmless, no cover */
    uint64_t recovered_pages;
    uint64_t recovered_dead_pages;      /* the guest had given them up */
    uint64_t lost_pages;
    uint64_t repair_p50_ns, repair_p99_ns, repair_max_ns;
    uint64_t write_p50_ns, write_p99_ns;        /* a page's first write */
} MemSchedProtectionInfo;

/* -ENOENT.  An unprotected guest has MEMSCHED_SCHEME_NONE. */
MEMSCHED_API int memsched_query_protection(MemSched *ms, const char *id,
                                           MemSchedProtectionInfo *ret_info);

/* ---- when an error is met ---- */

typedef enum MemSchedSigbus {
    MEMSCHED_SIGBUS_FOREIGN,    /* no address of ours: somebody else's */
    MEMSCHED_SIGBUS_FIXED,      /* return from the handler: the access goes
                                   on, and finds what was there */
    MEMSCHED_SIGBUS_LOST,       /* the same, but it finds zeros: the guest has
                                   to be told, or stopped */
} MemSchedSigbus;

/*
 * For the handler of SIGBUS, in any thread; @address: si_addr.
 * Async-signal-safe; keeps errno.  Waits for the repair thread, which never
 * waits for a guest.
 *
 * SIGBUS must not be blocked in any thread that touches guest RAM: the kernel
 * ends the process if it is.
 */
MEMSCHED_API MemSchedSigbus memsched_sigbus(void *address);

/*
 * A system call met EFAULT in [host, host + length), or the kernel told of an
 * error there: repair what is broken.  Not in a signal handler.  The number of
 * pages repaired: try again.  0: nothing is broken there.  -ENOENT: no
 * registered RAM.  -EIO: at least one page was lost, zeros stand there now.
 */
MEMSCHED_API int memsched_repair_range(const void *host,
                                       uint64_t length_bytes);

typedef struct MemSchedError {
    char id[MEMSCHED_ID_MAX];
    char region[64];            /* name of the RAMBlock */
    uint64_t offset_bytes;
    void *host;
    bool lost;
    uint64_t duration_ns;       /* from the signal, or the call */
} MemSchedError;

/*
 * Be told of each page that was repaired or lost, before the access goes on;
 * NULL: no more.  Runs in the repair thread, or the thread that called
 * memsched_repair_range(), no lock held.  Must not block, nor touch guest RAM,
 * nor call back into this library.  None runs any more when this returns.
 */
MEMSCHED_API void memsched_watch_errors(MemSched *ms,
                                        void (*error)(void *opaque,
                                                      const MemSchedError *e),
                                        void *opaque);

/*
 * For tests: an uncorrectable error in the page at @gpa.  Its content is gone;
 * a touch gets SIGBUS, a system call EFAULT.  -EPERM (allow_inject is off),
 * -ENOENT (no such guest), -EFAULT (no RAM there), -ENODATA (no page there: a
 * hole, ballooned, broken already), -ENOTSUP.
 */
MEMSCHED_API int memsched_inject_error(MemSched *ms, const char *id,
                                       uint64_t gpa,
                                       MemSchedMessage *ret_message);

#ifdef __cplusplus
}
#endif

#endif /* MEMSCHED_RECOVERY_H */
