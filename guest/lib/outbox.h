/*
 * Messages that wait to be written
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_OUTBOX_H
#define BX_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

/* All zero: empty. */
typedef struct BxOutbox {
    uint8_t *bytes;
    size_t head, tail, room;    /* of bytes; [head, tail) is waiting */
    size_t max_bytes;           /* that may wait; 0: as many as fit */
} BxOutbox;

/* Packs the message.  -EAGAIN: too much waits.  -ENOMEM. */
int bx_outbox_push(BxOutbox *outbox, BxMessage *message);

/*
 * Write as much as the file takes.  @packets: a message a packet.  0, or
 * -errno of write(); -EAGAIN is none.
 */
int bx_outbox_flush(BxOutbox *outbox, int fd, bool packets);

static inline size_t bx_outbox_waiting(const BxOutbox *outbox)
{
    return outbox->tail - outbox->head;
}

/* Forget all that waits. */
void bx_outbox_clear(BxOutbox *outbox);

#endif
