/*
 * userfaultfd, with its results as named outcomes
 *
 * The only file that issues UFFDIO_*.  It keeps no state but the descriptor,
 * takes no lock and allocates nothing: every function may be called from any
 * thread, and blocks only where the kernel does.
 *
 * Which descriptor.  A move goes through the descriptor at which its
 * *destination* is registered: guest to arena through the arena's
 * (ms_pool_uffd()), arena to guest through the guest's.
 *
 * Addresses are page aligned; counts are 4 KiB pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_UFFD_H
#define MEMSCHED_UFFD_H

#include <stdbool.h>
#include <stdint.h>

#include "sys.h"

typedef struct MsUffd {
    const MsSys *sys;
    int fd;                     /* -1: closed */
} MsUffd;

/* Features, as bits of ms_uffd_open()'s argument. */
typedef enum MsUffdFeature {
    MS_UFFD_MOVE       = 1 << 0,
    MS_UFFD_POISON     = 1 << 1,
    MS_UFFD_WP         = 1 << 2,        /* synchronous write protection */
    MS_UFFD_WP_ASYNC   = 1 << 3,
    MS_UFFD_THREAD_ID  = 1 << 4,        /* faults carry the thread's id */
    MS_UFFD_EXACT      = 1 << 5,        /* faults carry the exact address */
} MsUffdFeature;

/*
 * Open a full userfaultfd (faults of system calls included), non-blocking and
 * close-on-exec: /dev/userfaultfd first, then the system call.  All of
 * @features, or nothing: -ENOSYS names a missing feature, -EPERM that none of
 * the ways is allowed.
 */
int ms_uffd_open(MsUffd *uffd, const MsSys *sys, unsigned features);

/* Which of MsUffdFeature the kernel has, without keeping it open; or -errno. */
int ms_uffd_features(const MsSys *sys);

/*
 * Closed or NULL is fine.  Holes of what is still registered become the
 * kernel's zero pages on their next touch: unregister and unmap first.
 */
void ms_uffd_close(MsUffd *uffd);

/* What a registered range reports. */
typedef enum MsUffdMode {
    MS_UFFD_MODE_MISSING = 1 << 0,
    MS_UFFD_MODE_WP      = 1 << 1,
} MsUffdMode;

/* -EBUSY: another userfaultfd has it; -EINVAL: not private and anonymous. */
int ms_uffd_register(const MsUffd *uffd, void *address, uint64_t pages,
                     unsigned modes);
int ms_uffd_unregister(const MsUffd *uffd, void *address, uint64_t pages);

/* Why a move ended. */
typedef enum MsMoveStop {
    MS_MOVE_DONE,               /* all pages moved */
    MS_MOVE_BUSY,               /* next source page pinned, shared, or KSM */
    MS_MOVE_EXISTS,             /* next destination page is populated, or
                                   holds a poison or protection marker */
    MS_MOVE_NOENT,              /* next source page is a hole; or a VMA of
                                   the destination is gone */
    MS_MOVE_FAULT,              /* next source page holds a poison marker */
    MS_MOVE_AGAIN,              /* the address space changes; come back */
    MS_MOVE_INVAL,              /* crosses a VMA, not registered, locked on
                                   one side: the caller's mistake */
    MS_MOVE_NOMEM,              /* no page table to be had */
    MS_MOVE_GONE,               /* the process ends */
    MS_MOVE_STOPS
} MsMoveStop;

const char *ms_move_stop_name(MsMoveStop stop);

typedef struct MsMoveResult {
    uint64_t moved_pages;       /* from the start of the run, contiguous */
    MsMoveStop stop;
    unsigned calls;             /* system calls made = TLB flushes, at least */
} MsMoveResult;

/*
 * Move @pages pages from @src to @dst, as far as it goes.  The kernel says
 * EAGAIN for any run that stops early; this function tries once more from
 * there, so that the result names the cause at page moved_pages.  A run that
 * merely was interrupted goes on.
 *
 * Neither range may cross a VMA's end.  A source that is one huge page moves
 * as such only onto an aligned destination that has no page table.
 *
 * @wake: wake threads that wait in the destination.  Only pages that really
 * moved are woken: on EXISTS and NOENT at a faulting page call ms_uffd_wake().
 */
MsMoveResult ms_uffd_move(const MsUffd *uffd, void *dst, void *src,
                          uint64_t pages, bool wake);

/* Wake all threads that wait for a page in the range; their touch repeats. */
int ms_uffd_wake(const MsUffd *uffd, void *address, uint64_t pages);

/*
 * Copy @pages pages into holes of @dst, as far as it goes; @protect: mapped
 * write-protected from its first moment.  Outcomes as a move: EXISTS, FAULT
 * (the source cannot be read), NOMEM, NOENT, AGAIN, INVAL, GONE.
 */
MsMoveResult ms_uffd_copy(const MsUffd *uffd, void *dst, const void *src,
                          uint64_t pages, bool protect, bool wake);

/* Make holes raise SIGBUS.  -EEXIST: a page is populated. */
int ms_uffd_poison(const MsUffd *uffd, void *address, uint64_t pages,
                   bool wake);

/* Protect, or unprotect (and, with @wake, wake writers that wait). */
int ms_uffd_protect(const MsUffd *uffd, void *address, uint64_t pages,
                    bool protect, bool wake);

/* One event of the descriptor. */
typedef struct MsFault {
    uint64_t address;           /* exact only with MS_UFFD_EXACT */
    bool write;
    bool protected_page;        /* a write to a protected page, not a hole */
    uint32_t thread_id;         /* 0 without MS_UFFD_THREAD_ID */
} MsFault;

/*
 * Read up to @max (at most 64) fault events without blocking: their number, 0
 * if none is waiting, or -errno.  Events of another kind are dropped: none is
 * asked for.
 */
int ms_uffd_read(const MsUffd *uffd, MsFault *ret_faults, unsigned max);

#endif /* MEMSCHED_UFFD_H */
