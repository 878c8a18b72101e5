/*
 * Outcomes of moves on the real kernel, each provoked for real, and the facts
 * about huge pages that the pool stands on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memsched/memsched.h"
#include "real.h"
#include "scrub.h"

#define FRAME_PAGES MEMSCHED_PAGES_PER_FRAME

typedef struct Pair {
    RealRam *from, *to;
} Pair;

static bool pair_new(Pair *pair, bool huge)
{
    if (!real_usable()) {
        return false;
    }
    pair->from = real_ram_new(2, huge, MS_UFFD_MODE_WP);
    pair->to = real_ram_new(2, huge, MS_UFFD_MODE_WP);
    return true;
}

static void pair_free(Pair *pair)
{
    real_ram_free(pair->from);
    real_ram_free(pair->to);
}

static MsMoveResult pair_move(Pair *pair, uint64_t pages)
{
    return ms_uffd_move(&pair->to->uffd, pair->to->base, pair->from->base,
                        pages, true);
}

static uint64_t pfn_of(const RealRam *ram, uint64_t page)
{
    uint64_t pfn = 0;

    g_assert_cmpint(ms_pagemap_pfn(&ram->pagemap, real_page(ram, page), &pfn),
                    ==, 0);
    return pfn;
}

static void test_small_pages_keep_frame_and_content(void)
{
    Pair pair;
    uint64_t pfns[64];

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 64, 11);
    for (unsigned i = 0; i < 64; i++) {
        pfns[i] = pfn_of(pair.from, i);
    }
    g_assert_cmpint(pair_move(&pair, 64).stop, ==, MS_MOVE_DONE);
    for (unsigned i = 0; i < 64; i++) {
        g_assert_cmphex(pfn_of(pair.to, i), ==, pfns[i]);
    }
    real_assert_stamped(pair.to->base, 64, 11);
    pair_free(&pair);
}

static void test_huge_page_keeps_frame_and_stays_huge(void)
{
    Pair pair;
    uint64_t pfn;

    if (!pair_new(&pair, true)) {
        return;
    }
    real_ram_fill(pair.from, 0, FRAME_PAGES, 12);
    if (ms_pagemap_is_huge(&pair.from->pagemap, pair.from->base) != 1) {
        g_test_skip("this host gives no huge pages now");
        pair_free(&pair);
        return;
    }
    pfn = pfn_of(pair.from, 0);
    g_assert_cmpint(pair_move(&pair, FRAME_PAGES).stop, ==, MS_MOVE_DONE);
    g_assert_cmpint(ms_pagemap_is_huge(&pair.to->pagemap, pair.to->base), ==,
                    1);
    g_assert_cmphex(pfn_of(pair.to, 0), ==, pfn);
    real_assert_stamped(pair.to->base, FRAME_PAGES, 12);
    pair_free(&pair);
}

static void test_hole_first_is_noent(void)
{
    Pair pair;
    MsMoveResult r;

    if (!pair_new(&pair, false)) {
        return;
    }
    r = pair_move(&pair, 8);
    g_assert_cmpint(r.stop, ==, MS_MOVE_NOENT);
    g_assert_cmpuint(r.moved_pages, ==, 0);
    pair_free(&pair);
}

static void test_hole_inside_is_named_after_the_short_run(void)
{
    Pair pair;
    MsMoveResult r;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 8, 1);
    madvise(real_page(pair.from, 5), MEMSCHED_PAGE_SIZE, MADV_DONTNEED);
    r = pair_move(&pair, 8);
    g_assert_cmpint(r.stop, ==, MS_MOVE_NOENT);
    g_assert_cmpuint(r.moved_pages, ==, 5);
    g_assert_cmpuint(r.calls, ==, 2);   /* EAGAIN, then the cause */
    pair_free(&pair);
}

static void test_populated_destination_is_exists(void)
{
    Pair pair;
    MsMoveResult r;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 8, 2);
    real_page(pair.to, 3)[0] = 'x';
    r = pair_move(&pair, 8);
    g_assert_cmpint(r.stop, ==, MS_MOVE_EXISTS);
    g_assert_cmpuint(r.moved_pages, ==, 3);
    g_assert_cmpint(real_page(pair.to, 3)[0], ==, 'x');
    pair_free(&pair);
}

