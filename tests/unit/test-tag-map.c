/*
 * Records of tagged pages: compact, and always the right ones
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "memsched/types.h"
#include "tag-map.h"

#define FRAMES 16u
#define PAGES  (FRAMES * MS_PAGESET_PAGES)

static void set(MsTagMap *map, uint64_t page, unsigned epoch, uint32_t seq)
{
    ms_tag_map_set(map, page, (MsTagRef) { .sequence = seq, .epoch = epoch });
}

static void check(const MsTagMap *map, uint64_t page, unsigned epoch,
                  uint32_t seq)
{
    MsTagRef ref = ms_tag_map_get(map, page);

    g_assert_cmpuint(ref.epoch, ==, epoch);
    g_assert_cmpuint(ref.sequence, ==, seq);
}

static void test_whole_frame_is_one_record(void)
{
    MsTagMap map;

    ms_tag_map_init(&map, FRAMES);
    g_assert_cmpuint(ms_tag_map_bytes(&map), ==, 0);
    g_assert_cmpuint(ms_tag_map_frame(&map, 3), ==, 0);
    for (unsigned i = 0; i < 512; i++) {
        set(&map, 3 * 512 + i, 5, 1000 + i);
    }
    g_assert_cmpuint(map.dense_frames, ==, 0);
    g_assert_cmpuint(ms_tag_map_bytes(&map), ==,
                     FRAMES * sizeof(MsTagFrame));
    g_assert_cmpuint(ms_tag_map_frame(&map, 3), ==, 512);
    /* with holes it stays one, also where numbers begin in the middle */
    ms_tag_map_clear(&map, 3 * 512 + 7);
    check(&map, 3 * 512 + 8, 5, 1008);
    set(&map, 3 * 512 + 7, 5, 1007);
    set(&map, 4 * 512 + 100, 9, 3);
    set(&map, 4 * 512 + 101, 9, 4);
    g_assert_cmpuint(map.dense_frames, ==, 0);
    check(&map, 4 * 512 + 101, 9, 4);
    ms_tag_map_destroy(&map);
}

static void test_what_does_not_fit_makes_a_table_until_the_last_goes(void)
{
    MsTagMap map;

    ms_tag_map_init(&map, FRAMES);
    set(&map, 10, 1, 500);
    set(&map, 11, 1, 501);
    set(&map, 12, 2, 502);
    set(&map, 13, 1, 7);
    g_assert_cmpuint(map.dense_frames, ==, 1);
    check(&map, 10, 1, 500);
    check(&map, 11, 1, 501);
    check(&map, 12, 2, 502);
    check(&map, 13, 1, 7);
    for (unsigned p = 10; p < 14; p++) {
        ms_tag_map_clear(&map, p);
    }
    g_assert_cmpuint(map.dense_frames, ==, 0);
    g_assert_cmpuint(map.pages, ==, 0);
    ms_tag_map_destroy(&map);
}

/* The worst layout there is stays below the mark, states of pages included. */
static void test_worst_case_is_below_two_thousandths_of_ram(void)
{
    MsTagMap map;
    uint64_t ram = (uint64_t)PAGES * MEMSCHED_PAGE_SIZE;
    uint64_t state = PAGES + FRAMES * 8, sequences = PAGES;

    ms_tag_map_init(&map, FRAMES);
    for (unsigned p = 0; p < PAGES; p++) {
        set(&map, p, p % 100, p * 2654435761u);
    }
    g_assert_cmpuint(map.dense_frames, ==, FRAMES);
    g_assert_cmpuint((ms_tag_map_bytes(&map) + state + sequences) * 1000, <=,
                     ram * 2);
    ms_tag_map_destroy(&map);
}

static void test_random_records_equal_a_model(void)
{
    guint32 seed = (guint32)g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    g_autofree MsTagRef *model = g_new0(MsTagRef, PAGES);
    g_autofree bool *has = g_new0(bool, PAGES);
    uint64_t count = 0;
    MsTagMap map;

    g_test_message("seed %u", seed);
    ms_tag_map_init(&map, FRAMES);
    for (unsigned step = 0; step < 200000; step++) {
        unsigned p = g_rand_int_range(rand, 0, PAGES);
        bool regular = g_rand_int_range(rand, 0, 4) > 0;

        if (has[p]) {
            g_assert_cmpuint(ms_tag_map_get(&map, p).epoch, ==,
                             model[p].epoch);
            g_assert_cmpuint(ms_tag_map_get(&map, p).sequence, ==,
                             model[p].sequence);
            ms_tag_map_clear(&map, p);
            has[p] = false;
            count--;
        } else {
            model[p].epoch = regular ? p / 512 : g_rand_int(rand) % 9;
            model[p].sequence = regular ? p : g_rand_int(rand);
            ms_tag_map_set(&map, p, model[p]);
            has[p] = true;
            count++;
        }
        g_assert_cmpuint(map.pages, ==, count);
    }
    for (unsigned p = 0; p < PAGES; p++) {
        if (has[p]) {
            check(&map, p, model[p].epoch, model[p].sequence);
        }
    }
    ms_tag_map_destroy(&map);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tag-map/whole", test_whole_frame_is_one_record);
    g_test_add_func("/tag-map/table",
                    test_what_does_not_fit_makes_a_table_until_the_last_goes);
    g_test_add_func("/tag-map/bytes",
                    test_worst_case_is_below_two_thousandths_of_ram);
    g_test_add_func("/tag-map/random", test_random_records_equal_a_model);
    return g_test_run();
}
