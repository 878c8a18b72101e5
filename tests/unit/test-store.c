/*
 * The store of compressed pages: what is put in comes out, and pages that are
 * not needed go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

typedef struct World {
    MsStore *store;
    GPtrArray *memory;          /* all pages that it ever had */
    unsigned pages;             /* that it has */
} World;

static void add_pages(World *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        MsPoolRun run = { .pages = 1 };

        run.address = aligned_alloc(4096, 4096);
        g_assert_nonnull(run.address);
        memset(run.address, 0xa5, 4096);
        g_ptr_array_add(w->memory, run.address);
        ms_store_add_page(w->store, &run);
    }
    w->pages += count;
}

static World *world_new(unsigned pages)
{
    World *w = g_new0(World, 1);

    w->store = ms_store_new();
    w->memory = g_ptr_array_new_with_free_func(free);
    add_pages(w, pages);
    return w;
}

static void check(World *w)
{
    g_assert_cmpstr(ms_store_check(w->store), ==, NULL);
}

static unsigned take_pages(World *w, uint64_t keep_cells)
{
    unsigned n = 0;
    MsPoolRun run;

    while (ms_store_take_page(w->store, keep_cells, &run)) {
        /* It is ours: nothing of the store may stand there any more. */
        memset(run.address, 0x5a, 4096);
        n++;
    }
    check(w);
    w->pages -= n;
    return n;
}

static void world_free(World *w)
{
    take_pages(w, 0);
    g_assert_cmpuint(w->pages, ==, 0);
    ms_store_free(w->store);
    g_ptr_array_unref(w->memory);
    g_free(w);
}

/* Bytes of object number @seed, not periodic in a cell. */
static void make(uint32_t seed, unsigned bytes, uint8_t *ret_data)
{
    uint32_t x = seed * 2654435761u + 1;

    for (unsigned i = 0; i < bytes; i++) {
        x = x * 1664525u + 1013904223u;
        ret_data[i] = (uint8_t)(x >> 24);
    }
}

static uint32_t put(World *w, uint32_t seed, unsigned bytes)
{
    uint8_t data[MS_STORE_OBJECT_BYTES];
    uint32_t object;

    make(seed, bytes, data);
    g_assert_cmpint(ms_store_put(w->store, data, bytes, seed * 7ull, &object),
                    ==, 0);
    return object;
}

static void is(World *w, uint32_t object, uint32_t seed, unsigned bytes)
{
    uint8_t data[MS_STORE_OBJECT_BYTES], buf[MS_STORE_OBJECT_BYTES];
    uint64_t sum;

    make(seed, bytes, data);
    g_assert_cmpuint(ms_store_get(w->store, object, buf, &sum), ==, bytes);
    g_assert_cmpmem(buf, bytes, data, bytes);
    g_assert_cmpuint(sum, ==, seed * 7ull);
}

static void test_objects_of_every_length_come_out_as_they_went_in(void)
{
    World *w = world_new(40);
    const unsigned length[] = { 1, 119, 120, 121, 240, 241, 4095, 4096 };
    uint32_t object[G_N_ELEMENTS(length)];
    MsStoreCounts counts;
    uint64_t bytes = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(length); i++) {
        object[i] = put(w, i, length[i]);
        bytes += length[i];
        check(w);
    }
    ms_store_counts(w->store, &counts);
    g_assert_cmpuint(counts.objects, ==, G_N_ELEMENTS(length));
    g_assert_cmpuint(counts.bytes, ==, bytes);
    g_assert_cmpuint(counts.cells, ==, 40 * 32);
    g_assert_cmpuint(counts.cells - counts.free_cells, ==,
                     1 + 1 + 1 + 2 + 2 + 3 + 35 + 35);
    for (unsigned i = 0; i < G_N_ELEMENTS(length); i++) {
        is(w, object[i], i, length[i]);
        g_assert_cmpuint(ms_store_drop(w->store, object[i]), ==, length[i]);
        check(w);
    }
    world_free(w);
}

