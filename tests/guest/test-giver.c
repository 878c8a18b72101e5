/*
 * The giving side of an application: every order ends in exactly one last word
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <unistd.h>

#include "gather.h"
#include "pagemap.h"

#define STEP (64 << 10)         /* of gather.c; 16 pages */

static void expect_reserved(Gather *g, uint64_t cookie, uint64_t first,
                            uint64_t count, unsigned status, unsigned reason)
{
    g_autofree BxMessage *m = gather_take(g, VBX_RESERVED);

    g_assert_cmpuint(m->header.cookie, ==, cookie);
    g_assert_cmpuint(m->reserved.first_seq, ==, first);
    g_assert_cmpuint(m->reserved.count, ==, count);
    g_assert_cmpuint(m->reserved.status, ==, status);
    g_assert_cmpuint(m->reserved.reason, ==, reason);
}

static void expect_range(Gather *g, unsigned type, uint64_t epoch,
                         uint64_t first, uint64_t count, unsigned reason)
{
    g_autofree BxMessage *m = gather_take(g, type);

    g_assert_cmpuint(m->range.epoch, ==, epoch);
    g_assert_cmpuint(m->range.first_seq, ==, first);
    g_assert_cmpuint(m->range.count, ==, count);
    g_assert_cmpuint(m->range.reason, ==, reason);
}

static uint64_t held(const Gather *g)
{
    BxGiverInfo info;

    bx_giver_info(g->giver, &info);
    return info.memory.held_bytes;
}

