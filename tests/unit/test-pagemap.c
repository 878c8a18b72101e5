/*
 * Recounts and PFNs, with the fake kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <sys/mman.h>

#include "fake-sys.h"
#include "memsched/types.h"
#include "pagemap.h"
#include "uffd.h"

typedef struct Fixture {
    FakeSys *fake;
    const MsSys *sys;
    MsPagemap pagemap;
    MsUffd uffd;
    void *map;
    char *frame;                /* two frames of two, advised huge */
} Fixture;

#define MAP_BYTES (3 * MEMSCHED_FRAME_SIZE)

static void setup(Fixture *f, const void *data)
{
    f->fake = fake_sys_new();
    f->sys = fake_sys(f->fake);
    g_assert_cmpint(ms_pagemap_open(&f->pagemap, f->sys), ==, 0);
    g_assert_cmpint(ms_uffd_open(&f->uffd, f->sys, 0), ==, 0);
    f->sys->mmap(f->sys, NULL, MAP_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, &f->map);
    f->frame = (char *)(((uintptr_t)f->map + MEMSCHED_FRAME_SIZE - 1) &
                        ~(MEMSCHED_FRAME_SIZE - 1));
    f->sys->madvise(f->sys, f->frame, 2 * MEMSCHED_FRAME_SIZE, MADV_HUGEPAGE);
}

static void teardown(Fixture *f, const void *data)
{
    f->sys->munmap(f->sys, f->map, MAP_BYTES);
    ms_uffd_close(&f->uffd);
    ms_pagemap_close(&f->pagemap);
    ms_pagemap_close(&f->pagemap);      /* closed already: fine */
    fake_sys_free(f->fake);
}

static char *page(Fixture *f, unsigned index)
{
    return f->frame + index * MEMSCHED_PAGE_SIZE;
}

static void test_each_kind_is_counted_apart(Fixture *f, const void *data)
{
    MsPagemapCount count;

    fake_touch(f->fake, page(f, 512), 512);             /* huge */
    fake_touch(f->fake, page(f, 10), 5);
    fake_swap_out(f->fake, page(f, 12));
    g_assert_cmpint(ms_uffd_poison(&f->uffd, page(f, 30), 2, false), ==, 0);
    g_assert_cmpint(ms_pagemap_count(&f->pagemap, f->frame, 1024, &count), ==,
                    0);
    g_assert_cmpuint(count.present_pages, ==, 512 + 4);
    g_assert_cmpuint(count.huge_pages, ==, 512);
    g_assert_cmpuint(count.swapped_pages, ==, 1);
    g_assert_cmpuint(count.zero_pages, ==, 0);
    g_assert_cmpuint(count.other_pages, ==, 1024 - 512 - 5);
}

static void test_zero_pages_of_a_split_carry_no_frame(Fixture *f,
                                                      const void *data)
{
    MsPagemapCount count;
    MsPageSet set;

    fake_touch(f->fake, f->frame, 512);
    page(f, 3)[0] = 1;
    g_assert_cmpuint(ms_uffd_move(&f->uffd, page(f, 600), page(f, 0), 1,
                                  false).moved_pages, ==, 1);
    g_assert_cmpint(ms_pagemap_count(&f->pagemap, f->frame, 512, &count), ==,
                    0);
    g_assert_cmpuint(count.present_pages, ==, 1);
    g_assert_cmpuint(count.zero_pages, ==, 510);
    g_assert_cmpint(ms_pagemap_frame(&f->pagemap, f->frame, &set), ==, 0);
    g_assert_cmpuint(ms_pageset_count(&set), ==, 1);
    g_assert_true(ms_pageset_has(&set, 3));
    g_assert_cmpint(ms_pagemap_zeros(&f->pagemap, f->frame, &set), ==, 0);
    g_assert_cmpuint(ms_pageset_count(&set), ==, 510);
    g_assert_false(ms_pageset_has(&set, 0) || ms_pageset_has(&set, 3));
}

