/*
 * The state machine of transfers: each action in its order, and random lives
 * over a real ledger
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "ledger.h"
#include "transfer.h"

#define MS UINT64_C(1000000)

static const char a[] = "a", b[] = "b", c[] = "c";

static uint64_t begin(MsTransfers *t, const char *from, const char *to,
                      uint64_t pages, uint64_t now_ns)
{
    MsTransferStart start = {
        .from = from, .to = to, .from_id = from, .to_id = to,
        .pages = pages, .deadline_ms = 100, .now_ns = now_ns,
    };
    uint64_t id = 0;

    g_assert_cmpint(ms_transfers_start(t, &start, &id), ==, 0);
    return id;
}

/* All claims are granted. */
static void capture(MsTransfers *t, const char *from, uint64_t pages,
                    MsTransferActions *actions)
{
    ms_transfers_captured(t, from, MEMSCHED_SOURCE_KERNEL, pages, false,
                          1 * MS, actions);
    for (unsigned i = 0; i < actions->count; i++) {
        if (actions->action[i].kind == MS_TRANSFER_CLAIM) {
            ms_transfers_claimed(actions->action[i].transfer,
                                 actions->action[i].pages);
        }
    }
}

static void assert_action(const MsTransferActions *actions, unsigned i,
                          MsTransferActionKind kind, const char *client,
                          uint64_t pages)
{
    g_assert_cmpuint(i, <, actions->count);
    g_assert_cmpint(actions->action[i].kind, ==, kind);
    g_assert_true(actions->action[i].client == client);
    g_assert_cmpuint(actions->action[i].pages, ==, pages);
}

