/*
 * What a copy of the emulator knows of itself.
 *
 * Owns the pointer to the launcher's context: written once by the entry of
 * the copy, before it has a second thread.  It stays NULL in programs that
 * have no launcher.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/instance-local.h"

const LauncherContext *instance_context;

const LauncherOps *instance_ops(void)
{
    return instance_context ? instance_context->ops : NULL;
}

LauncherGuest *instance_guest(void)
{
    return instance_context ? instance_context->guest : NULL;
}

const char *instance_id(void)
{
    return instance_context ? instance_context->id : NULL;
}
