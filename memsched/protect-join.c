/*
 * Pages join stripes
 *
 * One frame at a time, all of its pages that can:
 *
 *   region lock   pages R -> C                       ms_capture_add_locked()
 *   no lock       guest --move--> arena              busy: pinned, not now
 *   no lock       checksums of the arena's copy      look_out()
 *   no lock       arena --move--> guest
 *   no lock       write-protect                      look_back()
 *   no lock       fence raised? then not
 *   no lock       read again: same checksum? else not that page
 *   rows busy     into the parity, then in the books
 *   region lock   C -> R, wake whoever touched one
 *
 * A page that moved out and in was not pinned, so no DMA of before is in flight
 * to it.  Between the move in and the protection a page can be written: by a
 * thread, or by a DMA that began in between.  A DMA that has not ended keeps
 * the fence up, which is read after the protection; everything that did end
 * shows in the second checksum.  After the protection whoever wants to write,
 * the kernel on behalf of a device included, faults.  So what is summed is
 * what stays there until somebody asks.
 *
 * (To put small pages back with UFFDIO_COPY, protected from their first moment,
 * is as safe without the second look, but takes 1.2 us a page instead of 0.7,
 * and frames of the kernel's instead of the guest's own.)
 *
 * The moves are those of a capture that puts all of its pages back; its
 * MsCaptureOps are what is written here.
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

/* Frames that are looked at in one go for one that may join. */
#define SCAN_FRAMES 256u

/* A join on its way. */
typedef struct Join {
    MsProtect *protect;
    MsGroup *group;             /* kept */
    uint64_t frame;
    MsPageSet want;             /* pages to join */
    MsPageSet out;              /* those that have been out, and summed */
    uint64_t sum[FRAME_PAGES];
    uint64_t joined;
} Join;

/* ---- between the moves ---- */

static void look_out(MsCapture *c)
{
    Join *join = c->opaque;
    const MsParityKernel *kernel = ms_parity_best();

    for (unsigned i = 0; i < c->frames; i++) {
        c->frame[i].put_back = true;
    }
    for (unsigned i = 0; i < c->runs; i++) {
        MsCaptureRun *r = &c->run[i];
        unsigned page, count, at = 0;

        for (unsigned p = 0; ms_pageset_run(&r->pages, p, &page, &count);
             p = page + count) {
            for (unsigned k = 0; k < count; k++, at++) {
                if (ms_pageset_has(&r->arrived, at) &&
                    ms_pageset_has(&join->want, page + k)) {
                    join->sum[page + k] = kernel->sum(r->run.address +
                                                      at * PAGE, PAGE);
                    ms_pageset_add(&join->out, page + k, 1);
                }
            }
        }
    }
}

static char *guest_page(const Join *join, unsigned page)
{
    return ms_region_address(join->protect->region,
                             join->frame * FRAME_PAGES + page);
}

/* Those of out[] that are protected now. */
static void protect_pages(Join *join, bool huge, MsPageSet *ret_set)
{
    const MsUffd *uffd = &join->protect->region->client->uffd;
    unsigned page, count;

    ms_pageset_clear(ret_set);
    if (huge) {
        if (ms_pageset_count(&join->out) == FRAME_PAGES &&
            ms_uffd_protect(uffd, guest_page(join, 0), FRAME_PAGES, true,
                            false) == 0) {
            *ret_set = join->out;
        }
        return;
    }
    for (unsigned p = 0; ms_pageset_run(&join->out, p, &page, &count);
         p = page + count) {
        if (ms_uffd_protect(uffd, guest_page(join, page), count, true,
                            false) == 0) {
            ms_pageset_add(ret_set, page, count);
        }
    }
}

/* Members of [page, page + count) whose content at @data is what it was. */
static unsigned same_run(const Join *join, const char *data, unsigned page,
                         unsigned count)
{
    unsigned n = 0;

    while (n < count && ms_parity_best()->sum(data + n * PAGE, PAGE) ==
           join->sum[page + n]) {
        n++;
    }
    return n;
}

/*
 * A run of pages that are read and right: into the parity, each run of rows
 * that is empty as the first.  Rows whose parity is bad are left out.
 */
static void add_run(Join *join, MsWork *work, const MsMember *member,
                    unsigned page, unsigned count, MsPageSet *ret_added)
{
    MsProtect *protect = join->protect;
    MsGroup *group = join->group;
    unsigned done = 0;

    while (done < count) {
        bool fresh = group->count[page + done] == 0, bad = false;
        unsigned n = 0;

        ms_lock(&protect->lock);
        while (done + n < count && !bad &&
               (group->count[page + done + n] == 0) == fresh) {
            bad = ms_pageset_has(&group->bad[0], page + done + n) ||
                  ms_pageset_has(&group->bad[1], page + done + n);
            n += !bad;
        }
        ms_unlock(&protect->lock);
        if (n > 0) {
            ms_rows_add(protect, work, member, page + done, n,
                        work->data + done * PAGE, fresh);
            ms_pageset_add(ret_added, page + done, n);
        }
        done += n + bad;
    }
}