static void test_all_mapped_completes(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t id = begin(t, a, b, 100, 0);

    capture(t, a, 60, actions);
    g_assert_cmpuint(actions->count, ==, 2);
    assert_action(actions, 0, MS_TRANSFER_KEEP, a, 60);
    assert_action(actions, 1, MS_TRANSFER_CLAIM, b, 60);
    ms_transfers_populated(t, b, 60, false, 2 * MS, actions);
    g_assert_cmpuint(actions->count, ==, 0);
    capture(t, a, 1000, actions);
    assert_action(actions, 1, MS_TRANSFER_CLAIM, b, 40);
    ms_transfers_populated(t, b, 40, false, 3 * MS, actions);
    g_assert_cmpuint(actions->count, ==, 2);
    assert_action(actions, 0, MS_TRANSFER_LOWER, b, 100);
    assert_action(actions, 1, MS_TRANSFER_FINISH, NULL, 0);
    g_assert_cmpint(ms_transfers_find(t, id)->state, ==,
                    MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(ms_transfers_find(t, id)->moved, ==, 100);
    g_assert_cmpuint(t->running, ==, 0);
}

static void test_deadline_with_a_part_is_partial_and_restores(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t id = begin(t, a, b, 100, 0);

    capture(t, a, 60, actions);
    ms_transfers_populated(t, b, 50, false, 2 * MS, actions);
    g_assert_cmpuint(ms_transfers_deadline_ns(t), ==, 100 * MS);
    ms_transfers_time(t, 100 * MS - 1, actions);
    g_assert_cmpuint(actions->count, ==, 0);
    ms_transfers_time(t, 100 * MS, actions);
    g_assert_cmpuint(actions->count, ==, 4);
    /* The claim first: what lapses may go to the donor, which deflates. */
    assert_action(actions, 0, MS_TRANSFER_RELEASE, b, 10);
    assert_action(actions, 1, MS_TRANSFER_RESTORE, a, 10);
    assert_action(actions, 2, MS_TRANSFER_LOWER, b, 50);
    assert_action(actions, 3, MS_TRANSFER_FINISH, NULL, 0);
    g_assert_cmpint(ms_transfers_find(t, id)->state, ==,
                    MEMSCHED_TRANSFER_PARTIAL);
    g_assert_nonnull(strstr(ms_transfers_find(t, id)->reason,
                            "gave only 240 of 400 KiB"));
    g_assert_cmpuint(ms_transfers_deadline_ns(t), ==, UINT64_MAX);
}

/* Both of the donor's balloons gave; the kernel's gave last, and gets first. */
static void test_applications_are_restored_after_the_kernel(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t id = begin(t, a, b, 100, 0);

    ms_transfers_captured(t, a, MEMSCHED_SOURCE_APPLICATION, 30, false, MS,
                          actions);
    g_assert_cmpuint(actions->count, ==, 2);
    assert_action(actions, 0, MS_TRANSFER_KEEP_APP, a, 30);
    ms_transfers_claimed(actions->action[1].transfer, 30);
    capture(t, a, 40, actions);
    ms_transfers_populated(t, b, 20, false, 2 * MS, actions);
    ms_transfers_time(t, 100 * MS, actions);
    g_assert_cmpuint(actions->count, ==, 5);
    assert_action(actions, 0, MS_TRANSFER_RELEASE, b, 50);
    assert_action(actions, 1, MS_TRANSFER_RESTORE, a, 40);
    assert_action(actions, 2, MS_TRANSFER_RESTORE_APP, a, 10);
    assert_action(actions, 3, MS_TRANSFER_LOWER, b, 20);
    g_assert_cmpuint(ms_transfers_find(t, id)->captured_app, ==, 30);
}

static void test_wishes_are_told_apart_by_their_source(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    MsTransferSums sums;

    ms_transfers_find(t, begin(t, a, b, 10, 0))->source =
        MEMSCHED_SOURCE_ANY;
    ms_transfers_find(t, begin(t, a, b, 20, 0))->source =
        MEMSCHED_SOURCE_APPLICATION;
    ms_transfers_find(t, begin(t, a, b, 40, 0))->source =
        MEMSCHED_SOURCE_KERNEL;
    ms_transfers_find(t, begin(t, a, b, 80, 0))->source =
        MEMSCHED_SOURCE_REPORTED;
    ms_transfers_sums(t, a, &sums);
    g_assert_cmpuint(sums.give_left, ==, 150);
    g_assert_cmpuint(sums.give_any_left, ==, 10);
    g_assert_cmpuint(sums.give_app_left, ==, 20);
    g_assert_cmpuint(sums.give_kernel_left, ==, 50);
    /* an application's pages go to both that may have them */
    ms_transfers_captured(t, a, MEMSCHED_SOURCE_APPLICATION, 100, false, MS,
                          actions);
    assert_action(actions, 1, MS_TRANSFER_CLAIM, b, 10);
    assert_action(actions, 3, MS_TRANSFER_CLAIM, b, 20);
    g_assert_cmpuint(actions->count, ==, 4);
}

static void test_reason_of_an_application_is_told(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t any = begin(t, a, b, 10, 0), app = begin(t, a, b, 20, 0);
    uint64_t other = begin(t, c, b, 20, 0);

    ms_transfers_find(t, app)->source = MEMSCHED_SOURCE_APPLICATION;
    ms_transfers_note(t, a, "it would not");
    ms_transfers_hasten(t, a, "it has gone", 50 * MS);
    g_assert_cmpuint(ms_transfers_deadline_ns(t), ==, 50 * MS);
    ms_transfers_time(t, 50 * MS, actions);
    g_assert_cmpuint(actions->count, ==, 1);
    g_assert_cmpstr(ms_transfers_find(t, app)->reason, ==,
                    "guest 'a' gave only 0 of 80 KiB: it has gone");
    ms_transfers_time(t, 100 * MS, actions);
    g_assert_cmpstr(ms_transfers_find(t, any)->reason, ==,
                    "guest 'a' gave only 0 of 40 KiB: it would not");
    g_assert_nonnull(strstr(ms_transfers_find(t, other)->reason,
                            "gave nothing"));
}

static void test_applications_give_back_what_the_balloon_does_not_hold(void)
{
    MsTransferSums sums = { .taking = 1, .take_claimed = 100 };
    MsTransferGuest guest = {
        .base = 70, .ballooned = 70, .apps_base = 50, .apps_held = 50,
    };

    g_assert_cmpuint(ms_transfers_apps(&sums, &guest), ==, 20);
    /* which is not put into holes meanwhile */
    sums.outstanding = 100;
    sums.take_deadline_ns = UINT64_MAX;
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, MS), ==, 70);
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, 2000 * MS), ==,
                     100);
    guest.base = guest.ballooned = 200;
    g_assert_cmpuint(ms_transfers_apps(&sums, &guest), ==, 50);
}

