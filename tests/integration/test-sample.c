/*
 * Memory that is sampled, on the real kernel: out of its guest, back at a touch
 * bit for bit, and never in anybody's way
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "guest.h"
#include "instance.h"
#include "sample.h"
#include "sampler.h"

#define MIB   (UINT64_C(1) << 20)
#define PAGES UINT64_C(4096)            /* of a guest of 16 MiB */
#define SEED  77u

static MemSched *ms;
static Guest *guest;

static void begin(bool huge)
{
    ms = guest_start(64 * MIB);
    guest = guest_new(ms, "a", 16 * MIB, 0);
    if (!huge) {
        guest_no_huge(guest);
    }
    guest_fill(guest, 0, PAGES, SEED);
    memsched_client_run(guest->client, true);
}

static void end(void)
{
    guest_free(guest);
    guest_stop(ms);
}

static MemSchedTranslation translate(uint64_t page)
{
    MemSchedTranslation t;
    MemSchedMessage message;

    g_assert_cmpint(memsched_translate(ms, "a", page << MEMSCHED_PAGE_SHIFT,
                                       &t, &message), ==, 0);
    return t;
}

static unsigned take(uint64_t page)
{
    unsigned pages;

    g_assert_true(ms_region_enter_locked(guest->region));
    ms_unlock(&guest->region->lock);
    pages = ms_sample_take(guest->region, page, 512);
    ms_region_leave(guest->region);
    return pages;
}

static uint64_t out(void)
{
    uint64_t pages;

    ms_lock(&guest->region->lock);
    pages = guest->region->samples.pages;
    ms_unlock(&guest->region->lock);
    return pages;
}

static MemSchedPageState state_of(uint64_t page)
{
    MemSchedPageState state;

    ms_lock(&guest->region->lock);
    state = ms_pages_get(&guest->region->pages, page);
    ms_unlock(&guest->region->lock);
    return state;
}

/* The next result. */
static MsSampleState harvest(void)
{
    MsSample sample = { .state = MS_SAMPLE_VOID };

    guest_check(ms);
    g_assert_true(ms_region_enter_locked(guest->region));
    ms_unlock(&guest->region->lock);
    ms_sample_harvest(guest->region, 0, &sample);
    ms_region_leave(guest->region);
    return sample.state;
}

/* A touch goes on before its unit is on record as back. */
static void wait_back(void)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (out() > 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(200);
    }
}

static void check_touch(bool huge)
{
    unsigned pages;
    uint64_t pfn;

    begin(huge);
    huge &= translate(513).huge;
    pfn = translate(513).pfn;
    pages = take(513);
    g_assert_cmpuint(pages, ==, huge ? 512 : 1);
    g_assert_cmpuint(out(), ==, pages);
    g_assert_cmpint(state_of(513), ==, MEMSCHED_PAGE_TRANSIT);
    guest_check(ms);

    guest_assert(guest, 512, 512, SEED);
    wait_back();
    g_assert_cmpint(harvest(), ==, MS_SAMPLE_TOUCHED);
    g_assert_cmpuint(out(), ==, 0);
    g_assert_cmpint(state_of(513), ==, MEMSCHED_PAGE_RESIDENT);
    g_assert_cmpuint(translate(513).pfn, ==, pfn);
    g_assert_cmpint(translate(513).huge, ==, huge);
    g_assert_cmpint(harvest(), ==, MS_SAMPLE_VOID);
    guest_assert(guest, 0, PAGES, SEED);
    end();
}

static void test_huge_page_is_back_at_a_touch(void)
{
    check_touch(true);
}

static void test_small_page_is_back_at_a_touch(void)
{
    check_touch(false);
}

static void test_untouched_unit_is_brought_back(void)
{
    begin(true);
    g_assert_cmpuint(take(0), >, 0);
    g_assert_cmpint(harvest(), ==, MS_SAMPLE_OUT);
    g_assert_cmpuint(out(), ==, 0);
    g_assert_cmpint(state_of(0), ==, MEMSCHED_PAGE_RESIDENT);
    guest_assert(guest, 0, PAGES, SEED);
    end();
}

static void test_nothing_of_a_hole_or_of_what_is_out(void)
{
    begin(false);
    guest_inflate(guest, 7, 1, false);
    g_assert_cmpuint(take(7), ==, 0);
    g_assert_cmpuint(take(8), ==, 1);
    g_assert_cmpuint(take(8), ==, 0);
    g_assert_cmpuint(out(), ==, 1);
    end();
}

static void test_fenced_unit_counts_as_touched(void)
{
    begin(true);
    memsched_dma_begin(guest->ram, 4096);
    g_assert_cmpuint(take(0), >, 0);
    g_assert_cmpuint(out(), ==, 0);
    memsched_dma_end(guest->ram, 4096);
    g_assert_cmpint(harvest(), ==, MS_SAMPLE_TOUCHED);
    guest_assert(guest, 0, PAGES, SEED);
    end();
}

