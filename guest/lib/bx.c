/*
 * The library's connection with the agent, and its one place to wait
 *
 * A Bx waits for three things at once: the socket, the clock, and, where there
 * is no socket, the condition file.  All of them are in one epoll, whose
 * descriptor is what the program sees; it is therefore the same one however
 * often the agent comes and goes.  A timer that is due at once stands for work
 * that is left over.
 *
 * The agent is looked for again after it went away, at first after 100 ms,
 * then twice as long each time up to 5 s.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "bx-int.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_MIN_MS 100u
#define CONNECT_MAX_MS 5000u

/* Messages taken in by one call: a busy agent does not keep a program here. */
#define MESSAGES_MAX 32

/* An agent that lets so much pile up is as good as gone. */
#define OUTBOX_BYTES (1u << 20)

unsigned bx_version(void)
{
    return BX_VERSION_MAJOR << 8 | BX_VERSION_MINOR;
}

static int watch(Bx *bx, int fd, uint32_t events, int operation)
{
    struct epoll_event event = { .events = events, .data.fd = fd };

    return epoll_ctl(bx->epoll, operation, fd, &event) < 0 ? -errno : 0;
}

void bx_disconnect(Bx *bx)
{
    if (bx->socket < 0) {
        return;
    }
    close(bx->socket);          /* which takes it out of the epoll, too */
    bx->socket = -1;
    bx->wants_output = false;
    bx->welcome = false;
    memset(bx->session, 0, sizeof(bx->session));
    bx_outbox_clear(&bx->outbox);
    bx->connect_wait_ms = CONNECT_MIN_MS;
    bx->connect_ms = bx_now_ms() + CONNECT_MIN_MS;
    bx_offer_lost(bx);
    bx_request_end_all(bx, true);
    bx_arm_timer(bx);
}

/* After an error the socket is left to bx_dispatch(), which sees its end. */
static void flush(Bx *bx)
{
    bool wants;

    if (bx_outbox_flush(&bx->outbox, bx->socket, true) < 0) {
        shutdown(bx->socket, SHUT_RDWR);
        return;
    }
    wants = bx_outbox_waiting(&bx->outbox) > 0;
    if (wants != bx->wants_output &&
        watch(bx, bx->socket, EPOLLIN | (wants ? EPOLLOUT : 0),
              EPOLL_CTL_MOD) == 0) {
        bx->wants_output = wants;
    }
}

int bx_send(Bx *bx, BxMessage *message)
{
    int rc;

    if (bx->socket < 0) {
        return -ENOTCONN;
    }
    rc = bx_outbox_push(&bx->outbox, message);
    if (rc == 0) {
        flush(bx);
    }
    return rc;
}

static int try_connect(Bx *bx)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    BxMessage hello;
    int fd, rc;

    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    memcpy(address.sun_path, bx->socket_path, sizeof(bx->socket_path));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    rc = watch(bx, fd, EPOLLIN, EPOLL_CTL_ADD);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    bx->socket = fd;
    bx_wire_init(&hello, VBX_HELLO, 0, 0);
    hello.hello.version_min = hello.hello.version_max = VBX_VERSION;
    return bx_send(bx, &hello);
}

/* The file of conditions, as the directory shows that it was touched. */
static void watch_file(Bx *bx)
{
    if (inotify_add_watch(bx->inotify, bx->run_dir,
                          IN_ATTRIB | IN_CREATE | IN_MOVED_TO) < 0) {
        return;
    }
    bx->connect_ms = UINT64_MAX;
    bx_condition_map(bx);
    bx_condition_notify(bx);
}

static void connect_if_due(Bx *bx, uint64_t now_ms)
{
    if (bx->socket >= 0 || now_ms < bx->connect_ms) {
        return;
    }
    bx->connect_ms = now_ms + bx->connect_wait_ms;
    bx->connect_wait_ms = bx->connect_wait_ms * 2 < CONNECT_MAX_MS
                          ? bx->connect_wait_ms * 2 : CONNECT_MAX_MS;
    if (bx->flags & BX_CONDITION_ONLY) {
        watch_file(bx);
    } else if (try_connect(bx) == 0) {
        bx->connect_wait_ms = CONNECT_MIN_MS;
    }
}

static int set_up(Bx *bx, const char *run_dir)
{
    int length = snprintf(bx->socket_path, sizeof(bx->socket_path), "%s/%s",
                          run_dir, BX_SOCKET_NAME);

    if (length >= (int)sizeof(bx->socket_path)) {
        return -EINVAL;
    }
    snprintf(bx->page_path, sizeof(bx->page_path), "%s/%s", run_dir,
             BX_CONDPAGE_NAME);
    bx->run_dir = strdup(run_dir);
    if (!bx->run_dir) {
        return -ENOMEM;
    }
    bx->epoll = epoll_create1(EPOLL_CLOEXEC);
    bx->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (bx->epoll < 0 || bx->timer < 0) {
        return -errno;
    }
    if (bx->flags & BX_CONDITION_ONLY) {
        bx->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (bx->inotify < 0) {
            return -errno;
        }
        watch(bx, bx->inotify, EPOLLIN, EPOLL_CTL_ADD);
    }
    return watch(bx, bx->timer, EPOLLIN, EPOLL_CTL_ADD);
}

