/*
 * Threads that serve missing faults
 *
 * Each of a few threads polls the userfaultfds of all guests and takes at most
 * FAULTS_A_TURN events from one before it looks at the next: a guest with many
 * vCPUs cannot make another one wait longer than one turn of each.
 *
 * A write to a protected page is not missing: the parity thread's.
 *
 * Every other event ends in exactly one of five ways:
 *
 *   populated   the move wakes the toucher
 *   stale       the page is there by now: woken, it touches again
 *   parked      the page is in C: noted in the page's byte under the region's
 *               lock, and woken by the owner of C at its end; if the page is
 *               still missing, the touch comes as a new event
 *   waiting     the grant rule refused it: in the guest's own queue, tried
 *               again whenever the ledger rises, and every RETRY_MS
 *   swapped     queued for a thread that may wait for the disk (swapin.c)
 *
 * A page in C that is out for a sample has nobody who would end that: it is
 * brought back here (sample.c), which is the first of them.
 *
 * What is populated with the page that was touched.  If that one is a hole or a
 * reported page, also the holes and the reported pages of its frame: all of it
 * where it is empty and a huge page can be had; else 256 KiB at once, and the
 * rest of the frame when no event waits.  Both kinds hold nothing and the guest
 * may use them without telling, so the guest sees no difference; this is the
 * reading of "fault-around only H, P".  Never a ballooned page, which the guest
 * has promised not to touch and would have to give up again, nor a tag page,
 * whose content is not zero.  Around a ballooned page nothing is populated,
 * nor around a tag page, which comes back with its tag.  With a held page come
 * held ones beside it, as far as they are not in the swap file: what is there
 * is read by other threads.
 *
 * Locks: none is held while a thread waits or enters the kernel.  A guest's
 * waiting fault holds no thread of ours: only its own vCPU sleeps.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>

#include "held.h"
#include "instance.h"
#include "swapin.h"
#include "tagged.h"

#define FRAME_PAGES   MS_PAGESET_PAGES
#define WINDOW_PAGES  64u
#define HELD_PAGES    4u        /* come back with a touched one: 10 us each */

#define FAULTS_A_TURN 4u
#define BEHIND_MAX    16u
#define RETRY_MS      100

/* The rest of a frame, to be populated when nothing else is to do. */
typedef struct Behind {
    MemSchedRegion *region;     /* a reference */
    uint64_t frame;
} Behind;

typedef struct FaultThread {
    MsFaults *faults;
    MemSched *ms;
    GThread *thread;
    int kick_fd;
    bool retries;               /* this thread tries waiting faults again */
    unsigned turn;              /* who is looked at first */

    MemSchedClient **clients;   /* references */
    struct pollfd *fds;         /* [0] is kick_fd, [i + 1] clients[i]'s */
    size_t count;
    uint64_t generation;        /* of that list; faults->lock */

    Behind behind[BEHIND_MAX];
    unsigned behind_count;
} FaultThread;

struct MsFaults {
    MemSched *ms;
    FaultThread *thread;
    unsigned threads;
    _Atomic bool stop;
    _Atomic bool retry;
    _Atomic uint64_t generation;
    MsLock lock;                /* leaf: thread[].generation */
    MsCond cond;
};

static uint64_t now_ns(const MemSched *ms)
{
    return ms->sys->now_ns(ms->sys);
}

static void kick(FaultThread *t)
{
    uint64_t one = 1;

    /* Full (2^64 - 2 kicks) means that it will wake up anyway. */
    t->ms->sys->write(t->ms->sys, t->kick_fd, &one, sizeof(one));
}

/* ---- one fault ---- */

typedef struct Touch {
    uint64_t page;
    uint64_t since_ns;
    unsigned grant_flags;
    uint32_t thread_id;
    bool device;                /* not a vCPU's thread; known once refused */
} Touch;

typedef enum Outcome {
    DONE,                       /* populated */
    STALE,
    PARKED,
    REFUSED,
    SWAPPED,                    /* read by threads of its own: swapin.c */
    SAMPLED,                    /* out for a sample: for look() only */
} Outcome;

/* Neighbours that are in the store, too. */
static void choose_held_locked(MemSchedRegion *region, uint64_t page,
                               MsPopulate *p)
{
    uint64_t first = page & ~(uint64_t)(HELD_PAGES - 1);

    p->mask = MS_STATE_BIT(HELD);
    for (uint64_t i = first; i < first + HELD_PAGES; i++) {
        if (ms_held_map_has(&region->held, i) &&
            !ms_held_map_get(&region->held, i).swapped) {
            ms_pageset_add(&p->want, i % FRAME_PAGES, 1);
        }
    }
}

