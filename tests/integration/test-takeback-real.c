/*
 * Taking back what was populated ahead, on the real kernel: zeros go, all else
 * stays, and a writer who comes in between loses nothing
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "balloon.h"
#include "client.h"
#include "takeback.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)
#define WAIT_US  (60 * G_USEC_PER_SEC)

static MemSchedClientInfo info_of(Guest *guest)
{
    MemSchedClientInfo info;

    guest_query(guest, &info);
    return info;
}

/* 16 MiB from a to b, which does not touch them. */
static void transfer(MemSched *ms, Guest *a, uint64_t from_page)
{
    MemSchedTransferOptions options = {
        .from = "a", .to = "b", .size_bytes = 16 * MIB,
    };
    gint64 end = g_get_monotonic_time() + WAIT_US;
    Balloon *driver = balloon_new(a, from_page, PAGES(20), true);
    MemSchedTransferInfo t;
    uint64_t id;

    g_assert_cmpint(memsched_reallocate(ms, &options, &id, NULL), ==, 0);
    do {
        g_assert_cmpuint(memsched_query_transfers(ms, &t, 1), ==, 1);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    } while (t.state == MEMSCHED_TRANSFER_RUNNING);
    g_assert_cmpint(t.state, ==, MEMSCHED_TRANSFER_COMPLETED);
    balloon_free(driver);
}

/* All that can be had. */
static uint64_t take_back(Guest *guest)
{
    g_autofree MsCapture *scratch = g_new0(MsCapture, 1);
    uint64_t pages = 0, n;

    while ((n = ms_takeback(guest->client, scratch)) > 0) {
        pages += n;
    }
    guest_check(guest->ms);
    return pages;
}

