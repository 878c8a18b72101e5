/*
 * Stripes, read and written
 *
 * Owns the arithmetic on pages that are in use: sums, rebuilding, and the order
 * of steps that makes a change of parity safe.
 *
 * Rows.  An operation makes the rows that it works on *busy* under the lock,
 * and then works without it.  In a busy row nobody else joins, leaves, or
 * rebuilds;
 * pages of guests in it are write-protected and cannot leave the guest, since
 * whoever wants to take one out of the guest has to take it out of its row
 * first.  Who holds busy rows waits for nobody: no page in C, no guest, no
 * other row.  So all waits for rows are short.
 *
 * Reading.  Pages of guests are read by the kernel (peek): a broken one is an
 * error and not a signal.  What was read is compared with its checksum before
 * it goes anywhere: a page that changed behind our back (an ill-behaved DMA,
 * somebody's madvise()) costs its stripe nothing but that page.
 *
 * Parity is computed aside and then copied over the old.  It is read and
 * written by the kernel as well: a broken parity page is replaced, and called
 * bad until its row is summed anew.  So nobody who holds a row ever takes a
 * signal, and waits for the repair thread, which may be waiting for that row.
 *
 * Locks: protect->lock for the books only.  The kernel is entered without it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "instance.h"
#include "protect-int.h"

#define PAGE ((size_t)MEMSCHED_PAGE_SIZE)

/* ---- buffers ---- */

MsWork *ms_work_get(MsProtect *protect)
{
    MsWork *work;
    char *at;

    ms_lock(&protect->lock);
    work = protect->spare;
    protect->spare = NULL;
    ms_unlock(&protect->lock);
    if (work) {
        return work;
    }
    work = g_new0(MsWork, 1);
    work->base = at = aligned_alloc(PAGE, PAGE * (4 * MS_PROTECT_CHUNK +
                                    MS_PARITY_SLOTS + 2 * MS_PARITY_PAGES));
    g_assert(at);               /* GLib's allocators end the process, too */
    work->data = at;
    at += MS_PROTECT_CHUNK * PAGE;
    work->old = at;
    at += MS_PROTECT_CHUNK * PAGE;
    for (unsigned k = 0; k < MS_PARITY_PAGES; k++) {
        work->aside[k] = at;
        at += MS_PROTECT_CHUNK * PAGE;
    }
    for (unsigned s = 0; s < MS_PARITY_SLOTS; s++, at += PAGE) {
        work->page[s] = at;
    }
    for (unsigned k = 0; k < MS_PARITY_PAGES; k++, at += 2 * PAGE) {
        work->parity[k] = at;
        work->out[k] = at + PAGE;
    }
    return work;
}

void ms_work_free(MsWork *work)
{
    if (work) {
        free(work->base);
        g_free(work);
    }
}

void ms_work_put(MsProtect *protect, MsWork *work)
{
    ms_lock(&protect->lock);
    if (protect->spare == NULL) {
        protect->spare = work;
        work = NULL;
    }
    ms_unlock(&protect->lock);
    ms_work_free(work);
}

/* ---- rows ---- */

static bool overlap(const MsPageSet *a, const MsPageSet *b)
{
    MsPageSet both = ms_pageset_and(a, b);

    return !ms_pageset_empty(&both);
}

static void own_locked(MsGroup *group, const MsPageSet *set)
{
    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        group->busy.word[w] |= set->word[w];
    }
}

MsMember *ms_rows_begin_locked(MsProtect *protect, uint64_t frame,
                               MsPageSet *set)
{
    for (;;) {
        MsMember *member = ms_stripes_member(&protect->stripes, frame);
        MsPageSet in;

        if (member == NULL) {
            return NULL;
        }
        in = ms_pageset_and(set, &member->in);
        if (ms_pageset_empty(&in)) {
            return NULL;
        }
        if (!overlap(&in, &member->group->busy)) {
            own_locked(member->group, &in);
            protect->users++;
            *set = in;
            return member;
        }
        /* The member may have left by then: look again. */
        ms_cond_wait(&protect->cond, &protect->lock);
    }
}

void ms_rows_take_locked(MsProtect *protect, MsGroup *group,
                         const MsPageSet *set)
{
    /* Already while it waits: or the group might be freed meanwhile. */
    protect->users++;
    while (overlap(set, &group->busy)) {
        ms_cond_wait(&protect->cond, &protect->lock);
    }
    own_locked(group, set);
}

