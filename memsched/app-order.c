/*
 * Orders of memory to balloon applications
 *
 * Owns who is asked for how much.  Wishes come from transfers, added up for the
 * guest; each step compares them with what is on its way:
 *
 *     on its way = of orders that run: ordered, not found yet
 *                + of those that have ended: told within FOUND_NS, not found
 *
 * and asks for what is missing.  Applications are asked in rising priority, the
 * guest's own balloon (agent) as the last of equal ones, each up to what it
 * offers, one order at a time.  What one does not give is asked of the next one
 * at once.  Who gave less than it was asked for rests, longer each time, and is
 * asked again only for a wish that applications alone can fulfil; what anybody
 * may give goes to the kernel's balloon once every application has been asked.
 * Where all offers are used up and nothing is on its way, those that never
 * refused are asked beyond their offer, which is a guess of theirs.
 *
 * 2 MiB at a time while so much is missing, the rest in pages.
 *
 * A page that is told and not found within FOUND_NS is doubted: another one is
 * asked for, and its application rests.
 *
 * What is held beyond all wishes (a transfer ended early, or the guest gets
 * memory back) is released: what was never found first, then applications in
 * falling priority, newest epochs first, so in the reverse order of asking.
 * The kernel's balloon comes before all of them, as it is asked after all of
 * them: see scheduler-guest.c.
 *
 * An order that is not answered by its deadline is cancelled, and counts as
 * ended a second after that.
 *
 * Threads: steps in the scheduler's, answers in any.  Locks: apps->lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "app.h"
#include "app-order.h"
#include "instance.h"
#include "tagger.h"

#define NS_PER_MS       UINT64_C(1000000)
#define FRAME_PAGES     MEMSCHED_PAGES_PER_FRAME
/* So long after news a page that is told is believed to be found. */
#define FOUND_NS        (1000 * NS_PER_MS)
#define GRACE_NS        (1000 * NS_PER_MS)
#define REST_MIN_NS     (250 * NS_PER_MS)
#define REST_DOUBLINGS  5u
/* Between the last page told and the end of the wish: to find and move it. */
#define MARGIN_MS       500u
#define ORDER_MIN_MS    100u
/* As transfers urge the kernel's balloon: see transfer.c. */
#define URGE_IDLE_NS    (200 * NS_PER_MS)
#define URGE_LATE_NS    (1000 * NS_PER_MS)
#define RELEASES_A_STEP 8u

/* ---- how they answer ---- */

static const char *reason_text(MemSchedReason reason)
{
    static const char *const texts[MEMSCHED_REASONS] = {
        [MEMSCHED_REASON_NONE] = "it did not say why",
        [MEMSCHED_REASON_PRESSURE] = "its guest is short of memory",
        [MEMSCHED_REASON_LIMIT] = "a limit of its own",
        [MEMSCHED_REASON_DEADLINE] = "time was up",
        [MEMSCHED_REASON_VETO] = "it refuses for now",
        [MEMSCHED_REASON_BUSY] = "it is busy",
        [MEMSCHED_REASON_UNKNOWN] = "it is not there",
        [MEMSCHED_REASON_END] = "it ends",
        [MEMSCHED_REASON_HOST] = "the host has none",
        [MEMSCHED_REASON_CANCELLED] = "it was cancelled",
        [MEMSCHED_REASON_HIBERNATE] = "its guest hibernates",
    };

    return texts[reason < MEMSCHED_REASONS ? reason : MEMSCHED_REASON_NONE];
}

/* It is not asked again at once. */
static void rest_locked(MsApp *app, uint64_t now)
{
    app->rest_until_ns = now + (REST_MIN_NS << MIN(app->rests,
                                                   REST_DOUBLINGS));
    app->rests++;
}

