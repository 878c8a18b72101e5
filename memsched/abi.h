/*
 * Kernel interfaces that are younger than the C library's headers
 *
 * Numbers and layouts of the Linux user ABI (Documentation/admin-guide/mm/
 * userfaultfd.rst and pagemap.rst): UFFDIO_POISON is of Linux 6.6, PAGEMAP_SCAN
 * of 6.7, UFFDIO_MOVE of 6.8.  Names are ours, so that newer headers may
 * define theirs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_ABI_H
#define MEMSCHED_ABI_H

#include <linux/ioctl.h>
#include <stdint.h>

/* Linux 5.14: fault pages in for writing, without a signal on failure. */
#define MS_MADV_POPULATE_WRITE 23

#define MS_ABI_FEATURE_PAGEFAULT_WP (UINT64_C(1) << 0)
#define MS_ABI_FEATURE_THREAD_ID    (UINT64_C(1) << 8)
#define MS_ABI_FEATURE_EXACT        (UINT64_C(1) << 11)
#define MS_ABI_FEATURE_POISON       (UINT64_C(1) << 14)
#define MS_ABI_FEATURE_WP_ASYNC     (UINT64_C(1) << 15)
#define MS_ABI_FEATURE_MOVE         (UINT64_C(1) << 16)

/* Asks /dev/userfaultfd for a descriptor (Linux 6.1). */
#define MS_ABI_USERFAULTFD_NEW _IO(0xaa, 0)

typedef struct MsAbiMove {
    uint64_t dst;
    uint64_t src;
    uint64_t len;
    uint64_t mode;
    int64_t move;               /* bytes, or -errno */
} MsAbiMove;

#define MS_ABI_MOVE          _IOWR(0xaa, 0x05, MsAbiMove)
#define MS_ABI_MOVE_DONTWAKE (UINT64_C(1) << 0)

typedef struct MsAbiPoison {
    uint64_t start;
    uint64_t len;
    uint64_t mode;
    int64_t updated;            /* bytes, or -errno */
} MsAbiPoison;

#define MS_ABI_POISON          _IOWR(0xaa, 0x08, MsAbiPoison)
#define MS_ABI_POISON_DONTWAKE (UINT64_C(1) << 0)

typedef struct MsAbiPageRegion {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
} MsAbiPageRegion;

typedef struct MsAbiScan {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;          /* out: where the walk stopped */
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
} MsAbiScan;

#define MS_ABI_SCAN _IOWR('f', 16, MsAbiScan)

#define MS_ABI_PAGE_PRESENT (UINT64_C(1) << 3)
#define MS_ABI_PAGE_SWAPPED (UINT64_C(1) << 4)
#define MS_ABI_PAGE_ZERO    (UINT64_C(1) << 5)
#define MS_ABI_PAGE_HUGE    (UINT64_C(1) << 6)

/* Entries of /proc/PID/pagemap, one of 64 bits a page. */
#define MS_ABI_PAGEMAP_PRESENT   (UINT64_C(1) << 63)
#define MS_ABI_PAGEMAP_SWAPPED   (UINT64_C(1) << 62)
#define MS_ABI_PAGEMAP_PFN_MASK  ((UINT64_C(1) << 55) - 1)
#define MS_ABI_PAGEMAP_SWAP_TYPE 31u    /* low bits: which swap area ... */
/* ... or, the last number, an entry that is a marker (poison and the like). */
#define MS_ABI_PAGEMAP_MARKER    31u

#endif /* MEMSCHED_ABI_H */
