/*
 * Programs of this guest: who is there, and what they say
 *
 * Programs connect to a Unix socket of type SOCK_SEQPACKET, so that a message
 * is a packet and the sender is known.  The file's mode says who may.
 *
 * A program sends the same messages as the agent sends to the host.  What it
 * writes into the field app is not looked at: the agent puts in the number that
 * it gave, or 0 where the program has registered nothing.  One program is one
 * application; it may well only ask and listen.
 *
 * What a program says goes on to the host once it is well formed, and the host
 * believes none of it.  Programs are read a few messages at a time in turn, and
 * not at all while the host is slow; one that does not read itself is cut off.
 * A program's end, however it comes, is seen by the end of its socket.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "agent.h"

#include <errno.h>
#include <glib-unix.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "local-int.h"
#include "outbox.h"
#include "requests.h"

#define CLIENTS_MAX  128u
#define MESSAGES_MAX 16
#define OUTBOX_BYTES (256u << 10)

/* All programs have answered by then that they have given everything back. */
#define SLEEP_ANSWER_MS 5000u

static void watch_input(LocalClient *client);

static void remove_source(guint *source)
{
    if (*source) {
        g_source_remove(*source);
        *source = 0;
    }
}

static void free_client(LocalClient *client)
{
    remove_source(&client->in_source);
    remove_source(&client->out_source);
    close(client->fd);
    bx_outbox_clear(&client->outbox);
    g_free(client);
}

static void forget_requests(LocalClient *client)
{
    Agent *agent = client->agent;
    BxMessage m;
    Request *r;

    while ((r = requests_any(agent->requests, client))) {
        if (r->app == 0) {
            r->client = NULL;           /* the guest's; it goes on */
            continue;
        }
        bx_wire_init(&m, VBX_CANCEL, r->app, r->host_cookie);
        host_send(agent, &m);
        requests_remove(r);
    }
}

void local_unregister(LocalClient *client)
{
    BxMessage m;

    if (!client->app) {
        return;
    }
    forget_requests(client);
    bx_wire_init(&m, VBX_UNREGISTER, client->app, 0);
    host_send(client->agent, &m);
    g_info("application %u (%s) has gone", client->app, client->reg.name);
    client->app = 0;
    client->reserved_bytes = 0;
}

static void close_client(LocalClient *client)
{
    Locals *locals = client->agent->locals;

    local_unregister(client);
    forget_requests(client);
    locals->clients = g_list_remove(locals->clients, client);
    free_client(client);
    local_sleep_check(locals);
}

static gboolean on_dead(gpointer opaque)
{
    Locals *locals = opaque;

    locals->dead_source = 0;
    for (GList *l = locals->clients; l; ) {
        LocalClient *client = l->data;

        l = l->next;
        if (client->dead) {
            close_client(client);
        }
    }
    return G_SOURCE_REMOVE;
}

/* Later, from the main loop: the caller may be walking the list. */
void local_cut_off(LocalClient *client)
{
    Locals *locals = client->agent->locals;

    client->dead = true;
    remove_source(&client->in_source);
    remove_source(&client->out_source);
    if (!locals->dead_source) {
        locals->dead_source = g_idle_add_full(G_PRIORITY_HIGH, on_dead, locals,
                                              NULL);
    }
}

static gboolean on_output(gint fd, GIOCondition condition, gpointer opaque)
{
    LocalClient *client = opaque;

    if (bx_outbox_flush(&client->outbox, fd, true) < 0) {
        client->out_source = 0;
        local_cut_off(client);
        return G_SOURCE_REMOVE;
    }
    if (bx_outbox_waiting(&client->outbox)) {
        return G_SOURCE_CONTINUE;
    }
    client->out_source = 0;
    return G_SOURCE_REMOVE;
}

