/*
 * The program as a balloon application: its cache goes, and comes back
 *
 * The giver (giver.c) does the work; here is what is between it and the
 * program.  One number keeps both in step: freed_bytes, what give() said in all
 * less what have() was told.  It is never less than what is set aside; whatever
 * exceeds it when no order runs is told to have(), be it because the host gave
 * memory back, or because less could be set aside than the program had freed.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "bx-int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "pagemap.h"

#define STATS_MS 1000u

static uint64_t held(const Bx *bx)
{
    BxGiverInfo info;

    if (!bx->giver) {
        return 0;
    }
    bx_giver_info(bx->giver, &info);
    return info.memory.held_bytes;
}

/*
 * None of these messages may be lost.  An agent that has let the outbox fill up
 * is as good as gone; bx_dispatch() sees the end, since the giver is at work.
 */
static void send_for_giver(void *opaque, BxMessage *message)
{
    Bx *bx = opaque;

    if (bx_send(bx, message) < 0 && bx->socket >= 0) {
        shutdown(bx->socket, SHUT_RDWR);
    }
}

static uint64_t spare(void *opaque, uint64_t bytes, unsigned *ret_reason)
{
    Bx *bx = opaque;
    uint64_t left_over = bx->freed_bytes - held(bx);

    *ret_reason = VBX_REASON_LIMIT;
    if (left_over < bytes) {
        uint64_t freed = bx->offer.give(bx->offer.opaque, bytes - left_over);

        bx->freed_bytes += freed;
        left_over += freed;
    }
    return left_over < bytes ? left_over : bytes;
}

static void have_for_giver(void *opaque, uint64_t bytes)
{
    (void)opaque;
    (void)bytes;                /* settle() sees it */
}

static const BxGiverOps giver_ops = {
    .send = send_for_giver,
    .spare = spare,
    .have = have_for_giver,
};

static void settle(Bx *bx)
{
    BxGiverInfo info;
    uint64_t back;

    if (!bx->giver) {
        return;
    }
    bx_giver_info(bx->giver, &info);
    back = bx->freed_bytes - info.memory.held_bytes;
    if (!info.busy && back) {
        bx->freed_bytes -= back;
        if (bx->offer.have) {
            bx->offer.have(bx->offer.opaque, back);
        }
    }
}

static void register_it(Bx *bx)
{
    BxMessage m;

    bx_wire_init(&m, VBX_REGISTER, 0, 0);
    m.reg.flags = VBX_APP_RESERVES;
    m.reg.priority = bx->offer.priority;
    m.reg.offer_bytes = bx->offer.bytes;
    memcpy(m.reg.name, bx->name, sizeof(m.reg.name));
    bx->registered = bx_send(bx, &m) == 0;
}

int bx_offer(Bx *bx, const BxOffer *offer)
{
    BxGiverOptions options = { .huge = true, .step_bytes = BX_STEP_BYTES };
    int rc;

    if (!offer->name || !offer->name[0] || !offer->give ||
        offer->priority > VBX_PRIORITY_MAX ||
        bx->flags & BX_CONDITION_ONLY) {
        return -EINVAL;
    }
    if (bx->giver) {
        return -EALREADY;
    }
    if (bx->pagemap < 0) {
        bx->pagemap = bx_pagemap_open();
    }
    options.pagemap = bx->pagemap;
    rc = bx_giver_new(&options, &giver_ops, bx, &bx->giver);
    if (rc < 0) {
        return rc;
    }
    bx->offer = *offer;
    memset(bx->name, 0, sizeof(bx->name));
    snprintf(bx->name, sizeof(bx->name), "%s", offer->name);
    bx->freed_bytes = 0;
    bx->stats_known = bx->stats_due = false;
    if (bx->welcome) {
        register_it(bx);
    }
    return 0;
}

void bx_withdraw(Bx *bx)
{
    BxMessage m;

    if (!bx->giver) {
        return;
    }
    if (bx->registered) {
        bx_wire_init(&m, VBX_UNREGISTER, 0, 0);
        bx_send(bx, &m);
    }
    bx->registered = false;
    bx_giver_free(bx->giver);
    bx->giver = NULL;
    bx_request_end_all(bx, false);
}

uint64_t bx_given(const Bx *bx)
{
    return held(bx);
}

int bx_take_back(Bx *bx, uint64_t bytes, uint64_t *ret_bytes)
{
    uint64_t back;

    if (!bx->giver) {
        return -ENOENT;
    }
    back = bx_giver_shrink(bx->giver, bytes, VBX_REASON_PRESSURE);
    settle(bx);
    if (ret_bytes) {
        *ret_bytes = back;
    }
    return 0;
}

