/*
 * The reservoir on real memory: tags, huge pages, limits, stock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gather.h"
#include "reservoir.h"

#define MIB (UINT64_C(1) << 20)
#define NONE UINT64_MAX

static BxReservoir *new_reservoir(const BxSys *sys, bool huge)
{
    BxReservoir *r;

    g_assert_cmpint(bx_reservoir_new(sys, huge, &r), ==, 0);
    return r;
}

static void begin(BxReservoir *r, uint64_t epoch, uint32_t granule)
{
    BxEpochId id = { .app = 3, .epoch = epoch, .granule_bytes = granule };

    memcpy(id.key, gather_key, sizeof(id.key));
    g_assert_cmpint(bx_reservoir_begin(r, &id), ==, 0);
}

/* Everything that is asked for, in as many steps as it takes. */
static void fill(BxReservoir *r, uint64_t epoch, uint64_t bytes)
{
    while (bytes) {
        BxPages pages;

        g_assert_cmpint(bx_reservoir_set_aside(r, epoch, bytes, &pages), ==,
                        0);
        bytes -= pages.count * VBX_PAGE_BYTES;
    }
}

static const char *page_at(BxReservoir *r, uint64_t epoch, uint64_t seq)
{
    const void *address;
    uint64_t count;

    g_assert_cmpint(bx_reservoir_find(r, epoch, seq, &address, &count), ==, 0);
    return address;
}

static void check_tags(BxReservoir *r, uint64_t epoch, uint64_t first,
                       uint64_t count)
{
    for (uint64_t seq = first; seq < first + count; seq++) {
        gather_check_page(page_at(r, epoch, seq), epoch, seq);
    }
}

static uint64_t held(BxReservoir *r)
{
    BxReservoirInfo info;

    bx_reservoir_info(r, &info);
    return info.held_bytes;
}

/* The figure of the mapping that holds @address, in bytes; -1: no such line. */
static int64_t smaps(const void *address, const char *line_name)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    bool here = false;

    g_assert_true(g_file_get_contents("/proc/self/smaps", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        unsigned long from, to;

        if (sscanf(lines[i], "%lx-%lx ", &from, &to) == 2) {
            here = from <= (uintptr_t)address && (uintptr_t)address < to;
        } else if (here && g_str_has_prefix(lines[i], line_name)) {
            return strtoll(lines[i] + strlen(line_name) + 1, NULL, 10) * 1024;
        }
    }
    return -1;
}

static bool has_flag(const void *address, const char *flag)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    bool here = false;

    g_assert_true(g_file_get_contents("/proc/self/smaps", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        unsigned long from, to;

        if (sscanf(lines[i], "%lx-%lx ", &from, &to) == 2) {
            here = from <= (uintptr_t)address && (uintptr_t)address < to;
        } else if (here && g_str_has_prefix(lines[i], "VmFlags:")) {
            return strstr(lines[i], flag) != NULL;
        }
    }
    return false;
}

static void test_each_page_is_its_tag_and_zeros(void)
{
    BxReservoir *r = new_reservoir(&bx_sys, true);
    BxPages pages;

    begin(r, 9, VBX_PAGE_BYTES);
    g_assert_cmpint(bx_reservoir_set_aside(r, 9, 3 * VBX_PAGE_BYTES, &pages),
                    ==, 0);
    g_assert_cmpuint(pages.first_seq, ==, 0);
    g_assert_cmpuint(pages.count, ==, 3);
    g_assert_cmpint(bx_reservoir_set_aside(r, 9, 2 * VBX_PAGE_BYTES + 100,
                                           &pages), ==, 0);
    g_assert_cmpuint(pages.first_seq, ==, 3);
    g_assert_cmpuint(pages.count, ==, 2);
    check_tags(r, 9, 0, 5);
    g_assert_cmpuint(held(r), ==, 5 * VBX_PAGE_BYTES);
    g_assert_cmpint(bx_reservoir_set_aside(r, 8, MIB, &pages), ==, -ENOENT);
    g_assert_cmpint(bx_reservoir_set_aside(r, 9, 100, &pages), ==, -EINVAL);
    bx_reservoir_free(r);
}

static void test_memory_is_locked_and_kept_from_children_and_dumps(void)
{
    BxReservoir *r = new_reservoir(&bx_sys, true);
    const char *page;

    begin(r, 1, VBX_PAGE_BYTES);
    fill(r, 1, MIB);
    page = page_at(r, 1, 0);
    g_assert_true(has_flag(page, " lo"));       /* locked */
    g_assert_true(has_flag(page, " dc"));       /* not copied on fork */
    g_assert_true(has_flag(page, " dd"));       /* not dumped */
    g_assert_true(has_flag(page, " nh"));       /* never huge from now on */
    g_assert_false(has_flag(page, " mg"));      /* not merged */
    bx_reservoir_free(r);
}

