/*
 * bx-follow: a cache that knows nothing of hosts follows the memory condition
 *
 * Once a second, and when the condition changes: measure, decide, set.  With
 * --give the cache takes part in giving memory up as well.  A cache that goes
 * away is tried again each second; what is wrong is said once, until it is
 * something else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "follow.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEP_MS 1000

static const CacheOps *const kinds[] = {
    &cache_redis, &cache_memcached, &cache_cgroup,
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static volatile sig_atomic_t ended;

static void end(int signal)
{
    (void)signal;
    ended = 1;
}

typedef struct Options {
    const char *run_dir, *name;
    bool give, verbose;
    unsigned priority;
    SizeOptions size;
} Options;

static void usage(FILE *out)
{
    fprintf(out, "Usage: bx-follow KIND [OPTION]...\n"
            "Let the size of a cache follow the memory condition that the host"
            " tells.\n\n"
            "  KIND                  redis, memcached or cgroup\n"
            "  -a, --address=TEXT    where it is:\n");
    for (unsigned i = 0; i < KINDS; i++) {
        fprintf(out, "                          %s: %s%s%s\n", kinds[i]->name,
                kinds[i]->address_help, kinds[i]->address ? "; default " : "",
                kinds[i]->address ? kinds[i]->address : "");
    }
    fprintf(out,
            "  -m, --min=SIZE        never smaller (default 16M)\n"
            "  -M, --max=SIZE        never larger\n"
            "  -k, --keep=SIZE       memory left to everybody else (default"
            " 64M)\n"
            "  -g, --give            give memory up when the host asks for it\n"
            "  -p, --priority=N      place among those who give, 0 to 9 (default"
            " 5)\n"
            "  -n, --name=TEXT       name that the operator sees (default"
            " KIND)\n"
            "  -r, --run-dir=FOLDER  of the agent (default %s)\n"
            "  -v, --verbose         say each new limit\n"
            "  -h, --help            this text\n", BX_RUN_DIR);
}

static int fail(const char *what, const char *value)
{
    fprintf(stderr, "bx-follow: %s: %s\n", value, what);
    return -EINVAL;
}

/* Bytes; K, M, G, T of 1024. */
static int size_of(const char *text, uint64_t *ret_bytes)
{
    static const char units[] = "KMGT";
    const char *unit;
    unsigned shift = 0;
    uint64_t number;
    char *end_of;

    errno = 0;
    number = strtoull(text, &end_of, 10);
    if (errno || end_of == text || text[0] == '-') {
        return fail("not a size: give a number and K, M, G or T", text);
    }
    if (*end_of) {
        unit = strchr(units, *end_of);
        if (!unit || end_of[1]) {
            return fail("not a size: give a number and K, M, G or T", text);
        }
        shift = 10 * (unit - units + 1);
    }
    if (number > UINT64_MAX >> shift >> 1) {
        return fail("too large a size", text);
    }
    *ret_bytes = number << shift;
    return 0;
}

static int parse_one(int option, Options *o, Cache *cache)
{
    switch (option) {
    case 'a':
        cache->address = optarg;
        return 0;
    case 'm':
        return size_of(optarg, &o->size.min);
    case 'M':
        return size_of(optarg, &o->size.max);
    case 'k':
        return size_of(optarg, &o->size.keep);
    case 'g':
        o->give = true;
        return 0;
    case 'p':
        if (optarg[0] < '0' || optarg[0] > '9' || optarg[1]) {
            return fail("not a priority: give 0 to 9", optarg);
        }
        o->priority = optarg[0] - '0';
        return 0;
    case 'n':
        o->name = optarg;
        return 0;
    case 'r':
        o->run_dir = optarg;
        return 0;
    case 'v':
        o->verbose = true;
        return 0;
    case 'h':
        usage(stdout);
        exit(0);
    default:
        return -EINVAL;         /* getopt_long() has said why */
    }
}

