/*
 * Memory of the fake kernel
 *
 * Pages are found by a list of mappings, each with an array of page states;
 * frames are numbers that are never given out twice, so that a test can
 * follow one.  The caller holds the fake's lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fake-int.h"

#include <errno.h>
#include <string.h>

Mapping *fake_mapping_of(FakeSys *fake, uint64_t address)
{
    for (unsigned i = 0; i < fake->mappings->len; i++) {
        Mapping *m = g_ptr_array_index(fake->mappings, i);

        if (address >= (uintptr_t)m->map &&
            address < (uintptr_t)m->map + m->bytes) {
            return m;
        }
    }
    return NULL;
}

Page *fake_page_of(FakeSys *fake, uint64_t address, Frame **ret_frame,
                     unsigned *ret_position)
{
    Mapping *m = fake_mapping_of(fake, address);
    uint64_t index;

    if (!m) {
        return NULL;
    }
    index = (address - (uintptr_t)m->base) >> MEMSCHED_PAGE_SHIFT;
    if (ret_frame) {
        *ret_frame = &m->frame[index / FRAME_PAGES];
    }
    if (ret_position) {
        *ret_position = index % FRAME_PAGES;
    }
    return &m->page[index];
}

static bool zero_filled(const void *page)
{
    const char *p = page;

    return p[0] == 0 && memcmp(p, p + 1, MEMSCHED_PAGE_SIZE - 1) == 0;
}

/* One page is wanted out of the huge page that covers @address. */
static void split(FakeSys *fake, uint64_t address)
{
    uint64_t base = address & ~(MEMSCHED_FRAME_SIZE - 1);
    Frame *frame;
    Page *page = fake_page_of(fake, base, &frame, NULL);

    if (!frame->huge && !frame->folio) {
        return;
    }
    frame->huge = false;
    frame->folio = false;
    frame->table = true;
    for (unsigned i = 0; i < FRAME_PAGES; i++) {
        if (page[i].kind == FRAME &&
            zero_filled((void *)(base + i * MEMSCHED_PAGE_SIZE))) {
            page[i].kind = ZERO;
        }
    }
}

/* A part of a huge page is aged apart from the rest. */
void fake_mem_age(FakeSys *fake, uint64_t address)
{
    split(fake, address);
}

static void drop_page(FakeSys *fake, uint64_t address)
{
    Frame *frame;
    Page *page = fake_page_of(fake, address, &frame, NULL);

    if (frame->huge) {
        frame->huge = false;
        frame->folio = true;
        frame->table = true;
    }
    page->kind = HOLE;
    page->pfn = 0;
    memset((void *)address, 0, MEMSCHED_PAGE_SIZE);
}

static void give_frame(FakeSys *fake, uint64_t address)
{
    Frame *frame;
    Page *page = fake_page_of(fake, address, &frame, NULL);

    if (page->kind != FRAME) {
        page->kind = FRAME;
        page->pfn = fake->next_pfn++;
        frame->table = true;
    }
}

/* First touch: a huge page where advised, available and possible. */
void fake_mem_touch(FakeSys *fake, uint64_t address, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t at = address + i * MEMSCHED_PAGE_SIZE;
        Frame *frame;
        unsigned position;
        Page *page = fake_page_of(fake, at, &frame, &position);

        g_assert_nonnull(page);
        if (position == 0 && frame->advised && fake->huge && !frame->table &&
            !frame->huge && pages - i >= FRAME_PAGES) {
            frame->huge = true;
            fake->next_pfn = (fake->next_pfn + FRAME_PAGES - 1) &
                             ~(FRAME_PAGES - 1);
            for (unsigned p = 0; p < FRAME_PAGES; p++) {
                page[p].kind = FRAME;
                page[p].pfn = fake->next_pfn++;
            }
        }
        if (!frame->huge) {
            give_frame(fake, at);
        }
    }
}

static int move_page(FakeSys *fake, uint64_t dst, uint64_t src)
{
    Frame *to_frame;
    Page *from = fake_page_of(fake, src, NULL, NULL);
    Page *to = fake_page_of(fake, dst, &to_frame, NULL);

    if (!from || !to) {
        return -EINVAL;
    }
    if (from->block) {
        return from->block;
    }
    if (from->kind == HOLE) {
        return -ENOENT;
    }
    to_frame->table = true;
    if (to->kind != HOLE) {
        return -EEXIST;
    }
    if (from->kind == MARKER) {
        return -EFAULT;
    }
    split(fake, src);
    memcpy((void *)dst, (void *)src, MEMSCHED_PAGE_SIZE);
    *to = *from;
    drop_page(fake, src);
    return 0;
}

static int copy_page(FakeSys *fake, uint64_t dst, uint64_t src)
{
    if (fake_page_of(fake, dst, NULL, NULL)->kind != HOLE) {
        return -EEXIST;
    }
    give_frame(fake, dst);
    memcpy((void *)dst, (void *)src, MEMSCHED_PAGE_SIZE);
    return 0;
}

