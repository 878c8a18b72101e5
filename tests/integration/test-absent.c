/*
 * Protection and pages that are not there, or that nobody can read now
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <sys/mman.h>

#include "errors.h"
#include "instance.h"
#include "protect-int.h"

#define MIB     (UINT64_C(1) << 20)
#define FRAMES  8u
#define PAGES   (FRAMES * 512u)
#define POOL    (64 * MIB)
#define SEED    7u

/* Small pages, all covered. */
static Guest *covered_guest(MemSched *ms, MemSchedScheme scheme)
{
    Guest *guest = guest_new(ms, "one", FRAMES * 2 * MIB, 0);

    guest_no_huge(guest);
    guest_fill(guest, 0, PAGES, SEED);
    errors_protect(guest, scheme, 4);
    errors_wait_covered(guest, PAGES);
    return guest;
}

static void end(MemSched *ms, Guest *guest)
{
    errors_check(guest);
    guest_free(guest);
    guest_stop(ms);
}

static char *at(Guest *guest, uint64_t page)
{
    return guest->ram + page * MEMSCHED_PAGE_SIZE;
}

static bool is_hole(Guest *guest, uint64_t page)
{
    return ms_pagemap_is_hole(ms_pool_pagemap(guest->ms->pool),
                              at(guest, page)) == 1;
}

/* Somebody discards a page behind our back: never again its old content. */
static void test_discarded_page_is_not_raised_from_the_dead(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, MEMSCHED_SCHEME_P);
    uint64_t mate = errors_row_mate(guest, 40, 0);

    g_assert_cmpint(madvise(at(guest, 40), 4096, MADV_DONTNEED), ==, 0);
    g_assert_true(guest_page_is_zero(guest, 40));
    errors_inject(guest, 40);
    g_assert_true(guest_page_is_zero(guest, 40));
    errors_wait_covered(guest, PAGES - 1);
    errors_inject(guest, mate);
    guest_assert(guest, mate, 1, SEED);
    end(ms, guest);
}

/*
 * Nor is it touched for the sake of another: its fault might have to wait for
 * memory, and a repair waits for nobody.
 */
static void test_repair_touches_no_hole(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, MEMSCHED_SCHEME_PQ);
    uint64_t mate = errors_row_mate(guest, 40, 0);

    g_assert_cmpint(madvise(at(guest, 40), 4096, MADV_DONTNEED), ==, 0);
    errors_inject(guest, mate);
    guest_assert(guest, mate, 1, SEED);
    g_assert_true(is_hole(guest, 40));
    /* A write to another mate changes the row. */
    guest_fill(guest, errors_row_mate(guest, 40, 1), 1, 99);
    g_assert_true(is_hole(guest, 40));
    g_assert_true(guest_page_is_zero(guest, 40));
    end(ms, guest);
}

static void *writer(void *opaque)
{
    guest_fill(opaque, 40, 1, 99);
    return NULL;
}

/* A page that cannot be read now is not written to before it has left. */
static void test_write_waits_for_what_cannot_be_read(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = covered_guest(ms, MEMSCHED_SCHEME_P);
    MsProtect *p = ms_protect_of(guest->region);
    GThread *thread;
    bool in;

    /* The kernel will not, though the CPU could. */
    g_assert_cmpint(mprotect(at(guest, 40), 4096, PROT_WRITE), ==, 0);
    thread = g_thread_new("writer", writer, guest);
    g_usleep(50000);            /* it tries again and again meanwhile */
    ms_lock(&p->lock);
    in = ms_pageset_has(&ms_stripes_member(&p->stripes, 0)->in, 40);
    ms_unlock(&p->lock);
    /* Had it been written to, the sums would say so in the end. */
    g_assert_true(in);
    g_assert_cmpint(mprotect(at(guest, 40), 4096, PROT_READ | PROT_WRITE), ==,
                    0);
    g_thread_join(thread);
    guest_assert(guest, 40, 1, 99);
    end(ms, guest);
}

/* The file has what the mapping has lost: it must not come back. */
static void test_lost_page_of_shared_ram_is_zeros(void)
{
    MemSched *ms = errors_start(POOL);
    Guest *guest = guest_new_shared(ms, "one", 4 * MIB, 0);
    unsigned lost = errors_lost;

    if (guest == NULL) {
        g_test_skip("this kernel moves no shared memory");
        guest_stop(ms);
        return;
    }
    guest_fill(guest, 0, 1024, SEED);
    errors_inject(guest, 7);
    g_assert_true(guest_page_is_zero(guest, 7));
    g_assert_cmpuint(errors_lost, ==, lost + 1);
    g_assert_cmpuint(errors_query(guest).lost_pages, ==, 1);
    guest_assert(guest, 0, 7, SEED);
    guest_assert(guest, 8, 1016, SEED);
    guest_free(guest);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!guest_usable()) {
        return g_test_run();
    }
    g_test_add_func("/absent/discarded-page-stays-dead",
                    test_discarded_page_is_not_raised_from_the_dead);
    g_test_add_func("/absent/repair-touches-no-hole",
                    test_repair_touches_no_hole);
    g_test_add_func("/absent/write-waits-for-what-cannot-be-read",
                    test_write_waits_for_what_cannot_be_read);
    g_test_add_func("/absent/lost-page-of-shared-ram",
                    test_lost_page_of_shared_ram_is_zeros);
    return g_test_run();
}
