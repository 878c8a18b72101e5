/*
 * The scheduler's own thread: transfers, balloons, stalls, policy, events
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SCHEDULER_H
#define MEMSCHED_SCHEDULER_H

#include "memsched/memsched.h"

typedef struct MsSched MsSched;

/* Make it, hook it to the ledger, start its thread. */
int ms_sched_start(MemSched *ms, MsSched **ret_sched);
void ms_sched_stop(MsSched *sched);     /* NULL is fine; no guest is left */

/* Something to do: any lock but its own may be held; NULL is fine. */
void ms_sched_kick(MsSched *sched);

/* Open requests of @client, into @info, whose applications are there. */
void ms_sched_requests_info(MsSched *sched, const MemSchedClient *client,
                            MemSchedAppsInfo *info);

/*
 * The parts of it, for tests with a clock of their own: no thread runs, and
 * ms_sched_step() does what the thread would do now.  Returns when it wants to
 * be called again at the latest.
 */
MsSched *ms_sched_new(MemSched *ms);
void ms_sched_free(MsSched *sched);
uint64_t ms_sched_step(MsSched *sched);

#endif /* MEMSCHED_SCHEDULER_H */
