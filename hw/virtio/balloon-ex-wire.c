/*
 * Messages of balloon applications: from bytes to numbers and back
 *
 * Owns nothing: pure functions of what a guest sent.  One table has the type,
 * the least size and what may stand in the field app; a function a layout
 * reads the rest.  Nothing behind the declared length is looked at, and
 * nothing behind the fields that are known.
 *
 * What later versions may do is not refused: longer messages, unknown types
 * that are marked optional, unknown bits in fields of flags, unknown reasons
 * (which read as none), anything in reserved fields.
 *
 * Bytes are copied into a layout of the wire header before a field is read, so
 * that their address may be odd.
 *
 * Threads: any.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "balloon-ex-wire.h"

#define APP_MAX     65535u
#define GFN_END     (UINT64_C(1) << (64 - MEMSCHED_PAGE_SHIFT))

static_assert(sizeof(struct vbx_header) == 24, "wire layout");
static_assert(sizeof(struct vbx_hello) == 56, "wire layout");
static_assert(sizeof(struct vbx_welcome) == 48, "wire layout");
static_assert(sizeof(struct vbx_error) == 32, "wire layout");
static_assert(sizeof(struct vbx_register) == 72, "wire layout");
static_assert(sizeof(struct vbx_reserve) == 64, "wire layout");
static_assert(sizeof(struct vbx_reserved) == 56, "wire layout");
static_assert(sizeof(struct vbx_hints) == 40, "wire layout");
static_assert(sizeof(struct vbx_veto) == 32, "wire layout");
static_assert(sizeof(struct vbx_range) == 56, "wire layout");
static_assert(sizeof(struct vbx_request) == 40, "wire layout");
static_assert(sizeof(struct vbx_answer) == 40, "wire layout");
static_assert(sizeof(struct vbx_condition) == 152, "wire layout");
static_assert(sizeof(struct vbx_condition) <= BALLOON_EX_WIRE_OUT_MAX,
              "room for every message of the host");
static_assert(sizeof(struct vbx_hints) +
              VBX_HINTS_MAX * sizeof(struct vbx_hint) <= VBX_MESSAGE_MAX,
              "the largest message fits");
static_assert(VBX_SESSION_BYTES == MEMSCHED_SESSION_BYTES &&
              VBX_KEY_BYTES == MEMSCHED_KEY_BYTES &&
              VBX_NAME_MAX == MEMSCHED_APP_NAME_MAX, "sizes of both headers");
static_assert((int)VBX_RESERVE_REFUSED == MEMSCHED_RESERVE_REFUSED &&
              (int)VBX_REASON_HIBERNATE == MEMSCHED_REASON_HIBERNATE &&
              (int)VBX_ANSWER_REFUSED == MEMSCHED_ANSWER_REFUSED,
              "numbers of both headers");

/* Where a message's bytes are, all of them. */
typedef struct Bytes {
    const uint8_t *at;
    size_t count;
} Bytes;

/* ---- reading ---- */

/* A reason that a later version knows says nothing to this one. */
static MemSchedReason reason_of(uint16_t wire)
{
    uint16_t reason = vbx_le16(wire);

    return reason < MEMSCHED_REASONS ? (MemSchedReason)reason
                                     : MEMSCHED_REASON_NONE;
}

static bool read_hello(Bytes from, BalloonExMessage *m)
{
    struct vbx_hello w;

    memcpy(&w, from.at, sizeof(w));
    m->hello.version_min = vbx_le16(w.version_min);
    m->hello.version_max = vbx_le16(w.version_max);
    m->hello.features = vbx_le32(w.features);
    m->hello.held_bytes = vbx_le64(w.held_bytes);
    memcpy(m->hello.session, w.session, sizeof(w.session));
    return m->hello.version_min <= m->hello.version_max;
}

static bool read_plain(Bytes from, BalloonExMessage *m)
{
    (void)from;
    (void)m;
    return true;
}

