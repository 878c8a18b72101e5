/*
 * Entry of one instance: a complete QEMU inside a shared object.
 *
 * Owns nothing but the order of QEMU's three phases.  qemu_instance_main() is
 * the only symbol that the shared object exports; it stands where main() stands
 * in upstream's system/main.c, and the thread that calls it becomes the
 * instance's main-loop thread.  It is called once in each copy of the object,
 * and returns the status that upstream would give to exit().
 *
 * It does not load copies, end them or contain their failures: the launcher
 * does.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/system.h"
#include "system/instance-entry.h"

int qemu_instance_main(int argc, char **argv)
{
    int status;

    /* Returns with the BQL and the replay lock held, as the loop needs them. */
    qemu_init(argc, argv);
    status = qemu_main_loop();
    qemu_cleanup(status);
    return status;
}
