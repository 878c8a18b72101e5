/*
 * A program that sizes its cache, by one figure or by the other
 *
 * Its cache is a number of entries of 256 KiB.  Five times a second it decides
 * how large the cache should be, with bx-follow's own rule: by what the guest's
 * kernel says is available (MemAvailable), or by that and the memory condition
 * that the host tells.  In between it grows to that size, an entry at a time,
 * or drops entries, and looks up pages of random entries, each a write, at a
 * steady pace.
 *
 *     sized available|condition KEEP_MIB MAX_MIB SECONDS
 *
 * A line a second:
 *
 *     SECOND CACHE_MIB LOOKUPS P99_US MAX_US GROWTH_MAX_US DROPPED_MIB
 *
 * LOOKUPS are those that were served in that second of the RATE that were due.
 * A step of growth or a look-up that takes long is one that waited: the page
 * was not there, and the host had none.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MIB (UINT64_C(1) << 20)
#define ENTRY_BYTES (UINT64_C(256) << 10)
#define PAGE_BYTES 4096u
#define RATE 500u
#define DECIDE_US 200000u

typedef struct Second {
    unsigned lookups;
    uint32_t us[RATE * 2];
    uint32_t growth_max_us;
    uint64_t dropped;
} Second;

typedef struct Sized {
    char *memory;
    uint64_t entries, limit;    /* [0, entries) are there */
    SizeOptions size;
    Bx *bx;                     /* NULL: by what is available */
    uint64_t random;
    Second now;
} Sized;

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * UINT64_C(1000000) + now.tv_nsec / 1000;
}

static void decide(Sized *sized)
{
    SizeInput input = {
        .cache = sized->entries * ENTRY_BYTES,
        .limit = sized->limit * ENTRY_BYTES,
    };
    BxCondition condition;

    if (sized->bx) {
        bx_dispatch(sized->bx);
        if (bx_condition_get(sized->bx, &condition) == 0) {
            input.condition = &condition;
        }
    }
    if (follow_available("/proc/meminfo", &input.available) == 0) {
        sized->limit = size_next(&sized->size, &input) / ENTRY_BYTES;
    }
}

static void grow(Sized *sized)
{
    char *entry = sized->memory + sized->entries * ENTRY_BYTES;
    uint64_t start = now_us(), us;

    for (uint64_t at = 0; at < ENTRY_BYTES; at += PAGE_BYTES) {
        /* volatile: the store is what is timed */
        *(volatile uint64_t *)(entry + at) = at;
    }
    sized->entries++;
    us = now_us() - start;
    if (us > sized->now.growth_max_us) {
        sized->now.growth_max_us = us;
    }
}

static void drop(Sized *sized)
{
    uint64_t n = sized->entries - sized->limit;

    madvise(sized->memory + sized->limit * ENTRY_BYTES, n * ENTRY_BYTES,
            MADV_DONTNEED);
    sized->entries = sized->limit;
    sized->now.dropped += n * ENTRY_BYTES;
}

/* Late is slow: counted from when it was due. */
static void look_up(Sized *sized, uint64_t due)
{
    uint64_t pages = sized->entries * (ENTRY_BYTES / PAGE_BYTES);

    sized->random ^= sized->random << 13;
    sized->random ^= sized->random >> 7;
    sized->random ^= sized->random << 17;
    if (pages) {
        /* volatile: the store is what is timed */
        *(volatile uint64_t *)(sized->memory + (sized->random >> 16) % pages *
                               PAGE_BYTES) = due;
    }
    if (sized->now.lookups < RATE * 2) {
        sized->now.us[sized->now.lookups++] = now_us() - due;
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void tell(Sized *sized, unsigned second)
{
    Second *s = &sized->now;
    unsigned n = s->lookups;

    qsort(s->us, n, sizeof(s->us[0]), by_size);
    printf("%u %llu %u %u %u %u %llu\n", second,
           (unsigned long long)(sized->entries * ENTRY_BYTES / MIB), n,
           n ? s->us[n * 99 / 100] : 0, n ? s->us[n - 1] : 0,
           s->growth_max_us, (unsigned long long)(s->dropped / MIB));
    fflush(stdout);
    memset(s, 0, sizeof(*s));
}

static void nap_until(uint64_t us)
{
    struct timespec when = {
        .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000,
    };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

static void run(Sized *sized, unsigned seconds)
{
    uint64_t start = now_us(), told = 0, decided = 0;

    for (uint64_t i = 0; told < seconds; i++) {
        uint64_t due = start + i * 1000000 / RATE;

        while (now_us() >= start + (told + 1) * 1000000 && told < seconds) {
            tell(sized, told++);
        }
        if (now_us() >= start + decided * DECIDE_US) {
            decide(sized);
            decided = (now_us() - start) / DECIDE_US + 1;
        }
        if (sized->entries > sized->limit) {
            drop(sized);
        }
        if (sized->entries < sized->limit) {
            grow(sized);
        }
        /* What could not be asked for during a stall is not made up for. */
        if (now_us() > due + 1000000) {
            continue;
        }
        nap_until(due);
        look_up(sized, due);
    }
}

int main(int argc, char **argv)
{
    Sized *sized = calloc(1, sizeof(*sized));
    bool condition = argc == 5 && !strcmp(argv[1], "condition");

    if (argc != 5 || !sized || (!condition && strcmp(argv[1], "available"))) {
        fprintf(stderr,
                "usage: sized available|condition KEEP_MIB MAX_MIB SECONDS\n");
        return 2;
    }
    sized->random = 88172645463325252;
    sized->size.min = 16 * MIB;
    sized->size.keep = strtoull(argv[2], NULL, 0) * MIB;
    sized->size.max = strtoull(argv[3], NULL, 0) * MIB;
    sized->limit = sized->size.min / ENTRY_BYTES;
    sized->memory = mmap(NULL, sized->size.max, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sized->memory == MAP_FAILED ||
        (condition && bx_open(NULL, 0, &sized->bx) < 0)) {
        perror("sized");
        return 1;
    }
    run(sized, strtoul(argv[4], NULL, 0));
    bx_close(sized->bx);
    return 0;
}
