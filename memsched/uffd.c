/*
 * userfaultfd, with its results as named outcomes
 *
 * Stateless apart from the descriptor.  The one piece of logic here is what a
 * short result means: the kernel answers EAGAIN for every run that stops
 * before its end, whatever stopped it, and names the cause only to a call
 * that starts at the page in question.  So a run is repeated from where it
 * stopped until it either names its cause, moves on, or says EAGAIN with
 * nothing done MAX_TRIES times (the address space really is changing, or a
 * page is locked for a moment).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>

#include "abi.h"
#include "memsched/types.h"

/* A page under migration or reclaim is free again within microseconds. */
#define MAX_TRIES 4
#define MAX_EVENTS 64

static const struct {
    unsigned ours;
    uint64_t kernel;
} features_map[] = {
    { MS_UFFD_MOVE,      MS_ABI_FEATURE_MOVE },
    { MS_UFFD_POISON,    MS_ABI_FEATURE_POISON },
    { MS_UFFD_WP,        MS_ABI_FEATURE_PAGEFAULT_WP },
    { MS_UFFD_WP_ASYNC,  MS_ABI_FEATURE_WP_ASYNC },
    { MS_UFFD_THREAD_ID, MS_ABI_FEATURE_THREAD_ID },
    { MS_UFFD_EXACT,     MS_ABI_FEATURE_EXACT },
};

#define FEATURES (sizeof(features_map) / sizeof(features_map[0]))

/* A descriptor that reports faults of system calls, too; or -errno. */
static int open_full(const MsSys *sys)
{
    int flags = O_CLOEXEC | O_NONBLOCK;
    int dev = sys->open(sys, "/dev/userfaultfd", O_RDWR);
    int fd, rc;

    if (dev >= 0) {
        fd = sys->ioctl(sys, dev, MS_ABI_USERFAULTFD_NEW,
                        (void *)(uintptr_t)flags);
        sys->close(sys, dev);
        if (fd >= 0) {
            return fd;
        }
    }
    rc = sys->userfaultfd(sys, flags);
    if (rc == -ENOSYS && dev == -EACCES) {
        return -EPERM;
    }
    return rc;
}

static int handshake(const MsSys *sys, int fd, uint64_t *features)
{
    struct uffdio_api api = { .api = UFFD_API, .features = *features };
    int rc = sys->ioctl(sys, fd, UFFDIO_API, &api);

    if (rc < 0) {
        return rc;
    }
    *features = api.features;
    return 0;
}

int ms_uffd_open(MsUffd *uffd, const MsSys *sys, unsigned features)
{
    uint64_t kernel = 0;
    int fd, rc;

    uffd->sys = sys;
    uffd->fd = -1;
    for (size_t i = 0; i < FEATURES; i++) {
        if (features & features_map[i].ours) {
            kernel |= features_map[i].kernel;
        }
    }
    fd = open_full(sys);
    if (fd < 0) {
        return fd;
    }
    rc = handshake(sys, fd, &kernel);
    if (rc < 0) {
        sys->close(sys, fd);
        /* The kernel says EINVAL for a feature that it does not know. */
        return rc == -EINVAL ? -ENOSYS : rc;
    }
    uffd->fd = fd;
    return 0;
}

int ms_uffd_features(const MsSys *sys)
{
    uint64_t kernel = 0;
    int fd = open_full(sys);
    int rc, ours = 0;

    if (fd < 0) {
        return fd;
    }
    rc = handshake(sys, fd, &kernel);
    sys->close(sys, fd);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < FEATURES; i++) {
        if (kernel & features_map[i].kernel) {
            ours |= features_map[i].ours;
        }
    }
    return ours;
}

void ms_uffd_close(MsUffd *uffd)
{
    if (uffd && uffd->fd >= 0) {
        uffd->sys->close(uffd->sys, uffd->fd);
        uffd->fd = -1;
    }
}