static void note_answer_locked(MsApps *apps, const MsEpoch *epoch,
                               MemSchedReserveStatus status,
                               MemSchedReason reason, uint64_t now)
{
    MsApp *app = ms_apps_find_locked(apps, epoch->app);

    if (app == NULL) {
        return;
    }
    app->status = status;
    app->reason = reason;
    if (status == MEMSCHED_RESERVE_WHOLE ||
        (epoch->cancelled && !epoch->late)) {
        return;
    }
    rest_locked(app, now);
    g_snprintf(apps->why, sizeof(apps->why), "application '%.20s' gave %"
               PRIu64 " of %" PRIu64 " KiB: %s", app->name, epoch->told * 4,
               epoch->pages * 4, reason_text(reason));
    apps->why_changed = true;
}

int memsched_app_reserved(MemSchedClient *client, uint64_t cookie,
                          const MemSchedAppRange *range,
                          MemSchedReserveStatus status, MemSchedReason reason)
{
    MsApps *apps = client->apps;
    uint64_t now = client->ms->sys->now_ns(client->ms->sys);
    MsEpoch *epoch;
    int ret = 0;

    ms_lock(&apps->lock);
    epoch = ms_epochs_find(&apps->epochs, range->app, range->epoch);
    if (epoch == NULL || !epoch->running || epoch->cookie != cookie) {
        ret = -ENOENT;
    } else if (!ms_epoch_has_range(epoch, range->first_seq,
                                   range->count_pages)) {
        ret = -ERANGE;
    } else {
        ms_epoch_tell(&apps->epochs, epoch, range->first_seq,
                      range->count_pages);
        epoch->news_ns = now;
        apps->told = true;
        if (status != MEMSCHED_RESERVE_PROGRESS) {
            note_answer_locked(apps, epoch, status, reason, now);
            ms_epoch_end_order(&apps->epochs, epoch);
        }
    }
    ms_unlock(&apps->lock);
    if (ret == 0) {
        ms_tagger_kick(client->ms->tagger);
        ms_apps_kick(apps);
    }
    return ret;
}

int memsched_app_hints(MemSchedClient *client, uint32_t app, uint64_t epoch,
                       const MemSchedAppHint *hints, size_t count)
{
    MsApps *apps = client->apps;
    const MsEpoch *e;
    int ret = 0;

    ms_lock(&apps->lock);
    e = ms_epochs_find(&apps->epochs, app, epoch);
    if (e == NULL) {
        ret = -ENOENT;
    }
    for (size_t i = 0; i < count && ret == 0; i++) {
        const MemSchedAppHint *h = &hints[i];

        if (h->count_pages == 0 ||
            !ms_epoch_has_range(e, h->seq, h->count_pages) ||
            h->gpa % MEMSCHED_PAGE_SIZE ||
            h->gpa > UINT64_MAX - (h->count_pages << MEMSCHED_PAGE_SHIFT)) {
            ret = -ERANGE;
        }
    }
    for (size_t i = 0; i < count && ret == 0 && apps->hints < MS_APP_HINTS;
         i++) {
        apps->hint[(apps->first_hint + apps->hints++) % MS_APP_HINTS] =
            hints[i];
    }
    ms_unlock(&apps->lock);
    if (ret == 0) {
        ms_tagger_kick(client->ms->tagger);
    }
    return ret;
}

/* ---- what is on its way ---- */

static void cancel_locked(MsApps *apps, MsEpoch *epoch, bool late,
                          uint64_t now)
{
    MsAppCall call = {
        .kind = MS_APP_CALL_CANCEL,
        .cancel = { .app = epoch->app, .cookie = epoch->cookie },
    };

    if (!epoch->cancelled && ms_apps_post_locked(apps, &call) == 0) {
        epoch->cancelled = true;
        epoch->late = late;
        epoch->deadline_ns = now + GRACE_NS;
    }
}

/* Told, and not to be found: a page that is pinned, or a lie. */
static void doubt_locked(MsApps *apps, MsEpoch *epoch, uint64_t now)
{
    MsApp *app = ms_apps_find_locked(apps, epoch->app);

    if (epoch->live && app && epoch->told > epoch->credited &&
        now >= epoch->news_ns + FOUND_NS && !epoch->late) {
        epoch->late = true;
        rest_locked(app, now);
        g_snprintf(apps->why, sizeof(apps->why), "%" PRIu64 " KiB that"
                   " application '%.20s' has set aside were not found",
                   (epoch->told - epoch->credited) * 4, app->name);
        apps->why_changed = true;
    }
}

