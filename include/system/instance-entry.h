/*
 * The contract between the launcher and one copy of the emulator.
 *
 * A copy of libqemu-system-x86_64.so exports QEMU_INSTANCE_ENTRY and nothing
 * else.  The function runs a whole QEMU on the calling thread and returns its
 * exit status.  It may be called once in each copy.  In a guest's copy it
 * does not return: the copy ends by LauncherOps.ended(), on whatever thread
 * ended it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_INSTANCE_ENTRY_H
#define SYSTEM_INSTANCE_ENTRY_H

#include "system/launcher-ops.h"

#define QEMU_INSTANCE_ENTRY "qemu_instance_main"

/* @context stays valid as long as the process. */
typedef int QemuInstanceMain(const LauncherContext *context, int argc,
                             char **argv);

__attribute__((visibility("default")))
int qemu_instance_main(const LauncherContext *context, int argc, char **argv);

#endif
