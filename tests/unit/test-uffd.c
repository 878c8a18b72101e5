/*
 * userfaultfd wrapper: every outcome, with the fake kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "abi.h"
#include "fake-sys.h"
#include "memsched/types.h"
#include "uffd.h"

#define PAGES 1024u

typedef struct Fixture {
    FakeSys *fake;
    const MsSys *sys;
    MsUffd uffd;
    void *src_map, *dst_map;
    char *src, *dst;
} Fixture;

static void setup(Fixture *f, const void *data)
{
    size_t bytes = PAGES * MEMSCHED_PAGE_SIZE;

    f->fake = fake_sys_new();
    f->sys = fake_sys(f->fake);
    g_assert_cmpint(ms_uffd_open(&f->uffd, f->sys, MS_UFFD_MOVE), ==, 0);
    f->sys->mmap(f->sys, NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, &f->src_map);
    f->sys->mmap(f->sys, NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, &f->dst_map);
    f->src = f->src_map;
    f->dst = f->dst_map;
}

static void teardown(Fixture *f, const void *data)
{
    f->sys->munmap(f->sys, f->src_map, PAGES * MEMSCHED_PAGE_SIZE);
    f->sys->munmap(f->sys, f->dst_map, PAGES * MEMSCHED_PAGE_SIZE);
    ms_uffd_close(&f->uffd);
    fake_sys_free(f->fake);
}

static char *page(char *base, unsigned index)
{
    return base + index * MEMSCHED_PAGE_SIZE;
}

static MsMoveResult move(Fixture *f, unsigned pages)
{
    return ms_uffd_move(&f->uffd, f->dst, f->src, pages, true);
}

static void test_whole_run_moves_in_one_call(Fixture *f, const void *data)
{
    MsMoveResult r;

    fake_touch(f->fake, f->src, 64);
    f->src[5] = 7;
    r = move(f, 64);
    g_assert_cmpint(r.stop, ==, MS_MOVE_DONE);
    g_assert_cmpuint(r.moved_pages, ==, 64);
    g_assert_cmpuint(r.calls, ==, 1);
    g_assert_cmpint(f->dst[5], ==, 7);
    g_assert_cmpint(f->src[5], ==, 0);
}

static void test_empty_run_makes_no_call(Fixture *f, const void *data)
{
    MsMoveResult r = move(f, 0);

    g_assert_cmpint(r.stop, ==, MS_MOVE_DONE);
    g_assert_cmpuint(r.calls, ==, 0);
}

/* What the kernel says for the page in question, and what that is called. */
static const struct {
    int rc;
    MsMoveStop stop;
} causes[] = {
    { -EBUSY, MS_MOVE_BUSY },
    { -EEXIST, MS_MOVE_EXISTS },
    { -ENOENT, MS_MOVE_NOENT },
    { -EFAULT, MS_MOVE_FAULT },
    { -EAGAIN, MS_MOVE_AGAIN },
    { -EINVAL, MS_MOVE_INVAL },
    { -EPERM, MS_MOVE_INVAL },
    { -ENOMEM, MS_MOVE_NOMEM },
    { -ESRCH, MS_MOVE_GONE },
    { -EINTR, MS_MOVE_GONE },
};

static void test_cause_at_first_page_is_named(Fixture *f, const void *data)
{
    fake_touch(f->fake, f->src, 16);
    for (size_t i = 0; i < G_N_ELEMENTS(causes); i++) {
        MsMoveResult r;

        fake_block(f->fake, f->src, causes[i].rc);
        r = move(f, 16);
        g_assert_cmpint(r.stop, ==, causes[i].stop);
        g_assert_cmpuint(r.moved_pages, ==, 0);
    }
}

static void test_cause_in_the_middle_is_named(Fixture *f, const void *data)
{
    for (size_t i = 0; i < G_N_ELEMENTS(causes); i++) {
        MsMoveResult r;

        f->sys->madvise(f->sys, f->dst, 64 * MEMSCHED_PAGE_SIZE,
                        MADV_DONTNEED);
        fake_touch(f->fake, f->src, 16);
        fake_block(f->fake, page(f->src, 9), causes[i].rc);
        r = move(f, 16);
        g_assert_cmpint(r.stop, ==, causes[i].stop);
        g_assert_cmpuint(r.moved_pages, ==, 9);
        g_assert_cmpuint(r.calls, >=, 2);
        fake_block(f->fake, page(f->src, 9), 0);
    }
}

static void test_interrupted_run_goes_on(Fixture *f, const void *data)
{
    MsMoveResult r;

    fake_touch(f->fake, f->src, 64);
    fake_interrupt(f->fake, 10);
    r = move(f, 64);
    g_assert_cmpint(r.stop, ==, MS_MOVE_DONE);
    g_assert_cmpuint(r.moved_pages, ==, 64);
    g_assert_cmpuint(r.calls, ==, 2);
}

