/*
 * The scrubber on the real kernel: what it finds, and what it must not touch
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "errors.h"
#include "instance.h"
#include "protect-int.h"

#define MIB     (UINT64_C(1) << 20)
#define FRAMES  8u
#define PAGES   (FRAMES * 512u)
#define SEED    7u
#define WAIT_US (20 * G_USEC_PER_SEC)
/* Much more than there is: a pass takes what it takes. */
#define FAST    (UINT64_C(1) << 40)

typedef struct World {
    MemSched *ms;
    Guest *guest;
    _Atomic unsigned pages, parity, repaired;
    _Atomic uint64_t offset;    /* of the last mismatch */
} World;

static void on_error(void *opaque, const MemSchedError *error)
{
    World *world = opaque;

    switch (error->mismatch) {
    case MEMSCHED_MISMATCH_PAGE:
        world->offset = error->offset_bytes;
        world->pages++;
        break;
    case MEMSCHED_MISMATCH_PARITY:
        world->offset = error->offset_bytes;
        world->parity++;
        break;
    case MEMSCHED_MISMATCH_NONE:
        world->repaired += !error->lost && !error->awaited;
        break;
    }
}

static void protect(World *world, MemSchedScheme scheme, unsigned cool_ms,
                    uint64_t scrub)
{
    MemSchedProtection protection = {
        .scheme = scheme, .group_size = 4, .cool_ms = cool_ms,
        .rate_bytes_per_s = FAST, .scrub_bytes_per_s = scrub,
    };
    MemSchedMessage message = { "" };

    if (memsched_protect(world->ms, world->guest->id, &protection,
                         &message) < 0) {
        g_error("memsched_protect: %s", message.text);
    }
}

/* All is covered, and nothing scrubbed yet. */
static World *world_new(bool huge, MemSchedScheme scheme, unsigned cool_ms)
{
    World *world = g_new0(World, 1);

    world->ms = errors_start(64 * MIB);
    world->guest = guest_new(world->ms, "one", FRAMES * 2 * MIB, 0);
    if (!huge) {
        guest_no_huge(world->guest);
    }
    guest_fill(world->guest, 0, PAGES, SEED);
    memsched_watch_errors(world->ms, on_error, world);
    protect(world, scheme, cool_ms, 0);
    errors_wait_covered(world->guest, PAGES);
    g_assert_cmpuint(errors_query(world->guest).scrubbed_pages, ==, 0);
    return world;
}

static void world_free(World *world)
{
    errors_check(world->guest);
    memsched_watch_errors(world->ms, NULL, NULL);
    guest_free(world->guest);
    guest_stop(world->ms);
    g_free(world);
}

/* Until so many more passes have ended. */
static MemSchedProtectionInfo wait_passes(World *world, unsigned more)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedProtectionInfo info = errors_query(world->guest);
    uint64_t passes = info.scrub_passes + more;

    while (info.scrub_passes < passes) {
        if (g_get_monotonic_time() > end) {
            g_error("%" G_GUINT64_FORMAT " passes after 20 s, not %"
                    G_GUINT64_FORMAT, info.scrub_passes, passes);
        }
        g_usleep(200);
        info = errors_query(world->guest);
    }
    return info;
}

static MsMember *member_locked(World *world, uint64_t page)
{
    MsProtect *p = ms_protect_of(world->guest->region);
    MsMember *m = ms_stripes_member(&p->stripes, page / 512);

    g_assert_nonnull(m);
    return m;
}

static bool is_in(World *world, uint64_t page)
{
    MsProtect *p = ms_protect_of(world->guest->region);
    MsMember *m;
    bool in;

    ms_lock(&p->lock);
    m = ms_stripes_member(&p->stripes, page / 512);
    in = m && ms_pageset_has(&m->in, page % 512);
    ms_unlock(&p->lock);
    return in;
}

static char *parity_of(World *world, uint64_t page, unsigned k)
{
    MsProtect *p = ms_protect_of(world->guest->region);
    char *address;

    ms_lock(&p->lock);
    address = ms_parity_address(member_locked(world, page)->group, k,
                                page % 512);
    ms_unlock(&p->lock);
    return address;
}

