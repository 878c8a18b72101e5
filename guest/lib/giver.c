/*
 * The giving side of one application: orders, and what becomes of them
 *
 *          RESERVE
 *   idle ------------> an order runs; another RESERVE is refused as busy; each
 *    ^                 step of work: spare? set aside, write tags, RESERVED
 *    |                       |
 *    +-----------------------+ all of it; no more to be had; CANCEL; RELEASE
 *                              of it; deadline; pressure
 *
 * One order runs at a time.  Each step asks the owner how much may go, since
 * that changes while an order of many GiB is being worked on, and tells the
 * host what is tagged, so that it can take the first pages while the last ones
 * are still being set aside: what the guest cannot spare at once it can often
 * spare bit by bit.
 *
 * Whatever ends an order, exactly one last RESERVED says so: WHOLE if all is
 * there, PARTIAL if some is, REFUSED if nothing is.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "giver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pagemap.h"

/* Stock that nobody wants is unmapped in such pieces. */
#define DROP_BYTES (UINT64_C(256) << 20)

/* Under pressure memory goes back in units of this: huge pages stay whole. */
#define SHRINK_UNIT_PAGES (VBX_GRANULE_BYTES / VBX_PAGE_BYTES)

typedef struct Order {
    bool runs;
    uint32_t app;
    uint32_t granule_bytes;
    uint64_t cookie, epoch;
    uint64_t left_bytes, done_pages;
    uint64_t deadline_ms;
} Order;

struct BxGiver {
    BxGiverOptions options;
    const BxGiverOps *ops;
    void *opaque;
    BxReservoir *reservoir;
    Order order;
    uint32_t app;               /* as the host calls us */
    bool no_hints;              /* the host has no use for them */
    uint64_t stock_until_ms;
    BxGiverInfo info;
};

int bx_giver_new(const BxGiverOptions *options, const BxGiverOps *ops,
                 void *opaque, BxGiver **ret_giver)
{
    BxGiver *giver = calloc(1, sizeof(*giver));

    if (!giver) {
        return -ENOMEM;
    }
    giver->options = *options;
    if (!options->stock_ms) {
        giver->options.stock_ms = BX_STOCK_MS;
    }
    giver->ops = ops;
    giver->opaque = opaque;
    if (bx_reservoir_new(options->sys ? options->sys : &bx_sys, options->huge,
                         &giver->reservoir) < 0) {
        free(giver);
        return -ENOMEM;
    }
    *ret_giver = giver;
    return 0;
}

void bx_giver_free(BxGiver *giver)
{
    if (giver) {
        bx_reservoir_free(giver->reservoir);
        free(giver);
    }
}

void bx_giver_use_hints(BxGiver *giver, bool use)
{
    giver->no_hints = !use;
}

static void send_reserved(BxGiver *giver, const BxPages *pages,
                          unsigned status, unsigned reason)
{
    BxMessage m;

    bx_wire_init(&m, VBX_RESERVED, giver->order.app, giver->order.cookie);
    m.reserved.epoch = giver->order.epoch;
    m.reserved.first_seq = pages->first_seq;
    m.reserved.count = pages->count;
    m.reserved.status = status;
    m.reserved.reason = reason;
    giver->ops->send(giver->opaque, &m);
}

static void send_range(BxGiver *giver, unsigned type, const BxPages *pages,
                       unsigned reason)
{
    BxMessage m;

    bx_wire_init(&m, type, giver->app, 0);
    m.range.epoch = pages->epoch;
    m.range.first_seq = pages->first_seq;
    m.range.count = pages->count;
    m.range.reason = reason;
    giver->ops->send(giver->opaque, &m);
}

/* No frame numbers: no hints from now on. */
static void send_hints(BxGiver *giver, BxPages pages)
{
    while (giver->options.pagemap >= 0 && !giver->no_hints && pages.count) {
        const void *address;
        uint64_t there, told;
        BxMessage m;
        int runs;

        if (bx_reservoir_find(giver->reservoir, pages.epoch, pages.first_seq,
                              &address, &there) < 0) {
            return;
        }
        there = there < pages.count ? there : pages.count;
        bx_wire_init(&m, VBX_HINTS, giver->app, 0);
        m.hints.epoch = pages.epoch;
        runs = bx_pagemap_runs(giver->options.pagemap, address, there,
                               pages.first_seq, m.hints.run, VBX_HINTS_MAX,
                               &told);
        if (runs < 0) {
            giver->options.pagemap = -1;
            return;
        }
        if (runs > 0) {
            m.hints.runs = runs;
            giver->info.hints += runs;
            giver->ops->send(giver->opaque, &m);
        }
        pages.first_seq += told;
        pages.count -= told;
    }
}

