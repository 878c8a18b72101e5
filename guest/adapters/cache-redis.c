/*
 * Redis, as a cache: maxmemory follows the condition
 *
 * Redis evicts by its own policy (maxmemory-policy; "noeviction" makes it
 * refuse writes instead, which is said once) as soon as maxmemory is below what
 * it uses, a bounded time with each command.  Its allocator keeps what was
 * freed until MEMORY PURGE.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "cache.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Evicting is done in slices; so many looks at how far it has come. */
#define EVICT_LOOKS 100

static void redis_close(Cache *cache)
{
    if (cache->connection) {
        redisFree(cache->connection);
        cache->connection = NULL;
    }
}

/* The reply of a command that worked, or NULL and the error noted. */
static redisReply *ask(Cache *cache, int *ret_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static redisReply *ask(Cache *cache, int *ret_error, const char *format, ...)
{
    redisReply *reply;
    va_list args;

    va_start(args, format);
    reply = redisvCommand(cache->connection, format, args);
    va_end(args);
    if (!reply) {
        *ret_error = cache_error(cache, -ECONNRESET, "redis at %s does not"
                                 " answer: %s", cache->address,
                                 ((redisContext *)cache->connection)->errstr);
        redis_close(cache);
        return NULL;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        *ret_error = cache_error(cache, -EPROTO, "redis at %s says: %s",
                                 cache->address, reply->str);
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

static int redis_open(Cache *cache)
{
    struct timeval limit = { .tv_sec = CACHE_TIMEOUT_MS / 1000 };
    const char *port = strrchr(cache->address, ':');
    redisContext *context;
    char host[256];

    if (cache->address[0] == '/') {
        context = redisConnectUnixWithTimeout(cache->address, limit);
    } else if (port && port - cache->address < (int)sizeof(host)) {
        memcpy(host, cache->address, port - cache->address);
        host[port - cache->address] = '\0';
        context = redisConnectWithTimeout(host, atoi(port + 1), limit);
    } else {
        return cache_error(cache, -EINVAL, "%s is no address: give the path of"
                           " a socket, or HOST:PORT", cache->address);
    }
    if (!context || context->err) {
        int rc = cache_error(cache, -ECONNREFUSED, "redis at %s cannot be"
                             " reached: %s", cache->address,
                             context ? context->errstr : "out of memory");

        redisFree(context);
        return rc;
    }
    redisSetTimeout(context, limit);
    cache->connection = context;
    return 0;
}

/* "name:value" of a line of INFO. */
static uint64_t figure(const char *info, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = info; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, name, length) && line[length] == ':') {
            return strtoull(line + length + 1, NULL, 10);
        }
    }
    return CACHE_UNKNOWN;
}

static int redis_measure(Cache *cache, CacheFigures *ret_figures)
{
    CacheFigures figures;
    redisReply *reply;
    int rc = 0;

    reply = ask(cache, &rc, "INFO memory");
    if (!reply) {
        return rc;
    }
    figures.used = figure(reply->str, "used_memory");
    figures.limit = figure(reply->str, "maxmemory");
    freeReplyObject(reply);
    reply = ask(cache, &rc, "INFO stats");
    if (!reply) {
        return rc;
    }
    figures.hits = figure(reply->str, "keyspace_hits");
    figures.misses = figure(reply->str, "keyspace_misses");
    freeReplyObject(reply);
    if (figures.used == CACHE_UNKNOWN || figures.limit == CACHE_UNKNOWN) {
        return cache_error(cache, -EPROTO, "what answers at %s is no redis that"
                           " tells used_memory and maxmemory", cache->address);
    }
    *ret_figures = figures;
    return 0;
}

/* Each INFO lets it evict for a while; ends when it has, or does not go on. */
static int wait_evicted(Cache *cache, uint64_t bytes)
{
    CacheFigures figures = { .used = UINT64_MAX };
    uint64_t before;
    int rc, idle = 0;

    for (int i = 0; i < EVICT_LOOKS && idle < 10; i++) {
        struct timespec pause = { .tv_nsec = 10000000 };

        before = figures.used;
        rc = redis_measure(cache, &figures);
        if (rc < 0 || figures.used <= bytes) {
            return rc;
        }
        idle = figures.used < before ? 0 : idle + 1;
        nanosleep(&pause, NULL);        /* it evicts on a timer of its own */
    }
    return 0;
}

static int redis_set_limit(Cache *cache, uint64_t bytes)
{
    redisReply *reply;
    int rc = 0;

    reply = ask(cache, &rc, "CONFIG SET maxmemory %" PRIu64, bytes);
    if (!reply) {
        return rc;
    }
    freeReplyObject(reply);
    rc = wait_evicted(cache, bytes);
    if (rc == 0) {
        reply = ask(cache, &rc, "MEMORY PURGE");
        freeReplyObject(reply);
    }
    return rc;
}

const CacheOps cache_redis = {
    .name = "redis",
    .address_help = "path of its socket, or HOST:PORT",
    .address = "127.0.0.1:6379",
    .open = redis_open,
    .close = redis_close,
    .measure = redis_measure,
    .set_limit = redis_set_limit,
};
