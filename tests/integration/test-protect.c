/*
 * Protection and repair on the real kernel: real signals, real EFAULT
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

#include "errors.h"
#include "instance.h"
#include "protect-int.h"

#define MIB     (UINT64_C(1) << 20)
#define FRAMES  8u
#define PAGES   (FRAMES * 512u)
#define POOL    (64 * MIB)
#define SEED    7u

static Guest *new_guest(MemSched *ms, bool huge)
{
    Guest *guest = guest_new(ms, "one", FRAMES * 2 * MIB, 0);

    if (!huge) {
        guest_no_huge(guest);
    }
    guest_fill(guest, 0, PAGES, SEED);
    return guest;
}

static Guest *covered_guest(MemSched *ms, bool huge, MemSchedScheme scheme,
                            unsigned group)
{
    Guest *guest = new_guest(ms, huge);

    errors_protect(guest, scheme, group);
    errors_wait_covered(guest, PAGES);
    errors_check(guest);
    return guest;
}

static void end(MemSched *ms, Guest *guest)
{
    errors_check(guest);
    guest_free(guest);
    guest_stop(ms);
}

static bool is_in(Guest *guest, uint64_t page)
{
    MsProtect *p = ms_protect_of(guest->region);
    bool in;

    ms_lock(&p->lock);
    in = ms_stripes_covered(&p->stripes,
                            ms_stripes_member(&p->stripes, page / 512),
                            page % 512);
    ms_unlock(&p->lock);
    return in;
}

static char *at(Guest *guest, uint64_t page)
{
    return guest->ram + page * MEMSCHED_PAGE_SIZE;
}

typedef struct Case {
    bool huge;
    MemSchedScheme scheme;
    unsigned group;
} Case;

static const Case cases[] = {
    { false, MEMSCHED_SCHEME_P, 4 }, { true, MEMSCHED_SCHEME_P, 4 },
    { false, MEMSCHED_SCHEME_PQ, 8 }, { true, MEMSCHED_SCHEME_PQ, 8 },
};

/*
 * A frame of which one page was rebuilt goes in and out in parts; its pages of
 * zeros keep frames of their own.
 */
static void test_zeros_beside_a_rebuilt_page_stay_pages(gconstpointer opaque)
{
    const Case *c = opaque;
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, c->huge);

    memset(at(guest, 160), 0, 40 * MEMSCHED_PAGE_SIZE);
    errors_protect(guest, c->scheme, c->group);
    errors_wait_covered(guest, PAGES);
    errors_check(guest);
    errors_inject(guest, 9);
    guest_assert(guest, 9, 1, SEED);
    errors_check(guest);
    /* All of it once more. */
    errors_protect(guest, c->scheme, 0);
    errors_protect(guest, c->scheme, c->group);
    errors_wait_covered(guest, PAGES);
    errors_check(guest);
    guest_assert_zero(guest, 160, 40);
    guest_assert(guest, 0, 160, SEED);
    end(ms, guest);
}

static void test_error_is_rebuilt(gconstpointer opaque)
{
    const Case *c = opaque;
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, c->huge, c->scheme, c->group);
    unsigned fixed = errors_fixed;
    MemSchedProtectionInfo info = errors_query(guest);
    MemSchedClientInfo client;

    g_assert_cmpuint(info.parity_bytes, ==, FRAMES / c->group * 2 * MIB *
                     (c->scheme == MEMSCHED_SCHEME_PQ ? 2 : 1));
    if (c->huge) {
        guest_query(guest, &client);
        g_assert_cmpuint(client.huge_bytes, ==, FRAMES * 2 * MIB);
    }
    for (unsigned i = 0; i < 64; i++) {
        errors_inject(guest, i * 61);
    }
    g_assert_cmpuint(errors_query(guest).poisoned_bytes, ==, 64 * 4096);
    errors_check(guest);
    guest_assert(guest, 0, PAGES, SEED);
    g_assert_cmpuint(errors_fixed - fixed, ==, 64);
    info = errors_query(guest);
    g_assert_cmpuint(info.recovered_pages, ==, 64);
    g_assert_cmpuint(info.lost_pages, ==, 0);
    /* What was rebuilt is still covered. */
    g_assert_cmpuint(info.covered_bytes, ==, PAGES * 4096);
    end(ms, guest);
}

