/*
 * What the observer of a scheduler has heard
 *
 * Locks are the library's: a thread sanitizer cannot see into GLib's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_HEARD_H
#define TESTS_HEARD_H

#include <stdatomic.h>

#include "lock.h"
#include "memsched/memsched.h"

typedef struct Heard {
    MsLock lock;
    MsCond cond;
    unsigned ends, stalled, went_on, unresponsive;      /* lock */
    MemSchedTransferInfo last;                          /* lock */
    _Atomic uint64_t traces[MEMSCHED_TRACE_POINTS];
    /* Sums of their first numbers. */
    _Atomic uint64_t traced[MEMSCHED_TRACE_POINTS];
} Heard;

void heard_start(MemSched *ms, Heard *heard);
void heard_stop(MemSched *ms, Heard *heard);

/* Wait (bounded) until *count, one of @heard's, has reached @n. */
void heard_wait(Heard *heard, const unsigned *count, unsigned n);

#endif /* TESTS_HEARD_H */
