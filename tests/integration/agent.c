/*
 * The agent of a pretended guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "agent.h"
#include "standard-headers/linux/virtio_balloon_ex.h"

#define WAIT_US (20 * G_USEC_PER_SEC)
/* Told in pieces of so many pages. */
#define PIECE   1500u

/* ---- callbacks: the scheduler's thread ---- */

static void reserve(void *opaque, const MemSchedAppOrder *order)
{
    Agent *a = opaque;

    ms_lock(&a->lock);
    g_assert_cmpuint(a->epochs, <, AGENT_EPOCHS);
    a->epoch[a->epochs++] = (AgentEpoch) { .order = *order };
    ms_cond_broadcast(&a->cond);
    ms_unlock(&a->lock);
}

static void cancel(void *opaque, uint32_t app, uint64_t cookie)
{
    Agent *a = opaque;

    ms_lock(&a->lock);
    a->cancels++;
    for (unsigned i = 0; i < a->epochs; i++) {
        if (a->epoch[i].order.cookie == cookie &&
            a->epoch[i].order.app == app) {
            a->epoch[i].cancelled = true;
        }
    }
    ms_cond_broadcast(&a->cond);
    ms_unlock(&a->lock);
}

static void release(void *opaque, const MemSchedAppRange *range)
{
    Agent *a = opaque;

    ms_lock(&a->lock);
    a->release[a->releases++ % G_N_ELEMENTS(a->release)] = *range;
    ms_unlock(&a->lock);
}

static void released(void *opaque, const MemSchedAppRange *range)
{
    Agent *a = opaque;

    ms_lock(&a->lock);
    a->released[a->released_count++ % G_N_ELEMENTS(a->released)] = *range;
    a->released_pages += range->count_pages;
    ms_cond_broadcast(&a->cond);
    ms_unlock(&a->lock);
}

static void answer(void *opaque, const MemSchedAppAnswer *answer)
{
    Agent *a = opaque;

    ms_lock(&a->lock);
    if (answer->status == MEMSCHED_ANSWER_QUEUED) {
        a->queued++;
    } else {
        a->answer = *answer;
        a->answers++;
    }
    ms_cond_broadcast(&a->cond);
    ms_unlock(&a->lock);
}

static void poll_stats(void *opaque)
{
    Agent *a = opaque;

    ms_lock(&a->lock);
    a->polls++;
    ms_unlock(&a->lock);
}

static const MemSchedAppOps ops = {
    .reserve = reserve, .cancel = cancel, .release = release,
    .released = released, .answer = answer, .poll_stats = poll_stats,
};

/* ---- tags ---- */

static char *address(const Agent *a, uint64_t page)
{
    return a->guest->ram + page * MEMSCHED_PAGE_SIZE;
}

void agent_tag(const Agent *a, const MemSchedAppOrder *order, uint64_t sequence,
               uint64_t page)
{
    memset(address(a, page), 0, MEMSCHED_PAGE_SIZE);
    vbx_tag_make((struct vbx_tag *)address(a, page), order->app, order->epoch,
                 sequence, order->key);
}

bool agent_is_tag(const Agent *a, const MemSchedAppOrder *order,
                  uint64_t sequence, uint64_t page)
{
    const uint64_t *word = (const uint64_t *)address(a, page);
    struct vbx_tag tag;

    vbx_tag_make(&tag, order->app, order->epoch, sequence, order->key);
    if (memcmp(word, &tag, sizeof(tag)) != 0) {
        return false;
    }
    for (unsigned i = sizeof(tag) / 8; i < MEMSCHED_PAGE_SIZE / 8; i++) {
        if (word[i]) {
            return false;
        }
    }
    return true;
}

void agent_assert_tag(const Agent *a, const MemSchedAppOrder *order,
                      uint64_t sequence, uint64_t page)
{
    if (!agent_is_tag(a, order, sequence, page)) {
        g_error("page %" G_GUINT64_FORMAT " is not tag %" G_GUINT64_FORMAT,
                page, sequence);
    }
}

/* ---- its work ---- */

static void tell(Agent *a, const MemSchedAppOrder *order, uint64_t first,
                 uint64_t count, MemSchedReserveStatus status,
                 MemSchedReason reason)
{
    MemSchedAppRange range = {
        .app = order->app, .epoch = order->epoch, .first_seq = first,
        .count_pages = count,
    };
    int ret = memsched_app_reserved(a->guest->client, order->cookie, &range,
                                    status, reason);

    /* An order that is over by now: reset, detached, too late. */
    g_assert_true(ret == 0 || ret == -ENOENT);
}

static void hint(Agent *a, const MemSchedAppOrder *order, uint64_t first,
                 uint64_t count, uint64_t page)
{
    MemSchedAppHint h = {
        .seq = first, .gpa = page << MEMSCHED_PAGE_SHIFT,
        .count_pages = count,
    };

    memsched_app_hints(a->guest->client, order->app, order->epoch, &h, 1);
}

static void work(Agent *a, AgentEpoch *e)
{
    const MemSchedAppOrder *o = &e->order;
    uint64_t want = o->bytes >> MEMSCHED_PAGE_SHIFT, give, page;
    MemSchedReserveStatus status = MEMSCHED_RESERVE_WHOLE;
    MemSchedReason reason = MEMSCHED_REASON_NONE;

    ms_lock(&a->lock);
    give = MIN(want, MIN(a->most[o->app], a->count - a->used));
    page = a->first + a->used;
    e->page = page;
    a->used += give;
    a->most[o->app] -= a->most[o->app] == UINT64_MAX ? 0 : give;
    ms_unlock(&a->lock);
    for (uint64_t done = 0, n; done < give; done += n) {
        n = MIN(give - done, PIECE);
        for (uint64_t i = done; i < done + n && !a->liar; i++) {
            agent_tag(a, o, i, page + i);
        }
        tell(a, o, done, n, MEMSCHED_RESERVE_PROGRESS, MEMSCHED_REASON_NONE);
        if (a->hints) {
            hint(a, o, done, n, page + done);
        }
    }
    if (give < want) {
        status = give ? MEMSCHED_RESERVE_PARTIAL : MEMSCHED_RESERVE_REFUSED;
        reason = a->reason;
    }
    tell(a, o, 0, 0, status, reason);
    ms_lock(&a->lock);
    e->told = give;
    ms_unlock(&a->lock);
}

