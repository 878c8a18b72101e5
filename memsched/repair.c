/*
 * Repair of pages with uncorrectable errors
 *
 * Who meets a broken page waits until it is whole again; then the access, or
 * the system call, is simply made once more.
 *
 *   handler        publish the address, wake the thread, sleep   (signal-safe)
 *   repair thread  region lock   R, G, X -> C
 *                  row busy      content from the stripe, checked
 *                  no lock       discard what is broken, copy a new page in,
 *                                write-protected: it stays in its stripe
 *                  region lock   C -> R or G
 *   handler        wakes, returns
 *
 * Several threads on one page share one repair: all but the first find it
 * whole.  The copy is one step for everybody else, so no touch ever sees half
 * of it.  The new frame is the kernel's, in place of the one that it has lost:
 * no frame of the pool is used up, and what the guest is charged for stays.
 *
 * A page that is broken before anybody said so has state R here, one that was
 * injected X; both are looked up the same way.  In state G the content is dead:
 * zeros do.
 *
 * What no stripe has is read again from a disk, if it is known to be there
 * (refill.c); meanwhile the thread goes on.
 *
 * Not to be rebuilt: zeros, state L, and whoever watches errors is told before
 * the access goes on.  The stripe is summed anew from what is left of it.
 *
 * Threads of ours read and write the memory of guests, and parity, through the
 * kernel only, so the handler never runs in them on that account; the repair
 * thread itself would not be helped.  A broken parity page is found by whoever
 * works on its row, or told to memsched_repair_range(): it gets a new frame,
 * and its row is summed anew.  A broken page of the pool that nobody has is not
 * looked for: the scrubber would meet it by a plain access, which is FOREIGN.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "instance.h"
#include "protect-int.h"
#include "repair-int.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        ((size_t)MEMSCHED_PAGE_SIZE)

/* The kernel has no frame: asked again so often, 1 ms apart. */
#define NOMEM_TRIES 1000u
/* Somebody has the page: looked again whether it is read from a disk. */
#define OTHERS_NS   UINT64_C(1000000)

/* What became of a page. */
typedef enum Outcome {
    WHOLE,                      /* nothing was broken */
    REPAIRED,
    LOST,
    PENDING,                    /* it is read from a disk; answered then */
    BROKEN,                     /* ours, in C */
} Outcome;

/* ---- the handler ---- */

static void ring(MsRepair *repair)
{
    atomic_fetch_add(&repair->bell, 1);
    repair->ms->sys->futex_wake(repair->ms->sys, &repair->bell);
}

/* Async-signal-safe; NULL: all are taken. */
static MsAsk *find_slot(MsRepair *repair)
{
    for (unsigned i = 0; i < MS_ASKS; i++) {
        uint32_t none = MS_ASK_FREE;

        if (atomic_compare_exchange_strong(&repair->ask[i].state, &none,
                                           MS_ASK_TAKEN)) {
            return &repair->ask[i];
        }
    }
    return NULL;
}

MemSchedSigbus memsched_sigbus(void *address)
{
    MemSched *ms = memsched_running();
    MsRepair *repair = ms ? ms->repair : NULL;
    int kept = errno;
    uint32_t state;
    MsAsk *ask;

    if (repair == NULL ||
        ms->sys->gettid(ms->sys) == atomic_load(&repair->tid)) {
        return MEMSCHED_SIGBUS_FOREIGN;
    }
    while ((ask = find_slot(repair)) == NULL) {
        ms->sys->yield(ms->sys);
    }
    ask->address = address;
    ask->alone = false;
    ask->since_ns = ms->sys->now_ns(ms->sys);
    atomic_store(&ask->state, MS_ASK_ASKED);
    ring(repair);
    while ((state = atomic_load(&ask->state)) < MS_ASK_ANSWERED) {
        ms->sys->futex_wait(ms->sys, &ask->state, state);
    }
    atomic_store(&ask->state, MS_ASK_FREE);
    errno = kept;
    return state - MS_ASK_ANSWERED;
}