/*
 * What to populate with a touched page; the caller holds the region's lock.
 */
static void choose_locked(MemSchedRegion *region, uint64_t page,
                          MsPopulate *p)
{
    MsPages *pages = &region->pages;
    const MsFrame *frame = &pages->frame[page / FRAME_PAGES];
    MemSchedPageState state = ms_pages_get(pages, page);

    p->region = region;
    p->frame = page / FRAME_PAGES;
    p->touched = page % FRAME_PAGES;
    p->mask = MS_STATE_BIT(HOLE) | MS_STATE_BIT(REPORTED);
    p->keep = region->ms->min_free_pages;
    ms_pageset_clear(&p->want);
    if (state == MEMSCHED_PAGE_BALLOONED || state == MEMSCHED_PAGE_TAG) {
        p->mask = 1u << state;
        ms_pageset_add(&p->want, p->touched, 1);
        return;
    }
    if (state == MEMSCHED_PAGE_HELD) {
        choose_held_locked(region, page, p);
        return;
    }
    if (region->huge && frame->resident == 0 && frame->transit == 0) {
        MsPageSet empty;

        ms_pages_select(pages, p->frame * FRAME_PAGES, FRAME_PAGES, p->mask,
                        &empty);
        if (ms_pageset_count(&empty) == FRAME_PAGES) {
            p->want = empty;
            return;
        }
    }
    ms_pageset_add(&p->want, p->touched & ~(WINDOW_PAGES - 1), WINDOW_PAGES);
}

static bool is_waiting_state(MemSchedPageState state)
{
    return state != MEMSCHED_PAGE_RESIDENT && state != MEMSCHED_PAGE_GIVEN &&
           state != MEMSCHED_PAGE_LOST && state != MEMSCHED_PAGE_TRANSIT &&
           /* Its next touch gets a signal, which repairs it. */
           state != MEMSCHED_PAGE_POISONED;
}

/* Park, or say what the state asks for; takes the lock and gives it back. */
static Outcome look(MemSchedRegion *region, uint64_t page, MsPopulate *p)
{
    MemSchedPageState state;
    Outcome outcome = REFUSED;

    ms_lock(&region->lock);
    state = ms_pages_get(&region->pages, page);
    if (state == MEMSCHED_PAGE_TRANSIT) {
        outcome = ms_region_park_locked(region, page) ? PARKED : SAMPLED;
    } else if (!is_waiting_state(state)) {
        outcome = STALE;
    } else if (p && state == MEMSCHED_PAGE_HELD &&
               ms_held_map_get(&region->held, page).swapped) {
        outcome = SWAPPED;
    } else if (p) {
        choose_locked(region, page, p);
    }
    ms_unlock(&region->lock);
    return outcome;
}

/*
 * QEMU names its vCPUs' threads "CPU n/accelerator", or "ALL CPUs/TCG" where
 * one thread runs all; a guest's id may stand before it.  Everybody else who
 * touches guest RAM is a device, and may use the give-allowance: a main loop
 * that waits for memory could not process the guest's next inflate.
 */
static bool is_device_thread(FaultThread *t, uint32_t tid)
{
    char path[64], name[32];

    g_snprintf(path, sizeof(path), "/proc/self/task/%" PRIu32 "/comm", tid);
    return tid != 0 &&
           ms_sys_read_file(t->ms->sys, path, name, sizeof(name)) > 0 &&
           strstr(name, "CPU") == NULL;
}

/* Not queued for nothing: whom the ledger refuses waits in his own place. */
static Outcome serve_swapped(FaultThread *t, MemSchedRegion *region,
                             const Touch *touch)
{
    MemSched *ms = region->ms;
    MsSwapinTouch queued = {
        .region = region, .page = touch->page, .since_ns = touch->since_ns,
        .grant_flags = touch->grant_flags, .device = touch->device,
    };
    bool may;

    ms_lock(&ms->ledger_lock);
    may = ms_ledger_would_grant(&ms->ledger, &region->client->account,
                                touch->grant_flags);
    ms_unlock(&ms->ledger_lock);
    if (!may) {
        return REFUSED;
    }
    /* What is there now may be gone when the page has been read. */
    if (!queued.device && is_device_thread(t, touch->thread_id)) {
        queued.device = true;
        queued.grant_flags |= MS_GRANT_ALLOWANCE;
    }
    ms_swapin_queue(ms->swapin, &queued);
    return SWAPPED;
}

