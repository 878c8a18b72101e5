/*
 * Messages of balloon applications over a virtio-serial port
 *
 * The tests play a guest's virtio-serial driver and the agent behind it.  The
 * port is number 1; a second one with another name stands for a second carrier.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest-single.h"
#include "libqos/balloon-ex-messages.h"
#include "libqos/qgraph.h"
#include "libqos/virtio-serial.h"
#include "qemu/bswap.h"
#include "qemu/module.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_console.h"
#include "standard-headers/linux/virtio_ring.h"

#define BUFFER_BYTES 4096
#define NAME_BYTES   64
#define CONTROL_BYTES   128u
#define CONTROL_BUFFERS 32u
#define TIMEOUT_US   (30 * G_USEC_PER_SEC)

/* Queues: 0 and 1 are port 0's, 2 and 3 for control, then two a port. */
enum { CONTROL_IN = 2, CONTROL_OUT = 3 };

/* One queue, one buffer in use at a time. */
typedef struct Pipe {
    QVirtQueue *vq;
    uint64_t buffer;
    bool posted;
} Pipe;

typedef struct Driver {
    QVirtioDevice *vdev;
    QTestState *qts;
    QGuestAllocator *alloc;
    Pipe control_in, control_out, in[3], out[3];        /* by port number */
} Driver;

/* ---- a driver ---- */

static void pipe_setup(Driver *d, Pipe *p, int index)
{
    p->vq = qvirtqueue_setup(d->vdev, d->alloc, index);
    p->buffer = guest_alloc(d->alloc, BUFFER_BYTES);
    p->posted = false;
}

static void pipe_cleanup(Driver *d, Pipe *p)
{
    qvirtqueue_cleanup(d->vdev->bus, p->vq, d->alloc);
    guest_free(d->alloc, p->buffer);
}

static void pipe_reuse(Pipe *p)
{
    p->posted = false;
    p->vq->free_head = 0;
    p->vq->num_free = p->vq->size;
}

static void pipe_write(Driver *d, Pipe *p, const void *data, size_t bytes)
{
    uint32_t head;

    qtest_memwrite(d->qts, p->buffer, data, bytes);
    head = qvirtqueue_add(d->qts, p->vq, p->buffer, bytes, false, false);
    qvirtqueue_kick(d->qts, d->vdev, p->vq, head);
    qvirtio_wait_used_elem(d->qts, d->vdev, p->vq, head, NULL, TIMEOUT_US);
    pipe_reuse(p);
}

static uint32_t pipe_read(Driver *d, Pipe *p, void *data, size_t bytes)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    uint32_t got;

    if (!p->posted) {
        qvirtqueue_kick(d->qts, d->vdev, p->vq,
                        qvirtqueue_add(d->qts, p->vq, p->buffer, BUFFER_BYTES,
                                       true, false));
        p->posted = true;
    }
    while (!qvirtqueue_get_buf(d->qts, p->vq, NULL, &got)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
    pipe_reuse(p);
    qtest_memread(d->qts, p->buffer, data, MIN(got, bytes));
    return got;
}

static void control_say(Driver *d, uint32_t port, uint16_t event,
                        uint16_t value)
{
    struct virtio_console_control c = {
        .id = cpu_to_le32(port), .event = cpu_to_le16(event),
        .value = cpu_to_le16(value),
    };

    pipe_write(d, &d->control_out, &c, sizeof(c));
}

/*
 * The device drops what it has no buffer for: as many as a test can need lie
 * there from the start, each for its descriptor.
 */
static void control_post(Driver *d)
{
    Pipe *p = &d->control_in;

    for (unsigned i = 0; i < CONTROL_BUFFERS; i++) {
        g_assert_cmpuint(qvirtqueue_add(d->qts, p->vq,
                                        p->buffer + i * CONTROL_BYTES,
                                        CONTROL_BYTES, true, false), ==, i);
    }
    qvirtqueue_kick(d->qts, d->vdev, p->vq, 0);
    for (unsigned i = 1; i < CONTROL_BUFFERS; i++) {
        qvirtqueue_kick(d->qts, d->vdev, p->vq, i);
    }
}