static bool read_error(Bytes from, BalloonExMessage *m)
{
    struct vbx_error w;

    memcpy(&w, from.at, sizeof(w));
    m->error.code = vbx_le16(w.code);
    m->error.type = vbx_le16(w.type);
    return true;
}

static bool read_register(Bytes from, BalloonExMessage *m)
{
    struct vbx_register w;

    memcpy(&w, from.at, sizeof(w));
    m->reg.flags = vbx_le32(w.flags);
    m->reg.priority = vbx_le32(w.priority);
    m->reg.offer_bytes = vbx_le64(w.offer_bytes);
    memcpy(m->reg.name, w.name, sizeof(w.name));
    return m->reg.priority <= VBX_PRIORITY_MAX &&
        w.name[0] && !w.name[VBX_NAME_MAX - 1];
}

/* Sequence numbers end before 2^64. */
static bool read_pages(uint64_t first_seq, uint64_t count, BalloonExRange *r)
{
    r->first_seq = vbx_le64(first_seq);
    r->count_pages = vbx_le64(count);
    return r->count_pages <= UINT64_MAX - r->first_seq;
}

static bool read_reserved(Bytes from, BalloonExMessage *m)
{
    struct vbx_reserved w;
    uint16_t status;

    memcpy(&w, from.at, sizeof(w));
    status = vbx_le16(w.status);
    m->range.epoch = vbx_le64(w.epoch);
    m->range.status = (MemSchedReserveStatus)status;
    m->range.reason = reason_of(w.reason);
    return read_pages(w.first_seq, w.count, &m->range) &&
        status <= VBX_RESERVE_REFUSED &&
        (status != VBX_RESERVE_REFUSED || !m->range.count_pages);
}

static bool read_range(Bytes from, BalloonExMessage *m)
{
    struct vbx_range w;

    memcpy(&w, from.at, sizeof(w));
    m->range.epoch = vbx_le64(w.epoch);
    m->range.status = MEMSCHED_RESERVE_PROGRESS;
    m->range.reason = reason_of(w.reason);
    return read_pages(w.first_seq, w.count, &m->range) &&
        m->range.count_pages > 0;
}

static bool read_hints(Bytes from, BalloonExMessage *m)
{
    BalloonExHints *hints = &m->hints;
    struct vbx_hints w;

    memcpy(&w, from.at, sizeof(w));
    hints->epoch = vbx_le64(w.epoch);
    hints->runs = vbx_le32(w.runs);
    /* At most 160 runs of 24 bytes: nothing wraps after the first test. */
    if (!hints->runs || hints->runs > VBX_HINTS_MAX ||
        from.count - sizeof(w) < hints->runs * sizeof(struct vbx_hint)) {
        return false;
    }
    for (uint32_t i = 0; i < hints->runs; i++) {
        struct vbx_hint run;
        uint64_t seq, gfn, count;

        memcpy(&run, from.at + sizeof(w) + i * sizeof(run), sizeof(run));
        seq = vbx_le64(run.seq);
        gfn = vbx_le64(run.gfn);
        count = vbx_le64(run.count);
        if (!count || count > UINT64_MAX - seq || gfn >= GFN_END ||
            count > GFN_END - gfn) {
            return false;
        }
        hints->run[i] = (MemSchedAppHint) {
            .seq = seq,
            .gpa = gfn << MEMSCHED_PAGE_SHIFT,
            .count_pages = count,
        };
    }
    return true;
}

static bool read_veto(Bytes from, BalloonExMessage *m)
{
    struct vbx_veto w;

    memcpy(&w, from.at, sizeof(w));
    m->veto.duration_ms = vbx_le32(w.duration_ms);
    m->veto.reason = reason_of(w.reason);
    return m->veto.duration_ms <= VBX_VETO_MAX_MS;
}