/* As memory that goes wrong without a word: no fault, no event. */
static void change_behind(World *world, uint64_t page, uint64_t seed)
{
    uint64_t first = page & ~UINT64_C(511);
    MsProtect *p = ms_protect_of(world->guest->region);
    bool huge;

    ms_lock(&p->lock);
    huge = member_locked(world, page)->huge;
    ms_unlock(&p->lock);
    if (!huge) {
        first = page;
    }
    ms_uffd_protect(&world->guest->client->uffd, world->guest->ram +
                    first * 4096, huge ? 512 : 1, false, false);
    guest_fill(world->guest, page, 1, seed);
    ms_uffd_protect(&world->guest->client->uffd, world->guest->ram +
                    first * 4096, huge ? 512 : 1, true, false);
}

static void test_clean_memory_has_no_mismatch(gconstpointer huge)
{
    World *world = world_new(GPOINTER_TO_INT(huge), MEMSCHED_SCHEME_PQ, 1);
    MemSchedProtectionInfo info;

    protect(world, MEMSCHED_SCHEME_PQ, 1, FAST);
    info = wait_passes(world, 3);
    /* Each pass reads every page, and its parity: P and Q of two groups. */
    g_assert_cmpuint(info.scrubbed_pages, >=,
                     info.scrub_passes * (PAGES + 4 * 512));
    g_assert_cmpuint(info.scrub_all_bytes, ==, (PAGES + 4 * 512) * 4096);
    g_assert_cmpuint(info.scrub_age_ns, !=, UINT64_MAX);
    g_assert_cmpuint(info.scrub_took_ns, >, 0);
    g_assert_cmpuint(info.mismatched_pages, ==, 0);
    g_assert_cmpuint(info.mismatched_parity_pages, ==, 0);
    g_assert_cmpuint(info.found_broken_pages, ==, 0);
    g_assert_cmpuint(info.covered_bytes, ==, PAGES * 4096);
    world_free(world);
}

static void test_off_reads_nothing(void)
{
    World *world = world_new(false, MEMSCHED_SCHEME_P, 1);
    uint64_t scrubbed;

    protect(world, MEMSCHED_SCHEME_P, 1, FAST);
    wait_passes(world, 1);
    protect(world, MEMSCHED_SCHEME_P, 1, 0);
    /* A write is served after whatever the thread was at. */
    guest_fill(world->guest, 5, 1, 99);
    scrubbed = errors_query(world->guest).scrubbed_pages;
    guest_fill(world->guest, 6, 1, 99);
    g_assert_cmpuint(errors_query(world->guest).scrubbed_pages, ==, scrubbed);
    world_free(world);
}

/* The page is left as it is; its mates can still be rebuilt, as they were. */
static void test_other_content_is_told_and_not_repaired(gconstpointer huge)
{
    bool is_huge = GPOINTER_TO_INT(huge);
    World *world = world_new(is_huge, MEMSCHED_SCHEME_P, 3600000);
    MemSchedProtectionInfo info;

    change_behind(world, 1000, 99);
    protect(world, MEMSCHED_SCHEME_P, 3600000, FAST);
    info = wait_passes(world, 1);
    protect(world, MEMSCHED_SCHEME_P, 3600000, 0);
    g_assert_cmpuint(info.mismatched_pages, ==, 1);
    g_assert_cmpuint(info.mismatched_parity_pages, ==, 0);
    g_assert_cmpuint(world->pages, ==, 1);
    g_assert_cmpuint(world->offset, ==, 1000 * 4096);
    g_assert_false(is_in(world, 1000));
    guest_assert(world->guest, 1000, 1, 99);
    g_assert_cmpuint(info.covered_bytes, ==,
                     (PAGES - (is_huge ? 512 : 1)) * 4096);
    errors_check(world->guest);
    for (unsigned f = 0; f < 4; f++) {
        if (f != 1) {
            errors_inject(world->guest, f * 512 + 1000 % 512);
            guest_assert(world->guest, f * 512 + 1000 % 512, 1, SEED);
        }
    }
    g_assert_cmpuint(errors_query(world->guest).recovered_pages, ==, 3);
    /* It is uncovered: broken now, it is lost, not what it once was. */
    errors_inject(world->guest, 1000);
    g_assert_cmpuint(*(uint64_t *)(world->guest->ram + 1000 * 4096), ==, 0);
    g_assert_cmpuint(errors_query(world->guest).lost_pages, ==, 1);
    world_free(world);
}

