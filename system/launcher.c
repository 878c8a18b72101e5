/*
 * The launcher: the executable that users run.
 *
 * Owns the process.  It finds the shared object that holds the emulator beside
 * itself and runs it on the main thread, as instance 0, so that the program
 * behaves as upstream's qemu-system-x86_64.  Each -object guest of instance 0
 * becomes a further copy of that object.  What the copies may ask of the
 * process is the table of functions below.
 *
 * Links with libmemsched, so that every copy of the emulator finds the one
 * scheduler of the process already loaded.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "guest-run.h"
#include "guest-table.h"
#include "instance.h"
#include "manager.h"
#include "signals.h"

#define INSTANCE_FILE "libqemu-system-x86_64.so"

/* A reference, or the linker would drop the library as not needed. */
__attribute__((used))
static const char *(*const scheduler_loaded)(void) = memsched_version;

static char *instance_path(void)
{
    g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = exe ? g_path_get_dirname(exe) : NULL;

    return dir ? g_build_filename(dir, INSTANCE_FILE, NULL) : NULL;
}

static void set_hooks(LauncherGuest *guest, const InstanceHooks *hooks)
{
    if (guest) {
        guest_table_set_hooks(guest, hooks);
        /* It may have been told to go before it could hear. */
        manager_wake();
    } else {
        manager_set_first(hooks);
        signals_set_first(hooks);
    }
}

static const LauncherOps launcher_ops = {
    .guests = guest_table_query,
    .observe = guest_table_observe,
    .start = guest_run_start,
    .remove = guest_run_remove,
    .end_all = manager_end_all,
    .set_hooks = set_hooks,
    .set_state = guest_table_set_state,
    .set_message = guest_table_set_message,
    .ended = guest_run_ended,
    .enter_thread = signals_enter_thread,
    .sigaction = signals_sigaction,
    .memory_lost = guest_table_memory_lost,
    .fork_begin = instance_lock,
    .fork_end = instance_unlock,
};

static const LauncherContext first_context = { .ops = &launcher_ops };

int main(int argc, char **argv)
{
    char *path = instance_path();
    MemSchedMessage message = { "" };
    QemuInstanceMain *entry;

    if (!path) {
        fprintf(stderr, "%s: /proc/self/exe cannot be read; mount /proc\n",
                argv[0]);
        return EXIT_FAILURE;
    }
    signals_init();
    guest_run_init(path, &launcher_ops);
    if (instance_load_first(path, &entry, &message) < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], message.text);
        return EXIT_FAILURE;
    }
    return entry(&first_context, argc, argv);
}
