/*
 * The real table of OS calls
 *
 * Each member is the system call of its name, with errno turned into a
 * negative result.  Interrupted calls are restarted where that is right;
 * poll() is not, its callers loop anyway.  No state, no locks.
 *
 * A guest's thread may be cancelled while it is in the library, with locks of
 * the library held: calls in which libc would end it then are made with
 * cancellation put off.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int cancel_off(void)
{
    int before;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

/* errno stays. */
static void cancel_as(int before)
{
    pthread_setcancelstate(before, NULL);
}

static int real_mmap(const MsSys *sys, void *hint, size_t bytes, int prot,
                     int flags, void **ret_address)
{
    void *p = mmap(hint, bytes, prot, flags, -1, 0);

    if (p == MAP_FAILED) {
        return -errno;
    }
    *ret_address = p;
    return 0;
}

static int real_munmap(const MsSys *sys, void *address, size_t bytes)
{
    return munmap(address, bytes) ? -errno : 0;
}

static int real_madvise(const MsSys *sys, void *address, size_t bytes,
                        int advice)
{
    return madvise(address, bytes, advice) ? -errno : 0;
}

static int real_open(const MsSys *sys, const char *path, int flags)
{
    int cancel = cancel_off();
    int fd = open(path, flags | O_CLOEXEC);

    cancel_as(cancel);
    return fd < 0 ? -errno : fd;
}

/* Without the page cache where that can be had. */
static int open_direct(const char *path, int flags)
{
    int fd = open(path, flags | O_RDWR | O_DIRECT | O_CLOEXEC | O_NOCTTY,
                  S_IRUSR | S_IWUSR);

    if (fd < 0 && errno == EINVAL) {
        /* It may be there now: the file system has seen O_DIRECT too late. */
        if (flags & O_CREAT) {
            unlink(path);
        }
        fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOCTTY,
                  S_IRUSR | S_IWUSR);
    }
    return fd < 0 ? -errno : fd;
}

static int open_device(const char *path, uint64_t bytes)
{
    struct stat st;
    uint64_t size = 0;
    int fd, ret = 0;

    if (stat(path, &st) == 0 && !S_ISBLK(st.st_mode)) {
        return -EEXIST;
    }
    /* O_EXCL: not while it is mounted, or somebody's swap. */
    fd = open_direct(path, O_EXCL);
    if (fd < 0) {
        return fd;
    }
    if (fstat(fd, &st) || !S_ISBLK(st.st_mode)) {
        ret = -EEXIST;
    } else if (ioctl(fd, BLKGETSIZE64, &size)) {
        ret = -errno;
    } else if (size < bytes) {
        ret = -ENOSPC;
    }
    if (ret < 0) {
        close(fd);
        return ret;
    }
    return fd;
}

/* posix_fallocate() of too much fills the file system before it fails. */
static int allocate(int fd, uint64_t bytes)
{
    struct statvfs fs;

    if (fstatvfs(fd, &fs)) {
        return -errno;
    }
    if (bytes / fs.f_frsize >= fs.f_bavail) {
        return -ENOSPC;
    }
    return -posix_fallocate(fd, 0, (off_t)bytes);
}

static int real_create(const MsSys *sys, const char *path, uint64_t bytes)
{
    int cancel = cancel_off();
    int fd = open_direct(path, O_CREAT | O_EXCL);
    int ret = fd;

    if (fd == -EEXIST) {
        ret = open_device(path, bytes);
    } else if (fd >= 0) {
        unlink(path);
        /* Now, and not when a guest's page is on its way. */
        ret = allocate(fd, bytes);
        if (ret < 0) {
            close(fd);
        } else {
            ret = fd;
        }
    }
    cancel_as(cancel);
    return ret;
}

static int real_close(const MsSys *sys, int fd)
{
    int cancel = cancel_off();
    int rc = close(fd);

    cancel_as(cancel);
    return rc ? -errno : 0;
}

static ssize_t real_read(const MsSys *sys, int fd, void *buf, size_t bytes)
{
    int cancel = cancel_off();
    ssize_t n;

    do {
        n = read(fd, buf, bytes);
    } while (n < 0 && errno == EINTR);
    cancel_as(cancel);
    return n < 0 ? -errno : n;
}

static ssize_t real_pread(const MsSys *sys, int fd, void *buf, size_t bytes,
                          uint64_t offset)
{
    int cancel = cancel_off();
    ssize_t n;

    do {
        n = pread(fd, buf, bytes, offset);
    } while (n < 0 && errno == EINTR);
    cancel_as(cancel);
    return n < 0 ? -errno : n;
}

static ssize_t real_write(const MsSys *sys, int fd, const void *buf,
                          size_t bytes)
{
    int cancel = cancel_off();
    ssize_t n;

    do {
        n = write(fd, buf, bytes);
    } while (n < 0 && errno == EINTR);
    cancel_as(cancel);
    return n < 0 ? -errno : n;
}

