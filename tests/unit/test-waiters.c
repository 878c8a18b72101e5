/*
 * The queue of pages that a guest's threads wait for
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "sched-world.h"

typedef struct Queue {
    World *world;
    MemSchedClient *client;
    MemSchedRegion region;      /* a name for pages, and who has it, counted */
} Queue;

#define OURS 1u     /* the test's own reference: the region is never freed */

static void queue_start(Queue *q)
{
    *q = (Queue) { .world = world_new() };
    q->client = &q->world->guest[0]->client;
    atomic_init(&q->region.refs, OURS);
}

static void queue_stop(Queue *q)
{
    MsWaiter waiter;

    while (ms_client_wait_next(q->client, &waiter)) {
        ms_region_unref(waiter.region);
    }
    ms_client_wait_settle(q->client);
    g_assert_cmpuint(atomic_load(&q->region.refs), ==, OURS);
    g_assert_cmpuint(atomic_load(&q->world->ms->waiters), ==, 0);
    g_assert_cmpuint(atomic_load(&q->client->waiting_since_ns), ==, 0);
    world_free(q->world);
}

static int wait(Queue *q, uint64_t page, bool device, uint64_t now_ns)
{
    return ms_client_wait(q->client, &q->region, page, device, now_ns);
}

static void test_a_page_is_queued_once(void)
{
    MsWaiter waiter;
    Queue q;

    queue_start(&q);
    g_assert_cmpint(wait(&q, 5, false, 100), ==, 0);
    g_assert_cmpint(wait(&q, 5, true, 200), ==, -EEXIST);
    g_assert_cmpint(wait(&q, 6, false, 300), ==, 0);
    g_assert_cmpuint(ms_client_waiters(q.client), ==, 2);
    g_assert_true(ms_client_wait_next(q.client, &waiter));
    g_assert_cmpuint(waiter.page, ==, 5);
    g_assert_cmpuint(waiter.since_ns, ==, 100);
    /* A device that waits as well is told apart by its haste. */
    g_assert_true(waiter.device);
    ms_region_unref(waiter.region);
    queue_stop(&q);
}

static void test_what_is_put_back_is_the_last(void)
{
    MsWaiter waiter;
    Queue q;

    queue_start(&q);
    g_assert_cmpint(wait(&q, 5, false, 100), ==, 0);
    g_assert_cmpint(wait(&q, 6, false, 200), ==, 0);
    g_assert_true(ms_client_wait_next(q.client, &waiter));
    ms_client_wait_again(q.client, &waiter);
    ms_client_wait_settle(q.client);
    g_assert_cmpuint(atomic_load(&q.client->waiting_since_ns), ==, 100);
    g_assert_true(ms_client_wait_next(q.client, &waiter));
    g_assert_cmpuint(waiter.page, ==, 6);
    ms_region_unref(waiter.region);
    queue_stop(&q);
}

/* The page is out of the queue for a moment, and not twice in it then. */
static void test_another_thread_comes_while_the_page_is_tried(void)
{
    MsWaiter waiter;
    Queue q;

    queue_start(&q);
    g_assert_cmpint(wait(&q, 5, true, 100), ==, 0);
    g_assert_true(ms_client_wait_next(q.client, &waiter));
    g_assert_cmpint(wait(&q, 5, false, 200), ==, 0);
    ms_client_wait_again(q.client, &waiter);
    ms_client_wait_settle(q.client);
    g_assert_cmpuint(ms_client_waiters(q.client), ==, 1);
    g_assert_cmpuint(atomic_load(&q.world->ms->waiters), ==, 1);
    g_assert_cmpuint(atomic_load(&q.client->waiting_since_ns), ==, 100);
    g_assert_true(ms_client_wait_next(q.client, &waiter));
    g_assert_cmpuint(waiter.since_ns, ==, 100);
    g_assert_true(waiter.device);
    ms_region_unref(waiter.region);
    queue_stop(&q);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/waiters/a-page-is-queued-once",
                    test_a_page_is_queued_once);
    g_test_add_func("/waiters/what-is-put-back-is-the-last",
                    test_what_is_put_back_is_the_last);
    g_test_add_func("/waiters/another-thread-comes-while-the-page-is-tried",
                    test_another_thread_comes_while_the_page_is_tried);
    return g_test_run();
}
