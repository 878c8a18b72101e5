/*
 * What the policy decides is done: balloons, claims, and nothing where that is
 * wished
 *
 * "a" holds 50,000 pages and uses 5,000; "b" uses all its 30,000, and its
 * balloon keeps 20,000 from it.  500 pages are free, a min-free of 1,000 is
 * wanted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "sched-world.h"

#define PAGE UINT64_C(4096)

static void grant(World *w, Guest *g, uint64_t pages)
{
    MsGrant got;

    ms_lock(&w->ms->ledger_lock);
    ms_ledger_grant(&w->ms->ledger, &g->client.account, pages, 0, 0, &got);
    ms_unlock(&w->ms->ledger_lock);
    g_assert_cmpuint(got.pages, ==, pages);
}

/* Its balloon holds so much, and its RAM has no hole. */
static void balloon(World *w, Guest *g, uint64_t pages)
{
    world_holes(w, g, 0);
    g->region->pages.count[MEMSCHED_PAGE_BALLOONED] = pages;
}

static World *hungry_world(void)
{
    World *w = world_new();
    MemSchedClient *b = &w->guest[1]->client;

    grant(w, w->guest[0], 30000);
    grant(w, w->guest[1], 20000);
    balloon(w, w->guest[0], 0);
    balloon(w, w->guest[1], 20000);
    ms_lock(&w->ms->ledger_lock);
    g_assert_cmpint(ms_ledger_parity(&w->ms->ledger, &b->account, 19500), ==,
                    0);
    ms_unlock(&w->ms->ledger_lock);
    world_active(w->guest[0], 5000);
    return w;
}

static unsigned running(World *w, bool automatic)
{
    unsigned n;

    ms_lock(&w->ms->ledger_lock);
    n = automatic ? w->sched->transfers.automatic
                  : w->sched->transfers.running;
    ms_unlock(&w->ms->ledger_lock);
    return n;
}

static MsDecisionRecord newest(World *w, const char *id)
{
    MsDecisionRecord r = { .number = 0 };

    ms_lock(&w->sched->decisions_lock);
    ms_decisions_list(&w->sched->decisions, id, &r, 1);
    ms_unlock(&w->sched->decisions_lock);
    return r;
}

static void test_idle_memory_reaches_the_guest_that_lacks_it(void)
{
    World *w = hungry_world();
    Guest *a = w->guest[0], *b = w->guest[1];
    uint64_t claimed;

    world_step(w, SECOND);
    ms_sched_step(w->sched);
    /* An eighth of what it holds, in frames. */
    g_assert_cmpuint(a->balloon_bytes, ==, 12288 * PAGE);
    g_assert_cmpint(newest(w, "a").reason, ==, MS_REASON_IDLE);
    g_assert_cmpuint(newest(w, "a").pages, ==, 12288);
    g_assert_cmpint(newest(w, "b").reason, ==, MS_REASON_PRESSURE);
    /* Its balloon does not shrink into an empty pool. */
    g_assert_cmpuint(b->client.account.claim, ==, 0);
    g_assert_cmpuint(b->asked, <=, 1);

    world_capture(w, 12288);
    g_assert_cmpuint(a->client.account.allocated, ==, 50000 - 12288);
    world_step(w, 20 * MS_NS);
    claimed = b->client.account.claim;
    g_assert_cmpuint(claimed, >=, 4096);
    g_assert_cmpuint(claimed, ==, newest(w, "b").pages);
    world_step(w, 20 * MS_NS);
    g_assert_cmpuint(b->balloon_bytes, ==, (20000 - claimed) * PAGE);
    /* What it gave stays in the donor's balloon, with nobody asking more. */
    g_assert_cmpuint(a->balloon_bytes, ==, 12288 * PAGE);
    world_free(w);
}

