/*
 * balloon-ex: the two queues for messages of balloon applications
 *
 * All functions under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_APPS_H
#define HW_VIRTIO_BALLOON_EX_APPS_H

#include "hw/virtio/virtio-balloon-ex.h"

/* Add the queues, after all others; nothing where they are not offered. */
void balloon_ex_apps_realize(VirtIOBalloonEx *s);
void balloon_ex_apps_unrealize(VirtIOBalloonEx *s);

/* The driver has gone: so has the guest's end of the connection. */
void balloon_ex_apps_reset(VirtIOBalloonEx *s);

/* The machine goes on, or the driver is ready. */
void balloon_ex_apps_start(VirtIOBalloonEx *s);

/* The property "messages". */
void balloon_ex_apps_class_init(ObjectClass *klass);

extern const VMStateDescription balloon_ex_vmstate_apps;

#endif
