/*
 * What a tick of the policy costs: 1,000 guests, watched, entitled, decided
 *
 * The snapshot is crowded: all guests lack memory or hold too much, so every
 * one of them is weighed, sorted and decided about.  No baseline: nothing else
 * makes these decisions.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "bench.h"
#include "policy.h"

#define MOST   4000
#define ROUNDS 200
#define MIB    UINT64_C(256)    /* pages */

static void fill(MsPolicyInput *input, MsPolicyGuest *g, size_t count)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(1);

    *input = (MsPolicyInput) {
        .policy = MEMSCHED_POLICY_IDLE_TAX, .idle_tax_pct = 75,
        .min_free = count * 4 * MIB, .interval_ms = 1000,
        .state = MEMSCHED_CONDITION_SOFT, .tuning = ms_policy_tuning(),
    };
    for (size_t i = 0; i < count; i++) {
        g[i] = (MsPolicyGuest) {
            .max = 1024 * MIB, .min = 64 * MIB,
            .shares = g_rand_int_range(random, 100, 10000),
            .allocated = g_rand_int_range(random, 64, 768) * MIB,
            .waiting = g_rand_int_range(random, 0, 2) * 64 * MIB,
        };
        g[i].active = g[i].allocated / 1000 *
                      g_rand_int_range(random, 100, 1000);
        g[i].ballooned = g[i].waiting ? 256 * MIB : 0;
        input->budget += g[i].allocated;
    }
}

static void measure(size_t count, const char *variant, const char *mark)
{
    g_autofree MsPolicyGuest *g = g_new0(MsPolicyGuest, count);
    g_autofree MsDecision *d = g_new0(MsDecision, count);
    BenchTimes times = { 0 };
    MsPolicyInput input;

    fill(&input, g, count);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t start = bench_now_ns();

        ms_policy_watch(&input, g, count);
        ms_policy_run(&input, g, count, d, count);
        bench_add(&times, bench_now_ns() - start);
        input.now_ns += UINT64_C(1000000000);
    }
    bench_time("policy-tick", variant, &times, NULL, mark);
}

int main(void)
{
    bench_header();
    bench_pin(0);
    measure(10, "10-guests", NULL);
    measure(100, "100-guests", NULL);
    measure(1000, "1000-guests", "1000000");
    measure(MOST, "4000-guests", NULL);
    return 0;
}
