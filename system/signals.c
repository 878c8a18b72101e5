/*
 * Signals of a process with several guests.
 *
 * The kernel has one handler a signal and process, each copy of QEMU installs
 * its own.  So:
 *
 * SIGUSR1 (a kick of a vCPU) and SIGBUS are routed by thread: each copy's
 * handler is kept apart, and the one handler that the kernel knows calls the
 * handler of the copy to which the thread belongs.  Instance 0 has all threads
 * that belong to no guest.
 *
 * SIGINT, SIGTERM and SIGHUP stay with instance 0 until the first guest is
 * started, and belong to the launcher from then on.
 *
 * Before anybody's handler of SIGBUS is asked, libmemsched is: an error in a
 * guest's RAM is repaired while the thread waits in route(), and the access is
 * made once more.  What cannot be repaired is told to the copy to which the
 * thread belongs, and is nobody else's business: no handler of QEMU sees an
 * address of scheduled RAM, since upstream's ends the process under TCG.
 * docs/devel/protection.rst lists what runs in the handler.
 *
 * All other signals are instance 0's.  A guest's copy is told that it has set
 * a handler, and none is set.
 *
 * The variable that says to whom a thread belongs is the executable's, so that
 * reading it in a signal handler never allocates.
 *
 * Threads: any; handlers run in any thread.  Handlers are kept in atomics, as
 * a signal may come while one is being replaced.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include "signals.h"

static __thread LauncherGuest *thread_guest;
/* Instance 0's. */
static _Atomic(GuestHandler *) first_handlers[GUEST_SIGNALS];
static _Atomic(const InstanceHooks *) first_hooks;
static struct sigaction first_actions[GUEST_SIGNALS];
static atomic_bool taken_over;

static bool is_routed(int signo)
{
    return signo == SIGUSR1 || signo == SIGBUS;
}

static bool is_launchers(int signo)
{
    return signo == SIGINT || signo == SIGTERM || signo == SIGHUP;
}

/* Ends the process by the signal itself, as without any handler. */
static void default_end(int signo)
{
    struct sigaction action = { .sa_handler = SIG_DFL };
    sigset_t set;

    sigaction(signo, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(signo);
}

/*
 * The kernel tells of an error in a page: true where it is dealt with.  The
 * hooks are set before a copy touches RAM, and stay while it has threads.
 *
 * BUS_MCEERR_AO: nobody has touched the page yet.  What is none of a guest's
 * is left alone: whoever uses it will meet the error.
 */
static bool serve_memory_error(const siginfo_t *info, void *context)
{
    LauncherGuest *guest = thread_guest;
    bool early = info->si_code == BUS_MCEERR_AO;
    const InstanceHooks *hooks;

    if (!early && info->si_code != BUS_MCEERR_AR &&
        info->si_code != BUS_ADRERR) {
        return false;
    }
    switch (memsched_sigbus(info->si_addr)) {
    case MEMSCHED_SIGBUS_FIXED:
        return true;
    case MEMSCHED_SIGBUS_LOST:
        hooks = guest ? guest->hooks : atomic_load(&first_hooks);
        if (hooks) {
            hooks->memory_lost(info->si_addr, early ? NULL : context);
        }
        return true;
    case MEMSCHED_SIGBUS_FOREIGN:
        break;
    }
    return early && memsched_running();
}

static void route(int signo, siginfo_t *info, void *context)
{
    LauncherGuest *guest = thread_guest;
    GuestHandler *handler = guest ? atomic_load(&guest->handlers[signo])
                             : atomic_load(&first_handlers[signo]);
    int saved = errno;

    if (signo == SIGBUS && serve_memory_error(info, context)) {
        errno = saved;
        return;
    }
    if (handler) {
        handler(signo, info, context);
    } else if (signo == SIGBUS) {
        default_end(signo);
    }
    errno = saved;
}

static void wake(int signo)
{
}

void signals_init(void)
{
    struct sigaction action = { .sa_handler = wake };
    struct sigaction bus = { .sa_sigaction = route, .sa_flags = SA_SIGINFO };
    sigset_t set;

    /* Not SA_RESTART: the system call is to return. */
    sigaction(SIGNAL_WAKE, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    /* Whoever started the process may have left it blocked. */
    sigaction(SIGBUS, &bus, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void signals_set_first(const InstanceHooks *hooks)
{
    atomic_store(&first_hooks, hooks);
}

void signals_take_over(void (*router)(int signo))
{
    static const int mine[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = router,
                                .sa_flags = SA_RESTART };

    if (atomic_exchange(&taken_over, true)) {
        return;
    }
    for (size_t i = 0; i < sizeof(mine) / sizeof(mine[0]); i++) {
        sigaction(mine[i], &action, NULL);
    }
}

void signals_enter_thread(LauncherGuest *guest)
{
    thread_guest = guest;
}

static int set_routed(LauncherGuest *guest, int signo,
                      const struct sigaction *action,
                      struct sigaction *ret_old)
{
    struct sigaction *kept = guest ? &guest->actions[signo]
                                   : &first_actions[signo];
    struct sigaction mine = { .sa_sigaction = route, .sa_flags = SA_SIGINFO };
    GuestHandler *handler;

    if (ret_old) {
        *ret_old = *kept;
    }
    if (!action) {
        return 0;
    }
    *kept = *action;
    /* A handler without SA_SIGINFO takes the first argument alone. */
    handler = action->sa_sigaction;
    if (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN) {
        handler = NULL;
    }
    atomic_store(guest ? &guest->handlers[signo] : &first_handlers[signo],
                 handler);
    return sigaction(signo, &mine, NULL);
}

int signals_sigaction(LauncherGuest *guest, int signo,
                      const struct sigaction *action,
                      struct sigaction *ret_old)
{
    if (signo > 0 && signo < GUEST_SIGNALS && is_routed(signo)) {
        return set_routed(guest, signo, action, ret_old);
    }
    if (guest || (is_launchers(signo) && atomic_load(&taken_over))) {
        if (ret_old) {
            memset(ret_old, 0, sizeof(*ret_old));
        }
        return 0;
    }
    return sigaction(signo, action, ret_old);
}
