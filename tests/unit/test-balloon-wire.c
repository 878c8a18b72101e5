/*
 * Tests of messages of balloon applications: what is taken, what is refused
 *
 * A message is one good message of the table, with one field of it made wrong.
 * Guards lie behind every buffer: under a sanitizer a look too far is seen.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stddef.h>
#include <string.h>

#include "balloon-ex-wire.h"

#define COOKIE UINT64_C(0x1122334455667788)

/* Any message of a guest, with room for what it may carry. */
typedef union Any {
    struct vbx_header header;
    struct vbx_hello hello;
    struct vbx_error error;
    struct vbx_plain plain;
    struct vbx_register reg;
    struct vbx_reserved reserved;
    struct {
        struct vbx_hints fixed;
        struct vbx_hint run[VBX_HINTS_MAX];
    } hints;
    struct vbx_veto veto;
    struct vbx_range range;
    struct vbx_request request;
    struct {
        struct vbx_statistics fixed;
        struct vbx_stat stat[VBX_STATS_MAX];
    } statistics;
    uint8_t bytes[VBX_MESSAGE_MAX];
} Any;

static void begin(Any *any, uint16_t type, uint32_t app, size_t bytes)
{
    memset(any, 0, sizeof(*any));
    any->header.magic = vbx_le32(VBX_MAGIC);
    any->header.type = vbx_le16(type);
    any->header.length = vbx_le32((uint32_t)bytes);
    any->header.app = vbx_le32(app);
    any->header.cookie = vbx_le64(COOKIE);
}

/* ---- good ones ---- */

static void make_hello(Any *any)
{
    begin(any, VBX_HELLO, 0, sizeof(any->hello));
    any->hello.version_min = vbx_le16(1);
    any->hello.version_max = vbx_le16(3);
    any->hello.features = vbx_le32(VBX_FEATURE_HINTS | 0x80000000u);
    any->hello.held_bytes = vbx_le64(4096);
}

static void make_ping(Any *any)
{
    begin(any, VBX_PING, 0, sizeof(any->plain));
}

static void make_error(Any *any)
{
    begin(any, VBX_ERROR, 3, sizeof(any->error));
    any->error.code = vbx_le16(77);
}

static void make_register(Any *any)
{
    begin(any, VBX_REGISTER, 65535, sizeof(any->reg));
    any->reg.flags = vbx_le32(VBX_APP_RESERVES);
    any->reg.priority = vbx_le32(9);
    any->reg.offer_bytes = vbx_le64(UINT64_MAX);
    memset(any->reg.name, 'x', VBX_NAME_MAX - 1);
}

static void make_unregister(Any *any)
{
    begin(any, VBX_UNREGISTER, 1, sizeof(any->plain));
}

static void make_reserved(Any *any)
{
    begin(any, VBX_RESERVED, 1, sizeof(any->reserved));
    any->reserved.epoch = vbx_le64(5);
    any->reserved.first_seq = vbx_le64(512);
    any->reserved.count = vbx_le64(512);
    any->reserved.status = vbx_le16(VBX_RESERVE_WHOLE);
}

static void make_hints(Any *any)
{
    begin(any, VBX_HINTS, 1,
          sizeof(any->hints.fixed) + 2 * sizeof(struct vbx_hint));
    any->hints.fixed.epoch = vbx_le64(5);
    any->hints.fixed.runs = vbx_le32(2);
    any->hints.run[0] = (struct vbx_hint) {
        vbx_le64(0), vbx_le64(1), vbx_le64(512)
    };
    any->hints.run[1] = (struct vbx_hint) {
        vbx_le64(512), vbx_le64((UINT64_C(1) << 52) - 1), vbx_le64(1)
    };
}

static void make_veto(Any *any)
{
    begin(any, VBX_VETO, 1, sizeof(any->veto));
    any->veto.duration_ms = vbx_le32(VBX_VETO_MAX_MS);
    any->veto.reason = vbx_le16(VBX_REASON_BUSY);
}