void local_send(LocalClient *client, BxMessage *message)
{
    if (client->dead) {
        return;
    }
    if (bx_outbox_push(&client->outbox, message) < 0 ||
        bx_outbox_flush(&client->outbox, client->fd, true) < 0) {
        g_info("process %d does not read, and is cut off", client->pid);
        local_cut_off(client);
    } else if (bx_outbox_waiting(&client->outbox) && !client->out_source) {
        client->out_source = g_unix_fd_add(client->fd, G_IO_OUT, on_output,
                                           client);
    }
}

void local_refuse(LocalClient *client, const BxMessage *m, int rc)
{
    BxMessage reply;

    client->agent->refused_messages++;
    if (bx_wire_error(&reply, &m->header, rc)) {
        local_send(client, &reply);
    }
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer opaque)
{
    LocalClient *client = opaque;
    uint8_t bytes[VBX_MESSAGE_MAX + 1];
    BxMessage m;

    for (int i = 0; i < MESSAGES_MAX && !client->dead; i++) {
        ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        int rc;

        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (got <= 0) {
            client->in_source = 0;
            close_client(client);
            return G_SOURCE_REMOVE;
        }
        rc = bx_wire_unpack(bytes, got, BX_FROM_APP, &m);
        if (rc == -EBADMSG) {
            g_info("process %d does not speak our language", client->pid);
            client->agent->refused_messages++;
            local_cut_off(client);
        } else if (rc < 0) {
            local_refuse(client, &m, rc);
        } else {
            local_message(client, &m);
        }
    }
    if (client->dead) {
        return G_SOURCE_REMOVE;
    }
    if (port_is_slow(client->agent->port)) {
        client->in_source = 0;          /* locals_resume() goes on */
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void watch_input(LocalClient *client)
{
    client->in_source = g_unix_fd_add(client->fd,
                                      G_IO_IN | G_IO_HUP | G_IO_ERR, on_input,
                                      client);
}

void locals_resume(Locals *locals)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;

        if (!client->in_source && !client->dead) {
            watch_input(client);
        }
    }
}

static gboolean on_connect(gint fd, GIOCondition condition, gpointer opaque)
{
    Locals *locals = opaque;
    struct ucred peer = { .pid = 0 };
    socklen_t size = sizeof(peer);
    LocalClient *client;
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (accepted < 0) {
        return G_SOURCE_CONTINUE;
    }
    if (g_list_length(locals->clients) >= CLIENTS_MAX ||
        getsockopt(accepted, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
        close(accepted);
        return G_SOURCE_CONTINUE;
    }
    client = g_new0(LocalClient, 1);
    client->agent = locals->agent;
    client->fd = accepted;
    client->pid = peer.pid;
    client->uid = peer.uid;
    client->outbox.max_bytes = OUTBOX_BYTES;
    locals->clients = g_list_append(locals->clients, client);
    watch_input(client);
    return G_SOURCE_CONTINUE;
}

bool locals_send_to(Locals *locals, uint32_t app, BxMessage *message)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;

        if (client->app == app && !client->dead) {
            local_send(client, message);
            return true;
        }
    }
    return false;
}

void locals_answer(Locals *locals, const void *asked, BxMessage *message)
{
    /* A number of the host's or a pointer of ours: only one in the list. */
    GList *l = asked ? g_list_find(locals->clients, asked) : NULL;

    if (l) {
        message->header.app = ((LocalClient *)l->data)->app;
        local_send(l->data, message);
    }
}

void locals_send_all(Locals *locals, const BxMessage *message)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;
        BxMessage copy = *message;

        if (client->hello) {
            copy.header.app = client->app;
            local_send(client, &copy);
        }
    }
}

void locals_refused(Locals *locals, uint32_t app)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;

        if (client->app == app) {
            client->refused = true;
        }
    }
}

uint64_t locals_reserved_bytes(const Locals *locals)
{
    uint64_t bytes = 0;

    for (GList *l = locals->clients; l; l = l->next) {
        bytes += ((LocalClient *)l->data)->reserved_bytes;
    }
    return bytes;
}

