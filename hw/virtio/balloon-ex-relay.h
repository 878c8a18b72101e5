/*
 * Messages of balloon applications, as calls of the scheduler
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_RELAY_H
#define HW_VIRTIO_BALLOON_EX_RELAY_H

#include "balloon-ex-wire.h"

/*
 * Pass a message on that concerns the scheduler: all that guests may send but
 * HELLO, PING, PONG and ERROR.  @features are those of both sides.  0, or the
 * errno of the call.
 */
int balloon_ex_relay(MemSchedClient *client, uint32_t features,
                     const BalloonExMessage *m);

#endif