/* Orders whose time is up, or that nobody wants any more. */
static void expire_locked(MsApps *apps, const MsOrderWish *wish)
{
    bool wanted = wish->application + wish->any > 0;

    for (unsigned i = 0; i < MS_EPOCHS && apps->epochs.count > 0; i++) {
        MsEpoch *epoch = apps->epochs.slot[i];
        bool late;

        if (epoch == NULL || !epoch->running) {
            if (epoch && wanted) {
                doubt_locked(apps, epoch, wish->now_ns);
            }
            continue;
        }
        late = wish->now_ns >= epoch->deadline_ns;
        if (epoch->cancelled && late) {
            note_answer_locked(apps, epoch, MEMSCHED_RESERVE_PARTIAL,
                               MEMSCHED_REASON_DEADLINE, wish->now_ns);
            ms_epoch_end_order(&apps->epochs, epoch);
        } else if (late || !wanted) {
            cancel_locked(apps, epoch, late, wish->now_ns);
        }
    }
}

typedef struct OnItsWay {
    uint64_t pages;
    uint64_t fresh;             /* told, and believed to be found */
    uint64_t told;              /* told, and not found */
} OnItsWay;

static OnItsWay on_its_way_locked(const MsApps *apps, uint64_t now)
{
    OnItsWay way = { 0 };

    for (unsigned i = 0; i < MS_EPOCHS && apps->epochs.count > 0; i++) {
        const MsEpoch *epoch = apps->epochs.slot[i];

        if (epoch == NULL || !epoch->live) {
            continue;
        }
        if (epoch->running && !epoch->cancelled) {
            way.pages += epoch->pages - epoch->credited;
            way.fresh += epoch->told - epoch->credited;
        } else if (now < epoch->news_ns + FOUND_NS) {
            way.pages += epoch->told - epoch->credited;
            way.fresh += epoch->told - epoch->credited;
        }
        way.told += epoch->told - epoch->credited;
    }
    return way;
}

/* ---- asking ---- */

static bool has_order_locked(const MsApps *apps, uint32_t number)
{
    for (unsigned i = 0; i < MS_EPOCHS && apps->epochs.count > 0; i++) {
        const MsEpoch *epoch = apps->epochs.slot[i];

        if (epoch && epoch->running && epoch->app == number) {
            return true;
        }
    }
    return false;
}

static uint64_t told_of_locked(const MsApps *apps, uint32_t number)
{
    uint64_t told = 0;

    for (unsigned i = 0; i < MS_EPOCHS && apps->epochs.count > 0; i++) {
        const MsEpoch *epoch = apps->epochs.slot[i];

        told += epoch && epoch->app == number ? epoch->told : 0;
    }
    return told;
}

/* Order of asking: priority, the agent last, then registration. */
static int by_turn(const void *a, const void *b)
{
    const MsApp *x = *(MsApp *const *)a, *y = *(MsApp *const *)b;

    if (x->priority != y->priority) {
        return x->priority < y->priority ? -1 : 1;
    }
    if (x->agent != y->agent) {
        return x->agent ? 1 : -1;
    }
    return x->serial < y->serial ? -1 : 1;
}

static unsigned sorted_locked(MsApps *apps, MsApp *sorted[MEMSCHED_APPS_MAX])
{
    unsigned n = 0;

    for (unsigned i = 0; i < MEMSCHED_APPS_MAX; i++) {
        if (apps->app[i].number != 0 && apps->app[i].reserves) {
            sorted[n++] = &apps->app[i];
        }
    }
    qsort(sorted, n, sizeof(sorted[0]), by_turn);
    return n;
}

static bool is_willing(const MsApps *apps, const MsApp *app,
                       const MsOrderWish *wish, uint64_t pending)
{
    return app->veto_until_ns <= wish->now_ns &&
           app->rest_until_ns <= wish->now_ns &&
           (app->rests == 0 || wish->application > pending) &&
           !has_order_locked(apps, app->number);
}

