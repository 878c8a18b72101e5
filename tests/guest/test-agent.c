/*
 * The agent against a pretended host: sessions, orders, pressure
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "pretend.h"

static const char *const quick[] = { "--stock-time=1", NULL };
static const char *const slow_steps[] = { "--step=2M", NULL };

static void test_agent_says_hello_registers_and_tells_its_figures(void)
{
    Pretend *p = pretend_new(NULL);
    bool told_total = false;
    BxMessage m;

    pretend_accept(p);
    pretend_welcome(p, 1, &m);
    g_assert_cmpuint(m.hello.version_min, ==, 1);
    g_assert_cmpuint(m.hello.held_bytes, ==, 0);
    pretend_expect(p, VBX_REGISTER, 1, &m);
    g_assert_cmpuint(m.reg.flags, ==, VBX_APP_RESERVES | VBX_APP_AGENT);
    /* 800 MiB available less a tenth of RAM. */
    g_assert_cmpuint(m.reg.offer_bytes >> 20, ==, 697);
    pretend_expect(p, VBX_STATISTICS, 0, &m);
    for (uint32_t i = 0; i < m.statistics.count; i++) {
        const struct vbx_stat *stat = &m.statistics.stat[i];

        if (stat->tag == VBX_STAT_TOTAL) {
            g_assert_cmpuint(stat->value, ==, 1024 * MIB);
            told_total = true;
        } else if (stat->tag == VBX_STAT_OOM_KILLS) {
            g_assert_cmpuint(stat->value, ==, 3);
        }
    }
    g_assert_true(told_total);
    bx_wire_init(&m, VBX_PING, 0, 77);
    pretend_send(p, &m);
    pretend_expect(p, VBX_PONG, 0, &m);
    g_assert_cmpuint(m.header.cookie, ==, 77);
    bx_wire_init(&m, VBX_POLL, 0, 0);
    pretend_send(p, &m);
    pretend_expect(p, VBX_STATISTICS, 0, &m);
    pretend_free(p);
}

static void test_large_order_is_worked_on_bit_by_bit(void)
{
    Pretend *p = pretend_new(slow_steps);
    uint64_t pages;
    BxMessage m;

    pretend_begin(p, 1);
    pretend_order(p, 1, 9, 64 * MIB, VBX_GRANULE_BYTES);
    pretend_expect(p, VBX_RESERVED, 1, &m);
    g_assert_cmpuint(m.reserved.status, ==, VBX_RESERVE_PROGRESS);
    g_assert_cmpuint(m.reserved.count, ==, 512);
    /* It listens in between: this one would be refused after the last. */
    bx_wire_init(&m, VBX_CANCEL, 1, 9);
    pretend_send(p, &m);
    do {
        pretend_expect(p, VBX_RESERVED, 1, &m);
    } while (m.reserved.status == VBX_RESERVE_PROGRESS);
    g_assert_cmpuint(m.reserved.status, ==, VBX_RESERVE_PARTIAL);
    g_assert_cmpuint(m.reserved.reason, ==, VBX_REASON_CANCELLED);
    pretend_order(p, 1, 10, 8 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 10, &pages, NULL), ==,
                     VBX_RESERVE_WHOLE);
    g_assert_cmpuint(pages, ==, 2048);
    pretend_range(p, VBX_RELEASE, 1, 10, 0, 2048);
    pretend_range(p, VBX_RELEASED, 1, 10, 0, 2048);
    pretend_expect(p, VBX_UNMAPPED, 1, &m);
    g_assert_cmpuint(m.range.count, ==, 2048);
    pretend_free(p);
}

static void test_guest_keeps_what_must_stay_available(void)
{
    static const char *const options[] = { "--keep-available=790M", NULL };
    Pretend *p = pretend_new(options);
    unsigned reason;
    uint64_t pages;

    pretend_begin(p, 1);
    /* 10 MiB are left, of which the figures never show a change. */
    pretend_available(p, 790);
    pretend_order(p, 1, 9, 64 * MIB, VBX_PAGE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 9, &pages, &reason), ==,
                     VBX_RESERVE_REFUSED);
    g_assert_cmpuint(reason, ==, VBX_REASON_PRESSURE);
    g_assert_cmpuint(pages, ==, 0);
    pretend_free(p);
}

