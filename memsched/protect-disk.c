/*
 * Pages that can be read again from a disk
 *
 * The second way to protect a page: a page that a disk read has filled, and
 * that nobody has written since, is on the disk as well.  It is
 * write-protected like a member of a stripe, and leaves at its first write in
 * the same way, but there is nothing to be summed, and no parity is needed.
 *
 *   emulator       a read ends: checksum, note (unsure)
 *   parity thread  write-protect
 *                  fence raised? then not
 *                  read: the checksum of the note?  else it was written: forget
 *   region lock    still resident, nothing lifted the protection: sure
 *
 * The order is what counts: protected first, and only then compared.  The fence
 * is read between the two, as in protect-join.c: no DMA of before is in flight
 * after it, and one that begins later faults.  Pages do not go to the arena for
 * this, nor into C: instead each frame counts what lifts protection in it
 * (ms_diskmap_unsure()), which its captures, writes and changes of settings do
 * *before* they lift it, and captures after they have put the page into C.  So
 * who finds a page resident and the count unchanged knows that it was protected
 * all the time.
 *
 * The unit is the mapping's, for to protect 4 KiB of a huge page would split
 * it:  a huge page is protected as a whole as soon as one page in it was read,
 * and is opened as a whole by the first write to any.  Those that were not
 * written stay noted, and are looked at again when the frame has cooled down;
 * a frame that is written all the time costs a fault of 20 us in 64 times
 * cool_ms.
 *
 * What a frame of pages read one after the other costs: a frame waits for
 * cool_ms after its last read, since the next read would only open it again.
 *
 * Locks: disk_lock is a leaf, and is held for the book alone.
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

/* Frames that are looked at in one go: 8 bytes each of a table in memory. */
#define SCAN_FRAMES 4096u

/* A frame that is being looked at. */
typedef struct Look {
    MsProtect *protect;
    MsWork *work;
    uint64_t frame;
    uint32_t changes;
    bool huge;                  /* protected as a whole */
    MsPageSet want;
    MsPageSet in;               /* in stripes: not ours to open */
    MsPageSet same, other;      /* of want: what the content is now */
    uint64_t sum[FRAME_PAGES];
} Look;

/* ---- the book ---- */

void ms_protect_disk_set(MsProtect *protect, bool on)
{
    MsDiskmap map = { 0 };

    if (on && ms_diskmap_init(&map, protect->region->pages.frames) < 0) {
        return;                 /* nothing is noted then */
    }
    ms_lock(&protect->disk_lock);
    ms_diskmap_destroy(&protect->disk);
    protect->disk = map;
    atomic_store(&protect->disk_on, on);
    ms_unlock(&protect->disk_lock);
}

void ms_protect_disk_unsure(MsProtect *protect, uint64_t frame,
                            const MsPageSet *set)
{
    MsPageSet all;

    ms_pageset_fill(&all);
    ms_lock(&protect->disk_lock);
    ms_diskmap_unsure(&protect->disk, frame, set ? set : &all);
    ms_unlock(&protect->disk_lock);
}

void ms_protect_disk_unsure_all(MsProtect *protect)
{
    for (uint64_t f = 0; f < protect->region->pages.frames; f++) {
        ms_protect_disk_unsure(protect, f, NULL);
    }
}

unsigned ms_protect_disk_forget(MsProtect *protect, uint64_t frame,
                                const MsPageSet *set)
{
    unsigned forgotten;

    ms_lock(&protect->disk_lock);
    forgotten = ms_diskmap_forget(&protect->disk, frame, set);
    ms_unlock(&protect->disk_lock);
    return forgotten;
}

void ms_protect_disk_forget_page(MemSchedRegion *region, uint64_t page)
{
    MsProtect *protect = ms_protect_of(region);
    MsPageSet one;

    if (protect) {
        ms_pageset_clear(&one);
        ms_pageset_add(&one, page % FRAME_PAGES, 1);
        ms_protect_disk_forget(protect, page / FRAME_PAGES, &one);
    }
}

