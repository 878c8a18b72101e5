/*
 * A pretended guest for tests of the whole library: RAM, a client, an address
 * map that starts at 0, and stamps in its pages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_GUEST_H
#define TESTS_GUEST_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "memsched/memsched.h"

typedef struct Guest {
    MemSched *ms;
    MemSchedClient *client;
    MemSchedRegion *region;
    char *ram;
    uint64_t bytes;
    void *map;                  /* what was mapped, with room to align */
    uint64_t map_bytes;
    bool shared;
    char id[MEMSCHED_ID_MAX];
} Guest;

/* False where this host has no full userfaultfd: a skipped test is added. */
bool guest_usable(void);

MemSched *guest_start(uint64_t pool_bytes);
void guest_stop(MemSched *ms);          /* asserts that the books are right */
void guest_check(MemSched *ms);         /* memsched_check(), or the reason */

Guest *guest_new(MemSched *ms, const char *id, uint64_t bytes,
                 uint64_t min_bytes);
/* RAM that starts @offset bytes after a 2 MiB boundary. */
Guest *guest_new_at(MemSched *ms, const char *id, uint64_t bytes,
                    uint64_t min_bytes, uint64_t offset);
/* Shared RAM, or NULL where the kernel cannot. */
Guest *guest_new_shared(MemSched *ms, const char *id, uint64_t bytes,
                        uint64_t min_bytes);
void guest_free(Guest *guest);

/* Before its first touch: small pages only. */
void guest_no_huge(Guest *guest);

/*
 * What is said of it when nothing is in flight: a touch goes on before its
 * books are closed.
 */
void guest_query(Guest *guest, MemSchedClientInfo *ret_info);

/* Pages by number from the start of RAM; a stamp fills the whole page. */
void guest_fill(Guest *guest, uint64_t first, uint64_t count, uint64_t seed);
/*
 * The same in a thread of this name, g_thread_join() it: it sleeps where there
 * is no memory.  "CPU 0/TCG" is a vCPU, other names are devices.
 */
GThread *guest_touch(const char *name, Guest *guest, uint64_t first,
                     uint64_t count, uint64_t seed);
bool guest_page_is(const Guest *guest, uint64_t page, uint64_t seed);
bool guest_page_is_zero(const Guest *guest, uint64_t page);
void guest_assert(const Guest *guest, uint64_t first, uint64_t count,
                  uint64_t seed);
void guest_assert_zero(const Guest *guest, uint64_t first, uint64_t count);

MemSchedOpResult guest_inflate(Guest *guest, uint64_t first, uint64_t count,
                               bool must_tell_host);
MemSchedOpResult guest_deflate(Guest *guest, uint64_t first, uint64_t count);
MemSchedOpResult guest_report(Guest *guest, uint64_t first, uint64_t count);

/* Wait (bounded) until the mover has captured so many pages of it. */
void guest_wait_ballooned(Guest *guest, uint64_t pages);

#endif /* TESTS_GUEST_H */