void ms_rows_end_locked(MsProtect *protect, MsGroup *group,
                        const MsPageSet *set)
{
    unsigned page, count;
    void *frames;

    for (unsigned p = 0; ms_pageset_run(set, p, &page, &count);
         p = page + count) {
        for (unsigned i = page; i < page + count; i++) {
            if (group->count[i] == 0) {
                /* The next to join is the sum, whatever was there. */
                ms_pageset_remove(&group->bad[0], i, 1);
                ms_pageset_remove(&group->bad[1], i, 1);
            }
        }
    }
    ms_pageset_subtract(&group->busy, set);
    protect->users--;
    for (unsigned s = 0; s < protect->stripes.size; s++) {
        if (group->member[s]) {
            ms_stripes_reap_member(&protect->stripes, group->member[s]);
        }
    }
    if (ms_stripes_reap_group(&protect->stripes, group, &frames)) {
        ms_parity_release(protect, frames);
    }
    ms_cond_broadcast(&protect->cond);
}

/* ---- pages of guests ---- */

unsigned ms_protect_peek(MsProtect *protect, uint64_t page, unsigned count,
                         void *buf)
{
    MemSchedRegion *region = protect->region;
    const MsSys *sys = region->ms->sys;
    char *address = ms_region_address(region, page);
    int there = ms_pagemap_until_hole(ms_pool_pagemap(region->ms->pool),
                                      address, count);
    ssize_t got = there > 0 ? sys->peek(sys, buf, address, there * PAGE) : 0;

    return got > 0 ? got / PAGE : 0;
}

/* ---- parity frames ---- */

/*
 * A frame of which a part was replaced, or is broken and nobody has met it,
 * goes back to the kernel for a fresh one: the pool must not find the error.
 */
static void refresh(MsPool *pool, MsPoolRun *run)
{
    if (!run->huge ||
        ms_pagemap_is_huge(ms_pool_pagemap(pool), run->address) != 1) {
        run->huge = true;
        ms_pool_discard(pool, run, 0, run->pages);
        ms_pool_fill(pool, run, 0, run->pages);
    }
}

void ms_parity_release(MsProtect *protect, MsParityFrames *frames)
{
    MemSchedClient *client = protect->region->client;
    MemSched *ms = client->ms;
    uint64_t pages = 0;
    MsPageSet none;

    ms_pageset_clear(&none);
    for (unsigned k = 0; k < MS_PARITY_PAGES; k++) {
        if (frames->run[k].pages) {
            refresh(ms->pool, &frames->run[k]);
        }
    }
    ms_lock(&ms->ledger_lock);
    for (unsigned k = 0; k < MS_PARITY_PAGES; k++) {
        if (frames->run[k].pages) {
            pages += frames->run[k].pages;
            ms_pool_take_end(ms->pool, &frames->run[k], &none, true);
        }
    }
    ms_ledger_unparity(&ms->ledger, &client->account, pages);
    ms_unlock(&ms->ledger_lock);
    g_free(frames);
}

void ms_parity_renew(MsProtect *protect, MsGroup *group, unsigned k,
                     unsigned page)
{
    MsParityFrames *frames = group->opaque;
    MsPool *pool = protect->region->ms->pool;

    ms_lock(&protect->lock);
    ms_pageset_add(&group->bad[k], page, 1);
    ms_unlock(&protect->lock);
    ms_pool_discard(pool, &frames->run[k], page, 1);
    ms_pool_fill(pool, &frames->run[k], page, 1);
}

/* Broken ones read as zeros: they are bad from then on. */
static void read_parity_run(MsProtect *protect, MsGroup *group, unsigned k,
                            unsigned page, unsigned count, char *buf)
{
    const MsSys *sys = protect->region->ms->sys;
    unsigned done = 0;

    while (done < count) {
        ssize_t got = sys->peek(sys, buf + done * PAGE,
                                ms_parity_address(group, k, page + done),
                                (count - done) * PAGE);

        done += got > 0 ? got / PAGE : 0;
        if (done < count) {
            memset(buf + done * PAGE, 0, PAGE);
            ms_parity_renew(protect, group, k, page + done);
            done++;
        }
    }
}

static void write_parity(MsProtect *protect, MsGroup *group, unsigned k,
                         unsigned page, unsigned count, const char *data)
{
    const MsSys *sys = protect->region->ms->sys;
    unsigned done = 0;

    while (done < count) {
        ssize_t put = sys->poke(sys, ms_parity_address(group, k, page + done),
                                data + done * PAGE, (count - done) * PAGE);

        done += put > 0 ? put / PAGE : 0;
        if (done < count) {
            ms_parity_renew(protect, group, k, page + done);
            done++;
        }
    }
}

/* ---- one row ---- */

void ms_row_members(MsProtect *protect, const MsGroup *group, unsigned page,
                    MsRow *row)
{
    row->count = 0;
    ms_lock(&protect->lock);
    for (unsigned s = 0; s < protect->stripes.size; s++) {
        MsMember *m = group->member[s];

        if (m && ms_pageset_has(&m->in, page)) {
            row->gone[row->count] = ms_pageset_has(&m->gone, page);
            row->member[row->count++] = m;
        }
    }
    for (unsigned k = 0; k < MS_PARITY_PAGES; k++) {
        row->bad[k] = group->parity[k] == NULL ||
                      ms_pageset_has(&group->bad[k], page);
    }
    ms_unlock(&protect->lock);
}

