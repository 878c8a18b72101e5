/*
 * The memory that one application has set aside, epoch by epoch
 *
 * Owns the memory and knows which page of which epoch lies where.  An epoch is
 * an array of extents, in the order of sequence numbers, which is the order in
 * which they were set aside; extents of an epoch are therefore sorted and never
 * overlap.  Giving back cuts an extent short, removes it, or splits it in two.
 * Stock is one more such array, whose sequence numbers mean nothing.
 *
 * A page that the host has taken away is not looked at again here: reading it
 * would make the host give it back.  Writing a tag into stock does exactly
 * that, one page after the other, and is worth it: the host gets the page
 * again at once, and the guest keeps its free memory.
 *
 * What is written into a page is its tag alone, 64 bytes.  The rest is zero
 * since the page came from the kernel; nobody else ever writes here.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "reservoir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "granule.h"

typedef struct Extent {
    uint64_t first_seq;
    uint64_t pages;
    char *address;
} Extent;

typedef struct Extents {
    Extent *at;
    size_t count, room;
} Extents;

typedef struct Epoch {
    BxEpochId id;
    uint64_t next_seq;
    Extents extents;
} Epoch;

struct BxReservoir {
    const BxSys *sys;
    bool huge;
    Epoch *epochs;              /* in the order in which they began */
    size_t count, room;
    Extents stock;
    uint64_t held_pages, stock_pages;
    uint64_t huge_bytes;
};

/* Room for @more entries: what follows cannot fail half way. */
static int make_room(void **array, size_t count, size_t more, size_t *room,
                     size_t entry_bytes)
{
    size_t wanted = *room ? *room : 4;
    void *larger;

    while (wanted < count + more) {
        wanted *= 2;
    }
    if (wanted == *room) {
        return 0;
    }
    larger = realloc(*array, wanted * entry_bytes);
    if (!larger) {
        return -ENOMEM;
    }
    *array = larger;
    *room = wanted;
    return 0;
}

static int extents_room(Extents *extents, size_t more)
{
    return make_room((void **)&extents->at, extents->count, more,
                     &extents->room, sizeof(Extent));
}

static void extents_insert(Extents *extents, size_t index, Extent extent)
{
    memmove(&extents->at[index + 1], &extents->at[index],
            (extents->count - index) * sizeof(Extent));
    extents->at[index] = extent;
    extents->count++;
}

static void extents_remove(Extents *extents, size_t index)
{
    extents->count--;
    memmove(&extents->at[index], &extents->at[index + 1],
            (extents->count - index) * sizeof(Extent));
}

/* There is room.  Neighbours in both senses become one. */
static void extents_append(Extents *extents, Extent extent)
{
    if (extents->count) {
        Extent *last = &extents->at[extents->count - 1];

        if (last->first_seq + last->pages == extent.first_seq &&
            last->address + last->pages * VBX_PAGE_BYTES == extent.address) {
            last->pages += extent.pages;
            return;
        }
    }
    extents->at[extents->count++] = extent;
}

static Epoch *find_epoch(const BxReservoir *reservoir, uint64_t epoch)
{
    for (size_t i = reservoir->count; i-- > 0; ) {
        if (reservoir->epochs[i].id.epoch == epoch) {
            return &reservoir->epochs[i];
        }
    }
    return NULL;
}

static void remove_epoch(BxReservoir *reservoir, Epoch *epoch)
{
    size_t index = epoch - reservoir->epochs;

    free(epoch->extents.at);
    reservoir->count--;
    memmove(epoch, epoch + 1, (reservoir->count - index) * sizeof(Epoch));
}

int bx_reservoir_new(const BxSys *sys, bool huge, BxReservoir **ret_reservoir)
{
    BxReservoir *reservoir = calloc(1, sizeof(*reservoir));

    if (!reservoir) {
        return -ENOMEM;
    }
    reservoir->sys = sys;
    reservoir->huge = huge;
    *ret_reservoir = reservoir;
    return 0;
}

