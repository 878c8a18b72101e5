/*
 * Messages of balloon applications over the queues of balloon-ex
 *
 * The tests play the driver and the agent of one guest (client "main"), honest
 * and hostile.  Each ends with a recount of all memory.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest-single.h"
#include "libqos/balloon-ex-agent.h"
#include "libqos/qgraph.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_balloon.h"

#define APPLICATION (1ull << VIRTIO_BALLOON_EX_F_APPLICATION)

/* A message that is not to come would have come by then. */
#define QUIET_US    (G_USEC_PER_SEC / 5)

/* ---- opening ---- */

static void test_hello_is_welcomed_and_a_condition_follows(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES], none[VBX_SESSION_BYTES] = { 0 };
    Message m;
    uint32_t bytes;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    g_assert_true(b->features & APPLICATION);
    g_assert_false(agent_is_connected(qts));
    agent_open_session(b, session);
    g_assert_cmpint(memcmp(session, none, sizeof(none)), !=, 0);
    g_assert_true(agent_is_connected(qts));
    do {
        g_assert_true(qballoon_ex_hear(b, &m, sizeof(m), &bytes, WAIT_US));
    } while (message_type(&m) != VBX_CONDITION);
    g_assert_cmpmem(m.condition.session, VBX_SESSION_BYTES, session,
                    VBX_SESSION_BYTES);
    g_assert_cmpuint(vbx_le64(m.condition.ram), ==, 128 * MIB);
    g_assert_cmpuint(vbx_le64(m.condition.max), ==, 128 * MIB);
    g_assert_cmpuint(vbx_le64(m.condition.generation), >=, 1);
    g_assert_cmpuint(vbx_le32(m.condition.condition), <=, VBX_CONDITION_LOW);
    agent_ping(b, 2);
    agent_finish(b, qts);
}

static void test_before_hello_everything_is_refused(void *obj, void *data,
                                                    QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_say_plain(b, VBX_PING, 0, 11);
    agent_hear_error(b, VBX_ERROR_STATE, VBX_PING, 11);
    agent_say_register(b, 1, "early");
    agent_hear_error(b, VBX_ERROR_STATE, VBX_REGISTER, 1);
    message_begin(&m, VBX_HELLO, 0, 12, sizeof(m.hello));
    m.hello.version_min = vbx_le16(2);
    m.hello.version_max = vbx_le16(3);
    agent_say(b, &m);
    agent_hear_error(b, VBX_ERROR_VERSION, VBX_HELLO, 12);
    g_assert_false(agent_is_connected(qts));
    agent_finish(b, qts);
}

static void test_applications_come_and_go(void *obj, void *data,
                                          QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t first[VBX_SESSION_BYTES], second[VBX_SESSION_BYTES];
    QDict *g, *app;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, first);
    agent_say_register(b, 9, "one\x1b[2J");
    agent_say_register(b, 9, "again");
    agent_hear_error(b, VBX_ERROR_STATE, VBX_REGISTER, 9);
    g = agent_guest(qts);
    app = qobject_to(QDict, qlist_entry_obj(qlist_first(qdict_get_qlist(
        qdict_get_qdict(g, "applications"), "list"))));
    g_assert_cmpstr(qdict_get_str(app, "name"), ==, "one?[2J");
    g_assert_cmpint(qdict_get_int(app, "number"), ==, 9);
    g_assert_cmpint(qdict_get_int(app, "priority"), ==, 3);
    g_assert_true(qdict_get_bool(app, "reserves"));
    g_assert_false(qdict_haskey(app, "offer"));
    qobject_unref(g);
    for (unsigned i = 0; i < 63; i++) {
        agent_say_register(b, 100 + i, "more");
    }
    agent_say_register(b, 99, "too many");
    agent_hear_error(b, VBX_ERROR_LIMIT, VBX_REGISTER, 99);
    agent_say_plain(b, VBX_UNREGISTER, 9, 13);
    agent_say_plain(b, VBX_UNREGISTER, 9, 14);
    agent_hear_error(b, VBX_ERROR_UNKNOWN, VBX_UNREGISTER, 14);
    g_assert_cmpuint(agent_count_apps(qts), ==, 63);
    /* a second hello begins anew */
    agent_open_session(b, second);
    g_assert_cmpint(memcmp(first, second, sizeof(first)), !=, 0);
    g_assert_cmpuint(agent_count_apps(qts), ==, 0);
    agent_finish(b, qts);
}

/* ---- hostile ---- */

