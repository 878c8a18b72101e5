/*
 * What the host has to say to a guest, until the guest reads it
 *
 * A ring of a fixed size for messages that must come in order, one place for
 * the condition, of which only the newest is worth reading, and a note that
 * statistics are wanted.  Nobody who puts something in ever waits.
 *
 * The caller serialises.  No QEMU header: unit tests build this alone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_OUTBOX_H
#define HW_VIRTIO_BALLOON_EX_OUTBOX_H

#include "balloon-ex-wire.h"

/*
 * As many as answers to all that may be open, twice: 64 requests, and orders
 * and releases of 64 applications.
 */
#define BALLOON_EX_OUTBOX 256u

/* From here on a guest that does not read is not listened to either. */
#define BALLOON_EX_OUTBOX_HIGH 128u

typedef struct BalloonExPacked {
    size_t bytes;               /* 0: none */
    uint8_t data[BALLOON_EX_WIRE_OUT_MAX];
} BalloonExPacked;

typedef struct BalloonExOutbox {
    unsigned first, count;
    uint64_t dropped;           /* messages that were never read */
    BalloonExPacked ring[BALLOON_EX_OUTBOX];
    BalloonExPacked condition;
    BalloonExPacked poll;
} BalloonExOutbox;

/*
 * Put a message in.  Where the ring is full, everything that waits in it is
 * dropped first: who reads so late gets nothing that is as old as that.  False
 * then.
 */
bool balloon_ex_outbox_put(BalloonExOutbox *box,
                           const BalloonExMessage *message);

/* Take the next one to send out: true. */
bool balloon_ex_outbox_take(BalloonExOutbox *box, BalloonExPacked *ret_packed);

/* Forget all of it; nothing of this counts as dropped. */
void balloon_ex_outbox_clear(BalloonExOutbox *box);

#endif