bool ms_repair_ask(MemSched *ms, void *address)
{
    MsRepair *repair = ms->repair;
    MsAsk *ask = repair ? find_slot(repair) : NULL;

    if (ask == NULL) {
        return false;
    }
    ask->address = address;
    ask->alone = true;
    ask->since_ns = ms->sys->now_ns(ms->sys);
    atomic_store(&ask->state, MS_ASK_ASKED);
    ring(repair);
    return true;
}

void ms_ask_answer(MsRepair *repair, MsAsk *ask, MemSchedSigbus answer)
{
    if (ask->alone) {
        atomic_store(&ask->state, MS_ASK_FREE);
        return;
    }
    atomic_store(&ask->state, MS_ASK_ANSWERED + answer);
    repair->ms->sys->futex_wake(repair->ms->sys, &ask->state);
}

/* ---- a page of a guest ---- */

/* A hole is not broken, and to read it would wait for its fault. */
static bool is_broken(MemSchedRegion *region, uint64_t page)
{
    MemSched *ms = region->ms;
    char *address = ms_region_address(region, page), byte;

    return ms_pagemap_is_hole(ms_pool_pagemap(ms->pool), address) == 0 &&
           ms->sys->peek(ms->sys, &byte, address, 1) == -EFAULT;
}

/*
 * Nobody else has the page in C.  False: it is read from a disk, which takes
 * its time, and @ask waits for that.
 */
static bool wait_for_others_locked(MemSchedRegion *region, uint64_t page,
                                   MsAsk *ask)
{
    if (ask == NULL) {
        ms_region_wait_transit_locked(region, page, 1);
        return true;
    }
    while (ms_pages_get(&region->pages, page) == MEMSCHED_PAGE_TRANSIT) {
        if (ms_sample_recall_locked(region, page, 1)) {
            continue;
        }
        if (ms_refill_join(region, page, ask)) {
            return false;
        }
        /* Whoever has just taken it may be about to ask for a read. */
        ms_cond_wait_ns(&region->cond, &region->lock, OTHERS_NS);
    }
    return true;
}

/*
 * BROKEN: the page is, and in C; *ret_state: what it was.  Else WHOLE, or
 * PENDING.  Waits for others who have it in C.
 */
static Outcome take(MemSchedRegion *region, uint64_t page, MsAsk *ask,
                    MemSchedPageState *ret_state)
{
    MemSchedPageState state, seen = MEMSCHED_PAGE_STATES;
    bool broken = false;
    MsTorn torn;

    for (;;) {
        ms_lock(&region->lock);
        if (!wait_for_others_locked(region, page, ask)) {
            ms_unlock(&region->lock);
            return PENDING;
        }
        state = ms_pages_get(&region->pages, page);
        if (state == MEMSCHED_PAGE_POISONED ||
            (broken && state == seen)) {
            if (ms_torn_begin_locked(region, page, &torn)) {
                break;
            }
            ms_unlock(&region->lock);
            continue;
        }
        ms_unlock(&region->lock);
        if (state != MEMSCHED_PAGE_RESIDENT && state != MEMSCHED_PAGE_GIVEN) {
            return WHOLE;
        }
        seen = state;
        broken = is_broken(region, page);
        if (!broken) {
            return WHOLE;
        }
    }
    ms_pages_change(&region->pages, state == MEMSCHED_PAGE_POISONED
                    ? MS_PAGE_TAKE_IN : MS_PAGE_TAKE_OUT, page, 1,
                    MEMSCHED_PAGE_TRANSIT);
    ms_unlock(&region->lock);
    if (state != MEMSCHED_PAGE_POISONED && !is_broken(region, page)) {
        /* Somebody has repaired it between the look and the lock. */
        ms_repair_end(region, page, MS_PAGE_PUT_BACK, state);
        ms_torn_cancel(region, &torn);
        return WHOLE;
    }
    /* A part of it is gone: no huge page any more. */
    ms_torn_end(region, &torn);
    *ret_state = state;
    return BROKEN;
}

void ms_repair_end(MemSchedRegion *region, uint64_t page, MsPageEvent event,
                   MemSchedPageState state)
{
    int parked;

    ms_lock(&region->lock);
    parked = ms_pages_change(&region->pages, event, page, 1, state);
    ms_cond_broadcast(&region->cond);
    ms_unlock(&region->lock);
    if (parked > 0) {
        ms_region_wake(region, page, 1);
    }
}