static Outcome serve_page(FaultThread *t, MemSchedRegion *region,
                          const Touch *touch);

/* Back at once; or another thread was faster: look again. */
static Outcome serve_sampled(FaultThread *t, MemSchedRegion *region,
                             const Touch *touch)
{
    return ms_sample_touched(region, touch->page)
           ? DONE : serve_page(t, region, touch);
}

/* The region has been entered. */
static Outcome serve_page(FaultThread *t, MemSchedRegion *region,
                          const Touch *touch)
{
    MsPopulate p = { .grant_flags = touch->grant_flags };
    uint64_t page = touch->page;
    Outcome outcome = look(region, page, &p);
    bool touched;

    if (outcome == SWAPPED) {
        return serve_swapped(t, region, touch);
    }
    if (outcome == SAMPLED) {
        return serve_sampled(t, region, touch);
    }
    if (outcome == REFUSED) {
        if (p.mask == MS_STATE_BIT(HELD)) {
            ms_held_populate(&p, touch->since_ns, &touched);
        } else if (p.mask == MS_STATE_BIT(TAG)) {
            ms_tagged_populate(&p, MS_TAGGED_BY_FAULT, &touched);
        } else {
            ms_populate_frame(&p, &touched);
        }
        /* Not populated: another thread was faster, or the ledger refused. */
        outcome = touched ? DONE : look(region, page, NULL);
        if (outcome == SAMPLED) {
            return serve_sampled(t, region, touch);
        }
        if (touched && (p.mask & MS_STATE_BIT(HOLE)) &&
            t->behind_count < BEHIND_MAX &&
            ms_pageset_count(&p.want) < FRAME_PAGES) {
            t->behind[t->behind_count++] = (Behind) {
                .region = ms_region_ref(region), .frame = p.frame,
            };
        }
    }
    if (outcome == STALE) {
        if (ms_capture_discarded(region, page)) {
            return serve_page(t, region, touch);
        }
        ms_region_wake(region, page, 1);
    }
    return outcome;
}

static void serve_event(FaultThread *t, MemSchedClient *client,
                        const MsFault *fault)
{
    MemSched *ms = t->ms;
    uint64_t start_ns = now_ns(ms), page, ns;
    Touch touch = {
        .since_ns = start_ns, .thread_id = fault->thread_id,
        .grant_flags = ms_client_may_use_allowance(client)
                       ? MS_GRANT_ALLOWANCE : 0,
    };
    MemSchedRegion *region;
    Outcome outcome;

    region = ms_client_region_at(client,
                                 (void *)(uintptr_t)fault->address);
    if (region == NULL) {
        return;                 /* unregistering has woken the toucher */
    }
    page = (fault->address - (uintptr_t)region->base) >> MEMSCHED_PAGE_SHIFT;
    if (!ms_region_enter_locked(region)) {
        ms_region_unref(region);
        return;                 /* and so will this one */
    }
    ms_unlock(&region->lock);

    if (fault->protected_page) {
        ms_protect_fault(ms->protector, region, page);
        ms_region_leave(region);
        ms_region_unref(region);
        return;
    }
    touch.page = page;
    outcome = serve_page(t, region, &touch);
    if (outcome == REFUSED && is_device_thread(t, fault->thread_id)) {
        touch.device = true;
        touch.grant_flags |= MS_GRANT_ALLOWANCE;
        outcome = serve_page(t, region, &touch);
    }
    switch (outcome) {
    case DONE:
        ns = now_ns(ms) - start_ns;
        ms_histogram_add(&ms->stats.fault, ns);
        ms_histogram_add(&client->stats_counters.fault, ns);
        ms_trace(ms, MEMSCHED_TRACE_FAULT_SERVED, client->id,
                 page << MEMSCHED_PAGE_SHIFT, ns);
        break;
    case STALE:
        ms_count(&ms->stats.faults_stale, 1);
        break;
    case PARKED:
        ms_count(&ms->stats.faults_parked, 1);
        break;
    case SWAPPED:
    case SAMPLED:
        break;
    case REFUSED:
        if (ms_client_wait(client, region, page, touch.device,
                           start_ns) == 0) {
            ms_count(&ms->stats.faults_waited, 1);
            ms_count(&client->stats_counters.faults_waited, 1);
            ms_trace(ms, MEMSCHED_TRACE_FAULT_REFUSED, client->id,
                     page << MEMSCHED_PAGE_SHIFT, touch.device);
        }
        /* The ledger may have risen between the refusal and the queue. */
        ms_faults_retry(t->faults);
        ms_mover_kick(ms->mover);
        break;
    }
    ms_region_leave(region);
    ms_region_unref(region);
}

