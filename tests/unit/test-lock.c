/*
 * Ranked locks: what must abort in debug builds does, the rest works
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <glib.h>
#include <pthread.h>

#include "lock.h"

static void test_rising_ranks_are_allowed(void)
{
    MsLock region, ledger, pool;

    ms_lock_init(&region, MS_RANK_REGION);
    ms_lock_init(&ledger, MS_RANK_LEDGER);
    ms_lock_init(&pool, MS_RANK_POOL);
    g_assert_true(ms_lock_none_held());
    ms_lock(&region);
    ms_lock(&ledger);
    ms_lock(&pool);
    g_assert_true(ms_lock_held(&ledger));
    g_assert_false(ms_lock_none_held());
    ms_unlock(&ledger);
    g_assert_false(ms_lock_held(&ledger));
    g_assert_true(ms_lock_held(&pool));
    ms_unlock(&pool);
    ms_unlock(&region);
    g_assert_true(ms_lock_none_held());
    ms_lock_destroy(&region);
    ms_lock_destroy(&ledger);
    ms_lock_destroy(&pool);
}

static void test_falling_rank_aborts(void)
{
    if (g_test_subprocess()) {
        MsLock region, pool;

        ms_lock_init(&region, MS_RANK_REGION);
        ms_lock_init(&pool, MS_RANK_POOL);
        ms_lock(&pool);
        ms_lock(&region);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*lock order*");
}

static void test_two_locks_of_one_rank_abort(void)
{
    if (g_test_subprocess()) {
        MsLock a, b;

        ms_lock_init(&a, MS_RANK_REGION);
        ms_lock_init(&b, MS_RANK_REGION);
        ms_lock(&a);
        ms_lock(&b);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*lock order*");
}

static void test_unlock_of_a_lock_not_held_aborts(void)
{
    if (g_test_subprocess()) {
        MsLock lock;

        ms_lock_init(&lock, MS_RANK_POOL);
        ms_unlock(&lock);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*not held*");
}

static void test_wait_without_signal_ends_in_time(void)
{
    MsLock lock;
    MsCond cond;

    ms_lock_init(&lock, MS_RANK_POOL);
    ms_cond_init(&cond);
    ms_lock(&lock);
    while (ms_cond_wait_ns(&cond, &lock, 1000 * 1000)) {
        /* spurious: wait again */
    }
    g_assert_true(ms_lock_held(&lock));
    ms_unlock(&lock);
    ms_cond_destroy(&cond);
    ms_lock_destroy(&lock);
}

typedef struct Pair {
    MsLock lock;
    MsCond cond;
    bool ready;
} Pair;

static void *signaller(void *opaque)
{
    Pair *pair = opaque;

    ms_lock(&pair->lock);
    pair->ready = true;
    ms_cond_broadcast(&pair->cond);
    ms_unlock(&pair->lock);
    return NULL;
}

static void test_wait_ends_at_signal(void)
{
    Pair pair = { .ready = false };
    GThread *thread;

    ms_lock_init(&pair.lock, MS_RANK_POOL);
    ms_cond_init(&pair.cond);
    ms_lock(&pair.lock);
    thread = g_thread_new("signaller", signaller, &pair);
    while (!pair.ready) {
        ms_cond_wait(&pair.cond, &pair.lock);
    }
    ms_unlock(&pair.lock);
    g_thread_join(thread);
    ms_cond_destroy(&pair.cond);
    ms_lock_destroy(&pair.lock);
}

static void *wait_cancelled(void *opaque)
{
    Pair *pair = opaque;

    pthread_cancel(pthread_self());
    ms_lock(&pair->lock);
    while (ms_cond_wait_ns(&pair->cond, &pair->lock, 1000)) {
        /* spurious: wait again */
    }
    pair->ready = true;
    ms_unlock(&pair->lock);
    pthread_testcancel();
    g_assert_not_reached();
}

static void test_cancelled_wait_gives_its_lock_back(void)
{
    Pair pair = { .ready = false };
    pthread_t thread;
    void *value = NULL;

    ms_lock_init(&pair.lock, MS_RANK_POOL);
    ms_cond_init(&pair.cond);
    g_assert_cmpint(pthread_create(&thread, NULL, wait_cancelled, &pair), ==,
                    0);
    pthread_join(thread, &value);
    g_assert_true(value == PTHREAD_CANCELED);
    g_assert_true(pair.ready);
    ms_lock(&pair.lock);
    ms_unlock(&pair.lock);
    ms_cond_destroy(&pair.cond);
    ms_lock_destroy(&pair.lock);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lock/rising-ranks-are-allowed",
                    test_rising_ranks_are_allowed);
    g_test_add_func("/lock/falling-rank-aborts", test_falling_rank_aborts);
    g_test_add_func("/lock/two-locks-of-one-rank-abort",
                    test_two_locks_of_one_rank_abort);
    g_test_add_func("/lock/unlock-of-a-lock-not-held-aborts",
                    test_unlock_of_a_lock_not_held_aborts);
    g_test_add_func("/lock/wait-without-signal-ends-in-time",
                    test_wait_without_signal_ends_in_time);
    g_test_add_func("/lock/wait-ends-at-signal", test_wait_ends_at_signal);
    g_test_add_func("/lock/cancelled-wait-gives-its-lock-back",
                    test_cancelled_wait_gives_its_lock_back);
    return g_test_run();
}