static bool read_request(Bytes from, BalloonExMessage *m)
{
    struct vbx_request w;

    memcpy(&w, from.at, sizeof(w));
    m->request.bytes = vbx_le64(w.bytes);
    m->request.deadline_ms = vbx_le32(w.deadline_ms);
    m->request.priority = vbx_le16(w.priority);
    m->request.want = vbx_le16(w.reason);
    if (m->request.want > VBX_WANT_PRESSURE) {
        m->request.want = VBX_WANT_UNSAID;
    }
    /* Below 2^63 no rounding up can wrap. */
    return m->request.bytes && m->request.bytes <= INT64_MAX &&
        m->request.deadline_ms <= VBX_REQUEST_MAX_MS &&
        m->request.priority <= VBX_PRIORITY_MAX;
}

static bool read_statistics(Bytes from, BalloonExMessage *m)
{
    BalloonExStatistics *statistics = &m->statistics;
    struct vbx_statistics w;

    memcpy(&w, from.at, sizeof(w));
    statistics->count = vbx_le32(w.count);
    if (!statistics->count || statistics->count > VBX_STATS_MAX ||
        from.count - sizeof(w) < statistics->count * sizeof(struct vbx_stat)) {
        return false;
    }
    for (uint32_t i = 0; i < statistics->count; i++) {
        struct vbx_stat stat;

        memcpy(&stat, from.at + sizeof(w) + i * sizeof(stat), sizeof(stat));
        statistics->stat[i] = (MemSchedAppStat) {
            .tag = vbx_le32(stat.tag),
            .value = vbx_le64(stat.value),
        };
    }
    return true;
}

typedef enum Whose {
    CONNECTION,                 /* app is 0 */
    APPLICATION,                /* app is 1 to 65535 */
    EITHER,
} Whose;

typedef struct Layout {
    uint16_t type;
    uint16_t bytes_min;
    Whose whose;
    bool (*read)(Bytes from, BalloonExMessage *m);
} Layout;

/* What guests may send. */
static const Layout layouts[] = {
    { VBX_HELLO, sizeof(struct vbx_hello), CONNECTION, read_hello },
    { VBX_ERROR, sizeof(struct vbx_error), EITHER, read_error },
    { VBX_PING, sizeof(struct vbx_plain), CONNECTION, read_plain },
    { VBX_PONG, sizeof(struct vbx_plain), CONNECTION, read_plain },
    { VBX_REGISTER, sizeof(struct vbx_register), APPLICATION, read_register },
    { VBX_UNREGISTER, sizeof(struct vbx_plain), APPLICATION, read_plain },
    { VBX_RESERVED, sizeof(struct vbx_reserved), APPLICATION, read_reserved },
    { VBX_HINTS, sizeof(struct vbx_hints), APPLICATION, read_hints },
    { VBX_VETO, sizeof(struct vbx_veto), APPLICATION, read_veto },
    { VBX_RELEASE, sizeof(struct vbx_range), APPLICATION, read_range },
    { VBX_UNMAPPED, sizeof(struct vbx_range), APPLICATION, read_range },
    { VBX_REQUEST, sizeof(struct vbx_request), EITHER, read_request },
    { VBX_CANCEL, sizeof(struct vbx_plain), EITHER, read_plain },
    { VBX_STATISTICS, sizeof(struct vbx_statistics), EITHER,
      read_statistics },
};

static const Layout *layout_of(uint16_t type)
{
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        if (layouts[i].type == type) {
            return &layouts[i];
        }
    }
    return NULL;
}

static bool app_is_right(Whose whose, uint32_t app)
{
    switch (whose) {
    case CONNECTION:
        return app == 0;
    case APPLICATION:
        return app >= 1 && app <= APP_MAX;
    default:
        return app <= APP_MAX;
    }
}

