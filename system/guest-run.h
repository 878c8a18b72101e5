/*
 * Starting and ending guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_GUEST_RUN_H
#define SYSTEM_GUEST_RUN_H

#include "guest-table.h"

/* The file that guests' copies are made of, and the table that they get. */
void guest_run_init(const char *path, const LauncherOps *ops);

/* As LauncherOps.start, .remove and .ended say. */
int guest_run_start(const GuestOptions *options, MemSchedMessage *ret_message);
int guest_run_remove(const char *id);
void guest_run_ended(LauncherGuest *guest, int status, bool failed);

#endif