static void test_write_leaves_and_the_others_stay(gconstpointer opaque)
{
    const Case *c = opaque;
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, c->huge, c->scheme, c->group);
    uint64_t mate = errors_row_mate(guest, 100, 0);

    guest_fill(guest, 100, 1, 99);
    errors_inject(guest, mate);
    guest_assert(guest, mate, 1, SEED);
    guest_assert(guest, 100, 1, 99);
    g_assert_cmpuint(errors_query(guest).left_by_write_pages, >=,
                     c->huge ? 512 : 1);
    /* It cools down, and joins again with what it holds now. */
    errors_wait_covered(guest, PAGES);
    errors_inject(guest, 100);
    guest_assert(guest, 100, 1, 99);
    g_assert_cmpuint(errors_query(guest).lost_pages, ==, 0);
    end(ms, guest);
}

static void test_two_errors_of_one_stripe(gconstpointer opaque)
{
    const Case *c = opaque;
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, c->huge, c->scheme, c->group);
    uint64_t mate = errors_row_mate(guest, 9, 1), from, other;
    unsigned lost = errors_lost, k = 0;

    errors_inject(guest, 9);
    errors_inject(guest, mate);
    if (c->scheme == MEMSCHED_SCHEME_PQ) {
        guest_assert(guest, 0, PAGES, SEED);
        g_assert_cmpuint(errors_lost, ==, lost);
        g_assert_cmpuint(errors_query(guest).recovered_pages, ==, 2);
    } else {
        /* Neither is guessed; zeros, and said so. */
        g_assert_true(guest_page_is_zero(guest, 9));
        g_assert_true(guest_page_is_zero(guest, mate));
        g_assert_cmpuint(errors_lost - lost, ==, 2);
        g_assert_cmpuint(errors_query(guest).lost_pages, ==, 2);
        /*
         * The rest of that stripe is as safe as before; the two are members
         * again by then, perhaps, with their zeros.
         */
        from = mate == 9 + 512 ? 9 + 1024 : 9 + 512;
        do {
            other = errors_row_mate(guest, from, k++);
        } while (other == 9 || other == mate);
        errors_inject(guest, other);
        guest_assert(guest, other, 1, SEED);
    }
    end(ms, guest);
}

static void test_three_errors_of_one_stripe_are_too_many(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, false, MEMSCHED_SCHEME_PQ, 8);
    uint64_t a = errors_row_mate(guest, 9, 0), b = errors_row_mate(guest, 9, 1);

    errors_inject(guest, 9);
    errors_inject(guest, a);
    errors_inject(guest, b);
    g_assert_true(guest_page_is_zero(guest, a));
    g_assert_true(guest_page_is_zero(guest, b));
    g_assert_true(guest_page_is_zero(guest, 9));
    g_assert_cmpuint(errors_query(guest).lost_pages, ==, 3);
    end(ms, guest);
}

static void test_system_call_says_efault_and_is_repeated(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, true, MEMSCHED_SCHEME_P, 4);
    unsigned fixed = errors_fixed;
    int fd[2];

    g_assert_cmpint(pipe(fd), ==, 0);
    g_assert_cmpint(memsched_repair_range(guest->ram, guest->bytes), ==, 0);
    errors_inject(guest, 3);
    g_assert_cmpint(write(fd[1], at(guest, 3), 4096), ==, -1);
    g_assert_cmpint(errno, ==, EFAULT);
    g_assert_cmpint(memsched_repair_range(at(guest, 2) + 5, 8000), ==, 1);
    g_assert_cmpint(write(fd[1], at(guest, 3), 4096), ==, 4096);
    g_assert_cmpint(memsched_repair_range(at(guest, 0), 8 * 4096), ==, 0);
    g_assert_cmpint(memsched_repair_range(&ms, 8), ==, -ENOENT);
    g_assert_cmpuint(errors_fixed, ==, fixed);
    guest_assert(guest, 0, PAGES, SEED);
    close(fd[0]);
    close(fd[1]);
    end(ms, guest);
}

