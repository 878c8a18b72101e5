/*
 * Messages that wait to be written
 *
 * One buffer, one message behind the other; the length of the first is in its
 * header.  What has been written is skipped, and the rest moved to the front
 * when room is needed.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int make_room(BxOutbox *outbox, size_t bytes)
{
    size_t waiting = bx_outbox_waiting(outbox);
    size_t room = outbox->room ? outbox->room : 1024;
    uint8_t *larger;

    if (outbox->room - outbox->tail >= bytes) {
        return 0;
    }
    if (waiting) {
        memmove(outbox->bytes, outbox->bytes + outbox->head, waiting);
    }
    outbox->head = 0;
    outbox->tail = waiting;
    while (room - waiting < bytes) {
        room *= 2;
    }
    if (room == outbox->room) {
        return 0;
    }
    larger = realloc(outbox->bytes, room);
    if (!larger) {
        return -ENOMEM;
    }
    outbox->bytes = larger;
    outbox->room = room;
    return 0;
}

int bx_outbox_push(BxOutbox *outbox, BxMessage *message)
{
    size_t bytes = bx_wire_pack(message);
    int rc;

    if (outbox->max_bytes &&
        bx_outbox_waiting(outbox) + bytes > outbox->max_bytes) {
        return -EAGAIN;
    }
    rc = make_room(outbox, bytes);
    if (rc == 0) {
        memcpy(outbox->bytes + outbox->tail, message->bytes, bytes);
        outbox->tail += bytes;
    }
    return rc;
}

int bx_outbox_flush(BxOutbox *outbox, int fd, bool packets)
{
    while (bx_outbox_waiting(outbox)) {
        const uint8_t *next = outbox->bytes + outbox->head;
        size_t bytes = bx_outbox_waiting(outbox);
        ssize_t done;

        if (packets) {
            bytes = bx_wire_next(next, bytes);
            done = send(fd, next, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
            done = write(fd, next, bytes);
        }
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return errno == EAGAIN ? 0 : -errno;
        }
        if (done == 0) {
            return 0;
        }
        outbox->head += done;
    }
    outbox->head = outbox->tail = 0;
    return 0;
}

void bx_outbox_clear(BxOutbox *outbox)
{
    free(outbox->bytes);
    *outbox = (BxOutbox) { .max_bytes = outbox->max_bytes };
}
