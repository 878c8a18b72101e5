/*
 * A guest's memory condition: each rule, and what must hold at random
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "cond.h"

#define MS_NS  UINT64_C(1000000)
#define SECOND (1000 * MS_NS)
#define RAM    131072u          /* pages: 512 MiB */

/* Content: half of its RAM is backed, the host has more than it wants. */
static MsConditionInput content(void)
{
    return (MsConditionInput) {
        .now_ns = SECOND, .ram = RAM, .min = RAM / 8, .max = RAM,
        .entitlement = RAM, .target = RAM, .allocated = RAM / 2,
        .active = RAM / 4, .slack = RAM, .min_free = 1000, .shares = 1000,
        .host = MEMSCHED_CONDITION_HIGH,
    };
}

/* What a guest that was content is called at once. */
static MemSchedCondition first_state(const MsConditionInput *in)
{
    MemSchedGuestCondition told;
    MsCondition c = { 0 };

    g_assert_true(ms_condition_step(&c, in, &told));
    g_assert_cmpuint(told.generation, ==, 1);
    g_assert_cmpint(told.condition, ==, c.state);
    return c.state;
}

static MemSchedCondition step(MsCondition *c, MsConditionInput *in,
                              uint64_t after_ns)
{
    MemSchedGuestCondition told;

    in->now_ns += after_ns;
    ms_condition_step(c, in, &told);
    return c->state;
}

/* ---- each rule ---- */

static void test_content_guest_is_high(void)
{
    MsConditionInput in = content();

    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HIGH);
    /* ... also with all of its RAM, and nothing left in the host */
    in.allocated = RAM;
    in.slack = 0;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HIGH);
    /* ... and below its min, which is guaranteed */
    in.allocated = 0;
    in.active = 0;
    in.entitlement = in.min;
    in.waiting = 0;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HIGH);
}

static void test_soft_where_nothing_more_can_be_got(void)
{
    MsConditionInput in = content();

    in.entitlement = in.allocated;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_SOFT);
    in.entitlement = in.allocated + RAM / 32;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HIGH);
    in = content();
    in.entitlement = RAM / 4;
    in.allocated = RAM / 2;
    in.host = MEMSCHED_CONDITION_SOFT;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_SOFT);
}

static void test_hard_where_asked_waiting_or_pressed(void)
{
    MsConditionInput in = content();

    in.asked = 1;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HARD);
    in = content();
    in.waiting = 1;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HARD);
    in = content();
    in.active = in.allocated;
    in.requested = in.allocated / 10 + 1;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HARD);
    in.requested = in.allocated / 20;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HIGH);
    in = content();
    in.psi_some = 2000;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HARD);
    in = content();
    in.entitlement = RAM / 4;
    in.host = MEMSCHED_CONDITION_HARD;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_HARD);
    in.allocated = RAM / 4;
    g_assert_cmpint(first_state(&in), <, MEMSCHED_CONDITION_HARD);
}

static void test_low_where_a_touch_may_have_to_wait(void)
{
    MsConditionInput in = content();

    in.stalled = true;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_LOW);
    in = content();
    in.slack = RAM / 64 - 1;
    g_assert_cmpint(first_state(&in), ==, MEMSCHED_CONDITION_LOW);
    in.claim = 1;
    g_assert_cmpint(first_state(&in), <, MEMSCHED_CONDITION_LOW);
    /* What lies in its balloon is not touched. */
    in.claim = 0;
    in.slack = 0;
    in.kernel = RAM / 4;
    in.application = RAM / 4;
    g_assert_cmpint(first_state(&in), <, MEMSCHED_CONDITION_LOW);
}

static void test_worse_at_once_and_better_after_a_second(void)
{
    MsConditionInput in = content();
    MsCondition c = { 0 };

    step(&c, &in, 0);
    in.waiting = 1;
    g_assert_cmpint(step(&c, &in, MS_NS), ==, MEMSCHED_CONDITION_HARD);
    in.waiting = 0;
    g_assert_cmpint(step(&c, &in, 999 * MS_NS), ==, MEMSCHED_CONDITION_HARD);
    in.waiting = 1;
    g_assert_cmpint(step(&c, &in, MS_NS / 2), ==, MEMSCHED_CONDITION_HARD);
    in.waiting = 0;
    g_assert_cmpint(step(&c, &in, 999 * MS_NS), ==, MEMSCHED_CONDITION_HARD);
    g_assert_cmpint(step(&c, &in, MS_NS), ==, MEMSCHED_CONDITION_HIGH);
}

