/*
 * Pages that are read again from a disk, on the real kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk-guest.h"
#include "errors.h"
#include "instance.h"
#include "protect-int.h"

#define MIB     (UINT64_C(1) << 20)
#define FRAMES  4u
#define PAGES   (FRAMES * 512u)
#define POOL    (64 * MIB)
#define SEED    7u
#define PAGE    ((size_t)MEMSCHED_PAGE_SIZE)
#define WAIT_US (20 * G_USEC_PER_SEC)

static void protect(Guest *guest, MemSchedScheme scheme, bool disk)
{
    MemSchedProtection protection = {
        .scheme = scheme, .group_size = 4, .cool_ms = 1,
        .rate_bytes_per_s = UINT64_C(1) << 40, .disk = disk,
    };
    MemSchedMessage message = { "" };

    if (memsched_protect(guest->ms, guest->id, &protection, &message) < 0) {
        g_error("memsched_protect: %s", message.text);
    }
}

static Guest *new_guest(MemSched *ms, const char *id, bool huge)
{
    Guest *guest = guest_new(ms, id, FRAMES * 2 * MIB, 0);

    if (!huge) {
        guest_no_huge(guest);
    }
    guest_fill(guest, 0, PAGES, SEED);
    return guest;
}

static char *at(Guest *guest, uint64_t page)
{
    return guest->ram + page * PAGE;
}

/* A touch, to whatever end. */
static char touch(Guest *guest, uint64_t page)
{
    /* volatile: made for its fault. */
    return *(volatile char *)at(guest, page);
}

static void wait_for(_Atomic unsigned *counter, unsigned value)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while (*counter < value) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(100);
    }
}

static void end(MemSched *ms, Guest *guest, Disk *disk)
{
    errors_check(guest);
    disk_free(disk, false);
    guest_free(guest);
    guest_stop(ms);
}

/* ---- what was read is read again ---- */

static void test_page_is_read_again(gconstpointer huge)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", huge != NULL);
    Disk *disk = disk_new(guest, 1024);
    unsigned fixed = errors_fixed;
    MemSchedProtectionInfo info;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    /* At an offset that is no multiple of 4 KiB. */
    g_assert_cmpuint(disk_fill(guest, disk, 0, 700, 512), ==, 700);
    disk_wait(guest, 700);
    errors_check(guest);

    for (unsigned page = 0; page < 700; page += 99) {
        errors_inject(guest, page);
        g_assert_true(disk_is_page(guest, disk, page, 512 + page * PAGE));
    }
    g_assert_cmpuint(errors_fixed, ==, fixed + 8);
    /* And again: the page has kept its place. */
    errors_break(guest, 99);
    g_assert_true(disk_is_page(guest, disk, 99, 512 + 99 * PAGE));
    info = errors_query(guest);
    g_assert_cmpuint(info.disk_recovered_pages, ==, 9);
    g_assert_cmpuint(info.recovered_pages, ==, 9);
    g_assert_cmpuint(info.disk_bytes, ==, 700 * PAGE);
    g_assert_cmpuint(info.parity_bytes, ==, 0);
    g_assert_cmpuint(info.lost_pages, ==, 0);
    end(ms, guest, disk);
}

static void test_end_of_a_disk_reads_as_zeros(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 8);
    char expected[MEMSCHED_PAGE_SIZE];
    uint64_t stamp;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk->bytes = 7 * PAGE + 512;
    memcpy(expected, disk->data + 7 * PAGE, PAGE);
    memset(expected + 512, 0, PAGE - 512);
    stamp = memsched_disk_stamp(disk->disk);
    memcpy(at(guest, 3), expected, PAGE);
    memsched_disk_filled(disk->disk, stamp, 7 * PAGE, at(guest, 3), PAGE);
    disk_wait(guest, 1);
    errors_inject(guest, 3);
    g_assert_cmpint(memcmp(at(guest, 3), expected, PAGE), ==, 0);
    end(ms, guest, disk);
}

