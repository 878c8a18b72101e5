/*
 * Who is sampled, when and how much
 *
 * Owns the thread that takes random units out of guests, and what comes of it:
 * the host's own figure of how much of a guest's memory is in use, which needs
 * nothing of the guest.
 *
 * A unit is out for a window, or until it is touched.  Units go out in STEPS
 * small steps a window, so that neither the moves nor the touches come at once;
 * a place is free again when its window is over, not when its unit is back:
 * else touched ones would be counted more often.  Since a page is drawn first
 * and its unit found then, a huge page is drawn as often as its 512 pages, and
 * each unit counts the same.
 *
 * At most MS_SAMPLE_UNITS are drawn in a window, and no more than a share of
 * what the guest holds is out: a guest of huge pages has fewer, and its figure
 * rests on more windows.  All guests together have FLUSHES_PER_S, as moves
 * interrupt every vCPU of the process: with many guests each has fewer.
 *
 * What is protected is not drawn (sample.c).  The figure is taken for those
 * pages too, although they are the ones that were not written for a while:
 * rather too much than too little.
 *
 * Why the guest may believe what it likes: it can look busier than it is only
 * by touching memory, which is being busy.
 *
 * Locks: the sampler's (leaf) guards the wish to run; no lock is held while
 * pages move.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "instance.h"
#include "sample.h"
#include "sampler.h"

#define NS_PER_MS     UINT64_C(1000000)
#define STEPS         32u
#define STEP_LEAST_MS 10u
/* Out and back: two for each unit; 0.25 % of each running vCPU. */
#define FLUSHES_PER_S 500u
/* A round is a window, or more of them where so few units came back. */
#define ROUND_UNITS   4u
/* Pages that are drawn for one that may go. */
#define DRAWS         32u
/* A figure without a new unit for so many windows is no longer one. */
#define FRESH_WINDOWS 2u

struct MsSampler {
    MemSched *ms;
    GThread *thread;
    MsLock lock;
    MsCond cond;
    bool kicked, stop;          /* lock */
    GRand *random;              /* the thread's own */
};

static uint64_t draw(MsSampler *s, uint64_t below)
{
    uint64_t high = g_rand_int(s->random);

    return (high << 32 | g_rand_int(s->random)) % below;
}

/* ---- one guest ---- */

typedef struct Look {
    MsSampler *sampler;
    MemSchedClient *client;
    MemSchedRegion **regions;   /* entered */
    size_t count;
    uint64_t pages;             /* of all of them */
    uint64_t window_ns;
    unsigned places;            /* taken */
    uint64_t out;               /* pages */
} Look;

static void enter(Look *l)
{
    size_t count, n = 0;
    MemSchedRegion **all = ms_client_regions(l->client, &count);

    for (size_t i = 0; i < count; i++) {
        if (all[i]->movable && ms_region_enter_locked(all[i])) {
            ms_unlock(&all[i]->lock);
            l->pages += all[i]->pages.end - all[i]->pages.lead;
            all[n++] = all[i];
        } else {
            ms_region_unref(all[i]);
        }
    }
    l->regions = all;
    l->count = n;
}

static void leave(Look *l)
{
    for (size_t i = 0; i < l->count; i++) {
        ms_region_leave(l->regions[i]);
        ms_region_unref(l->regions[i]);
    }
    g_free(l->regions);
}

static void harvest(Look *l, uint64_t now_ns)
{
    MemSchedClient *client = l->client;
    MsSampled *sampled = &client->sampled;
    MsSample sample;

    for (size_t i = 0; i < l->count; i++) {
        MemSchedRegion *region = l->regions[i];

        while (ms_sample_harvest(region, l->window_ns, &sample)) {
            ms_lock(&client->lock);
            ms_estimate_add(&sampled->estimate,
                            sample.state == MS_SAMPLE_TOUCHED,
                            sample.after_ns, now_ns);
            ms_unlock(&client->lock);
        }
        ms_lock(&region->lock);
        l->places += region->samples.count;
        l->out += region->samples.pages;
        ms_unlock(&region->lock);
    }
    ms_lock(&client->lock);
    if (now_ns - sampled->round_ns >= l->window_ns &&
        sampled->estimate.now.units >= ROUND_UNITS * MS_ESTIMATE_SCALE) {
        ms_estimate_close(&sampled->estimate);
        sampled->round_ns = now_ns;
    }
    ms_unlock(&client->lock);
}

