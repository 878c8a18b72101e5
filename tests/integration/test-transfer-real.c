/*
 * Transfers on the real kernel: memory of one pretended guest comes to be
 * another one's, whole, in part, or not at all
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "balloon.h"
#include "heard.h"
#include "transfers.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)
#define WAIT_US  (60 * G_USEC_PER_SEC)

/* ---- transfers ---- */

static int try_transfer(MemSched *ms, const char *from, const char *to,
                        uint64_t bytes, unsigned deadline_ms, uint64_t *ret_id,
                        MemSchedMessage *message)
{
    MemSchedTransferOptions options = {
        .from = from, .to = to, .size_bytes = bytes,
        .deadline_ms = deadline_ms,
    };

    return memsched_reallocate(ms, &options, ret_id, message);
}

static uint64_t transfer(MemSched *ms, const char *from, const char *to,
                         uint64_t bytes, unsigned deadline_ms)
{
    return transfer_start(ms, from, to, bytes, MEMSCHED_SOURCE_ANY,
                          deadline_ms);
}

static void assert_no_claims(MemSched *ms)
{
    MemSchedInfo info;

    guest_check(ms);
    memsched_query(ms, &info);
    g_assert_cmpuint(info.claimed_bytes, ==, 0);
}

static uint64_t free_bytes(MemSched *ms)
{
    MemSchedInfo info;

    memsched_query(ms, &info);
    return info.free_clean_bytes + info.free_dirty_bytes;
}

/* 0 where it has none, or PFNs are hidden. */
static uint64_t pfn_of(Guest *guest, uint64_t page)
{
    MemSchedTranslation t;

    g_assert_cmpint(memsched_translate(guest->ms, guest->id,
                                       page << MEMSCHED_PAGE_SHIFT, &t, NULL),
                    ==, 0);
    return t.has_pfn ? t.pfn : 0;
}

/* ---- whole ---- */

