/*
 * memsched-sim: what would the policy do?
 *
 * Runs the scheduler's own policy code against scenarios: generated or recorded
 * demand of many guests, hours of it in seconds.  Prints how much of what was
 * wanted was served, against the best that anybody could have done and against
 * a pool that is divided once.  Also replays a snapshot.
 *
 * Exit status: 0; 1 where a scenario misses the score that it expects, or a
 * guest was below its min; 2 for a wrong command line or file.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decision.h"
#include "memsched-sim.h"

#define MIB_OF(pages) ((double)(pages) / (double)SIM_MIB)

static char *arg_policy, *arg_timeline, *arg_snapshot, *arg_replay;
static char **arg_files;
static gint arg_tax = -1, arg_seconds, arg_at = -1;
static gboolean arg_csv, arg_timing;

static const GOptionEntry options[] = {
    { "policy", 0, 0, G_OPTION_ARG_STRING, &arg_policy,
      "static, shares or idle-tax, instead of the scenario's", "POLICY" },
    { "idle-tax", 0, 0, G_OPTION_ARG_INT, &arg_tax,
      "0 to 99, instead of the scenario's", "PCT" },
    { "seconds", 's', 0, G_OPTION_ARG_INT, &arg_seconds,
      "end each scenario after so many", "N" },
    { "csv", 0, 0, G_OPTION_ARG_NONE, &arg_csv, "a line a scenario", NULL },
    { "timing", 0, 0, G_OPTION_ARG_NONE, &arg_timing,
      "how long the policy took a tick, in real time", NULL },
    { "timeline", 0, 0, G_OPTION_ARG_FILENAME, &arg_timeline,
      "each second of each guest, as CSV", "FILE" },
    { "snapshot", 0, 0, G_OPTION_ARG_FILENAME, &arg_snapshot,
      "write the snapshot of one tick", "FILE" },
    { "at", 0, 0, G_OPTION_ARG_INT, &arg_at,
      "of that second (default: the last one)", "S" },
    { "replay", 0, 0, G_OPTION_ARG_FILENAME, &arg_replay,
      "decide once more on a snapshot, and say why", "FILE" },
    { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &arg_files, NULL,
      "SCENARIO..." },
    G_OPTION_ENTRY_NULL
};

static int usage(const char *what)
{
    fprintf(stderr, "memsched-sim: %s\n", what);
    return 2;
}

/* ---- replay ---- */

static int replay(const char *path)
{
    g_autofree char *text = NULL;
    g_autofree MsPolicyGuest *guests = NULL;
    g_autofree MsDecision *decisions = NULL;
    g_autoptr(GError) error = NULL;
    MemSchedMessage message;
    MsPolicyInput input;
    size_t count, n;

    if (!g_file_get_contents(path, &text, NULL, &error)) {
        return usage(error->message);
    }
    if (ms_policy_parse(text, &input, &guests, &count, &message) < 0 ||
        ms_policy_check(&input, &message) < 0) {
        return usage(message.text);
    }
    decisions = g_new0(MsDecision, count);
    n = ms_policy_run(&input, guests, count, decisions, count);
    for (size_t i = 0; i < n; i++) {
        char id[MEMSCHED_ID_MAX], words[MS_DECISION_WORDS];
        MsDecisionRecord record;

        g_snprintf(id, sizeof(id), "guest %u", decisions[i].guest);
        ms_decision_record(&input, &guests[decisions[i].guest], id,
                           &decisions[i], &record);
        ms_decision_words(&record, words);
        puts(words);
    }
    printf("%zu guests, %zu decisions\n", count, n);
    return 0;
}

/* ---- one scenario ---- */

static void timeline(FILE *out, const SimRun *run)
{
    for (size_t i = 0; i < run->alive; i++) {
        const SimGuest *g = &g_array_index(run->scenario->guests, SimGuest,
                                           run->index[i]);
        const MsPolicyGuest *s = &run->snapshot[i];

        fprintf(out, "%s,%" PRIu64 ",%s,%.0f,%.0f,%.0f,%.0f,%s\n",
                run->scenario->name, run->now_s - 1, g->id,
                MIB_OF(g->wants), MIB_OF(s->allocated),
                MIB_OF(s->entitlement), MIB_OF(g->ballooned),
                ms_reason_name(s->reason));
    }
}

static bool write_snapshot(const SimRun *run)
{
    g_autofree char *text = ms_policy_dump(&run->scenario->input,
                                           run->snapshot, run->alive);
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents(arg_snapshot, text, -1, &error)) {
        fprintf(stderr, "memsched-sim: %s\n", error->message);
        return false;
    }
    return true;
}

static bool run_all(SimRun *run, FILE *out)
{
    uint64_t duration = run->scenario->duration_s, at;

    if (arg_seconds > 0) {
        duration = MIN(duration, (uint64_t)arg_seconds);
    }
    at = arg_at >= 0 ? (uint64_t)arg_at : duration - 1;
    while (run->now_s < duration) {
        sim_run_tick(run);
        if (out) {
            timeline(out, run);
        }
        if (arg_snapshot && run->now_s - 1 == at && !write_snapshot(run)) {
            return false;
        }
    }
    return true;
}

static double score(const SimResult *r)
{
    return r->oracle > 0 ? 100 * r->served / r->oracle : 100;
}

static double score_fixed(const SimResult *r)
{
    return r->oracle > 0 ? 100 * r->fixed / r->oracle : 100;
}

