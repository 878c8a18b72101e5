/*
 * Messages of balloon applications: bytes to structs and back
 *
 * One table says what there is: each type with its fields, who may send it, and
 * what must hold for its content.  A field is named by its width, so that one
 * loop turns any message from one byte order into the other, and the same table
 * gives the shortest length.
 *
 * Bytes are copied once, before anything of them is looked at: the sender may
 * go on writing to where they came from.  A longer message than is known here
 * is from a later version; what is behind the known part is passed over.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "wire.h"

#include <errno.h>
#include <string.h>

/* Who sends a type, in the words of the table. */
#define DOWN    (BX_FROM_HOST | BX_FROM_AGENT)
#define UP      (BX_FROM_GUEST | BX_FROM_APP)
#define BOTH    (DOWN | UP)

/*
 * No guest has as much memory as this: sums of two such numbers, in bytes or in
 * pages, stay far below 2^64.
 */
#define BYTES_MAX (UINT64_C(1) << 56)

#define APP_MAX 65535u

typedef bool Check(const BxMessage *message);

/* Fields: 2, 4, 8 bytes wide; b, 16 bytes as they are; n, a name. */
typedef struct Layout {
    uint16_t type;
    uint8_t from;
    const char *name;
    const char *fields;         /* behind the header */
    Check *check;
} Layout;

static bool is_range(uint64_t first, uint64_t count, uint64_t max)
{
    return first <= max && count <= max - first;
}

static bool check_hello(const BxMessage *m)
{
    return m->hello.version_min <= m->hello.version_max &&
           m->hello.held_bytes <= BYTES_MAX;
}

static bool check_register(const BxMessage *m)
{
    return m->reg.priority <= VBX_PRIORITY_MAX &&
           m->reg.name[VBX_NAME_MAX - 1] == 0 && m->reg.name[0] != 0;
}

static bool check_reserve(const BxMessage *m)
{
    uint32_t granule = m->reserve.granule_bytes;

    return (granule == VBX_PAGE_BYTES || granule == VBX_GRANULE_BYTES) &&
           m->reserve.bytes > 0 && m->reserve.bytes <= BYTES_MAX &&
           m->reserve.bytes % granule == 0;
}

static bool check_reserved(const BxMessage *m)
{
    return is_range(m->reserved.first_seq, m->reserved.count,
                    BYTES_MAX / VBX_PAGE_BYTES) &&
           m->reserved.status <= VBX_RESERVE_REFUSED;
}

/* The length of the runs has been checked. */
static bool check_hints(const BxMessage *m)
{
    for (uint32_t i = 0; i < m->hints.runs; i++) {
        const struct vbx_hint *run = &m->hints.run[i];

        if (run->count == 0 ||
            !is_range(run->seq, run->count, BYTES_MAX / VBX_PAGE_BYTES) ||
            !is_range(run->gfn, run->count, BYTES_MAX / VBX_PAGE_BYTES)) {
            return false;
        }
    }
    return true;
}

static bool check_veto(const BxMessage *m)
{
    return m->veto.duration_ms <= VBX_VETO_MAX_MS;
}

static bool check_page_range(const BxMessage *m)
{
    return m->range.count > 0 &&
           is_range(m->range.first_seq, m->range.count,
                    BYTES_MAX / VBX_PAGE_BYTES);
}

static bool check_request(const BxMessage *m)
{
    return m->request.bytes > 0 && m->request.bytes <= BYTES_MAX &&
           m->request.deadline_ms <= VBX_REQUEST_MAX_MS &&
           m->request.priority <= VBX_PRIORITY_MAX;
}

static bool check_answer(const BxMessage *m)
{
    return m->answer.status <= VBX_ANSWER_REFUSED;
}

static bool check_condition(const BxMessage *m)
{
    return m->condition.condition <= VBX_CONDITION_LOW &&
           m->condition.host <= VBX_CONDITION_LOW;
}

static bool check_local_app(const BxMessage *m)
{
    return m->local_app.name[VBX_NAME_MAX - 1] == 0;
}

static bool check_sleep(const BxMessage *m)
{
    return m->local_sleep.sleep <= 1;
}