static void test_a_donor_that_is_entitled_again_is_left_in_peace(void)
{
    World *w = hungry_world();
    Guest *a = w->guest[0];

    world_step(w, SECOND);
    ms_sched_step(w->sched);
    world_capture(w, 1000);
    balloon(w, a, 1000);
    a->client.shares = 1000000;
    world_active(a, 49000);
    world_step(w, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpuint(a->balloon_bytes, <=, 1000 * PAGE);
    ms_lock(&w->ms->ledger_lock);
    g_assert_null(ms_transfers_automatic(&w->sched->transfers, &a->client,
                                         NULL));
    ms_unlock(&w->ms->ledger_lock);
    world_free(w);
}

static void test_a_dry_run_records_and_moves_nothing(void)
{
    World *w = hungry_world();
    MemSchedChange change = { .has_dry_run = true, .dry_run = true };

    g_assert_cmpint(memsched_set(w->ms, &change, NULL), ==, 0);
    world_step(w, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpuint(running(w, true), ==, 0);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 0);
    g_assert_true(newest(w, "a").dry_run);
    g_assert_cmpuint(newest(w, "a").pages, ==, 12288);
    /* Off: the same is done. */
    change.dry_run = false;
    g_assert_cmpint(memsched_set(w->ms, &change, NULL), ==, 0);
    ms_sched_step(w->sched);
    ms_sched_step(w->sched);
    g_assert_false(newest(w, "a").dry_run);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 12288 * PAGE);
    world_free(w);
}

static void test_static_withdraws_what_runs_and_leaves_an_operators_alone(void)
{
    World *w = hungry_world();
    MemSchedChange change = {
        .has_policy = true, .policy = MEMSCHED_POLICY_STATIC,
    };

    world_transfer(w, 2000, 0);
    world_step(w, SECOND);
    g_assert_cmpuint(running(w, true), >, 0);
    g_assert_cmpint(memsched_set(w->ms, &change, NULL), ==, 0);
    ms_sched_step(w->sched);
    ms_sched_step(w->sched);
    g_assert_cmpuint(running(w, true), ==, 0);
    g_assert_cmpuint(running(w, false), ==, 1);
    g_assert_cmpuint(w->guest[0]->balloon_bytes, ==, 2000 * PAGE);
    world_free(w);
}

