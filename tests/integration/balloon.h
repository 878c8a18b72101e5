/*
 * The balloon driver of a pretended guest: a thread that inflates and deflates
 * as the scheduler asks, 1 MiB a request, from one range of its pages; and its
 * machine, which counts how often it is paused
 *
 * Locks are the library's: a thread sanitizer cannot see into GLib's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_BALLOON_H
#define TESTS_BALLOON_H

#include <glib.h>

#include "guest.h"
#include "lock.h"

typedef struct Balloon {
    Guest *guest;
    uint64_t first, count;      /* pages that it may give, in this order */
    bool must_tell_host;
    GThread *thread;
    MsLock lock;
    MsCond cond;
    uint64_t target, actual;    /* pages; lock */
    unsigned asked, paused, resumed, polled;    /* calls; lock */
    bool stop;                  /* lock */
} Balloon;

Balloon *balloon_new(Guest *guest, uint64_t first, uint64_t count,
                     bool must_tell_host);
/* One that is attached and never does anything. */
Balloon *balloon_new_dead(Guest *guest);
void balloon_free(Balloon *balloon);    /* detaches */

uint64_t balloon_actual(Balloon *balloon);

/* The operator's own command; returns when it has been followed. */
void balloon_set(Balloon *balloon, uint64_t pages);

#endif /* TESTS_BALLOON_H */
