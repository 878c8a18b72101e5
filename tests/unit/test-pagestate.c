/*
 * Tests of page states: the whole table of legal changes, then counts, runs and
 * flags, then random changes against an array of plain states.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pagestate.h"

/* The protocol's letters, in the order of MemSchedPageState. */
static const char letters[] = "HRGBPTSCXL";

static MemSchedPageState state_of(char letter)
{
    const char *at = strchr(letters, letter);

    g_assert_nonnull(at);
    return (MemSchedPageState)(at - letters);
}

/*
 * The protocol's table once more, as text: for each event what may change to
 * what.  Everything that is not here must be refused.
 */
static const struct {
    MsPageEvent event;
    const char *changes;
} table[] = {
    { MS_PAGE_INFLATE,       "HB PB TB SB RG" },
    { MS_PAGE_REPORT,        "HP TP SP" },
    { MS_PAGE_DEFLATE,       "GR BH PH" },
    { MS_PAGE_DEVICE_RESET,  "GR BH PH" },
    { MS_PAGE_SYSTEM_RESET,  "GR BH PH TH SH" },
    { MS_PAGE_RESTORE,       "HB HP" },
    { MS_PAGE_RENEWED,       "LR" },
    { MS_PAGE_DISCARDED,     "RH GH" },
    { MS_PAGE_TAKE_OUT,      "RC GC" },
    { MS_PAGE_TAKE_IN,       "HC BC PC TC SC XC" },
    { MS_PAGE_CAPTURED,      "CB CP CT CS CH" },
    { MS_PAGE_PUT_BACK,      "CR CG CX" },
    { MS_PAGE_POPULATED,     "CR CL" },
    { MS_PAGE_NOT_POPULATED, "CH CB CP CT CS CX" },
};

static bool in_table(MsPageEvent event, char from, char to)
{
    const char pair[] = { from, to, 0 };

    return strstr(table[event].changes, pair) != NULL;
}

/* Bring page 0 into @state from a hole, by legal changes only. */
static void make(MsPages *p, char state)
{
    static const struct {
        char state;
        const char *way;
    } ways[] = {
        { 'H', "" }, { 'R', "CR" }, { 'G', "CRG" }, { 'B', "B" },
        { 'P', "P" }, { 'T', "CRCT" }, { 'S', "CRCS" }, { 'C', "C" },
        { 'X', "CRCX" }, { 'L', "CL" },
    };
    const char *way = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++) {
        if (ways[i].state == state) {
            way = ways[i].way;
        }
    }
    g_assert_nonnull(way);
    for (; *way; way++) {
        char from = letters[ms_pages_get(p, 0)];
        bool done = false;

        for (int e = 0; e < MS_PAGE_EVENTS && !done; e++) {
            done = in_table(e, from, *way) &&
                   ms_pages_change(p, e, 0, 1, state_of(*way)) >= 0;
        }
        g_assert_true(done);
    }
}

static void test_every_change_is_legal_or_refused_as_the_protocol_says(void)
{
    g_assert_cmpuint(G_N_ELEMENTS(table), ==, MS_PAGE_EVENTS);
    for (int e = 0; e < MS_PAGE_EVENTS; e++) {
        g_assert_cmpint(table[e].event, ==, e);
        for (int from = 0; from < MEMSCHED_PAGE_STATES; from++) {
            for (int to = 0; to < MEMSCHED_PAGE_STATES; to++) {
                bool legal = in_table(e, letters[from], letters[to]);
                MsPages p;
                int ret;

                g_assert_cmpint(ms_page_change_is_legal(e, from, to), ==,
                                legal);
                g_assert_cmpint(ms_pages_init(&p, 0, 512), ==, 0);
                make(&p, letters[from]);
                ret = ms_pages_change(&p, e, 0, 1, to);
                g_assert_cmpint(ret, ==, legal ? 0 : -EINVAL);
                g_assert_cmpint(ms_pages_get(&p, 0), ==, legal ? to : from);
                g_assert_cmpstr(ms_pages_check(&p), ==, NULL);
                ms_pages_destroy(&p);
            }
        }
    }
    g_assert_false(ms_page_change_is_legal(MS_PAGE_EVENTS, 0, 0));
    g_assert_false(ms_page_change_is_legal(0, MEMSCHED_PAGE_STATES, 0));
    g_assert_false(ms_page_change_is_legal(0, 0, MEMSCHED_PAGE_STATES));
}

