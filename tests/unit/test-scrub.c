/*
 * Clearing and comparing pages, and the scrubber's thread
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "fake-sys.h"
#include "pool.h"
#include "scrub.h"

#define DEADLINE_US (10 * G_USEC_PER_SEC)

static void test_clearing_touches_nothing_beside(void)
{
    char *pages = g_malloc(3 * MEMSCHED_PAGE_SIZE);

    memset(pages, 0xaa, 3 * MEMSCHED_PAGE_SIZE);
    ms_clear_pages(pages + MEMSCHED_PAGE_SIZE, 1);
    g_assert_cmpint(pages[MEMSCHED_PAGE_SIZE - 1], ==, (char)0xaa);
    g_assert_cmpint(pages[2 * MEMSCHED_PAGE_SIZE], ==, (char)0xaa);
    for (unsigned i = 0; i < MEMSCHED_PAGE_SIZE; i++) {
        g_assert_cmpint(pages[MEMSCHED_PAGE_SIZE + i], ==, 0);
    }
    g_free(pages);
}

static void test_one_bit_anywhere_is_not_zero_and_not_equal(void)
{
    char *page = g_malloc0(MEMSCHED_PAGE_SIZE);
    char *zero = g_malloc0(MEMSCHED_PAGE_SIZE);

    g_assert_true(ms_pages_are_zero(page, 1));
    g_assert_true(ms_pages_equal(page, zero, 1));
    for (unsigned i = 0; i < MEMSCHED_PAGE_SIZE; i++) {
        page[i] = 1 << (i % 8);
        g_assert_false(ms_pages_are_zero(page, 1));
        g_assert_false(ms_pages_equal(page, zero, 1));
        page[i] = 0;
    }
    g_free(page);
    g_free(zero);
}

static void test_touch_changes_no_content(void)
{
    char *page = g_malloc(2 * MEMSCHED_PAGE_SIZE);

    memset(page, 0x3c, 2 * MEMSCHED_PAGE_SIZE);
    ms_touch_pages(page, 2);
    for (unsigned i = 0; i < 2 * MEMSCHED_PAGE_SIZE; i++) {
        g_assert_cmpint(page[i], ==, 0x3c);
    }
    g_free(page);
}

static uint64_t dirty_of(MsPool *pool)
{
    MsPoolCounts counts;

    ms_pool_counts(pool, &counts);
    return counts.free_dirty_pages;
}

/* A pool whose pages are all dirty, and a scrubber on it. */
static void scrub_until_clean(FakeSys *fake, uint64_t max_bytes_per_s)
{
    const MsSys *sys = fake_sys(fake);
    MsPoolOptions options = { .frames = 4, .small_reserve_pages = 64 };
    static const MsPageSet none;
    gint64 deadline = g_get_monotonic_time() + DEADLINE_US;
    MsScrub *scrub = NULL;
    MsPool *pool;
    MsPoolRun runs[4];

    g_assert_cmpint(ms_pool_new(sys, &options, &pool), ==, 0);
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpint(ms_pool_take(pool, 512, MS_POOL_HUGE, &runs[i]), ==,
                        0);
        memset(runs[i].address, 0xff, MEMSCHED_FRAME_SIZE);
    }
    g_assert_cmpint(ms_scrub_start(sys, pool, max_bytes_per_s, &scrub), ==,
                    0);
    for (unsigned i = 0; i < 4; i++) {
        ms_pool_take_end(pool, &runs[i], &none, true);
    }
    while (dirty_of(pool)) {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        g_thread_yield();
    }
    ms_scrub_stop(scrub);
    for (unsigned i = 0; i < 4; i++) {
        if (ms_pool_take(pool, 512, MS_POOL_HUGE | MS_POOL_NOWAIT, &runs[i])
            == 0) {
            g_assert_true(ms_pages_are_zero(runs[i].address, 512));
            ms_pool_take_end(pool, &runs[i], &none, false);
        }
    }
    g_assert_cmpint(ms_pool_check(pool, NULL), ==, 0);
    ms_pool_free(pool);
}

static void test_thread_cleans_what_comes_back(void)
{
    FakeSys *fake = fake_sys_new();

    scrub_until_clean(fake, 0);
    fake_sys_free(fake);
}

static void test_budget_slows_and_does_not_stop(void)
{
    FakeSys *fake = fake_sys_new();

    scrub_until_clean(fake, UINT64_C(1) << 30);
    fake_sys_free(fake);
}

static void test_thread_comes_forward_while_clean_pages_are_few(void)
{
    FakeSys *fake = fake_sys_new();

    scrub_until_clean(fake, 0);
    g_assert_cmpuint(fake_calls(fake, FAKE_FOREGROUND), >=, 1);
    /* Once at its start, once each time that it has caught up. */
    g_assert_cmpuint(fake_calls(fake, FAKE_BACKGROUND), >=, 1);
    g_assert_cmpuint(fake_calls(fake, FAKE_BACKGROUND), <=,
                     fake_calls(fake, FAKE_FOREGROUND) + 1);
    fake_sys_free(fake);
}

static void test_thread_that_may_not_come_forward_cleans_all_the_same(void)
{
    FakeSys *fake = fake_sys_new();

    fake_fail(fake, FAKE_FOREGROUND, 0, UINT_MAX, -EACCES);
    scrub_until_clean(fake, 0);
    fake_sys_free(fake);
}

static void test_stop_of_an_idle_thread_returns(void)
{
    FakeSys *fake = fake_sys_new();
    MsPoolOptions options = { .frames = 1, .small_reserve_pages = 64 };
    MsScrub *scrub = NULL;
    MsPool *pool;

    ms_scrub_stop(NULL);
    g_assert_cmpint(ms_pool_new(fake_sys(fake), &options, &pool), ==, 0);
    for (unsigned i = 0; i < 20; i++) {
        g_assert_cmpint(ms_scrub_start(fake_sys(fake), pool, 0, &scrub), ==,
                        0);
        ms_scrub_stop(scrub);
    }
    ms_pool_free(pool);
    fake_sys_free(fake);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/scrub/clearing-touches-nothing-beside",
                    test_clearing_touches_nothing_beside);
    g_test_add_func("/scrub/one-bit-anywhere-is-not-zero-and-not-equal",
                    test_one_bit_anywhere_is_not_zero_and_not_equal);
    g_test_add_func("/scrub/touch-changes-no-content",
                    test_touch_changes_no_content);
    g_test_add_func("/scrub/thread-cleans-what-comes-back",
                    test_thread_cleans_what_comes_back);
    g_test_add_func("/scrub/budget-slows-and-does-not-stop",
                    test_budget_slows_and_does_not_stop);
    g_test_add_func("/scrub/thread-comes-forward-while-clean-pages-are-few",
                    test_thread_comes_forward_while_clean_pages_are_few);
    g_test_add_func("/scrub/thread-that-may-not-come-forward-cleans-all-the-"
                    "same",
                    test_thread_that_may_not_come_forward_cleans_all_the_same);
    g_test_add_func("/scrub/stop-of-an-idle-thread-returns",
                    test_stop_of_an_idle_thread_returns);
    return g_test_run();
}
