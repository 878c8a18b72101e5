/*
 * A cache that follows the condition, and the caches that are known
 *
 * Servers are pretended: a thread that answers one connection, line by line.
 * The real ones run in the guests of tests/functional.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "condpage.h"
#include "follow.h"

#define MIB (UINT64_C(1) << 20)

/* ---- a cache that does as it is told ---- */

typedef struct Obedient {
    CacheFigures figures;
    bool absent, stubborn;
    unsigned opened;
} Obedient;

static Obedient obedient;

static int obedient_open(Cache *cache)
{
    if (obedient.absent) {
        return cache_error(cache, -ECONNREFUSED, "it is not there");
    }
    obedient.opened++;
    cache->connection = &obedient;
    return 0;
}

static void obedient_close(Cache *cache)
{
    cache->connection = NULL;
}

static int obedient_measure(Cache *cache, CacheFigures *ret_figures)
{
    if (obedient.absent) {
        cache->connection = NULL;
        return cache_error(cache, -ECONNRESET, "it went away");
    }
    *ret_figures = obedient.figures;
    return 0;
}

static int obedient_set_limit(Cache *cache, uint64_t bytes)
{
    (void)cache;
    obedient.figures.limit = bytes;
    if (obedient.figures.used > bytes && !obedient.stubborn) {
        obedient.figures.used = bytes;
    }
    return 0;
}

static const CacheOps obedient_ops = {
    .name = "obedient", .open = obedient_open, .close = obedient_close,
    .measure = obedient_measure, .set_limit = obedient_set_limit,
};

typedef struct Stage {
    char *folder, *meminfo;
    BxCondPage *page;
    Cache cache;
    Follow follow;
} Stage;

static void say_available(Stage *s, uint64_t mib)
{
    g_autofree char *text = g_strdup_printf("MemTotal: 999 kB\nMemAvailable:"
                                            "  %" PRIu64 " kB\n", mib * 1024);

    g_assert_true(g_file_set_contents(s->meminfo, text, -1, NULL));
}

static void say_condition(Stage *s, uint32_t level, uint64_t allocated_mib)
{
    BxFigures f = { .generation = 1, .level = level, .is_connected = 1,
                    .gathered_ns = bx_now_ns(), .ram = 1024 * MIB,
                    .allocated = allocated_mib * MIB };

    bx_condpage_write(s->page, &f);
}

static void open_stage(Stage *s)
{
    g_autofree char *path = NULL;

    memset(s, 0, sizeof(*s));
    s->folder = g_dir_make_tmp("follow-XXXXXX", NULL);
    s->meminfo = g_build_filename(s->folder, "meminfo", NULL);
    path = g_build_filename(s->folder, "condition", NULL);
    g_assert_cmpint(bx_condpage_create(path, &s->page), ==, 0);
    s->cache.ops = &obedient_ops;
    memset(&obedient, 0, sizeof(obedient));
    obedient.figures = (CacheFigures) { .used = 200 * MIB, .limit = 200 * MIB };
    s->follow = (Follow) {
        .cache = &s->cache, .meminfo = s->meminfo,
        .size = { .min = 16 * MIB, .keep = 64 * MIB },
    };
    g_assert_cmpint(bx_open(s->folder, BX_CONDITION_ONLY, &s->follow.bx), ==,
                    0);
    say_available(s, 300);
}

static void close_stage(Stage *s)
{
    g_autofree char *path = g_build_filename(s->folder, "condition", NULL);

    bx_close(s->follow.bx);
    bx_condpage_unmap(s->page);
    g_unlink(path);
    g_unlink(s->meminfo);
    g_rmdir(s->folder);
    g_free(s->folder);
    g_free(s->meminfo);
}

static void test_limit_follows_the_condition_down_and_up(void)
{
    Stage s;

    open_stage(&s);
    say_condition(&s, BX_HARD, 900);
    g_assert_cmpint(follow_step(&s.follow), ==, 0);
    g_assert_cmpuint(obedient.figures.limit, ==, 200 * MIB - 200 * MIB / 16);
    say_condition(&s, BX_HIGH, 1024);
    g_assert_cmpint(follow_step(&s.follow), ==, 0);
    g_assert_cmpuint(obedient.figures.limit, >, 200 * MIB);
    close_stage(&s);
}

