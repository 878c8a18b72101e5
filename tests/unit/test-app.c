/*
 * The registry of balloon applications, and the calls that the scheduler's
 * thread makes to their connection: under a clock that the test turns
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "app.h"
#include "fake-sys.h"
#include "instance.h"
#include "scheduler.h"

#define MS_NS  UINT64_C(1000000)
#define SECOND (1000 * MS_NS)

typedef struct World {
    FakeSys *fake;
    MemSched *ms;
    MsSched *sched;
    MemSchedClient *client;
    uint8_t session[MEMSCHED_SESSION_BYTES];
    unsigned answers, releases, polls;
    uint64_t cookie[2048];      /* of answers, as they came */
    GThread *detacher;
    MsLock lock;
    MsCond cond;
    bool in_callback, detached; /* lock */
} World;

/* ---- callbacks ---- */

static void answer(void *opaque, const MemSchedAppAnswer *said)
{
    World *w = opaque;

    g_assert_true(ms_lock_none_held());
    w->cookie[w->answers++] = said->cookie;
}

static void release(void *opaque, const MemSchedAppRange *range)
{
    World *w = opaque;

    g_assert_true(ms_lock_none_held());
    w->releases++;
}

static void poll_stats(void *opaque)
{
    World *w = opaque;

    w->polls++;
}

static const MemSchedAppOps ops = {
    .answer = answer, .release = release, .poll_stats = poll_stats,
};

/* ---- the world ---- */

static World *world_new(void)
{
    World *w = g_new0(World, 1);
    MemSched *ms = w->ms = g_new0(MemSched, 1);
    MemSchedClient *c = w->client = g_new0(MemSchedClient, 1);

    w->fake = fake_sys_new();
    ms->sys = fake_sys(w->fake);
    atomic_init(&ms->interval_ms, 1000);
    ms_lock_init(&ms->ledger_lock, MS_RANK_LEDGER);
    ms_lock_init(&ms->clients_lock, MS_RANK_LEAF);
    ms_lock_init(&ms->observer_lock, MS_RANK_LEAF);
    ms_cond_init(&ms->observer_cond);
    ms_lock_init(&w->lock, MS_RANK_LEAF);
    ms_cond_init(&w->cond);
    ms_ledger_init(&ms->ledger, 1000);
    w->sched = ms_sched_new(ms);

    c->ms = ms;
    g_strlcpy(c->id, "a", sizeof(c->id));
    c->shares = 1000;
    memset(c->stats, 0xff, sizeof(c->stats));
    atomic_init(&c->refs, 2);
    ms_lock_init(&c->lock, MS_RANK_LEAF);
    ms_cond_init(&c->cond);
    c->apps = ms_apps_new(c);
    ms->clients = g_new0(MemSchedClient *, 1);
    ms->clients[ms->clients_count++] = c;
    ms_sched_step(w->sched);
    return w;
}

static void world_free(World *w)
{
    MemSched *ms = w->ms;

    memsched_client_detach_apps(w->client, w);
    ms_sched_free(w->sched);
    ms_apps_free(w->client->apps);
    g_free(w->client->sched);
    ms_cond_destroy(&w->client->cond);
    ms_lock_destroy(&w->client->lock);
    g_free(w->client);
    ms_cond_destroy(&w->cond);
    ms_lock_destroy(&w->lock);
    ms_cond_destroy(&ms->observer_cond);
    ms_lock_destroy(&ms->observer_lock);
    ms_lock_destroy(&ms->clients_lock);
    ms_lock_destroy(&ms->ledger_lock);
    g_free(ms->clients);
    g_free(ms);
    fake_sys_free(w->fake);
    g_free(w);
}

static void attach(World *w)
{
    g_assert_cmpint(memsched_client_attach_apps(w->client, &ops, w,
                                                w->session), ==, 0);
}

static int add(World *w, uint32_t number, const char *name)
{
    MemSchedAppOptions options = {
        .app = number, .name = name, .reserves = true, .priority = 3,
        .offer_bytes = 12345,
    };

    return memsched_app_register(w->client, &options);
}

static MemSchedAppsInfo query(World *w)
{
    MemSchedAppsInfo info;

    g_assert_cmpint(memsched_query_apps(w->ms, "a", &info), ==, 0);
    return info;
}

static int post_answer(World *w, uint64_t cookie)
{
    MsAppCall call = {
        .kind = MS_APP_CALL_ANSWER, .answer = { .cookie = cookie },
    };

    return ms_apps_post(w->client->apps, &call);
}

/* ---- tests ---- */

