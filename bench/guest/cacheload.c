/*
 * Look-ups in a cache server, at a steady pace, as a service makes them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Usage: cacheload SOCKET KEYS VALUE_BYTES RATE SECONDS
 *
 * Asks the redis server behind a Unix socket for "k:N" of KEYS keys, RATE
 * times a second; what is not there is put there, as from a database.  Low
 * ranks are asked for far more often than high ones: the share of look-ups
 * among the first x of n is the cube root of x / n.  Which key has which rank
 * is scattered, so that keys that are wanted share pages with others.
 *
 * A look-up counts from the moment it was due to its answer, the putting
 * included: one that waits behind a slow one is slow itself, as its user sees
 * it.  A backlog of more than a second is given up and counted as failed, so
 * that a second's figures are that second's.  Prints a line a second:
 *
 *     SECOND LOOKUPS HITS FAILED P50_US P99_US MAX_US
 */

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST_A_SECOND = 20000, ANSWER_BYTES = 1 << 16, WAIT_S = 1 };

/* Coprime to any number of keys that has not this prime in it. */
#define SCATTER UINT64_C(2654435761)

typedef struct Load {
    const char *path;
    int server;                 /* -1: not connected */
    uint64_t keys, value_bytes, random;
    char *put;                  /* room for the longest request */
    uint64_t hits, failed, count;
    uint32_t us[MOST_A_SECOND];
} Load;

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * UINT64_C(1000000) + now.tv_nsec / 1000;
}

static void sleep_until(uint64_t us)
{
    struct timespec when = {
        .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000,
    };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

static bool connected(Load *load)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = WAIT_S };

    if (load->server >= 0) {
        return true;
    }
    strncpy(address.sun_path, load->path, sizeof(address.sun_path) - 1);
    load->server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (load->server < 0) {
        return false;
    }
    /* A server that hangs is a failure, and the next look-up tries anew. */
    setsockopt(load->server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(load->server, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(load->server, (struct sockaddr *)&address,
                sizeof(address)) < 0) {
        close(load->server);
        load->server = -1;
        return false;
    }
    return true;
}

static bool disconnect(Load *load)
{
    close(load->server);
    load->server = -1;
    return false;
}

static bool send_all(Load *load, const char *text, size_t length)
{
    while (length) {
        ssize_t done = write(load->server, text, length);

        if (done <= 0) {
            return disconnect(load);
        }
        text += done;
        length -= done;
    }
    return true;
}

/*
 * One answer: a line, and behind "$LENGTH" as many bytes and a line's end.
 * @ret_found: whether it has a value, or is no error.
 */
static bool receive(Load *load, bool *ret_found)
{
    static const char end[] = "\r\n";
    char text[ANSWER_BYTES];
    size_t have = 0, wanted = 0;

    while (!wanted || have < wanted) {
        size_t at = wanted ? 0 : have;
        ssize_t got = read(load->server, text + at, sizeof(text) - 1 - at);
        char *line;

        if (got <= 0) {
            return disconnect(load);
        }
        have += got;
        if (wanted) {
            continue;           /* a value: only its length matters */
        }
        text[have] = '\0';
        line = strstr(text, end);
        if (!line) {
            return disconnect(load);    /* no line is that long */
        }
        *ret_found = text[0] != '-' && strncmp(text, "$-1", 3);
        wanted = line + 2 - text;
        if (text[0] == '$' && *ret_found) {
            wanted += strtoull(text + 1, NULL, 10) + 2;
        }
    }
    return true;
}

static bool look_up(Load *load, uint64_t key, bool *ret_hit)
{
    char name[32], head[128];
    bool stored;
    int length;

    snprintf(name, sizeof(name), "k:%llu", (unsigned long long)key);
    length = snprintf(head, sizeof(head), "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n",
                      strlen(name), name);
    if (!connected(load) || !send_all(load, head, length) ||
        !receive(load, ret_hit)) {
        return false;
    }
    if (*ret_hit) {
        return true;
    }
    length = snprintf(load->put, sizeof(head),
                      "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%llu\r\n",
                      strlen(name), name,
                      (unsigned long long)load->value_bytes);
    memset(load->put + length, 'v', load->value_bytes);
    memcpy(load->put + length + load->value_bytes, "\r\n", 2);
    return send_all(load, load->put, length + load->value_bytes + 2) &&
           receive(load, &stored) && stored;
}

static uint64_t some_key(Load *load)
{
    double u;

    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    u = (load->random >> 11) / 9007199254740992.0;      /* 2^53 */
    return (uint64_t)(load->keys * u * u * u) * SCATTER % load->keys;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void tell(Load *load, unsigned second)
{
    uint64_t n = load->count;

    qsort(load->us, n, sizeof(*load->us), by_size);
    printf("%u %llu %llu %llu %u %u %u\n", second, (unsigned long long)n,
           (unsigned long long)load->hits, (unsigned long long)load->failed,
           n ? load->us[n / 2] : 0, n ? load->us[n * 99 / 100] : 0,
           n ? load->us[n - 1] : 0);
    fflush(stdout);
    load->count = load->hits = load->failed = 0;
}

static void one(Load *load, uint64_t due)
{
    bool hit;

    if (!look_up(load, some_key(load), &hit)) {
        load->failed++;
        return;
    }
    load->hits += hit;
    if (load->count < MOST_A_SECOND) {
        load->us[load->count++] = now_us() - due;
    }
}

static void run(Load *load, unsigned rate, unsigned seconds)
{
    uint64_t start = now_us(), told = 0;

    for (uint64_t i = 0; told < seconds; i++) {
        uint64_t due = start + i * 1000000 / rate, now = now_us();

        while (told < seconds && now >= start + (told + 1) * 1000000) {
            tell(load, told++);
        }
        if (now > due + 1000000) {
            load->failed++;
            continue;
        }
        if (due > now) {
            sleep_until(due);
        }
        one(load, due);
    }
}

int main(int argc, char **argv)
{
    Load *load = calloc(1, sizeof(*load));

    if (argc != 6 || !load) {
        fprintf(stderr,
                "usage: cacheload SOCKET KEYS VALUE_BYTES RATE SECONDS\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    load->path = argv[1];
    load->server = -1;
    load->keys = strtoull(argv[2], NULL, 0);
    load->value_bytes = strtoull(argv[3], NULL, 0);
    load->random = 88172645463325252;   /* the same requests in every run */
    load->put = malloc(load->value_bytes + 256);
    if (!load->put || !load->keys) {
        fprintf(stderr, "cacheload: no memory, or no keys\n");
        return 1;
    }
    run(load, strtoul(argv[4], NULL, 0), strtoul(argv[5], NULL, 0));
    return 0;
}
