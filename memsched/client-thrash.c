/*
 * One guest's thrash protection: the record of thrash.c under the client's lock
 *
 * Who asks: the mover and reports, before they take pages that nobody is
 * waiting for.  A transfer that runs, an urge, and a host that is short come
 * first: then pages are taken whatever it costs.  Who is asked nothing: an
 * inflate without must-tell-host, whose pages the guest gives up for good; it
 * is charged, and what follows waits.  No touch is ever refused: a guest that
 * has used up its faults has its next ones read a millisecond later.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "instance.h"

static uint64_t now_ns(const MemSchedClient *client)
{
    return client->ms->sys->now_ns(client->ms->sys);
}

void ms_client_captured(MemSchedClient *client, uint64_t pages,
                        unsigned calls)
{
    uint64_t now = now_ns(client);

    ms_lock(&client->lock);
    ms_thrash_captured(&client->thrash, pages, now);
    ms_thrash_charge(&client->thrash, MS_COST_CAPTURE, calls, now);
    ms_unlock(&client->lock);
}

void ms_client_returned(MemSchedClient *client, uint64_t pages)
{
    uint64_t now = now_ns(client);
    uint64_t dry;

    ms_lock(&client->lock);
    ms_thrash_returned(&client->thrash, pages, now);
    ms_thrash_charge(&client->thrash, MS_COST_FAULT, 1, now);
    dry = ms_thrash_dry_until_ns(&client->thrash, MS_COST_FAULT, now);
    ms_unlock(&client->lock);
    atomic_store(&client->faults_dry_ns, dry);
}

bool ms_client_left_alone(MemSchedClient *client)
{
    uint64_t now = now_ns(client);
    bool alone;

    if (atomic_load(&client->giving) || atomic_load(&client->urge_pages) > 0 ||
        ms_is_short(client->ms)) {
        return false;
    }
    ms_lock(&client->lock);
    alone = ms_thrash_left_ns(&client->thrash, now) > 0 ||
            ms_thrash_dry_until_ns(&client->thrash, MS_COST_CAPTURE, now) ||
            ms_thrash_dry_until_ns(&client->thrash, MS_COST_SCRUB, now);
    ms_unlock(&client->lock);
    return alone;
}

bool ms_client_faults_dry(MemSchedClient *client, uint64_t now)
{
    return atomic_load(&client->faults_dry_ns) > now &&
           !atomic_load(&client->ending);
}