static ssize_t real_pwrite(const MsSys *sys, int fd, const void *buf,
                           size_t bytes, uint64_t offset)
{
    int cancel = cancel_off();
    ssize_t n;

    do {
        n = pwrite(fd, buf, bytes, offset);
    } while (n < 0 && errno == EINTR);
    cancel_as(cancel);
    return n < 0 ? -errno : n;
}

static int real_ioctl(const MsSys *sys, int fd, unsigned long request,
                      void *arg)
{
    int rc = ioctl(fd, request, arg);

    return rc < 0 ? -errno : rc;
}

static int real_poll(const MsSys *sys, struct pollfd *fds, unsigned count,
                     int timeout_ms)
{
    int cancel = cancel_off();
    int rc = poll(fds, count, timeout_ms);

    cancel_as(cancel);
    return rc < 0 ? -errno : rc;
}

static int real_eventfd(const MsSys *sys, unsigned initial, int flags)
{
    int fd = eventfd(initial, flags | EFD_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int real_userfaultfd(const MsSys *sys, int flags)
{
    int fd = syscall(SYS_userfaultfd, flags);

    return fd < 0 ? -errno : fd;
}

static ssize_t real_peek(const MsSys *sys, void *buf, const void *address,
                         size_t bytes)
{
    struct iovec to = { .iov_base = buf, .iov_len = bytes };
    struct iovec from = { .iov_base = (void *)address, .iov_len = bytes };
    ssize_t n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);

    return n < 0 ? -errno : n;
}

static ssize_t real_poke(const MsSys *sys, void *address, const void *buf,
                         size_t bytes)
{
    struct iovec from = { .iov_base = (void *)buf, .iov_len = bytes };
    struct iovec to = { .iov_base = address, .iov_len = bytes };
    ssize_t n = process_vm_writev(getpid(), &from, 1, &to, 1, 0);

    return n < 0 ? -errno : n;
}

static void real_futex_wait(const MsSys *sys, _Atomic uint32_t *word,
                            uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void real_futex_wake(const MsSys *sys, _Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static int real_gettid(const MsSys *sys)
{
    return syscall(SYS_gettid);
}

static int real_random(const MsSys *sys, void *buf, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t n = getrandom((char *)buf + done, bytes - done, 0);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static uint64_t real_now_ns(const MsSys *sys)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    /* 2^64 ns are 584 years of uptime. */
    return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec + 1;
}

static void real_sleep_ns(const MsSys *sys, uint64_t duration_ns)
{
    struct timespec ts = {
        .tv_sec = duration_ns / 1000000000u,
        .tv_nsec = duration_ns % 1000000000u,
    };
    int cancel = cancel_off();

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR) {
        /* the rest of it is in ts */
    }
    cancel_as(cancel);
}

static void real_name_thread(const MsSys *sys, const char *name)
{
    prctl(PR_SET_NAME, name, 0, 0, 0);
}

static int real_background(const MsSys *sys, bool on)
{
    struct sched_param none = { 0 };
    pid_t tid = syscall(SYS_gettid);

    if (sched_setscheduler(tid, SCHED_BATCH, &none)) {
        return -errno;
    }
    return setpriority(PRIO_PROCESS, tid, on ? 15 : 0) ? -errno : 0;
}

static int real_urgent(const MsSys *sys)
{
    pid_t tid = syscall(SYS_gettid);

    return setpriority(PRIO_PROCESS, tid, -10) ? -errno : 0;
}

static void real_yield(const MsSys *sys)
{
    sched_yield();
}

static const MsSys real_table = {
    .mmap = real_mmap,
    .munmap = real_munmap,
    .madvise = real_madvise,
    .open = real_open,
    .create = real_create,
    .close = real_close,
    .read = real_read,
    .pread = real_pread,
    .write = real_write,
    .pwrite = real_pwrite,
    .ioctl = real_ioctl,
    .poll = real_poll,
    .eventfd = real_eventfd,
    .userfaultfd = real_userfaultfd,
    .peek = real_peek,
    .poke = real_poke,
    .futex_wait = real_futex_wait,
    .futex_wake = real_futex_wake,
    .gettid = real_gettid,
    .random = real_random,
    .now_ns = real_now_ns,
    .sleep_ns = real_sleep_ns,
    .name_thread = real_name_thread,
    .background = real_background,
    .urgent = real_urgent,
    .yield = real_yield,
};

const MsSys *ms_sys_real(void)
{
    return &real_table;
}

ssize_t ms_sys_read_file(const MsSys *sys, const char *path, char *buf,
                         size_t size)
{
    size_t length = 0;
    ssize_t n;
    int fd = sys->open(sys, path, O_RDONLY);

    if (fd < 0) {
        return fd;
    }
    do {
        n = sys->read(sys, fd, buf + length, size - 1 - length);
        if (n > 0) {
            length += n;
        }
    } while (n > 0 && length < size - 1);
    sys->close(sys, fd);
    if (n < 0) {
        return n;
    }
    buf[length] = '\0';
    return length;
}