static void test_error_that_nobody_announced(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, true, MEMSCHED_SCHEME_P, 8);

    errors_break(guest, 700);
    errors_break(guest, 701);
    guest_assert(guest, 0, PAGES, SEED);
    g_assert_cmpuint(errors_query(guest).recovered_pages, ==, 2);
    end(ms, guest);
}

typedef struct Watched {
    unsigned recovered, lost;
    MemSchedError last;
} Watched;

static void watch(void *opaque, const MemSchedError *error)
{
    Watched *w = opaque;

    w->lost += error->lost;
    w->recovered += !error->lost;
    w->last = *error;
}

static void test_uncovered_page_is_lost_and_told(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, true);
    Watched w = { 0 };
    unsigned lost = errors_lost;

    memsched_watch_errors(ms, watch, &w);
    errors_inject(guest, 5);
    g_assert_true(guest_page_is_zero(guest, 5));
    g_assert_cmpuint(errors_lost - lost, ==, 1);
    g_assert_cmpuint(w.lost, ==, 1);
    g_assert_cmpstr(w.last.id, ==, "one");
    g_assert_cmpuint(w.last.offset_bytes, ==, 5 * 4096);
    g_assert_true(w.last.host == at(guest, 5));
    errors_inject(guest, 6);
    g_assert_cmpint(memsched_repair_range(guest->ram, guest->bytes), ==, -EIO);
    g_assert_cmpuint(w.lost, ==, 2);
    memsched_watch_errors(ms, NULL, NULL);
    g_assert_cmpuint(errors_query(guest).lost_bytes, ==, 2 * 4096);
    /* The guest may give it. */
    g_assert_cmpuint(guest_inflate(guest, 6, 1, false).captured_pages, ==, 1);
    g_assert_cmpuint(errors_query(guest).lost_bytes, ==, 4096);
    guest_deflate(guest, 6, 1);
    /* Written again, it is a page like others. */
    guest_fill(guest, 5, 1, SEED);
    guest_assert(guest, 0, 6, SEED);
    guest_assert(guest, 7, 505, SEED);
    end(ms, guest);
}

static void *toucher(void *opaque)
{
    g_assert_true(guest_page_is(opaque, 77, SEED));
    return NULL;
}

static void test_threads_on_one_page_share_a_repair(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, true, MEMSCHED_SCHEME_P, 4);

    for (unsigned round = 0; round < 20; round++) {
        GThread *thread[4];

        errors_inject(guest, 77);
        for (unsigned i = 0; i < 4; i++) {
            thread[i] = g_thread_new("toucher", toucher, guest);
        }
        for (unsigned i = 0; i < 4; i++) {
            g_thread_join(thread[i]);
        }
        g_assert_cmpuint(errors_query(guest).recovered_pages, ==, round + 1);
    }
    end(ms, guest);
}

static char *parity_of(Guest *guest, uint64_t page, unsigned k)
{
    MsProtect *p = ms_protect_of(guest->region);
    char *address;

    ms_lock(&p->lock);
    address = ms_parity_address(ms_stripes_member(&p->stripes,
                                                  page / 512)->group, k,
                                page % 512);
    ms_unlock(&p->lock);
    return address;
}

