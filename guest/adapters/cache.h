/*
 * A cache that somebody else wrote, as an adapter sees it
 *
 * Errors are negative errnos; what it was about is in cache->message, one
 * sentence.  Calls may block for up to CACHE_TIMEOUT_MS.  One thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BX_CACHE_H
#define BX_CACHE_H

#include <stdint.h>

/* A cache that does not answer in that time is treated as gone. */
#define CACHE_TIMEOUT_MS 5000

/* The cache does not say. */
#define CACHE_UNKNOWN UINT64_MAX

typedef struct CacheFigures {
    uint64_t used;              /* bytes of memory */
    uint64_t limit;             /* 0: it has none */
    uint64_t hits, misses;      /* counts, or CACHE_UNKNOWN */
} CacheFigures;

typedef struct Cache Cache;

typedef struct CacheOps {
    const char *name;
    const char *address_help;
    const char *address;        /* the default */
    /* Connect; again after a failure. */
    int (*open)(Cache *cache);
    void (*close)(Cache *cache);
    int (*measure)(Cache *cache, CacheFigures *ret_figures);
    /*
     * Allow so much from now on.  What is over it is dropped, and its memory
     * goes back to the system, as far and as soon as this cache can.
     */
    int (*set_limit)(Cache *cache, uint64_t bytes);
} CacheOps;

struct Cache {
    const CacheOps *ops;
    const char *address;
    void *connection;           /* NULL: closed */
    char message[256];
};

extern const CacheOps cache_redis, cache_memcached, cache_cgroup;

/* Note what went wrong, as one sentence; returns @error. */
int cache_error(Cache *cache, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
