/*
 * Balloon applications of one guest
 *
 * Owns the connection (its callbacks, its session), the list of applications
 * with their keys, what they say of themselves, and the queue of what the
 * library has to say to them.
 *
 * A call to the agent may be wanted in any thread and under any lock, but is
 * made by the scheduler's thread alone: so it is queued here, and a kick makes
 * that thread come.  The queue is bounded, since a guest can cause calls
 * faster than it reads them; whoever causes one too many is told so.
 *
 * A session begins when the connection opens and when the machine is reset,
 * restored or has migrated in.  Nothing of an earlier one counts any more: its
 * applications, its orders (epoch.c), its queue.
 *
 * Detaching waits until no callback runs, as memsched_client_detach() does:
 * whoever detaches may take the code and data behind them away.
 *
 * Threads: any.  Locks: apps->lock, a leaf, so keys and sessions are drawn
 * before it is taken, and the scheduler's thread is kicked after.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "app.h"
#include "instance.h"
#include "scheduler.h"

#define APP_NUMBER_MAX  65535u
#define PRIORITY_MAX    9u
#define VETO_MAX_MS     60000u
#define NS_PER_MS       UINT64_C(1000000)

static uint64_t now_ns(const MsApps *apps)
{
    return apps->client->ms->sys->now_ns(apps->client->ms->sys);
}

static int draw(const MsApps *apps, void *buf, size_t bytes)
{
    const MsSys *sys = apps->client->ms->sys;

    return sys->random(sys, buf, bytes);
}

MsApps *ms_apps_new(MemSchedClient *client)
{
    MsApps *apps = g_new0(MsApps, 1);

    apps->client = client;
    ms_lock_init(&apps->lock, MS_RANK_LEAF);
    ms_cond_init(&apps->cond);
    memset(apps->guest_stat, 0xff, sizeof(apps->guest_stat));
    return apps;
}

void ms_apps_free(MsApps *apps)
{
    if (apps) {
        ms_epochs_destroy(&apps->epochs);
        ms_cond_destroy(&apps->cond);
        ms_lock_destroy(&apps->lock);
        g_free(apps);
    }
}

MsApp *ms_apps_find_locked(MsApps *apps, uint32_t number)
{
    for (unsigned i = 0; i < MEMSCHED_APPS_MAX && number != 0; i++) {
        if (apps->app[i].number == number) {
            return &apps->app[i];
        }
    }
    return NULL;
}

/* ---- what is said to them ---- */

int ms_apps_post_locked(MsApps *apps, const MsAppCall *call)
{
    if (!apps->attached) {
        return -ENOTCONN;
    }
    if (apps->calls == MS_APP_CALLS) {
        return -EAGAIN;
    }
    apps->call[(apps->first_call + apps->calls++) % MS_APP_CALLS] = *call;
    return 0;
}

int ms_apps_post(MsApps *apps, const MsAppCall *call)
{
    int ret;

    ms_lock(&apps->lock);
    ret = ms_apps_post_locked(apps, call);
    ms_unlock(&apps->lock);
    return ret;
}

void ms_apps_kick(MsApps *apps)
{
    ms_sched_kick(apps->client->ms->sched);
}

void ms_apps_poll(MsApps *apps)
{
    MsAppCall call = { .kind = MS_APP_CALL_POLL };

    if (apps == NULL) {
        return;
    }
    ms_lock(&apps->lock);
    if (!apps->poll_waits && ms_apps_post_locked(apps, &call) == 0) {
        apps->poll_waits = true;
    }
    ms_unlock(&apps->lock);
}

bool ms_apps_enter(MsApps *apps, MemSchedAppOps *ret_ops, void **ret_opaque)
{
    bool attached;

    ms_lock(&apps->lock);
    attached = apps->attached;
    if (attached) {
        apps->callbacks++;
        *ret_ops = apps->ops;
        *ret_opaque = apps->opaque;
    }
    ms_unlock(&apps->lock);
    return attached;
}

void ms_apps_leave(MsApps *apps)
{
    ms_lock(&apps->lock);
    if (--apps->callbacks == 0) {
        ms_cond_broadcast(&apps->cond);
    }
    ms_unlock(&apps->lock);
}

static void make_call(const MemSchedAppOps *ops, void *opaque,
                      const MsAppCall *call)
{
    switch (call->kind) {
    case MS_APP_CALL_RESERVE:
        if (ops->reserve) {
            ops->reserve(opaque, &call->order);
        }
        break;
    case MS_APP_CALL_CANCEL:
        if (ops->cancel) {
            ops->cancel(opaque, call->cancel.app, call->cancel.cookie);
        }
        break;
    case MS_APP_CALL_RELEASE:
        if (ops->release) {
            ops->release(opaque, &call->range);
        }
        break;
    case MS_APP_CALL_RELEASED:
        if (ops->released) {
            ops->released(opaque, &call->range);
        }
        break;
    case MS_APP_CALL_ANSWER:
        if (ops->answer) {
            ops->answer(opaque, &call->answer);
        }
        break;
    case MS_APP_CALL_POLL:
        if (ops->poll_stats) {
            ops->poll_stats(opaque);
        }
        break;
    }
}