/*
 * Tasks waited for a third of ten seconds and have gone on since; the average
 * over ten seconds falls by 18 % every two.
 */
static void test_stalls_that_are_over_are_no_pressure_any_more(void)
{
    static const unsigned falling[] = { 3300, 2702, 2212, 1811, 1483, 1214 };
    static const unsigned goes_on[] = { 3300, 3300, 3250, 3310, 3290, 3300 };
    MsConditionInput in = content();
    MemSchedGuestCondition told;
    MsCondition over = { 0 }, lasts = { 0 };

    for (unsigned i = 0; i < G_N_ELEMENTS(falling); i++) {
        in.now_ns += 2 * SECOND;
        in.psi_ns = in.now_ns;
        in.psi_some = falling[i];
        ms_condition_step(&over, &in, &told);
        /* At the second telling for the first time; a second of grace. */
        g_assert_cmpint(over.state, ==, i < 1 ? MEMSCHED_CONDITION_HARD
                                              : MEMSCHED_CONDITION_HIGH);
        in.psi_some = goes_on[i];
        ms_condition_step(&lasts, &in, &told);
        g_assert_cmpint(lasts.state, ==, MEMSCHED_CONDITION_HARD);
    }
    /* They wait again. */
    in.now_ns += 2 * SECOND;
    in.psi_ns = in.now_ns;
    in.psi_some = 2600;
    ms_condition_step(&over, &in, &told);
    g_assert_cmpint(over.state, ==, MEMSCHED_CONDITION_HARD);
    /* The same figure, looked at again, says nothing new. */
    in.now_ns += SECOND / 2;
    ms_condition_step(&over, &in, &told);
    g_assert_cmpint(over.state, ==, MEMSCHED_CONDITION_HARD);
}

static void test_thresholds_back_are_further_away(void)
{
    MsConditionInput in = content();
    MsCondition c = { 0 };

    in.slack = RAM / 64 - 1;
    g_assert_cmpint(step(&c, &in, 0), ==, MEMSCHED_CONDITION_LOW);
    in.slack = RAM / 64 * 3 / 2 - 1;
    g_assert_cmpint(step(&c, &in, 10 * SECOND), ==, MEMSCHED_CONDITION_LOW);
    in.slack = RAM / 64 * 3 / 2;
    g_assert_cmpint(step(&c, &in, 10 * SECOND), <, MEMSCHED_CONDITION_LOW);

    in = content();
    c = (MsCondition) { 0 };
    in.psi_some = 2000;
    g_assert_cmpint(step(&c, &in, 0), ==, MEMSCHED_CONDITION_HARD);
    in.psi_some = 1000;
    g_assert_cmpint(step(&c, &in, 10 * SECOND), ==, MEMSCHED_CONDITION_HARD);
    in.psi_some = 999;
    g_assert_cmpint(step(&c, &in, 10 * SECOND), ==, MEMSCHED_CONDITION_HIGH);
}

/* ---- what is told ---- */

static void test_reservable_is_the_least_of_all_limits(void)
{
    MsConditionInput in = content();
    MemSchedGuestCondition told;
    MsCondition c = { 0 };

    ms_condition_step(&c, &in, &told);
    g_assert_cmpuint(told.reservable_bytes, ==, RAM / 2 * UINT64_C(4096));
    in.entitlement = in.allocated + 3 * 2048;
    c = (MsCondition) { 0 };
    ms_condition_step(&c, &in, &told);
    g_assert_cmpuint(told.reservable_bytes, ==, 3 * 2048 * 4096);
    in.slack = in.min_free + 2048 + 1;
    c = (MsCondition) { 0 };
    ms_condition_step(&c, &in, &told);
    g_assert_cmpuint(told.reservable_bytes, ==, 2048 * 4096);
    in.max = in.allocated;
    c = (MsCondition) { 0 };
    ms_condition_step(&c, &in, &told);
    g_assert_cmpuint(told.reservable_bytes, ==, 0);
    g_assert_cmpuint(told.max_bytes, ==, in.max * 4096);
}

static void test_nothing_new_is_told_every_five_seconds(void)
{
    MsConditionInput in = content();
    MemSchedGuestCondition told;
    MsCondition c = { 0 };
    unsigned count = 0;

    for (unsigned i = 0; i <= 10000; i += 20) {
        count += ms_condition_step(&c, &in, &told);
        in.now_ns += 20 * MS_NS;
        in.age_ns += 20 * MS_NS;
    }
    g_assert_cmpuint(count, ==, 3);
    g_assert_cmpuint(told.generation, ==, 1);
    g_assert_cmpuint(told.age_ns, ==, 10 * SECOND);
}

