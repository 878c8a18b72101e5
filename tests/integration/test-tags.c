/*
 * Balloon applications on the real kernel: pages are found by their value,
 * leave, come back as they were, and are counted once
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

/* ---- the way there ---- */

static void test_transfer_takes_what_the_agent_sets_aside(void)
{
    World *w = world_new();
    MemSchedTransferInfo info = apps_give(w, 3 * 512 + 100);
    MemSchedInfo all;
    uint64_t first, count;

    g_assert_cmpuint(info.copied_bytes + info.discarded_bytes, ==, 0);
    g_assert_cmpuint(info.captured_bytes, ==, info.moved_bytes);
    g_assert_cmpuint(apps_credited(w), ==, 3 * 512 + 100);
    g_assert_cmpuint(apps_known(w), ==, 0);
    g_assert_cmpuint(agent_query(w->agent, 1).captured_bytes, ==,
                     info.moved_bytes);
    g_assert_cmpuint(agent_query(w->agent, 1).reserved_bytes, ==,
                     info.moved_bytes);
    /* one order in frames, one for the rest */
    g_assert_cmpuint(w->agent->epochs, ==, 2);
    g_assert_cmpuint(w->agent->epoch[0].order.granule_bytes, ==,
                     MEMSCHED_FRAME_SIZE);
    g_assert_cmpuint(w->agent->epoch[1].order.granule_bytes, ==,
                     MEMSCHED_PAGE_SIZE);
    g_assert_true(memsched_region_next_run(w->a->region, 0,
                                           1u << MEMSCHED_PAGE_TAG, &first,
                                           &count));
    g_assert_cmpuint(first, ==, 2 * 512);
    g_assert_cmpuint(count, ==, 3 * 512 + 100);
    /* frames that were whole moved whole */
    memsched_query(w->ms, &all);
    g_assert_cmpuint(all.split_frames, ==, 0);
    guest_assert(w->a, 0, 2 * 512, 1);
    guest_assert(w->a, 5 * 512 + 100, 412, 1);
    guest_assert(w->a, 6 * 512, 6 * 512, 1);
    world_free(w);
}

static void test_hints_lead_to_the_pages(void)
{
    World *w = world_new();
    MemSchedAppsInfo info;
    uint64_t id;

    /* No search meanwhile: hints and pages are there when it begins. */
    memsched_client_inhibit(w->a->client, true);
    w->agent->hints = true;
    id = apps_begin(w, 4 * 512, MEMSCHED_SOURCE_APPLICATION, 20000);
    agent_wait_worked(w->agent, 1);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    memsched_client_inhibit(w->a->client, false);
    g_assert_cmpint(apps_wait_end(w, id).state, ==,
                    MEMSCHED_TRANSFER_COMPLETED);
    info = agent_query_all(w->agent);
    g_assert_cmpuint(info.counters.found_by_hint, ==, 4 * 512);
    g_assert_cmpuint(info.counters.found_by_scan, ==, 0);
    world_free(w);
}

