/*
 * memcached, as a cache: its memory limit follows the condition
 *
 * "cache_memlimit" (memcached 1.4.27 and newer) changes the limit of a running
 * server, in whole MiB.  With slab_reassign, which is the default since 1.5,
 * pages over the limit are emptied in the background and freed; they are of 1
 * MiB, which libc gives back to the kernel.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cache.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MIB        (UINT64_C(1) << 20)
#define LINE_BYTES 1024
#define BUFFER_BYTES 8192

/* So many looks at how far the background work has come. */
#define SHRINK_LOOKS 100

typedef struct Connection {
    int fd;
    size_t length;
    char buffer[BUFFER_BYTES];
} Connection;

static void memcached_close(Cache *cache)
{
    Connection *c = cache->connection;

    if (c) {
        close(c->fd);
        free(c);
        cache->connection = NULL;
    }
}

static int lost(Cache *cache, int error)
{
    memcached_close(cache);
    return cache_error(cache, error, "memcached at %s does not answer (%s)",
                       cache->address, strerror(-error));
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address,
                           sizeof(address)) < 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd < 0 ? -errno : fd;
}

static int connect_tcp(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
    int fd = -1, rc = -EHOSTUNREACH;

    if (getaddrinfo(host, port, &hints, &list)) {
        return rc;
    }
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            rc = -errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd < 0 ? rc : fd;
}

static int memcached_open(Cache *cache)
{
    const char *port = strrchr(cache->address, ':');
    Connection *c;
    char host[256];
    int fd;

    if (cache->address[0] == '/') {
        fd = connect_unix(cache->address);
    } else if (port && port - cache->address < (int)sizeof(host)) {
        memcpy(host, cache->address, port - cache->address);
        host[port - cache->address] = '\0';
        fd = connect_tcp(host, port + 1);
    } else {
        return cache_error(cache, -EINVAL, "%s is no address: give the path of"
                           " a socket, or HOST:PORT", cache->address);
    }
    if (fd < 0) {
        return cache_error(cache, fd, "memcached at %s cannot be reached (%s)",
                           cache->address, strerror(-fd));
    }
    c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        return cache_error(cache, -ENOMEM, "out of memory");
    }
    c->fd = fd;
    cache->connection = c;
    return 0;
}

static int send_line(Cache *cache, const char *line)
{
    Connection *c = cache->connection;
    ssize_t length = strlen(line);

    /* Short: it fits the socket's buffer, or the server does not read. */
    return send(c->fd, line, length, MSG_NOSIGNAL | MSG_DONTWAIT) == length
           ? 0 : lost(cache, -EPIPE);
}

/* One line without its end. */
static int receive_line(Cache *cache, char line[LINE_BYTES])
{
    Connection *c = cache->connection;

    for (;;) {
        char *end = memchr(c->buffer, '\n', c->length);
        struct pollfd p = { .fd = c->fd, .events = POLLIN };
        ssize_t got;

        if (end) {
            size_t length = end - c->buffer, kept = length;

            if (kept > 0 && c->buffer[kept - 1] == '\r') {
                kept--;
            }
            if (kept >= LINE_BYTES) {
                return lost(cache, -EPROTO);
            }
            memcpy(line, c->buffer, kept);
            line[kept] = '\0';
            c->length -= length + 1;
            memmove(c->buffer, end + 1, c->length);
            return 0;
        }
        if (c->length == BUFFER_BYTES) {
            return lost(cache, -EPROTO);
        }
        if (poll(&p, 1, CACHE_TIMEOUT_MS) <= 0) {
            return lost(cache, -ETIMEDOUT);
        }
        got = recv(c->fd, c->buffer + c->length, BUFFER_BYTES - c->length, 0);
        if (got <= 0) {
            return lost(cache, got < 0 ? -errno : -ECONNRESET);
        }
        c->length += got;
    }
}

typedef struct Wanted {
    const char *name;
    uint64_t *value;
} Wanted;

/* The figures of a "stats" command that @wanted names. */
static int ask_stats(Cache *cache, const char *command, const Wanted *wanted)
{
    char line[LINE_BYTES];
    int rc = send_line(cache, command);

    while (rc == 0) {
        char name[64];
        uint64_t value;

        rc = receive_line(cache, line);
        if (rc < 0 || !strcmp(line, "END")) {
            break;
        }
        if (strncmp(line, "STAT ", 5)) {
            return cache_error(cache, -EPROTO, "memcached at %s says: %.100s",
                               cache->address, line);
        }
        if (sscanf(line, "STAT %63s %" SCNu64, name, &value) == 2) {
            for (const Wanted *w = wanted; w->name; w++) {
                if (!strcmp(w->name, name)) {
                    *w->value = value;
                }
            }
        }
    }
    return rc;
}

static int memcached_measure(Cache *cache, CacheFigures *ret_figures)
{
    CacheFigures f = { .used = CACHE_UNKNOWN, .limit = CACHE_UNKNOWN,
                       .hits = CACHE_UNKNOWN, .misses = CACHE_UNKNOWN };
    const Wanted general[] = {
        { "limit_maxbytes", &f.limit }, { "get_hits", &f.hits },
        { "get_misses", &f.misses }, { NULL, NULL },
    };
    const Wanted slabs[] = { { "total_malloced", &f.used }, { NULL, NULL } };
    int rc = ask_stats(cache, "stats\r\n", general);

    if (rc == 0) {
        rc = ask_stats(cache, "stats slabs\r\n", slabs);
    }
    if (rc < 0) {
        return rc;
    }
    if (f.used == CACHE_UNKNOWN || f.limit == CACHE_UNKNOWN) {
        return cache_error(cache, -EPROTO, "what answers at %s is no memcached"
                           " that tells limit_maxbytes and total_malloced",
                           cache->address);
    }
    *ret_figures = f;
    return 0;
}

static int wait_shrunk(Cache *cache, uint64_t bytes)
{
    CacheFigures figures = { .used = UINT64_MAX };
    int idle = 0;

    for (int i = 0; i < SHRINK_LOOKS && idle < 20; i++) {
        struct timespec pause = { .tv_nsec = 20000000 };
        uint64_t before = figures.used;
        int rc = memcached_measure(cache, &figures);

        if (rc < 0 || figures.used <= bytes) {
            return rc;
        }
        idle = figures.used < before ? 0 : idle + 1;
        nanosleep(&pause, NULL);        /* it works on a thread of its own */
    }
    return 0;
}

static int memcached_set_limit(Cache *cache, uint64_t bytes)
{
    uint64_t mib = bytes < 8 * MIB ? 8 : bytes / MIB;  /* takes 8 at least */
    char line[LINE_BYTES];
    int rc;

    snprintf(line, sizeof(line), "cache_memlimit %" PRIu64 "\r\n", mib);
    rc = send_line(cache, line);
    if (rc == 0) {
        rc = receive_line(cache, line);
    }
    if (rc == 0 && strcmp(line, "OK")) {
        return cache_error(cache, -EPROTO, "memcached at %s says: %.100s",
                           cache->address, line);
    }
    return rc == 0 ? wait_shrunk(cache, mib * MIB) : rc;
}

const CacheOps cache_memcached = {
    .name = "memcached",
    .address_help = "path of its socket, or HOST:PORT",
    .address = "127.0.0.1:11211",
    .open = memcached_open,
    .close = memcached_close,
    .measure = memcached_measure,
    .set_limit = memcached_set_limit,
};