static struct uffdio_range range_of(const void *address, uint64_t pages)
{
    return (struct uffdio_range) {
        .start = (uintptr_t)address,
        .len = pages << MEMSCHED_PAGE_SHIFT,
    };
}

int ms_uffd_register(const MsUffd *uffd, void *address, uint64_t pages,
                     unsigned modes)
{
    struct uffdio_register reg = { .range = range_of(address, pages) };

    if (modes & MS_UFFD_MODE_MISSING) {
        reg.mode |= UFFDIO_REGISTER_MODE_MISSING;
    }
    if (modes & MS_UFFD_MODE_WP) {
        reg.mode |= UFFDIO_REGISTER_MODE_WP;
    }
    return uffd->sys->ioctl(uffd->sys, uffd->fd, UFFDIO_REGISTER, &reg);
}

int ms_uffd_unregister(const MsUffd *uffd, void *address, uint64_t pages)
{
    struct uffdio_range range = range_of(address, pages);

    return uffd->sys->ioctl(uffd->sys, uffd->fd, UFFDIO_UNREGISTER, &range);
}

const char *ms_move_stop_name(MsMoveStop stop)
{
    static const char *const names[MS_MOVE_STOPS] = {
        [MS_MOVE_DONE] = "done",
        [MS_MOVE_BUSY] = "busy",
        [MS_MOVE_EXISTS] = "exists",
        [MS_MOVE_NOENT] = "noent",
        [MS_MOVE_FAULT] = "fault",
        [MS_MOVE_AGAIN] = "again",
        [MS_MOVE_INVAL] = "inval",
        [MS_MOVE_NOMEM] = "nomem",
        [MS_MOVE_GONE] = "gone",
    };

    return stop < MS_MOVE_STOPS ? names[stop] : "?";
}

static MsMoveStop stop_of(int rc)
{
    switch (rc) {
    case -EBUSY:
        return MS_MOVE_BUSY;
    case -EEXIST:
        return MS_MOVE_EXISTS;
    case -ENOENT:
        return MS_MOVE_NOENT;
    case -EFAULT:
        return MS_MOVE_FAULT;
    case -EAGAIN:
        return MS_MOVE_AGAIN;
    case -ENOMEM:
        return MS_MOVE_NOMEM;
    case -ESRCH:
    case -EINTR:                /* only a fatal signal interrupts a move */
    case -EBADF:
        return MS_MOVE_GONE;
    default:
        return MS_MOVE_INVAL;
    }
}

/* One system call: bytes done (at most @len), or -errno with nothing done. */
typedef int64_t Step(const MsUffd *uffd, uint64_t dst, uint64_t src,
                     uint64_t len, uint64_t mode);

static int64_t step_result(int rc, int64_t done, uint64_t len)
{
    if (rc == 0) {
        return len;
    }
    return done > 0 ? done : rc;
}

static int64_t move_step(const MsUffd *uffd, uint64_t dst, uint64_t src,
                         uint64_t len, uint64_t mode)
{
    MsAbiMove arg = { .dst = dst, .src = src, .len = len, .mode = mode };
    int rc = uffd->sys->ioctl(uffd->sys, uffd->fd, MS_ABI_MOVE, &arg);

    return step_result(rc, arg.move, len);
}

static int64_t copy_step(const MsUffd *uffd, uint64_t dst, uint64_t src,
                         uint64_t len, uint64_t mode)
{
    struct uffdio_copy arg = {
        .dst = dst, .src = src, .len = len, .mode = mode,
    };
    int rc = uffd->sys->ioctl(uffd->sys, uffd->fd, UFFDIO_COPY, &arg);

    return step_result(rc, arg.copy, len);
}

