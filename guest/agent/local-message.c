/*
 * What programs of this guest say
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "local-int.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "requests.h"

static void send_welcome(LocalClient *client)
{
    Agent *agent = client->agent;
    BxMessage m;

    bx_wire_init(&m, VBX_WELCOME, client->app, 0);
    m.welcome.version = VBX_VERSION;
    m.welcome.apps_max = 1;
    m.welcome.features = agent->options.hints ? VBX_FEATURE_HINTS : 0;
    if (agent->welcome) {
        memcpy(m.welcome.session, agent->session, sizeof(m.welcome.session));
    }
    local_send(client, &m);
}

static void take_hello(LocalClient *client, const BxMessage *m)
{
    if (m->hello.version_min > VBX_VERSION ||
        m->hello.version_max < VBX_VERSION) {
        local_refuse(client, m, VBX_ERROR_VERSION);
        return;
    }
    local_unregister(client);
    client->hello = true;
    send_welcome(client);
}

/* The lowest number that is free. */
static uint32_t free_number(const Locals *locals, unsigned apps_max)
{
    for (uint32_t app = AGENT_APP + 1; app <= apps_max; app++) {
        bool taken = false;

        for (GList *l = locals->clients; l; l = l->next) {
            taken |= ((LocalClient *)l->data)->app == app;
        }
        if (!taken) {
            return app;
        }
    }
    return 0;
}

static void take_register(LocalClient *client, const BxMessage *m)
{
    Agent *agent = client->agent;
    unsigned max = agent->welcome ? agent->apps_max : AGENT_APPS_MAX + 1;
    uint32_t app;

    if (client->app) {
        local_refuse(client, m, VBX_ERROR_STATE);
        return;
    }
    app = free_number(agent->locals, max);
    if (!app) {
        local_refuse(client, m, VBX_ERROR_LIMIT);
        return;
    }
    client->app = app;
    client->refused = false;
    client->reg = m->reg;
    /* Only we are the agent. */
    client->reg.flags &= VBX_APP_RESERVES;
    for (int i = 0; client->reg.name[i]; i++) {
        if (!g_ascii_isprint(client->reg.name[i])) {
            client->reg.name[i] = '?';
        }
    }
    g_info("application %u is %s, process %d", app, client->reg.name,
           client->pid);
    host_register(agent, app, &client->reg);
}

static void take_request(LocalClient *client, const BxMessage *m)
{
    Agent *agent = client->agent;
    uint64_t now_ms = agent_now_ms();
    BxMessage copy = *m;
    Request *r;

    if (!agent->welcome) {
        bx_wire_init(&copy, VBX_ANSWER, client->app, m->header.cookie);
        copy.answer.status = VBX_ANSWER_REFUSED;
        copy.answer.reason = VBX_REASON_END;
        local_send(client, &copy);
        return;
    }
    r = requests_add(agent->requests, client, m->header.cookie, client->app,
                     now_ms, now_ms + m->request.deadline_ms);
    if (!r) {
        local_refuse(client, m, VBX_ERROR_LIMIT);
        return;
    }
    copy.header.app = client->app;
    copy.header.cookie = r->host_cookie;
    host_send(agent, &copy);
}

static void take_cancel(LocalClient *client, const BxMessage *m)
{
    Agent *agent = client->agent;
    Request *r = requests_by_client(agent->requests, client,
                                    m->header.cookie);
    BxMessage copy = *m;

    if (r) {                    /* else the answer has crossed it */
        copy.header.app = r->app;
        copy.header.cookie = r->host_cookie;
        requests_remove(r);
        host_send(agent, &copy);
    }
}

/* A program without an application vetoes for the guest's own balloon. */
static void take_veto(LocalClient *client, const BxMessage *m)
{
    BxMessage copy = *m;

    copy.header.app = client->app ? client->app : AGENT_APP;
    if (!client->app && m->veto.duration_ms) {
        own_stop(client->agent->own, VBX_REASON_VETO);
    }
    host_send(client->agent, &copy);
}

static void count_reserved(LocalClient *client, const BxMessage *m)
{
    /* Checked to be below 2^56; a liar only spoils what is shown of it. */
    uint64_t bytes;

    if (m->header.type == VBX_RESERVED) {
        bytes = m->reserved.count * VBX_PAGE_BYTES;
        client->reserved_bytes = MIN(client->reserved_bytes + bytes,
                                     UINT64_C(1) << 56);
    } else if (m->header.type == VBX_UNMAPPED) {
        bytes = m->range.count * VBX_PAGE_BYTES;
        client->reserved_bytes -= MIN(client->reserved_bytes, bytes);
    }
}