/* The oldest call, and the right to make it, which ms_apps_leave() ends. */
static bool next_call(MsApps *apps, MemSchedAppOps *ret_ops,
                      void **ret_opaque, MsAppCall *ret_call)
{
    bool any;

    ms_lock(&apps->lock);
    any = apps->attached && apps->calls > 0;
    if (any) {
        *ret_call = apps->call[apps->first_call];
        apps->first_call = (apps->first_call + 1) % MS_APP_CALLS;
        apps->calls--;
        apps->poll_waits &= ret_call->kind != MS_APP_CALL_POLL;
        apps->callbacks++;
        *ret_ops = apps->ops;
        *ret_opaque = apps->opaque;
    }
    ms_unlock(&apps->lock);
    return any;
}

void ms_apps_deliver(MsApps *apps)
{
    MemSchedAppOps ops;
    MsAppCall call;
    void *opaque;

    while (apps && next_call(apps, &ops, &opaque, &call)) {
        make_call(&ops, opaque, &call);
        ms_apps_leave(apps);
    }
}

/* ---- connection and session ---- */

/* Those of application @number, or (0) of all. */
static void kill_epochs_locked(MsApps *apps, uint32_t number)
{
    MsEpochs *epochs = &apps->epochs;

    for (unsigned i = 0; i < MS_EPOCHS && epochs->count > 0; i++) {
        MsEpoch *epoch = epochs->slot[i];

        if (epoch && epoch->live && (number == 0 || epoch->app == number)) {
            ms_epoch_kill(epochs, epoch);
        }
    }
}

void ms_apps_reset(MsApps *apps)
{
    if (apps) {
        ms_lock(&apps->lock);
        kill_epochs_locked(apps, 0);
        ms_unlock(&apps->lock);
    }
}

/* Nothing of the session that was counts any more. */
static void end_session_locked(MsApps *apps)
{
    kill_epochs_locked(apps, 0);
    memset(apps->app, 0, sizeof(apps->app));
    apps->count = 0;
    apps->hints = 0;
    apps->urge_pages = 0;
    apps->sessions++;
    apps->calls = 0;
    apps->poll_waits = false;
}

static void begin_session_locked(MsApps *apps,
                                 const uint8_t session[MEMSCHED_SESSION_BYTES])
{
    end_session_locked(apps);
    memcpy(apps->session, session, MEMSCHED_SESSION_BYTES);
}

int memsched_client_attach_apps(MemSchedClient *client,
                                const MemSchedAppOps *ops, void *opaque,
                                uint8_t ret_session[MEMSCHED_SESSION_BYTES])
{
    MsApps *apps = client->apps;
    uint8_t session[MEMSCHED_SESSION_BYTES];
    int ret = draw(apps, session, sizeof(session));

    if (ret < 0) {
        return ret;
    }
    ms_lock(&apps->lock);
    if (apps->attached || apps->detaching > 0 ||
        atomic_load(&client->ending)) {
        ret = -EBUSY;
    } else {
        apps->ops = *ops;
        apps->opaque = opaque;
        apps->attached = true;
        begin_session_locked(apps, session);
    }
    ms_unlock(&apps->lock);
    if (ret == 0) {
        memcpy(ret_session, session, sizeof(session));
    }
    return ret;
}

static void detach_locked(MsApps *apps)
{
    apps->attached = false;
    end_session_locked(apps);
    apps->detaching++;
    while (apps->callbacks > 0) {
        ms_cond_wait(&apps->cond, &apps->lock);
    }
    apps->detaching--;
    apps->ops = (MemSchedAppOps) { 0 };
    apps->opaque = NULL;
}

void memsched_client_detach_apps(MemSchedClient *client, void *opaque)
{
    MsApps *apps = client->apps;

    ms_lock(&apps->lock);
    if (apps->attached && apps->opaque == opaque) {
        detach_locked(apps);
    }
    ms_unlock(&apps->lock);
}

void ms_apps_end(MsApps *apps)
{
    if (apps) {
        ms_lock(&apps->lock);
        detach_locked(apps);
        ms_unlock(&apps->lock);
    }
}