static void make_release(Any *any)
{
    begin(any, VBX_RELEASE, 1, sizeof(any->range));
    any->range.epoch = vbx_le64(5);
    any->range.first_seq = vbx_le64(UINT64_MAX - 512);
    any->range.count = vbx_le64(512);
}

static void make_unmapped(Any *any)
{
    make_release(any);
    any->header.type = vbx_le16(VBX_UNMAPPED);
}

static void make_request(Any *any)
{
    begin(any, VBX_REQUEST, 0, sizeof(any->request));
    any->request.bytes = vbx_le64(INT64_MAX);
    any->request.deadline_ms = vbx_le32(VBX_REQUEST_MAX_MS);
    any->request.priority = vbx_le16(VBX_PRIORITY_MAX);
    any->request.reason = vbx_le16(VBX_WANT_PRESSURE);
}

static void make_cancel(Any *any)
{
    begin(any, VBX_CANCEL, 0, sizeof(any->plain));
}

static void make_statistics(Any *any)
{
    begin(any, VBX_STATISTICS, 0,
          sizeof(any->statistics.fixed) + sizeof(struct vbx_stat));
    any->statistics.fixed.count = vbx_le32(1);
    any->statistics.stat[0].tag = vbx_le32(VBX_STAT_FREE);
    any->statistics.stat[0].value = vbx_le64(12345);
}

static void (*const good[])(Any *any) = {
    make_hello, make_ping, make_error, make_register, make_unregister,
    make_reserved, make_hints, make_veto, make_release, make_unmapped,
    make_request, make_cancel, make_statistics,
};

/* Read it out of a buffer of just its length, at an odd address. */
static BalloonExVerdict parse(const Any *any, size_t count,
                              BalloonExMessage *m)
{
    uint8_t *bytes = g_malloc(count + 1);
    BalloonExVerdict verdict;

    memcpy(bytes + 1, any->bytes, count);
    memset(m, 0xee, sizeof(*m));
    verdict = balloon_ex_wire_parse(bytes + 1, count, m);
    g_free(bytes);
    return verdict;
}

static BalloonExVerdict parse_all(const Any *any, BalloonExMessage *m)
{
    return parse(any, MIN(vbx_le32(any->header.length), VBX_MESSAGE_MAX), m);
}

static void test_good_messages_are_read(void)
{
    BalloonExMessage m;
    Any any;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        good[i](&any);
        g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_GOOD);
        g_assert_cmpuint(m.type, ==, vbx_le16(any.header.type));
        g_assert_cmpuint(m.app, ==, vbx_le32(any.header.app));
        g_assert_cmphex(m.cookie, ==, COOKIE);
    }
}

static void test_fields_arrive_as_sent(void)
{
    BalloonExMessage m;
    Any any;

    make_register(&any);
    parse_all(&any, &m);
    g_assert_cmpuint(strlen(m.reg.name), ==, VBX_NAME_MAX - 1);
    g_assert_cmphex(m.reg.offer_bytes, ==, UINT64_MAX);
    make_hints(&any);
    parse_all(&any, &m);
    g_assert_cmpuint(m.hints.runs, ==, 2);
    g_assert_cmphex(m.hints.run[0].gpa, ==, 0x1000);
    g_assert_cmpuint(m.hints.run[0].count_pages, ==, 512);
    g_assert_cmphex(m.hints.run[1].gpa, ==, UINT64_MAX - 4095);
    make_statistics(&any);
    parse_all(&any, &m);
    g_assert_cmpuint(m.statistics.stat[0].tag, ==, VBX_STAT_FREE);
    g_assert_cmpuint(m.statistics.stat[0].value, ==, 12345);
    make_veto(&any);
    parse_all(&any, &m);
    g_assert_cmpint(m.veto.reason, ==, MEMSCHED_REASON_BUSY);
}

static void test_a_longer_message_is_read_as_far_as_known(void)
{
    BalloonExMessage m;
    Any any;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        good[i](&any);
        any.header.length = vbx_le32(vbx_le32(any.header.length) + 16);
        g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_GOOD);
        /* ... and a buffer may be larger than its message */
        g_assert_cmpint(parse(&any, VBX_MESSAGE_MAX, &m), ==,
                        BALLOON_EX_GOOD);
    }
}

