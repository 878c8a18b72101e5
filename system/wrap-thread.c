/*
 * The threads of a guest's copy, and their end.
 *
 * A copy that has ended leaves threads behind: vCPUs, RCU's, I/O threads,
 * workers.  They are stopped by deferred cancellation, which libc delivers
 * only where a thread waits and holds none of libc's own locks.  QEMU waits in
 * three places that libc does not count: in a mutex, in futex() by syscall(),
 * and in guest code; the first two are wrapped here, and vCPUs are told to
 * leave guest code by the caller.
 *
 * A thread that ends while it holds the BQL, or that waits on a condition
 * with another lock, would leave the lock held and the next thread stuck; so
 * both are released on the way out.  Any other lock may stay held: who wants
 * it is woken every RETRY_NS and ends.
 *
 * Threads are counted from their creation until they leave their own code;
 * libc then still calls destructors of the copy.  So every thread is joined
 * before the copy's memory goes, those that QEMU wants detached too: they are
 * created joinable, and joined when the next one is created, or at the end.
 *
 * In instance 0 all of this passes through.
 *
 * Lock: threads.lock, guards the list and the count; taken by its real name,
 * for no thread waits in it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/syscall.h>
#include "qemu/atomic.h"
#include "qemu/main-loop.h"
#include "qemu/notify.h"
#include "wrap.h"

/* How long a thread may wait for a lock before it looks whether to end. */
#define RETRY_NS 100000000

typedef struct Thread {
    pthread_t thread;
    void *(*start)(void *);
    void *argument;
    bool launchers;             /* the launcher joins it */
    bool detached;              /* nobody in the copy joins it */
    bool finished;              /* but not joined */
    struct Thread *next;
} Thread;

DECLARE_WRAP(int, pthread_cond_timedwait, (pthread_cond_t *cond,
                                           pthread_mutex_t *mutex,
                                           const struct timespec *until));
DECLARE_WRAP(int, pthread_join, (pthread_t thread, void **ret_value));
DECLARE_WRAP(int, pthread_setname_np, (pthread_t thread, const char *name));

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Thread *first;
    int running;
} threads = { .lock = PTHREAD_MUTEX_INITIALIZER,
              .changed = PTHREAD_COND_INITIALIZER };

static bool ending;             /* atomic */
static __thread Thread *self;

static void lock_threads(void)
{
    __real_pthread_mutex_lock(&threads.lock);
}

static void unlock_threads(void)
{
    pthread_mutex_unlock(&threads.lock);
}

/* Called with threads.lock. */
static void remove_locked(Thread *thread)
{
    Thread **link = &threads.first;

    while (*link && *link != thread) {
        link = &(*link)->next;
    }
    if (*link) {
        *link = thread->next;
    }
    g_free(thread);
}

static void add(Thread *thread)
{
    lock_threads();
    thread->next = threads.first;
    threads.first = thread;
    threads.running++;
    unlock_threads();
}

/* SIGBUS is never blocked, the wake-up is not either. */
static void unblock_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    sigaddset(&set, SIGNAL_WAKE);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void instance_thread_enter(void)
{
    self = g_new0(Thread, 1);
    self->thread = pthread_self();
    self->launchers = true;
    add(self);
    unblock_signals();
}

void instance_thread_leave(void *unused)
{
    Thread *thread = self;

    if (bql_locked()) {
        bql_unlock();
    }
    lock_threads();
    if (thread->launchers) {
        remove_locked(thread);
    } else {
        thread->finished = true;
    }
    threads.running--;
    pthread_cond_broadcast(&threads.changed);
    unlock_threads();
}

static void *thread_start(void *opaque)
{
    Thread *thread = opaque;
    char name[16];
    void *value;

    self = thread;
    if (instance_guest()) {
        instance_ops()->enter_thread(instance_guest());
        snprintf(name, sizeof(name), "%.15s", instance_id());
        __real_pthread_setname_np(pthread_self(), name);
    }
    unblock_signals();
    pthread_cleanup_push(instance_thread_leave, NULL);
    value = thread->start(thread->argument);
    pthread_cleanup_pop(1);
    return value;
}

/*
 * Join the detached threads that have finished.  Called with threads.lock;
 * they have nothing left to do that takes it.
 */
static void reap_locked(void)
{
    Thread *thread = threads.first;

    while (thread) {
        Thread *next = thread->next;

        if (thread->finished && thread->detached) {
            __real_pthread_join(thread->thread, NULL);
            remove_locked(thread);
        }
        thread = next;
    }
}

WRAP(int, pthread_create, (pthread_t *ret_thread, const pthread_attr_t *attr,
                           void *(*start)(void *), void *argument))
{
    Thread *thread;
    pthread_attr_t joinable;
    int detach_state = PTHREAD_CREATE_JOINABLE;
    int ret;

    /* RCU's thread is made while the copy is loaded: nobody knows whose. */
    if (instance_context && !instance_guest()) {
        return __real_pthread_create(ret_thread, attr, start, argument);
    }
    if (attr) {
        pthread_attr_getdetachstate(attr, &detach_state);
        joinable = *attr;
        pthread_attr_setdetachstate(&joinable, PTHREAD_CREATE_JOINABLE);
        attr = &joinable;
    }
    thread = g_new0(Thread, 1);
    thread->start = start;
    thread->argument = argument;
    thread->detached = detach_state == PTHREAD_CREATE_DETACHED;
    lock_threads();
    reap_locked();
    ret = __real_pthread_create(&thread->thread, attr, thread_start, thread);
    if (!ret) {
        *ret_thread = thread->thread;
        thread->next = threads.first;
        threads.first = thread;
        threads.running++;
    } else {
        g_free(thread);
    }
    unlock_threads();
    return ret;
}

