/*
 * Messages: good ones survive, malformed ones are told from each other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "wire.h"

/* A good message of @type in @m, packed; returns its length. */
static size_t good(BxMessage *m, unsigned type)
{
    bx_wire_init(m, type, 7, 0x1122334455667788);
    switch (type) {
    case VBX_HELLO:
        m->hello.version_min = m->hello.version_max = 1;
        break;
    case VBX_WELCOME:
        m->welcome.apps_max = 64;
        break;
    case VBX_REGISTER:
        strcpy(m->reg.name, "cache");
        break;
    case VBX_RESERVE:
        m->reserve.bytes = 4 << 20;
        m->reserve.granule_bytes = VBX_GRANULE_BYTES;
        break;
    case VBX_HINTS:
        m->hints.runs = 2;
        m->hints.run[0] = (struct vbx_hint) { 0, 100, 5 };
        m->hints.run[1] = (struct vbx_hint) { 5, 300, 1 };
        break;
    case VBX_RELEASE:
    case VBX_RELEASED:
    case VBX_UNMAPPED:
        m->range.count = 1;
        break;
    case VBX_REQUEST:
        m->request.bytes = 1;
        break;
    case VBX_STATISTICS:
        m->statistics.count = 1;
        m->statistics.stat[0] = (struct vbx_stat) { .tag = 1, .value = 9 };
        break;
    default:
        break;
    }
    return bx_wire_pack(m);
}

static const struct { unsigned type; BxFrom from; size_t bytes; } types[] = {
    { VBX_HELLO, BX_FROM_APP, sizeof(struct vbx_hello) },
    { VBX_WELCOME, BX_FROM_HOST, sizeof(struct vbx_welcome) },
    { VBX_ERROR, BX_FROM_HOST, sizeof(struct vbx_error) },
    { VBX_PING, BX_FROM_HOST, sizeof(struct vbx_plain) },
    { VBX_PONG, BX_FROM_APP, sizeof(struct vbx_plain) },
    { VBX_REGISTER, BX_FROM_APP, sizeof(struct vbx_register) },
    { VBX_UNREGISTER, BX_FROM_APP, sizeof(struct vbx_plain) },
    { VBX_RESERVE, BX_FROM_AGENT, sizeof(struct vbx_reserve) },
    { VBX_RESERVED, BX_FROM_APP, sizeof(struct vbx_reserved) },
    { VBX_HINTS, BX_FROM_APP,
      sizeof(struct vbx_hints) + 2 * sizeof(struct vbx_hint) },
    { VBX_VETO, BX_FROM_APP, sizeof(struct vbx_veto) },
    { VBX_RELEASE, BX_FROM_HOST, sizeof(struct vbx_range) },
    { VBX_RELEASED, BX_FROM_HOST, sizeof(struct vbx_range) },
    { VBX_UNMAPPED, BX_FROM_APP, sizeof(struct vbx_range) },
    { VBX_REQUEST, BX_FROM_APP, sizeof(struct vbx_request) },
    { VBX_ANSWER, BX_FROM_HOST, sizeof(struct vbx_answer) },
    { VBX_CANCEL, BX_FROM_HOST, sizeof(struct vbx_plain) },
    { VBX_CONDITION, BX_FROM_HOST, sizeof(struct vbx_condition) },
    { VBX_STATISTICS, BX_FROM_APP,
      sizeof(struct vbx_statistics) + sizeof(struct vbx_stat) },
    { VBX_POLL, BX_FROM_HOST, sizeof(struct vbx_plain) },
    { BX_LOCAL_STATUS, BX_FROM_APP, sizeof(struct vbx_plain) },
    { BX_LOCAL_APP, BX_FROM_AGENT, sizeof(struct bx_local_app) },
    { BX_LOCAL_AGENT, BX_FROM_AGENT, sizeof(struct bx_local_agent) },
    { BX_LOCAL_SLEEP, BX_FROM_APP, sizeof(struct bx_local_sleep) },
};

