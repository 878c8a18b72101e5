/*
 * Keep memory under test inside a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Usage: memtest NAME MIB SEED REST_US
 *
 * Fills MIB of anonymous memory.  The content of a page follows from the
 * seed, the page's number and how often it was written, so that a page that
 * is lost, stale, another page's or another guest's is told apart from the
 * right one.  Then, for ever: picks 16 pages at random, compares every word,
 * writes them anew, rests REST_US.  When a sweep is asked for (status.h), all
 * pages are compared and summed.
 *
 * One thread.  The generations of the pages are kept in memory of the same
 * kind, which is thereby under test too.  It ends only by a signal; a wrong
 * page is counted, shown, and written anew so that it is counted once.
 */

#include <stdlib.h>

#include "status.h"

enum { WORDS = PAGE_BYTES / sizeof(uint64_t), BATCH = 16 };

typedef struct Memtest {
    uint64_t *words;
    uint64_t *generation;
    uint64_t pages;
    uint64_t seed;
    uint64_t random;
    Status *status;
} Memtest;

/* The finaliser of SplitMix64: every input bit changes half of the output. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/* Odd, so that no two words of a page are equal. */
static const uint64_t STEP = 0x9e3779b97f4a7c15;

static uint64_t key_of(const Memtest *test, uint64_t page)
{
    return mix(mix(test->seed ^ mix(page)) + test->generation[page]);
}

static void write_page(Memtest *test, uint64_t page)
{
    uint64_t *words = test->words + page * WORDS;
    uint64_t value;

    test->generation[page]++;
    value = key_of(test, page);
    for (int i = 0; i < WORDS; i++, value += STEP) {
        words[i] = value;
    }
}

/* Adds the page's words to *sum, and what they should add up to. */
static void check_page(Memtest *test, uint64_t page, uint64_t *sum,
                       uint64_t *expected)
{
    const uint64_t *words = test->words + page * WORDS;
    uint64_t value = key_of(test, page);
    int bad = -1;

    for (int i = 0; i < WORDS; i++, value += STEP) {
        uint64_t word = words[i];

        *sum += word;
        *expected += value;
        if (word != value && bad < 0) {
            bad = i;
            if (!test->status->errors) {
                test->status->bad_page = page;
                test->status->bad_word = i;
                test->status->found = word;
                test->status->wanted = value;
            }
        }
    }
    if (bad >= 0) {
        test->status->errors++;
        write_page(test, page);
    }
}

static void sweep(Memtest *test)
{
    uint64_t asked = test->status->requested;
    uint64_t sum = 0, expected = 0;

    for (uint64_t page = 0; page < test->pages; page++) {
        check_page(test, page, &sum, &expected);
    }
    test->status->sum = sum;
    test->status->expected = expected;
    test->status->swept = asked;
}

static void batch(Memtest *test)
{
    uint64_t sum = 0, expected = 0;

    for (int i = 0; i < BATCH; i++) {
        uint64_t page;

        test->random = mix(test->random);
        page = test->random % test->pages;
        check_page(test, page, &sum, &expected);
        write_page(test, page);
        test->status->ops++;
    }
}

static void *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

int main(int argc, char **argv)
{
    Memtest test = { 0 };
    useconds_t rest;

    if (argc != 5) {
        fprintf(stderr, "usage: memtest NAME MIB SEED REST_US\n");
        return 2;
    }
    test.pages = strtoull(argv[2], NULL, 0) * (1024 * 1024 / PAGE_BYTES);
    test.seed = strtoull(argv[3], NULL, 0);
    rest = strtoul(argv[4], NULL, 0);
    test.random = mix(test.seed);
    test.status = status_map(argv[1]);
    test.words = map(test.pages * PAGE_BYTES);
    test.generation = map(test.pages * sizeof(uint64_t));
    if (!test.status || !test.words || !test.generation || !test.pages) {
        perror("memtest");
        return 1;
    }
    test.status->pages = test.pages;
    for (uint64_t page = 0; page < test.pages; page++) {
        write_page(&test, page);
        test.status->filled = page + 1;
    }
    while (1) {
        if (test.status->requested != test.status->swept) {
            sweep(&test);
        }
        batch(&test);
        if (rest) {
            usleep(rest);
        }
    }
}