static void test_init_with_absurd_sizes_is_refused(void)
{
    MsPages p;

    g_assert_cmpint(ms_pages_init(&p, 0, 0), ==, -EINVAL);
    g_assert_cmpint(ms_pages_init(&p, 512, 1), ==, -EINVAL);
    g_assert_cmpint(ms_pages_init(&p, 1, UINT64_MAX), ==, -EINVAL);
}

static void test_change_of_a_run_with_one_illegal_page_changes_nothing(void)
{
    MsPages p;

    ms_pages_init(&p, 0, 2000);
    ms_pages_change(&p, MS_PAGE_INFLATE, 700, 1, MEMSCHED_PAGE_BALLOONED);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_RESTORE, 0, 2000,
                                    MEMSCHED_PAGE_BALLOONED), ==, -EINVAL);
    g_assert_cmpuint(p.count[MEMSCHED_PAGE_HOLE], ==, 1999);
    g_assert_cmpstr(ms_pages_check(&p), ==, NULL);
    ms_pages_destroy(&p);
}

static void test_change_outside_the_region_is_refused(void)
{
    MsPages p;

    ms_pages_init(&p, 5, 100);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_INFLATE, 4, 2,
                                    MEMSCHED_PAGE_BALLOONED), ==, -ERANGE);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_INFLATE, 104, 2,
                                    MEMSCHED_PAGE_BALLOONED), ==, -ERANGE);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_INFLATE, 5, UINT64_MAX,
                                    MEMSCHED_PAGE_BALLOONED), ==, -ERANGE);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_INFLATE, 5, 100,
                                    MEMSCHED_PAGE_BALLOONED), ==, 0);
    ms_pages_destroy(&p);
}

static void test_frame_is_ready_when_all_its_resident_pages_are_given(void)
{
    MsPages p;

    ms_pages_init(&p, 0, 1024);
    ms_pages_change(&p, MS_PAGE_TAKE_IN, 512, 10, MEMSCHED_PAGE_TRANSIT);
    ms_pages_change(&p, MS_PAGE_POPULATED, 512, 10, MEMSCHED_PAGE_RESIDENT);
    ms_pages_change(&p, MS_PAGE_INFLATE, 512, 9, MEMSCHED_PAGE_GIVEN);
    g_assert_cmpuint(p.ready_frames, ==, 0);
    ms_pages_change(&p, MS_PAGE_INFLATE, 521, 1, MEMSCHED_PAGE_GIVEN);
    g_assert_cmpuint(p.ready_frames, ==, 1);
    g_assert_true(p.frame[1].flags & MS_FRAME_READY);
    ms_pages_change(&p, MS_PAGE_TAKE_OUT, 512, 10, MEMSCHED_PAGE_TRANSIT);
    g_assert_cmpuint(p.ready_frames, ==, 0);
    ms_pages_change(&p, MS_PAGE_PUT_BACK, 512, 10, MEMSCHED_PAGE_GIVEN);
    g_assert_cmpuint(p.ready_frames, ==, 1);
    ms_pages_change(&p, MS_PAGE_DEFLATE, 515, 1, MEMSCHED_PAGE_RESIDENT);
    g_assert_cmpuint(p.ready_frames, ==, 0);
    g_assert_cmpstr(ms_pages_check(&p), ==, NULL);
    ms_pages_destroy(&p);
}

static void test_parked_fault_is_told_at_the_end_of_transit_once(void)
{
    MsPages p;

    ms_pages_init(&p, 0, 512);
    ms_pages_park(&p, 7);       /* not in C: not noted */
    ms_pages_change(&p, MS_PAGE_TAKE_IN, 0, 100, MEMSCHED_PAGE_TRANSIT);
    ms_pages_park(&p, 42);
    g_assert_cmpint(ms_pages_get(&p, 42), ==, MEMSCHED_PAGE_TRANSIT);
    g_assert_cmpuint(ms_pages_run(&p, 0, 512), ==, 100);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_POPULATED, 0, 42,
                                    MEMSCHED_PAGE_RESIDENT), ==, 0);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_POPULATED, 42, 58,
                                    MEMSCHED_PAGE_RESIDENT), ==, 1);
    ms_pages_change(&p, MS_PAGE_TAKE_OUT, 0, 100, MEMSCHED_PAGE_TRANSIT);
    g_assert_cmpint(ms_pages_change(&p, MS_PAGE_CAPTURED, 0, 100,
                                    MEMSCHED_PAGE_BALLOONED), ==, 0);
    g_assert_cmpstr(ms_pages_check(&p), ==, NULL);
    ms_pages_destroy(&p);
}

