/*
 * memsched-sim: the policy on a host that is only figures
 *
 * Counts are 4 KiB pages, times seconds of the simulated clock.  One thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SIM_H
#define MEMSCHED_SIM_H

#include <glib.h>

#include "policy.h"

#define SIM_MIB UINT64_C(256)           /* pages */

typedef enum SimDemand {
    SIM_DEMAND_STEADY,          /* high */
    SIM_DEMAND_BOOT,            /* high for period, then low */
    SIM_DEMAND_RAMP,            /* low to high, over the run */
    SIM_DEMAND_WAVE,            /* a sine of period; guests spread over it */
    SIM_DEMAND_ONOFF,           /* low or high, at random; period on average */
    SIM_DEMAND_BURST,           /* low, and high for a tenth of the time */
    SIM_DEMAND_WALK,            /* at random between low and high */
    SIM_DEMAND_TRACE,           /* recorded */
} SimDemand;

typedef enum SimAnswer {
    SIM_ANSWER_NORMAL,
    SIM_ANSWER_REFUSE,          /* never gives */
    SIM_ANSWER_LIE_ACTIVE,      /* says that it uses all it holds */
    SIM_ANSWER_LIE_IDLE,        /* says that it uses nothing; and deflates */
} SimAnswer;

typedef struct SimPoint {
    uint64_t time_s, pages;
} SimPoint;

/* A guest of a scenario, and what the simulation keeps of it. */
typedef struct SimGuest {
    char id[MEMSCHED_ID_MAX];
    SimDemand demand;
    SimAnswer answer;
    uint64_t ram, min, low, high;
    unsigned shares;
    uint64_t period_s, phase_s, start_s, stop_s;
    uint64_t rate;              /* pages that it gives a second */
    GArray *trace;              /* of SimPoint, or NULL */
    /* the demand's own */
    GRand *random;
    uint64_t level, until_s;
    bool on;
    /* state */
    bool alive;
    uint64_t wants;             /* demand now */
    uint64_t allocated, ballooned, outgoing, waiting;
    uint64_t claim, claim_age;
    uint64_t captured, returned, oom_deflates;
    uint64_t short_s, short_run_s, short_longest_s;
    MsPolicyMemory memory;
} SimGuest;

typedef struct SimScenario {
    char *name, *about;
    MsPolicyInput input;        /* settings; budget, min_free */
    uint64_t duration_s;
    unsigned seed;
    double expect;              /* score that it has to reach, per cent */
    GArray *guests;             /* of SimGuest */
} SimScenario;

/* What came of a run; sums over ticks, in pages. */
typedef struct SimResult {
    uint64_t ticks;
    double served, oracle, fixed;       /* by policy, at best, divided once */
    uint64_t moved;             /* captured because policy said so */
    uint64_t decisions;
    uint64_t short_s;           /* guest-seconds with 5 % or more missing */
    uint64_t short_avoidable_s; /* of those: while the oracle has none short */
    uint64_t short_longest_s;   /* without end, one guest */
    uint64_t below_min;         /* guest-ticks; must be 0 */
    uint64_t state_s[5];        /* host states */
    uint64_t unresponsive;      /* guests found so, at any time */
    double policy_us, policy_us_most;   /* of real time, a tick */
} SimResult;

/*
 * memsched-sim-scenario.c.  A scenario out of a key file, or NULL and one
 * sentence in @error.
 */
SimScenario *sim_scenario_load(const char *path, GError **error);
void sim_scenario_free(SimScenario *scenario);

/* memsched-sim-demand.c: sets @wants, for the next second of @guest. */
void sim_demand(SimGuest *guest, uint64_t now_s, uint64_t duration_s);

/*
 * memsched-sim-trace.c: guests of a recording as CSV with the columns time (s),
 * guest, and active (bytes), like "memschedctl top --csv" prints it.
 * @pattern is copied for each.
 */
bool sim_trace_load(const char *path, const SimGuest *pattern,
                    GArray *guests, GError **error);

/* memsched-sim-host.c */
typedef struct SimRun {
    SimScenario *scenario;
    uint64_t free;
    uint64_t now_s;
    uint64_t *fixed;            /* what each would have, divided once */
    MsPolicyGuest *snapshot;
    MsDecision *decisions;
    unsigned *index;            /* snapshot to guest */
    size_t alive;
    size_t decided;
    SimResult result;
} SimRun;

void sim_run_init(SimRun *run, SimScenario *scenario);
void sim_run_clear(SimRun *run);
/* One second. */
void sim_run_tick(SimRun *run);

/* memsched-sim-score.c: after the touches of a tick. */
void sim_score_tick(SimRun *run);

#endif /* MEMSCHED_SIM_H */
