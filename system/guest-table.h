/*
 * The guests of this process, as the launcher keeps them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_GUEST_TABLE_H
#define SYSTEM_GUEST_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include "system/instance-entry.h"

/* Highest signal number whose handler is kept for each instance. */
#define GUEST_SIGNALS 65

typedef void GuestHandler(int signo, siginfo_t *info, void *context);

struct LauncherGuest {
    /* Written before the guest's thread starts, then constant. */
    char id[MEMSCHED_ID_MAX];
    char *args_file;
    char **args;                /* NULL where args_file is given */
    MemSchedClientOptions client_options;
    pthread_t thread;

    /* Written by the guest's own thread before its copy is entered. */
    LauncherContext context;
    QemuInstanceMain *entry;    /* of its copy, or NULL */

    /* signals.c: what the copy has asked for, by number of the signal. */
    _Atomic(GuestHandler *) handlers[GUEST_SIGNALS];
    struct sigaction actions[GUEST_SIGNALS];

    /* Guarded by the table's lock. */
    GuestState state;
    int status;
    int thread_id;
    char message[320];          /* the last line that explains */
    char earlier[160];          /* the one before it */
    bool ended;                 /* queued for, or done by, the manager */
    bool given_back;            /* nothing of it is left */
    bool kept;                  /* threads of it are left; never freed */
    bool remove;                /* forget it once it has ended */
    bool quit_asked;
    const InstanceHooks *hooks; /* NULL before, and after give_back() */
    struct LauncherGuest *next; /* in the order of their start */
};

/* Add a guest in state loading.  -EEXIST: the id is taken. */
int guest_table_add(const GuestOptions *options, LauncherGuest **ret_guest,
                    MemSchedMessage *ret_message);

/* Forget and free; the guest has ended. */
void guest_table_forget(LauncherGuest *guest);

size_t guest_table_query(GuestInfo *ret_infos, size_t max);
void guest_table_observe(GuestObserver *observer, void *opaque);

void guest_table_set_state(LauncherGuest *guest, GuestState state);
void guest_table_set_message(LauncherGuest *guest, const char *message);
void guest_table_set_hooks(LauncherGuest *guest, const InstanceHooks *hooks);

/* The guest's end, first part: its status; false if it had ended already. */
bool guest_table_end(LauncherGuest *guest, int status, bool failed);

/* The guest's end, last part: nothing of it runs. */
void guest_table_given_back(LauncherGuest *guest);

/* Forget it when it has ended, or now.  -ENOENT */
int guest_table_remove(const char *id);

/* The first guest that has ended and is not given back yet, or NULL. */
LauncherGuest *guest_table_next_ended(void);

/* Tell each guest that is to be removed, once, to end. */
void guest_table_quit_removed(int signo);

/* Tell the guest, if it is there, of a page that it has lost. */
void guest_table_memory_lost(const char *id, void *host);

/* Calls @call with the hooks of each guest that has not ended, in order. */
void guest_table_each(void (*call)(const InstanceHooks *hooks));

/* Guests that have not been given back. */
size_t guest_table_alive(void);

#endif
