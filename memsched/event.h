/*
 * Events that wait for the observer
 *
 * A ring of a fixed size.  The caller serialises.  When it is full the oldest
 * event goes and is counted: what is newest is closest to what is true now,
 * and nobody who raises an event ever waits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_EVENT_H
#define MEMSCHED_EVENT_H

#include "memsched/memsched.h"

#define MS_EVENTS 256u

typedef struct MsEvents {
    unsigned first, count;
    uint64_t dropped;
    MemSchedEvent event[MS_EVENTS];
} MsEvents;

void ms_events_push(MsEvents *events, const MemSchedEvent *event);

/* The oldest one: true. */
bool ms_events_pop(MsEvents *events, MemSchedEvent *ret_event);

/* Hand one to the observer, if there is one.  Scheduler's thread, no lock. */
void ms_event_deliver(MemSched *ms, const MemSchedEvent *event);

#endif /* MEMSCHED_EVENT_H */