static void test_calls_that_do_not_fit_an_order_are_refused(void)
{
    World *w = world_new();
    MemSchedClient *c = w->a->client;
    MemSchedAppHint hint = { .seq = 0, .gpa = 0, .count_pages = 1 };
    MemSchedAppRange r = { .app = 1, .epoch = 1, .count_pages = 1 };
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;

    g_assert_cmpint(memsched_app_reserved(c, 1, &r, 0, 0), ==, -ENOENT);
    g_assert_cmpint(memsched_app_unmapped(c, &r), ==, -ENOENT);
    w->agent->quiet = true;
    apps_begin(w, 512, MEMSCHED_SOURCE_APPLICATION, 20000);
    ms_lock(&w->agent->lock);
    while (w->agent->epochs == 0) {
        g_assert_true(ms_cond_wait_ns(&w->agent->cond, &w->agent->lock,
                                      UINT64_C(20000000000)));
    }
    ms_unlock(&w->agent->lock);
    r.epoch = o->epoch;
    g_assert_cmpint(memsched_app_reserved(c, o->cookie + 1, &r, 0, 0), ==,
                    -ENOENT);
    r.count_pages = 513;
    g_assert_cmpint(memsched_app_reserved(c, o->cookie, &r, 0, 0), ==,
                    -ERANGE);
    g_assert_cmpint(memsched_app_release(c, &r, 0), ==, -ERANGE);
    g_assert_cmpint(memsched_app_unmapped(c, &r), ==, -ERANGE);
    r.first_seq = UINT64_MAX;
    r.count_pages = 2;
    g_assert_cmpint(memsched_app_reserved(c, o->cookie, &r, 0, 0), ==,
                    -ERANGE);
    r.app = 2;
    g_assert_cmpint(memsched_app_release(c, &r, 0), ==, -ENOENT);
    g_assert_cmpint(memsched_app_hints(c, 2, o->epoch, &hint, 1), ==,
                    -ENOENT);
    hint.count_pages = 0;
    g_assert_cmpint(memsched_app_hints(c, 1, o->epoch, &hint, 1), ==,
                    -ERANGE);
    hint = (MemSchedAppHint) { .seq = 512, .count_pages = 1 };
    g_assert_cmpint(memsched_app_hints(c, 1, o->epoch, &hint, 1), ==,
                    -ERANGE);
    hint = (MemSchedAppHint) { .gpa = UINT64_MAX - 4095, .count_pages = 2 };
    g_assert_cmpint(memsched_app_hints(c, 1, o->epoch, &hint, 1), ==,
                    -ERANGE);
    /* no RAM there: looked up, and passed over */
    hint = (MemSchedAppHint) { .gpa = UINT64_C(1) << 40, .count_pages = 1 };
    g_assert_cmpint(memsched_app_hints(c, 1, o->epoch, &hint, 1), ==, 0);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    world_free(w);
}

/* ---- and back ---- */

static void test_touch_gives_the_tag_and_a_later_search_takes_it_again(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    char *content = g_malloc(MEMSCHED_PAGE_SIZE);
    uint64_t page = 2 * 512 + 77;

    apps_give(w, 2 * 512);
    /* its content is to be had without a fault */
    g_assert_cmpint(memsched_region_tag_content(w->a->region, page, content),
                    ==, 0);
    g_assert_cmpint(apps_state(w, page), ==, MEMSCHED_PAGE_TAG);
    agent_assert_tag(w->agent, o, 77, page);
    g_assert_cmpint(memcmp(content, w->a->ram + page * 4096, 4096), ==, 0);
    g_assert_cmpint(memsched_region_tag_content(w->a->region, 0, content), ==,
                    -ENOENT);
    g_assert_cmpint(memsched_region_tag_content(w->a->region, 1 << 30,
                                                content), ==, -EINVAL);
    g_free(content);
    /* that page alone came, and it is taken again */
    g_assert_cmpint(apps_state(w, page + 1), ==, MEMSCHED_PAGE_TAG);
    agent_wait_captured(w->agent, 2 * 512);
    g_assert_cmpint(apps_state(w, page), ==, MEMSCHED_PAGE_TAG);
    g_assert_cmpuint(agent_query_all(w->agent).counters.returned_by_fault, ==,
                     1);
    g_assert_cmpuint(agent_query_all(w->agent).counters.recaptured, ==, 1);
    /* each of them */
    for (uint64_t i = 0; i < 2 * 512; i++) {
        agent_assert_tag(w->agent, o, i, 2 * 512 + i);
    }
    world_free(w);
}

static void test_guest_that_takes_its_pages_back_is_left_alone(void)
{
    World *w = world_new();
    MemSchedAppsInfo before, after;
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    uint64_t touched = 0;
    gint64 end;

    apps_give(w, 4 * 512);
    before = agent_query_all(w->agent);
    /* Touch them all, again and again, for three seconds. */
    end = g_get_monotonic_time() + 3 * G_USEC_PER_SEC;
    while (g_get_monotonic_time() < end) {
        for (uint64_t i = 0; i < 4 * 512; i++, touched++) {
            agent_assert_tag(w->agent, o, i, 2 * 512 + i);
        }
    }
    after = agent_query_all(w->agent);
    g_test_message("%" G_GUINT64_FORMAT " touches, %" G_GUINT64_FORMAT
                   " pages taken again", touched,
                   after.counters.recaptured - before.counters.recaptured);
    g_assert_cmpuint(w->a->client->apps->search.rests, >, 0);
    world_free(w);
}

