/*
 * Looking for tags in the pages that a guest has
 *
 * Owns the one place that reads guest memory from outside of the guest: one
 * cache line of each page that is resident by our own map.  What it returns are
 * candidates; nothing is believed before the page is in the arena.
 *
 * Why reading is safe without a lock.  A read of a hole would be a missing
 * fault: it would populate the page, and so undo a balloon.  So the frames are
 * *leased* first: under the region's lock their resident pages are noted, and
 * the lease is set.  From then on to the end of the lease
 *
 *   - a page leaves the guest only by a capture, and each capture goes
 *     through ms_capture_add_locked(), which leaves leased frames alone;
 *   - the region cannot be unregistered: we are in it;
 *   - a page that was not resident may come, which is not read;
 *   - the guest may write, or reset, or inflate (state G): the page stays.
 *
 * So each page that is read has a frame throughout.  Two exceptions are not
 * ours.  A page that somebody discards behind our back is a fault of this
 * thread, which is served as any other; captures wait for a lease 10 ms at
 * most, so even a refused fault here blocks nobody.  A page with a memory
 * error raises SIGBUS, which is repaired, and the read goes on.
 *
 * The other side waits for the end of the lease, at most 40 us; the reader
 * waits for nothing and takes no lock but the leaf of the epochs.  There is one
 * reader, so one lease a region is enough.
 *
 * The line is copied once before anything is looked at: the guest may change
 * it meanwhile.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "app.h"
#include "instance.h"
#include "scan.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define WORDS       (MS_TAG_BYTES / 8)

/*
 * Lines asked for ahead: a CPU has some 10 to 16 misses under way, the rest
 * waits in its queue.
 */
#define AHEAD 16u

/* The guest writes what we read: that is known, and what tsan would report. */
#define RACY __attribute__((no_sanitize("thread")))

static RACY inline uint64_t peek(const char *page, unsigned word)
{
    return __atomic_load_n((const uint64_t *)page + word, __ATOMIC_RELAXED);
}

RACY void ms_scan_lines(const char *base, const MsPageSet *look,
                        MsPageSet *ret_found)
{
    uint64_t magic = ms_tag_magic();

    for (unsigned w = 0; w < MS_PAGESET_WORDS; w++) {
        const char *page = base + (size_t)w * 64 * MEMSCHED_PAGE_SIZE;
        uint64_t bits = look->word[w], found = 0;

        if (bits == ~UINT64_C(0)) {
            for (unsigned i = 0; i < 64; i++) {
                /* May be beyond the mapping: a hint cannot fault. */
                __builtin_prefetch(page + (i + AHEAD) * MEMSCHED_PAGE_SIZE);
                found |= (uint64_t)(peek(page + i * MEMSCHED_PAGE_SIZE, 0) ==
                                    magic) << i;
            }
        } else {
            for (; bits; bits &= bits - 1) {
                unsigned i = __builtin_ctzll(bits);

                __builtin_prefetch(page + (i + AHEAD) * MEMSCHED_PAGE_SIZE);
                found |= (uint64_t)(peek(page + i * MEMSCHED_PAGE_SIZE, 0) ==
                                    magic) << i;
            }
        }
        ret_found->word[w] = found;
    }
}

/* ---- what it says ---- */

/* The index of the epoch that a header names, or MS_SCAN_KINDS. */
static unsigned kind_of(MsScan *scan, const MsTagName *name)
{
    MsApps *apps = scan->region->client->apps;
    MsEpoch *epoch;
    unsigned k;

    for (k = scan->kinds; k > 0; k--) {
        if (scan->epoch[k - 1]->app == name->app &&
            scan->epoch[k - 1]->number == name->epoch) {
            return k - 1;
        }
    }
    if (scan->kinds == MS_SCAN_KINDS) {
        return MS_SCAN_KINDS;
    }
    ms_lock(&apps->lock);
    epoch = ms_epochs_find(&apps->epochs, name->app, name->epoch);
    if (epoch) {
        ms_epoch_pin(epoch);
        scan->kind[scan->kinds] = epoch->kind;
        scan->epoch[scan->kinds++] = epoch;
    }
    ms_unlock(&apps->lock);
    return epoch ? scan->kinds - 1 : MS_SCAN_KINDS;
}

static RACY bool read_header(MsScan *scan, MsScanFrame *f, const char *page,
                             unsigned index)
{
    uint64_t word[WORDS];
    MsTagName name;
    unsigned k;

    for (unsigned i = 0; i < WORDS; i++) {
        word[i] = peek(page, i);
    }
    if (!ms_tag_peek(word, &name)) {
        return false;
    }
    k = kind_of(scan, &name);
    /* Of a dead epoch, or of nobody: left where it is. */
    if (k == MS_SCAN_KINDS || name.sequence >= scan->epoch[k]->pages) {
        return false;
    }
    if (!ms_tag_is(word, &scan->kind[k], name.sequence)) {
        scan->rejected++;
        return false;
    }
    f->sequence[index] = name.sequence;
    f->kind[index] = k;
    return true;
}

static unsigned read_frame(MsScan *scan, uint64_t frame, const MsPageSet *look)
{
    const char *base = ms_region_address(scan->region, frame * FRAME_PAGES);
    MsScanFrame *f = &scan->frame[scan->frames];
    unsigned first, count, n = 0;
    MsPageSet found;

    ms_scan_lines(base, look, &found);
    ms_pageset_clear(&f->found);
    f->frame = frame;
    for (unsigned p = 0; ms_pageset_run(&found, p, &first, &count);
         p = first + count) {
        for (unsigned i = first; i < first + count; i++) {
            if (read_header(scan, f, base + (size_t)i * MEMSCHED_PAGE_SIZE,
                            i)) {
                ms_pageset_add(&f->found, i, 1);
                n++;
            }
        }
    }
    scan->frames += n > 0;
    return n;
}

/* ---- the lease ---- */

unsigned ms_scan_frames(MsScan *scan, MemSchedRegion *region, uint64_t first,
                        uint64_t count)
{
    MsApps *apps = region->client->apps;
    MsPageSet look[MS_SCAN_FRAMES];
    unsigned found = 0, resident = 0;

    scan->region = region;
    scan->frames = 0;
    scan->kinds = 0;
    ms_lock(&apps->lock);
    scan->tells = apps->epochs.tells;
    ms_unlock(&apps->lock);
    ms_lock(&region->lock);
    ms_sample_recall_locked(region, first * FRAME_PAGES, count * FRAME_PAGES);
    for (unsigned i = 0; i < count; i++) {
        ms_pages_select(&region->pages, (first + i) * FRAME_PAGES,
                        FRAME_PAGES, MS_STATE_BIT(RESIDENT), &look[i]);
        resident += ms_pageset_count(&look[i]);
    }
    region->lease_first = first;
    region->lease_end = first + count;
    ms_unlock(&region->lock);

    for (unsigned i = 0; i < count && resident > 0; i++) {
        if (!ms_pageset_empty(&look[i])) {
            found += read_frame(scan, first + i, &look[i]);
        }
    }

    ms_lock(&region->lock);
    region->lease_end = region->lease_first;
    ms_cond_broadcast(&region->cond);
    ms_unlock(&region->lock);
    scan->scanned += resident;
    return found;
}

void ms_scan_end(MsScan *scan)
{
    MsApps *apps = scan->region->client->apps;

    if (scan->kinds > 0) {
        ms_lock(&apps->lock);
        while (scan->kinds > 0) {
            ms_epoch_unpin(&apps->epochs, scan->epoch[--scan->kinds]);
        }
        ms_unlock(&apps->lock);
    }
}
