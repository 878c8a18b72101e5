/*
 * Protection of guest pages by parity
 *
 * Owns the one thread that works on stripes in the background, and what the
 * rest of the library calls when pages leave (settings: protect-set.c):
 *
 *   a write to a protected page     old content out of the parity, then the
 *   (queued by the fault threads)   page is unprotected and the writer woken
 *   otherwise                       one frame joins, as the rate allows
 *   otherwise                       some stripes are verified, likewise
 *
 * Why a thread of its own: to take a huge page out of its stripe reads and sums
 * 2 MiB, 0.3 ms, for which no other guest's fault should wait.  What a writer
 * waits for is that, and at most one frame's join before it.
 *
 * Pages that are on a disk too are the same to their writers, and have nothing
 * to be summed: protect-disk.c.
 *
 * No page is chosen by looking at it: the write protection itself tells who
 * writes.  A page that is written leaves, and may join again when it was not
 * written for cool_ms, twice as long each time, up to 64 times, until it has
 * stayed eight times as long as that.
 *
 * Locks.  The worker's queue is a leaf.  protect->lock: see protect-row.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "instance.h"
#include "protect-int.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        ((size_t)MEMSCHED_PAGE_SIZE)

#define BACKOFF_MAX    6u
#define STAYED         8u       /* times its backoff: forgiven */
/* Nothing could join: look again after this. */
#define IDLE_NS        UINT64_C(50000000)
/* Nothing is to be scrubbed: the same. */
#define SCRUB_IDLE_NS  UINT64_C(1000000000)

typedef struct Pending {
    MemSchedRegion *region;     /* a reference */
    uint64_t page;
    uint64_t since_ns;
} Pending;

struct MsProtector {
    MemSched *ms;
    GThread *thread;
    MsLock lock;                /* leaf */
    MsCond cond;
    bool stop, kicked;
    bool joined;                /* last; then it is the scrubber's turn */
    Pending *queue;             /* a ring */
    size_t first, count, size;
    /* the thread's own */
    uint64_t next_ns;           /* no join before, whose it ever is */
    uint64_t scrub_ns;          /* the same of scrubbing */
    unsigned turn;
    MsCapture capture;
};

uint32_t ms_protect_clock_ms(const MsProtect *protect)
{
    const MsSys *sys = protect->region->ms->sys;

    /* Wraps after 49 days; compared by differences. */
    return sys->now_ns(sys) / 1000000;
}

/* ---- a page leaves ---- */

void ms_protect_open(MemSchedRegion *region, uint64_t frame,
                     const MsPageSet *set, bool wake)
{
    const MsUffd *uffd = &region->client->uffd;
    uint64_t first = frame * FRAME_PAGES;
    bool huge = ms_pagemap_is_huge(ms_pool_pagemap(region->ms->pool),
                                   ms_region_address(region, first)) == 1;
    unsigned page, count;

    if (ms_protect_of(region)) {
        ms_protect_disk_unsure(ms_protect_of(region), frame,
                               huge ? NULL : set);
    }
    if (huge) {
        ms_uffd_protect(uffd, ms_region_address(region, first), FRAME_PAGES,
                        false, wake);
        return;
    }
    for (unsigned p = 0; ms_pageset_run(set, p, &page, &count);
         p = page + count) {
        ms_uffd_protect(uffd, ms_region_address(region, first + page), count,
                        false, wake);
    }
}

uint64_t ms_protect_leave_rows(MsProtect *protect, uint64_t frame,
                               MsPageSet *set, bool dead)
{
    MsPageSet rows;
    MsMember *member;
    MsGroup *group;
    MsWork *work;

    ms_lock(&protect->lock);
    member = ms_rows_begin_locked(protect, frame, set);
    ms_unlock(&protect->lock);
    if (member == NULL) {
        return 0;
    }
    rows = *set;
    group = member->group;
    work = ms_work_get(protect);
    ms_rows_leave(protect, work, member, set, dead);
    ms_lock(&protect->lock);
    ms_rows_end_locked(protect, group, &rows);
    ms_unlock(&protect->lock);
    ms_work_put(protect, work);
    return ms_pageset_count(set);
}

void ms_protect_leave(MemSchedRegion *region, uint64_t frame,
                      const MsPageSet *set, bool dead)
{
    MsProtect *protect = ms_protect_of(region);
    MsPageSet leaving = *set;
    uint64_t pages;

    if (protect == NULL) {
        return;
    }
    pages = ms_protect_leave_rows(protect, frame, &leaving, dead);
    if (dead) {
        ms_protect_disk_forget(protect, frame, set);
    } else {
        ms_protect_disk_unsure(protect, frame, set);
    }
    if (pages > 0) {
        ms_count(&region->client->protect_stats.left_by_capture, pages);
        ms_protect_open(region, frame, &leaving, false);
    }
}