static void test_each_type_is_as_long_as_its_struct_and_survives(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        BxMessage m, back;
        size_t bytes = good(&m, types[i].type);

        g_test_message("%s", bx_wire_name(types[i].type));
        g_assert_cmpuint(bytes, ==, types[i].bytes);
        g_assert_cmpint(bx_wire_next(m.bytes, bytes), ==, bytes);
        g_assert_cmpint(bx_wire_unpack(m.bytes, bytes, types[i].from, &back),
                        ==, 0);
        g_assert_cmpuint(back.header.type, ==, types[i].type);
        g_assert_cmpuint(back.header.app, ==, 7);
        g_assert_cmphex(back.header.cookie, ==, 0x1122334455667788);
        g_assert_cmpmem(back.bytes + 24, bytes - 24, m.bytes + 24, bytes - 24);
    }
}

static void test_swapping_twice_changes_nothing_and_once_each_field(void)
{
    BxMessage m, swapped;

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        size_t bytes = good(&m, types[i].type);
        uint32_t runs = types[i].type == VBX_HINTS ? 2 :
                        types[i].type == VBX_STATISTICS ? 1 : 0;

        memcpy(&swapped, &m, bytes);
        bx_wire_swap(&swapped, types[i].type, runs);
        g_assert_cmphex(swapped.header.magic, ==,
                        GUINT32_SWAP_LE_BE(m.header.magic));
        g_assert_cmphex(swapped.header.cookie, ==, 0x8877665544332211);
        bx_wire_swap(&swapped, types[i].type, runs);
        g_assert_cmpmem(&swapped, bytes, &m, bytes);
    }
    good(&m, VBX_HINTS);
    bx_wire_swap(&m, VBX_HINTS, 2);
    g_assert_cmphex(m.hints.run[1].gfn, ==, GUINT64_SWAP_LE_BE(300));
    good(&m, VBX_RESERVE);
    bx_wire_swap(&m, VBX_RESERVE, 0);
    g_assert_cmphex(m.reserve.granule_bytes, ==,
                    GUINT32_SWAP_LE_BE(VBX_GRANULE_BYTES));
}