static void test_large_granules_are_huge_and_stay_so(void)
{
    g_autofree char *mode = NULL;
    BxReservoir *r;
    BxReservoirInfo info;

    if (!g_file_get_contents("/sys/kernel/mm/transparent_hugepage/enabled",
                             &mode, NULL, NULL) || strstr(mode, "[never]")) {
        g_test_skip("the kernel makes no huge pages");
        return;
    }
    r = new_reservoir(&bx_sys, true);
    begin(r, 1, VBX_GRANULE_BYTES);
    fill(r, 1, 8 * MIB);
    bx_reservoir_info(r, &info);
    for (int i = 0; i < 4; i++) {
        const char *granule = page_at(r, 1, i * 512);

        g_assert_cmpuint((uintptr_t)granule % VBX_GRANULE_BYTES, ==, 0);
    }
    g_assert_cmpuint(info.huge_bytes, ==, 8 * MIB);
    /* The kernel's own figure; writing tags has not changed it. */
    g_assert_cmpint(smaps(page_at(r, 1, 0), "AnonHugePages:"), >=, 8 * MIB);
    g_assert_true(has_flag(page_at(r, 1, 0), " nh"));
    check_tags(r, 1, 0, 2048);
    bx_reservoir_free(r);
}

static void test_without_huge_pages_granules_are_aligned_all_the_same(void)
{
    BxReservoir *r = new_reservoir(&bx_sys, false);
    BxReservoirInfo info;

    begin(r, 1, VBX_GRANULE_BYTES);
    fill(r, 1, 4 * MIB);
    bx_reservoir_info(r, &info);
    g_assert_cmpuint(info.huge_bytes, ==, 0);
    g_assert_cmpuint((uintptr_t)page_at(r, 1, 0) % VBX_GRANULE_BYTES, ==, 0);
    g_assert_cmpint(smaps(page_at(r, 1, 0), "AnonHugePages:"), ==, 0);
    check_tags(r, 1, 0, 1024);
    bx_reservoir_free(r);
}