void ms_protect_covered_locked(MemSchedRegion *region, uint64_t frame,
                               MsPageSet *ret_set)
{
    MsProtect *protect = ms_protect_of(region);
    const MsMember *member;

    ms_pageset_clear(ret_set);
    if (protect == NULL) {
        return;
    }
    ms_protect_disk_located(protect, frame, ret_set);
    ms_lock(&protect->lock);
    member = ms_stripes_member(&protect->stripes, frame);
    for (unsigned w = 0; member && w < MS_PAGESET_WORDS; w++) {
        ret_set->word[w] |= member->in.word[w];
    }
    ms_unlock(&protect->lock);
}

void ms_protect_dropped_locked(MemSchedRegion *region, uint64_t page)
{
    MsProtect *protect = ms_protect_of(region);
    MsMember *member;

    if (protect == NULL) {
        return;
    }
    ms_lock(&protect->lock);
    member = ms_stripes_member(&protect->stripes, page / FRAME_PAGES);
    if (member && ms_pageset_has(&member->in, page % FRAME_PAGES)) {
        ms_pageset_add(&member->gone, page % FRAME_PAGES, 1);
    }
    ms_unlock(&protect->lock);
    ms_protect_disk_forget_page(region, page);
}

/* ---- a first write ---- */

static void note_heat(MsProtect *protect, uint64_t frame, uint32_t cool_ms)
{
    uint32_t now_ms = ms_protect_clock_ms(protect);
    MsHeat *heat = &protect->heat[frame];

    ms_lock(&protect->lock);
    if (now_ms - heat->joined_ms > (cool_ms << heat->backoff) * STAYED) {
        heat->backoff = 0;
    }
    heat->next_ms = now_ms + (cool_ms << heat->backoff);
    heat->backoff += heat->backoff < BACKOFF_MAX;
    ms_unlock(&protect->lock);
}

/* What leaves with a page: all of its unit. */
static void unit_of(MsProtect *protect, uint64_t page, MsPageSet *ret_set)
{
    MsMember *member;

    ms_pageset_clear(ret_set);
    ms_pageset_add(ret_set, page % FRAME_PAGES, 1);
    ms_lock(&protect->lock);
    member = ms_stripes_member(&protect->stripes, page / FRAME_PAGES);
    if (member && member->huge) {
        ms_pageset_fill(ret_set);
    }
    ms_unlock(&protect->lock);
}

/*
 * *ret_set: all of the unit, less what is broken.  @counter (may be NULL): of
 * what leaves so, counted before a writer that waits for it goes on.
 */
static uint64_t leave_unit(MsProtect *protect, uint64_t page,
                           MsCounter *counter, MsPageSet *ret_set)
{
    MemSchedRegion *region = protect->region;
    uint64_t frame = page / FRAME_PAGES, pages;

    unit_of(protect, page, ret_set);
    pages = ms_protect_leave_rows(protect, frame, ret_set, false);
    if (pages > 0) {
        note_heat(protect, frame,
                  ms_protect_settings(region->client).cool_ms);
        if (counter) {
            ms_count(counter, pages);
        }
        ms_protect_open(region, frame, ret_set, true);
    }
    return pages;
}

uint64_t ms_protect_leave_unit(MsProtect *protect, uint64_t page)
{
    MsPageSet set;

    return leave_unit(protect, page, NULL, &set);
}

/*
 * What could not be read has stayed: broken, it is repaired in its stripe, and
 * is not to be written to meanwhile.  Only this thread lets pages join.
 */
static bool is_in(MsProtect *protect, uint64_t page)
{
    MsMember *member;
    bool in;

    ms_lock(&protect->lock);
    member = ms_stripes_member(&protect->stripes, page / FRAME_PAGES);
    in = member && ms_pageset_has(&member->in, page % FRAME_PAGES);
    ms_unlock(&protect->lock);
    return in;
}