static MsMoveResult run_steps(Step *step, const MsUffd *uffd, void *dst,
                              const void *src, uint64_t pages, uint64_t mode)
{
    uint64_t len = pages << MEMSCHED_PAGE_SHIFT, done = 0;
    unsigned tries = 0;
    MsMoveResult result = { .stop = MS_MOVE_DONE };

    while (done < len) {
        int64_t n = step(uffd, (uintptr_t)dst + done, (uintptr_t)src + done,
                         len - done, mode);

        result.calls++;
        if (n > 0) {
            done += n;
            tries = 0;
        } else if (n != -EAGAIN || ++tries == MAX_TRIES) {
            result.stop = stop_of(n);
            break;
        }
    }
    result.moved_pages = done >> MEMSCHED_PAGE_SHIFT;
    return result;
}

MsMoveResult ms_uffd_move(const MsUffd *uffd, void *dst, void *src,
                          uint64_t pages, bool wake)
{
    return run_steps(move_step, uffd, dst, src, pages,
                     wake ? 0 : MS_ABI_MOVE_DONTWAKE);
}

MsMoveResult ms_uffd_copy(const MsUffd *uffd, void *dst, const void *src,
                          uint64_t pages, bool protect, bool wake)
{
    return run_steps(copy_step, uffd, dst, src, pages,
                     (protect ? UFFDIO_COPY_MODE_WP : 0) |
                     (wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE));
}

int ms_uffd_wake(const MsUffd *uffd, void *address, uint64_t pages)
{
    struct uffdio_range range = range_of(address, pages);

    return uffd->sys->ioctl(uffd->sys, uffd->fd, UFFDIO_WAKE, &range);
}

/* A poison request over many pages may be cut short, as a move. */
int ms_uffd_poison(const MsUffd *uffd, void *address, uint64_t pages,
                   bool wake)
{
    uint64_t len = pages << MEMSCHED_PAGE_SHIFT, done = 0;
    unsigned tries = 0;

    while (done < len) {
        MsAbiPoison arg = {
            .start = (uintptr_t)address + done,
            .len = len - done,
            .mode = wake ? 0 : MS_ABI_POISON_DONTWAKE,
        };
        int rc = uffd->sys->ioctl(uffd->sys, uffd->fd, MS_ABI_POISON, &arg);
        int64_t n = step_result(rc, arg.updated, len - done);

        if (n > 0) {
            done += n;
            tries = 0;
        } else if (n != -EAGAIN || ++tries == MAX_TRIES) {
            return n;
        }
    }
    return 0;
}

int ms_uffd_protect(const MsUffd *uffd, void *address, uint64_t pages,
                    bool protect, bool wake)
{
    struct uffdio_writeprotect arg = { .range = range_of(address, pages) };
    int rc;

    /* The kernel refuses DONTWAKE with protection: there is none to wake. */
    if (protect) {
        arg.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    } else if (!wake) {
        arg.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
    }
    for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
        rc = uffd->sys->ioctl(uffd->sys, uffd->fd, UFFDIO_WRITEPROTECT, &arg);
        if (rc != -EAGAIN) {
            break;
        }
    }
    return rc;
}

int ms_uffd_read(const MsUffd *uffd, MsFault *ret_faults, unsigned max)
{
    struct uffd_msg msgs[MAX_EVENTS];
    unsigned count = 0;
    ssize_t n;

    if (max > MAX_EVENTS) {
        max = MAX_EVENTS;
    }
    n = uffd->sys->read(uffd->sys, uffd->fd, msgs, max * sizeof(msgs[0]));
    if (n < 0) {
        return n == -EAGAIN ? 0 : n;
    }
    for (size_t i = 0; i < n / sizeof(msgs[0]); i++) {
        const struct uffd_msg *msg = &msgs[i];
        uint64_t flags = msg->arg.pagefault.flags;

        if (msg->event != UFFD_EVENT_PAGEFAULT) {
            continue;
        }
        ret_faults[count++] = (MsFault) {
            .address = msg->arg.pagefault.address,
            .write = flags & (UFFD_PAGEFAULT_FLAG_WRITE |
                              UFFD_PAGEFAULT_FLAG_WP),
            .protected_page = flags & UFFD_PAGEFAULT_FLAG_WP,
            .thread_id = msg->arg.pagefault.feat.ptid,
        };
    }
    return count;
}
