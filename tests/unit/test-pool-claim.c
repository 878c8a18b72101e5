/*
 * Claims of the pool with the fake kernel: whose frames come out, in which
 * order they are cleared, and what is left when a claim is closed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "fake-sys.h"
#include "pool.h"
#include "scrub.h"

#define FRAME_PAGES  ((uint32_t)MEMSCHED_PAGES_PER_FRAME)
#define POOL_FRAMES  8u
#define GUEST_FRAMES 4u

typedef struct Fixture {
    FakeSys *fake;
    const MsSys *sys;
    MsPool *pool;
    MsUffd uffd;
    void *map;
    char *ram;
} Fixture;

static const MsPageSet none;

/* A guest that holds GUEST_FRAMES huge pages, none of them zero. */
static void setup(Fixture *f, const void *data)
{
    MsPoolOptions options = {
        .frames = POOL_FRAMES, .small_reserve_pages = 64,
    };
    size_t bytes = (GUEST_FRAMES + 1) * MEMSCHED_FRAME_SIZE;

    f->fake = fake_sys_new();
    f->sys = fake_sys(f->fake);
    g_assert_cmpint(ms_pool_new(f->sys, &options, &f->pool), ==, 0);
    g_assert_cmpint(ms_uffd_open(&f->uffd, f->sys, MS_UFFD_MOVE), ==, 0);
    f->sys->mmap(f->sys, NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, &f->map);
    f->ram = (char *)(((uintptr_t)f->map + MEMSCHED_FRAME_SIZE - 1) &
                      ~(MEMSCHED_FRAME_SIZE - 1));
    f->sys->madvise(f->sys, f->ram, GUEST_FRAMES * MEMSCHED_FRAME_SIZE,
                    MADV_HUGEPAGE);
    for (unsigned i = 0; i < GUEST_FRAMES; i++) {
        char *frame = f->ram + i * MEMSCHED_FRAME_SIZE;
        MsPoolRun run;

        g_assert_cmpint(ms_pool_take(f->pool, FRAME_PAGES, MS_POOL_HUGE,
                                     &run), ==, 0);
        g_assert_cmpint(ms_pool_move_out(f->pool, &run, 0, &f->uffd, frame,
                                         FRAME_PAGES, true).stop,
                        ==, MS_MOVE_DONE);
        ms_pool_take_end(f->pool, &run, NULL, false);
        memset(frame, 1, MEMSCHED_FRAME_SIZE);
    }
}

static void assert_sound(Fixture *f)
{
    MemSchedMessage message = { "" };

    if (ms_pool_check(f->pool, &message) != 0) {
        g_error("%s", message.text);
    }
}

static void teardown(Fixture *f, const void *data)
{
    assert_sound(f);
    ms_pool_free(f->pool);
    f->sys->munmap(f->sys, f->map, (GUEST_FRAMES + 1) * MEMSCHED_FRAME_SIZE);
    ms_uffd_close(&f->uffd);
    fake_sys_free(f->fake);
}

/* Pages [page, page + count) of the guest; where they are now. */
static char *capture(Fixture *f, MsPoolClaim claim, unsigned page,
                     unsigned count, bool huge)
{
    MsPoolRun run;
    char *address;

    g_assert_cmpint(ms_pool_capture_begin_for(f->pool, claim, count, huge,
                                              &run), ==, 0);
    g_assert_cmpuint(run.pages, ==, count);
    address = run.address;
    g_assert_cmpuint(ms_pool_move_in(f->pool, &run, 0, f->ram +
                                     page * MEMSCHED_PAGE_SIZE,
                                     count).moved_pages, ==, count);
    ms_pool_capture_end(f->pool, &run, NULL);
    return address;
}

