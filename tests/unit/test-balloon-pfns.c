/*
 * Tests of a balloon request's page numbers, against a bitmap as the model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "virtio-balloon-ex-pfns.h"

#define WORDS_MAX 2048
#define SPACE 4096              /* page numbers of random requests */

typedef struct Request {
    uint8_t bytes[WORDS_MAX * 4 + 3];
    uint32_t pfns[WORDS_MAX];
    MemSchedGpaRange ranges[WORDS_MAX + 1];
} Request;

static void put(Request *rq, size_t index, uint32_t pfn, bool big_endian)
{
    uint32_t word = big_endian ? GUINT32_TO_BE(pfn) : GUINT32_TO_LE(pfn);

    memcpy(rq->bytes + index * 4, &word, 4);
}

static size_t convert(Request *rq, size_t bytes, bool big_endian)
{
    MemSchedGpaRange guard = { .gpa = 0x1234, .length_bytes = 0x5678 };
    size_t count;

    rq->ranges[bytes / 4] = guard;
    count = balloon_ex_pfns_to_ranges(rq->bytes, bytes, big_endian, rq->pfns,
                                      rq->ranges);
    g_assert_cmpuint(count, <=, bytes / 4);
    g_assert_cmpuint(rq->ranges[bytes / 4].gpa, ==, guard.gpa);
    return count;
}

static void check_range(const MemSchedGpaRange *range, uint64_t first,
                        uint64_t pages)
{
    g_assert_cmphex(range->gpa, ==, first << MEMSCHED_PAGE_SHIFT);
    g_assert_cmphex(range->length_bytes, ==, pages << MEMSCHED_PAGE_SHIFT);
}

static void test_empty_request_has_no_range(void)
{
    g_autofree Request *rq = g_new0(Request, 1);

    g_assert_cmpuint(convert(rq, 0, false), ==, 0);
    g_assert_cmpuint(convert(rq, 3, false), ==, 0);
}

static void test_ascending_and_descending_make_one_range(void)
{
    g_autofree Request *rq = g_new0(Request, 1);

    for (uint32_t i = 0; i < 256; i++) {
        put(rq, i, 512 + i, false);
    }
    g_assert_cmpuint(convert(rq, 1024, false), ==, 1);
    check_range(&rq->ranges[0], 512, 256);
    for (uint32_t i = 0; i < 256; i++) {
        put(rq, i, 767 - i, false);
    }
    g_assert_cmpuint(convert(rq, 1024, false), ==, 1);
    check_range(&rq->ranges[0], 512, 256);
}

static void test_bytes_behind_the_last_word_are_ignored(void)
{
    g_autofree Request *rq = g_new0(Request, 1);

    put(rq, 0, 7, false);
    memset(rq->bytes + 4, 0xff, 3);
    for (size_t odd = 4; odd < 8; odd++) {
        g_assert_cmpuint(convert(rq, odd, false), ==, 1);
        check_range(&rq->ranges[0], 7, 1);
    }
}

static void test_repeated_pages_count_once(void)
{
    g_autofree Request *rq = g_new0(Request, 1);
    static const uint32_t pfns[] = { 9, 3, 9, 4, 3, 9, 20, 4, 20 };

    for (size_t i = 0; i < G_N_ELEMENTS(pfns); i++) {
        put(rq, i, pfns[i], false);
    }
    g_assert_cmpuint(convert(rq, sizeof(pfns), false), ==, 3);
    check_range(&rq->ranges[0], 3, 2);
    check_range(&rq->ranges[1], 9, 1);
    check_range(&rq->ranges[2], 20, 1);
}

static void test_highest_page_does_not_wrap(void)
{
    g_autofree Request *rq = g_new0(Request, 1);

    put(rq, 0, 0, false);
    put(rq, 1, UINT32_MAX, false);
    put(rq, 2, UINT32_MAX - 1, false);
    g_assert_cmpuint(convert(rq, 12, false), ==, 2);
    check_range(&rq->ranges[0], 0, 1);
    check_range(&rq->ranges[1], UINT32_MAX - 1, 2);
}

