/*
 * The session with the host
 *
 *   port opens --> HELLO --> WELCOME: registers the agent and all programs
 *                              |  WELCOME again, another session: the same
 *   port closes <--------------+  all epochs are dead, requests have ended
 *
 * Messages are handed to whom they concern: application 0 is the guest, 1 the
 * agent itself, the others are programs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "agent.h"

#include <errno.h>
#include <string.h>

#include "requests.h"

/* A host that says nothing for so long is asked from the beginning. */
#define WELCOME_MS 10000u

void host_send(Agent *agent, BxMessage *message)
{
    if (agent->welcome) {
        port_send(agent->port, message);
    }
}

void host_register(Agent *agent, uint32_t app, const struct vbx_register *reg)
{
    BxMessage m;

    bx_wire_init(&m, VBX_REGISTER, app, 0);
    m.reg.flags = reg->flags;
    m.reg.priority = reg->priority;
    m.reg.offer_bytes = reg->offer_bytes;
    memcpy(m.reg.name, reg->name, sizeof(m.reg.name));
    host_send(agent, &m);
}

static void forget_welcome_source(Agent *agent)
{
    if (agent->welcome_source) {
        g_source_remove(agent->welcome_source);
        agent->welcome_source = 0;
    }
}

static gboolean no_welcome(gpointer opaque)
{
    Agent *agent = opaque;

    agent->welcome_source = 0;
    g_message("the host does not answer; the port is opened anew");
    port_reopen(agent->port);
    return G_SOURCE_REMOVE;
}

static void on_up(void *opaque)
{
    Agent *agent = opaque;
    BxMessage m;

    bx_wire_init(&m, VBX_HELLO, 0, 0);
    m.hello.version_min = m.hello.version_max = VBX_VERSION;
    m.hello.features = agent->options.hints ? VBX_FEATURE_HINTS : 0;
    m.hello.held_bytes = own_held_bytes(agent->own);
    memcpy(m.hello.session, agent->session, sizeof(m.hello.session));
    port_send(agent->port, &m);
    forget_welcome_source(agent);
    agent->welcome_source = g_timeout_add(WELCOME_MS, no_welcome, agent);
}

/* Whoever waits for an answer gets this one. */
static void end_requests(Agent *agent)
{
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        Request *r = &agent->requests->request[i];
        Request was = *r;
        BxMessage m;

        if (!was.host_cookie) {
            continue;
        }
        requests_remove(r);
        bx_wire_init(&m, VBX_ANSWER, 0, was.cookie);
        m.answer.status = VBX_ANSWER_REFUSED;
        m.answer.reason = VBX_REASON_END;
        locals_answer(agent->locals, was.client, &m);
    }
}

static void end_session(Agent *agent)
{
    own_end_session(agent->own);
    end_requests(agent);
}

static void on_down(void *opaque)
{
    Agent *agent = opaque;

    forget_welcome_source(agent);
    if (!agent->welcome) {
        return;
    }
    agent->welcome = false;
    g_message("the host is gone");
    end_session(agent);
    publish_lost(agent);
    locals_new_session(agent->locals);
}

static void take_welcome(Agent *agent, const BxMessage *m)
{
    bool again = agent->welcome;

    if (m->welcome.version != VBX_VERSION) {
        g_warning("the host wants version %u of the protocol, this is %u",
                  m->welcome.version, VBX_VERSION);
        port_reopen(agent->port);
        return;
    }
    forget_welcome_source(agent);
    agent->welcome = true;
    agent->apps_max = MIN(m->welcome.apps_max, AGENT_APPS_MAX + 1);
    memcpy(agent->session, m->welcome.session, sizeof(agent->session));
    port_settled(agent->port);
    g_message(again ? "a new session with the host"
                    : "a session with the host");
    end_session(agent);
    locals_new_session(agent->locals);
    if (agent->apps_max) {
        own_welcome(agent->own, m->welcome.features);
        locals_register_all(agent->locals);
    } else {
        g_message("the host has no use for memory; it tells conditions only");
    }
    stats_send(agent);
}

