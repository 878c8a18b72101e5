/*
 * Scenarios: a host and its guests, from a key file
 *
 * Owns the format.  A section [host], then a section for each group of guests
 * that are alike; docs/system/policy.rst lists the keys.
 *
 * Unknown keys are refused: a word that is misspelt would otherwise simulate
 * something else.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <string.h>

#include "memsched-sim.h"

#define GUESTS_MOST 100000u

static const char *const demands[] = {
    "steady", "boot", "ramp", "wave", "onoff", "burst", "walk", "trace", NULL
};
static const char *const answers[] = {
    "normal", "refuse", "lie-active", "lie-idle", NULL
};
static const char *const policies[] = { "static", "shares", "idle-tax", NULL };

static const char *const host_keys[] = {
    "about", "pool-mib", "min-free-mib", "policy", "idle-tax", "duration-s",
    "seed", "expect", NULL
};
static const char *const group_keys[] = {
    "count", "ram-mib", "min-mib", "low-mib", "high-mib", "shares", "demand",
    "period-s", "answer", "rate-mib-s", "start-s", "stop-s", "spread-s",
    "trace", NULL
};

/* ---- values ---- */

typedef struct Reader {
    GKeyFile *file;
    const char *group;
    GError **error;
    bool failed;
} Reader;

static void complain(Reader *r, const char *key, const char *what)
{
    if (!r->failed) {
        g_set_error(r->error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "[%s] %s %s", r->group, key, what);
    }
    r->failed = true;
}

static uint64_t number(Reader *r, const char *key, uint64_t otherwise)
{
    g_autofree char *text = g_key_file_get_value(r->file, r->group, key,
                                                 NULL);
    uint64_t value;

    if (!text) {
        return otherwise;
    }
    if (!g_ascii_string_to_unsigned(text, 10, 0, UINT64_C(1) << 40, &value,
                                    NULL)) {
        complain(r, key, "is no number without sign");
        return otherwise;
    }
    return value;
}

static unsigned choice(Reader *r, const char *key, const char *const *words,
                       unsigned otherwise)
{
    g_autofree char *text = g_key_file_get_value(r->file, r->group, key,
                                                 NULL);

    if (!text) {
        return otherwise;
    }
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0) {
            return i;
        }
    }
    complain(r, key, "has a value that is not known");
    return otherwise;
}

static void check_keys(Reader *r, const char *const *known)
{
    g_auto(GStrv) keys = g_key_file_get_keys(r->file, r->group, NULL, NULL);

    for (unsigned i = 0; keys && keys[i]; i++) {
        if (!g_strv_contains(known, keys[i])) {
            complain(r, keys[i], "is a key that is not known");
        }
    }
}

/* ---- sections ---- */

static void read_host(Reader *r, SimScenario *s)
{
    MemSchedMessage message;
    uint64_t pool, duration;

    r->group = "host";
    check_keys(r, host_keys);
    pool = number(r, "pool-mib", 0);
    duration = number(r, "duration-s", 3600);
    s->about = g_key_file_get_string(r->file, "host", "about", NULL);
    s->duration_s = duration;
    s->seed = number(r, "seed", 1);
    s->expect = number(r, "expect", 0);
    s->input = (MsPolicyInput) {
        .policy = choice(r, "policy", policies, MEMSCHED_POLICY_IDLE_TAX),
        .idle_tax_pct = MIN(number(r, "idle-tax", 75), 100),
        .budget = pool * SIM_MIB,
        .min_free = number(r, "min-free-mib", MAX(pool / 64, 1)) * SIM_MIB,
        .interval_ms = 1000, .tuning = ms_policy_tuning(),
    };
    if (ms_policy_check(&s->input, &message) < 0) {
        complain(r, "cannot be used:", message.text);
    }
    if (duration == 0 || duration > 10000000) {
        complain(r, "duration-s", "is not between 1 and 10000000");
    }
}

static void check_pattern(Reader *r, const SimGuest *g)
{
    if (g->ram == 0) {
        complain(r, "ram-mib", "is missing, or 0");
    } else if (g->min > g->ram || g->low > g->high || g->high > g->ram) {
        complain(r, "low-mib, high-mib and min-mib",
                 "have to fit ram-mib, and low high");
    } else if (g->period_s == 0) {
        complain(r, "period-s", "is 0");
    } else if (g->stop_s <= g->start_s) {
        complain(r, "stop-s", "is not after start-s");
    }
}

