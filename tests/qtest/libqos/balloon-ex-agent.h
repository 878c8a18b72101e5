/*
 * An agent of balloon applications over the queues of balloon-ex, for tests
 *
 * All waits are bounded.  The guest is the first one that the scheduler shows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_BALLOON_EX_AGENT_H
#define TESTS_LIBQOS_BALLOON_EX_AGENT_H

#include "balloon-ex.h"
#include "balloon-ex-messages.h"

#define PAGE    UINT64_C(4096)
#define MIB     (UINT64_C(1) << 20)

/* How long something that happens behind the device may take. */
#define WAIT_US (10 * G_USEC_PER_SEC)

void agent_say(QBalloonEx *b, const Message *m);
void agent_say_hello(QBalloonEx *b, uint64_t cookie);
void agent_say_register(QBalloonEx *b, uint32_t app, const char *name);
void agent_say_plain(QBalloonEx *b, uint16_t type, uint32_t app,
                     uint64_t cookie);
void agent_say_request(QBalloonEx *b, uint64_t bytes, uint32_t deadline_ms,
                       uint64_t cookie);

/* The next message that is no news; of this type, with this cookie. */
void agent_hear(QBalloonEx *b, Message *m);
void agent_hear_type(QBalloonEx *b, Message *m, uint16_t type,
                     uint64_t cookie);
void agent_hear_error(QBalloonEx *b, uint16_t code, uint16_t type,
                      uint64_t cookie);

/* HELLO and its WELCOME: the session's number. */
void agent_open_session(QBalloonEx *b, uint8_t session[VBX_SESSION_BYTES]);

/* Everything said before has been looked at when this returns. */
void agent_ping(QBalloonEx *b, uint64_t cookie);

/* The guest as query-memsched-guests shows it; the caller unrefs. */
QDict *agent_guest(QTestState *qts);
bool agent_is_connected(QTestState *qts);
size_t agent_count_apps(QTestState *qts);
uint64_t agent_allocated(QTestState *qts);

/* A counter of the device's property "messages". */
uint64_t agent_messages(QTestState *qts, const char *counter);

void agent_assert_exact(QTestState *qts);

/* The driver goes, and with it the connection. */
void agent_finish(QBalloonEx *b, QTestState *qts);

#endif