static void test_untouched_pages_go_back_and_touched_ones_stay(void)
{
    MemSched *ms = guest_start(96 * MIB);
    Guest *a = guest_new(ms, "a", 48 * MIB, 0);
    Guest *b = guest_new(ms, "b", 64 * MIB, 0);
    MemSchedClientInfo before;

    guest_fill(a, 0, PAGES(32), 1);
    transfer(ms, a, 0);
    before = info_of(b);
    g_assert_cmpuint(before.allocated_bytes, ==, 16 * MIB);
    /* One page of a huge one keeps it whole; reading is no reason. */
    guest_fill(b, PAGES(4) + 7, 1, 2);
    guest_assert_zero(b, PAGES(8), PAGES(2));
    g_assert_cmpuint(take_back(b), ==, PAGES(14));
    guest_assert(b, PAGES(4) + 7, 1, 2);
    g_assert_cmpuint(info_of(b).allocated_bytes, ==, 2 * MIB);
    g_assert_cmpuint(info_of(b).huge_bytes, ==, 2 * MIB);
    /* Each frame is looked at once. */
    g_assert_cmpuint(take_back(b), ==, 0);
    guest_assert_zero(b, 0, PAGES(4));
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

/* Small pages, some of them written: one by one. */
static void test_of_small_pages_only_the_zero_ones_go(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *b = guest_new(ms, "b", 8 * MIB, 0);

    /* No huge page: its first page is given at once, without a frame. */
    guest_inflate(b, 0, 1, false);
    guest_assert_zero(b, 1, 511);
    for (uint64_t p = 1; p < 512; p += 3) {
        guest_fill(b, p, 1, 5);
    }
    ms_takeback_note(b->region, 0);
    g_assert_cmpuint(take_back(b), ==, 511 - 171);
    for (uint64_t p = 1; p < 512; p++) {
        g_assert_true(p % 3 == 1 ? guest_page_is(b, p, 5)
                                 : guest_page_is_zero(b, p));
    }
    guest_check(ms);
    guest_free(b);
    guest_stop(ms);
}

static void test_fenced_frames_wait_and_a_min_is_kept(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *b = guest_new(ms, "b", 16 * MIB, 0);
    MemSchedClientChange change = { .has_min = true, .min_bytes = 8 * MIB };

    guest_assert_zero(b, 0, PAGES(8));
    for (unsigned f = 0; f < 4; f++) {
        ms_takeback_note(b->region, f);
    }
    g_assert_cmpint(memsched_client_set(ms, "b", &change, NULL), ==, 0);
    g_assert_cmpuint(take_back(b), ==, 0);
    change.min_bytes = 0;
    g_assert_cmpint(memsched_client_set(ms, "b", &change, NULL), ==, 0);
    memsched_dma_begin(b->ram + 2 * MIB, 4096);
    g_assert_cmpuint(take_back(b), ==, PAGES(6));
    memsched_dma_end(b->ram + 2 * MIB, 4096);
    g_assert_cmpuint(take_back(b), ==, PAGES(2));
    guest_free(b);
    guest_stop(ms);
}

/* ---- a writer in between ---- */

typedef struct Writer {
    Guest *guest;
    uint64_t pages;
    uint32_t seed;
    bool *written;
    _Atomic unsigned writes;
    _Atomic bool stop;
} Writer;

static gpointer write_some(gpointer opaque)
{
    Writer *w = opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed(w->seed);

    while (!atomic_load(&w->stop)) {
        uint64_t p = g_rand_int_range(rand, 0, w->pages);

        /* What it wrote before is still there; else what it finds is zero. */
        g_assert_true(w->written[p] ? guest_page_is(w->guest, p, 9)
                                    : guest_page_is_zero(w->guest, p));
        if (g_rand_int_range(rand, 0, 4) == 0) {
            guest_fill(w->guest, p, 1, 9);
            w->written[p] = true;
            atomic_fetch_add(&w->writes, 1);
        }
    }
    return NULL;
}

static void test_a_racing_writer_loses_nothing(void)
{
    enum { FRAMES = 16, WRITES = 3000 };
    MemSched *ms = guest_start(96 * MIB);
    Guest *b = guest_new(ms, "b", FRAMES * MEMSCHED_FRAME_SIZE, 0);
    g_autofree MsCapture *scratch = g_new0(MsCapture, 1);
    Writer w = {
        .guest = b, .pages = FRAMES * 512, .seed = g_test_rand_int(),
        .written = g_new0(bool, FRAMES * 512),
    };
    uint64_t taken = 0, kept = 0;
    GThread *thread;

    g_test_message("seed %u", w.seed);
    /* Half of the frames by small pages. */
    for (unsigned f = 0; f < FRAMES; f += 2) {
        guest_inflate(b, f * 512, 1, false);
    }
    thread = g_thread_new("writer", write_some, &w);
    while (atomic_load(&w.writes) < WRITES) {
        for (unsigned f = 0; f < FRAMES; f++) {
            ms_takeback_note(b->region, f);
        }
        taken += ms_takeback(b->client, scratch);
    }
    atomic_store(&w.stop, true);
    g_thread_join(thread);
    guest_check(ms);
    for (uint64_t p = 0; p < w.pages; p++) {
        g_assert_true(w.written[p] ? guest_page_is(b, p, 9)
                                   : guest_page_is_zero(b, p));
        kept += w.written[p];
    }
    g_test_message("%" G_GUINT64_FORMAT " pages taken, %" G_GUINT64_FORMAT
                   " written", taken, kept);
    g_assert_cmpuint(taken, >, 0);
    g_assert_cmpuint(kept, >, 0);
    g_free(w.written);
    guest_free(b);
    guest_stop(ms);
}

/* ---- when the pool is short ---- */

static gpointer touch_last(gpointer opaque)
{
    Guest *guest = opaque;

    guest_fill(guest, PAGES(48), PAGES(8), 3);
    return NULL;
}

/*
 * The guess was wrong: the guest has 16 MiB where it does not want them, and
 * waits for 8 elsewhere.
 */
static void test_a_guest_that_waits_gets_them_where_it_touches(void)
{
    MemSched *ms = guest_start(64 * MIB);
    Guest *a = guest_new(ms, "a", 64 * MIB, 0);
    Guest *b = guest_new(ms, "b", 64 * MIB, 0);
    GThread *thread;

    /* 8 MiB are kept for the guests' giving. */
    guest_fill(a, 0, PAGES(56), 1);
    transfer(ms, a, 0);
    thread = g_thread_new("toucher", touch_last, b);
    g_thread_join(thread);
    guest_assert(b, PAGES(48), PAGES(8), 3);
    g_assert_cmpuint(info_of(b).allocated_bytes, <=, 16 * MIB + 8 * MIB);
    guest_assert(a, PAGES(20), PAGES(36), 1);
    guest_check(ms);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/takeback/untouched",
                        test_untouched_pages_go_back_and_touched_ones_stay);
        g_test_add_func("/takeback/small",
                        test_of_small_pages_only_the_zero_ones_go);
        g_test_add_func("/takeback/fence",
                        test_fenced_frames_wait_and_a_min_is_kept);
        g_test_add_func("/takeback/writer",
                        test_a_racing_writer_loses_nothing);
        g_test_add_func("/takeback/short",
                        test_a_guest_that_waits_gets_them_where_it_touches);
    }
    return g_test_run();
}