/* Read the pages once more, and add those that are right. */
static void add_pages(Join *join, MsWork *work, const MsMember *member,
                      const MsPageSet *set, MsPageSet *ret_added)
{
    uint64_t first = join->frame * FRAME_PAGES;
    unsigned page, count, same;

    ms_pageset_clear(ret_added);
    for (unsigned p = 0; ms_pageset_run(set, p, &page, &count);
         p = page + count) {
        count = MIN(count, MS_PROTECT_CHUNK);
        count = ms_protect_peek(join->protect, first + page, count,
                                work->data);
        same = same_run(join, work->data, page, count);
        add_run(join, work, member, page, same, ret_added);
        /* Over the one that is not, if there is one. */
        count = MAX(same, 1);
    }
}

static void commit(Join *join, bool huge, const MsPageSet *set)
{
    MsProtect *protect = join->protect;
    MsStripes *stripes = &protect->stripes;
    MsWork *work = ms_work_get(protect);
    MsMember *member;
    MsPageSet added;
    unsigned page, count;

    ms_lock(&protect->lock);
    ms_rows_take_locked(protect, join->group, set);
    member = ms_stripes_member(stripes, join->frame);
    if (member == NULL) {
        member = ms_stripes_add_member(stripes, join->group, join->frame,
                                       huge);
    }
    if (member) {
        member->keep = true;
    }
    ms_unlock(&protect->lock);
    if (member) {
        add_pages(join, work, member, set, &added);
        for (unsigned p = 0; ms_pageset_run(&added, p, &page, &count);
             p = page + count) {
            memcpy(&member->sum[page], &join->sum[page],
                   count * sizeof(member->sum[0]));
        }
    } else {
        ms_pageset_clear(&added);
    }
    ms_lock(&protect->lock);
    if (member) {
        member->huge = huge;
        member->keep = false;
        ms_stripes_join(stripes, member, &added);
    }
    ms_rows_end_locked(protect, join->group, set);
    ms_unlock(&protect->lock);
    ms_work_put(protect, work);
    join->joined = ms_pageset_count(&added);
    join->out = added;
}

static void look_back(MsCapture *c)
{
    Join *join = c->opaque;
    MsProtect *protect = join->protect;
    MemSchedRegion *region = protect->region;
    MemSched *ms = region->ms;
    char *frame = guest_page(join, 0);
    bool huge = c->frame[0].huge &&
                ms_pagemap_is_huge(ms_pool_pagemap(ms->pool), frame) == 1;
    MsPageSet done, rest;

    protect_pages(join, huge, &done);
    rest = done;
    if (!ms_pageset_empty(&done) &&
        !ms_fence_is_raised(&ms->fence, frame)) {
        commit(join, huge, &done);
        ms_pageset_subtract(&rest, &join->out);
    }
    ms_count(&region->client->protect_stats.joined, join->joined);
    ms_count(&region->client->protect_stats.changed, ms_pageset_count(&rest));
    if (!huge || join->joined == 0) {
        ms_protect_open(region, join->frame, &rest, false);
    }
}

static const MsCaptureOps join_ops = {
    .verify = look_out, .returned = look_back,
};

/* ---- which ---- */

/* What of the frame could join now; region and protection locked. */
static bool choose_locked(MsProtect *protect, uint64_t frame, uint32_t now_ms,
                          MsPageSet *ret_want)
{
    MemSchedRegion *region = protect->region;
    const MsFrame *f = &region->pages.frame[frame];
    const MsMember *member = ms_stripes_member(&protect->stripes, frame);
    MsPageSet located;

    if (f->resident == 0 || f->transit > 0 ||
        !ms_cover_has(protect, frame, MEMSCHED_COVER_PARITY) ||
        (int32_t)(now_ms - protect->heat[frame].next_ms) < 0) {
        return false;
    }
    /* Whatever a lost page holds by now is its content from here on. */
    ms_pages_renew(&region->pages, frame * FRAME_PAGES, FRAME_PAGES);
    ms_pages_select(&region->pages, frame * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(RESIDENT), ret_want);
    if ((f->flags & MS_FRAME_HUGE) &&
        ms_pageset_count(ret_want) < FRAME_PAGES) {
        return false;           /* some of it is given: it goes soon */
    }
    if (member) {
        ms_pageset_subtract(ret_want, &member->in);
    }
    /* What is on a disk needs no parity; of a huge page, all or nothing. */
    ms_protect_disk_located(protect, frame, &located);
    if (!(f->flags & MS_FRAME_HUGE) ||
        ms_pageset_count(&located) == FRAME_PAGES) {
        ms_pageset_subtract(ret_want, &located);
    }
    return !ms_pageset_empty(ret_want) &&
           !ms_fence_is_raised(&region->ms->fence,
                               ms_region_address(region,
                                                 frame * FRAME_PAGES));
}