static unsigned deadline_ms(const MsOrderWish *wish)
{
    uint64_t left = wish->deadline_ns > wish->now_ns
                    ? (wish->deadline_ns - wish->now_ns) / NS_PER_MS : 0;

    /* The kernel's balloon may have to give what they do not. */
    left = wish->any > 0 ? left / 2 : left - MIN(left, MARGIN_MS);
    return CLAMP(left, ORDER_MIN_MS, G_MAXUINT32 / 2);
}

/* How much was ordered: 0 if it could not be. */
static uint64_t order_locked(MsApps *apps, const MsApp *app, uint64_t pages,
                             const MsOrderWish *wish)
{
    bool huge = pages >= FRAME_PAGES;
    MsAppCall call = { .kind = MS_APP_CALL_RESERVE };
    MsEpoch *epoch;

    pages = huge ? pages / FRAME_PAGES * FRAME_PAGES : pages;
    epoch = ms_epochs_open(&apps->epochs, app->number, app->key, pages,
                           wish->ram);
    if (epoch == NULL) {
        return 0;
    }
    call.order = (MemSchedAppOrder) {
        .app = app->number, .cookie = epoch->cookie, .epoch = epoch->number,
        .bytes = pages << MEMSCHED_PAGE_SHIFT,
        .granule_bytes = huge ? MEMSCHED_FRAME_SIZE : MEMSCHED_PAGE_SIZE,
        .deadline_ms = deadline_ms(wish),
    };
    memcpy(call.order.key, app->key, MEMSCHED_KEY_BYTES);
    epoch->news_ns = wish->now_ns;
    epoch->deadline_ns = wish->now_ns +
                         call.order.deadline_ms * NS_PER_MS;
    if (ms_apps_post_locked(apps, &call) < 0) {
        ms_epoch_kill(&apps->epochs, epoch);
        return 0;
    }
    return pages;
}

static uint64_t ask_locked(MsApps *apps, const MsOrderWish *wish,
                           uint64_t pending, bool beyond_offer)
{
    uint64_t want = wish->application + wish->any;
    MsApp *sorted[MEMSCHED_APPS_MAX];
    unsigned count = sorted_locked(apps, sorted);

    for (unsigned i = 0; i < count && pending < want; i++) {
        MsApp *app = sorted[i];
        uint64_t offer = app->offer_bytes >> MEMSCHED_PAGE_SHIFT;
        uint64_t told = told_of_locked(apps, app->number);

        if (!is_willing(apps, app, wish, pending)) {
            continue;
        }
        if (app->offer_bytes == UINT64_MAX ||
            (beyond_offer && app->rests == 0)) {
            offer = want - pending;
        } else {
            offer -= MIN(offer, told);
        }
        offer = MIN(offer, want - pending);
        if (offer > 0) {
            pending += order_locked(apps, app, offer, wish);
        }
    }
    return pending;
}

/* ---- giving back ---- */

/* The newest epoch of an application with a run of this kind. */
static MsEpoch *newest_run_locked(MsApps *apps, uint32_t number,
                                  bool credited, MemSchedAppRange *ret_range)
{
    MsEpoch *newest = NULL;
    uint64_t first, count;

    for (unsigned i = 0; i < MS_EPOCHS && apps->epochs.count > 0; i++) {
        MsEpoch *epoch = apps->epochs.slot[i];

        if (epoch && epoch->app == number && epoch->told > 0 &&
            (newest == NULL || epoch->number > newest->number) &&
            ms_epoch_last_run(epoch, credited, &first, &count)) {
            newest = epoch;
            *ret_range = (MemSchedAppRange) {
                .app = number, .epoch = epoch->number, .first_seq = first,
                .count_pages = count,
            };
        }
    }
    return newest;
}

