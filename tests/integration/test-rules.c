/*
 * Rules about a page that no other file is about: what the kernel may do to
 * the RAM, who is woken, what a broken page is worth, what deflate leaves alone
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "errors.h"
#include "heard.h"
#include "instance.h"

#define FRAMES(n) ((uint64_t)(n) * MEMSCHED_FRAME_SIZE)
#define PAGES(n)  (FRAMES(n) / MEMSCHED_PAGE_SIZE)
#define VCPU      "CPU 0/TCG"

/* ---- what the kernel may do to the RAM ---- */

/* VmFlags of the mapping around @address, in two letters each. */
static char *flags_of(const void *address)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    bool here = false;

    g_assert_true(g_file_get_contents("/proc/self/smaps", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned long long start, end;

        if (sscanf(*line, "%llx-%llx ", &start, &end) == 2) {
            here = (uintptr_t)address >= start && (uintptr_t)address < end;
        } else if (here && g_str_has_prefix(*line, "VmFlags:")) {
            return g_strdup(*line);
        }
    }
    g_error("%p is not mapped", address);
}

static void assert_ours_alone(const void *address)
{
    g_autofree char *flags = flags_of(address);

    /* Not inherited by children; not merged by KSM. */
    g_assert_nonnull(strstr(flags, " dc"));
    g_assert_null(strstr(flags, " mg"));
}

static void test_ram_is_neither_inherited_nor_merged(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(2), 0);
    MemSchedRegionOptions ram = {
        .length_bytes = FRAMES(2), .name = "merged", .anonymous_private = true,
    };
    MemSchedRegion *region;
    MsPageSet left;
    MsPoolRun run;

    assert_ours_alone(a->ram);
    ram.host = mmap(NULL, FRAMES(2), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(ram.host != MAP_FAILED);
    if (madvise(ram.host, FRAMES(2), MADV_MERGEABLE) < 0) {
        g_test_message("this kernel has no KSM");
    }
    g_assert_cmpint(memsched_region_new(a->client, &ram, &region, NULL), ==,
                    0);
    assert_ours_alone(ram.host);
    memsched_region_free(region);
    munmap(ram.host, FRAMES(2));

    /* And the arena. */
    for (unsigned huge = 0; huge < 2; huge++) {
        g_assert_cmpint(ms_pool_take(ms->pool, huge ? PAGES(1) : 1,
                                     huge ? MS_POOL_HUGE : 0, &run), ==, 0);
        assert_ours_alone(run.address);
        ms_pageset_clear(&left);
        ms_pool_take_end(ms->pool, &run, &left, false);
    }
    guest_free(a);
    guest_stop(ms);
}

/* No page of a guest is the kernel's zero page, though only read. */
static void test_pages_that_are_only_read_have_frames(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);
    MsPagemapCount count;

    for (unsigned i = 0; i < 4; i++) {
        guest_assert_zero(a, i * PAGES(1) + 7, 1);
    }
    guest_check(ms);
    g_assert_cmpint(ms_pagemap_count(ms_pool_pagemap(ms->pool), a->ram,
                                     PAGES(4), &count), ==, 0);
    g_assert_cmpuint(count.zero_pages, ==, 0);
    g_assert_cmpuint(count.present_pages, >=, 4);
    guest_free(a);
    guest_stop(ms);
}

/* ---- who is woken ---- */

#define TOUCHERS 8u

/* One queue entry a page; the answer is for everybody who waits for it. */
static void test_all_who_wait_for_one_page_are_woken(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(16), 0);
    Guest *b = guest_new(ms, "b", FRAMES(4), 0);
    GThread *thread[TOUCHERS];
    MemSchedInfo info;
    Heard heard;

    heard_start(ms, &heard);
    memsched_query(ms, &info);
    g_thread_join(guest_touch(VCPU, a, 0, (info.pool_bytes -
                                           info.reserved_bytes) /
                              MEMSCHED_PAGE_SIZE, 1));
    for (unsigned i = 0; i < TOUCHERS; i++) {
        thread[i] = guest_touch(VCPU, b, 5, 1, 2);
    }
    heard_wait(&heard, &heard.stalled, 1);
    g_assert_cmpuint(ms_client_waiters(b->client), ==, 1);
    guest_inflate(a, 0, PAGES(4), false);
    for (unsigned i = 0; i < TOUCHERS; i++) {
        g_thread_join(thread[i]);
    }
    guest_assert(b, 5, 1, 2);
    heard_wait(&heard, &heard.went_on, 1);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/*
 * Threads that touch the same pages in the same order: an event may be read
 * when its page is there already.  Such a one is woken, not served.
 */