static void take_answer(Agent *agent, const BxMessage *m)
{
    Request *r = requests_by_host(agent->requests, m->header.cookie);
    const void *client = r ? r->client : NULL;
    BxMessage copy = *m;

    if (!r) {
        return;                 /* cancelled meanwhile */
    }
    copy.header.cookie = r->cookie;
    if (m->answer.status != VBX_ANSWER_QUEUED) {
        requests_remove(r);
    }
    locals_answer(agent->locals, client, &copy);
}

static void take_error(Agent *agent, const BxMessage *m)
{
    Request *r = m->error.type == VBX_REQUEST
        ? requests_by_host(agent->requests, m->header.cookie) : NULL;
    BxMessage copy = *m;

    g_info("the host refuses a %s of application %u: error %u",
           bx_wire_name(m->error.type), m->header.app, m->error.code);
    if (r) {
        const void *client = r->client;

        copy.header.cookie = r->cookie;
        requests_remove(r);
        locals_answer(agent->locals, client, &copy);
    } else if (m->error.type == VBX_HELLO) {
        g_warning(m->error.code == VBX_ERROR_STATE
                  ? "the host speaks with this guest over another connection"
                  : "the host does not speak this version of the protocol");
        port_reopen(agent->port);
    } else if (m->error.type == VBX_REGISTER) {
        locals_refused(agent->locals, m->header.app);
    }
}

static void for_the_guest(Agent *agent, const BxMessage *m)
{
    BxMessage reply;

    switch (m->header.type) {
    case VBX_PING:
        bx_wire_init(&reply, VBX_PONG, m->header.app, m->header.cookie);
        port_send(agent->port, &reply);
        break;
    case VBX_CONDITION:
        publish_condition(agent, &m->condition);
        break;
    case VBX_POLL:
        stats_send(agent);
        locals_send_all(agent->locals, m);
        break;
    case VBX_PONG:
    case VBX_CANCEL:
        break;
    default:
        if (bx_wire_error(&reply, &m->header, VBX_ERROR_UNKNOWN)) {
            port_send(agent->port, &reply);
        }
    }
}

static void hand_on(Agent *agent, const BxMessage *m)
{
    BxMessage copy, reply;

    if (m->header.app == AGENT_APP) {
        own_message(agent->own, m);
    } else if (m->header.app == 0) {
        for_the_guest(agent, m);
    } else {
        copy = *m;
        if (!locals_send_to(agent->locals, m->header.app, &copy) &&
            bx_wire_error(&reply, &m->header, VBX_ERROR_UNKNOWN)) {
            port_send(agent->port, &reply);
        }
    }
}

static void on_message(void *opaque, const BxMessage *m, int rc)
{
    Agent *agent = opaque;
    BxMessage reply;

    if (rc < 0) {
        agent->refused_messages++;
        if (bx_wire_error(&reply, &m->header, rc)) {
            port_send(agent->port, &reply);
        }
        return;
    }
    g_debug("host: %s for %u", bx_wire_name(m->header.type), m->header.app);
    switch (m->header.type) {
    case VBX_WELCOME:
        take_welcome(agent, m);
        break;
    case VBX_ERROR:
        take_error(agent, m);
        break;
    case VBX_ANSWER:
        take_answer(agent, m);
        break;
    default:
        if (agent->welcome) {
            hand_on(agent, m);
        } else if (bx_wire_error(&reply, &m->header, VBX_ERROR_STATE)) {
            port_send(agent->port, &reply);
        }
    }
}

static void on_drained(void *opaque)
{
    Agent *agent = opaque;

    own_schedule(agent->own);
    locals_resume(agent->locals);
}

void host_stop(Agent *agent)
{
    forget_welcome_source(agent);
}

const PortOps host_port_ops = {
    .up = on_up,
    .down = on_down,
    .message = on_message,
    .drained = on_drained,
};
