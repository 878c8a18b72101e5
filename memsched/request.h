/*
 * Requests of guests for memory
 *
 * Pure: counts and times in, a plan out; no clock, no lock, no system call.
 * The caller serialises (MemSched.ledger_lock).  Counts are 4 KiB pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_REQUEST_H
#define MEMSCHED_REQUEST_H

#include "memsched/memsched.h"

/* Transfers of one guest's requests that run at a time ... */
#define MS_REQUEST_TRANSFERS     4u
/* ... and of all guests: half of what may run is left for the operator. */
#define MS_REQUESTS_TRANSFERS    32u
/* 1 MiB: less is not worth a transfer of its own from a donor. */
#define MS_REQUEST_LEAST_PAGES   256u

/* Between two tries; doubled where a try was in vain. */
#define MS_REQUEST_RETRY_NS      UINT64_C(250000000)

typedef struct MsRequest {
    const void *client;         /* compared, never followed */
    uint64_t session, serial;   /* of the guest's connection, of the app */
    uint32_t app;
    uint64_t cookie;
    uint64_t pages;
    uint64_t got;               /* mapped by transfers that have ended */
    uint64_t moving;            /* mapped by those that run */
    uint64_t coming;            /* asked of those that run */
    unsigned priority, want;
    uint64_t number;            /* in the order of arrival */
    uint64_t start_ns, deadline_ns;
    uint64_t next_try_ns, retry_ns;
    uint64_t transfer[MS_REQUEST_TRANSFERS];    /* ids; 0: none */
    bool tried;                 /* once at least, whatever its deadline */
    bool withdrawn;
} MsRequest;

typedef struct MsRequests {
    MsRequest **request;        /* the most urgent first, then the oldest */
    size_t count, size;
    uint64_t numbers;
} MsRequests;

/* Free what there is. */
void ms_requests_clear(MsRequests *t);

/*
 * Note a copy of @request, with a number: it, or NULL and *ret_error: -EEXIST
 * (this application has one with this cookie), -ENOSPC (MEMSCHED_REQUESTS_MAX
 * of this guest are open).
 */
MsRequest *ms_requests_add(MsRequests *t, const MsRequest *request,
                           int *ret_error);

MsRequest *ms_requests_find(const MsRequests *t, const void *client,
                            uint32_t app, uint64_t cookie);

void ms_requests_remove(MsRequests *t, MsRequest *request);

/* What is wanted by open requests of a guest, and not mapped in it yet. */
uint64_t ms_requests_wanted(const MsRequests *t, const void *client);

/* Transfers of a guest's requests that run; of all with @client NULL. */
unsigned ms_requests_transfers(const MsRequests *t, const void *client);

/* What a request is to be answered now. */
typedef struct MsRequestEnd {
    bool ends;
    MemSchedAnswer status;
    MemSchedReason reason;
} MsRequestEnd;

/*
 * @room: what the guest could take at most now.  A request ends when it has
 * all, when its time is up, it was withdrawn, or the guest has no room for
 * more; but never while a transfer runs for it.
 */
MsRequestEnd ms_request_end(const MsRequest *request, uint64_t room,
                            uint64_t now_ns);

/* Who could give how much. */
typedef struct MsRequestDonor {
    void *client;
    uint64_t pages;
} MsRequestDonor;

/* A transfer to start; @client NULL: out of the pool. */
typedef struct MsRequestPart {
    void *client;
    uint64_t pages;
} MsRequestPart;

typedef struct MsRequestLimits {
    uint64_t room;              /* what the guest can take */
    uint64_t pool;              /* free, promised to nobody, beyond min-free */
    uint64_t donors;            /* what others may give it: its entitlement */
    unsigned parts;             /* how many transfers may be started */
} MsRequestLimits;

/*
 * Where what is missing of the request is to come from: the pool first, then
 * the donors, the one that can give most first.  Sorts @donors.  Returns how
 * many parts, MS_REQUEST_TRANSFERS at most.
 */
unsigned ms_request_plan(const MsRequest *request,
                         const MsRequestLimits *limits,
                         MsRequestDonor *donors, size_t count,
                         MsRequestPart ret_parts[MS_REQUEST_TRANSFERS]);

/*
 * What a guest that holds @allocated, @active of it in use, could give: three
 * quarters of what lies idle, never below its @min, less what transfers take
 * of it already (@giving).
 */
uint64_t ms_request_donation(uint64_t allocated, uint64_t active,
                             uint64_t min, uint64_t giving);

#endif /* MEMSCHED_REQUEST_H */
