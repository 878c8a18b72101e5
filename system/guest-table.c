/*
 * The guests of this process, as the launcher keeps them.
 *
 * Owns the list of guests and what is told of each: state, message, status.
 * The state goes forward only: loading, running, stopping, then stopped or
 * failed.  An entry stays after its guest has ended, so that the end can be
 * asked for, until it is removed.
 *
 * Threads: any.  Lock: table.lock guards the list, every field that
 * guest-table.h says it guards, and the observer; the observer and the hooks
 * are called with it held, so that an entry cannot vanish meanwhile and
 * changes are told in their order.  Neither may block or call back.
 *
 * It does not start or end anything: guest-run.c and manager.c do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "guest-table.h"

static struct {
    pthread_mutex_t lock;
    LauncherGuest *first;
    GuestObserver *observer;
    void *opaque;
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void fill_info(const LauncherGuest *guest, GuestInfo *ret_info)
{
    memset(ret_info, 0, sizeof(*ret_info));
    g_strlcpy(ret_info->id, guest->id, sizeof(ret_info->id));
    ret_info->state = guest->state;
    ret_info->status = guest->status;
    ret_info->thread_id = guest->thread_id;
    if (guest->state >= GUEST_STOPPED) {
        /* QEMU says what is wrong, and in which option, on two lines. */
        g_strlcpy(ret_info->message, guest->earlier,
                  sizeof(ret_info->message));
        g_strlcat(ret_info->message, guest->earlier[0] ? "; " : "",
                  sizeof(ret_info->message));
        g_strlcat(ret_info->message, guest->message,
                  sizeof(ret_info->message));
    }
}

static void tell_locked(const LauncherGuest *guest)
{
    GuestInfo info;

    if (table.observer) {
        fill_info(guest, &info);
        table.observer(table.opaque, &info);
    }
}

static LauncherGuest *find_locked(const char *id)
{
    for (LauncherGuest *guest = table.first; guest; guest = guest->next) {
        if (!strcmp(guest->id, id)) {
            return guest;
        }
    }
    return NULL;
}

/* Threads that would not stop still look at what the launcher gave them. */
static void free_guest(LauncherGuest *guest)
{
    if (guest->kept) {
        return;
    }
    g_free(guest->args_file);
    g_strfreev(guest->args);
    g_free(guest);
}

static void unlink_locked(LauncherGuest *guest)
{
    LauncherGuest **link = &table.first;

    while (*link != guest) {
        link = &(*link)->next;
    }
    *link = guest->next;
}

static LauncherGuest *new_guest(const GuestOptions *options)
{
    LauncherGuest *guest = g_new0(LauncherGuest, 1);

    g_strlcpy(guest->id, options->id, sizeof(guest->id));
    guest->args_file = g_strdup(options->args_file);
    guest->args = g_strdupv(options->args);
    guest->client_options = (MemSchedClientOptions) {
        .id = guest->id,
        .min_bytes = options->min_bytes,
        .max_bytes = options->max_bytes,
        .shares = options->shares,
    };
    return guest;
}

int guest_table_add(const GuestOptions *options, LauncherGuest **ret_guest,
                    MemSchedMessage *ret_message)
{
    LauncherGuest **link = &table.first;
    LauncherGuest *old;
    int ret = 0;

    pthread_mutex_lock(&table.lock);
    old = find_locked(options->id);
    if (old && old->given_back) {
        /* What is left is the story of a guest that has ended. */
        unlink_locked(old);
        free_guest(old);
    } else if (old) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "guest '%s' %s", options->id,
                 old->remove ? "is still stopping; wait until "
                 "query-memsched-guests no longer shows it" :
                 "exists already; choose another id");
        ret = -EEXIST;
    }
    if (!ret) {
        while (*link) {
            link = &(*link)->next;
        }
        *link = *ret_guest = new_guest(options);
        tell_locked(*ret_guest);
    }
    pthread_mutex_unlock(&table.lock);
    return ret;
}

void guest_table_forget(LauncherGuest *guest)
{
    pthread_mutex_lock(&table.lock);
    unlink_locked(guest);
    pthread_mutex_unlock(&table.lock);
    free_guest(guest);
}

size_t guest_table_query(GuestInfo *ret_infos, size_t max)
{
    size_t count = 0;

    pthread_mutex_lock(&table.lock);
    for (LauncherGuest *guest = table.first; guest; guest = guest->next) {
        if (count < max) {
            fill_info(guest, &ret_infos[count]);
        }
        count++;
    }
    pthread_mutex_unlock(&table.lock);
    return count;
}

