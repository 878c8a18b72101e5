/*
 * Pages that the host keeps, on the real kernel: compressed or in a file, and
 * back bit for bit
 *
 * guest_fill() fills a page with numbers that do not repeat: nothing that gets
 * shorter.  A page of one byte does, and one of zeros is nothing at all.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "hold.h"
#include "instance.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)

typedef struct World {
    MemSched *ms;
    Guest *guest;
    MsHoldBatch *batch;
    char *dir;
} World;

/* A guest of 16 MiB; places for held pages as given in MiB. */
static World *world_new(uint64_t held_mib, uint64_t swap_mib)
{
    World *w = g_new0(World, 1);
    g_autofree char *path = NULL;
    MemSchedOptions options = {
        .id = "test", .pool_bytes = 32 * MIB,
        .held_memory_bytes = held_mib * MIB,
        .swap_bytes = swap_mib * MIB,
    };
    MemSchedMessage message = { "" };

    w->dir = g_dir_make_tmp("memsched-held-XXXXXX", NULL);
    g_assert_nonnull(w->dir);
    path = g_build_filename(w->dir, "swap", NULL);
    options.swap_path = swap_mib ? path : NULL;
    if (memsched_start(&options, NULL, NULL, &w->ms, &message) < 0) {
        g_error("memsched_start: %s", message.text);
    }
    w->guest = guest_new(w->ms, "a", 16 * MIB, 0);
    w->batch = ms_hold_batch_new(w->ms);
    return w;
}

static void world_free(World *w)
{
    ms_hold_batch_free(w->batch);
    guest_free(w->guest);
    guest_check(w->ms);
    g_assert_cmpuint(ms_counter(&w->ms->held->lost_pages), <=, 2);
    guest_stop(w->ms);
    g_assert_cmpint(rmdir(w->dir), ==, 0);
    g_free(w->dir);
    g_free(w);
}

static uint64_t pages_in(World *w, MemSchedPageState state)
{
    MsClientPages pages;

    ms_client_pages(w->guest->client, &pages);
    return pages.count[state];
}

/* What a touch has begun goes on after it: until no page is on its way. */
static void settle(World *w)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (pages_in(w, MEMSCHED_PAGE_TRANSIT) > 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(200);
    }
}

/* All that may go and finds room, @most pages. */
static uint64_t hold(World *w, uint64_t most)
{
    uint64_t done = 0, n, tried = 1;
    unsigned flushes;

    settle(w);
    while (done < most && tried > 0) {
        n = ms_hold_step(w->batch, w->guest->client, most - done, &tried,
                         &flushes);
        g_assert_cmpuint(n, <=, tried);
        g_assert_cmpuint(tried, <=, most - done);
        done += n;
    }
    guest_check(w->ms);
    return done;
}

static void forget_times(World *w)
{
    MsHeldMap *map = &w->guest->region->held;

    ms_lock(&w->guest->region->lock);
    for (uint64_t f = 0; f < map->frames; f++) {
        ms_held_map_forget_times(map, f);
    }
    ms_unlock(&w->guest->region->lock);
}

static char *page_of(World *w, uint64_t page)
{
    return w->guest->ram + page * MEMSCHED_PAGE_SIZE;
}

static void fill_bytes(World *w, uint64_t first, uint64_t count)
{
    for (uint64_t p = first; p < first + count; p++) {
        memset(page_of(w, p), (int)(p % 255) + 1, MEMSCHED_PAGE_SIZE);
    }
}

static void assert_bytes(World *w, uint64_t first, uint64_t count)
{
    for (uint64_t p = first; p < first + count; p++) {
        const char *page = page_of(w, p);

        g_assert_cmpint((uint8_t)page[0], ==, (int)(p % 255) + 1);
        g_assert_cmpmem(page, 4095, page + 1, 4095);
    }
}

/* The first frame loses its huge page: small ones from now on. */
static void make_small(World *w, uint64_t frame)
{
    guest_inflate(w->guest, frame * 512 + 511, 1, false);
}

static uint64_t held_pages(World *w)
{
    uint64_t pages;

    ms_lock(&w->ms->ledger_lock);
    pages = w->ms->ledger.held;
    ms_unlock(&w->ms->ledger_lock);
    return pages;
}