static const Layout layouts[] = {
    { VBX_HELLO, UP, "HELLO", "2248b", check_hello },
    { VBX_WELCOME, DOWN, "WELCOME", "224b", NULL },
    { VBX_ERROR, BOTH, "ERROR", "224", NULL },
    { VBX_PING, BOTH, "PING", "", NULL },
    { VBX_PONG, BOTH, "PONG", "", NULL },
    { VBX_REGISTER, UP, "REGISTER", "448n", check_register },
    { VBX_UNREGISTER, UP, "UNREGISTER", "", NULL },
    { VBX_RESERVE, DOWN, "RESERVE", "8844b", check_reserve },
    { VBX_RESERVED, UP, "RESERVED", "888224", check_reserved },
    { VBX_HINTS, UP, "HINTS", "844", check_hints },
    { VBX_VETO, UP, "VETO", "422", check_veto },
    { VBX_RELEASE, BOTH, "RELEASE", "8882222", check_page_range },
    { VBX_RELEASED, DOWN, "RELEASED", "8882222", check_page_range },
    { VBX_UNMAPPED, UP, "UNMAPPED", "8882222", check_page_range },
    { VBX_REQUEST, UP, "REQUEST", "8422", check_request },
    { VBX_ANSWER, DOWN, "ANSWER", "8224", check_answer },
    { VBX_CANCEL, BOTH, "CANCEL", "", NULL },
    { VBX_CONDITION, DOWN, "CONDITION", "b8444444" "8888888888",
      check_condition },
    { VBX_STATISTICS, UP, "STATISTICS", "44", NULL },
    { VBX_POLL, DOWN, "POLL", "", NULL },
    { BX_LOCAL_STATUS, BX_FROM_APP, "STATUS", "", NULL },
    { BX_LOCAL_APP, BX_FROM_AGENT, "APP", "44888n", check_local_app },
    { BX_LOCAL_AGENT, BX_FROM_AGENT, "AGENT", "44b" "88888888", NULL },
    { BX_LOCAL_SLEEP, BX_FROM_AGENT | BX_FROM_APP, "SLEEP", "44",
      check_sleep },
};

static const Layout *layout_of(unsigned type)
{
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        if (layouts[i].type == type) {
            return &layouts[i];
        }
    }
    return NULL;
}

const char *bx_wire_name(unsigned type)
{
    const Layout *layout = layout_of(type);

    return layout ? layout->name : "?";
}

static size_t width_of(char field)
{
    switch (field) {
    case 'b':
        return 16;
    case 'n':
        return VBX_NAME_MAX;
    default:
        return field - '0';
    }
}

static size_t width_of_all(const char *fields)
{
    size_t bytes = 0;

    while (*fields) {
        bytes += width_of(*fields++);
    }
    return bytes;
}

/* What follows the fixed part, @runs times. */
static const char *repeated(unsigned type)
{
    switch (type) {
    case VBX_HINTS:
        return "888";
    case VBX_STATISTICS:
        return "448";
    default:
        return "";
    }
}

static uint32_t runs_of(const BxMessage *message)
{
    switch (message->header.type) {
    case VBX_HINTS:
        return message->hints.runs;
    case VBX_STATISTICS:
        return message->statistics.count;
    default:
        return 0;
    }
}

static uint32_t runs_max(unsigned type)
{
    return type == VBX_HINTS ? VBX_HINTS_MAX : VBX_STATS_MAX;
}

/* Returns where the next field is. */
static uint8_t *swap_fields(uint8_t *at, const char *fields)
{
    for (; *fields; fields++) {
        size_t width = width_of(*fields);

        for (size_t i = 0; width <= 8 && i < width / 2; i++) {
            uint8_t byte = at[i];

            at[i] = at[width - 1 - i];
            at[width - 1 - i] = byte;
        }
        at += width;
    }
    return at;
}

static void swap_body(BxMessage *message, unsigned type, uint32_t runs)
{
    const Layout *layout = layout_of(type);
    uint8_t *at = message->bytes + sizeof(struct vbx_header);

    at = swap_fields(at, layout ? layout->fields : "");
    while (runs--) {
        at = swap_fields(at, repeated(type));
    }
}