void bx_reservoir_free(BxReservoir *reservoir)
{
    if (!reservoir) {
        return;
    }
    bx_reservoir_end_session(reservoir);
    bx_reservoir_drop_stock(reservoir, UINT64_MAX);
    free(reservoir->stock.at);
    free(reservoir->epochs);
    free(reservoir);
}

int bx_reservoir_begin(BxReservoir *reservoir, const BxEpochId *id)
{
    int rc;

    if (find_epoch(reservoir, id->epoch)) {
        return -EEXIST;
    }
    rc = make_room((void **)&reservoir->epochs, reservoir->count, 1,
                   &reservoir->room, sizeof(Epoch));
    if (rc < 0) {
        return rc;
    }
    reservoir->epochs[reservoir->count++] = (Epoch) { .id = *id };
    return 0;
}

static void write_tags(const Epoch *epoch, Extent extent)
{
    for (uint64_t i = 0; i < extent.pages; i++) {
        vbx_tag_make((struct vbx_tag *)(extent.address + i * VBX_PAGE_BYTES),
                     epoch->id.app, epoch->id.epoch, extent.first_seq + i,
                     epoch->id.key);
    }
}

/* How many pages to pass over until one is aligned to @granule pages. */
static uint64_t misfit_pages(const Extent *extent, uint64_t granule)
{
    return (-(uintptr_t)extent->address / VBX_PAGE_BYTES) & (granule - 1);
}

/*
 * Cut up to @pages, a multiple of @granule pages and aligned to it, off an
 * extent of stock.  There is room for two more extents.
 */
static bool cut_from(BxReservoir *reservoir, size_t index, uint64_t granule,
                     uint64_t pages, Extent *ret_cut)
{
    Extent *extent = &reservoir->stock.at[index];
    uint64_t skip = misfit_pages(extent, granule), cut;
    Extent behind;

    if (extent->pages < skip + granule) {
        return false;
    }
    cut = (extent->pages - skip) / granule * granule;
    cut = cut < pages ? cut : pages;
    ret_cut->address = extent->address + skip * VBX_PAGE_BYTES;
    ret_cut->pages = cut;
    behind = (Extent) {
        .address = ret_cut->address + cut * VBX_PAGE_BYTES,
        .pages = extent->pages - skip - cut,
    };
    extent->pages = skip;
    if (behind.pages) {
        extents_insert(&reservoir->stock, index + 1, behind);
    }
    if (!skip) {
        extents_remove(&reservoir->stock, index);
    }
    reservoir->stock_pages -= cut;
    return true;
}

uint64_t bx_reservoir_usable_stock(const BxReservoir *reservoir,
                                   uint32_t granule_bytes)
{
    uint64_t granule = granule_bytes / VBX_PAGE_BYTES, pages = 0;

    for (size_t i = 0; i < reservoir->stock.count; i++) {
        const Extent *extent = &reservoir->stock.at[i];
        uint64_t skip = misfit_pages(extent, granule);

        if (extent->pages > skip) {
            pages += (extent->pages - skip) / granule * granule;
        }
    }
    return pages * VBX_PAGE_BYTES;
}

static bool take_stock(BxReservoir *reservoir, uint64_t granule,
                       uint64_t pages, Extent *ret_extent)
{
    if (extents_room(&reservoir->stock, 2) < 0) {
        return false;
    }
    for (size_t i = reservoir->stock.count; i-- > 0; ) {
        if (cut_from(reservoir, i, granule, pages, ret_extent)) {
            return true;
        }
    }
    return false;
}

