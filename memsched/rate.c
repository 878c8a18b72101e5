/*
 * How fast a guest has given memory, and how long a transfer will take by that
 *
 * Owns the rule of the estimate.  A guest gives as fast as its kernel, or its
 * applications, find memory to give: that differs between guests by orders of
 * magnitude, and hardly from one time to the next.  So the last transfers of
 * the same guest and source are asked, and half of what is remembered is the
 * last one.
 *
 * A transfer that brought less than it should is measured too, over the time
 * in which it brought something: its rate is true, what it lacked was memory.
 *
 * Overflow: pages are below 2^40, so bytes times 10^9 need 128 bits.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "rate.h"

typedef unsigned __int128 Wide;

#define SECOND_NS UINT64_C(1000000000)
#define S_MS      1000u

void ms_rates_note(MsRates *rates, MemSchedSource source, uint64_t pages,
                   uint64_t duration_ns, uint64_t now_ns)
{
    MsRate *rate = &rates->of[source];
    uint64_t now;

    if (pages < MS_RATE_LEAST_PAGES || duration_ns == 0) {
        return;
    }
    now = (uint64_t)((Wide)pages * MEMSCHED_PAGE_SIZE * SECOND_NS /
                     duration_ns);
    now = now > 0 ? now : 1;
    rate->bytes_per_s = rate->bytes_per_s
                        ? rate->bytes_per_s / 2 + now / 2 + 1 : now;
    rate->at_ns = now_ns;
}

static const MsRate *rate_of(const MsRates *rates, MemSchedSource source)
{
    const MsRate *rate = &rates->of[source];

    if (rate->bytes_per_s == 0 && source != MEMSCHED_SOURCE_ANY) {
        rate = &rates->of[MEMSCHED_SOURCE_ANY];
    }
    for (unsigned i = 0; source == MEMSCHED_SOURCE_ANY &&
         rates->of[MEMSCHED_SOURCE_ANY].bytes_per_s == 0 &&
         i < MS_RATE_SOURCES; i++) {
        const MsRate *other = &rates->of[i];

        if (other->bytes_per_s > 0 &&
            (rate->bytes_per_s == 0 ||
             other->bytes_per_s < rate->bytes_per_s)) {
            rate = other;
        }
    }
    return rate;
}

bool ms_rates_estimate(const MsRates *rates, MemSchedSource source,
                       uint64_t pages, MsRateEstimate *ret_estimate)
{
    const MsRate *rate = rate_of(rates, source);
    Wide ms;

    if (rate->bytes_per_s == 0) {
        return false;
    }
    ms = ((Wide)pages * MEMSCHED_PAGE_SIZE * S_MS + rate->bytes_per_s - 1) /
         rate->bytes_per_s;
    *ret_estimate = (MsRateEstimate) {
        .ms = ms > UINT64_MAX ? UINT64_MAX : (uint64_t)ms, .rate = *rate,
    };
    return true;
}
