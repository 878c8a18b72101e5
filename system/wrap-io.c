/*
 * System calls on guest RAM that has an uncorrectable error.
 *
 * The kernel meets the error on QEMU's behalf, and there is no signal: the call
 * fails with EFAULT, or ends early in front of the page, so that the next one
 * fails.  Here the pages of the buffers are repaired, and the call is made
 * again.  A call that has failed so has transferred nothing, but that a
 * datagram may be gone, as on a network.
 *
 * What cannot be repaired is lost, and its guest is told.  What was to be sent
 * from there is not, the call fails; what was to be received replaces what is
 * lost.
 *
 * These are the calls by which network backends, character devices, sockets
 * and files of migrations and dumps reach guest RAM.  Block devices have a
 * retry of their own.  Slirp copies by itself, and so gets SIGBUS.
 *
 * A buffer that is not guest RAM, or an EFAULT with another reason, costs a
 * look at the list of regions, and stays EFAULT.
 *
 * Threads: any; no state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include <sys/uio.h>
#include "wrap.h"

/* Errors that come while others are repaired; then the caller is told. */
#define TRIES 16

typedef enum Direction {
    OUT_OF_RAM,
    INTO_RAM,
} Direction;

/* True where the call is worth another try.  Keeps errno. */
static bool repair(const struct iovec *iov, size_t count, Direction direction)
{
    bool repaired = false, lost = false;

    if (errno != EFAULT || !memsched_instance_client()) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        int ret = memsched_repair_range(iov[i].iov_base, iov[i].iov_len);

        repaired |= ret > 0;
        lost |= ret == -EIO;
    }
    errno = EFAULT;
    return direction == INTO_RAM ? repaired || lost : repaired && !lost;
}

static bool repair_one(const void *buffer, size_t length, Direction direction)
{
    struct iovec iov = { .iov_base = (void *)buffer, .iov_len = length };

    return repair(&iov, 1, direction);
}

/* Makes the call; again where @repaired says that it is worth it. */
#define RETRY(call, repaired) ({                                        \
    ssize_t ret_;                                                       \
    unsigned tries_ = 0;                                                \
    do {                                                                \
        ret_ = (call);                                                  \
    } while (ret_ < 0 && tries_++ < TRIES && (repaired));               \
    ret_;                                                               \
})

WRAP(ssize_t, read, (int fd, void *buffer, size_t length))
{
    return RETRY(__real_read(fd, buffer, length),
                 repair_one(buffer, length, INTO_RAM));
}

WRAP(ssize_t, readv, (int fd, const struct iovec *iov, int count))
{
    return RETRY(__real_readv(fd, iov, count), repair(iov, count, INTO_RAM));
}

WRAP(ssize_t, recv, (int fd, void *buffer, size_t length, int flags))
{
    return RETRY(__real_recv(fd, buffer, length, flags),
                 repair_one(buffer, length, INTO_RAM));
}

ssize_t instance_recvmsg(int fd, struct msghdr *message, int flags)
{
    return RETRY(__real_recvmsg(fd, message, flags),
                 repair(message->msg_iov, message->msg_iovlen, INTO_RAM));
}

WRAP(ssize_t, write, (int fd, const void *buffer, size_t length))
{
    return RETRY(__real_write(fd, buffer, length),
                 repair_one(buffer, length, OUT_OF_RAM));
}

WRAP(ssize_t, writev, (int fd, const struct iovec *iov, int count))
{
    return RETRY(__real_writev(fd, iov, count),
                 repair(iov, count, OUT_OF_RAM));
}

WRAP(ssize_t, send, (int fd, const void *buffer, size_t length, int flags))
{
    return RETRY(__real_send(fd, buffer, length, flags),
                 repair_one(buffer, length, OUT_OF_RAM));
}

WRAP(ssize_t, sendto, (int fd, const void *buffer, size_t length, int flags,
                       const struct sockaddr *to, socklen_t to_length))
{
    return RETRY(__real_sendto(fd, buffer, length, flags, to, to_length),
                 repair_one(buffer, length, OUT_OF_RAM));
}

WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags))
{
    return RETRY(__real_sendmsg(fd, message, flags),
                 repair(message->msg_iov, message->msg_iovlen, OUT_OF_RAM));
}