static void test_a_shorter_message_is_refused(void)
{
    BalloonExMessage m;
    Any any;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        uint32_t length;

        good[i](&any);
        length = vbx_le32(any.header.length);
        if (length == sizeof(struct vbx_header)) {
            continue;           /* a header is all of it: cannot be shorter */
        }
        any.header.length = vbx_le32(length - 8);
        if (good[i] == make_error) {
            g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_PASS);
            continue;
        }
        g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_REFUSE);
        g_assert_cmpuint(m.type, ==, VBX_ERROR);
        g_assert_cmpuint(m.error.code, ==, VBX_ERROR_MALFORMED);
        g_assert_cmpuint(m.error.type, ==, vbx_le16(any.header.type));
        g_assert_cmphex(m.cookie, ==, COOKIE);
    }
}

/* One field made wrong. */
typedef struct Wrong {
    const char *what;
    void (*make)(Any *any);
    size_t offset;
    unsigned bytes;
    uint64_t value;
} Wrong;

#define WRONG(what, make, member, value) {                                 \
        what, make, offsetof(Any, member), sizeof(((Any *)0)->member), value \
    }

static const Wrong wrongs[] = {
    WRONG("hello of an application", make_hello, header.app, 1),
    WRONG("versions upside down", make_hello, hello.version_min, 4),
    WRONG("ping of an application", make_ping, header.app, 1),
    WRONG("application 0", make_register, header.app, 0),
    WRONG("application 65536", make_register, header.app, 65536),
    WRONG("priority 10", make_register, reg.priority, 10),
    WRONG("no name", make_register, reg.name[0], 0),
    WRONG("a name without end", make_register, reg.name[31], 'x'),
    WRONG("unregister 0", make_unregister, header.app, 0),
    WRONG("reserved by nobody", make_reserved, header.app, 0),
    WRONG("status 4", make_reserved, reserved.status, 4),
    WRONG("refused, and pages", make_reserved, reserved.status,
          VBX_RESERVE_REFUSED),
    WRONG("sequence wraps", make_reserved, reserved.count, UINT64_MAX - 511),
    WRONG("no runs", make_hints, hints.fixed.runs, 0),
    WRONG("more runs than sent", make_hints, hints.fixed.runs, 3),
    WRONG("more runs than ever", make_hints, hints.fixed.runs,
          VBX_HINTS_MAX + 1),
    WRONG("runs that wrap", make_hints, hints.fixed.runs, 0xaaaaaaab),
    WRONG("an empty run", make_hints, hints.run[1].count, 0),
    WRONG("a run that wraps", make_hints, hints.run[1].count, 2),
    WRONG("no such address", make_hints, hints.run[0].gfn, UINT64_C(1) << 52),
    WRONG("hint sequence wraps", make_hints, hints.run[0].seq,
          UINT64_MAX - 511),
    WRONG("a long veto", make_veto, veto.duration_ms, VBX_VETO_MAX_MS + 1),
    WRONG("an empty release", make_release, range.count, 0),
    WRONG("release wraps", make_release, range.count, 514),
    WRONG("an empty unmapping", make_unmapped, range.count, 0),
    WRONG("a request for nothing", make_request, request.bytes, 0),
    WRONG("a request for too much", make_request, request.bytes,
          UINT64_C(1) << 63),
    WRONG("a late deadline", make_request, request.deadline_ms,
          VBX_REQUEST_MAX_MS + 1),
    WRONG("very urgent", make_request, request.priority, 10),
    WRONG("cancel of application 65536", make_cancel, header.app, 65536),
    WRONG("no figures", make_statistics, statistics.fixed.count, 0),
    WRONG("more figures than sent", make_statistics, statistics.fixed.count, 2),
    WRONG("more figures than ever", make_statistics, statistics.fixed.count,
          VBX_STATS_MAX + 1),
    WRONG("figures that wrap", make_statistics, statistics.fixed.count,
          0x10000001),
};

static void put(Any *any, const Wrong *w)
{
    for (unsigned i = 0; i < w->bytes; i++) {
        any->bytes[w->offset + i] = (uint8_t)(w->value >> (8 * i));
    }
}

