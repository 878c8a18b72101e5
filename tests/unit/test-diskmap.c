/*
 * Places of pages on disks: random lives, against a table of what is where
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "diskmap.h"

#define FRAMES 3u
#define PAGES  (FRAMES * MS_PAGESET_PAGES)
#define DISKS  3u

/* The model: of each page, where it is; disk 0: nowhere. */
typedef struct Life {
    MsDiskmap map;
    MsDiskPlace page[PAGES];
    uint32_t changes[FRAMES];
} Life;

static void assert_right(Life *life)
{
    const char *wrong = ms_diskmap_check(&life->map);
    uint64_t located = 0, sure = 0;

    g_assert_cmpstr(wrong, ==, NULL);
    for (unsigned i = 0; i < PAGES; i++) {
        const MsDiskPlace *model = &life->page[i];
        MsDiskPlace place;
        bool there = ms_diskmap_get(&life->map, i, &place);

        g_assert_cmpint(there, ==, model->disk != 0);
        if (there) {
            g_assert_cmpuint(place.disk, ==, model->disk);
            g_assert_cmpuint(place.offset_bytes, ==, model->offset_bytes);
            g_assert_cmpuint(place.sum, ==, model->sum);
            g_assert_cmpint(place.sure, ==, model->sure);
            sure += place.sure;
        }
        located += there;
    }
    g_assert_cmpuint(life->map.located, ==, located);
    g_assert_cmpuint(life->map.sure, ==, sure);
    for (unsigned f = 0; f < FRAMES; f++) {
        MsPageSet all, only_sure;

        ms_diskmap_select(&life->map, f, false, &all);
        ms_diskmap_select(&life->map, f, true, &only_sure);
        for (unsigned p = 0; p < MS_PAGESET_PAGES; p++) {
            const MsDiskPlace *model = &life->page[f * MS_PAGESET_PAGES + p];

            g_assert_cmpint(ms_pageset_has(&all, p), ==, model->disk != 0);
            g_assert_cmpint(ms_pageset_has(&only_sure, p), ==,
                            model->disk && model->sure);
        }
    }
}

static void random_set(MsPageSet *set)
{
    ms_pageset_clear(set);
    for (int i = g_test_rand_int_range(1, 4); i > 0; i--) {
        unsigned first = g_test_rand_int_range(0, MS_PAGESET_PAGES);

        ms_pageset_add(set, first, g_test_rand_int_range(
                           1, MS_PAGESET_PAGES - first + 1));
    }
}

static void note(Life *life)
{
    unsigned page = g_test_rand_int_range(0, PAGES);
    MsDiskPlace place = {
        .disk = g_test_rand_int_range(1, DISKS + 1),
        .offset_bytes = 512 * (uint64_t)g_test_rand_int_range(0, 8 * PAGES),
        .sum = g_test_rand_int(),
    };

    g_assert_cmpint(ms_diskmap_note(&life->map, page, &place), ==, 0);
    life->page[page] = place;
}

static void change_pages(Life *life, int what)
{
    unsigned frame = g_test_rand_int_range(0, FRAMES);
    uint32_t changes = life->map.frame[frame].changes;
    unsigned expected = 0, got;
    MsPageSet set;

    random_set(&set);
    for (unsigned p = 0; p < MS_PAGESET_PAGES; p++) {
        MsDiskPlace *model = &life->page[frame * MS_PAGESET_PAGES + p];

        if (!ms_pageset_has(&set, p) || model->disk == 0) {
            continue;
        }
        expected += what == 2 || model->sure == (what == 1);
        if (what == 2) {
            model->disk = 0;
        } else {
            model->sure = what == 0;
        }
    }
    got = what == 0 ? ms_diskmap_sure(&life->map, frame, &set)
        : what == 1 ? ms_diskmap_unsure(&life->map, frame, &set)
                    : ms_diskmap_forget(&life->map, frame, &set);
    g_assert_cmpuint(got, ==, expected);
    /* Whoever lifts a protection is seen, even where nothing was sure. */
    g_assert_true(what == 0 || life->map.frame[frame].changes != changes);
}

static void change_disk(Life *life)
{
    uint32_t disk = g_test_rand_int_range(1, DISKS + 1);
    uint64_t offset = 512 * (uint64_t)g_test_rand_int_range(0, 8 * PAGES);
    uint64_t length = g_test_rand_int_range(0, 40) == 0
                      ? UINT64_MAX : 512 * (uint64_t)g_test_rand_int_range(
                                         1, 64);
    uint64_t last = offset + length - 1, expected = 0;

    last = last < offset ? UINT64_MAX : last;
    for (unsigned i = 0; i < PAGES; i++) {
        MsDiskPlace *p = &life->page[i];

        if (p->disk == disk && p->offset_bytes <= last &&
            p->offset_bytes + 4095 >= offset) {
            p->disk = 0;
            expected++;
        }
    }
    g_assert_cmpuint(ms_diskmap_forget_disk(&life->map, disk, offset, length),
                     ==, expected);
}