static void test_touched_tags_are_thrash_of_their_guest(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    MemSchedClientInfo info;
    uint64_t released;

    apps_give(w, 4 * 512);
    /* What the host gives back is no thrash. */
    released = 512;
    {
        MemSchedAppRange r = {
            .app = 1, .epoch = o->epoch, .first_seq = 0,
            .count_pages = released,
        };

        g_assert_cmpint(memsched_app_release(w->a->client, &r, 0), ==, 0);
        agent_wait_released(w->agent, released);
    }
    guest_query(w->a, &info);
    g_assert_cmpuint(info.returned_pages, ==, 0);
    g_assert_cmpuint(info.backoffs, ==, 0);
    for (uint64_t i = released; i < 4 * 512; i++) {
        agent_assert_tag(w->agent, o, i, 2 * 512 + i);
    }
    guest_query(w->a, &info);
    g_assert_cmpuint(info.returned_pages, ==,
                     agent_query_all(w->agent).counters.returned_by_fault);
    g_assert_cmpuint(info.returned_pages, >=, 4 * 512 - released);
    g_assert_cmpuint(info.backoffs, >, 0);
    g_assert_cmpuint(info.backoff_ns, >, 0);
    world_free(w);
}

static void test_release_by_the_guest_brings_tags_back(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    MemSchedAppRange r;

    apps_give(w, 4 * 512);
    r = (MemSchedAppRange) {
        .app = 1, .epoch = o->epoch, .first_seq = 512, .count_pages = 700,
    };
    w->agent->keeps = true;
    g_assert_cmpint(memsched_app_release(w->a->client, &r,
                                         MEMSCHED_REASON_PRESSURE), ==, 0);
    g_assert_cmpuint(apps_credited(w), ==, 4 * 512 - 700);
    agent_wait_released(w->agent, 700);
    g_assert_cmpint(apps_state(w, 2 * 512 + 511), ==, MEMSCHED_PAGE_TAG);
    g_assert_cmpint(apps_state(w, 3 * 512), ==, MEMSCHED_PAGE_RESIDENT);
    g_assert_cmpint(apps_state(w, 3 * 512 + 699), ==, MEMSCHED_PAGE_RESIDENT);
    g_assert_cmpint(apps_state(w, 3 * 512 + 700), ==, MEMSCHED_PAGE_TAG);
    for (uint64_t i = 512; i < 512 + 700; i++) {
        agent_assert_tag(w->agent, o, i, 2 * 512 + i);
    }
    g_assert_cmpuint(agent_query_all(w->agent).counters.returned_by_release,
                     ==, 700);
    g_assert_cmpuint(agent_query_all(w->agent).counters.returned_by_fault, ==,
                     0);
    /* never taken again, though they still hold their tags */
    apps_give(w, 512);
    g_assert_cmpint(apps_state(w, 3 * 512), ==, MEMSCHED_PAGE_RESIDENT);
    /* a whole frame came back huge */
    {
        MemSchedTranslation t;

        memsched_translate(w->ms, "a", FRAMES(3), &t, NULL);
        g_assert_true(t.huge);
    }
    world_free(w);
}

static void test_unmapped_pages_earn_nothing_and_come_back_by_touch(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    MemSchedAppRange r;

    apps_give(w, 2 * 512);
    /* The transfer may end before the order does. */
    agent_wait_worked(w->agent, 1);
    r = (MemSchedAppRange) {
        .app = 1, .epoch = o->epoch, .count_pages = 512,
    };
    g_assert_cmpint(memsched_app_unmapped(w->a->client, &r), ==, 0);
    g_assert_cmpuint(apps_credited(w), ==, 512);
    g_assert_cmpuint(apps_known(w), ==, 512);
    memsched_client_inhibit(w->a->client, true);    /* not found again yet */
    agent_assert_tag(w->agent, o, 3, 2 * 512 + 3);
    apps_wait_known(w, 511);
    memsched_client_inhibit(w->a->client, false);
    r.first_seq = 512;
    g_assert_cmpint(memsched_app_unmapped(w->a->client, &r), ==, 0);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    /* the epoch is over: said again, it is no error */
    g_assert_cmpint(memsched_app_unmapped(w->a->client, &r), ==, 0);
    g_assert_cmpint(memsched_app_release(w->a->client, &r, 0), ==, -ENOENT);
    world_free(w);
}

