/*
 * Requests of guests: the table, their ends, and where memory comes from
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "request.h"

static int guest[3];            /* addresses to compare */

static MsRequest *add(MsRequests *t, const void *client, uint64_t cookie,
                      unsigned priority)
{
    MsRequest r = {
        .client = client, .app = 1, .cookie = cookie, .pages = 1000,
        .priority = priority,
    };
    MsRequest *noted;
    int error = 0;

    noted = ms_requests_add(t, &r, &error);
    g_assert_nonnull(noted);
    return noted;
}

/* ---- the table ---- */

static void test_the_most_urgent_comes_first_then_the_oldest(void)
{
    static const uint64_t order[] = { 4, 2, 5, 1, 3, 6 };
    MsRequests t = { 0 };

    add(&t, &guest[0], 1, 3);
    add(&t, &guest[0], 2, 7);
    add(&t, &guest[1], 3, 3);
    add(&t, &guest[1], 4, 9);
    add(&t, &guest[2], 5, 7);
    add(&t, &guest[2], 6, 0);
    for (size_t i = 0; i < t.count; i++) {
        g_assert_cmpuint(t.request[i]->cookie, ==, order[i]);
    }
    ms_requests_remove(&t, t.request[1]);
    g_assert_cmpuint(t.count, ==, 5);
    g_assert_cmpuint(t.request[1]->cookie, ==, 5);
    ms_requests_clear(&t);
    g_assert_cmpuint(t.count, ==, 0);
}

static void test_a_cookie_is_used_once_and_a_guest_is_bounded(void)
{
    MsRequests t = { 0 };
    MsRequest again = { .client = &guest[0], .app = 1, .cookie = 0 };
    int error = 0;

    for (unsigned i = 0; i < MEMSCHED_REQUESTS_MAX; i++) {
        add(&t, &guest[0], i, i % 10);
    }
    g_assert_null(ms_requests_add(&t, &again, &error));
    g_assert_cmpint(error, ==, -EEXIST);
    again.cookie = 1000;
    g_assert_null(ms_requests_add(&t, &again, &error));
    g_assert_cmpint(error, ==, -ENOSPC);
    add(&t, &guest[1], 0, 0);   /* another guest's */
    ms_requests_remove(&t, ms_requests_find(&t, &guest[0], 1, 3));
    g_assert_nonnull(ms_requests_add(&t, &again, &error));
    again.app = 2;
    g_assert_null(ms_requests_find(&t, &guest[0], 2, 1000));
    ms_requests_clear(&t);
}

static void test_what_is_wanted_and_what_runs_are_summed_by_guest(void)
{
    MsRequests t = { 0 };
    MsRequest *r = add(&t, &guest[0], 1, 0);

    r->got = 100;
    r->moving = 50;
    r->transfer[2] = 5;
    add(&t, &guest[0], 2, 0)->transfer[0] = 6;
    add(&t, &guest[1], 3, 0)->transfer[3] = 7;
    g_assert_cmpuint(ms_requests_wanted(&t, &guest[0]), ==, 1850);
    g_assert_cmpuint(ms_requests_transfers(&t, &guest[0]), ==, 2);
    g_assert_cmpuint(ms_requests_transfers(&t, NULL), ==, 3);
    ms_requests_clear(&t);
}

/* ---- ends ---- */

static void test_each_end_has_its_answer(void)
{
    static const struct {
        uint64_t got, room, now_ns;
        bool withdrawn, ends;
        MemSchedAnswer status;
        MemSchedReason reason;
    } ends[] = {
        { 1000, 5, 1, false, true, MEMSCHED_ANSWER_GRANTED, 0 },
        /* all of it, though late or withdrawn */
        { 1000, 0, 99, true, true, MEMSCHED_ANSWER_GRANTED, 0 },
        { 0, 5, 49, false, false, 0, 0 },
        { 0, 5, 50, false, true, MEMSCHED_ANSWER_REFUSED,
          MEMSCHED_REASON_HOST },
        { 7, 5, 50, false, true, MEMSCHED_ANSWER_PARTIAL,
          MEMSCHED_REASON_DEADLINE },
        { 0, 0, 1, false, true, MEMSCHED_ANSWER_REFUSED,
          MEMSCHED_REASON_LIMIT },
        { 7, 0, 1, false, true, MEMSCHED_ANSWER_PARTIAL,
          MEMSCHED_REASON_LIMIT },
        { 0, 5, 1, true, true, MEMSCHED_ANSWER_REFUSED,
          MEMSCHED_REASON_CANCELLED },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        MsRequest r = {
            .pages = 1000, .got = ends[i].got, .deadline_ns = 50,
            .withdrawn = ends[i].withdrawn,
        };
        MsRequestEnd end = ms_request_end(&r, ends[i].room, ends[i].now_ns);

        g_assert_cmpint(end.ends, ==, ends[i].ends);
        if (end.ends) {
            g_assert_cmpint(end.status, ==, ends[i].status);
            g_assert_cmpint(end.reason, ==, ends[i].reason);
        }
        r.transfer[3] = 1;      /* never while something is on its way */
        g_assert_false(ms_request_end(&r, ends[i].room,
                                      ends[i].now_ns).ends);
    }
}

/* ---- plans ---- */

static void test_the_pool_comes_first_then_who_can_give_most(void)
{
    MsRequest r = { .pages = 10000, .got = 500, .coming = 500 };
    MsRequestDonor donors[] = {
        { &guest[0], 1000 }, { &guest[1], 6000 }, { &guest[2], 3000 },
    };
    MsRequestLimits limits = {
        .room = 50000, .pool = 2000, .donors = 50000, .parts = 4,
    };
    MsRequestPart parts[MS_REQUEST_TRANSFERS];

    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 3);
    g_assert_null(parts[0].client);
    g_assert_cmpuint(parts[0].pages, ==, 2000);
    g_assert_true(parts[1].client == &guest[1]);
    g_assert_cmpuint(parts[1].pages, ==, 6000);
    g_assert_true(parts[2].client == &guest[2]);
    g_assert_cmpuint(parts[2].pages, ==, 1000);
}

