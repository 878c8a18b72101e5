/*
 * A program that uses the library, in a thread of the test
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_GUEST_PROGRAM_H
#define TESTS_GUEST_PROGRAM_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "balloonex.h"

typedef struct Program {
    Bx *bx;
    GThread *thread;
    int wake[2];                /* a pipe: stop, or do something */
    atomic_bool stop;
    const char *name;

    _Atomic uint64_t cache_bytes;       /* what it has left to give */
    _Atomic uint64_t given, had;
    _Atomic uint64_t generation;        /* of the last condition */
    atomic_uint lost;                   /* conditions without a host */
    _Atomic uint64_t request_bytes;     /* to be asked for; 0 when asked */
    atomic_int status, reason;          /* of the last answer; -1 */
    _Atomic uint64_t answer_bytes;
    _Atomic uint64_t take_back;         /* to be done; 0 when done */
} Program;

/* @offers: how much it has to give; 0: it offers nothing. */
Program *program_new(const char *run_dir, const char *name, uint64_t offers);
void program_free(Program *program);

/* Have the thread look at request_bytes and take_back. */
void program_poke(Program *program);

/*
 * Wait until @value is @expected, which the program's thread brings about;
 * looks every 5 ms, fails after a while.
 */
void program_wait_u64(_Atomic uint64_t *value, uint64_t expected);
void program_wait_int(atomic_int *value, int expected);

#endif