static void test_deadline_with_nothing_is_failed(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t id = begin(t, a, b, 100, 0);

    ms_transfers_time(t, 200 * MS, actions);
    g_assert_cmpuint(actions->count, ==, 1);
    g_assert_cmpint(ms_transfers_find(t, id)->state, ==,
                    MEMSCHED_TRANSFER_FAILED);
    g_assert_nonnull(strstr(ms_transfers_find(t, id)->reason,
                            "gave nothing within 100 ms"));
}

static void test_acceptor_that_takes_no_more_is_named(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t id = begin(t, a, b, 100, 0);

    capture(t, a, 100, actions);
    ms_transfers_populated(t, b, 50, false, 2 * MS, actions);
    ms_transfers_time(t, 100 * MS, actions);
    g_assert_nonnull(strstr(ms_transfers_find(t, id)->reason,
                            "guest 'b' took only 200 of 400 KiB"));
}

static void test_takers_are_forecast_in_the_order_of_claims(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    MsTransferTaker taker[3];

    g_assert_cmpuint(ms_transfers_takers(t, a, MEMSCHED_SOURCE_KERNEL, taker,
                                         3), ==, 0);
    begin(t, a, b, 100, 0);
    begin(t, b, a, 10, 0);
    ms_transfers_find(t, begin(t, a, b, 5, 0))->source =
        MEMSCHED_SOURCE_REPORTED;
    begin(t, a, c, 30, 0);
    capture(t, a, 60, actions);
    g_assert_cmpuint(ms_transfers_takers(t, a, MEMSCHED_SOURCE_KERNEL, taker,
                                         3), ==, 2);
    g_assert_true(taker[0].to == b && taker[0].pages == 40);
    g_assert_true(taker[1].to == c && taker[1].pages == 30);
    g_assert_cmpuint(ms_transfers_takers(t, a, MEMSCHED_SOURCE_REPORTED, taker,
                                         3), ==, 3);
    g_assert_true(taker[1].to == b && taker[1].pages == 5);
    g_assert_cmpuint(ms_transfers_takers(t, a, MEMSCHED_SOURCE_KERNEL, taker,
                                         1), ==, 1);
    g_assert_cmpuint(ms_transfers_takers(t, c, MEMSCHED_SOURCE_KERNEL, taker,
                                         3), ==, 0);
}

static void test_oldest_transfer_gets_its_pages_first(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t first = begin(t, a, b, 100, 0), second = begin(t, a, c, 100, 0);

    capture(t, a, 130, actions);
    g_assert_cmpuint(ms_transfers_find(t, first)->claimed, ==, 100);
    g_assert_cmpuint(ms_transfers_find(t, second)->claimed, ==, 30);
    ms_transfers_populated(t, c, 30, false, 2 * MS, actions);
    g_assert_cmpuint(ms_transfers_find(t, second)->moved, ==, 30);
    g_assert_cmpuint(ms_transfers_find(t, first)->moved, ==, 0);
}

static void test_other_sources_do_not_count(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    MsTransferStart start = {
        .from = a, .to = b, .from_id = a, .to_id = b, .pages = 100,
        .source = MEMSCHED_SOURCE_REPORTED,
    };
    uint64_t id;

    g_assert_cmpint(ms_transfers_start(t, &start, &id), ==, 0);
    g_assert_cmpuint(ms_transfers_find(t, id)->deadline_ms, ==, 30000);
    capture(t, a, 50, actions);
    g_assert_cmpuint(actions->count, ==, 0);
    ms_transfers_captured(t, a, MEMSCHED_SOURCE_REPORTED, 50, false, MS,
                          actions);
    g_assert_cmpuint(actions->count, ==, 1);
    assert_action(actions, 0, MS_TRANSFER_CLAIM, b, 50);
}