int bx_open(const char *run_dir, unsigned flags, Bx **ret_bx)
{
    Bx *bx;
    int rc;

    if (flags & ~BX_CONDITION_ONLY) {
        return -EINVAL;
    }
    bx = calloc(1, sizeof(*bx));
    if (!bx) {
        return -ENOMEM;
    }
    bx->flags = flags;
    bx->epoll = bx->timer = bx->socket = bx->inotify = bx->pagemap = -1;
    bx->outbox.max_bytes = OUTBOX_BYTES;
    bx->connect_wait_ms = CONNECT_MIN_MS;
    rc = set_up(bx, run_dir ? run_dir : BX_RUN_DIR);
    if (rc < 0) {
        bx_close(bx);
        return rc;
    }
    bx_condition_map(bx);
    connect_if_due(bx, bx_now_ms());
    bx_arm_timer(bx);
    *ret_bx = bx;
    return 0;
}

static void close_if_open(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void bx_close(Bx *bx)
{
    if (!bx) {
        return;
    }
    bx_withdraw(bx);
    close_if_open(bx->socket);
    close_if_open(bx->inotify);
    close_if_open(bx->timer);
    close_if_open(bx->epoll);
    close_if_open(bx->pagemap);
    bx_outbox_clear(&bx->outbox);
    bx_condition_close(bx);
    free(bx->run_dir);
    free(bx);
}

int bx_is_connected(const Bx *bx)
{
    return bx->welcome;
}

int bx_fd(const Bx *bx)
{
    return bx->epoll;
}

int bx_wait(Bx *bx, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = bx->epoll, .events = POLLIN };
    int rc = poll(&poll_fd, 1, timeout_ms);

    return rc < 0 ? -errno : rc;
}

void bx_arm_timer(Bx *bx)
{
    uint64_t due_ms = bx_offer_due_ms(bx);
    struct itimerspec when = { .it_value.tv_nsec = 1 };

    if (bx->socket < 0 && bx->connect_ms < due_ms) {
        due_ms = bx->connect_ms;
    }
    if (due_ms == UINT64_MAX) {
        when.it_value.tv_nsec = 0;      /* never */
    } else if (due_ms) {
        when.it_value.tv_sec = due_ms / 1000;
        when.it_value.tv_nsec = due_ms % 1000 * 1000000 + 1;
    }
    timerfd_settime(bx->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void take_welcome(Bx *bx, const BxMessage *m)
{
    bool new_session = memcmp(bx->session, m->welcome.session,
                              sizeof(bx->session)) != 0;

    memcpy(bx->session, m->welcome.session, sizeof(bx->session));
    bx->welcome = true;
    bx_condition_map(bx);
    bx_offer_welcome(bx, new_session, m->welcome.features);
    bx_condition_notify(bx);
}

static void take(Bx *bx, const uint8_t *bytes, size_t size)
{
    BxMessage m, reply;
    int rc = bx_wire_unpack(bytes, size, BX_FROM_AGENT, &m);

    if (rc < 0) {
        if (bx_wire_error(&reply, &m.header, rc)) {
            bx_send(bx, &reply);
        }
        return;
    }
    switch (m.header.type) {
    case VBX_WELCOME:
        take_welcome(bx, &m);
        break;
    case VBX_CONDITION:
        bx_condition_notify(bx);
        break;
    case VBX_ANSWER:
        bx_request_answer(bx, &m);
        break;
    case VBX_ERROR:
        bx_request_error(bx, &m);
        break;
    case VBX_PING:
        bx_wire_init(&reply, VBX_PONG, m.header.app, m.header.cookie);
        bx_send(bx, &reply);
        break;
    default:
        bx_offer_message(bx, &m);
        break;
    }
}

static int receive(Bx *bx)
{
    uint8_t bytes[VBX_MESSAGE_MAX];
    int done = 0;

    while (bx->socket >= 0 && done < MESSAGES_MAX) {
        ssize_t got = recv(bx->socket, bytes, sizeof(bytes), 0);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno == EAGAIN) {
            break;
        }
        done++;
        if (got <= 0) {
            bx_disconnect(bx);
            bx_condition_notify(bx);
            break;
        }
        take(bx, bytes, got);
    }
    return done;
}

/* What was touched does not matter; that the directory is gone does. */
static void take_file_events(Bx *bx)
{
    char bytes[4096] __attribute__((aligned(8)));
    ssize_t got;

    while ((got = read(bx->inotify, bytes, sizeof(bytes))) > 0) {
        const struct inotify_event *event;

        for (ssize_t at = 0; at < got; at += sizeof(*event) + event->len) {
            event = (const struct inotify_event *)(bytes + at);
            if (event->mask & IN_IGNORED) {
                bx->connect_ms = bx_now_ms() + CONNECT_MAX_MS;
            }
        }
    }
}

int bx_dispatch(Bx *bx)
{
    uint64_t expired;
    int done = 0;

    while (read(bx->timer, &expired, sizeof(expired)) > 0) {
        /* How often does not matter. */
    }
    connect_if_due(bx, bx_now_ms());
    if (bx->socket >= 0) {
        done += receive(bx);
    }
    if (bx->socket >= 0 && bx_outbox_waiting(&bx->outbox)) {
        flush(bx);
    }
    if (bx->inotify >= 0) {
        take_file_events(bx);
        bx_condition_map(bx);
        bx_condition_notify(bx);
    }
    done += bx_offer_work(bx);
    bx_arm_timer(bx);
    return done;
}
