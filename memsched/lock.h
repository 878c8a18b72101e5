/*
 * Mutexes with a rank
 *
 * An MsLock is a pthread mutex that, in debug builds (MEMSCHED_DEBUG), knows
 * its rank and its owner: locking against the order of rank.h, locking twice,
 * and unlocking what another thread holds abort.  Release builds pay for the
 * plain mutex only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_LOCK_H
#define MEMSCHED_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "rank.h"

typedef struct MsLock {
    pthread_mutex_t mutex;
    MsRank rank;
    const void *owner;          /* debug builds: a mark of the thread */
} MsLock;

typedef struct MsCond {
    pthread_cond_t cond;        /* counts on CLOCK_MONOTONIC */
} MsCond;

void ms_lock_init(MsLock *lock, MsRank rank);
void ms_lock_destroy(MsLock *lock);

void ms_lock(MsLock *lock);
void ms_unlock(MsLock *lock);

/*
 * True if this thread holds @lock; always true in release builds: for
 * assertions in functions whose name ends in _locked.
 */
bool ms_lock_held(const MsLock *lock);

/* True if this thread holds no MsLock at all; always true in release builds. */
bool ms_lock_none_held(void);

void ms_cond_init(MsCond *cond);
void ms_cond_destroy(MsCond *cond);
void ms_cond_signal(MsCond *cond);
void ms_cond_broadcast(MsCond *cond);

/* Give @lock up, wait, take it again.  Spurious returns happen. */
void ms_cond_wait(MsCond *cond, MsLock *lock);

/* The same for at most @timeout_ns: false when the time is up. */
bool ms_cond_wait_ns(MsCond *cond, MsLock *lock, uint64_t timeout_ns);

#endif /* MEMSCHED_LOCK_H */
