/*
 * What the parts of balloon-exd know of each other
 *
 * One thread, one main loop.  Each part has its own file and its own struct; an
 * Agent holds them together.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_H
#define AGENT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "condpage.h"
#include "memory.h"
#include "options.h"
#include "port.h"
#include "wire.h"

/* The agent's own number; those of programs begin behind it. */
#define AGENT_APP 1u

/* Programs that offer memory, at a time; the host's limit may be lower. */
#define AGENT_APPS_MAX 62u

typedef struct Own Own;
typedef struct Locals Locals;
typedef struct Pressure Pressure;
typedef struct Requests Requests;
typedef struct Stats Stats;

typedef struct Agent {
    AgentOptions options;
    Port *port;
    Own *own;
    Locals *locals;
    Pressure *pressure;
    Requests *requests;
    Stats *stats;

    bool welcome;               /* the host knows us */
    uint8_t session[VBX_SESSION_BYTES];
    unsigned apps_max;          /* that the host takes, us included */
    guint welcome_source;

    BxCondPage *page;
    char *page_path;
    BxFigures figures;          /* what the page holds */

    bool sleeps;                /* the guest is about to hibernate */
    guint sleep_source;
    unsigned sleep_vetoes;

    uint64_t refused_messages;
} Agent;

/* host.c: the session with the host */
extern const PortOps host_port_ops;
/* To the host, if it knows us. */
void host_send(Agent *agent, BxMessage *message);
/* Registers application @app, the agent itself or a program. */
void host_register(Agent *agent, uint32_t app, const struct vbx_register *reg);

/* Before the end. */
void host_stop(Agent *agent);

/* own.c: the agent as an application */
Own *own_new(Agent *agent);
void own_free(Own *own);
void own_message(Own *own, const BxMessage *message);
void own_end_session(Own *own);
/* A session began; VBX_FEATURE_* are what both ends have. */
void own_welcome(Own *own, uint32_t features);
void own_stop(Own *own, unsigned reason);
/* Give back at least so much; returns how much it was. */
uint64_t own_shrink(Own *own, uint64_t bytes, unsigned reason);
uint64_t own_held_bytes(const Own *own);
/* After anything that may have given it work, or taken an obstacle away. */
void own_schedule(Own *own);
void own_describe(const Own *own, struct bx_local_agent *ret_agent);

/* local.c: programs of this guest */
/* NULL with a sentence in *ret_error. */
Locals *locals_new(Agent *agent, char **ret_error);
void locals_free(Locals *locals);
/* For the program that has this number; false: there is none. */
bool locals_send_to(Locals *locals, uint32_t app, BxMessage *message);
/* For the program that asked; does nothing where it has gone (NULL). */
void locals_answer(Locals *locals, const void *client, BxMessage *message);
/* For all that have said hello; @message is in the machine's order. */
void locals_send_all(Locals *locals, const BxMessage *message);
/* A session began or ended: all are told. */
void locals_new_session(Locals *locals);
void locals_register_all(Locals *locals);
void locals_refused(Locals *locals, uint32_t app);
/* Reading from programs goes on. */
void locals_resume(Locals *locals);
/* Of all programs, as they tell. */
uint64_t locals_reserved_bytes(const Locals *locals);
/* Ask all programs to give everything back, or tell them that it is over. */
void locals_sleep(Locals *locals, bool sleep);

/* sleep.c: hibernation */
void agent_sleep(Agent *agent, bool sleep);

/* pressure.c: the guest's own need */
Pressure *pressure_new(Agent *agent);
void pressure_free(Pressure *pressure);
/* Within the last seconds: nothing is given. */
bool pressure_is_on(const Pressure *pressure);

/* stats.c */
void stats_start(Agent *agent);
void stats_stop(Agent *agent);
void stats_send(Agent *agent);

/* publish.c: the condition page, and who watches it */
int publish_start(Agent *agent, char **ret_error);
void publish_condition(Agent *agent, const struct vbx_condition *condition);
void publish_lost(Agent *agent);
void publish_stop(Agent *agent);

static inline uint64_t agent_now_ms(void)
{
    return bx_now_ns() / 1000000;
}

#endif