/* 0, or negative when it has been said what is wrong. */
static int parse(int argc, char **argv, Options *o, Cache *cache)
{
    static const struct option longs[] = {
        { "address", required_argument, NULL, 'a' },
        { "min", required_argument, NULL, 'm' },
        { "max", required_argument, NULL, 'M' },
        { "keep", required_argument, NULL, 'k' },
        { "give", no_argument, NULL, 'g' },
        { "priority", required_argument, NULL, 'p' },
        { "name", required_argument, NULL, 'n' },
        { "run-dir", required_argument, NULL, 'r' },
        { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int option, rc = 0;

    while (rc == 0 && (option = getopt_long(argc, argv, "a:m:M:k:gp:n:r:vh",
                                            longs, NULL)) != -1) {
        rc = parse_one(option, o, cache);
    }
    if (rc < 0) {
        return rc;
    }
    if (optind != argc - 1) {
        fprintf(stderr, "bx-follow: name one kind of cache: redis, memcached"
                " or cgroup\n");
        return -EINVAL;
    }
    for (unsigned i = 0; i < KINDS; i++) {
        if (!strcmp(argv[optind], kinds[i]->name)) {
            cache->ops = kinds[i];
        }
    }
    if (!cache->ops) {
        return fail("no such kind: redis, memcached and cgroup are known",
                    argv[optind]);
    }
    if (!cache->address) {
        cache->address = cache->ops->address;
    }
    if (!cache->address) {
        return fail("needs --address", cache->ops->name);
    }
    if (o->size.max && o->size.max < o->size.min) {
        fprintf(stderr, "bx-follow: --max is below --min\n");
        return -EINVAL;
    }
    return 0;
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * UINT64_C(1000) + now.tv_nsec / 1000000;
}

static void on_condition(void *opaque, const BxCondition *condition)
{
    uint64_t *due = opaque;

    (void)condition;
    *due = 0;
}

typedef struct Said {
    char message[sizeof(((Cache *)0)->message)];
    uint64_t limits;
} Said;

/* Says what changed since the last time. */
static void report(const Follow *follow, const Options *o, int rc, Said *said)
{
    const char *message = rc < 0 ? follow->cache->message : "";

    if (strcmp(message, said->message)) {
        fprintf(stderr, "bx-follow: %s\n", *message ? message
                                                    : "it is well again");
        snprintf(said->message, sizeof(said->message), "%s", message);
    }
    if (o->verbose && said->limits != follow->limits_set) {
        said->limits = follow->limits_set;
        printf("limit %" PRIu64 " KiB, used %" PRIu64 " KiB\n",
               follow->limit / 1024, follow->figures.used / 1024);
        fflush(stdout);
    }
}

static int run(Follow *follow, const Options *o)
{
    uint64_t due = 0;
    Said said = { 0 };

    bx_on_condition(follow->bx, on_condition, &due);
    while (!ended) {
        uint64_t now = now_ms();

        if (now >= due) {
            report(follow, o, follow_step(follow), &said);
            due = now + STEP_MS;
        }
        bx_wait(follow->bx, due > now ? (int)(due - now) : 0);
        bx_dispatch(follow->bx);
    }
    follow->cache->ops->close(follow->cache);
    return 0;
}

int main(int argc, char **argv)
{
    Options o = { .priority = 5,
                  .size = { .min = UINT64_C(16) << 20,
                            .keep = UINT64_C(64) << 20 } };
    Cache cache = { 0 };
    Follow follow = { .cache = &cache, .meminfo = "/proc/meminfo" };
    struct sigaction action = { .sa_handler = end };
    int rc;

    if (parse(argc, argv, &o, &cache) < 0) {
        fprintf(stderr, "Try 'bx-follow --help'.\n");
        return 2;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    follow.size = o.size;
    rc = bx_open(o.run_dir, o.give ? 0 : BX_CONDITION_ONLY, &follow.bx);
    if (rc == 0 && o.give) {
        BxOffer offer = {
            .name = o.name ? o.name : cache.ops->name,
            .priority = o.priority, .bytes = UINT64_MAX,
            .give = follow_give, .have = follow_have, .opaque = &follow,
        };

        rc = bx_offer(follow.bx, &offer);
        follow.offers = rc == 0;
    }
    if (rc < 0) {
        fprintf(stderr, "bx-follow: %s: %s\n",
                o.run_dir ? o.run_dir : BX_RUN_DIR, strerror(-rc));
        return 1;
    }
    rc = run(&follow, &o);
    bx_close(follow.bx);
    return rc;
}
