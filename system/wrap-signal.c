/*
 * Signals as a copy sees them.
 *
 * Handlers go to the launcher, which knows by thread whose they are.  SIGBUS
 * is never blocked: where it is, a touch of a broken page ends the process,
 * handler or not.  In a guest's copy the signal that wakes its threads at
 * their end is not blocked either.
 *
 * Threads: any; no state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "wrap.h"

static const sigset_t *keep_open(int how, const sigset_t *set,
                                 sigset_t *ret_changed)
{
    if (!set || how == SIG_UNBLOCK || !instance_context) {
        return set;
    }
    *ret_changed = *set;
    sigdelset(ret_changed, SIGBUS);
    if (instance_guest()) {
        sigdelset(ret_changed, SIGNAL_WAKE);
    }
    return ret_changed;
}

WRAP(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *ret_old))
{
    sigset_t changed;

    return __real_pthread_sigmask(how, keep_open(how, set, &changed), ret_old);
}

WRAP(int, sigprocmask, (int how, const sigset_t *set, sigset_t *ret_old))
{
    sigset_t changed;

    return __real_sigprocmask(how, keep_open(how, set, &changed), ret_old);
}

WRAP(int, sigaction, (int signo, const struct sigaction *action,
                      struct sigaction *ret_old))
{
    const LauncherOps *ops = instance_ops();

    return ops ? ops->sigaction(instance_guest(), signo, action, ret_old)
               : __real_sigaction(signo, action, ret_old);
}

WRAP(sighandler_t, signal, (int signo, sighandler_t handler))
{
    struct sigaction action = { .sa_handler = handler,
                                .sa_flags = SA_RESTART };
    struct sigaction old;

    if (!instance_context) {
        return __real_signal(signo, handler);
    }
    if (__wrap_sigaction(signo, &action, &old) < 0) {
        return SIG_ERR;
    }
    return old.sa_handler;
}