/* Pages of the unit that went out; 0: none that was drawn may. */
static unsigned take_one(Look *l, uint64_t most)
{
    unsigned took = 0;

    for (unsigned tries = 0; took == 0 && tries < DRAWS; tries++) {
        uint64_t at = draw(l->sampler, l->pages);
        size_t i = 0;

        while (at >= l->regions[i]->pages.end - l->regions[i]->pages.lead) {
            at -= l->regions[i]->pages.end - l->regions[i]->pages.lead;
            i++;
        }
        took = ms_sample_take(l->regions[i], l->regions[i]->pages.lead + at,
                              most);
    }
    return took;
}

static unsigned take(Look *l, unsigned places)
{
    unsigned step = (places + STEPS - 1) / STEPS, units = 0;
    uint64_t share;

    ms_lock(&l->client->ms->ledger_lock);
    share = l->client->account.allocated / MS_SAMPLE_SHARE;
    ms_unlock(&l->client->ms->ledger_lock);
    while (units < step && l->places < places) {
        uint64_t most = share > l->out ? share - l->out : 0;
        unsigned took;

        if (l->out == 0 && most < MS_PAGESET_PAGES) {
            most = MS_PAGESET_PAGES;
        }
        took = most > 0 ? take_one(l, most) : 0;
        if (took == 0) {
            break;
        }
        l->out += took;
        l->places++;
        units++;
    }
    return units;
}

static unsigned step_client(MsSampler *s, MemSchedClient *client,
                            uint64_t window_ns, unsigned places)
{
    const MsSys *sys = s->ms->sys;
    Look l = { .sampler = s, .client = client, .window_ns = window_ns };
    unsigned units = 0;

    /* While it is stopped, or migrates, nothing is learnt. */
    if (!ms_client_capture_enter(client, true)) {
        return 0;
    }
    enter(&l);
    if (l.count > 0) {
        harvest(&l, sys->now_ns(sys));
        units = take(&l, places);
    }
    leave(&l);
    ms_client_capture_leave(client);
    return units;
}

/* ---- all guests ---- */

static unsigned places_of(uint64_t window_ms, size_t guests)
{
    uint64_t all = FLUSHES_PER_S / 2 * window_ms / 1000;

    return guests ? (unsigned)CLAMP(all / guests, 1, MS_SAMPLE_UNITS) : 0;
}