/* ---- the other rows of state T ---- */

static void test_inflate_report_and_deflate_of_tag_pages(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    MemSchedOpResult result;

    apps_give(w, 4 * 512);
    result = guest_inflate(w->a, 2 * 512, 100, false);
    g_assert_cmpuint(result.noop_pages, ==, 100);
    result = guest_inflate(w->a, 2 * 512 + 100, 100, true);
    g_assert_cmpuint(result.noop_pages, ==, 100);
    g_assert_cmpint(apps_state(w, 2 * 512 + 199), ==, MEMSCHED_PAGE_BALLOONED);
    result = guest_report(w->a, 3 * 512, 512);
    g_assert_cmpuint(result.noop_pages, ==, 512);
    g_assert_cmpint(apps_state(w, 3 * 512), ==, MEMSCHED_PAGE_REPORTED);
    g_assert_cmpuint(apps_credited(w), ==, 4 * 512 - 200 - 512);
    guest_assert_zero(w->a, 2 * 512, 1);
    guest_assert_zero(w->a, 3 * 512, 1);
    /* an odd guest deflates what it has set aside: the tag, not zeros */
    result = guest_deflate(w->a, 4 * 512, 10);
    g_assert_cmpuint(result.populated_pages, ==, 10);
    g_assert_cmpint(apps_state(w, 4 * 512 + 9), ==, MEMSCHED_PAGE_RESIDENT);
    for (unsigned i = 0; i < 10; i++) {
        agent_assert_tag(w->agent, o, 2 * 512 + i, 4 * 512 + i);
    }
    world_free(w);
}

static void test_resets_of_device_and_machine(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;

    apps_give(w, 2 * 512);
    memsched_reset(w->a->client, MEMSCHED_RESET_DEVICE);
    g_assert_cmpuint(apps_credited(w), ==, 2 * 512);
    agent_assert_tag(w->agent, o, 5, 2 * 512 + 5);
    memsched_reset(w->a->client, MEMSCHED_RESET_SYSTEM);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    g_assert_cmpuint(apps_known(w), ==, 0);
    g_assert_cmpint(apps_state(w, 2 * 512), ==, MEMSCHED_PAGE_HOLE);
    guest_assert_zero(w->a, 2 * 512, 1);
    guest_assert(w->a, 0, 2 * 512, 1);
    world_free(w);
}

static void test_restored_pages_are_no_tags_any_more(void)
{
    World *w = world_new();

    apps_give(w, 2 * 512);
    g_assert_cmpint(memsched_region_restore(w->a->region, 2 * 512, 512,
                                            MEMSCHED_PAGE_BALLOONED), ==, 0);
    g_assert_cmpint(memsched_region_restore(w->a->region, 3 * 512, 100,
                                            MEMSCHED_PAGE_REPORTED), ==, 0);
    g_assert_cmpint(apps_state(w, 2 * 512), ==, MEMSCHED_PAGE_BALLOONED);
    g_assert_cmpint(apps_state(w, 3 * 512), ==, MEMSCHED_PAGE_REPORTED);
    g_assert_cmpuint(apps_credited(w), ==, 412);
    world_free(w);
}

static void test_epochs_die_with_session_application_and_connection(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;

    apps_give(w, 512);
    memsched_client_new_session(w->a->client, w->agent->session);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    g_assert_cmpuint(apps_known(w), ==, 512);
    /* the content is known for ever, and still the guest's */
    memsched_client_inhibit(w->a->client, true);    /* not found again yet */
    agent_assert_tag(w->agent, o, 9, 2 * 512 + 9);
    apps_wait_known(w, 511);
    memsched_client_inhibit(w->a->client, false);

    agent_add(w->agent, 1, 5, true, UINT64_MAX);
    apps_give(w, 512);
    g_assert_cmpuint(apps_credited(w), ==, 512);
    memsched_app_unregister(w->a->client, 1);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    g_assert_cmpuint(apps_known(w), >=, 1023);
    g_assert_cmpuint(apps_known(w), <=, 1024);

    agent_add(w->agent, 1, 5, true, UINT64_MAX);
    apps_give(w, 512);
    g_assert_cmpuint(apps_credited(w), ==, 512);
    agent_free(w->agent);
    w->agent = NULL;
    g_assert_cmpuint(apps_credited(w), ==, 0);
    g_assert_cmpuint(apps_known(w), >=, 1023 + 512);
    g_assert_cmpuint(apps_known(w), <=, 1024 + 512);
    world_free(w);
}

