/*
 * A program that is as fast as its cache is large
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Usage: lookup NAME MIB MISS_US KEEP_MIB
 *
 * Looks up pages of MIB, at random, for ever.  One that it has in its cache is
 * checked; one that it has not is fetched from somebody slow, which takes
 * MISS_US, with the block of 64 KiB around it, which is kept if the guest then
 * still has KEEP_MIB available.  Where the guest has less, something is
 * dropped, so the program goes on in any guest.  Its work is `ops`, the pages
 * that it has in its cache are `filled`; p50_us and p99_us are of all lookups
 * so far, from one to the next: a page that is waited for counts, whoever is
 * waited for.
 *
 * One thread.  Latencies are counted in buckets a sixteenth apart.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "status.h"

enum {
    WORDS = PAGE_BYTES / sizeof(uint64_t),
    READ_WORDS = 32,            /* an emulated CPU needs 10 us for all */
    BUCKETS = 64 * 16,
    LOOK_US = 20000,            /* between two looks at what is available */
    BLOCK_PAGES = 16,
    BLOCK_WORDS = BLOCK_PAGES * WORDS,
    DROP_BLOCKS = 16,
};

typedef struct Lookup {
    uint64_t *words;
    uint8_t *present;           /* of each block */
    uint64_t blocks, cached, random;
    uint64_t keep_kib, available_kib;
    uint64_t looked_us;
    uint64_t counts[BUCKETS], total;
    int meminfo;
    Status *status;
} Lookup;

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

static uint64_t next_random(Lookup *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return l->random;
}

/* ---- latencies ---- */

/* Below 16 each its own; above, the four bits behind the first one. */
static unsigned bucket_of(uint64_t us)
{
    unsigned power = us < 16 ? 0 : 60 - __builtin_clzll(us);

    return power == 0 ? us : power * 16 + (us >> (power - 1)) % 16;
}

/* The upper end of a bucket. */
static uint64_t end_of(unsigned bucket)
{
    unsigned power = bucket / 16;

    return power == 0 ? bucket
                      : ((uint64_t)(16 + bucket % 16) + 1) << (power - 1);
}

static uint64_t percentile(const Lookup *l, unsigned percent)
{
    uint64_t before = 0;

    for (unsigned i = 0; i < BUCKETS; i++) {
        before += l->counts[i];
        if (before * 100 >= l->total * percent) {
            return end_of(i);
        }
    }
    return 0;
}

static void count(Lookup *l, uint64_t us)
{
    l->counts[bucket_of(us)]++;
    l->total++;
    l->status->ops++;
}

/* ---- the cache ---- */

static void look_at_memory(Lookup *l, uint64_t at_us)
{
    char text[512];
    const char *found;
    ssize_t length = pread(l->meminfo, text, sizeof(text) - 1, 0);

    l->looked_us = at_us;
    l->status->p50_us = percentile(l, 50);
    l->status->p99_us = percentile(l, 99);
    if (length <= 0) {
        return;
    }
    text[length] = '\0';
    found = strstr(text, "MemAvailable:");
    if (found) {
        l->available_kib = strtoull(found + strlen("MemAvailable:"), NULL, 10);
    }
}

static void drop(Lookup *l)
{
    uint64_t from = next_random(l) % l->blocks, i;

    for (i = from; i < from + DROP_BLOCKS && i < l->blocks; i++) {
        l->cached -= l->present[i];
        l->present[i] = 0;
    }
    madvise(l->words + from * BLOCK_WORDS,
            (i - from) * BLOCK_PAGES * PAGE_BYTES, MADV_DONTNEED);
    l->status->filled = l->cached * BLOCK_PAGES;
}

static void fetch(Lookup *l, uint64_t block, useconds_t miss_us)
{
    uint64_t first = block * BLOCK_PAGES;

    usleep(miss_us);
    if (l->available_kib < l->keep_kib) {
        return;
    }
    for (uint64_t page = first; page < first + BLOCK_PAGES; page++) {
        for (int i = 0; i < WORDS; i++) {
            l->words[page * WORDS + i] = page ^ i;
        }
    }
    l->present[block] = 1;
    l->cached++;
    l->status->filled = l->cached * BLOCK_PAGES;
}

static void check(Lookup *l, uint64_t page)
{
    const uint64_t *words = l->words + page * WORDS;
    int from = next_random(l) % (WORDS - READ_WORDS);

    for (int i = from; i < from + READ_WORDS; i++) {
        if (words[i] != (page ^ i)) {
            l->status->errors++;
        }
    }
}

static int prepare(Lookup *l, char **argv)
{
    uint64_t bytes = strtoull(argv[2], NULL, 0) << 20;

    l->blocks = bytes / (BLOCK_PAGES * PAGE_BYTES);
    l->keep_kib = strtoull(argv[4], NULL, 0) << 10;
    l->random = 88172645463325252ull;
    l->status = status_map(argv[1]);
    l->meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    l->present = calloc(l->blocks, 1);
    l->words = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!l->status || l->meminfo < 0 || !l->blocks || !l->present ||
        l->words == MAP_FAILED) {
        return -1;
    }
    l->status->pages = l->blocks * BLOCK_PAGES;
    return 0;
}

int main(int argc, char **argv)
{
    static Lookup l;
    uint64_t last_us;
    useconds_t miss_us;

    if (argc != 5 || prepare(&l, argv) < 0) {
        fprintf(stderr, "usage: lookup NAME MIB MISS_US KEEP_MIB\n");
        return 2;
    }
    miss_us = strtoul(argv[3], NULL, 0);
    last_us = now_us();
    look_at_memory(&l, last_us);
    while (1) {
        uint64_t page = next_random(&l) % (l.blocks * BLOCK_PAGES), at_us;

        if (l.present[page / BLOCK_PAGES]) {
            check(&l, page);
        } else {
            fetch(&l, page / BLOCK_PAGES, miss_us);
        }
        at_us = now_us();
        count(&l, at_us - last_us);
        last_us = at_us;
        if (at_us - l.looked_us >= LOOK_US) {
            look_at_memory(&l, at_us);
            if (l.available_kib < l.keep_kib && l.cached) {
                drop(&l);
            }
        }
    }
}