static void test_discarded_and_copied_are_not_called_moved(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t id = begin(t, a, b, 100, 0);
    MsTransfer *x = ms_transfers_find(t, id);

    ms_transfers_captured(t, a, MEMSCHED_SOURCE_KERNEL, 40, true, MS,
                          actions);
    ms_transfers_claimed(x, 40);
    capture(t, a, 60, actions);
    ms_transfers_populated(t, b, 50, false, MS, actions);
    ms_transfers_populated(t, b, 50, true, MS, actions);
    g_assert_cmpuint(x->discarded, ==, 40);
    g_assert_cmpuint(x->moved, ==, 10);
    g_assert_cmpuint(x->copied, ==, 50);
    g_assert_cmpint(x->state, ==, MEMSCHED_TRANSFER_COMPLETED);
}

static void test_gone_and_reset_end_transfers_of_that_guest_only(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    uint64_t ab = begin(t, a, b, 10, 0), bc = begin(t, b, c, 10, 0);
    uint64_t ca = begin(t, c, a, 10, 0);

    ms_transfers_gone(t, a, false, MS, actions);
    g_assert_cmpstr(ms_transfers_find(t, ab)->reason, ==,
                    "guest 'a' went away");
    g_assert_cmpstr(ms_transfers_find(t, ca)->reason, ==,
                    "guest 'a' went away");
    g_assert_cmpint(ms_transfers_find(t, bc)->state, ==,
                    MEMSCHED_TRANSFER_RUNNING);
    ms_transfers_gone(t, c, true, MS, actions);
    g_assert_cmpstr(ms_transfers_find(t, bc)->reason, ==,
                    "guest 'c' was reset");
}

static void test_too_many_are_refused_and_old_ones_forgotten(void)
{
    g_autofree MsTransfers *t = g_new0(MsTransfers, 1);
    g_autofree MsTransferActions *actions = g_new0(MsTransferActions, 1);
    g_autofree MemSchedTransferInfo *infos =
        g_new0(MemSchedTransferInfo, 2 * MS_TRANSFERS_KEPT);
    MsTransferStart start = {
        .from = a, .to = b, .from_id = a, .to_id = b, .pages = 1,
    };
    uint64_t id = 0, keep = begin(t, c, b, 1, 0), count;

    t->kept[0].deadline_ns = UINT64_MAX;
    for (unsigned i = 1; i < MS_TRANSFERS_RUNNING; i++) {
        begin(t, a, b, 1, 0);
    }
    g_assert_cmpint(ms_transfers_start(t, &start, &id), ==, -EAGAIN);
    for (unsigned i = 0; i < 3 * MS_TRANSFERS_KEPT; i++) {
        ms_transfers_time(t, 1000 * MS, actions);
        id = begin(t, a, b, 1, 0);
    }
    g_assert_nonnull(ms_transfers_find(t, keep));
    count = ms_transfers_list(t, 0, infos, 2 * MS_TRANSFERS_KEPT);
    g_assert_cmpuint(count, ==, MS_TRANSFERS_KEPT);
    g_assert_cmpuint(infos[0].id, ==, id);
    for (unsigned i = 1; i < count; i++) {
        g_assert_cmpuint(infos[i].id, <, infos[i - 1].id);
    }
}

static void test_balloon_grows_by_holes_and_shrinks_by_claims(void)
{
    MsTransferSums giving = { .giving = 1, .give_kernel_left = 100 };
    MsTransferSums taking = { .taking = 1, .take_claimed = 30 };
    MsTransferGuest guest = { .base = 50, .ballooned = 50, .ram = 1000 };

    g_assert_cmpuint(ms_transfers_balloon(&giving, &guest), ==, 150);
    guest.ballooned = 150;      /* all of it holes */
    g_assert_cmpuint(ms_transfers_balloon(&giving, &guest), ==, 250);
    guest.given = 100;          /* or all of it on its way */
    g_assert_cmpuint(ms_transfers_balloon(&giving, &guest), ==, 150);
    guest.given = 0;
    guest.ballooned = 950;
    guest.min = 100;            /* never into its min */
    g_assert_cmpuint(ms_transfers_balloon(&giving, &guest), ==, 900);
    guest.ballooned = 50;
    g_assert_cmpuint(ms_transfers_balloon(&taking, &guest), ==, 20);
    taking.take_claimed = 60;
    g_assert_cmpuint(ms_transfers_balloon(&taking, &guest), ==, 0);
}

