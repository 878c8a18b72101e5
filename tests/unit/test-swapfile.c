/*
 * The swap file: pages come back as they were written, or not at all
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake-sys.h"
#include "swapfile.h"

#define PAGES 100u

static char *pages_new(unsigned count, uint8_t seed)
{
    char *pages = aligned_alloc(MS_SWAPFILE_ALIGN, (size_t)count * 4096);

    g_assert_nonnull(pages);
    for (unsigned i = 0; i < count; i++) {
        memset(pages + (size_t)i * 4096, seed + i, 4096);
    }
    return pages;
}

static MsSwapfile *open_fake(FakeSys *fake)
{
    MsSwapfile *file;

    g_assert_cmpint(ms_swapfile_open(fake_sys(fake), "swap", PAGES * 4096 + 5,
                                     &file, NULL), ==, 0);
    return file;
}

static void page_is(MsSwapfile *file, uint32_t number, uint8_t value)
{
    char *page = pages_new(1, 0), *want = pages_new(1, value);

    g_assert_cmpint(ms_swapfile_read(file, number, page), ==, 0);
    g_assert_cmpmem(page, 4096, want, 4096);
    free(page);
    free(want);
}

static void test_runs_are_reserved_until_all_is_in_use(void)
{
    FakeSys *fake = fake_sys_new();
    MsSwapfile *file = open_fake(fake);
    MsSwapfileCounts counts;
    uint32_t first;

    g_assert_cmpuint(ms_swapfile_reserve(file, 60, &first), ==, 60);
    g_assert_cmpuint(first, ==, 0);
    g_assert_cmpuint(ms_swapfile_reserve(file, 60, &first), ==, 40);
    g_assert_cmpuint(first, ==, 60);
    g_assert_cmpuint(ms_swapfile_reserve(file, 1, &first), ==, 0);
    ms_swapfile_release(file, 10, 3);
    ms_swapfile_release(file, 64, 1);
    g_assert_cmpstr(ms_swapfile_check(file), ==, NULL);
    ms_swapfile_counts(file, &counts);
    g_assert_cmpuint(counts.pages, ==, PAGES);
    g_assert_cmpuint(counts.used_pages, ==, PAGES - 4);
    g_assert_cmpuint(ms_swapfile_reserve(file, 9, &first), ==, 3);
    g_assert_cmpuint(first, ==, 10);
    g_assert_cmpuint(ms_swapfile_reserve(file, 9, &first), ==, 1);
    g_assert_cmpuint(first, ==, 64);
    ms_swapfile_close(file);
    fake_sys_free(fake);
}

static void test_pages_come_back_also_by_short_reads_and_writes(void)
{
    FakeSys *fake = fake_sys_new();
    MsSwapfile *file = open_fake(fake);
    char *pages = pages_new(8, 40);
    MsSwapfileCounts counts;
    uint32_t first;

    g_assert_cmpuint(ms_swapfile_reserve(file, 8, &first), ==, 8);
    fake_fail(fake, FAKE_PWRITE, 0, 2, -EINTR);
    g_assert_cmpint(ms_swapfile_write(file, first, 8, pages), ==, 0);
    g_assert_cmpuint(fake_calls(fake, FAKE_PWRITE), ==, 3);
    fake_fail(fake, FAKE_PREAD, 0, 1, -EINTR);
    for (unsigned i = 0; i < 8; i++) {
        page_is(file, first + i, 40 + i);
    }
    ms_swapfile_counts(file, &counts);
    g_assert_cmpuint(counts.written_pages, ==, 8);
    g_assert_cmpuint(counts.read_pages, ==, 8);
    g_assert_cmpuint(counts.write_errors + counts.read_errors, ==, 0);
    free(pages);
    ms_swapfile_close(file);
    fake_sys_free(fake);
}

static void test_errors_of_the_disk_are_told(void)
{
    FakeSys *fake = fake_sys_new();
    MsSwapfile *file = open_fake(fake);
    char *pages = pages_new(2, 1);
    MsSwapfileCounts counts;
    uint32_t first;

    g_assert_cmpuint(ms_swapfile_reserve(file, 2, &first), ==, 2);
    fake_fail(fake, FAKE_PWRITE, 0, 1, -ENOSPC);
    g_assert_cmpint(ms_swapfile_write(file, first, 2, pages), ==, -ENOSPC);
    fake_fail(fake, FAKE_PWRITE, 0, 1, 0);
    g_assert_cmpint(ms_swapfile_write(file, first, 2, pages), ==, 0);
    /* once is tried again, twice is the end of it */
    fake_fail(fake, FAKE_PREAD, 0, 1, -EIO);
    page_is(file, first, 1);
    fake_fail(fake, FAKE_PREAD, 0, 2, -EIO);
    g_assert_cmpint(ms_swapfile_read(file, first, pages), ==, -EIO);
    page_is(file, first + 1, 2);
    /* one bit that has fallen over */
    fake_corrupt(fake, (uint64_t)(first + 1) * 4096 + 77);
    g_assert_cmpint(ms_swapfile_read(file, first + 1, pages), ==, -EBADMSG);
    ms_swapfile_counts(file, &counts);
    g_assert_cmpuint(counts.write_errors, ==, 1);
    g_assert_cmpuint(counts.read_errors, ==, 2);
    free(pages);
    ms_swapfile_close(file);
    fake_sys_free(fake);
}