static void test_no_message_is_counted_and_passed_over(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    uint64_t broken = agent_messages(qts, "broken");
    uint64_t refused = agent_messages(qts, "refused");
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    /* too short for a header */
    message_begin(&m, VBX_PING, 0, 21, sizeof(m.plain));
    qballoon_ex_send(b, QBALLOON_EX_SAID, &m, 1);
    qballoon_ex_send(b, QBALLOON_EX_SAID, &m, 23);
    /* shorter than it says, odd, too long, another magic */
    m.header.length = vbx_le32(4096);
    qballoon_ex_send(b, QBALLOON_EX_SAID, &m, 4088);
    m.header.length = vbx_le32(28);
    qballoon_ex_send(b, QBALLOON_EX_SAID, &m, 64);
    m.header.length = vbx_le32(0xfffffff8);
    qballoon_ex_send(b, QBALLOON_EX_SAID, &m, 64);
    m.header.length = vbx_le32(24);
    m.header.magic ^= 1;
    qballoon_ex_send(b, QBALLOON_EX_SAID, &m, 64);
    agent_ping(b, 22);
    g_assert_cmpuint(agent_messages(qts, "broken"), ==, broken + 6);
    g_assert_cmpuint(agent_messages(qts, "refused"), ==, refused);
    agent_finish(b, qts);
}

static void test_wrong_messages_are_answered_by_errors(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    uint64_t refused = agent_messages(qts, "refused");
    uint64_t passed = agent_messages(qts, "passed-over");
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    agent_say_plain(b, 99, 0, 31);
    agent_hear_error(b, VBX_ERROR_UNSUPPORTED, 99, 31);
    agent_say_plain(b, VBX_RESERVE, 0, 32);
    agent_hear_error(b, VBX_ERROR_UNSUPPORTED, VBX_RESERVE, 32);
    agent_say_plain(b, VBX_REQUEST, 0, 33);       /* too short */
    agent_hear_error(b, VBX_ERROR_MALFORMED, VBX_REQUEST, 33);
    agent_say_request(b, 0, 1000, 34);
    agent_hear_error(b, VBX_ERROR_MALFORMED, VBX_REQUEST, 34);
    agent_say_plain(b, VBX_UNREGISTER, 65536, 35);
    agent_hear_error(b, VBX_ERROR_MALFORMED, VBX_UNREGISTER, 35);
    agent_say_plain(b, VBX_CANCEL, 5, 36);
    agent_hear_error(b, VBX_ERROR_UNKNOWN, VBX_CANCEL, 36);
    /* passed over: optional; an ERROR, even a bad one */
    message_begin(&m, 99, 0, 37, sizeof(m.plain));
    m.header.flags = vbx_le16(VBX_FLAG_OPTIONAL);
    agent_say(b, &m);
    agent_say_plain(b, VBX_ERROR, 0, 38);
    agent_ping(b, 39);
    g_assert_cmpuint(agent_messages(qts, "refused"), ==, refused + 6);
    g_assert_cmpuint(agent_messages(qts, "passed-over"), ==, passed + 2);
    agent_finish(b, qts);
}

/* Without waiting for the device: how many buffers it has given back. */
static unsigned flood(QBalloonEx *b, unsigned count)
{
    QVirtQueue *vq = b->vq[QBALLOON_EX_SAID];
    unsigned back = 0;
    Message m;

    message_begin(&m, VBX_PING, 0, 41, sizeof(m.plain));
    qtest_memwrite(b->qts, b->buffer, &m, sizeof(m.plain));
    for (unsigned i = 0; i < count; i++) {
        uint32_t head = qvirtqueue_add(b->qts, vq, b->buffer, sizeof(m.plain),
                                       false, false);

        qvirtqueue_kick(b->qts, b->vdev, vq, head);
    }
    while (qvirtqueue_get_buf(b->qts, vq, NULL, NULL)) {
        back++;
    }
    return back;
}

static void test_a_guest_that_does_not_read_is_not_listened_to(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    uint64_t dropped = agent_messages(qts, "dropped");
    unsigned said = 0, back = 0, heard = 0;
    gint64 end = g_get_monotonic_time() + WAIT_US;
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    while (said - back < 32) {
        back += flood(b, 16);
        said += 16;
        b->vq[QBALLOON_EX_SAID]->free_head = 0;
        b->vq[QBALLOON_EX_SAID]->num_free = b->vq[QBALLOON_EX_SAID]->size;
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_assert_cmpuint(said, <, 1000);
    }
    /* It has answers to all that it took, and reads on when they are read. */
    while (heard < said) {
        agent_hear_type(b, &m, VBX_PONG, 41);
        heard++;
    }
    while (qvirtqueue_get_buf(qts, b->vq[QBALLOON_EX_SAID], NULL, NULL)) {
        back++;
    }
    g_assert_cmpuint(back, ==, said);
    g_assert_cmpuint(agent_messages(qts, "dropped"), ==, dropped);
    agent_finish(b, qts);
}

