/*
 * The thread that finds, captures and returns tagged pages
 *
 * Owns when which guest is searched.  A search begins when an application says
 * that pages are tagged, goes over all resident pages of the guest (a *pass*),
 * and ends when all that is told is found.  After a pass that found nothing the
 * next one waits, 50 ms at first, 30 s at most, until somebody says something
 * new.  After one that found something it waits as long as the pass took, so
 * that a search takes half of a CPU at most.  Hints are looked at first, by the
 * same reader and with the same doubts.  Parts of huge pages are passed over
 * while their order runs; the search begins anew when it is not waited for any
 * more.
 *
 * Guests take turns: STEP_FRAMES frames each, 0.2 to 0.4 ms.
 *
 * Thrash.  Pages that come back by touch are found again, for as long as they
 * are told, RETURN_NS later at the earliest.  Where in WINDOW_NS more come back
 * than a quarter of what is taken, the guest is left alone for a while, twice
 * as long each time.
 *
 * Releases go before searches: a guest waits for them.
 *
 * Its moves flush TLBs as the mover's do, and have a budget of their own of the
 * same kind.  Comparing costs a hundred times as much as moving, so it is
 * seldom reached.
 *
 * Locks: tagger->lock (leaf) guards the wish to run.  A search's state is the
 * thread's own.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "app.h"
#include "capture-tag.h"
#include "gpamap.h"
#include "instance.h"
#include "tagged.h"
#include "tagger.h"

#define FRAME_PAGES MS_PAGESET_PAGES

#define STEP_FRAMES     64u
#define RELEASE_FRAMES  16u     /* 4 ms, should all of them be cleared first */
#define HINTS_A_STEP    64u

#define NS_PER_MS       UINT64_C(1000000)
#define SECOND_NS       (1000 * NS_PER_MS)
#define BACKOFF_MIN_NS  (50 * NS_PER_MS)
#define BACKOFF_MAX_NS  (30 * SECOND_NS)
#define PASS_MIN_NS     (5 * NS_PER_MS)
#define RETURN_NS       (250 * NS_PER_MS)

#define WINDOW_NS       (2 * SECOND_NS)
#define WINDOW_MIN      256u    /* returned pages that are worth a thought */
#define REST_MIN_NS     (2 * SECOND_NS)
#define REST_DOUBLINGS  8u      /* 512 s at most */

#define FLUSHES_PER_S   2000u

struct MsTagger {
    MemSched *ms;
    GThread *thread;
    MsLock lock;
    MsCond cond;
    bool kicked, stop;          /* lock */

    /* the thread's own */
    unsigned turn;
    int64_t tokens;             /* flushes that may be made now */
    uint64_t filled_ns;
    uint64_t wake_ns;           /* when something is to be done again */
    MsScan scan;
    MsCaptureTags capture;
};

static uint64_t now_ns(const MsTagger *t)
{
    return t->ms->sys->now_ns(t->ms->sys);
}

static void wake_at(MsTagger *t, uint64_t when_ns)
{
    t->wake_ns = MIN(t->wake_ns, when_ns);
}

/* ---- budget ---- */

static bool may_move(MsTagger *t)
{
    uint64_t now = now_ns(t), passed = MIN(now - t->filled_ns, SECOND_NS);
    int64_t more = passed * FLUSHES_PER_S / SECOND_NS;

    if (ms_is_short(t->ms)) {
        return true;
    }
    if (more > 0) {
        t->tokens = MIN(t->tokens + more, (int64_t)FLUSHES_PER_S / 10);
        t->filled_ns = now;
    }
    if (t->tokens <= 0) {
        wake_at(t, now + NS_PER_MS);
    }
    return t->tokens > 0;
}

/* ---- releases ---- */

/* The next one, or false. */
static bool begin_release(MsApps *apps)
{
    MsTagSearch *s = &apps->search;

    if (s->release.epoch) {
        return true;
    }
    ms_lock(&apps->lock);
    if (apps->releases > 0) {
        s->release = apps->release[apps->first_release];
        apps->first_release = (apps->first_release + 1) % MS_APP_RELEASES;
        apps->releases--;
        s->release_region = 0;
        s->release_frame = 0;
        s->release_refused = false;
    }
    ms_unlock(&apps->lock);
    return s->release.epoch != NULL;
}

