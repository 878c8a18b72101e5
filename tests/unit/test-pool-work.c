/*
 * The pool's background work with the fake kernel, and a random walk against a
 * simple model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "pool-fixture.h"
#include "scrub.h"

static const MsPageSet none;

/* ---- background ---- */

static void test_background_clears_huge_pages_first(Fixture *f,
                                                    const void *data)
{
    MsPoolRun run;

    pool_start(f, 4, 64);
    drain(f, 2);
    capture(f, 0, 100);
    g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==, 0);
    ms_pool_move_in(f->pool, &run, 0, ram_page(f, 512), 512);
    ms_pool_capture_end(f->pool, &run, NULL);
    g_assert_cmpint(ms_pool_work(f->pool), ==, 1);
    g_assert_cmpuint(counts_of(f).huge_clean, ==, 3);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==, 100);
    work_all(f);
    g_assert_cmpuint(counts_of(f).free_dirty_pages, ==, 0);
    assert_sound(f);
}

static void test_host_short_of_huge_pages_loses_no_page(Fixture *f,
                                                        const void *data)
{
    uint64_t frames;

    pool_start(f, 4, 64);
    drain(f, 3);
    capture_in_parts(f, 3 * FRAME_PAGES);
    frames = fake_frames(f->fake);
    fake_huge(f->fake, false);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, ==, 0);
    g_assert_cmpuint(fake_frames(f->fake), ==, frames);
    g_assert_cmpuint(counts_of(f).free_clean_pages, ==, 4 * FRAME_PAGES);
    /* Later, when there are some again, surplus small pages are remade. */
    fake_huge(f->fake, true);
    fake_advance(f->fake, UINT64_C(2) * 1000 * 1000 * 1000);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, >, 0);
    g_assert_cmpuint(fake_frames(f->fake), ==, frames);
}

static void test_small_pages_in_demand_are_not_remade_until_it_fades(
    Fixture *f, const void *data)
{
    pool_start(f, 8, 64);
    /* Three frames' worth taken in small runs, and given back. */
    for (unsigned at = 0; at < 3 * FRAME_PAGES; ) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_take(f->pool, 64, 0, &run), ==, 0);
        g_assert_cmpint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                         ram_page(f, at), run.pages,
                                         true).stop, ==, MS_MOVE_DONE);
        at += run.pages;
        ms_pool_take_end(f->pool, &run, NULL, false);
    }
    memset(f->ram, 1, 3 * MEMSCHED_FRAME_SIZE);
    capture_in_parts(f, 3 * FRAME_PAGES);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, ==, 0);
    g_assert_cmpuint(counts_of(f).free_clean_pages, ==, 8 * FRAME_PAGES);
    fake_advance(f->fake, UINT64_C(60) * 1000 * 1000 * 1000);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(counts_of(f).remade, >, 0);
    g_assert_cmpuint(fake_frames(f->fake), ==, 8 * FRAME_PAGES);
}

static void test_failing_populate_while_remaking_changes_nothing(
    Fixture *f, const void *data)
{
    pool_start(f, 4, 64);
    drain(f, 3);
    capture_in_parts(f, 3 * FRAME_PAGES);
    fake_fail(f->fake, FAKE_POPULATE, 0, 1000, -ENOMEM);
    work_all(f);
    assert_sound(f);
    g_assert_cmpuint(fake_frames(f->fake), ==, 4 * FRAME_PAGES);
    g_assert_cmpuint(counts_of(f).free_clean_pages, ==, 4 * FRAME_PAGES);
}

static void test_paused_background_does_nothing(Fixture *f, const void *data)
{
    pool_start(f, 2, 64);
    drain(f, 1);
    capture(f, 0, FRAME_PAGES);
    ms_pool_pause_work(f->pool);
    g_assert_cmpint(ms_pool_work(f->pool), ==, 0);
    ms_pool_resume_work(f->pool);
    g_assert_cmpint(ms_pool_work(f->pool), ==, 1);
}

static void test_check_finds_a_page_that_vanished(Fixture *f,
                                                  const void *data)
{
    MemSchedMessage message = { "" };
    MsPoolRun run;

    pool_start(f, 1, 64);
    g_assert_cmpint(ms_pool_take(f->pool, 1, 0, &run), ==, 0);
    f->sys->madvise(f->sys, run.address, MEMSCHED_PAGE_SIZE, MADV_DONTNEED);
    assert_sound(f);            /* it is out: not the pool's affair */
    ms_pool_take_end(f->pool, &run, &none, true);
    g_assert_cmpint(ms_pool_check(f->pool, &message), ==, -EUCLEAN);
    g_assert_nonnull(strstr(message.text, "there by our map"));
}