static void test_system_call_says_efault(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", true);
    Disk *disk = disk_new(guest, 512);
    int fd = open("/dev/null", O_WRONLY), pipes[2];

    g_assert_cmpint(pipe(pipes), ==, 0);
    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 512, 512, 0);
    disk_wait(guest, 512);
    errors_inject(guest, 600);
    g_assert_cmpint(write(pipes[1], at(guest, 600), PAGE), ==, -1);
    g_assert_cmpint(errno, ==, EFAULT);
    g_assert_cmpint(memsched_repair_range(at(guest, 599), 3 * PAGE), ==, 1);
    g_assert_cmpint(write(pipes[1], at(guest, 600), PAGE), ==, PAGE);
    g_assert_true(disk_is_page(guest, disk, 600, 88 * PAGE));
    close(fd);
    close(pipes[0]);
    close(pipes[1]);
    end(ms, guest, disk);
}

/* ---- what is forgotten ---- */

static void test_write_to_the_page_forgets(gconstpointer huge)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", huge != NULL);
    Disk *disk = disk_new(guest, 512);
    MemSchedProtectionInfo info;
    unsigned lost = errors_lost;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 0, 512, 0);
    disk_wait(guest, 512);
    at(guest, 5)[77] ^= 1;
    info = errors_query(guest);
    g_assert_cmpuint(info.disk_left_by_write_pages, ==, 1);
    /* Others of its huge page come back by themselves. */
    disk_wait(guest, 511);
    errors_inject(guest, 6);
    g_assert_true(disk_is_page(guest, disk, 6, 6 * PAGE));
    errors_inject(guest, 5);
    g_assert_cmpint(touch(guest, 5), ==, 0);
    g_assert_true(guest_page_is_zero(guest, 5));
    g_assert_cmpuint(errors_lost, ==, lost + 1);
    end(ms, guest, disk);
}

/* Before the page is protected nobody sees the write, but the checksum does. */
static void test_write_before_protection_is_found(gconstpointer huge)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", huge != NULL);
    Disk *disk = disk_new(guest, 512);

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    memsched_dma_begin(at(guest, 0), 512 * PAGE);
    disk_fill(guest, disk, 0, 512, 0);
    at(guest, 9)[1] ^= 1;
    memsched_dma_end(at(guest, 0), 512 * PAGE);
    disk_wait(guest, 511);
    g_assert_cmpuint(errors_query(guest).disk_changed_pages, ==, 1);
    end(ms, guest, disk);
}

static void test_write_to_the_disk_forgets(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 512), *other = disk_new(guest, 512);
    MemSchedProtectionInfo info;
    unsigned lost = errors_lost;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 0, 256, 0);
    disk_fill(guest, other, 512, 256, 0);
    disk_wait(guest, 512);
    memsched_disk_changed(disk->disk, 10 * PAGE + 512, 512);
    disk_wait(guest, 511);
    memsched_disk_changed(disk->disk, 100 * PAGE, 10 * PAGE);
    disk_wait(guest, 501);
    info = errors_query(guest);
    g_assert_cmpuint(info.disk_left_by_disk_pages, ==, 11);
    errors_inject(guest, 10);
    g_assert_cmpint(touch(guest, 10), ==, 0);
    g_assert_cmpuint(errors_lost, ==, lost + 1);

    /* All of it: discarded, or the medium goes. */
    memsched_disk_changed(disk->disk, 0, UINT64_MAX);
    disk_wait(guest, 256);
    disk_free(other, false);
    disk_wait(guest, 0);
    end(ms, guest, disk);
}

/* Both are under way: what was read may be the old content. */
static void test_write_beside_a_read_is_not_noted(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 512);
    uint64_t stamp;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    stamp = memsched_disk_stamp(disk->disk);
    memsched_disk_changed(disk->disk, 3 * PAGE, 512);
    g_assert_cmpuint(memsched_disk_filled(disk->disk, stamp, 0, at(guest, 0),
                                          8 * PAGE), ==, 0);
    g_assert_cmpuint(memsched_disk_filled(disk->disk, stamp, 8 * PAGE,
                                          at(guest, 8), 8 * PAGE), ==, 8);
    for (unsigned i = 0; i < 100; i++) {
        memsched_disk_changed(disk->disk, 400 * PAGE, 512);
    }
    /* More changes than are remembered. */
    g_assert_cmpuint(memsched_disk_filled(disk->disk, stamp, 16 * PAGE,
                                          at(guest, 16), 8 * PAGE), ==, 0);
    g_assert_cmpuint(memsched_disk_filled(disk->disk,
                                          memsched_disk_stamp(disk->disk),
                                          24 * PAGE, at(guest, 24) + 512,
                                          8 * PAGE), ==, 7);
    disk_wait(guest, 8 + 7);
    end(ms, guest, disk);
}