static void test_wrong_fields_are_refused(void)
{
    BalloonExMessage m;
    Any any;

    for (size_t i = 0; i < G_N_ELEMENTS(wrongs); i++) {
        const Wrong *w = &wrongs[i];

        g_test_message("%s", w->what);
        w->make(&any);
        put(&any, w);
        g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_REFUSE);
        g_assert_cmpuint(m.type, ==, VBX_ERROR);
        g_assert_cmpuint(m.error.code, ==, VBX_ERROR_MALFORMED);
        g_assert_cmpuint(m.error.type, ==, vbx_le16(any.header.type));
    }
}

static void test_without_a_header_nothing_follows(void)
{
    static const Wrong broken[] = {
        WRONG("magic", make_ping, header.magic, VBX_MAGIC + 1),
        WRONG("length 0", make_ping, header.length, 0),
        WRONG("length 16", make_ping, header.length, 16),
        WRONG("length 28", make_ping, header.length, 28),
        WRONG("length 4104", make_ping, header.length, 4104),
        WRONG("length huge", make_ping, header.length, 0xfffffff8),
    };
    BalloonExMessage m;
    Any any;

    for (size_t i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_test_message("%s", broken[i].what);
        broken[i].make(&any);
        put(&any, &broken[i]);
        g_assert_cmpint(parse(&any, VBX_MESSAGE_MAX, &m), ==,
                        BALLOON_EX_BROKEN);
        g_assert_cmpint(balloon_ex_wire_length(any.bytes, 24), ==, -EBADMSG);
    }
    make_hello(&any);
    for (size_t count = 0; count < sizeof(any.hello); count++) {
        g_assert_cmpint(parse(&any, count, &m), ==, BALLOON_EX_BROKEN);
        g_assert_cmpint(balloon_ex_wire_length(any.bytes, count), ==,
                        count < sizeof(any.header) ? 0
                                                   : sizeof(any.hello));
    }
}

static void test_unknown_types_are_passed_or_refused(void)
{
    static const uint16_t types[] = {
        0, 6, 99, 0xffff,
        /* what only hosts send */
        VBX_WELCOME, VBX_RESERVE, VBX_RELEASED, VBX_ANSWER, VBX_CONDITION,
        VBX_POLL,
    };
    BalloonExMessage m;
    Any any;

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        begin(&any, types[i], 1, 4096);
        g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_REFUSE);
        g_assert_cmpuint(m.error.code, ==, VBX_ERROR_UNSUPPORTED);
        g_assert_cmpuint(m.error.type, ==, types[i]);
        any.header.flags = vbx_le16(VBX_FLAG_OPTIONAL | 0x8000);
        g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_PASS);
    }
}

static void test_reasons_of_later_versions_read_as_none(void)
{
    BalloonExMessage m;
    Any any;

    make_reserved(&any);
    any.reserved.reason = vbx_le16(VBX_REASON_HIBERNATE + 1);
    any.reserved.reserved = 0xffffffff;
    g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_GOOD);
    g_assert_cmpint(m.range.reason, ==, MEMSCHED_REASON_NONE);
    make_request(&any);
    any.request.reason = vbx_le16(VBX_WANT_PRESSURE + 1);
    g_assert_cmpint(parse_all(&any, &m), ==, BALLOON_EX_GOOD);
    g_assert_cmpuint(m.request.want, ==, VBX_WANT_UNSAID);
}

/* ---- writing ---- */

