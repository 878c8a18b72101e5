/*
 * One question to the agent, one answer
 *
 * For what the library does not offer, since it is between the agent and its
 * own tool.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 10000

static int say(const char *what, int error)
{
    fprintf(stderr, "bxctl: %s: %s\n", what,
            error == ENOENT || error == ECONNREFUSED
            ? "balloon-exd does not run" : strerror(error));
    return -1;
}

int talk_open(const char *run_dir)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    BxMessage m;
    int fd, length;

    length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket",
                      run_dir);
    if (length >= (int)sizeof(address.sun_path)) {
        return say(run_dir, ENAMETOOLONG);
    }
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        say(address.sun_path, errno);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    bx_wire_init(&m, VBX_HELLO, 0, 0);
    m.hello.version_min = m.hello.version_max = VBX_VERSION;
    if (talk_send(fd, &m) < 0 || talk_receive(fd, &m) < 0) {
        close(fd);
        return -1;
    }
    if (m.header.type != VBX_WELCOME) {
        fprintf(stderr, "bxctl: balloon-exd speaks another version of the "
                "protocol\n");
        close(fd);
        return -1;
    }
    return fd;
}

int talk_send(int fd, BxMessage *message)
{
    size_t bytes = bx_wire_pack(message);

    return send(fd, message->bytes, bytes, MSG_NOSIGNAL) < 0
           ? say("balloon-exd", errno) : 0;
}

int talk_receive(int fd, BxMessage *ret_message)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    uint8_t bytes[VBX_MESSAGE_MAX];
    ssize_t got;
    int rc;

    for (;;) {
        rc = poll(&poll_fd, 1, PATIENCE_MS);
        if (rc <= 0) {
            return say("balloon-exd", rc ? errno : ETIMEDOUT);
        }
        got = recv(fd, bytes, sizeof(bytes), 0);
        if (got <= 0) {
            return say("balloon-exd", got ? errno : ECONNRESET);
        }
        /* What a later agent says beyond our knowledge is passed over. */
        if (bx_wire_unpack(bytes, got, BX_FROM_AGENT, ret_message) == 0) {
            return 0;
        }
    }
}