static void test_applications_make_the_room_that_a_balloon_cannot(void)
{
    MsTransferSums sums = {
        .taking = 1, .take_claimed = 80, .outstanding = 80,
    };
    MsTransferGuest guest = {
        .base = 30, .ballooned = 30, .given = 20, .apps_base = 100,
        .apps_held = 100, .ram = 1000,
    };

    /* Its balloon has frames for 10 of its 30 pages. */
    g_assert_cmpuint(ms_transfers_apps(&sums, &guest), ==, 30);
    /* The same on the way: 10 deflated, and 40 released of which 25 came. */
    guest.ballooned = 20;
    guest.holes = 25;
    guest.apps_held = 60;
    sums.outstanding = 55;
    g_assert_cmpuint(ms_transfers_apps(&sums, &guest), ==, 30);
    /* What it gives itself comes first. */
    sums.give_left = 1;
    g_assert_cmpuint(ms_transfers_apps(&sums, &guest), ==, 50);
}

static void test_balloon_shrinks_further_where_holes_lack(void)
{
    MsTransferSums sums = {
        .taking = 1, .take_claimed = 80, .outstanding = 80,
    };
    MsTransferGuest guest = { .base = 100, .ballooned = 90, .ram = 1000 };

    /* Ten pages in the balloon are resident: to give 80 takes all but 10. */
    g_assert_cmpuint(ms_transfers_balloon(&sums, &guest), ==, 10);
    /* The same on the way: 30 deflated, of which 25 are mapped. */
    guest.ballooned = 60;
    guest.holes = 5;
    sums.outstanding = 55;
    g_assert_cmpuint(ms_transfers_balloon(&sums, &guest), ==, 10);
    guest.holes = 80;
    g_assert_cmpuint(ms_transfers_balloon(&sums, &guest), ==, 20);
}

static void test_prefetch_waits_for_a_balloon_that_shrinks(void)
{
    MsTransferSums sums = {
        .take_claimed = 100, .outstanding = 100, .take_deadline_ns = UINT64_MAX,
    };
    MsTransferGuest guest = { .base = 60, .ballooned = 60, .deflates = true };

    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, MS), ==, 40);
    guest.ballooned = 10;
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, MS), ==, 90);
    /* Not for ever. */
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, 2000 * MS), ==,
                     100);
    guest.deflates = false;
    /* Its touches come first, until shortly before the deadline. */
    guest.hungry_ns = 3000 * MS;
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, 3500 * MS), ==,
                     0);
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, 4000 * MS), ==,
                     100);
    sums.take_deadline_ns = 3900 * MS;
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, 3500 * MS), ==,
                     100);
    guest.hungry_ns = 0;
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 100, MS), ==, 100);
    g_assert_cmpuint(ms_transfers_prefetch(&sums, &guest, 5, MS), ==, 5);
}

static void test_incomplete_frames_are_urged_when_all_is_given(void)
{
    MsTransferSums sums = {
        .give_kernel_left = 50, .deadline_ns = 30000 * MS,
    };
    MsTransferGuest guest = {
        .ram = 1000, .ballooned = 90, .given = 49,
    };

    /* One page is to come, and may complete a frame. */
    g_assert_cmpuint(ms_transfers_urge(&sums, &guest, 10 * MS), ==, 0);
    guest.given = 50;
    g_assert_cmpuint(ms_transfers_urge(&sums, &guest, 10 * MS), ==, 50);
    /* Nor does a guest give more than leaves it its min. */
    guest.given = 20;
    guest.min = 910;
    g_assert_cmpuint(ms_transfers_urge(&sums, &guest, 10 * MS), ==, 20);
}

static void test_incomplete_frames_are_urged_when_idle_or_late(void)
{
    MsTransferSums sums = {
        .give_kernel_left = 50, .captured_ns = 0, .deadline_ns = 30000 * MS,
    };
    MsTransferGuest guest = { .ram = 1000, .ballooned = 40, .given = 40 };

    g_assert_cmpuint(ms_transfers_urge(&sums, &guest, 10 * MS), ==, 0);
    g_assert_cmpuint(ms_transfers_urge(&sums, &guest, 300 * MS), ==, 40);
    sums.captured_ns = 29500 * MS;
    g_assert_cmpuint(ms_transfers_urge(&sums, &guest, 29600 * MS), ==, 40);
    guest.given = 7;
    g_assert_cmpuint(ms_transfers_urge(&sums, &guest, 29600 * MS), ==, 7);
}

