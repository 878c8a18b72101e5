/*
 * Taking pages out of guests that have too many, when there is no other way
 *
 * Owns the steps that a page takes on its way to state S, which are capture.c's
 * with one more between arena and pool:
 *
 *   region lock   R -> C
 *   no lock       out of their stripes; guest --move--> arena
 *   no lock       compressed into the store, or written to the swap file
 *   no lock       fence and epoch read; what may not go, or found no room: back
 *   ledger lock   frames to the pool; some of them to the store, in one moment
 *   region lock   C -> S with a reference; C -> H where all is zero; or R
 *
 * A touch meanwhile waits for the end of C, so a batch is 32 pages: 1 ms of
 * compressing (26 us a page on a busy machine).  A huge page goes as a whole,
 * or stays: that is 13 ms, so it is taken only where a guest has no small pages
 * that may go.  It comes back in small ones.
 *
 * Which pages.  Nobody tells which are idle, so a hand goes round over all
 * resident frames, and a page that came back by a touch is passed over for
 * REST_S.  What is used comes back soon and then rests; what is not stays away.
 * What finds no room rests likewise: nothing is compressed in vain twice.
 *
 * The pace.  Every move interrupts all vCPUs, so a bucket bounds the calls;
 * four batches a second come out of it in any case.
 *
 * Where the swap file cannot be written it is left alone for ten seconds; the
 * pages stay with their guest.
 *
 * Threads: one, besides tests.  Locks: holder->lock (leaf) guards the plan.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "capture-int.h"
#include "hold.h"
#include "instance.h"
#include "reclaim.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        MEMSCHED_PAGE_SIZE

#define BATCH_PAGES      32u
#define REST_S           30u
#define FLUSHES_PER_S    1000u
#define PAUSE_MOST_NS    UINT64_C(250000000)
#define SWAP_REST_NS     UINT64_C(10000000000)
#define SECOND_NS        UINT64_C(1000000000)

struct MsHoldBatch {
    MsHeld *held;
    MsCapture capture;
    MsPack *pack;
    char *bounce;               /* BATCH_PAGES pages, to be written */
    uint64_t ledger_pages;      /* given to the store with this batch */
    uint64_t tried;             /* pages in this batch */
    MsPageSet kept;             /* pages of the frame with a reference */
    MsHeldRef ref[FRAME_PAGES];
    /* pages that are to be swapped, gathered */
    unsigned swaps;
    uint16_t swap_page[BATCH_PAGES];
};

struct MsHolder {
    MemSched *ms;
    GThread *thread;
    MsLock lock;
    MsCond cond;
    bool kicked, stop;          /* lock */
    MemSchedClient **client;    /* lock: the plan; references */
    uint64_t *pages;
    size_t count;
};

MsHoldBatch *ms_hold_batch_new(MemSched *ms)
{
    MsHoldBatch *b = g_new0(MsHoldBatch, 1);

    b->held = ms->held;
    b->pack = ms_pack_new();
    b->bounce = aligned_alloc(MS_SWAPFILE_ALIGN, BATCH_PAGES * PAGE);
    g_assert(b->bounce);        /* GLib's allocators end the process, too */
    return b;
}

void ms_hold_batch_free(MsHoldBatch *batch)
{
    ms_pack_free(batch->pack);
    free(batch->bounce);
    g_free(batch);
}

/* ---- which ---- */

/* Members of the frame that may go, from page @from of it on. */
static void choose_locked(MemSchedRegion *region, uint64_t f, unsigned from,
                          bool huge, MsPageSet *ret_take)
{
    MsFrame *frame = &region->pages.frame[f];
    const MsSys *sys = region->ms->sys;

    ms_pageset_clear(ret_take);
    if (frame->resident == 0 || frame->given > 0 || frame->transit > 0 ||
        ms_region_is_leased(region, f) ||
        ms_fence_is_raised(&region->ms->fence,
                           ms_region_address(region, f * FRAME_PAGES)) ||
        ms_capture_is_huge_locked(region, f) != huge) {
        return;
    }
    ms_pages_select(&region->pages, f * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(RESIDENT), ret_take);
    ms_held_map_drop_recent(&region->held, f, sys->now_ns(sys) / SECOND_NS,
                            REST_S, ret_take);
    if (huge && ms_pageset_count(ret_take) < FRAME_PAGES) {
        ms_pageset_clear(ret_take);
    } else if (!huge) {
        ms_pageset_remove(ret_take, 0, from);
    }
}