static const char *gain(const SimResult *r, char text[16])
{
    double possible = r->oracle - r->fixed;

    /* Less than 1 % to be gained: a ratio would say nothing. */
    if (possible < r->oracle / 100) {
        return arg_csv ? "" : "-";
    }
    g_snprintf(text, 16, "%.1f", 100 * (r->served - r->fixed) / possible);
    return text;
}

static void print(const SimRun *run)
{
    const SimResult *r = &run->result;
    char text[16];

    printf(arg_csv ? "%s,%u,%" PRIu64 ",%.2f,%.2f,%s,%.1f,%" PRIu64
           ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
           : "%-18s %6u %7" PRIu64 " %7.1f %7.1f %7s %9.1f %9" PRIu64
           " %9" PRIu64 " %8" PRIu64 " %6" PRIu64 " %6" PRIu64,
           run->scenario->name, run->scenario->guests->len, r->ticks,
           score(r), score_fixed(r), gain(r, text),
           MIB_OF(r->moved) / 1024, r->short_s, r->short_avoidable_s,
           r->short_longest_s, r->unresponsive, r->below_min);
    if (arg_timing) {
        printf(arg_csv ? ",%.1f,%.0f" : " %8.1f %8.0f",
               r->policy_us / (double)MAX(r->ticks, 1), r->policy_us_most);
    }
    putchar('\n');
}

static void print_head(void)
{
    if (arg_csv) {
        printf("scenario,guests,seconds,score,fixed,gain,moved-gib,short-s,"
               "avoidable-s,longest-s,silent,below-min%s\n",
               arg_timing ? ",tick-us,tick-most-us" : "");
        return;
    }
    printf("%-18s %6s %7s %7s %7s %7s %9s %9s %9s %8s %6s %6s%s\n",
           "scenario", "guests", "seconds", "score", "fixed", "gain",
           "moved", "short", "avoidable", "longest", "silent", "below",
           arg_timing ? "     tick     most" : "");
    printf("%-18s %6s %7s %7s %7s %7s %9s %9s %9s %8s %6s %6s%s\n",
           "", "", "", "%", "%", "%", "GiB", "guest s", "guest s", "s",
           "guests", "min", arg_timing ? "       us       us" : "");
}

static bool change(MsPolicyInput *input)
{
    MemSchedMessage message;

    if (arg_tax >= 0) {
        input->idle_tax_pct = arg_tax;
    }
    if (arg_policy) {
        input->policy = strcmp(arg_policy, "static") == 0
                        ? MEMSCHED_POLICY_STATIC
                        : strcmp(arg_policy, "shares") == 0
                        ? MEMSCHED_POLICY_SHARES
                        : strcmp(arg_policy, "idle-tax") == 0
                        ? MEMSCHED_POLICY_IDLE_TAX : (MemSchedPolicy)-1;
    }
    if (ms_policy_check(input, &message) < 0) {
        usage(message.text);
        return false;
    }
    return true;
}

/* 0, 1 or 2, as the program's exit status; adds to @sum what it scored. */
static int simulate(const char *path, FILE *out, double *sum)
{
    g_autoptr(GError) error = NULL;
    SimScenario *scenario = sim_scenario_load(path, &error);
    int status = 0;
    SimRun run;

    if (!scenario) {
        fprintf(stderr, "memsched-sim: %s: %s\n", path, error->message);
        return 2;
    }
    if (!change(&scenario->input)) {
        sim_scenario_free(scenario);
        return 2;
    }
    sim_run_init(&run, scenario);
    if (!run_all(&run, out)) {
        status = 2;
    } else {
        print(&run);
        *sum += score(&run.result);
        if (run.result.below_min > 0) {
            fprintf(stderr, "memsched-sim: %s: a guest was below its min\n",
                    scenario->name);
            status = 1;
        } else if (score(&run.result) < scenario->expect) {
            fprintf(stderr, "memsched-sim: %s: less than the %.0f %% that "
                    "it expects\n", scenario->name, scenario->expect);
            status = 1;
        }
    }
    sim_run_clear(&run);
    sim_scenario_free(scenario);
    return status;
}

static int simulate_all(void)
{
    FILE *out = NULL;
    double sum = 0;
    unsigned count = 0;
    int status = 0;

    if (arg_timeline) {
        out = fopen(arg_timeline, "w");
        if (!out) {
            return usage("the timeline cannot be written");
        }
        fputs("scenario,time,guest,wants,allocated,entitlement,ballooned,"
              "reason\n", out);
    }
    print_head();
    for (unsigned i = 0; arg_files[i] && status < 2; i++) {
        int one = simulate(arg_files[i], out, &sum);

        status = MAX(status, one);
        count++;
    }
    if (out && fclose(out) != 0) {
        status = usage("the timeline could not be written");
    }
    if (status < 2 && count > 1 && !arg_csv) {
        printf("average score %.1f %% of the oracle\n", sum / count);
    }
    return status;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    setlocale(LC_ALL, "C");
    g_option_context_set_summary(context, "Simulate the memory scheduler's "
                                 "policy.");
    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return usage(error->message);
    }
    if (arg_seconds < 0) {
        return usage("the number of seconds is below 0");
    }
    if (arg_replay) {
        return arg_files ? usage("a replay takes no scenario")
                         : replay(arg_replay);
    }
    if (!arg_files) {
        return usage("no scenario given; tests/sim has some");
    }
    return simulate_all();
}