/* Taken, looked at, and not used after all. */
static char *take(Fixture *f, MsPoolClaim claim, unsigned pages,
                  unsigned flags)
{
    MsPoolRun run;
    char *address;
    int ret = ms_pool_take_for(f->pool, claim, pages, flags, &run);

    if (ret < 0) {
        return NULL;
    }
    address = run.address;
    g_assert_true((flags & MS_POOL_DIRTY) ||
                  ms_pages_are_zero(run.address, run.pages));
    ms_pool_take_end(f->pool, &run, &none, false);
    return address;
}

static MsPoolCounts counts_of(Fixture *f)
{
    MsPoolCounts counts;

    ms_pool_counts(f->pool, &counts);
    return counts;
}

static void test_a_claim_gets_its_own_frame_though_others_are_clean(
    Fixture *f, const void *data)
{
    MsPoolClaim claim = ms_pool_claim_open(f->pool);
    char *frame = capture(f, claim, 0, FRAME_PAGES, true);

    g_assert_cmpuint(counts_of(f).huge_clean, >, 0);
    g_assert_true(take(f, claim, FRAME_PAGES, MS_POOL_HUGE) == frame);
    g_assert_cmpuint(counts_of(f).claim_taken_pages, ==, FRAME_PAGES);
    g_assert_cmpuint(counts_of(f).claim_other_pages, ==, 0);
}

static void test_small_pages_of_a_claim_come_before_huge_ones_of_others(
    Fixture *f, const void *data)
{
    MsPoolClaim claim = ms_pool_claim_open(f->pool);
    char *pages = capture(f, claim, 0, 100, false);

    /* Not as one, and not instead of them. */
    g_assert_null(take(f, claim, FRAME_PAGES, MS_POOL_HUGE));
    g_assert_true(take(f, claim, FRAME_PAGES, 0) == pages);
    g_assert_cmpuint(counts_of(f).claim_taken_pages, ==, 100);
}

static void test_who_has_no_claim_gets_claimed_pages_last(Fixture *f,
                                                          const void *data)
{
    MsPoolClaim claim = ms_pool_claim_open(f->pool);
    char *frame = capture(f, claim, 0, FRAME_PAGES, true);
    MsPoolRun run[POOL_FRAMES];
    unsigned n = 0;

    while (ms_pool_take(f->pool, FRAME_PAGES, MS_POOL_HUGE, &run[n]) == 0) {
        n++;
    }
    g_assert_cmpuint(n, ==, POOL_FRAMES - GUEST_FRAMES + 1);
    for (unsigned i = 0; i < n; i++) {
        g_assert_true((run[i].address == frame) == (i == n - 1));
        ms_pool_take_end(f->pool, &run[i], &none, false);
    }
}

static void test_two_claims_do_not_mix(Fixture *f, const void *data)
{
    MsPoolClaim one = ms_pool_claim_open(f->pool);
    MsPoolClaim two = ms_pool_claim_open(f->pool);
    char *a, *b, *nobody;

    g_assert_cmpuint(one, !=, two);
    a = capture(f, one, 0, 40, false);
    b = capture(f, two, 40, 40, false);
    nobody = capture(f, MS_POOL_NO_CLAIM, 80, 40, false);
    g_assert_true(take(f, two, 64, 0) == b);
    g_assert_true(take(f, one, 64, 0) == a);
    g_assert_true(take(f, MS_POOL_NO_CLAIM, 64, MS_POOL_DIRTY) == nobody);
}

static void test_what_is_claimed_is_cleared_first(Fixture *f,
                                                  const void *data)
{
    MsPoolClaim claim = ms_pool_claim_open(f->pool);
    char *claimed;

    capture(f, MS_POOL_NO_CLAIM, 0, FRAME_PAGES, true);
    claimed = capture(f, claim, FRAME_PAGES, 64, false);
    g_assert_cmpint(ms_pool_work(f->pool), ==, 1);
    g_assert_true(ms_pages_are_zero(claimed, 64));
    g_assert_cmpuint(counts_of(f).scrubbed_pages, ==, 64);
}

