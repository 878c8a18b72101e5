/*
 * What the tests against the real kernel share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "real.h"

#include <glib.h>
#include <sys/mman.h>

#include "abi.h"

bool real_usable(void)
{
    int features = ms_uffd_features(ms_sys_real());

    if (features < 0) {
        g_test_skip("no full userfaultfd: run as root, or give access to "
                    "/dev/userfaultfd");
        return false;
    }
    if (!(features & MS_UFFD_MOVE)) {
        g_test_skip("this kernel has no UFFDIO_MOVE (Linux 6.8)");
        return false;
    }
    return true;
}

RealRam *real_ram_new(uint64_t frames, bool huge, unsigned modes)
{
    const MsSys *sys = ms_sys_real();
    RealRam *ram = g_new0(RealRam, 1);
    size_t bytes = frames * MEMSCHED_FRAME_SIZE;
    int rc;

    ram->pages = frames * MEMSCHED_PAGES_PER_FRAME;
    ram->map_bytes = bytes + MEMSCHED_FRAME_SIZE;
    rc = sys->mmap(sys, NULL, ram->map_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &ram->map);
    g_assert_cmpint(rc, ==, 0);
    ram->base = (char *)(((uintptr_t)ram->map + MEMSCHED_FRAME_SIZE - 1) &
                         ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1));
    sys->madvise(sys, ram->base, bytes,
                 huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    rc = ms_uffd_open(&ram->uffd, sys, MS_UFFD_MOVE | MS_UFFD_WP |
                      MS_UFFD_POISON | MS_UFFD_EXACT | MS_UFFD_THREAD_ID);
    g_assert_cmpint(rc, ==, 0);
    if (modes) {
        rc = ms_uffd_register(&ram->uffd, ram->base, ram->pages, modes);
        g_assert_cmpint(rc, ==, 0);
    }
    g_assert_cmpint(ms_pagemap_open(&ram->pagemap, sys), ==, 0);
    return ram;
}

void real_ram_free(RealRam *ram)
{
    const MsSys *sys = ms_sys_real();

    sys->munmap(sys, ram->map, ram->map_bytes);
    ms_uffd_close(&ram->uffd);
    ms_pagemap_close(&ram->pagemap);
    g_free(ram);
}

static void stamp(uint64_t *page, uint64_t seed, uint64_t index)
{
    page[0] = seed ^ index;
    page[255] = seed + index;
    page[511] = ~(seed ^ index);
}

void real_ram_fill(RealRam *ram, uint64_t first, uint64_t pages,
                   uint64_t seed)
{
    const MsSys *sys = ms_sys_real();
    int rc = sys->madvise(sys, real_page(ram, first),
                          pages * MEMSCHED_PAGE_SIZE, MS_MADV_POPULATE_WRITE);

    g_assert_cmpint(rc, ==, 0);
    for (uint64_t i = 0; i < pages; i++) {
        stamp((uint64_t *)real_page(ram, first + i), seed, i);
    }
}

void real_assert_stamped(const void *address, uint64_t pages, uint64_t seed)
{
    for (uint64_t i = 0; i < pages; i++) {
        const uint64_t *page = (const uint64_t *)
            ((const char *)address + i * MEMSCHED_PAGE_SIZE);
        uint64_t expected[512] = { 0 };

        stamp(expected, seed, i);
        g_assert_cmphex(page[0], ==, expected[0]);
        g_assert_cmphex(page[255], ==, expected[255]);
        g_assert_cmphex(page[511], ==, expected[511]);
    }
}
