/*
 * Orders of memory to balloon applications over the queues of balloon-ex
 *
 * The tests play the driver and the agent of one guest (client "main"), whose
 * memory another guest of the process gets.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest-single.h"
#include "libqos/balloon-ex-agent.h"
#include "libqos/qgraph.h"
#include "qemu/module.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

#define ORDER_BYTES (4 * MIB)
#define ORDER_PAGES (ORDER_BYTES / PAGE)
/* Far above what the driver's own structures use. */
#define GIVE        (48 * MIB)

/* What is told of guest "b": 0 nothing, 1 it is there, 2 its memory is. */
static int acceptor(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-memsched-guests' }");
    const QListEntry *entry;
    int told = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
        QDict *g = qobject_to(QDict, qlist_entry_obj(entry));

        if (!strcmp(qdict_get_str(g, "id"), "b")) {
            told = !strcmp(qdict_get_str(g, "state"), "running") &&
                   qdict_haskey(g, "memory") ? 2 : 1;
        }
    }
    qobject_unref(reply);
    return told;
}

static void wait_acceptor(QTestState *qts, int told)
{
    gint64 end = g_get_monotonic_time() + 3 * WAIT_US;

    while (acceptor(qts) != told) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

/* A second guest of the process: it only holds memory. */
static void add_acceptor(QTestState *qts)
{
    qtest_qmp_assert_success(
        qts, "{ 'execute': 'object-add', 'arguments': {"
        "  'qom-type': 'guest', 'id': 'b', 'args': [ '-nodefaults',"
        "  '-display', 'none', '-M', 'pc', '-accel', 'tcg', '-S', '-m',"
        "  '64M' ] } }");
    wait_acceptor(qts, 2);
    /* The one that gives has so much, and neighbours of what it gives. */
    qtest_memset(qts, GIVE - PAGE, 0x5a, ORDER_BYTES + 2 * PAGE);
}

static void remove_acceptor(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'object-del',"
                             "  'arguments': { 'id': 'b' } }");
    wait_acceptor(qts, 0);
}

static uint64_t begin_transfer(QTestState *qts, unsigned deadline_ms)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'memsched-reallocate',"
                             "  'arguments': { 'from': 'main', 'to': 'b',"
                             "  'size': %" PRIu64 ", 'source': 'application',"
                             "  'deadline': %u } }", ORDER_BYTES, deadline_ms);
    uint64_t id;

    if (qdict_haskey(reply, "error")) {
        g_error("%s", qdict_get_str(qdict_get_qdict(reply, "error"), "desc"));
    }
    id = qdict_get_int(qdict_get_qdict(reply, "return"), "id");
    qobject_unref(reply);
    return id;
}

/* As it is shown once it has ended. */
static QDict *end_of_transfer(QTestState *qts, uint64_t id)
{
    gint64 end = g_get_monotonic_time() + 3 * WAIT_US;

    for (;;) {
        QDict *reply = qtest_qmp(qts,
                                 "{ 'execute': 'query-memsched-transfers' }");
        const QListEntry *entry;

        QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
            QDict *t = qobject_to(QDict, qlist_entry_obj(entry));

            if (qdict_get_int(t, "id") == id &&
                strcmp(qdict_get_str(t, "state"), "running")) {
                qobject_ref(t);
                qobject_unref(reply);
                return t;
            }
        }
        qobject_unref(reply);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

/* Page @page of @order: what it must hold. */
static void make_tag(const struct vbx_reserve *order, uint64_t page,
                     uint8_t content[PAGE])
{
    struct vbx_tag tag;

    vbx_tag_make(&tag, vbx_le32(order->header.app), vbx_le64(order->epoch),
                 page, order->key);
    memset(content, 0, PAGE);
    memcpy(content, &tag, sizeof(tag));
}

static void tag_pages(QTestState *qts, const struct vbx_reserve *order)
{
    g_autofree uint8_t *content = g_malloc(ORDER_BYTES);

    for (uint64_t i = 0; i < ORDER_PAGES; i++) {
        make_tag(order, i, content + i * PAGE);
    }
    qtest_bufwrite(qts, GIVE, content, ORDER_BYTES);
}

static void say_reserved(QBalloonEx *b, const struct vbx_reserve *order,
                         uint64_t first, uint64_t count, uint16_t status)
{
    Message m;

    message_begin(&m, VBX_RESERVED, vbx_le32(order->header.app),
                  vbx_le64(order->header.cookie), sizeof(m.reserved));
    m.reserved.epoch = order->epoch;
    m.reserved.first_seq = vbx_le64(first);
    m.reserved.count = vbx_le64(count);
    m.reserved.status = vbx_le16(status);
    agent_say(b, &m);
}

static void hear_order(QBalloonEx *b, struct vbx_reserve *order)
{
    Message m;

    agent_hear(b, &m);
    g_assert_cmpuint(message_type(&m), ==, VBX_RESERVE);
    g_assert_cmpuint(vbx_le32(m.header.app), ==, 1);
    g_assert_cmpuint(vbx_le64(m.reserve.bytes), ==, ORDER_BYTES);
    g_assert_cmpuint(vbx_le32(m.reserve.granule_bytes), ==,
                     VBX_GRANULE_BYTES);
    *order = m.reserve;
}

/*
 * Two guests, an agent in the first one, and what it is asked for: the number
 * of the transfer.
 */
static uint64_t begin_order(QBalloonEx *b, QGuestAllocator *alloc,
                            unsigned deadline_ms,
                            uint8_t session[VBX_SESSION_BYTES],
                            struct vbx_reserve *order)
{
    QTestState *qts = global_qtest;
    uint64_t id;

    add_acceptor(qts);
    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    agent_say_register(b, 1, "agent");
    id = begin_transfer(qts, deadline_ms);
    hear_order(b, order);
    return id;
}

static void assert_state(QTestState *qts, uint64_t gpa, const char *state)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'memsched-translate',"
                             "  'arguments': { 'id': 'main', 'gpa': %"
                             PRIu64 " } }", gpa);

    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(reply, "return"), "state"),
                    ==, state);
    qobject_unref(reply);
}