static void read_trace(Reader *r, const SimGuest *pattern,
                       const char *scenario, GArray *guests)
{
    g_autofree char *name = g_key_file_get_string(r->file, r->group, "trace",
                                                  NULL);
    g_autofree char *folder = g_path_get_dirname(scenario);
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;

    if (!name) {
        complain(r, "trace", "is missing");
        return;
    }
    path = g_build_filename(folder, name, NULL);
    if (!sim_trace_load(path, pattern, guests, &error)) {
        complain(r, "trace", error->message);
    }
}

static void read_group(Reader *r, SimScenario *s, const char *path)
{
    uint64_t count, ram, spread;
    SimGuest g = { 0 };

    check_keys(r, group_keys);
    count = number(r, "count", 1);
    ram = number(r, "ram-mib", 0);
    spread = number(r, "spread-s", 0);
    g.ram = ram * SIM_MIB;
    g.min = number(r, "min-mib", 0) * SIM_MIB;
    g.high = number(r, "high-mib", ram) * SIM_MIB;
    g.low = number(r, "low-mib", 0) * SIM_MIB;
    g.shares = number(r, "shares", 1000);
    g.demand = choice(r, "demand", demands, SIM_DEMAND_STEADY);
    g.period_s = number(r, "period-s", 600);
    g.answer = choice(r, "answer", answers, SIM_ANSWER_NORMAL);
    g.rate = number(r, "rate-mib-s", 400) * SIM_MIB;
    g.start_s = number(r, "start-s", 0);
    g.stop_s = number(r, "stop-s", UINT64_MAX);
    check_pattern(r, &g);
    if (count > GUESTS_MOST || s->guests->len > GUESTS_MOST) {
        complain(r, "count", "is too large");
    }
    if (r->failed) {
        return;
    }
    if (g.demand == SIM_DEMAND_TRACE) {
        read_trace(r, &g, path, s->guests);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        SimGuest one = g;

        g_snprintf(one.id, sizeof(one.id), "%s%" G_GUINT64_FORMAT, r->group,
                   i);
        one.phase_s = g.period_s * i / count;
        one.start_s += spread * i / count;
        one.stop_s += one.stop_s == UINT64_MAX ? 0 : spread * i / count;
        g_array_append_val(s->guests, one);
    }
}

static void check_whole(Reader *r, const SimScenario *s)
{
    uint64_t mins = 0;

    r->group = "host";
    for (guint i = 0; i < s->guests->len; i++) {
        SimGuest *g = &g_array_index(s->guests, SimGuest, i);

        mins += g->min;
        g->random = g_rand_new_with_seed(s->seed * 1000003u + i);
    }
    if (s->guests->len == 0) {
        complain(r, "has", "no guests beside it");
    } else if (mins > s->input.budget) {
        complain(r, "pool-mib", "is less than the mins of all guests");
    }
}

SimScenario *sim_scenario_load(const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) groups = NULL;
    SimScenario *s;
    Reader r = { .file = file, .group = "host", .error = error };

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, error)) {
        return NULL;
    }
    s = g_new0(SimScenario, 1);
    s->guests = g_array_new(FALSE, TRUE, sizeof(SimGuest));
    s->name = g_path_get_basename(path);
    if (g_str_has_suffix(s->name, ".ini")) {
        s->name[strlen(s->name) - 4] = '\0';
    }
    read_host(&r, s);
    groups = g_key_file_get_groups(file, NULL);
    for (unsigned i = 0; groups[i] && !r.failed; i++) {
        if (strcmp(groups[i], "host") != 0) {
            r.group = groups[i];
            read_group(&r, s, path);
        }
    }
    check_whole(&r, s);
    if (r.failed) {
        sim_scenario_free(s);
        return NULL;
    }
    return s;
}

void sim_scenario_free(SimScenario *s)
{
    for (guint i = 0; i < s->guests->len; i++) {
        SimGuest *g = &g_array_index(s->guests, SimGuest, i);

        g_clear_pointer(&g->random, g_rand_free);
        g_clear_pointer(&g->trace, g_array_unref);
    }
    g_array_unref(s->guests);
    g_free(s->about);
    g_free(s->name);
    g_free(s);
}