/* Break a parity page as the hardware would. */
static void break_parity(MemSched *ms, Guest *guest, uint64_t page, unsigned k)
{
    char *address = parity_of(guest, page, k);

    g_assert_cmpint(madvise(address, 4096, MADV_DONTNEED), ==, 0);
    g_assert_cmpint(ms_uffd_poison(ms_pool_uffd(ms->pool), address, 1, false),
                    ==, 0);
}

static void test_error_in_parity(gconstpointer opaque)
{
    const Case *c = opaque;
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, c->huge, c->scheme, c->group);
    uint64_t mate = errors_row_mate(guest, 20, 0);
    char *address;

    break_parity(ms, guest, 20, 0);
    if (c->scheme == MEMSCHED_SCHEME_PQ) {
        /* Q alone makes good for one. */
        errors_inject(guest, 20);
        guest_assert(guest, 20, 1, SEED);
        break_parity(ms, guest, 20, 1);
    }
    /* Met by our own thread, in the sums of a page that leaves. */
    guest_fill(guest, 20, 1, 5);
    guest_assert(guest, 20, 1, 5);
    /* The kernel may tell of it as well. */
    address = parity_of(guest, mate + 1, 0);
    break_parity(ms, guest, mate + 1, 0);
    g_assert_cmpint(memsched_repair_range(address, 1), ==, 1);
    g_assert_cmpint(memsched_repair_range(address, 1), ==, 0);
    /* All is summed anew once the page comes back, at the latest. */
    errors_wait_covered(guest, PAGES);
    for (unsigned i = 0; !is_in(guest, mate) && i < 200000; i++) {
        g_usleep(100);
    }
    g_assert_true(is_in(guest, mate));
    errors_inject(guest, mate);
    guest_assert(guest, mate, 1, SEED);
    g_assert_cmpuint(errors_query(guest).lost_pages, ==, 0);
    end(ms, guest);
}

static void test_captured_pages_leave_first(gconstpointer opaque)
{
    const Case *c = opaque;
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, c->huge, c->scheme, c->group);
    uint64_t mate = errors_row_mate(guest, 512, 0);
    MemSchedProtectionInfo info;

    guest_inflate(guest, 512, 512, true);
    guest_wait_ballooned(guest, 512);
    errors_check(guest);
    errors_inject(guest, mate);
    guest_assert(guest, mate, 1, SEED);
    info = errors_query(guest);
    g_assert_cmpuint(info.left_by_capture_pages, ==, 512);
    g_assert_cmpuint(info.covered_bytes, ==, (PAGES - 512) * 4096);
    /* Back again, with another content. */
    guest_deflate(guest, 512, 512);
    guest_assert_zero(guest, 512, 512);
    guest_fill(guest, 512, 512, 3);
    errors_wait_covered(guest, PAGES);
    errors_inject(guest, 600);
    guest_assert(guest, 512, 512, 3);
    guest_assert(guest, 0, 512, SEED);
    guest_report(guest, 0, 512);
    g_assert_cmpuint(errors_query(guest).covered_bytes, <=,
                     (PAGES - 512) * 4096);
    errors_check(guest);
    end(ms, guest);
}

/* Given pages are dead; their error costs nobody anything. */
static void test_given_page(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, true);

    guest_inflate(guest, 0, 10, true);
    errors_inject(guest, 4);
    g_assert_cmpint(memsched_repair_range(guest->ram, 4096 * 10), ==, 1);
    g_assert_cmpuint(errors_query(guest).recovered_dead_pages, ==, 1);
    guest_assert(guest, 10, 500, SEED);
    /* Or it is captured, broken as it is. */
    guest_inflate(guest, 512, 512, false);
    guest_inflate(guest, 1024, 511, true);
    errors_inject(guest, 1030);
    guest_check(ms);
    guest_inflate(guest, 1535, 1, true);
    guest_wait_ballooned(guest, 1024);
    end(ms, guest);
}

