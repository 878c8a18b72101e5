/*
 * Descriptors and mappings of a guest's copy.
 *
 * QEMU leaves both to the end of the process.  A guest's copy notes what it
 * opens and maps, and gives back what is left when it has ended.  A number of
 * a descriptor says nothing about its owner once it has been closed by
 * somebody else: what libraries open and close by themselves is not noted, and
 * every way in which the copy itself closes is.
 *
 * In instance 0 all of this passes through.
 *
 * Lock: lock, guards the bitmap and the list; held for a few instructions.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <dirent.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include "qemu/bitmap.h"
#include "wrap.h"

/* The limit of descriptors of one process that this kernel gives at most. */
#define FDS_MAX (1 << 20)

typedef struct Mapping {
    uintptr_t start;
    uintptr_t end;
    struct Mapping *next;
} Mapping;

DECLARE_WRAP(int, close, (int fd));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long *fds;
static int fds_end;             /* above the highest that was ever noted */
static Mapping *mappings;       /* they do not overlap */

static int note_fd(int fd)
{
    int saved = errno;

    if (fd >= 0 && fd < FDS_MAX && instance_guest()) {
        __real_pthread_mutex_lock(&lock);
        if (!fds) {
            fds = bitmap_new(FDS_MAX);
        }
        set_bit(fd, fds);
        fds_end = MAX(fds_end, fd + 1);
        pthread_mutex_unlock(&lock);
    }
    errno = saved;
    return fd;
}

