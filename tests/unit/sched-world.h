/*
 * A scheduler without its thread, and guests that are nothing but an account
 *
 * Two guests, "a" with 20,000 pages and "b" with 10,000, of a pool of 100,000;
 * both have a min of 1,000 and 50,000 pages of RAM.  The test turns the clock
 * and calls the step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_SCHED_WORLD_H
#define TESTS_SCHED_WORLD_H

#include <glib.h>

#include "app.h"
#include "fake-sys.h"
#include "instance.h"
#include "scheduler.h"
#include "scheduler-int.h"

#define MS_NS    UINT64_C(1000000)
#define SECOND   (1000 * MS_NS)
#define POOL     100000u        /* pages */

typedef struct Guest {
    MemSchedClient client;
    MemSchedRegion *region;     /* world_holes() */
    uint64_t balloon_bytes;
    unsigned asked, paused, resumed, polled;
    /* its connection: world_connect() */
    unsigned answers, conditions;
    MemSchedAppAnswer answer[256];
    MemSchedGuestCondition condition;
} Guest;

typedef struct World {
    FakeSys *fake;
    MemSched *ms;
    MsSched *sched;
    Guest *guest[3];
    unsigned events[MEMSCHED_EVENT_DECISION + 1];
    MemSchedEvent last[MEMSCHED_EVENT_DECISION + 1];
} World;

World *world_new(void);
void world_free(World *w);

/* @g has RAM of which @pages were never touched. */
void world_holes(World *w, Guest *g, uint64_t pages);

/* It has a connection of balloon applications, of which 7 is one. */
void world_connect(Guest *g);

/* It says that it uses @active of its pages. */
void world_active(Guest *g, uint64_t active);

void world_step(World *w, uint64_t after_ns);

/* As memsched_reallocate() does, from "a" to "b", without a look at regions. */
uint64_t world_transfer(World *w, uint64_t pages, unsigned deadline_ms);

/* @pages of "a" have come through its balloon. */
void world_capture(World *w, uint64_t pages);

/* @pages of the claim of "b" are mapped in it. */
void world_populate(World *w, uint64_t pages);

MemSchedTransferInfo world_newest(World *w);

#endif