static void test_poison_is_fault_at_source_exists_at_destination(void)
{
    Pair pair;
    MsMoveResult r;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 2, 3);
    g_assert_cmpint(ms_uffd_poison(&pair.from->uffd, real_page(pair.from, 2),
                                   1, false), ==, 0);
    r = pair_move(&pair, 4);
    g_assert_cmpint(r.stop, ==, MS_MOVE_FAULT);
    g_assert_cmpuint(r.moved_pages, ==, 2);

    g_assert_cmpint(ms_uffd_poison(&pair.to->uffd, real_page(pair.to, 9), 1,
                                   false), ==, 0);
    real_ram_fill(pair.from, 9, 1, 4);
    r = ms_uffd_move(&pair.to->uffd, real_page(pair.to, 9),
                     real_page(pair.from, 9), 1, false);
    g_assert_cmpint(r.stop, ==, MS_MOVE_EXISTS);
    pair_free(&pair);
}

/* A child that shares the pages, held until told to end. */
static void test_page_shared_by_fork_is_busy_until_written(void)
{
    Pair pair;
    int pipes[2];
    char c = 0;
    pid_t child;
    MsMoveResult r;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 4, 5);
    g_assert_cmpint(pipe(pipes), ==, 0);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        close(pipes[1]);
        _exit(read(pipes[0], &c, 1) < 0);
    }
    close(pipes[0]);
    r = pair_move(&pair, 4);
    g_assert_cmpint(r.stop, ==, MS_MOVE_BUSY);
    g_assert_cmpuint(r.moved_pages, ==, 0);
    close(pipes[1]);
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
    r = pair_move(&pair, 4);
    g_assert_cmpint(r.stop, ==, MS_MOVE_BUSY);  /* though nobody shares it */
    ms_touch_pages(pair.from->base, 4);
    r = pair_move(&pair, 4);
    g_assert_cmpint(r.stop, ==, MS_MOVE_DONE);
    real_assert_stamped(pair.to->base, 4, 5);
    pair_free(&pair);
}

static void test_dontfork_page_is_never_busy_by_fork(void)
{
    Pair pair;
    pid_t child;

    if (!pair_new(&pair, false)) {
        return;
    }
    madvise(pair.from->base, 2 * MEMSCHED_FRAME_SIZE, MADV_DONTFORK);
    real_ram_fill(pair.from, 0, 4, 6);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
    g_assert_cmpint(pair_move(&pair, 4).stop, ==, MS_MOVE_DONE);
    pair_free(&pair);
}

/* Pin pages for long, as a device that does DMA would: a ring, or -errno. */
static int pin_pages(void *address, size_t bytes)
{
    struct io_uring_params params = { 0 };
    struct iovec iov = { .iov_base = address, .iov_len = bytes };
    int ring = syscall(__NR_io_uring_setup, 1, &params);

    if (ring < 0) {
        return -errno;
    }
    if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov,
                1) < 0) {
        int rc = -errno;

        close(ring);
        return rc;
    }
    return ring;
}

static bool skip_unless_pinned(int ring)
{
    if (ring < 0) {
        g_autofree char *why = g_strdup_printf(
            "io_uring cannot pin a buffer here: %s", g_strerror(-ring));

        g_test_skip(why);
    }
    return ring >= 0;
}

static void test_pinned_page_is_busy_and_loses_nothing(void)
{
    Pair pair;
    MsMoveResult r;
    int ring;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 16, 7);
    ring = pin_pages(real_page(pair.from, 6), MEMSCHED_PAGE_SIZE);
    if (skip_unless_pinned(ring)) {
        r = pair_move(&pair, 16);
        g_assert_cmpint(r.stop, ==, MS_MOVE_BUSY);
        g_assert_cmpuint(r.moved_pages, ==, 6);
        r = ms_uffd_move(&pair.from->uffd, pair.from->base, pair.to->base, 6,
                         true);
        g_assert_cmpuint(r.moved_pages, ==, 6);
        real_assert_stamped(pair.from->base, 16, 7);
        close(ring);
    }
    pair_free(&pair);
}

static void test_huge_page_with_one_pin_is_busy_as_a_whole(void)
{
    Pair pair;
    MsMoveResult r;
    int ring;

    if (!pair_new(&pair, true)) {
        return;
    }
    real_ram_fill(pair.from, 0, FRAME_PAGES, 8);
    ring = pin_pages(real_page(pair.from, 300), MEMSCHED_PAGE_SIZE);
    if (skip_unless_pinned(ring)) {
        r = pair_move(&pair, FRAME_PAGES);
        g_assert_cmpint(r.stop, ==, MS_MOVE_BUSY);
        g_assert_cmpuint(r.moved_pages, ==, 0);
        real_assert_stamped(pair.from->base, FRAME_PAGES, 8);
        close(ring);
    }
    pair_free(&pair);
}