/* What goes to the host under the program's own number. */
static void hand_on(LocalClient *client, const BxMessage *m)
{
    BxMessage copy;

    if (!client->app) {
        local_refuse(client, m, VBX_ERROR_STATE);
        return;
    }
    count_reserved(client, m);
    copy = *m;
    copy.header.app = client->app;
    host_send(client->agent, &copy);
}

static void send_app(LocalClient *asks, uint64_t cookie,
                     const LocalClient *client)
{
    BxMessage m;

    bx_wire_init(&m, BX_LOCAL_APP, client->app, cookie);
    m.local_app.flags = client->reg.flags;
    if (client->agent->welcome && !client->refused) {
        m.local_app.flags |= BX_LOCAL_APP_KNOWN;
    }
    m.local_app.priority = client->reg.priority;
    m.local_app.offer_bytes = client->reg.offer_bytes;
    m.local_app.reserved_bytes = client->reserved_bytes;
    m.local_app.pid = client->pid;
    memcpy(m.local_app.name, client->reg.name, sizeof(m.local_app.name));
    local_send(asks, &m);
}

static void take_status(LocalClient *client, const BxMessage *question)
{
    Agent *agent = client->agent;
    uint64_t cookie = question->header.cookie;
    BxMessage m;

    for (GList *l = agent->locals->clients; l; l = l->next) {
        const LocalClient *other = l->data;

        if (other->app) {
            send_app(client, cookie, other);
        }
    }
    bx_wire_init(&m, BX_LOCAL_AGENT, 0, cookie);
    m.local_agent.flags =
        (agent->welcome ? BX_LOCAL_AGENT_CONNECTED : 0) |
        (agent->sleeps ? BX_LOCAL_AGENT_SLEEPS : 0) |
        (pressure_is_on(agent->pressure) ? BX_LOCAL_AGENT_PRESSED : 0);
    m.local_agent.requests = requests_count(agent->requests);
    m.local_agent.refused_messages = agent->refused_messages;
    if (agent->welcome) {
        memcpy(m.local_agent.session, agent->session,
               sizeof(m.local_agent.session));
    }
    own_describe(agent->own, &m.local_agent);
    local_send(client, &m);
}

static void take_sleep(LocalClient *client, const BxMessage *m)
{
    if (client->app) {
        client->is_asked = false;       /* an answer */
        local_sleep_check(client->agent->locals);
    } else if (client->uid != 0 && client->uid != geteuid()) {
        local_refuse(client, m, VBX_ERROR_STATE);
    } else {
        client->asks_sleep = true;
        client->sleep_cookie = m->header.cookie;
        agent_sleep(client->agent, m->local_sleep.sleep);
    }
}

static void take_ping(LocalClient *client, const BxMessage *m)
{
    BxMessage reply;

    bx_wire_init(&reply, VBX_PONG, client->app, m->header.cookie);
    local_send(client, &reply);
}

void local_message(LocalClient *client, const BxMessage *m)
{
    unsigned type = m->header.type;

    if (type == VBX_HELLO) {
        take_hello(client, m);
    } else if (!client->hello) {
        local_refuse(client, m, VBX_ERROR_STATE);
    } else if (type == VBX_REGISTER) {
        take_register(client, m);
    } else if (type == VBX_UNREGISTER) {
        local_unregister(client);
    } else if (type == VBX_REQUEST) {
        take_request(client, m);
    } else if (type == VBX_CANCEL) {
        take_cancel(client, m);
    } else if (type == VBX_VETO) {
        take_veto(client, m);
    } else if (type == BX_LOCAL_STATUS) {
        take_status(client, m);
    } else if (type == BX_LOCAL_SLEEP) {
        take_sleep(client, m);
    } else if (type == VBX_PING) {
        take_ping(client, m);
    } else if (type != VBX_PONG && type != VBX_ERROR) {
        hand_on(client, m);
    } else if (type == VBX_ERROR && client->app) {
        hand_on(client, m);     /* it refuses what the host sent */
    }
}

void locals_new_session(Locals *locals)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;

        client->reserved_bytes = 0;
        client->refused = false;
        if (client->hello) {
            send_welcome(client);
        }
    }
}

void locals_register_all(Locals *locals)
{
    for (GList *l = locals->clients; l; l = l->next) {
        LocalClient *client = l->data;

        if (client->app) {
            host_register(locals->agent, client->app, &client->reg);
        }
    }
}