/* The region is entered. */
static void serve_write(MemSchedRegion *region, uint64_t page)
{
    MemSchedClient *client = region->client;
    MsProtect *protect = ms_protect_of(region);
    uint64_t frame = page / FRAME_PAGES, pages = 0;
    MsPageSet set, touched;
    bool transit, parked, disk = false;

    ms_lock(&region->lock);
    transit = ms_pages_get(&region->pages, page) == MEMSCHED_PAGE_TRANSIT;
    parked = transit && ms_region_park_locked(region, page);
    ms_unlock(&region->lock);
    if (transit) {
        if (!parked) {
            ms_region_wake(region, page, 1);
        }
        return;
    }
    ms_pageset_clear(&touched);
    ms_pageset_add(&touched, page % FRAME_PAGES, 1);
    if (protect) {
        /* Before the page is open: what it holds is the disk's no longer. */
        disk = ms_protect_disk_written(protect, page);
        pages = leave_unit(protect, page,
                           &client->protect_stats.left_by_write, &set);
        if (pages == 0 && disk) {
            note_heat(protect, frame, ms_protect_settings(client).cool_ms);
        }
    }
    if ((pages == 0 || !ms_pageset_has(&set, page % FRAME_PAGES)) &&
        !(protect && is_in(protect, page))) {
        /* It has left by other ways: no writer waits for ever. */
        ms_protect_open(region, frame, &touched, true);
    }
    ms_region_wake(region, page, 1);
}

void ms_protect_fault(MsProtector *t, MemSchedRegion *region, uint64_t page)
{
    ms_lock(&t->lock);
    if (t->count == t->size) {
        size_t size = t->size ? t->size * 2 : 64;
        Pending *queue = g_new(Pending, size);

        for (size_t i = 0; i < t->count; i++) {
            queue[i] = t->queue[(t->first + i) % t->size];
        }
        g_free(t->queue);
        t->queue = queue;
        t->size = size;
        t->first = 0;
    }
    t->queue[(t->first + t->count++) % t->size] = (Pending) {
        .region = ms_region_ref(region), .page = page,
        .since_ns = t->ms->sys->now_ns(t->ms->sys),
    };
    ms_cond_signal(&t->cond);
    ms_unlock(&t->lock);
}

static void serve_pending(MsProtector *t, const Pending *pending)
{
    MemSchedRegion *region = pending->region;

    if (ms_region_enter_locked(region)) {
        ms_unlock(&region->lock);
        serve_write(region, pending->page);
        ms_histogram_add(&region->client->protect_stats.write,
                         t->ms->sys->now_ns(t->ms->sys) - pending->since_ns);
        ms_region_leave(region);
    }
    ms_region_unref(region);
}

/* ---- scrubbing ---- */