int balloon_ex_wire_length(const uint8_t *untrusted_bytes, size_t count)
{
    struct vbx_header header;
    uint32_t length;

    if (count < sizeof(header)) {
        return 0;
    }
    memcpy(&header, untrusted_bytes, sizeof(header));
    length = vbx_le32(header.length);
    if (vbx_le32(header.magic) != VBX_MAGIC || length < sizeof(header) ||
        length > VBX_MESSAGE_MAX || length % 8) {
        return -EBADMSG;
    }
    return (int)length;
}

/* An ERROR is never answered, not even a bad one. */
static BalloonExVerdict refuse(BalloonExMessage *m, uint16_t code)
{
    uint16_t type = m->type;

    if (type == VBX_ERROR) {
        return BALLOON_EX_PASS;
    }
    m->type = VBX_ERROR;
    m->flags = 0;
    m->error.code = code;
    m->error.type = type;
    return BALLOON_EX_REFUSE;
}

BalloonExVerdict balloon_ex_wire_parse(const uint8_t *untrusted_bytes,
                                       size_t count,
                                       BalloonExMessage *ret_message)
{
    BalloonExMessage *m = ret_message;
    int length = balloon_ex_wire_length(untrusted_bytes, count);
    struct vbx_header header;
    const Layout *layout;
    Bytes from;

    if (length <= 0 || (size_t)length > count) {
        return BALLOON_EX_BROKEN;
    }
    memcpy(&header, untrusted_bytes, sizeof(header));
    m->type = vbx_le16(header.type);
    m->flags = vbx_le16(header.flags);
    m->app = vbx_le32(header.app);
    m->cookie = vbx_le64(header.cookie);

    layout = layout_of(m->type);
    if (!layout) {
        return m->flags & VBX_FLAG_OPTIONAL ? BALLOON_EX_PASS
                                            : refuse(m, VBX_ERROR_UNSUPPORTED);
    }
    from = (Bytes) { untrusted_bytes, (size_t)length };
    if (from.count < layout->bytes_min || !app_is_right(layout->whose, m->app)
        || !layout->read(from, m)) {
        return refuse(m, VBX_ERROR_MALFORMED);
    }
    return BALLOON_EX_GOOD;
}

/* ---- writing ---- */

static size_t write_welcome(const BalloonExMessage *m, uint8_t *ret_bytes)
{
    struct vbx_welcome w = {
        .version = vbx_le16(m->welcome.version),
        .apps_max = vbx_le16(m->welcome.apps_max),
        .features = vbx_le32(m->welcome.features),
    };

    memcpy(w.session, m->welcome.session, sizeof(w.session));
    memcpy(ret_bytes, &w, sizeof(w));
    return sizeof(w);
}

static size_t write_error(const BalloonExMessage *m, uint8_t *ret_bytes)
{
    struct vbx_error w = {
        .code = vbx_le16(m->error.code),
        .type = vbx_le16(m->error.type),
    };

    memcpy(ret_bytes, &w, sizeof(w));
    return sizeof(w);
}

static size_t write_reserve(const BalloonExMessage *m, uint8_t *ret_bytes)
{
    struct vbx_reserve w = {
        .epoch = vbx_le64(m->reserve.epoch),
        .bytes = vbx_le64(m->reserve.bytes),
        .granule_bytes = vbx_le32(m->reserve.granule_bytes),
        .deadline_ms = vbx_le32(m->reserve.deadline_ms),
    };

    memcpy(w.key, m->reserve.key, sizeof(w.key));
    memcpy(ret_bytes, &w, sizeof(w));
    return sizeof(w);
}

static size_t write_range(const BalloonExMessage *m, uint8_t *ret_bytes)
{
    struct vbx_range w = {
        .epoch = vbx_le64(m->range.epoch),
        .first_seq = vbx_le64(m->range.first_seq),
        .count = vbx_le64(m->range.count_pages),
        .reason = vbx_le16(m->range.reason),
    };

    memcpy(ret_bytes, &w, sizeof(w));
    return sizeof(w);
}

