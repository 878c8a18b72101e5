/*
 * Records of held pages, and of when pages came back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "held-map.h"

#define FRAMES 8u

static void test_records_are_kept_and_forgotten(void)
{
    MsHeldMap map;

    ms_held_map_init(&map, FRAMES);
    g_assert_false(ms_held_map_has(&map, 5));
    ms_held_map_set(&map, 5, (MsHeldRef) { .number = 0 });
    ms_held_map_set(&map, 6, (MsHeldRef) { .number = 0x7ffffffd });
    ms_held_map_set(&map, 7 * 512 + 511,
                    (MsHeldRef) { .number = 3, .swapped = true });
    g_assert_true(ms_held_map_has(&map, 5));
    g_assert_false(ms_held_map_has(&map, 4));
    g_assert_false(ms_held_map_has(&map, 3 * 512));
    g_assert_cmpuint(ms_held_map_get(&map, 5).number, ==, 0);
    g_assert_false(ms_held_map_get(&map, 5).swapped);
    g_assert_cmpuint(ms_held_map_get(&map, 6).number, ==, 0x7ffffffd);
    g_assert_cmpuint(ms_held_map_get(&map, 7 * 512 + 511).number, ==, 3);
    g_assert_true(ms_held_map_get(&map, 7 * 512 + 511).swapped);
    g_assert_cmpuint(map.pages, ==, 3);
    g_assert_cmpuint(map.swapped_pages, ==, 1);
    ms_held_map_clear(&map, 7 * 512 + 511);
    ms_held_map_clear(&map, 5);
    g_assert_false(ms_held_map_has(&map, 5));
    g_assert_cmpuint(map.pages, ==, 1);
    g_assert_cmpuint(map.swapped_pages, ==, 0);
    ms_held_map_destroy(&map);
}

static void test_what_came_back_rests_for_a_while(void)
{
    const uint64_t starts[] = { 0, 1000, 65534, 65535, 65536, 1000000 };
    MsHeldMap map;
    MsPageSet set;

    for (unsigned i = 0; i < G_N_ELEMENTS(starts); i++) {
        uint64_t now = starts[i];

        ms_held_map_init(&map, FRAMES);
        ms_pageset_fill(&set);
        ms_held_map_drop_recent(&map, 2, now, 30, &set);
        g_assert_cmpuint(ms_pageset_count(&set), ==, 512);
        ms_held_map_came_back(&map, 2 * 512 + 9, now);
        ms_held_map_drop_recent(&map, 2, now + 28, 30, &set);
        g_assert_cmpuint(ms_pageset_count(&set), ==, 511);
        g_assert_false(ms_pageset_has(&set, 9));
        /* another frame's are not concerned */
        ms_pageset_fill(&set);
        ms_held_map_drop_recent(&map, 3, now, 30, &set);
        g_assert_cmpuint(ms_pageset_count(&set), ==, 512);
        ms_held_map_drop_recent(&map, 2, now + 31, 30, &set);
        g_assert_cmpuint(ms_pageset_count(&set), ==, 512);
        ms_held_map_destroy(&map);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/held-map/records-are-kept-and-forgotten",
                    test_records_are_kept_and_forgotten);
    g_test_add_func("/held-map/what-came-back-rests-for-a-while",
                    test_what_came_back_rests_for_a_while);
    return g_test_run();
}