static void test_told_not_to_wait_it_takes_nobody_elses(Fixture *f,
                                                        const void *data)
{
    MsPoolClaim claim = ms_pool_claim_open(f->pool);
    char *frame = capture(f, claim, 0, FRAME_PAGES, true);

    g_assert_null(take(f, claim, FRAME_PAGES, MS_POOL_HUGE | MS_POOL_NOWAIT));
    g_assert_cmpint(ms_pool_work(f->pool), ==, 1);
    g_assert_true(take(f, claim, FRAME_PAGES, MS_POOL_HUGE | MS_POOL_NOWAIT)
                  == frame);
}

static void test_a_huge_page_of_a_claim_is_broken_when_told_so(
    Fixture *f, const void *data)
{
    MsPoolClaim claim = ms_pool_claim_open(f->pool);
    uint64_t broken;

    /* Small pages of everybody's are at hand: a touch gets those. */
    capture(f, MS_POOL_NO_CLAIM, FRAME_PAGES, 100, false);
    capture(f, claim, 0, FRAME_PAGES, true);
    broken = counts_of(f).broken;
    g_assert_nonnull(take(f, claim, 8, 0));
    g_assert_cmpuint(counts_of(f).broken, ==, broken);
    g_assert_cmpuint(counts_of(f).claim_other_pages, ==, 8);
    g_assert_nonnull(take(f, claim, 8, MS_POOL_BREAK_CLAIM));
    g_assert_cmpuint(counts_of(f).broken, ==, broken + 1);
    g_assert_cmpuint(counts_of(f).claim_taken_pages, ==, 8);
    /* What is left of it is the claim's still. */
    g_assert_nonnull(take(f, claim, 500, 0));
    g_assert_cmpuint(counts_of(f).claim_other_pages, ==, 8);
}

static void test_a_closed_claims_pages_are_everybodys(Fixture *f,
                                                      const void *data)
{
    MsPoolClaim claim = ms_pool_claim_open(f->pool), next;
    MsPoolRun run;
    char *pages;

    pages = capture(f, claim, 0, 200, false);
    capture(f, claim, FRAME_PAGES, FRAME_PAGES, true);
    /* Out while it is closed. */
    g_assert_cmpint(ms_pool_capture_begin_for(f->pool, claim, FRAME_PAGES,
                                              true, &run), ==, 0);
    ms_pool_claim_close(f->pool, claim);
    ms_pool_move_in(f->pool, &run, 0, f->ram + 2 * MEMSCHED_FRAME_SIZE,
                    FRAME_PAGES);
    ms_pool_capture_end(f->pool, &run, NULL);
    assert_sound(f);

    /* The same place, another name: what was there is not the new one's. */
    next = ms_pool_claim_open(f->pool);
    g_assert_cmpuint(next, !=, claim);
    g_assert_true(take(f, MS_POOL_NO_CLAIM, 200, MS_POOL_DIRTY) == pages);
    g_assert_nonnull(take(f, next, 64, 0));
    g_assert_cmpuint(counts_of(f).claim_taken_pages, ==, 0);
    g_assert_nonnull(take(f, claim, 64, 0));
    g_assert_cmpuint(counts_of(f).claim_other_pages, ==, 64);
    ms_pool_claim_close(f->pool, claim);
    ms_pool_claim_close(f->pool, MS_POOL_NO_CLAIM);
    ms_pool_claim_close(f->pool, next);
}

static void test_too_many_claims_go_on_without(Fixture *f, const void *data)
{
    MsPoolClaim claim[MS_POOL_CLAIMS];

    for (unsigned i = 0; i < MS_POOL_CLAIMS; i++) {
        claim[i] = ms_pool_claim_open(f->pool);
        g_assert_cmpuint(claim[i], !=, MS_POOL_NO_CLAIM);
    }
    g_assert_cmpuint(ms_pool_claim_open(f->pool), ==, MS_POOL_NO_CLAIM);
    ms_pool_claim_close(f->pool, claim[7]);
    g_assert_cmpuint(ms_pool_claim_open(f->pool), !=, MS_POOL_NO_CLAIM);
}

