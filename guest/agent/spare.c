/*
 * What the guest can spare, and what it must have back: the rules
 *
 * To give, all of these must leave room: the share of RAM that may be given at
 * all, what must stay available, and limits of control groups, which are kept
 * at a distance of an eighth of keep_bytes so that our own small needs fit.
 *
 * To take back there are two causes.  Less than three quarters of keep_bytes
 * is available: then as much as is missing to keep_bytes, so that it does not
 * begin again at once; the quarter between is hysteresis.  Or the kernel says
 * that tasks wait for memory: then an eighth of what is held, at least 16 MiB,
 * each time, whatever the figures say; they are an estimate, waiting is a fact.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "spare.h"

#include <glib.h>

#include "standard-headers/linux/virtio_balloon_ex.h"

#define MIB (UINT64_C(1) << 20)

SpareLimits spare_limits(const MemoryState *memory, unsigned percent,
                         uint64_t keep_bytes)
{
    return (SpareLimits) {
        /* Divided first: RAM is below 2^56, and a hundredth is exact enough. */
        .max_bytes = memory->total / 100 * percent,
        .keep_bytes = keep_bytes ? keep_bytes
                                 : MAX(memory->total / 10, 64 * MIB),
    };
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

uint64_t spare_bytes(const SpareLimits *limits, const MemoryState *memory,
                     uint64_t held_bytes, unsigned *ret_reason)
{
    uint64_t room = less(limits->max_bytes, held_bytes);
    uint64_t available = less(memory->available, limits->keep_bytes);
    uint64_t cgroup = memory->cgroup_room;

    if (cgroup != UINT64_MAX) {
        room = MIN(room, less(cgroup, limits->keep_bytes / 8));
    }
    *ret_reason = available < room ? VBX_REASON_PRESSURE : VBX_REASON_LIMIT;
    return MIN(room, available);
}

uint64_t spare_excess(const SpareLimits *limits, const MemoryState *memory,
                      uint64_t held_bytes, bool pressed)
{
    uint64_t excess = 0;

    if (memory->available < limits->keep_bytes / 4 * 3) {
        excess = limits->keep_bytes - memory->available;
    }
    /* Our cgroup is full: what we hold is charged to it. */
    if (memory->cgroup_room < limits->keep_bytes / 32) {
        excess = MAX(excess, limits->keep_bytes / 8);
    }
    if (pressed) {
        excess = MAX(excess, MAX(held_bytes / 8, 16 * MIB));
    }
    return MIN(excess, held_bytes);
}