/* ---- a random walk against a model ---- */

typedef struct Model {
    bool resident[GUEST_FRAMES * 512];
    uint64_t count;
} Model;

static void walk_capture(Fixture *f, Model *m, GRand *rand, unsigned page)
{
    unsigned n = 0, want = g_rand_int_range(rand, 1, 513);

    while (n < want && page + n < GUEST_FRAMES * FRAME_PAGES &&
           m->resident[page + n] && page / 512 == (page + n) / 512) {
        n++;
    }
    if (!n) {
        return;
    }
    if (n == 512 && fake_is_huge(f->fake, ram_page(f, page))) {
        MsPoolRun run;

        g_assert_cmpint(ms_pool_capture_begin(f->pool, 512, true, &run), ==,
                        0);
        g_assert_cmpint(ms_pool_move_in(f->pool, &run, 0, ram_page(f, page),
                                        512).stop, ==, MS_MOVE_DONE);
        g_assert_true(run.huge);
        ms_pool_capture_end(f->pool, &run, NULL);
    } else {
        capture(f, page, n);
    }
    memset(&m->resident[page], 0, n);
    m->count -= n;
}

static void walk_populate(Fixture *f, Model *m, GRand *rand, unsigned page)
{
    unsigned n = 0, want = g_rand_int_range(rand, 1, 513);
    unsigned flags = 0;
    MsPoolRun run;
    int rc;

    while (n < want && page + n < GUEST_FRAMES * FRAME_PAGES &&
           !m->resident[page + n] && page / 512 == (page + n) / 512) {
        n++;
    }
    if (!n) {
        return;
    }
    if (n == 512 && page % 512 == 0) {
        f->sys->madvise(f->sys, ram_page(f, page), MEMSCHED_FRAME_SIZE,
                        MADV_DONTNEED);
        flags = MS_POOL_HUGE;
    }
    rc = ms_pool_take(f->pool, n, flags, &run);
    if (rc < 0) {
        return;
    }
    g_assert_true(ms_pages_are_zero(run.address, run.pages));
    g_assert_cmpuint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                      ram_page(f, page), run.pages,
                                      true).moved_pages, ==, run.pages);
    memset(ram_page(f, page), 0x77, run.pages * MEMSCHED_PAGE_SIZE);
    memset(&m->resident[page], 1, run.pages);
    m->count += run.pages;
    ms_pool_take_end(f->pool, &run, NULL, false);
}

static void test_random_walk_agrees_with_the_model(Fixture *f,
                                                   const void *data)
{
    uint32_t seed = g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    Model *m = g_new0(Model, 1);

    g_test_message("seed %u", seed);
    pool_start(f, 8, 100);
    for (unsigned i = 0; i < 1500; i++) {
        unsigned page = g_rand_int_range(rand, 0, GUEST_FRAMES * 512);
        MsPoolCounts counts;

        if (g_rand_boolean(rand)) {
            page &= ~511u;
        }
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
        case 1:
            walk_capture(f, m, rand, page);
            break;
        case 2:
        case 3:
            walk_populate(f, m, rand, page);
            break;
        case 4:
            ms_pool_work(f->pool);
            fake_advance(f->fake, 200 * 1000 * 1000);
            break;
        }
        counts = counts_of(f);
        g_assert_cmpuint(counts.free_clean_pages + counts.free_dirty_pages +
                         m->count, ==, 8 * FRAME_PAGES);
        if (i % 50 == 0) {
            assert_sound(f);
            g_assert_cmpuint(fake_frames(f->fake), ==, 8 * FRAME_PAGES);
        }
    }
    assert_sound(f);
    g_free(m);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    POOL_TEST("background-clears-huge-pages-first",
              test_background_clears_huge_pages_first);
    POOL_TEST("host-short-of-huge-pages-loses-no-page",
              test_host_short_of_huge_pages_loses_no_page);
    POOL_TEST("small-pages-in-demand-are-not-remade-until-it-fades",
              test_small_pages_in_demand_are_not_remade_until_it_fades);
    POOL_TEST("failing-populate-while-remaking-changes-nothing",
              test_failing_populate_while_remaking_changes_nothing);
    POOL_TEST("paused-background-does-nothing",
              test_paused_background_does_nothing);
    POOL_TEST("check-finds-a-page-that-vanished",
              test_check_finds_a_page_that_vanished);
    POOL_TEST("random-walk-agrees-with-the-model",
              test_random_walk_agrees_with_the_model);
    return g_test_run();
}