static void test_a_touch_that_came_too_late_is_woken(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    MemSchedInfo info = { .faults_stale = 0 };

    for (unsigned round = 0; info.faults_stale == 0 && round < 300; round++) {
        Guest *a = guest_new(ms, "a", FRAMES(4), 0);
        GThread *thread[TOUCHERS];

        for (unsigned i = 0; i < TOUCHERS; i++) {
            thread[i] = guest_touch(VCPU, a, 0, PAGES(4), 1);
        }
        for (unsigned i = 0; i < TOUCHERS; i++) {
            g_thread_join(thread[i]);
        }
        guest_assert(a, 0, PAGES(4), 1);
        guest_free(a);
        memsched_query(ms, &info);
    }
    g_assert_cmpuint(info.faults_stale, >, 0);
    guest_stop(ms);
}

/* ---- what is given and what is not ---- */

static void test_deflate_of_pages_never_inflated_changes_nothing(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);
    MemSchedClientInfo before, after;
    MemSchedOpResult result;

    guest_fill(a, 0, PAGES(1), 1);
    guest_query(a, &before);
    /* Pages with content, and holes, which stay what they are. */
    result = guest_deflate(a, 0, PAGES(4));
    g_assert_cmpuint(result.noop_pages, ==, PAGES(4));
    g_assert_cmpuint(result.populated_pages, ==, 0);
    guest_query(a, &after);
    g_assert_cmpuint(after.allocated_bytes, ==, before.allocated_bytes);
    guest_assert(a, 0, PAGES(1), 1);
    guest_free(a);
    guest_stop(ms);
}

/* Given pages come back as they are, without a frame on the way. */
static void test_given_pages_of_a_reset_driver_keep_their_content(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(2), 0);
    MemSchedClientInfo info;

    guest_fill(a, 0, PAGES(1), 1);
    guest_inflate(a, 0, 100, true);
    memsched_reset(a->client, MEMSCHED_RESET_DEVICE);
    guest_query(a, &info);
    g_assert_cmpuint(info.given_bytes, ==, 0);
    /* Its other pages come: the frame is not complete any more. */
    guest_inflate(a, 100, PAGES(1) - 100, true);
    guest_query(a, &info);
    g_assert_cmpuint(info.ballooned_kernel_bytes, ==, 0);
    guest_assert(a, 0, 100, 1);
    guest_free(a);
    guest_stop(ms);
}

/*
 * A stopped machine is being saved, or looked at: what it has given and still
 * holds is part of it.
 */
static void test_nothing_is_captured_of_a_stopped_guest(void)
{
    MemSched *ms = guest_start(FRAMES(16));
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);
    Guest *b = guest_new(ms, "b", FRAMES(4), 0);
    MemSchedGpaRange range = { FRAMES(2), FRAMES(1) };
    MemSchedOpResult result;
    MemSchedClientInfo info;

    guest_fill(a, 0, PAGES(3), 1);
    memsched_client_run(a->client, false);
    guest_inflate(a, 0, PAGES(2), true);
    g_assert_cmpint(memsched_inflate(a->client, &range, 1, false, &result),
                    ==, -EBUSY);
    g_assert_cmpint(memsched_report(a->client, &range, 1, UINT64_MAX,
                                    &result), ==, -EBUSY);
    /* The mover has had its turn when another guest's frame is captured. */
    guest_fill(b, 0, PAGES(1), 2);
    guest_inflate(b, 0, PAGES(1), true);
    guest_wait_ballooned(b, PAGES(1));
    guest_query(a, &info);
    g_assert_cmpuint(info.given_bytes, ==, FRAMES(2));
    g_assert_cmpuint(info.ballooned_kernel_bytes, ==, 0);
    guest_assert(a, 0, PAGES(3), 1);
    memsched_client_run(a->client, true);
    guest_wait_ballooned(a, PAGES(2));
    guest_assert(a, PAGES(2), PAGES(1), 1);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* A report is a hint: what cannot be taken now stays, and is not given. */
static void test_a_report_takes_nothing_without_time_or_leave(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);
    MemSchedGpaRange range = { 0, FRAMES(1) };
    MemSchedOpResult result;
    MemSchedClientInfo info;

    guest_fill(a, 0, PAGES(1), 1);
    g_assert_cmpint(memsched_report(a->client, &range, 1, 0, &result), ==, 0);
    g_assert_cmpuint(result.captured_pages, ==, 0);
    g_assert_cmpuint(result.busy_pages, ==, PAGES(1));
    memsched_client_inhibit(a->client, true);
    g_assert_cmpint(memsched_report(a->client, &range, 1, UINT64_MAX,
                                    &result), ==, -EBUSY);
    memsched_client_inhibit(a->client, false);
    memsched_dma_begin(a->ram, MEMSCHED_PAGE_SIZE);
    result = guest_report(a, 0, PAGES(1));
    g_assert_cmpuint(result.captured_pages, ==, 0);
    memsched_dma_end(a->ram, MEMSCHED_PAGE_SIZE);
    guest_query(a, &info);
    g_assert_cmpuint(info.given_bytes + info.ballooned_reported_bytes, ==, 0);
    /* Nothing happens to it after the answer, whatever the mover does. */
    guest_assert(a, 0, PAGES(1), 1);
    result = guest_report(a, 0, PAGES(1));
    g_assert_cmpuint(result.captured_pages, ==, PAGES(1));
    guest_free(a);
    guest_stop(ms);
}

