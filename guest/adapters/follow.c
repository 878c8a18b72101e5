/*
 * One cache that follows the memory condition
 *
 * A cache that gives memory up: give() lowers its limit by what is asked for,
 * and what counts is by how much it has shrunk when the call returns.  The
 * limit stays there: size_next() lets it grow again only as far as headroom
 * goes, and what was given is no headroom.  have() needs to do nothing, since
 * what comes back is headroom at the next step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "follow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

int cache_error(Cache *cache, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(cache->message, sizeof(cache->message), format, args);
    va_end(args);
    return error;
}

int follow_available(const char *meminfo, uint64_t *ret_bytes)
{
    FILE *file = fopen(meminfo, "re");
    char line[256];
    uint64_t kib;
    int rc = -EIO;

    while (file && rc < 0 && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1) {
            *ret_bytes = kib * 1024;
            rc = 0;
        }
    }
    if (file) {
        fclose(file);
    }
    return rc;
}

static int measure(Follow *follow)
{
    Cache *cache = follow->cache;
    int rc = 0;

    if (!cache->connection) {
        rc = cache->ops->open(cache);
        follow->limit = 0;              /* it may be another one */
    }
    return rc < 0 ? rc : cache->ops->measure(cache, &follow->figures);
}

static int set_limit(Follow *follow, uint64_t bytes)
{
    int rc = follow->cache->ops->set_limit(follow->cache, bytes);

    if (rc == 0) {
        follow->limit = bytes;
        follow->limits_set++;
    }
    return rc;
}

static void tell_stats(Follow *follow)
{
    BxStats stats = {
        .cache_bytes = follow->figures.used,
        .cache_hits = follow->figures.hits,
        .cache_misses = follow->figures.misses,
    };

    if (follow->offers) {
        bx_stats(follow->bx, &stats);
    }
}

int follow_step(Follow *follow)
{
    BxCondition condition;
    SizeInput input = { 0 };
    uint64_t next;
    int rc = measure(follow);

    if (rc < 0) {
        return rc;
    }
    tell_stats(follow);
    if (bx_condition_get(follow->bx, &condition) == 0) {
        input.condition = &condition;
    }
    if (follow_available(follow->meminfo, &input.available) < 0) {
        return cache_error(follow->cache, -EIO, "%s does not tell MemAvailable:"
                           " is /proc mounted?", follow->meminfo);
    }
    input.cache = follow->figures.used;
    /* A cache without a limit is as large as it is. */
    input.limit = follow->limit ? follow->limit
                                : follow->figures.limit ? follow->figures.limit
                                                        : follow->figures.used;
    next = size_next(&follow->size, &input);
    return next == follow->limit ? 0 : set_limit(follow, next);
}

uint64_t follow_give(void *opaque, uint64_t bytes)
{
    Follow *follow = opaque;
    uint64_t before, wanted;

    if (measure(follow) < 0) {
        return 0;
    }
    before = follow->figures.used;
    if (before <= follow->size.min) {
        return 0;
    }
    wanted = before - follow->size.min < bytes ? follow->size.min
                                               : before - bytes;
    if (set_limit(follow, wanted) < 0 || measure(follow) < 0 ||
        follow->figures.used >= before) {
        return 0;
    }
    before -= follow->figures.used;
    return before < bytes ? before : bytes;
}

void follow_have(void *opaque, uint64_t bytes)
{
    (void)opaque;
    (void)bytes;
}