/* ---- random lives, with a real ledger ---- */

#define GUESTS 4

typedef struct World {
    MsLedger ledger;
    MsAccount account[GUESTS];
    MsTransfers t;
    MsTransferActions actions;
    uint64_t now_ns;
} World;

static void apply(World *w)
{
    for (unsigned i = 0; i < w->actions.count; i++) {
        const MsTransferAction *x = &w->actions.action[i];
        MsAccount *account = (MsAccount *)x->client;

        if (x->kind == MS_TRANSFER_CLAIM) {
            ms_transfers_claimed(x->transfer,
                                 ms_ledger_claim(&w->ledger, account,
                                                 x->pages));
        } else if (x->kind == MS_TRANSFER_RELEASE) {
            g_assert_cmpuint(ms_ledger_unclaim(&w->ledger, account, x->pages),
                             ==, x->pages);
        } else if (x->kind == MS_TRANSFER_FINISH) {
            g_assert_cmpint(x->transfer->state, !=,
                            MEMSCHED_TRANSFER_RUNNING);
        }
    }
}

static void check(World *w)
{
    const MsAccount *accounts[GUESTS];
    uint64_t outstanding = 0;

    for (unsigned i = 0; i < GUESTS; i++) {
        MsTransferSums sums;

        accounts[i] = &w->account[i];
        ms_transfers_sums(&w->t, &w->account[i], &sums);
        g_assert_cmpuint(sums.outstanding, ==, w->account[i].claim);
        outstanding += sums.outstanding;
    }
    g_assert_cmpstr(ms_ledger_check(&w->ledger, accounts, GUESTS), ==, NULL);
    g_assert_cmpuint(outstanding, ==, w->ledger.claims);
    for (unsigned i = 0; i < MS_TRANSFERS_KEPT; i++) {
        const MsTransfer *x = &w->t.kept[i];
        uint64_t mapped = x->moved + x->copied + x->discarded;

        g_assert_cmpuint(mapped, <=, x->claimed);
        g_assert_cmpuint(x->claimed, <=, x->requested);
        g_assert_cmpuint(x->claimed, <=, x->captured);
        if (x->id && x->state == MEMSCHED_TRANSFER_RUNNING) {
            g_assert_cmpuint(x->deadline_ns, >, w->now_ns);
        } else if (x->id) {
            g_assert_cmpint(x->state == MEMSCHED_TRANSFER_COMPLETED, ==,
                            mapped == x->requested);
            g_assert_cmpint(x->reason[0] == 0, ==, mapped == x->requested);
        }
    }
}

static void act(World *w)
{
    unsigned i = g_test_rand_int_range(0, GUESTS);
    MsAccount *from = &w->account[i], *to = &w->account[(i + 1) % GUESTS];
    MsTransferStart start = {
        .from = from, .to = to, .from_id = "from", .to_id = "to",
        .pages = g_test_rand_int_range(1, 200),
        .deadline_ms = g_test_rand_int_range(1, 50), .now_ns = w->now_ns,
    };
    uint64_t id, n = g_test_rand_int_range(1, 100);
    MsGrant grant;

    w->actions.count = 0;
    switch (g_test_rand_int_range(0, 7)) {
    case 0:
        ms_transfers_start(&w->t, &start, &id);
        break;
    case 1:
    case 2:
        /* Never below min by a transfer: as the donor's balloon is limited. */
        n = MIN(n, from->allocated > from->min
                   ? from->allocated - from->min : 0);
        ms_ledger_capture(&w->ledger, from, n);
        ms_transfers_captured(&w->t, from, MEMSCHED_SOURCE_KERNEL, n, false,
                              w->now_ns, &w->actions);
        break;
    case 3:
    case 4:
        ms_ledger_grant(&w->ledger, from, n,
                        g_test_rand_bit() ? MS_GRANT_CLAIM_ONLY : 0, 0,
                        &grant);
        ms_transfers_populated(&w->t, from, grant.from_claim,
                               g_test_rand_bit(), w->now_ns, &w->actions);
        break;
    case 5:
        w->now_ns += g_test_rand_int_range(0, 20) * MS;
        ms_transfers_time(&w->t, w->now_ns, &w->actions);
        break;
    case 6:
        if (g_test_rand_int_range(0, 50) == 0) {
            ms_transfers_gone(&w->t, from, g_test_rand_bit(), w->now_ns,
                              &w->actions);
        }
        break;
    }
    apply(w);
}