static void test_one_connection_at_a_time_with_its_own_session(void)
{
    World *w = world_new();
    uint8_t first[MEMSCHED_SESSION_BYTES], other[MEMSCHED_SESSION_BYTES];

    g_assert_false(query(w).connected);
    g_assert_cmpint(memsched_client_new_session(w->client, first), ==,
                    -ENOTCONN);
    attach(w);
    g_assert_true(query(w).connected);
    memcpy(first, w->session, sizeof(first));
    g_assert_cmpint(memsched_client_attach_apps(w->client, &ops, &other,
                                                other), ==, -EBUSY);
    memsched_client_detach_apps(w->client, &other);     /* not its own */
    g_assert_true(query(w).connected);
    g_assert_cmpint(memsched_client_new_session(w->client, other), ==, 0);
    g_assert_cmpint(memcmp(first, other, sizeof(first)), !=, 0);
    memsched_client_detach_apps(w->client, w);
    g_assert_false(query(w).connected);
    attach(w);
    g_assert_cmpint(memcmp(other, w->session, sizeof(other)), !=, 0);
    world_free(w);
}

static void test_no_random_numbers_means_no_session_and_no_key(void)
{
    World *w = world_new();

    fake_fail(w->fake, FAKE_RANDOM, 0, 1, -ENOSYS);
    g_assert_cmpint(memsched_client_attach_apps(w->client, &ops, w,
                                                w->session), ==, -ENOSYS);
    attach(w);
    fake_fail(w->fake, FAKE_RANDOM, 0, 1, -ENOSYS);
    g_assert_cmpint(add(w, 1, "x"), ==, -ENOSYS);
    g_assert_cmpuint(query(w).apps_count, ==, 0);
    world_free(w);
}

static void test_registration_checks_number_name_and_count(void)
{
    World *w = world_new();
    MemSchedAppOptions bad = { .app = 1, .name = "x", .priority = 10 };
    MemSchedAppsInfo info;

    g_assert_cmpint(add(w, 1, "x"), ==, -ENOTCONN);
    attach(w);
    g_assert_cmpint(add(w, 0, "x"), ==, -EINVAL);
    g_assert_cmpint(add(w, 65536, "x"), ==, -EINVAL);
    g_assert_cmpint(add(w, 1, NULL), ==, -EINVAL);
    g_assert_cmpint(memsched_app_register(w->client, &bad), ==, -EINVAL);
    g_assert_cmpint(add(w, 7, "ca\033che\n and far too long for its place"),
                    ==, 0);
    g_assert_cmpint(add(w, 7, "again"), ==, -EEXIST);
    info = query(w);
    g_assert_cmpuint(info.apps_count, ==, 1);
    g_assert_cmpuint(info.app[0].app, ==, 7);
    g_assert_cmpstr(info.app[0].name, ==, "ca?che? and far too long for it");
    g_assert_cmpuint(info.app[0].priority, ==, 3);
    g_assert_cmpuint(info.app[0].offer_bytes, ==, 12345);
    g_assert_cmpuint(info.app[0].stats_age_ns, ==, UINT64_MAX);
    for (unsigned i = 1; i < MEMSCHED_APPS_MAX; i++) {
        g_assert_cmpint(add(w, 100 + i, "x"), ==, 0);
    }
    g_assert_cmpint(add(w, 99, "x"), ==, -ENOSPC);
    g_assert_cmpint(memsched_app_unregister(w->client, 7), ==, 0);
    g_assert_cmpint(memsched_app_unregister(w->client, 7), ==, -ENOENT);
    g_assert_cmpint(memsched_app_unregister(w->client, 0), ==, -ENOENT);
    g_assert_cmpint(add(w, 99, "x"), ==, 0);
    world_free(w);
}

static void test_each_application_has_its_own_key(void)
{
    World *w = world_new();
    MsApps *apps = w->client->apps;
    uint8_t key[MEMSCHED_KEY_BYTES];

    attach(w);
    add(w, 1, "x");
    add(w, 2, "y");
    memcpy(key, ms_apps_find_locked(apps, 1)->key, sizeof(key));
    g_assert_cmpint(memcmp(key, ms_apps_find_locked(apps, 2)->key,
                           sizeof(key)), !=, 0);
    memsched_client_new_session(w->client, w->session);
    add(w, 1, "x");
    g_assert_cmpint(memcmp(key, ms_apps_find_locked(apps, 1)->key,
                           sizeof(key)), !=, 0);
    world_free(w);
}