static MemSchedPageState state_of(Guest *guest, uint64_t page)
{
    MemSchedTranslation t;

    g_assert_cmpint(memsched_translate(guest->ms, guest->id,
                                       page << MEMSCHED_PAGE_SHIFT, &t, NULL),
                    ==, 0);
    return t.state;
}

/* Nobody needs what a broken page held when the guest gives it up. */
static void test_broken_pages_that_are_given_are_broken_no_more(void)
{
    MemSched *ms = errors_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);
    MemSchedOpResult result;
    unsigned lost = errors_lost;

    guest_fill(a, 0, PAGES(4), 1);
    errors_inject(a, 3);
    errors_inject(a, PAGES(1) + 3);
    errors_inject(a, PAGES(2) + 3);
    g_assert_cmpuint(errors_query(a).poisoned_bytes, ==,
                     3 * MEMSCHED_PAGE_SIZE);

    result = guest_inflate(a, 0, PAGES(1), true);
    g_assert_cmpuint(result.given_pages, ==, PAGES(1));
    guest_wait_ballooned(a, PAGES(1));
    g_assert_cmpint(state_of(a, 3), ==, MEMSCHED_PAGE_BALLOONED);

    result = guest_inflate(a, PAGES(1), PAGES(1), false);
    g_assert_cmpuint(result.captured_pages, ==, PAGES(1));
    g_assert_cmpint(state_of(a, PAGES(1) + 3), ==, MEMSCHED_PAGE_BALLOONED);

    result = guest_report(a, PAGES(2), PAGES(1));
    g_assert_cmpuint(result.captured_pages, ==, PAGES(1));
    g_assert_cmpint(state_of(a, PAGES(2) + 3), ==, MEMSCHED_PAGE_REPORTED);

    g_assert_cmpuint(errors_query(a).poisoned_bytes, ==, 0);
    g_assert_cmpuint(errors_lost, ==, lost);
    guest_assert(a, PAGES(3), PAGES(1), 1);
    guest_assert_zero(a, 0, PAGES(3));
    guest_free(a);
    guest_stop(ms);
}

/* ---- clean is a property of a page ---- */

static void test_a_clean_page_that_is_not_zero_is_noticed(void)
{
    MemSched *ms;
    MsPageSet left;
    MsPoolRun run;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_failed();
        g_test_trap_assert_stderr("*ms_pages_are_zero*");
        return;
    }
    ms = guest_start(FRAMES(2));
    ms_pageset_clear(&left);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 2; i++) {
            g_assert_cmpint(ms_pool_take(ms->pool, PAGES(1), MS_POOL_HUGE,
                                         &run), ==, 0);
            run.address[4096 + 17] = 1;
            /* Back, and told to be as clean as it was. */
            ms_pool_take_end(ms->pool, &run, &left, false);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    g_test_add_func("/ram-is-neither-inherited-nor-merged",
                    test_ram_is_neither_inherited_nor_merged);
    g_test_add_func("/pages-that-are-only-read-have-frames",
                    test_pages_that_are_only_read_have_frames);
    g_test_add_func("/all-who-wait-for-one-page-are-woken",
                    test_all_who_wait_for_one_page_are_woken);
    g_test_add_func("/a-touch-that-came-too-late-is-woken",
                    test_a_touch_that_came_too_late_is_woken);
    g_test_add_func("/deflate-of-pages-never-inflated-changes-nothing",
                    test_deflate_of_pages_never_inflated_changes_nothing);
    g_test_add_func("/given-pages-of-a-reset-driver-keep-their-content",
                    test_given_pages_of_a_reset_driver_keep_their_content);
    g_test_add_func("/nothing-is-captured-of-a-stopped-guest",
                    test_nothing_is_captured_of_a_stopped_guest);
    g_test_add_func("/a-report-takes-nothing-without-time-or-leave",
                    test_a_report_takes_nothing_without_time_or_leave);
    g_test_add_func("/broken-pages-that-are-given-are-broken-no-more",
                    test_broken_pages_that_are_given_are_broken_no_more);
    g_test_add_func("/a-clean-page-that-is-not-zero-is-noticed",
                    test_a_clean_page_that_is_not_zero_is_noticed);
    return g_test_run();
}