static void test_wrong_parity_is_told_and_made_anew(void)
{
    World *world = world_new(true, MEMSCHED_SCHEME_PQ, 1);
    MemSchedProtectionInfo info;

    parity_of(world, 77, 0)[123] ^= 1;
    parity_of(world, 78, 1)[456] ^= 1;
    protect(world, MEMSCHED_SCHEME_PQ, 1, FAST);
    info = wait_passes(world, 1);
    g_assert_cmpuint(info.mismatched_parity_pages, ==, 2);
    g_assert_cmpuint(info.mismatched_pages, ==, 0);
    g_assert_cmpuint(world->parity, ==, 2);
    g_assert_cmpuint(info.covered_bytes, ==, PAGES * 4096);
    /* By P alone, were Q wrong still, and the other way round. */
    errors_check(world->guest);
    errors_inject(world->guest, 77);
    errors_inject(world->guest, 512 + 77);
    guest_assert(world->guest, 0, PAGES, SEED);
    world_free(world);
}

/* Pages and parity that are broken, and nobody has met it. */
static void test_unmet_errors_are_repaired(void)
{
    World *world = world_new(false, MEMSCHED_SCHEME_P, 1);
    gint64 end = g_get_monotonic_time() + WAIT_US;
    char *parity = parity_of(world, 600, 0);
    unsigned fixed = errors_fixed;
    MemSchedProtectionInfo info;

    for (unsigned i = 0; i < 16; i++) {
        errors_break(world->guest, i * 31);
    }
    g_assert_cmpint(madvise(parity, 4096, MADV_DONTNEED), ==, 0);
    g_assert_cmpint(ms_uffd_poison(ms_pool_uffd(world->ms->pool), parity, 1,
                                   false), ==, 0);
    protect(world, MEMSCHED_SCHEME_P, 1, FAST);
    wait_passes(world, 1);
    do {
        info = errors_query(world->guest);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    } while (info.recovered_pages < 16);
    g_assert_cmpuint(info.found_broken_pages, >=, 17);
    g_assert_cmpuint(info.lost_pages, ==, 0);
    g_assert_cmpuint(info.mismatched_pages, ==, 0);
    /* Told as errors for which nobody waited, and no thread has met one. */
    g_assert_cmpuint(world->repaired, ==, 16);
    g_assert_cmpuint(errors_fixed, ==, fixed);
    guest_assert(world->guest, 0, PAGES, SEED);
    g_assert_cmpuint(errors_fixed, ==, fixed);
    world_free(world);
}

/* The rate is kept: so much time must have gone by for so many bytes. */
static void test_rate_is_a_bound(void)
{
    World *world = world_new(false, MEMSCHED_SCHEME_P, 1);
    gint64 start = g_get_monotonic_time(), took;
    MemSchedProtectionInfo info;

    protect(world, MEMSCHED_SCHEME_P, 1, 40 * MIB);
    info = wait_passes(world, 1);
    took = g_get_monotonic_time() - start;
    /* But for the first step, which comes at once. */
    g_assert_cmpuint((info.scrubbed_pages - 256) * 4096, <=,
                     40 * MIB * took / G_USEC_PER_SEC);
    world_free(world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    g_test_add_data_func("/scrubber/clean-memory/small", GINT_TO_POINTER(0),
                         test_clean_memory_has_no_mismatch);
    g_test_add_data_func("/scrubber/clean-memory/huge", GINT_TO_POINTER(1),
                         test_clean_memory_has_no_mismatch);
    g_test_add_func("/scrubber/off-reads-nothing", test_off_reads_nothing);
    g_test_add_data_func("/scrubber/other-content/small", GINT_TO_POINTER(0),
                         test_other_content_is_told_and_not_repaired);
    g_test_add_data_func("/scrubber/other-content/huge", GINT_TO_POINTER(1),
                         test_other_content_is_told_and_not_repaired);
    g_test_add_func("/scrubber/wrong-parity",
                    test_wrong_parity_is_told_and_made_anew);
    g_test_add_func("/scrubber/unmet-errors", test_unmet_errors_are_repaired);
    g_test_add_func("/scrubber/rate-is-a-bound", test_rate_is_a_bound);
    return g_test_run();
}
