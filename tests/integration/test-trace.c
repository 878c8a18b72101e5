/*
 * What happens to guests is told as traces, and agrees with the counters
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "agent.h"
#include "balloon.h"
#include "errors.h"
#include "heard.h"
#include "transfers.h"

#define FRAMES(n) ((uint64_t)(n) * MEMSCHED_FRAME_SIZE)
#define PAGES(n)  (FRAMES(n) / MEMSCHED_PAGE_SIZE)

/* Whether a point was told; how often does not matter. */
static bool told(Heard *heard, MemSchedTracePoint point)
{
    return atomic_load(&heard->traces[point]) > 0;
}

static uint64_t sum(Heard *heard, MemSchedTracePoint point)
{
    return atomic_load(&heard->traced[point]);
}

static void test_a_transfer_is_told_from_its_beginning_to_its_end(void)
{
    MemSched *ms = guest_start(FRAMES(32));
    Guest *a = guest_new(ms, "a", FRAMES(12), 0);
    Guest *b = guest_new(ms, "b", FRAMES(12), 0);
    MemSchedTransferInfo t;
    MemSchedInfo info;
    Balloon *driver;
    uint64_t id;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(12), 1);
    driver = balloon_new(a, 0, PAGES(10), true);
    id = transfer_start(ms, "a", "b", FRAMES(6), MEMSCHED_SOURCE_ANY, 0);
    t = transfer_wait(ms, id);
    transfer_assert_completed(&t);
    balloon_free(driver);
    memsched_reset(a->client, MEMSCHED_RESET_DEVICE);
    guest_check(ms);
    memsched_query(ms, &info);
    g_assert_true(told(&heard, MEMSCHED_TRACE_FAULT_SERVED));
    g_assert_true(told(&heard, MEMSCHED_TRACE_POPULATE));
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_CAPTURE), ==,
                     info.captured_pages);
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_CLAIM), >=, PAGES(6));
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_TRANSFER_BEGIN), ==, id);
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_TRANSFER_END), ==, id);
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_RESET), ==,
                     MEMSCHED_RESET_DEVICE);
    g_assert_true(told(&heard, MEMSCHED_TRACE_RESET));
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

static void test_a_shortage_is_told(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(16), 0);
    MemSchedInfo info;
    GThread *vcpu;
    Heard heard;

    heard_start(ms, &heard);
    memsched_query(ms, &info);
    vcpu = guest_touch("CPU 0/TCG", a, 0, (info.pool_bytes -
                                           info.reserved_bytes) /
                       MEMSCHED_PAGE_SIZE + 1, 1);
    heard_wait(&heard, &heard.stalled, 1);
    memsched_client_awaited(a->client, true);
    g_thread_join(vcpu);
    memsched_client_awaited(a->client, false);
    heard_wait(&heard, &heard.went_on, 1);
    memsched_query(ms, &info);
    g_assert_cmpuint(atomic_load(&heard.traces[MEMSCHED_TRACE_FAULT_REFUSED]),
                     ==, info.faults_waited);
    g_assert_true(told(&heard, MEMSCHED_TRACE_GRANT_REFUSED));
    g_assert_true(told(&heard, MEMSCHED_TRACE_POOL_SHORT));
    /* Once it began, once it ended. */
    g_assert_cmpuint(atomic_load(&heard.traces[MEMSCHED_TRACE_STALLED]), ==,
                     2);
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_STALLED), ==, 1);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_stop(ms);
}

static void test_pages_found_by_value_are_told(void)
{
    MemSched *ms = guest_start(FRAMES(32));
    Guest *a = guest_new(ms, "a", FRAMES(12), 0);
    Guest *b = guest_new(ms, "b", FRAMES(12), 0);
    MemSchedTransferInfo t;
    Agent *agent;
    Heard heard;

    guest_fill(a, 0, PAGES(12), 1);
    agent = agent_new(a, PAGES(2), PAGES(8));
    heard_start(ms, &heard);
    t = transfer_wait(ms, transfer_start(ms, "a", "b", FRAMES(2),
                                         MEMSCHED_SOURCE_APPLICATION, 0));
    transfer_assert_completed(&t);
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_TAGS_FOUND), ==, PAGES(2));
    heard_stop(ms, &heard);
    agent_free(agent);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

static void test_a_repaired_page_is_told(void)
{
    MemSched *ms = errors_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(2), 0);
    Heard heard;

    guest_fill(a, 0, PAGES(1), 1);
    guest_inflate(a, 0, 10, true);
    errors_inject(a, 4);
    heard_start(ms, &heard);
    g_assert_cmpint(memsched_repair_range(a->ram, 10 * MEMSCHED_PAGE_SIZE),
                    ==, 1);
    g_assert_cmpuint(sum(&heard, MEMSCHED_TRACE_REPAIR), ==,
                     4 * MEMSCHED_PAGE_SIZE);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/a-transfer-is-told-from-its-beginning-to-its-end",
                        test_a_transfer_is_told_from_its_beginning_to_its_end);
        g_test_add_func("/a-shortage-is-told", test_a_shortage_is_told);
        g_test_add_func("/pages-found-by-value-are-told",
                        test_pages_found_by_value_are_told);
        g_test_add_func("/a-repaired-page-is-told",
                        test_a_repaired_page_is_told);
    }
    return g_test_run();
}
