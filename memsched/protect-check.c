/*
 * Protection looked at: rows against checksums and parity, and all of the books
 *
 * What is compared here is compared by the scrubber (protect-scrub.c), and by
 * the check that ends every test.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "instance.h"
#include "protect-int.h"

#define PAGE ((size_t)MEMSCHED_PAGE_SIZE)

static MsLook look_at_member(MsProtect *protect, const MsMember *m,
                             unsigned page, char *buf)
{
    uint64_t at = m->frame * MS_PAGESET_PAGES + page;
    bool gone;

    ms_lock(&protect->lock);
    gone = ms_pageset_has(&m->gone, page);
    ms_unlock(&protect->lock);
    if (gone) {
        return MS_LOOK_GONE;
    }
    if (ms_protect_peek(protect, at, 1, buf) != 1) {
        return MS_LOOK_BROKEN;
    }
    return ms_parity_best()->sum(buf, PAGE) == m->sum[page] ? MS_LOOK_RIGHT
                                                            : MS_LOOK_OTHER;
}

static MsLook look_at_parity(MsProtect *protect, MsWork *work,
                             const MsGroup *group, unsigned k, unsigned page)
{
    const MsSys *sys = protect->region->ms->sys;

    if (sys->peek(sys, work->parity[k], ms_parity_address(group, k, page),
                  PAGE) != (ssize_t)PAGE) {
        return MS_LOOK_BROKEN;
    }
    return memcmp(work->parity[k], work->out[k], PAGE) ? MS_LOOK_OTHER
                                                       : MS_LOOK_RIGHT;
}

void ms_row_look(MsProtect *protect, MsWork *work, const MsGroup *group,
                 unsigned page, MsRowLook *ret_look)
{
    MsParityRow known = { .bytes = PAGE };
    bool all = true;
    MsRow row;

    *ret_look = (MsRowLook) { 0 };
    ms_row_members(protect, group, page, &row);
    for (unsigned i = 0; i < row.count; i++) {
        const MsMember *m = row.member[i];
        char *buf = work->page[known.count];
        MsLook look = look_at_member(protect, m, page, buf);

        ret_look->member[m->slot] = look;
        ret_look->frame[m->slot] = m->frame;
        if (look == MS_LOOK_RIGHT) {
            known.slot[known.count] = m->slot;
            known.page[known.count++] = buf;
        } else {
            all = false;
        }
    }
    ret_look->pages = known.count;
    if (all && known.count > 0) {
        ms_parity_build(ms_parity_best(), &known, (void *const *)work->out);
    }
    for (unsigned k = 0; k < protect->stripes.parities && row.count > 0;
         k++) {
        ret_look->parity[k] = row.bad[k] ? MS_LOOK_NONE
                              : !all ? MS_LOOK_UNKNOWN
                              : look_at_parity(protect, work, group, k, page);
        ret_look->pages += ret_look->parity[k] == MS_LOOK_RIGHT;
    }
}

/*
 * One row: each page that can be read has the content of its checksum, and if
 * all can, parity that is not called bad is that of the pages.
 */
static const char *check_row(MsProtect *protect, MsWork *work, MsGroup *group,
                             unsigned page)
{
    MsRowLook look;

    ms_row_look(protect, work, group, page, &look);
    for (unsigned s = 0; s < protect->stripes.size; s++) {
        if (look.member[s] == MS_LOOK_OTHER) {
            return "a protected page differs from its checksum";
        }
    }
    return look.parity[0] == MS_LOOK_OTHER ? "P is not that of its pages"
           : look.parity[1] == MS_LOOK_OTHER ? "Q is not that of its pages"
           : NULL;
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