/* ---- whatever else happens to such pages ---- */

static void check_inflate(bool huge)
{
    MemSchedOpResult result;

    begin(huge);
    g_assert_cmpuint(take(512), >, 0);
    result = guest_inflate(guest, 512, 512, false);
    g_assert_cmpuint(result.captured_pages, ==, 512);
    g_assert_cmpuint(out(), ==, 0);
    g_assert_cmpint(state_of(512), ==, MEMSCHED_PAGE_BALLOONED);
    g_assert_cmpint(harvest(), ==, MS_SAMPLE_VOID);
    guest_assert_zero(guest, 512, 512);
    end();
}

static void test_inflate_takes_it(void)
{
    check_inflate(true);
    check_inflate(false);
}

static void test_inflate_of_a_part_leaves_the_rest(void)
{
    begin(true);
    g_assert_cmpuint(take(512), >, 0);
    g_assert_cmpuint(guest_inflate(guest, 600, 3, false).captured_pages, ==,
                     3);
    guest_assert(guest, 512, 88, SEED);
    guest_assert(guest, 603, 421, SEED);
    guest_assert_zero(guest, 600, 3);
    end();
}

static void test_report_takes_it(void)
{
    begin(true);
    g_assert_cmpuint(take(1024), >, 0);
    g_assert_cmpuint(guest_report(guest, 1024, 512).captured_pages, ==, 512);
    g_assert_cmpint(state_of(1024), ==, MEMSCHED_PAGE_REPORTED);
    guest_assert_zero(guest, 1024, 512);
    end();
}

static void test_deflate_of_it_changes_nothing(void)
{
    begin(true);
    g_assert_cmpuint(take(1024), >, 0);
    guest_deflate(guest, 1024, 512);
    guest_assert(guest, 0, PAGES, SEED);
    end();
}

static void test_reset_keeps_its_content(void)
{
    begin(true);
    g_assert_cmpuint(take(0), >, 0);
    memsched_reset(guest->client, MEMSCHED_RESET_DEVICE);
    g_assert_cmpuint(take(2048), >, 0);
    memsched_reset(guest->client, MEMSCHED_RESET_SYSTEM);
    g_assert_cmpuint(out(), ==, 0);
    guest_assert(guest, 0, PAGES, SEED);
    end();
}

static void test_stop_and_inhibition_bring_it_back(void)
{
    begin(true);
    g_assert_cmpuint(take(0), >, 0);
    memsched_client_inhibit(guest->client, true);
    g_assert_cmpuint(out(), ==, 0);
    memsched_client_inhibit(guest->client, false);
    g_assert_cmpuint(take(1024), >, 0);
    memsched_client_run(guest->client, false);
    g_assert_cmpuint(out(), ==, 0);
    g_assert_cmpint(harvest(), ==, MS_SAMPLE_VOID);
    guest_assert(guest, 0, PAGES, SEED);
    end();
}

static void test_guest_ends_with_units_out(void)
{
    begin(true);
    for (uint64_t page = 0; page < PAGES; page += 512) {
        g_assert_cmpuint(take(page), >, 0);
    }
    end();
}

static void test_shared_memory_is_not_sampled(void)
{
    MsSampledFigure figure;
    const char *why = NULL;

    ms = guest_start(64 * MIB);
    guest = guest_new_shared(ms, "a", 16 * MIB, 0);
    if (guest == NULL) {
        g_test_skip("this kernel reports no faults of shared memory");
        guest_stop(ms);
        return;
    }
    guest_fill(guest, 0, 4, SEED);
    memsched_client_run(guest->client, true);
    g_assert_cmpuint(take(0), ==, 0);
    atomic_store(&ms->sample_ms, 1000);
    g_assert_false(ms_sampler_figure(guest->client, 1, &figure, &why));
    g_assert_cmpstr(why, ==, "its memory cannot be moved");
    end();
}

/* ---- the figure ---- */

/* Touches a quarter of all memory, after each step: 0 to 250 of 1000. */
static void touch_quarter(void)
{
    for (uint64_t page = 0; page < PAGES / 4; page++) {
        /* volatile: read for its fault */
        (void)*(volatile char *)(guest->ram + page * MEMSCHED_PAGE_SIZE);
    }
}