/* Before it is closed: right after, the number may be somebody else's. */
static int forget_fd(int fd)
{
    if (fd >= 0 && fd < FDS_MAX && instance_guest()) {
        __real_pthread_mutex_lock(&lock);
        if (fds) {
            clear_bit(fd, fds);
        }
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

/* Called with the lock. */
static void remove_mapping_locked(uintptr_t start, uintptr_t end)
{
    Mapping **link = &mappings;

    while (*link) {
        Mapping *mapping = *link;

        if (mapping->end <= start || end <= mapping->start) {
            link = &mapping->next;
        } else if (mapping->start < start && end < mapping->end) {
            Mapping *rest = g_new(Mapping, 1);

            *rest = (Mapping) { end, mapping->end, mapping->next };
            mapping->end = start;
            mapping->next = rest;
            return;
        } else if (mapping->start < start) {
            mapping->end = start;
            link = &mapping->next;
        } else if (end < mapping->end) {
            mapping->start = end;
            link = &mapping->next;
        } else {
            *link = mapping->next;
            g_free(mapping);
        }
    }
}

static void forget_mapping(void *start, size_t length)
{
    __real_pthread_mutex_lock(&lock);
    remove_mapping_locked((uintptr_t)start, (uintptr_t)start + length);
    pthread_mutex_unlock(&lock);
}

static void note_mapping(void *start, size_t length)
{
    Mapping *mapping = g_new(Mapping, 1);

    mapping->start = (uintptr_t)start;
    mapping->end = ROUND_UP(mapping->start + length, 4096);
    __real_pthread_mutex_lock(&lock);
    /* A fixed mapping takes the place of what was there. */
    remove_mapping_locked(mapping->start, mapping->end);
    mapping->next = mappings;
    mappings = mapping;
    pthread_mutex_unlock(&lock);
}

void instance_resources_release(void)
{
    while (mappings) {
        Mapping *mapping = mappings;

        mappings = mapping->next;
        __real_munmap((void *)mapping->start, mapping->end - mapping->start);
        g_free(mapping);
    }
    for (int fd = 0; fd < fds_end; fd++) {
        if (test_bit(fd, fds)) {
            __real_close(fd);
        }
    }
    g_free(fds);
    fds = NULL;
    fds_end = 0;
}

void *__wrap_mmap64(void *start, size_t length, int prot, int flags, int fd,
                    off64_t offset)
{
    void *host = __real_mmap64(start, length, prot, flags, fd, offset);

    if (host != MAP_FAILED && instance_guest()) {
        note_mapping(host, length);
    }
    return host;
}

int __wrap_munmap(void *start, size_t length)
{
    if (instance_guest()) {
        forget_mapping(start, ROUND_UP(length, 4096));
    }
    return __real_munmap(start, length);
}

int __wrap_close(int fd)
{
    return __real_close(forget_fd(fd));
}

WRAP(int, fclose, (FILE *file))
{
    forget_fd(fileno(file));
    return __real_fclose(file);
}

WRAP(int, closedir, (DIR *folder))
{
    forget_fd(dirfd(folder));
    return __real_closedir(folder);
}

WRAP(int, open64, (const char *path, int flags, mode_t mode))
{
    return note_fd(__real_open64(path, flags, mode));
}

WRAP(FILE *, fopen64, (const char *path, const char *mode))
{
    FILE *file = __real_fopen64(path, mode);

    if (file) {
        note_fd(fileno(file));
    }
    return file;
}

WRAP(DIR *, opendir, (const char *path))
{
    DIR *folder = __real_opendir(path);

    if (folder) {
        note_fd(dirfd(folder));
    }
    return folder;
}

WRAP(int, socket, (int domain, int type, int protocol))
{
    return note_fd(__real_socket(domain, type, protocol));
}

WRAP(int, socketpair, (int domain, int type, int protocol, int ret_fds[2]))
{
    int ret = __real_socketpair(domain, type, protocol, ret_fds);

    if (!ret) {
        note_fd(ret_fds[0]);
        note_fd(ret_fds[1]);
    }
    return ret;
}

WRAP(int, accept, (int fd, struct sockaddr *address, socklen_t *length))
{
    return note_fd(__real_accept(fd, address, length));
}

WRAP(int, accept4, (int fd, struct sockaddr *address, socklen_t *length,
                    int flags))
{
    return note_fd(__real_accept4(fd, address, length, flags));
}

WRAP(int, pipe, (int ret_fds[2]))
{
    int ret = __real_pipe(ret_fds);

    if (!ret) {
        note_fd(ret_fds[0]);
        note_fd(ret_fds[1]);
    }
    return ret;
}

WRAP(int, pipe2, (int ret_fds[2], int flags))
{
    int ret = __real_pipe2(ret_fds, flags);

    if (!ret) {
        note_fd(ret_fds[0]);
        note_fd(ret_fds[1]);
    }
    return ret;
}

WRAP(int, eventfd, (unsigned count, int flags))
{
    return note_fd(__real_eventfd(count, flags));
}

WRAP(int, epoll_create1, (int flags))
{
    return note_fd(__real_epoll_create1(flags));
}

WRAP(int, signalfd, (int fd, const sigset_t *set, int flags))
{
    return note_fd(__real_signalfd(fd, set, flags));
}

WRAP(int, inotify_init1, (int flags))
{
    return note_fd(__real_inotify_init1(flags));
}

WRAP(int, memfd_create, (const char *name, unsigned flags))
{
    return note_fd(__real_memfd_create(name, flags));
}

WRAP(int, dup, (int fd))
{
    return note_fd(__real_dup(fd));
}

WRAP(int, dup2, (int fd, int to))
{
    return note_fd(__real_dup2(fd, to));
}

WRAP(int, fcntl64, (int fd, int command, void *argument))
{
    int ret = __real_fcntl64(fd, command, argument);

    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        note_fd(ret);
    }
    return ret;
}

/* KVM: a VM and a vCPU are descriptors that an ioctl() returns. */
#define KVM_CREATE_VM_NUMBER   0xae01
#define KVM_CREATE_VCPU_NUMBER 0xae41

WRAP(int, ioctl, (int fd, unsigned long request, void *argument))
{
    int ret = __real_ioctl(fd, request, argument);

    if (request == KVM_CREATE_VM_NUMBER || request == KVM_CREATE_VCPU_NUMBER) {
        note_fd(ret);
    }
    return ret;
}

/* Descriptors that come in a message (getfd, fdset). */
static void note_received(struct msghdr *message)
{
    struct cmsghdr *part;

    for (part = CMSG_FIRSTHDR(message); part;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
            size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

            for (size_t i = 0; i < count; i++) {
                int fd;

                memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
                note_fd(fd);
            }
        }
    }
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t ret = instance_recvmsg(fd, message, flags);

    if (ret >= 0) {
        note_received(message);
    }
    return ret;
}
