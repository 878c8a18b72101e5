/*
 * Tests of what waits for a guest to be read
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "balloon-ex-outbox.h"

static bool put(BalloonExOutbox *box, uint16_t type, uint64_t cookie)
{
    BalloonExMessage m = { .type = type, .cookie = cookie };

    m.condition.generation = cookie;
    return balloon_ex_outbox_put(box, &m);
}

/* What comes next, its cookie; or a type of 0 where nothing does. */
static uint16_t take(BalloonExOutbox *box, uint64_t *ret_cookie)
{
    BalloonExPacked packed;
    struct vbx_header header;

    if (!balloon_ex_outbox_take(box, &packed)) {
        return 0;
    }
    memcpy(&header, packed.data, sizeof(header));
    g_assert_cmpuint(vbx_le32(header.length), ==, packed.bytes);
    *ret_cookie = vbx_le64(header.cookie);
    return vbx_le16(header.type);
}

static void test_messages_come_in_order_then_news(void)
{
    g_autofree BalloonExOutbox *box = g_new0(BalloonExOutbox, 1);
    uint64_t cookie = 0;

    put(box, VBX_POLL, 1);
    put(box, VBX_CONDITION, 2);
    put(box, VBX_PONG, 3);
    put(box, VBX_ANSWER, 4);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_PONG);
    g_assert_cmpuint(cookie, ==, 3);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_ANSWER);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_CONDITION);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_POLL);
    g_assert_cmpuint(take(box, &cookie), ==, 0);
}

static void test_only_the_newest_condition_is_kept(void)
{
    g_autofree BalloonExOutbox *box = g_new0(BalloonExOutbox, 1);
    uint64_t cookie = 0;

    for (uint64_t i = 1; i <= 1000; i++) {
        g_assert_true(put(box, VBX_CONDITION, i));
        g_assert_true(put(box, VBX_POLL, i));
    }
    g_assert_cmpuint(take(box, &cookie), ==, VBX_CONDITION);
    g_assert_cmpuint(cookie, ==, 1000);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_POLL);
    g_assert_cmpuint(take(box, &cookie), ==, 0);
    g_assert_cmpuint(box->dropped, ==, 0);
}

static void test_a_guest_that_does_not_read_loses_what_is_old(void)
{
    g_autofree BalloonExOutbox *box = g_new0(BalloonExOutbox, 1);
    uint64_t cookie = 0;

    put(box, VBX_CONDITION, 7);
    put(box, VBX_ANSWER, 0);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_ANSWER);
    for (uint64_t i = 0; i < BALLOON_EX_OUTBOX; i++) {
        g_assert_true(put(box, VBX_RESERVE, i));
    }
    g_assert_false(put(box, VBX_RESERVE, 999));
    g_assert_cmpuint(box->dropped, ==, BALLOON_EX_OUTBOX);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_RESERVE);
    g_assert_cmpuint(cookie, ==, 999);
    g_assert_cmpuint(take(box, &cookie), ==, VBX_CONDITION);
    g_assert_cmpuint(cookie, ==, 7);
}

static void test_cleared_is_empty_and_the_ring_goes_round(void)
{
    g_autofree BalloonExOutbox *box = g_new0(BalloonExOutbox, 1);
    uint64_t cookie = 0;

    for (uint64_t i = 0; i < 3 * BALLOON_EX_OUTBOX; i++) {
        g_assert_true(put(box, VBX_PONG, i));
        g_assert_cmpuint(take(box, &cookie), ==, VBX_PONG);
        g_assert_cmpuint(cookie, ==, i);
    }
    put(box, VBX_PONG, 1);
    put(box, VBX_CONDITION, 2);
    put(box, VBX_POLL, 3);
    balloon_ex_outbox_clear(box);
    g_assert_cmpuint(take(box, &cookie), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/balloon-outbox/in-order-then-news",
                    test_messages_come_in_order_then_news);
    g_test_add_func("/balloon-outbox/only-the-newest-condition-is-kept",
                    test_only_the_newest_condition_is_kept);
    g_test_add_func("/balloon-outbox/a-guest-that-does-not-read-loses-the-old",
                    test_a_guest_that_does_not_read_loses_what_is_old);
    g_test_add_func("/balloon-outbox/cleared-is-empty",
                    test_cleared_is_empty_and_the_ring_goes_round);
    return g_test_run();
}
