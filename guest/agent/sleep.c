/*
 * Hibernation
 *
 * A guest that writes its memory to disk reads all of it: pages that the host
 * has taken would come back one by one, and the image would hold nothing but
 * tags.  So everything is given back before, programs' memory too, and nothing
 * is given until the guest is back.  The kernel tells no program that it is
 * about to hibernate; the guest's service manager calls us (bxctl sleep, see
 * balloon-exd(8)).
 *
 * The host is asked for peace again and again, since it grants a minute at a
 * time; after ten minutes awake we take it that nobody will call again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "agent.h"

#define VETO_EVERY_S 30u
#define VETOES_MAX   20u

static void veto(Agent *agent, uint32_t duration_ms)
{
    BxMessage m;

    bx_wire_init(&m, VBX_VETO, AGENT_APP, 0);
    m.veto.duration_ms = duration_ms;
    m.veto.reason = VBX_REASON_HIBERNATE;
    host_send(agent, &m);
}

static gboolean on_veto_due(gpointer opaque)
{
    Agent *agent = opaque;

    if (++agent->sleep_vetoes >= VETOES_MAX) {
        g_message("still awake: memory is given again");
        agent->sleeps = false;
        agent->sleep_source = 0;
        veto(agent, 0);
        return G_SOURCE_REMOVE;
    }
    veto(agent, VBX_VETO_MAX_MS);
    return G_SOURCE_CONTINUE;
}

void agent_sleep(Agent *agent, bool sleep)
{
    if (agent->sleep_source) {
        g_source_remove(agent->sleep_source);
        agent->sleep_source = 0;
    }
    agent->sleeps = sleep;
    agent->sleep_vetoes = 0;
    veto(agent, sleep ? VBX_VETO_MAX_MS : 0);
    if (sleep) {
        uint64_t gone = own_shrink(agent->own, UINT64_MAX,
                                   VBX_REASON_HIBERNATE);

        g_message("about to hibernate: %" G_GUINT64_FORMAT
                  " MiB given back", gone >> 20);
        agent->sleep_source = g_timeout_add_seconds(VETO_EVERY_S, on_veto_due,
                                                    agent);
    }
    locals_sleep(agent->locals, sleep);
}