int bx_veto(Bx *bx, uint32_t duration_ms, BxReason reason)
{
    BxMessage m;

    if (!bx->giver) {
        return -ENOENT;
    }
    if (duration_ms > VBX_VETO_MAX_MS) {
        return -EINVAL;
    }
    if (!bx->registered) {
        return -ENOTCONN;
    }
    bx_wire_init(&m, VBX_VETO, 0, 0);
    m.veto.duration_ms = duration_ms;
    m.veto.reason = reason;
    return bx_send(bx, &m);
}

static void send_stats(Bx *bx, uint64_t now_ms)
{
    const struct { uint32_t tag; uint64_t value; } figures[] = {
        { VBX_STAT_CACHE_SIZE, bx->stats.cache_bytes },
        { VBX_STAT_CACHE_HITS, bx->stats.cache_hits },
        { VBX_STAT_CACHE_MISSES, bx->stats.cache_misses },
        { VBX_STAT_RESERVED, held(bx) },
    };
    BxMessage m;

    bx_wire_init(&m, VBX_STATISTICS, 0, 0);
    m.statistics.count = sizeof(figures) / sizeof(figures[0]);
    for (uint32_t i = 0; i < m.statistics.count; i++) {
        m.statistics.stat[i] = (struct vbx_stat) {
            .tag = figures[i].tag, .value = figures[i].value,
        };
    }
    if (bx_send(bx, &m) == 0) {
        bx->stats_due = false;
        bx->stats_ms = now_ms;
    }
}

int bx_stats(Bx *bx, const BxStats *stats)
{
    if (!bx->giver) {
        return -ENOENT;
    }
    bx->stats = *stats;
    bx->stats_known = bx->stats_due = true;
    bx_arm_timer(bx);
    return 0;
}

void bx_offer_welcome(Bx *bx, bool new_session, uint32_t features)
{
    if (!bx->giver) {
        return;
    }
    bx_giver_use_hints(bx->giver, features & VBX_FEATURE_HINTS);
    if (new_session) {
        bx_giver_end_session(bx->giver, bx_now_ms());
    }
    if (!bx->registered) {
        register_it(bx);
    }
    bx->stats_due = bx->stats_known;
}

void bx_offer_lost(Bx *bx)
{
    bx->registered = false;
    if (bx->giver) {
        bx_giver_end_session(bx->giver, bx_now_ms());
    }
}

void bx_offer_message(Bx *bx, const BxMessage *message)
{
    BxMessage reply;
    int rc;

    if (message->header.type == VBX_POLL) {
        bx->stats_due = bx->stats_known;
        bx->stats_ms = 0;
        return;
    }
    if (message->header.type == BX_LOCAL_SLEEP) {
        /* All of it goes back before the guest writes its memory to disk. */
        if (bx->giver && message->local_sleep.sleep) {
            bx_giver_shrink(bx->giver, UINT64_MAX, VBX_REASON_HIBERNATE);
            settle(bx);
        }
        reply = *message;
        bx_send(bx, &reply);
        return;
    }
    rc = bx->giver ? bx_giver_message(bx->giver, message, bx_now_ms())
                   : VBX_ERROR_UNKNOWN;
    if (rc && bx_wire_error(&reply, &message->header, rc)) {
        bx_send(bx, &reply);
    }
    settle(bx);
}

bool bx_offer_work(Bx *bx)
{
    uint64_t now_ms = bx_now_ms();
    bool done = false;

    if (!bx->giver) {
        return false;
    }
    if (bx->stats_due && bx->registered && now_ms >= bx->stats_ms + STATS_MS) {
        send_stats(bx, now_ms);
        done = true;
    }
    if (now_ms >= bx_giver_due_ms(bx->giver) &&
        bx_outbox_waiting(&bx->outbox) < BX_SLOW_BYTES) {
        bx_giver_work(bx->giver, now_ms);
        done = true;
    }
    settle(bx);
    return done;
}

uint64_t bx_offer_due_ms(const Bx *bx)
{
    uint64_t due_ms = UINT64_MAX;

    if (!bx->giver) {
        return due_ms;
    }
    if (bx_outbox_waiting(&bx->outbox) < BX_SLOW_BYTES) {
        due_ms = bx_giver_due_ms(bx->giver);
    }
    if (bx->stats_due && bx->registered &&
        bx->stats_ms + STATS_MS < due_ms) {
        due_ms = bx->stats_ms + STATS_MS;
    }
    return due_ms;
}
