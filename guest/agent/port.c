/*
 * The port: messages from and to the host, whatever becomes of it
 *
 * A virtio-serial port can be opened by one program at a time (EBUSY else), is
 * readable with nothing to read (0 bytes, HUP) while the host's end is closed,
 * and may be unplugged.  All of these are one case here: it is closed, and
 * tried again after 250 ms, then twice as long each time up to 4 s.
 *
 * For tests, and for hosts that have something else in between, the path may
 * be a Unix stream socket.
 *
 * Messages are cut out of a stream.  Where no message begins, the rest of the
 * stream is noise, and the port is opened anew.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "port.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "outbox.h"

#define RETRY_MIN_MS 250u
#define RETRY_MAX_MS 4000u

/* Read at a time; the longest message and more. */
#define READ_BYTES   16384u

#define SLOW_BYTES   (UINT64_C(128) << 10)
#define OUTBOX_BYTES (4u << 20)

struct Port {
    const PortOps *ops;
    void *opaque;
    char *path, *root;
    int fd;                     /* -1: closed */
    guint in_source, out_source, retry_source;
    unsigned retry_ms;
    bool slow;
    char *last_failure;         /* said once, not each time */
    BxOutbox outbox;
    size_t filled;
    uint8_t buffer[READ_BYTES];
};

char *port_find(const char *root)
{
    g_autofree char *link = g_strconcat(root, "/dev/virtio-ports/"
                                        VIRTIO_BALLOON_EX_PORT_NAME, NULL);
    g_autofree char *folder = g_strconcat(root, "/sys/class/virtio-ports",
                                          NULL);
    g_autoptr(GDir) ports = NULL;
    const char *name;

    if (access(link, F_OK) == 0) {
        return g_steal_pointer(&link);
    }
    ports = g_dir_open(folder, 0, NULL);
    while (ports && (name = g_dir_read_name(ports))) {
        g_autofree char *file = g_build_filename(folder, name, "name", NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(file, &text, NULL, NULL) &&
            g_str_equal(g_strstrip(text), VIRTIO_BALLOON_EX_PORT_NAME)) {
            return g_strconcat(root, "/dev/", name, NULL);
        }
    }
    return NULL;
}

static int connect_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

static int open_path(const char *path)
{
    struct pollfd hung_up = { .events = POLLIN };
    struct stat st;
    int fd;

    if (stat(path, &st) < 0) {
        return -errno;
    }
    if (S_ISSOCK(st.st_mode)) {
        return connect_socket(path);
    }
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return -errno;
    }
    hung_up.fd = fd;
    if (poll(&hung_up, 1, 0) > 0 && hung_up.revents & POLLHUP) {
        close(fd);
        return -ENOTCONN;
    }
    return fd;
}

static void retry_later(Port *port);

static void remove_source(guint *source)
{
    if (*source) {
        g_source_remove(*source);
        *source = 0;
    }
}

static void close_port(Port *port)
{
    remove_source(&port->in_source);
    remove_source(&port->out_source);
    if (port->fd >= 0) {
        close(port->fd);
        port->fd = -1;
    }
    bx_outbox_clear(&port->outbox);
    port->filled = 0;
    port->slow = false;
}

void port_reopen(Port *port)
{
    if (port->fd >= 0) {
        close_port(port);
        port->ops->down(port->opaque);
        retry_later(port);
    }
}

/* Takes all whole messages out of the buffer; false where the port closed. */
static bool take_messages(Port *port)
{
    size_t at = 0;

    for (;;) {
        BxMessage m;
        int length = bx_wire_next(port->buffer + at, port->filled - at), rc;

        if (length == 0) {
            break;
        }
        if (length < 0) {
            g_warning("what the host sends is not a message; the port is "
                      "opened anew");
            port_reopen(port);
            return false;
        }
        rc = bx_wire_unpack(port->buffer + at, length, BX_FROM_HOST, &m);
        at += length;
        port->ops->message(port->opaque, &m, rc);
        if (port->fd < 0) {
            return false;
        }
    }
    memmove(port->buffer, port->buffer + at, port->filled - at);
    port->filled -= at;
    return true;
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer opaque)
{
    Port *port = opaque;
    ssize_t got = read(fd, port->buffer + port->filled,
                       sizeof(port->buffer) - port->filled);

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return G_SOURCE_CONTINUE;
    }
    if (got <= 0) {
        g_info("the host has closed the port");
        port->in_source = 0;
        port_reopen(port);
        return G_SOURCE_REMOVE;
    }
    port->filled += got;
    /* Closing has removed this source already. */
    return take_messages(port) ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean on_output(gint fd, GIOCondition condition, gpointer opaque);

