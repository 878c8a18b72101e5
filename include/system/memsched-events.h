/*
 * Events of the host memory scheduler, on their way to the monitors
 *
 * Instance 0 alone uses these: the scheduler has one observer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_MEMSCHED_EVENTS_H
#define SYSTEM_MEMSCHED_EVENTS_H

#include "memsched/memsched.h"
#include "qapi/qapi-types-memsched.h"

/*
 * From now on events of @ms appear as QMP events of this instance.  Call it
 * right after memsched_start(), on the main thread.
 */
void memsched_events_start(MemSched *ms);

/*
 * No event of @ms appears after this.  Call it before memsched_stop(), on the
 * main thread.
 */
void memsched_events_stop(MemSched *ms);

/*
 * Emit MEMSCHED_GUEST_STATE.  Any thread, any lock; returns at once.
 * @message may be NULL or empty.
 */
void memsched_events_guest_state(const char *id, MemschedGuestState state,
                                 const char *message);

#endif