static void control_read(Driver *d, void *data)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    Pipe *p = &d->control_in;
    uint32_t index, bytes;

    while (!qvirtqueue_get_buf(d->qts, p->vq, &index, &bytes)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
    memset(data, 0, CONTROL_BYTES);
    qtest_memread(d->qts, p->buffer + index * CONTROL_BYTES, data, bytes);
}

/*
 * What the host says of @port next is @event; its value.  A name: into @name.
 * Announcements of ports are passed over.
 */
static uint16_t control_hear(Driver *d, uint32_t port, uint16_t event,
                             char *name)
{
    char data[CONTROL_BYTES];
    struct virtio_console_control c;

    do {
        control_read(d, data);
        memcpy(&c, data, sizeof(c));
    } while (le16_to_cpu(c.event) == VIRTIO_CONSOLE_PORT_ADD);
    g_assert_cmpuint(le32_to_cpu(c.id), ==, port);
    g_assert_cmpuint(le16_to_cpu(c.event), ==, event);
    if (name) {
        g_strlcpy(name, data + sizeof(c), NAME_BYTES);
    }
    return le16_to_cpu(c.value);
}

static void port_ready(Driver *d, uint32_t port, const char *name)
{
    char told[NAME_BYTES];

    control_say(d, port, VIRTIO_CONSOLE_PORT_READY, 1);
    control_hear(d, port, VIRTIO_CONSOLE_PORT_NAME, told);
    g_assert_cmpstr(told, ==, name);
    g_assert_cmpuint(control_hear(d, port, VIRTIO_CONSOLE_PORT_OPEN, NULL),
                     ==, 1);
}

static void start(Driver *d, QVirtioSerial *serial, QGuestAllocator *alloc,
                  unsigned ports)
{
    uint64_t features;

    *d = (Driver) {
        .vdev = serial->vdev, .qts = global_qtest, .alloc = alloc,
    };
    qvirtio_start_device(d->vdev);
    features = qvirtio_get_features(d->vdev) &
               ~(QVIRTIO_F_BAD_FEATURE |
                 (1ull << VIRTIO_RING_F_INDIRECT_DESC) |
                 (1ull << VIRTIO_RING_F_EVENT_IDX));
    g_assert_true(features & (1ull << VIRTIO_CONSOLE_F_MULTIPORT));
    qvirtio_set_features(d->vdev, features);
    pipe_setup(d, &d->control_in, CONTROL_IN);
    pipe_setup(d, &d->control_out, CONTROL_OUT);
    for (unsigned i = 1; i <= ports; i++) {
        pipe_setup(d, &d->in[i], 2 + 2 * i);
        pipe_setup(d, &d->out[i], 3 + 2 * i);
    }
    qvirtio_set_driver_ok(d->vdev);
    control_post(d);
    control_say(d, UINT32_MAX, VIRTIO_CONSOLE_DEVICE_READY, 1);
    port_ready(d, 1, VIRTIO_BALLOON_EX_PORT_NAME);
    if (ports > 1) {
        port_ready(d, 2, "second");
    }
}

static void stop(Driver *d, unsigned ports)
{
    qvirtio_reset(d->vdev);
    pipe_cleanup(d, &d->control_in);
    pipe_cleanup(d, &d->control_out);
    for (unsigned i = 1; i <= ports; i++) {
        pipe_cleanup(d, &d->in[i]);
        pipe_cleanup(d, &d->out[i]);
    }
}

static void port_open(Driver *d, uint32_t port, bool open)
{
    control_say(d, port, VIRTIO_CONSOLE_PORT_OPEN, open);
}

/* ---- an agent ---- */

static void hear(Driver *d, uint32_t port, Message *m)
{
    do {
        uint32_t bytes = pipe_read(d, &d->in[port], m, sizeof(*m));

        g_assert_cmpuint(bytes, ==, message_bytes(m));
    } while (message_is_news(m));
}