static void test_a_change_of_the_condition_is_told_in_a_tenth(void)
{
    MsConditionInput in = content();
    MemSchedGuestCondition told;
    MsCondition c = { 0 };

    ms_condition_step(&c, &in, &told);
    in.now_ns += 99 * MS_NS;
    in.waiting = 1;
    g_assert_false(ms_condition_step(&c, &in, &told));
    in.now_ns += MS_NS;
    g_assert_true(ms_condition_step(&c, &in, &told));
    g_assert_cmpint(told.condition, ==, MEMSCHED_CONDITION_HARD);
    g_assert_cmpuint(told.generation, ==, 2);
    /* a figure alone: a second */
    in.allocated++;
    in.now_ns += 999 * MS_NS;
    g_assert_false(ms_condition_step(&c, &in, &told));
    in.now_ns += MS_NS;
    g_assert_true(ms_condition_step(&c, &in, &told));
    g_assert_cmpuint(told.generation, ==, 3);
}

static void test_figures_of_the_host_are_coarse_and_slow(void)
{
    MsConditionInput in = content();
    MemSchedGuestCondition told;
    MsCondition c = { 0 };
    uint64_t before;

    in.entitlement = in.allocated + RAM / 4 + 1;
    ms_condition_step(&c, &in, &told);
    before = told.entitlement_bytes;
    g_assert_cmpuint(before % (8 << 20), ==, 0);
    /* within a step and a half: the same */
    for (unsigned i = 0; i < 20; i++) {
        in.now_ns += SECOND;
        in.entitlement = in.allocated + RAM / 4 + (i % 2 ? 3000 : 0);
        ms_condition_step(&c, &in, &told);
        g_assert_cmpuint(told.entitlement_bytes, ==, before);
    }
    /* a leap, but not within the second */
    in.host = MEMSCHED_CONDITION_CLEAR;
    in.entitlement = RAM;
    in.waiting = 1;
    in.now_ns += 200 * MS_NS;
    g_assert_true(ms_condition_step(&c, &in, &told));
    g_assert_cmpuint(told.entitlement_bytes, ==, before);
    g_assert_cmpint(told.host, ==, MEMSCHED_CONDITION_HIGH);
    in.now_ns += SECOND;
    g_assert_true(ms_condition_step(&c, &in, &told));
    g_assert_cmpuint(told.entitlement_bytes, ==, RAM * UINT64_C(4096));
    g_assert_cmpint(told.host, ==, MEMSCHED_CONDITION_CLEAR);
}

/* ---- at random ---- */

static uint64_t up_to(uint64_t most)
{
    return ((uint64_t)g_test_rand_int() << 20 ^ (uint32_t)g_test_rand_int()) %
           (most + 1);
}

static void any(MsConditionInput *in)
{
    uint64_t now = in->now_ns;

    *in = content();
    in->now_ns = now;
    in->ram = 256 + up_to(UINT64_C(1) << 40);
    in->max = up_to(in->ram * 2);
    in->min = up_to(MIN(in->max, in->ram));
    in->allocated = up_to(in->ram);
    in->active = up_to(in->ram);
    in->entitlement = in->min + up_to(in->ram);
    in->kernel = up_to(in->ram - in->allocated);
    in->slack = up_to(in->ram);
    in->claim = up_to(3) ? 0 : up_to(in->ram / 8);
    in->waiting = up_to(3) ? 0 : up_to(64);
    in->requested = up_to(3) ? 0 : up_to(UINT64_C(1) << 51);
    in->asked = up_to(3) ? 0 : 1;
    in->psi_some = (unsigned)up_to(3000);
    in->stalled = !up_to(9);
    in->host = (MemSchedCondition)up_to(MEMSCHED_CONDITION_LOW);
}

static void test_noise_inside_the_bands_changes_nothing(void)
{
    for (unsigned round = 0; round < 200; round++) {
        MsConditionInput in = content();
        uint64_t low = RAM / 64, soft = RAM / 32;
        MemSchedCondition before;
        MsCondition c = { 0 };

        /* Each figure somewhere in its band, from the first look on. */
        for (unsigned i = 0; i < 300; i++) {
            in.slack = low + up_to(low / 2 - 1);
            in.min_free = 0;
            in.psi_some = 1000 + (unsigned)up_to(999);
            in.active = in.allocated;
            in.requested = in.allocated * (3 + up_to(6)) / 100;
            if (round % 2) {
                in.slack = soft + up_to(soft / 2 - 1);
                in.requested = 0;
                in.psi_some = 0;
            }
            if (i == 0) {
                step(&c, &in, 0);
                before = c.state;
            }
            step(&c, &in, up_to(300 * MS_NS));
            g_assert_cmpint(c.state, ==, before);
        }
    }
}