/* The hand's way once round the region.  False: nothing that may go. */
static bool add_frame_locked(MsHoldBatch *b, uint64_t most, bool huge)
{
    MemSchedRegion *region = b->capture.region;
    MsPages *pages = &region->pages;
    unsigned limit = huge ? FRAME_PAGES : MIN(most, BATCH_PAGES);
    uint64_t start = region->hold_cursor / FRAME_PAGES % pages->frames;
    unsigned from = region->hold_cursor % FRAME_PAGES;
    unsigned first, count;
    MsPageSet take;

    if (huge && most < FRAME_PAGES) {
        return false;
    }
    for (uint64_t i = 0; i <= pages->frames; i++, from = 0) {
        uint64_t f = (start + i) % pages->frames;

        choose_locked(region, f, from, huge, &take);
        if (ms_pageset_empty(&take)) {
            continue;
        }
        ms_pageset_keep_first(&take, limit);
        region->hold_cursor = f * FRAME_PAGES;
        for (unsigned p = 0; ms_pageset_run(&take, p, &first, &count);
             p = first + count) {
            region->hold_cursor = f * FRAME_PAGES + first + count;
        }
        return ms_capture_add_locked(&b->capture, f, &take);
    }
    return false;
}

/* ---- keep ---- */

static void keep_ref(MsHoldBatch *b, unsigned page, MsHeldRef ref)
{
    b->ref[page] = ref;
    ms_pageset_add(&b->kept, page, 1);
}

static void refuse(MsHoldBatch *b, unsigned page)
{
    MsCaptureFrame *f = &b->capture.frame[0];

    ms_pageset_add(&f->keep, page, 1);
    /* Whole, or not at all. */
    f->put_back |= f->huge;
    ms_count(&b->held->refused_pages, 1);
}

/* Pages [i, i + n) of those gathered, to the file. */
static void write_run(MsHoldBatch *b, unsigned i, unsigned n, uint32_t first)
{
    MsHeld *held = b->held;
    const MsSys *sys = held->ms->sys;
    int ret = ms_swapfile_write(held->swap, first, n, b->bounce + i * PAGE);

    for (unsigned k = 0; k < n; k++) {
        if (ret == 0) {
            keep_ref(b, b->swap_page[i + k],
                     (MsHeldRef) { .number = first + k, .swapped = true });
        } else {
            refuse(b, b->swap_page[i + k]);
        }
    }
    if (ret < 0) {
        ms_swapfile_release(held->swap, first, n);
        atomic_store(&held->swap_rest_ns, sys->now_ns(sys) + SWAP_REST_NS);
    }
}

static void write_gathered(MsHoldBatch *b)
{
    MsHeld *held = b->held;
    uint32_t first;

    for (unsigned i = 0, n; i < b->swaps; i += n) {
        n = ms_swapfile_reserve(held->swap, b->swaps - i, &first);
        if (n > 0) {
            write_run(b, i, n, first);
        } else {
            refuse(b, b->swap_page[i]);
            n = 1;
        }
    }
    b->swaps = 0;
}

static bool may_swap(const MsHoldBatch *b)
{
    const MsSys *sys = b->held->ms->sys;

    return b->held->swap &&
           sys->now_ns(sys) >= atomic_load(&b->held->swap_rest_ns);
}

static void keep_page(MsHoldBatch *b, unsigned page, const char *arena)
{
    MsCaptureFrame *f = &b->capture.frame[0];
    MsHeldRef ref;

    if (f->put_back) {
        return;                 /* goes back anyhow */
    }
    if (ms_pages_are_zero(arena, 1)) {
        ms_pageset_add(&f->empty, page, 1);
    } else if (ms_held_keep(b->held, b->pack, arena, &ref) == 0) {
        keep_ref(b, page, ref);
    } else if (may_swap(b)) {
        memcpy(b->bounce + b->swaps * PAGE, arena, PAGE);
        b->swap_page[b->swaps++] = page;
        if (b->swaps == BATCH_PAGES) {
            write_gathered(b);
        }
    } else {
        refuse(b, page);
    }
}

static void verify(MsCapture *c)
{
    MsHoldBatch *b = c->opaque;

    for (unsigned k = 0; k < c->runs; k++) {
        MsCaptureRun *r = &c->run[k];
        unsigned at = 0, page, count;

        for (unsigned p = 0; ms_pageset_run(&r->pages, p, &page, &count);
             p = page + count) {
            for (unsigned i = page; i < page + count; i++, at++) {
                if (ms_pageset_has(&r->arrived, at)) {
                    keep_page(b, i, r->run.address + at * PAGE);
                }
            }
        }
    }
    if (b->swaps > 0) {
        write_gathered(b);
    }
    if (c->frame[0].huge && ms_pageset_count(&c->frame[0].empty) +
        ms_pageset_count(&b->kept) < FRAME_PAGES) {
        c->frame[0].put_back = true;
    }
}

/* ---- the books ---- */

/* Before anybody else can be granted them: the next batch needs room. */
static void credited(MsCapture *c, uint64_t pages)
{
    MsHoldBatch *b = c->opaque;

    b->ledger_pages = ms_ledger_hold(&b->held->ms->ledger,
                                     MIN(ms_held_wish(b->held), pages));
}