/* The last word about the order, @pages with it. */
static void finish(BxGiver *giver, const BxPages *pages, unsigned reason)
{
    unsigned status = !giver->order.left_bytes ? VBX_RESERVE_WHOLE :
                      giver->order.done_pages ? VBX_RESERVE_PARTIAL
                                              : VBX_RESERVE_REFUSED;

    send_reserved(giver, pages, status, reason);
    giver->order.runs = false;
    bx_reservoir_forget_empty(giver->reservoir, giver->order.epoch);
}

void bx_giver_stop(BxGiver *giver, unsigned reason)
{
    BxPages none = { .first_seq = giver->order.done_pages };

    if (giver->order.runs) {
        finish(giver, &none, reason);
    }
}

static int begin(BxGiver *giver, const BxMessage *m, uint64_t now_ms)
{
    uint32_t granule = m->reserve.granule_bytes;
    BxPages none = { 0 };
    Order last = giver->order;
    BxEpochId id;
    int rc;

    if (granule < giver->options.granule_min_bytes) {
        granule = giver->options.granule_min_bytes;
    }
    id = (BxEpochId) {
        .app = m->header.app,
        .granule_bytes = granule,
        .epoch = m->reserve.epoch,
    };
    memcpy(id.key, m->reserve.key, sizeof(id.key));
    giver->order = (Order) {
        .app = m->header.app,
        .granule_bytes = granule,
        .cookie = m->header.cookie,
        .epoch = m->reserve.epoch,
        .left_bytes = m->reserve.bytes,
        .deadline_ms = now_ms + m->reserve.deadline_ms,
    };
    if (last.runs) {
        send_reserved(giver, &none, VBX_RESERVE_REFUSED, VBX_REASON_BUSY);
        giver->order = last;
        return 0;
    }
    rc = bx_reservoir_begin(giver->reservoir, &id);
    if (rc == -EEXIST) {
        return VBX_ERROR_STATE;
    }
    if (rc < 0) {
        send_reserved(giver, &none, VBX_RESERVE_REFUSED, VBX_REASON_PRESSURE);
        return 0;
    }
    giver->order.runs = true;
    giver->info.orders++;
    return 0;
}

static bool concerns_order(const BxGiver *giver, uint64_t epoch)
{
    return giver->order.runs && giver->order.epoch == epoch;
}

static void released(BxGiver *giver, const BxPages *pages)
{
    uint64_t keep = giver->order.runs ? giver->order.epoch : pages->epoch + 1;
    uint64_t bytes;

    /* What went by itself was told when it went. */
    if (bx_reservoir_unmap(giver->reservoir, pages, keep, &bytes) == 0) {
        giver->info.given_back_bytes += bytes;
        send_range(giver, VBX_UNMAPPED, pages, VBX_REASON_NONE);
        giver->ops->have(giver->opaque, bytes);
    }
}

int bx_giver_message(BxGiver *giver, const BxMessage *message,
                     uint64_t now_ms)
{
    BxPages pages = {
        message->range.epoch, message->range.first_seq, message->range.count
    };

    giver->app = message->header.app;
    switch (message->header.type) {
    case VBX_RESERVE:
        return begin(giver, message, now_ms);
    case VBX_CANCEL:
        /* One that crossed our last word is late, not wrong. */
        if (giver->order.runs &&
            giver->order.cookie == message->header.cookie) {
            bx_giver_stop(giver, VBX_REASON_CANCELLED);
        }
        return 0;
    case VBX_RELEASE:
        if (concerns_order(giver, pages.epoch)) {
            bx_giver_stop(giver, VBX_REASON_CANCELLED);
        }
        return 0;
    case VBX_RELEASED:
        if (concerns_order(giver, pages.epoch)) {
            bx_giver_stop(giver, VBX_REASON_CANCELLED);
        }
        released(giver, &pages);
        return 0;
    default:
        return VBX_ERROR_UNSUPPORTED;
    }
}

static uint64_t drop_stock(BxGiver *giver, uint64_t bytes)
{
    uint64_t gone = bx_reservoir_drop_stock(giver->reservoir, bytes);

    if (gone) {
        giver->info.given_back_bytes += gone;
        giver->ops->have(giver->opaque, gone);
    }
    return gone;
}