static void test_compressed_pages_come_back_as_they_were(void)
{
    World *w = world_new(8, 0);
    uint64_t reserve = held_pages(w);

    g_assert_cmpuint(reserve, >, 0);
    fill_bytes(w, 0, PAGES(6));
    make_small(w, 0);
    /* first the small ones; then two huge ones as a whole */
    g_assert_cmpuint(hold(w, 511), ==, 511);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_HELD), ==, 511);
    g_assert_cmpuint(hold(w, 100), ==, 0);
    g_assert_cmpuint(hold(w, 10000), ==, 1024);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_RESIDENT), ==, 0);
    /* a page of one byte takes one cell of 32 */
    g_assert_cmpuint(held_pages(w), <=, reserve + 1535 / 32 + 2);
    assert_bytes(w, 0, 511);
    assert_bytes(w, 512, 1024);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_HELD), ==, 0);
    guest_check(w->ms);
    g_assert_cmpuint(held_pages(w), ==, reserve);
    /* what came back rests; neighbours that nobody touched need not */
    g_assert_cmpuint(hold(w, 10000), <, 1535);
    world_free(w);
}

static void test_zeros_become_holes_and_noise_stays(void)
{
    World *w = world_new(8, 0);

    guest_fill(w->guest, 0, 511, 1);
    make_small(w, 0);
    memset(page_of(w, 100), 0, 50 * MEMSCHED_PAGE_SIZE);
    g_assert_cmpuint(hold(w, 10000), ==, 50);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_HELD), ==, 0);
    g_assert_cmpuint(ms_counter(&w->ms->held->refused_pages), >, 0);
    guest_assert(w->guest, 0, 100, 1);
    guest_assert_zero(w->guest, 100, 50);
    guest_assert(w->guest, 150, 511 - 150, 1);
    /* one page of a huge one that finds no room keeps all of it */
    fill_bytes(w, PAGES(4), PAGES(2));
    guest_fill(w->guest, PAGES(4) + 77, 1, 9);
    /* but those that were read as zeros go again */
    g_assert_cmpuint(hold(w, 10000), ==, 50);
    guest_assert(w->guest, PAGES(4) + 77, 1, 9);
    assert_bytes(w, PAGES(4), 77);
    assert_bytes(w, PAGES(4) + 78, PAGES(2) - 78);
    world_free(w);
}

static void test_full_places_take_no_more(void)
{
    World *w = world_new(0, 1);

    guest_fill(w->guest, 0, PAGES(8), 3);
    for (unsigned f = 0; f < 4; f++) {
        make_small(w, f);
    }
    g_assert_cmpuint(hold(w, 100000), ==, PAGES(1));
    g_assert_cmpuint(hold(w, 100000), ==, 0);
    for (unsigned f = 0; f < 4; f++) {
        guest_assert(w->guest, f * 512, 511, 3);
    }
    world_free(w);
}

static void test_swapped_pages_come_back_as_they_were(void)
{
    World *w = world_new(2, 16);

    guest_fill(w->guest, 0, PAGES(4), 3);
    fill_bytes(w, PAGES(4), PAGES(2));
    make_small(w, 0);
    g_assert_cmpuint(hold(w, 10000), ==, 511 + 1024);
    ms_lock(&w->guest->region->lock);
    g_assert_cmpuint(w->guest->region->held.swapped_pages, ==, 511 + 512);
    ms_unlock(&w->guest->region->lock);
    guest_assert(w->guest, 0, 511, 3);
    guest_assert(w->guest, 512, 512, 3);
    assert_bytes(w, PAGES(4), PAGES(2));
    g_assert_cmpuint(ms_counter(&w->ms->held->read_pages), ==, 511 + 512);
    world_free(w);
}