/* Guest b, which has frames to give, gives this many pages to a. */
static void give_back(World *w, uint64_t pages)
{
    MemSchedTransferOptions o = {
        .from = "b", .to = "a", .size_bytes = pages << MEMSCHED_PAGE_SHIFT,
        .source = MEMSCHED_SOURCE_KERNEL, .deadline_ms = 20000,
    };
    MemSchedMessage message = { "" };
    MemSchedTransferInfo info;
    uint64_t id;

    g_assert_cmpint(memsched_reallocate(w->ms, &o, &id, &message), ==, 0);
    info = apps_wait_end(w, id);
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_COMPLETED);
}

static void test_transfer_fills_pages_that_an_application_left(void)
{
    World *w = world_new();
    Balloon *balloon = balloon_new(w->b, 0, 8 * 512, true);
    MemSchedAppOrder order;

    guest_fill(w->b, 0, 4 * 512, 2);
    apps_give(w, 4 * 512);
    order = w->agent->epoch[0].order;
    agent_wait_worked(w->agent, 1);
    /* The guest holds no other page without a frame. */
    memsched_app_unregister(w->a->client, 1);
    apps_wait_known(w, 4 * 512);

    give_back(w, 3 * 512);
    apps_wait_known(w, 512);
    guest_check(w->ms);
    for (uint64_t i = 0; i < 4 * 512; i++) {
        agent_assert_tag(w->agent, &order, i, w->agent->epoch[0].page + i);
    }
    balloon_free(balloon);
    world_free(w);
}

static void test_application_makes_the_room_that_the_balloon_cannot(void)
{
    World *w = world_new();
    Balloon *b = balloon_new(w->b, 0, 8 * 512, true), *a;

    guest_fill(w->b, 0, 4 * 512, 2);
    apps_give(w, 4 * 512);
    agent_wait_worked(w->agent, 1);
    /* Half of each of two frames: given, and not taken. */
    a = balloon_new(w->a, 10 * 512 + 256, 512, true);
    balloon_set(a, 512);

    give_back(w, 4 * 512);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    guest_check(w->ms);
    balloon_free(a);
    balloon_free(b);
    world_free(w);
}

/* ---- what is not a tag ---- */

static void test_copies_are_known_and_earn_nothing(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    uint64_t from = 2 * 512 + 20;

    apps_give(w, 512);
    /* Over two others of its pages, which are nowhere then. */
    memcpy(w->a->ram + 4096 * (from + 10), w->a->ram + 4096 * from, 4096);
    memcpy(w->a->ram + 4096 * (from + 11), w->a->ram + 4096 * from, 4096);
    apps_wait_known(w, 2);
    g_assert_cmpuint(apps_credited(w), ==, 510);
    /* whichever is read, it is the tag; what is left holds the credit */
    agent_assert_tag(w->agent, o, 20, from + 10);
    agent_assert_tag(w->agent, o, 20, from);
    agent_assert_tag(w->agent, o, 20, from + 11);
    agent_assert_tag(w->agent, o, 21, from + 1);
    apps_wait_known(w, 2);
    g_assert_cmpuint(apps_credited(w), ==, 510);
    world_free(w);
}

static void test_transfer_fills_copies(void)
{
    World *w = world_new();
    Balloon *balloon = balloon_new(w->b, 0, 8 * 512, true);
    uint64_t from = 2 * 512 + 20;

    guest_fill(w->b, 0, 4 * 512, 2);
    apps_give(w, 512);
    memcpy(w->a->ram + 4096 * (from + 10), w->a->ram + 4096 * from, 4096);
    memcpy(w->a->ram + 4096 * (from + 11), w->a->ram + 4096 * from, 4096);
    apps_wait_known(w, 2);

    /* Nobody's application makes room for them. */
    give_back(w, 2);
    g_assert_cmpuint(apps_credited(w), >=, 509);
    balloon_free(balloon);
    world_free(w);
}