void ms_protect_disk_located(MsProtect *protect, uint64_t frame,
                             MsPageSet *ret_set)
{
    ms_lock(&protect->disk_lock);
    ms_diskmap_select(&protect->disk, frame, false, ret_set);
    ms_unlock(&protect->disk_lock);
}

bool ms_protect_disk_written(MsProtect *protect, uint64_t page)
{
    MemSchedRegion *region = protect->region;
    uint64_t frame = page / FRAME_PAGES;
    MsPageSet one, sure;
    bool known;

    ms_pageset_clear(&one);
    ms_pageset_add(&one, page % FRAME_PAGES, 1);
    ms_lock(&protect->disk_lock);
    ms_diskmap_select(&protect->disk, frame, true, &sure);
    if (ms_diskmap_forget(&protect->disk, frame, &one) > 0) {
        ms_count(&region->client->protect_stats.disk_left_by_write, 1);
    }
    ms_unlock(&protect->disk_lock);
    known = ms_pageset_has(&sure, page % FRAME_PAGES);
    return known || (!ms_pageset_empty(&sure) &&
                     ms_pagemap_is_huge(ms_pool_pagemap(region->ms->pool),
                                        ms_region_address(region, frame *
                                                          FRAME_PAGES)) == 1);
}

/* ---- which ---- */

/* Region, protection and book are locked. */
static bool choose_locked(Look *look, uint64_t frame, uint32_t now_ms)
{
    MsProtect *protect = look->protect;
    MemSchedRegion *region = protect->region;
    const MsFrame *f = &region->pages.frame[frame];
    const MsDiskFrame *noted = &protect->disk.frame[frame];
    const MsMember *member = ms_stripes_member(&protect->stripes, frame);
    MsPageSet sure, resident;

    if (!ms_cover_has(protect, frame, MEMSCHED_COVER_DISK) ||
        noted->located == noted->sure || f->resident == 0 || f->transit > 0 ||
        (int32_t)(now_ms - protect->heat[frame].next_ms) < 0 ||
        ms_fence_is_raised(&region->ms->fence,
                           ms_region_address(region, frame * FRAME_PAGES))) {
        return false;
    }
    ms_diskmap_select(&protect->disk, frame, false, &look->want);
    ms_diskmap_select(&protect->disk, frame, true, &sure);
    ms_pageset_subtract(&look->want, &sure);
    ms_pages_select(&region->pages, frame * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(RESIDENT), &resident);
    look->want = ms_pageset_and(&look->want, &resident);
    if (ms_pageset_empty(&look->want)) {
        return false;
    }
    ms_pageset_clear(&look->in);
    if (member) {
        look->in = member->in;
    }
    for (unsigned p = 0; p < FRAME_PAGES; p++) {
        MsDiskPlace place;

        if (ms_pageset_has(&look->want, p) &&
            ms_diskmap_get(&protect->disk, frame * FRAME_PAGES + p, &place)) {
            look->sum[p] = place.sum;
        }
    }
    look->frame = frame;
    look->changes = noted->changes;
    return true;
}

/* The next frame from the cursor on, going round. */
static bool choose(Look *look)
{
    MsProtect *protect = look->protect;
    MemSchedRegion *region = protect->region;
    uint64_t frames = region->pages.frames;
    uint64_t left = MIN(frames, SCAN_FRAMES);
    uint32_t now_ms = ms_protect_clock_ms(protect);
    bool found = false;

    ms_lock(&region->lock);
    ms_lock(&protect->lock);
    ms_lock(&protect->disk_lock);
    for (; atomic_load(&protect->disk_on) && left > 0 && !found; left--) {
        found = choose_locked(look, protect->disk_cursor % frames, now_ms);
        protect->disk_cursor++;
    }
    ms_unlock(&protect->disk_lock);
    ms_unlock(&protect->lock);
    ms_unlock(&region->lock);
    return found;
}

/* ---- a look ---- */

static char *look_address(const Look *look, unsigned page)
{
    return ms_region_address(look->protect->region,
                             look->frame * FRAME_PAGES + page);
}

