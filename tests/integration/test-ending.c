/*
 * The end of a guest while the scheduler is busy with it
 *
 * What a guest's side has goes when it has ended, so no callback may run in it
 * once memsched_client_ending() or _detach() has returned, whoever called it;
 * and its threads are cancelled, wherever they are.  Here a callback is held
 * while the guest ends: it goes on when somebody has returned too early, which
 * is the mistake, or after PATIENCE_NS.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <pthread.h>

#include "guest.h"
#include "lock.h"

#define MIB         (UINT64_C(1) << 20)
#define PAGES(n)    ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)
#define PATIENCE_NS UINT64_C(500000000)
#define WAIT_NS     UINT64_C(60000000000)

/* A balloon whose callback takes its time, and those who end its guest. */
typedef struct Held {
    MsLock lock;
    MsCond cond;
    MemSched *ms;
    Guest *guest, *other;
    bool entered, left, ended;
    bool go;                    /* the callback need not wait any longer */
    unsigned calls, starting, returned, early;
} Held;

static void hold(void *opaque, uint64_t balloon_bytes)
{
    Held *held = opaque;
    bool more = true;

    ms_lock(&held->lock);
    held->calls++;
    held->entered = true;
    ms_cond_broadcast(&held->cond);
    while (more && !held->go && held->returned == 0) {
        more = ms_cond_wait_ns(&held->cond, &held->lock,
                               held->starting ? PATIENCE_NS : WAIT_NS);
    }
    held->left = true;
    ms_unlock(&held->lock);
}

static const MemSchedClientOps ops = { .set_balloon = hold };

static void wait_for(Held *held, const bool *what)
{
    ms_lock(&held->lock);
    while (!*what) {
        if (!ms_cond_wait_ns(&held->cond, &held->lock, WAIT_NS)) {
            g_error("not within 60 s");
        }
    }
    ms_unlock(&held->lock);
}

static void ask(Held *held, unsigned deadline_ms)
{
    MemSchedTransferOptions options = {
        .from = held->guest->id, .to = held->other->id, .size_bytes = MIB,
        .deadline_ms = deadline_ms,
    };
    MemSchedMessage message = { "" };
    uint64_t id;

    if (memsched_reallocate(held->ms, &options, &id, &message) < 0) {
        g_error("%s", message.text);
    }
}

/* Returns with the callback in progress. */
static void begin(Held *held)
{
    *held = (Held) { .ms = guest_start(32 * MIB) };
    ms_lock_init(&held->lock, MS_RANK_LEAF);
    ms_cond_init(&held->cond);
    held->guest = guest_new(held->ms, "a", 8 * MIB, 0);
    held->other = guest_new(held->ms, "b", 8 * MIB, 0);
    guest_fill(held->guest, 0, PAGES(4), 1);
    g_assert_cmpint(memsched_client_attach(held->guest->client, &ops, held),
                    ==, 0);
    ask(held, 30000);
    wait_for(held, &held->entered);
}

static void end(Held *held)
{
    guest_free(held->guest);
    guest_assert_zero(held->other, 0, PAGES(1));
    guest_check(held->ms);
    guest_free(held->other);
    guest_stop(held->ms);
    ms_cond_destroy(&held->cond);
    ms_lock_destroy(&held->lock);
}

static void note_start(Held *held)
{
    ms_lock(&held->lock);
    held->starting++;
    ms_cond_broadcast(&held->cond);
    ms_unlock(&held->lock);
}

static void note_return(Held *held)
{
    ms_lock(&held->lock);
    held->returned++;
    held->early += !held->left;
    ms_cond_broadcast(&held->cond);
    ms_unlock(&held->lock);
}

static void *end_guest(void *opaque)
{
    Held *held = opaque;

    note_start(held);
    memsched_client_ending(held->guest->client);
    note_return(held);
    return NULL;
}

static void *detach(void *opaque)
{
    Held *held = opaque;

    note_start(held);
    memsched_client_detach(held->guest->client, held);
    note_return(held);
    return NULL;
}

/* Each of them returns when the callback has. */
static void check_ends(void *(*first)(void *), void *(*second)(void *))
{
    pthread_t threads[2];
    Held held;

    begin(&held);
    g_assert_cmpint(pthread_create(&threads[0], NULL, first, &held), ==, 0);
    g_assert_cmpint(pthread_create(&threads[1], NULL, second, &held), ==, 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    g_assert_cmpuint(held.early, ==, 0);
    end(&held);
}

static void test_the_end_waits_for_a_callback_in_progress(void)
{
    pthread_t thread;
    Held held;

    begin(&held);
    g_assert_cmpint(pthread_create(&thread, NULL, end_guest, &held), ==, 0);
    pthread_join(thread, NULL);
    g_assert_cmpuint(held.early, ==, 0);
    end(&held);
}

static void test_who_ends_or_detaches_beside_another_waits_too(void)
{
    check_ends(end_guest, end_guest);
    check_ends(detach, end_guest);
    check_ends(detach, detach);
}

/* The observer: the scheduler's thread has done with a transfer. */
static void hear(void *opaque, const MemSchedEvent *event)
{
    Held *held = opaque;

    if (event->kind == MEMSCHED_EVENT_TRANSFER_COMPLETED) {
        ms_lock(&held->lock);
        held->ended = true;
        ms_cond_broadcast(&held->cond);
        ms_unlock(&held->lock);
    }
}

static void test_no_callback_runs_after_the_end(void)
{
    MemSchedObserver observer = { .event = hear };
    Held held;
    unsigned calls;

    begin(&held);
    ms_lock(&held.lock);
    held.go = true;
    ms_cond_broadcast(&held.cond);
    ms_unlock(&held.lock);
    memsched_client_ending(held.guest->client);
    ms_lock(&held.lock);
    calls = held.calls;
    ms_unlock(&held.lock);
    /* The scheduler now wants more of its balloon, until the deadline. */
    memsched_observe(held.ms, &observer, &held);
    ask(&held, 200);
    wait_for(&held, &held.ended);
    memsched_observe(held.ms, NULL, NULL);
    g_assert_cmpuint(held.calls, ==, calls);
    end(&held);
}

/* A thread that is cancelled in a wait of the library ends outside. */
static void test_a_cancelled_thread_leaves_no_lock_behind(void)
{
    pthread_t thread;
    Held held;

    begin(&held);
    g_assert_cmpint(pthread_create(&thread, NULL, end_guest, &held), ==, 0);
    ms_lock(&held.lock);
    while (!held.starting) {
        ms_cond_wait(&held.cond, &held.lock);
    }
    ms_unlock(&held.lock);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    g_assert_cmpuint(held.returned, ==, 1);
    g_assert_cmpuint(held.early, ==, 0);
    end(&held);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/the-end-waits-for-a-callback-in-progress",
                        test_the_end_waits_for_a_callback_in_progress);
        g_test_add_func("/who-ends-or-detaches-beside-another-waits-too",
                        test_who_ends_or_detaches_beside_another_waits_too);
        g_test_add_func("/no-callback-runs-after-the-end",
                        test_no_callback_runs_after_the_end);
        g_test_add_func("/a-cancelled-thread-leaves-no-lock-behind",
                        test_a_cancelled_thread_leaves_no_lock_behind);
    }
    return g_test_run();
}
