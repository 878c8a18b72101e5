/*
 * A host that is pretended, and the real agent that it talks with
 *
 * The agent runs as a process of its own.  Its port is a Unix socket at whose
 * other end the test is, and /proc and /sys are folders of the test's, so that
 * a guest can be short of memory without this machine being so.
 *
 * Waits are bounded; what does not come fails the test.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_GUEST_PRETEND_H
#define TESTS_GUEST_PRETEND_H

#include <glib.h>
#include <sys/types.h>

#include "wire.h"

#define MIB (UINT64_C(1) << 20)

typedef struct Pretend {
    char *dir;                  /* everything is in here */
    char *run_dir, *root, *socket_path;
    int listener;
    int port;                   /* -1: not connected */
    pid_t agent;
    GByteArray *input;
} Pretend;

/*
 * Instead of g_test_init(): what follows GLib's own arguments are the programs
 * under test: balloon-exd, bxctl, and the examples.
 */
void pretend_init(int argc, char **argv);
extern const char *pretend_exd, *pretend_ctl;
extern const char *pretend_cache, *pretend_request;

/*
 * A guest of 1 GiB, 800 MiB of it available, with the agent running, which has
 * said nothing yet.  @options: more words of its command line, NULL at the end.
 */
Pretend *pretend_new(const char *const *options);
/* Ends the agent by SIGTERM, and fails unless it ended well. */
void pretend_free(Pretend *p);

void pretend_start_agent(Pretend *p, const char *const *options);
void pretend_kill_agent(Pretend *p);

/* What the guest's /proc/meminfo says from now on. */
void pretend_available(Pretend *p, uint64_t available_mib);

/* Wait until the agent has opened the port. */
void pretend_accept(Pretend *p);
void pretend_hang_up(Pretend *p);

void pretend_send(Pretend *p, BxMessage *m);
void pretend_send_bytes(Pretend *p, const void *bytes, size_t size);

/*
 * The next message, which must be of @type, for application @app; @type 0: any.
 * Statistics and hints in between are passed over unless they are asked for.
 */
void pretend_expect(Pretend *p, unsigned type, uint32_t app, BxMessage *ret);
/* The agent closes the port. */
void pretend_expect_end(Pretend *p);

/* HELLO is awaited and answered; the session's number repeats @session. */
void pretend_welcome(Pretend *p, uint8_t session, BxMessage *ret_hello);
void pretend_new_session(Pretend *p, uint8_t session);
/* That, and the agent's own registration. */
void pretend_begin(Pretend *p, uint8_t session);

/* An order; its cookie is its epoch. */
void pretend_order(Pretend *p, uint32_t app, uint64_t epoch, uint64_t bytes,
                   uint32_t granule_bytes);
/*
 * All that an order brings, until its last word, which is returned.  *ret_pages
 * is how many pages were told.
 */
unsigned pretend_reserved(Pretend *p, uint32_t app, uint64_t epoch,
                          uint64_t *ret_pages, unsigned *ret_reason);
void pretend_range(Pretend *p, unsigned type, uint32_t app, uint64_t epoch,
                   uint64_t first, uint64_t count);
void pretend_condition(Pretend *p, uint64_t generation, unsigned condition,
                       uint64_t reservable);

/*
 * Ask the agent for its figures until it says that so much is set aside.  It
 * answers at once, so they are asked for every 20 ms.
 */
void pretend_wait_held(Pretend *p, uint64_t bytes);

/* Start @argv with its output going to a pipe, the fd of which is returned. */
pid_t pretend_spawn(const char *const *argv, int *ret_output);
/* Its exit status, -1 when it was killed. */
int pretend_wait_for(pid_t pid);

#endif