/* Why the fence is needed: the kernel does not count this reference. */
static void test_vmspliced_page_moves_without_busy(void)
{
    Pair pair;
    struct iovec iov;
    uint64_t word = 0;
    int pipes[2];

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 1, 9);
    g_assert_cmpint(pipe(pipes), ==, 0);
    iov = (struct iovec) {
        .iov_base = pair.from->base, .iov_len = MEMSCHED_PAGE_SIZE,
    };
    g_assert_cmpint(vmsplice(pipes[1], &iov, 1, 0), ==, MEMSCHED_PAGE_SIZE);
    g_assert_cmpint(pair_move(&pair, 1).stop, ==, MS_MOVE_DONE);
    *(uint64_t *)pair.to->base = UINT64_C(0xfeedfacecafebeef);
    g_assert_cmpint(read(pipes[0], &word, sizeof(word)), ==, sizeof(word));
    g_assert_cmphex(word, ==, UINT64_C(0xfeedfacecafebeef));
    close(pipes[0]);
    close(pipes[1]);
    pair_free(&pair);
}

static void test_unregistered_destination_is_inval(void)
{
    Pair pair;

    if (!real_usable()) {
        return;
    }
    pair.from = real_ram_new(1, false, MS_UFFD_MODE_WP);
    pair.to = real_ram_new(1, false, 0);
    real_ram_fill(pair.from, 0, 1, 1);
    g_assert_cmpint(pair_move(&pair, 1).stop, ==, MS_MOVE_INVAL);
    pair_free(&pair);
}

static void test_run_across_the_end_of_a_vma_is_inval(void)
{
    Pair pair;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 8, 1);
    /* Advice of one part splits the VMA. */
    g_assert_cmpint(madvise(real_page(pair.from, 4), MEMSCHED_FRAME_SIZE,
                            MADV_DONTFORK), ==, 0);
    g_assert_cmpint(pair_move(&pair, 8).stop, ==, MS_MOVE_INVAL);
    g_assert_cmpint(pair_move(&pair, 4).stop, ==, MS_MOVE_DONE);
    pair_free(&pair);
}

static void test_memory_locked_on_one_side_is_inval(void)
{
    Pair pair;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, FRAME_PAGES, 1);
    /* By number: sanitizers make mlock() do nothing. */
    if (syscall(SYS_mlock, pair.from->base, MEMSCHED_FRAME_SIZE) < 0) {
        g_test_skip("no memory may be locked here (RLIMIT_MEMLOCK)");
    } else {
        g_assert_cmpint(pair_move(&pair, 8).stop, ==, MS_MOVE_INVAL);
        syscall(SYS_munlock, pair.from->base, MEMSCHED_FRAME_SIZE);
        g_assert_cmpint(pair_move(&pair, 8).stop, ==, MS_MOVE_DONE);
    }
    pair_free(&pair);
}

static void test_second_descriptor_on_a_range_is_ebusy(void)
{
    Pair pair;

    if (!pair_new(&pair, false)) {
        return;
    }
    g_assert_cmpint(ms_uffd_register(&pair.from->uffd, pair.to->base,
                                     FRAME_PAGES, MS_UFFD_MODE_MISSING),
                    ==, -EBUSY);
    pair_free(&pair);
}

/* Why a region's pages go home before its descriptor is closed. */
static void test_holes_without_a_descriptor_become_zero_pages(void)
{
    MsPagemapCount count;
    Pair pair;

    if (!pair_new(&pair, false)) {
        return;
    }
    g_assert_cmpint(ms_uffd_register(&pair.to->uffd, pair.to->base,
                                     pair.to->pages, MS_UFFD_MODE_MISSING),
                    ==, 0);
    ms_uffd_close(&pair.to->uffd);
    /* volatile: made for its fault. */
    g_assert_cmpint(*(volatile char *)real_page(pair.to, 1), ==, 0);
    g_assert_cmpint(ms_pagemap_count(&pair.to->pagemap, pair.to->base, 4,
                                     &count), ==, 0);
    g_assert_cmpuint(count.zero_pages, ==, 1);
    g_assert_cmpuint(count.present_pages, ==, 0);
    pair_free(&pair);
}

