/*
 * A program that uses the library, in a thread of the test
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "program.h"

#include <poll.h>
#include <unistd.h>

#define LOOKS 4000

static uint64_t give(void *opaque, uint64_t bytes)
{
    Program *p = opaque;
    uint64_t left = atomic_load(&p->cache_bytes);

    bytes = MIN(bytes, left);
    atomic_store(&p->cache_bytes, left - bytes);
    atomic_fetch_add(&p->given, bytes);
    return bytes;
}

static void have(void *opaque, uint64_t bytes)
{
    Program *p = opaque;

    atomic_fetch_add(&p->had, bytes);
}

static void on_condition(void *opaque, const BxCondition *condition)
{
    Program *p = opaque;

    atomic_store(&p->generation, condition->generation);
    if (!condition->is_connected) {
        atomic_fetch_add(&p->lost, 1);
    }
}

static void on_answer(void *opaque, uint64_t request, BxStatus status,
                      BxReason reason, uint64_t bytes)
{
    Program *p = opaque;

    atomic_store(&p->reason, reason);
    atomic_store(&p->answer_bytes, bytes);
    atomic_store(&p->status, status);
}

static void do_what_is_asked(Program *p)
{
    uint64_t bytes = atomic_load(&p->request_bytes), number;
    uint64_t take_back = atomic_load(&p->take_back);

    if (bytes && bx_is_connected(p->bx)) {
        BxRequest request = { .bytes = bytes, .deadline_ms = 60000 };

        g_assert_cmpint(bx_request(p->bx, &request, &number), ==, 0);
        atomic_store(&p->request_bytes, 0);
    }
    if (take_back) {
        bx_take_back(p->bx, take_back, NULL);
        atomic_store(&p->take_back, 0);
    }
}

static gpointer run(gpointer opaque)
{
    Program *p = opaque;
    struct pollfd fds[2] = {
        { .fd = bx_fd(p->bx), .events = POLLIN },
        { .fd = p->wake[0], .events = POLLIN },
    };
    char byte;

    while (!atomic_load(&p->stop)) {
        bx_dispatch(p->bx);
        do_what_is_asked(p);
        if (poll(fds, 2, -1) > 0 && fds[1].revents) {
            g_assert_cmpint(read(p->wake[0], &byte, 1), ==, 1);
        }
    }
    return NULL;
}

Program *program_new(const char *run_dir, const char *name, uint64_t offers)
{
    Program *p = g_new0(Program, 1);
    BxOffer offer = {
        .name = name, .priority = 2, .bytes = offers, .give = give,
        .have = have, .opaque = p,
    };

    p->name = name;
    atomic_store(&p->cache_bytes, offers);
    atomic_store(&p->status, -1);
    g_assert_cmpint(pipe(p->wake), ==, 0);
    g_assert_cmpint(bx_open(run_dir, 0, &p->bx), ==, 0);
    bx_on_condition(p->bx, on_condition, p);
    bx_on_answer(p->bx, on_answer, p);
    if (offers) {
        g_assert_cmpint(bx_offer(p->bx, &offer), ==, 0);
        g_assert_cmpint(bx_offer(p->bx, &offer), ==, -114 /* EALREADY */);
    }
    p->thread = g_thread_new(name, run, p);
    return p;
}

void program_poke(Program *program)
{
    g_assert_cmpint(write(program->wake[1], "", 1), ==, 1);
}

void program_free(Program *program)
{
    atomic_store(&program->stop, true);
    program_poke(program);
    g_thread_join(program->thread);
    bx_close(program->bx);
    close(program->wake[0]);
    close(program->wake[1]);
    g_free(program);
}

void program_wait_u64(_Atomic uint64_t *value, uint64_t expected)
{
    for (int i = 0; i < LOOKS && atomic_load(value) != expected; i++) {
        poll(NULL, 0, 5);
    }
    g_assert_cmpuint(atomic_load(value), ==, expected);
}

void program_wait_int(atomic_int *value, int expected)
{
    for (int i = 0; i < LOOKS && atomic_load(value) != expected; i++) {
        poll(NULL, 0, 5);
    }
    g_assert_cmpint(atomic_load(value), ==, expected);
}
