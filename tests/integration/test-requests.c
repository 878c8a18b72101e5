/*
 * Requests of guests on the real kernel: what pool and balloon allow is mapped
 * when the answer comes, and shown until then
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "apps-world.h"
#include "balloon.h"

/* Twelve frames each: a has used @used of its own, b of its own @others. */
static World *requests_new(unsigned pool, unsigned used, unsigned others)
{
    World *w = g_new0(World, 1);

    w->ms = guest_start(FRAMES(pool));
    w->a = guest_new(w->ms, "a", FRAMES(12), 0);
    w->b = guest_new(w->ms, "b", FRAMES(12), 0);
    guest_fill(w->a, 0, used * 512, 1);
    guest_fill(w->b, 0, others * 512, 2);
    w->agent = agent_new(w->a, 0, 0);
    return w;
}

static void ask(World *w, uint64_t cookie, uint64_t pages,
                unsigned deadline_ms)
{
    MemSchedAppRequest request = {
        .app = 1, .cookie = cookie, .bytes = pages << MEMSCHED_PAGE_SHIFT,
        .priority = 7, .want = 2, .deadline_ms = deadline_ms,
    };

    g_assert_cmpint(memsched_app_request(w->a->client, &request), ==, 0);
}

static uint64_t allocated(World *w)
{
    MemSchedClientInfo info;

    guest_query(w->a, &info);
    return info.allocated_bytes >> MEMSCHED_PAGE_SHIFT;
}

static void assert_granted(World *w, unsigned answers, uint64_t pages)
{
    MemSchedAppAnswer answer = agent_wait_answer(w->agent, answers);

    g_test_message("reason %d, %" G_GUINT64_FORMAT " KiB", answer.reason,
                   answer.bytes / 1024);
    g_assert_cmpint(answer.status, ==, MEMSCHED_ANSWER_GRANTED);
    g_assert_cmpuint(answer.bytes, ==, pages << MEMSCHED_PAGE_SHIFT);
    guest_check(w->ms);
}

static void test_request_is_served_from_the_pool_before_it_is_answered(void)
{
    World *w = requests_new(32, 4, 0);

    ask(w, 77, 5 * 512, 20000);
    assert_granted(w, 1, 5 * 512);
    g_assert_cmpuint(w->agent->answer.cookie, ==, 77);
    g_assert_cmpuint(allocated(w), ==, 9 * 512);
    guest_assert(w->a, 0, 4 * 512, 1);
    guest_assert_zero(w->a, 4 * 512, 5 * 512);
    g_assert_cmpuint(agent_query_all(w->agent).requests_count, ==, 0);
    world_free(w);
}

/* What is missing is in the guest's balloon: page by page, in half its RAM. */
static void test_request_of_a_ballooned_guest_is_served_whole(void)
{
    World *w = requests_new(32, 12, 0);
    gint64 end = g_get_monotonic_time() + WAIT_US;
    Balloon *balloon = balloon_new(w->a, 2 * 512 + 100, 7 * 512, true);
    MemSchedAppAnswer answer;

    /* As an operator's command: the device is told, and the scheduler. */
    ms_lock(&balloon->lock);
    balloon->target = 7 * 512;
    ms_cond_broadcast(&balloon->cond);
    ms_unlock(&balloon->lock);
    memsched_client_balloon_manual(w->a->client, 7 * 512 * 4096);
    while (balloon_actual(balloon) < 7 * 512) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    /* Six frames are whole. */
    guest_wait_ballooned(w->a, 6 * 512);
    ask(w, 1, 5 * 512 + 37, 20000);
    assert_granted(w, 1, 5 * 512 + 37);
    /* The rest of what was taken; what was given only it has all the time. */
    ask(w, 2, 512, 20000);
    answer = agent_wait_answer(w->agent, 2);
    g_assert_cmpint(answer.status, ==, MEMSCHED_ANSWER_PARTIAL);
    g_assert_cmpint(answer.reason, ==, MEMSCHED_REASON_LIMIT);
    g_assert_cmpuint(answer.bytes, ==, (512 - 37) * 4096);
    guest_assert(w->a, 0, 2 * 512, 1);
    guest_assert(w->a, 10 * 512, 2 * 512, 1);
    balloon_free(balloon);
    world_free(w);
}