static void test_reset_forgets_errors(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, true, MEMSCHED_SCHEME_P, 4);
    uint64_t mate = errors_row_mate(guest, 9, 0);
    MemSchedProtectionInfo info;

    errors_inject(guest, 9);
    errors_inject(guest, mate);
    g_assert_true(guest_page_is_zero(guest, 9));
    memsched_reset(guest->client, MEMSCHED_RESET_SYSTEM);
    info = errors_query(guest);
    g_assert_cmpuint(info.lost_bytes + info.poisoned_bytes, ==, 0);
    g_assert_true(guest_page_is_zero(guest, mate));
    guest_fill(guest, 9, 1, 1);
    guest_fill(guest, mate, 1, 1);
    errors_wait_covered(guest, PAGES);
    errors_inject(guest, 9);
    guest_assert(guest, 9, 1, 1);
    /* And a region ends with some of both. */
    errors_inject(guest, 8);
    errors_inject(guest, errors_row_mate(guest, 8, 0));
    g_assert_true(guest_page_is_zero(guest, 8));
    end(ms, guest);
}

static void test_settings_change_and_cost_is_accounted(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, true, MEMSCHED_SCHEME_P, 4);
    MemSchedProtection limited = {
        .scheme = MEMSCHED_SCHEME_PQ, .group_size = 4, .cool_ms = 1,
        .max_parity_bytes = 4 * MIB, .rate_bytes_per_s = UINT64_C(1) << 40,
    };
    MemSchedMessage message;
    MemSchedInfo info;

    memsched_query(ms, &info);
    g_assert_cmpuint(info.parity_bytes, ==, 4 * MIB);
    g_assert_cmpuint(info.free_clean_bytes + info.free_dirty_bytes +
                     info.allocated_bytes + info.parity_bytes, ==,
                     info.pool_bytes);
    errors_protect(guest, MEMSCHED_SCHEME_NONE, 0);
    memsched_query(ms, &info);
    g_assert_cmpuint(info.parity_bytes, ==, 0);
    g_assert_cmpuint(errors_query(guest).covered_bytes, ==, 0);
    guest_fill(guest, 0, PAGES, SEED + 1);
    guest_check(ms);

    /* One group of P and Q is all that the limit allows. */
    g_assert_cmpint(memsched_protect(ms, "one", &limited, NULL), ==, 0);
    errors_wait_covered(guest, 4 * 512);
    g_assert_cmpuint(errors_query(guest).covered_bytes, ==, 4 * 2 * MIB);
    g_assert_cmpuint(errors_query(guest).parity_bytes, ==, 4 * MIB);
    errors_protect(guest, MEMSCHED_SCHEME_PQ, 8);
    errors_wait_covered(guest, PAGES);
    guest_assert(guest, 0, PAGES, SEED + 1);

    limited.group_size = 33;
    g_assert_cmpint(memsched_protect(ms, "one", &limited, &message), ==,
                    -EINVAL);
    g_assert_cmpint(memsched_protect(ms, "two", &limited, &message), ==,
                    -EINVAL);
    limited.group_size = 8;
    g_assert_cmpint(memsched_protect(ms, "two", &limited, &message), ==,
                    -ENOENT);
    end(ms, guest);
}

static void test_protected_pages_are_not_sampled(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, true, MEMSCHED_SCHEME_P, 4);

    g_assert_true(ms_region_enter_locked(guest->region));
    ms_unlock(&guest->region->lock);
    g_assert_cmpuint(ms_sample_take(guest->region, 0, 512), ==, 0);
    g_assert_cmpuint(ms_sample_take(guest->region, PAGES - 1, 512), ==, 0);
    ms_region_leave(guest->region);
    guest_assert(guest, 0, PAGES, SEED);
    end(ms, guest);
}

