/*
 * A control group, as a cache: memory.high follows the condition
 *
 * For programs that have no size to set.  The kernel reclaims from a group
 * that is over its memory.high, page cache first, and slows its programs down
 * while it is over; it kills nobody.  The address is the group's folder.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NUMBER_BYTES 64

static int open_file(Cache *cache, const char *name, int flags)
{
    char path[512];
    int fd;

    if (snprintf(path, sizeof(path), "%s/%s", cache->address, name) >=
        (int)sizeof(path)) {
        return cache_error(cache, -ENAMETOOLONG,
                           "the folder's name is too long: %.100s…",
                           cache->address);
    }
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        return cache_error(cache, -errno, "%s cannot be opened (%s): name the"
                           " folder of a cgroup v2 group that has the memory"
                           " controller", path, strerror(errno));
    }
    return fd;
}

/* "max" is 0: there is no limit. */
static int read_number(Cache *cache, const char *name, uint64_t *ret_number)
{
    char text[NUMBER_BYTES];
    int fd = open_file(cache, name, O_RDONLY);
    ssize_t got;

    if (fd < 0) {
        return fd;
    }
    got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got <= 0) {
        return cache_error(cache, -EIO, "%s/%s cannot be read", cache->address,
                           name);
    }
    text[got] = '\0';
    *ret_number = strncmp(text, "max", 3) ? strtoull(text, NULL, 10) : 0;
    return 0;
}

static int cgroup_measure(Cache *cache, CacheFigures *ret_figures)
{
    CacheFigures figures = { .hits = CACHE_UNKNOWN, .misses = CACHE_UNKNOWN };
    int rc = read_number(cache, "memory.current", &figures.used);

    if (rc == 0) {
        rc = read_number(cache, "memory.high", &figures.limit);
    }
    if (rc == 0) {
        *ret_figures = figures;
    }
    return rc;
}

static int cgroup_set_limit(Cache *cache, uint64_t bytes)
{
    char text[NUMBER_BYTES];
    int length = snprintf(text, sizeof(text), "%" PRIu64, bytes);
    int fd = open_file(cache, "memory.high", O_WRONLY);
    int rc = 0;

    if (fd < 0) {
        return fd;
    }
    /* Returns when the kernel has tried to reclaim what is over it. */
    if (write(fd, text, length) != length) {
        rc = cache_error(cache, -errno, "%s/memory.high cannot be written (%s)",
                         cache->address, strerror(errno));
    }
    close(fd);
    return rc;
}

static int cgroup_open(Cache *cache)
{
    CacheFigures figures;
    int rc = cgroup_measure(cache, &figures);

    if (rc == 0) {
        cache->connection = cache;      /* there is nothing to keep open */
    }
    return rc;
}

static void cgroup_close(Cache *cache)
{
    cache->connection = NULL;
}

const CacheOps cache_cgroup = {
    .name = "cgroup",
    .address_help = "folder of the group",
    .address = NULL,
    .open = cgroup_open,
    .close = cgroup_close,
    .measure = cgroup_measure,
    .set_limit = cgroup_set_limit,
};