static void test_short_buffers_come_back_empty(void *obj, void *data,
                                               QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    uint32_t bytes;
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    for (int i = 0; i < 4; i++) {
        agent_say_plain(b, VBX_PING, 0, 51);
        g_assert_true(qballoon_ex_hear(b, &m, 16, &bytes, WAIT_US));
        g_assert_cmpuint(bytes, ==, 0);
    }
    for (int i = 0; i < 4; i++) {
        agent_hear_type(b, &m, VBX_PONG, 51);
    }
    agent_finish(b, qts);
}

static void test_a_silent_guest_is_asked_and_then_taken_for_gone(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    qtest_clock_step(qts, 20 * NANOSECONDS_PER_SECOND);
    agent_hear(b, &m);
    g_assert_cmpuint(message_type(&m), ==, VBX_PING);
    agent_say_plain(b, VBX_PONG, 0, vbx_le64(m.header.cookie));
    qtest_clock_step(qts, 60 * NANOSECONDS_PER_SECOND);
    g_assert_true(agent_is_connected(qts));
    for (int i = 0; i < 8; i++) {
        qtest_clock_step(qts, 10 * NANOSECONDS_PER_SECOND);
    }
    g_assert_false(agent_is_connected(qts));
    /* what it says then is refused, and it begins anew */
    agent_say_plain(b, VBX_PONG, 0, 1);
    agent_hear_error(b, VBX_ERROR_STATE, VBX_PONG, 1);
    agent_open_session(b, session);
    g_assert_true(agent_is_connected(qts));
    agent_finish(b, qts);
}

/* ---- requests ---- */

static void test_a_request_is_served_from_the_pool(void *obj, void *data,
                                                   QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    uint64_t before;
    QDict *reply, *transfer;
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    before = agent_allocated(qts);
    agent_say_request(b, 16 * MIB, 10000, 61);
    agent_hear_type(b, &m, VBX_ANSWER, 61);
    g_assert_cmpuint(vbx_le16(m.answer.status), ==, VBX_ANSWER_QUEUED);
    agent_hear_type(b, &m, VBX_ANSWER, 61);
    g_assert_cmpuint(vbx_le16(m.answer.status), ==, VBX_ANSWER_GRANTED);
    g_assert_cmpuint(vbx_le64(m.answer.bytes), ==, 16 * MIB);
    g_assert_cmpuint(agent_allocated(qts), >=, before + 16 * MIB);
    reply = qtest_qmp(qts, "{ 'execute': 'query-memsched-transfers' }");
    transfer = qobject_to(QDict, qlist_entry_obj(
        qlist_first(qdict_get_qlist(reply, "return"))));
    g_assert_false(qdict_haskey(transfer, "from"));
    g_assert_cmpstr(qdict_get_str(transfer, "to"), ==, "main");
    g_assert_cmpstr(qdict_get_str(transfer, "state"), ==, "completed");
    g_assert_cmpuint(qdict_get_int(transfer, "moved"), ==, 16 * MIB);
    qobject_unref(reply);
    agent_finish(b, qts);
}

static void test_more_than_there_is_room_for_is_partial(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    agent_say_request(b, 4096 * MIB, 10000, 62);
    agent_hear_type(b, &m, VBX_ANSWER, 62);
    agent_hear_type(b, &m, VBX_ANSWER, 62);
    g_assert_cmpuint(vbx_le16(m.answer.status), ==, VBX_ANSWER_PARTIAL);
    g_assert_cmpuint(vbx_le16(m.answer.reason), ==, VBX_REASON_LIMIT);
    g_assert_cmpuint(vbx_le64(m.answer.bytes), <=, 128 * MIB);
    g_assert_cmpuint(vbx_le64(m.answer.bytes), >, 64 * MIB);
    agent_say_request(b, MIB, 10000, 63);
    agent_hear_type(b, &m, VBX_ANSWER, 63);
    agent_hear_type(b, &m, VBX_ANSWER, 63);
    g_assert_cmpuint(vbx_le16(m.answer.status), ==, VBX_ANSWER_REFUSED);
    g_assert_cmpuint(vbx_le16(m.answer.reason), ==, VBX_REASON_LIMIT);
    agent_finish(b, qts);
}

/* ---- resets, stops ---- */

