/*
 * One question to the agent, one answer
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TOOLS_TALK_H
#define TOOLS_TALK_H

#include "wire.h"

/*
 * Connect and say hello.  A file descriptor, or -1 after a sentence to
 * standard error.
 */
int talk_open(const char *run_dir);

/* 0, or -1 after a sentence. */
int talk_send(int fd, BxMessage *message);

/* The next message, within 10 s.  0, or -1 after a sentence. */
int talk_receive(int fd, BxMessage *ret_message);

#endif
