/*
 * The condition page: no reader sees half a write
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "condpage.h"

#define READERS 3
#define READS   200000

typedef struct Place {
    char *dir, *path;
} Place;

static Place place_new(void)
{
    Place p = { .dir = g_dir_make_tmp("condpage-XXXXXX", NULL) };

    g_assert_nonnull(p.dir);
    p.path = g_build_filename(p.dir, BX_CONDPAGE_NAME, NULL);
    return p;
}

static void place_free(Place p)
{
    g_unlink(p.path);
    g_rmdir(p.dir);
    g_free(p.path);
    g_free(p.dir);
}

/* Every word of it follows from @n. */
static BxFigures numbered(uint64_t n)
{
    return (BxFigures) {
        .generation = n, .level = n % 4, .shares = n & 0xffff, .ram = n,
        .min = n, .max = n, .reservable = n, .ballooned_reported = n,
    };
}

static void test_what_was_written_is_read(void)
{
    Place p = place_new();
    const BxCondPage *reader;
    BxFigures figures;
    BxCondition condition;
    BxCondPage *page;
    uint64_t inode;

    g_assert_cmpint(bx_condpage_open(p.path, &reader, &inode), ==, -ENODATA);
    g_assert_cmpint(bx_condpage_create(p.path, &page), ==, 0);
    g_assert_cmpint(bx_condpage_open(p.path, &reader, &inode), ==, 0);
    g_assert_cmpint(bx_condpage_read(reader, &figures), ==, -ENODATA);
    figures = numbered(5);
    figures.gathered_ns = 7000000;
    bx_condpage_write(page, &figures);
    g_assert_cmpint(bx_condpage_read(reader, &figures), ==, 0);
    bx_figures_to_condition(&figures, 12000000, &condition);
    g_assert_cmpuint(condition.generation, ==, 5);
    g_assert_cmpuint(condition.ballooned_reported, ==, 5);
    g_assert_cmpuint(condition.age_ms, ==, 5);
    bx_condpage_unmap(page);
    bx_condpage_unmap(reader);
    place_free(p);
}

typedef struct Race {
    const BxCondPage *page;
    atomic_bool done;
    atomic_uint torn, backward;
} Race;

static gpointer read_all_the_time(gpointer opaque)
{
    Race *race = opaque;
    uint64_t last = 0;

    for (int i = 0; i < READS; i++) {
        BxFigures f;

        g_assert_cmpint(bx_condpage_read(race->page, &f), ==, 0);
        if (f.ram != f.generation || f.ballooned_reported != f.generation ||
            f.max != f.generation || f.level != f.generation % 4 ||
            f.shares != (f.generation & 0xffff)) {
            atomic_fetch_add(&race->torn, 1);
        }
        if (f.generation < last) {
            atomic_fetch_add(&race->backward, 1);
        }
        last = f.generation;
    }
    return NULL;
}

static gpointer write_all_the_time(gpointer opaque)
{
    Race *race = opaque;
    uint64_t n = 1;

    while (!atomic_load(&race->done)) {
        BxFigures figures = numbered(++n);

        bx_condpage_write((BxCondPage *)race->page, &figures);
    }
    return NULL;
}

static void test_readers_never_see_half_a_write(void)
{
    Place p = place_new();
    Race race = { .page = NULL };
    BxFigures first = numbered(1);
    GThread *readers[READERS], *writer;
    BxCondPage *page;

    g_assert_cmpint(bx_condpage_create(p.path, &page), ==, 0);
    bx_condpage_write(page, &first);
    race.page = page;
    writer = g_thread_new("writer", write_all_the_time, &race);
    for (int i = 0; i < READERS; i++) {
        readers[i] = g_thread_new("reader", read_all_the_time, &race);
    }
    for (int i = 0; i < READERS; i++) {
        g_thread_join(readers[i]);
    }
    atomic_store(&race.done, true);
    g_thread_join(writer);
    g_assert_cmpuint(atomic_load(&race.torn), ==, 0);
    g_assert_cmpuint(atomic_load(&race.backward), ==, 0);
    bx_condpage_unmap(page);
    place_free(p);
}

/* The number is the third word; the copies begin behind it. */
static void spoil(BxCondPage *page, unsigned copy)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)page;
    size_t length = sizeof(BxFigures) / sizeof(uint64_t);

    for (size_t i = 0; i < length; i += 2) {
        atomic_store(&words[3 + copy * length + i], 0x5555);
    }
}

/* In the middle of each of the two copies. */
static void test_killed_writer_is_not_noticed_and_its_successor_repairs(void)
{
    for (unsigned copy = 0; copy < 2; copy++) {
        Place p = place_new();
        BxFigures figures = numbered(3);
        BxCondPage *page;

        g_assert_cmpint(bx_condpage_create(p.path, &page), ==, 0);
        bx_condpage_write(page, &figures);
        if (copy == 0) {
            atomic_fetch_add((_Atomic uint64_t *)page + 2, 1);
        }
        spoil(page, copy);
        g_assert_cmpint(bx_condpage_read(page, &figures), ==, 0);
        g_assert_cmpuint(figures.generation, ==, 3);
        g_assert_cmpuint(figures.ballooned_reported, ==, 3);
        bx_condpage_unmap(page);

        g_assert_cmpint(bx_condpage_create(p.path, &page), ==, 0);
        /* Readers are sent to the other copy while the first is written. */
        atomic_fetch_add((_Atomic uint64_t *)page + 2, 1);
        g_assert_cmpint(bx_condpage_read(page, &figures), ==, 0);
        g_assert_cmpuint(figures.generation, ==, 3);
        g_assert_cmpuint(figures.ram, ==, 3);
        bx_condpage_unmap(page);
        place_free(p);
    }
}

static void test_file_that_is_not_ours_is_refused(void)
{
    Place p = place_new();
    g_autofree char *target = g_build_filename(p.dir, "target", NULL);
    const BxCondPage *reader;
    BxCondPage *page;
    uint64_t inode;

    g_assert_true(g_file_set_contents(target, "short", -1, NULL));
    g_assert_cmpint(symlink(target, p.path), ==, 0);
    g_assert_cmpint(bx_condpage_create(p.path, &page), ==, -ELOOP);
    g_unlink(p.path);
    g_assert_cmpint(link(target, p.path), ==, 0);
    g_assert_cmpint(bx_condpage_create(p.path, &page), ==, -EPERM);
    /* Too short to be mapped by a reader. */
    g_assert_cmpint(bx_condpage_open(p.path, &reader, &inode), ==, -ENODATA);
    g_unlink(target);
    place_free(p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/what-was-written-is-read",
                    test_what_was_written_is_read);
    g_test_add_func("/readers-never-see-half-a-write",
                    test_readers_never_see_half_a_write);
    g_test_add_func(
        "/killed-writer-is-not-noticed-and-its-successor-repairs",
        test_killed_writer_is_not_noticed_and_its_successor_repairs);
    g_test_add_func("/file-that-is-not-ours-is-refused",
                    test_file_that_is_not_ours_is_refused);
    return g_test_run();
}