static void test_next_finds_runs_across_frames_and_mixed_states(void)
{
    MsPages p;
    uint64_t first, count;

    ms_pages_init(&p, 3, 2000);
    ms_pages_change(&p, MS_PAGE_INFLATE, 500, 100, MEMSCHED_PAGE_BALLOONED);
    ms_pages_change(&p, MS_PAGE_REPORT, 600, 50, MEMSCHED_PAGE_REPORTED);
    g_assert_true(ms_pages_next(&p, 0, UINT64_MAX, MS_STATE_BIT(BALLOONED) |
                                MS_STATE_BIT(REPORTED), &first, &count));
    g_assert_cmpuint(first, ==, 500);
    g_assert_cmpuint(count, ==, 150);
    g_assert_true(ms_pages_next(&p, 0, UINT64_MAX, MS_STATE_BIT(HOLE), &first,
                                &count));
    g_assert_cmpuint(first, ==, 3);
    g_assert_cmpuint(count, ==, 497);
    g_assert_true(ms_pages_next(&p, 649, 651, MS_STATE_BIT(REPORTED), &first,
                                &count));
    g_assert_cmpuint(first, ==, 649);
    g_assert_cmpuint(count, ==, 1);
    g_assert_false(ms_pages_next(&p, 650, UINT64_MAX, MS_STATE_BIT(REPORTED),
                                 &first, &count));
    g_assert_false(ms_pages_next(&p, 2003, UINT64_MAX, MS_STATE_BIT(HOLE),
                                 &first, &count));
    ms_pages_destroy(&p);
}

static void test_random_changes_agree_with_an_array(void)
{
    guint32 seed = g_test_rand_int();
    GRand *r = g_rand_new_with_seed(seed);
    enum { LEAD = 77, COUNT = 1500 };
    g_autofree uint8_t *model = g_new0(uint8_t, LEAD + COUNT);
    unsigned accepted = 0;
    MsPages p;

    g_test_message("seed %u", seed);
    g_assert_cmpint(ms_pages_init(&p, LEAD, COUNT), ==, 0);
    for (int i = 0; i < 60000; i++) {
        MsPageEvent e = g_rand_int_range(r, 0, MS_PAGE_EVENTS);
        int to = g_rand_int_range(r, 0, MEMSCHED_PAGE_STATES);
        uint64_t first = LEAD + g_rand_int_range(r, 0, COUNT);
        uint64_t n = 1 + g_rand_int_range(r, 0, i % 3 ? 4 : 600);
        bool legal = true;
        int ret;

        n = MIN(n, LEAD + COUNT - first);
        for (uint64_t k = first; k < first + n; k++) {
            legal &= in_table(e, letters[model[k]], letters[to]);
        }
        ret = ms_pages_change(&p, e, first, n, to);
        g_assert_cmpint(ret >= 0, ==, legal);
        if (legal) {
            memset(model + first, to, n);
            accepted++;
        }
        if (i % 100 == 0) {
            g_assert_cmpstr(ms_pages_check(&p), ==, NULL);
            for (uint64_t k = LEAD; k < LEAD + COUNT; k++) {
                g_assert_cmpint(ms_pages_get(&p, k), ==, model[k]);
            }
        }
    }
    g_test_message("%u changes accepted", accepted);
    g_assert_cmpuint(accepted, >, 100);
    ms_pages_destroy(&p);
    g_rand_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pagestate/table",
                    test_every_change_is_legal_or_refused_as_the_protocol_says);
    g_test_add_func("/pagestate/init", test_init_with_absurd_sizes_is_refused);
    g_test_add_func("/pagestate/all-or-none",
                    test_change_of_a_run_with_one_illegal_page_changes_nothing);
    g_test_add_func("/pagestate/range",
                    test_change_outside_the_region_is_refused);
    g_test_add_func("/pagestate/ready",
                    test_frame_is_ready_when_all_its_resident_pages_are_given);
    g_test_add_func("/pagestate/parked",
                    test_parked_fault_is_told_at_the_end_of_transit_once);
    g_test_add_func("/pagestate/next",
                    test_next_finds_runs_across_frames_and_mixed_states);
    g_test_add_func("/pagestate/random",
                    test_random_changes_agree_with_an_array);
    return g_test_run();
}