/* Of one guest; when its next step may come. */
static uint64_t scrub_client(MemSchedClient *client)
{
    MemSchedProtection settings = ms_protect_settings(client);
    uint64_t next_ns = UINT64_MAX;
    MemSchedRegion **regions;
    size_t count;

    if (settings.scheme == MEMSCHED_SCHEME_NONE ||
        settings.scrub_bytes_per_s == 0) {
        return next_ns;
    }
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        MsProtect *protect = ms_protect_of(regions[i]);

        if (protect && ms_region_enter_locked(regions[i])) {
            ms_unlock(&regions[i]->lock);
            next_ns = MIN(next_ns,
                          ms_protect_scrub(protect,
                                           settings.scrub_bytes_per_s));
            ms_region_leave(regions[i]);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return next_ns;
}

static bool writer_waits(MsProtector *t)
{
    bool waits;

    ms_lock(&t->lock);
    waits = t->count > 0;
    ms_unlock(&t->lock);
    return waits;
}

/* Each guest whose time has come, unless a writer comes in between. */
static void scrub_some(MsProtector *t)
{
    uint64_t next_ns = t->ms->sys->now_ns(t->ms->sys) + SCRUB_IDLE_NS;
    MemSchedClient **clients;
    size_t count;

    clients = ms_clients(t->ms, &count);
    for (size_t i = 0; i < count; i++) {
        if (writer_waits(t)) {
            next_ns = 0;
        } else {
            next_ns = MIN(next_ns, scrub_client(clients[i]));
        }
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    t->scrub_ns = next_ns;
}

/* ---- joins ---- */

/* In turn, so that neither waits for the other to have done all. */
static uint64_t join_region(MsProtector *t, MsProtect *protect)
{
    bool disk_first = t->turn % 2 == 0;
    uint64_t bytes = disk_first ? ms_protect_join_disk(protect) : 0;

    if (bytes == 0) {
        bytes = ms_protect_join(protect, &t->capture);
    }
    if (bytes == 0 && !disk_first) {
        bytes = ms_protect_join_disk(protect);
    }
    return bytes;
}

static uint64_t join_client(MsProtector *t, MemSchedClient *client)
{
    MemSchedProtection settings = ms_protect_settings(client);
    MemSchedRegion **regions;
    uint64_t bytes = 0;
    size_t count;

    if (!ms_protection_is_on(&settings) ||
        !ms_client_capture_enter(client, false)) {
        return 0;
    }
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        MsProtect *protect = ms_protect_of(regions[i]);

        if (bytes == 0 && protect && ms_region_enter_locked(regions[i])) {
            ms_unlock(&regions[i]->lock);
            bytes = join_region(t, protect);
            ms_region_leave(regions[i]);
        }
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    ms_client_capture_leave(client);
    return bytes;
}

/*
 * One frame of one guest whose time has come, or with @now of any; when the
 * next may come.
 */
static void join_one(MsProtector *t, bool now)
{
    MemSched *ms = t->ms;
    uint64_t start_ns = ms->sys->now_ns(ms->sys), bytes = 0;
    uint64_t next_ns = start_ns + IDLE_NS;
    MemSchedClient **clients;
    size_t count;

    clients = ms_clients(ms, &count);
    for (size_t i = 0; i < count; i++) {
        MemSchedClient *client = clients[(t->turn + i) % count];
        uint64_t rate = ms_protect_settings(client).rate_bytes_per_s;

        if (now) {
            client->join_ns = 0;
        }
        if (bytes == 0 && client->join_ns <= start_ns) {
            bytes = join_client(t, client);
            /* bytes is at most 2 MiB: no overflow. */
            client->join_ns = bytes ? start_ns + bytes * 1000000000u /
                                      MAX(rate, 1) : 0;
        }
        if (client->join_ns > 0) {
            next_ns = MIN(next_ns, client->join_ns);
        }
    }
    t->turn++;
    for (size_t i = 0; i < count; i++) {
        ms_client_unref(clients[i]);
    }
    g_free(clients);
    /* After one of them the others are asked at once. */
    t->next_ns = bytes && count > 1 ? start_ns : next_ns;
}

static bool any_protected(MemSched *ms)
{
    return atomic_load(&ms->protected_clients) > 0;
}

static void *protector_thread(void *opaque)
{
    MsProtector *t = opaque;
    MemSched *ms = t->ms;
    const MsSys *sys = ms->sys;

    sys->name_thread(sys, "memsched/parity");
    ms_lock(&t->lock);
    while (!t->stop) {
        uint64_t now_ns = sys->now_ns(sys);

        if (t->count > 0) {
            Pending pending = t->queue[t->first];

            t->first = (t->first + 1) % t->size;
            t->count--;
            ms_unlock(&t->lock);
            serve_pending(t, &pending);
            ms_lock(&t->lock);
        } else if (!any_protected(ms)) {
            ms_cond_wait(&t->cond, &t->lock);
        } else if (t->kicked || (now_ns >= t->next_ns &&
                                 !(t->joined && now_ns >= t->scrub_ns))) {
            bool now = t->kicked;

            t->scrub_ns = now ? 0 : t->scrub_ns;
            t->kicked = false;
            t->joined = true;
            ms_unlock(&t->lock);
            join_one(t, now);
            ms_lock(&t->lock);
        } else if (now_ns >= t->scrub_ns) {
            t->joined = false;
            ms_unlock(&t->lock);
            scrub_some(t);
            ms_lock(&t->lock);
        } else {
            ms_cond_wait_ns(&t->cond, &t->lock,
                            MIN(t->next_ns, t->scrub_ns) - now_ns);
        }
    }
    ms_unlock(&t->lock);
    return NULL;
}

void ms_protector_kick(MsProtector *t)
{
    ms_lock(&t->lock);
    t->kicked = true;
    ms_cond_signal(&t->cond);
    ms_unlock(&t->lock);
}

int ms_protector_start(MemSched *ms, MsProtector **ret_protector)
{
    MsProtector *t = g_new0(MsProtector, 1);

    t->ms = ms;
    ms_lock_init(&t->lock, MS_RANK_LEAF);
    ms_cond_init(&t->cond);
    t->thread = g_thread_try_new("memsched/parity", protector_thread, t, NULL);
    if (t->thread == NULL) {
        ms_cond_destroy(&t->cond);
        ms_lock_destroy(&t->lock);
        g_free(t);
        return -EAGAIN;
    }
    *ret_protector = t;
    return 0;
}

void ms_protector_stop(MsProtector *t)
{
    if (t == NULL) {
        return;
    }
    ms_lock(&t->lock);
    t->stop = true;
    ms_cond_signal(&t->cond);
    ms_unlock(&t->lock);
    g_thread_join(t->thread);
    while (t->count > 0) {
        ms_region_unref(t->queue[t->first].region);
        t->first = (t->first + 1) % t->size;
        t->count--;
    }
    g_free(t->queue);
    ms_cond_destroy(&t->cond);
    ms_lock_destroy(&t->lock);
    g_free(t);
}
