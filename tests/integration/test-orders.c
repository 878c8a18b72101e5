/*
 * Orders to balloon applications on the real kernel: who is asked for how much,
 * what becomes of those that do not give, and the kernel's balloon beside them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "app.h"
#include "apps-world.h"
#include "balloon.h"
#include "instance.h"

/* ---- orders ---- */

static void test_applications_are_asked_in_order_and_by_offer(void)
{
    World *w = world_new();

    /* 1 is the agent, priority 5 */
    agent_add(w->agent, 2, 5, false, 512);
    agent_add(w->agent, 3, 1, false, 512);
    agent_add(w->agent, 4, 9, false, UINT64_MAX);
    apps_give(w, 4 * 512);
    g_assert_cmpuint(agent_query(w->agent, 3).captured_bytes, ==, FRAMES(1));
    g_assert_cmpuint(agent_query(w->agent, 2).captured_bytes, ==, FRAMES(1));
    g_assert_cmpuint(agent_query(w->agent, 1).captured_bytes, ==, FRAMES(2));
    g_assert_cmpuint(agent_query(w->agent, 4).captured_bytes, ==, 0);
    g_assert_cmpuint(w->agent->epoch[0].order.app, ==, 3);
    g_assert_cmpuint(w->agent->epoch[1].order.app, ==, 2);
    g_assert_cmpuint(w->agent->epoch[2].order.app, ==, 1);
    /* different keys */
    g_assert_cmpint(memcmp(w->agent->epoch[0].order.key,
                           w->agent->epoch[1].order.key,
                           MEMSCHED_KEY_BYTES), !=, 0);
    world_free(w);
}

static void test_what_one_does_not_give_is_asked_of_the_next(void)
{
    World *w = world_new();

    agent_add(w->agent, 2, 1, false, UINT64_MAX);
    agent_add(w->agent, 3, 2, false, UINT64_MAX);
    w->agent->most[2] = 300;
    w->agent->most[3] = 0;
    apps_give(w, 3 * 512);
    g_assert_cmpuint(agent_query(w->agent, 2).captured_bytes, ==, 300 * 4096);
    g_assert_cmpuint(agent_query(w->agent, 3).captured_bytes, ==, 0);
    g_assert_cmpuint(agent_query(w->agent, 1).captured_bytes, ==,
                     (3 * 512 - 300) * 4096);
    world_free(w);
}

static void test_offer_is_a_guess_that_may_be_exceeded(void)
{
    World *w = world_new();

    memsched_app_unregister(w->a->client, 1);
    agent_add(w->agent, 2, 1, false, 100);
    apps_give(w, 512);
    g_assert_cmpuint(agent_query(w->agent, 2).captured_bytes, ==, 512 * 4096);
    world_free(w);
}

static void test_veto_is_respected(void)
{
    World *w = world_new();

    agent_add(w->agent, 2, 1, false, UINT64_MAX);
    memsched_app_veto(w->a->client, 2, 60000, MEMSCHED_REASON_PRESSURE);
    apps_give(w, 512);
    g_assert_cmpuint(agent_query(w->agent, 2).captured_bytes, ==, 0);
    memsched_app_veto(w->a->client, 2, 0, 0);
    apps_give(w, 512);
    g_assert_cmpuint(agent_query(w->agent, 2).captured_bytes, ==, FRAMES(1));
    world_free(w);
}

static void test_refusal_is_the_reason_of_the_transfer(void)
{
    World *w = world_new();
    MemSchedTransferInfo info;

    w->agent->most[1] = 200;
    info = apps_wait_end(w, apps_begin(
        w, 512, MEMSCHED_SOURCE_APPLICATION, 1500));
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpuint(info.moved_bytes, ==, 200 * 4096);
    g_assert_nonnull(strstr(info.reason, "'app1'"));
    g_assert_nonnull(strstr(info.reason, "short of memory"));
    world_free(w);
}

static void test_agent_that_never_answers_is_given_up(void)
{
    World *w = world_new();
    MemSchedTransferInfo info;
    gint64 end = g_get_monotonic_time() + WAIT_US;

    w->agent->quiet = true;
    info = apps_wait_end(w, apps_begin(
        w, 512, MEMSCHED_SOURCE_APPLICATION, 1000));
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_FAILED);
    g_assert_cmpuint(w->agent->cancels, >, 0);
    while (agent_query(w->agent, 1).ordered_bytes > 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    world_free(w);
}

static void test_liar_earns_nothing(void)
{
    World *w = world_new();
    MemSchedTransferInfo info;

    w->agent->liar = true;
    info = apps_wait_end(w, apps_begin(
        w, 2 * 512, MEMSCHED_SOURCE_APPLICATION, 1500));
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_FAILED);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    guest_assert(w->a, 0, 12 * 512, 1);
    world_free(w);
}

