/*
 * The balloon driver of a pretended guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "balloon.h"

#define REQUEST_PAGES 256u

/* Callbacks: the scheduler's thread. */

static void set_balloon(void *opaque, uint64_t balloon_bytes)
{
    Balloon *b = opaque;

    ms_lock(&b->lock);
    b->target = balloon_bytes >> MEMSCHED_PAGE_SHIFT;
    b->asked++;
    ms_cond_broadcast(&b->cond);
    ms_unlock(&b->lock);
}

static void set_paused(void *opaque, bool paused)
{
    Balloon *b = opaque;

    ms_lock(&b->lock);
    b->paused += paused;
    b->resumed += !paused;
    ms_cond_broadcast(&b->cond);
    ms_unlock(&b->lock);
}

static void poll_stats(void *opaque)
{
    Balloon *b = opaque;

    ms_lock(&b->lock);
    b->polled++;
    ms_cond_broadcast(&b->cond);
    ms_unlock(&b->lock);
}

static const MemSchedClientOps ops = {
    .set_balloon = set_balloon, .poll_stats = poll_stats,
};

static const MemSchedMachineOps machine = { .set_paused = set_paused };

/* What the driver does: lock held on the way in and out. */
static void step(Balloon *b)
{
    uint64_t target = MIN(b->target, b->count), actual = b->actual, n;

    ms_unlock(&b->lock);
    if (actual < target) {
        n = MIN(target - actual, REQUEST_PAGES);
        guest_inflate(b->guest, b->first + actual, n, b->must_tell_host);
        actual += n;
    } else {
        n = MIN(actual - target, REQUEST_PAGES);
        guest_deflate(b->guest, b->first + actual - n, n);
        actual -= n;
    }
    memsched_client_balloon_actual(b->guest->client,
                                   actual << MEMSCHED_PAGE_SHIFT);
    ms_lock(&b->lock);
    b->actual = actual;
}

static gpointer driver(gpointer opaque)
{
    Balloon *b = opaque;

    ms_lock(&b->lock);
    while (!b->stop) {
        if (MIN(b->target, b->count) == b->actual) {
            ms_cond_wait(&b->cond, &b->lock);
        } else {
            step(b);
        }
    }
    ms_unlock(&b->lock);
    return NULL;
}

static Balloon *make(Guest *guest, uint64_t first, uint64_t count)
{
    Balloon *b = g_new0(Balloon, 1);

    b->guest = guest;
    b->first = first;
    b->count = count;
    ms_lock_init(&b->lock, MS_RANK_LEAF);
    ms_cond_init(&b->cond);
    g_assert_cmpint(memsched_client_attach(guest->client, &ops, b), ==, 0);
    memsched_client_set_machine(guest->client, &machine, b);
    return b;
}

Balloon *balloon_new(Guest *guest, uint64_t first, uint64_t count,
                     bool must_tell_host)
{
    Balloon *b = make(guest, first, count);

    b->must_tell_host = must_tell_host;
    b->thread = g_thread_new("balloon", driver, b);
    return b;
}

Balloon *balloon_new_dead(Guest *guest)
{
    return make(guest, 0, 0);
}

void balloon_free(Balloon *b)
{
    if (b->thread) {
        ms_lock(&b->lock);
        b->stop = true;
        ms_cond_broadcast(&b->cond);
        ms_unlock(&b->lock);
        g_thread_join(b->thread);
    }
    memsched_client_set_machine(b->guest->client, NULL, NULL);
    memsched_client_detach(b->guest->client, b);
    ms_lock_destroy(&b->lock);
    ms_cond_destroy(&b->cond);
    g_free(b);
}

void balloon_set(Balloon *b, uint64_t pages)
{
    memsched_client_balloon_manual(b->guest->client,
                                   pages << MEMSCHED_PAGE_SHIFT);
    ms_lock(&b->lock);
    b->target = pages;
    ms_cond_broadcast(&b->cond);
    ms_unlock(&b->lock);
    while (balloon_actual(b) != pages) {
        g_usleep(200);
    }
}

uint64_t balloon_actual(Balloon *b)
{
    uint64_t actual;

    ms_lock(&b->lock);
    actual = b->actual;
    ms_unlock(&b->lock);
    return actual;
}
