/*
 * Functions that a copy reaches through a wrapper (system/wraps.list)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_WRAP_H
#define SYSTEM_WRAP_H

#include "system/instance-local.h"

/* Both names of a function, for a file that uses them before the wrapper. */
#define DECLARE_WRAP(type, name, arguments) \
    type __real_##name arguments;           \
    type __wrap_##name arguments

/* WRAP(int, close, (int fd)) { ... __real_close(fd) ... } */
#define WRAP(type, name, arguments)         \
    DECLARE_WRAP(type, name, arguments);    \
    type __wrap_##name arguments

/* Functions that do not return, and those that several files want. */
DECLARE_WRAP(void G_NORETURN, exit, (int status));
DECLARE_WRAP(void G_NORETURN, _exit, (int status));
DECLARE_WRAP(void G_NORETURN, abort, (void));
DECLARE_WRAP(void G_NORETURN, __assert_fail, (const char *text,
                                              const char *file, unsigned line,
                                              const char *function));
DECLARE_WRAP(int, pthread_mutex_lock, (pthread_mutex_t *mutex));
DECLARE_WRAP(void *, mmap64, (void *start, size_t length, int prot, int flags,
                              int fd, off64_t offset));
DECLARE_WRAP(int, munmap, (void *start, size_t length));
DECLARE_WRAP(int, error_vprintf, (const char *format, va_list arguments))
    G_GNUC_PRINTF(1, 0);

/* wrap-io.c: repairs what it meets; wrap-resource.c calls it. */
struct msghdr;
DECLARE_WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags));
ssize_t instance_recvmsg(int fd, struct msghdr *message, int flags);

/* wrap-thread.c: every thread of this copy but the launcher's. */

/* The calling thread belongs to the copy until instance_thread_leave(). */
void instance_thread_enter(void);
void instance_thread_leave(void *unused);

/* From now on threads end where they would wait. */
void instance_threads_end(void);

/* Remind all; returns how many are left after at most @wait_ms. */
int instance_threads_wait(int wait_ms);

/* Release what the ended ones have left. */
void instance_threads_join(void);

/* wrap-exit.c: the copy ends, on the calling thread. */
void G_NORETURN instance_exit(int status, bool failed);

/* wrap-resource.c: descriptors and mappings that the copy still has. */
void instance_resources_release(void);

/* wrap-key.c: keys of thread-specific data that the copy still has. */
void instance_keys_release(void);

/* wrap-heap.c: everything that the copy has allocated is gone. */
void instance_heap_release(void);

/* wrap-message.c: what GLib prints carries the guest's id too. */
void instance_messages_init(void);

/* ram.c: take all RAM home; no thread of the copy runs. */
void memsched_ram_release(void);

#endif