static void test_a_balloon_that_an_operator_set_is_left_as_it_is(void)
{
    World *w = hungry_world();
    Guest *a = w->guest[0], *b = w->guest[1];

    balloon(w, a, 300);
    memsched_client_balloon_manual(&a->client, 300 * PAGE);
    memsched_client_balloon_manual(&b->client, 20000 * PAGE);
    world_step(w, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpuint(running(w, true), ==, 0);
    g_assert_cmpint(a->client.account.allocated, ==, 50000);
    ms_lock(&w->sched->decisions_lock);
    g_assert_cmpint(((MsSchedGuest *)a->client.sched)->why.reason, ==,
                    MS_REASON_OPERATOR);
    ms_unlock(&w->sched->decisions_lock);

    /* All of its RAM: the balloon is the policy's again. */
    memsched_client_balloon_manual(&a->client, 0);
    memsched_client_balloon_manual(&b->client, 0);
    world_step(w, SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpuint(a->balloon_bytes, ==, (300 + 12288) * PAGE);
    world_free(w);
}

static void test_what_an_operator_moved_is_held_for_a_minute(void)
{
    World *w = world_new();
    MsSchedGuest *record = w->guest[1]->client.sched;
    uint64_t now;

    world_transfer(w, 100, 0);
    world_capture(w, 100);
    world_populate(w, 100);
    now = w->ms->sys->now_ns(w->ms->sys);
    g_assert_cmpuint(record->hold_ns, ==, now + 60 * SECOND);
    world_free(w);
}

static void test_a_guest_that_does_not_answer_is_not_asked_any_more(void)
{
    World *w = hungry_world();
    Guest *a = w->guest[0];

    for (unsigned i = 0; i < 6; i++) {
        world_active(a, 5000);
        world_step(w, SECOND);
    }
    g_assert_true(((MsSchedGuest *)a->client.sched)->policy.unresponsive);
    ms_sched_step(w->sched);
    g_assert_true(atomic_load(&a->client.unresponsive));
    ms_lock(&w->ms->ledger_lock);
    g_assert_null(ms_transfers_automatic(&w->sched->transfers, &a->client,
                                         NULL));
    ms_unlock(&w->ms->ledger_lock);
    ms_lock(&w->sched->decisions_lock);
    g_assert_cmpint(((MsSchedGuest *)a->client.sched)->why.reason, ==,
                    MS_REASON_UNRESPONSIVE);
    ms_unlock(&w->sched->decisions_lock);
    /* After its rest it is asked for a little, and that counts. */
    world_active(a, 5000);
    world_step(w, 10 * SECOND);
    ms_sched_step(w->sched);
    g_assert_cmpint(newest(w, "a").reason, ==, MS_REASON_PROBE);
    world_capture(w, newest(w, "a").pages);
    balloon(w, a, newest(w, "a").pages);
    world_active(a, 5000);
    world_step(w, SECOND);
    g_assert_false(((MsSchedGuest *)a->client.sched)->policy.unresponsive);
    world_free(w);
}

static void test_a_guest_that_thrashes_is_left_alone(void)
{
    World *w = hungry_world();
    Guest *a = w->guest[0];

    memsched_client_oom_deflate(&a->client);
    world_step(w, SECOND / 2);
    g_assert_cmpuint(running(w, true), ==, 0);
    world_step(w, SECOND / 2);
    ms_lock(&w->sched->decisions_lock);
    g_assert_cmpint(((MsSchedGuest *)a->client.sched)->why.reason, ==,
                    MS_REASON_RESTING);
    ms_unlock(&w->sched->decisions_lock);
    world_free(w);
}

static void test_each_guest_is_explained_in_words_and_numbers(void)
{
    World *w = hungry_world();
    MemSchedDecision d[4];
    MemSchedMessage message;

    world_step(w, SECOND);
    fake_advance(w->fake, 300 * MS_NS);
    g_assert_cmpint(memsched_explain(w->ms, "a", &d[0], &message), ==, 0);
    g_assert_cmpstr(d[0].id, ==, "a");
    g_assert_cmpstr(d[0].reason, ==, "idle");
    g_assert_cmpuint(d[0].age_ns, ==, 300 * MS_NS);
    g_assert_cmpuint(d[0].bytes, ==, 12288 * PAGE);
    g_assert_cmpuint(d[0].allocated_bytes, ==, 50000 * PAGE);
    g_assert_false(d[0].give);
    g_assert_nonnull(strstr(d[0].text, "a gives 48 MiB: holds 195 MiB, uses "
                                       "20, is entitled to "));
    g_assert_cmpint(memsched_explain(w->ms, "c", &d[0], &message), ==,
                    -ENOENT);
    g_assert_cmpstr(message.text, ==, "there is no guest 'c'");

    g_assert_cmpuint(memsched_query_decisions(w->ms, NULL, d, 4), ==, 2);
    g_assert_cmpstr(d[0].id, ==, "b");
    g_assert_true(d[0].give);
    g_assert_cmpuint(d[1].number + 1, ==, d[0].number);
    g_assert_cmpuint(memsched_query_decisions(w->ms, NULL, d, 1), ==, 1);
    g_assert_cmpuint(memsched_query_decisions(w->ms, "a", d, 4), ==, 1);
    g_assert_cmpuint(memsched_query_decisions(w->ms, "c", d, 4), ==, 0);
    world_free(w);
}

/* "a" gives, "b" gets. */
static void test_each_decision_of_a_tick_is_told(void)
{
    World *w = hungry_world();
    const MemSchedEvent *last = &w->last[MEMSCHED_EVENT_DECISION];

    world_step(w, SECOND);
    world_step(w, 1);           /* what a look raised, the next step tells */
    g_assert_cmpuint(w->events[MEMSCHED_EVENT_DECISION], ==, 2);
    g_assert_cmpstr(last->id, ==, last->decision.id);
    g_assert_cmpuint(last->decision.age_ns, ==, 0);
    g_assert_cmpuint(last->decision.bytes, >, 0);
    g_assert_nonnull(strstr(last->decision.text, last->id));
    g_assert_cmpuint(last->skipped, ==, 0);
    world_free(w);
}

static MsDecisionRecord record_at(uint64_t time_ns, bool give, MsReason reason)
{
    return (MsDecisionRecord) {
        .number = 1, .time_ns = time_ns, .id = "a", .give = give,
        .reason = reason, .pages = 512,
    };
}

static uint64_t decide(World *w, uint64_t time_ns, bool give, MsReason reason)
{
    MsDecisionRecord r = record_at(time_ns, give, reason);
    unsigned before = w->events[MEMSCHED_EVENT_DECISION];

    ms_sched_decided(w->sched, &w->guest[0]->client, &r);
    world_step(w, 0);
    return w->events[MEMSCHED_EVENT_DECISION] - before;
}

static void test_decisions_left_out_are_counted(void)
{
    World *w = world_new();
    const MemSchedEvent *last = &w->last[MEMSCHED_EVENT_DECISION];

    ms_lock(&w->ms->ledger_lock);
    ms_sched_guest_locked(&w->guest[0]->client);
    ms_unlock(&w->ms->ledger_lock);
    g_assert_cmpuint(decide(w, 100 * SECOND, false, MS_REASON_IDLE), ==, 1);
    /* The same, and another one too soon. */
    g_assert_cmpuint(decide(w, 105 * SECOND, false, MS_REASON_IDLE), ==, 0);
    g_assert_cmpuint(decide(w, 109 * SECOND, false, MS_REASON_IDLE), ==, 0);
    g_assert_cmpuint(decide(w, 110 * SECOND, false, MS_REASON_IDLE), ==, 1);
    g_assert_cmpuint(last->skipped, ==, 2);
    g_assert_cmpuint(decide(w, 110 * SECOND + 1, true, MS_REASON_WAITING), ==,
                     0);
    g_assert_cmpuint(decide(w, 111 * SECOND, true, MS_REASON_WAITING), ==, 1);
    g_assert_cmpuint(last->skipped, ==, 1);
    g_assert_true(last->decision.give);
    g_assert_cmpstr(last->decision.reason, ==, "waiting");
    g_assert_cmpuint(decide(w, 112 * SECOND, true, MS_REASON_PRESSURE), ==, 1);
    g_assert_cmpuint(last->skipped, ==, 0);
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/carry/each-decision-of-a-tick-is-told",
                    test_each_decision_of_a_tick_is_told);
    g_test_add_func("/carry/decisions-left-out-are-counted",
                    test_decisions_left_out_are_counted);
    g_test_add_func("/carry/idle-memory-reaches-the-guest-that-lacks-it",
                    test_idle_memory_reaches_the_guest_that_lacks_it);
    g_test_add_func("/carry/a-donor-that-is-entitled-again-is-left-in-peace",
                    test_a_donor_that_is_entitled_again_is_left_in_peace);
    g_test_add_func("/carry/a-dry-run-records-and-moves-nothing",
                    test_a_dry_run_records_and_moves_nothing);
    g_test_add_func("/carry/static-withdraws-what-runs",
                test_static_withdraws_what_runs_and_leaves_an_operators_alone);
    g_test_add_func("/carry/an-operators-balloon-is-left-as-it-is",
                    test_a_balloon_that_an_operator_set_is_left_as_it_is);
    g_test_add_func("/carry/what-an-operator-moved-is-held-for-a-minute",
                    test_what_an_operator_moved_is_held_for_a_minute);
    g_test_add_func("/carry/a-guest-that-does-not-answer-is-not-asked",
                    test_a_guest_that_does_not_answer_is_not_asked_any_more);
    g_test_add_func("/carry/a-guest-that-thrashes-is-left-alone",
                    test_a_guest_that_thrashes_is_left_alone);
    g_test_add_func("/carry/each-guest-is-explained-in-words-and-numbers",
                    test_each_guest_is_explained_in_words_and_numbers);
    return g_test_run();
}