/* A kernel compacts: the page lies elsewhere now, its old place holds more. */
static void test_moved_page_is_credited_where_it_lies(void)
{
    World *w = world_new();
    const MemSchedAppOrder *o = &w->agent->epoch[0].order;
    uint64_t from = 2 * 512 + 20, to = 5 * 512 + 3;

    apps_give(w, 512);
    /* small pages, so that a single one of them may go */
    guest_inflate(w->a, 5 * 512 + 500, 1, false);
    memcpy(w->a->ram + 4096 * to, w->a->ram + 4096 * from, 4096);
    guest_fill(w->a, from, 1, 77);
    agent_wait_captured(w->agent, 512);
    g_assert_cmpint(apps_state(w, to), ==, MEMSCHED_PAGE_TAG);
    g_assert_cmpint(apps_state(w, from), ==, MEMSCHED_PAGE_RESIDENT);
    g_assert_cmpuint(apps_known(w), ==, 0);
    guest_assert(w->a, from, 1, 77);
    agent_assert_tag(w->agent, o, 20, to);
    world_free(w);
}

static void test_forged_pages_stay_as_they_are(void)
{
    World *w = world_new();
    MemSchedAppOrder *o = &w->agent->epoch[0].order, forged;
    char *copy = g_malloc(4096 * 8);
    MemSchedAppsInfo info;

    apps_give(w, 512);
    forged = *o;
    forged.key[3] ^= 1;
    agent_tag(w->agent, &forged, 600, 0);       /* another key */
    agent_tag(w->agent, o, 512, 1);             /* beyond the order */
    agent_tag(w->agent, o, UINT64_MAX, 2);
    forged = *o;
    forged.epoch++;
    agent_tag(w->agent, &forged, 0, 3);         /* no such epoch */
    forged = *o;
    forged.app = 9;
    agent_tag(w->agent, &forged, 0, 4);         /* no such application */
    agent_tag(w->agent, o, 10, 5);
    w->a->ram[5 * 4096 + 4095] = 1;             /* the last byte */
    agent_tag(w->agent, o, 11, 6);
    w->a->ram[6 * 4096 + 63] ^= 1;              /* the checksum */
    agent_tag(w->agent, o, 12, 7);
    w->a->ram[7 * 4096] ^= 1;                   /* the magic number */
    memcpy(copy, w->a->ram, 4096 * 8);
    apps_give(w, 512);
    guest_check(w->ms);
    for (unsigned p = 0; p < 8; p++) {
        g_assert_cmpint(apps_state(w, p), ==, MEMSCHED_PAGE_RESIDENT);
    }
    g_assert_cmpint(memcmp(copy, w->a->ram, 4096 * 8), ==, 0);
    info = agent_query_all(w->agent);
    g_assert_cmpuint(info.counters.rejected, >, 0);
    g_assert_cmpuint(info.known_bytes, ==, 0);
    guest_assert(w->a, 8, 2 * 512 - 8, 1);
    g_free(copy);
    world_free(w);
}

/*
 * One byte of frame 3 differs: with nothing urging, the whole huge page goes
 * back; in the end its 511 tags are taken, and that page stays.
 */
static void test_changed_page_of_a_huge_page_goes_back(void)
{
    World *w = world_new();
    AgentEpoch *e = &w->agent->epoch[0];
    MemSchedTransferInfo info;

    w->agent->liar = true;
    {
        uint64_t id = apps_begin(w, 2 * 512, MEMSCHED_SOURCE_APPLICATION, 3000);

        agent_wait_worked(w->agent, 1);
        for (unsigned i = 0; i < 2 * 512; i++) {
            agent_tag(w->agent, &e->order, i, 2 * 512 + i);
            if (i == 700) {
                w->a->ram[(2 * 512 + 700) * 4096 + 2000] = 7;
            }
        }
        info = apps_wait_end(w, id);
    }
    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpuint(info.moved_bytes, ==, 1023 * 4096);
    g_assert_cmpint(apps_state(w, 2 * 512 + 700), ==, MEMSCHED_PAGE_RESIDENT);
    g_assert_cmpint(w->a->ram[(2 * 512 + 700) * 4096 + 2000], ==, 7);
    w->a->ram[(2 * 512 + 700) * 4096 + 2000] = 0;
    agent_assert_tag(w->agent, &e->order, 700, 2 * 512 + 700);
    world_free(w);
}