/* True: it is over.  False: nobody reads what we say; later. */
static bool end_release(MsTagger *t, MsApps *apps)
{
    MsAppRelease *r = &apps->search.release;
    MsAppCall call = {
        .kind = MS_APP_CALL_RELEASED, .range = {
            .app = r->epoch->app, .epoch = r->epoch->number,
            .first_seq = r->first, .count_pages = r->count,
        },
    };

    /* A connection that is gone, or a later one, is not told. */
    if (r->tell && r->epoch->live && ms_apps_post(apps, &call) == -EAGAIN) {
        wake_at(t, now_ns(t) + BACKOFF_MIN_NS);
        return false;
    }
    ms_lock(&apps->lock);
    ms_epoch_reap(&apps->epochs, r->epoch);
    ms_epoch_unpin(&apps->epochs, r->epoch);
    r->epoch = NULL;
    ms_unlock(&apps->lock);
    ms_apps_kick(apps);
    return true;
}

static void release_frame(MsApps *apps, MemSchedRegion *region,
                          uint64_t frame)
{
    MsTagSearch *s = &apps->search;
    MsPopulate p = {
        .region = region, .frame = frame, .touched = FRAME_PAGES,
        .grant_flags = MS_GRANT_AHEAD,
    };
    unsigned wanted;

    ms_lock(&region->lock);
    ms_tagged_select_locked(region, frame, s->release.epoch->slot,
                         s->release.first, s->release.count, &p.want);
    ms_unlock(&region->lock);
    wanted = ms_pageset_count(&p.want);
    if (wanted > 0 &&
        ms_tagged_populate(&p, MS_TAGGED_BY_RELEASE, NULL) < wanted) {
        /* No more to be had: the rest comes by touch. */
        s->release_refused = true;
    }
}