static void test_short_again_is_tried_again(Fixture *f, const void *data)
{
    MsMoveResult r;

    fake_touch(f->fake, f->src, 8);
    fake_fail(f->fake, FAKE_MOVE, 0, 2, -EAGAIN);
    r = move(f, 8);
    g_assert_cmpint(r.stop, ==, MS_MOVE_DONE);
    g_assert_cmpuint(r.calls, ==, 3);
}

static void test_lasting_again_ends_after_bounded_tries(Fixture *f,
                                                        const void *data)
{
    MsMoveResult r;

    fake_touch(f->fake, f->src, 8);
    fake_fail(f->fake, FAKE_MOVE, 0, 1000, -EAGAIN);
    r = move(f, 8);
    g_assert_cmpint(r.stop, ==, MS_MOVE_AGAIN);
    g_assert_cmpuint(r.moved_pages, ==, 0);
    g_assert_cmpuint(r.calls, <=, 8);
}

static void test_populated_destination_is_exists(Fixture *f, const void *data)
{
    MsMoveResult r;

    fake_touch(f->fake, f->src, 8);
    fake_touch(f->fake, page(f->dst, 3), 1);
    r = move(f, 8);
    g_assert_cmpint(r.stop, ==, MS_MOVE_EXISTS);
    g_assert_cmpuint(r.moved_pages, ==, 3);
}

static void test_poison_marker_is_fault_or_exists(Fixture *f,
                                                  const void *data)
{
    MsMoveResult r;

    g_assert_cmpint(ms_uffd_poison(&f->uffd, page(f->src, 2), 1, false), ==,
                    0);
    fake_touch(f->fake, f->src, 2);
    r = move(f, 4);
    g_assert_cmpint(r.stop, ==, MS_MOVE_FAULT);
    g_assert_cmpuint(r.moved_pages, ==, 2);
    g_assert_cmpint(ms_uffd_poison(&f->uffd, f->dst, 1, false), ==, -EEXIST);
    g_assert_cmpint(ms_uffd_poison(&f->uffd, page(f->dst, 9), 1, false), ==,
                    0);
    fake_touch(f->fake, page(f->src, 9), 1);
    r = ms_uffd_move(&f->uffd, page(f->dst, 9), page(f->src, 9), 1, false);
    g_assert_cmpint(r.stop, ==, MS_MOVE_EXISTS);
}

static void test_copy_stops_where_a_page_exists(Fixture *f, const void *data)
{
    MsMoveResult r;

    fake_touch(f->fake, page(f->dst, 5), 1);
    f->src[1] = 9;
    r = ms_uffd_copy(&f->uffd, f->dst, f->src, 8, true, true);
    g_assert_cmpint(r.stop, ==, MS_MOVE_EXISTS);
    g_assert_cmpuint(r.moved_pages, ==, 5);
    g_assert_cmpint(f->dst[1], ==, 9);
}

static void test_protect_repeats_when_told_again(Fixture *f, const void *data)
{
    fake_fail(f->fake, FAKE_PROTECT, 0, 2, -EAGAIN);
    g_assert_cmpint(ms_uffd_protect(&f->uffd, f->src, 8, true, false), ==, 0);
    g_assert_cmpuint(fake_calls(f->fake, FAKE_PROTECT), ==, 3);
    fake_fail(f->fake, FAKE_PROTECT, 0, 1, -ENOENT);
    g_assert_cmpint(ms_uffd_protect(&f->uffd, f->src, 8, false, true), ==,
                    -ENOENT);
}

static void test_register_hands_errors_on(Fixture *f, const void *data)
{
    fake_fail(f->fake, FAKE_REGISTER, 0, 1, -EBUSY);
    g_assert_cmpint(ms_uffd_register(&f->uffd, f->src, 8,
                                     MS_UFFD_MODE_MISSING), ==, -EBUSY);
    g_assert_cmpint(ms_uffd_register(&f->uffd, f->src, 8,
                                     MS_UFFD_MODE_WP), ==, 0);
    g_assert_cmpint(ms_uffd_unregister(&f->uffd, f->src, 8), ==, 0);
    g_assert_cmpint(ms_uffd_wake(&f->uffd, f->src, 8), ==, 0);
}