static void check_figure(bool huge)
{
    MsSampler *sampler;
    MsSampledFigure f = { 0 };
    unsigned units = 0, figures = 0, sum = 0;
    const char *why;

    begin(huge);
    sampler = ms_sampler_new(ms, SEED);
    /* A window that is over by the next step, and no thread of its own. */
    atomic_store(&ms->sample_ms, 1);
    g_assert_false(ms_sampler_figure(guest->client, 1, &f, &why));
    g_assert_cmpstr(why, ==, "too few units of its memory so far");
    /* One figure is 8 % off, the mean of some 800 units 1.5 %. */
    for (unsigned i = 0; i < 100000 && units < 800; i++) {
        units += ms_sampler_step(sampler);
        g_assert_cmpuint(out(), <=, MAX(PAGES / MS_SAMPLE_SHARE, 512));
        touch_quarter();
        /* However slow this host is, the figure is fresh. */
        atomic_store(&ms->sample_ms, 3600000);
        if (ms_sampler_figure(guest->client, ms->sys->now_ns(ms->sys), &f,
                              &why)) {
            sum += f.figure.slow_permille;
            figures++;
        }
        atomic_store(&ms->sample_ms, 1);
    }
    g_assert_cmpuint(figures, >, 0);
    g_test_message("seed %u, %s: %u of 1000 seen for 250, %u units", SEED,
                   huge ? "huge" : "small", sum / figures, units);
    g_assert_cmpuint(sum / figures, >, 150);
    g_assert_cmpuint(sum / figures, <, 350);
    atomic_store(&ms->sample_ms, 0);
    ms_sampler_step(sampler);
    g_assert_cmpuint(out(), ==, 0);
    ms_sampler_figure(guest->client, 1, &f, &why);
    g_assert_cmpstr(why, ==, "sampling is off");
    ms_sampler_free(sampler);
    guest_assert(guest, 0, PAGES, SEED);
    end();
}

static void test_figure_of_huge_pages(void)
{
    check_figure(true);
}

static void test_figure_of_small_pages(void)
{
    check_figure(false);
}

/* ---- all at once ---- */

typedef struct Busy {
    GThread *thread;
    uint64_t first, count;
    _Atomic bool *stop;
} Busy;

static gpointer be_busy(gpointer opaque)
{
    const Busy *busy = opaque;
    uint64_t rounds = 0;

    while (!atomic_load(busy->stop)) {
        uint64_t seed = ++rounds;

        guest_fill(guest, busy->first, busy->count, seed);
        guest_assert(guest, busy->first, busy->count, seed);
    }
    return NULL;
}

static gpointer balloon(gpointer opaque)
{
    const Busy *busy = opaque;

    while (!atomic_load(busy->stop)) {
        guest_inflate(guest, busy->first, busy->count, true);
        guest_deflate(guest, busy->first, busy->count);
        guest_report(guest, busy->first, busy->count);
        guest_fill(guest, busy->first, busy->count, SEED);
    }
    return NULL;
}

static void test_content_is_kept_whoever_is_busy(void)
{
    _Atomic bool stop = false;
    Busy busy[3] = {
        { .first = 0, .count = 512, .stop = &stop },
        { .first = 1100, .count = 300, .stop = &stop },
        { .first = 2048, .count = 700, .stop = &stop },
    };
    MsSampler *sampler;
    unsigned units = 0;

    begin(true);
    sampler = ms_sampler_new(ms, SEED);
    atomic_store(&ms->sample_ms, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(busy); i++) {
        busy[i].thread = g_thread_new("CPU 0/TCG", i < 2 ? be_busy : balloon,
                                      &busy[i]);
    }
    for (unsigned i = 0; i < 4000 && units < 2000; i++) {
        units += ms_sampler_step(sampler);
        if (i % 500 == 0) {
            guest_check(ms);
        }
    }
    g_assert_cmpuint(units, >, 0);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < G_N_ELEMENTS(busy); i++) {
        g_thread_join(busy[i].thread);
    }
    guest_assert(guest, 512, 588, SEED);
    guest_assert(guest, 3072, 1024, SEED);
    guest_check(ms);
    ms_sampler_free(sampler);
    end();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/sample/huge", test_huge_page_is_back_at_a_touch);
        g_test_add_func("/sample/small", test_small_page_is_back_at_a_touch);
        g_test_add_func("/sample/untouched",
                        test_untouched_unit_is_brought_back);
        g_test_add_func("/sample/hole",
                        test_nothing_of_a_hole_or_of_what_is_out);
        g_test_add_func("/sample/fence", test_fenced_unit_counts_as_touched);
        g_test_add_func("/sample/inflate", test_inflate_takes_it);
        g_test_add_func("/sample/part",
                        test_inflate_of_a_part_leaves_the_rest);
        g_test_add_func("/sample/report", test_report_takes_it);
        g_test_add_func("/sample/deflate",
                        test_deflate_of_it_changes_nothing);
        g_test_add_func("/sample/reset", test_reset_keeps_its_content);
        g_test_add_func("/sample/stop",
                        test_stop_and_inhibition_bring_it_back);
        g_test_add_func("/sample/end", test_guest_ends_with_units_out);
        g_test_add_func("/sample/shared", test_shared_memory_is_not_sampled);
        g_test_add_func("/sample/figure-huge", test_figure_of_huge_pages);
        g_test_add_func("/sample/figure-small", test_figure_of_small_pages);
        g_test_add_func("/sample/busy", test_content_is_kept_whoever_is_busy);
    }
    return g_test_run();
}