void bx_wire_swap(BxMessage *message, unsigned type, uint32_t runs)
{
    swap_fields(message->bytes, "422448");
    swap_body(message, type, runs);
}

static bool is_big_endian(void)
{
    return vbx_le16(1) != 1;
}

int bx_wire_next(const void *untrusted_bytes, size_t size)
{
    struct vbx_header header;
    uint32_t length;

    if (size < sizeof(header)) {
        return 0;
    }
    memcpy(&header, untrusted_bytes, sizeof(header));
    length = vbx_le32(header.length);
    if (vbx_le32(header.magic) != VBX_MAGIC || length < sizeof(header) ||
        length > VBX_MESSAGE_MAX || length % 8 != 0) {
        return -EBADMSG;
    }
    return length <= size ? (int)length : 0;
}

/* The message has been copied and is whole; its body is in wire order. */
static int check_content(BxMessage *message, size_t size, const Layout *layout)
{
    size_t fixed = sizeof(struct vbx_header) + width_of_all(layout->fields);
    uint32_t runs = 0;

    if (size < fixed) {
        return -EPROTO;
    }
    if (*repeated(layout->type)) {
        /* Both have the count as a u32 behind different fields. */
        runs = vbx_le32(layout->type == VBX_HINTS ? message->hints.runs
                                                  : message->statistics.count);
        /* At most 160 x 24 bytes: no overflow. */
        if (runs == 0 || runs > runs_max(layout->type) ||
            size - fixed < runs * width_of_all(repeated(layout->type))) {
            return -EPROTO;
        }
    }
    if (is_big_endian()) {
        swap_body(message, layout->type, runs);
    }
    return layout->check && !layout->check(message) ? -EPROTO : 0;
}

int bx_wire_unpack(const void *untrusted_bytes, size_t size, BxFrom from,
                   BxMessage *ret_message)
{
    const Layout *layout;

    if (size < sizeof(struct vbx_header) || size > VBX_MESSAGE_MAX) {
        return -EBADMSG;
    }
    memcpy(ret_message->bytes, untrusted_bytes, size);
    if (bx_wire_next(ret_message->bytes, size) != (int)size) {
        return -EBADMSG;
    }
    if (is_big_endian()) {
        bx_wire_swap(ret_message, 0, 0);
    }
    layout = layout_of(ret_message->header.type);
    if (!layout || !(layout->from & from)) {
        return ret_message->header.flags & VBX_FLAG_OPTIONAL ? -ENOMSG
                                                             : -EOPNOTSUPP;
    }
    return ret_message->header.app <= APP_MAX
           ? check_content(ret_message, size, layout) : -EPROTO;
}

void bx_wire_init(BxMessage *message, unsigned type, uint32_t app,
                  uint64_t cookie)
{
    const Layout *layout = layout_of(type);
    size_t fields = layout ? width_of_all(layout->fields) : 0;

    memset(message, 0, sizeof(message->header) + fields);
    message->header.type = type;
    message->header.app = app;
    message->header.cookie = cookie;
}

size_t bx_wire_pack(BxMessage *message)
{
    const Layout *layout = layout_of(message->header.type);
    uint32_t runs = runs_of(message);
    size_t length = sizeof(struct vbx_header);

    if (layout) {
        length += width_of_all(layout->fields) +
                  runs * width_of_all(repeated(layout->type));
    }
    message->header.magic = VBX_MAGIC;
    message->header.length = length;
    if (is_big_endian()) {
        bx_wire_swap(message, message->header.type, runs);
    }
    return length;
}

bool bx_wire_error(BxMessage *message, const struct vbx_header *refused,
                   int rc)
{
    /* An error is never answered, or two ends would do so for ever. */
    if (rc == -ENOMSG || rc == -EBADMSG || refused->type == VBX_ERROR) {
        return false;
    }
    bx_wire_init(message, VBX_ERROR, refused->app & APP_MAX, refused->cookie);
    message->error.type = refused->type;
    message->error.code = rc > 0 ? rc :
                          rc == -EOPNOTSUPP ? VBX_ERROR_UNSUPPORTED
                                            : VBX_ERROR_MALFORMED;
    return true;
}