static void test_random(void)
{
    Life *life = g_new0(Life, 1);

    g_assert_cmpint(ms_diskmap_init(&life->map, FRAMES), ==, 0);
    for (unsigned i = 0; i < 6000; i++) {
        int what = g_test_rand_int_range(0, 40);

        if (what < 3) {
            change_pages(life, what);
        } else if (what < 6) {
            change_disk(life);
        } else {
            note(life);
        }
        if (i % 50 == 0) {
            assert_right(life);
        }
    }
    assert_right(life);
    ms_diskmap_destroy(&life->map);
    g_free(life);
}

static void test_write_beside_a_page_leaves_it(void)
{
    MsDiskPlace place = { .disk = 1, .offset_bytes = 3 * 4096 + 512 };
    MsDiskmap map;

    g_assert_cmpint(ms_diskmap_init(&map, 1), ==, 0);
    for (unsigned i = 0; i < 300; i++) {        /* no walk over all */
        MsDiskPlace other = { .disk = 2, .offset_bytes = i * 4096 };

        g_assert_cmpint(ms_diskmap_note(&map, i, &other), ==, 0);
    }
    g_assert_cmpint(ms_diskmap_note(&map, 400, &place), ==, 0);
    g_assert_cmpuint(ms_diskmap_forget_disk(&map, 1, 3 * 4096, 512), ==, 0);
    g_assert_cmpuint(ms_diskmap_forget_disk(&map, 1, 4 * 4096 + 512, 512), ==,
                     0);
    g_assert_cmpuint(ms_diskmap_forget_disk(&map, 3, 3 * 4096, 8192), ==, 0);
    /* The last sector of the page, which begins a unit earlier. */
    g_assert_cmpuint(ms_diskmap_forget_disk(&map, 1, 4 * 4096, 512), ==, 1);
    g_assert_cmpuint(map.located, ==, 300);
    g_assert_cmpuint(ms_diskmap_forget_disk(&map, 2, 0, 0), ==, 0);
    ms_diskmap_destroy(&map);
}

static void test_arguments(void)
{
    MsDiskPlace place = { .disk = 1 };
    MsDiskmap map;

    g_assert_cmpint(ms_diskmap_init(&map, 0), ==, -EINVAL);
    g_assert_cmpint(ms_diskmap_init(&map, UINT64_MAX), ==, -EINVAL);
    g_assert_cmpint(ms_diskmap_init(&map, 1), ==, 0);
    g_assert_cmpint(ms_diskmap_note(&map, MS_PAGESET_PAGES, &place), ==,
                    -ERANGE);
    g_assert_false(ms_diskmap_get(&map, UINT64_MAX, &place));
    ms_diskmap_destroy(&map);
    ms_diskmap_destroy(&map);
}

/* 1.2 % of the pages that are on a disk; frames give theirs back. */
static void test_memory_is_bounded(void)
{
    const unsigned frames = 128;
    uint64_t pages = frames * (uint64_t)MS_PAGESET_PAGES;
    MsDiskmap map;
    MsPageSet all;

    ms_pageset_fill(&all);
    g_assert_cmpint(ms_diskmap_init(&map, frames), ==, 0);
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < pages; i++) {
            MsDiskPlace place = { .disk = 1, .offset_bytes = i * 4096 };

            g_assert_cmpint(ms_diskmap_note(&map, i, &place), ==, 0);
        }
        g_assert_cmpuint(map.located, ==, pages);
        g_assert_cmpuint(ms_diskmap_bytes(&map) * 1000, <=,
                         pages * 4096 * 12);
    }
    for (unsigned f = 0; f < frames; f++) {
        g_assert_cmpuint(ms_diskmap_forget(&map, f, &all), ==,
                         MS_PAGESET_PAGES);
        g_assert_null(map.frame[f].entry);
    }
    g_assert_cmpstr(ms_diskmap_check(&map), ==, NULL);
    ms_diskmap_destroy(&map);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/diskmap/random-lives-as-the-model", test_random);
    g_test_add_func("/diskmap/write-beside-a-page-leaves-it",
                    test_write_beside_a_page_leaves_it);
    g_test_add_func("/diskmap/bad-arguments-are-refused", test_arguments);
    g_test_add_func("/diskmap/memory-is-bounded", test_memory_is_bounded);
    return g_test_run();
}
