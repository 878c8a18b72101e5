/*
 * Trace points of the scheduler: a part of memsched.h's contract
 *
 * A point is told with a guest's id, or an empty one for what is the host's
 * alone, and two numbers.  Offsets are in bytes, from the start of a region;
 * no host address and no frame number is ever told.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TRACE_H
#define MEMSCHED_TRACE_H

typedef enum MemSchedTracePoint {
    /* A batch has left a guest: pages captured, pages that stayed with it. */
    MEMSCHED_TRACE_CAPTURE,
    /* A frame of a guest was filled: offset of the frame, pages. */
    MEMSCHED_TRACE_POPULATE,
    /* A touch: offset of the page, nanoseconds that it took. */
    MEMSCHED_TRACE_FAULT_SERVED,
    /* A touch waits from now on: offset of the page, 1 for a device's. */
    MEMSCHED_TRACE_FAULT_REFUSED,
    /* The grant rule gives less than was asked for: pages asked, given. */
    MEMSCHED_TRACE_GRANT_REFUSED,
    /* 1: the guest is paused, 0: it goes on; touches of it that wait. */
    MEMSCHED_TRACE_STALLED,
    /* The donor's id: number of the transfer, pages. */
    MEMSCHED_TRACE_TRANSFER_BEGIN,
    /* The acceptor's id: number of the transfer, bytes mapped in it. */
    MEMSCHED_TRACE_TRANSFER_END,
    /* Captured pages are promised to this guest: pages, all its claim. */
    MEMSCHED_TRACE_CLAIM,
    /* The host: 1 begins, 0 ends; touches that wait. */
    MEMSCHED_TRACE_POOL_SHORT,
    /* Pages identified by value: confirmed, false matches put back. */
    MEMSCHED_TRACE_TAGS_FOUND,
    /* A page with a memory error: its offset, 1 if it was rebuilt. */
    MEMSCHED_TRACE_REPAIR,
    /* A guest's driver or machine was reset: MemSchedReset, regions. */
    MEMSCHED_TRACE_RESET,
    /* The policy has decided about a guest: 1 it gets, 0 it gives; pages. */
    MEMSCHED_TRACE_DECISION,
} MemSchedTracePoint;

#define MEMSCHED_TRACE_POINTS (MEMSCHED_TRACE_DECISION + 1)

#endif /* MEMSCHED_TRACE_H */
