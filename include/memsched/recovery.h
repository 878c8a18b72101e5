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
 * A page that was filled by a read from a disk can be read again as long as
 * neither it nor that part of the disk has been written (MemSchedDisk): it
 * needs no parity.
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

/* What a monitor's command sets, unless it says otherwise. */
#define MEMSCHED_SCRUB_BYTES_PER_S (UINT64_C(16) << 20)

/* How pages may be covered, as bits. */
typedef enum MemSchedCover {
    MEMSCHED_COVER_NONE   = 0,
    MEMSCHED_COVER_PARITY = 1 << 0,
    MEMSCHED_COVER_DISK   = 1 << 1,
    MEMSCHED_COVER_ALL    = MEMSCHED_COVER_PARITY | MEMSCHED_COVER_DISK,
} MemSchedCover;

#define MEMSCHED_COVER_RANGES 16u

typedef struct MemSchedCoverRange {
    uint64_t gpa, length_bytes; /* multiples of 2 MiB */
    unsigned cover;             /* MemSchedCover; what scheme and disk do not
                                   provide makes no difference */
} MemSchedCoverRange;

typedef struct MemSchedProtection {
    MemSchedScheme scheme;
    unsigned group_size;        /* pages of a stripe, parity apart: 2 to 32;
                                   0: 8.  1 in so many, or 2, is the price */
    uint64_t max_parity_bytes;  /* 0: what the pool has to spare */
    unsigned cool_ms;           /* unwritten for so long, before a page that
                                   was written joins again; doubles with each
                                   time, up to 64 times; 0: 1000 */
    uint64_t rate_bytes_per_s;  /* pages that join; 0: 64 MiB/s */
    uint64_t scrub_bytes_per_s; /* stripes that are read and compared in the
                                   background, parity included; 0: none */
    bool disk;                  /* pages that are on a disk too are read again
                                   from there; with any scheme, or none */
    unsigned ranges;            /* of range[]; the last one that has a page
                                   decides, MEMSCHED_COVER_ALL where none has */
    MemSchedCoverRange range[MEMSCHED_COVER_RANGES];
} MemSchedProtection;

/*
 * Protect a guest, change how, or (MEMSCHED_SCHEME_NONE, no disk) end it; at
 * any time.
 * A change of scheme or group size begins anew, without any cover at first;
 * ranges change page by page.
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
    uint64_t covered_bytes;     /* by parity */
    uint64_t disk_only_bytes;   /* by a disk, and not by parity */
    uint64_t excluded_bytes;    /* neither is wanted: settings.range[] */
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
    /* pages that can be read again from a disk */
    uint64_t disk_bytes;        /* known to be as they were read; a huge page
                                   may be covered by parity as well */
    uint64_t disk_unsure_bytes; /* were read, not looked at since */
    /* since start, pages */
    uint64_t disk_noted_pages;
    uint64_t disk_left_by_write_pages;  /* written by the guest or a device */
    uint64_t disk_left_by_disk_pages;   /* the disk was written there */
    uint64_t disk_changed_pages;        /* written before they were protected */
    uint64_t disk_recovered_pages;      /* part of recovered_pages */
    uint64_t disk_failed_pages; /* not readable, or other content by then */
    uint64_t disk_p50_ns, disk_p99_ns;  /* repairs from a disk */
    uint64_t last_age_ns;       /* since the last repair or loss;
                                   UINT64_MAX: none */
    /* the scrubber */
    uint64_t scrub_done_bytes;  /* of the pass that goes on */
    uint64_t scrub_all_bytes;   /* what a pass has to read, by now */
    uint64_t scrub_passes;
    uint64_t scrub_age_ns;      /* since the last pass ended; UINT64_MAX: none
                                   has */
    uint64_t scrub_took_ns;     /* that one */
    /* since start, pages */
    uint64_t scrubbed_pages;
    uint64_t mismatched_pages, mismatched_parity_pages;
    uint64_t found_broken_pages;        /* errors that nobody had met */
} MemSchedProtectionInfo;

/* -ENOENT.  An unprotected guest has MEMSCHED_SCHEME_NONE. */
MEMSCHED_API int memsched_query_protection(MemSched *ms, const char *id,
                                           MemSchedProtectionInfo *ret_info);

/* ---- what is on a disk too ---- */

