/*
 * balloon-ex and guest memory: what connects the device with the scheduler
 *
 * All functions under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_MEM_H
#define HW_VIRTIO_BALLOON_EX_MEM_H

#include "memsched/memsched.h"

typedef struct BalloonExMem BalloonExMem;

/*
 * Attach to the scheduler's client of this instance, or, where there is none,
 * work as an ordinary balloon that discards what it is given.  @ops and
 * @opaque as for memsched_client_attach(); its callbacks may come from
 * another thread as soon as this returns.
 */
BalloonExMem *balloon_ex_mem_new(const MemSchedClientOps *ops, void *opaque,
                                 Error **errp);

/* No callback runs any more when it returns.  NULL is fine. */
void balloon_ex_mem_free(BalloonExMem *mem);

/*
 * The guest gave these ranges up; they are guest physical and untrusted.
 * @must_tell_host: the driver has negotiated it.
 */
void balloon_ex_mem_inflate(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                            size_t count, bool must_tell_host);

/* The guest takes them back. */
void balloon_ex_mem_deflate(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                            size_t count);

/* The guest does not use them now; it may at any time after this. */
void balloon_ex_mem_report(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                           size_t count);

/* The driver has gone. */
void balloon_ex_mem_reset(BalloonExMem *mem);

void balloon_ex_mem_actual(BalloonExMem *mem, uint64_t balloon_bytes);
void balloon_ex_mem_manual(BalloonExMem *mem, uint64_t balloon_bytes);
void balloon_ex_mem_oom_deflate(BalloonExMem *mem);
void balloon_ex_mem_stats(BalloonExMem *mem,
                          const uint64_t stats[MEMSCHED_STATS]);

#endif
