/*
 * The launcher's own thread: ends of guests, and the end of the process
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_MANAGER_H
#define SYSTEM_MANAGER_H

#include "guest-table.h"

/* Start it, before the first guest.  Any thread; more than once is fine. */
int manager_start(void);

/* Something has changed: look. */
void manager_wake(void);

/* The hooks of instance 0, told last when the process is to end. */
void manager_set_first(const InstanceHooks *hooks);

/* End all guests as the first SIGTERM does, and wait until none is left. */
void manager_end_all(void);

#endif