static void flush(Port *port)
{
    if (bx_outbox_flush(&port->outbox, port->fd, false) < 0) {
        /* Reading tells the same, from where closing is safe. */
        bx_outbox_clear(&port->outbox);
        return;
    }
    if (bx_outbox_waiting(&port->outbox) && !port->out_source) {
        port->out_source = g_unix_fd_add(port->fd, G_IO_OUT, on_output, port);
    }
}

static gboolean on_output(gint fd, GIOCondition condition, gpointer opaque)
{
    Port *port = opaque;
    gboolean more;

    flush(port);
    more = bx_outbox_waiting(&port->outbox) > 0;
    if (!more) {
        port->out_source = 0;
    }
    if (port->slow && bx_outbox_waiting(&port->outbox) < SLOW_BYTES / 2) {
        port->slow = false;
        port->ops->drained(port->opaque);
    }
    return more;
}

static gboolean too_much(gpointer opaque)
{
    g_warning("the host does not read; the port is opened anew");
    port_reopen(opaque);
    return G_SOURCE_REMOVE;
}

void port_send(Port *port, BxMessage *message)
{
    if (port->fd < 0) {
        return;
    }
    if (bx_outbox_push(&port->outbox, message) < 0) {
        /* Not from here: whoever sends does not expect the port to close. */
        bx_outbox_clear(&port->outbox);
        remove_source(&port->retry_source);
        port->retry_source = g_idle_add_full(G_PRIORITY_HIGH, too_much, port,
                                             NULL);
        return;
    }
    flush(port);
    port->slow |= bx_outbox_waiting(&port->outbox) >= SLOW_BYTES;
}

bool port_is_slow(const Port *port)
{
    return port->slow;
}

static void say_failure(Port *port, const char *path, int rc)
{
    g_autofree char *text = path
        ? g_strdup_printf("%s: %s", path, rc == -ENOTCONN
                          ? "the host's end is closed" : g_strerror(-rc))
        : g_strdup("no port " VIRTIO_BALLOON_EX_PORT_NAME
                   ": start the guest with -device virtio-serial -device "
                   "balloon-ex-port");

    if (g_strcmp0(text, port->last_failure)) {
        g_message("%s; trying again", text);
        g_free(port->last_failure);
        port->last_failure = g_steal_pointer(&text);
    }
}

static gboolean try_open(gpointer opaque)
{
    Port *port = opaque;
    g_autofree char *path = port->path ? g_strdup(port->path)
                                       : port_find(port->root);
    int fd = path ? open_path(path) : -ENOENT;

    port->retry_source = 0;
    if (fd < 0) {
        say_failure(port, path, fd);
        retry_later(port);
        return G_SOURCE_REMOVE;
    }
    g_clear_pointer(&port->last_failure, g_free);
    port->fd = fd;
    port->in_source = g_unix_fd_add(fd, G_IO_IN | G_IO_HUP | G_IO_ERR,
                                    on_input, port);
    port->ops->up(port->opaque);
    return G_SOURCE_REMOVE;
}

static void retry_later(Port *port)
{
    remove_source(&port->retry_source);
    port->retry_source = g_timeout_add(port->retry_ms, try_open, port);
    port->retry_ms = MIN(port->retry_ms * 2, RETRY_MAX_MS);
}

Port *port_new(const char *path, const char *root, const PortOps *ops,
               void *opaque)
{
    Port *port = g_new0(Port, 1);

    port->ops = ops;
    port->opaque = opaque;
    port->path = g_strdup(path);
    port->root = g_strdup(root);
    port->fd = -1;
    port->retry_ms = RETRY_MIN_MS;
    port->outbox.max_bytes = OUTBOX_BYTES;
    port->retry_source = g_idle_add(try_open, port);
    return port;
}

void port_settled(Port *port)
{
    port->retry_ms = RETRY_MIN_MS;
}

void port_free(Port *port)
{
    close_port(port);
    remove_source(&port->retry_source);
    g_free(port->last_failure);
    g_free(port->path);
    g_free(port->root);
    g_free(port);
}
