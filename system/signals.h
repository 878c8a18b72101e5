/*
 * Signals of a process with several guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_SIGNALS_H
#define SYSTEM_SIGNALS_H

#include "guest-table.h"

/* Before the first other thread of the process. */
void signals_init(void);

/*
 * From now on SIGINT, SIGTERM and SIGHUP call @router, in signal context,
 * and no longer reach instance 0.
 */
void signals_take_over(void (*router)(int signo));

/* Instance 0's hooks. */
void signals_set_first(const InstanceHooks *hooks);

/* As LauncherOps.enter_thread and .sigaction say. */
void signals_enter_thread(LauncherGuest *guest);
int signals_sigaction(LauncherGuest *guest, int signo,
                      const struct sigaction *action,
                      struct sigaction *ret_old);

#endif
