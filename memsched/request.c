/*
 * Requests of guests for memory
 *
 * Owns the table of open requests and the rule where memory for one comes
 * from:
 *
 *   1. the pool, as far as pages are free beyond min-free and promised to
 *      nobody, up to the guest's max;
 *   2. other guests, up to the guest's entitlement: those that say what they
 *      use and hold more, above their min; the one with most to give first.
 *
 * Each part is a transfer, with the life and the limits of one.  Who is more
 * urgent is served first, then who asked first.
 *
 *     pages = got + moving + (coming - moving) + missing
 *
 * A guest that asks all the time is bounded by the number of its requests and
 * of their transfers, by the number of those of all guests, and by its
 * entitlement: asking changes no share.
 *
 * Pure; the caller holds the ledger's lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "less.h"
#include "request.h"

/* ---- the table ---- */

void ms_requests_clear(MsRequests *t)
{
    for (size_t i = 0; i < t->count; i++) {
        g_free(t->request[i]);
    }
    g_free(t->request);
    *t = (MsRequests) { 0 };
}

MsRequest *ms_requests_find(const MsRequests *t, const void *client,
                            uint32_t app, uint64_t cookie)
{
    for (size_t i = 0; i < t->count; i++) {
        MsRequest *r = t->request[i];

        if (r->client == client && r->app == app && r->cookie == cookie) {
            return r;
        }
    }
    return NULL;
}

static unsigned open_of(const MsRequests *t, const void *client)
{
    unsigned count = 0;

    for (size_t i = 0; i < t->count; i++) {
        count += t->request[i]->client == client;
    }
    return count;
}

MsRequest *ms_requests_add(MsRequests *t, const MsRequest *request,
                           int *ret_error)
{
    size_t at = t->count;
    MsRequest *r;

    if (ms_requests_find(t, request->client, request->app,
                         request->cookie)) {
        *ret_error = -EEXIST;
        return NULL;
    }
    if (open_of(t, request->client) >= MEMSCHED_REQUESTS_MAX) {
        *ret_error = -ENOSPC;
        return NULL;
    }
    if (t->count == t->size) {
        t->size = t->size ? t->size * 2 : 16;
        t->request = g_renew(MsRequest *, t->request, t->size);
    }
    while (at > 0 && t->request[at - 1]->priority < request->priority) {
        t->request[at] = t->request[at - 1];
        at--;
    }
    r = g_new(MsRequest, 1);
    *r = *request;
    r->number = ++t->numbers;
    t->request[at] = r;
    t->count++;
    return r;
}

void ms_requests_remove(MsRequests *t, MsRequest *request)
{
    size_t at = 0;

    while (t->request[at] != request) {
        at++;
        g_assert(at < t->count);
    }
    memmove(&t->request[at], &t->request[at + 1],
            (t->count - at - 1) * sizeof(t->request[0]));
    t->count--;
    g_free(request);
}

uint64_t ms_requests_wanted(const MsRequests *t, const void *client)
{
    uint64_t wanted = 0;

    /* At most 64 of less than 2^51 pages each. */
    for (size_t i = 0; i < t->count; i++) {
        const MsRequest *r = t->request[i];

        if (r->client == client) {
            wanted += ms_less(r->pages, r->got + r->moving);
        }
    }
    return wanted;
}

static unsigned running_of(const MsRequest *r)
{
    unsigned count = 0;

    for (unsigned i = 0; i < MS_REQUEST_TRANSFERS; i++) {
        count += r->transfer[i] != 0;
    }
    return count;
}

unsigned ms_requests_transfers(const MsRequests *t, const void *client)
{
    unsigned count = 0;

    for (size_t i = 0; i < t->count; i++) {
        if (client == NULL || t->request[i]->client == client) {
            count += running_of(t->request[i]);
        }
    }
    return count;
}

/* ---- its end ---- */

MsRequestEnd ms_request_end(const MsRequest *r, uint64_t room,
                            uint64_t now_ns)
{
    MsRequestEnd end = { .ends = true, .status = MEMSCHED_ANSWER_GRANTED };

    if (running_of(r) > 0) {
        return (MsRequestEnd) { .ends = false };
    }
    if (r->got >= r->pages) {
        return end;
    }
    end.status = r->got > 0 ? MEMSCHED_ANSWER_PARTIAL
                            : MEMSCHED_ANSWER_REFUSED;
    if (r->withdrawn) {
        end.reason = MEMSCHED_REASON_CANCELLED;
    } else if (room == 0) {
        end.reason = MEMSCHED_REASON_LIMIT;
    } else if (now_ns >= r->deadline_ns) {
        end.reason = r->got > 0 ? MEMSCHED_REASON_DEADLINE
                                : MEMSCHED_REASON_HOST;
    } else {
        end.ends = false;
    }
    return end;
}

/* ---- where it comes from ---- */

uint64_t ms_request_donation(uint64_t allocated, uint64_t active,
                             uint64_t min, uint64_t giving)
{
    uint64_t idle = ms_less(allocated, active);

    return ms_less(MIN(idle - idle / 4, ms_less(allocated, min)), giving);
}

static int most_first(const void *a, const void *b)
{
    const MsRequestDonor *x = a, *y = b;

    return x->pages > y->pages ? -1 : x->pages < y->pages;
}

unsigned ms_request_plan(const MsRequest *request,
                         const MsRequestLimits *limits,
                         MsRequestDonor *donors, size_t count,
                         MsRequestPart ret_parts[MS_REQUEST_TRANSFERS])
{
    uint64_t left = MIN(ms_less(request->pages, request->got + request->coming),
                        limits->room);
    unsigned most = MIN(limits->parts,
                        MS_REQUEST_TRANSFERS - running_of(request));
    uint64_t pool = MIN(left, limits->pool);
    unsigned parts = 0;

    if (most > 0 && pool > 0) {
        ret_parts[parts++] = (MsRequestPart) { .pages = pool };
        left -= pool;
    }
    left = MIN(left, ms_less(limits->donors, pool));
    if (count > 0) {
        qsort(donors, count, sizeof(donors[0]), most_first);
    }
    for (size_t i = 0; i < count && parts < most && left > 0; i++) {
        uint64_t pages = MIN(left, donors[i].pages);

        if (donors[i].pages < MS_REQUEST_LEAST_PAGES) {
            break;
        }
        ret_parts[parts++] = (MsRequestPart) {
            .client = donors[i].client, .pages = pages,
        };
        left -= pages;
    }
    return parts;
}