static void give_up(bool noise)
{
    World *w = world_new(8, 16);
    Guest *g = w->guest;

    if (noise) {
        guest_fill(g, 0, PAGES(4), 7);
    } else {
        fill_bytes(w, 0, PAGES(4));
    }
    g_assert_cmpuint(hold(w, 10000), ==, PAGES(4));
    guest_inflate(g, 0, 100, noise);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_BALLOONED), ==, 100);
    guest_report(g, 100, 100);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_REPORTED), ==, 100);
    guest_check(w->ms);
    /* its own content is not what a deflate is about */
    guest_deflate(g, 0, 300);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_HELD), ==, PAGES(4) - 200);
    memsched_reset(g->client, MEMSCHED_RESET_DEVICE);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_HELD), ==, PAGES(4) - 200);
    guest_assert_zero(g, 0, 200);
    if (noise) {
        guest_assert(g, 200, 100, 7);
    } else {
        assert_bytes(w, 200, 100);
    }
    memsched_reset(g->client, MEMSCHED_RESET_SYSTEM);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_HELD), ==, 0);
    guest_check(w->ms);
    guest_assert_zero(g, 400, PAGES(4) - 400);
    world_free(w);
}

static void test_content_that_is_given_up_is_dropped(void)
{
    give_up(false);
    give_up(true);
}

/* ---- errors of the disk ---- */

static int swap_fd(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename("/proc/self/fd", name, NULL);
        g_autofree char *to = g_file_read_link(path, NULL);

        if (to && strstr(to, "memsched-held-") && strstr(to, "/swap")) {
            return atoi(name);
        }
    }
    g_assert_not_reached();
}

typedef struct Lost {
    const char *_Atomic host;
    _Atomic unsigned count;
} Lost;

static void note_error(void *opaque, const MemSchedError *error)
{
    Lost *lost = opaque;

    g_assert_true(error->lost);
    lost->host = error->host;
    lost->count++;
}

static void test_page_that_cannot_be_read_is_lost_and_told_before(void)
{
    World *w = world_new(0, 16);
    uint32_t number;
    Lost lost = { .host = NULL };
    char byte = 0;
    int fd;

    memsched_watch_errors(w->ms, note_error, &lost);
    guest_fill(w->guest, 0, PAGES(2), 5);
    g_assert_cmpuint(hold(w, 10000), ==, PAGES(2));
    number = ms_held_map_get(&w->guest->region->held,
                             w->guest->region->pages.lead + 33).number;
    {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d",
                                                swap_fd());

        fd = open(path, O_RDWR);    /* with the page cache */
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)number * 4096 + 9), ==, 1);
        g_assert_cmpint(fsync(fd), ==, 0);
        close(fd);
    }
    guest_assert(w->guest, 0, 33, 5);
    g_assert_cmpuint(lost.count, ==, 0);
    guest_assert_zero(w->guest, 33, 1);
    g_assert_cmpuint(lost.count, ==, 1);
    g_assert_true(lost.host == page_of(w, 33));
    settle(w);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_LOST), ==, 1);
    /* nobody else is concerned, and the page is of use again */
    guest_assert(w->guest, 34, PAGES(2) - 34, 5);
    guest_fill(w->guest, 33, 1, 6);
    guest_assert(w->guest, 33, 1, 6);
    guest_check(w->ms);
    memsched_watch_errors(w->ms, NULL, NULL);
    world_free(w);
}

static void test_pages_stay_where_the_file_cannot_be_written(void)
{
    World *w = world_new(0, 16);
    uint64_t first;
    int fd = swap_fd(), kept = dup(fd), nothing = open("/dev/null", O_RDONLY);

    guest_fill(w->guest, 0, PAGES(2), 5);
    make_small(w, 0);
    g_assert_cmpint(dup2(nothing, fd), ==, fd);
    g_assert_cmpuint(hold(w, 10000), ==, 0);
    g_assert_cmpuint(pages_in(w, MEMSCHED_PAGE_HELD), ==, 0);
    guest_assert(w->guest, 0, 511, 5);
    /* left alone for a while, then all is as before */
    g_assert_cmpint(dup2(kept, fd), ==, fd);
    g_assert_cmpuint(hold(w, 10000), ==, 0);
    atomic_store(&w->ms->held->swap_rest_ns, 0);
    first = hold(w, 10000);
    g_assert_cmpuint(first, <, 511);
    forget_times(w);
    g_assert_cmpuint(first + hold(w, 10000), ==, 511);
    guest_assert(w->guest, 0, 511, 5);
    close(nothing);
    close(kept);
    world_free(w);
}

/* ---- everybody at once ---- */

#define THREADS 4