/* Three claims that open and close, captures and takes for any of them. */
static void test_random_claims_keep_the_books(Fixture *f, const void *data)
{
    uint32_t seed = g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    MsPoolClaim claim[4] = { 0 };
    bool resident[GUEST_FRAMES * 8];
    unsigned held = GUEST_FRAMES * 8;

    g_test_message("seed %u", seed);
    memset(resident, 1, sizeof(resident));
    for (unsigned i = 0; i < 3000; i++) {
        unsigned c = g_rand_int_range(rand, 0, 4);
        unsigned part = g_rand_int_range(rand, 0, GUEST_FRAMES * 8);
        char *ram = f->ram + part * 64 * MEMSCHED_PAGE_SIZE;
        MsPoolRun run;

        switch (g_rand_int_range(rand, 0, 4)) {
        case 0:
            if (resident[part]) {
                capture(f, claim[c], part * 64, 64, false);
                resident[part] = false;
                held--;
            }
            break;
        case 1:
            if (!resident[part] &&
                ms_pool_take_for(f->pool, claim[c], 64, g_rand_boolean(rand) ?
                                 MS_POOL_BREAK_CLAIM : 0, &run) == 0) {
                g_assert_true(ms_pages_are_zero(run.address, run.pages));
                if (run.pages < 64) {
                    ms_pool_take_end(f->pool, &run, &none, false);
                    break;
                }
                g_assert_cmpuint(ms_pool_move_out(f->pool, &run, 0, &f->uffd,
                                                  ram, 64, true).moved_pages,
                                 ==, 64);
                ms_pool_take_end(f->pool, &run, NULL, false);
                memset(ram, 2, 64 * MEMSCHED_PAGE_SIZE);
                resident[part] = true;
                held++;
            }
            break;
        case 2:
            if (c > 0 && g_rand_int_range(rand, 0, 10) == 0) {
                ms_pool_claim_close(f->pool, claim[c]);
                claim[c] = ms_pool_claim_open(f->pool);
            }
            break;
        case 3:
            ms_pool_work(f->pool);
            fake_advance(f->fake, 200 * 1000 * 1000);
            break;
        }
        g_assert_cmpuint(counts_of(f).free_clean_pages +
                         counts_of(f).free_dirty_pages + held * 64, ==,
                         POOL_FRAMES * FRAME_PAGES);
        if (i % 50 == 0) {
            assert_sound(f);
        }
    }
}

#define ADD(name, func) \
    g_test_add("/pool-claim/" name, Fixture, NULL, setup, func, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("a-claim-gets-its-own-frame-though-others-are-clean",
        test_a_claim_gets_its_own_frame_though_others_are_clean);
    ADD("small-pages-of-a-claim-come-before-huge-ones-of-others",
        test_small_pages_of_a_claim_come_before_huge_ones_of_others);
    ADD("who-has-no-claim-gets-claimed-pages-last",
        test_who_has_no_claim_gets_claimed_pages_last);
    ADD("two-claims-do-not-mix", test_two_claims_do_not_mix);
    ADD("what-is-claimed-is-cleared-first",
        test_what_is_claimed_is_cleared_first);
    ADD("told-not-to-wait-it-takes-nobody-elses",
        test_told_not_to_wait_it_takes_nobody_elses);
    ADD("a-huge-page-of-a-claim-is-broken-when-told-so",
        test_a_huge_page_of_a_claim_is_broken_when_told_so);
    ADD("a-closed-claims-pages-are-everybodys",
        test_a_closed_claims_pages_are_everybodys);
    ADD("too-many-claims-go-on-without", test_too_many_claims_go_on_without);
    ADD("random-claims-keep-the-books", test_random_claims_keep_the_books);
    return g_test_run();
}
