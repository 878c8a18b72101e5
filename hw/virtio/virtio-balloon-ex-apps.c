/*
 * balloon-ex: the two queues for messages of balloon applications
 *
 * Owns the queues: one for messages to the host, a message a buffer, and one
 * with empty buffers for messages to the guest.  What a message says is
 * balloon-ex-session.c's.
 *
 * A buffer is copied once, up to the longest message, and pushed before the
 * message is looked at: so nothing is held between two turns, and nothing is
 * in flight in the state that is saved.  Buffers that are too short for a
 * message come back empty.
 *
 * The connection ends when the driver resets the device; it has no other way to
 * say so.
 *
 * Threads: the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "hw/virtio/balloon-ex-session.h"
#include "migration/vmstate.h"
#include "qapi/visitor.h"
#include "standard-headers/linux/virtio_balloon_ex.h"
#include "virtio-balloon-ex-apps.h"

#define QUEUE_SIZE 64

/* Buffers of a hostile driver that are too short, a message. */
#define SHORT_MAX QUEUE_SIZE

static bool may_work(VirtIODevice *vdev)
{
    return vdev->vm_running && vdev->status & VIRTIO_CONFIG_S_DRIVER_OK &&
        virtio_vdev_has_feature(vdev, VIRTIO_BALLOON_EX_F_APPLICATION);
}

static void push(VirtIODevice *vdev, VirtQueue *vq, VirtQueueElement *elem,
                 size_t bytes)
{
    virtqueue_push(vq, elem, bytes);
    virtio_notify(vdev, vq);
    g_free(elem);
}

/* ---- to the host ---- */

static void handle_said(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);
    BalloonExApps *apps = &s->apps;

    while (may_work(vdev) && balloon_ex_session_ready(apps->session)) {
        VirtQueueElement *elem = virtqueue_pop(vq, sizeof(*elem));
        size_t bytes;

        if (!elem) {
            return;
        }
        bytes = iov_to_buf(elem->out_sg, elem->out_num, 0, apps->in,
                           VBX_MESSAGE_MAX);
        push(vdev, vq, elem, 0);
        /* What is no message is counted; the next buffer begins anew. */
        balloon_ex_session_receive(apps->session, apps->in, bytes);
    }
}

static void go_on(void *opaque)
{
    VirtIOBalloonEx *s = opaque;

    handle_said(VIRTIO_DEVICE(s), s->apps.said_vq);
}

/* ---- to the guest ---- */

static void handle_empty(VirtIODevice *vdev, VirtQueue *vq)
{
    if (may_work(vdev)) {
        balloon_ex_session_writable(VIRTIO_BALLOON_EX(vdev)->apps.session);
    }
}

static bool tell(void *opaque, const uint8_t *message, size_t bytes)
{
    VirtIOBalloonEx *s = opaque;
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    VirtQueue *vq = s->apps.told_vq;

    for (int i = 0; i < SHORT_MAX && may_work(vdev); i++) {
        VirtQueueElement *elem = virtqueue_pop(vq, sizeof(*elem));
        bool fits;

        if (!elem) {
            return false;
        }
        fits = iov_size(elem->in_sg, elem->in_num) >= bytes;
        if (fits) {
            iov_from_buf(elem->in_sg, elem->in_num, 0, message, bytes);
        }
        push(vdev, vq, elem, fits ? bytes : 0);
        if (fits) {
            return true;
        }
    }
    return false;
}

/* A driver has no end that could be closed: it says HELLO again. */
static void hang_up(void *opaque)
{
}

/* ---- the device ---- */

void balloon_ex_apps_realize(VirtIOBalloonEx *s)
{
    static const BalloonExCarrier carrier = {
        .name = "queues", .send = tell, .resume = go_on, .hang_up = hang_up,
    };
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    if (!virtio_has_feature(s->host_features,
                            VIRTIO_BALLOON_EX_F_APPLICATION)) {
        return;
    }
    s->apps.said_vq = virtio_add_queue(vdev, QUEUE_SIZE, handle_said);
    s->apps.told_vq = virtio_add_queue(vdev, QUEUE_SIZE, handle_empty);
    s->apps.in = g_malloc(VBX_MESSAGE_MAX);
    s->apps.session = balloon_ex_session_new(DEVICE(s), &carrier, s);
}

void balloon_ex_apps_unrealize(VirtIOBalloonEx *s)
{
    if (s->apps.session) {
        balloon_ex_session_free(g_steal_pointer(&s->apps.session));
        g_clear_pointer(&s->apps.in, g_free);
        virtio_delete_queue(s->apps.said_vq);
        virtio_delete_queue(s->apps.told_vq);
    }
}

void balloon_ex_apps_reset(VirtIOBalloonEx *s)
{
    if (s->apps.session) {
        balloon_ex_session_close(s->apps.session);
    }
}

void balloon_ex_apps_start(VirtIOBalloonEx *s)
{
    if (s->apps.session) {
        go_on(s);
        handle_empty(VIRTIO_DEVICE(s), s->apps.told_vq);
    }
}

static void get_messages(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    balloon_ex_session_show(VIRTIO_BALLOON_EX(obj)->apps.session, v, name,
                            errp);
}

void balloon_ex_apps_class_init(ObjectClass *klass)
{
    object_class_property_add(klass, "messages", "message counters",
                              get_messages, NULL, NULL, NULL);
}

/* An end that is open means that the driver has negotiated the queues. */
static bool apps_needed(void *opaque)
{
    VirtIOBalloonEx *s = opaque;

    return s->apps.session &&
        virtio_vdev_has_feature(VIRTIO_DEVICE(s),
                                VIRTIO_BALLOON_EX_F_APPLICATION);
}

const VMStateDescription balloon_ex_vmstate_apps = {
    .name = "balloon-ex-device/applications",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = apps_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_POINTER(apps.session, VirtIOBalloonEx,
                               balloon_ex_vmstate_session, BalloonExSession),
        VMSTATE_END_OF_LIST()
    },
};