static size_t write_answer(const BalloonExMessage *m, uint8_t *ret_bytes)
{
    struct vbx_answer w = {
        .bytes = vbx_le64(m->answer.bytes),
        .status = vbx_le16(m->answer.status),
        .reason = vbx_le16(m->answer.reason),
    };

    memcpy(ret_bytes, &w, sizeof(w));
    return sizeof(w);
}

/* A guest has no state between high and soft: that is the host's. */
static uint32_t condition_of(MemSchedCondition condition)
{
    switch (condition) {
    case MEMSCHED_CONDITION_HIGH:
    case MEMSCHED_CONDITION_CLEAR:
        return vbx_le32(VBX_CONDITION_HIGH);
    case MEMSCHED_CONDITION_SOFT:
        return vbx_le32(VBX_CONDITION_SOFT);
    case MEMSCHED_CONDITION_HARD:
        return vbx_le32(VBX_CONDITION_HARD);
    default:
        return vbx_le32(VBX_CONDITION_LOW);
    }
}

static size_t write_condition(const BalloonExMessage *m, uint8_t *ret_bytes)
{
    const MemSchedGuestCondition *c = &m->condition;
    uint64_t age_ms = c->age_ns / 1000000;
    struct vbx_condition w = {
        .generation = vbx_le64(c->generation),
        .condition = condition_of(c->condition),
        .host = condition_of(c->host),
        .pressure = vbx_le32(c->pressure),
        .shares = vbx_le32(c->shares),
        .age_ms = vbx_le32(age_ms > UINT32_MAX ? UINT32_MAX
                                               : (uint32_t)age_ms),
        .ram = vbx_le64(c->ram_bytes),
        .min = vbx_le64(c->min_bytes),
        .max = vbx_le64(c->max_bytes),
        .entitlement = vbx_le64(c->entitlement_bytes),
        .target = vbx_le64(c->target_bytes),
        .allocated = vbx_le64(c->allocated_bytes),
        .reservable = vbx_le64(c->reservable_bytes),
        .ballooned_kernel = vbx_le64(c->ballooned_kernel_bytes),
        .ballooned_application = vbx_le64(c->ballooned_application_bytes),
        .ballooned_reported = vbx_le64(c->ballooned_reported_bytes),
    };

    memcpy(w.session, c->session, sizeof(w.session));
    memcpy(ret_bytes, &w, sizeof(w));
    return sizeof(w);
}

static size_t write_body(const BalloonExMessage *m, uint8_t *ret_bytes)
{
    switch (m->type) {
    case VBX_WELCOME:
        return write_welcome(m, ret_bytes);
    case VBX_ERROR:
        return write_error(m, ret_bytes);
    case VBX_PING:
    case VBX_PONG:
    case VBX_CANCEL:
    case VBX_POLL:
        return sizeof(struct vbx_plain);
    case VBX_RESERVE:
        return write_reserve(m, ret_bytes);
    case VBX_RELEASE:
    case VBX_RELEASED:
        return write_range(m, ret_bytes);
    case VBX_ANSWER:
        return write_answer(m, ret_bytes);
    case VBX_CONDITION:
        return write_condition(m, ret_bytes);
    default:
        return 0;
    }
}

size_t balloon_ex_wire_pack(const BalloonExMessage *message,
                            uint8_t ret_bytes[BALLOON_EX_WIRE_OUT_MAX])
{
    size_t length = write_body(message, ret_bytes);
    struct vbx_header header = {
        .magic = vbx_le32(VBX_MAGIC),
        .type = vbx_le16(message->type),
        .flags = vbx_le16(message->flags),
        .length = vbx_le32((uint32_t)length),
        .app = vbx_le32(message->app),
        .cookie = vbx_le64(message->cookie),
    };

    if (length) {
        memcpy(ret_bytes, &header, sizeof(header));
    }
    return length;
}
