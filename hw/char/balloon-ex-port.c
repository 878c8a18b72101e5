/*
 * The port of balloon applications on a virtio-serial bus
 *
 * Owns the framing: messages follow one another in a stream without padding,
 * and leave as whole ones.  What they say is balloon-ex-session.c's.  There is
 * no character device behind it; the host's end is this process.
 *
 * A stream in which no message begins where one should cannot be read on.  The
 * host closes its end then, and opens it again when the guest has closed its
 * own: a program that is not an agent gets no further than that.
 *
 * Bytes are copied out of the guest once, into a buffer of one message.  That
 * buffer, and the rest of a message that the guest had no room for, are part of
 * the migrated state: the stream goes on where it was.
 *
 * The bus has no notion of a stopped machine: nothing is taken from the guest
 * then, and nothing written to it (balloon-ex-session.c).
 *
 * Threads: the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "hw/virtio/balloon-ex-session.h"
#include "hw/virtio/virtio-serial.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qom/object.h"
#include "standard-headers/linux/virtio_balloon_ex.h"

#define TYPE_BALLOON_EX_PORT "balloon-ex-port"
OBJECT_DECLARE_SIMPLE_TYPE(BalloonExPort, BALLOON_EX_PORT)

struct BalloonExPort {
    VirtIOSerialPort parent_obj;

    BalloonExSession *session;
    QEMUBH *hang_up_bh;
    bool deaf;                  /* the stream is over: until it is closed */
    uint32_t in_bytes;
    uint8_t in[VBX_MESSAGE_MAX];
    uint32_t tail_bytes;        /* of a message that left in part */
    uint8_t tail[VBX_MESSAGE_MAX];
};

/* ---- to the guest ---- */

/* True once nothing of an earlier message is left. */
static bool flush_tail(BalloonExPort *p)
{
    size_t done;

    if (!p->tail_bytes) {
        return true;
    }
    done = virtio_serial_write(VIRTIO_SERIAL_PORT(p), p->tail, p->tail_bytes);
    p->tail_bytes -= done;
    memmove(p->tail, p->tail + done, p->tail_bytes);
    return !p->tail_bytes;
}

static bool tell(void *opaque, const uint8_t *message, size_t bytes)
{
    BalloonExPort *p = opaque;
    VirtIOSerialPort *port = VIRTIO_SERIAL_PORT(p);
    size_t done;

    if (p->deaf || !port->host_connected || !port->guest_connected ||
        !flush_tail(p) || virtio_serial_guest_ready(port) < bytes) {
        return false;
    }
    /* A driver may have promised more room than it has. */
    done = virtio_serial_write(port, message, bytes);
    p->tail_bytes = bytes - done;
    memcpy(p->tail, message + done, p->tail_bytes);
    return true;
}

static void guest_writable(VirtIOSerialPort *port)
{
    balloon_ex_session_writable(BALLOON_EX_PORT(port)->session);
}

/* ---- to the host ---- */

/* What completes the header, or the message; 0: nothing is missing. */
static size_t missing(const BalloonExPort *p)
{
    int length = balloon_ex_session_length(p->in, p->in_bytes);

    if (!length) {
        return sizeof(struct vbx_header) - p->in_bytes;
    }
    /* One that cannot be right is for the session to count. */
    return length > (int)p->in_bytes ? length - p->in_bytes : 0;
}

static void hang_up(void *opaque)
{
    BalloonExPort *p = opaque;

    p->deaf = true;
    qemu_bh_schedule(p->hang_up_bh);
}

/* Not inside have_data(): the bus holds a buffer of the guest there. */
static void do_hang_up(void *opaque)
{
    BalloonExPort *p = opaque;

    balloon_ex_session_close(p->session);
    p->in_bytes = 0;
    p->tail_bytes = 0;
    virtio_serial_close(VIRTIO_SERIAL_PORT(p));
}

static ssize_t have_data(VirtIOSerialPort *port, const uint8_t *buf,
                         ssize_t len)
{
    BalloonExPort *p = BALLOON_EX_PORT(port);
    ssize_t done = 0;

    while (done < len && !p->deaf) {
        size_t part;

        if (!balloon_ex_session_ready(p->session)) {
            virtio_serial_throttle_port(port, true);
            return done;
        }
        part = MIN(len - done, missing(p));
        memcpy(p->in + p->in_bytes, buf + done, part);
        p->in_bytes += part;
        done += part;
        if (!missing(p)) {
            bool good = balloon_ex_session_receive(p->session, p->in,
                                                   p->in_bytes);

            p->in_bytes = 0;
            if (!good) {
                hang_up(p);
            }
        }
    }
    return len;
}