static void test_limits_of_a_plan_hold(void)
{
    MsRequest r = { .pages = 10000 };
    MsRequestDonor donors[] = {
        { &guest[0], MS_REQUEST_LEAST_PAGES - 1 },
        { &guest[1], 6000 }, { &guest[2], 6000 },
    };
    MsRequestLimits limits = {
        .room = 50000, .pool = 0, .donors = 50000, .parts = 1,
    };
    MsRequestPart parts[MS_REQUEST_TRANSFERS];

    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 1);
    limits.parts = 0;
    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 0);
    limits.parts = 4;
    limits.donors = 7000;       /* its entitlement */
    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 2);
    g_assert_cmpuint(parts[0].pages + parts[1].pages, ==, 7000);
    limits.pool = 7000;         /* the pool's part counts for it */
    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 1);
    limits.room = 10;
    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 1);
    g_assert_cmpuint(parts[0].pages, ==, 10);
    limits.room = 50000;
    r.transfer[0] = r.transfer[1] = r.transfer[2] = r.transfer[3] = 1;
    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 0);
    /* one that is too small is none */
    r = (MsRequest) { .pages = 10000 };
    limits.pool = 0;
    limits.donors = 50000;
    g_assert_cmpuint(ms_request_plan(&r, &limits, donors, 3, parts), ==, 2);
}

static void test_a_donor_keeps_its_min_and_a_quarter_of_what_is_idle(void)
{
    g_assert_cmpuint(ms_request_donation(1000, 200, 0, 0), ==, 600);
    g_assert_cmpuint(ms_request_donation(1000, 200, 700, 0), ==, 300);
    g_assert_cmpuint(ms_request_donation(1000, 200, 700, 250), ==, 50);
    g_assert_cmpuint(ms_request_donation(1000, 200, 700, 350), ==, 0);
    g_assert_cmpuint(ms_request_donation(1000, 1000, 0, 0), ==, 0);
    g_assert_cmpuint(ms_request_donation(1000, 2000, 0, 0), ==, 0);
    g_assert_cmpuint(ms_request_donation(500, 0, 1000, 0), ==, 0);
}

static void test_plans_at_random_ask_for_no_page_twice(void)
{
    for (unsigned round = 0; round < 5000; round++) {
        MsRequest r = {
            .pages = (uint32_t)g_test_rand_int_range(1, 100000),
            .got = (uint32_t)g_test_rand_int_range(0, 50000),
            .coming = (uint32_t)g_test_rand_int_range(0, 50000),
        };
        MsRequestLimits limits = {
            .room = (uint32_t)g_test_rand_int_range(0, 100000),
            .pool = (uint32_t)g_test_rand_int_range(0, 100000),
            .donors = (uint32_t)g_test_rand_int_range(0, 100000),
            .parts = (uint32_t)g_test_rand_int_range(0, 6),
        };
        MsRequestDonor donors[3], before[3];
        MsRequestPart parts[MS_REQUEST_TRANSFERS];
        uint64_t sum = 0, given = 0;
        unsigned count;

        for (unsigned i = 0; i < 3; i++) {
            before[i] = donors[i] = (MsRequestDonor) {
                &guest[i], (uint32_t)g_test_rand_int_range(0, 50000),
            };
        }
        count = ms_request_plan(&r, &limits, donors, 3, parts);
        g_assert_cmpuint(count, <=, MIN(limits.parts, MS_REQUEST_TRANSFERS));
        for (unsigned i = 0; i < count; i++) {
            g_assert_cmpuint(parts[i].pages, >, 0);
            sum += parts[i].pages;
            if (parts[i].client) {
                size_t who = (int *)parts[i].client - guest;

                given += parts[i].pages;
                g_assert_cmpuint(parts[i].pages, <=, before[who].pages);
                before[who].pages = 0;
            } else {
                g_assert_cmpuint(i, ==, 0);
                g_assert_cmpuint(parts[i].pages, <=, limits.pool);
            }
        }
        g_assert_cmpuint(sum, <=, limits.room);
        g_assert_cmpuint(given, <=, limits.donors);
        g_assert_true(sum == 0 || sum + r.got + r.coming <= r.pages);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/request/the-most-urgent-comes-first-then-the-oldest",
                    test_the_most_urgent_comes_first_then_the_oldest);
    g_test_add_func("/request/a-cookie-is-used-once-and-a-guest-is-bounded",
                    test_a_cookie_is_used_once_and_a_guest_is_bounded);
    g_test_add_func("/request/what-is-wanted-and-what-runs-are-summed",
                    test_what_is_wanted_and_what_runs_are_summed_by_guest);
    g_test_add_func("/request/each-end-has-its-answer",
                    test_each_end_has_its_answer);
    g_test_add_func("/request/the-pool-comes-first-then-who-can-give-most",
                    test_the_pool_comes_first_then_who_can_give_most);
    g_test_add_func("/request/limits-of-a-plan-hold",
                    test_limits_of_a_plan_hold);
    g_test_add_func("/request/a-donor-keeps-its-min-and-a-quarter-of-idle",
                    test_a_donor_keeps_its_min_and_a_quarter_of_what_is_idle);
    g_test_add_func("/request/plans-at-random-ask-for-no-page-twice",
                    test_plans_at_random_ask_for_no_page_twice);
    return g_test_run();
}
