/*
 * Requests of balloon applications: the way in
 *
 * Owns the checks of a request, and the first answer to it: noted.  What comes
 * of it is scheduler-request.c's.
 *
 * A request is noted and answered in one step of the ledger's, so that the
 * answer "noted" always comes before the one that ends it.
 *
 * Threads: any.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "app.h"
#include "scheduler-int.h"

#define PRIORITY_MAX 9u
#define DEADLINE_MAX_MS 600000u
#define NS_PER_MS UINT64_C(1000000)

/* Whose it is: 0, -ENOTCONN, -ENOENT. */
static int sign(MsApps *apps, MsRequest *r)
{
    MsApp *app;
    int ret = 0;

    ms_lock(&apps->lock);
    app = ms_apps_find_locked(apps, r->app);
    if (!apps->attached) {
        ret = -ENOTCONN;
    } else if (r->app != 0 && app == NULL) {
        ret = -ENOENT;
    } else {
        r->session = apps->sessions;
        r->serial = app ? app->serial : 0;
    }
    ms_unlock(&apps->lock);
    return ret;
}

static int note_locked(MemSchedClient *client, const MsRequest *request)
{
    MsSched *sched = client->ms->sched;
    MsAppCall call = {
        .kind = MS_APP_CALL_ANSWER,
        .answer = {
            .app = request->app, .cookie = request->cookie,
            .status = MEMSCHED_ANSWER_QUEUED,
        },
    };
    MsRequest *noted;
    int ret = 0;

    /* Those of an earlier session do not count. */
    ms_sched_requests_purge_locked(sched, client, false, request->start_ns);
    noted = ms_requests_add(&sched->requests, request, &ret);
    if (noted && ms_apps_post(client->apps, &call) < 0) {
        /* So many answers wait unread: as good as too many open. */
        ms_requests_remove(&sched->requests, noted);
        ret = -ENOSPC;
    }
    return ret;
}

int memsched_app_request(MemSchedClient *client,
                         const MemSchedAppRequest *request)
{
    MemSched *ms = client->ms;
    uint64_t now_ns = ms->sys->now_ns(ms->sys);
    MsRequest r = {
        .client = client, .app = request->app, .cookie = request->cookie,
        /* No overflow: the remainder is added after the shift. */
        .pages = (request->bytes >> MEMSCHED_PAGE_SHIFT) +
                 (request->bytes % MEMSCHED_PAGE_SIZE != 0),
        .priority = request->priority, .want = request->want,
        .start_ns = now_ns, .next_try_ns = now_ns,
        .deadline_ns = now_ns + request->deadline_ms * NS_PER_MS,
        .retry_ns = MS_REQUEST_RETRY_NS,
    };
    int ret;

    if (request->bytes == 0 || request->bytes > INT64_MAX ||
        request->priority > PRIORITY_MAX ||
        request->deadline_ms > DEADLINE_MAX_MS) {
        return -EINVAL;
    }
    ret = sign(client->apps, &r);
    if (ret < 0) {
        return ret;
    }
    ms_lock(&ms->ledger_lock);
    ret = note_locked(client, &r);
    ms_unlock(&ms->ledger_lock);
    if (ret == 0) {
        ms_sched_kick(ms->sched);
    }
    return ret;
}

int memsched_app_cancel(MemSchedClient *client, uint32_t app, uint64_t cookie)
{
    MemSched *ms = client->ms;
    MsRequest *r;

    ms_lock(&ms->ledger_lock);
    r = ms_requests_find(&ms->sched->requests, client, app, cookie);
    if (r) {
        r->withdrawn = true;
        ms_sched_requests_stop_locked(ms->sched, r,
                                      ms->sys->now_ns(ms->sys));
    }
    ms_unlock(&ms->ledger_lock);
    if (r) {
        ms_sched_kick(ms->sched);
    }
    return r ? 0 : -ENOENT;
}
