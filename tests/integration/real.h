/*
 * What the tests against the real kernel share: memory, a guest's userfaultfd,
 * skips
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_REAL_H
#define TESTS_REAL_H

#include <stdbool.h>
#include <stdint.h>

#include "memsched/types.h"
#include "pagemap.h"
#include "sys.h"
#include "uffd.h"

/* Memory of a pretended guest: aligned to 2 MiB, registered. */
typedef struct RealRam {
    char *base;
    uint64_t pages;
    MsUffd uffd;
    MsPagemap pagemap;
    void *map;
    size_t map_bytes;
} RealRam;

/*
 * False, after g_test_skip() with the reason, where this host has no full
 * userfaultfd with moves.
 */
bool real_usable(void);

/* @frames of 2 MiB; @huge: MADV_HUGEPAGE, else MADV_NOHUGEPAGE. */
RealRam *real_ram_new(uint64_t frames, bool huge, unsigned modes);
void real_ram_free(RealRam *ram);

/* Fault pages in by writes, as the kernel does it, then stamp them. */
void real_ram_fill(RealRam *ram, uint64_t first, uint64_t pages,
                   uint64_t seed);

/* Each of the pages holds what real_ram_fill() stamped there. */
void real_assert_stamped(const void *address, uint64_t pages, uint64_t seed);

static inline char *real_page(const RealRam *ram, uint64_t page)
{
    return ram->base + page * MEMSCHED_PAGE_SIZE;
}

#endif /* TESTS_REAL_H */