static void test_frame_of_scattered_pages_is_exact(Fixture *f,
                                                   const void *data)
{
    MsPageSet set;

    for (unsigned i = 1; i < 512; i += 2) {
        fake_touch(f->fake, page(f, i), 1);
    }
    fake_swap_out(f->fake, page(f, 101));
    g_assert_cmpint(ms_uffd_poison(&f->uffd, page(f, 100), 1, false), ==, 0);
    g_assert_cmpint(ms_pagemap_frame(&f->pagemap, f->frame, &set), ==, 0);
    for (unsigned i = 0; i < 512; i++) {
        g_assert_cmpint(ms_pageset_has(&set, i), ==, i % 2);
    }
}

static void test_huge_only_where_one_entry_maps_it(Fixture *f,
                                                   const void *data)
{
    g_assert_cmpint(ms_pagemap_is_huge(&f->pagemap, f->frame), ==, 0);
    fake_touch(f->fake, f->frame, 1);
    g_assert_cmpint(ms_pagemap_is_huge(&f->pagemap, f->frame), ==, 0);
    fake_touch(f->fake, page(f, 512), 512);
    g_assert_cmpint(ms_pagemap_is_huge(&f->pagemap, page(f, 512)), ==, 1);
}

static void test_pfn_of_hole_is_enoent(Fixture *f, const void *data)
{
    uint64_t pfn = 0;

    g_assert_cmpint(ms_pagemap_pfn(&f->pagemap, f->frame, &pfn), ==, -ENOENT);
    fake_touch(f->fake, page(f, 1), 1);
    g_assert_cmpint(ms_pagemap_pfn(&f->pagemap, page(f, 1) + 77, &pfn), ==, 0);
    g_assert_cmpuint(pfn, ==, fake_pfn(f->fake, page(f, 1)));
    fake_swap_out(f->fake, page(f, 1));
    g_assert_cmpint(ms_pagemap_pfn(&f->pagemap, page(f, 1), &pfn), ==,
                    -ENOENT);
}

static void test_failing_scan_is_handed_on(Fixture *f, const void *data)
{
    MsPagemapCount count = { .present_pages = 7 };
    MsPageSet set;

    fake_fail(f->fake, FAKE_SCAN, 0, 3, -ENOTTY);
    g_assert_cmpint(ms_pagemap_count(&f->pagemap, f->frame, 512, &count), ==,
                    -ENOTTY);
    g_assert_cmpuint(count.present_pages, ==, 7);       /* as it was */
    g_assert_cmpint(ms_pagemap_frame(&f->pagemap, f->frame, &set), ==,
                    -ENOTTY);
    g_assert_cmpint(ms_pagemap_is_huge(&f->pagemap, f->frame), ==, -ENOTTY);
}

static void test_open_without_proc_fails(void)
{
    FakeSys *fake = fake_sys_new();
    MsPagemap pagemap;

    fake_fail(fake, FAKE_OPEN_PAGEMAP, 0, 1, -ENOENT);
    g_assert_cmpint(ms_pagemap_open(&pagemap, fake_sys(fake)), ==, -ENOENT);
    g_assert_cmpint(pagemap.fd, ==, -1);
    fake_sys_free(fake);
}

#define ADD(name, func) \
    g_test_add("/pagemap/" name, Fixture, NULL, setup, func, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("each-kind-is-counted-apart", test_each_kind_is_counted_apart);
    ADD("zero-pages-of-a-split-carry-no-frame",
        test_zero_pages_of_a_split_carry_no_frame);
    ADD("frame-of-scattered-pages-is-exact",
        test_frame_of_scattered_pages_is_exact);
    ADD("huge-only-where-one-entry-maps-it",
        test_huge_only_where_one_entry_maps_it);
    ADD("pfn-of-hole-is-enoent", test_pfn_of_hole_is_enoent);
    ADD("failing-scan-is-handed-on", test_failing_scan_is_handed_on);
    g_test_add_func("/pagemap/open-without-proc-fails",
                    test_open_without_proc_fails);
    return g_test_run();
}
