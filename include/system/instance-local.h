/*
 * What a copy of the emulator knows of itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_INSTANCE_LOCAL_H
#define SYSTEM_INSTANCE_LOCAL_H

#include "system/launcher-ops.h"

/*
 * Set once, before any other thread of the copy; NULL in programs that run
 * without the launcher (upstream's executable, fuzzers).
 */
extern const LauncherContext *instance_context;

/* As the scheduler's guest, an instance 0 with RAM of its own is called so. */
#define MEMSCHED_MAIN_ID "main"

/* The launcher's functions, or NULL without launcher. */
const LauncherOps *instance_ops(void);

/* This guest, or NULL in instance 0 and without launcher. */
LauncherGuest *instance_guest(void);

/* The id of this guest, or NULL in instance 0 and without launcher. */
const char *instance_id(void);

/*
 * The scheduler's client of this instance, or NULL where no scheduler
 * manages its memory.  Set before any device is realized; stays until the
 * instance has ended.
 */
MemSchedClient *memsched_instance_client(void);

/*
 * The region of a RAM block, or NULL where the scheduler does not have it.
 * Under the BQL.
 */
MemSchedRegion *memsched_instance_region(const void *host);

/* Instance 0, on its main thread, once qemu_init() has returned. */
void guest_objects_start(void);

#endif
