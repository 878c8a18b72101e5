/*
 * What this host allows: kernel capabilities, memory limits
 *
 * Everything is found by trying it.  The public memsched_probe() and the
 * checks of memsched_start() stand on these.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PROBE_H
#define MEMSCHED_PROBE_H

#include <stdint.h>

#include "memsched/memsched.h"
#include "sys.h"

/* memsched_probe() over a table of OS calls. */
int ms_probe_kernel(const MsSys *sys, MemSchedKernel *ret_kernel,
                    MemSchedMessage *ret_message);

typedef struct MsProbeMemory {
    uint64_t available_bytes;   /* MemAvailable of the host */
    uint64_t cgroup_free_bytes; /* limit minus usage of the tightest memory
                                   cgroup above us; UINT64_MAX: no limit */
} MsProbeMemory;

int ms_probe_memory(const MsSys *sys, MsProbeMemory *ret_memory);

/* 0, or -ENOMEM with both figures: a pool of this size does not fit. */
int ms_probe_pool_fits(const MsSys *sys, uint64_t pool_bytes,
                       MemSchedMessage *ret_message);

#endif /* MEMSCHED_PROBE_H */
