/*
 * Programs that know nothing of us: systemd's memory pressure protocol
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_WATCH_H
#define AGENT_WATCH_H

#include "agent.h"

/* NULL with a sentence in *ret_error. */
Watchers *watchers_new(const char *run_dir, char **ret_error);
void watchers_free(Watchers *all);

#endif