void guest_table_observe(GuestObserver *observer, void *opaque)
{
    pthread_mutex_lock(&table.lock);
    table.observer = observer;
    table.opaque = opaque;
    pthread_mutex_unlock(&table.lock);
}

static void set_state_locked(LauncherGuest *guest, GuestState state)
{
    if (state > guest->state && guest->state < GUEST_STOPPED) {
        guest->state = state;
        tell_locked(guest);
    }
}

void guest_table_set_state(LauncherGuest *guest, GuestState state)
{
    pthread_mutex_lock(&table.lock);
    if (!guest->ended) {
        guest->thread_id = gettid();
        set_state_locked(guest, state);
    }
    pthread_mutex_unlock(&table.lock);
}

void guest_table_set_message(LauncherGuest *guest, const char *message)
{
    pthread_mutex_lock(&table.lock);
    g_strlcpy(guest->earlier, guest->message, sizeof(guest->earlier));
    g_strlcpy(guest->message, message, sizeof(guest->message));
    pthread_mutex_unlock(&table.lock);
}

void guest_table_set_hooks(LauncherGuest *guest, const InstanceHooks *hooks)
{
    pthread_mutex_lock(&table.lock);
    guest->hooks = hooks;
    pthread_mutex_unlock(&table.lock);
}

bool guest_table_end(LauncherGuest *guest, int status, bool failed)
{
    bool first;

    pthread_mutex_lock(&table.lock);
    first = !guest->ended;
    if (first) {
        guest->ended = true;
        guest->status = status;
        guest->thread_id = 0;
        set_state_locked(guest, GUEST_STOPPING);
        if (status && !guest->message[0]) {
            snprintf(guest->message, sizeof(guest->message),
                     "it ended with status %d and gave no reason", status);
        }
        if (!status && !failed) {
            guest->message[0] = '\0';
            guest->earlier[0] = '\0';
        }
        if (failed) {
            /* Shown at once: what follows may take a while. */
            set_state_locked(guest, GUEST_FAILED);
        }
    }
    pthread_mutex_unlock(&table.lock);
    return first;
}

void guest_table_given_back(LauncherGuest *guest)
{
    bool remove;

    pthread_mutex_lock(&table.lock);
    guest->given_back = true;
    set_state_locked(guest, guest->status ? GUEST_FAILED : GUEST_STOPPED);
    remove = guest->remove;
    if (remove) {
        unlink_locked(guest);
    }
    pthread_mutex_unlock(&table.lock);
    if (remove) {
        free_guest(guest);
    }
}

int guest_table_remove(const char *id)
{
    LauncherGuest *guest;
    bool gone = false;

    pthread_mutex_lock(&table.lock);
    guest = find_locked(id);
    if (guest) {
        guest->remove = true;
        gone = guest->given_back;
        if (gone) {
            unlink_locked(guest);
        }
    }
    pthread_mutex_unlock(&table.lock);
    if (gone) {
        free_guest(guest);
    }
    return guest ? 0 : -ENOENT;
}

LauncherGuest *guest_table_next_ended(void)
{
    LauncherGuest *guest;

    pthread_mutex_lock(&table.lock);
    guest = table.first;
    while (guest && !(guest->ended && !guest->given_back)) {
        guest = guest->next;
    }
    pthread_mutex_unlock(&table.lock);
    return guest;
}

void guest_table_quit_removed(int signo)
{
    pthread_mutex_lock(&table.lock);
    for (LauncherGuest *guest = table.first; guest; guest = guest->next) {
        if (guest->remove && !guest->quit_asked && !guest->ended &&
            guest->hooks) {
            guest->quit_asked = true;
            guest->hooks->quit(signo);
        }
    }
    pthread_mutex_unlock(&table.lock);
}

void guest_table_memory_lost(const char *id, void *host)
{
    LauncherGuest *guest;

    pthread_mutex_lock(&table.lock);
    guest = find_locked(id);
    if (guest && guest->hooks && !guest->ended) {
        guest->hooks->memory_lost(host, NULL);
    }
    pthread_mutex_unlock(&table.lock);
}

void guest_table_each(void (*call)(const InstanceHooks *hooks))
{
    pthread_mutex_lock(&table.lock);
    for (LauncherGuest *guest = table.first; guest; guest = guest->next) {
        if (guest->hooks && !guest->ended) {
            call(guest->hooks);
        }
    }
    pthread_mutex_unlock(&table.lock);
}

size_t guest_table_alive(void)
{
    size_t alive = 0;

    pthread_mutex_lock(&table.lock);
    for (LauncherGuest *guest = table.first; guest; guest = guest->next) {
        alive += !guest->given_back;
    }
    pthread_mutex_unlock(&table.lock);
    return alive;
}