static void hear_type(Driver *d, uint32_t port, Message *m, uint16_t type,
                      uint64_t cookie)
{
    hear(d, port, m);
    g_assert_cmpuint(message_type(m), ==, type);
    g_assert_cmphex(vbx_le64(m->header.cookie), ==, cookie);
}

static void say_hello(Driver *d, uint32_t port, uint64_t cookie)
{
    Message m;

    message_hello(&m, cookie);
    pipe_write(d, &d->out[port], &m, message_bytes(&m));
}

static void open_session(Driver *d, uint32_t port)
{
    Message m;

    say_hello(d, port, 1);
    hear_type(d, port, &m, VBX_WELCOME, 1);
}

static bool is_connected(void)
{
    QDict *reply = qtest_qmp(global_qtest,
                             "{ 'execute': 'query-memsched-guests' }");
    QDict *g = qobject_to(QDict, qlist_entry_obj(
        qlist_first(qdict_get_qlist(reply, "return"))));
    bool connected = qdict_get_bool(qdict_get_qdict(g, "applications"),
                                    "connected");

    qobject_unref(reply);
    return connected;
}

/* ---- tests ---- */

static void test_messages_may_come_in_any_pieces(void *obj, void *data,
                                                 QGuestAllocator *alloc)
{
    g_autofree uint8_t *stream = g_malloc(2 * sizeof(Message));
    Driver d;
    Message m;
    size_t bytes;

    start(&d, obj, alloc, 1);
    port_open(&d, 1, true);
    message_hello(&m, 5);
    bytes = message_bytes(&m);
    memcpy(stream, &m, bytes);
    message_register(&m, 3, "pieces");
    memcpy(stream + bytes, &m, message_bytes(&m));
    bytes += message_bytes(&m);
    /* longer than it is known, at the largest */
    message_begin(&m, VBX_PING, 0, 6, VBX_MESSAGE_MAX);
    for (size_t at = 0, part; at < bytes; at += part) {
        part = MIN(bytes - at, at % 13 + 1);
        pipe_write(&d, &d.out[1], stream + at, part);
    }
    pipe_write(&d, &d.out[1], &m, 100);
    pipe_write(&d, &d.out[1], m.bytes + 100, VBX_MESSAGE_MAX - 100);
    hear_type(&d, 1, &m, VBX_WELCOME, 5);
    hear_type(&d, 1, &m, VBX_PONG, 6);
    g_assert_true(is_connected());
    /* several at once */
    message_begin(&m, VBX_PING, 0, 7, sizeof(m.plain));
    memcpy(stream, &m, sizeof(m.plain));
    m.header.cookie = vbx_le64(8);
    memcpy(stream + sizeof(m.plain), &m, sizeof(m.plain));
    pipe_write(&d, &d.out[1], stream, 2 * sizeof(m.plain));
    hear_type(&d, 1, &m, VBX_PONG, 7);
    hear_type(&d, 1, &m, VBX_PONG, 8);
    stop(&d, 1);
    g_assert_false(is_connected());
}

static void test_a_stream_that_is_none_closes_the_port_until_reopened(
    void *obj, void *data, QGuestAllocator *alloc)
{
    Driver d;

    start(&d, obj, alloc, 1);
    port_open(&d, 1, true);
    open_session(&d, 1);
    pipe_write(&d, &d.out[1], "this is no message, but a line of text\n", 39);
    g_assert_cmpuint(control_hear(&d, 1, VIRTIO_CONSOLE_PORT_OPEN, NULL), ==,
                     0);
    g_assert_false(is_connected());
    /* what comes until then is for nobody */
    say_hello(&d, 1, 9);
    port_open(&d, 1, false);
    g_assert_cmpuint(control_hear(&d, 1, VIRTIO_CONSOLE_PORT_OPEN, NULL), ==,
                     1);
    port_open(&d, 1, true);
    open_session(&d, 1);
    g_assert_true(is_connected());
    stop(&d, 1);
}