static void test_full_store_refuses_and_changes_nothing(void)
{
    World *w = world_new(2);
    uint8_t data[MS_STORE_OBJECT_BYTES] = { 1 };
    uint32_t a = put(w, 1, 4096), b, c = 77;

    /* 35 of 64 cells are in use */
    g_assert_cmpint(ms_store_put(w->store, data, 30 * 120, 0, &c), ==,
                    -ENOSPC);
    g_assert_cmpuint(c, ==, 77);
    b = put(w, 2, 29 * 120);
    g_assert_cmpint(ms_store_put(w->store, data, 1, 0, &c), ==, -ENOSPC);
    check(w);
    is(w, a, 1, 4096);
    is(w, b, 2, 29 * 120);
    ms_store_drop(w->store, a);
    ms_store_drop(w->store, b);
    world_free(w);
}

static void test_partly_used_pages_are_emptied_and_given_back(void)
{
    World *w = world_new(64);
    uint32_t object[128];
    MsStoreCounts counts;

    /* 16 cells each: two fill a page */
    for (unsigned i = 0; i < 128; i++) {
        object[i] = put(w, i, 16 * 120);
    }
    g_assert_cmpuint(take_pages(w, 0), ==, 0);
    for (unsigned i = 0; i < 128; i += 2) {
        ms_store_drop(w->store, object[i]);
    }
    g_assert_cmpuint(take_pages(w, 10 * 32), ==, 22);
    g_assert_cmpuint(take_pages(w, 0), ==, 10);
    ms_store_counts(w->store, &counts);
    g_assert_cmpuint(counts.free_cells, ==, 0);
    g_assert_cmpuint(counts.pages, ==, 32);
    g_assert_cmpuint(counts.moved_cells, >, 0);
    for (unsigned i = 1; i < 128; i += 2) {
        is(w, object[i], i, 16 * 120);
        ms_store_drop(w->store, object[i]);
    }
    world_free(w);
}

static void test_random_use_keeps_every_object(void)
{
    guint32 seed = g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    World *w = world_new(20);
    struct { uint32_t object; unsigned bytes; uint32_t seed; } have[600];
    unsigned count = 0;

    g_test_message("seed %u", seed);
    for (uint32_t n = 0; n < 20000; n++) {
        unsigned what = g_rand_int_range(rand, 0, 100);

        if (what < 50 && count < G_N_ELEMENTS(have)) {
            unsigned bytes = g_rand_int_range(rand, 1, what < 5 ? 4097 : 1500);
            uint8_t data[MS_STORE_OBJECT_BYTES];

            make(n, bytes, data);
            if (ms_store_put(w->store, data, bytes, n * 7ull,
                             &have[count].object) == 0) {
                have[count].bytes = bytes;
                have[count++].seed = n;
            } else {
                add_pages(w, 1);
            }
        } else if (what < 97 && count > 0) {
            unsigned i = g_rand_int_range(rand, 0, count);

            is(w, have[i].object, have[i].seed, have[i].bytes);
            ms_store_drop(w->store, have[i].object);
            have[i] = have[--count];
        } else {
            take_pages(w, g_rand_int_range(rand, 0, 200));
        }
        if (n % 100 == 0) {
            check(w);
        }
    }
    while (count-- > 0) {
        is(w, have[count].object, have[count].seed, have[count].bytes);
        ms_store_drop(w->store, have[count].object);
    }
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store/objects-of-every-length-come-out-as-they-went-in",
                    test_objects_of_every_length_come_out_as_they_went_in);
    g_test_add_func("/store/full-store-refuses-and-changes-nothing",
                    test_full_store_refuses_and_changes_nothing);
    g_test_add_func("/store/partly-used-pages-are-emptied-and-given-back",
                    test_partly_used_pages_are_emptied_and_given_back);
    g_test_add_func("/store/random-use-keeps-every-object",
                    test_random_use_keeps_every_object);
    return g_test_run();
}