static void test_inject_refuses(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = guest_new(ms, "one", 4 * MIB, 0);
    MemSchedMessage message;

    g_assert_cmpint(memsched_inject_error(ms, "one", 0, &message), ==,
                    -ENODATA);
    g_assert_cmpint(memsched_inject_error(ms, "one", 4 * MIB, &message), ==,
                    -EFAULT);
    g_assert_cmpint(memsched_inject_error(ms, "two", 0, &message), ==,
                    -ENOENT);
    ms->allow_inject = false;
    g_assert_cmpint(memsched_inject_error(ms, "one", 0, &message), ==, -EPERM);
    end(ms, guest);
}

/* A DMA in flight: its page does not join; one that began later faults. */
static void test_fenced_page_does_not_join(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = new_guest(ms, true);

    memsched_dma_begin(at(guest, 512), 4096);
    errors_protect(guest, MEMSCHED_SCHEME_P, 4);
    errors_wait_covered(guest, PAGES - 512);
    g_assert_false(is_in(guest, 512));
    g_assert_cmpuint(errors_query(guest).covered_bytes, ==,
                     (PAGES - 512) * 4096);
    memsched_dma_end(at(guest, 512), 4096);
    errors_wait_covered(guest, PAGES);
    end(ms, guest);
}

static void test_kernel_writes_to_a_protected_page(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, true, MEMSCHED_SCHEME_PQ, 4);
    uint64_t mate = errors_row_mate(guest, 33, 0);
    int fd = open("/dev/zero", O_RDONLY);

    g_assert_cmpint(read(fd, at(guest, 33), 4096), ==, 4096);
    g_assert_true(guest_page_is_zero(guest, 33));
    errors_inject(guest, mate);
    guest_assert(guest, mate, 1, SEED);
    close(fd);
    end(ms, guest);
}

static void add_cases(const char *name, GTestDataFunc test)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *size = "small", *scheme = "pq";
        g_autofree char *path = NULL;

        if (cases[i].huge) {
            size = "huge";
        }
        if (cases[i].scheme == MEMSCHED_SCHEME_P) {
            scheme = "p";
        }
        path = g_strdup_printf("/protect/%s/%s-%s-%u", name, size, scheme,
                               cases[i].group);

        g_test_add_data_func(path, &cases[i], test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    add_cases("zeros-beside", test_zeros_beside_a_rebuilt_page_stay_pages);
    add_cases("error-is-rebuilt", test_error_is_rebuilt);
    add_cases("write-leaves-others-stay",
              test_write_leaves_and_the_others_stay);
    add_cases("two-errors-of-one-stripe", test_two_errors_of_one_stripe);
    add_cases("error-in-parity", test_error_in_parity);
    add_cases("captured-pages-leave-first", test_captured_pages_leave_first);
    g_test_add_func("/protect/three-errors-are-too-many",
                    test_three_errors_of_one_stripe_are_too_many);
    g_test_add_func("/protect/efault-is-repeated",
                    test_system_call_says_efault_and_is_repeated);
    g_test_add_func("/protect/unannounced-error",
                    test_error_that_nobody_announced);
    g_test_add_func("/protect/uncovered-page-is-lost-and-told",
                    test_uncovered_page_is_lost_and_told);
    g_test_add_func("/protect/threads-share-a-repair",
                    test_threads_on_one_page_share_a_repair);
    g_test_add_func("/protect/given-page-is-dead", test_given_page);
    g_test_add_func("/protect/reset-forgets-errors",
                    test_reset_forgets_errors);
    g_test_add_func("/protect/settings-change-cost-is-accounted",
                    test_settings_change_and_cost_is_accounted);
    g_test_add_func("/protect/protected-page-is-not-sampled",
                    test_protected_pages_are_not_sampled);
    g_test_add_func("/protect/inject-refuses", test_inject_refuses);
    g_test_add_func("/protect/fenced-page-does-not-join",
                    test_fenced_page_does_not_join);
    g_test_add_func("/protect/kernel-writes-to-protected-page",
                    test_kernel_writes_to_a_protected_page);
    return g_test_run();
}