static void test_closing_in_a_message_forgets_its_beginning(
    void *obj, void *data, QGuestAllocator *alloc)
{
    Driver d;
    Message m;

    start(&d, obj, alloc, 1);
    port_open(&d, 1, true);
    open_session(&d, 1);
    message_hello(&m, 2);
    pipe_write(&d, &d.out[1], &m, 50);
    port_open(&d, 1, false);
    g_assert_false(is_connected());
    port_open(&d, 1, true);
    open_session(&d, 1);
    stop(&d, 1);
}

static void test_the_second_carrier_is_refused_while_the_first_is_open(
    void *obj, void *data, QGuestAllocator *alloc)
{
    Driver d;
    Message m;

    start(&d, obj, alloc, 2);
    port_open(&d, 1, true);
    port_open(&d, 2, true);
    open_session(&d, 1);
    say_hello(&d, 2, 4);
    hear_type(&d, 2, &m, VBX_ERROR, 4);
    g_assert_cmpuint(vbx_le16(m.error.code), ==, VBX_ERROR_STATE);
    /* the first one has noticed nothing */
    message_begin(&m, VBX_PING, 0, 5, sizeof(m.plain));
    pipe_write(&d, &d.out[1], &m, message_bytes(&m));
    hear_type(&d, 1, &m, VBX_PONG, 5);
    port_open(&d, 1, false);
    open_session(&d, 2);
    g_assert_true(is_connected());
    stop(&d, 2);
    g_assert_false(is_connected());
}

static void test_unplugged_port_ends_the_session(void *obj, void *data,
                                                 QGuestAllocator *alloc)
{
    QTestState *qts = global_qtest;
    QDict *reply;
    Driver d;

    start(&d, obj, alloc, 1);
    port_open(&d, 1, true);
    open_session(&d, 1);
    qtest_qmp_device_del(qts, "port");
    g_assert_false(is_connected());
    reply = qtest_qmp(qts, "{ 'execute': 'device_add', 'arguments': {"
                      "  'driver': 'balloon-ex-port', 'nr': 0 } }");
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(reply, "error"),
                                          "desc"), "for a console"));
    qobject_unref(reply);
    qtest_qmp_device_add(qts, "balloon-ex-port", "port", "{ 'nr': 1 }");
    reply = qtest_qmp(qts, "{ 'execute': 'device_add', 'arguments': {"
                      "  'driver': 'balloon-ex-port' } }");
    g_assert_true(qdict_haskey(reply, "error"));
    qobject_unref(reply);
    stop(&d, 1);
}

static void *with_ports(GString *cmd_line, void *arg)
{
    g_string_append_printf(cmd_line, " -object memsched,id=ms,pool=192M"
                           " -device balloon-ex-port,id=port,nr=1 %s ",
                           (const char *)arg);
    return arg;
}

static void register_tests(void)
{
    QOSGraphTestOptions one = {
        .before = with_ports, .arg = (char *)"",
    };
    QOSGraphTestOptions two = {
        .before = with_ports,
        .arg = (char *)"-device balloon-ex-port,nr=2,name=second",
    };

    qos_add_test("balloon-ex/pieces", "virtio-serial",
                 test_messages_may_come_in_any_pieces, &one);
    qos_add_test("balloon-ex/no-stream", "virtio-serial",
                 test_a_stream_that_is_none_closes_the_port_until_reopened,
                 &one);
    qos_add_test("balloon-ex/closed-in-a-message", "virtio-serial",
                 test_closing_in_a_message_forgets_its_beginning, &one);
    qos_add_test("balloon-ex/second-carrier", "virtio-serial",
                 test_the_second_carrier_is_refused_while_the_first_is_open,
                 &two);
    qos_add_test("balloon-ex/unplug", "virtio-serial",
                 test_unplugged_port_ends_the_session, &one);
}

libqos_init(register_tests);