static void test_large_order_reports_progress_and_then_whole(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    g_assert_cmpint(gather_order(&g, 70, 7, 3 * STEP, 4096, 0), ==, 0);
    g_assert_cmpuint(bx_giver_due_ms(g.giver), ==, 0);
    g_assert_true(bx_giver_work(g.giver, 1));
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    gather_nothing(&g);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 16, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    expect_reserved(&g, 70, 32, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    g_assert_cmpuint(held(&g), ==, 3 * STEP);
    g_assert_cmpuint(bx_giver_due_ms(g.giver), ==, UINT64_MAX);
    gather_close(&g);
}

static void test_guest_that_can_spare_less_says_partial_and_why(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    g.spare_bytes = STEP + 8192;
    gather_order(&g, 70, 7, 4 * STEP, 4096, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    expect_reserved(&g, 70, 16, 2, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    expect_reserved(&g, 70, 18, 0, VBX_RESERVE_PARTIAL, VBX_REASON_PRESSURE);
    g_assert_cmpuint(held(&g), ==, STEP + 8192);
    gather_close(&g);
}

static void test_guest_that_can_spare_nothing_refuses_and_says_why(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    g.spare_bytes = 0;
    g.reason = VBX_REASON_HIBERNATE;
    gather_order(&g, 70, 7, STEP, 4096, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 0, VBX_RESERVE_REFUSED, VBX_REASON_HIBERNATE);
    /* The epoch is forgotten: its number can come again. */
    g_assert_cmpint(gather_order(&g, 71, 7, STEP, 4096, 0), ==, 0);
    gather_cancel(&g, 71);
    expect_reserved(&g, 71, 0, 0, VBX_RESERVE_REFUSED, VBX_REASON_CANCELLED);
    gather_close(&g);
}

static void test_second_order_is_refused_busy_and_the_first_goes_on(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, STEP, 4096, 0);
    g_assert_cmpint(gather_order(&g, 80, 8, STEP, 4096, 0), ==, 0);
    expect_reserved(&g, 80, 0, 0, VBX_RESERVE_REFUSED, VBX_REASON_BUSY);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    /* An epoch that there has been is the host's mistake. */
    g_assert_cmpint(gather_order(&g, 90, 7, STEP, 4096, 0), ==,
                    VBX_ERROR_STATE);
    gather_close(&g);
}

static void test_order_ends_at_its_deadline_with_what_there_is(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, 4 * STEP, 4096, 5000);
    bx_giver_work(g.giver, 5999);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    g_assert_false(bx_giver_work(g.giver, 6000));
    expect_reserved(&g, 70, 16, 0, VBX_RESERVE_PARTIAL, VBX_REASON_DEADLINE);
    gather_close(&g);
}

static void test_cancelled_order_keeps_what_it_has_told(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, 4 * STEP, 4096, 0);
    bx_giver_work(g.giver, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    gather_cancel(&g, 99);              /* another one's */
    gather_nothing(&g);
    gather_cancel(&g, 70);
    expect_reserved(&g, 70, 16, 0, VBX_RESERVE_PARTIAL, VBX_REASON_CANCELLED);
    gather_cancel(&g, 70);              /* late, not wrong */
    g_assert_cmpuint(held(&g), ==, STEP);
    gather_close(&g);
}

static void test_release_of_the_running_order_ends_it(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, 4 * STEP, 4096, 0);
    bx_giver_work(g.giver, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    gather_range(&g, VBX_RELEASE, 7, 0, 16);
    expect_reserved(&g, 70, 16, 0, VBX_RESERVE_PARTIAL, VBX_REASON_CANCELLED);
    g_assert_cmpuint(held(&g), ==, STEP);
    gather_range(&g, VBX_RELEASED, 7, 0, 16);
    expect_range(&g, VBX_UNMAPPED, 7, 0, 16, VBX_REASON_NONE);
    g_assert_cmpuint(held(&g), ==, 0);
    g_assert_cmpuint(g.had_bytes, ==, STEP);
    gather_close(&g);
}

static void test_released_pages_that_have_gone_are_passed_over(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_range(&g, VBX_RELEASED, 7, 0, 16);
    gather_order(&g, 70, 7, STEP, 4096, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    gather_range(&g, VBX_RELEASED, 7, 100, 16);
    gather_nothing(&g);
    gather_range(&g, VBX_RELEASED, 7, 8, 100);
    expect_range(&g, VBX_UNMAPPED, 7, 8, 100, VBX_REASON_NONE);
    g_assert_cmpuint(held(&g), ==, STEP / 2);
    gather_close(&g);
}

static void test_pressure_gives_back_without_waiting_and_tells(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, STEP, 4096, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    gather_order(&g, 80, 8, 2 * STEP, 4096, 0);
    bx_giver_work(g.giver, 1);
    expect_reserved(&g, 80, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    g_assert_cmpuint(bx_giver_shrink(g.giver, STEP + 1, VBX_REASON_PRESSURE),
                     ==, 2 * STEP);
    expect_reserved(&g, 80, 16, 0, VBX_RESERVE_PARTIAL, VBX_REASON_PRESSURE);
    expect_range(&g, VBX_RELEASE, 8, 0, 16, VBX_REASON_PRESSURE);
    expect_range(&g, VBX_UNMAPPED, 8, 0, 16, VBX_REASON_PRESSURE);
    expect_range(&g, VBX_RELEASE, 7, 0, 16, VBX_REASON_PRESSURE);
    expect_range(&g, VBX_UNMAPPED, 7, 0, 16, VBX_REASON_PRESSURE);
    g_assert_cmpuint(held(&g), ==, 0);
    g_assert_cmpuint(g.had_bytes, ==, 2 * STEP);
    g_assert_cmpuint(bx_giver_shrink(g.giver, STEP, VBX_REASON_PRESSURE), ==,
                     0);
    gather_close(&g);
}

static void test_dead_epochs_are_used_again_without_asking_the_guest(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, 2 * STEP, 4096, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    expect_reserved(&g, 70, 16, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    bx_giver_end_session(g.giver, 1000);
    g.spare_bytes = 0;
    gather_order(&g, 10, 1, 4 * STEP, 4096, 1000);
    gather_work(&g, 1001);
    expect_reserved(&g, 10, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    expect_reserved(&g, 10, 16, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    expect_reserved(&g, 10, 32, 0, VBX_RESERVE_PARTIAL, VBX_REASON_PRESSURE);
    g_assert_cmpuint(held(&g), ==, 2 * STEP);
    gather_close(&g);
}

static void test_dead_epochs_go_after_half_a_minute(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, STEP, 4096, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    bx_giver_end_session(g.giver, 1000);
    g_assert_cmpuint(bx_giver_due_ms(g.giver), ==, 31000);
    gather_work(&g, 30999);
    g_assert_cmpuint(held(&g), ==, STEP);
    gather_work(&g, 31000);
    g_assert_cmpuint(held(&g), ==, 0);
    g_assert_cmpuint(g.had_bytes, ==, STEP);
    g_assert_cmpuint(bx_giver_due_ms(g.giver), ==, UINT64_MAX);
    gather_close(&g);
}

static void test_stock_that_does_not_fit_makes_room(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, STEP, 4096, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    bx_giver_end_session(g.giver, 0);
    gather_order(&g, 80, 8, 2 << 20, VBX_GRANULE_BYTES, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 80, 0, 512, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    g_assert_cmpuint(held(&g), ==, 2 << 20);
    gather_close(&g);
}

static void test_session_that_ends_takes_its_order_along_in_silence(void)
{
    Gather g;

    gather_open(&g, NULL, -1);
    gather_order(&g, 70, 7, 2 * STEP, 4096, 0);
    bx_giver_work(g.giver, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    bx_giver_end_session(g.giver, 0);
    gather_work(&g, 1);
    gather_nothing(&g);
    g_assert_cmpint(gather_order(&g, 70, 7, STEP, 4096, 0), ==, 0);
    gather_work(&g, 1);
    expect_reserved(&g, 70, 0, 16, VBX_RESERVE_WHOLE, VBX_REASON_NONE);
    gather_close(&g);
}

/* Who may see frame numbers gets the same ones from the kernel again. */
static void test_hints_name_each_page_once(void)
{
    int pagemap = bx_pagemap_open();
    bool seen[40] = { false };
    Gather g;

    g_assert_cmpint(pagemap, >=, 0);
    gather_open(&g, NULL, pagemap);
    gather_order(&g, 70, 7, 40 * 4096, 4096, 0);
    gather_work(&g, 1);
    for (unsigned told = 0; told < 40; told += told ? 8 : 16) {
        g_autofree BxMessage *m = gather_take(&g, VBX_RESERVED);
        g_autofree BxMessage *h = NULL;

        if (!g.messages->len || ((BxMessage *)g_ptr_array_index(g.messages,
                                 0))->header.type != VBX_HINTS) {
            g_ptr_array_set_size(g.messages, 0);
            gather_close(&g);
            close(pagemap);
            g_test_skip("frame numbers are not shown: no CAP_SYS_ADMIN");
            return;
        }
        h = gather_take(&g, VBX_HINTS);
        g_assert_cmpuint(h->hints.epoch, ==, 7);
        for (uint32_t i = 0; i < h->hints.runs; i++) {
            struct vbx_hint run = h->hints.run[i];

            g_assert_cmpuint(run.gfn, !=, 0);
            for (uint64_t p = run.seq; p < run.seq + run.count; p++) {
                g_assert_cmpuint(p, <, 40);
                g_assert_false(seen[p]);
                seen[p] = true;
            }
        }
        if (m->reserved.status == VBX_RESERVE_WHOLE) {
            break;
        }
    }
    for (int i = 0; i < 40; i++) {
        g_assert_true(seen[i]);
    }
    gather_close(&g);
    close(pagemap);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/large-order-reports-progress-and-then-whole",
                    test_large_order_reports_progress_and_then_whole);
    g_test_add_func("/guest-that-can-spare-less-says-partial-and-why",
                    test_guest_that_can_spare_less_says_partial_and_why);
    g_test_add_func("/guest-that-can-spare-nothing-refuses-and-says-why",
                    test_guest_that_can_spare_nothing_refuses_and_says_why);
    g_test_add_func("/second-order-is-refused-busy-and-the-first-goes-on",
                    test_second_order_is_refused_busy_and_the_first_goes_on);
    g_test_add_func("/order-ends-at-its-deadline-with-what-there-is",
                    test_order_ends_at_its_deadline_with_what_there_is);
    g_test_add_func("/cancelled-order-keeps-what-it-has-told",
                    test_cancelled_order_keeps_what_it_has_told);
    g_test_add_func("/release-of-the-running-order-ends-it",
                    test_release_of_the_running_order_ends_it);
    g_test_add_func("/released-pages-that-have-gone-are-passed-over",
                    test_released_pages_that_have_gone_are_passed_over);
    g_test_add_func("/pressure-gives-back-without-waiting-and-tells",
                    test_pressure_gives_back_without_waiting_and_tells);
    g_test_add_func("/dead-epochs-are-used-again-without-asking-the-guest",
                    test_dead_epochs_are_used_again_without_asking_the_guest);
    g_test_add_func("/dead-epochs-go-after-half-a-minute",
                    test_dead_epochs_go_after_half_a_minute);
    g_test_add_func("/stock-that-does-not-fit-makes-room",
                    test_stock_that_does_not_fit_makes_room);
    g_test_add_func("/session-that-ends-takes-its-order-along-in-silence",
                    test_session_that_ends_takes_its_order_along_in_silence);
    g_test_add_func("/hints-name-each-page-once",
                    test_hints_name_each_page_once);
    return g_test_run();
}
