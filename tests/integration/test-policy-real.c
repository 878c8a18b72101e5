/*
 * The policy on the real kernel: memory of pretended guests follows what they
 * use, with no command
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <stdatomic.h>
#include <string.h>

#include "balloon.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)
#define WAIT_US  (60 * G_USEC_PER_SEC)

#define RAM_MIB  64u
#define POOL_MIB 96u
/* Pages below are always used. */
#define KEEP_MIB 8u

/* ---- what guests say ---- */

static void say(Guest *guest, uint64_t active_mib)
{
    uint64_t stats[MEMSCHED_STATS];

    memset(stats, 0xff, sizeof(stats));
    stats[MEMSCHED_STAT_TOTAL] = RAM_MIB * MIB;
    stats[MEMSCHED_STAT_AVAILABLE] = (RAM_MIB - active_mib) * MIB;
    memsched_client_stats(guest->client, stats);
}

/* The driver gives any page of its range: nobody who uses his may be asked. */
static void choose(MemSched *ms, MemSchedPolicy policy)
{
    MemSchedChange change = {
        .has_policy = true, .policy = policy,
        .has_interval = true, .interval_ms = 50,
        .has_idle_tax = true, .idle_tax_pct = 99,
    };

    g_assert_cmpint(memsched_set(ms, &change, NULL), ==, 0);
}

static uint64_t allocated(Guest *guest)
{
    MemSchedClientInfo info;

    g_assert_cmpint(memsched_query_client(guest->ms, guest->id, &info), ==, 0);
    return info.allocated_bytes;
}

/* ---- a guest that touches its memory in a thread of its own ---- */

typedef struct Toucher {
    Guest *guest;
    uint64_t first, count, seed;
    _Atomic bool done;
    GThread *thread;
} Toucher;

static gpointer touch(gpointer opaque)
{
    Toucher *t = opaque;

    guest_fill(t->guest, t->first, t->count, t->seed);
    atomic_store(&t->done, true);
    return NULL;
}

static void touch_start(Toucher *t, Guest *guest, uint64_t first,
                        uint64_t count, uint64_t seed)
{
    *t = (Toucher) {
        .guest = guest, .first = first, .count = count, .seed = seed,
    };
    t->thread = g_thread_new("toucher", touch, t);
}

/* Guests go on saying what they use until it has touched everything. */
static void touch_end(Toucher *t, Guest *idle)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while (!atomic_load(&t->done)) {
        say(t->guest, RAM_MIB);
        say(idle, KEEP_MIB);
        g_thread_yield();
        if (g_get_monotonic_time() > end) {
            g_error("%s waits for memory that %s does not use", t->guest->id,
                    idle->id);
        }
    }
    g_thread_join(t->thread);
}

/* ---- tests ---- */

typedef struct Pair {
    MemSched *ms;
    Guest *a, *b;
    Balloon *of_a, *of_b;
} Pair;

/* "a" has 56 MiB of 96, "b" 32. */
static void pair_new(Pair *p)
{
    p->ms = guest_start(POOL_MIB * MIB);
    p->a = guest_new(p->ms, "a", RAM_MIB * MIB, KEEP_MIB * MIB);
    p->b = guest_new(p->ms, "b", RAM_MIB * MIB, KEEP_MIB * MIB);
    guest_fill(p->a, 0, PAGES(56), 1);
    guest_fill(p->b, 0, PAGES(32), 2);
    p->of_a = balloon_new(p->a, PAGES(KEEP_MIB), PAGES(RAM_MIB - KEEP_MIB),
                          true);
    p->of_b = balloon_new(p->b, PAGES(KEEP_MIB), PAGES(RAM_MIB - KEEP_MIB),
                          true);
}

static void pair_free(Pair *p)
{
    balloon_free(p->of_a);
    balloon_free(p->of_b);
    guest_free(p->a);
    guest_free(p->b);
    guest_stop(p->ms);
}

static void test_idle_memory_reaches_the_hungry_and_comes_back(void)
{
    gint64 end;
    Toucher t;
    Pair p;

    pair_new(&p);
    say(p.a, KEEP_MIB);
    choose(p.ms, MEMSCHED_POLICY_IDLE_TAX);
    /* 28 MiB more, of which the pool has 8. */
    touch_start(&t, p.b, PAGES(32), PAGES(28), 2);
    touch_end(&t, p.a);
    guest_assert(p.b, 0, PAGES(60), 2);
    guest_assert(p.a, 0, PAGES(KEEP_MIB), 1);
    g_assert_cmpuint(allocated(p.b), >=, 60 * MIB);
    g_assert_cmpuint(allocated(p.a), <=, 36 * MIB);
    g_assert_cmpuint(balloon_actual(p.of_a), >=, PAGES(20));

    /*
     * Demand turns: it touches all that its balloon leaves it, the balloon
     * shrinks, and then it uses what it got.
     */
    touch_start(&t, p.a, PAGES(56), PAGES(8), 1);
    touch_end(&t, p.b);
    end = g_get_monotonic_time() + WAIT_US;
    while (balloon_actual(p.of_a) > PAGES(RAM_MIB - 56)) {
        say(p.a, RAM_MIB);
        say(p.b, KEEP_MIB);
        g_thread_yield();
        if (g_get_monotonic_time() > end) {
            g_error("the balloon of a still has %" G_GUINT64_FORMAT " pages",
                    balloon_actual(p.of_a));
        }
    }
    touch_start(&t, p.a, PAGES(KEEP_MIB), PAGES(56 - KEEP_MIB), 3);
    touch_end(&t, p.b);
    guest_assert(p.a, 0, PAGES(KEEP_MIB), 1);
    guest_assert(p.a, PAGES(KEEP_MIB), PAGES(56 - KEEP_MIB), 3);
    guest_assert(p.b, 0, PAGES(KEEP_MIB), 2);
    g_assert_cmpuint(allocated(p.b), >=, KEEP_MIB * MIB);
    g_assert_cmpuint(allocated(p.b), <=, 40 * MIB);
    pair_free(&p);
}

static void test_static_leaves_the_hungry_waiting_until_it_is_not(void)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedClientInfo info;
    Toucher t;
    Pair p;

    pair_new(&p);
    say(p.a, KEEP_MIB);
    touch_start(&t, p.b, PAGES(32), PAGES(28), 2);
    do {
        g_assert_cmpint(memsched_query_client(p.ms, "b", &info), ==, 0);
        g_thread_yield();
    } while (!info.stalled && g_get_monotonic_time() < end);
    g_assert_true(info.stalled);
    g_assert_cmpuint(balloon_actual(p.of_a), ==, 0);
    choose(p.ms, MEMSCHED_POLICY_IDLE_TAX);
    touch_end(&t, p.a);
    guest_assert(p.b, 0, PAGES(60), 2);
    pair_free(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/policy/idle-memory-reaches-the-hungry-and-back",
                        test_idle_memory_reaches_the_hungry_and_comes_back);
        g_test_add_func("/policy/static-leaves-the-hungry-waiting",
                        test_static_leaves_the_hungry_waiting_until_it_is_not);
    }
    return g_test_run();
}