/* Why none may ever come into being: it moves like a page and is no frame. */
static void test_zero_page_counts_as_a_page_moved(void)
{
    MsPagemapCount count;
    Pair pair;

    if (!pair_new(&pair, false)) {
        return;
    }
    /* volatile: made for its fault. */
    g_assert_cmpint(*(volatile char *)pair.from->base, ==, 0);
    g_assert_cmpuint(pair_move(&pair, 1).moved_pages, ==, 1);
    g_assert_cmpint(ms_pagemap_count(&pair.to->pagemap, pair.to->base, 1,
                                     &count), ==, 0);
    g_assert_cmpuint(count.zero_pages, ==, 1);
    g_assert_cmpuint(count.present_pages, ==, 0);
    pair_free(&pair);
}

static void test_copy_fills_holes_and_stops_at_pages(void)
{
    Pair pair;
    MsMoveResult r;

    if (!pair_new(&pair, false)) {
        return;
    }
    real_ram_fill(pair.from, 0, 8, 21);
    real_page(pair.to, 6)[0] = 1;
    r = ms_uffd_copy(&pair.to->uffd, pair.to->base, pair.from->base, 8, false,
                     false);
    g_assert_cmpint(r.stop, ==, MS_MOVE_EXISTS);
    g_assert_cmpuint(r.moved_pages, ==, 6);
    real_assert_stamped(pair.to->base, 6, 21);
    pair_free(&pair);
}

/* ---- facts that the pool stands on ---- */

