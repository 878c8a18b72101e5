/*
 * Inside of what the agent knows of programs: the connection (local.c) and what
 * is said over it (local-message.c)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_LOCAL_INT_H
#define AGENT_LOCAL_INT_H

#include <sys/types.h>

#include "agent.h"
#include "outbox.h"

typedef struct LocalClient {
    Agent *agent;
    int fd;
    guint in_source, out_source;
    BxOutbox outbox;
    pid_t pid;
    uid_t uid;
    bool dead;                  /* closed as soon as nobody looks */
    bool hello;

    uint32_t app;               /* 0: not registered */
    struct vbx_register reg;
    bool refused;               /* by the host */
    uint64_t reserved_bytes;    /* as it tells */

    bool is_asked;              /* to give everything back */
    bool asks_sleep;            /* and waits for the answer */
    uint64_t sleep_cookie;
} LocalClient;

struct Locals {
    Agent *agent;
    char *path;
    int fd;
    guint source, dead_source, sleep_source;
    GList *clients;             /* of LocalClient */
};

/* local.c */
void local_send(LocalClient *client, BxMessage *message);
void local_refuse(LocalClient *client, const BxMessage *m, int rc);
void local_cut_off(LocalClient *client);
/* Its application is gone; the connection may stay. */
void local_unregister(LocalClient *client);
/* Those who asked for sleep are answered if all have given back. */
void local_sleep_check(Locals *locals);

/* local-message.c: a message that bx_wire_unpack() accepted */
void local_message(LocalClient *client, const BxMessage *m);

#endif