static void test_share_of_ram_is_a_limit(void)
{
    static const char *const options[] = { "--max-fraction=2", NULL };
    Pretend *p = pretend_new(options);
    unsigned reason;
    uint64_t pages;

    pretend_begin(p, 1);
    pretend_order(p, 1, 9, 64 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 9, &pages, &reason), ==,
                     VBX_RESERVE_PARTIAL);
    g_assert_cmpuint(reason, ==, VBX_REASON_LIMIT);
    g_assert_cmpuint(pages / 256, ==, 20);
    pretend_free(p);
}

static void test_guest_that_runs_short_has_its_memory_back_at_once(void)
{
    Pretend *p = pretend_new(NULL);
    uint64_t back = 0;
    unsigned reason;
    BxMessage m;

    pretend_begin(p, 1);
    pretend_order(p, 1, 9, 64 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 9, NULL, NULL), ==,
                     VBX_RESERVE_WHOLE);
    /* A tenth of RAM has to stay: 52 MiB are missing. */
    pretend_available(p, 50);
    while (back < 52 * MIB) {
        pretend_expect(p, VBX_RELEASE, 1, &m);
        g_assert_cmpuint(m.range.reason, ==, VBX_REASON_PRESSURE);
        pretend_expect(p, VBX_UNMAPPED, 1, &m);
        g_assert_cmpuint(m.range.epoch, ==, 9);
        back += m.range.count * VBX_PAGE_BYTES;
    }
    /* For a while it gives nothing, whatever the figures say. */
    pretend_available(p, 800);
    pretend_order(p, 1, 10, 4 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 10, NULL, &reason), ==,
                     VBX_RESERVE_REFUSED);
    g_assert_cmpuint(reason, ==, VBX_REASON_PRESSURE);
    pretend_free(p);
}

static void test_host_that_returns_finds_what_is_held(void)
{
    Pretend *p = pretend_new(NULL);
    BxMessage m;

    pretend_begin(p, 1);
    pretend_order(p, 1, 9, 4 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 1, 9, NULL, NULL);
    pretend_hang_up(p);

    pretend_accept(p);
    pretend_welcome(p, 2, &m);
    g_assert_cmpuint(m.hello.held_bytes, ==, 4 * MIB);
    g_assert_cmpuint(m.hello.session[0], ==, 1);
    pretend_expect(p, VBX_REGISTER, 1, &m);
    /* It is used first: no memory of the guest is needed. */
    pretend_available(p, 100);
    pretend_order(p, 1, 9, 4 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 9, NULL, NULL), ==,
                     VBX_RESERVE_WHOLE);
    pretend_free(p);
}

static void test_new_session_registers_anew_and_old_memory_goes(void)
{
    Pretend *p = pretend_new(quick);
    BxMessage m;

    pretend_begin(p, 1);
    pretend_order(p, 1, 9, 4 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 1, 9, NULL, NULL);
    pretend_new_session(p, 2);
    pretend_expect(p, VBX_REGISTER, 1, &m);
    /* Nobody orders: after its time it is the guest's again. */
    pretend_wait_held(p, 0);
    pretend_free(p);
}

static void test_noise_opens_the_port_anew(void)
{
    static const char noise[64] = "this is not a message, and never was one";
    Pretend *p = pretend_new(NULL);
    BxMessage m;

    pretend_begin(p, 1);
    pretend_send_bytes(p, noise, sizeof(noise));
    pretend_expect_end(p);
    pretend_accept(p);
    pretend_welcome(p, 2, &m);
    pretend_expect(p, VBX_REGISTER, 1, &m);
    pretend_free(p);
}

static void test_message_that_makes_no_sense_is_answered_and_disturbs_not(void)
{
    Pretend *p = pretend_new(NULL);
    BxMessage m;

    pretend_begin(p, 1);
    bx_wire_init(&m, VBX_RESERVE, 1, 5);        /* of nothing */
    pretend_send(p, &m);
    pretend_expect(p, VBX_ERROR, 1, &m);
    g_assert_cmpuint(m.error.code, ==, VBX_ERROR_MALFORMED);
    g_assert_cmpuint(m.error.type, ==, VBX_RESERVE);
    g_assert_cmpuint(m.header.cookie, ==, 5);
    pretend_order(p, 44, 9, 4 * MIB, VBX_GRANULE_BYTES);
    pretend_expect(p, VBX_ERROR, 44, &m);
    g_assert_cmpuint(m.error.code, ==, VBX_ERROR_UNKNOWN);
    pretend_order(p, 1, 9, 2 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 9, NULL, NULL), ==,
                     VBX_RESERVE_WHOLE);
    pretend_free(p);
}

