/*
 * Statistics: every 5 s, when the host asks, and when pressure rises
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "agent.h"

#define PERIOD_S 5u

/* Told at once when it is reached; hundredths of a per cent. */
#define PSI_TOLD 1000u

struct Stats {
    guint period_source, look_source;
    bool told;                  /* that it is above */
};

void stats_send(Agent *agent)
{
    BxMessage m;
    MemoryState memory;

    if (!agent->welcome || memory_read(agent->options.root, &memory) < 0) {
        return;
    }
    const struct { uint32_t tag; uint64_t value; } figures[] = {
        { VBX_STAT_TOTAL, memory.total },
        { VBX_STAT_FREE, memory.free },
        { VBX_STAT_AVAILABLE, memory.available },
        { VBX_STAT_CACHED, memory.cached },
        { VBX_STAT_SWAP_TOTAL, memory.swap_total },
        { VBX_STAT_SWAP_FREE, memory.swap_free },
        { VBX_STAT_RESERVED, own_held_bytes(agent->own) +
                             locals_reserved_bytes(agent->locals) },
        { VBX_STAT_PSI_SOME, memory.psi_some },
        { VBX_STAT_PSI_FULL, memory.psi_full },
        { VBX_STAT_OOM_KILLS, memory.oom_kills },
    };

    bx_wire_init(&m, VBX_STATISTICS, 0, 0);
    m.statistics.count = G_N_ELEMENTS(figures);
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        m.statistics.stat[i] = (struct vbx_stat) {
            .tag = figures[i].tag, .value = figures[i].value,
        };
    }
    host_send(agent, &m);
}

static gboolean on_period(gpointer opaque)
{
    Agent *agent = opaque;

    if (!port_is_slow(agent->port)) {
        stats_send(agent);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_look(gpointer opaque)
{
    Agent *agent = opaque;
    MemoryState memory;
    bool above;

    if (memory_read(agent->options.root, &memory) == 0) {
        above = memory.psi_some >= PSI_TOLD || memory.psi_full >= PSI_TOLD;
        if (above && !agent->stats->told) {
            stats_send(agent);
        }
        agent->stats->told = above;
    }
    return G_SOURCE_CONTINUE;
}

void stats_start(Agent *agent)
{
    agent->stats = g_new0(Stats, 1);
    agent->stats->period_source = g_timeout_add_seconds(PERIOD_S, on_period,
                                                        agent);
    agent->stats->look_source = g_timeout_add_seconds(1, on_look, agent);
}

void stats_stop(Agent *agent)
{
    if (agent->stats) {
        g_source_remove(agent->stats->period_source);
        g_source_remove(agent->stats->look_source);
        g_clear_pointer(&agent->stats, g_free);
    }
}
