/*
 * The agent as an application: the guest's own balloon
 *
 * What the host asks of application 1 is set aside here, a step at a time.  The
 * steps run when the main loop has nothing else to do, so that messages,
 * pressure and the clock are looked at between any two of them.
 *
 * Each step asks anew what the guest can spare.  Memory is faulted in by us, so
 * if the guest runs out it is us who wait or are killed; we are the first whom
 * the kernel kills (oom_score_adj 1000, set at the start), and then all that we
 * hold is free.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "agent.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "giver.h"
#include "pagemap.h"
#include "spare.h"

struct Own {
    Agent *agent;
    BxGiver *giver;
    guint work_source;
    int pagemap;
};

static void on_send(void *opaque, BxMessage *message)
{
    Own *own = opaque;

    host_send(own->agent, message);
}

static uint64_t can_spare(const Own *own, unsigned *ret_reason)
{
    const AgentOptions *options = &own->agent->options;
    MemoryState memory;
    SpareLimits limits;

    *ret_reason = VBX_REASON_HIBERNATE;
    if (own->agent->sleeps) {
        return 0;
    }
    *ret_reason = VBX_REASON_PRESSURE;
    if (pressure_is_on(own->agent->pressure) ||
        memory_read(options->root, &memory) < 0) {
        return 0;
    }
    limits = spare_limits(&memory, options->max_fraction_percent,
                          options->keep_available_bytes);
    return spare_bytes(&limits, &memory, own_held_bytes(own), ret_reason);
}

static uint64_t on_spare(void *opaque, uint64_t bytes, unsigned *ret_reason)
{
    uint64_t spare = can_spare(opaque, ret_reason);

    return MIN(spare, bytes);
}

static void on_have(void *opaque, uint64_t bytes)
{
    g_info("%" G_GUINT64_FORMAT " KiB are the guest's again", bytes / 1024);
}

static const BxGiverOps giver_ops = {
    .send = on_send,
    .spare = on_spare,
    .have = on_have,
};

Own *own_new(Agent *agent)
{
    Own *own = g_new0(Own, 1);
    BxGiverOptions options = {
        .huge = agent->options.huge,
        .granule_min_bytes = agent->options.granule_bytes,
        .step_bytes = agent->options.step_bytes,
        /* 0 would be the library's choice. */
        .stock_ms = MAX(agent->options.stock_seconds * 1000, 1),
    };

    own->agent = agent;
    own->pagemap = agent->options.hints ? bx_pagemap_open() : -1;
    options.pagemap = own->pagemap;
    if (bx_giver_new(&options, &giver_ops, own, &own->giver) < 0) {
        g_error("no memory to begin with");
    }
    return own;
}

void own_free(Own *own)
{
    if (own->work_source) {
        g_source_remove(own->work_source);
    }
    bx_giver_free(own->giver);
    if (own->pagemap >= 0) {
        close(own->pagemap);
    }
    g_free(own);
}

static gboolean work(gpointer opaque)
{
    Own *own = opaque;

    own->work_source = 0;
    bx_giver_work(own->giver, agent_now_ms());
    own_schedule(own);
    return G_SOURCE_REMOVE;
}

void own_schedule(Own *own)
{
    uint64_t due_ms = bx_giver_due_ms(own->giver), now_ms = agent_now_ms();

    if (own->work_source) {
        g_source_remove(own->work_source);
        own->work_source = 0;
    }
    /* When the port is slow, on_drained() comes here again. */
    if (due_ms == UINT64_MAX || port_is_slow(own->agent->port)) {
        return;
    }
    own->work_source = due_ms <= now_ms
        ? g_idle_add(work, own)
        : g_timeout_add(due_ms - now_ms, work, own);
}

void own_message(Own *own, const BxMessage *message)
{
    BxMessage reply;
    int rc = bx_giver_message(own->giver, message, agent_now_ms());

    if (rc && bx_wire_error(&reply, &message->header, rc)) {
        host_send(own->agent, &reply);
    }
    own_schedule(own);
}

void own_end_session(Own *own)
{
    bx_giver_end_session(own->giver, agent_now_ms());
    own_schedule(own);
}

void own_welcome(Own *own, uint32_t features)
{
    struct vbx_register reg = {
        .flags = VBX_APP_RESERVES | VBX_APP_AGENT,
        .priority = 0,          /* what is free costs nobody anything */
        .name = "balloon-exd",
    };
    unsigned reason;

    bx_giver_use_hints(own->giver, features & VBX_FEATURE_HINTS);
    reg.offer_bytes = can_spare(own, &reason);
    host_register(own->agent, AGENT_APP, &reg);
}

void own_stop(Own *own, unsigned reason)
{
    bx_giver_stop(own->giver, reason);
}

uint64_t own_shrink(Own *own, uint64_t bytes, unsigned reason)
{
    uint64_t gone = bx_giver_shrink(own->giver, bytes, reason);

    own_schedule(own);
    return gone;
}

uint64_t own_held_bytes(const Own *own)
{
    BxGiverInfo info;

    bx_giver_info(own->giver, &info);
    return info.memory.held_bytes;
}

void own_describe(const Own *own, struct bx_local_agent *ret_agent)
{
    MemoryState memory;
    BxGiverInfo info;
    unsigned reason;

    bx_giver_info(own->giver, &info);
    ret_agent->reserved_bytes = info.memory.held_bytes;
    ret_agent->stock_bytes = info.memory.stock_bytes;
    ret_agent->huge_bytes = info.memory.huge_bytes;
    ret_agent->orders = info.orders;
    ret_agent->given_back_bytes = info.given_back_bytes;
    ret_agent->spare_bytes = can_spare(own, &reason);
    if (memory_read(own->agent->options.root, &memory) == 0) {
        ret_agent->available_bytes = memory.available;
    }
}
