/*
 * Messages of balloon applications: bytes to structs and back
 *
 * One message at a time, as docs/specs/balloon-ex-messages.rst and the wire
 * header describe them, and a few more that only the agent and the programs of
 * its own guest exchange.  In a BxMessage all fields are in the machine's byte
 * order, and what bx_wire_unpack() accepted is checked: sizes, numbers that
 * have a range, sums that could overflow.  What a message means in the order of
 * events is not looked at here.
 *
 * Nothing here allocates, blocks or keeps anything: any thread.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_WIRE_H
#define BX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "standard-headers/linux/virtio_balloon_ex.h"

/* Between the agent and programs of its guest only. */
enum {
    BX_LOCAL_STATUS = 0x4000,   /* program -> agent: who is there? */
    BX_LOCAL_APP    = 0x4001,   /* agent -> program: one application */
    BX_LOCAL_AGENT  = 0x4002,   /* agent -> program: the agent; last */
    BX_LOCAL_SLEEP  = 0x4003,   /* program -> agent: about to hibernate, or
                                   back; answered by the same message */
};

/* BX_LOCAL_APP: more flags beside VBX_APP_* */
#define BX_LOCAL_APP_KNOWN  0x0100u     /* the host knows it */

struct bx_local_app {
    struct vbx_header header;   /* app: its number; cookie: of the question */
    uint32_t flags;             /* VBX_APP_*, BX_LOCAL_APP_* */
    uint32_t priority;
    uint64_t offer_bytes;
    uint64_t reserved_bytes;    /* set aside now */
    uint64_t pid;
    char name[VBX_NAME_MAX];
};

/* BX_LOCAL_AGENT: flags */
#define BX_LOCAL_AGENT_CONNECTED    0x0001u
#define BX_LOCAL_AGENT_SLEEPS       0x0002u     /* before hibernation */
#define BX_LOCAL_AGENT_PRESSED      0x0004u     /* gives nothing for a while */

struct bx_local_agent {
    struct vbx_header header;
    uint32_t flags;
    uint32_t requests;          /* open ones */
    uint8_t session[VBX_SESSION_BYTES];
    uint64_t reserved_bytes;    /* by the agent itself */
    uint64_t stock_bytes;       /* of earlier sessions, in it */
    uint64_t huge_bytes;        /* in huge pages, of it */
    uint64_t spare_bytes;       /* what it could still set aside */
    uint64_t available_bytes;   /* MemAvailable */
    uint64_t orders, given_back_bytes, refused_messages;
};

struct bx_local_sleep {
    struct vbx_header header;
    uint32_t sleep;             /* 1: about to hibernate, 0: back */
    uint32_t reserved;
};

typedef union BxMessage {
    struct vbx_header header;
    struct vbx_hello hello;
    struct vbx_welcome welcome;
    struct vbx_error error;
    struct vbx_plain plain;
    struct vbx_register reg;
    struct vbx_reserve reserve;
    struct vbx_reserved reserved;
    struct vbx_hints hints;
    struct vbx_veto veto;
    struct vbx_range range;
    struct vbx_request request;
    struct vbx_answer answer;
    struct vbx_condition condition;
    struct vbx_statistics statistics;
    struct bx_local_app local_app;
    struct bx_local_agent local_agent;
    struct bx_local_sleep local_sleep;
    uint8_t bytes[VBX_MESSAGE_MAX];
} BxMessage;

/* Who sent it, and so which types may come. */
typedef enum BxFrom {
    BX_FROM_HOST  = 1,          /* over the port */
    BX_FROM_AGENT = 2,          /* over the socket, to a program */
    BX_FROM_APP   = 4,          /* over the socket, to the agent */
    BX_FROM_GUEST = 8,          /* over the port, to the host */
} BxFrom;

/*
 * The length of the message that @size bytes of a stream begin with: 0 while
 * that cannot be told or the message is not whole; -EBADMSG where no message
 * begins here and none can be found behind it.
 */
int bx_wire_next(const void *untrusted_bytes, size_t size);

/*
 * Read and check one message of exactly @size bytes.
 *
 *   0             *ret_message is good
 *   -EBADMSG      not a message: nothing of *ret_message is to be used
 *   -EPROTO       malformed: only the header is to be used
 *   -EOPNOTSUPP   a type that this end does not take: only the header
 *   -ENOMSG       the same, but whoever sent it does not mind
 */
int bx_wire_unpack(const void *untrusted_bytes, size_t size, BxFrom from,
                   BxMessage *ret_message);

/* All zero but for type, application and cookie. */
void bx_wire_init(BxMessage *message, unsigned type, uint32_t app,
                  uint64_t cookie);

/*
 * Make wire order of it, in place; magic and length are filled in.  Returns
 * the length.  The type must be one that this file knows, and counts within
 * their maximum.
 */
size_t bx_wire_pack(BxMessage *message);

/*
 * The answer to a message that bx_wire_unpack() refused with @rc, or that was
 * refused with a VBX_ERROR_* (positive).  False where it gets none.
 */
bool bx_wire_error(BxMessage *message, const struct vbx_header *refused,
                   int rc);

/* Swap the bytes of each field: what happens on big endian machines. */
void bx_wire_swap(BxMessage *message, unsigned type, uint32_t runs);

/* For people: "RESERVE"; "message 77" is not known and called "?". */
const char *bx_wire_name(unsigned type);

#endif
