/*
 * Ranks of the scheduler's locks
 *
 * A thread that holds a lock may take another one only of a higher rank.  Two
 * locks of one rank are never held together: no operation needs two regions.
 *
 * Nothing waits for a page in transit, calls back into a client, or touches
 * guest memory with any of these held.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_RANK_H
#define MEMSCHED_RANK_H

typedef enum MsRank {
    MS_RANK_REGION = 1,         /* page states of one region */
    MS_RANK_STRIPE,             /* members of one parity stripe */
    MS_RANK_LEDGER,             /* who is charged for how much */
    MS_RANK_POOL,               /* slots of the arena */
    MS_RANK_LEAF,               /* a private list; takes no other lock */
    MS_RANKS
} MsRank;

#endif /* MEMSCHED_RANK_H */
