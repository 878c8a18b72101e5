/*
 * The scrubber: stripes are read before somebody needs them
 *
 * An error that nobody meets stays, and the next one in its stripe is one too
 * many.  So all stripes are read, row by row, at a bounded rate, round and
 * round, and compared with their checksums and their parity:
 *
 *   a page that cannot be read     handed to the repair thread, as an error
 *                                  that nobody waits for
 *   a page with other content      told; its unit leaves.  It is not repaired:
 *                                  its guest may have meant what is there, and
 *                                  has read it
 *   parity that cannot be read     a new one, and summed anew
 *   parity with other content,     told; summed anew from those pages
 *   all pages being right
 *
 * So a page or a parity page that is known to be wrong is never a source of
 * anything: what leaves is summed out by what it was, as the others say.
 *
 * A pass ends when no group is left that it has not read.  Groups that come
 * meanwhile are part of it, groups that go are not missed.
 *
 * Pages that are covered by a disk alone are not read.
 *
 * Rows are busy while they are read, so a step is short: a writer waits for it
 * at most as long as for a join.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "instance.h"
#include "protect-int.h"
#include "repair.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        ((size_t)MEMSCHED_PAGE_SIZE)

/* Pages that a step reads, parity too, at most: 1 MiB, 0.3 ms. */
#define STEP_PAGES  256u
/* Nothing to read: looked again after this. */
#define EMPTY_NS    UINT64_C(1000000000)

/* A step on its way. */
typedef struct Step {
    MsProtect *protect;
    MsWork *work;
    MsGroup *group;             /* kept, rows busy */
    MsPageSet rows;
    unsigned first, count;
    uint64_t pages;             /* that were read */
    unsigned others;            /* pages whose unit is to leave */
    uint64_t other[STEP_PAGES];
} Step;

/* ---- which ---- */

/* One that has been begun, else one that has not been read in this pass. */
static MsGroup *next_group_locked(MsProtect *protect)
{
    MsStripes *stripes = &protect->stripes;
    MsGroup *next = NULL;

    for (unsigned g = 0; g < stripes->groups; g++) {
        MsGroup *group = stripes->group[g];

        if (group->scrub_pass != protect->scrub.pass &&
            (next == NULL || group->scrub_row > 0)) {
            next = group;
        }
    }
    return next;
}

static void end_pass_locked(MsProtect *protect, uint64_t now_ns)
{
    MsScrubPlace *place = &protect->scrub;

    if (place->done_pages > 0) {
        place->passes++;
        place->ended_ns = now_ns;
        place->took_ns = now_ns - place->begun_ns;
    }
    place->pass++;
    place->done_pages = 0;
}

/* False: there is nothing to read. */
static bool choose(Step *step, uint64_t now_ns)
{
    MsProtect *protect = step->protect;
    MsScrubPlace *place = &protect->scrub;
    MsGroup *group = NULL;
    unsigned most;

    ms_lock(&protect->lock);
    if (protect->on) {
        group = next_group_locked(protect);
        if (group == NULL) {
            end_pass_locked(protect, now_ns);
            group = next_group_locked(protect);
        }
    }
    if (group) {
        if (place->done_pages == 0) {
            place->begun_ns = now_ns;
        }
        /* There is a group, so there are members and parities. */
        most = STEP_PAGES / (protect->stripes.size +
                             protect->stripes.parities);
        step->group = group;
        step->first = group->scrub_row;
        step->count = MIN(MAX(most, 1), FRAME_PAGES - step->first);
        ms_pageset_clear(&step->rows);
        ms_pageset_add(&step->rows, step->first, step->count);
        group->keep++;
        ms_rows_take_locked(protect, group, &step->rows);
        group->scrub_row = (step->first + step->count) % FRAME_PAGES;
        if (group->scrub_row == 0) {
            group->scrub_pass = place->pass;
        }
    }
    ms_unlock(&protect->lock);
    return group != NULL;
}

/* ---- one row ---- */

/* @right: a page of the row that is, if its parity can be told to be wrong. */
static void look_at_parity(Step *step, unsigned page, const MsRowLook *look,
                           uint64_t right)
{
    MsProtect *protect = step->protect;
    MsProtectStats *stats = &protect->region->client->protect_stats;
    bool anew = false, other = false;

    for (unsigned k = 0; k < protect->stripes.parities; k++) {
        if (look->parity[k] == MS_LOOK_BROKEN) {
            ms_count(&stats->found_broken, 1);
            ms_parity_renew(protect, step->group, k, page);
            anew = true;
        } else if (look->parity[k] == MS_LOOK_OTHER) {
            ms_count(&stats->mismatched_parity, 1);
            ms_lock(&protect->lock);
            ms_pageset_add(&step->group->bad[k], page, 1);
            ms_unlock(&protect->lock);
            anew = other = true;
        }
    }
    if (other) {
        ms_repair_tell_mismatch(protect->region, right,
                                MEMSCHED_MISMATCH_PARITY);
    }
    if (anew) {
        ms_row_recompute(protect, step->work, step->group, page, NULL);
    }
}

static void look_at_row(Step *step, unsigned page)
{
    MsProtect *protect = step->protect;
    MemSchedRegion *region = protect->region;
    MsProtectStats *stats = &region->client->protect_stats;
    uint64_t right = 0;
    MsRowLook look;

    ms_row_look(protect, step->work, step->group, page, &look);
    step->pages += look.pages;
    for (unsigned s = 0; s < protect->stripes.size; s++) {
        uint64_t at = look.frame[s] * FRAME_PAGES + page;

        if (look.member[s] == MS_LOOK_RIGHT) {
            right = at;
        } else if (look.member[s] == MS_LOOK_BROKEN) {
            ms_count(&stats->found_broken,
                     ms_repair_ask(region->ms, ms_region_address(region, at)));
        } else if (look.member[s] == MS_LOOK_OTHER) {
            ms_count(&stats->mismatched, 1);
            ms_repair_tell_mismatch(region, at, MEMSCHED_MISMATCH_PAGE);
            step->other[step->others++] = at;
        }
    }
    look_at_parity(step, page, &look, right);
}

/* ---- one step ---- */

static void run(Step *step)
{
    MsProtect *protect = step->protect;

    step->work = ms_work_get(protect);
    for (unsigned i = 0; i < step->count; i++) {
        look_at_row(step, step->first + i);
    }
    ms_work_put(protect, step->work);
    ms_count(&protect->region->client->protect_stats.scrubbed, step->pages);
    ms_lock(&protect->lock);
    protect->scrub.done_pages += step->pages;
    step->group->keep--;
    ms_rows_end_locked(protect, step->group, &step->rows);
    ms_unlock(&protect->lock);
    for (unsigned i = 0; i < step->others; i++) {
        ms_protect_leave_unit(protect, step->other[i]);
    }
}

uint64_t ms_protect_scrub(MsProtect *protect, uint64_t rate_bytes_per_s)
{
    const MsSys *sys = protect->region->ms->sys;
    uint64_t now_ns = sys->now_ns(sys);
    MsScrubPlace *place = &protect->scrub;
    Step step = { .protect = protect };

    if (now_ns < place->next_ns) {
        return place->next_ns;
    }
    place->next_ns = now_ns + EMPTY_NS;
    if (choose(&step, now_ns)) {
        run(&step);
        /* A step reads little more than 1 MiB: no overflow. */
        place->next_ns = now_ns + step.pages * PAGE * 1000000000u /
                                  rate_bytes_per_s;
    }
    return place->next_ns;
}