static void test_what_the_host_writes_has_its_layout(void)
{
    static const struct {
        uint16_t type;
        size_t bytes;
    } written[] = {
        { VBX_WELCOME, sizeof(struct vbx_welcome) },
        { VBX_ERROR, sizeof(struct vbx_error) },
        { VBX_PING, sizeof(struct vbx_plain) },
        { VBX_PONG, sizeof(struct vbx_plain) },
        { VBX_RESERVE, sizeof(struct vbx_reserve) },
        { VBX_RELEASE, sizeof(struct vbx_range) },
        { VBX_RELEASED, sizeof(struct vbx_range) },
        { VBX_ANSWER, sizeof(struct vbx_answer) },
        { VBX_CANCEL, sizeof(struct vbx_plain) },
        { VBX_CONDITION, sizeof(struct vbx_condition) },
        { VBX_POLL, sizeof(struct vbx_plain) },
        { VBX_HELLO, 0 },
        { VBX_RESERVED, 0 },
        { 99, 0 },
    };
    uint8_t bytes[BALLOON_EX_WIRE_OUT_MAX];

    for (size_t i = 0; i < G_N_ELEMENTS(written); i++) {
        BalloonExMessage m = {
            .type = written[i].type, .app = 7, .cookie = COOKIE,
        };
        struct vbx_header header;

        g_assert_cmpuint(balloon_ex_wire_pack(&m, bytes), ==,
                         written[i].bytes);
        if (written[i].bytes) {
            memcpy(&header, bytes, sizeof(header));
            g_assert_cmpuint(vbx_le32(header.length), ==, written[i].bytes);
            g_assert_cmpuint(vbx_le32(header.app), ==, 7);
            g_assert_cmpint(balloon_ex_wire_length(bytes, 24), ==,
                            written[i].bytes);
        }
    }
}

static void test_a_condition_is_written_field_by_field(void)
{
    BalloonExMessage m = {
        .type = VBX_CONDITION,
        .condition = {
            .generation = 1, .condition = MEMSCHED_CONDITION_HARD,
            .host = MEMSCHED_CONDITION_CLEAR, .pressure = 120, .shares = 3,
            .age_ns = UINT64_C(5000000000000000), .ram_bytes = 4,
            .min_bytes = 5, .max_bytes = 6, .entitlement_bytes = 7,
            .target_bytes = 8, .allocated_bytes = 9, .reservable_bytes = 10,
            .ballooned_kernel_bytes = 11, .ballooned_application_bytes = 12,
            .ballooned_reported_bytes = 13,
        },
    };
    uint8_t bytes[BALLOON_EX_WIRE_OUT_MAX];
    struct vbx_condition w;

    m.condition.session[15] = 0xab;
    balloon_ex_wire_pack(&m, bytes);
    memcpy(&w, bytes, sizeof(w));
    g_assert_cmpuint(vbx_le32(w.condition), ==, VBX_CONDITION_HARD);
    g_assert_cmpuint(vbx_le32(w.host), ==, VBX_CONDITION_HIGH);
    g_assert_cmpuint(vbx_le32(w.age_ms), ==, UINT32_MAX);
    g_assert_cmpuint(vbx_le64(w.ram), ==, 4);
    g_assert_cmpuint(vbx_le64(w.reservable), ==, 10);
    g_assert_cmpuint(vbx_le64(w.ballooned_reported), ==, 13);
    g_assert_cmpuint(w.session[15], ==, 0xab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/balloon-wire/good-messages-are-read",
                    test_good_messages_are_read);
    g_test_add_func("/balloon-wire/fields-arrive-as-sent",
                    test_fields_arrive_as_sent);
    g_test_add_func("/balloon-wire/a-longer-message-is-read-as-far-as-known",
                    test_a_longer_message_is_read_as_far_as_known);
    g_test_add_func("/balloon-wire/a-shorter-message-is-refused",
                    test_a_shorter_message_is_refused);
    g_test_add_func("/balloon-wire/wrong-fields-are-refused",
                    test_wrong_fields_are_refused);
    g_test_add_func("/balloon-wire/without-a-header-nothing-follows",
                    test_without_a_header_nothing_follows);
    g_test_add_func("/balloon-wire/unknown-types-are-passed-or-refused",
                    test_unknown_types_are_passed_or_refused);
    g_test_add_func("/balloon-wire/reasons-of-later-versions-read-as-none",
                    test_reasons_of_later_versions_read_as_none);
    g_test_add_func("/balloon-wire/what-the-host-writes-has-its-layout",
                    test_what_the_host_writes_has_its_layout);
    g_test_add_func("/balloon-wire/a-condition-is-written-field-by-field",
                    test_a_condition_is_written_field_by_field);
    return g_test_run();
}