static void test_request_without_memory_waits_and_is_answered_in_time(void)
{
    World *w = requests_new(16, 4, 0);
    MemSchedAppsInfo shown;
    MemSchedAppAnswer answer;
    MemSchedInfo all;
    uint64_t left;

    memsched_query(w->ms, &all);
    left = (all.free_clean_bytes + all.free_dirty_bytes - all.reserved_bytes -
            all.claimed_bytes) >> MEMSCHED_PAGE_SHIFT;
    guest_fill(w->b, 0, MIN(left, 12 * 512), 2);
    ask(w, 9, 6 * 512, 3000);
    shown = agent_query_all(w->agent);
    g_assert_cmpuint(shown.requests_count, ==, 1);
    g_assert_cmpuint(shown.request[0].app, ==, 1);
    g_assert_cmpstr(shown.request[0].name, ==, "app1");
    g_assert_cmpuint(shown.request[0].priority, ==, 7);
    g_assert_cmpuint(shown.request[0].want, ==, 2);
    g_assert_cmpuint(shown.request[0].bytes, ==, FRAMES(6));
    g_assert_cmpuint(shown.request[0].left_ms, <=, 3000);
    answer = agent_wait_answer(w->agent, 1);
    g_assert_cmpuint(w->agent->queued, >, 0);
    g_assert_cmpint(answer.status, !=, MEMSCHED_ANSWER_GRANTED);
    g_assert_cmpint(answer.reason, !=, MEMSCHED_REASON_NONE);
    g_assert_cmpuint(answer.bytes, <, FRAMES(6));
    g_assert_cmpuint(allocated(w), ==, 4 * 512 + answer.bytes / 4096);
    world_free(w);
}

/* Memory that another guest gives back meanwhile goes to the one that asks. */
static void test_request_that_waits_gets_what_comes_free(void)
{
    World *w = requests_new(20, 4, 11);

    ask(w, 3, 6 * 512, 20000);
    guest_inflate(w->b, 0, 9 * 512, false);
    assert_granted(w, 1, 6 * 512);
    guest_assert_zero(w->a, 4 * 512, 6 * 512);
    world_free(w);
}

static void test_request_beyond_all_ram_gets_what_there_is(void)
{
    World *w = requests_new(32, 8, 0);
    MemSchedAppAnswer answer;

    ask(w, 4, 20 * 512, 20000);
    answer = agent_wait_answer(w->agent, 1);
    g_assert_cmpint(answer.status, ==, MEMSCHED_ANSWER_PARTIAL);
    g_assert_cmpint(answer.reason, ==, MEMSCHED_REASON_LIMIT);
    g_assert_cmpuint(answer.bytes, ==, FRAMES(4));
    ask(w, 5, 512, 20000);
    answer = agent_wait_answer(w->agent, 2);
    g_assert_cmpint(answer.status, ==, MEMSCHED_ANSWER_REFUSED);
    g_assert_cmpint(answer.reason, ==, MEMSCHED_REASON_LIMIT);
    world_free(w);
}

static void test_request_that_is_withdrawn_or_left_is_gone(void)
{
    World *w = requests_new(20, 4, 11);
    gint64 end = g_get_monotonic_time() + WAIT_US;

    ask(w, 6, 8 * 512, 60000);
    g_assert_cmpint(memsched_app_cancel(w->a->client, 1, 6), ==, 0);
    g_assert_cmpint(agent_wait_answer(w->agent, 1).reason, ==,
                    MEMSCHED_REASON_CANCELLED);
    g_assert_cmpint(memsched_app_cancel(w->a->client, 1, 6), ==, -ENOENT);
    ask(w, 8, 8 * 512, 60000);
    memsched_app_unregister(w->a->client, 1);
    while (agent_query_all(w->agent).requests_count > 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    world_free(w);
}

#define ADD(path, function) g_test_add_func("/requests/" path, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    ADD("pool", test_request_is_served_from_the_pool_before_it_is_answered);
    ADD("ballooned", test_request_of_a_ballooned_guest_is_served_whole);
    ADD("none", test_request_without_memory_waits_and_is_answered_in_time);
    ADD("later", test_request_that_waits_gets_what_comes_free);
    ADD("beyond", test_request_beyond_all_ram_gets_what_there_is);
    ADD("gone", test_request_that_is_withdrawn_or_left_is_gone);
    return g_test_run();
}
