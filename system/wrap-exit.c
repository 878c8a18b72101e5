/*
 * The end of a copy: exit(), _exit(), abort(), failed assertions, atexit().
 *
 * In a guest's copy exit() ends the copy and not the process.  The thread
 * that calls it, whichever it is and on whatever stack (a coroutine's, a
 * device's inside generated code), runs the copy's atexit() functions, tells
 * the launcher, and ends; the launcher's thread then stops the others.  The
 * first end counts; a thread that ends the copy again waits to be stopped.
 *
 * abort() and a failed assertion do the same, but run nothing of the copy any
 * more: its data may be broken.  What cannot be contained is a wild store
 * (SIGSEGV), and a failure inside libc or libmemsched: these end the process.
 *
 * In instance 0, and in a child after fork(), all is as upstream.
 *
 * Threads: any.  exiting and exiting_thread are atomics; the list of
 * functions is guarded by functions_lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/main-loop.h"
#include "wrap.h"

typedef struct ExitFunction {
    void (*call)(void);
    struct ExitFunction *next;
} ExitFunction;

static pthread_mutex_t functions_lock = PTHREAD_MUTEX_INITIALIZER;
static ExitFunction *functions;         /* the last registered first */
static pid_t exiting_thread;            /* 0: the copy has not ended */

/* In a child after fork() the launcher's table is a dead copy. */
static bool in_guest(void)
{
    static pid_t pid;

    if (!instance_guest()) {
        return false;
    }
    if (!pid) {
        /* The copy's own thread comes here first: its atexit() in setup. */
        pid = getpid();
    }
    return getpid() == pid;
}

static ExitFunction *take_function(void)
{
    ExitFunction *function;

    pthread_mutex_lock(&functions_lock);
    function = functions;
    if (function) {
        functions = function->next;
    }
    pthread_mutex_unlock(&functions_lock);
    return function;
}

void instance_exit(int status, bool failed)
{
    pid_t before = qatomic_cmpxchg(&exiting_thread, 0, gettid());
    ExitFunction *function;

    while (before && before != gettid()) {
        pause();
    }
    while (!failed && (function = take_function())) {
        function->call();
        g_free(function);
    }
    if (bql_locked()) {
        bql_unlock();
    }
    instance_ops()->ended(instance_guest(), status, failed);
    pthread_exit(NULL);
}

void G_NORETURN __wrap_exit(int status)
{
    if (!in_guest()) {
        __real_exit(status);
    }
    instance_exit(status, false);
}

void G_NORETURN __wrap__exit(int status)
{
    if (!in_guest()) {
        __real__exit(status);
    }
    instance_exit(status, true);
}

void G_NORETURN __wrap_abort(void)
{
    if (!in_guest()) {
        __real_abort();
    }
    instance_exit(128 + SIGABRT, true);
}

void G_NORETURN __wrap___assert_fail(const char *text, const char *file,
                                     unsigned line, const char *function)
{
    g_autofree char *message = NULL;

    if (!in_guest()) {
        __real___assert_fail(text, file, line, function);
    }
    message = g_strdup_printf("%s:%u: %s: Assertion `%s' failed", file, line,
                              function, text);
    fprintf(stderr, "%s qemu-system-x86_64: %s\n", instance_id(), message);
    instance_ops()->set_message(instance_guest(), message);
    g_free(g_steal_pointer(&message));
    instance_exit(128 + SIGABRT, true);
}

WRAP(int, atexit, (void (*call)(void)))
{
    ExitFunction *function;

    if (!in_guest()) {
        return __real_atexit(call);
    }
    function = g_new(ExitFunction, 1);
    function->call = call;
    pthread_mutex_lock(&functions_lock);
    function->next = functions;
    functions = function;
    pthread_mutex_unlock(&functions_lock);
    return 0;
}
