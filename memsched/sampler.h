/*
 * Who is sampled, when and how much
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_SAMPLER_H
#define MEMSCHED_SAMPLER_H

#include "estimate.h"
#include "memsched/memsched.h"

typedef struct MsSampler MsSampler;

/* Shorter than this, and what is in use is mostly not touched in it. */
#define MS_SAMPLE_LEAST_MS 1000u
#define MS_SAMPLE_MOST_MS  3600000u

static inline bool ms_sampler_window_is_valid(unsigned ms)
{
    return ms == 0 || (ms >= MS_SAMPLE_LEAST_MS && ms <= MS_SAMPLE_MOST_MS);
}

/* Of what a guest holds, so much is out of it at most; one unit at least. */
#define MS_SAMPLE_SHARE    16u
/* Units in a window at most: 10 % off with 2 of 3 guests that use a half. */
#define MS_SAMPLE_UNITS    100u

/* One guest's; client->lock. */
typedef struct MsSampled {
    MsEstimate estimate;
    uint64_t round_ns;          /* when the present round began */
} MsSampled;

/* The thread; it rests while ms->sample_ms is 0. */
int ms_sampler_start(MemSched *ms, MsSampler **ret_sampler);
void ms_sampler_stop(MsSampler *sampler);       /* NULL is fine */
/* Options have changed; NULL is fine. */
void ms_sampler_kick(MsSampler *sampler);

/*
 * The parts of it, for tests and benches: no thread runs, and one step over
 * all guests is made now.  Units that are taken: returned.
 */
MsSampler *ms_sampler_new(MemSched *ms, uint64_t seed);
void ms_sampler_free(MsSampler *sampler);
unsigned ms_sampler_step(MsSampler *sampler);

/*
 * The guest is stopped, or captures are forbidden: all that is out comes back,
 * and says nothing.  No lock held.
 */
void ms_sampler_recall(MemSchedClient *client);

/* What is known of a guest; @ret_why: why nothing is, a constant. */
typedef struct MsSampledFigure {
    MsEstimateFigure figure;
    uint64_t age_ns;            /* of the last unit */
} MsSampledFigure;

bool ms_sampler_figure(MemSchedClient *client, uint64_t now_ns,
                       MsSampledFigure *ret_figure, const char **ret_why);

#endif /* MEMSCHED_SAMPLER_H */