/* Wait, bounded, until so much of it is mapped in guest b. */
static void wait_moved(World *w, uint64_t id, uint64_t pages)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedTransferInfo info[256];
    uint64_t moved = 0;

    while (moved < pages) {
        size_t count = memsched_query_transfers(w->ms, info, 256);

        g_assert_cmpint(g_get_monotonic_time(), <, end);
        for (size_t i = 0; i < count; i++) {
            if (info[i].id == id) {
                moved = info[i].moved_bytes >> MEMSCHED_PAGE_SHIFT;
            }
        }
        g_usleep(200);
    }
}

static void test_agent_that_goes_ends_its_transfers_at_once(void)
{
    World *w = world_new();
    MemSchedTransferInfo info;
    uint64_t id;

    w->agent->most[1] = 512;
    id = apps_begin(w, 3 * 512, MEMSCHED_SOURCE_APPLICATION, 25000);
    agent_wait_captured(w->agent, 512);
    wait_moved(w, id, 512);
    agent_free(w->agent);
    w->agent = NULL;
    info = apps_wait_end(w, id);
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_nonnull(strstr(info.reason, "connected any more"));
    g_assert_cmpuint(info.elapsed_ns, <, UINT64_C(15000000000));
    world_free(w);
}

static void test_without_applications_the_source_is_refused(void)
{
    World *w = world_new();
    MemSchedTransferOptions o = {
        .from = "a", .to = "b", .size_bytes = FRAMES(1),
        .source = MEMSCHED_SOURCE_APPLICATION,
    };
    MemSchedMessage message = { "" };
    uint64_t id;

    agent_free(w->agent);
    w->agent = NULL;
    g_assert_cmpint(memsched_reallocate(w->ms, &o, &id, &message), ==,
                    -EOPNOTSUPP);
    g_assert_nonnull(strstr(message.text, "'a'"));
    world_free(w);
}

static void test_shared_ram_is_refused_with_a_sentence(void)
{
    MemSched *ms = guest_start(FRAMES(32));
    Guest *a = guest_new_shared(ms, "a", FRAMES(4), 0);
    MemSchedTransferOptions o = {
        .from = "a", .to = "b", .size_bytes = FRAMES(1),
        .source = MEMSCHED_SOURCE_APPLICATION,
    };
    MemSchedMessage message = { "" };
    Agent *agent;
    uint64_t id;
    Guest *b;

    if (a == NULL) {
        g_test_skip("this kernel does not report faults of shared memory");
        guest_stop(ms);
        return;
    }
    b = guest_new(ms, "b", FRAMES(4), 0);
    agent = agent_new(a, 0, 512);
    guest_fill(a, 0, 1024, 1);
    g_assert_cmpint(memsched_reallocate(ms, &o, &id, &message), ==,
                    -EOPNOTSUPP);
    g_assert_nonnull(strstr(message.text, "shared"));
    agent_free(agent);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* ---- together with the kernel's balloon ---- */

static uint64_t kernel_pages(World *w)
{
    MemSchedClientInfo info;

    g_assert_cmpint(memsched_query_client(w->ms, "a", &info), ==, 0);
    return (info.ballooned_kernel_bytes + info.given_bytes) >>
           MEMSCHED_PAGE_SHIFT;
}

static void test_kernel_balloon_gives_what_applications_do_not(void)
{
    World *w = world_new();
    Balloon *balloon = balloon_new(w->a, 10 * 512, 2 * 512, true);
    MemSchedTransferInfo info;

    w->agent->most[1] = 2 * 512;
    info = apps_wait_end(w, apps_begin(w, 3 * 512, MEMSCHED_SOURCE_ANY, 20000));
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(apps_credited(w), ==, 2 * 512);
    g_assert_cmpuint(kernel_pages(w), ==, 512);
    balloon_free(balloon);
    world_free(w);
}

static void test_any_source_works_with_applications_alone(void)
{
    World *w = world_new();
    MemSchedTransferInfo info =
        apps_wait_end(w, apps_begin(w, 2 * 512, MEMSCHED_SOURCE_ANY, 20000));

    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(apps_credited(w), ==, 2 * 512);
    world_free(w);
}

/*
 * Guest a gives 2 frames by its applications and 1 by its kernel, then gets 2
 * back: the kernel's balloon first, then a release.
 */
static void test_memory_comes_back_in_the_reverse_order(void)
{
    World *w = world_new();
    Balloon *balloon = balloon_new(w->a, 10 * 512, 2 * 512, true);
    MemSchedTransferOptions back = {
        .from = "b", .to = "a", .size_bytes = FRAMES(2),
        .source = MEMSCHED_SOURCE_ANY, .deadline_ms = 20000,
    };
    MemSchedTransferInfo info;
    Balloon *other;
    uint64_t id;

    w->agent->most[1] = 2 * 512;
    info = apps_wait_end(w, apps_begin(w, 3 * 512, MEMSCHED_SOURCE_ANY, 20000));
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_COMPLETED);
    guest_fill(w->b, 0, 12 * 512, 2);
    other = balloon_new(w->b, 0, 12 * 512, true);
    g_assert_cmpint(memsched_reallocate(w->ms, &back, &id, NULL), ==, 0);
    info = apps_wait_end(w, id);
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_COMPLETED);
    agent_wait_released(w->agent, 512);
    guest_check(w->ms);
    g_assert_cmpuint(kernel_pages(w), ==, 0);
    g_assert_cmpuint(apps_credited(w), ==, 512);
    g_assert_cmpuint(w->agent->releases, >=, 1);
    balloon_free(other);
    balloon_free(balloon);
    world_free(w);
}