/* What was released is unmapped. */
static void unmap(Agent *a, const MemSchedAppRange *range)
{
    if (!a->keeps) {
        memsched_app_unmapped(a->guest->client, range);
    }
}

static gpointer agent_thread(gpointer opaque)
{
    unsigned unmapped = 0;
    Agent *a = opaque;

    ms_lock(&a->lock);
    while (!a->stop) {
        if (unmapped < a->released_count) {
            MemSchedAppRange range =
                a->released[unmapped++ % G_N_ELEMENTS(a->released)];

            ms_unlock(&a->lock);
            unmap(a, &range);
            ms_lock(&a->lock);
        } else if (a->worked < MIN(a->epochs, a->work_until) &&
                   !a->quiet) {
            AgentEpoch *e = &a->epoch[a->worked];

            ms_unlock(&a->lock);
            work(a, e);
            ms_lock(&a->lock);
            a->worked++;
            ms_cond_broadcast(&a->cond);
        } else {
            ms_cond_wait(&a->cond, &a->lock);
        }
    }
    ms_unlock(&a->lock);
    return NULL;
}

/* ---- its life ---- */

void agent_add(Agent *a, uint32_t app, unsigned priority, bool is_agent,
               uint64_t offer)
{
    g_autofree char *name = g_strdup_printf("app%u", app);
    MemSchedAppOptions options = {
        .app = app, .name = name, .reserves = true, .priority = priority,
        .agent = is_agent,
        .offer_bytes = offer == UINT64_MAX ? offer
                                           : offer << MEMSCHED_PAGE_SHIFT,
    };

    g_assert_cmpint(memsched_app_register(a->guest->client, &options), ==, 0);
}

Agent *agent_new(Guest *guest, uint64_t first, uint64_t count)
{
    Agent *a = g_new0(Agent, 1);

    a->guest = guest;
    a->first = first;
    a->count = count;
    a->reason = MEMSCHED_REASON_PRESSURE;
    a->work_until = UINT_MAX;
    memset(a->most, 0xff, sizeof(a->most));
    ms_lock_init(&a->lock, MS_RANK_LEAF);
    ms_cond_init(&a->cond);
    g_assert_cmpint(memsched_client_attach_apps(guest->client, &ops, a,
                                                a->session), ==, 0);
    agent_add(a, 1, 5, true, UINT64_MAX);
    a->thread = g_thread_new("agent", agent_thread, a);
    return a;
}

void agent_free(Agent *a)
{
    ms_lock(&a->lock);
    a->stop = true;
    ms_cond_broadcast(&a->cond);
    ms_unlock(&a->lock);
    g_thread_join(a->thread);
    memsched_client_detach_apps(a->guest->client, a);
    ms_cond_destroy(&a->cond);
    ms_lock_destroy(&a->lock);
    g_free(a);
}

/* ---- waiting ---- */

MemSchedAppsInfo agent_query_all(Agent *a)
{
    MemSchedAppsInfo info;

    g_assert_cmpint(memsched_query_apps(a->guest->ms, a->guest->id, &info),
                    ==, 0);
    return info;
}

MemSchedAppInfo agent_query(Agent *a, uint32_t app)
{
    MemSchedAppsInfo info = agent_query_all(a);

    for (size_t i = 0; i < info.apps_count; i++) {
        if (info.app[i].app == app) {
            return info.app[i];
        }
    }
    return (MemSchedAppInfo) { 0 };
}

void agent_wait_captured(Agent *a, uint64_t pages)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedClientInfo info;

    guest_check(a->guest->ms);  /* a touch goes on before its books do */
    do {
        g_assert_cmpint(memsched_query_client(a->guest->ms, a->guest->id,
                                              &info), ==, 0);
        if (info.ballooned_application_bytes >= pages * MEMSCHED_PAGE_SIZE) {
            return;
        }
        g_usleep(100);
    } while (g_get_monotonic_time() < end);
    g_error("guest %s: %" G_GUINT64_FORMAT " KiB credited after 20 s, not %"
            G_GUINT64_FORMAT, a->guest->id,
            info.ballooned_application_bytes / 1024, pages * 4);
}

void agent_wait_worked(Agent *a, unsigned orders)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    ms_lock(&a->lock);
    while (a->worked < orders) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        ms_cond_wait_ns(&a->cond, &a->lock, 1000000000);
    }
    ms_unlock(&a->lock);
}

void agent_wait_released(Agent *a, uint64_t pages)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    ms_lock(&a->lock);
    while (a->released_pages < pages) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        ms_cond_wait_ns(&a->cond, &a->lock, 1000000000);
    }
    ms_unlock(&a->lock);
}

MemSchedAppAnswer agent_wait_answer(Agent *a, unsigned answers)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedAppAnswer last;

    ms_lock(&a->lock);
    while (a->answers < answers) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        ms_cond_wait_ns(&a->cond, &a->lock, 1000000000);
    }
    last = a->answer;
    ms_unlock(&a->lock);
    return last;
}