/* One byte range of a good message set to something else. */
static const struct {
    const char *what;
    unsigned type;
    BxFrom from;
    size_t offset, width;
    uint64_t value;
    int rc;
} bad[] = {
    { "magic", VBX_PING, BX_FROM_HOST, 0, 4, 0x12345678, -EBADMSG },
    { "length 0", VBX_PING, BX_FROM_HOST, 8, 4, 0, -EBADMSG },
    { "length odd", VBX_PING, BX_FROM_HOST, 8, 4, 25, -EBADMSG },
    { "length larger than there is", VBX_PING, BX_FROM_HOST, 8, 4, 32,
      -EBADMSG },
    { "length beyond the maximum", VBX_PING, BX_FROM_HOST, 8, 4, 4104,
      -EBADMSG },
    { "length 2^32 - 8", VBX_PING, BX_FROM_HOST, 8, 4, 0xfffffff8, -EBADMSG },
    { "unknown type", VBX_PING, BX_FROM_HOST, 4, 2, 999, -EOPNOTSUPP },
    { "type of the other side", VBX_RESERVED, BX_FROM_HOST, 6, 2, 0,
      -EOPNOTSUPP },
    { "local type over the port", BX_LOCAL_AGENT, BX_FROM_HOST, 6, 2, 0,
      -EOPNOTSUPP },
    { "application 65536", VBX_PING, BX_FROM_HOST, 12, 4, 65536, -EPROTO },
    { "too short for its type", VBX_PING, BX_FROM_HOST, 4, 2, VBX_RESERVE,
      -EPROTO },
    { "versions reversed", VBX_HELLO, BX_FROM_APP, 24, 2, 9, -EPROTO },
    { "priority 10", VBX_REGISTER, BX_FROM_APP, 28, 4, 10, -EPROTO },
    { "name not ended", VBX_REGISTER, BX_FROM_APP, 71, 1, 'x', -EPROTO },
    { "no name", VBX_REGISTER, BX_FROM_APP, 40, 1, 0, -EPROTO },
    { "order of nothing", VBX_RESERVE, BX_FROM_AGENT, 32, 8, 0, -EPROTO },
    { "order of half a granule", VBX_RESERVE, BX_FROM_AGENT, 32, 8, 1 << 20,
      -EPROTO },
    { "order beyond all memory", VBX_RESERVE, BX_FROM_AGENT, 32, 8,
      UINT64_MAX - (2 << 20) + 1, -EPROTO },
    { "granule of 8 KiB", VBX_RESERVE, BX_FROM_AGENT, 40, 4, 8192, -EPROTO },
    { "granule of 0", VBX_RESERVE, BX_FROM_AGENT, 40, 4, 0, -EPROTO },
    { "pages that overflow", VBX_RESERVED, BX_FROM_APP, 40, 8, UINT64_MAX,
      -EPROTO },
    { "first page beyond all", VBX_RESERVED, BX_FROM_APP, 32, 8, UINT64_MAX,
      -EPROTO },
    { "reserve status 4", VBX_RESERVED, BX_FROM_APP, 48, 2, 4, -EPROTO },
    { "no hints", VBX_HINTS, BX_FROM_APP, 32, 4, 0, -EPROTO },
    { "more hints than there are", VBX_HINTS, BX_FROM_APP, 32, 4, 3,
      -EPROTO },
    { "hints that overflow", VBX_HINTS, BX_FROM_APP, 32, 4, 0xffffffff,
      -EPROTO },
    { "hint of no page", VBX_HINTS, BX_FROM_APP, 56, 8, 0, -EPROTO },
    { "hint beyond all memory", VBX_HINTS, BX_FROM_APP, 48, 8, UINT64_MAX,
      -EPROTO },
    { "veto of an hour", VBX_VETO, BX_FROM_APP, 24, 4, 3600000, -EPROTO },
    { "release of no page", VBX_RELEASE, BX_FROM_HOST, 40, 8, 0, -EPROTO },
    { "release that overflows", VBX_RELEASED, BX_FROM_HOST, 40, 8, UINT64_MAX,
      -EPROTO },
    { "request of nothing", VBX_REQUEST, BX_FROM_APP, 24, 8, 0, -EPROTO },
    { "request with priority 10", VBX_REQUEST, BX_FROM_APP, 36, 2, 10,
      -EPROTO },
    { "request for a day", VBX_REQUEST, BX_FROM_APP, 32, 4, 86400000,
      -EPROTO },
    { "answer status 4", VBX_ANSWER, BX_FROM_HOST, 32, 2, 4, -EPROTO },
    { "condition 4", VBX_CONDITION, BX_FROM_HOST, 48, 4, 4, -EPROTO },
    { "host condition 4", VBX_CONDITION, BX_FROM_HOST, 52, 4, 4, -EPROTO },
    { "no figure", VBX_STATISTICS, BX_FROM_APP, 24, 4, 0, -EPROTO },
    { "more figures than there are", VBX_STATISTICS, BX_FROM_APP, 24, 4, 2,
      -EPROTO },
    { "neither asleep nor awake", BX_LOCAL_SLEEP, BX_FROM_APP, 24, 4, 2,
      -EPROTO },
};

static void test_malformed_message_is_refused_with_its_kind(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint64_t value = GUINT64_TO_LE(bad[i].value);
        BxMessage m, back;
        size_t bytes = good(&m, bad[i].type);

        g_test_message("%s", bad[i].what);
        memcpy(m.bytes + bad[i].offset, &value, bad[i].width);
        g_assert_cmpint(bx_wire_unpack(m.bytes, bytes, bad[i].from, &back),
                        ==, bad[i].rc);
    }
}

