/*
 * The port: messages from and to the host, whatever becomes of it
 *
 * All in the main loop's thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_PORT_H
#define AGENT_PORT_H

#include <stdbool.h>

#include "wire.h"

typedef struct Port Port;

typedef struct PortOps {
    void (*up)(void *opaque);           /* open; nothing was said yet */
    void (*down)(void *opaque);         /* closed; it will be tried again */
    /* @rc as of bx_wire_unpack(), never -EBADMSG */
    void (*message)(void *opaque, const BxMessage *message, int rc);
    void (*drained)(void *opaque);      /* not slow any more */
} PortOps;

/* @path: NULL to look for it below @root.  Starts trying at once. */
Port *port_new(const char *path, const char *root, const PortOps *ops,
               void *opaque);
void port_free(Port *port);

/*
 * Queue a message; lost where the port is closed, as the host forgets all it
 * knew then.  More than the host takes in for long closes the port.
 */
void port_send(Port *port, BxMessage *message);

/* Close it, and try again: what the host says cannot be understood. */
void port_reopen(Port *port);

/* The host has answered: the next time it is tried again at once. */
void port_settled(Port *port);

/* So much waits for the host that nothing should be added unasked. */
bool port_is_slow(const Port *port);

/* The device file of the port that is found without udev; NULL. */
char *port_find(const char *root);

#endif