static void test_read_gives_events_and_zero_when_none(Fixture *f,
                                                      const void *data)
{
    MsFault in = {
        .address = 0x7000, .write = true, .protected_page = true,
        .thread_id = 42,
    };
    MsFault out[4];

    g_assert_cmpint(ms_uffd_read(&f->uffd, out, 4), ==, 0);
    fake_event(f->fake, &in);
    in.write = in.protected_page = false;
    in.address = 0x9000;
    fake_event(f->fake, &in);
    g_assert_cmpint(ms_uffd_read(&f->uffd, out, 4), ==, 2);
    g_assert_cmphex(out[0].address, ==, 0x7000);
    g_assert_true(out[0].write && out[0].protected_page);
    g_assert_cmpuint(out[0].thread_id, ==, 42);
    g_assert_cmphex(out[1].address, ==, 0x9000);
    g_assert_false(out[1].write || out[1].protected_page);
    fake_fail(f->fake, FAKE_READ, 0, 1, -EINVAL);
    g_assert_cmpint(ms_uffd_read(&f->uffd, out, 4), ==, -EINVAL);
}

static void test_open_falls_back_to_the_system_call(void)
{
    FakeSys *fake = fake_sys_new();
    MsUffd uffd;

    fake_fail(fake, FAKE_OPEN_DEV, 0, 1, -ENOENT);
    g_assert_cmpint(ms_uffd_open(&uffd, fake_sys(fake), MS_UFFD_MOVE), ==, 0);
    ms_uffd_close(&uffd);
    ms_uffd_close(&uffd);       /* closed already: fine */
    fake_sys_free(fake);
}

static void test_open_refused_everywhere_is_eperm(void)
{
    FakeSys *fake = fake_sys_new();
    MsUffd uffd;

    fake_fail(fake, FAKE_OPEN_DEV, 0, 9, -EACCES);
    fake_fail(fake, FAKE_USERFAULTFD, 0, 9, -EPERM);
    g_assert_cmpint(ms_uffd_open(&uffd, fake_sys(fake), 0), ==, -EPERM);
    fake_fail(fake, FAKE_USERFAULTFD, 0, 9, -ENOSYS);
    g_assert_cmpint(ms_uffd_features(fake_sys(fake)), ==, -EPERM);
    g_assert_cmpint(uffd.fd, ==, -1);
    fake_sys_free(fake);
}

static void test_open_without_a_feature_is_enosys(void)
{
    FakeSys *fake = fake_sys_new();
    MsUffd uffd;

    fake_features(fake, MS_ABI_FEATURE_PAGEFAULT_WP);
    g_assert_cmpint(ms_uffd_open(&uffd, fake_sys(fake), MS_UFFD_MOVE), ==,
                    -ENOSYS);
    g_assert_cmpint(ms_uffd_features(fake_sys(fake)), ==, MS_UFFD_WP);
    fake_sys_free(fake);
}

static void test_every_stop_has_a_name(void)
{
    for (int stop = 0; stop < MS_MOVE_STOPS; stop++) {
        g_assert_cmpstr(ms_move_stop_name(stop), !=, "?");
    }
    g_assert_cmpstr(ms_move_stop_name(MS_MOVE_STOPS), ==, "?");
}

#define ADD(name, func) \
    g_test_add("/uffd/" name, Fixture, NULL, setup, func, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("whole-run-moves-in-one-call", test_whole_run_moves_in_one_call);
    ADD("empty-run-makes-no-call", test_empty_run_makes_no_call);
    ADD("cause-at-first-page-is-named", test_cause_at_first_page_is_named);
    ADD("cause-in-the-middle-is-named", test_cause_in_the_middle_is_named);
    ADD("interrupted-run-goes-on", test_interrupted_run_goes_on);
    ADD("short-again-is-tried-again", test_short_again_is_tried_again);
    ADD("lasting-again-ends-after-bounded-tries",
        test_lasting_again_ends_after_bounded_tries);
    ADD("populated-destination-is-exists",
        test_populated_destination_is_exists);
    ADD("poison-marker-is-fault-or-exists",
        test_poison_marker_is_fault_or_exists);
    ADD("copy-stops-where-a-page-exists",
        test_copy_stops_where_a_page_exists);
    ADD("protect-repeats-when-told-again",
        test_protect_repeats_when_told_again);
    ADD("register-hands-errors-on", test_register_hands_errors_on);
    ADD("read-gives-events-and-zero-when-none",
        test_read_gives_events_and_zero_when_none);
    g_test_add_func("/uffd/open-falls-back-to-the-system-call",
                    test_open_falls_back_to_the_system_call);
    g_test_add_func("/uffd/open-refused-everywhere-is-eperm",
                    test_open_refused_everywhere_is_eperm);
    g_test_add_func("/uffd/open-without-a-feature-is-enosys",
                    test_open_without_a_feature_is_enosys);
    g_test_add_func("/uffd/every-stop-has-a-name",
                    test_every_stop_has_a_name);
    return g_test_run();
}