static void test_captured_and_discarded_pages_are_forgotten(
    gconstpointer huge)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", huge != NULL);
    Disk *disk = disk_new(guest, 2048);

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    memsched_client_run(guest->client, true);
    disk_fill(guest, disk, 0, 1024, 0);
    disk_wait(guest, 1024);
    guest_inflate(guest, 0, 512, true);
    guest_wait_ballooned(guest, 512);
    disk_wait(guest, 512);
    guest_assert_zero(guest, 0, 512);
    errors_check(guest);
    /* Behind our back. */
    madvise(at(guest, 512), 2 * MIB, MADV_DONTNEED);
    guest_assert_zero(guest, 512, 512);
    disk_wait(guest, 0);
    end(ms, guest, disk);
}

static void test_fenced_page_is_not_protected(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 512);
    MemSchedProtectionInfo info;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    memsched_dma_begin(at(guest, 3), PAGE);
    disk_fill(guest, disk, 0, 512, 0);
    disk_fill(guest, disk, 512, 512, 0);
    do {
        info = errors_query(guest);
    } while (info.disk_bytes < 512 * PAGE);
    /* The frame beside has joined after it had been looked at, too. */
    g_assert_cmpuint(info.disk_unsure_bytes, ==, 512 * PAGE);
    memsched_dma_end(at(guest, 3), PAGE);
    disk_wait(guest, 1024);
    end(ms, guest, disk);
}

/* ---- what is read again is another ---- */

static void test_other_content_is_never_given(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 512);
    unsigned lost = errors_lost;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 0, 512, 0);
    disk_wait(guest, 512);
    /* Somebody else has written to the image. */
    disk->data[5 * PAGE + 9] ^= 1;
    errors_inject(guest, 5);
    g_assert_true(guest_page_is_zero(guest, 5));
    g_assert_cmpuint(errors_lost, ==, lost + 1);
    /* It cannot be read. */
    disk->fails = true;
    errors_inject(guest, 6);
    g_assert_true(guest_page_is_zero(guest, 6));
    disk->fails = false;
    g_assert_cmpuint(errors_lost, ==, lost + 2);
    g_assert_cmpuint(errors_query(guest).disk_failed_pages, ==, 2);
    g_assert_cmpuint(errors_query(guest).lost_pages, ==, 2);
    end(ms, guest, disk);
}

/* ---- a slow disk ---- */

static void *toucher(void *opaque)
{
    /* volatile: made for its fault. */
    return GINT_TO_POINTER(*(volatile char *)opaque);
}

static void test_slow_disk_holds_up_nobody_else(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *one = new_guest(ms, "one", false);
    Guest *two = new_guest(ms, "two", false);
    Disk *slow = disk_new(one, 512), *fast = disk_new(two, 512);
    unsigned fixed = errors_fixed;
    GThread *thread[4];

    protect(one, MEMSCHED_SCHEME_NONE, true);
    protect(two, MEMSCHED_SCHEME_NONE, true);
    disk_fill(one, slow, 0, 512, 0);
    disk_fill(two, fast, 0, 512, 0);
    disk_wait(one, 512);
    disk_wait(two, 512);

    slow->held = true;
    errors_inject(one, 7);
    errors_inject(one, 8);
    for (unsigned i = 0; i < 4; i++) {
        thread[i] = g_thread_new("toucher", toucher, at(one, 7 + i / 3));
    }
    wait_for(&slow->asked, 2);
    for (unsigned i = 0; i < 50; i++) {
        errors_inject(two, i);
        g_assert_true(disk_is_page(two, fast, i, i * PAGE));
    }
    g_assert_cmpuint(slow->answered, ==, 0);
    slow->held = false;
    for (unsigned i = 0; i < 4; i++) {
        char read = GPOINTER_TO_INT(g_thread_join(thread[i]));

        g_assert_cmpint(read, ==, slow->data[(7 + i / 3) * PAGE]);
    }
    /* Three threads on one page: one read. */
    g_assert_cmpuint(slow->asked, ==, 2);
    g_assert_cmpuint(errors_fixed, >=, fixed + 52);
    disk_free(fast, false);
    guest_free(two);
    end(ms, one, slow);
}