static void test_big_endian_words_are_read_so(void)
{
    g_autofree Request *rq = g_new0(Request, 1);

    put(rq, 0, 0x00123456, true);
    g_assert_cmpuint(convert(rq, 4, true), ==, 1);
    check_range(&rq->ranges[0], 0x00123456, 1);
}

/* The pages of a run of the model, from the lowest on. */
static void compare_with_model(const Request *rq, size_t count,
                               const bool *model)
{
    size_t range = 0;

    for (uint32_t pfn = 0; pfn < SPACE; ) {
        uint32_t first = pfn;

        while (pfn < SPACE && model[pfn]) {
            pfn++;
        }
        if (pfn == first) {
            pfn++;
            continue;
        }
        g_assert_cmpuint(range, <, count);
        check_range(&rq->ranges[range++], first, pfn - first);
    }
    g_assert_cmpuint(range, ==, count);
}

static void test_random_requests_equal_the_model(void)
{
    g_autofree Request *rq = g_new0(Request, 1);
    g_autofree bool *model = g_new(bool, SPACE);

    for (unsigned round = 0; round < 2000; round++) {
        size_t words = g_test_rand_int_range(0, WORDS_MAX);
        bool big_endian = g_test_rand_bit();
        uint32_t pfn = 0;

        memset(model, 0, SPACE * sizeof(*model));
        for (size_t i = 0; i < words; i++) {
            /* Neighbours often, so that there are runs to be made. */
            pfn = g_test_rand_int_range(0, 4) ? (pfn + 1) % SPACE
                : (uint32_t)g_test_rand_int_range(0, SPACE);
            put(rq, i, pfn, big_endian);
            model[pfn] = true;
        }
        compare_with_model(rq, convert(rq, words * 4, big_endian), model);
    }
}

static void test_whole_pages_lie_inside(void)
{
    MemSchedGpaRange range;

    g_assert_false(balloon_ex_whole_pages(0, 0, &range));
    g_assert_false(balloon_ex_whole_pages(0, 4095, &range));
    g_assert_false(balloon_ex_whole_pages(1, 8190, &range));
    g_assert_true(balloon_ex_whole_pages(1, 8191, &range));
    check_range(&range, 1, 1);
    g_assert_true(balloon_ex_whole_pages(4096, 3 * 4096 + 5, &range));
    check_range(&range, 1, 3);
}

static void test_whole_pages_at_the_end_do_not_wrap(void)
{
    MemSchedGpaRange range;

    g_assert_false(balloon_ex_whole_pages(UINT64_MAX, 1, &range));
    g_assert_false(balloon_ex_whole_pages(UINT64_MAX - 8, UINT64_MAX,
                                          &range));
    g_assert_false(balloon_ex_whole_pages(UINT64_MAX - 100, 50, &range));
    g_assert_false(balloon_ex_whole_pages(UINT64_MAX - 4095, 4095, &range));
    g_assert_true(balloon_ex_whole_pages(UINT64_MAX - 8191, 8191, &range));
    g_assert_cmphex(range.gpa, ==, UINT64_MAX - 8191);
    g_assert_cmphex(range.length_bytes, ==, 4096);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/balloon-pfns/empty-request-has-no-range",
                    test_empty_request_has_no_range);
    g_test_add_func("/balloon-pfns/ascending-and-descending-make-one-range",
                    test_ascending_and_descending_make_one_range);
    g_test_add_func("/balloon-pfns/bytes-behind-the-last-word-are-ignored",
                    test_bytes_behind_the_last_word_are_ignored);
    g_test_add_func("/balloon-pfns/repeated-pages-count-once",
                    test_repeated_pages_count_once);
    g_test_add_func("/balloon-pfns/highest-page-does-not-wrap",
                    test_highest_page_does_not_wrap);
    g_test_add_func("/balloon-pfns/big-endian-words-are-read-so",
                    test_big_endian_words_are_read_so);
    g_test_add_func("/balloon-pfns/random-requests-equal-the-model",
                    test_random_requests_equal_the_model);
    g_test_add_func("/balloon-pfns/whole-pages-lie-inside",
                    test_whole_pages_lie_inside);
    g_test_add_func("/balloon-pfns/whole-pages-at-the-end-do-not-wrap",
                    test_whole_pages_at_the_end_do_not_wrap);
    return g_test_run();
}