static void test_session_ends_take_applications_and_calls_along(void)
{
    World *w = world_new();

    attach(w);
    add(w, 1, "x");
    g_assert_cmpint(post_answer(w, 1), ==, 0);
    memsched_client_new_session(w->client, w->session);
    g_assert_cmpuint(query(w).apps_count, ==, 0);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->answers, ==, 0);

    add(w, 1, "x");
    g_assert_cmpint(post_answer(w, 2), ==, 0);
    memsched_client_detach_apps(w->client, w);
    g_assert_cmpuint(query(w).apps_count, ==, 0);
    g_assert_cmpint(post_answer(w, 3), ==, -ENOTCONN);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->answers, ==, 0);
    world_free(w);
}

static void test_calls_come_in_order_and_are_bounded(void)
{
    World *w = world_new();
    MsAppCall none = { .kind = MS_APP_CALL_RESERVE };

    attach(w);
    ms_sched_step(w->sched);
    for (unsigned i = 0; i < MS_APP_CALLS; i++) {
        g_assert_cmpint(post_answer(w, i), ==, 0);
    }
    g_assert_cmpint(post_answer(w, 9999), ==, -EAGAIN);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->answers, ==, MS_APP_CALLS);
    for (unsigned i = 0; i < MS_APP_CALLS; i++) {
        g_assert_cmpuint(w->cookie[i], ==, i);
    }
    /* a member that is NULL is passed over */
    g_assert_cmpint(ms_apps_post(w->client->apps, &none), ==, 0);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->client->apps->calls, ==, 0);
    world_free(w);
}

static void test_each_tick_asks_for_statistics_once(void)
{
    World *w = world_new();
    unsigned before;

    attach(w);
    fake_advance(w->fake, SECOND);
    ms_sched_step(w->sched);
    before = w->polls;
    g_assert_cmpuint(before, ==, 1);
    ms_apps_poll(w->client->apps);
    ms_apps_poll(w->client->apps);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->polls, ==, before + 1);
    world_free(w);
}

/* ---- detach waits ---- */

static void slow_answer(void *opaque, const MemSchedAppAnswer *said)
{
    World *w = opaque;

    ms_lock(&w->lock);
    w->in_callback = true;
    ms_cond_broadcast(&w->cond);
    /* The other thread must not come out of detach before this ends. */
    ms_cond_wait_ns(&w->cond, &w->lock, 50 * MS_NS);
    g_assert_false(w->detached);
    ms_unlock(&w->lock);
    w->answers++;
}

static gpointer detach(gpointer opaque)
{
    World *w = opaque;

    ms_lock(&w->lock);
    while (!w->in_callback) {
        ms_cond_wait(&w->cond, &w->lock);
    }
    ms_unlock(&w->lock);
    memsched_client_detach_apps(w->client, w);
    ms_lock(&w->lock);
    w->detached = true;
    ms_cond_broadcast(&w->cond);
    ms_unlock(&w->lock);
    return NULL;
}

static void test_detach_waits_for_the_callback_that_runs(void)
{
    World *w = world_new();
    MemSchedAppOps slow = { .answer = slow_answer };

    g_assert_cmpint(memsched_client_attach_apps(w->client, &slow, w,
                                                w->session), ==, 0);
    post_answer(w, 1);
    post_answer(w, 2);
    w->detacher = g_thread_new("detach", detach, w);
    ms_sched_step(w->sched);
    g_thread_join(w->detacher);
    /* the second one was never made */
    g_assert_cmpuint(w->answers, ==, 1);
    world_free(w);
}

/* ---- what they say ---- */

static void test_veto_lasts_as_long_as_asked_and_is_bounded(void)
{
    World *w = world_new();

    attach(w);
    add(w, 1, "x");
    g_assert_cmpint(memsched_app_veto(w->client, 2, 100, 0), ==, -ENOENT);
    g_assert_cmpint(memsched_app_veto(w->client, 1, 60001, 0), ==, -ERANGE);
    g_assert_cmpint(memsched_app_veto(w->client, 1, 60000,
                                      MEMSCHED_REASON_PRESSURE), ==, 0);
    g_assert_cmpuint(query(w).app[0].veto_ms, ==, 60000);
    fake_advance(w->fake, 59 * SECOND + 1);
    g_assert_cmpuint(query(w).app[0].veto_ms, ==, 1000);
    fake_advance(w->fake, SECOND);
    g_assert_cmpuint(query(w).app[0].veto_ms, ==, 0);
    memsched_app_veto(w->client, 1, 60000, 0);
    g_assert_cmpint(memsched_app_veto(w->client, 1, 0, 0), ==, 0);
    g_assert_cmpuint(query(w).app[0].veto_ms, ==, 0);
    world_free(w);
}