static uint64_t tag_figure(QTestState *qts, const char *name)
{
    QDict *g = agent_guest(qts);
    uint64_t value = qdict_get_int(
        qdict_get_qdict(qdict_get_qdict(g, "applications"), "tags"), name);

    qobject_unref(g);
    return value;
}

static void assert_tagged(QTestState *qts, const struct vbx_reserve *order,
                          uint64_t page)
{
    uint8_t content[PAGE], want[PAGE];

    qtest_memread(qts, GIVE + page * PAGE, content, PAGE);
    make_tag(order, page, want);
    g_assert_cmpmem(content, PAGE, want, PAGE);
}

static void release_all(QBalloonEx *b, const struct vbx_reserve *order)
{
    Message m;

    message_begin(&m, VBX_RELEASE, 1, 91, sizeof(m.range));
    m.range.epoch = order->epoch;
    m.range.count = vbx_le64(ORDER_PAGES);
    m.range.reason = vbx_le16(VBX_REASON_PRESSURE);
    agent_say(b, &m);
    agent_hear(b, &m);
    g_assert_cmpuint(message_type(&m), ==, VBX_RELEASED);
    g_assert_cmphex(m.range.epoch, ==, order->epoch);
    g_assert_cmpuint(vbx_le64(m.range.first_seq), ==, 0);
    g_assert_cmpuint(vbx_le64(m.range.count), ==, ORDER_PAGES);
    message_begin(&m, VBX_UNMAPPED, 1, 92, sizeof(m.range));
    m.range.epoch = order->epoch;
    m.range.count = vbx_le64(ORDER_PAGES);
    agent_say(b, &m);
}

static void test_ordered_pages_are_found_by_value_moved_and_returned(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    struct vbx_reserve order;
    QDict *transfer, *tags;
    uint64_t id;

    id = begin_order(b, alloc, 20000, session, &order);
    tag_pages(qts, &order);
    say_reserved(b, &order, 0, ORDER_PAGES / 2, VBX_RESERVE_PROGRESS);
    say_reserved(b, &order, ORDER_PAGES / 2, ORDER_PAGES / 2,
                 VBX_RESERVE_WHOLE);
    transfer = end_of_transfer(qts, id);
    g_assert_cmpstr(qdict_get_str(transfer, "state"), ==, "completed");
    g_assert_cmpstr(qdict_get_str(transfer, "source"), ==, "application");
    g_assert_cmpuint(qdict_get_int(transfer, "moved"), ==, ORDER_BYTES);
    tags = qdict_get_qdict(transfer, "tags");
    g_assert_nonnull(tags);
    g_assert_cmpuint(qdict_get_int(tags, "found-by-scan"), ==, ORDER_BYTES);
    g_assert_cmpuint(qdict_get_int(tags, "rejected"), ==, 0);
    qobject_unref(transfer);
    assert_state(qts, GIVE, "tag");
    assert_state(qts, GIVE + ORDER_BYTES - PAGE, "tag");
    agent_assert_exact(qts);

    /* A touch finds the tag, and the page is the guest's own again. */
    assert_tagged(qts, &order, 17);
    assert_state(qts, GIVE + 17 * PAGE, "resident");
    g_assert_cmpuint(tag_figure(qts, "returned-by-fault"), >=, PAGE);
    release_all(b, &order);
    agent_ping(b, 93);
    for (uint64_t i = 0; i < ORDER_PAGES; i += 61) {
        assert_tagged(qts, &order, i);
    }
    assert_state(qts, GIVE + PAGE, "resident");
    assert_state(qts, GIVE - PAGE, "resident");
    remove_acceptor(qts);
    agent_finish(b, qts);
}

