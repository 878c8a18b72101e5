/*
 * The contract between the launcher and one copy of the emulator.
 *
 * A copy of libqemu-system-x86_64.so exports QEMU_INSTANCE_ENTRY and nothing
 * else.  The function runs a whole QEMU on the calling thread and returns its
 * exit status.  It may be called once in each copy.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_INSTANCE_ENTRY_H
#define SYSTEM_INSTANCE_ENTRY_H

#define QEMU_INSTANCE_ENTRY "qemu_instance_main"

typedef int QemuInstanceMain(int argc, char **argv);

__attribute__((visibility("default")))
int qemu_instance_main(int argc, char **argv);

#endif