/* Something that the emulator fills pages from: a file, a block device. */
typedef struct MemSchedDisk MemSchedDisk;
/* A page that is being read again. */
typedef struct MemSchedDiskRead MemSchedDiskRead;

typedef struct MemSchedDiskOps {
    /*
     * Read @length bytes at @offset to @buffer (aligned to it, and no memory of
     * a guest), then call memsched_disk_read_done(), in here or later, from any
     * thread.  Must not block, and must be able to go on while every thread of
     * the guest waits: no BQL, no event loop, no lock that a thread may hold
     * when it touches guest RAM.  Runs in the repair thread, or in one that
     * called memsched_repair_range().
     */
    void (*read)(void *opaque, MemSchedDiskRead *read, uint64_t offset,
                 void *buffer, uint64_t length);
} MemSchedDiskOps;

/* True: this guest wants to be told of what is read from disks. */
MEMSCHED_API bool memsched_disk_wanted(MemSchedClient *client);

/* @opaque stays until memsched_disk_free().  -ENOMEM. */
MEMSCHED_API int memsched_disk_new(MemSchedClient *client,
                                   const MemSchedDiskOps *ops, void *opaque,
                                   MemSchedDisk **ret_disk);

/*
 * Nothing is read from it any more: waits for reads that have not been
 * answered.  False: the guest ends (memsched_client_ending()) while there are
 * some, whoever would answer them may be gone; @opaque stays until the client
 * is freed, and the disk with it.  NULL is fine: true.
 */
MEMSCHED_API bool memsched_disk_free(MemSchedDisk *disk);

/* Before a read is submitted: for memsched_disk_filled(). */
MEMSCHED_API uint64_t memsched_disk_stamp(MemSchedDisk *disk);

/*
 * A read has ended well: [host, host + length) holds what the disk has at
 * @offset.  Call it before whoever asked for the read is told.  Whole pages of
 * registered RAM are noted, unless the disk changed there since @stamp.  Reads
 * the memory, for its checksum.  The number of pages.
 */
MEMSCHED_API uint64_t memsched_disk_filled(MemSchedDisk *disk, uint64_t stamp,
                                           uint64_t offset, const void *host,
                                           uint64_t length_bytes);

/*
 * The disk changes in these bytes (@length_bytes may go beyond its end): by a
 * write, discard, or whatever.  Call it before the change is submitted, and
 * once more when it has ended.
 */
MEMSCHED_API void memsched_disk_changed(MemSchedDisk *disk, uint64_t offset,
                                        uint64_t length_bytes);

/*
 * The answer to MemSchedDiskOps.read: the number of bytes (what is missing is
 * beyond the end: zeros), or -errno.
 */
MEMSCHED_API void memsched_disk_read_done(MemSchedDiskRead *read,
                                          int64_t result);

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

typedef enum MemSchedMismatch {
    MEMSCHED_MISMATCH_NONE,
    MEMSCHED_MISMATCH_PAGE,     /* a page has not the content of its checksum:
                                   it is left as it is, and leaves its group */
    MEMSCHED_MISMATCH_PARITY,   /* the parity of a group of right pages, of
                                   which this is one, was wrong: made anew */
} MemSchedMismatch;

typedef struct MemSchedError {
    char id[MEMSCHED_ID_MAX];
    char region[64];            /* name of the RAMBlock */
    uint64_t offset_bytes;
    void *host;
    bool lost;
    bool awaited;               /* memsched_sigbus() of some thread tells it
                                   too; else whoever called does */
    uint64_t duration_ns;       /* from the signal, or the call */
    MemSchedMismatch mismatch;  /* found by the scrubber: neither repaired nor
                                   lost, and nobody waits */
} MemSchedError;

/*
 * Be told of each page that was repaired or lost, before the access goes on,
 * and of what the scrubber finds; NULL: no more.  Runs in the repair thread,
 * the parity thread, or the thread that called memsched_repair_range(), no
 * lock held.  Must not block, nor touch guest RAM, nor call back into this
 * library.  None runs any more when this returns.
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

/*
 * The same, where the page could be rebuilt now, were it the only one of its
 * stripe that is broken; else -EAGAIN, and nothing has happened.
 */
MEMSCHED_API int memsched_inject_covered_error(MemSched *ms, const char *id,
                                               uint64_t gpa,
                                               MemSchedMessage *ret_message);

#ifdef __cplusplus
}
#endif

#endif /* MEMSCHED_RECOVERY_H */