static void test_giving_back_a_part_leaves_the_rest_as_it_was(void)
{
    BxReservoir *r = new_reservoir(&bx_sys, true);
    BxPages middle = { 4, 3, 2 }, beyond = { 4, 9, 100 };
    const void *address;
    uint64_t bytes, count;

    begin(r, 4, VBX_PAGE_BYTES);
    fill(r, 4, 10 * VBX_PAGE_BYTES);
    g_assert_cmpint(bx_reservoir_unmap(r, &middle, NONE, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 2 * VBX_PAGE_BYTES);
    g_assert_cmpint(bx_reservoir_find(r, 4, 3, &address, &count), ==, -ENOENT);
    g_assert_cmpint(bx_reservoir_find(r, 4, 0, &address, &count), ==, 0);
    g_assert_cmpuint(count, ==, 3);
    check_tags(r, 4, 0, 3);
    check_tags(r, 4, 5, 5);
    /* Again: there is nothing any more. */
    g_assert_cmpint(bx_reservoir_unmap(r, &middle, NONE, &bytes), ==, -ENOENT);
    g_assert_cmpint(bx_reservoir_unmap(r, &beyond, NONE, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, VBX_PAGE_BYTES);
    g_assert_cmpuint(held(r), ==, 7 * VBX_PAGE_BYTES);
    bx_reservoir_free(r);
}

static void test_newest_goes_first_and_an_empty_epoch_is_forgotten(void)
{
    BxReservoir *r = new_reservoir(&bx_sys, true);
    BxPages pages;
    uint64_t bytes;

    begin(r, 1, VBX_PAGE_BYTES);
    fill(r, 1, 4 * VBX_PAGE_BYTES);
    begin(r, 2, VBX_PAGE_BYTES);
    fill(r, 2, 2 * VBX_PAGE_BYTES);
    g_assert_cmpint(bx_reservoir_newest(r, 8, &pages), ==, 0);
    g_assert_cmpuint(pages.epoch, ==, 2);
    g_assert_cmpuint(pages.count, ==, 2);
    g_assert_cmpint(bx_reservoir_unmap(r, &pages, NONE, &bytes), ==, 0);
    g_assert_cmpint(bx_reservoir_newest(r, 3, &pages), ==, 0);
    g_assert_cmpuint(pages.epoch, ==, 1);
    g_assert_cmpuint(pages.first_seq, ==, 1);
    g_assert_cmpuint(pages.count, ==, 3);
    begin(r, 2, VBX_PAGE_BYTES);        /* its number is free again */
    bx_reservoir_free(r);
}

static void test_stock_is_tagged_anew_before_fresh_memory_is_taken(void)
{
    BxReservoir *r = new_reservoir(&bx_sys, true);
    BxReservoirInfo info;
    BxPages pages;

    begin(r, 1, VBX_GRANULE_BYTES);
    fill(r, 1, 4 * MIB);
    bx_reservoir_end_session(r);
    bx_reservoir_info(r, &info);
    g_assert_cmpuint(info.stock_bytes, ==, 4 * MIB);
    g_assert_cmpuint(bx_reservoir_usable_stock(r, VBX_GRANULE_BYTES), ==,
                     4 * MIB);
    begin(r, 2, VBX_PAGE_BYTES);
    g_assert_cmpint(bx_reservoir_set_aside(r, 2, VBX_PAGE_BYTES, &pages), ==,
                    0);
    bx_reservoir_info(r, &info);
    g_assert_cmpuint(info.held_bytes, ==, 4 * MIB);
    g_assert_cmpuint(info.stock_bytes, ==, 4 * MIB - VBX_PAGE_BYTES);
    check_tags(r, 2, 0, 1);
    /* The first granule is broken now, and the rest of it is passed over. */
    begin(r, 3, VBX_GRANULE_BYTES);
    g_assert_cmpuint(bx_reservoir_usable_stock(r, VBX_GRANULE_BYTES), ==,
                     2 * MIB);
    fill(r, 3, 2 * MIB);
    g_assert_cmpuint(held(r), ==, 4 * MIB);
    check_tags(r, 3, 0, 512);
    fill(r, 3, 2 * MIB);
    g_assert_cmpuint(held(r), ==, 6 * MIB);
    g_assert_cmpuint(bx_reservoir_drop_stock(r, UINT64_MAX), ==,
                     2 * MIB - VBX_PAGE_BYTES);
    g_assert_cmpuint(held(r), ==, 4 * MIB + VBX_PAGE_BYTES);
    bx_reservoir_free(r);
}

/* Root may lock whatever it likes: a child that is nobody cannot. */
static void test_limit_on_locked_memory_is_reached_to_the_granule(void)
{
    const struct rlimit limit = { 5 * MIB, 5 * MIB };
    int status;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        BxReservoir *r;
        BxPages pages;
        int rc;

        if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 ||
            (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) ||
            bx_reservoir_new(&bx_sys, true, &r) < 0) {
            _exit(10);
        }
        begin(r, 1, VBX_GRANULE_BYTES);
        /* 8 MiB and 4 MiB: halved once. */
        rc = bx_reservoir_set_aside(r, 1, 8 * MIB, &pages);
        if (rc != 0 || pages.count * VBX_PAGE_BYTES != 4 * MIB) {
            _exit(11);
        }
        if (bx_reservoir_set_aside(r, 1, 4 * MIB, &pages) != -EDQUOT ||
            held(r) != 4 * MIB) {
            _exit(12);
        }
        begin(r, 2, VBX_PAGE_BYTES);
        while (bx_reservoir_set_aside(r, 2, MIB, &pages) == 0) {
            /* to the limit */
        }
        _exit(held(r) == 5 * MIB ? 0 : 13);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

/* A kernel that has run out, or lacks what we would like. */
static int refused_advice;
static int refused_with;

static int refusing_advise(void *address, size_t bytes, int advice)
{
    return advice == refused_advice ? refused_with
                                    : bx_sys.advise(address, bytes, advice);
}

static int maps, unmaps;

static int counting_map(size_t bytes, void **ret_address)
{
    maps++;
    return bx_sys.map(bytes, ret_address);
}

static int counting_unmap(void *address, size_t bytes)
{
    unmaps++;
    return bx_sys.unmap(address, bytes);
}

static void test_guest_without_memory_is_an_answer_and_leaves_nothing(void)
{
    BxSys sys = bx_sys;
    BxReservoir *r;
    BxPages pages;

    sys.advise = refusing_advise;
    sys.map = counting_map;
    sys.unmap = counting_unmap;
    refused_advice = MADV_POPULATE_WRITE;
    refused_with = -ENOMEM;
    maps = unmaps = 0;
    r = new_reservoir(&sys, true);
    begin(r, 1, VBX_PAGE_BYTES);
    g_assert_cmpint(bx_reservoir_set_aside(r, 1, MIB, &pages), ==, -ENOMEM);
    g_assert_cmpuint(held(r), ==, 0);
    g_assert_cmpint(maps, ==, 9);       /* 256 pages, halved down to 1 */
    g_assert_cmpint(unmaps, ==, 9);
    bx_reservoir_free(r);
}

static void test_old_kernel_without_populate_and_collapse_works(void)
{
    static const int advices[] = { MADV_POPULATE_WRITE, 25 /* COLLAPSE */,
                                   MADV_HUGEPAGE, MADV_UNMERGEABLE };

    for (size_t i = 0; i < G_N_ELEMENTS(advices); i++) {
        BxSys sys = bx_sys;
        BxReservoir *r;

        sys.advise = refusing_advise;
        refused_advice = advices[i];
        refused_with = -EINVAL;
        r = new_reservoir(&sys, true);
        begin(r, 1, VBX_GRANULE_BYTES);
        fill(r, 1, 2 * MIB);
        check_tags(r, 1, 0, 512);
        bx_reservoir_free(r);
    }
}

/* Against a model: an array that says which epoch holds how many pages. */
static void test_random_orders_and_returns_keep_the_books(void)
{
    enum { EPOCHS = 6, PAGES = 64 };
    BxReservoir *r = new_reservoir(&bx_sys, true);
    bool there[EPOCHS][PAGES] = { { false } };
    uint64_t next[EPOCHS] = { 0 };

    for (uint64_t e = 0; e < EPOCHS; e++) {
        begin(r, e, VBX_PAGE_BYTES);
    }
    for (int round = 0; round < 3000; round++) {
        uint64_t e = g_test_rand_int_range(0, EPOCHS), bytes, model = 0;
        BxPages pages = { .epoch = e };

        if (g_test_rand_bit() && next[e] < PAGES) {
            bytes = g_test_rand_int_range(1, PAGES - next[e] + 1) *
                    VBX_PAGE_BYTES;
            g_assert_cmpint(bx_reservoir_set_aside(r, e, bytes, &pages), ==,
                            0);
            g_assert_cmpuint(pages.first_seq, ==, next[e]);
            for (uint64_t i = 0; i < pages.count; i++) {
                there[e][next[e]++] = true;
            }
        } else {
            pages.first_seq = g_test_rand_int_range(0, PAGES);
            pages.count = g_test_rand_int_range(1, 16);
            bx_reservoir_unmap(r, &pages, e, &bytes);
            for (uint64_t i = pages.first_seq;
                 i < MIN(pages.first_seq + pages.count, PAGES); i++) {
                there[e][i] = false;
            }
        }
        for (e = 0; e < EPOCHS; e++) {
            for (uint64_t i = 0; i < PAGES; i++) {
                const void *address;
                uint64_t count;

                model += there[e][i];
                g_assert_cmpint(bx_reservoir_find(r, e, i, &address, &count),
                                ==, there[e][i] ? 0 : -ENOENT);
            }
        }
        g_assert_cmpuint(held(r), ==, model * VBX_PAGE_BYTES);
    }
    for (uint64_t e = 0; e < EPOCHS; e++) {
        for (uint64_t i = 0; i < PAGES; i++) {
            if (there[e][i]) {
                check_tags(r, e, i, 1);
            }
        }
    }
    bx_reservoir_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/each-page-is-its-tag-and-zeros",
                    test_each_page_is_its_tag_and_zeros);
    g_test_add_func("/memory-is-locked-and-kept-from-children-and-dumps",
                    test_memory_is_locked_and_kept_from_children_and_dumps);
    g_test_add_func("/large-granules-are-huge-and-stay-so",
                    test_large_granules_are_huge_and_stay_so);
    g_test_add_func("/without-huge-pages-granules-are-aligned-all-the-same",
                    test_without_huge_pages_granules_are_aligned_all_the_same);
    g_test_add_func("/giving-back-a-part-leaves-the-rest-as-it-was",
                    test_giving_back_a_part_leaves_the_rest_as_it_was);
    g_test_add_func("/newest-goes-first-and-an-empty-epoch-is-forgotten",
                    test_newest_goes_first_and_an_empty_epoch_is_forgotten);
    g_test_add_func("/stock-is-tagged-anew-before-fresh-memory-is-taken",
                    test_stock_is_tagged_anew_before_fresh_memory_is_taken);
    g_test_add_func("/limit-on-locked-memory-is-reached-to-the-granule",
                    test_limit_on_locked_memory_is_reached_to_the_granule);
    g_test_add_func("/guest-without-memory-is-an-answer-and-leaves-nothing",
                    test_guest_without_memory_is_an_answer_and_leaves_nothing);
    g_test_add_func("/old-kernel-without-populate-and-collapse-works",
                    test_old_kernel_without_populate_and_collapse_works);
    g_test_add_func("/random-orders-and-returns-keep-the-books",
                    test_random_orders_and_returns_keep_the_books);
    return g_test_run();
}
