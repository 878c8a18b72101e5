/*
 * Pages in state T: what is known of them, and how they come back
 *
 * Owns the two books of such a page and keeps them in step: which tag it has
 * (the region's map) and how many pages carry a tag (the epoch's bytes).  Both
 * change while the region's lock is held, together with the page's state.
 *
 * A page leaves state T in two ways.  Its content is given up by the guest
 * (inflate, report, system reset), or nobody's any more: it is forgotten.  Or
 * somebody wants it back (a touch, a release, a deflate): then the tag is made
 * in a page of the pool, which is moved in; never zeros, since an equal page
 * may be another program's by now.  A page that the ledger refuses stays in
 * state T.
 *
 * While a page is in C on its way in, its record stays; so its epoch's record,
 * with the key, cannot go.
 *
 * Threads: any.  Locks: the region's, then apps->lock under it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>

#include "app.h"
#include "instance.h"
#include "tagged.h"
#include "tagger.h"

#define FRAME_PAGES MS_PAGESET_PAGES

/* ---- forgotten ---- */

static void forget_run(MemSchedRegion *region, uint64_t first, uint64_t count)
{
    MsApps *apps = region->client->apps;

    ms_lock(&apps->lock);
    for (uint64_t p = first; p < first + count; p++) {
        ms_epoch_remove_page(&apps->epochs,
                             ms_tag_map_get(&region->tags, p));
        ms_tag_map_clear(&region->tags, p);
    }
    ms_unlock(&apps->lock);
}

void ms_tagged_forget_locked(MemSchedRegion *region, uint64_t first,
                          uint64_t count)
{
    uint64_t end = first + count, run, n;

    if (region->pages.count[MEMSCHED_PAGE_TAG] == 0) {
        return;
    }
    while (ms_pages_next(&region->pages, first, end, MS_STATE_BIT(TAG), &run,
                         &n)) {
        forget_run(region, run, n);
        first = run + n;
    }
}

void ms_tagged_forget_region(MemSchedRegion *region)
{
    uint64_t end = region->pages.end, run, n;

    /* Dying, and nobody is in it: the states need not follow. */
    ms_lock(&region->lock);
    for (uint64_t at = 0; ms_pages_next(&region->pages, at, end,
                                        MS_STATE_BIT(TAG), &run, &n);
         at = run + n) {
        forget_run(region, run, n);
        ms_pages_change(&region->pages, MS_PAGE_SYSTEM_RESET, run, n,
                        MEMSCHED_PAGE_HOLE);
    }
    ms_unlock(&region->lock);
}

/* ---- back ---- */

typedef struct Content {
    MemSchedRegion *region;
    MsTaggedReturn how;
    MsTagRef ref[FRAME_PAGES];
} Content;

static void content_begin_locked(void *opaque, uint64_t frame,
                                 const MsPageSet *take)
{
    Content *c = opaque;

    unsigned first, count;

    for (unsigned p = 0; ms_pageset_run(take, p, &first, &count);
         p = first + count) {
        for (unsigned i = first; i < first + count; i++) {
            c->ref[i] = ms_tag_map_get(&c->region->tags,
                                       frame * FRAME_PAGES + i);
        }
    }
}

/* A copy of what the pages of one epoch have in common. */
static MsTagKind kind_of(MsApps *apps, MsTagRef ref)
{
    MsTagKind kind;

    ms_lock(&apps->lock);
    kind = ms_epochs_of(&apps->epochs, ref)->kind;
    ms_unlock(&apps->lock);
    return kind;
}

static void content_write(void *opaque, char *arena, unsigned page,
                          unsigned count)
{
    Content *c = opaque;
    MsTagKind kind;

    for (unsigned i = 0; i < count; i++) {
        MsTagRef ref = c->ref[page + i];

        if (i == 0 || ref.epoch != c->ref[page + i - 1].epoch) {
            kind = kind_of(c->region->client->apps, ref);
        }
        ms_tag_stamp(arena + ((size_t)i << MEMSCHED_PAGE_SHIFT), &kind,
                     ref.sequence);
    }
}

static void content_end_locked(void *opaque, uint64_t frame,
                               const MsPageSet *in)
{
    Content *c = opaque;
    MsApps *apps = c->region->client->apps;
    unsigned first, count, n = 0;

    ms_lock(&apps->lock);
    for (unsigned p = 0; ms_pageset_run(in, p, &first, &count);
         p = first + count, n += count) {
        for (unsigned i = first; i < first + count; i++) {
            if (c->how == MS_TAGGED_BY_FAULT) {
                ms_epochs_of(&apps->epochs, c->ref[i])->returned++;
            }
            ms_epoch_remove_page(&apps->epochs, c->ref[i]);
            ms_tag_map_clear(&c->region->tags, frame * FRAME_PAGES + i);
        }
    }
    if (c->how == MS_TAGGED_BY_FAULT) {
        apps->counters.returned_by_fault += n;
    } else {
        apps->counters.returned_by_release += n;
    }
    ms_unlock(&apps->lock);
    if (c->how == MS_TAGGED_BY_FAULT && n > 0) {
        ms_tagger_kick(c->region->ms->tagger);
    }
}

static const MsPopulateContent content = {
    .begin_locked = content_begin_locked, .write = content_write,
    .end_locked = content_end_locked, .state = MEMSCHED_PAGE_TAG,
};

uint64_t ms_tagged_populate(MsPopulate *populate, MsTaggedReturn how,
                         bool *ret_touched)
{
    Content c;

    c.region = populate->region;
    c.how = how;
    populate->mask = MS_STATE_BIT(TAG);
    populate->content = &content;
    populate->content_opaque = &c;
    return ms_populate_frame(populate, ret_touched);
}

