/*
 * Programs that know nothing of us: systemd's memory pressure protocol
 *
 * A service that is started with MEMORY_PRESSURE_WATCH=RUN_DIR/pressure (see
 * systemd's MEMORY_PRESSURE) connects to that stream socket and drops what it
 * can whenever there is something to read.  It reads and forgets the content.
 *
 * All that are connected get a byte when the guest's condition becomes hard or
 * low, and once a second while it is; a program that does not read its bytes
 * has been told already.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "watch.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define WATCHERS_MAX 256u

typedef struct Watcher {
    Watchers *all;
    int fd;
    guint source;
} Watcher;

struct Watchers {
    char *path;
    int fd;
    guint source, again_source;
    GList *list;                /* of Watcher */
};

static void free_watcher(gpointer data)
{
    Watcher *watcher = data;

    if (watcher->source) {
        g_source_remove(watcher->source);
    }
    close(watcher->fd);
    g_free(watcher);
}

/* What a program writes is not looked at; its end is. */
static gboolean on_input(gint fd, GIOCondition condition, gpointer opaque)
{
    Watcher *watcher = opaque;
    Watchers *all = watcher->all;
    char bytes[256];
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) {
        return G_SOURCE_CONTINUE;
    }
    watcher->source = 0;
    all->list = g_list_remove(all->list, watcher);
    free_watcher(watcher);
    return G_SOURCE_REMOVE;
}

static gboolean on_connect(gint fd, GIOCondition condition, gpointer opaque)
{
    Watchers *all = opaque;
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    Watcher *watcher;

    if (accepted < 0) {
        return G_SOURCE_CONTINUE;
    }
    if (g_list_length(all->list) >= WATCHERS_MAX) {
        close(accepted);
        return G_SOURCE_CONTINUE;
    }
    watcher = g_new0(Watcher, 1);
    watcher->all = all;
    watcher->fd = accepted;
    watcher->source = g_unix_fd_add(accepted, G_IO_IN | G_IO_HUP | G_IO_ERR,
                                    on_input, watcher);
    all->list = g_list_prepend(all->list, watcher);
    return G_SOURCE_CONTINUE;
}

static gboolean tell(gpointer opaque)
{
    Watchers *all = opaque;

    for (GList *l = all->list; l; l = l->next) {
        /* Full: it has not read the last ones yet.  Gone: on_input() sees. */
        if (send(((Watcher *)l->data)->fd, "!", 1,
                 MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            continue;
        }
    }
    return G_SOURCE_CONTINUE;
}

void watchers_tell(Watchers *all, unsigned level)
{
    bool needy = level >= VBX_CONDITION_HARD;

    if (!all || needy == (all->again_source != 0)) {
        return;
    }
    if (needy) {
        tell(all);
        all->again_source = g_timeout_add_seconds(1, tell, all);
    } else {
        g_source_remove(all->again_source);
        all->again_source = 0;
    }
}

Watchers *watchers_new(const char *run_dir, char **ret_error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *path = g_build_filename(run_dir, "pressure", NULL);
    Watchers *all;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        *ret_error = g_strdup_printf("%s: too long for a socket's name", path);
        return NULL;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* locals_new() has made sure that no other agent is there. */
    unlink(path);
    /* Whoever connects learns what the condition page tells everybody. */
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(path, 0666) < 0 || listen(fd, 16) < 0) {
        *ret_error = g_strdup_printf("%s: %s", path, g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    all = g_new0(Watchers, 1);
    all->path = g_steal_pointer(&path);
    all->fd = fd;
    all->source = g_unix_fd_add(fd, G_IO_IN, on_connect, all);
    return all;
}

void watchers_free(Watchers *all)
{
    if (!all) {
        return;
    }
    watchers_tell(all, VBX_CONDITION_HIGH);
    g_list_free_full(all->list, free_watcher);
    g_source_remove(all->source);
    close(all->fd);
    unlink(all->path);
    g_free(all->path);
    g_free(all);
}
