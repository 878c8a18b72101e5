/*
 * Starting and ending guests.
 *
 * Each guest has one thread of the launcher's: it reads the guest's command
 * line, registers it with the scheduler, loads its copy of the emulator, and
 * becomes the copy's main-loop thread.  Guests start side by side; the loading
 * of copies alone is one after another.
 *
 * Whatever goes wrong on the way leaves a guest in state failed with a
 * sentence that says why, and nothing else.
 *
 * Threads: guest_run_start() and the others anywhere, guest_thread() is the
 * guest's own.  It takes no lock but the table's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include "guest-run.h"
#include "instance.h"
#include "manager.h"
#include "signals.h"

/* As the kernel gives to a main thread: QEMU's setup runs on it. */
#define STACK_BYTES (8u << 20)

static const char *emulator_path;
static const LauncherOps *launcher_ops;

void guest_run_init(const char *path, const LauncherOps *ops)
{
    emulator_path = path;
    launcher_ops = ops;
}

static int fail(LauncherGuest *guest, const char *sentence)
{
    fprintf(stderr, "%s qemu-system-x86_64: %s\n", guest->id, sentence);
    guest_table_set_message(guest, sentence);
    return -1;
}

/* What is wrong with the words of an args-file, in one sentence. */
static char *parse_args(LauncherGuest *guest, const char *text, size_t length)
{
    g_autoptr(GError) error = NULL;

    if (strlen(text) != length) {
        return g_strdup("has a byte of value 0; it is to be a text of options");
    }
    if (g_shell_parse_argv(text, NULL, &guest->args, &error)) {
        return NULL;
    }
    if (g_error_matches(error, G_SHELL_ERROR, G_SHELL_ERROR_EMPTY_STRING)) {
        return g_strdup("has no option; it is to be the guest's command line");
    }
    return g_strdup("has a quote or an escape that does not end");
}

/* Words as a shell reads them: quotes, and comments from # to the end. */
static int read_args_file(LauncherGuest *guest)
{
    g_autofree char *text = NULL;
    g_autofree char *wrong = NULL;
    g_autofree char *sentence = NULL;
    g_autoptr(GError) error = NULL;
    gsize length;

    if (!g_file_get_contents(guest->args_file, &text, &length, &error)) {
        const char *reason = strrchr(error->message, ':');

        sentence = g_strdup_printf("args-file '%s' cannot be read%s",
                                   guest->args_file, reason ? reason : "");
        return fail(guest, sentence);
    }
    wrong = parse_args(guest, text, length);
    if (wrong) {
        sentence = g_strdup_printf("args-file '%s' %s", guest->args_file,
                                   wrong);
        return fail(guest, sentence);
    }
    return 0;
}

static int admit(LauncherGuest *guest)
{
    MemSched *ms = memsched_running();
    MemSchedMessage message = { "" };
    int ret;

    if (!ms) {
        return 0;
    }
    ret = memsched_client_new(ms, &guest->client_options,
                              &guest->context.client, &message);
    if (ret < 0) {
        guest->context.client = NULL;
        return fail(guest, message.text[0] ? message.text : strerror(-ret));
    }
    return 0;
}

static int prepare(LauncherGuest *guest, QemuInstanceMain **ret_entry)
{
    MemSchedMessage message = { "" };

    if (guest->args_file && read_args_file(guest) < 0) {
        return -1;
    }
    if (admit(guest) < 0) {
        return -1;
    }
    if (instance_load(emulator_path, guest->id, ret_entry, &message) < 0) {
        return fail(guest, message.text);
    }
    return 0;
}

static void *guest_thread(void *opaque)
{
    LauncherGuest *guest = opaque;
    QemuInstanceMain *entry;
    char **argv;
    guint count;

    pthread_setname_np(pthread_self(), guest->id);
    signals_enter_thread(guest);
    if (prepare(guest, &entry) < 0) {
        guest_run_ended(guest, 1, true);
        return NULL;
    }
    /* QEMU keeps pointers into it: it stays. */
    count = g_strv_length(guest->args);
    argv = g_new0(char *, count + 2);
    argv[0] = g_strdup("qemu-system-x86_64");
    for (guint i = 0; i < count; i++) {
        argv[i + 1] = guest->args[i];
    }
    guest->entry = entry;
    entry(&guest->context, count + 1, argv);
    g_free(argv[0]);
    g_free(argv);
    return NULL;
}

/* A guest's thread leaves signals to instance 0, but for its own two. */
static int create_thread(LauncherGuest *guest)
{
    char name[16];
    pthread_attr_t attr;
    sigset_t all, old;
    int ret;

    g_strlcpy(name, guest->id, sizeof(name));
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGNAL_WAKE);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ret = pthread_create(&guest->thread, &attr, guest_thread, guest);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return -ret;
}

int guest_run_start(const GuestOptions *options, MemSchedMessage *ret_message)
{
    LauncherGuest *guest;
    int ret = manager_start();

    if (ret < 0) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "the launcher's thread does not start: %s", strerror(-ret));
        return ret;
    }
    ret = guest_table_add(options, &guest, ret_message);
    if (ret < 0) {
        return ret;
    }
    guest->context.ops = launcher_ops;
    guest->context.guest = guest;
    guest->context.id = guest->id;
    ret = create_thread(guest);
    if (ret < 0) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "guest '%s' gets no thread: %s", options->id, strerror(-ret));
        guest_table_forget(guest);
    }
    return ret;
}

int guest_run_remove(const char *id)
{
    int ret = guest_table_remove(id);

    if (!ret) {
        manager_wake();
    }
    return ret;
}

void guest_run_ended(LauncherGuest *guest, int status, bool failed)
{
    if (guest_table_end(guest, status, failed)) {
        manager_wake();
    }
}
