/*
 * What a giver says, kept for a test to look at
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_GUEST_GATHER_H
#define TESTS_GUEST_GATHER_H

#include <glib.h>

#include "giver.h"

typedef struct Gather {
    GPtrArray *messages;        /* of BxMessage *, in the machine's order */
    uint64_t spare_bytes;       /* left to be set aside */
    unsigned reason;            /* why not more */
    uint64_t had_bytes;
    BxGiver *giver;
} Gather;

/* With 64 KiB a step; @sys and @pagemap as in BxGiverOptions. */
void gather_open(Gather *gather, const BxSys *sys, int pagemap);
void gather_close(Gather *gather);

/* The next message, which must be of @type; the caller frees it. */
BxMessage *gather_take(Gather *gather, unsigned type);
void gather_nothing(const Gather *gather);

/* Hand an order of application 3 to the giver. */
int gather_order(Gather *gather, uint64_t cookie, uint64_t epoch,
                 uint64_t bytes, uint32_t granule_bytes, uint64_t now_ms);

/* Hand it a RELEASE, RELEASED or CANCEL. */
void gather_range(Gather *gather, unsigned type, uint64_t epoch,
                  uint64_t first, uint64_t count);
void gather_cancel(Gather *gather, uint64_t cookie);

/* Until there is no more to do. */
void gather_work(Gather *gather, uint64_t now_ms);

extern const uint8_t gather_key[VBX_KEY_BYTES];

/* The page is the tag of application 3's page @seq, and nothing else. */
void gather_check_page(const void *page, uint64_t epoch, uint64_t seq);

#endif