/* ---- between look and capture ---- */

typedef struct Meddler {
    World *w;
    unsigned times;
    uint64_t page;
} Meddler;

static bool has_worked(World *w)
{
    bool has;

    ms_lock(&w->agent->lock);
    has = w->agent->worked > 0;
    ms_unlock(&w->agent->lock);
    return has;
}

static void change_a_page(void *opaque, MemSchedRegion *region)
{
    Meddler *m = opaque;

    if (region == m->w->a->region && m->times == 0 &&
        apps_state(m->w, m->page) == MEMSCHED_PAGE_RESIDENT &&
        has_worked(m->w)) {
        m->times++;
        m->w->a->ram[m->page * 4096 + 4000] = 42;
    }
}

static void test_page_that_changes_after_the_look_stays(void)
{
    World *w = world_new();
    Meddler m = { .w = w, .page = 2 * 512 + 1030 };
    AgentEpoch *e = &w->agent->epoch[0];

    w->ms->found_opaque = &m;
    w->ms->found_hook = change_a_page;
    {
        MemSchedTransferInfo info = apps_wait_end(w, apps_begin(
            w, 4 * 512, MEMSCHED_SOURCE_APPLICATION, 3000));

        guest_check(w->ms);
        /* the agent had another page in its place */
        g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_COMPLETED);
        if (m.times == 0) {
            g_test_message("captured before the agent was done: unchanged");
        } else {
            g_assert_cmpint(apps_state(w, m.page), ==, MEMSCHED_PAGE_RESIDENT);
            g_assert_cmpint(w->a->ram[m.page * 4096 + 4000], ==, 42);
            w->a->ram[m.page * 4096 + 4000] = 0;
        }
    }
    w->ms->found_hook = NULL;
    agent_assert_tag(w->agent, &e->order, 1030, m.page);
    world_free(w);
}

static void raise_fence(void *opaque, MemSchedRegion *region)
{
    Meddler *m = opaque;

    if (region == m->w->a->region && m->times == 0) {
        m->times++;
        memsched_dma_begin(m->w->a->ram + m->page * 4096, 4096);
    }
}

static void test_fence_raised_after_the_look_puts_pages_back(void)
{
    World *w = world_new();
    Meddler m = { .w = w, .page = 3 * 512 + 5 };
    uint64_t id;

    w->ms->found_opaque = &m;
    w->ms->found_hook = raise_fence;
    id = apps_begin(w, 3 * 512, MEMSCHED_SOURCE_APPLICATION, 20000);
    agent_wait_captured(w->agent, 2 * 512);
    g_assert_cmpint(apps_state(w, 3 * 512), ==, MEMSCHED_PAGE_RESIDENT);
    for (unsigned i = 0; i < 512; i++) {
        agent_assert_tag(w->agent, &w->agent->epoch[0].order, 512 + i,
                         3 * 512 + i);
    }
    g_assert_cmpuint(apps_credited(w), ==, 2 * 512);
    memsched_dma_end(w->a->ram + m.page * 4096, 4096);
    g_assert_cmpint(apps_wait_end(w, id).state, ==,
                    MEMSCHED_TRANSFER_COMPLETED);
    w->ms->found_hook = NULL;
    world_free(w);
}

/* The first look has found what the agent told of; it tells of the rest. */
static void kill_epochs(void *opaque, MemSchedRegion *region)
{
    Meddler *m = opaque;

    if (region == m->w->a->region && m->times == 0) {
        m->times++;
        agent_wait_worked(m->w->agent, 1);
        memsched_app_unregister(m->w->a->client, 1);
    }
}