static void test_reset_ends_the_session(void *obj, void *data,
                                        QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t first[VBX_SESSION_BYTES], second[VBX_SESSION_BYTES];

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, first);
    agent_say_register(b, 1, "one");
    agent_say_request(b, 8 * MIB, 60000, 71);
    flood(b, 16);
    agent_finish(b, qts);             /* in the middle of all that */

    qballoon_ex_start(b, qts, alloc, 0, 0);
    g_assert_cmpuint(agent_count_apps(qts), ==, 0);
    agent_say_plain(b, VBX_PING, 0, 72);
    agent_hear_error(b, VBX_ERROR_STATE, VBX_PING, 72);
    agent_open_session(b, second);
    g_assert_cmpint(memcmp(first, second, sizeof(first)), !=, 0);
    agent_say_register(b, 1, "one");
    qtest_system_reset(qts);
    qballoon_ex_stop(b);
    g_assert_false(agent_is_connected(qts));
    agent_assert_exact(qts);
}

static void test_nothing_is_said_while_the_machine_is_stopped(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    uint32_t bytes;
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    qtest_qmp_assert_success(qts, "{ 'execute': 'stop' }");
    while (qballoon_ex_hear(b, &m, sizeof(m), &bytes, QUIET_US)) {
        g_assert_not_reached();
    }
    g_assert_cmpuint(flood(b, 4), ==, 0);
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    for (int i = 0; i < 4; i++) {
        agent_hear_type(b, &m, VBX_PONG, 41);
    }
    agent_finish(b, qts);
}

/* ---- without ---- */

static void test_without_scheduler_nobody_gives_or_gets(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    Message m;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_say_hello(b, 81);
    agent_hear_type(b, &m, VBX_WELCOME, 81);
    g_assert_cmpuint(vbx_le16(m.welcome.apps_max), ==, 0);
    agent_say_register(b, 1, "one");
    agent_hear_error(b, VBX_ERROR_LIMIT, VBX_REGISTER, 1);
    agent_say_request(b, MIB, 1000, 82);
    agent_hear_type(b, &m, VBX_ANSWER, 82);
    g_assert_cmpuint(vbx_le16(m.answer.status), ==, VBX_ANSWER_REFUSED);
    g_assert_cmpuint(vbx_le16(m.answer.reason), ==, VBX_REASON_HOST);
    agent_ping(b, 83);
    qvirtio_reset(b->vdev);
    qballoon_ex_stop(b);
}

static void test_queues_are_not_offered_where_switched_off(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;

    g_assert_false(qvirtio_get_features(b->vdev) & APPLICATION);
    qballoon_ex_start(b, qts, alloc, 0, 0);
    qballoon_ex_pages(b, QBALLOON_EX_DEFLATE, 0x4000, 1, 1);
    agent_finish(b, qts);
}

static void test_queues_follow_those_that_are_offered(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];

    g_assert_false(qvirtio_get_features(b->vdev) &
                   (1ull << VIRTIO_BALLOON_F_REPORTING));
    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    agent_finish(b, qts);
}

static void *with_scheduler(GString *cmd_line, void *arg)
{
    g_string_append(cmd_line, " -object memsched,id=ms,pool=192M ");
    return arg;
}

static void register_tests(void)
{
    static const struct {
        const char *name;
        void (*test)(void *obj, void *data, QGuestAllocator *alloc);
    } tests[] = {
        { "open/hello", test_hello_is_welcomed_and_a_condition_follows },
        { "open/before-hello", test_before_hello_everything_is_refused },
        { "open/applications", test_applications_come_and_go },
        { "hostile/no-message", test_no_message_is_counted_and_passed_over },
        { "hostile/wrong", test_wrong_messages_are_answered_by_errors },
        { "hostile/not-reading",
          test_a_guest_that_does_not_read_is_not_listened_to },
        { "hostile/short-buffers", test_short_buffers_come_back_empty },
        { "hostile/silent",
          test_a_silent_guest_is_asked_and_then_taken_for_gone },
        { "request/pool", test_a_request_is_served_from_the_pool },
        { "request/room", test_more_than_there_is_room_for_is_partial },
        { "reset", test_reset_ends_the_session },
        { "stopped", test_nothing_is_said_while_the_machine_is_stopped },
    };
    QOSGraphTestOptions opts = { .before = with_scheduler };
    QOSGraphTestOptions off = {
        .before = with_scheduler, .edge.extra_device_opts = "application=off",
    };
    QOSGraphTestOptions fewer = {
        .before = with_scheduler,
        .edge.extra_device_opts = "free-page-reporting=off",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
        g_autofree char *name = g_strdup_printf("apps/%s", tests[i].name);

        qos_add_test(name, "balloon-ex-driver", tests[i].test, &opts);
    }
    qos_add_test("apps/off", "balloon-ex-driver",
                 test_queues_are_not_offered_where_switched_off, &off);
    qos_add_test("apps/queue-order", "balloon-ex-driver",
                 test_queues_follow_those_that_are_offered, &fewer);
    qos_add_test("apps/without-scheduler", "balloon-ex-driver",
                 test_without_scheduler_nobody_gives_or_gets, NULL);
}

libqos_init(register_tests);