/* 1: moved whole; 0: page by page; -errno. */
static int move_huge(FakeSys *fake, uint64_t dst, uint64_t src, uint64_t len)
{
    Frame *from_frame, *to_frame;
    Page *from = fake_page_of(fake, src, &from_frame, NULL);
    Page *to = fake_page_of(fake, dst, &to_frame, NULL);

    if ((dst | src) % MEMSCHED_FRAME_SIZE || len < MEMSCHED_FRAME_SIZE ||
        !from || !to || !from_frame->huge || to_frame->table ||
        to_frame->huge) {
        return 0;
    }
    for (unsigned i = 0; i < FRAME_PAGES; i++) {
        if (from[i].block) {
            return from[i].block;
        }
    }
    memcpy((void *)dst, (void *)src, MEMSCHED_FRAME_SIZE);
    memset((void *)src, 0, MEMSCHED_FRAME_SIZE);
    memcpy(to, from, FRAME_PAGES * sizeof(*to));
    memset(from, 0, FRAME_PAGES * sizeof(*from));
    from_frame->huge = false;
    to_frame->huge = true;
    return 1;
}

void fake_mem_advise(FakeSys *fake, uint64_t address, size_t bytes, bool huge)
{
    for (uint64_t at = address; at < address + bytes;
         at += MEMSCHED_FRAME_SIZE) {
        Frame *frame;

        if (fake_page_of(fake, at, &frame, NULL)) {
            frame->advised = huge;
        }
    }
}

void fake_mem_discard(FakeSys *fake, uint64_t address, size_t bytes)
{
    for (uint64_t at = address; at < address + bytes; ) {
        Frame *frame;
        unsigned position;

        fake_page_of(fake, at, &frame, &position);
        if (position == 0 && address + bytes - at >= MEMSCHED_FRAME_SIZE) {
            for (unsigned i = 0; i < FRAME_PAGES; i++) {
                frame->huge = false;
                drop_page(fake, at + i * MEMSCHED_PAGE_SIZE);
            }
            frame->table = false;
            frame->folio = false;
            at += MEMSCHED_FRAME_SIZE;
        } else {
            drop_page(fake, at);
            at += MEMSCHED_PAGE_SIZE;
        }
    }
}

int fake_mem_run(FakeSys *fake, FakeCall call, uint64_t dst, uint64_t src,
                 uint64_t len, int64_t *ret_done)
{
    uint64_t stop = fake->interrupt ? fake->interrupt : UINT64_MAX;
    uint64_t done = 0;
    int rc = fake_enter(fake, call);

    fake->interrupt = 0;
    if (rc) {
        *ret_done = rc;
        return rc;
    }
    while (done < len && rc == 0) {
        uint64_t n = MEMSCHED_PAGE_SIZE;

        if (done >> MEMSCHED_PAGE_SHIFT >= stop) {
            rc = -EAGAIN;
        } else if (call == FAKE_MOVE) {
            rc = move_huge(fake, dst + done, src + done, len - done);
            if (rc == 1) {
                n = MEMSCHED_FRAME_SIZE;
                rc = 0;
            } else if (rc == 0) {
                rc = move_page(fake, dst + done, src + done);
            }
        } else {
            rc = copy_page(fake, dst + done, src + done);
        }
        done += rc ? 0 : n;
    }
    *ret_done = done ? (int64_t)done : rc;
    return rc && done ? -EAGAIN : rc;
}

int fake_mem_poison(FakeSys *fake, MsAbiPoison *arg)
{
    int rc = fake_enter(fake, FAKE_POISON);

    for (uint64_t at = 0; rc == 0 && at < arg->len; at += MEMSCHED_PAGE_SIZE) {
        Frame *frame;
        Page *page = fake_page_of(fake, arg->start + at, &frame, NULL);

        if (page->kind != HOLE) {
            rc = -EEXIST;
        } else {
            page->kind = MARKER;
            frame->table = true;
        }
    }
    arg->updated = rc ? rc : (int64_t)arg->len;
    return rc;
}

static uint64_t categories(const Page *page, const Frame *frame)
{
    switch (page->kind) {
    case FRAME:
        return MS_ABI_PAGE_PRESENT | (frame->huge ? MS_ABI_PAGE_HUGE : 0);
    case ZERO:
        return MS_ABI_PAGE_PRESENT | MS_ABI_PAGE_ZERO;
    case SWAP:
    case MARKER:
        return MS_ABI_PAGE_SWAPPED;
    case HOLE:
        break;
    }
    return 0;
}

int fake_mem_scan(FakeSys *fake, MsAbiScan *arg)
{
    MsAbiPageRegion *out = (MsAbiPageRegion *)(uintptr_t)arg->vec;
    uint64_t at;
    int n = 0, rc = fake_enter(fake, FAKE_SCAN);

    if (rc) {
        return rc;
    }
    for (at = arg->start; at < arg->end; at += MEMSCHED_PAGE_SIZE) {
        Frame *frame = NULL;
        Page *page = fake_page_of(fake, at, &frame, NULL);
        uint64_t is = page ? categories(page, frame) : 0;

        if (!(is & arg->category_anyof_mask)) {
            continue;
        }
        if (n && out[n - 1].end == at && out[n - 1].categories == is) {
            out[n - 1].end += MEMSCHED_PAGE_SIZE;
        } else if (n == (int)arg->vec_len) {
            break;
        } else {
            out[n++] = (MsAbiPageRegion) {
                .start = at, .end = at + MEMSCHED_PAGE_SIZE, .categories = is,
            };
        }
    }
    arg->walk_end = at;
    return n;
}