static bool read_member(MsProtect *protect, const MsMember *member,
                        unsigned page, char *buf)
{
    uint64_t at = member->frame * MS_PAGESET_PAGES + page;

    return ms_protect_peek(protect, at, 1, buf) == 1 &&
           ms_parity_best()->sum(buf, PAGE) == member->sum[page];
}

/* All of the row but @except: known ones to @known, others to @ret_lost. */
static unsigned read_row(MsProtect *protect, MsWork *work, const MsRow *row,
                         unsigned page, const MsMember *except,
                         MsParityRow *known, MsMember **ret_lost)
{
    unsigned lost = 0;

    for (unsigned i = 0; i < row->count; i++) {
        MsMember *m = row->member[i];
        char *buf = work->page[known->count];

        if (m == except) {
            continue;
        }
        if (!row->gone[i] && read_member(protect, m, page, buf)) {
            known->slot[known->count] = m->slot;
            known->page[known->count++] = buf;
        } else {
            ret_lost[lost++] = m;
        }
    }
    return lost;
}

static void read_parity(MsProtect *protect, MsWork *work, MsGroup *group,
                        const MsRow *row, unsigned page, MsParityRow *known)
{
    const MsSys *sys = protect->region->ms->sys;

    for (unsigned k = 0; k < MS_PARITY_PAGES; k++) {
        if (row->bad[k]) {
            continue;
        }
        if (sys->peek(sys, work->parity[k], ms_parity_address(group, k, page),
                      PAGE) == (ssize_t)PAGE) {
            known->parity[k] = work->parity[k];
        } else {
            ms_parity_renew(protect, group, k, page);
        }
    }
}

/* One attempt; true: what came out is what went in. */
static bool rebuild_with(MsWork *work, const MsParityRow *known,
                         MsMember *const *lost, unsigned count, unsigned page)
{
    const MsParityKernel *kernel = ms_parity_best();
    uint8_t slot[MS_PARITY_PAGES];

    if (count > MS_PARITY_PAGES) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        slot[i] = lost[i]->slot;
    }
    if (ms_parity_rebuild(kernel, known, count, slot,
                          (void *const *)work->out) < 0) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (kernel->sum(work->out[i], PAGE) != lost[i]->sum[page]) {
            return false;
        }
    }
    return true;
}

int ms_row_rebuild(MsProtect *protect, MsWork *work, MsMember *member,
                   unsigned page)
{
    MsMember *lost[MS_PARITY_SLOTS + 1] = { member };
    MsParityRow known = { .bytes = PAGE };
    unsigned count;
    MsRow row;

    ms_row_members(protect, member->group, page, &row);
    count = 1 + read_row(protect, work, &row, page, member, &known, lost + 1);
    read_parity(protect, work, member->group, &row, page, &known);
    if (rebuild_with(work, &known, lost, count, page)) {
        return 0;
    }
    /* P may be the one that is wrong. */
    known.parity[0] = NULL;
    return rebuild_with(work, &known, lost, count, page) ? 0 : -EIO;
}

