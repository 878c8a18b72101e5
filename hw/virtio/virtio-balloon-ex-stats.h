/*
 * Statistics that a guest tells its balloon
 *
 * All functions under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_STATS_H
#define HW_VIRTIO_BALLOON_EX_STATS_H

#include "hw/virtio/virtio-balloon-ex.h"

/* The driver has sent a buffer, or the machine goes on. */
void balloon_ex_stats_handle(VirtIODevice *vdev, VirtQueue *vq);

/* Ask the driver for fresh figures, if it waits to be asked. */
void balloon_ex_stats_ask(VirtIOBalloonEx *s);

/* The machine stops: the buffer lies in the queue again. */
void balloon_ex_stats_put_back(VirtIOBalloonEx *s);

/* The driver has gone; the queue is about to be cleared. */
void balloon_ex_stats_drop(VirtIOBalloonEx *s);

void balloon_ex_stats_start(VirtIOBalloonEx *s);
void balloon_ex_stats_end(VirtIOBalloonEx *s);

/* The properties guest-stats and guest-stats-polling-interval. */
void balloon_ex_stats_class_init(ObjectClass *klass);

/*
 * Give up the device's mapping of an element whose content is known, so that
 * the pages under it may be captured; it can still be pushed.
 */
void balloon_ex_unmap(VirtIODevice *vdev, VirtQueueElement *elem);

#endif