static void test_host_that_backs_less_than_the_kernel_says_is_believed(void)
{
    Stage s;

    open_stage(&s);
    /* 724 used, 740 backed: 16 left, 48 less than is to be kept. */
    say_condition(&s, BX_HIGH, 740);
    g_assert_cmpint(follow_step(&s.follow), ==, 0);
    g_assert_cmpuint(obedient.figures.limit, ==, 152 * MIB);
    close_stage(&s);
}

static void test_cache_that_goes_away_is_found_again(void)
{
    Stage s;

    open_stage(&s);
    g_assert_cmpint(follow_step(&s.follow), ==, 0);
    obedient.absent = true;
    g_assert_cmpint(follow_step(&s.follow), ==, -ECONNRESET);
    g_assert_cmpstr(s.cache.message, ==, "it went away");
    g_assert_cmpint(follow_step(&s.follow), ==, -ECONNREFUSED);
    obedient.absent = false;
    g_assert_cmpint(follow_step(&s.follow), ==, 0);
    g_assert_cmpuint(obedient.opened, ==, 2);
    close_stage(&s);
}

static void test_giving_counts_what_the_cache_has_shrunk_by(void)
{
    Stage s;

    open_stage(&s);
    g_assert_cmpuint(follow_give(&s.follow, 50 * MIB), ==, 50 * MIB);
    g_assert_cmpuint(obedient.figures.limit, ==, 150 * MIB);
    /* Down to its min, and no further. */
    g_assert_cmpuint(follow_give(&s.follow, 500 * MIB), ==, 134 * MIB);
    g_assert_cmpuint(follow_give(&s.follow, MIB), ==, 0);
    close_stage(&s);
}

static void test_cache_that_does_not_shrink_gives_nothing(void)
{
    Stage s;

    open_stage(&s);
    obedient.stubborn = true;
    g_assert_cmpuint(follow_give(&s.follow, 50 * MIB), ==, 0);
    obedient.absent = true;
    g_assert_cmpuint(follow_give(&s.follow, 50 * MIB), ==, 0);
    close_stage(&s);
}

static void test_missing_meminfo_is_one_sentence(void)
{
    Stage s;

    open_stage(&s);
    s.follow.meminfo = "/nonexistent/meminfo";
    g_assert_cmpint(follow_step(&s.follow), ==, -EIO);
    g_assert_nonnull(strstr(s.cache.message, "/nonexistent/meminfo"));
    close_stage(&s);
}

/* ---- pretended servers ---- */

typedef struct Server {
    int fd;
    char *folder, *path;
    GThread *thread;
    /* An answer to a command, without arguments that matter; to be freed */
    char *(*answer)(const char *line);
} Server;

static void *serve(void *opaque)
{
    Server *server = opaque;
    int fd = accept(server->fd, NULL, NULL);
    FILE *in = fdopen(fd, "r");
    char line[512];

    while (fgets(line, sizeof(line), in)) {
        g_autofree char *text = server->answer(line);

        if (text && send(fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
            break;
        }
        if (text && !*text) {
            break;                      /* hang up */
        }
    }
    fclose(in);
    return NULL;
}

static void open_server(Server *server, char *(*answer)(const char *))
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    server->answer = answer;
    server->folder = g_dir_make_tmp("server-XXXXXX", NULL);
    server->path = g_build_filename(server->folder, "socket", NULL);
    g_strlcpy(address.sun_path, server->path, sizeof(address.sun_path));
    server->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    g_assert_cmpint(bind(server->fd, (struct sockaddr *)&address,
                         sizeof(address)), ==, 0);
    g_assert_cmpint(listen(server->fd, 1), ==, 0);
    server->thread = g_thread_new("server", serve, server);
}

static void close_server(Server *server)
{
    g_thread_join(server->thread);
    close(server->fd);
    g_unlink(server->path);
    g_rmdir(server->folder);
    g_free(server->path);
    g_free(server->folder);
}

static _Atomic uint64_t server_limit, server_used;   /* both threads */

