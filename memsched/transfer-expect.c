/*
 * What is expected of a transfer, as it is shown
 *
 * Owns how long one that runs will still take: by its own rate, as soon as
 * enough of it is where it should be; before that by what was expected when it
 * was started (rate.c), less the time that has passed.
 *
 * Pure, as transfer.c is.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "less.h"
#include "transfer.h"

/* By what it has done so far, or by what was expected; 0: not known. */
static uint64_t left_ms(const MsTransfer *x, uint64_t now_ns)
{
    uint64_t done = x->moved + x->copied + x->discarded;
    uint64_t left = ms_less(x->requested, done);
    uint64_t gone_ns = ms_less(now_ns, x->start_ns);
    MsRates own = { 0 };
    MsRateEstimate e;

    if (x->state != MEMSCHED_TRANSFER_RUNNING) {
        return 0;
    }
    ms_rates_note(&own, x->source, done, ms_less(x->mapped_ns, x->start_ns),
                  now_ns);
    if (ms_rates_estimate(&own, x->source, left, &e)) {
        return MAX(e.ms, 1);
    }
    return x->expected.ms ? MAX(ms_less(x->expected.ms, gone_ns / 1000000), 1)
                          : 0;
}

void ms_transfer_expect(const MsTransfer *x, uint64_t now_ns,
                        MemSchedTransferInfo *info)
{
    info->estimate_ms = x->expected.ms;
    info->rate_bytes_per_s = x->expected.rate.bytes_per_s;
    info->rate_age_ms = x->expected.ms
                        ? ms_less(x->start_ns, x->expected.rate.at_ns) /
                          1000000 : 0;
    info->left_ms = left_ms(x, now_ns);
}
