/*
 * An agent of balloon applications over the queues of balloon-ex, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "../libqtest.h"
#include "balloon-ex-agent.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

void agent_say(QBalloonEx *b, const Message *m)
{
    qballoon_ex_send(b, QBALLOON_EX_SAID, m, message_bytes(m));
}

/* The next message that is no news. */
void agent_hear(QBalloonEx *b, Message *m)
{
    uint32_t bytes;

    do {
        g_assert_true(qballoon_ex_hear(b, m, sizeof(*m), &bytes, WAIT_US));
        g_assert_cmpuint(bytes, ==, message_bytes(m));
        g_assert_cmphex(vbx_le32(m->header.magic), ==, VBX_MAGIC);
    } while (message_is_news(m));
}

void agent_hear_type(QBalloonEx *b, Message *m, uint16_t type,
                     uint64_t cookie)
{
    agent_hear(b, m);
    g_assert_cmpuint(message_type(m), ==, type);
    g_assert_cmphex(vbx_le64(m->header.cookie), ==, cookie);
}

void agent_hear_error(QBalloonEx *b, uint16_t code, uint16_t type,
                      uint64_t cookie)
{
    Message m;

    agent_hear_type(b, &m, VBX_ERROR, cookie);
    g_assert_cmpuint(vbx_le16(m.error.code), ==, code);
    g_assert_cmpuint(vbx_le16(m.error.type), ==, type);
}

void agent_say_hello(QBalloonEx *b, uint64_t cookie)
{
    Message m;

    message_hello(&m, cookie);
    agent_say(b, &m);
}

/* HELLO and its WELCOME: the session's number. */
void agent_open_session(QBalloonEx *b, uint8_t session[VBX_SESSION_BYTES])
{
    Message m;

    agent_say_hello(b, 1);
    agent_hear_type(b, &m, VBX_WELCOME, 1);
    g_assert_cmpuint(vbx_le16(m.welcome.version), ==, VBX_VERSION);
    g_assert_cmpuint(vbx_le16(m.welcome.apps_max), ==, 64);
    g_assert_cmphex(vbx_le32(m.welcome.features), ==, VBX_FEATURE_HINTS);
    memcpy(session, m.welcome.session, VBX_SESSION_BYTES);
}

void agent_say_register(QBalloonEx *b, uint32_t app, const char *name)
{
    Message m;

    message_register(&m, app, name);
    agent_say(b, &m);
}

void agent_say_plain(QBalloonEx *b, uint16_t type, uint32_t app,
                     uint64_t cookie)
{
    Message m;

    message_begin(&m, type, app, cookie, sizeof(m.plain));
    agent_say(b, &m);
}

void agent_say_request(QBalloonEx *b, uint64_t bytes, uint32_t deadline_ms,
                       uint64_t cookie)
{
    Message m;

    message_begin(&m, VBX_REQUEST, 0, cookie, sizeof(m.request));
    m.request.bytes = vbx_le64(bytes);
    m.request.deadline_ms = vbx_le32(deadline_ms);
    m.request.priority = vbx_le16(5);
    m.request.reason = vbx_le16(VBX_WANT_CACHE);
    agent_say(b, &m);
}

/* Everything said before has been looked at when this returns. */
void agent_ping(QBalloonEx *b, uint64_t cookie)
{
    Message m;

    agent_say_plain(b, VBX_PING, 0, cookie);
    agent_hear_type(b, &m, VBX_PONG, cookie);
}

/* ---- what the scheduler says ---- */

QDict *agent_guest(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-memsched-guests' }");
    const QListEntry *entry = qlist_first(qdict_get_qlist(reply, "return"));
    QDict *result = qobject_to(QDict, qlist_entry_obj(entry));

    g_assert_nonnull(result);
    qobject_ref(result);
    qobject_unref(reply);
    return result;
}

bool agent_is_connected(QTestState *qts)
{
    QDict *g = agent_guest(qts);
    bool connected = qdict_get_bool(qdict_get_qdict(g, "applications"),
                                    "connected");

    qobject_unref(g);
    return connected;
}

size_t agent_count_apps(QTestState *qts)
{
    QDict *g = agent_guest(qts);
    size_t count = qlist_size(qdict_get_qlist(
                                  qdict_get_qdict(g, "applications"), "list"));

    qobject_unref(g);
    return count;
}

uint64_t agent_allocated(QTestState *qts)
{
    QDict *g = agent_guest(qts);
    uint64_t bytes = qdict_get_int(qdict_get_qdict(g, "memory"), "allocated");

    qobject_unref(g);
    return bytes;
}

/* A counter of the device's property "messages". */
uint64_t agent_messages(QTestState *qts, const char *counter)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'qom-list',"
                             "  'arguments': { 'path':"
                             "  '/machine/peripheral-anon' } }");
    const QListEntry *entry;
    uint64_t value = UINT64_MAX;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
        QDict *child = qobject_to(QDict, qlist_entry_obj(entry));
        g_autofree char *path = g_strdup_printf(
            "/machine/peripheral-anon/%s/virtio-backend",
            qdict_get_str(child, "name"));
        QDict *got = qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments':"
                               " { 'path': %s, 'property': 'messages' } }",
                               path);

        if (qdict_haskey(got, "return")) {
            value = qdict_get_int(qdict_get_qdict(got, "return"), counter);
        }
        qobject_unref(got);
    }
    qobject_unref(reply);
    g_assert_cmpuint(value, !=, UINT64_MAX);
    return value;
}

void agent_assert_exact(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'memsched-check' }");
    QDict *check = qdict_get_qdict(reply, "return");

    g_assert_nonnull(check);
    if (!qdict_get_bool(check, "exact")) {
        g_error("%s", qdict_get_try_str(check, "message"));
    }
    qobject_unref(reply);
}

void agent_finish(QBalloonEx *b, QTestState *qts)
{
    qvirtio_reset(b->vdev);
    qballoon_ex_stop(b);
    g_assert_false(agent_is_connected(qts));
    agent_assert_exact(qts);
}