static void go_on(void *opaque)
{
    virtio_serial_throttle_port(opaque, false);
}

/*
 * What the guest wrote before it closed its end belongs to no message any
 * more.  At most a queue full.
 */
static void forget_said(VirtIOSerialPort *port)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(port->vser);
    VirtQueueElement *elem = g_steal_pointer(&port->elem);

    if (!vdev->vm_running || !virtio_queue_ready(port->ovq)) {
        port->elem = elem;
        return;
    }
    while (elem || (elem = virtqueue_pop(port->ovq, sizeof(*elem)))) {
        virtqueue_push(port->ovq, elem, 0);
        g_clear_pointer(&elem, g_free);
    }
    virtio_notify(vdev, port->ovq);
}

static void set_guest_connected(VirtIOSerialPort *port, int connected)
{
    BalloonExPort *p = BALLOON_EX_PORT(port);

    if (connected) {
        balloon_ex_session_writable(p->session);
        return;
    }
    qemu_bh_cancel(p->hang_up_bh);
    balloon_ex_session_close(p->session);
    p->in_bytes = 0;
    p->tail_bytes = 0;
    p->deaf = false;
    forget_said(port);
    port->throttled = false;
    virtio_serial_open(port);
}

/* ---- the device ---- */

static void realize(DeviceState *dev, Error **errp)
{
    static const BalloonExCarrier carrier = {
        .name = "port", .send = tell, .resume = go_on, .hang_up = hang_up,
    };
    VirtIOSerialPort *port = VIRTIO_SERIAL_PORT(dev);
    BalloonExPort *p = BALLOON_EX_PORT(dev);

    if (port->id == 0) {
        error_setg(errp, "port number 0 of a virtio-serial device is kept for "
                   "a console: give balloon-ex-port another nr, or none");
        return;
    }
    p->hang_up_bh = qemu_bh_new_guarded(do_hang_up, p,
                                        &dev->mem_reentrancy_guard);
    p->session = balloon_ex_session_new(dev, &carrier, p);
    virtio_serial_open(port);
}

static void unrealize(DeviceState *dev)
{
    BalloonExPort *p = BALLOON_EX_PORT(dev);

    qemu_bh_delete(p->hang_up_bh);
    balloon_ex_session_free(g_steal_pointer(&p->session));
}

static int post_load(void *opaque, int version_id)
{
    BalloonExPort *p = opaque;

    if (p->in_bytes > sizeof(p->in) || p->tail_bytes > sizeof(p->tail)) {
        return -EINVAL;
    }
    if (p->deaf) {
        qemu_bh_schedule(p->hang_up_bh);
    }
    return 0;
}

static const VMStateDescription vmstate_port = {
    .name = "balloon-ex-port",
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_POINTER(session, BalloonExPort,
                               balloon_ex_vmstate_session, BalloonExSession),
        VMSTATE_BOOL(deaf, BalloonExPort),
        VMSTATE_UINT32(in_bytes, BalloonExPort),
        VMSTATE_UINT8_ARRAY(in, BalloonExPort, VBX_MESSAGE_MAX),
        VMSTATE_UINT32(tail_bytes, BalloonExPort),
        VMSTATE_UINT8_ARRAY(tail, BalloonExPort, VBX_MESSAGE_MAX),
        VMSTATE_END_OF_LIST()
    },
};

static void get_messages(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    balloon_ex_session_show(BALLOON_EX_PORT(obj)->session, v, name, errp);
}

static void instance_init(Object *obj)
{
    /* The guest finds it by this; the property can still change it. */
    VIRTIO_SERIAL_PORT(obj)->name = g_strdup(VIRTIO_BALLOON_EX_PORT_NAME);
}

static void class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtIOSerialPortClass *vsc = VIRTIO_SERIAL_PORT_CLASS(klass);

    dc->desc = "port of balloon applications";
    dc->vmsd = &vmstate_port;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    vsc->realize = realize;
    vsc->unrealize = unrealize;
    vsc->have_data = have_data;
    vsc->guest_writable = guest_writable;
    vsc->set_guest_connected = set_guest_connected;
    object_class_property_add(klass, "messages", "message counters",
                              get_messages, NULL, NULL, NULL);
}

static const TypeInfo port_info = {
    .name = TYPE_BALLOON_EX_PORT,
    .parent = TYPE_VIRTIO_SERIAL_PORT,
    .instance_size = sizeof(BalloonExPort),
    .instance_init = instance_init,
    .class_init = class_init,
};

static void register_types(void)
{
    type_register_static(&port_info);
}

type_init(register_types)