bool ms_repair_place(MemSchedRegion *region, uint64_t page,
                     const void *content, bool protect)
{
    MemSched *ms = region->ms;
    char *address = ms_region_address(region, page);
    MsMoveResult put;

    ms_region_discard(region, address, 1);
    for (unsigned tries = 0; tries < NOMEM_TRIES; tries++) {
        put = ms_uffd_copy(&region->client->uffd, address, content, 1, protect,
                           true);
        if (put.moved_pages == 1) {
            return true;
        }
        if (put.stop != MS_MOVE_NOMEM && put.stop != MS_MOVE_AGAIN) {
            break;
        }
        ms->sys->sleep_ns(ms->sys, 1000000);
    }
    return false;
}

bool ms_repair_place_zeros(MemSchedRegion *region, uint64_t page)
{
    static const char zeros[MEMSCHED_PAGE_SIZE];

    /* Whatever was known of it: it is to be written as it likes. */
    ms_protect_disk_forget_page(region, page);
    return ms_repair_place(region, page, zeros, false);
}

/* What is lost leaves its stripe, which keeps what it can. */
static void give_up_row(MsProtect *protect, MsWork *work, MsMember *member,
                        unsigned page)
{
    MsPageSet one;

    ms_pageset_clear(&one);
    ms_pageset_add(&one, page, 1);
    ms_row_recompute(protect, work, member->group, page, member);
    ms_lock(&protect->lock);
    ms_stripes_leave(&protect->stripes, member, &one);
    ms_unlock(&protect->lock);
}

/* True: rebuilt, and in its place.  The page is in C. */
static bool rebuild(MemSchedRegion *region, uint64_t page)
{
    MsProtect *protect = ms_protect_of(region);
    MsMember *member = NULL;
    MsGroup *group;
    MsPageSet one;
    MsWork *work;
    bool gone, done;

    if (protect == NULL) {
        return false;
    }
    ms_pageset_clear(&one);
    ms_pageset_add(&one, page % FRAME_PAGES, 1);
    ms_lock(&protect->lock);
    member = ms_rows_begin_locked(protect, page / FRAME_PAGES, &one);
    if (member == NULL) {
        ms_unlock(&protect->lock);
        return false;
    }
    gone = ms_pageset_has(&member->gone, page % FRAME_PAGES);
    group = member->group;
    ms_unlock(&protect->lock);

    work = ms_work_get(protect);
    done = !gone && ms_row_rebuild(protect, work, member,
                                   page % FRAME_PAGES) == 0 &&
           ms_repair_place(region, page, work->out[0], true);
    if (!done) {
        give_up_row(protect, work, member, page % FRAME_PAGES);
    }
    ms_lock(&protect->lock);
    ms_rows_end_locked(protect, group, &one);
    ms_unlock(&protect->lock);
    ms_work_put(protect, work);
    return done;
}

void ms_repair_page_end(MemSchedRegion *region, uint64_t page,
                        MemSchedPageState was, bool whole, bool awaited,
                        uint64_t since_ns)
{
    if (whole) {
        ms_repair_end(region, page, MS_PAGE_PUT_BACK,
                      was == MEMSCHED_PAGE_GIVEN ? MEMSCHED_PAGE_GIVEN
                                                 : MEMSCHED_PAGE_RESIDENT);
        ms_repair_tell(region, page, false, awaited, since_ns);
    } else {
        /* First tell: from the moment on that zeros are there, all see them. */
        ms_count(&region->client->protect_stats.lost, 1);
        ms_repair_tell(region, page, true, awaited, since_ns);
        ms_repair_place_zeros(region, page);
        ms_repair_end(region, page, MS_PAGE_POPULATED, MEMSCHED_PAGE_LOST);
    }
    ms_trace(region->ms, MEMSCHED_TRACE_REPAIR, region->client->id,
             page << MEMSCHED_PAGE_SHIFT, whole);
}

/* Somebody else was first to meet the error, and was told. */
static bool is_lost(MemSchedRegion *region, uint64_t page)
{
    bool lost;

    ms_lock(&region->lock);
    lost = ms_pages_get(&region->pages, page) == MEMSCHED_PAGE_LOST;
    ms_unlock(&region->lock);
    return lost;
}