/* The acceptor goes away: the donor gets back what nobody took. */
static void test_short_transfer_restores_the_donor(void)
{
    World *w = world_new();
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedTransferInfo info;
    uint64_t id;

    w->agent->most[1] = 2 * 512;
    id = apps_begin(w, 4 * 512, MEMSCHED_SOURCE_APPLICATION, 20000);
    agent_wait_captured(w->agent, 2 * 512);
    guest_free(w->b);
    w->b = NULL;
    info = apps_wait_end(w, id);
    g_assert_cmpint(info.state, !=, MEMSCHED_TRANSFER_COMPLETED);
    while (apps_credited(w) << MEMSCHED_PAGE_SHIFT > info.moved_bytes) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    world_free(w);
}

/* ---- whole frames ---- */

/* Pages of an order are tagged from @page on, and told. */
static void set_aside(World *w, const MemSchedAppOrder *order, uint64_t first,
                      uint64_t count, uint64_t page,
                      MemSchedReserveStatus status)
{
    MemSchedAppRange range = {
        .app = order->app, .epoch = order->epoch, .first_seq = first,
        .count_pages = count,
    };

    for (uint64_t i = 0; i < count; i++) {
        agent_tag(w->agent, order, first + i, page + i);
    }
    g_assert_cmpint(memsched_app_reserved(w->a->client, order->cookie, &range,
                                          status, MEMSCHED_REASON_PRESSURE),
                    ==, 0);
}

/* Bounded: until so many orders have come. */
static void wait_orders(World *w, unsigned orders)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    ms_lock(&w->agent->lock);
    while (w->agent->epochs < orders) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        ms_cond_wait_ns(&w->agent->cond, &w->agent->lock, 1000000000);
    }
    ms_unlock(&w->agent->lock);
}

static void wait_scanned(World *w, uint64_t pages)
{
    uint64_t from = agent_query_all(w->agent).counters.scanned;
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while (agent_query_all(w->agent).counters.scanned < from + pages) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(500);
    }
}

static uint64_t copied_pages(World *w)
{
    MemSchedInfo info;

    memsched_query(w->ms, &info);
    return info.copied_pages;
}

/*
 * Two programs: one has given half a frame and no more, the other has tagged
 * half of a frame so far.  When the first half is taken by copies, since the
 * transfer waits, the second one is left, and goes whole when it is.
 */