/* What cannot be read, but rebuilt, is known: 0 left; else all of them. */
static unsigned add_rebuilt(MsWork *work, MsParityRow *known,
                            MsMember *const *lost, unsigned count,
                            unsigned page)
{
    if (!rebuild_with(work, known, lost, count, page)) {
        known->parity[0] = NULL;
        if (!rebuild_with(work, known, lost, count, page)) {
            return count;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        known->slot[known->count] = lost[i]->slot;
        known->page[known->count++] = work->out[i];
    }
    return 0;
}

void ms_row_recompute(MsProtect *protect, MsWork *work, MsGroup *group,
                      unsigned page, const MsMember *except)
{
    MsMember *lost[MS_PARITY_SLOTS];
    MsParityRow known = { .bytes = PAGE };
    void *parity[MS_PARITY_PAGES] = { NULL };
    MsPageSet one;
    unsigned count;
    MsRow row;

    ms_pageset_clear(&one);
    ms_pageset_add(&one, page, 1);
    ms_row_members(protect, group, page, &row);
    count = read_row(protect, work, &row, page, except, &known, lost);
    if (count > 0 && except == NULL) {
        read_parity(protect, work, group, &row, page, &known);
        count = add_rebuilt(work, &known, lost, count, page);
    }
    for (unsigned k = 0; k < protect->stripes.parities; k++) {
        parity[k] = work->parity[k];
    }
    ms_parity_build(ms_parity_best(), &known, parity);

    ms_lock(&protect->lock);
    for (unsigned k = 0; k < protect->stripes.parities; k++) {
        ms_pageset_remove(&group->bad[k], page, 1);
    }
    ms_unlock(&protect->lock);
    for (unsigned k = 0; k < protect->stripes.parities; k++) {
        /* An error in here calls it bad again. */
        write_parity(protect, group, k, page, 1, work->parity[k]);
    }
    ms_lock(&protect->lock);
    for (unsigned i = 0; i < count; i++) {
        ms_stripes_leave(&protect->stripes, lost[i], &one);
    }
    ms_unlock(&protect->lock);
    ms_count(&protect->region->client->protect_stats.changed, count);
}

/* ---- many rows ---- */

/* Parity of rows [page, page + count) with, or without, @data. */
static void change_rows(MsProtect *protect, MsWork *work,
                        const MsMember *member, unsigned page, unsigned count,
                        const char *data)
{
    MsGroup *group = member->group;

    for (unsigned k = 0; k < protect->stripes.parities; k++) {
        const void *old[MS_PARITY_PAGES] = { NULL };

        old[k] = work->old;
        read_parity_run(protect, group, k, page, count, work->old);
        ms_parity_change(ms_parity_best(), count * PAGE, member->slot, data,
                         old, (void *const *)work->aside);
        write_parity(protect, group, k, page, count, work->aside[k]);
    }
}

void ms_rows_add(MsProtect *protect, MsWork *work, const MsMember *member,
                 unsigned page, unsigned count, const char *data, bool fresh)
{
    MsGroup *group = member->group;
    uint8_t coef = ms_parity_coef(member->slot);

    if (!fresh) {
        change_rows(protect, work, member, page, count, data);
        return;
    }
    write_parity(protect, group, 0, page, count, data);
    if (protect->stripes.parities > 1) {
        ms_parity_best()->dot(count * PAGE, 1, &coef, 1,
                              (const void *const[]) { data },
                              (void *const *)&work->aside[1]);
        write_parity(protect, group, 1, page, count, work->aside[1]);
    }
}

/* One page whose content is not to be had, or not what it should be. */
static void leave_unread(MsProtect *protect, MsWork *work, MsMember *member,
                         unsigned page)
{
    ms_count(&protect->region->client->protect_stats.changed, 1);
    if (ms_row_rebuild(protect, work, member, page) == 0) {
        change_rows(protect, work, member, page, 1, work->out[0]);
    } else {
        ms_row_recompute(protect, work, member->group, page, member);
    }
}

/*
 * At most a chunk of pages; those that cannot be read to @broken, if not NULL
 */
static void leave_run(MsProtect *protect, MsWork *work, MsMember *member,
                      const MsPageSet *gone, unsigned page, unsigned count,
                      MsPageSet *broken)
{
    MemSchedRegion *region = protect->region;
    const MsPagemap *pagemap = ms_pool_pagemap(region->ms->pool);
    uint64_t first = member->frame * MS_PAGESET_PAGES + page;
    unsigned done = 0;

    while (done < count) {
        unsigned want = 0, read = 0, right = 0;

        /* Of those that are gone nothing is read: some are holes. */
        while (done + want < count &&
               !ms_pageset_has(gone, page + done + want)) {
            want++;
        }
        if (want > 0) {
            read = ms_protect_peek(protect, first + done, want, work->data);
        }
        while (right < read &&
               ms_parity_best()->sum(work->data + right * PAGE, PAGE) ==
               member->sum[page + done + right]) {
            right++;
        }
        if (right > 0) {
            change_rows(protect, work, member, page + done, right, work->data);
            done += right;
        }
        if (done < count && right == read && want > 0 && right < want &&
            broken && ms_pagemap_is_hole(pagemap, ms_region_address(
                                         region, first + done)) == 0) {
            ms_pageset_add(broken, page + done, 1);
            done++;
        } else if (done < count) {
            leave_unread(protect, work, member, page + done);
            done++;
        }
    }
}

void ms_rows_leave(MsProtect *protect, MsWork *work, MsMember *member,
                   MsPageSet *set, bool dead)
{
    MsPageSet gone, broken;
    unsigned page, count;

    ms_pageset_clear(&broken);
    ms_lock(&protect->lock);
    gone = member->gone;
    ms_unlock(&protect->lock);
    for (unsigned p = 0; ms_pageset_run(set, p, &page, &count);
         p = page + count) {
        count = MIN(count, MS_PROTECT_CHUNK);
        leave_run(protect, work, member, &gone, page, count,
                  dead ? NULL : &broken);
    }
    ms_pageset_subtract(set, &broken);
    ms_lock(&protect->lock);
    ms_stripes_leave(&protect->stripes, member, set);
    ms_unlock(&protect->lock);
}
