/*
 * Messages of balloon applications: from bytes to numbers and back
 *
 * The layout is that of include/standard-headers/linux/virtio_balloon_ex.h;
 * docs/specs/balloon-ex-messages.rst says what is right and what is not.  This
 * is the host's side: it reads what guests send, and writes what hosts send.
 *
 * No QEMU header: unit tests and the fuzzer build this alone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_WIRE_H
#define HW_VIRTIO_BALLOON_EX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memsched/memsched.h"
#include "standard-headers/linux/virtio_balloon_ex.h"

/* The longest message that the host writes: a condition. */
#define BALLOON_EX_WIRE_OUT_MAX 160u

typedef struct BalloonExHello {
    uint16_t version_min, version_max;
    uint32_t features;
    uint64_t held_bytes;
    uint8_t session[VBX_SESSION_BYTES];
} BalloonExHello;

typedef struct BalloonExWelcome {
    uint16_t version;
    uint16_t apps_max;
    uint32_t features;
    uint8_t session[VBX_SESSION_BYTES];
} BalloonExWelcome;

typedef struct BalloonExError {
    uint16_t code;
    uint16_t type;
} BalloonExError;

typedef struct BalloonExRegister {
    uint32_t flags;
    uint32_t priority;
    uint64_t offer_bytes;
    char name[VBX_NAME_MAX];    /* with a final NUL */
} BalloonExRegister;

typedef struct BalloonExReserve {
    uint64_t epoch;
    uint64_t bytes;
    uint32_t granule_bytes;
    uint32_t deadline_ms;
    uint8_t key[VBX_KEY_BYTES];
} BalloonExReserve;

/* RESERVED, and (without status) RELEASE, RELEASED, UNMAPPED */
typedef struct BalloonExRange {
    uint64_t epoch;
    uint64_t first_seq;
    uint64_t count_pages;       /* first_seq + count_pages does not wrap */
    MemSchedReserveStatus status;
    MemSchedReason reason;
} BalloonExRange;

typedef struct BalloonExHints {
    uint64_t epoch;
    uint32_t runs;
    MemSchedAppHint run[VBX_HINTS_MAX];
} BalloonExHints;

typedef struct BalloonExVeto {
    uint32_t duration_ms;
    MemSchedReason reason;
} BalloonExVeto;

typedef struct BalloonExRequest {
    uint64_t bytes;
    uint32_t deadline_ms;
    uint16_t priority;
    uint16_t want;              /* VBX_WANT_* */
} BalloonExRequest;

typedef struct BalloonExAnswer {
    uint64_t bytes;
    MemSchedAnswer status;
    MemSchedReason reason;
} BalloonExAnswer;

typedef struct BalloonExStatistics {
    uint32_t count;
    MemSchedAppStat stat[VBX_STATS_MAX];
} BalloonExStatistics;

/* One message, in the machine's byte order.  The type says which member. */
typedef struct BalloonExMessage {
    uint16_t type;              /* VBX_* */
    uint16_t flags;
    uint32_t app;
    uint64_t cookie;
    union {
        BalloonExHello hello;
        BalloonExWelcome welcome;
        BalloonExError error;
        BalloonExRegister reg;
        BalloonExReserve reserve;
        BalloonExRange range;
        BalloonExHints hints;
        BalloonExVeto veto;
        BalloonExRequest request;
        BalloonExAnswer answer;
        BalloonExStatistics statistics;
        MemSchedGuestCondition condition;
    };
} BalloonExMessage;

typedef enum BalloonExVerdict {
    BALLOON_EX_GOOD,            /* *ret_message holds it */
    BALLOON_EX_PASS,            /* unknown and optional: pass it over */
    BALLOON_EX_REFUSE,          /* answer it by *ret_message, an ERROR */
    BALLOON_EX_BROKEN,          /* where the next one begins is not known */
} BalloonExVerdict;

/*
 * How long the message is that begins at @untrusted_bytes, of which @count
 * have arrived: 0 where that cannot be told yet, a length from 24 to 4,096 that
 * may be more than has arrived, or -EBADMSG where no message begins so.
 */
int balloon_ex_wire_length(const uint8_t *untrusted_bytes, size_t count);

/*
 * Read one message of a guest.  Every number in *ret_message is in the range
 * that the specification gives; whether an application, an epoch or a cookie
 * exists is not known here.
 */
BalloonExVerdict balloon_ex_wire_parse(const uint8_t *untrusted_bytes,
                                       size_t count,
                                       BalloonExMessage *ret_message);

/*
 * Write one message of the host; returns its length.  Types that a host does
 * not send are a bug of the caller: 0.
 */
size_t balloon_ex_wire_pack(const BalloonExMessage *message,
                            uint8_t ret_bytes[BALLOON_EX_WIRE_OUT_MAX]);

#endif
