/*
 * What a guest's past says: does it answer, does it thrash, idle, grow
 *
 * Owns the judgement of one snapshot against the one before, MsPolicyMemory.
 *
 * Answers.  While a guest is asked for LEAST pages or more, what is captured of
 * it is measured in windows of a second.  A guest that gives less than
 * slow_bytes_per_s in slow_windows of them, one after the other, does not
 * answer: nobody counts on it any more.  After a rest it is asked for a little,
 * and counts again as soon as that comes at a better rate; each probe in vain
 * doubles the rest.  So a guest that was stopped by its own user comes back by
 * itself, and one that never gives costs nothing.
 *
 * Thrashes.  Memory was taken that the guest needs: it deflated its balloon
 * because it was out of memory, or more than a quarter of what was captured of
 * late came back.  It is left alone for a time that doubles with every further
 * mistake, and is halved by every calm time of that length.
 *
 * Idles.  An eighth of what it holds or more is not in use, and since when.
 *
 * Pressed.  Its balloon leaves it nearly nothing free, touches of it wait, or
 * it grows out of a pool that is short, which is slow.
 *
 * Grows.  What a tick adds, smoothed over about four ticks.
 *
 *     rest                    10 s    20 s    40 s  ...  10 min
 *     captured, of late       3/4 of it a tick before, and this tick's
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "policy-int.h"

#define NS_PER_MS UINT64_C(1000000)
#define WINDOW_NS (UINT64_C(1000) * NS_PER_MS)

/* 2^20 times 10 s is a year: more doublings change nothing. */
#define DOUBLINGS_MOST 20u

/* Of its size: less than this is free inside, so it is under pressure. */
#define PRESSED_PART 16u

/* Grows by so much in a tick: by touches, and not by chance. */
#define THROTTLED_PAGES 8u

/* Of what it holds: so much has to be idle to count. */
#define IDLE_PART 8u

static uint64_t since(uint64_t now, uint64_t before)
{
    /* A counter that fell belongs to a guest that was reset. */
    return now > before ? now - before : 0;
}

static uint64_t rest_of(const MsPolicyTuning *t, unsigned doublings)
{
    uint64_t ms = (uint64_t)t->rest_ms << MIN(doublings, DOUBLINGS_MOST);

    return MIN(ms, t->rest_most_ms) * NS_PER_MS;
}

/* ---- thrashing ---- */

static void leave_alone(const MsPolicyInput *input, MsPolicyMemory *m)
{
    uint64_t rest = rest_of(&input->tuning, m->rests);

    m->rests = MIN(m->rests + 1, DOUBLINGS_MOST);
    m->rest_ns = input->now_ns + rest;
    m->calm_ns = m->rest_ns + rest;
    m->captured_late = 0;
    m->returned_late = 0;
}

static void watch_rest(const MsPolicyInput *input, MsPolicyGuest *g)
{
    const MsPolicyTuning *t = &input->tuning;
    MsPolicyMemory *m = &g->memory;
    bool oom = g->oom_deflates > m->oom_deflates;

    m->captured_late = m->captured_late / 4 * 3 +
                       since(g->captured, m->captured);
    m->returned_late = m->returned_late / 4 * 3 +
                       since(g->returned, m->returned);
    /* Pages fit 52 bits, permille 10. */
    if (oom || (m->returned_late >= t->least_pages &&
                m->returned_late * MS_PERMILLE >
                m->captured_late * t->returned_permille)) {
        leave_alone(input, m);
    } else if (m->rests > 0 && input->now_ns >= m->calm_ns) {
        m->rests--;
        m->calm_ns = input->now_ns + rest_of(t, m->rests);
    }
    if (input->now_ns >= m->rest_ns) {
        m->rest_ns = 0;
    }
}

/* ---- answering ---- */

static void answers(MsPolicyMemory *m)
{
    m->unresponsive = false;
    m->slow_windows = 0;
    m->retries = 0;
    m->retry_ns = 0;
}