static void test_guest_that_ends_waits_for_no_disk(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 512);
    unsigned lost = errors_lost;
    GThread *thread;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 0, 512, 0);
    disk_wait(guest, 512);
    disk->held = true;
    errors_inject(guest, 7);
    thread = g_thread_new("toucher", toucher, at(guest, 7));
    wait_for(&disk->asked, 1);
    memsched_client_ending(guest->client);
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(thread)), ==, 0);
    g_assert_cmpuint(errors_lost, ==, lost + 1);
    /* An answer that comes late changes nothing. */
    disk->held = false;
    wait_for(&disk->answered, 1);
    g_assert_true(guest_page_is_zero(guest, 7));
    end(ms, guest, disk);
}

static void *let_go(void *opaque)
{
    return GINT_TO_POINTER(memsched_disk_free(opaque));
}

/* Who waits for a dead disk to let it go is told when the guest ends. */
static void test_disk_that_never_answers_is_let_go(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 512);
    GThread *thread, *waiter;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 0, 512, 0);
    disk_wait(guest, 512);
    disk_kill(disk);
    errors_inject(guest, 7);
    thread = g_thread_new("toucher", toucher, at(guest, 7));
    wait_for(&disk->asked, 1);
    waiter = g_thread_new("waiter", let_go, disk->disk);
    g_usleep(20000);
    memsched_client_ending(guest->client);
    g_thread_join(thread);
    g_assert_false(GPOINTER_TO_INT(g_thread_join(waiter)));
    guest_free(guest);
    disk_free(disk, true);
    guest_stop(ms);
}

/* Its threads were killed: nobody will answer. */
static void test_guest_that_never_answers_is_freed(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 512);
    GThread *thread;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 0, 512, 0);
    disk_wait(guest, 512);
    disk_kill(disk);
    errors_inject(guest, 7);
    thread = g_thread_new("toucher", toucher, at(guest, 7));
    wait_for(&disk->asked, 1);
    memsched_client_ending(guest->client);
    g_thread_join(thread);
    guest_free(guest);
    disk_free(disk, true);
    guest_stop(ms);
}

/* ---- beside parity ---- */

static void test_located_pages_cost_no_parity(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", false);
    Disk *disk = disk_new(guest, 2048);
    MemSchedProtectionInfo info;

    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_fill(guest, disk, 0, PAGES - 300, 0);
    protect(guest, MEMSCHED_SCHEME_P, true);
    errors_wait_covered(guest, 300);
    disk_wait(guest, PAGES - 300);
    info = errors_query(guest);
    g_assert_cmpuint(info.covered_bytes, ==, 300 * PAGE);
    errors_check(guest);
    errors_inject(guest, 3);
    errors_inject(guest, PAGES - 3);
    g_assert_true(disk_is_page(guest, disk, 3, 3 * PAGE));
    g_assert_true(guest_page_is(guest, PAGES - 3, SEED));
    /* Without the disk parity takes them all. */
    protect(guest, MEMSCHED_SCHEME_P, false);
    errors_wait_covered(guest, PAGES);
    end(ms, guest, disk);
}

/* A huge page of both kinds is covered by parity, and what was read twice. */
static void test_huge_page_of_both_kinds(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", true);
    Disk *disk = disk_new(guest, 2048);
    MemSchedProtectionInfo info;

    protect(guest, MEMSCHED_SCHEME_P, true);
    disk_fill(guest, disk, 0, 512, 0);
    disk_fill(guest, disk, 512 + 100, 50, 0);
    errors_wait_covered(guest, PAGES - 512);
    disk_wait(guest, 562);
    info = errors_query(guest);
    g_assert_cmpuint(info.covered_bytes, ==, (PAGES - 512) * PAGE);
    errors_check(guest);
    /* Two of one stripe: parity has none of them, the disk has both. */
    errors_inject(guest, 512 + 110);
    errors_inject(guest, 1024 + 110);
    g_assert_true(disk_is_page(guest, disk, 512 + 110, 10 * PAGE));
    end(ms, guest, disk);
}

