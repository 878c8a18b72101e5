/*
 * The way of a page through the whole library, on the real kernel: fault,
 * inflate, capture, pool, deflate, fault of another guest; and what happens on
 * the way when a page may not be taken.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "capture.h"
#include "client.h"
#include "guest.h"

#define MIB (UINT64_C(1) << 20)
#define FRAMES(n) ((uint64_t)(n) * MEMSCHED_FRAME_SIZE)

static void test_touch_is_served_with_a_huge_page(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedClientInfo info;

    guest_fill(a, 0, 512, 1);
    guest_assert(a, 0, 512, 1);
    guest_query(a, &info);
    g_assert_cmpuint(info.allocated_bytes, ==, FRAMES(1));
    g_assert_cmpuint(info.huge_bytes, ==, FRAMES(1));
    g_assert_cmpuint(info.faults, ==, 1);
    guest_free(a);
    guest_stop(ms);
}

static uint64_t pfn_of(MemSched *ms, const char *id, uint64_t page)
{
    MemSchedTranslation t;

    g_assert_cmpint(memsched_translate(ms, id, page << MEMSCHED_PAGE_SHIFT,
                                       &t, NULL), ==, 0);
    g_assert_cmpint(t.state, ==, MEMSCHED_PAGE_RESIDENT);
    return t.has_pfn ? t.pfn : 0;
}

/* Pages that the kernel has moved to other frames by itself, machine-wide. */
static uint64_t kernel_migrations(void)
{
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents("/proc/vmstat", &text, NULL, NULL));
    line = strstr(text, "\npgmigrate_success ");
    return line ? g_ascii_strtoull(strchr(line, ' '), NULL, 10) : 0;
}

/*
 * All of the pool is with guest a.  Two of three frames that it gives refill
 * its give-allowance, the third one is free: whatever b gets then was a's.
 * True: b's page has a's frame, or PFNs are hidden.
 */
static bool inflate_at_once(void)
{
    MemSched *ms = guest_start(FRAMES(8));
    Guest *a = guest_new(ms, "a", FRAMES(8), FRAMES(8));
    MemSchedClientChange no_min = { .has_min = true };
    g_autofree uint64_t *pfns = g_new(uint64_t, 3 * 512);
    MemSchedTranslation gone;
    MemSchedOpResult result;
    uint64_t pfn;
    bool found = false;
    Guest *b;

    guest_fill(a, 0, 8 * 512, 7);
    g_assert_cmpint(memsched_client_set(ms, "a", &no_min, NULL), ==, 0);
    b = guest_new(ms, "b", FRAMES(8), 0);
    guest_check(ms);
    for (unsigned i = 0; i < 3 * 512; i++) {
        pfns[i] = pfn_of(ms, "a", 2 * 512 + i);
    }
    result = guest_inflate(a, 2 * 512, 3 * 512, false);
    g_assert_cmpuint(result.captured_pages, ==, 3 * 512);
    guest_check(ms);
    memsched_translate(ms, "a", 2 * MEMSCHED_FRAME_SIZE, &gone, NULL);
    g_assert_cmpint(gone.state, ==, MEMSCHED_PAGE_BALLOONED);
    g_assert_false(gone.has_pfn);

    guest_assert_zero(b, 0, 1);
    guest_fill(b, 0, 512, 9);
    guest_assert(b, 0, 512, 9);
    guest_assert(a, 0, 2 * 512, 7);
    guest_assert(a, 5 * 512, 3 * 512, 7);
    guest_check(ms);
    pfn = pfn_of(ms, "b", 0);
    for (unsigned i = 0; i < 3 * 512; i++) {
        found |= pfns[i] == pfn;
    }
    if (pfn == 0) {
        g_test_message("PFNs are hidden here: not compared");
    }
    guest_check(ms);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
    return found || pfn == 0;
}

/* Unless the kernel, which compacts memory, has put it elsewhere meanwhile. */
static void test_inflate_at_once_moves_a_frame_to_another_guest(void)
{
    uint64_t before = kernel_migrations();

    while (!inflate_at_once()) {
        uint64_t now = kernel_migrations();

        g_assert_cmpuint(now, >, before);
        before = now;
    }
}

