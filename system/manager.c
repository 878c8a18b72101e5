/*
 * The launcher's own thread: ends of guests, and the end of the process.
 *
 * A guest's copy cannot end itself whole: the thread that ends it is one of
 * its own.  So that thread says that it has ended, and this one does the rest:
 * the copy's stop() and give_back(), its client of the scheduler, its entry in
 * the table.
 *
 * It also does what SIGINT, SIGTERM and SIGHUP ask for, since a signal handler
 * may do next to nothing.  The first: every guest's power button is pressed,
 * in the order of their start; those that are still there POWER_DOWN_MS later
 * are told to quit, those still there QUIT_MS later are left behind, and then
 * instance 0 quits, which ends the process.  The second: the process ends at
 * once.  A guest whose machine is not running has nobody to see the button,
 * and is told to quit directly; its copy decides that.
 *
 * Threads: the manager's own; the other functions anywhere.  The lock guards
 * the fields that say so; no hook is called with it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "instance.h"
#include "manager.h"
#include "signals.h"

/* A guest's system takes seconds to go down; people wait for no more. */
#define POWER_DOWN_MS 10000
/* Flushing disks and closing; no guest's system takes part any more. */
#define QUIT_MS 10000

typedef enum Phase {
    PHASE_RUN,
    PHASE_POWER_DOWN,           /* buttons are pressed */
    PHASE_QUIT,                 /* guests are told to quit */
    PHASE_DONE,                 /* none is left, or they are left behind */
} Phase;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started;               /* guarded by lock, as those below */
    Phase phase;
    const InstanceHooks *first; /* NULL: it ends by itself */
    int event;                  /* an eventfd, constant once started */
    int64_t deadline_ms;        /* the manager's thread alone */
    atomic_int signals;         /* number of them; written by the handler */
    atomic_int signo;           /* the first of them */
} manager = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
    .event = -1,
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

void manager_wake(void)
{
    uint64_t one = 1;
    ssize_t ret = write(manager.event, &one, sizeof(one));

    (void)ret;      /* Full means that it is awake. */
}

/* In signal context. */
static void take_signal(int signo)
{
    int saved = errno;

    if (atomic_fetch_add(&manager.signals, 1)) {
        _exit(128 + signo);
    }
    atomic_store(&manager.signo, signo);
    manager_wake();
    errno = saved;
}

/* Everything of the guest, in its own order: threads, RAM, then the rest. */
static void give_back(LauncherGuest *guest)
{
    const InstanceHooks *hooks = guest->hooks;
    int left = hooks ? hooks->stop() : 0;

    if (left) {
        char text[160];

        snprintf(text, sizeof(text), "%d of its threads did not stop; its "
                 "memory is kept until the process ends", left);
        guest_table_set_message(guest, text);
        guest->status = guest->status ? guest->status : 1;
        guest->kept = true;
        pthread_detach(guest->thread);
    } else {
        pthread_join(guest->thread, NULL);
        if (hooks) {
            hooks->give_back();
        }
        memsched_client_free(guest->context.client);
        guest->context.client = NULL;
    }
    guest_table_set_hooks(guest, NULL);
    if (!left && guest->entry) {
        instance_discard(guest->entry);
    }
    guest_table_given_back(guest);
}

static void set_phase(Phase phase)
{
    pthread_mutex_lock(&manager.lock);
    manager.phase = phase;
    pthread_cond_broadcast(&manager.changed);
    pthread_mutex_unlock(&manager.lock);
}

static Phase get_phase(void)
{
    Phase phase;

    pthread_mutex_lock(&manager.lock);
    phase = manager.phase;
    pthread_mutex_unlock(&manager.lock);
    return phase;
}

static void press_button(const InstanceHooks *hooks)
{
    hooks->power_down();
}

static void tell_to_quit(const InstanceHooks *hooks)
{
    hooks->quit(SIGTERM);
}

static void end_process(void)
{
    const InstanceHooks *first;

    pthread_mutex_lock(&manager.lock);
    first = manager.first;
    manager.phase = PHASE_DONE;
    pthread_cond_broadcast(&manager.changed);
    pthread_mutex_unlock(&manager.lock);
    if (first) {
        first->quit(atomic_load(&manager.signo));
    }
}

/* What the phase asks for now; returns how long nothing is to be done. */
static int step(void)
{
    Phase phase = get_phase();
    int64_t left = manager.deadline_ms - now_ms();

    if (phase == PHASE_RUN) {
        if (!atomic_load(&manager.signo)) {
            return -1;
        }
        phase = PHASE_POWER_DOWN;
    } else if (phase == PHASE_DONE) {
        return -1;
    } else if (guest_table_alive() && left > 0) {
        return left;
    } else if (!guest_table_alive() || phase == PHASE_QUIT) {
        end_process();
        return -1;
    } else {
        set_phase(PHASE_QUIT);
        manager.deadline_ms = now_ms() + QUIT_MS;
        guest_table_each(tell_to_quit);
        return QUIT_MS;
    }
    set_phase(phase);
    manager.deadline_ms = now_ms() + POWER_DOWN_MS;
    guest_table_each(press_button);
    return guest_table_alive() ? POWER_DOWN_MS : 0;
}

static void *manager_thread(void *opaque)
{
    pthread_setname_np(pthread_self(), "launcher");
    for (;;) {
        struct pollfd pollfd = { .fd = manager.event, .events = POLLIN };
        LauncherGuest *guest;
        uint64_t count;
        int wait_ms;

        guest_table_quit_removed(SIGTERM);
        while ((guest = guest_table_next_ended())) {
            give_back(guest);
        }
        wait_ms = step();
        if (wait_ms && poll(&pollfd, 1, wait_ms) > 0) {
            ssize_t ret = read(manager.event, &count, sizeof(count));

            (void)ret;
        }
    }
    return NULL;
}

static int start_locked(void)
{
    sigset_t all, old;
    pthread_t thread;
    int ret;

    manager.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (manager.event < 0) {
        return -errno;
    }
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&thread, NULL, manager_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ret) {
        close(manager.event);
        return -ret;
    }
    pthread_detach(thread);
    signals_take_over(take_signal);
    manager.started = true;
    return 0;
}

int manager_start(void)
{
    int ret = 0;

    pthread_mutex_lock(&manager.lock);
    if (!manager.started) {
        ret = start_locked();
    }
    pthread_mutex_unlock(&manager.lock);
    return ret;
}

void manager_set_first(const InstanceHooks *hooks)
{
    pthread_mutex_lock(&manager.lock);
    manager.first = hooks;
    pthread_mutex_unlock(&manager.lock);
}

void manager_end_all(void)
{
    int none = 0;

    pthread_mutex_lock(&manager.lock);
    manager.first = NULL;
    if (manager.started) {
        atomic_compare_exchange_strong(&manager.signo, &none, SIGTERM);
        manager_wake();
        while (manager.phase != PHASE_DONE) {
            pthread_cond_wait(&manager.changed, &manager.lock);
        }
    }
    pthread_mutex_unlock(&manager.lock);
}
