/*
 * The connection of a guest's balloon applications
 *
 * One message handler behind every carrier.  A carrier brings whole messages
 * in, takes whole messages out, and knows nothing of what they say.
 *
 * All functions under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_SESSION_H
#define HW_VIRTIO_BALLOON_EX_SESSION_H

#include "hw/qdev-core.h"

typedef struct BalloonExSession BalloonExSession;

/* What the handler asks of a carrier, under the BQL. */
typedef struct BalloonExCarrier {
    const char *name;           /* for traces and warnings */
    /*
     * Put one message on its way, whole; false where there is no room for it
     * now: balloon_ex_session_writable() is called when there is again.
     */
    bool (*send)(void *opaque, const uint8_t *message, size_t bytes);
    /* balloon_ex_session_ready() is true again: bring what waits. */
    void (*resume)(void *opaque);
    /* The guest has not been heard for too long: end the connection. */
    void (*hang_up)(void *opaque);
} BalloonExCarrier;

/* For a carrier that is device @dev; @carrier and @opaque stay. */
BalloonExSession *balloon_ex_session_new(DeviceState *dev,
                                         const BalloonExCarrier *carrier,
                                         void *opaque);

/* Ends the connection.  NULL is fine. */
void balloon_ex_session_free(BalloonExSession *session);

/*
 * May one more message be brought now?  Not while the machine is stopped, the
 * turn is used up, or the guest does not read its answers.
 */
bool balloon_ex_session_ready(BalloonExSession *session);

/*
 * @count bytes that begin with a message; untrusted, but nobody changes them
 * any more.  False where no message begins there: it is counted, and what
 * follows in a stream cannot be read.
 */
bool balloon_ex_session_receive(BalloonExSession *session,
                                const uint8_t *untrusted_bytes, size_t count);

/*
 * How long the message is that begins at @untrusted_bytes, of which @count have
 * arrived: 0 where that cannot be told yet; negative where none begins so.
 */
int balloon_ex_session_length(const uint8_t *untrusted_bytes, size_t count);

/* There is room for messages to the guest. */
void balloon_ex_session_writable(BalloonExSession *session);

/* The guest's end is closed, or its driver has gone. */
void balloon_ex_session_close(BalloonExSession *session);

/*
 * The property "messages" of a carrier's class: counters since the device was
 * made.  @get finds the session of an object.
 */
void balloon_ex_session_show(BalloonExSession *session, Visitor *v,
                             const char *name, Error **errp);

/*
 * Whether the guest's end is open.  The session itself never travels: where
 * the machine goes on, a new one begins, of which the guest is told.
 */
extern const VMStateDescription balloon_ex_vmstate_session;

#endif