static void judge_window(const MsPolicyInput *input, MsPolicyGuest *g)
{
    const MsPolicyTuning *t = &input->tuning;
    MsPolicyMemory *m = &g->memory;
    uint64_t ms = MAX((input->now_ns - m->window_ns) / NS_PER_MS, 1);
    uint64_t pages = since(g->captured, m->window_pages);

    m->rate_bytes_per_s =
        (uint64_t)((MsWide)(pages << MEMSCHED_PAGE_SHIFT) * 1000 / ms);
    m->window_ns = input->now_ns;
    m->window_pages = g->captured;
    if (m->rate_bytes_per_s >= MAX(t->slow_bytes_per_s, 1)) {
        answers(m);
        return;
    }
    if (++m->slow_windows >= t->slow_windows) {
        m->unresponsive = true;
        m->slow_windows = 0;
        m->retry_ns = input->now_ns + rest_of(t, m->retries);
        m->retries = MIN(m->retries + 1, DOUBLINGS_MOST);
    }
}

static void watch_answer(const MsPolicyInput *input, MsPolicyGuest *g)
{
    MsPolicyMemory *m = &g->memory;
    uint64_t came = since(g->captured, m->captured);

    if (m->unresponsive && came >= input->tuning.least_pages &&
        g->outgoing < input->tuning.least_pages) {
        /* All that it was asked for, before the window was over. */
        answers(m);
    }
    if (g->fixed || g->outgoing < input->tuning.least_pages) {
        m->window_ns = 0;
        m->slow_windows = 0;
    } else if (m->window_ns == 0) {
        m->window_ns = MAX(input->now_ns, 1);
        m->window_pages = g->captured;
    } else if (input->now_ns - m->window_ns >= WINDOW_NS) {
        judge_window(input, g);
    }
}

/* ---- growth and pressure ---- */

static void watch_growth(MsPolicyGuest *g)
{
    MsPolicyMemory *m = &g->memory;
    uint64_t grew = since(g->allocated, m->allocated);

    m->growth = (m->growth * 3 + grew) / 4;
}

static void watch_idle(const MsPolicyInput *input, MsPolicyGuest *g)
{
    uint64_t idle = g->allocated - MIN(ms_policy_used(g), g->allocated);

    if (idle < g->allocated / IDLE_PART || idle == 0) {
        g->memory.idle_ns = 0;
    } else if (g->memory.idle_ns == 0) {
        g->memory.idle_ns = MAX(input->now_ns, 1);
    }
}

/*
 * It touches new memory while the pool has less than it is to hold: each touch
 * then gets a page and nothing around it, so the guest creeps, and neither
 * waits nor shows what it would use.  What it got while there was more does not
 * count.  Once seen, until there is plenty.
 */
static bool is_throttled(const MsPolicyInput *input, const MsPolicyGuest *g)
{
    const MsPolicyMemory *m = &g->memory;
    uint64_t enough = m->throttled ? 2 * input->min_free : input->min_free;

    return m->known && m->was_short && input->free < enough &&
           since(g->allocated, m->allocated) >= THROTTLED_PAGES;
}

static void watch_pressure(const MsPolicyInput *input, MsPolicyGuest *g)
{
    uint64_t size = ms_policy_size(g);
    bool throttled = is_throttled(input, g);
    bool pressed = g->waiting > 0 || throttled ||
                   (g->ballooned > 0 &&
                    g->active >= size - size / PRESSED_PART);

    g->memory.throttled = throttled;
    g->memory.was_short = throttled || input->free < input->min_free;
    g->memory.pressed_ticks = pressed ? g->memory.pressed_ticks + 1 : 0;
}

void ms_policy_watch(const MsPolicyInput *input, MsPolicyGuest *guests,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        MsPolicyGuest *g = &guests[i];
        MsPolicyMemory *m = &g->memory;

        if (m->known) {
            watch_rest(input, g);
            watch_answer(input, g);
            watch_growth(g);
        }
        watch_pressure(input, g);
        watch_idle(input, g);
        m->known = true;
        m->allocated = g->allocated;
        m->captured = g->captured;
        m->returned = g->returned;
        m->oom_deflates = g->oom_deflates;
    }
}
