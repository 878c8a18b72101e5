/*
 * Fuzzer of what a guest's programs read: messages, one and in a stream
 *
 * What must hold for any bytes: what is accepted is packed to the same fields
 * again and stays accepted; a stream is cut into pieces that are not longer
 * than it is; what was refused gets an answer that is itself a good message.
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

static void check_refusal(const BxMessage *m, int rc)
{
    BxMessage reply, back;
    size_t bytes;

    if (bx_wire_error(&reply, &m->header, rc)) {
        bytes = bx_wire_pack(&reply);
        REQUIRE(bx_wire_unpack(reply.bytes, bytes, BX_FROM_GUEST, &back) == 0);
    }
}

static void check_accepted(const BxMessage *m, BxFrom from)
{
    BxMessage copy = *m, back;
    size_t bytes = bx_wire_pack(&copy);

    REQUIRE(bytes <= m->header.length);
    REQUIRE(bx_wire_unpack(copy.bytes, bytes, from, &back) == 0);
    REQUIRE(memcmp(back.bytes + sizeof(back.header),
                   m->bytes + sizeof(m->header),
                   bytes - sizeof(m->header)) == 0);
}

/* Most random bytes are no message at all: give them a header that fits. */
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
    m->header.magic = vbx_le32(VBX_MAGIC);
    m->header.type = vbx_le16(data[0] % 64);
    m->header.flags = vbx_le16(data[1] & 1);
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
