/*
 * Conditions: the page, and who is told
 *
 * The page is the one source: a message that says "it changed" makes us look
 * there.  It is mapped as soon as it exists, by whichever thread asks first,
 * and stays mapped until bx_close(), since another thread may be reading.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "bx-int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const BxCondPage *map_first(Bx *bx)
{
    const BxCondPage *page, *expected = NULL;
    uint64_t inode;

    if (bx_condpage_open(bx->page_path, &page, &inode) < 0) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&bx->page, &expected, page)) {
        bx_condpage_unmap(page);        /* another thread was faster */
        return expected;
    }
    return page;
}

/* The program's own thread: look whether the file is another one by now. */
void bx_condition_map(Bx *bx)
{
    const BxCondPage *page, *old;
    BxPageList *entry;
    struct stat st;
    uint64_t inode;

    if (stat(bx->page_path, &st) < 0 || bx->page_inode == st.st_ino) {
        return;
    }
    entry = malloc(sizeof(*entry));
    if (!entry || bx_condpage_open(bx->page_path, &page, &inode) < 0) {
        free(entry);
        return;
    }
    bx->page_inode = inode;
    old = atomic_exchange(&bx->page, page);
    entry->page = old;
    entry->next = bx->old_pages;
    bx->old_pages = entry;
}

void bx_condition_close(Bx *bx)
{
    bx_condpage_unmap(atomic_load(&bx->page));
    while (bx->old_pages) {
        BxPageList *entry = bx->old_pages;

        bx->old_pages = entry->next;
        bx_condpage_unmap(entry->page);
        free(entry);
    }
}

static int read_figures(Bx *bx, BxFigures *ret_figures)
{
    const BxCondPage *page = atomic_load_explicit(&bx->page,
                                                  memory_order_acquire);

    if (!page) {
        page = map_first(bx);
    }
    return page ? bx_condpage_read(page, ret_figures) : -ENODATA;
}

int bx_condition_get(Bx *bx, BxCondition *ret_condition)
{
    BxFigures figures;
    int rc = read_figures(bx, &figures);

    if (rc == 0) {
        bx_figures_to_condition(&figures, bx_now_ns(), ret_condition);
    }
    return rc;
}

void bx_on_condition(Bx *bx, BxConditionFunc *func, void *opaque)
{
    bx->on_condition = func;
    bx->on_condition_opaque = opaque;
}

void bx_condition_notify(Bx *bx)
{
    BxFigures now, last = bx->told;
    BxCondition condition;

    if (!bx->on_condition || read_figures(bx, &now) < 0) {
        return;
    }
    if (bx->was_told && now.generation == last.generation &&
        now.is_connected == last.is_connected &&
        memcmp(now.session, last.session, sizeof(now.session)) == 0) {
        return;
    }
    bx->told = now;
    bx->was_told = true;
    bx_figures_to_condition(&now, bx_now_ns(), &condition);
    bx->on_condition(bx->on_condition_opaque, &condition);
}

const char *bx_level_name(unsigned level)
{
    static const char *const names[] = { "high", "soft", "hard", "low" };

    return level < sizeof(names) / sizeof(names[0]) ? names[level] : "?";
}
