/*
 * Two pretended guests, the first one with an agent, and transfers between them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_APPS_WORLD_H
#define TESTS_APPS_WORLD_H

#include "agent.h"

#define FRAMES(n) ((uint64_t)(n) * MEMSCHED_FRAME_SIZE)
#define WAIT_US   (30 * G_USEC_PER_SEC)

typedef struct World {
    MemSched *ms;
    Guest *a, *b;
    Agent *agent;
} World;

/* Guest a has 12 frames filled with seed 1; its agent owns frames 2 to 9. */
World *world_new(void);
void world_free(World *w);

/* A transfer from a to b begins; it ends, or the test does after WAIT_US. */
uint64_t apps_begin(World *w, uint64_t pages, MemSchedSource source,
                    unsigned deadline_ms);
MemSchedTransferInfo apps_wait_end(World *w, uint64_t id);

/* The agent gives so much, all of it by applications. */
MemSchedTransferInfo apps_give(World *w, uint64_t pages);

/* Of a: a page's state, pages credited to it, and known without credit. */
MemSchedPageState apps_state(World *w, uint64_t page);
uint64_t apps_credited(World *w);
uint64_t apps_known(World *w);

/* Wait, bounded, until so many pages of a are known without credit. */
void apps_wait_known(World *w, uint64_t pages);

#endif /* TESTS_APPS_WORLD_H */