static void test_optional_message_that_is_unknown_is_passed_over(void)
{
    BxMessage m, back, error;
    size_t bytes = good(&m, VBX_PING);

    m.header.type = GUINT16_TO_LE(999);
    m.header.flags = GUINT16_TO_LE(VBX_FLAG_OPTIONAL);
    g_assert_cmpint(bx_wire_unpack(m.bytes, bytes, BX_FROM_HOST, &back), ==,
                    -ENOMSG);
    g_assert_false(bx_wire_error(&error, &back.header, -ENOMSG));
}

static void test_later_version_that_is_longer_is_understood(void)
{
    uint8_t bytes[sizeof(struct vbx_veto) + 16] = { 0 };
    BxMessage m, back;
    size_t length = good(&m, VBX_VETO);

    m.header.length = GUINT32_TO_LE(length + 16);
    memcpy(bytes, m.bytes, length);
    g_assert_cmpint(bx_wire_unpack(bytes, sizeof(bytes), BX_FROM_APP, &back),
                    ==, 0);
}

static void test_stream_is_cut_where_messages_end(void)
{
    BxMessage m;
    size_t length = good(&m, VBX_CONDITION);

    for (size_t i = 0; i < length; i++) {
        g_assert_cmpint(bx_wire_next(m.bytes, i), ==, 0);
    }
    g_assert_cmpint(bx_wire_next(m.bytes, length), ==, length);
    g_assert_cmpint(bx_wire_next(m.bytes, sizeof(m)), ==, length);
    m.bytes[0] ^= 1;
    g_assert_cmpint(bx_wire_next(m.bytes, sizeof(m)), ==, -EBADMSG);
}

static void test_refusal_names_the_message_and_errors_get_none(void)
{
    struct vbx_header refused = { .type = 999, .app = 5, .cookie = 42 };
    BxMessage m;

    g_assert_true(bx_wire_error(&m, &refused, -EOPNOTSUPP));
    g_assert_cmpuint(m.error.code, ==, VBX_ERROR_UNSUPPORTED);
    g_assert_cmpuint(m.error.type, ==, 999);
    g_assert_cmpuint(m.header.cookie, ==, 42);
    g_assert_cmpuint(m.header.app, ==, 5);
    g_assert_true(bx_wire_error(&m, &refused, -EPROTO));
    g_assert_cmpuint(m.error.code, ==, VBX_ERROR_MALFORMED);
    g_assert_true(bx_wire_error(&m, &refused, VBX_ERROR_LIMIT));
    g_assert_cmpuint(m.error.code, ==, VBX_ERROR_LIMIT);
    refused.type = VBX_ERROR;
    g_assert_false(bx_wire_error(&m, &refused, -EPROTO));
    g_assert_false(bx_wire_error(&m, &refused, -EBADMSG));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/each-type-is-as-long-as-its-struct-and-survives",
                    test_each_type_is_as_long_as_its_struct_and_survives);
    g_test_add_func("/swapping-twice-changes-nothing-and-once-each-field",
                    test_swapping_twice_changes_nothing_and_once_each_field);
    g_test_add_func("/malformed-message-is-refused-with-its-kind",
                    test_malformed_message_is_refused_with_its_kind);
    g_test_add_func("/optional-message-that-is-unknown-is-passed-over",
                    test_optional_message_that_is_unknown_is_passed_over);
    g_test_add_func("/later-version-that-is-longer-is-understood",
                    test_later_version_that_is_longer_is_understood);
    g_test_add_func("/stream-is-cut-where-messages-end",
                    test_stream_is_cut_where_messages_end);
    g_test_add_func("/refusal-names-the-message-and-errors-get-none",
                    test_refusal_names_the_message_and_errors_get_none);
    return g_test_run();
}
