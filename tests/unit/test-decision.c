/*
 * The ring of decisions, and their words
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "decision.h"

#define MIB UINT64_C(256)       /* pages */

static MsDecisionRecord record(const char *id, MsReason reason,
                               uint64_t pages)
{
    MsPolicyInput input = {
        .policy = MEMSCHED_POLICY_IDLE_TAX, .idle_tax_pct = 75,
        .budget = 4096 * MIB, .free = 12 * MIB, .min_free = 64 * MIB,
        .state = MEMSCHED_CONDITION_HARD, .now_ns = 5,
    };
    MsPolicyGuest g = {
        .allocated = 512 * MIB, .active = 100 * MIB, .entitlement = 300 * MIB,
        .reason = reason, .shares = 7, .memory.rest_ns = 99,
    };
    MsDecision d = { .reason = reason, .pages = pages };
    MsDecisionRecord r;

    ms_decision_record(&input, &g, id, pages ? &d : NULL, &r);
    return r;
}

static void test_record_has_what_it_was_made_from(void)
{
    MsDecisionRecord r = record("web", MS_REASON_IDLE, 32 * MIB);

    g_assert_cmpstr(r.id, ==, "web");
    g_assert_cmpuint(r.pages, ==, 32 * MIB);
    g_assert_cmpuint(r.allocated, ==, 512 * MIB);
    g_assert_cmpuint(r.entitlement, ==, 300 * MIB);
    g_assert_cmpuint(r.free, ==, 12 * MIB);
    g_assert_cmpuint(r.again_ns, ==, 99);
    g_assert_cmpint(r.state, ==, MEMSCHED_CONDITION_HARD);
    g_assert_cmpuint(r.time_ns, ==, 5);
}

static void test_list_is_newest_first_and_bounded(void)
{
    g_autofree MsDecisions *ring = g_new0(MsDecisions, 1);
    g_autofree MsDecisionRecord *all = g_new0(MsDecisionRecord,
                                              MS_DECISIONS_KEPT + 1);

    g_assert_cmpuint(ms_decisions_list(ring, NULL, all, 9), ==, 0);
    for (unsigned i = 1; i <= MS_DECISIONS_KEPT + 7; i++) {
        MsDecisionRecord r = record(i % 3 ? "web" : "db", MS_REASON_IDLE, i);

        ms_decisions_add(ring, &r);
    }
    g_assert_cmpuint(ms_decisions_list(ring, NULL, all,
                                       MS_DECISIONS_KEPT + 1), ==,
                     MS_DECISIONS_KEPT);
    for (unsigned i = 0; i < MS_DECISIONS_KEPT; i++) {
        g_assert_cmpuint(all[i].number, ==, MS_DECISIONS_KEPT + 7 - i);
        g_assert_cmpuint(all[i].pages, ==, all[i].number);
    }
    g_assert_cmpuint(ms_decisions_list(ring, "db", all, 4), ==, 4);
    g_assert_cmpstr(all[3].id, ==, "db");
    g_assert_cmpuint(ms_decisions_list(ring, "nobody", all, 4), ==, 0);
}

static void test_long_id_is_cut(void)
{
    char id[200];
    MsDecisionRecord r;

    memset(id, 'x', sizeof(id));
    id[sizeof(id) - 1] = '\0';
    r = record(id, MS_REASON_IDLE, 1);
    g_assert_cmpuint(strlen(r.id), ==, MEMSCHED_ID_MAX - 1);
}

static void test_every_reason_has_its_words(void)
{
    char id[MEMSCHED_ID_MAX], text[MS_DECISION_WORDS];

    memset(id, 'x', sizeof(id));
    id[sizeof(id) - 1] = '\0';
    for (unsigned a = 0; a < MS_REASONS; a++) {
        MsDecisionRecord r = record(id, a, UINT64_C(1) << 50);

        g_assert_nonnull(ms_reason_name(a));
        for (unsigned b = 0; b < a; b++) {
            g_assert_cmpstr(ms_reason_name(a), !=, ms_reason_name(b));
        }
        ms_decision_words(&r, text);
        /* Whole: it ends in its full stop. */
        g_assert_true(g_str_has_suffix(text, "."));
    }
    g_assert_cmpstr(ms_reason_name(MS_REASONS), ==, "unknown");
}

static void test_words_say_what_how_much_and_why(void)
{
    MsDecisionRecord r = record("web", MS_REASON_IDLE, 32 * MIB);
    char text[MS_DECISION_WORDS];

    ms_decision_words(&r, text);
    g_assert_cmpstr(text, ==, "web gives 32 MiB: holds 512 MiB, uses 100, is "
                    "entitled to 300.  It holds more idle memory than its "
                    "shares pay for, and it is needed elsewhere.");
    r = record("web", MS_REASON_RESTING, 0);
    ms_decision_words(&r, text);
    g_assert_true(g_str_has_prefix(text, "web keeps what it has: holds"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record-has-what-it-was-made-from",
                    test_record_has_what_it_was_made_from);
    g_test_add_func("/list-is-newest-first-and-bounded",
                    test_list_is_newest_first_and_bounded);
    g_test_add_func("/long-id-is-cut", test_long_id_is_cut);
    g_test_add_func("/every-reason-has-its-words",
                    test_every_reason_has_its_words);
    g_test_add_func("/words-say-what-how-much-and-why",
                    test_words_say_what_how_much_and_why);
    return g_test_run();
}