static void test_frames_of_an_order_that_runs_are_waited_for(void)
{
    World *w = world_new();
    const AgentEpoch *e = w->agent->epoch;
    uint64_t id, copied;

    w->agent->quiet = true;
    agent_add(w->agent, 2, 1, false, 256);
    id = apps_begin(w, 512 + 256, MEMSCHED_SOURCE_APPLICATION, 20000);
    wait_orders(w, 2);
    g_assert_cmpuint(e[0].order.app, ==, 2);
    g_assert_cmpuint(e[1].order.bytes, ==, FRAMES(1));
    set_aside(w, &e[1].order, 0, 256, 2 * 512, MEMSCHED_RESERVE_PROGRESS);
    set_aside(w, &e[0].order, 0, 256, 4 * 512, MEMSCHED_RESERVE_WHOLE);
    agent_wait_captured(w->agent, 256);
    wait_scanned(w, 2 * 12 * 512);
    guest_check(w->ms);
    g_assert_cmpuint(apps_credited(w), ==, 256);
    g_assert_cmpint(apps_state(w, 4 * 512), ==, MEMSCHED_PAGE_TAG);
    g_assert_cmpint(apps_state(w, 2 * 512), ==, MEMSCHED_PAGE_RESIDENT);
    copied = copied_pages(w);

    set_aside(w, &e[1].order, 256, 256, 2 * 512 + 256,
              MEMSCHED_RESERVE_WHOLE);
    g_assert_cmpint(apps_wait_end(w, id).state, ==,
                    MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(copied_pages(w), ==, copied);
    guest_assert(w->a, 4 * 512 + 256, 256, 1);
    world_free(w);
}

/* One page of a frame that is whole is no tag: the frame waits as well. */
static void test_frame_with_a_wrong_page_waits_for_the_order(void)
{
    World *w = world_new();
    const AgentEpoch *e = w->agent->epoch;
    uint64_t id;

    w->agent->quiet = true;
    agent_add(w->agent, 2, 1, false, 256);
    id = apps_begin(w, 2 * 512 + 256, MEMSCHED_SOURCE_APPLICATION, 20000);
    wait_orders(w, 2);
    set_aside(w, &e[1].order, 0, 512, 2 * 512, MEMSCHED_RESERVE_PROGRESS);
    agent_wait_captured(w->agent, 512);
    for (unsigned i = 0; i < 512; i++) {
        agent_tag(w->agent, &e[1].order, 512 + i, 3 * 512 + i);
    }
    w->a->ram[(3 * 512 + 9) * 4096 + 3000] = 5;
    {
        MemSchedAppRange range = {
            .app = 1, .epoch = e[1].order.epoch, .first_seq = 512,
            .count_pages = 512,
        };

        g_assert_cmpint(memsched_app_reserved(
            w->a->client, e[1].order.cookie, &range,
            MEMSCHED_RESERVE_PROGRESS, MEMSCHED_REASON_NONE), ==, 0);
    }
    set_aside(w, &e[0].order, 0, 256, 4 * 512, MEMSCHED_RESERVE_WHOLE);
    agent_wait_captured(w->agent, 512 + 256);
    wait_scanned(w, 2 * 12 * 512);
    g_assert_cmpuint(apps_credited(w), ==, 512 + 256);
    guest_check(w->ms);         /* waits until nothing is in transit */
    g_assert_cmpint(apps_state(w, 3 * 512), ==, MEMSCHED_PAGE_RESIDENT);

    w->a->ram[(3 * 512 + 9) * 4096 + 3000] = 0;
    g_assert_cmpint(apps_wait_end(w, id).state, ==,
                    MEMSCHED_TRANSFER_COMPLETED);
    world_free(w);
}

static void test_parts_are_taken_when_the_order_has_no_time_left(void)
{
    World *w = world_new();
    const AgentEpoch *e = w->agent->epoch;
    MemSchedTransferInfo info;
    uint64_t id;

    w->agent->quiet = true;
    id = apps_begin(w, 512, MEMSCHED_SOURCE_APPLICATION, 2000);
    wait_orders(w, 1);
    set_aside(w, &e[0].order, 0, 200, 2 * 512, MEMSCHED_RESERVE_PROGRESS);
    agent_wait_captured(w->agent, 200);
    g_assert_cmpuint(w->agent->cancels, ==, 0);
    info = apps_wait_end(w, id);
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpuint(info.moved_bytes, ==, 200 * 4096);
    guest_assert(w->a, 2 * 512 + 200, 312, 1);
    world_free(w);
}

#define ADD(path, function) g_test_add_func("/orders/" path, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    ADD("order", test_applications_are_asked_in_order_and_by_offer);
    ADD("next", test_what_one_does_not_give_is_asked_of_the_next);
    ADD("offer", test_offer_is_a_guess_that_may_be_exceeded);
    ADD("veto", test_veto_is_respected);
    ADD("reason", test_refusal_is_the_reason_of_the_transfer);
    ADD("quiet", test_agent_that_never_answers_is_given_up);
    ADD("liar", test_liar_earns_nothing);
    ADD("gone", test_agent_that_goes_ends_its_transfers_at_once);
    ADD("none", test_without_applications_the_source_is_refused);
    ADD("shared", test_shared_ram_is_refused_with_a_sentence);
    ADD("kernel", test_kernel_balloon_gives_what_applications_do_not);
    ADD("any", test_any_source_works_with_applications_alone);
    ADD("back", test_memory_comes_back_in_the_reverse_order);
    ADD("short", test_short_transfer_restores_the_donor);
    ADD("whole", test_frames_of_an_order_that_runs_are_waited_for);
    ADD("wrong", test_frame_with_a_wrong_page_waits_for_the_order);
    ADD("late", test_parts_are_taken_when_the_order_has_no_time_left);
    return g_test_run();
}
