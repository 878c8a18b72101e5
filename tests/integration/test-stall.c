/*
 * A guest whose touches cannot be granted: it is paused, nobody else is, and
 * it goes on when there is memory, or when somebody waits for its vCPUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "balloon.h"
#include "heard.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)
#define WAIT_NS  UINT64_C(60000000000)

/* As QEMU names the thread of a vCPU: it is no device. */
#define VCPU "CPU 0/TCG"

static void wait_called(Balloon *b, const unsigned *count, unsigned n)
{
    ms_lock(&b->lock);
    while (*count < n) {
        if (!ms_cond_wait_ns(&b->cond, &b->lock, WAIT_NS)) {
            g_error("the machine was not called within 60 s");
        }
    }
    g_assert_cmpuint(*count, ==, n);
    ms_unlock(&b->lock);
}

static bool is_stalled(MemSched *ms, const char *id)
{
    MemSchedClientInfo info;

    g_assert_cmpint(memsched_query_client(ms, id, &info), ==, 0);
    return info.stalled;
}

static void test_a_refused_guest_is_paused_and_goes_on(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 64 * MIB, 0);
    Guest *b = guest_new(ms, "b", 64 * MIB, 0);
    Balloon *others = balloon_new_dead(a);
    Balloon *driver = balloon_new_dead(b);
    GThread *thread;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(48), 1);
    thread = guest_touch("toucher", b, 0, PAGES(24), 3);
    heard_wait(&heard, &heard.stalled, 1);
    wait_called(driver, &driver->paused, 1);
    g_assert_true(is_stalled(ms, "b"));
    guest_inflate(a, 0, PAGES(24), false);
    heard_wait(&heard, &heard.went_on, 1);
    wait_called(driver, &driver->resumed, 1);
    g_thread_join(thread);
    guest_assert(b, 0, PAGES(24), 3);
    guest_assert(a, PAGES(24), PAGES(24), 1);
    g_assert_false(is_stalled(ms, "b"));
    wait_called(others, &others->paused, 0);
    balloon_free(driver);
    balloon_free(others);
    g_assert_cmpuint(heard.stalled, ==, heard.went_on);
    heard_stop(ms, &heard);
    guest_check(ms);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/*
 * Each time that somebody waits for it, and no longer: the machine may be
 * stopped again and again while there is no memory.
 */
static void test_a_vcpu_that_is_awaited_gets_its_page(void)
{
    MemSched *ms = guest_start(16 * MIB);
    Guest *a = guest_new(ms, "a", 64 * MIB, 0);
    Guest *b = guest_new(ms, "b", 64 * MIB, 0);
    Balloon *driver = balloon_new_dead(b);
    MemSchedInfo info;

    memsched_query(ms, &info);
    g_thread_join(guest_touch(VCPU, a, 0, (info.pool_bytes -
                                           info.reserved_bytes) /
                              MEMSCHED_PAGE_SIZE, 1));
    for (unsigned i = 1; i <= 3; i++) {
        GThread *vcpu = guest_touch(VCPU, b, i, 1, 3);

        wait_called(driver, &driver->paused, i);
        memsched_client_awaited(b->client, true);
        /* Counted: another one has its answer already. */
        memsched_client_awaited(b->client, true);
        memsched_client_awaited(b->client, false);
        g_thread_join(vcpu);
        guest_assert(b, i, 1, 3);
        memsched_client_awaited(b->client, false);
        wait_called(driver, &driver->resumed, i);
        guest_check(ms);
    }
    balloon_free(driver);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* Nobody is called any more when set_machine(NULL) or ending returns. */
static void test_a_machine_that_was_taken_away_is_not_called(void)
{
    MemSched *ms = guest_start(16 * MIB);
    Guest *a = guest_new(ms, "a", 64 * MIB, 0);
    Balloon *driver = balloon_new_dead(a);
    MemSchedInfo info;
    GThread *vcpu;
    Heard heard;

    heard_start(ms, &heard);
    memsched_query(ms, &info);
    vcpu = guest_touch(VCPU, a, 0, (info.pool_bytes - info.reserved_bytes) /
                       MEMSCHED_PAGE_SIZE + 1, 1);
    wait_called(driver, &driver->paused, 1);
    memsched_client_set_machine(a->client, NULL, NULL);
    memsched_client_ending(a->client);
    g_thread_join(vcpu);
    heard_wait(&heard, &heard.went_on, 1);
    wait_called(driver, &driver->resumed, 0);
    heard_stop(ms, &heard);
    balloon_free(driver);
    guest_free(a);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/a-refused-guest-is-paused-and-goes-on",
                        test_a_refused_guest_is_paused_and_goes_on);
        g_test_add_func("/a-vcpu-that-is-awaited-gets-its-page",
                        test_a_vcpu_that_is_awaited_gets_its_page);
        g_test_add_func("/a-machine-that-was-taken-away-is-not-called",
                        test_a_machine_that_was_taken_away_is_not_called);
    }
    return g_test_run();
}