/* True: it was said, and is on its way. */
static bool release_locked(MsApps *apps, MsEpoch *epoch,
                           MemSchedAppRange *range, uint64_t most)
{
    MsAppCall call = { .kind = MS_APP_CALL_RELEASE };
    uint64_t n = MIN(range->count_pages, most);

    range->first_seq += range->count_pages - n;
    range->count_pages = n;
    call.range = *range;
    return apps->releases < MS_APP_RELEASES &&
           ms_apps_post_locked(apps, &call) == 0 &&
           ms_apps_release_locked(apps, epoch, range->first_seq, n,
                                  true) == 0;
}

/* What is not found first, then what is; true: the tagger has work. */
static bool give_back_locked(MsApps *apps, uint64_t excess)
{
    MsApp *sorted[MEMSCHED_APPS_MAX];
    unsigned count = sorted_locked(apps, sorted), said = 0, turn = 0;

    while (turn < 2 * count && excess > 0 && said < RELEASES_A_STEP) {
        MsApp *app = sorted[count - 1 - turn % count];
        MemSchedAppRange range;
        MsEpoch *epoch = newest_run_locked(apps, app->number, turn >= count,
                                           &range);

        if (epoch == NULL) {
            turn++;
        } else if (release_locked(apps, epoch, &range, excess)) {
            excess -= range.count_pages;
            said++;
        } else {
            break;
        }
    }
    return said > 0;
}

/* ---- a step ---- */

static void forget_rests_locked(MsApps *apps)
{
    for (unsigned i = 0; i < MEMSCHED_APPS_MAX; i++) {
        apps->app[i].rests = 0;
        apps->app[i].rest_until_ns = 0;
    }
}

static void urge_locked(MsApps *apps, const MsOrderWish *wish, uint64_t told)
{
    bool urgent = wish->application + wish->any > 0 &&
                  (wish->now_ns >= wish->captured_ns + URGE_IDLE_NS ||
                   wish->now_ns + URGE_LATE_NS >= wish->deadline_ns);
    uint64_t before = apps->urge_pages;

    apps->urge_pages = urgent ? MIN(told, wish->application + wish->any) : 0;
    if (before == 0 && apps->urge_pages > 0) {
        apps->told = true;      /* what was passed over counts now */
    }
}

void ms_orders_step(MsApps *apps, const MsOrderWish *wish,
                    MsOrderState *ret_state)
{
    uint64_t want = wish->application + wish->any, keep, held;
    bool kick = false;
    OnItsWay way;

    *ret_state = (MsOrderState) { 0 };
    ms_lock(&apps->lock);
    expire_locked(apps, wish);
    way = on_its_way_locked(apps, wish->now_ns);
    if (want == 0) {
        forget_rests_locked(apps);
    } else if (way.pages < want) {
        uint64_t before = way.pages;

        way.pages = ask_locked(apps, wish, way.pages, false);
        if (before == 0 && way.pages == 0) {
            way.pages = ask_locked(apps, wish, 0, true);
        }
    }
    urge_locked(apps, wish, way.told);
    kick = apps->urge_pages > 0;

    keep = wish->base + want;
    held = want > 0 ? apps->epochs.credited + way.fresh : apps->epochs.told;
    if (held > keep) {
        kick |= give_back_locked(apps, held - keep);
    }
    ret_state->expected = way.pages;
    ret_state->held = apps->epochs.told;
    ret_state->changed = apps->why_changed;
    apps->why_changed = false;
    g_strlcpy(ret_state->why, apps->why, sizeof(ret_state->why));
    ret_state->usable = apps->attached;
    ms_unlock(&apps->lock);
    if (kick) {
        ms_tagger_kick(apps->client->ms->tagger);
    }
}

bool ms_orders_usable(MemSchedClient *client)
{
    MsApps *apps = client->apps;
    bool movable = false, takes = false;

    if (apps == NULL) {
        return false;
    }
    ms_lock(&client->lock);
    for (size_t i = 0; i < client->regions_count; i++) {
        movable |= client->regions[i]->movable;
    }
    ms_unlock(&client->lock);
    ms_lock(&apps->lock);
    for (unsigned i = 0; i < MEMSCHED_APPS_MAX && movable; i++) {
        takes |= apps->app[i].number != 0 && apps->app[i].reserves;
    }
    ms_unlock(&apps->lock);
    return takes;
}