/* Less where there is less: a limit is then reached to the granule. */
static int take_fresh(BxReservoir *reservoir, uint32_t granule_bytes,
                      uint64_t bytes, Extent *ret_extent)
{
    BxMemory memory;
    int rc;

    for (;;) {
        rc = bx_granule_new(reservoir->sys, bytes, granule_bytes,
                            reservoir->huge, &memory);
        if (rc == 0) {
            break;
        }
        bytes = bytes / 2 / granule_bytes * granule_bytes;
        if (bytes == 0) {
            return rc;
        }
    }
    reservoir->held_pages += memory.bytes / VBX_PAGE_BYTES;
    reservoir->huge_bytes += memory.huge_bytes;
    ret_extent->address = memory.address;
    ret_extent->pages = memory.bytes / VBX_PAGE_BYTES;
    return 0;
}

int bx_reservoir_set_aside(BxReservoir *reservoir, uint64_t epoch_number,
                           uint64_t bytes, BxPages *ret_pages)
{
    Epoch *epoch = find_epoch(reservoir, epoch_number);
    uint32_t granule;
    Extent extent;
    int rc;

    if (!epoch) {
        return -ENOENT;
    }
    granule = epoch->id.granule_bytes;
    bytes = bytes / granule * granule;
    if (!bytes) {
        return -EINVAL;
    }
    rc = extents_room(&epoch->extents, 1);
    if (rc < 0) {
        return rc;
    }
    if (!take_stock(reservoir, granule / VBX_PAGE_BYTES,
                    bytes / VBX_PAGE_BYTES, &extent)) {
        rc = take_fresh(reservoir, granule, bytes, &extent);
        if (rc < 0) {
            return rc;
        }
    }
    extent.first_seq = epoch->next_seq;
    epoch->next_seq += extent.pages;
    write_tags(epoch, extent);
    extents_append(&epoch->extents, extent);
    *ret_pages = (BxPages) { epoch_number, extent.first_seq, extent.pages };
    return 0;
}

/* Unmapping can fail only for want of kernel memory: then it stays ours. */
static uint64_t unmap(BxReservoir *reservoir, char *address, uint64_t pages)
{
    if (pages == 0 ||
        reservoir->sys->unmap(address, pages * VBX_PAGE_BYTES) < 0) {
        return 0;
    }
    reservoir->held_pages -= pages;
    if (reservoir->huge_bytes > reservoir->held_pages * VBX_PAGE_BYTES) {
        reservoir->huge_bytes = reservoir->held_pages * VBX_PAGE_BYTES;
    }
    return pages;
}

/*
 * Take [first, end) out of extent @index, of which it is a part.  There is
 * room for one more extent.
 */
static uint64_t unmap_part(BxReservoir *reservoir, Extents *extents,
                           size_t index, uint64_t first, uint64_t end)
{
    Extent *extent = &extents->at[index];
    uint64_t before = first - extent->first_seq;
    uint64_t behind = extent->first_seq + extent->pages - end;
    char *address = extent->address + before * VBX_PAGE_BYTES;
    uint64_t gone = unmap(reservoir, address, end - first);

    if (!gone) {
        return 0;
    }
    extent->pages = before;
    if (behind) {
        extents_insert(extents, index + 1, (Extent) {
            .first_seq = end,
            .pages = behind,
            .address = address + (end - first) * VBX_PAGE_BYTES,
        });
    }
    if (!before) {
        extents_remove(extents, index);
    }
    return gone;
}

int bx_reservoir_unmap(BxReservoir *reservoir, const BxPages *pages,
                       uint64_t keep, uint64_t *ret_bytes)
{
    Epoch *epoch = find_epoch(reservoir, pages->epoch);
    uint64_t first = pages->first_seq, end = first + pages->count, gone = 0;

    if (!epoch || extents_room(&epoch->extents, 1) < 0) {
        return -ENOENT;
    }
    for (size_t i = epoch->extents.count; i-- > 0; ) {
        Extent extent = epoch->extents.at[i];
        uint64_t from = first > extent.first_seq ? first : extent.first_seq;
        uint64_t to = extent.first_seq + extent.pages;

        to = to < end ? to : end;
        if (from < to) {
            gone += unmap_part(reservoir, &epoch->extents, i, from, to);
        }
    }
    if (!gone) {
        return -ENOENT;
    }
    if (epoch->extents.count == 0 && epoch->id.epoch != keep) {
        remove_epoch(reservoir, epoch);
    }
    *ret_bytes = gone * VBX_PAGE_BYTES;
    return 0;
}