static void test_settings_change(gconstpointer huge)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, "one", huge != NULL);
    Disk *disk = disk_new(guest, 512);

    g_assert_false(memsched_disk_wanted(guest->client));
    g_assert_cmpuint(disk_fill(guest, disk, 0, 512, 0), ==, 0);
    protect(guest, MEMSCHED_SCHEME_NONE, true);
    g_assert_true(memsched_disk_wanted(guest->client));
    g_assert_cmpuint(disk_fill(guest, disk, 0, 512, 0), ==, 512);
    disk_wait(guest, 512);
    protect(guest, MEMSCHED_SCHEME_PQ, true);
    errors_wait_covered(guest, PAGES - 512);
    disk_wait(guest, 512);
    errors_check(guest);
    protect(guest, MEMSCHED_SCHEME_NONE, true);
    disk_wait(guest, 512);
    errors_check(guest);
    errors_inject(guest, 100);
    g_assert_true(disk_is_page(guest, disk, 100, 100 * PAGE));
    protect(guest, MEMSCHED_SCHEME_NONE, false);
    g_assert_cmpuint(errors_query(guest).disk_bytes, ==, 0);
    at(guest, 3)[3] = 1;
    end(ms, guest, disk);
}

/* ---- what needs neither ---- */

static void test_known_content_needs_neither(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = guest_new(ms, "one", FRAMES * 2 * MIB, 0);
    Disk *disk = disk_new(guest, 512);
    MemSchedMessage message;

    protect(guest, MEMSCHED_SCHEME_PQ, true);
    memsched_client_run(guest->client, true);
    guest_fill(guest, 0, 512, SEED);
    guest_inflate(guest, 0, 512, true);
    guest_wait_ballooned(guest, 512);
    /* Ballooned, and never touched: there is no frame that could break. */
    g_assert_cmpint(memsched_inject_error(ms, "one", 3 * PAGE, &message), ==,
                    -ENODATA);
    g_assert_cmpint(memsched_inject_error(ms, "one", 1000 * PAGE, &message),
                    ==, -ENODATA);
    guest_assert_zero(guest, 3, 1);
    guest_assert_zero(guest, 1000, 1);
    g_assert_cmpuint(errors_query(guest).lost_pages, ==, 0);
    end(ms, guest, disk);
}

static void add_both(const char *name, GTestDataFunc test)
{
    for (unsigned huge = 0; huge < 2; huge++) {
        g_autofree char *path = g_strdup_printf("/disk/%s/%s", name,
                                                huge ? "huge" : "small");

        g_test_add_data_func(path, GUINT_TO_POINTER(huge), test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    add_both("page-is-read-again", test_page_is_read_again);
    add_both("write-to-the-page-forgets", test_write_to_the_page_forgets);
    add_both("write-before-protection-is-found",
             test_write_before_protection_is_found);
    add_both("captured-and-discarded-pages-are-forgotten",
             test_captured_and_discarded_pages_are_forgotten);
    add_both("settings-change", test_settings_change);
    g_test_add_func("/disk/end-reads-as-zeros",
                    test_end_of_a_disk_reads_as_zeros);
    g_test_add_func("/disk/system-call-says-efault",
                    test_system_call_says_efault);
    g_test_add_func("/disk/write-to-the-disk-forgets",
                    test_write_to_the_disk_forgets);
    g_test_add_func("/disk/write-beside-a-read-is-not-noted",
                    test_write_beside_a_read_is_not_noted);
    g_test_add_func("/disk/fenced-page-is-not-protected",
                    test_fenced_page_is_not_protected);
    g_test_add_func("/disk/other-content-is-never-given",
                    test_other_content_is_never_given);
    g_test_add_func("/disk/slow-disk-holds-up-nobody-else",
                    test_slow_disk_holds_up_nobody_else);
    g_test_add_func("/disk/guest-that-ends-waits-for-no-disk",
                    test_guest_that_ends_waits_for_no_disk);
    g_test_add_func("/disk/disk-that-never-answers-is-let-go",
                    test_disk_that_never_answers_is_let_go);
    g_test_add_func("/disk/guest-that-never-answers-is-freed",
                    test_guest_that_never_answers_is_freed);
    g_test_add_func("/disk/located-pages-cost-no-parity",
                    test_located_pages_cost_no_parity);
    g_test_add_func("/disk/huge-page-of-both-kinds",
                    test_huge_page_of_both_kinds);
    g_test_add_func("/disk/known-content-needs-neither",
                    test_known_content_needs_neither);
    return g_test_run();
}