typedef struct Toucher {
    World *w;
    unsigned number;
    guint32 seed;
    _Atomic bool *stop;
    uint64_t touches;
} Toucher;

/* What a thread left in it: bytes, a stamp, or zeros. */
static void assert_page(World *w, uint64_t page, uint64_t seed)
{
    if (seed == UINT64_MAX) {
        assert_bytes(w, page, 1);
    } else if (seed) {
        guest_assert(w->guest, page, 1, seed);
    } else {
        guest_assert_zero(w->guest, page, 1);
    }
}

/* Every THREADSth page is its own; what it wrote there is still there. */
static gpointer touch_some(gpointer opaque)
{
    Toucher *t = opaque;
    g_autoptr(GRand) rand = g_rand_new_with_seed(t->seed);
    uint64_t pages = PAGES(12) / THREADS;
    g_autofree uint64_t *seed = g_new0(uint64_t, pages);

    while (!atomic_load(t->stop)) {
        uint64_t i = g_rand_int_range(rand, 0, pages);
        uint64_t p = i * THREADS + t->number;

        assert_page(t->w, p, seed[i]);
        switch (g_rand_int_range(rand, 0, 6)) {
        case 0:
            seed[i] = g_rand_int(rand) | 1;
            guest_fill(t->w->guest, p, 1, seed[i]);
            break;
        case 1:
            seed[i] = UINT64_MAX;
            fill_bytes(t->w, p, 1);
            break;
        case 2:
            seed[i] = 0;
            memset(page_of(t->w, p), 0, MEMSCHED_PAGE_SIZE);
            break;
        }
        t->touches++;
    }
    for (uint64_t i = 0; i < pages; i++) {
        assert_page(t->w, i * THREADS + t->number, seed[i]);
    }
    return NULL;
}

static void test_pages_that_are_in_use_lose_nothing(void)
{
    guint32 seed = g_test_rand_int();
    World *w = world_new(4, 16);
    gint64 end = g_get_monotonic_time() +
                 (g_getenv("MEMSCHED_TEST_LONG") ? 120 : 5) * G_USEC_PER_SEC;
    uint64_t held = 0, touches = 0, n, tried;
    Toucher toucher[THREADS];
    GThread *thread[THREADS];
    _Atomic bool stop = false;
    unsigned flushes;

    g_test_message("seed %u", seed);
    for (unsigned i = 0; i < THREADS; i++) {
        toucher[i] = (Toucher) {
            .w = w, .number = i, .seed = seed + i, .stop = &stop,
        };
        thread[i] = g_thread_new("toucher", touch_some, &toucher[i]);
    }
    while (g_get_monotonic_time() < end) {
        /* No page rests: more going to and fro. */
        forget_times(w);
        n = ms_hold_step(w->batch, w->guest->client, 10000, &tried,
                         &flushes);
        held += n;
        if (n == 0) {
            g_thread_yield();
        }
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(thread[i]);
        touches += toucher[i].touches;
    }
    g_test_message("%" G_GUINT64_FORMAT " pages held, %" G_GUINT64_FORMAT
                   " touches", held, touches);
    g_assert_cmpuint(held, >, 0);
    guest_check(w->ms);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    g_test_add_func("/held/compressed-pages-come-back-as-they-were",
                    test_compressed_pages_come_back_as_they_were);
    g_test_add_func("/held/zeros-become-holes-and-noise-stays",
                    test_zeros_become_holes_and_noise_stays);
    g_test_add_func("/held/full-places-take-no-more",
                    test_full_places_take_no_more);
    g_test_add_func("/held/swapped-pages-come-back-as-they-were",
                    test_swapped_pages_come_back_as_they_were);
    g_test_add_func("/held/content-that-is-given-up-is-dropped",
                    test_content_that_is_given_up_is_dropped);
    g_test_add_func("/held/page-that-cannot-be-read-is-lost",
                    test_page_that_cannot_be_read_is_lost_and_told_before);
    g_test_add_func("/held/pages-stay-where-the-file-cannot-be-written",
                    test_pages_stay_where_the_file_cannot_be_written);
    g_test_add_func("/held/pages-that-are-in-use-lose-nothing",
                    test_pages_that_are_in_use_lose_nothing);
    return g_test_run();
}