static void test_inflate_later_collects_a_frame_over_requests(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedClientInfo info;
    MemSchedOpResult result;

    guest_fill(a, 0, 512, 1);
    result = guest_inflate(a, 0, 256, true);
    g_assert_cmpuint(result.given_pages, ==, 256);
    g_assert_cmpuint(result.captured_pages, ==, 0);
    guest_check(ms);
    guest_query(a, &info);
    g_assert_cmpuint(info.given_bytes, ==, 256 * MEMSCHED_PAGE_SIZE);
    result = guest_inflate(a, 256, 256, true);
    g_assert_cmpuint(result.given_pages, ==, 256);
    guest_wait_ballooned(a, 512);
    guest_query(a, &info);
    g_assert_cmpuint(info.allocated_bytes, ==, 0);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_deflate_of_given_pages_keeps_their_content(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);

    guest_fill(a, 0, 512, 1);
    guest_inflate(a, 0, 511, true);
    guest_deflate(a, 0, 511);
    guest_assert(a, 0, 512, 1);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_deflate_populates_zeros_without_a_fault(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedOpResult result;
    MemSchedClientInfo info;
    uint64_t faults;

    /* Its 2 ms may be over at once on a busy host: until they are not. */
    for (int tries = 0; ; tries++) {
        g_assert_cmpint(tries, <, 200);
        guest_fill(a, 0, 512, 1);
        guest_inflate(a, 0, 512, false);
        guest_query(a, &info);
        faults = info.faults;
        result = guest_deflate(a, 0, 512);
        if (result.populated_pages == 512) {
            break;
        }
        g_assert_cmpuint(result.populated_pages, ==, 0);
    }
    guest_assert_zero(a, 0, 512);
    guest_query(a, &info);
    g_assert_cmpuint(info.faults, ==, faults);
    g_assert_cmpuint(info.huge_bytes, ==, FRAMES(1));
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_touch_of_a_ballooned_page_gives_that_page_only(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedClientInfo info;

    guest_fill(a, 0, 512, 1);
    guest_inflate(a, 0, 512, false);
    guest_assert_zero(a, 77, 1);
    guest_query(a, &info);
    g_assert_cmpuint(info.allocated_bytes, ==, MEMSCHED_PAGE_SIZE);
    g_assert_cmpuint(info.ballooned_kernel_bytes, ==,
                     511 * MEMSCHED_PAGE_SIZE);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_report_captures_and_the_guest_may_touch_again(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedOpResult result;
    MemSchedClientInfo info;

    guest_fill(a, 0, 1024, 1);
    result = guest_report(a, 512, 512);
    g_assert_cmpuint(result.captured_pages, ==, 512);
    /* a part of a huge page is not worth its split */
    result = guest_report(a, 0, 100);
    g_assert_cmpuint(result.captured_pages, ==, 0);
    g_assert_cmpuint(result.busy_pages, ==, 100);
    guest_assert(a, 0, 512, 1);
    guest_assert_zero(a, 512, 512);
    guest_query(a, &info);
    g_assert_cmpuint(info.huge_bytes, ==, FRAMES(2));
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_inflate_under_a_fence_puts_the_pages_back(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedOpResult result;
    MemSchedClientInfo info;

    guest_fill(a, 0, 1024, 5);
    memsched_dma_begin(a->ram + 4096, 512);
    result = guest_inflate(a, 0, 1024, false);
    g_assert_cmpuint(result.captured_pages, ==, 512);
    g_assert_cmpuint(result.busy_pages, ==, 512);
    guest_assert(a, 0, 512, 5);
    guest_query(a, &info);
    g_assert_cmpuint(info.huge_bytes, ==, FRAMES(1));
    guest_check(ms);
    memsched_dma_end(a->ram + 4096, 512);
    result = guest_inflate(a, 0, 512, false);
    g_assert_cmpuint(result.captured_pages, ==, 512);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_inflate_while_inhibited_takes_nothing(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedGpaRange range = { 0, FRAMES(1) };
    MemSchedOpResult result;

    guest_fill(a, 0, 512, 5);
    memsched_client_inhibit(a->client, true);
    g_assert_cmpint(memsched_inflate(a->client, &range, 1, false, &result),
                    ==, -EBUSY);
    memsched_client_inhibit(a->client, false);
    guest_assert(a, 0, 512, 5);
    guest_inflate(a, 0, 512, false);
    guest_assert_zero(a, 0, 1);
    guest_free(a);
    guest_stop(ms);
}

/* As during a migration that then fails: the driver tells only once. */
static void test_pages_given_while_inhibited_are_captured_later(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedClientInfo info;

    guest_fill(a, 0, 1536, 5);
    memsched_client_inhibit(a->client, true);
    guest_inflate(a, 0, 1024, true);
    guest_deflate(a, 512, 512);
    guest_query(a, &info);
    g_assert_cmpuint(info.given_bytes, ==, FRAMES(1));
    g_assert_cmpuint(info.ballooned_kernel_bytes, ==, 0);
    guest_assert(a, 0, 1536, 5);
    memsched_client_inhibit(a->client, false);
    guest_wait_ballooned(a, 512);
    guest_assert(a, 512, 1024, 5);
    guest_assert_zero(a, 0, 512);
    guest_free(a);
    guest_stop(ms);
}

static void test_reset_gives_back_content_or_holes(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedClientInfo info;

    guest_fill(a, 0, 1024, 3);
    guest_inflate(a, 0, 512, false);
    guest_inflate(a, 512, 100, true);
    memsched_reset(a->client, MEMSCHED_RESET_DEVICE);
    guest_query(a, &info);
    g_assert_cmpuint(info.given_bytes, ==, 0);
    g_assert_cmpuint(info.ballooned_kernel_bytes, ==, 0);
    guest_assert(a, 512, 512, 3);
    guest_assert_zero(a, 0, 512);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_memory_that_was_touched_before_is_refused(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(1), 0);
    MemSchedRegionOptions options = {
        .length_bytes = FRAMES(1), .anonymous_private = true,
    };
    MemSchedRegion *region;
    MemSchedMessage message;

    options.host = mmap(NULL, FRAMES(1), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* volatile: made for its fault. */
    *(volatile char *)options.host = 1;
    g_assert_cmpint(memsched_region_new(a->client, &options, &region,
                                        &message), ==, -EINVAL);
    munmap(options.host, FRAMES(1));
    options.host = a->ram;
    g_assert_cmpint(memsched_region_new(a->client, &options, &region,
                                        &message), ==, -EEXIST);
    guest_free(a);
    guest_stop(ms);
}

static void test_region_without_alignment_works(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new_at(ms, "a", FRAMES(3) - 5 * 4096, 0, 3 * 4096);
    MemSchedOpResult result;

    guest_fill(a, 0, 3 * 512 - 5, 11);
    guest_assert(a, 0, 3 * 512 - 5, 11);
    guest_check(ms);
    result = guest_inflate(a, 0, 3 * 512 - 5, false);
    g_assert_cmpuint(result.captured_pages, ==, 3 * 512 - 5);
    guest_check(ms);
    guest_assert_zero(a, 0, 3 * 512 - 5);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_shared_memory_is_served_by_copy_and_discard(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new_shared(ms, "a", FRAMES(4), 0);
    MemSchedOpResult result;
    MemSchedInfo info;

    if (a == NULL) {
        g_test_skip("this kernel does not report faults of shared memory");
        guest_stop(ms);
        return;
    }
    guest_fill(a, 0, 600, 11);
    guest_assert(a, 0, 600, 11);
    guest_check(ms);
    result = guest_inflate(a, 0, 300, false);
    g_assert_cmpuint(result.captured_pages, ==, 300);
    guest_check(ms);
    guest_assert_zero(a, 0, 300);
    guest_assert(a, 300, 300, 11);
    memsched_query(ms, &info);
    g_assert_cmpuint(info.copied_pages, >=, 900);
    g_assert_cmpuint(info.discarded_pages, ==, 300);
    g_assert_cmpuint(info.moved_pages, ==, 0);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

static void test_urged_part_of_a_huge_page_leaves_and_the_rest_stays(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(8), 0);
    MemSchedClientInfo info;
    MemSchedInfo all;

    guest_fill(a, 0, 512, 1);
    /* zeros too: a split would let the kernel take their frames away */
    memset(a->ram + 400 * 4096, 0, 50 * 4096);
    guest_inflate(a, 0, 300, true);
    guest_query(a, &info);
    g_assert_cmpuint(info.given_bytes, ==, 300 * MEMSCHED_PAGE_SIZE);
    ms_capture_urge(a->client, 300);
    guest_wait_ballooned(a, 300);
    guest_assert(a, 300, 100, 1);
    guest_assert_zero(a, 400, 50);
    guest_assert(a, 450, 62, 1);
    guest_query(a, &info);
    g_assert_cmpuint(info.allocated_bytes, ==, 212 * MEMSCHED_PAGE_SIZE);
    g_assert_cmpuint(info.huge_bytes, ==, 0);
    memsched_query(ms, &all);
    g_assert_cmpuint(all.split_frames, ==, 0);
    g_assert_cmpuint(all.copied_pages, ==, 212);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

/* Takes everything that is not promised: the pool has nothing for others. */
static Guest *hog_new(MemSched *ms)
{
    Guest *hog = guest_new(ms, "hog", FRAMES(16), 0);
    MemSchedInfo info;
    uint64_t slack;

    memsched_query(ms, &info);
    slack = info.free_clean_bytes + info.free_dirty_bytes -
            info.reserved_bytes - info.claimed_bytes;
    guest_fill(hog, 0, slack / 4096, 2);
    guest_check(ms);
    memsched_query(ms, &info);
    g_assert_cmpuint(info.free_clean_bytes + info.free_dirty_bytes, ==,
                     info.reserved_bytes + info.claimed_bytes);
    return hog;
}

static void test_deflate_without_memory_leaves_holes_and_returns(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);
    MemSchedOpResult result;
    MemSchedClientInfo info;
    Guest *hog;

    guest_fill(a, 0, 2048, 1);
    guest_inflate(a, 0, 2048, false);
    hog = hog_new(ms);
    result = guest_deflate(a, 0, 2048);
    g_assert_cmpuint(result.populated_pages, ==, 0);
    guest_query(a, &info);
    g_assert_cmpuint(info.ballooned_kernel_bytes, ==, 0);
    /* a page that the hog gives comes by touch */
    guest_inflate(hog, 0, 1536, false);
    guest_assert_zero(a, 0, 1);
    guest_check(ms);
    guest_free(hog);
    guest_free(a);
    guest_stop(ms);
}

/*
 * A guest's OOM path waits for each answer, holding its locks.  The budget is
 * 2 ms; this machine may be busy, so the median counts.
 */
static void test_deflates_from_an_empty_pool_are_answered_in_time(void)
{
    enum { ROUNDS = 8, REQUESTS = 8 };
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", REQUESTS * MIB, 0);
    unsigned in_time = 0;
    Guest *hog;

    guest_fill(a, 0, REQUESTS * 256, 1);
    guest_inflate(a, 0, REQUESTS * 256, false);
    hog = hog_new(ms);
    for (unsigned i = 0; i < ROUNDS * REQUESTS; i++) {
        gint64 start = g_get_monotonic_time();
        MemSchedOpResult result = guest_deflate(a, i % REQUESTS * 256, 256);

        in_time += g_get_monotonic_time() - start <= 2000;
        g_assert_cmpuint(result.populated_pages + result.noop_pages, ==, 0);
        guest_inflate(a, i % REQUESTS * 256, 256, false);
    }
    g_test_message("%u of %u within 2 ms", in_time, ROUNDS * REQUESTS);
    g_assert_cmpuint(in_time, >, ROUNDS * REQUESTS / 2);
    guest_check(ms);
    guest_free(hog);
    guest_free(a);
    guest_stop(ms);
}

/*
 * This thread is no vCPU's: with nothing free it still gets the 4 MiB that a
 * guest needs to process its own inflate requests.
 */
static void test_device_thread_uses_the_give_allowance(void)
{
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);
    Guest *hog = hog_new(ms);
    MemSchedInfo before, after;

    memsched_query(ms, &before);
    g_assert_cmpuint(before.reserved_bytes, ==, 8 * MIB);
    guest_fill(a, 0, 100, 1);
    guest_check(ms);
    memsched_query(ms, &after);
    g_assert_cmpuint(after.reserved_bytes, ==,
                     before.reserved_bytes - 100 * 4096);
    /* captures fill it up again */
    guest_inflate(a, 0, 100, false);
    memsched_query(ms, &after);
    g_assert_cmpuint(after.reserved_bytes, ==, before.reserved_bytes);
    guest_check(ms);
    guest_free(hog);
    guest_free(a);
    guest_stop(ms);
}

static void test_refused_admission_says_why_and_changes_nothing(void)
{
    MemSched *ms = guest_start(32 * MIB);
    MemSchedClientOptions options = { .id = "big", .min_bytes = 33 * MIB };
    MemSchedClientChange change = { .has_min = true, .min_bytes = 40 * MIB };
    MemSchedMessage message = { "" };
    MemSchedClient *client = NULL;
    Guest *a;

    g_assert_cmpint(memsched_client_new(ms, &options, &client, &message), ==,
                    -ENOSPC);
    g_assert_nonnull(strstr(message.text, "33 MiB"));
    g_assert_null(client);
    a = guest_new(ms, "a", FRAMES(4), 0);
    options = (MemSchedClientOptions) { .id = "a" };
    g_assert_cmpint(memsched_client_new(ms, &options, &client, &message), ==,
                    -EEXIST);
    options = (MemSchedClientOptions) { .id = "x", .min_bytes = 2 * MIB,
                                        .max_bytes = MIB };
    g_assert_cmpint(memsched_client_new(ms, &options, &client, &message), ==,
                    -EINVAL);
    options = (MemSchedClientOptions) { .id = "" };
    g_assert_cmpint(memsched_client_new(ms, &options, &client, &message), ==,
                    -EINVAL);
    g_assert_cmpint(memsched_client_set(ms, "a", &change, &message), ==,
                    -ENOSPC);
    g_assert_cmpint(memsched_client_set(ms, "none", &change, &message), ==,
                    -ENOENT);
    g_assert_cmpint(memsched_stop(ms), ==, -EBUSY);
    guest_check(ms);
    guest_free(a);
    guest_stop(ms);
}

/* Ranges as a hostile guest makes them up: nothing but counts may change. */
static void test_hostile_ranges_leave_the_books_right(void)
{
    guint32 seed = (guint32)g_test_rand_int();
    GRand *rand = g_rand_new_with_seed(seed);
    MemSched *ms = guest_start(32 * MIB);
    Guest *a = guest_new(ms, "a", FRAMES(4), 0);

    g_test_message("seed %u", seed);
    for (int round = 0; round < 300; round++) {
        MemSchedGpaRange ranges[300];
        unsigned count = g_rand_int_range(rand, 0, G_N_ELEMENTS(ranges));
        MemSchedOpResult result;
        int ret;

        for (unsigned i = 0; i < count; i++) {
            uint64_t gpa = g_rand_int_range(rand, 0, (gint32)FRAMES(5));
            uint64_t length = g_rand_int_range(rand, 0, 100000);

            switch (g_rand_int_range(rand, 0, 8)) {
            case 0:
                gpa = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
                break;
            case 1:
                length = UINT64_MAX - g_rand_int_range(rand, 0, 10000);
                break;
            case 2:
                gpa = UINT64_MAX - g_rand_int_range(rand, 0, 10000);
                break;
            default:
                gpa &= ~UINT64_C(4095);
            }
            ranges[i] = (MemSchedGpaRange) { gpa, length };
        }
        guest_fill(a, g_rand_int_range(rand, 0, 2000), 48, 3);
        switch (round % 4) {
        case 0:
            ret = memsched_inflate(a->client, ranges, count, false, &result);
            break;
        case 1:
            ret = memsched_inflate(a->client, ranges, count, true, &result);
            break;
        case 2:
            ret = memsched_report(a->client, ranges, count, UINT64_MAX,
                                  &result);
            break;
        default:
            ret = memsched_deflate(a->client, ranges, count, &result);
        }
        g_assert_cmpint(ret, ==, 0);
        guest_check(ms);
    }
    guest_free(a);
    guest_stop(ms);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    g_test_add_func("/core/touch", test_touch_is_served_with_a_huge_page);
    g_test_add_func("/core/inflate/now",
                    test_inflate_at_once_moves_a_frame_to_another_guest);
    g_test_add_func("/core/inflate/later",
                    test_inflate_later_collects_a_frame_over_requests);
    g_test_add_func("/core/deflate/given",
                    test_deflate_of_given_pages_keeps_their_content);
    g_test_add_func("/core/deflate/populates",
                    test_deflate_populates_zeros_without_a_fault);
    g_test_add_func("/core/touch-ballooned",
                    test_touch_of_a_ballooned_page_gives_that_page_only);
    g_test_add_func("/core/report",
                    test_report_captures_and_the_guest_may_touch_again);
    g_test_add_func("/core/fence",
                    test_inflate_under_a_fence_puts_the_pages_back);
    g_test_add_func("/core/inhibit",
                    test_inflate_while_inhibited_takes_nothing);
    g_test_add_func("/core/pages-given-while-inhibited-are-captured-later",
                    test_pages_given_while_inhibited_are_captured_later);
    g_test_add_func("/core/reset", test_reset_gives_back_content_or_holes);
    g_test_add_func("/core/touched-before",
                    test_memory_that_was_touched_before_is_refused);
    g_test_add_func("/core/unaligned", test_region_without_alignment_works);
    g_test_add_func("/core/urge",
                    test_urged_part_of_a_huge_page_leaves_and_the_rest_stays);
    g_test_add_func("/core/deflate/nothing",
                    test_deflate_without_memory_leaves_holes_and_returns);
    g_test_add_func("/core/deflate/in-time",
                    test_deflates_from_an_empty_pool_are_answered_in_time);
    g_test_add_func("/core/allowance",
                    test_device_thread_uses_the_give_allowance);
    g_test_add_func("/core/refused",
                    test_refused_admission_says_why_and_changes_nothing);
    g_test_add_func("/core/hostile",
                    test_hostile_ranges_leave_the_books_right);
    g_test_add_func("/core/shared",
                    test_shared_memory_is_served_by_copy_and_discard);
    return g_test_run();
}
