/*
 * Requests for memory that are open, and whose they are
 *
 * Pure bookkeeping.  Every program numbers its requests as it likes; to the
 * host they have numbers of ours.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_REQUESTS_H
#define AGENT_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

/* The host takes so many of a guest. */
#define REQUESTS_MAX 64u
/* Of one program. */
#define REQUESTS_MAX_EACH 16u

typedef struct Request {
    uint64_t host_cookie;       /* 0: free */
    uint64_t cookie;            /* the program's */
    const void *client;         /* NULL: it has gone */
    uint32_t app;
    uint64_t until_ms;          /* forgotten then, answered or not */
} Request;

typedef struct Requests {
    Request request[REQUESTS_MAX];
    uint64_t last_cookie;
} Requests;

/* NULL: too many, or the program uses this cookie already. */
Request *requests_add(Requests *requests, const void *client, uint64_t cookie,
                      uint32_t app, uint64_t now_ms, uint64_t until_ms);
Request *requests_by_host(Requests *requests, uint64_t host_cookie);
Request *requests_by_client(Requests *requests, const void *client,
                            uint64_t cookie);
/* Any of this program; NULL. */
Request *requests_any(Requests *requests, const void *client);
void requests_remove(Request *request);
unsigned requests_count(const Requests *requests);

#endif