static void test_host_of_another_version_is_refused(void)
{
    Pretend *p = pretend_new(NULL);
    BxMessage m;

    pretend_accept(p);
    pretend_expect(p, VBX_HELLO, 0, &m);
    bx_wire_init(&m, VBX_WELCOME, 0, 0);
    m.welcome.version = 2;
    m.welcome.apps_max = 1;
    pretend_send(p, &m);
    pretend_expect_end(p);
    pretend_free(p);
}

/* It has nothing to manage, and knows the condition all the same. */
static void test_host_that_takes_no_application_is_only_listened_to(void)
{
    Pretend *p = pretend_new(NULL);
    BxMessage m;

    pretend_accept(p);
    pretend_expect(p, VBX_HELLO, 0, &m);
    bx_wire_init(&m, VBX_WELCOME, 0, 0);
    m.welcome.version = VBX_VERSION;
    pretend_send(p, &m);
    bx_wire_init(&m, VBX_PING, 0, 5);
    pretend_send(p, &m);
    /* No registration before that. */
    pretend_expect(p, VBX_PONG, 0, &m);
    bx_wire_init(&m, VBX_POLL, 0, 0);
    pretend_send(p, &m);
    pretend_expect(p, VBX_STATISTICS, 0, &m);
    pretend_free(p);
}

static void test_agent_is_the_first_victim(void)
{
    Pretend *p = pretend_new(NULL);
    g_autofree char *path = g_strdup_printf("/proc/%d/oom_score_adj",
                                            (int)p->agent);
    g_autofree char *text = NULL;

    pretend_begin(p, 1);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "1000\n");
    pretend_free(p);
}

static void test_second_agent_is_refused_and_a_left_over_socket_is_not(void)
{
    Pretend *p = pretend_new(NULL);
    const char *argv[] = {
        pretend_exd, "--run-dir", p->run_dir, "--root", p->root,
        NULL
    };
    BxMessage m;

    pretend_begin(p, 1);
    g_assert_cmpint(pretend_wait_for(pretend_spawn(argv, NULL)), ==, 1);
    pretend_kill_agent(p);
    pretend_hang_up(p);
    pretend_start_agent(p, NULL);
    pretend_accept(p);
    pretend_welcome(p, 2, &m);
    pretend_expect(p, VBX_REGISTER, 1, &m);
    pretend_free(p);
}

int main(int argc, char **argv)
{
    pretend_init(argc, argv);
    g_test_add_func("/says-hello-registers-and-tells-its-figures",
                    test_agent_says_hello_registers_and_tells_its_figures);
    g_test_add_func("/large-order-is-worked-on-bit-by-bit",
                    test_large_order_is_worked_on_bit_by_bit);
    g_test_add_func("/guest-keeps-what-must-stay-available",
                    test_guest_keeps_what_must_stay_available);
    g_test_add_func("/share-of-ram-is-a-limit", test_share_of_ram_is_a_limit);
    g_test_add_func("/guest-that-runs-short-has-its-memory-back-at-once",
                    test_guest_that_runs_short_has_its_memory_back_at_once);
    g_test_add_func("/host-that-returns-finds-what-is-held",
                    test_host_that_returns_finds_what_is_held);
    g_test_add_func("/new-session-registers-anew-and-old-memory-goes",
                    test_new_session_registers_anew_and_old_memory_goes);
    g_test_add_func("/noise-opens-the-port-anew",
                    test_noise_opens_the_port_anew);
    g_test_add_func(
        "/message-that-makes-no-sense-is-answered-and-disturbs-not",
        test_message_that_makes_no_sense_is_answered_and_disturbs_not);
    g_test_add_func("/host-of-another-version-is-refused",
                    test_host_of_another_version_is_refused);
    g_test_add_func("/host-that-takes-no-application-is-only-listened-to",
                    test_host_that_takes_no_application_is_only_listened_to);
    g_test_add_func("/agent-is-the-first-victim",
                    test_agent_is_the_first_victim);
    g_test_add_func(
        "/second-agent-is-refused-and-a-left-over-socket-is-not",
        test_second_agent_is_refused_and_a_left_over_socket_is_not);
    return g_test_run();
}