static void test_random_lives_keep_the_books_and_outlive_no_deadline(void)
{
    g_autofree World *w = g_new0(World, 1);

    w->now_ns = 1;
    ms_ledger_init(&w->ledger, 1000);
    for (unsigned i = 0; i < GUESTS; i++) {
        g_assert_cmpint(ms_ledger_admit(&w->ledger, &w->account[i], 100, 1000,
                                        20), ==, 0);
    }
    for (unsigned i = 0; i < 100000; i++) {
        act(w);
        ms_transfers_time(&w->t, w->now_ns, &w->actions);
        apply(w);
        check(w);
    }
    w->now_ns += 1000 * MS;
    ms_transfers_time(&w->t, w->now_ns, &w->actions);
    apply(w);
    g_assert_cmpuint(w->t.running, ==, 0);
    g_assert_cmpuint(w->ledger.claims, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/all-mapped-completes",
                    test_all_mapped_completes);
    g_test_add_func("/deadline-with-a-part-is-partial-and-restores",
                    test_deadline_with_a_part_is_partial_and_restores);
    g_test_add_func("/deadline-with-nothing-is-failed",
                    test_deadline_with_nothing_is_failed);
    g_test_add_func("/acceptor-that-takes-no-more-is-named",
                    test_acceptor_that_takes_no_more_is_named);
    g_test_add_func("/takers-are-forecast-in-the-order-of-claims",
                    test_takers_are_forecast_in_the_order_of_claims);
    g_test_add_func("/oldest-transfer-gets-its-pages-first",
                    test_oldest_transfer_gets_its_pages_first);
    g_test_add_func("/other-sources-do-not-count",
                    test_other_sources_do_not_count);
    g_test_add_func("/discarded-and-copied-are-not-called-moved",
                    test_discarded_and_copied_are_not_called_moved);
    g_test_add_func("/gone-and-reset-end-transfers-of-that-guest-only",
                    test_gone_and_reset_end_transfers_of_that_guest_only);
    g_test_add_func("/too-many-are-refused-and-old-ones-forgotten",
                    test_too_many_are_refused_and_old_ones_forgotten);
    g_test_add_func("/balloon-grows-by-holes-and-shrinks-by-claims",
                    test_balloon_grows_by_holes_and_shrinks_by_claims);
    g_test_add_func("/transfer/applications-make-room",
                    test_applications_make_the_room_that_a_balloon_cannot);
    g_test_add_func("/balloon-shrinks-further-where-holes-lack",
                    test_balloon_shrinks_further_where_holes_lack);
    g_test_add_func("/applications-are-restored-after-the-kernel",
                    test_applications_are_restored_after_the_kernel);
    g_test_add_func("/wishes-are-told-apart-by-their-source",
                    test_wishes_are_told_apart_by_their_source);
    g_test_add_func("/reason-of-an-application-is-told",
                    test_reason_of_an_application_is_told);
    g_test_add_func("/applications-give-back-what-the-balloon-does-not-hold",
        test_applications_give_back_what_the_balloon_does_not_hold);
    g_test_add_func("/prefetch-waits-for-a-balloon-that-shrinks",
                    test_prefetch_waits_for_a_balloon_that_shrinks);
    g_test_add_func("/incomplete-frames-are-urged-when-all-is-given",
                    test_incomplete_frames_are_urged_when_all_is_given);
    g_test_add_func("/incomplete-frames-are-urged-when-idle-or-late",
                    test_incomplete_frames_are_urged_when_idle_or_late);
    g_test_add_func("/random-lives-keep-the-books-and-outlive-no-deadline",
                    test_random_lives_keep_the_books_and_outlive_no_deadline);
    return g_test_run();
}