void bx_reservoir_forget_empty(BxReservoir *reservoir, uint64_t number)
{
    Epoch *epoch = find_epoch(reservoir, number);

    if (epoch && epoch->extents.count == 0) {
        remove_epoch(reservoir, epoch);
    }
}

int bx_reservoir_newest(const BxReservoir *reservoir, uint64_t max_pages,
                        BxPages *ret_pages)
{
    for (size_t i = reservoir->count; i-- > 0; ) {
        const Extents *extents = &reservoir->epochs[i].extents;

        if (extents->count) {
            Extent last = extents->at[extents->count - 1];
            uint64_t count = last.pages < max_pages ? last.pages : max_pages;

            *ret_pages = (BxPages) {
                .epoch = reservoir->epochs[i].id.epoch,
                .first_seq = last.first_seq + last.pages - count,
                .count = count,
            };
            return 0;
        }
    }
    return -ENOENT;
}

void bx_reservoir_end_session(BxReservoir *reservoir)
{
    while (reservoir->count) {
        Epoch *epoch = &reservoir->epochs[reservoir->count - 1];

        for (size_t i = 0; i < epoch->extents.count; i++) {
            Extent extent = epoch->extents.at[i];

            if (extents_room(&reservoir->stock, 1) < 0) {
                unmap(reservoir, extent.address, extent.pages);
                continue;
            }
            reservoir->stock_pages += extent.pages;
            reservoir->stock.at[reservoir->stock.count++] = extent;
        }
        remove_epoch(reservoir, epoch);
    }
}

uint64_t bx_reservoir_drop_stock(BxReservoir *reservoir, uint64_t bytes)
{
    Extents *stock = &reservoir->stock;
    uint64_t pages = bytes / VBX_PAGE_BYTES + (bytes % VBX_PAGE_BYTES != 0);
    uint64_t gone = 0;

    while (gone < pages && stock->count) {
        Extent *last = &stock->at[stock->count - 1];
        uint64_t part = pages - gone < last->pages ? pages - gone
                                                   : last->pages;

        if (!unmap(reservoir,
                   last->address + (last->pages - part) * VBX_PAGE_BYTES,
                   part)) {
            break;
        }
        gone += part;
        last->pages -= part;
        if (!last->pages) {
            stock->count--;
        }
    }
    reservoir->stock_pages -= gone;
    return gone * VBX_PAGE_BYTES;
}

int bx_reservoir_find(const BxReservoir *reservoir, uint64_t number,
                      uint64_t seq, const void **ret_address,
                      uint64_t *ret_count)
{
    const Epoch *epoch = find_epoch(reservoir, number);

    for (size_t i = epoch ? epoch->extents.count : 0; i-- > 0; ) {
        Extent extent = epoch->extents.at[i];

        if (seq >= extent.first_seq && seq - extent.first_seq < extent.pages) {
            uint64_t offset = seq - extent.first_seq;

            *ret_address = extent.address + offset * VBX_PAGE_BYTES;
            *ret_count = extent.pages - offset;
            return 0;
        }
    }
    return -ENOENT;
}

void bx_reservoir_info(const BxReservoir *reservoir, BxReservoirInfo *ret_info)
{
    ret_info->held_bytes = reservoir->held_pages * VBX_PAGE_BYTES;
    ret_info->stock_bytes = reservoir->stock_pages * VBX_PAGE_BYTES;
    ret_info->huge_bytes = reservoir->huge_bytes;
}