/* Less to be had never makes it better. */
static void test_less_slack_is_never_better(void)
{
    MsConditionInput in = { .now_ns = SECOND };

    for (unsigned round = 0; round < 20000; round++) {
        MemSchedCondition more, fewer;

        any(&in);
        more = first_state(&in);
        in.slack = up_to(in.slack);
        fewer = first_state(&in);
        g_assert_cmpint(fewer, >=, more);
    }
}

typedef struct Seen {
    uint64_t generation, told_ns, host_ns;
    MemSchedGuestCondition last;
} Seen;

static void check_told(Seen *seen, const MsConditionInput *in,
                       const MemSchedGuestCondition *told)
{
    bool host = told->host != seen->last.host ||
                told->reservable_bytes != seen->last.reservable_bytes;

    g_assert_cmpuint(told->generation, >=, seen->generation);
    g_assert_cmpuint(told->generation, <=, seen->generation + 1);
    g_assert_cmpint(told->condition, !=, MEMSCHED_CONDITION_CLEAR);
    g_assert_cmpuint(told->entitlement_bytes, >=, told->min_bytes);
    if (seen->generation) {
        g_assert_cmpuint(in->now_ns - seen->told_ns, >=, 100 * MS_NS);
        g_assert_true(!host || in->now_ns - seen->host_ns >= SECOND);
    }
    if (told->generation == seen->generation) {
        MemSchedGuestCondition same = seen->last;

        same.age_ns = told->age_ns;
        g_assert_cmpmem(&same, sizeof(same), told, sizeof(*told));
    }
    seen->host_ns = host ? in->now_ns : seen->host_ns;
    seen->told_ns = in->now_ns;
    seen->generation = told->generation;
    seen->last = *told;
}

static void test_generation_rises_with_content_and_telling_is_limited(void)
{
    for (unsigned round = 0; round < 50; round++) {
        MsConditionInput in = { .now_ns = SECOND };
        MemSchedGuestCondition told = { .generation = 0 };
        Seen seen = { 0 };
        MsCondition c = { 0 };

        for (unsigned i = 0; i < 1000; i++) {
            in.now_ns += up_to(60 * MS_NS);
            if (!up_to(5)) {
                any(&in);
            } else if (i == 0) {
                continue;
            }
            in.min = MIN(in.min, in.entitlement);
            if (in.ram && ms_condition_step(&c, &in, &told)) {
                check_told(&seen, &in, &told);
            }
            g_assert_true(!seen.generation ||
                          in.now_ns - seen.told_ns < 5 * SECOND);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cond/content-guest-is-high", test_content_guest_is_high);
    g_test_add_func("/cond/soft-where-nothing-more-can-be-got",
                    test_soft_where_nothing_more_can_be_got);
    g_test_add_func("/cond/hard-where-asked-waiting-or-pressed",
                    test_hard_where_asked_waiting_or_pressed);
    g_test_add_func("/cond/low-where-a-touch-may-have-to-wait",
                    test_low_where_a_touch_may_have_to_wait);
    g_test_add_func("/cond/worse-at-once-and-better-after-a-second",
                    test_worse_at_once_and_better_after_a_second);
    g_test_add_func("/cond/stalls-that-are-over-are-no-pressure-any-more",
                    test_stalls_that_are_over_are_no_pressure_any_more);
    g_test_add_func("/cond/thresholds-back-are-further-away",
                    test_thresholds_back_are_further_away);
    g_test_add_func("/cond/reservable-is-the-least-of-all-limits",
                    test_reservable_is_the_least_of_all_limits);
    g_test_add_func("/cond/nothing-new-is-told-every-five-seconds",
                    test_nothing_new_is_told_every_five_seconds);
    g_test_add_func("/cond/a-change-of-the-condition-is-told-in-a-tenth",
                    test_a_change_of_the_condition_is_told_in_a_tenth);
    g_test_add_func("/cond/figures-of-the-host-are-coarse-and-slow",
                    test_figures_of_the_host_are_coarse_and_slow);
    g_test_add_func("/cond/noise-inside-the-bands-changes-nothing",
                    test_noise_inside_the_bands_changes_nothing);
    g_test_add_func("/cond/less-slack-is-never-better",
                    test_less_slack_is_never_better);
    g_test_add_func("/cond/generation-rises-with-content-and-telling-is-"
                    "limited",
                    test_generation_rises_with_content_and_telling_is_limited);
    return g_test_run();
}
