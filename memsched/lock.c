/*
 * Mutexes with a rank, and condition variables on the monotonic clock
 *
 * In debug builds each thread keeps the set of ranks that it holds.  Since
 * two locks of one rank are never held together, a rank names one lock, and
 * the set says all.  It is the only thread-local state of the library, and
 * it does not exist in release builds.
 *
 * Threads of a guest that has ended are cancelled, wherever they are.  A wait
 * that is cancelled takes its mutex and keeps it for ever; so waits here are
 * not, and the thread ends once it has left the library.
 *
 * A failed check aborts: it is our own mistake, and going on would deadlock
 * or corrupt the ledger of every guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef MEMSCHED_DEBUG

static __thread unsigned held_ranks;

static void rank_fail(const char *what, const MsLock *lock)
{
    fprintf(stderr, "memsched: %s: lock of rank %d, ranks held 0x%x\n",
            what, lock->rank, held_ranks);
    abort();
}

static void note_locking(const MsLock *lock)
{
    /* Every rank held must be lower: 2^rank - 1 masks exactly those. */
    if (held_ranks & ~((1u << lock->rank) - 1)) {
        rank_fail("lock order", lock);
    }
}

static void note_locked(MsLock *lock)
{
    held_ranks |= 1u << lock->rank;
    lock->owner = &held_ranks;
}

static void note_unlocking(MsLock *lock)
{
    if (!ms_lock_held(lock)) {
        rank_fail("unlock of a lock that is not held", lock);
    }
    lock->owner = NULL;
    held_ranks &= ~(1u << lock->rank);
}

bool ms_lock_held(const MsLock *lock)
{
    /* Another thread may write owner, but never our own mark. */
    return (held_ranks & 1u << lock->rank) &&
           __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == &held_ranks;
}

bool ms_lock_none_held(void)
{
    return held_ranks == 0;
}

#else

static inline void note_locking(const MsLock *lock) { }
static inline void note_locked(MsLock *lock) { }
static inline void note_unlocking(MsLock *lock) { }

bool ms_lock_held(const MsLock *lock)
{
    return true;
}

bool ms_lock_none_held(void)
{
    return true;
}

#endif

void ms_lock_init(MsLock *lock, MsRank rank)
{
    pthread_mutex_init(&lock->mutex, NULL);
    lock->rank = rank;
    lock->owner = NULL;
}

void ms_lock_destroy(MsLock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

void ms_lock(MsLock *lock)
{
    note_locking(lock);
    pthread_mutex_lock(&lock->mutex);
    note_locked(lock);
}

void ms_unlock(MsLock *lock)
{
    note_unlocking(lock);
    pthread_mutex_unlock(&lock->mutex);
}

void ms_cond_init(MsCond *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&cond->cond, &attr);
    pthread_condattr_destroy(&attr);
}

void ms_cond_destroy(MsCond *cond)
{
    pthread_cond_destroy(&cond->cond);
}

void ms_cond_signal(MsCond *cond)
{
    pthread_cond_signal(&cond->cond);
}

void ms_cond_broadcast(MsCond *cond)
{
    pthread_cond_broadcast(&cond->cond);
}

void ms_cond_wait(MsCond *cond, MsLock *lock)
{
    int cancel;

    note_unlocking(lock);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    pthread_cond_wait(&cond->cond, &lock->mutex);
    pthread_setcancelstate(cancel, NULL);
    note_locked(lock);
}

bool ms_cond_wait_ns(MsCond *cond, MsLock *lock, uint64_t timeout_ns)
{
    struct timespec ts;
    uint64_t end_ns;
    int rc, cancel;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    end_ns = (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
    end_ns = timeout_ns > UINT64_MAX / 2 - end_ns ? UINT64_MAX / 2
                                                  : end_ns + timeout_ns;
    ts.tv_sec = end_ns / 1000000000u;
    ts.tv_nsec = end_ns % 1000000000u;

    note_unlocking(lock);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    rc = pthread_cond_timedwait(&cond->cond, &lock->mutex, &ts);
    pthread_setcancelstate(cancel, NULL);
    note_locked(lock);
    return rc == 0;
}