static char *memcached_answer(const char *line)
{
    uint64_t mib;

    if (sscanf(line, "cache_memlimit %" SCNu64, &mib) == 1) {
        server_limit = mib * MIB;
        server_used = MIN(server_used, server_limit);
        return g_strdup("OK\r\n");
    }
    if (!strcmp(line, "stats slabs\r\n")) {
        return g_strdup_printf("STAT 1:chunk_size 96\r\nSTAT total_malloced %"
                               PRIu64 "\r\nEND\r\n", server_used);
    }
    if (!strcmp(line, "stats\r\n")) {
        return g_strdup_printf("STAT version 1.6.18\r\nSTAT limit_maxbytes %"
                               PRIu64 "\r\nSTAT get_hits 7\r\nSTAT get_misses"
                               " 3\r\nEND\r\n", server_limit);
    }
    return g_strdup("ERROR\r\n");
}

static void test_memcached_is_measured_and_limited(void)
{
    Cache cache = { .ops = &cache_memcached };
    CacheFigures figures;
    Server server;

    server_limit = 100 * MIB;
    server_used = 90 * MIB;
    open_server(&server, memcached_answer);
    cache.address = server.path;
    g_assert_cmpint(cache.ops->open(&cache), ==, 0);
    g_assert_cmpint(cache.ops->measure(&cache, &figures), ==, 0);
    g_assert_cmpuint(figures.used, ==, 90 * MIB);
    g_assert_cmpuint(figures.limit, ==, 100 * MIB);
    g_assert_cmpuint(figures.hits, ==, 7);
    g_assert_cmpuint(figures.misses, ==, 3);
    g_assert_cmpint(cache.ops->set_limit(&cache, 40 * MIB + 17), ==, 0);
    g_assert_cmpuint(server_limit, ==, 40 * MIB);
    /* What is too little for it becomes what it takes. */
    g_assert_cmpint(cache.ops->set_limit(&cache, 1), ==, 0);
    g_assert_cmpuint(server_limit, ==, 8 * MIB);
    cache.ops->close(&cache);
    g_assert_null(cache.connection);
    close_server(&server);
}

static char *hang_up(const char *line)
{
    (void)line;
    return g_strdup("");
}

static char *nonsense(const char *line)
{
    (void)line;
    return g_strdup("220 mail.example ready\r\n");
}

static char *endless(const char *line)
{
    (void)line;
    return g_strnfill(20000, 'x');
}

static void test_servers_that_make_no_sense_are_errors(void)
{
    static char *(*const answers[])(const char *) = { hang_up, nonsense,
                                                      endless };

    for (unsigned i = 0; i < G_N_ELEMENTS(answers); i++) {
        const CacheOps *kinds[] = { &cache_memcached, &cache_redis };

        for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
            Cache cache = { .ops = kinds[k] };
            CacheFigures figures;
            Server server;

            open_server(&server, answers[i]);
            cache.address = server.path;
            g_assert_cmpint(cache.ops->open(&cache), ==, 0);
            if (kinds[k] == &cache_redis && answers[i] == endless) {
                /* Its library takes a reply of any length: ends by a limit. */
                cache.ops->close(&cache);
            } else {
                g_assert_cmpint(cache.ops->measure(&cache, &figures), <, 0);
                g_assert_cmpstr(cache.message, !=, "");
                cache.ops->close(&cache);
            }
            close_server(&server);
        }
    }
}

/*
 * Commands of redis are arrays of strings, each behind a line with its length:
 * the words are gathered until a command is whole.
 */
static char *redis_answer(const char *line)
{
    static char words[256];
    char info[256];
    uint64_t bytes;

    if (line[0] == '*') {
        words[0] = '\0';
        return NULL;
    }
    if (line[0] == '$') {
        return NULL;
    }
    g_strlcat(words, line, sizeof(words));
    if (sscanf(words, "CONFIG SET maxmemory %" SCNu64, &bytes) == 1) {
        server_limit = bytes;
        server_used = MIN(server_used, bytes);
        return g_strdup("+OK\r\n");
    }
    if (!strcmp(words, "INFO\r\nmemory\r\n")) {
        g_snprintf(info, sizeof(info), "# Memory\r\nused_memory:%" PRIu64
                   "\r\nused_memory_rss:1\r\nmaxmemory:%" PRIu64 "\r\n",
                   server_used, server_limit);
        return g_strdup_printf("$%zu\r\n%s\r\n", strlen(info), info);
    }
    if (!strcmp(words, "INFO\r\nstats\r\n")) {
        return g_strdup("$37\r\nkeyspace_hits:9\r\nkeyspace_misses:4\r\n#\r\n");
    }
    return strcmp(words, "MEMORY\r\nPURGE\r\n") ? NULL : g_strdup("+OK\r\n");
}

