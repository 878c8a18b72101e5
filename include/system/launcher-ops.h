/*
 * What a copy of the emulator and the launcher know of one another
 *
 * The launcher is the executable; it owns the process: the table of guests,
 * signals, forks, and the end of each guest.  Every copy of the emulator
 * receives a LauncherContext when it is entered, and with it this table of
 * functions.  The launcher in turn calls a copy through its InstanceHooks.
 *
 * Plain C, no GLib, no QEMU type: both sides have their own GLib.
 *
 * Threads.  Every function may be called from any thread, with any lock of
 * the copy held, unless it says otherwise; none takes a BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_LAUNCHER_OPS_H
#define SYSTEM_LAUNCHER_OPS_H

#include <signal.h>
#include "memsched/memsched.h"

/*
 * Wakes a thread of a copy out of a system call, so that it sees that the
 * copy has ended.  It does nothing else.
 */
#define SIGNAL_WAKE (SIGRTMIN + 5)

/* A guest of this process; its members are the launcher's. */
typedef struct LauncherGuest LauncherGuest;

typedef enum GuestState {
    GUEST_LOADING,              /* its copy is loaded and set up */
    GUEST_RUNNING,              /* its main loop runs */
    GUEST_STOPPING,             /* on its way out */
    GUEST_STOPPED,              /* ended as it was told to */
    GUEST_FAILED,               /* did not start, or ended in an error */
} GuestState;

typedef struct GuestInfo {
    char id[MEMSCHED_ID_MAX];
    GuestState state;
    int status;                 /* what it gave to exit(), once it has ended */
    int thread_id;              /* of its main loop; 0 before and after */
    char message[320];          /* explains the state; may be empty */
} GuestInfo;

/* A state of a guest has changed.  Must not block or call back. */
typedef void GuestObserver(void *opaque, const GuestInfo *info);

/* How a guest is to be started; everything is copied. */
typedef struct GuestOptions {
    const char *id;
    const char *args_file;      /* file with its command line, or NULL */
    char **args;                /* else its command line, NULL at the end */
    uint64_t min_bytes;         /* as for memsched_client_new() */
    uint64_t max_bytes;
    unsigned shares;
} GuestOptions;

/*
 * What the launcher asks of a copy.  Any thread, except where it says
 * otherwise; none waits for the copy's main loop.
 */
typedef struct InstanceHooks {
    /* Press the machine's power button. */
    void (*power_down)(void);
    /* End in order, as upstream does on SIGTERM. */
    void (*quit)(int signal_number);
    /*
     * A page of this copy's RAM has an error that cannot be repaired; zeros
     * stand there.  @context: as a signal handler has it, on the thread that
     * is about to go on with them; need not return.  NULL: nobody has touched
     * the page.  Async-signal-safe.
     */
    void (*memory_lost)(void *host, void *context);
    /*
     * The copy has ended in one of its threads: stop all others.  Called
     * once, on the launcher's own thread.  0, or the number of threads that
     * would not stop: then their memory is kept from everybody else.
     */
    int (*stop)(void);
    /*
     * Give back what the copy has of the process.  Called once, after
     * stop() has returned 0 and its main-loop thread has been joined.
     */
    void (*give_back)(void);
} InstanceHooks;

typedef struct LauncherOps {
    /* Fills up to @max in the order of their start; returns how many. */
    size_t (*guests)(GuestInfo *ret_infos, size_t max);

    /* Instance 0: one observer; NULL takes it away. */
    void (*observe)(GuestObserver *observer, void *opaque);

    /* Instance 0: load and run a guest; returns at once.  -EEXIST, -EINVAL */
    int (*start)(const GuestOptions *options, MemSchedMessage *ret_message);

    /*
     * Instance 0: end a guest and forget it once it has ended; returns at
     * once.  -ENOENT.
     */
    int (*remove)(const char *id);

    /* Instance 0: end all guests as the first SIGTERM does, and wait. */
    void (*end_all)(void);

    /* What the launcher may call in this copy; before qemu_init(). */
    void (*set_hooks)(LauncherGuest *guest, const InstanceHooks *hooks);

    /* The copy's main loop runs, or has ended. */
    void (*set_state)(LauncherGuest *guest, GuestState state);

    /* A line that explains what went wrong, should the guest fail. */
    void (*set_message)(LauncherGuest *guest, const char *message);

    /*
     * The copy has ended: no code of it but hooks->stop() and ->give_back()
     * runs on purpose any more.  The calling thread ends right after.
     */
    void (*ended)(LauncherGuest *guest, int status, bool failed);

    /* The calling thread belongs to @guest from now on (NULL: instance 0). */
    void (*enter_thread)(LauncherGuest *guest);

    /*
     * sigaction() of a copy, for signals that are routed by thread or that
     * the launcher owns.  @guest NULL: instance 0.
     */
    int (*sigaction)(LauncherGuest *guest, int signo,
                     const struct sigaction *action,
                     struct sigaction *ret_old);

    /* Instance 0: a page of guest @id is lost, as hooks->memory_lost() says. */
    void (*memory_lost)(const char *id, void *host);

    /* Held around fork(), so that no instance starts meanwhile. */
    void (*fork_begin)(void);
    void (*fork_end)(void);
} LauncherOps;

typedef struct LauncherContext {
    const LauncherOps *ops;
    LauncherGuest *guest;       /* NULL in instance 0 */
    const char *id;             /* NULL in instance 0 */
    MemSchedClient *client;     /* NULL in instance 0, or without scheduler */
} LauncherContext;

#endif
