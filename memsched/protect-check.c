/*
 * The check of protection: books, parity and checksums, from the pages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "instance.h"
#include "protect-int.h"

#define PAGE ((size_t)MEMSCHED_PAGE_SIZE)

/*
 * One row: each page that can be read has the content of its checksum, and if
 * all can, parity that is not called bad is that of the pages.
 */
static const char *check_row(MsProtect *protect, MsWork *work, MsGroup *group,
                             unsigned page)
{
    MemSchedRegion *region = protect->region;
    const MsSys *sys = region->ms->sys;
    MsParityRow row = { .bytes = PAGE };
    unsigned in = 0;

    for (unsigned s = 0; s < protect->stripes.size; s++) {
        MsMember *m = group->member[s];
        char *buf = work->page[row.count], *address;

        if (m == NULL || !ms_pageset_has(&m->in, page)) {
            continue;
        }
        in++;
        address = ms_region_address(region,
                                    m->frame * MS_PAGESET_PAGES + page);
        if (ms_pageset_has(&m->gone, page) ||
            ms_pagemap_is_hole(ms_pool_pagemap(region->ms->pool),
                               address) != 0 ||
            sys->peek(sys, buf, address, PAGE) != (ssize_t)PAGE) {
            continue;
        }
        if (ms_parity_best()->sum(buf, PAGE) != m->sum[page]) {
            return "a protected page differs from its checksum";
        }
        row.slot[row.count] = m->slot;
        row.page[row.count++] = buf;
    }
    if (row.count < in) {
        return NULL;
    }
    ms_parity_build(ms_parity_best(), &row, (void *const *)work->out);
    for (unsigned k = 0; k < protect->stripes.parities && in > 0; k++) {
        if (ms_pageset_has(&group->bad[k], page) ||
            sys->peek(sys, work->parity[k], ms_parity_address(group, k, page),
                      PAGE) != (ssize_t)PAGE) {
            continue;
        }
        if (memcmp(work->parity[k], work->out[k], PAGE) != 0) {
            return k ? "Q is not that of its pages"
                     : "P is not that of its pages";
        }
    }
    return NULL;
}

/* Each page that is sure, and can be read, has the content of its checksum. */
static const char *check_disk(MsProtect *protect)
{
    MemSchedRegion *region = protect->region;
    const MsSys *sys = region->ms->sys;
    const char *wrong;
    char buf[MEMSCHED_PAGE_SIZE];

    ms_lock(&protect->disk_lock);
    wrong = ms_diskmap_check(&protect->disk);
    ms_unlock(&protect->disk_lock);
    for (uint64_t p = region->pages.lead; p < region->pages.end && !wrong;
         p++) {
        char *address = ms_region_address(region, p);
        MsDiskPlace place;
        bool sure;

        ms_lock(&protect->disk_lock);
        sure = ms_diskmap_get(&protect->disk, p, &place) && place.sure;
        ms_unlock(&protect->disk_lock);
        if (sure && ms_pagemap_is_hole(ms_pool_pagemap(region->ms->pool),
                                       address) == 0 &&
            sys->peek(sys, buf, address, PAGE) == (ssize_t)PAGE &&
            ms_parity_best()->sum(buf, PAGE) != place.sum) {
            wrong = "a page differs from what was read from its disk";
        }
    }
    return wrong;
}

const char *ms_protect_check(MemSchedRegion *region)
{
    MsProtect *protect = ms_protect_of(region);
    const char *wrong = NULL;
    MsWork *work;

    if (protect == NULL) {
        return NULL;
    }
    wrong = check_disk(protect);
    if (wrong) {
        return wrong;
    }
    work = ms_work_get(protect);
    ms_lock(&protect->lock);
    wrong = ms_stripes_check(&protect->stripes);
    for (unsigned g = 0; g < protect->stripes.groups && !wrong; g++) {
        MsGroup *group = protect->stripes.group[g];
        MsPageSet all;

        ms_pageset_fill(&all);
        group->keep++;
        ms_rows_take_locked(protect, group, &all);
        ms_unlock(&protect->lock);
        for (unsigned i = 0; i < MS_PAGESET_PAGES && !wrong; i++) {
            wrong = check_row(protect, work, group, i);
        }
        ms_lock(&protect->lock);
        group->keep--;
        ms_rows_end_locked(protect, group, &all);
    }
    ms_unlock(&protect->lock);
    ms_work_put(protect, work);
    return wrong;
}
