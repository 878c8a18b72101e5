/*
 * Messages of balloon applications, for tests of both carriers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_BALLOON_EX_MESSAGES_H
#define TESTS_LIBQOS_BALLOON_EX_MESSAGES_H

#include "standard-headers/linux/virtio_balloon_ex.h"

/* Room for any message. */
typedef union Message {
    struct vbx_header header;
    struct vbx_hello hello;
    struct vbx_welcome welcome;
    struct vbx_error error;
    struct vbx_plain plain;
    struct vbx_register reg;
    struct vbx_reserve reserve;
    struct vbx_reserved reserved;
    struct vbx_range range;
    struct vbx_request request;
    struct vbx_answer answer;
    struct vbx_condition condition;
    uint8_t bytes[VBX_MESSAGE_MAX];
} Message;

static inline void message_begin(Message *m, uint16_t type, uint32_t app,
                                 uint64_t cookie, size_t bytes)
{
    memset(m, 0, sizeof(*m));
    m->header = (struct vbx_header) {
        .magic = vbx_le32(VBX_MAGIC), .type = vbx_le16(type),
        .length = vbx_le32(bytes), .app = vbx_le32(app),
        .cookie = vbx_le64(cookie),
    };
}

static inline uint16_t message_type(const Message *m)
{
    return vbx_le16(m->header.type);
}

static inline size_t message_bytes(const Message *m)
{
    return vbx_le32(m->header.length);
}

/* News come whenever they like. */
static inline bool message_is_news(const Message *m)
{
    return message_type(m) == VBX_CONDITION || message_type(m) == VBX_POLL;
}

static inline void message_hello(Message *m, uint64_t cookie)
{
    message_begin(m, VBX_HELLO, 0, cookie, sizeof(m->hello));
    m->hello.version_min = vbx_le16(1);
    m->hello.version_max = vbx_le16(7);
    m->hello.features = vbx_le32(VBX_FEATURE_HINTS | 0x80000000u);
}

static inline void message_register(Message *m, uint32_t app, const char *name)
{
    message_begin(m, VBX_REGISTER, app, app, sizeof(m->reg));
    m->reg.flags = vbx_le32(VBX_APP_RESERVES);
    m->reg.priority = vbx_le32(3);
    m->reg.offer_bytes = vbx_le64(UINT64_MAX);
    snprintf(m->reg.name, sizeof(m->reg.name), "%s", name);
}

#endif