/* Called with threads.lock. */
static Thread *find_locked(pthread_t thread)
{
    Thread *found = threads.first;

    while (found && !pthread_equal(found->thread, thread)) {
        found = found->next;
    }
    return found;
}

int __wrap_pthread_join(pthread_t thread, void **ret_value)
{
    int ret = __real_pthread_join(thread, ret_value);

    if (!ret && instance_guest()) {
        Thread *found;

        lock_threads();
        found = find_locked(thread);
        if (found) {
            remove_locked(found);
        }
        unlock_threads();
    }
    return ret;
}

WRAP(int, pthread_detach, (pthread_t thread))
{
    if (instance_guest()) {
        Thread *found;

        lock_threads();
        found = find_locked(thread);
        if (found) {
            found->detached = true;
        }
        unlock_threads();
        if (found) {
            return 0;
        }
    }
    return __real_pthread_detach(thread);
}

void instance_threads_end(void)
{
    qatomic_set(&ending, true);
    lock_threads();
    for (Thread *thread = threads.first; thread; thread = thread->next) {
        if (!thread->finished) {
            pthread_cancel(thread->thread);
        }
    }
    unlock_threads();
}

int instance_threads_wait(int wait_ms)
{
    struct timespec until;
    int left, ret = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += wait_ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    lock_threads();
    for (Thread *thread = threads.first; thread; thread = thread->next) {
        if (!thread->finished) {
            pthread_cancel(thread->thread);
            pthread_kill(thread->thread, SIGNAL_WAKE);
        }
    }
    while (threads.running && !ret) {
        ret = __real_pthread_cond_timedwait(&threads.changed, &threads.lock,
                                            &until);
    }
    left = threads.running;
    unlock_threads();
    return left;
}

void instance_threads_join(void)
{
    lock_threads();
    while (threads.first) {
        __real_pthread_join(threads.first->thread, NULL);
        remove_locked(threads.first);
    }
    unlock_threads();
}

static void end_if_told(void)
{
    if (unlikely(qatomic_read(&ending))) {
        pthread_testcancel();
    }
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    struct timespec until;
    int ret;

    if (!instance_guest()) {
        return __real_pthread_mutex_lock(mutex);
    }
    end_if_told();
    if (likely(!pthread_mutex_trylock(mutex))) {
        return 0;
    }
    do {
        end_if_told();
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += RETRY_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        ret = pthread_mutex_timedlock(mutex, &until);
    } while (ret == ETIMEDOUT);
    return ret;
}

/*
 * A cancelled wait has its mutex again.  The BQL's is released where the
 * thread leaves, which a thread that has the BQL can tell.
 */
static void release_mutex(void *opaque)
{
    if (!bql_locked()) {
        pthread_mutex_unlock(opaque);
    }
}

WRAP(int, pthread_cond_wait, (pthread_cond_t *cond, pthread_mutex_t *mutex))
{
    int ret;

    pthread_cleanup_push(release_mutex, mutex);
    ret = __real_pthread_cond_wait(cond, mutex);
    pthread_cleanup_pop(0);
    return ret;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond,
                                  pthread_mutex_t *mutex,
                                  const struct timespec *until)
{
    int ret;

    pthread_cleanup_push(release_mutex, mutex);
    ret = __real_pthread_cond_timedwait(cond, mutex, until);
    pthread_cleanup_pop(0);
    return ret;
}

/* QemuEvent and GLib's locks wait here; nothing of libc's is held. */
WRAP(long, syscall, (long number, long a, long b, long c, long d, long e,
                     long f))
{
    int type;
    long ret;

    if (number != SYS_futex || !instance_guest()) {
        return __real_syscall(number, a, b, c, d, e, f);
    }
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
    ret = __real_syscall(number, a, b, c, d, e, f);
    pthread_setcanceltype(type, NULL);
    return ret;
}

/*
 * What QEMU wants done at the end of a thread frees what is the thread's own.
 * Of one that is told to end it does not happen: it may be in the middle of
 * using it (fdmon-poll.c asserts that it is not), and the copy's memory goes
 * as a whole.
 */
static __thread NotifierList at_exit;
static __thread Notifier at_exit_notifier;

static void run_at_exit(Notifier *notifier, void *data)
{
    if (!qatomic_read(&ending)) {
        notifier_list_notify(&at_exit, data);
    }
}

WRAP(void, qemu_thread_atexit_add, (Notifier *notifier))
{
    if (!instance_guest()) {
        __real_qemu_thread_atexit_add(notifier);
        return;
    }
    if (!at_exit_notifier.notify) {
        at_exit_notifier.notify = run_at_exit;
        __real_qemu_thread_atexit_add(&at_exit_notifier);
    }
    notifier_list_add(&at_exit, notifier);
}

/* The guest's id first; what QEMU calls the thread after it. */
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    char full[32];

    if (!instance_guest()) {
        return __real_pthread_setname_np(thread, name);
    }
    snprintf(full, sizeof(full), "%.9s/%s", instance_id(), name);
    full[15] = '\0';
    return __real_pthread_setname_np(thread, full);
}
