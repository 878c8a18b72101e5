/*
 * How long a transfer is expected to take, on the real kernel: said, learnt,
 * and refused where that is too long and asked for
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "balloon.h"
#include "scheduler-int.h"
#include "transfers.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)

typedef struct World {
    MemSched *ms;
    Guest *a, *b;
    Balloon *balloon;
} World;

static World world_new(void)
{
    World w = { .ms = guest_start(128 * MIB) };

    w.a = guest_new(w.ms, "a", 32 * MIB, 0);
    w.b = guest_new(w.ms, "b", 32 * MIB, 0);
    guest_fill(w.a, 0, PAGES(32), 1);
    w.balloon = balloon_new(w.a, 0, PAGES(32), true);
    return w;
}

static void world_free(World *w)
{
    balloon_free(w->balloon);
    guest_free(w->a);
    guest_free(w->b);
    guest_stop(w->ms);
}

/* It gave 1 MiB/s before, as far as anybody remembers. */
static void remember(World *w)
{
    MsRates rates = { 0 };

    ms_rates_note(&rates, MEMSCHED_SOURCE_ANY, PAGES(2),
                  UINT64_C(2000000000), w->ms->sys->now_ns(w->ms->sys));
    ms_lock(&w->ms->ledger_lock);
    ms_sched_guest_locked(w->a->client)->rates = rates;
    ms_unlock(&w->ms->ledger_lock);
}

static int reallocate(World *w, uint64_t mib, unsigned deadline_ms,
                      bool in_time, uint64_t *ret_id,
                      MemSchedMessage *message)
{
    MemSchedTransferOptions o = {
        .from = "a", .to = "b", .size_bytes = mib * MIB,
        .deadline_ms = deadline_ms, .in_time = in_time,
    };

    return memsched_reallocate(w->ms, &o, ret_id, message);
}

static void test_a_stranger_is_not_refused_and_learnt_of(void)
{
    World w = world_new();
    MemSchedTransferInfo t;
    MemSchedMessage message;
    uint64_t id;

    g_assert_cmpint(reallocate(&w, 8, 60000, true, &id, &message), ==, 0);
    t = transfer_wait(w.ms, id);
    transfer_assert_completed(&t);
    g_assert_cmpuint(t.estimate_ms, ==, 0);
    g_assert_cmpuint(t.rate_bytes_per_s, ==, 0);
    g_assert_cmpint(reallocate(&w, 4, 60000, false, &id, &message), ==, 0);
    t = transfer_wait(w.ms, id);
    transfer_assert_completed(&t);
    g_assert_cmpuint(t.estimate_ms, >, 0);
    g_assert_cmpuint(t.rate_bytes_per_s, >, 0);
    g_assert_cmpuint(t.left_ms, ==, 0);
    world_free(&w);
}

static void test_a_deadline_that_cannot_be_kept_is_refused_on_request(void)
{
    World w = world_new();
    MemSchedTransferInfo t;
    MemSchedMessage message;
    uint64_t id;

    remember(&w);
    g_assert_cmpint(reallocate(&w, 8, 7999, true, &id, &message), ==, -ETIME);
    g_assert_cmpstr(message.text, ==, "guest 'a' gave 1024 KiB/s when it was"
                    " last asked: 8192 KiB would take 8000 ms, and the"
                    " deadline is 7999 ms");
    g_assert_cmpuint(memsched_query_transfers(w.ms, &t, 1), ==, 0);
    /* The usual deadline is 30 s. */
    g_assert_cmpint(reallocate(&w, 8, 0, true, &id, &message), ==, 0);
    t = transfer_wait(w.ms, id);
    transfer_assert_completed(&t);
    g_assert_cmpuint(t.estimate_ms, ==, 8000);
    g_assert_cmpuint(t.rate_bytes_per_s, ==, MIB);
    /* Unasked, nothing is refused. */
    remember(&w);
    g_assert_cmpint(reallocate(&w, 2, 1999, false, &id, &message), ==, 0);
    t = transfer_wait(w.ms, id);
    g_assert_cmpuint(t.estimate_ms, ==, 2000);
    world_free(&w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/in-time/stranger",
                        test_a_stranger_is_not_refused_and_learnt_of);
        g_test_add_func("/in-time/refused",
            test_a_deadline_that_cannot_be_kept_is_refused_on_request);
    }
    return g_test_run();
}