static void test_lies_about_an_order_earn_nothing(void *obj, void *data,
                                                  QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    struct vbx_reserve order, lie;
    QDict *transfer;
    uint64_t id;

    id = begin_order(b, alloc, 3000, session, &order);
    lie = order;
    lie.epoch ^= vbx_le64(UINT64_C(1) << 40);
    say_reserved(b, &lie, 0, 1, VBX_RESERVE_PROGRESS);
    agent_hear_error(b, VBX_ERROR_UNKNOWN, VBX_RESERVED,
                     vbx_le64(order.header.cookie));
    say_reserved(b, &order, 0, ORDER_PAGES + 1, VBX_RESERVE_PROGRESS);
    agent_hear_error(b, VBX_ERROR_MALFORMED, VBX_RESERVED,
                     vbx_le64(order.header.cookie));
    say_reserved(b, &order, UINT64_MAX - 5, 6, VBX_RESERVE_PROGRESS);
    agent_hear_error(b, VBX_ERROR_MALFORMED, VBX_RESERVED,
                     vbx_le64(order.header.cookie));
    /* tags of another key, and nothing at all in the second half */
    lie = order;
    lie.key[3] ^= 1;
    tag_pages(qts, &lie);
    qtest_memset(qts, GIVE + ORDER_BYTES / 2, 0x77, ORDER_BYTES / 2);
    say_reserved(b, &order, 0, ORDER_PAGES, VBX_RESERVE_WHOLE);
    transfer = end_of_transfer(qts, id);
    g_assert_cmpstr(qdict_get_str(transfer, "state"), ==, "failed");
    g_assert_cmpuint(qdict_get_int(transfer, "captured"), ==, 0);
    qobject_unref(transfer);
    assert_state(qts, GIVE, "resident");
    assert_tagged(qts, &lie, 0);
    remove_acceptor(qts);
    agent_finish(b, qts);
}

static void test_reset_in_an_order_keeps_what_is_known_safe(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint8_t session[VBX_SESSION_BYTES];
    struct vbx_reserve order;
    QDict *transfer;
    uint64_t id;

    id = begin_order(b, alloc, 20000, session, &order);
    tag_pages(qts, &order);
    say_reserved(b, &order, 0, ORDER_PAGES / 2, VBX_RESERVE_PROGRESS);
    qvirtio_reset(b->vdev);     /* whatever of it was captured by now */
    qballoon_ex_stop(b);
    g_assert_false(agent_is_connected(qts));
    transfer = end_of_transfer(qts, id);
    g_assert_cmpstr(qdict_get_str(transfer, "state"), !=, "completed");
    qobject_unref(transfer);
    remove_acceptor(qts);
    for (uint64_t i = 0; i < ORDER_PAGES; i += 61) {
        assert_tagged(qts, &order, i);
    }
    agent_assert_exact(qts);
    /* the same guest, anew */
    qballoon_ex_start(b, qts, alloc, 0, 0);
    agent_open_session(b, session);
    qtest_system_reset(qts);
    qballoon_ex_stop(b);
    agent_assert_exact(qts);
}

/* ---- migration ---- */

