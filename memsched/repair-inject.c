/*
 * Errors made for tests, and errors that do not matter any more
 *
 * An error is injected as the hardware would make it: the page's frame is gone,
 * with its content, and a marker is there that raises SIGBUS.  While both
 * happen the page is in C, so that nobody finds a hole in between.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "gpamap.h"
#include "instance.h"
#include "message.h"
#include "protect-int.h"
#include "repair-int.h"

#define FRAME_PAGES MS_PAGESET_PAGES
#define PAGE        ((size_t)MEMSCHED_PAGE_SIZE)

/* The region is entered, the page R or G and in C. */
static int inject(MemSchedRegion *region, uint64_t page)
{
    char *address = ms_region_address(region, page);
    int ret = ms_region_discard(region, address, 1);

    if (ret == 0) {
        /*
         * Who has met the hole goes on at once: it may have the rows for
         * which ms_torn_end() waits.
         */
        ret = ms_uffd_poison(&region->client->uffd, address, 1, true);
    }
    return ret;
}

/* The page is in C: it leaves its stripe by nobody's write. */
static bool is_covered(MsProtect *protect, uint64_t page)
{
    MsMember *member;
    bool covered;

    if (protect == NULL) {
        return false;
    }
    ms_lock(&protect->lock);
    member = ms_stripes_member(&protect->stripes, page / FRAME_PAGES);
    covered = member && ms_pageset_has(&member->in, page % FRAME_PAGES) &&
              !ms_pageset_has(&member->gone, page % FRAME_PAGES);
    ms_unlock(&protect->lock);
    return covered;
}

/* False: it has no page.  Else it is in C, with all of its huge page. */
static bool take(MemSchedRegion *region, uint64_t page,
                 MemSchedPageState *ret_was, MsTorn *ret_torn)
{
    bool there;

    ms_lock(&region->lock);
    do {
        ms_region_wait_transit_locked(region, page, 1);
        *ret_was = ms_pages_get(&region->pages, page);
        there = *ret_was == MEMSCHED_PAGE_RESIDENT ||
                *ret_was == MEMSCHED_PAGE_GIVEN;
    } while (there && !ms_torn_begin_locked(region, page, ret_torn));
    if (there) {
        ms_pages_change(&region->pages, MS_PAGE_TAKE_OUT, page, 1,
                        MEMSCHED_PAGE_TRANSIT);
    }
    ms_unlock(&region->lock);
    return there;
}

static int inject_page(MemSchedRegion *region, uint64_t page, bool covered)
{
    MsProtect *protect = ms_protect_of(region);
    MemSchedPageState was;
    MsTorn torn;
    int ret;

    if (!take(region, page, &was, &torn)) {
        return -ENODATA;
    }
    if (covered && !is_covered(protect, page)) {
        ms_repair_end(region, page, MS_PAGE_PUT_BACK, was);
        ms_torn_cancel(region, &torn);
        return -EAGAIN;
    }
    ret = inject(region, page);
    if (ret < 0) {
        /* Its content is gone all the same: zeros, and lost. */
        ms_lock(&region->lock);
        ms_protect_dropped_locked(region, page);
        ms_unlock(&region->lock);
        ms_repair_place_zeros(region, page);
        ms_region_wake(region, page, 1);
    }
    ms_torn_end(region, &torn);
    if (ret < 0) {
        ms_repair_end(region, page, MS_PAGE_POPULATED, MEMSCHED_PAGE_LOST);
        return ret;
    }
    /* A page that was given is as dead as before. */
    ms_repair_end(region, page, MS_PAGE_PUT_BACK,
                  was == MEMSCHED_PAGE_GIVEN ? was : MEMSCHED_PAGE_POISONED);
    return 0;
}

static void say_where(MemSchedMessage *message, int ret, const char *id,
                      uint64_t gpa)
{
    const char *what = ret == -ENODATA ? "has no page of its own that could"
                                         " break"
                     : ret == -EAGAIN ? "has a page that is not covered now"
                     : "has a page that the kernel does not poison";

    ms_say(message, "guest '%s' %s, at address 0x%" PRIx64, id, what, gpa);
}

static int inject_error(MemSched *ms, const char *id, uint64_t gpa,
                        bool covered, MemSchedMessage *ret_message)
{
    MemSchedClient *client = ms_client_get(ms, id);
    MemSchedRegion *region;
    uint64_t offset;
    int ret = -EFAULT;
    MsGpaMap *map;

    if (client == NULL) {
        ms_say(ret_message, "there is no guest '%.*s'", MEMSCHED_ID_MAX, id);
        return -ENOENT;
    }
    map = ms_client_map(client);
    if (!ms->allow_inject) {
        ms_say(ret_message, "errors can be injected only where memsched was"
               " started with allow-inject=on");
        ret = -EPERM;
    } else if (!ms->kernel.poison) {
        ms_say(ret_message, "this kernel (%s) cannot poison a page",
               ms->kernel.release);
        ret = -ENOTSUP;
    } else if (ms_gpamap_find(map, gpa, &region, &offset) &&
               ms_region_enter_locked(region)) {
        ms_unlock(&region->lock);
        ret = inject_page(region, region->pages.lead +
                          (offset >> MEMSCHED_PAGE_SHIFT), covered);
        ms_region_leave(region);
        if (ret < 0) {
            say_where(ret_message, ret, id, gpa);
        }
    } else {
        ms_say(ret_message, "guest '%s' has no RAM at address 0x%" PRIx64, id,
               gpa);
    }
    ms_gpamap_unref(map);
    ms_client_unref(client);
    return ret;
}

int memsched_inject_error(MemSched *ms, const char *id, uint64_t gpa,
                          MemSchedMessage *ret_message)
{
    return inject_error(ms, id, gpa, false, ret_message);
}

int memsched_inject_covered_error(MemSched *ms, const char *id, uint64_t gpa,
                                  MemSchedMessage *ret_message)
{
    return inject_error(ms, id, gpa, true, ret_message);
}

/* ---- nobody wants to know any more ---- */

void ms_repair_forget(MemSchedRegion *region, uint64_t page, uint64_t end)
{
    MsPages *pages = &region->pages;
    uint64_t run, count;
    bool found;

    for (;;) {
        MemSchedPageState state = MEMSCHED_PAGE_HOLE;

        ms_lock(&region->lock);
        found = pages->count[MEMSCHED_PAGE_POISONED] +
                pages->count[MEMSCHED_PAGE_LOST] > 0 &&
                ms_pages_next(pages, page, end, MS_STATE_BIT(POISONED) |
                              MS_STATE_BIT(LOST), &run, &count);
        if (found) {
            state = ms_pages_get(pages, run);
        }
        if (state == MEMSCHED_PAGE_LOST) {
            ms_pages_renew(pages, run, 1);
        } else if (state == MEMSCHED_PAGE_POISONED) {
            ms_pages_change(pages, MS_PAGE_TAKE_IN, run, 1,
                            MEMSCHED_PAGE_TRANSIT);
        }
        ms_unlock(&region->lock);
        if (!found) {
            return;
        }
        if (state == MEMSCHED_PAGE_POISONED) {
            MsPageSet one;

            ms_pageset_clear(&one);
            ms_pageset_add(&one, run % FRAME_PAGES, 1);
            ms_protect_leave(region, run / FRAME_PAGES, &one, true);
            ms_repair_place_zeros(region, run);
            ms_repair_end(region, run, MS_PAGE_PUT_BACK,
                          MEMSCHED_PAGE_RESIDENT);
        }
        page = run + 1;
    }
}
