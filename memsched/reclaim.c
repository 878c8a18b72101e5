/*
 * From whom the host takes memory by itself when there is no other way
 *
 * Owns the rule of the last resort.  Who may keep what is the policy's to say
 * (entitlements); here is only what becomes of guests that hold more and do not
 * give it, when the pool runs dry.
 *
 * Two rounds, each in proportion: first idle memory above the entitlement, as
 * far as anybody knows what is idle; then, if that is not enough, the rest
 * above it.  A guest at its entitlement, or at its min, keeps all.
 *
 * Overflow: counts of pages are below 2^40, so their products fit 2^80: they
 * are taken with 128 bits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "reclaim.h"

typedef unsigned __int128 Wide;

/* Pages for each touch that waits: it goes on, and the next ones too. */
#define WAITER_PAGES 64u

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t entitled(const MsReclaimGuest *guest)
{
    return guest->entitlement > guest->min ? guest->entitlement : guest->min;
}

static uint64_t excess(const MsReclaimGuest *guest)
{
    return guest->allocated > entitled(guest)
           ? guest->allocated - entitled(guest) : 0;
}

/* What a round may take of a guest in all. */
static uint64_t limit(const MsReclaimGuest *guest, bool idle_only)
{
    return idle_only ? min_u64(excess(guest), guest->idle) : excess(guest);
}

/* Up to @want more pages; how many. */
static uint64_t take_round(MsReclaimGuest *guests, size_t count,
                           uint64_t want, bool idle_only)
{
    uint64_t all = 0, taken = 0;

    for (size_t i = 0; i < count; i++) {
        all += limit(&guests[i], idle_only) - guests[i].take;
    }
    want = min_u64(want, all);
    for (size_t i = 0; i < count && want > 0; i++) {
        uint64_t left = limit(&guests[i], idle_only) - guests[i].take;
        /* Rounded up, so that the sum is reached; never more than is left. */
        uint64_t n = (uint64_t)(((Wide)want * left + all - 1) / all);

        n = min_u64(min_u64(n, left), want - taken);
        guests[i].take += n;
        taken += n;
    }
    return taken;
}

uint64_t ms_reclaim_run(const MsReclaimInput *input, MsReclaimGuest *guests,
                        size_t count)
{
    uint64_t want = input->min_free > input->free
                    ? input->min_free - input->free : 0;
    uint64_t taken, waiting = 0;
    bool hard = input->state >= MEMSCHED_CONDITION_HARD;

    for (size_t i = 0; i < count; i++) {
        guests[i].take = 0;
        guests[i].ceiling = 0;
        if (guests[i].allocated < entitled(&guests[i])) {
            waiting += guests[i].waiting;
        }
        if (input->state >= MEMSCHED_CONDITION_LOW) {
            guests[i].ceiling = entitled(&guests[i]) ? entitled(&guests[i])
                                                     : 1;
        }
    }
    want = hard ? want : 0;
    want += waiting * WAITER_PAGES;
    taken = take_round(guests, count, want, true);
    return taken + take_round(guests, count, want - taken, false);
}