/* ---- waiting ones ---- */

/* True: it no longer waits. */
static bool retry_one(FaultThread *t, MemSchedClient *client,
                      const MsWaiter *waiter)
{
    bool allowance = waiter->device || ms_client_may_use_allowance(client);
    Touch touch = {
        .page = waiter->page, .since_ns = waiter->since_ns,
        .device = waiter->device,
        .grant_flags = allowance ? MS_GRANT_ALLOWANCE : 0,
    };
    Outcome outcome;

    if (!ms_region_enter_locked(waiter->region)) {
        return true;
    }
    ms_unlock(&waiter->region->lock);
    outcome = serve_page(t, waiter->region, &touch);
    ms_region_leave(waiter->region);
    return outcome != REFUSED;
}

static void retry_client(FaultThread *t, MemSchedClient *client)
{
    size_t count = ms_client_waiters(client);
    MsWaiter waiter;

    if (count == 0) {
        return;
    }
    while (count-- > 0 && ms_client_wait_next(client, &waiter)) {
        if (retry_one(t, client, &waiter)) {
            ms_region_unref(waiter.region);
        } else {
            ms_client_wait_again(client, &waiter);
        }
    }
    ms_client_wait_settle(client);
}

static void do_behind(FaultThread *t)
{
    Behind b = t->behind[0];
    MsPopulate p = {
        .region = b.region, .frame = b.frame,
        .mask = MS_STATE_BIT(HOLE) | MS_STATE_BIT(REPORTED),
        .touched = MS_PAGESET_PAGES, .grant_flags = MS_GRANT_AHEAD,
        .keep = t->ms->min_free_pages,
    };

    t->behind_count--;
    memmove(&t->behind[0], &t->behind[1],
            t->behind_count * sizeof(t->behind[0]));
    if (ms_region_enter_locked(b.region)) {
        ms_unlock(&b.region->lock);
        ms_pageset_fill(&p.want);
        ms_populate_frame(&p, NULL);
        ms_region_leave(b.region);
    }
    ms_region_unref(b.region);
}

/* ---- the list of guests ---- */

static void drop_list(FaultThread *t)
{
    for (size_t i = 0; i < t->count; i++) {
        ms_client_unref(t->clients[i]);
    }
    g_free(t->clients);
    g_free(t->fds);
    t->clients = NULL;
    t->fds = NULL;
    t->count = 0;
}

static void refresh_list(FaultThread *t)
{
    MsFaults *faults = t->faults;
    /* Before the list is read: a later change asks for another round. */
    uint64_t generation = atomic_load(&faults->generation);

    if (t->generation == generation && t->fds) {
        return;
    }
    drop_list(t);
    t->clients = ms_clients(t->ms, &t->count);
    t->fds = g_new0(struct pollfd, t->count + 1);
    t->fds[0] = (struct pollfd) { .fd = t->kick_fd, .events = POLLIN };
    for (size_t i = 0; i < t->count; i++) {
        t->fds[i + 1] = (struct pollfd) {
            .fd = t->clients[i]->uffd.fd, .events = POLLIN,
        };
    }
    ms_lock(&faults->lock);
    t->generation = generation;
    ms_cond_broadcast(&faults->cond);
    ms_unlock(&faults->lock);
}

/* ---- the thread ---- */

/* True: at least one event came. */
static bool serve_turn(FaultThread *t)
{
    bool any = false;

    for (size_t i = 0; i < t->count; i++) {
        size_t k = (t->turn + i) % t->count;
        MsFault fault[FAULTS_A_TURN];
        int n;

        if (!(t->fds[k + 1].revents & POLLIN)) {
            continue;
        }
        n = ms_uffd_read(&t->clients[k]->uffd, fault, FAULTS_A_TURN);
        for (int e = 0; e < n; e++) {
            serve_event(t, t->clients[k], &fault[e]);
            any = true;
        }
    }
    t->turn++;
    return any;
}

/*
 * Events of guests that have used up their faults stay in the kernel.  True:
 * there is such a guest.
 */
static bool leave_out_dry(FaultThread *t)
{
    uint64_t now = 0;
    bool any = false;

    for (size_t i = 0; i < t->count; i++) {
        bool dry = atomic_load(&t->clients[i]->faults_dry_ns) != 0;

        if (dry) {
            now = now ? now : now_ns(t->ms);
            dry = ms_client_faults_dry(t->clients[i], now);
        }
        t->fds[i + 1].events = dry ? 0 : POLLIN;
        any |= dry;
    }
    return any;
}

