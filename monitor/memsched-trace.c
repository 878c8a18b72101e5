/*
 * Trace points of the host memory scheduler become QEMU's trace events.
 *
 * Threads: any, with any lock of libmemsched held.  The trace backend takes
 * none of ours; where an event is off it costs one look.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "trace/trace-system_memsched.h"
#include "memsched-internal.h"

void memsched_trace(void *opaque, MemSchedTracePoint point, const char *id,
                    uint64_t a, uint64_t b)
{
    switch (point) {
    case MEMSCHED_TRACE_CAPTURE:
        trace_memsched_capture(id, a, b);
        break;
    case MEMSCHED_TRACE_POPULATE:
        trace_memsched_populate(id, a, b);
        break;
    case MEMSCHED_TRACE_FAULT_SERVED:
        trace_memsched_fault_served(id, a, b);
        break;
    case MEMSCHED_TRACE_FAULT_REFUSED:
        trace_memsched_fault_refused(id, a, b);
        break;
    case MEMSCHED_TRACE_GRANT_REFUSED:
        trace_memsched_grant_refused(id, a, b);
        break;
    case MEMSCHED_TRACE_STALLED:
        trace_memsched_stalled(id, a, b);
        break;
    case MEMSCHED_TRACE_TRANSFER_BEGIN:
        trace_memsched_transfer_begin(id, a, b);
        break;
    case MEMSCHED_TRACE_TRANSFER_END:
        trace_memsched_transfer_end(id, a, b);
        break;
    case MEMSCHED_TRACE_CLAIM:
        trace_memsched_claim(id, a, b);
        break;
    case MEMSCHED_TRACE_POOL_SHORT:
        trace_memsched_pool_short(a, b);
        break;
    case MEMSCHED_TRACE_TAGS_FOUND:
        trace_memsched_tags_found(id, a, b);
        break;
    case MEMSCHED_TRACE_REPAIR:
        trace_memsched_repair(id, a, b);
        break;
    case MEMSCHED_TRACE_RESET:
        trace_memsched_reset(id, a, b);
        break;
    case MEMSCHED_TRACE_DECISION:
        trace_memsched_decision(id, a, b);
        break;
    }
}
