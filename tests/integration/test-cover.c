/*
 * Which pages are covered, and by what, as the settings want it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "disk-guest.h"
#include "errors.h"
#include "instance.h"
#include "protect-int.h"

#define MIB     (UINT64_C(1) << 20)
#define FRAME   (2 * MIB)
#define FRAMES  8u
#define PAGES   (FRAMES * 512u)
#define SEED    7u
#define WAIT_US (20 * G_USEC_PER_SEC)
#define EVERYWHERE (UINT64_MAX & ~(FRAME - 1))

static MemSchedProtection fast(MemSchedScheme scheme, bool disk)
{
    return (MemSchedProtection) {
        .scheme = scheme, .group_size = 4, .cool_ms = 1, .disk = disk,
        .rate_bytes_per_s = UINT64_C(1) << 40,
    };
}

static void protect(Guest *guest, const MemSchedProtection *protection)
{
    MemSchedMessage message = { "" };

    if (memsched_protect(guest->ms, guest->id, protection, &message) < 0) {
        g_error("memsched_protect: %s", message.text);
    }
}

static void add(MemSchedProtection *to, uint64_t gpa, uint64_t bytes,
                unsigned cover)
{
    to->range[to->ranges++] = (MemSchedCoverRange) { gpa, bytes, cover };
}

/* Frames of which pages are in stripes, a bit each. */
static unsigned frames_in(Guest *guest)
{
    MsProtect *p = ms_protect_of(guest->region);
    unsigned in = 0;

    ms_lock(&p->lock);
    for (unsigned f = 0; f < FRAMES; f++) {
        in |= (ms_stripes_member(&p->stripes, f) != NULL) << f;
    }
    ms_unlock(&p->lock);
    return in;
}

static void wait_frames(Guest *guest, unsigned frames)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    uint64_t bytes = 0;

    for (unsigned f = 0; f < FRAMES; f++) {
        bytes += frames >> f & 1 ? FRAME : 0;
    }
    while (frames_in(guest) != frames ||
           errors_query(guest).covered_bytes != bytes) {
        if (g_get_monotonic_time() > end) {
            g_error("frames 0x%x are covered after 20 s, not 0x%x",
                    frames_in(guest), frames);
        }
        g_usleep(200);
    }
}

static Guest *new_guest(MemSched *ms, bool huge)
{
    Guest *guest = guest_new(ms, "one", FRAMES * FRAME, 0);

    if (!huge) {
        guest_no_huge(guest);
    }
    guest_fill(guest, 0, PAGES, SEED);
    return guest;
}

static void end(MemSched *ms, Guest *guest)
{
    errors_check(guest);
    guest_free(guest);
    guest_stop(ms);
}

static void test_ranges_are_left_out_and_come_back(gconstpointer huge)
{
    MemSched *ms = errors_start(64 * MIB);
    Guest *guest = new_guest(ms, huge != NULL);
    MemSchedProtection protection = fast(MEMSCHED_SCHEME_P, false);
    uint64_t written;

    add(&protection, 2 * FRAME, 3 * FRAME, MEMSCHED_COVER_NONE);
    /* The last one decides. */
    add(&protection, 3 * FRAME, FRAME, MEMSCHED_COVER_PARITY);
    protect(guest, &protection);
    wait_frames(guest, 0xeb);
    g_assert_cmpuint(errors_query(guest).excluded_bytes, ==, 2 * FRAME);
    errors_inject(guest, 3 * 512 + 5);
    guest_assert(guest, 3 * 512 + 5, 1, SEED);
    errors_inject(guest, 2 * 512 + 5);
    g_assert_cmpuint(*(uint64_t *)(guest->ram + 2 * FRAME + 5 * 4096), ==, 0);
    g_assert_cmpuint(errors_query(guest).lost_pages, ==, 1);

    /* While covered: what loses its cover leaves, and is written freely. */
    protection.ranges = 0;
    add(&protection, 0, 2 * FRAME, MEMSCHED_COVER_NONE);
    protect(guest, &protection);
    wait_frames(guest, 0xfc);
    errors_check(guest);
    written = errors_query(guest).left_by_write_pages;
    guest_fill(guest, 0, 2 * 512, 99);
    g_assert_cmpuint(errors_query(guest).left_by_write_pages, ==, written);

    protection.ranges = 0;
    protect(guest, &protection);
    wait_frames(guest, 0xff);
    g_assert_cmpuint(errors_query(guest).excluded_bytes, ==, 0);
    errors_inject(guest, 7);
    guest_assert(guest, 7, 1, 99);
    end(ms, guest);
}

/* A range is of guest addresses: it follows the map. */
static void test_map_changes(void)
{
    MemSched *ms = errors_start(64 * MIB);
    Guest *guest = new_guest(ms, false);
    MemSchedProtection protection = fast(MEMSCHED_SCHEME_PQ, false);
    MemSchedGpaMapping swapped[] = {
        { .gpa = 0, .length_bytes = 4 * FRAME, .region = guest->region,
          .offset_bytes = 4 * FRAME },
        { .gpa = 4 * FRAME, .length_bytes = 4 * FRAME,
          .region = guest->region },
    };

    add(&protection, 0, EVERYWHERE, MEMSCHED_COVER_NONE);
    add(&protection, 0, 4 * FRAME, MEMSCHED_COVER_PARITY);
    protect(guest, &protection);
    wait_frames(guest, 0x0f);
    g_assert_cmpint(memsched_client_set_map(guest->client, swapped, 2), ==,
                    0);
    wait_frames(guest, 0xf0);
    guest_assert(guest, 0, PAGES, SEED);
    end(ms, guest);
}