/*
 * Next frame from the cursor on, going round; a slot for it is kept.
 * -EAGAIN: none now.  -ENOSPC: a new group is needed, and the caller is a user
 * of the stripes until add_group() ends.  -EPERM: @join->want are in, which
 * are not to be covered any more.  -ESTALE: pages in
 * @join->want, whose content is gone, have to leave first.
 */
static int choose(MsProtect *protect, Join *join)
{
    MemSchedRegion *region = protect->region;
    uint64_t frames = region->pages.frames;
    uint64_t left = MIN(frames, SCAN_FRAMES);
    uint32_t now_ms = ms_protect_clock_ms(protect);
    MsMember *member;
    int ret = -EAGAIN;

    ms_lock(&region->lock);
    ms_lock(&protect->lock);
    for (; protect->on && left > 0 && ret == -EAGAIN; left--) {
        uint64_t frame = protect->cursor % frames;

        member = ms_stripes_member(&protect->stripes, frame);
        if (member && !ms_pageset_empty(&member->gone)) {
            join->frame = frame;
            join->want = member->gone;
            ret = -ESTALE;
            break;
        }
        if (member && !ms_cover_has(protect, frame, MEMSCHED_COVER_PARITY)) {
            join->frame = frame;
            join->want = member->in;
            ret = -EPERM;
            break;
        }
        if (!choose_locked(protect, frame, now_ms, &join->want)) {
            protect->cursor = frame + 1;
            continue;
        }
        join->frame = frame;
        join->group = member ? member->group
                             : ms_stripes_open(&protect->stripes);
        ret = join->group ? 0 : -ENOSPC;
    }
    if (ret == 0) {
        join->group->keep++;
        protect->users++;
        protect->cursor = join->frame + 1;
    } else if (ret == -ENOSPC) {
        /* The scheme stays what it is, and what is added is not forgotten. */
        protect->users++;
    }
    ms_unlock(&protect->lock);
    ms_unlock(&region->lock);
    return ret;
}

/* ---- parity frames ---- */

static int charge(MsProtect *protect, uint64_t pages)
{
    MemSchedClient *client = protect->region->client;
    MemSched *ms = client->ms;
    MemSchedProtection settings = ms_protect_settings(client);
    uint64_t limit = settings.max_parity_bytes >> MEMSCHED_PAGE_SHIFT;
    int ret;

    ms_lock(&ms->ledger_lock);
    if (settings.max_parity_bytes &&
        client->account.parity + pages > limit) {
        ret = -ENOSPC;
    } else {
        ret = ms_ledger_parity(&ms->ledger, &client->account, pages);
    }
    ms_unlock(&ms->ledger_lock);
    return ret;
}

/*
 * Room for one more group.  Frames of the pool that are short elsewhere are
 * not for this: -ENOSPC.
 */
static int try_add_group(MsProtect *protect)
{
    MemSched *ms = protect->region->ms;
    unsigned parities = protect->stripes.parities, k = 0;
    char *address[MS_PARITY_PAGES] = { NULL };
    MsParityFrames *frames;
    int ret;

    if (ms_is_short(ms)) {
        return -ENOSPC;
    }
    ret = charge(protect, parities * FRAME_PAGES);
    if (ret < 0) {
        return ret;
    }
    frames = g_new0(MsParityFrames, 1);
    while (k < parities && ret == 0) {
        ret = ms_pool_take(ms->pool, FRAME_PAGES, MS_POOL_HUGE | MS_POOL_DIRTY,
                           &frames->run[k]);
        if (ret == 0) {
            address[k] = frames->run[k].address;
            k++;
        }
    }
    ms_lock(&protect->lock);
    if (ret == 0 && !ms_stripes_add_group(&protect->stripes, address,
                                          frames)) {
        ret = -ENOMEM;
    }
    if (ret < 0) {
        ms_lock(&ms->ledger_lock);
        ms_ledger_unparity(&ms->ledger, &protect->region->client->account,
                           (parities - k) * FRAME_PAGES);
        ms_unlock(&ms->ledger_lock);
        ms_parity_release(protect, frames);
    }
    ms_unlock(&protect->lock);
    return ret;
}

