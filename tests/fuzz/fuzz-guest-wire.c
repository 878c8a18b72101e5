/*
 * Fuzzer of what a guest's programs read: messages, one and in a stream
 *
 * What must hold for any bytes: what is accepted has numbers in the ranges that
 * the specification gives, is packed to the same fields again and stays
 * accepted; a stream is cut into pieces that are not longer than it is; what
 * was refused gets an answer that is itself a good message.
 *
 * The first input byte says who sent it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "wire.h"

#define REQUIRE(condition)      \
    do {                        \
        if (!(condition)) {     \
            abort();            \
        }                       \
    } while (0)

#define TAME 2          /* of the second byte */

static void check_refusal(const BxMessage *m, int rc)
{
    BxMessage reply, back;
    size_t bytes;

    if (bx_wire_error(&reply, &m->header, rc)) {
        bytes = bx_wire_pack(&reply);
        REQUIRE(bx_wire_unpack(reply.bytes, bytes, BX_FROM_GUEST, &back) == 0);
    }
}

static void check_order(const struct vbx_reserve *order)
{
    REQUIRE(order->granule_bytes == VBX_PAGE_BYTES ||
            order->granule_bytes == VBX_GRANULE_BYTES);
    REQUIRE(order->bytes && order->bytes % order->granule_bytes == 0);
}

static void check_numbers(const BxMessage *m)
{
    switch (m->header.type) {
    case VBX_REGISTER:
        REQUIRE(m->reg.priority <= VBX_PRIORITY_MAX);
        REQUIRE(memchr(m->reg.name, '\0', VBX_NAME_MAX));
        break;
    case VBX_RESERVE:
        check_order(&m->reserve);
        break;
    case VBX_RESERVED:
        REQUIRE(m->reserved.status <= VBX_RESERVE_REFUSED);
        REQUIRE(m->reserved.first_seq + m->reserved.count >=
                m->reserved.first_seq);
        break;
    case VBX_HINTS:
        REQUIRE(m->hints.runs >= 1 && m->hints.runs <= VBX_HINTS_MAX);
        break;
    case VBX_VETO:
        REQUIRE(m->veto.duration_ms <= VBX_VETO_MAX_MS);
        break;
    case VBX_REQUEST:
        REQUIRE(m->request.bytes > 0);
        REQUIRE(m->request.priority <= VBX_PRIORITY_MAX);
        REQUIRE(m->request.deadline_ms <= VBX_REQUEST_MAX_MS);
        break;
    case VBX_ANSWER:
        REQUIRE(m->answer.status <= VBX_ANSWER_REFUSED);
        break;
    case VBX_CONDITION:
        REQUIRE(m->condition.condition <= VBX_CONDITION_LOW);
        REQUIRE(m->condition.host <= VBX_CONDITION_LOW);
        break;
    case VBX_STATISTICS:
        REQUIRE(m->statistics.count >= 1 &&
                m->statistics.count <= VBX_STATS_MAX);
        break;
    default:
        break;
    }
}

static void check_accepted(const BxMessage *m, BxFrom from)
{
    BxMessage copy = *m, back;
    size_t bytes = bx_wire_pack(&copy);

    check_numbers(m);
    REQUIRE(bytes <= m->header.length);
    REQUIRE(bx_wire_unpack(copy.bytes, bytes, from, &back) == 0);
    REQUIRE(memcmp(back.bytes + sizeof(back.header),
                   m->bytes + sizeof(m->header),
                   bytes - sizeof(m->header)) == 0);
}

/* The first byte; the most of them are types of messages with the host. */
static uint16_t type_of(uint8_t byte)
{
    return byte >= 0xfc ? BX_LOCAL_STATUS + byte % 4 : byte % 64;
}

/*
 * Most random bytes are no message at all: give them a header that fits, and
 * numbers that are likely where the second byte says so.
 */
static void check_with_header(const uint8_t *data, size_t size, BxFrom from)
{
    /* On the heap, so that a sanitizer sees a read behind it. */
    size_t bytes = (sizeof(struct vbx_header) + size) / 8 * 8;
    BxMessage *m = calloc(1, sizeof(*m));
    uint8_t *message;
    int rc;

    if (size < 2 || bytes > VBX_MESSAGE_MAX) {
        free(m);
        return;
    }
    message = calloc(1, bytes);
    memcpy(message + sizeof(struct vbx_header), data,
           bytes - sizeof(struct vbx_header));
    if (data[1] & TAME) {
        fuzz_tame(message + sizeof(struct vbx_header),
                  bytes - sizeof(struct vbx_header));
    }
    m->header.magic = vbx_le32(VBX_MAGIC);
    m->header.type = vbx_le16(type_of(data[0]));
    m->header.flags = vbx_le16(data[1] & VBX_FLAG_OPTIONAL);
    m->header.app = vbx_le32(data[1] >> 2 & 1);
    m->header.length = vbx_le32(bytes);
    memcpy(message, &m->header, sizeof(m->header));
    rc = bx_wire_unpack(message, bytes, from, m);
    REQUIRE(rc != -EBADMSG);
    if (rc == 0) {
        check_accepted(m, from);
    } else {
        check_refusal(m, rc);
    }
    free(message);
    free(m);
}

static void check_stream(const uint8_t *data, size_t size, BxFrom from)
{
    size_t at = 0;

    while (at < size) {
        int length = bx_wire_next(data + at, size - at), rc;
        BxMessage m;

        if (length <= 0) {
            break;
        }
        REQUIRE((size_t)length <= size - at && length % 8 == 0);
        rc = bx_wire_unpack(data + at, length, from, &m);
        if (rc == 0) {
            check_accepted(&m, from);
        } else {
            check_refusal(&m, rc);
        }
        at += length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const BxFrom from[] = {
        BX_FROM_HOST, BX_FROM_AGENT, BX_FROM_APP, BX_FROM_GUEST,
    };
    BxFrom who = from[size ? data[0] % 4 : 0];

    if (size) {
        check_stream(data + 1, size - 1, who);
        check_with_header(data + 1, size - 1, who);
    }
    return 0;
}