unsigned ms_sampler_step(MsSampler *sampler)
{
    unsigned window_ms = atomic_load(&sampler->ms->sample_ms), units = 0;
    MemSchedClient **clients;
    size_t count;

    clients = ms_clients(sampler->ms, &count);
    for (size_t i = 0; i < count; i++) {
        if (window_ms > 0) {
            units += step_client(sampler, clients[i], window_ms * NS_PER_MS,
                                 places_of(window_ms, count));
        } else {
            ms_sampler_recall(clients[i]);
        }
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    return units;
}

void ms_sampler_recall(MemSchedClient *client)
{
    MemSchedRegion **regions;
    size_t count;

    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        if (ms_region_enter_locked(regions[i])) {
            ms_sample_recall_locked(regions[i], 0, regions[i]->pages.end);
            ms_unlock(&regions[i]->lock);
            ms_region_leave(regions[i]);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
}

/* ---- what is known ---- */

static bool is_movable(MemSchedClient *client)
{
    MemSchedRegion **regions;
    bool movable = false;
    size_t count;

    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        movable |= regions[i]->movable;
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return movable;
}

bool ms_sampler_figure(MemSchedClient *client, uint64_t now_ns,
                       MsSampledFigure *ret_figure, const char **ret_why)
{
    uint64_t window_ns = atomic_load(&client->ms->sample_ms) * NS_PER_MS;
    MsSampledFigure f = { 0 };
    bool known, runs;

    ms_lock(&client->lock);
    known = ms_estimate_figure(&client->sampled.estimate, &f.figure);
    if (client->sampled.estimate.told_ns < now_ns) {
        f.age_ns = now_ns - client->sampled.estimate.told_ns;
    }
    runs = client->running && client->inhibited == 0;
    ms_unlock(&client->lock);

    *ret_why = NULL;
    if (window_ns == 0) {
        *ret_why = "sampling is off";
    } else if (!known && !is_movable(client)) {
        *ret_why = "its memory cannot be moved";
    } else if (!known) {
        *ret_why = "too few units of its memory so far";
    } else if (f.age_ns > FRESH_WINDOWS * window_ns) {
        *ret_why = runs ? "no unit of its memory could be taken of late"
                        : "it is stopped, or its memory may not be taken";
    }
    if (*ret_why == NULL) {
        *ret_figure = f;
    }
    return *ret_why == NULL;
}

/* ---- the thread ---- */

static void *sampler_thread(void *opaque)
{
    MsSampler *s = opaque;
    const MsSys *sys = s->ms->sys;

    sys->name_thread(sys, "memsched/sample");
    ms_lock(&s->lock);
    while (!s->stop) {
        unsigned ms;

        s->kicked = false;
        ms_unlock(&s->lock);
        ms_sampler_step(s);
        ms = atomic_load(&s->ms->sample_ms);
        ms_lock(&s->lock);
        while (ms == 0 && !s->kicked && !s->stop) {
            ms_cond_wait(&s->cond, &s->lock);
        }
        if (!s->kicked && !s->stop) {
            ms_cond_wait_ns(&s->cond, &s->lock,
                            MAX(ms / STEPS, STEP_LEAST_MS) * NS_PER_MS);
        }
    }
    ms_unlock(&s->lock);
    return NULL;
}

MsSampler *ms_sampler_new(MemSched *ms, uint64_t seed)
{
    const guint32 words[] = { (guint32)seed, (guint32)(seed >> 32) };
    MsSampler *sampler = g_new0(MsSampler, 1);

    sampler->ms = ms;
    sampler->random = g_rand_new_with_seed_array(words, 2);
    ms_lock_init(&sampler->lock, MS_RANK_LEAF);
    ms_cond_init(&sampler->cond);
    return sampler;
}

void ms_sampler_free(MsSampler *sampler)
{
    if (sampler) {
        ms_cond_destroy(&sampler->cond);
        ms_lock_destroy(&sampler->lock);
        g_rand_free(sampler->random);
        g_free(sampler);
    }
}

int ms_sampler_start(MemSched *ms, MsSampler **ret_sampler)
{
    MsSampler *sampler;
    uint64_t seed;
    int ret = ms->sys->random(ms->sys, &seed, sizeof(seed));

    if (ret < 0) {
        return ret;
    }
    sampler = ms_sampler_new(ms, seed);
    sampler->thread = g_thread_try_new("memsched/sample", sampler_thread,
                                       sampler, NULL);
    if (sampler->thread == NULL) {
        ms_sampler_free(sampler);
        return -EAGAIN;
    }
    *ret_sampler = sampler;
    return 0;
}

void ms_sampler_stop(MsSampler *sampler)
{
    if (sampler) {
        ms_lock(&sampler->lock);
        sampler->stop = true;
        ms_cond_signal(&sampler->cond);
        ms_unlock(&sampler->lock);
        g_thread_join(sampler->thread);
        ms_sampler_free(sampler);
    }
}

void ms_sampler_kick(MsSampler *sampler)
{
    if (sampler) {
        ms_lock(&sampler->lock);
        sampler->kicked = true;
        ms_cond_signal(&sampler->cond);
        ms_unlock(&sampler->lock);
    }
}
