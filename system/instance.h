/*
 * A private copy of the emulator in this process
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_INSTANCE_H
#define SYSTEM_INSTANCE_H

#include "system/instance-entry.h"

/*
 * Load a further copy of @path, for the guest @id.  A negative errno and one
 * sentence on failure.  A copy is never unloaded.
 */
int instance_load(const char *path, const char *id,
                  QemuInstanceMain **ret_entry, MemSchedMessage *ret_message);

/*
 * No code of the copy runs any more, but destructors at the end of the
 * process: give back the constants that were its own.
 */
void instance_discard(QemuInstanceMain *entry);

/* Load @path itself: instance 0. */
int instance_load_first(const char *path, QemuInstanceMain **ret_entry,
                        MemSchedMessage *ret_message);

/* No copy is being loaded while this is held; for fork(). */
void instance_lock(void);
void instance_unlock(void);

#endif