/* What found no room; of a huge page, all of it. */
static void rest_locked(MsCapture *c, const MsCaptureFrame *f)
{
    const MsSys *sys = c->region->ms->sys;
    uint64_t now_s = sys->now_ns(sys) / SECOND_NS;

    for (unsigned i = 0; i < FRAME_PAGES; i++) {
        if (ms_pageset_has(f->huge ? &f->take : &f->keep, i)) {
            ms_held_map_came_back(&c->region->held,
                                  f->frame * FRAME_PAGES + i, now_s);
        }
    }
}

static void captured_locked(MsCapture *c, unsigned index)
{
    MsHoldBatch *b = c->opaque;
    const MsCaptureFrame *f = &c->frame[index];
    MsHeld *held = b->held;
    unsigned first, count, stored = 0, swapped = 0;

    for (unsigned p = 0; ms_pageset_run(&b->kept, p, &first, &count);
         p = first + count) {
        for (unsigned i = first; i < first + count; i++) {
            if (ms_pageset_has(&f->gone, i)) {
                ms_held_map_set(&c->region->held,
                                f->frame * FRAME_PAGES + i, b->ref[i]);
                swapped += b->ref[i].swapped;
                stored += !b->ref[i].swapped;
            } else {
                ms_held_drop(held, b->ref[i]);
            }
        }
    }
    if (!ms_pageset_empty(&f->keep)) {
        rest_locked(c, f);
    }
    ms_count(&held->stored_pages, stored);
    ms_count(&held->swapped_pages, swapped);
    ms_count(&held->zero_pages,
             ms_pageset_count(&f->gone) - stored - swapped);
}

static const MsCaptureOps ops = {
    .verify = verify, .credited = credited,
    .captured_locked = captured_locked,
};

/* ---- one batch ---- */

static uint64_t take_region(MsHoldBatch *b, MemSchedRegion *region,
                            uint64_t most, bool huge)
{
    MsCapture *c = &b->capture;

    if (!ms_region_enter_locked(region)) {
        b->tried = 0;
        c->flushes = 0;
        return 0;
    }
    ms_capture_init_locked(c, region, MEMSCHED_SOURCE_ANY,
                           MEMSCHED_PAGE_HELD);
    c->ops = &ops;
    c->opaque = b;
    b->ledger_pages = 0;
    b->tried = 0;
    b->swaps = 0;
    ms_pageset_clear(&b->kept);
    /* Without moves nothing could be put back. */
    if (region->movable) {
        add_frame_locked(b, most, huge);
    }
    b->tried = c->pages_want;
    ms_unlock(&region->lock);
    ms_capture_run(c);
    ms_region_leave(region);
    ms_held_grow(b->held, b->ledger_pages);
    return c->captured_pages;
}

uint64_t ms_hold_step(MsHoldBatch *batch, MemSchedClient *client,
                      uint64_t most, uint64_t *ret_tried,
                      unsigned *ret_flushes)
{
    MemSchedRegion **regions;
    uint64_t done = 0;
    size_t count;

    *ret_tried = 0;
    *ret_flushes = 0;
    if (most == 0 || ms_held_is_full(batch->held) ||
        !ms_client_capture_enter(client, false)) {
        return 0;
    }
    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < 2 * count && *ret_tried == 0; i++) {
        done = take_region(batch, regions[i % count], most, i >= count);
        *ret_tried = batch->tried;
        *ret_flushes += batch->capture.flushes;
    }
    for (size_t i = 0; i < count; i++) {
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    ms_client_capture_leave(client);
    return done;
}

/* ---- the plan ---- */

static void drop_plan(MemSchedClient **client, uint64_t *pages, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ms_client_unref(client[i]);
    }
    g_free(client);
    g_free(pages);
}

static void set_ceilings(MemSched *ms, MemSchedClient **clients,
                         const MsReclaimGuest *guests, size_t count)
{
    bool changed = false;

    ms_lock(&ms->ledger_lock);
    for (size_t i = 0; i < count; i++) {
        MsAccount *account = &clients[i]->account;

        changed |= account->ceiling != guests[i].ceiling;
        account->ceiling = guests[i].ceiling;
    }
    ms_unlock(&ms->ledger_lock);
    if (changed) {
        ms_ledger_rose(ms);
    }
}