/* With so much of the pool in nobody's hands before. */
static void moved_with_their_frames(uint64_t spare_bytes)
{
    MemSched *ms = guest_start(496 * MIB + spare_bytes);
    Guest *a = guest_new(ms, "a", 512 * MIB, 0);
    Guest *b = guest_new(ms, "b", 512 * MIB, 0);
    g_autoptr(GHashTable) frames = g_hash_table_new(g_int64_hash,
                                                    g_int64_equal);
    g_autofree gint64 *pfns = g_new0(gint64, PAGES(384));
    MemSchedClientInfo before, after;
    MemSchedTransferInfo t;
    uint64_t same = 0, hidden, give_allowances = 8 * MIB;
    Balloon *driver;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(384), 1);
    guest_fill(b, 0, PAGES(112), 2);
    g_assert_cmpuint(free_bytes(ms), <=, spare_bytes);
    for (uint64_t p = 0; p < PAGES(384); p++) {
        pfns[p] = pfn_of(a, p);
        g_hash_table_add(frames, &pfns[p]);
    }
    hidden = pfns[0] == 0;
    guest_query(b, &before);
    driver = balloon_new(a, PAGES(64), PAGES(320), true);
    transfer(ms, "a", "b", 256 * MIB, 0);
    heard_wait(&heard, &heard.ends, 1);
    t = heard.last;
    transfer_assert_completed(&t);
    g_test_message("256 MiB in %" G_GUINT64_FORMAT " us, %" G_GUINT64_FORMAT
                   " KiB captured", t.elapsed_ns / 1000,
                   t.captured_bytes / 1024);
    assert_no_claims(ms);
    guest_query(b, &after);
    g_assert_cmpuint(after.allocated_bytes, ==,
                     before.allocated_bytes + 256 * MIB);

    for (uint64_t p = 0; p < b->bytes / MEMSCHED_PAGE_SIZE; p++) {
        gint64 pfn = pfn_of(b, p);

        same += pfn != 0 && g_hash_table_contains(frames, &pfn);
    }
    if (hidden) {
        g_test_message("PFNs are hidden here: not compared");
    } else {
        g_test_message("%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                       " pages are the donor's frames", same, PAGES(256));
        g_assert_cmpuint(same, >=, PAGES(256) * 99 / 100);
    }
    guest_assert(a, 0, PAGES(64), 1);
    guest_assert(b, 0, PAGES(112), 2);
    guest_assert_zero(b, PAGES(112), PAGES(256) - give_allowances /
                                                  MEMSCHED_PAGE_SIZE);
    balloon_free(driver);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

static void test_256_mib_are_moved_with_their_frames(void)
{
    moved_with_their_frames(16 * MIB);
}

static void test_a_pool_with_room_to_spare_moves_the_same_frames(void)
{
    moved_with_their_frames(512 * MIB);
}

/* A guest that reports what is free has reported pages and no holes. */
static void test_an_acceptor_that_reported_pages_takes_all(void)
{
    MemSched *ms = guest_start(128 * MIB);
    Guest *a = guest_new(ms, "a", 64 * MIB, 0);
    Guest *b = guest_new(ms, "b", 64 * MIB, 0);
    MemSchedClientInfo info;
    Balloon *driver;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(48), 1);
    guest_fill(b, 0, PAGES(64), 2);
    guest_report(b, PAGES(16), PAGES(48));
    guest_query(b, &info);
    g_assert_cmpuint(info.ballooned_reported_bytes, ==, 48 * MIB);
    driver = balloon_new(a, 0, PAGES(40), true);
    transfer(ms, "a", "b", 32 * MIB, 5000);
    heard_wait(&heard, &heard.ends, 1);
    transfer_assert_completed(&heard.last);
    guest_query(b, &info);
    g_assert_cmpuint(info.ballooned_reported_bytes, ==, 16 * MIB);
    guest_assert(b, 0, PAGES(16), 2);
    guest_assert_zero(b, PAGES(16), PAGES(48));
    assert_no_claims(ms);
    balloon_free(driver);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* ---- in part, or not at all ---- */

static void test_a_guest_that_gives_half_yields_partial(void)
{
    MemSched *ms = guest_start(128 * MIB);
    Guest *a = guest_new(ms, "a", 96 * MIB, 0);
    Guest *b = guest_new(ms, "b", 96 * MIB, 0);
    MemSchedClientInfo info;
    MemSchedTransferInfo t;
    Balloon *driver;
    Heard heard;
    gint64 end;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(64), 1);
    driver = balloon_new(a, 0, PAGES(16), true);
    transfer(ms, "a", "b", 32 * MIB, 1500);
    heard_wait(&heard, &heard.ends, 1);
    t = heard.last;
    g_assert_cmpint(t.state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpuint(t.moved_bytes, ==, 16 * MIB);
    g_assert_cmpuint(t.captured_bytes, ==, 16 * MIB);
    g_assert_nonnull(strstr(t.reason, "gave only 16384 of 32768 KiB"));
    g_assert_cmpuint(t.elapsed_ns, >=, 1500 * UINT64_C(1000000));
    g_assert_cmpuint(t.elapsed_ns, <, 3500 * UINT64_C(1000000));
    assert_no_claims(ms);

    /* The donor's target is what it gave; what it did not is not asked for. */
    end = g_get_monotonic_time() + WAIT_US;
    do {
        guest_query(a, &info);
    } while (info.balloon_target_bytes != 16 * MIB &&
             g_get_monotonic_time() < end);
    g_assert_cmpuint(info.balloon_target_bytes, ==, 16 * MIB);
    guest_assert(a, PAGES(16), PAGES(48), 1);
    balloon_free(driver);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

static void test_a_dead_guest_yields_failed_and_is_shown(void)
{
    MemSched *ms = guest_start(128 * MIB);
    Guest *a = guest_new(ms, "a", 96 * MIB, 0);
    Guest *b = guest_new(ms, "b", 96 * MIB, 0);
    Balloon *dead = balloon_new_dead(a);
    MemSchedClientInfo info;
    MemSchedTransferInfo t;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(64), 1);
    transfer(ms, "a", "b", 32 * MIB, 4500);
    heard_wait(&heard, &heard.unresponsive, 1);
    g_assert_cmpint(memsched_query_client(ms, "a", &info), ==, 0);
    g_assert_true(info.unresponsive);
    heard_wait(&heard, &heard.ends, 1);
    t = heard.last;
    g_assert_cmpint(t.state, ==, MEMSCHED_TRANSFER_FAILED);
    g_assert_cmpuint(t.moved_bytes, ==, 0);
    g_assert_nonnull(strstr(t.reason, "guest 'a' gave nothing"));
    assert_no_claims(ms);
    guest_assert(a, 0, PAGES(64), 1);
    balloon_free(dead);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* Gives 16 MiB and then no more: the transfer is in its middle for good. */
static void removed_in_the_middle(bool donor)
{
    MemSched *ms = guest_start(128 * MIB);
    Guest *a = guest_new(ms, "a", 96 * MIB, 0);
    Guest *b = guest_new(ms, "b", 96 * MIB, 0);
    MemSchedTransferInfo t = { 0 };
    gint64 end = g_get_monotonic_time() + WAIT_US;
    Balloon *driver;
    uint64_t id;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(64), 1);
    driver = balloon_new(a, 0, PAGES(16), true);
    id = transfer(ms, "a", "b", 32 * MIB, 0);
    while (transfer_info(ms, id).moved_bytes < 16 * MIB) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    if (donor) {
        balloon_free(driver);
        guest_free(a);
    } else {
        guest_free(b);
    }
    heard_wait(&heard, &heard.ends, 1);
    t = transfer_info(ms, id);
    g_assert_cmpint(t.state, ==, MEMSCHED_TRANSFER_PARTIAL);
    g_assert_cmpuint(t.moved_bytes, ==, 16 * MIB);
    g_assert_cmpstr(t.reason, ==, donor ? "guest 'a' went away"
                                        : "guest 'b' went away");
    assert_no_claims(ms);
    if (donor) {
        guest_free(b);
    } else {
        guest_assert(a, PAGES(16), PAGES(48), 1);
        balloon_free(driver);
        guest_free(a);
    }
    heard_stop(ms, &heard);
    guest_stop(ms);
}

static void test_donor_removed_in_the_middle_yields_partial(void)
{
    removed_in_the_middle(true);
}

static void test_acceptor_removed_in_the_middle_yields_partial(void)
{
    removed_in_the_middle(false);
}

static void test_reset_of_the_donor_ends_its_transfer(void)
{
    MemSched *ms = guest_start(128 * MIB);
    Guest *a = guest_new(ms, "a", 96 * MIB, 0);
    Guest *b = guest_new(ms, "b", 96 * MIB, 0);
    Balloon *dead = balloon_new_dead(a);
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(64), 1);
    transfer(ms, "a", "b", 32 * MIB, 0);
    memsched_reset(a->client, MEMSCHED_RESET_SYSTEM);
    heard_wait(&heard, &heard.ends, 1);
    g_assert_cmpint(heard.last.state, ==, MEMSCHED_TRANSFER_FAILED);
    g_assert_cmpstr(heard.last.reason, ==, "guest 'a' was reset");
    assert_no_claims(ms);
    balloon_free(dead);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* ---- there and back ---- */

static void test_both_directions_at_once_complete(void)
{
    MemSched *ms = guest_start(128 * MIB);
    Guest *a = guest_new(ms, "a", 64 * MIB, 0);
    Guest *b = guest_new(ms, "b", 64 * MIB, 0);
    Balloon *driver_a, *driver_b;
    uint64_t there, back;
    Heard heard;

    heard_start(ms, &heard);
    /* The give-allowances are kept free: 56 MiB each fit, no holes besides. */
    guest_fill(a, 0, PAGES(56), 1);
    guest_fill(b, 0, PAGES(56), 2);
    driver_a = balloon_new(a, 0, PAGES(32), true);
    driver_b = balloon_new(b, 0, PAGES(32), true);
    there = transfer(ms, "a", "b", 8 * MIB, 0);
    back = transfer(ms, "b", "a", 8 * MIB, 0);
    heard_wait(&heard, &heard.ends, 2);
    assert_no_claims(ms);
    {
        MemSchedTransferInfo t = transfer_info(ms, there);

        transfer_assert_completed(&t);
        t = transfer_info(ms, back);
        transfer_assert_completed(&t);
    }
    guest_assert(a, PAGES(32), PAGES(24), 1);
    guest_assert(b, PAGES(32), PAGES(24), 2);
    balloon_free(driver_a);
    balloon_free(driver_b);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

static void test_an_acceptor_with_a_balloon_deflates(void)
{
    MemSched *ms = guest_start(96 * MIB);
    Guest *a = guest_new(ms, "a", 48 * MIB, 0);
    Guest *b = guest_new(ms, "b", 48 * MIB, 0);
    Balloon *driver_a, *driver_b;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(40), 1);
    guest_fill(b, 0, PAGES(40), 2);
    driver_a = balloon_new(a, 0, PAGES(32), true);
    driver_b = balloon_new(b, 0, PAGES(32), true);
    for (unsigned i = 1; i <= 10; i++) {
        transfer(ms, i % 2 ? "a" : "b", i % 2 ? "b" : "a", 8 * MIB, 0);
        heard_wait(&heard, &heard.ends, i);
        transfer_assert_completed(&heard.last);
        assert_no_claims(ms);
    }
    /* What came last came out of a's balloon, not out of its holes. */
    g_assert_cmpuint(balloon_actual(driver_a), <=, PAGES(8));
    g_assert_cmpuint(balloon_actual(driver_b), <=, PAGES(16));
    guest_assert(a, PAGES(32), PAGES(8), 1);
    guest_assert(b, PAGES(32), PAGES(8), 2);
    balloon_free(driver_a);
    balloon_free(driver_b);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/*
 * A guest may touch what is in its balloon, which then makes no room when it is
 * deflated: its balloon has to shrink by more than the size.
 */
static void test_touched_balloon_pages_do_not_stop_the_way_back(void)
{
    MemSched *ms = guest_start(96 * MIB);
    Guest *a = guest_new(ms, "a", 32 * MIB, 0);
    Guest *b = guest_new(ms, "b", 48 * MIB, 0);
    Balloon *driver_a, *driver_b;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(32), 1);
    guest_fill(b, 0, PAGES(32), 2);
    driver_a = balloon_new(a, 0, PAGES(32), true);
    driver_b = balloon_new(b, 0, PAGES(32), true);
    transfer(ms, "a", "b", 10 * MIB, 0);
    heard_wait(&heard, &heard.ends, 1);
    transfer_assert_completed(&heard.last);
    guest_fill(a, PAGES(6), PAGES(2), 5);
    transfer(ms, "b", "a", 8 * MIB, 8000);
    heard_wait(&heard, &heard.ends, 2);
    transfer_assert_completed(&heard.last);
    assert_no_claims(ms);
    guest_assert(a, PAGES(6), PAGES(2), 5);
    guest_assert(a, PAGES(12), PAGES(20), 1);
    balloon_free(driver_a);
    balloon_free(driver_b);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* A stock driver gives what was never touched, too: it is asked for more. */
static void test_a_donor_that_gives_holes_first_is_asked_for_more(void)
{
    MemSched *ms = guest_start(128 * MIB);
    Guest *a = guest_new(ms, "a", 96 * MIB, 0);
    Guest *b = guest_new(ms, "b", 96 * MIB, 0);
    Balloon *driver;
    Heard heard;
    gint64 end;

    heard_start(ms, &heard);
    guest_fill(a, PAGES(32), PAGES(32), 1);
    driver = balloon_new(a, 0, PAGES(48), true);
    transfer(ms, "a", "b", 16 * MIB, 0);
    heard_wait(&heard, &heard.ends, 1);
    transfer_assert_completed(&heard.last);
    /* It counts a request when that has returned: perhaps not yet. */
    end = g_get_monotonic_time() + WAIT_US;
    while (balloon_actual(driver) < PAGES(48)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
    assert_no_claims(ms);
    guest_assert(a, PAGES(48), PAGES(16), 1);
    balloon_free(driver);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* ---- who may not ---- */

static void test_what_cannot_be_is_refused_with_a_sentence(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 32 * MIB, 4 * MIB);
    Guest *b = guest_new(ms, "b", 8 * MIB, 0);
    MemSchedTransferOptions o = {
        .from = "a", .to = "b", .size_bytes = MIB,
        .source = MEMSCHED_SOURCE_APPLICATION,
    };
    MemSchedMessage m;
    uint64_t id;

    guest_fill(a, 0, PAGES(16), 1);
    g_assert_cmpint(try_transfer(ms, "x", "b", MIB, 0, &id, &m), ==, -ENOENT);
    g_assert_nonnull(strstr(m.text, "'x'"));
    g_assert_cmpint(try_transfer(ms, "a", "y", MIB, 0, &id, &m), ==, -ENOENT);
    g_assert_nonnull(strstr(m.text, "'y'"));
    g_assert_cmpint(try_transfer(ms, "a", "a", MIB, 0, &id, &m), ==, -EINVAL);
    g_assert_cmpint(try_transfer(ms, "a", "b", 0, 0, &id, &m), ==, -EINVAL);
    g_assert_cmpint(try_transfer(ms, "a", "b", 13 * MIB, 0, &id, &m), ==,
                    -EINVAL);
    g_assert_nonnull(strstr(m.text, "only 12288 KiB above its min"));
    g_assert_cmpint(try_transfer(ms, "a", "b", UINT64_MAX, 0, &id, &m), ==,
                    -EINVAL);
    g_assert_cmpint(try_transfer(ms, "a", "b", 9 * MIB, 0, &id, &m), ==,
                    -ENOSPC);
    g_assert_nonnull(strstr(m.text, "room for only 8192 KiB"));
    g_assert_cmpint(memsched_reallocate(ms, &o, &id, &m), ==, -EOPNOTSUPP);
    o.source = MEMSCHED_SOURCE_KERNEL;
    g_assert_cmpint(memsched_reallocate(ms, &o, &id, &m), ==, -EOPNOTSUPP);

    for (unsigned i = 0; i < 64; i++) {
        transfer(ms, "a", "b", 4096, 0);
    }
    g_assert_cmpint(try_transfer(ms, "a", "b", 4096, 0, &id, &m), ==,
                    -EAGAIN);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/*
 * What is mapped ahead is a guess.  A guest that waits for memory at the end of
 * its RAM must get it there, not at the start.
 */
static void test_a_hungry_acceptor_gets_the_pages_that_it_touches(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 64 * MIB, 0);
    Guest *b = guest_new(ms, "b", 128 * MIB, 0);
    Balloon *driver;
    GThread *thread;
    Heard heard;

    heard_start(ms, &heard);
    guest_fill(a, 0, PAGES(48), 1);
    driver = balloon_new(a, 0, PAGES(32), true);
    thread = guest_touch("toucher", b, PAGES(104), PAGES(24), 3);
    heard_wait(&heard, &heard.stalled, 1);
    transfer(ms, "a", "b", 24 * MIB, 0);
    heard_wait(&heard, &heard.ends, 1);
    transfer_assert_completed(&heard.last);
    g_thread_join(thread);
    guest_assert(b, PAGES(104), PAGES(24), 3);
    guest_assert(a, PAGES(32), PAGES(16), 1);
    assert_no_claims(ms);
    balloon_free(driver);
    heard_stop(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/256-mib-are-moved-with-their-frames",
                        test_256_mib_are_moved_with_their_frames);
        g_test_add_func("/a-pool-with-room-to-spare-moves-the-same-frames",
                        test_a_pool_with_room_to_spare_moves_the_same_frames);
        g_test_add_func("/an-acceptor-that-reported-pages-takes-all",
                        test_an_acceptor_that_reported_pages_takes_all);
        g_test_add_func("/a-guest-that-gives-half-yields-partial",
                        test_a_guest_that_gives_half_yields_partial);
        g_test_add_func("/a-dead-guest-yields-failed-and-is-shown",
                        test_a_dead_guest_yields_failed_and_is_shown);
        g_test_add_func("/donor-removed-in-the-middle-yields-partial",
                        test_donor_removed_in_the_middle_yields_partial);
        g_test_add_func("/acceptor-removed-in-the-middle-yields-partial",
                        test_acceptor_removed_in_the_middle_yields_partial);
        g_test_add_func("/reset-of-the-donor-ends-its-transfer",
                        test_reset_of_the_donor_ends_its_transfer);
        g_test_add_func("/both-directions-at-once-complete",
                        test_both_directions_at_once_complete);
        g_test_add_func("/an-acceptor-with-a-balloon-deflates",
                        test_an_acceptor_with_a_balloon_deflates);
        g_test_add_func("/touched-balloon-pages-do-not-stop-the-way-back",
                        test_touched_balloon_pages_do_not_stop_the_way_back);
        g_test_add_func("/a-donor-that-gives-holes-first-is-asked-for-more",
                        test_a_donor_that_gives_holes_first_is_asked_for_more);
        g_test_add_func("/what-cannot-be-is-refused-with-a-sentence",
                        test_what_cannot_be_is_refused_with_a_sentence);
            g_test_add_func("/a-hungry-acceptor-gets-the-pages-that-it-touches",
                        test_a_hungry_acceptor_gets_the_pages_that_it_touches);
    }
    return g_test_run();
}