/* Which tags are asked for. */
typedef struct Choice {
    bool known;                 /* that earn nothing; else: */
    uint16_t epoch;             /* of this one, and in */
    uint64_t first, count;      /* these */
} Choice;

static bool is_chosen(const Choice *choice, const MsEpoch *epoch,
                      uint64_t sequence)
{
    if (choice->known) {
        return ms_epoch_spares(epoch, sequence);
    }
    return epoch->slot == choice->epoch && sequence >= choice->first &&
           sequence - choice->first < choice->count;
}

static void select_locked(MemSchedRegion *region, uint64_t frame,
                          const Choice *choice, MsPageSet *ret_set)
{
    MsApps *apps = region->client->apps;
    MsPageSet tags;
    unsigned run, n;

    ms_pageset_clear(ret_set);
    if (ms_tag_map_frame(&region->tags, frame) == 0) {
        return;
    }
    ms_pages_select(&region->pages, frame * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(TAG), &tags);
    ms_lock(&apps->lock);
    for (unsigned p = 0; ms_pageset_run(&tags, p, &run, &n); p = run + n) {
        for (unsigned i = run; i < run + n; i++) {
            MsTagRef ref = ms_tag_map_get(&region->tags,
                                          frame * FRAME_PAGES + i);

            if (is_chosen(choice, ms_epochs_of(&apps->epochs, ref),
                          ref.sequence)) {
                ms_pageset_add(ret_set, i, 1);
            }
        }
    }
    ms_unlock(&apps->lock);
}

void ms_tagged_select_locked(MemSchedRegion *region, uint64_t frame,
                             uint16_t epoch, uint64_t first, uint64_t count,
                             MsPageSet *ret_set)
{
    Choice choice = { .epoch = epoch, .first = first, .count = count };

    select_locked(region, frame, &choice, ret_set);
}

void ms_tagged_known_locked(MemSchedRegion *region, uint64_t frame,
                            MsPageSet *ret_set)
{
    Choice choice = { .known = true };

    select_locked(region, frame, &choice, ret_set);
}

uint64_t ms_tagged_known_pages(MemSchedClient *client)
{
    MsApps *apps = client->apps;
    uint64_t pages = 0;

    if (apps) {
        ms_lock(&apps->lock);
        pages = apps->epochs.tag_pages - apps->epochs.credited;
        ms_unlock(&apps->lock);
    }
    return pages;
}

/* ---- without a fault ---- */

int memsched_region_tag_content(MemSchedRegion *region, uint64_t page,
                                void *ret_page)
{
    uint64_t at = region->pages.lead + page;
    MsTagRef ref = { 0 };
    MsTagKind kind;
    bool is;

    if (page >= region->length_bytes >> MEMSCHED_PAGE_SHIFT) {
        return -EINVAL;
    }
    ms_lock(&region->lock);
    is = ms_pages_get(&region->pages, at) == MEMSCHED_PAGE_TAG;
    if (is) {
        ref = ms_tag_map_get(&region->tags, at);
        kind = kind_of(region->client->apps, ref);
    }
    ms_unlock(&region->lock);
    if (!is) {
        return -ENOENT;
    }
    ms_tag_make(ret_page, &kind, ref.sequence);
    return 0;
}

/* ---- check ---- */

/* Recount a region's records into @counted, by slot of the epoch. */
static const char *check_region_locked(MemSchedRegion *region,
                                       uint64_t counted[MS_EPOCHS])
{
    MsApps *apps = region->client->apps;
    MsPages *pages = &region->pages;
    uint64_t run, n, tags = 0;
    const char *wrong = NULL;

    if (ms_region_transit_locked(region) > 0) {
        return "";
    }
    ms_lock(&apps->lock);
    for (uint64_t at = 0; !wrong &&
         ms_pages_next(pages, at, UINT64_MAX, MS_STATE_BIT(TAG), &run, &n);
         at = run + n) {
        for (uint64_t p = run; p < run + n && region->tags.frame; p++) {
            MsEpoch *epoch = ms_epochs_of(&apps->epochs,
                                          ms_tag_map_get(&region->tags, p));

            if (epoch == NULL) {
                wrong = "a page in state T has the tag of no epoch";
                break;
            }
            counted[epoch->slot]++;
        }
        tags += n;
    }
    ms_unlock(&apps->lock);
    if (!wrong && tags != region->tags.pages) {
        wrong = "pages in state T and their records differ in number";
    }
    return wrong;
}

static const char *check_epochs(MsApps *apps,
                                const uint64_t counted[MS_EPOCHS])
{
    const char *wrong;

    ms_lock(&apps->lock);
    wrong = ms_epochs_check(&apps->epochs);
    for (unsigned i = 0; i < MS_EPOCHS && !wrong; i++) {
        const MsEpoch *epoch = apps->epochs.slot[i];

        if (counted[i] != (epoch ? epoch->tag_pages : 0)) {
            wrong = "pages in state T of an epoch differ from its record";
        }
    }
    ms_unlock(&apps->lock);
    return wrong;
}

const char *ms_tagged_check(MemSchedClient *client)
{
    g_autofree uint64_t *counted = g_new0(uint64_t, MS_EPOCHS);
    MemSchedRegion **regions;
    const char *wrong = NULL;
    size_t count;

    regions = ms_client_regions(client, &count);
    for (size_t i = 0; i < count; i++) {
        ms_lock(&regions[i]->lock);
        if (!wrong) {
            wrong = check_region_locked(regions[i], counted);
        }
        ms_unlock(&regions[i]->lock);
        ms_region_unref(regions[i]);
    }
    g_free(regions);
    return wrong ? wrong : check_epochs(client->apps, counted);
}