static void wait_migration(QTestState *qts, const char *status)
{
    gint64 end = g_get_monotonic_time() + 3 * WAIT_US;
    bool there = false;

    while (!there) {
        QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-migrate' }");
        const char *now = qdict_get_try_str(qdict_get_qdict(reply, "return"),
                                            "status");

        there = !g_strcmp0(now, status);
        g_assert_cmpstr(now, !=, "failed");
        qobject_unref(reply);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

/* Up to the moment at which the machine stands still and all RAM is sent. */
static QTestState *migrate_nearly(QTestState *qts)
{
    g_autofree char *dir = g_dir_make_tmp("balloon-ex-XXXXXX", NULL);
    g_autofree char *uri = g_strdup_printf("unix:%s/socket", dir);
    QTestState *to;

    g_assert_nonnull(dir);
    to = qtest_initf("-M pc -device balloon-ex,addr=04.0 "
                     "-object memsched,id=ms,policy=static,pool=256M"
                     " -incoming %s", uri);
    qtest_qmp_assert_success(
        qts, "{ 'execute': 'migrate-set-capabilities', 'arguments': {"
        "  'capabilities': [ { 'capability': 'pause-before-switchover',"
        "                      'state': true } ] } }");
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate',"
                             "  'arguments': { 'uri': %s } }", uri);
    wait_migration(qts, "pre-switchover");
    unlink(uri + strlen("unix:"));
    rmdir(dir);
    return to;
}

static void test_tags_and_connection_migrate(void *obj, void *data,
                                             QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QVirtioPCIDevice *pci = container_of(b->vdev, QVirtioPCIDevice, vdev);
    QTestState *qts = global_qtest, *to;
    uint8_t first[VBX_SESSION_BYTES];
    struct vbx_reserve order;
    Message m;
    uint64_t id, returned;

    id = begin_order(b, alloc, 20000, first, &order);
    tag_pages(qts, &order);
    say_reserved(b, &order, 0, ORDER_PAGES, VBX_RESERVE_WHOLE);
    qobject_unref(end_of_transfer(qts, id));
    returned = tag_figure(qts, "returned-by-fault");

    to = migrate_nearly(qts);
    /* Read, not written: nothing but its tag says what it holds. */
    assert_tagged(qts, &order, 17);
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-continue',"
                             "  'arguments': {"
                             "  'state': 'pre-switchover' } }");
    wait_migration(qts, "completed");
    wait_migration(to, "completed");
    /* Nothing else came back for being sent. */
    g_assert_cmpuint(tag_figure(qts, "returned-by-fault"), <=,
                     returned + 64 * PAGE);
    assert_state(qts, GIVE + ORDER_BYTES - PAGE, "tag");
    agent_assert_exact(qts);

    for (uint64_t i = 0; i < ORDER_PAGES; i++) {
        assert_tagged(to, &order, i);
    }
    agent_assert_exact(to);
    /* The driver goes on over there, where its end was open all the time. */
    b->qts = to;
    pci->pdev->bus->qts = to;
    agent_hear(b, &m);
    g_assert_cmpuint(message_type(&m), ==, VBX_WELCOME);
    g_assert_cmpint(memcmp(m.welcome.session, first, sizeof(first)), !=, 0);
    g_assert_true(agent_is_connected(to));
    g_assert_cmpuint(agent_count_apps(to), ==, 0);
    agent_say_register(b, 1, "agent");
    agent_ping(b, 101);
    g_assert_cmpuint(agent_count_apps(to), ==, 1);
    agent_finish(b, to);
    b->qts = qts;
    pci->pdev->bus->qts = qts;
    qtest_quit(to);
    remove_acceptor(qts);
}

/* A policy that moves memory by itself would return it when it pleases. */
static void *with_pool(GString *cmd_line, void *arg)
{
    g_string_append_printf(cmd_line, " -object memsched,id=ms,policy=static,"
                           "pool=%s ", (const char *)arg);
    return arg;
}

static void register_tests(void)
{
    /* Two guests; each test has a process of its own. */
    static const struct {
        const char *name, *arg;
        void (*test)(void *obj, void *data, QGuestAllocator *alloc);
    } orders[] = {
        { "apps/order/moved", "256M",
          test_ordered_pages_are_found_by_value_moved_and_returned },
        { "apps/order/lies", "257M", test_lies_about_an_order_earn_nothing },
        { "apps/order/reset", "258M",
          test_reset_in_an_order_keeps_what_is_known_safe },
        { "apps/order/migrated", "259M", test_tags_and_connection_migrate },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        QOSGraphTestOptions two = {
            .before = with_pool, .arg = (char *)orders[i].arg,
        };

        qos_add_test(orders[i].name, "balloon-ex-driver", orders[i].test,
                     &two);
    }
}

libqos_init(register_tests);