static bool protect_pages(Look *look)
{
    MemSchedRegion *region = look->protect->region;
    const MsUffd *uffd = &region->client->uffd;
    unsigned page, count;

    look->huge = ms_pagemap_is_huge(ms_pool_pagemap(region->ms->pool),
                                    look_address(look, 0)) == 1;
    if (look->huge) {
        return ms_uffd_protect(uffd, look_address(look, 0), FRAME_PAGES, true,
                               false) == 0;
    }
    for (unsigned p = 0; ms_pageset_run(&look->want, p, &page, &count);
         p = page + count) {
        if (ms_uffd_protect(uffd, look_address(look, page), count, true,
                            false) < 0) {
            return false;
        }
    }
    return true;
}

/* What cannot be read is neither the same nor another. */
static void compare(Look *look)
{
    uint64_t first = look->frame * FRAME_PAGES;
    unsigned page, count, read;

    for (unsigned p = 0; ms_pageset_run(&look->want, p, &page, &count);
         p = page + count) {
        count = MIN(count, MS_PROTECT_CHUNK);
        read = ms_protect_peek(look->protect, first + page, count,
                               look->work->data);
        for (unsigned i = 0; i < read; i++) {
            bool same = ms_parity_best()->sum(look->work->data + i * PAGE,
                                              PAGE) == look->sum[page + i];

            ms_pageset_add(same ? &look->same : &look->other, page + i, 1);
        }
        /* Over the one that is broken, if there is one. */
        count = MAX(read, 1);
    }
}

/* Call them sure, unless somebody was here. */
static unsigned commit(Look *look)
{
    MsProtect *protect = look->protect;
    MemSchedRegion *region = protect->region;
    MsProtectStats *stats = &region->client->protect_stats;
    MsPageSet resident;
    unsigned sure = 0;

    ms_lock(&region->lock);
    ms_pages_select(&region->pages, look->frame * FRAME_PAGES, FRAME_PAGES,
                    MS_STATE_BIT(RESIDENT), &resident);
    resident = ms_pageset_and(&resident, &look->same);
    ms_lock(&protect->disk_lock);
    if (atomic_load(&protect->disk_on) &&
        protect->disk.frame[look->frame].changes == look->changes) {
        sure = ms_diskmap_sure(&protect->disk, look->frame, &resident);
        ms_count(&stats->disk_changed,
                 ms_diskmap_forget(&protect->disk, look->frame,
                                   &look->other));
    }
    ms_unlock(&protect->disk_lock);
    ms_unlock(&region->lock);
    return sure;
}

/* What was protected for nothing. */
static void open_rest(Look *look, unsigned sure)
{
    MsPageSet rest = look->want;

    if (look->huge) {
        if (sure == 0 && ms_pageset_empty(&look->in)) {
            ms_protect_open(look->protect->region, look->frame, &rest, false);
        }
        return;
    }
    if (sure > 0) {
        ms_pageset_subtract(&rest, &look->same);
    }
    ms_pageset_subtract(&rest, &look->in);
    ms_protect_open(look->protect->region, look->frame, &rest, false);
}

static void cool(MsProtect *protect, uint64_t frame)
{
    MemSchedProtection settings = ms_protect_settings(protect->region->client);
    MsHeat *heat = &protect->heat[frame];

    ms_lock(&protect->lock);
    heat->joined_ms = ms_protect_clock_ms(protect);
    heat->next_ms = heat->joined_ms + settings.cool_ms;
    ms_unlock(&protect->lock);
}

uint64_t ms_protect_join_disk(MsProtect *protect)
{
    MemSchedRegion *region = protect->region;
    Look *look = NULL;
    uint64_t bytes = 0;
    unsigned sure = 0;

    if (!atomic_load(&protect->disk_on)) {
        return 0;
    }
    look = g_new0(Look, 1);
    look->protect = protect;
    if (choose(look)) {
        look->work = ms_work_get(protect);
        if (protect_pages(look) &&
            !ms_fence_is_raised(&region->ms->fence, look_address(look, 0))) {
            compare(look);
            sure = commit(look);
        }
        open_rest(look, sure);
        ms_work_put(protect, look->work);
        cool(protect, look->frame);
        bytes = ms_pageset_count(&look->want) * PAGE;
    }
    g_free(look);
    return bytes;
}