static void test_epoch_that_dies_after_the_look_takes_nothing(void)
{
    World *w = world_new();
    Meddler m = { .w = w };
    MemSchedTransferInfo info;

    w->ms->found_opaque = &m;
    w->ms->found_hook = kill_epochs;
    info = apps_wait_end(w, apps_begin(
        w, 4 * 512, MEMSCHED_SOURCE_APPLICATION, 20000));
    w->ms->found_hook = NULL;
    g_assert_cmpuint(m.times, ==, 1);
    g_assert_cmpuint(apps_credited(w), ==, 0);
    g_assert_cmpuint(apps_known(w), ==, 0);
    g_assert_cmpuint(info.captured_bytes, ==, 0);
    for (unsigned i = 0; i < 4 * 512; i++) {
        agent_assert_tag(w->agent, &w->agent->epoch[0].order, i, 2 * 512 + i);
    }
    world_free(w);
}

/* ---- no memory ---- */

static void test_touch_without_a_grant_waits_and_the_page_is_kept(void)
{
    MemSched *ms = guest_start(FRAMES(16));
    World w = { .ms = ms };
    MemSchedClientInfo info;

    w.a = guest_new(ms, "a", FRAMES(8), 0);
    w.b = guest_new(ms, "b", FRAMES(16), 0);
    guest_fill(w.a, 0, 8 * 512, 1);
    w.agent = agent_new(w.a, 2 * 512, 4 * 512);
    apps_give(&w, 4 * 512);
    guest_query(w.b, &info);
    g_assert_cmpuint(info.allocated_bytes, ==, FRAMES(4));
    /*
     * All that is left goes to b; this thread is no vCPU's, so the touch of a
     * tag takes from a's give-allowance, and gets the tag.
     */
    {
        MemSchedInfo all;

        memsched_query(ms, &all);
        guest_fill(w.b, 4 * 512, (all.free_clean_bytes +
                                  all.free_dirty_bytes - all.reserved_bytes -
                                  all.claimed_bytes) / 4096, 3);
    }
    agent_assert_tag(w.agent, &w.agent->epoch[0].order, 100, 2 * 512 + 100);
    {
        /* released, but nothing is there to populate: it stays known */
        MemSchedAppRange r = {
            .app = 1, .epoch = w.agent->epoch[0].order.epoch,
            .first_seq = 512, .count_pages = 512,
        };

        w.agent->keeps = true;
        g_assert_cmpint(memsched_app_release(w.a->client, &r, 0), ==, 0);
        agent_wait_released(w.agent, 512);
        g_assert_cmpuint(apps_known(&w), ==, 512);
    }
    guest_check(ms);
    agent_free(w.agent);
    guest_free(w.b);
    guest_free(w.a);
    guest_stop(ms);
}

#define ADD(path, function) g_test_add_func("/tags/" path, function)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    ADD("transfer", test_transfer_takes_what_the_agent_sets_aside);
    ADD("hints", test_hints_lead_to_the_pages);
    ADD("refused", test_calls_that_do_not_fit_an_order_are_refused);
    ADD("touch",
        test_touch_gives_the_tag_and_a_later_search_takes_it_again);
    ADD("thrash", test_guest_that_takes_its_pages_back_is_left_alone);
    ADD("returned", test_touched_tags_are_thrash_of_their_guest);
    ADD("release", test_release_by_the_guest_brings_tags_back);
    ADD("unmapped", test_unmapped_pages_earn_nothing_and_come_back_by_touch);
    ADD("rows", test_inflate_report_and_deflate_of_tag_pages);
    ADD("reset", test_resets_of_device_and_machine);
    ADD("restore", test_restored_pages_are_no_tags_any_more);
    ADD("epochs", test_epochs_die_with_session_application_and_connection);
    ADD("left", test_transfer_fills_pages_that_an_application_left);
    ADD("room", test_application_makes_the_room_that_the_balloon_cannot);
    ADD("copies", test_copies_are_known_and_earn_nothing);
    ADD("copies-filled", test_transfer_fills_copies);
    ADD("moved", test_moved_page_is_credited_where_it_lies);
    ADD("forged", test_forged_pages_stay_as_they_are);
    ADD("changed", test_changed_page_of_a_huge_page_goes_back);
    ADD("changed-late", test_page_that_changes_after_the_look_stays);
    ADD("fence", test_fence_raised_after_the_look_puts_pages_back);
    ADD("killed", test_epoch_that_dies_after_the_look_takes_nothing);
    ADD("no-memory", test_touch_without_a_grant_waits_and_the_page_is_kept);
    return g_test_run();
}
