/*
 * How much memory the guest has, by its own account
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_MEMORY_H
#define AGENT_MEMORY_H

#include <stdint.h>

/* Bytes, but for the last three. */
typedef struct MemoryState {
    uint64_t total, free, available, cached;
    uint64_t swap_total, swap_free;
    uint64_t cgroup_room;       /* that limits leave us; UINT64_MAX: no limit */
    uint64_t oom_kills;         /* since boot */
    unsigned psi_some, psi_full;        /* avg10, hundredths of a per cent */
} MemoryState;

/* The texts of /proc/meminfo and /proc/pressure/memory.  -EPROTO. */
int memory_parse_meminfo(const char *text, MemoryState *state);
int memory_parse_psi(const char *text, MemoryState *state);

/*
 * Read all of it from below @root.  -errno where /proc/meminfo cannot be read
 * or understood; what else is missing is no error.
 */
int memory_read(const char *root, MemoryState *ret_state);

/* Our cgroup's folder (version 2) below @root, or NULL.  g_free() it. */
char *memory_cgroup(const char *root);

#endif