static void unuse(MsProtect *protect)
{
    ms_lock(&protect->lock);
    protect->users--;
    ms_cond_broadcast(&protect->cond);
    ms_unlock(&protect->lock);
}

static int add_group(MsProtect *protect)
{
    int ret = try_add_group(protect);

    unuse(protect);
    return ret;
}

/* ---- one frame ---- */

static void run_join(Join *join, MsCapture *capture)
{
    MsProtect *protect = join->protect;
    MemSchedRegion *region = protect->region;

    ms_lock(&region->lock);
    ms_capture_init_locked(capture, region, MEMSCHED_SOURCE_ANY,
                           MEMSCHED_PAGE_HOLE);
    capture->ops = &join_ops;
    capture->opaque = join;
    ms_capture_add_locked(capture, join->frame, &join->want);
    ms_unlock(&region->lock);
    ms_capture_run(capture);
}

/* The group is no longer kept: it may be empty. */
static void let_go(Join *join)
{
    MsProtect *protect = join->protect;
    MsPageSet none;

    ms_pageset_clear(&none);
    ms_lock(&protect->lock);
    join->group->keep--;
    ms_rows_end_locked(protect, join->group, &none);
    ms_unlock(&protect->lock);
}

/* Rows whose parity an error has taken get a new one. */
static void heal_rows(MsProtect *protect, MsGroup *group)
{
    MsPageSet bad;
    unsigned page, count;
    MsWork *work;

    ms_lock(&protect->lock);
    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        bad.word[w] = group->bad[0].word[w] | group->bad[1].word[w];
    }
    if (!ms_pageset_empty(&bad)) {
        ms_rows_take_locked(protect, group, &bad);
    }
    ms_unlock(&protect->lock);
    if (ms_pageset_empty(&bad)) {
        return;
    }
    work = ms_work_get(protect);
    for (unsigned p = 0; ms_pageset_run(&bad, p, &page, &count);
         p = page + count) {
        for (unsigned i = page; i < page + count; i++) {
            if (group->count[i] > 0) {
                ms_row_recompute(protect, work, group, i, NULL);
            }
        }
    }
    ms_lock(&protect->lock);
    ms_rows_end_locked(protect, group, &bad);
    ms_unlock(&protect->lock);
    ms_work_put(protect, work);
}

/* The same where nobody joins. */
static void heal_any(MsProtect *protect)
{
    MsStripes *stripes = &protect->stripes;
    Join join = { .protect = protect };

    ms_lock(&protect->lock);
    for (unsigned g = 0; g < stripes->groups && join.group == NULL; g++) {
        MsGroup *group = stripes->group[g];

        if (!ms_pageset_empty(&group->bad[0]) ||
            !ms_pageset_empty(&group->bad[1])) {
            join.group = group;
            group->keep++;
            protect->users++;
        }
    }
    ms_unlock(&protect->lock);
    if (join.group) {
        heal_rows(protect, join.group);
        let_go(&join);
    }
}

/* All at once where the frame is one huge page. */
static uint64_t leave_uncovered(MsProtect *protect, Join *join)
{
    MsPageSet *set = &join->want;
    uint64_t pages = ms_protect_leave_rows(protect, join->frame, set, false);

    if (pages > 0) {
        ms_protect_open(protect->region, join->frame, set, true);
    }
    /* Broken ones stay in until they are repaired: not again at once. */
    ms_lock(&protect->lock);
    protect->cursor = join->frame + 1;
    ms_unlock(&protect->lock);
    return pages;
}

uint64_t ms_protect_join(MsProtect *protect, MsCapture *capture)
{
    MemSchedClient *client = protect->region->client;
    MemSchedProtection settings = ms_protect_settings(client);
    Join join = { .protect = protect };
    MsHeat *heat;
    int ret = choose(protect, &join);

    if (ret == -ENOSPC && add_group(protect) == 0) {
        ret = choose(protect, &join);
        if (ret == -ENOSPC) {
            /* Others were faster, or it changes: next time. */
            unuse(protect);
        }
    }
    if (ret == -ESTALE) {
        return ms_protect_leave_rows(protect, join.frame, &join.want,
                                     true) * PAGE;
    }
    if (ret == -EPERM) {
        return leave_uncovered(protect, &join) * PAGE;
    }
    if (ret < 0) {
        heal_any(protect);
        return 0;
    }
    heal_rows(protect, join.group);
    run_join(&join, capture);
    let_go(&join);

    ms_lock(&protect->lock);
    heat = &protect->heat[join.frame];
    heat->joined_ms = ms_protect_clock_ms(protect);
    /* Those that could not are left alone for a while. */
    heat->next_ms = heat->joined_ms + settings.cool_ms;
    ms_unlock(&protect->lock);
    return ms_pageset_count(&join.want) * PAGE;
}