int memsched_client_new_session(MemSchedClient *client,
                                uint8_t ret_session[MEMSCHED_SESSION_BYTES])
{
    MsApps *apps = client->apps;
    uint8_t session[MEMSCHED_SESSION_BYTES];
    int ret = draw(apps, session, sizeof(session));

    if (ret < 0) {
        return ret;
    }
    ms_lock(&apps->lock);
    if (apps->attached) {
        begin_session_locked(apps, session);
    } else {
        ret = -ENOTCONN;
    }
    ms_unlock(&apps->lock);
    if (ret == 0) {
        memcpy(ret_session, session, sizeof(session));
    }
    return ret;
}

/* ---- applications ---- */

static bool is_valid(const MemSchedAppOptions *o)
{
    return o->app >= 1 && o->app <= APP_NUMBER_MAX && o->name &&
           o->priority <= PRIORITY_MAX;
}

/* A name comes from a guest and goes to terminals and monitors. */
static void copy_name(char name[MEMSCHED_APP_NAME_MAX],
                      const char *untrusted_name)
{
    unsigned i;

    for (i = 0; i < MEMSCHED_APP_NAME_MAX - 1 && untrusted_name[i]; i++) {
        char c = untrusted_name[i];

        name[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    name[i] = '\0';
}

static void fill_app(MsApp *app, const MemSchedAppOptions *o,
                     const uint8_t key[MEMSCHED_KEY_BYTES], uint64_t serial)
{
    *app = (MsApp) {
        .number = o->app, .reserves = o->reserves, .agent = o->agent,
        .priority = o->priority, .offer_bytes = o->offer_bytes,
        .serial = serial, .cache_bytes = UINT64_MAX,
        .cache_hits = UINT64_MAX, .cache_misses = UINT64_MAX,
    };
    copy_name(app->name, o->name);
    memcpy(app->key, key, MEMSCHED_KEY_BYTES);
}

int memsched_app_register(MemSchedClient *client,
                          const MemSchedAppOptions *options)
{
    MsApps *apps = client->apps;
    uint8_t key[MEMSCHED_KEY_BYTES];
    int ret;

    if (!is_valid(options)) {
        return -EINVAL;
    }
    ret = draw(apps, key, sizeof(key));
    if (ret < 0) {
        return ret;
    }
    ms_lock(&apps->lock);
    if (!apps->attached) {
        ret = -ENOTCONN;
    } else if (ms_apps_find_locked(apps, options->app)) {
        ret = -EEXIST;
    } else if (apps->count == MEMSCHED_APPS_MAX) {
        ret = -ENOSPC;
    } else {
        unsigned i = 0;

        while (apps->app[i].number != 0) {
            i++;
        }
        fill_app(&apps->app[i], options, key, ++apps->serials);
        apps->count++;
    }
    ms_unlock(&apps->lock);
    if (ret == 0) {
        ms_apps_kick(apps);
    }
    return ret;
}

int memsched_app_unregister(MemSchedClient *client, uint32_t app)
{
    MsApps *apps = client->apps;
    MsApp *a;

    ms_lock(&apps->lock);
    a = ms_apps_find_locked(apps, app);
    if (a) {
        kill_epochs_locked(apps, app);
        *a = (MsApp) { 0 };
        apps->count--;
    }
    ms_unlock(&apps->lock);
    return a ? 0 : -ENOENT;
}

int memsched_app_veto(MemSchedClient *client, uint32_t app,
                      unsigned duration_ms, MemSchedReason reason)
{
    MsApps *apps = client->apps;
    uint64_t now = now_ns(apps);
    MsApp *a;

    if (duration_ms > VETO_MAX_MS) {
        return -ERANGE;
    }
    ms_lock(&apps->lock);
    a = ms_apps_find_locked(apps, app);
    if (a) {
        a->veto_until_ns = duration_ms ? now + duration_ms * NS_PER_MS : 0;
        a->veto_reason = reason < MEMSCHED_REASONS ? reason
                                                   : MEMSCHED_REASON_NONE;
    }
    ms_unlock(&apps->lock);
    if (a) {
        ms_apps_kick(apps);
    }
    return a ? 0 : -ENOENT;
}

/* ---- statistics ---- */

static void take_app_stats(MsApp *app, const MemSchedAppStat *stats,
                           size_t count, uint64_t now)
{
    for (size_t i = 0; i < count; i++) {
        switch (stats[i].tag) {
        case MEMSCHED_APP_STAT_CACHE_SIZE:
            app->cache_bytes = stats[i].value;
            break;
        case MEMSCHED_APP_STAT_CACHE_HITS:
            app->cache_hits = stats[i].value;
            break;
        case MEMSCHED_APP_STAT_CACHE_MISSES:
            app->cache_misses = stats[i].value;
            break;
        default:
            break;
        }
    }
    app->stats_ns = now;
}

/* The balloon's numbering of what both can tell. */
static void share_with_balloon(MemSchedClient *client,
                               const MemSchedAppStat *stats, size_t count,
                               uint64_t now)
{
    static const uint8_t balloon[MEMSCHED_APP_STATS] = {
        [MEMSCHED_APP_STAT_TOTAL] = MEMSCHED_STAT_TOTAL,
        [MEMSCHED_APP_STAT_FREE] = MEMSCHED_STAT_FREE,
        [MEMSCHED_APP_STAT_AVAILABLE] = MEMSCHED_STAT_AVAILABLE,
        [MEMSCHED_APP_STAT_CACHED] = MEMSCHED_STAT_CACHES,
    };

    ms_lock(&client->lock);
    /* A balloon driver that samples knows more. */
    if (!client->attached || client->stats_ns == 0 || client->app_stats) {
        for (size_t i = 0; i < count; i++) {
            uint32_t tag = stats[i].tag;

            if (tag >= MEMSCHED_APP_STAT_TOTAL &&
                tag <= MEMSCHED_APP_STAT_CACHED) {
                client->stats[balloon[tag]] = stats[i].value;
                client->stats_ns = now;
                client->app_stats = true;
            }
        }
    }
    ms_unlock(&client->lock);
}

int memsched_app_stats(MemSchedClient *client, uint32_t app,
                       const MemSchedAppStat *stats, size_t count)
{
    MsApps *apps = client->apps;
    uint64_t now = now_ns(apps);
    MsApp *a;
    int ret = 0;

    ms_lock(&apps->lock);
    a = ms_apps_find_locked(apps, app);
    if (!apps->attached) {
        ret = -ENOTCONN;
    } else if (app != 0 && a == NULL) {
        ret = -ENOENT;
    } else if (a) {
        take_app_stats(a, stats, count, now);
    } else {
        for (size_t i = 0; i < count; i++) {
            if (stats[i].tag < MEMSCHED_APP_STATS) {
                apps->guest_stat[stats[i].tag] = stats[i].value;
            }
        }
        apps->guest_stats_ns = now;
    }
    ms_unlock(&apps->lock);
    if (ret == 0 && app == 0) {
        share_with_balloon(client, stats, count, now);
    }
    return ret;
}

/* ---- what is ---- */

static void add_epochs(const MsEpochs *epochs, MemSchedAppInfo *info)
{
    for (unsigned i = 0; i < MS_EPOCHS && epochs->count > 0; i++) {
        const MsEpoch *epoch = epochs->slot[i];

        if (epoch && epoch->live && epoch->app == info->app) {
            info->ordered_bytes += epoch->pages << MEMSCHED_PAGE_SHIFT;
            info->reserved_bytes += epoch->told << MEMSCHED_PAGE_SHIFT;
            info->captured_bytes += epoch->credited << MEMSCHED_PAGE_SHIFT;
        }
    }
}

static void show_app(const MsApp *app, uint64_t now, MemSchedAppInfo *ret_info)
{
    *ret_info = (MemSchedAppInfo) {
        .app = app->number, .reserves = app->reserves, .agent = app->agent,
        .priority = app->priority, .offer_bytes = app->offer_bytes,
        .veto_ms = app->veto_until_ns > now
                   ? (app->veto_until_ns - now + NS_PER_MS - 1) / NS_PER_MS
                   : 0,
        .cache_bytes = app->cache_bytes, .cache_hits = app->cache_hits,
        .cache_misses = app->cache_misses,
        .stats_age_ns = app->stats_ns ? now - app->stats_ns : UINT64_MAX,
    };
    g_strlcpy(ret_info->name, app->name, sizeof(ret_info->name));
}

int memsched_query_apps(MemSched *ms, const char *id,
                        MemSchedAppsInfo *ret_info)
{
    MemSchedClient *client = ms_client_get(ms, id);
    uint64_t now = ms->sys->now_ns(ms->sys);
    MsApps *apps;

    if (client == NULL) {
        return -ENOENT;
    }
    apps = client->apps;
    *ret_info = (MemSchedAppsInfo) { 0 };
    ms_lock(&apps->lock);
    ret_info->connected = apps->attached;
    ret_info->counters = apps->counters;
    ret_info->known_bytes = (apps->epochs.tag_pages - apps->epochs.credited)
                            << MEMSCHED_PAGE_SHIFT;
    for (unsigned i = 0; i < MEMSCHED_APPS_MAX; i++) {
        if (apps->app[i].number != 0) {
            MemSchedAppInfo *info = &ret_info->app[ret_info->apps_count++];

            show_app(&apps->app[i], now, info);
            add_epochs(&apps->epochs, info);
        }
    }
    ms_unlock(&apps->lock);
    ms_sched_requests_info(ms->sched, client, ret_info);
    memsched_client_condition(client, &ret_info->condition);
    ms_client_unref(client);
    return 0;
}