/*
 * The region is entered; @ask: who waits in the handler, or NULL.  PENDING only
 * with @ask, which is answered later.
 */
static Outcome repair_page(MemSchedRegion *region, uint64_t page,
                           uint64_t since_ns, MsAsk *ask)
{
    MsProtectStats *stats = &region->client->protect_stats;
    MemSchedDiskRead *read = NULL;
    MemSchedPageState was;
    Outcome outcome = take(region, page, ask, &was);
    bool whole = false;

    if (outcome == WHOLE && ask && is_lost(region, page)) {
        return LOST;
    }
    if (outcome != BROKEN) {
        return outcome;
    }
    if (rebuild(region, page)) {
        whole = true;
        ms_count(&stats->recovered, 1);
    } else if (was == MEMSCHED_PAGE_GIVEN) {
        whole = ms_repair_place_zeros(region, page);
        ms_count(&stats->recovered_dead, whole);
    } else {
        read = ms_refill_begin(region, page, was, since_ns, ask);
        if (read) {
            return ask ? PENDING : ms_refill_wait(read) ? REPAIRED : LOST;
        }
    }
    ms_repair_page_end(region, page, was, whole, ask && !ask->alone, since_ns);
    return whole ? REPAIRED : LOST;
}

/* ---- addresses ---- */

/* The region that holds it, with a reference, or NULL. */
static MemSchedRegion *region_at(MemSched *ms, const void *address)
{
    MemSchedRegion *region = NULL;

    ms_lock(&ms->clients_lock);
    for (size_t i = 0; i < ms->regions_count; i++) {
        MemSchedRegion *r = ms->regions[i];

        if ((uintptr_t)address - (uintptr_t)r->host < r->length_bytes) {
            region = ms_region_ref(r);
            break;
        }
    }
    ms_unlock(&ms->clients_lock);
    return region;
}

/* A broken parity page of this region?  It is whole now, and bad. */
static bool renew_parity(MemSchedRegion *region, const void *address,
                         int *known)
{
    MsProtect *protect = ms_protect_of(region);
    const MsSys *sys = region->ms->sys;
    unsigned k = 0, page = 0;
    MsGroup *group = NULL;
    bool broken = false;
    MsPageSet row;
    char byte;

    if (protect == NULL) {
        return false;
    }
    ms_lock(&protect->lock);
    for (unsigned g = 0; g < protect->stripes.groups && group == NULL; g++) {
        for (unsigned i = 0; i < protect->stripes.parities; i++) {
            MsGroup *one = protect->stripes.group[g];
            uint64_t offset = (uintptr_t)address - (uintptr_t)one->parity[i];

            if (offset < MEMSCHED_FRAME_SIZE) {
                group = one;
                page = offset >> MEMSCHED_PAGE_SHIFT;
                k = i;
            }
        }
    }
    if (group) {
        ms_pageset_clear(&row);
        ms_pageset_add(&row, page, 1);
        *known += 1;
        group->keep++;
        ms_rows_take_locked(protect, group, &row);
    }
    ms_unlock(&protect->lock);
    if (group) {
        broken = sys->peek(sys, &byte, ms_parity_address(group, k, page), 1) ==
                 -EFAULT;
        if (broken) {
            ms_parity_renew(protect, group, k, page);
        }
        ms_lock(&protect->lock);
        group->keep--;
        ms_rows_end_locked(protect, group, &row);
        ms_unlock(&protect->lock);
    }
    return broken;
}