static void test_statistics_of_applications_and_guest_are_kept_apart(void)
{
    World *w = world_new();
    MemSchedAppStat stats[] = {
        { MEMSCHED_APP_STAT_CACHE_SIZE, 100 },
        { MEMSCHED_APP_STAT_CACHE_HITS, 5 },
        { 77777, 1 },
        { MEMSCHED_APP_STAT_TOTAL, 1000 },
        { MEMSCHED_APP_STAT_AVAILABLE, 400 },
        { MEMSCHED_APP_STAT_PSI_SOME, 1234 },
    };
    MemSchedAppsInfo info;

    g_assert_cmpint(memsched_app_stats(w->client, 0, stats, 6), ==,
                    -ENOTCONN);
    attach(w);
    g_assert_cmpint(memsched_app_stats(w->client, 1, stats, 6), ==, -ENOENT);
    add(w, 1, "x");
    fake_advance(w->fake, 100);
    g_assert_cmpint(memsched_app_stats(w->client, 1, stats, 6), ==, 0);
    fake_advance(w->fake, 500);
    info = query(w);
    g_assert_cmpuint(info.app[0].cache_bytes, ==, 100);
    g_assert_cmpuint(info.app[0].cache_hits, ==, 5);
    g_assert_cmpuint(info.app[0].cache_misses, ==, UINT64_MAX);
    g_assert_cmpuint(info.app[0].stats_age_ns, ==, 500);
    g_assert_cmpuint(w->client->stats[MEMSCHED_STAT_TOTAL], ==, UINT64_MAX);

    g_assert_cmpint(memsched_app_stats(w->client, 0, stats, 6), ==, 0);
    g_assert_cmpuint(w->client->stats[MEMSCHED_STAT_TOTAL], ==, 1000);
    g_assert_cmpuint(w->client->stats[MEMSCHED_STAT_AVAILABLE], ==, 400);
    g_assert_cmpuint(w->client->apps->guest_stat[MEMSCHED_APP_STAT_PSI_SOME],
                     ==, 1234);
    world_free(w);
}

static void test_statistics_of_a_balloon_driver_go_before_the_agents(void)
{
    World *w = world_new();
    MemSchedClientOps none = { 0 };
    uint64_t balloon[MEMSCHED_STATS];
    MemSchedAppStat stat = { MEMSCHED_APP_STAT_TOTAL, 1000 };

    attach(w);
    g_assert_cmpint(memsched_client_attach(w->client, &none, w), ==, 0);
    memsched_app_stats(w->client, 0, &stat, 1);
    g_assert_cmpuint(w->client->stats[MEMSCHED_STAT_TOTAL], ==, 1000);
    stat.value = 1001;
    memsched_app_stats(w->client, 0, &stat, 1);
    g_assert_cmpuint(w->client->stats[MEMSCHED_STAT_TOTAL], ==, 1001);
    memset(balloon, 0xff, sizeof(balloon));
    balloon[MEMSCHED_STAT_TOTAL] = 2000;
    memsched_client_stats(w->client, balloon);
    memsched_app_stats(w->client, 0, &stat, 1);
    g_assert_cmpuint(w->client->stats[MEMSCHED_STAT_TOTAL], ==, 2000);
    memsched_client_detach(w->client, w);
    world_free(w);
}

static void test_ending_guest_has_no_connection(void)
{
    World *w = world_new();

    attach(w);
    post_answer(w, 1);
    memsched_client_ending(w->client);
    g_assert_false(query(w).connected);
    g_assert_cmpint(memsched_client_attach_apps(w->client, &ops, w,
                                                w->session), ==, -EBUSY);
    ms_sched_step(w->sched);
    g_assert_cmpuint(w->answers, ==, 0);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/app/session",
                    test_one_connection_at_a_time_with_its_own_session);
    g_test_add_func("/app/random",
                    test_no_random_numbers_means_no_session_and_no_key);
    g_test_add_func("/app/register",
                    test_registration_checks_number_name_and_count);
    g_test_add_func("/app/key", test_each_application_has_its_own_key);
    g_test_add_func("/app/end",
                    test_session_ends_take_applications_and_calls_along);
    g_test_add_func("/app/calls", test_calls_come_in_order_and_are_bounded);
    g_test_add_func("/app/poll", test_each_tick_asks_for_statistics_once);
    g_test_add_func("/app/detach",
                    test_detach_waits_for_the_callback_that_runs);
    g_test_add_func("/app/veto",
                    test_veto_lasts_as_long_as_asked_and_is_bounded);
    g_test_add_func("/app/stats",
                    test_statistics_of_applications_and_guest_are_kept_apart);
    g_test_add_func("/app/stats/balloon",
                    test_statistics_of_a_balloon_driver_go_before_the_agents);
    g_test_add_func("/app/ending", test_ending_guest_has_no_connection);
    return g_test_run();
}
