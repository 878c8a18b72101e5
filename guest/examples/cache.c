/*
 * Example: a cache that is as large as the host can afford
 *
 * Keeps entries of 64 KiB.  It offers all of them: when the host wants memory,
 * the oldest go, and when it is given back the cache may grow again.  Between
 * those it sizes itself by the condition.  Prints a line whenever its size has
 * changed; ends after as many seconds as its first argument says.
 *
 *     cache SECONDS [MIB [RUN_DIR]]
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <balloonex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define ENTRY_BYTES (64u << 10)

typedef struct Cache {
    char **entry;               /* a ring of mappings; [first, first + count) */
    size_t room, first, count;
    size_t limit;               /* entries that it may have */
} Cache;

/* An entry is its own mapping, so that dropping it really frees memory. */
static int add_entry(Cache *cache)
{
    char *entry = mmap(NULL, ENTRY_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (entry == MAP_FAILED) {
        return 0;
    }
    memset(entry, 1, ENTRY_BYTES);
    cache->entry[(cache->first + cache->count++) % cache->room] = entry;
    return 1;
}

static void drop_oldest(Cache *cache)
{
    munmap(cache->entry[cache->first], ENTRY_BYTES);
    cache->first = (cache->first + 1) % cache->room;
    cache->count--;
}

/* The host wants @bytes: what is dropped here is set aside for it. */
static uint64_t give(void *opaque, uint64_t bytes)
{
    Cache *cache = opaque;
    uint64_t freed = 0;

    while (freed < bytes && cache->count) {
        drop_oldest(cache);
        freed += ENTRY_BYTES;
    }
    cache->limit = cache->count;
    return freed;
}

/* The memory is ours again; the cache may grow by that much. */
static void have(void *opaque, uint64_t bytes)
{
    Cache *cache = opaque;

    cache->limit += bytes / ENTRY_BYTES;
    if (cache->limit > cache->room) {
        cache->limit = cache->room;
    }
}

static void on_condition(void *opaque, const BxCondition *condition)
{
    Cache *cache = opaque;

    printf("condition %s, %llu MiB could be had\n",
           bx_level_name(condition->level),
           (unsigned long long)(condition->reservable >> 20));
    /* In need: half of it goes by itself, before anybody asks. */
    if (condition->level >= BX_HARD) {
        cache->limit = cache->count / 2;
    }
}

/* A few entries a round: whoever asks meanwhile is answered. */
static void resize(Cache *cache)
{
    for (int i = 0; i < 64 && cache->count < cache->limit; i++) {
        if (!add_entry(cache)) {
            break;
        }
    }
    while (cache->count > cache->limit) {
        drop_oldest(cache);
    }
}

static void run(Bx *bx, Cache *cache, time_t until)
{
    size_t shown = SIZE_MAX;

    while (time(NULL) < until) {
        BxStats stats = { .cache_bytes = 0 };
        int growing;

        bx_dispatch(bx);
        resize(cache);
        stats.cache_bytes = (uint64_t)cache->count * ENTRY_BYTES;
        growing = cache->count < cache->limit;
        if (cache->count != shown && !growing) {
            printf("cache %llu MiB, given %llu MiB\n",
                   (unsigned long long)(stats.cache_bytes >> 20),
                   (unsigned long long)(bx_given(bx) >> 20));
            fflush(stdout);
            shown = cache->count;
            bx_stats(bx, &stats);
        }
        bx_wait(bx, growing ? 0 : 1000);
    }
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 10;
    size_t mib = argc > 2 ? (size_t)atoi(argv[2]) : 64;
    BxOffer offer = {
        .name = "example cache", .priority = 3, .bytes = (uint64_t)mib << 20,
        .give = give, .have = have,
    };
    Cache cache = { .room = (mib << 20) / ENTRY_BYTES };
    Bx *bx;
    int rc;

    cache.limit = cache.room;
    cache.entry = calloc(cache.room ? cache.room : 1, sizeof(*cache.entry));
    rc = bx_open(argc > 3 ? argv[3] : NULL, 0, &bx);
    if (!cache.entry || rc < 0) {
        fprintf(stderr, "cache: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    offer.opaque = &cache;
    bx_on_condition(bx, on_condition, &cache);
    rc = bx_offer(bx, &offer);
    if (rc < 0) {
        fprintf(stderr, "cache: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    run(bx, &cache, time(NULL) + seconds);
    bx_close(bx);
    free(cache.entry);
    return EXIT_SUCCESS;
}
