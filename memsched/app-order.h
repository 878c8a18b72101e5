/*
 * Orders of memory to balloon applications
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_APP_ORDER_H
#define MEMSCHED_APP_ORDER_H

#include "memsched/memsched.h"

typedef struct MsApps MsApps;

/* What is wanted of a guest's applications now.  Pages. */
typedef struct MsOrderWish {
    uint64_t application;       /* of them, and of nobody else */
    uint64_t any;               /* of them, or of the kernel's balloon */
    uint64_t base;              /* what they should hold besides */
    uint64_t ram;
    uint64_t captured_ns;       /* when something last came of it */
    uint64_t deadline_ns;       /* of the earliest wish */
    uint64_t now_ns;
} MsOrderWish;

typedef struct MsOrderState {
    uint64_t expected;          /* asked for and perhaps to come */
    uint64_t held;              /* said to be tagged */
    bool usable;                /* somebody takes orders here */
    bool changed;               /* of why, since the last step */
    char why[112];              /* the last of them gave less; or empty */
} MsOrderState;

/*
 * Give orders and take them back, and release what is held beyond all wishes.
 * Queues calls; moves nothing.  The ledger's lock may be held.
 */
void ms_orders_step(MsApps *apps, const MsOrderWish *wish,
                    MsOrderState *ret_state);

/* Applications that take orders are connected, and RAM can be moved. */
bool ms_orders_usable(MemSchedClient *client);

#endif /* MEMSCHED_APP_ORDER_H */
