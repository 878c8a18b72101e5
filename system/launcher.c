/*
 * The launcher: the executable that users run.
 *
 * Owns the process: it finds the shared object that holds the emulator beside
 * itself, loads it and runs it on the main thread, so that the program behaves
 * as upstream's qemu-system-x86_64.
 *
 * Links with libmemsched, so that every copy of the emulator finds the one
 * scheduler of the process already loaded.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <dlfcn.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "memsched/memsched.h"
#include "system/instance-entry.h"

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

int main(int argc, char **argv)
{
    g_autofree char *path = instance_path();
    QemuInstanceMain *entry;
    void *handle;

    if (!path) {
        fprintf(stderr, "%s: /proc/self/exe cannot be read; mount /proc\n",
                argv[0]);
        return EXIT_FAILURE;
    }
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    entry = handle ? (QemuInstanceMain *)dlsym(handle, QEMU_INSTANCE_ENTRY)
                   : NULL;
    if (!entry) {
        fprintf(stderr, "%s: %s\n", argv[0], dlerror());
        return EXIT_FAILURE;
    }
    return entry(argc, argv);
}