/* *known: rises if it is a parity page at all. */
static bool renew_any_parity(MemSched *ms, const void *address, int *known)
{
    MemSchedRegion **regions;
    bool found = false;
    size_t count;

    ms_lock(&ms->clients_lock);
    count = ms->regions_count;
    regions = g_new(MemSchedRegion *, count);
    for (size_t i = 0; i < count; i++) {
        regions[i] = ms_region_ref(ms->regions[i]);
    }
    ms_unlock(&ms->clients_lock);
    for (size_t i = 0; i < count; i++) {
        found = found || renew_parity(regions[i], address, known);
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return found;
}

static void answer(MemSched *ms, MsAsk *ask)
{
    MemSchedRegion *region = region_at(ms, ask->address);
    Outcome outcome = WHOLE;

    if (region == NULL) {
        ms_ask_answer(ms->repair, ask, MEMSCHED_SIGBUS_FOREIGN);
        return;
    }
    if (ms_region_enter_locked(region)) {
        ms_unlock(&region->lock);
        outcome = repair_page(region, ((uintptr_t)ask->address -
                                       (uintptr_t)region->base) >>
                              MEMSCHED_PAGE_SHIFT, ask->since_ns, ask);
        ms_region_leave(region);
    }
    ms_region_unref(region);
    if (outcome != PENDING) {
        ms_ask_answer(ms->repair, ask, outcome == LOST
                      ? MEMSCHED_SIGBUS_LOST : MEMSCHED_SIGBUS_FIXED);
    }
}

/* ---- the thread ---- */

static void *repair_thread(void *opaque)
{
    MsRepair *repair = opaque;
    MemSched *ms = repair->ms;
    uint32_t rung = 0;

    ms->sys->name_thread(ms->sys, "memsched/repair");
    ms->sys->urgent(ms->sys);
    atomic_store(&repair->tid, ms->sys->gettid(ms->sys));
    while (!atomic_load(&repair->stop)) {
        ms->sys->futex_wait(ms->sys, &repair->bell, rung);
        /* Before looking: who asks later rings again. */
        rung = atomic_load(&repair->bell);
        for (unsigned i = 0; i < MS_ASKS; i++) {
            if (atomic_load(&repair->ask[i].state) == MS_ASK_ASKED) {
                answer(ms, &repair->ask[i]);
            }
        }
    }
    return NULL;
}

int ms_repair_start(MemSched *ms, MsRepair **ret_repair)
{
    MsRepair *repair = g_new0(MsRepair, 1);

    repair->ms = ms;
    ms_lock_init(&repair->lock, MS_RANK_LEAF);
    ms_cond_init(&repair->cond);
    ms_lock_init(&repair->refill_lock, MS_RANK_LEAF);
    ms_cond_init(&repair->refill_cond);
    repair->thread = g_thread_try_new("memsched/repair", repair_thread,
                                      repair, NULL);
    if (repair->thread == NULL) {
        ms_repair_stop(repair);
        return -EAGAIN;
    }
    *ret_repair = repair;
    return 0;
}

void ms_repair_stop(MsRepair *repair)
{
    if (repair == NULL) {
        return;
    }
    if (repair->thread) {
        atomic_store(&repair->stop, true);
        ring(repair);
        g_thread_join(repair->thread);
    }
    ms_cond_destroy(&repair->refill_cond);
    ms_lock_destroy(&repair->refill_lock);
    ms_cond_destroy(&repair->cond);
    ms_lock_destroy(&repair->lock);
    g_free(repair);
}

/* ---- calls of ordinary threads ---- */

int memsched_repair_range(const void *host, uint64_t length_bytes)
{
    MemSched *ms = memsched_running();
    uint64_t start = (uintptr_t)host & ~(MEMSCHED_PAGE_SIZE - 1);
    uint64_t end = (uintptr_t)host + length_bytes;
    int repaired = 0, known = 0, lost = 0;

    for (; ms && start < end; start += MEMSCHED_PAGE_SIZE) {
        MemSchedRegion *region = region_at(ms, (void *)(uintptr_t)start);
        uint64_t since_ns = ms->sys->now_ns(ms->sys);
        Outcome outcome = WHOLE;

        if (region == NULL) {
            repaired += renew_any_parity(ms, (void *)(uintptr_t)start, &known);
            continue;
        }
        known++;
        if (ms_region_enter_locked(region)) {
            ms_unlock(&region->lock);
            outcome = repair_page(region, (start - (uintptr_t)region->base) >>
                                  MEMSCHED_PAGE_SHIFT, since_ns, NULL);
            ms_region_leave(region);
        }
        ms_region_unref(region);
        repaired += outcome == REPAIRED;
        lost += outcome == LOST;
    }
    return lost ? -EIO : known ? repaired : -ENOENT;
}