static void test_redis_is_measured_and_limited(void)
{
    Cache cache = { .ops = &cache_redis };
    CacheFigures figures;
    Server server;

    server_limit = 0;
    server_used = 90 * MIB;
    open_server(&server, redis_answer);
    cache.address = server.path;
    g_assert_cmpint(cache.ops->open(&cache), ==, 0);
    g_assert_cmpint(cache.ops->measure(&cache, &figures), ==, 0);
    g_assert_cmpuint(figures.used, ==, 90 * MIB);
    g_assert_cmpuint(figures.limit, ==, 0);
    g_assert_cmpuint(figures.hits, ==, 9);
    g_assert_cmpuint(figures.misses, ==, 4);
    g_assert_cmpint(cache.ops->set_limit(&cache, 40 * MIB), ==, 0);
    g_assert_cmpuint(server_limit, ==, 40 * MIB);
    cache.ops->close(&cache);
    close_server(&server);
}

static void test_nobody_there_is_one_sentence(void)
{
    const CacheOps *kinds[] = { &cache_memcached, &cache_redis, &cache_cgroup };

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        Cache cache = { .ops = kinds[i], .address = "/nonexistent/place" };

        g_assert_cmpint(cache.ops->open(&cache), <, 0);
        g_assert_null(cache.connection);
        g_assert_nonnull(strstr(cache.message, "/nonexistent/place"));
        g_assert_null(strchr(cache.message, '\n'));
    }
}

static void test_group_is_measured_and_limited(void)
{
    g_autofree char *folder = g_dir_make_tmp("cgroup-XXXXXX", NULL);
    g_autofree char *current = g_build_filename(folder, "memory.current",
                                                NULL);
    g_autofree char *high = g_build_filename(folder, "memory.high", NULL);
    g_autofree char *text = NULL;
    Cache cache = { .ops = &cache_cgroup, .address = folder };
    CacheFigures figures;

    g_assert_true(g_file_set_contents(current, "123456789\n", -1, NULL));
    g_assert_true(g_file_set_contents(high, "max\n", -1, NULL));
    g_assert_cmpint(cache.ops->open(&cache), ==, 0);
    g_assert_cmpint(cache.ops->measure(&cache, &figures), ==, 0);
    g_assert_cmpuint(figures.used, ==, 123456789);
    g_assert_cmpuint(figures.limit, ==, 0);
    g_assert_cmpuint(figures.hits, ==, CACHE_UNKNOWN);
    g_assert_cmpint(cache.ops->set_limit(&cache, 1048576), ==, 0);
    g_assert_true(g_file_get_contents(high, &text, NULL, NULL));
    g_assert_true(g_str_has_prefix(text, "1048576"));
    cache.ops->close(&cache);
    g_unlink(current);
    g_unlink(high);
    g_rmdir(folder);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/follow/limit-follows-the-condition",
                    test_limit_follows_the_condition_down_and_up);
    g_test_add_func("/follow/host-is-believed-before-the-kernel",
                    test_host_that_backs_less_than_the_kernel_says_is_believed);
    g_test_add_func("/follow/cache-that-goes-away-is-found-again",
                    test_cache_that_goes_away_is_found_again);
    g_test_add_func("/follow/giving-counts-what-shrank",
                    test_giving_counts_what_the_cache_has_shrunk_by);
    g_test_add_func("/follow/cache-that-does-not-shrink-gives-nothing",
                    test_cache_that_does_not_shrink_gives_nothing);
    g_test_add_func("/follow/missing-meminfo-is-one-sentence",
                    test_missing_meminfo_is_one_sentence);
    g_test_add_func("/cache/memcached", test_memcached_is_measured_and_limited);
    g_test_add_func("/cache/redis", test_redis_is_measured_and_limited);
    g_test_add_func("/cache/cgroup", test_group_is_measured_and_limited);
    g_test_add_func("/cache/nonsense-is-an-error",
                    test_servers_that_make_no_sense_are_errors);
    g_test_add_func("/cache/nobody-there-is-one-sentence",
                    test_nobody_there_is_one_sentence);
    return g_test_run();
}