/* A socket that nobody listens at is left over, and goes. */
static int bind_anew(int fd, const struct sockaddr_un *address)
{
    const struct sockaddr *any = (const struct sockaddr *)address;
    struct stat st;
    int probe, rc;

    if (lstat(address->sun_path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) {
            return -EEXIST;
        }
        probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        rc = probe < 0 ? -errno : connect(probe, any, sizeof(*address));
        if (probe >= 0) {
            close(probe);
        }
        if (rc == 0) {
            return -EADDRINUSE;
        }
        unlink(address->sun_path);
    }
    return bind(fd, any, sizeof(*address)) < 0 ? -errno : 0;
}

static int set_owner(const AgentOptions *options, const char *path)
{
    struct group *group;

    if (options->socket_group) {
        group = getgrnam(options->socket_group);
        if (!group) {
            return -ENOENT;
        }
        if (chown(path, -1, group->gr_gid) < 0) {
            return -errno;
        }
    }
    return chmod(path, options->socket_mode) < 0 ? -errno : 0;
}

Locals *locals_new(Agent *agent, char **ret_error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *path = g_build_filename(agent->options.run_dir, "socket",
                                             NULL);
    Locals *locals;
    int fd, rc;

    if (strlen(path) >= sizeof(address.sun_path)) {
        *ret_error = g_strdup_printf("%s: too long for a socket's name", path);
        return NULL;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    rc = fd < 0 ? -errno : bind_anew(fd, &address);
    if (rc == 0) {
        rc = set_owner(&agent->options, path);
    }
    if (rc == 0 && listen(fd, 16) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        *ret_error = rc == -EADDRINUSE
            ? g_strdup_printf("%s: another balloon-exd listens there", path)
            : g_strdup_printf("%s: %s", path, g_strerror(-rc));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    locals = g_new0(Locals, 1);
    locals->agent = agent;
    locals->path = g_steal_pointer(&path);
    locals->fd = fd;
    locals->source = g_unix_fd_add(fd, G_IO_IN, on_connect, locals);
    return locals;
}

void locals_free(Locals *locals)
{
    if (!locals) {
        return;
    }
    while (locals->clients) {
        free_client(locals->clients->data);
        locals->clients = g_list_delete_link(locals->clients, locals->clients);
    }
    remove_source(&locals->source);
    remove_source(&locals->dead_source);
    remove_source(&locals->sleep_source);
    close(locals->fd);
    unlink(locals->path);
    g_free(locals->path);
    g_free(locals);
}

/*
 * Hibernation: those who asked are answered when every program has
 */

static void answer_sleepers(Locals *locals)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;
        BxMessage m;

        client->is_asked = false;
        if (client->asks_sleep) {
            client->asks_sleep = false;
            bx_wire_init(&m, BX_LOCAL_SLEEP, client->app,
                         client->sleep_cookie);
            m.local_sleep.sleep = client->agent->sleeps;
            local_send(client, &m);
        }
    }
    remove_source(&locals->sleep_source);
}

void local_sleep_check(Locals *locals)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;

        if (client->is_asked && !client->dead) {
            return;
        }
    }
    answer_sleepers(locals);
}

static gboolean on_sleep_timeout(gpointer opaque)
{
    Locals *locals = opaque;

    locals->sleep_source = 0;
    g_warning("not all programs have given their memory back");
    answer_sleepers(locals);
    return G_SOURCE_REMOVE;
}

void locals_sleep(Locals *locals, bool sleep)
{
    remove_source(&locals->sleep_source);
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;
        BxMessage m;

        if (client->app) {
            bx_wire_init(&m, BX_LOCAL_SLEEP, client->app, 0);
            m.local_sleep.sleep = sleep;
            client->is_asked = true;
            local_send(client, &m);
        }
    }
    locals->sleep_source = g_timeout_add(SLEEP_ANSWER_MS, on_sleep_timeout,
                                         locals);
    local_sleep_check(locals);
}
