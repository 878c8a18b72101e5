/*
 * One table for every call to the operating system, and for the clock
 *
 * Everything in memsched/ that enters the kernel does so through an MsSys, so
 * that a test can put a fake in its place, and make each call fail in each
 * way.  Objects keep the pointer that they were made with; there is no global
 * one.
 *
 * All members return 0 or a positive number, or a negative errno: no errno
 * variable.  Each gets the table itself first, so that a fake can embed it.
 *
 * Threads: all members of the real table may be called from any thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SYS_H
#define MEMSCHED_SYS_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct MsSys MsSys;

struct MsSys {
    /* Memory.  mmap: the address through @ret_address on success only. */
    int (*mmap)(const MsSys *sys, void *hint, size_t bytes, int prot,
                int flags, void **ret_address);
    int (*munmap)(const MsSys *sys, void *address, size_t bytes);
    int (*madvise)(const MsSys *sys, void *address, size_t bytes, int advice);

    /* File descriptors. */
    int (*open)(const MsSys *sys, const char *path, int flags);
    /*
     * A new file of @bytes for reading and writing, all of them allocated: it
     * has no name any more.  Or a block device that has as many, and that
     * nobody else uses.  -EEXIST: a file of that name exists.
     */
    int (*create)(const MsSys *sys, const char *path, uint64_t bytes);
    int (*close)(const MsSys *sys, int fd);
    ssize_t (*read)(const MsSys *sys, int fd, void *buf, size_t bytes);
    ssize_t (*pread)(const MsSys *sys, int fd, void *buf, size_t bytes,
                     uint64_t offset);
    ssize_t (*write)(const MsSys *sys, int fd, const void *buf, size_t bytes);
    ssize_t (*pwrite)(const MsSys *sys, int fd, const void *buf, size_t bytes,
                      uint64_t offset);
    int (*ioctl)(const MsSys *sys, int fd, unsigned long request, void *arg);
    int (*poll)(const MsSys *sys, struct pollfd *fds, unsigned count,
                int timeout_ms);
    int (*eventfd)(const MsSys *sys, unsigned initial, int flags);
    int (*userfaultfd)(const MsSys *sys, int flags);

    /*
     * Read memory of this process that may be poisoned (-EFAULT; less than
     * @bytes where only its start can be read) or a hole (waits for its fault,
     * as a touch would).  1.3 us for 4 KiB, 75 us for 2 MiB.
     */
    ssize_t (*peek)(const MsSys *sys, void *buf, const void *address,
                    size_t bytes);

    /* Write likewise: -EFAULT, or short, where a page is poisoned. */
    ssize_t (*poke)(const MsSys *sys, void *address, const void *buf,
                    size_t bytes);

    /*
     * Sleep while *@word is @value, and wake who sleeps there.  May be called
     * in a signal handler.
     */
    void (*futex_wait)(const MsSys *sys, _Atomic uint32_t *word,
                       uint32_t value);
    void (*futex_wake)(const MsSys *sys, _Atomic uint32_t *word);

    /* Number of the calling thread; may be called in a signal handler. */
    int (*gettid)(const MsSys *sys);

    /* Unpredictable bytes, all of them; never waits once the host is up. */
    int (*random)(const MsSys *sys, void *buf, size_t bytes);

    /* The clock: CLOCK_MONOTONIC, never 0. */
    uint64_t (*now_ns)(const MsSys *sys);
    /* Wait; only for throttling, never to synchronise. */
    void (*sleep_ns)(const MsSys *sys, uint64_t duration_ns);

    /* Name the calling thread (15 characters are kept). */
    void (*name_thread)(const MsSys *sys, const char *name);
    /*
     * Run the calling thread behind ordinary ones: nice 15 is 3.5 % of a CPU
     * that somebody else wants, too; never preempt on waking.  Or (@on false)
     * beside them again, which needs CAP_SYS_NICE.  Best effort.
     */
    int (*background)(const MsSys *sys, bool on);
    /*
     * Run the calling thread before ordinary ones (nice -10; needs
     * CAP_SYS_NICE): each vCPU that faults waits for it.  Best effort.
     */
    int (*urgent)(const MsSys *sys);
    /* Let others go first who want this CPU. */
    void (*yield)(const MsSys *sys);
};

/* The real one: immutable, shared by all threads. */
const MsSys *ms_sys_real(void);

/*
 * The whole text of a small file (/proc, /sys), NUL-terminated, cut at
 * @size - 1.  Its length, or -errno.
 */
ssize_t ms_sys_read_file(const MsSys *sys, const char *path, char *buf,
                         size_t size);

#endif /* MEMSCHED_SYS_H */
