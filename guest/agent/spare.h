/*
 * What the guest can spare, and what it must have back: the rules
 *
 * Pure functions of figures.  Bytes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_SPARE_H
#define AGENT_SPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

typedef struct SpareLimits {
    uint64_t max_bytes;         /* to be held at most */
    uint64_t keep_bytes;        /* to be available at least */
} SpareLimits;

/* @keep_bytes 0: a tenth of RAM, at least 64 MiB. */
SpareLimits spare_limits(const MemoryState *memory, unsigned percent,
                         uint64_t keep_bytes);

/*
 * How much more may be set aside when @held_bytes are; *ret_reason is what
 * stands against more (VBX_REASON_LIMIT or VBX_REASON_PRESSURE).
 */
uint64_t spare_bytes(const SpareLimits *limits, const MemoryState *memory,
                     uint64_t held_bytes, unsigned *ret_reason);

/*
 * How much of @held_bytes must go back at once.  @pressed: the kernel has said
 * that tasks wait for memory.
 */
uint64_t spare_excess(const SpareLimits *limits, const MemoryState *memory,
                      uint64_t held_bytes, bool pressed);

#endif