static void drain_kick(FaultThread *t)
{
    uint64_t count;

    if (t->fds[0].revents & POLLIN) {
        t->ms->sys->read(t->ms->sys, t->kick_fd, &count, sizeof(count));
    }
}

static void *fault_thread(void *opaque)
{
    FaultThread *t = opaque;
    const MsSys *sys = t->ms->sys;

    sys->name_thread(sys, "memsched/fault");
    /*
     * Measured on two busy CPUs beside a transfer: 99 % of faults within 80 us
     * instead of 80 to 280.
     */
    sys->urgent(sys);
    while (!atomic_load(&t->faults->stop)) {
        bool waiting = t->retries && atomic_load(&t->ms->waiters) > 0;
        int timeout = t->behind_count ? 0 : waiting ? RETRY_MS : -1;
        int ready;
        bool any;

        refresh_list(t);
        if (leave_out_dry(t) && timeout != 0) {
            timeout = 1;
        }
        ready = sys->poll(sys, t->fds, t->count + 1, timeout);
        if (ready < 0) {
            continue;           /* a signal */
        }
        drain_kick(t);
        any = ready > 0 && serve_turn(t);
        if (t->retries &&
            (atomic_exchange(&t->faults->retry, false) ||
             (ready == 0 && waiting))) {
            for (size_t i = 0; i < t->count; i++) {
                retry_client(t, t->clients[(t->turn + i) % t->count]);
            }
        }
        if (!any && t->behind_count > 0) {
            do_behind(t);
        }
    }
    while (t->behind_count > 0) {
        ms_region_unref(t->behind[--t->behind_count].region);
    }
    drop_list(t);
    return NULL;
}

void ms_faults_retry(MsFaults *faults)
{
    if (faults) {
        atomic_store(&faults->retry, true);
        kick(&faults->thread[0]);
    }
}

static bool all_seen_locked(const MsFaults *faults, uint64_t generation)
{
    for (unsigned i = 0; i < faults->threads; i++) {
        if (faults->thread[i].generation < generation) {
            return false;
        }
    }
    return true;
}

void ms_faults_clients_changed(MsFaults *faults, bool wait)
{
    uint64_t generation = atomic_fetch_add(&faults->generation, 1) + 1;

    for (unsigned i = 0; i < faults->threads; i++) {
        kick(&faults->thread[i]);
    }
    if (wait) {
        ms_lock(&faults->lock);
        while (!all_seen_locked(faults, generation)) {
            ms_cond_wait(&faults->cond, &faults->lock);
        }
        ms_unlock(&faults->lock);
    }
}

int ms_faults_start(MemSched *ms, unsigned threads, MsFaults **ret_faults)
{
    MsFaults *faults = g_new0(MsFaults, 1);
    int ret = 0;

    faults->ms = ms;
    faults->thread = g_new0(FaultThread, threads);
    atomic_init(&faults->generation, 1);
    ms_lock_init(&faults->lock, MS_RANK_LEAF);
    ms_cond_init(&faults->cond);
    for (unsigned i = 0; i < threads && ret >= 0; i++) {
        FaultThread *t = &faults->thread[i];

        t->faults = faults;
        t->ms = ms;
        t->retries = i == 0;
        ret = t->kick_fd = ms->sys->eventfd(ms->sys, 0,
                                            EFD_NONBLOCK | EFD_CLOEXEC);
        if (ret < 0) {
            break;
        }
        t->thread = g_thread_try_new("memsched/fault", fault_thread, t, NULL);
        if (t->thread == NULL) {
            ms->sys->close(ms->sys, t->kick_fd);
            ret = -EAGAIN;
            break;
        }
        faults->threads++;
    }
    if (ret < 0) {
        ms_faults_stop(faults);
        return ret;
    }
    *ret_faults = faults;
    return 0;
}

void ms_faults_stop(MsFaults *faults)
{
    if (faults == NULL) {
        return;
    }
    atomic_store(&faults->stop, true);
    for (unsigned i = 0; i < faults->threads; i++) {
        kick(&faults->thread[i]);
    }
    for (unsigned i = 0; i < faults->threads; i++) {
        FaultThread *t = &faults->thread[i];

        g_thread_join(t->thread);
        t->ms->sys->close(t->ms->sys, t->kick_fd);
    }
    ms_cond_destroy(&faults->cond);
    ms_lock_destroy(&faults->lock);
    g_free(faults->thread);
    g_free(faults);
}