/* Parity for one half, the disk for the other; nothing else is noted. */
static void test_disk_where_it_is_wanted(void)
{
    MemSched *ms = errors_start(64 * MIB);
    Guest *guest = new_guest(ms, false);
    Disk *disk = disk_new(guest, PAGES);
    MemSchedProtection protection = fast(MEMSCHED_SCHEME_P, true);
    MemSchedProtectionInfo info;

    add(&protection, 0, 4 * FRAME, MEMSCHED_COVER_PARITY);
    add(&protection, 4 * FRAME, 4 * FRAME, MEMSCHED_COVER_DISK);
    protect(guest, &protection);
    g_assert_cmpuint(disk_fill(guest, disk, 0, 512, 0), ==, 0);
    g_assert_cmpuint(disk_fill(guest, disk, 4 * 512, 512, 0), ==, 512);
    wait_frames(guest, 0x0f);
    disk_wait(guest, 512);
    info = errors_query(guest);
    g_assert_cmpuint(info.covered_bytes, ==, 4 * FRAME);
    g_assert_cmpuint(info.disk_only_bytes, ==, FRAME);
    g_assert_cmpuint(info.excluded_bytes, ==, 0);
    errors_inject(guest, 4 * 512 + 3);
    g_assert_true(disk_is_page(guest, disk, 4 * 512 + 3, 3 * 4096));
    errors_inject(guest, 3);
    g_assert_true(disk_is_page(guest, disk, 3, 3 * 4096));
    info = errors_query(guest);
    g_assert_cmpuint(info.recovered_pages, ==, 2);
    g_assert_cmpuint(info.disk_recovered_pages, ==, 1);
    /* No more from the disk: what was known is forgotten. */
    protection.range[1].cover = MEMSCHED_COVER_NONE;
    protect(guest, &protection);
    info = errors_query(guest);
    g_assert_cmpuint(info.disk_only_bytes, ==, 0);
    g_assert_cmpuint(info.excluded_bytes, ==, 4 * FRAME);
    errors_check(guest);
    disk_free(disk, false);
    end(ms, guest);
}

static void test_bad_ranges_are_refused(void)
{
    static const MemSchedCoverRange bad[] = {
        { 4096, FRAME, MEMSCHED_COVER_NONE },
        { 0, FRAME + 4096, MEMSCHED_COVER_NONE },
        { 0, 0, MEMSCHED_COVER_NONE },
        { EVERYWHERE, 2 * FRAME, MEMSCHED_COVER_NONE },
        { 0, FRAME, MEMSCHED_COVER_ALL + 1 },
    };
    MemSched *ms = errors_start(64 * MIB);
    Guest *guest = new_guest(ms, false);
    MemSchedProtection protection = fast(MEMSCHED_SCHEME_P, false);
    MemSchedMessage message = { "" };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        protection.ranges = 1;
        protection.range[0] = bad[i];
        g_assert_cmpint(memsched_protect(ms, "one", &protection, &message), ==,
                        -EINVAL);
        g_assert_cmpstr(message.text, !=, "");
    }
    protection.ranges = MEMSCHED_COVER_RANGES + 1;
    g_assert_cmpint(memsched_protect(ms, "one", &protection, &message), ==,
                    -EINVAL);
    g_assert_cmpint(errors_query(guest).settings.scheme, ==,
                    MEMSCHED_SCHEME_NONE);
    end(ms, guest);
}

/* One guest's rate is not another's. */
static void test_slow_rate_holds_up_nobody_else(void)
{
    MemSched *ms = errors_start(64 * MIB);
    Guest *slow = guest_new(ms, "slow", FRAMES * FRAME, 0), *fast_one;
    MemSchedProtection slowly = fast(MEMSCHED_SCHEME_P, false);

    slowly.rate_bytes_per_s = 1;
    guest_fill(slow, 0, PAGES, SEED);
    fast_one = new_guest(ms, true);
    errors_protect(fast_one, MEMSCHED_SCHEME_P, 4);
    protect(slow, &slowly);
    errors_wait_covered(slow, 512);
    guest_fill(fast_one, 0, PAGES, 99);
    errors_wait_covered(fast_one, PAGES);
    /* One, and one more if its command came in between. */
    g_assert_cmpuint(errors_query(slow).covered_bytes, <=, 2 * FRAME);
    guest_free(slow);
    end(ms, fast_one);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    g_test_add_data_func("/cover/ranges/small", NULL,
                         test_ranges_are_left_out_and_come_back);
    g_test_add_data_func("/cover/ranges/huge", GINT_TO_POINTER(1),
                         test_ranges_are_left_out_and_come_back);
    g_test_add_func("/cover/map-changes", test_map_changes);
    g_test_add_func("/cover/disk-where-wanted", test_disk_where_it_is_wanted);
    g_test_add_func("/cover/slow-rate-holds-up-nobody-else",
                    test_slow_rate_holds_up_nobody_else);
    g_test_add_func("/cover/bad-ranges-are-refused",
                    test_bad_ranges_are_refused);
    return g_test_run();
}