static void test_refusals_say_why(void)
{
    FakeSys *fake = fake_sys_new();
    MemSchedMessage message;
    MsSwapfile *file;

    g_assert_cmpint(ms_swapfile_open(fake_sys(fake), "swap", 4095, &file,
                                     &message), ==, -EINVAL);
    g_assert_cmpint(ms_swapfile_open(fake_sys(fake), "swap", UINT64_MAX, &file,
                                     &message), ==, -EINVAL);
    fake_fail(fake, FAKE_CREATE, 0, 1, -EEXIST);
    g_assert_cmpint(ms_swapfile_open(fake_sys(fake), "swap", 4096, &file,
                                     &message), ==, -EEXIST);
    g_assert_nonnull(strstr(message.text, "'swap'"));
    fake_fail(fake, FAKE_CREATE, 0, 1, -ENOSPC);
    g_assert_cmpint(ms_swapfile_open(fake_sys(fake), "swap", 4096, &file,
                                     &message), ==, -ENOSPC);
    g_assert_nonnull(strstr(message.text, "no room for"));
    ms_swapfile_close(NULL);
    fake_sys_free(fake);
}

/* On the disk, as the process will have it. */
static void test_real_file_has_no_name_and_nothing_is_overwritten(void)
{
    g_autofree char *dir = g_dir_make_tmp("memsched-swap-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "swap", NULL);
    char *pages = pages_new(PAGES, 3);
    MsSwapfile *file;
    uint32_t first;

    g_assert_nonnull(dir);
    g_assert_true(g_file_set_contents(path, "mine", 4, NULL));
    g_assert_cmpint(ms_swapfile_open(ms_sys_real(), path, PAGES * 4096, &file,
                                     NULL), ==, -EEXIST);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(ms_swapfile_open(ms_sys_real(), path, PAGES * 4096, &file,
                                     NULL), ==, 0);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_assert_cmpuint(ms_swapfile_reserve(file, PAGES, &first), ==, PAGES);
    g_assert_cmpint(ms_swapfile_write(file, 0, PAGES, pages), ==, 0);
    for (unsigned i = 0; i < PAGES; i++) {
        page_is(file, i, 3 + i);
    }
    ms_swapfile_close(file);
    g_assert_cmpint(ms_swapfile_open(ms_sys_real(), "/nonexistent/swap", 4096,
                                     &file, NULL), ==, -ENOENT);
    g_assert_cmpint(g_rmdir(dir), ==, 0);
    free(pages);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/swapfile/runs-are-reserved-until-all-is-in-use",
                    test_runs_are_reserved_until_all_is_in_use);
    g_test_add_func("/swapfile/pages-come-back-also-by-short-reads",
                    test_pages_come_back_also_by_short_reads_and_writes);
    g_test_add_func("/swapfile/errors-of-the-disk-are-told",
                    test_errors_of_the_disk_are_told);
    g_test_add_func("/swapfile/refusals-say-why", test_refusals_say_why);
    g_test_add_func("/swapfile/real-file-has-no-name",
                    test_real_file_has_no_name_and_nothing_is_overwritten);
    return g_test_run();
}
