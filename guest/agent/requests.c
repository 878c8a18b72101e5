/*
 * Requests for memory that are open, and whose they are
 *
 * The host answers each within its deadline; what it leaves unanswered for a
 * minute longer is forgotten, so that the table cannot fill up with the
 * host's mistakes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "requests.h"

#include <stddef.h>
#include <string.h>

#define LATE_MS 60000u

static unsigned count_of(Requests *requests, const void *client)
{
    unsigned count = 0;

    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        count += requests->request[i].host_cookie &&
                 requests->request[i].client == client;
    }
    return count;
}

Request *requests_add(Requests *requests, const void *client, uint64_t cookie,
                      uint32_t app, uint64_t now_ms, uint64_t until_ms)
{
    Request *free_one = NULL;

    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        Request *r = &requests->request[i];

        if (r->host_cookie && now_ms > r->until_ms) {
            requests_remove(r);
        }
        if (!r->host_cookie) {
            free_one = r;
        }
    }
    if (!free_one || requests_by_client(requests, client, cookie) ||
        count_of(requests, client) >= REQUESTS_MAX_EACH) {
        return NULL;
    }
    *free_one = (Request) {
        .host_cookie = ++requests->last_cookie,
        .cookie = cookie,
        .client = client,
        .app = app,
        .until_ms = until_ms + LATE_MS,
    };
    return free_one;
}

Request *requests_by_host(Requests *requests, uint64_t host_cookie)
{
    for (unsigned i = 0; host_cookie && i < REQUESTS_MAX; i++) {
        if (requests->request[i].host_cookie == host_cookie) {
            return &requests->request[i];
        }
    }
    return NULL;
}

Request *requests_by_client(Requests *requests, const void *client,
                            uint64_t cookie)
{
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        Request *r = &requests->request[i];

        if (r->host_cookie && r->client == client && r->cookie == cookie) {
            return r;
        }
    }
    return NULL;
}

Request *requests_any(Requests *requests, const void *client)
{
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        Request *r = &requests->request[i];

        if (r->host_cookie && r->client == client) {
            return r;
        }
    }
    return NULL;
}

void requests_remove(Request *request)
{
    memset(request, 0, sizeof(*request));
}

unsigned requests_count(const Requests *requests)
{
    unsigned count = 0;

    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        count += requests->request[i].host_cookie != 0;
    }
    return count;
}