/* True: something was done. */
static bool release_step(MsTagger *t, MemSchedClient *client)
{
    MsApps *apps = client->apps;
    MsTagSearch *s = &apps->search;
    unsigned frames = 0;
    MemSchedRegion **regions;
    size_t count;

    if (!begin_release(apps)) {
        return false;
    }
    regions = ms_client_regions(client, &count);
    while (s->release_region < count && frames < RELEASE_FRAMES &&
           !s->release_refused) {
        MemSchedRegion *region = regions[s->release_region];

        if (s->release_frame >= region->pages.frames ||
            !ms_region_enter_locked(region)) {
            s->release_region++;
            s->release_frame = 0;
            continue;
        }
        while (s->release_frame < region->pages.frames &&
               ms_tag_map_frame(&region->tags, s->release_frame) == 0) {
            s->release_frame++;
        }
        ms_unlock(&region->lock);
        if (s->release_frame < region->pages.frames) {
            release_frame(apps, region, s->release_frame++);
            frames++;
        }
        ms_region_leave(region);
    }
    if (s->release_region >= count || s->release_refused) {
        frames += end_release(t, apps);
    }
    for (size_t i = 0; i < count; i++) {
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return frames > 0;
}

/* ---- look ---- */

/* Frames of an entered region: what was captured. */
static uint64_t look(MsTagger *t, MemSchedRegion *region, uint64_t first,
                     uint64_t count, bool hinted)
{
    MsApps *apps = region->client->apps;
    MsCaptureTags *tc = &t->capture;
    uint64_t before = now_ns(t);

    t->scan.scanned = 0;
    t->scan.rejected = 0;
    tc->scan = &t->scan;
    tc->captured_pages = 0;
    tc->rejected_pages = 0;
    tc->flushes = 0;
    tc->again_ns = 0;
    tc->hinted = hinted;
    ms_lock(&apps->lock);
    tc->split = apps->urge_pages > 0;
    ms_unlock(&apps->lock);
    tc->split |= ms_is_short(t->ms);

    ms_scan_frames(&t->scan, region, first, count);
    before = now_ns(t) - before;
#ifdef MEMSCHED_DEBUG
    if (t->ms->found_hook) {
        t->ms->found_hook(t->ms->found_opaque, region);
    }
#endif
    ms_capture_tags(tc);
    ms_scan_end(&t->scan);
    t->tokens -= tc->flushes;

    ms_lock(&apps->lock);
    apps->counters.scanned += t->scan.scanned;
    apps->counters.scan_ns += before;
    apps->counters.rejected += t->scan.rejected + tc->rejected_pages;
    apps->urge_pages -= MIN(apps->urge_pages, tc->captured_pages);
    ms_unlock(&apps->lock);
    apps->search.window_captured += tc->captured_pages;
    if (tc->again_ns > 0) {
        apps->search.again_ns = MIN(apps->search.again_ns, tc->again_ns);
    }
    return tc->captured_pages;
}

/* ---- hints ---- */

static void look_at_hint(MsTagger *t, MsGpaMap *map,
                         const MemSchedAppHint *hint)
{
    MemSchedGpaRange range = {
        .gpa = hint->gpa,
        .length_bytes = hint->count_pages << MEMSCHED_PAGE_SHIFT,
    };
    uint64_t refused = 0;
    MsRuns runs;

    ms_runs_init(&runs);
    if (ms_gpamap_translate(map, &range, 1, &runs, &refused) == 0) {
        for (size_t i = 0; i < runs.count; i++) {
            MsRun *run = &runs.run[i];
            uint64_t frame = run->first / FRAME_PAGES;
            uint64_t end = (run->first + run->count - 1) / FRAME_PAGES + 1;

            if (!ms_region_enter_locked(run->region)) {
                continue;
            }
            ms_unlock(&run->region->lock);
            for (uint64_t n; frame < end; frame += n) {
                n = MIN(end - frame, MS_SCAN_FRAMES);
                look(t, run->region, frame, n, true);
            }
            ms_region_leave(run->region);
        }
    }
    ms_runs_destroy(&runs);
}

static bool next_hint(MsApps *apps, MemSchedAppHint *ret_hint)
{
    bool any;

    ms_lock(&apps->lock);
    any = apps->hints > 0;
    if (any) {
        *ret_hint = apps->hint[apps->first_hint];
        apps->first_hint = (apps->first_hint + 1) % MS_APP_HINTS;
        apps->hints--;
    }
    ms_unlock(&apps->lock);
    return any;
}

static bool hint_step(MsTagger *t, MemSchedClient *client)
{
    MemSchedAppHint hint, more;
    bool any = false, have;
    MsGpaMap *map = ms_client_map(client);

    have = next_hint(client->apps, &hint);
    for (unsigned i = 0; i < HINTS_A_STEP && have && may_move(t); i++) {
        /* A guest tells page by page what is one run: look once. */
        while ((have = next_hint(client->apps, &more)) &&
               more.gpa == hint.gpa +
                           (hint.count_pages << MEMSCHED_PAGE_SHIFT)) {
            hint.count_pages += more.count_pages;
        }
        look_at_hint(t, map, &hint);
        hint = more;
        any = true;
    }
    if (have) {
        look_at_hint(t, map, &hint);
    }
    ms_gpamap_unref(map);
    return any;
}

/* ---- passes ---- */

static void check_thrash(MsTagger *t, MsApps *apps, uint64_t now)
{
    MsTagSearch *s = &apps->search;
    uint64_t returned;

    if (now < s->window_ns + WINDOW_NS) {
        return;
    }
    ms_lock(&apps->lock);
    returned = apps->counters.returned_by_fault;
    ms_unlock(&apps->lock);
    if (returned - s->window_returned >= WINDOW_MIN &&
        (returned - s->window_returned) * 4 > s->window_captured) {
        s->rest_until_ns = now + (REST_MIN_NS << MIN(s->rests,
                                                     REST_DOUBLINGS));
        s->rests++;
    } else if (now > s->rest_until_ns + WINDOW_NS) {
        s->rests = 0;
    }
    s->window_ns = now;
    s->window_captured = 0;
    s->window_returned = returned;
}

/* Is something told and not found, and is it time? */
static bool wants_search(MsTagger *t, MsApps *apps)
{
    MsTagSearch *s = &apps->search;
    uint64_t now = now_ns(t);
    bool missing, told;

    ms_lock(&apps->lock);
    missing = apps->epochs.told > apps->epochs.credited;
    told = apps->told;
    apps->told = false;
    ms_unlock(&apps->lock);

    check_thrash(t, apps, now);
    if (told || now >= s->again_ns) {
        s->again_ns = UINT64_MAX;
        s->backoff_ns = 0;
        s->next_ns = MIN(s->next_ns, now + PASS_MIN_NS);
    }
    if (!missing) {
        s->passing = false;
        s->idle = true;
        return false;
    }
    if (s->idle && !told) {
        /* Pages have come back: whoever touched one may touch more. */
        s->next_ns = now + RETURN_NS;
    }
    s->idle = false;
    if (now < s->rest_until_ns) {
        s->passing = false;
        wake_at(t, s->rest_until_ns);
        return false;
    }
    if (!s->passing && now < s->next_ns) {
        wake_at(t, MIN(s->next_ns, s->again_ns));
        return false;
    }
    return true;
}

static void end_pass(MsTagger *t, MsTagSearch *s)
{
    uint64_t now = now_ns(t), took = now - s->pass_ns;

    if (s->found > 0) {
        s->backoff_ns = 0;
        s->next_ns = now + MAX(took, PASS_MIN_NS);
    } else {
        s->backoff_ns = s->backoff_ns
                        ? MIN(s->backoff_ns * 2, BACKOFF_MAX_NS)
                        : BACKOFF_MIN_NS;
        s->next_ns = now + s->backoff_ns;
    }
    s->passing = false;
    wake_at(t, MIN(s->next_ns, s->again_ns));
}

static void begin_pass(MsTagger *t, MsTagSearch *s, size_t regions)
{
    s->passing = true;
    s->pass_ns = now_ns(t);
    s->regions = regions;
    s->region = 0;
    s->frame = 0;
    s->found = 0;
}

static bool search_step(MsTagger *t, MemSchedClient *client)
{
    MsTagSearch *s = &client->apps->search;
    unsigned frames = 0;
    MemSchedRegion **regions;
    size_t count;

    if (!wants_search(t, client->apps)) {
        return false;
    }
    regions = ms_client_regions(client, &count);
    if (!s->passing || s->regions != count) {
        begin_pass(t, s, count);
    }
    while (s->region < count && frames < STEP_FRAMES && may_move(t)) {
        MemSchedRegion *region = regions[s->region];
        uint64_t n;

        if (s->frame >= region->pages.frames || !region->movable ||
            !ms_region_enter_locked(region)) {
            s->region++;
            s->frame = 0;
            continue;
        }
        ms_unlock(&region->lock);
        n = MIN(region->pages.frames - s->frame, MS_SCAN_FRAMES);
        s->found += look(t, region, s->frame, n, false);
        ms_region_leave(region);
        s->frame += n;
        frames += n;
    }
    if (s->region >= count) {
        end_pass(t, s);
    }
    for (size_t i = 0; i < count; i++) {
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return frames > 0;
}

/* ---- the thread ---- */

static bool client_step(MsTagger *t, MemSchedClient *client)
{
    bool any;

    if (client->apps == NULL) {
        return false;
    }
    any = release_step(t, client);
    if (ms_client_capture_enter(client, true)) {
        any |= hint_step(t, client);
        any |= search_step(t, client);
        ms_client_capture_leave(client);
    }
    return any;
}

static bool pass(MsTagger *t)
{
    MemSchedClient **clients;
    bool any = false;
    size_t count;

    t->turn++;
    t->wake_ns = UINT64_MAX;
    clients = ms_clients(t->ms, &count);
    for (size_t i = 0; i < count; i++) {
        any |= client_step(t, clients[(t->turn + i) % count]);
    }
    for (size_t i = 0; i < count; i++) {
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    return any;
}

static void *tagger_thread(void *opaque)
{
    MsTagger *t = opaque;
    const MsSys *sys = t->ms->sys;
    uint64_t now;
    bool any;

    sys->name_thread(sys, "memsched/tagger");
    ms_lock(&t->lock);
    while (!t->stop) {
        t->kicked = false;
        ms_unlock(&t->lock);
        any = pass(t);
        now = now_ns(t);
        ms_lock(&t->lock);
        if (any || t->stop || t->kicked || t->wake_ns <= now) {
            continue;
        }
        if (t->wake_ns == UINT64_MAX) {
            ms_cond_wait(&t->cond, &t->lock);
        } else {
            ms_cond_wait_ns(&t->cond, &t->lock, t->wake_ns - now);
        }
    }
    ms_unlock(&t->lock);
    return NULL;
}

void ms_tagger_kick(MsTagger *tagger)
{
    if (tagger) {
        ms_lock(&tagger->lock);
        tagger->kicked = true;
        ms_cond_signal(&tagger->cond);
        ms_unlock(&tagger->lock);
    }
}

int ms_tagger_start(MemSched *ms, MsTagger **ret_tagger)
{
    MsTagger *tagger = g_new0(MsTagger, 1);

    tagger->ms = ms;
    tagger->filled_ns = now_ns(tagger);
    ms_lock_init(&tagger->lock, MS_RANK_LEAF);
    ms_cond_init(&tagger->cond);
    tagger->thread = g_thread_try_new("memsched/tagger", tagger_thread,
                                      tagger, NULL);
    if (tagger->thread == NULL) {
        ms_cond_destroy(&tagger->cond);
        ms_lock_destroy(&tagger->lock);
        g_free(tagger);
        return -EAGAIN;
    }
    *ret_tagger = tagger;
    return 0;
}

void ms_tagger_stop(MsTagger *tagger)
{
    if (tagger == NULL) {
        return;
    }
    ms_lock(&tagger->lock);
    tagger->stop = true;
    ms_cond_signal(&tagger->cond);
    ms_unlock(&tagger->lock);
    g_thread_join(tagger->thread);
    ms_cond_destroy(&tagger->cond);
    ms_lock_destroy(&tagger->lock);
    g_free(tagger);
}
