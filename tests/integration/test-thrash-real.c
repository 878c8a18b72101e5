/*
 * Thrash protection on the real kernel: a guest whose pages come back is left
 * alone, but for those who wait for its memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "balloon.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)
#define WAIT_US  (20 * G_USEC_PER_SEC)

static MemSchedClientInfo info_of(Guest *guest)
{
    MemSchedClientInfo info;

    g_assert_cmpint(memsched_query_client(guest->ms, guest->id, &info), ==, 0);
    return info;
}

/* Reports 8 MiB as free, and touches them at once. */
static void thrash(Guest *guest)
{
    MemSchedOpResult result;

    guest_fill(guest, 0, PAGES(8), 1);
    result = guest_report(guest, 0, PAGES(8));
    g_assert_cmpuint(result.captured_pages, ==, PAGES(8));
    guest_fill(guest, 0, PAGES(8), 2);
    guest_check(guest->ms);
}

static void test_reports_of_one_that_thrashes_are_left_for_a_while(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 32 * MIB, 0);
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedClientInfo info;
    MemSchedOpResult result;

    thrash(a);
    info = info_of(a);
    g_assert_cmpuint(info.backoffs, ==, 1);
    g_assert_cmpuint(info.returned_pages, ==, PAGES(8));
    g_assert_cmpuint(info.backoff_ns, <=, UINT64_C(1000000000));

    result = guest_report(a, 0, PAGES(8));
    if (info_of(a).backoff_ns > 0) {
        g_assert_cmpuint(result.captured_pages, ==, 0);
        g_assert_cmpuint(result.busy_pages, ==, PAGES(8));
        guest_assert(a, 0, PAGES(8), 2);
    }
    while (info_of(a).backoff_ns > 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    /* It was a second; once more, and it is two. */
    thrash(a);
    info = info_of(a);
    g_assert_cmpuint(info.backoffs, ==, 2);
    g_assert_cmpuint(info.backoff_ns, >, UINT64_C(1000000000));
    guest_free(a);
    guest_stop(ms);
}

static void test_a_guest_that_keeps_its_word_is_not_left_alone(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 32 * MIB, 0);

    for (unsigned i = 0; i < 4; i++) {
        guest_fill(a, PAGES(8 * i), PAGES(8), 1);
        g_assert_cmpuint(guest_report(a, PAGES(8 * i), PAGES(8)).captured_pages,
                         ==, PAGES(8));
    }
    /* A quarter may come back. */
    guest_fill(a, 0, PAGES(8), 2);
    g_assert_cmpuint(info_of(a).backoffs, ==, 0);
    guest_free(a);
    guest_stop(ms);
}

static void test_given_pages_wait_unless_a_transfer_wants_them(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 32 * MIB, 0);
    Guest *b = guest_new(ms, "b", 32 * MIB, 0);
    MemSchedTransferOptions options = {
        .from = "a", .to = "b", .size_bytes = 8 * MIB,
    };
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedTransferInfo t;
    Balloon *driver;
    uint64_t id;

    guest_fill(a, PAGES(16), PAGES(8), 3);
    thrash(a);
    /* A guest that is left alone for long: no race with its end. */
    for (unsigned i = 0; i < 3; i++) {
        while (info_of(a).backoff_ns > 0) {
            g_assert_cmpint(g_get_monotonic_time(), <, end);
            g_usleep(1000);
        }
        thrash(a);
    }
    g_assert_cmpuint(info_of(a).backoff_ns, >, UINT64_C(4000000000));

    guest_inflate(a, 0, PAGES(2), true);
    guest_check(ms);
    if (info_of(a).backoff_ns > UINT64_C(1000000000)) {
        g_assert_cmpuint(info_of(a).given_bytes, ==, 2 * MIB);
    }
    guest_deflate(a, 0, PAGES(2));

    driver = balloon_new(a, 0, PAGES(16), true);
    g_assert_cmpint(memsched_reallocate(ms, &options, &id, NULL), ==, 0);
    do {
        g_assert_cmpuint(memsched_query_transfers(ms, &t, 1), ==, 1);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    } while (t.state == MEMSCHED_TRANSFER_RUNNING);
    g_assert_cmpint(t.state, ==, MEMSCHED_TRANSFER_COMPLETED);
    guest_assert(a, PAGES(16), PAGES(8), 3);
    balloon_free(driver);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/*
 * Single ballooned pages that are touched one after the other: all of them are
 * served, and zero, though they are more than the bucket holds.
 */
static void test_no_fault_is_refused_however_many_there_are(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 32 * MIB, 0);
    gint64 start;

    guest_fill(a, 0, PAGES(28), 1);
    guest_inflate(a, 0, PAGES(28), false);
    start = g_get_monotonic_time();
    guest_assert_zero(a, 0, PAGES(28));
    /* 7168 faults; 5000 at once, the others at 5000 a second. */
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 400000);
    g_assert_cmpuint(info_of(a).faults, >=, PAGES(28));
    guest_free(a);
    guest_stop(ms);
}

static void test_shortage_in_the_guest_is_a_reason_too(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 32 * MIB, 0);

    memsched_client_oom_deflate(a->client);
    g_assert_cmpuint(info_of(a).backoffs, ==, 1);
    g_assert_cmpuint(info_of(a).oom_deflates, ==, 1);
    guest_free(a);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/thrash/reports",
                        test_reports_of_one_that_thrashes_are_left_for_a_while);
        g_test_add_func("/thrash/quiet",
                        test_a_guest_that_keeps_its_word_is_not_left_alone);
        g_test_add_func("/thrash/transfer",
                        test_given_pages_wait_unless_a_transfer_wants_them);
        g_test_add_func("/thrash/faults",
                        test_no_fault_is_refused_however_many_there_are);
        g_test_add_func("/thrash/oom",
                        test_shortage_in_the_guest_is_a_reason_too);
    }
    return g_test_run();
}