void ms_hold_tick(MemSched *ms, MemSchedClient **clients,
                  const MsPolicyGuest *guests, size_t count)
{
    MsHolder *holder = ms->holder;
    MsReclaimInput input = {
        .state = atomic_load(&ms->host_state), .min_free = ms->min_free_pages,
    };
    g_autofree MsReclaimGuest *plan = g_new0(MsReclaimGuest, count + 1);
    MemSchedClient **client, **old_client;
    uint64_t *pages, *old_pages;
    size_t old_count;

    if (holder == NULL) {
        return;
    }
    ms_lock(&ms->ledger_lock);
    input.free = ms->ledger.free - MIN(ms->ledger.claims, ms->ledger.free);
    ms_unlock(&ms->ledger_lock);
    for (size_t i = 0; i < count; i++) {
        plan[i] = (MsReclaimGuest) {
            .allocated = guests[i].allocated, .min = guests[i].min,
            .entitlement = guests[i].entitlement,
            .idle = guests[i].allocated - MIN(guests[i].active,
                                              guests[i].allocated),
            .waiting = guests[i].waiting,
        };
    }
    ms_reclaim_run(&input, plan, count);
    set_ceilings(ms, clients, plan, count);

    client = g_new(MemSchedClient *, count + 1);
    pages = g_new0(uint64_t, count + 1);
    for (size_t i = 0; i < count; i++) {
        client[i] = ms_client_ref(clients[i]);
        pages[i] = plan[i].take;
    }
    ms_lock(&holder->lock);
    old_client = holder->client;
    old_pages = holder->pages;
    old_count = holder->count;
    holder->client = client;
    holder->pages = pages;
    holder->count = count;
    holder->kicked = true;
    ms_cond_signal(&holder->cond);
    ms_unlock(&holder->lock);
    drop_plan(old_client, old_pages, old_count);
}

/* ---- the thread ---- */

/* The next guest of the plan, with a reference, and what is left of it. */
static MemSchedClient *next_locked(MsHolder *h, size_t *turn,
                                   uint64_t *ret_pages)
{
    for (size_t i = 0; i < h->count; i++) {
        size_t k = (*turn + i) % h->count;

        if (h->pages[k] > 0) {
            *turn = k + 1;
            *ret_pages = h->pages[k];
            return ms_client_ref(h->client[k]);
        }
    }
    return NULL;
}

/* So many pages of the plan are done, or not to be had. */
static void done_locked(MsHolder *h, MemSchedClient *client, uint64_t done)
{
    for (size_t i = 0; i < h->count; i++) {
        if (h->client[i] == client) {
            h->pages[i] -= MIN(done, h->pages[i]);
        }
    }
}

static void *hold_thread(void *opaque)
{
    MsHolder *h = opaque;
    const MsSys *sys = h->ms->sys;
    MsHoldBatch *batch = ms_hold_batch_new(h->ms);
    size_t turn = 0;

    sys->name_thread(sys, "memsched/hold");
    ms_lock(&h->lock);
    while (!h->stop) {
        uint64_t left, done, tried, start_ns = sys->now_ns(sys), pause_ns;
        MemSchedClient *client = next_locked(h, &turn, &left);
        unsigned flushes;

        if (client == NULL) {
            if (!h->kicked) {
                ms_cond_wait(&h->cond, &h->lock);
            }
            h->kicked = false;
            ms_unlock(&h->lock);
            ms_held_trim(h->ms->held);
            ms_lock(&h->lock);
            continue;
        }
        ms_unlock(&h->lock);
        done = ms_hold_step(batch, client, left, &tried, &flushes);
        ms_lock(&h->lock);
        done_locked(h, client, tried ? done : left);
        pause_ns = MIN(flushes * SECOND_NS / FLUSHES_PER_S, PAUSE_MOST_NS);
        start_ns = sys->now_ns(sys) - start_ns;
        if (pause_ns > start_ns && !h->stop) {
            ms_cond_wait_ns(&h->cond, &h->lock, pause_ns - start_ns);
        }
        ms_unlock(&h->lock);
        ms_client_unref(client);
        ms_lock(&h->lock);
    }
    ms_unlock(&h->lock);
    ms_hold_batch_free(batch);
    return NULL;
}

int ms_hold_start(MemSched *ms, MsHolder **ret_holder)
{
    MsHolder *holder = g_new0(MsHolder, 1);

    holder->ms = ms;
    ms_lock_init(&holder->lock, MS_RANK_LEAF);
    ms_cond_init(&holder->cond);
    holder->thread = g_thread_try_new("memsched/hold", hold_thread, holder,
                                      NULL);
    if (holder->thread == NULL) {
        ms_hold_stop(holder);
        return -EAGAIN;
    }
    *ret_holder = holder;
    return 0;
}

void ms_hold_stop(MsHolder *holder)
{
    if (holder == NULL) {
        return;
    }
    if (holder->thread) {
        ms_lock(&holder->lock);
        holder->stop = true;
        ms_cond_signal(&holder->cond);
        ms_unlock(&holder->lock);
        g_thread_join(holder->thread);
    }
    drop_plan(holder->client, holder->pages, holder->count);
    ms_cond_destroy(&holder->cond);
    ms_lock_destroy(&holder->lock);
    g_free(holder);
}