/*
 * How much the next step may take.  Stock is ours already and costs the guest
 * nothing; stock that does not fit the granule is of no use and makes room.
 */
static uint64_t allowed(BxGiver *giver, unsigned *ret_reason)
{
    Order *order = &giver->order;
    uint64_t wanted = order->left_bytes, usable;

    if (giver->options.step_bytes && wanted > giver->options.step_bytes) {
        wanted = giver->options.step_bytes;
    }
    if (wanted < order->granule_bytes) {
        wanted = order->granule_bytes;
    }
    usable = bx_reservoir_usable_stock(giver->reservoir,
                                       order->granule_bytes);
    if (usable) {
        return usable < wanted ? usable : wanted;
    }
    drop_stock(giver, UINT64_MAX);
    return giver->ops->spare(giver->opaque, wanted, ret_reason);
}

static void step(BxGiver *giver)
{
    Order *order = &giver->order;
    unsigned reason = VBX_REASON_LIMIT;
    BxPages none = { .first_seq = order->done_pages }, pages;
    uint64_t bytes;
    int rc;

    /* In larger granules than ordered, the rest may be less than one. */
    bytes = order->left_bytes < order->granule_bytes ? 0 :
            allowed(giver, &reason);
    bytes = bytes < order->left_bytes ? bytes : order->left_bytes;
    if (bytes < order->granule_bytes) {
        finish(giver, &none, reason);
        return;
    }
    rc = bx_reservoir_set_aside(giver->reservoir, order->epoch, bytes, &pages);
    if (rc < 0) {
        finish(giver, &none, rc == -EDQUOT ? VBX_REASON_LIMIT
                                           : VBX_REASON_PRESSURE);
        return;
    }
    order->done_pages += pages.count;
    order->left_bytes -= pages.count * VBX_PAGE_BYTES;
    if (order->left_bytes) {
        send_reserved(giver, &pages, VBX_RESERVE_PROGRESS, VBX_REASON_NONE);
    } else {
        finish(giver, &pages, VBX_REASON_NONE);
    }
    send_hints(giver, pages);
}

bool bx_giver_work(BxGiver *giver, uint64_t now_ms)
{
    BxReservoirInfo memory;

    if (giver->order.runs) {
        if (now_ms >= giver->order.deadline_ms) {
            bx_giver_stop(giver, VBX_REASON_DEADLINE);
        } else {
            step(giver);
        }
        return giver->order.runs;
    }
    bx_reservoir_info(giver->reservoir, &memory);
    if (memory.stock_bytes && now_ms >= giver->stock_until_ms) {
        drop_stock(giver, DROP_BYTES);
        return memory.stock_bytes > DROP_BYTES;
    }
    return false;
}

uint64_t bx_giver_due_ms(const BxGiver *giver)
{
    BxReservoirInfo memory;

    if (giver->order.runs) {
        return 0;
    }
    bx_reservoir_info(giver->reservoir, &memory);
    return memory.stock_bytes ? giver->stock_until_ms : UINT64_MAX;
}

uint64_t bx_giver_shrink(BxGiver *giver, uint64_t bytes, unsigned reason)
{
    uint64_t gone, part;
    BxPages pages;

    bx_giver_stop(giver, reason);
    gone = drop_stock(giver, bytes);
    while (gone < bytes) {
        /* Below 2^56 bytes: rounding up cannot overflow. */
        uint64_t max = (bytes - gone - 1) / VBX_PAGE_BYTES + 1;

        max = (max / SHRINK_UNIT_PAGES + 1) * SHRINK_UNIT_PAGES;
        if (bx_reservoir_newest(giver->reservoir, max, &pages) < 0) {
            break;
        }
        send_range(giver, VBX_RELEASE, &pages, reason);
        if (bx_reservoir_unmap(giver->reservoir, &pages, pages.epoch + 1,
                               &part) < 0) {
            break;
        }
        send_range(giver, VBX_UNMAPPED, &pages, reason);
        giver->info.given_back_bytes += part;
        giver->ops->have(giver->opaque, part);
        gone += part;
    }
    return gone;
}

void bx_giver_end_session(BxGiver *giver, uint64_t now_ms)
{
    giver->order.runs = false;
    bx_reservoir_end_session(giver->reservoir);
    giver->stock_until_ms = now_ms + giver->options.stock_ms;
}

void bx_giver_info(const BxGiver *giver, BxGiverInfo *ret_info)
{
    *ret_info = giver->info;
    ret_info->busy = giver->order.runs;
    bx_reservoir_info(giver->reservoir, &ret_info->memory);
}
