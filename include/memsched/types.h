/*
 * Types that the memory scheduler and its callers share
 *
 * Plain C11, no GLib, no QEMU: this header compiles alone, and each copy of
 * QEMU in the process sees the same layout.
 *
 * Units stand in names: _bytes, _pages (4 KiB), _ns, _ms.  All sizes that
 * callers give are bytes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TYPES_H
#define MEMSCHED_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMSCHED_PAGE_SHIFT      12
#define MEMSCHED_PAGE_SIZE       (UINT64_C(1) << MEMSCHED_PAGE_SHIFT)
#define MEMSCHED_FRAME_SHIFT     21
#define MEMSCHED_FRAME_SIZE      (UINT64_C(1) << MEMSCHED_FRAME_SHIFT)
#define MEMSCHED_PAGES_PER_FRAME (MEMSCHED_FRAME_SIZE / MEMSCHED_PAGE_SIZE)

#define MEMSCHED_ID_MAX          64     /* bytes, with the final NUL */

typedef struct MemSched MemSched;
typedef struct MemSchedClient MemSchedClient;
typedef struct MemSchedRegion MemSchedRegion;

/* One sentence for a person, written by a call that fails. */
typedef struct MemSchedMessage {
    char text[320];
} MemSchedMessage;

/*
 * Host state of a guest page.  The letters are those of the protocol
 * document; the numbers are not part of any wire or file format.
 */
typedef enum MemSchedPageState {
    MEMSCHED_PAGE_HOLE,         /* H: no frame, reads as zero */
    MEMSCHED_PAGE_RESIDENT,     /* R: the guest's own frame */
    MEMSCHED_PAGE_GIVEN,        /* G: inflated, frame not captured yet */
    MEMSCHED_PAGE_BALLOONED,    /* B: inflated and captured */
    MEMSCHED_PAGE_REPORTED,     /* P: reported free and captured */
    MEMSCHED_PAGE_TAG,          /* T: holds a known tag, frame captured */
    MEMSCHED_PAGE_HELD,         /* S: content kept by the host */
    MEMSCHED_PAGE_TRANSIT,      /* C: out of the guest, faults wait */
    MEMSCHED_PAGE_POISONED,     /* X: uncorrectable error, to be repaired */
    MEMSCHED_PAGE_LOST,         /* L: content gone, zeros in its place */
    MEMSCHED_PAGE_STATES
} MemSchedPageState;

/* Where a transfer may take its pages from. */
typedef enum MemSchedSource {
    MEMSCHED_SOURCE_ANY,
    MEMSCHED_SOURCE_APPLICATION,
    MEMSCHED_SOURCE_KERNEL,
    MEMSCHED_SOURCE_REPORTED,
} MemSchedSource;

typedef enum MemSchedPolicy {
    MEMSCHED_POLICY_STATIC,
    MEMSCHED_POLICY_SHARES,
    MEMSCHED_POLICY_IDLE_TAX,
} MemSchedPolicy;

/* State of the host's pool; also, without CLEAR, a guest's condition. */
typedef enum MemSchedCondition {
    MEMSCHED_CONDITION_HIGH,
    MEMSCHED_CONDITION_CLEAR,
    MEMSCHED_CONDITION_SOFT,
    MEMSCHED_CONDITION_HARD,
    MEMSCHED_CONDITION_LOW,
} MemSchedCondition;

typedef enum MemSchedTransferState {
    MEMSCHED_TRANSFER_RUNNING,
    MEMSCHED_TRANSFER_COMPLETED,
    MEMSCHED_TRANSFER_PARTIAL,
    MEMSCHED_TRANSFER_FAILED,
} MemSchedTransferState;

typedef enum MemSchedReset {
    MEMSCHED_RESET_DEVICE,      /* balloon driver gone or device reset */
    MEMSCHED_RESET_SYSTEM,      /* the machine starts anew */
} MemSchedReset;

#endif /* MEMSCHED_TYPES_H */