static void test_discard_of_a_frame_frees_its_page_table(void)
{
    Pair pair;

    if (!pair_new(&pair, true)) {
        return;
    }
    for (int discard = 0; discard < 2; discard++) {
        real_ram_fill(pair.from, 0, FRAME_PAGES, 1);
        g_assert_cmpint(ms_uffd_poison(&pair.to->uffd, real_page(pair.to, 1),
                                       1, false), ==, 0);
        madvise(real_page(pair.to, 1), MEMSCHED_PAGE_SIZE, MADV_DONTNEED);
        if (discard) {
            madvise(pair.to->base, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
        }
        g_assert_cmpint(pair_move(&pair, FRAME_PAGES).stop, ==, MS_MOVE_DONE);
        g_assert_cmpint(ms_pagemap_is_huge(&pair.to->pagemap, pair.to->base),
                        ==, discard);
        madvise(pair.to->base, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
        madvise(pair.from->base, MEMSCHED_FRAME_SIZE, MADV_DONTNEED);
    }
    pair_free(&pair);
}

static void test_split_takes_frames_of_zero_pages_and_touch_returns_them(void)
{
    Pair pair;
    MsPagemapCount count;

    if (!pair_new(&pair, true)) {
        return;
    }
    real_ram_fill(pair.from, 0, FRAME_PAGES, 1);
    memset(real_page(pair.from, 256), 0, 100 * MEMSCHED_PAGE_SIZE);
    g_assert_cmpuint(pair_move(&pair, 1).moved_pages, ==, 1);
    g_assert_cmpint(ms_pagemap_count(&pair.from->pagemap, pair.from->base,
                                     FRAME_PAGES, &count), ==, 0);
    g_test_message("after the split: %" G_GUINT64_FORMAT " pages of 511, %"
                   G_GUINT64_FORMAT " zero pages", count.present_pages,
                   count.zero_pages);
    g_assert_cmpuint(count.present_pages + count.zero_pages, ==, 511);
    ms_touch_pages(real_page(pair.from, 1), FRAME_PAGES - 1);
    g_assert_cmpint(ms_pagemap_count(&pair.from->pagemap, pair.from->base,
                                     FRAME_PAGES, &count), ==, 0);
    g_assert_cmpuint(count.present_pages, ==, 511);
    g_assert_cmpuint(count.zero_pages, ==, 0);
    g_assert_true(ms_pages_are_zero(real_page(pair.from, 256), 100));
    pair_free(&pair);
}

static void *toucher(void *opaque)
{
    RealRam *ram = opaque;

    return GINT_TO_POINTER(real_page(ram, 3)[5]);
}

static void test_fault_is_reported_and_ends_with_a_move(void)
{
    gint64 deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    Pair pair;
    GThread *thread;
    MsFault fault;
    int n = 0;

    if (!real_usable()) {
        return;
    }
    pair.from = real_ram_new(1, false, MS_UFFD_MODE_WP);
    pair.to = real_ram_new(1, false, MS_UFFD_MODE_MISSING);
    real_ram_fill(pair.from, 0, 8, 1);
    real_page(pair.from, 3)[5] = 99;
    g_assert_cmpint(ms_uffd_read(&pair.to->uffd, &fault, 1), ==, 0);
    thread = g_thread_new("toucher", toucher, pair.to);
    while (n == 0) {
        struct pollfd pfd = { .fd = pair.to->uffd.fd, .events = POLLIN };

        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        ms_sys_real()->poll(ms_sys_real(), &pfd, 1, 1000);
        n = ms_uffd_read(&pair.to->uffd, &fault, 1);
    }
    g_assert_cmpint(n, ==, 1);
    g_assert_cmphex(fault.address, ==,
                    (uintptr_t)real_page(pair.to, 3) + 5);
    g_assert_false(fault.write || fault.protected_page);
    g_assert_cmpuint(fault.thread_id, !=, 0);
    g_assert_cmpuint(pair_move(&pair, 8).moved_pages, ==, 8);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 99);
    pair_free(&pair);
}

static void test_probe_agrees_with_what_works_here(void)
{
    MemSchedKernel kernel = { 0 };
    MemSchedMessage message = { "" };
    int features = ms_uffd_features(ms_sys_real());
    int rc = memsched_probe(&kernel, &message);

    if (features < 0) {
        g_assert_cmpint(rc, <, 0);
        g_assert_cmpstr(message.text, !=, "");
        return;
    }
    g_assert_cmpint(rc, ==, 0);
    g_assert_true(kernel.full_userfaultfd);
    g_assert_cmpint(kernel.move, ==, !!(features & MS_UFFD_MOVE));
    g_assert_cmpint(kernel.poison, ==, !!(features & MS_UFFD_POISON));
    g_assert_cmpstr(kernel.release, !=, "");
    g_test_message("Linux %s: huge pages %d, page map scan %d; %s",
                   kernel.release, kernel.huge_pages, kernel.pagemap_scan,
                   kernel.warning);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*func)(void);
    } tests[] = {
        { "small-pages-keep-frame-and-content",
          test_small_pages_keep_frame_and_content },
        { "huge-page-keeps-frame-and-stays-huge",
          test_huge_page_keeps_frame_and_stays_huge },
        { "hole-first-is-noent", test_hole_first_is_noent },
        { "hole-inside-is-named-after-the-short-run",
          test_hole_inside_is_named_after_the_short_run },
        { "populated-destination-is-exists",
          test_populated_destination_is_exists },
        { "poison-is-fault-at-source-exists-at-destination",
          test_poison_is_fault_at_source_exists_at_destination },
        { "page-shared-by-fork-is-busy-until-written",
          test_page_shared_by_fork_is_busy_until_written },
        { "dontfork-page-is-never-busy-by-fork",
          test_dontfork_page_is_never_busy_by_fork },
        { "pinned-page-is-busy-and-loses-nothing",
          test_pinned_page_is_busy_and_loses_nothing },
        { "huge-page-with-one-pin-is-busy-as-a-whole",
          test_huge_page_with_one_pin_is_busy_as_a_whole },
        { "vmspliced-page-moves-without-busy",
          test_vmspliced_page_moves_without_busy },
        { "unregistered-destination-is-inval",
          test_unregistered_destination_is_inval },
        { "run-across-the-end-of-a-vma-is-inval",
          test_run_across_the_end_of_a_vma_is_inval },
        { "memory-locked-on-one-side-is-inval",
          test_memory_locked_on_one_side_is_inval },
        { "second-descriptor-on-a-range-is-ebusy",
          test_second_descriptor_on_a_range_is_ebusy },
        { "holes-without-a-descriptor-become-zero-pages",
          test_holes_without_a_descriptor_become_zero_pages },
        { "zero-page-counts-as-a-page-moved",
          test_zero_page_counts_as_a_page_moved },
        { "copy-fills-holes-and-stops-at-pages",
          test_copy_fills_holes_and_stops_at_pages },
        { "discard-of-a-frame-frees-its-page-table",
          test_discard_of_a_frame_frees_its_page_table },
        { "split-takes-frames-of-zero-pages-and-touch-returns-them",
          test_split_takes_frames_of_zero_pages_and_touch_returns_them },
        { "fault-is-reported-and-ends-with-a-move",
          test_fault_is_reported_and_ends_with_a_move },
        { "probe-agrees-with-what-works-here",
          test_probe_agrees_with_what_works_here },
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/uffd-real/", tests[i].name,
                                            NULL);

        g_test_add_func(path, tests[i].func);
    }
    return g_test_run();
}
