/*
 * Touches of one guest that the grant rule refused
 *
 * Owns the guest's queue of pages that some thread of it waits for.  The thread
 * sleeps in the kernel; here is only which page it wants, so the queue is
 * bounded by the number of the guest's threads.  A pass takes each waiter out,
 * tries it, and puts it back as the last: the order stays.
 *
 * waiting_since_ns is what the scheduler's thread looks at: it changes between
 * passes only, so that a guest that waits is never seen as one that does not.
 *
 * Locks: client->lock, a leaf.  Who decides is the ledger; who tries, fault.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "instance.h"
#include "scheduler.h"

static void waiters_changed_locked(MemSchedClient *client)
{
    uint64_t oldest = 0;

    for (size_t i = 0; i < client->waiters_count; i++) {
        uint64_t since = client->waiters[i].since_ns;

        oldest = oldest && oldest < since ? oldest : since;
    }
    atomic_store(&client->waiting_since_ns, oldest);
}

static void make_room_locked(MemSchedClient *client)
{
    if (client->waiters_count == client->waiters_size) {
        client->waiters_size = client->waiters_size
                               ? client->waiters_size * 2 : 8;
        client->waiters = g_renew(MsWaiter, client->waiters,
                                  client->waiters_size);
    }
}

static MsWaiter *find_waiter_locked(MemSchedClient *client,
                                    const MemSchedRegion *region,
                                    uint64_t page)
{
    for (size_t i = 0; i < client->waiters_count; i++) {
        MsWaiter *w = &client->waiters[i];

        if (w->region == region && w->page == page) {
            return w;
        }
    }
    return NULL;
}

int ms_client_wait(MemSchedClient *client, MemSchedRegion *region,
                   uint64_t page, bool device, uint64_t now_ns)
{
    bool first = false;
    MsWaiter *same;

    ms_lock(&client->lock);
    same = find_waiter_locked(client, region, page);
    /* Bounded: one entry a page that some thread of the guest waits for. */
    if (same) {
        same->device |= device;
    } else {
        first = client->waiters_count == 0;
        make_room_locked(client);
        client->waiters[client->waiters_count++] = (MsWaiter) {
            .region = ms_region_ref(region), .page = page,
            .since_ns = now_ns, .device = device,
        };
        atomic_fetch_add(&client->ms->waiters, 1);
        waiters_changed_locked(client);
    }
    ms_unlock(&client->lock);
    if (first) {
        /* The policy looks at once whose memory it could have. */
        ms_sched_kick(client->ms->sched);
    }
    return same ? -EEXIST : 0;
}

static void remove_waiter_locked(MemSchedClient *client, size_t i)
{
    client->waiters_count--;
    memmove(&client->waiters[i], &client->waiters[i + 1],
            (client->waiters_count - i) * sizeof(client->waiters[0]));
    atomic_fetch_sub(&client->ms->waiters, 1);
}

bool ms_client_wait_next(MemSchedClient *client, MsWaiter *ret_waiter)
{
    bool any;

    ms_lock(&client->lock);
    any = client->waiters_count > 0;
    if (any) {
        *ret_waiter = client->waiters[0];
        remove_waiter_locked(client, 0);
    }
    ms_unlock(&client->lock);
    return any;
}

void ms_client_wait_again(MemSchedClient *client, const MsWaiter *waiter)
{
    MsWaiter *same;

    ms_lock(&client->lock);
    same = find_waiter_locked(client, waiter->region, waiter->page);
    /* Another thread may have come to the page while this one was tried. */
    if (same) {
        same->since_ns = MIN(same->since_ns, waiter->since_ns);
        same->device |= waiter->device;
    } else {
        make_room_locked(client);
        client->waiters[client->waiters_count++] = *waiter;
        atomic_fetch_add(&client->ms->waiters, 1);
    }
    ms_unlock(&client->lock);
    if (same) {
        ms_region_unref(waiter->region);
    }
}

size_t ms_client_waiters(MemSchedClient *client)
{
    size_t count;

    ms_lock(&client->lock);
    count = client->waiters_count;
    ms_unlock(&client->lock);
    return count;
}

void ms_client_wait_settle(MemSchedClient *client)
{
    ms_lock(&client->lock);
    waiters_changed_locked(client);
    ms_unlock(&client->lock);
}

void ms_client_wait_forget(MemSchedClient *client, MemSchedRegion *region)
{
    unsigned forgotten = 0;

    ms_lock(&client->lock);
    for (size_t i = client->waiters_count; i > 0; i--) {
        if (client->waiters[i - 1].region == region) {
            remove_waiter_locked(client, i - 1);
            forgotten++;
        }
    }
    waiters_changed_locked(client);
    ms_unlock(&client->lock);
    for (; forgotten > 0; forgotten--) {
        ms_region_unref(region);
    }
}
