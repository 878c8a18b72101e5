/*
 * The real table of OS calls: errors are negative results
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "fake-sys.h"
#include "sys.h"

static void test_errors_are_negative_errno(void)
{
    const MsSys *sys = ms_sys_real();
    void *p = NULL;
    char c;

    g_assert_cmpint(sys->open(sys, "/nonexistent", O_RDONLY), ==, -ENOENT);
    g_assert_cmpint(sys->close(sys, -1), ==, -EBADF);
    g_assert_cmpint(sys->read(sys, -1, &c, 1), ==, -EBADF);
    g_assert_cmpint(sys->pread(sys, -1, &c, 1, 0), ==, -EBADF);
    g_assert_cmpint(sys->write(sys, -1, &c, 1), ==, -EBADF);
    g_assert_cmpint(sys->ioctl(sys, -1, 0, NULL), ==, -EBADF);
    g_assert_cmpint(sys->mmap(sys, NULL, 0, PROT_READ,
                              MAP_PRIVATE | MAP_ANONYMOUS, &p), ==, -EINVAL);
    g_assert_null(p);
    g_assert_cmpint(sys->munmap(sys, (void *)1, 1), ==, -EINVAL);
    g_assert_cmpint(sys->madvise(sys, (void *)1, 1, MADV_NORMAL), ==,
                    -EINVAL);
}

static void test_descriptors_carry_data(void)
{
    const MsSys *sys = ms_sys_real();
    uint64_t value = 5;
    int fd = sys->eventfd(sys, 0, 0);
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(sys->poll(sys, &pfd, 1, 0), ==, 0);
    g_assert_cmpint(sys->write(sys, fd, &value, 8), ==, 8);
    g_assert_cmpint(sys->poll(sys, &pfd, 1, 0), ==, 1);
    value = 0;
    g_assert_cmpint(sys->read(sys, fd, &value, 8), ==, 8);
    g_assert_cmpuint(value, ==, 5);
    g_assert_cmpint(sys->close(sys, fd), ==, 0);
}

static void test_random_bytes_differ(void)
{
    const MsSys *sys = ms_sys_real();
    uint8_t a[32] = { 0 }, b[32] = { 0 };

    g_assert_cmpint(sys->random(sys, a, sizeof(a)), ==, 0);
    g_assert_cmpint(sys->random(sys, b, sizeof(b)), ==, 0);
    g_assert_cmpint(memcmp(a, b, sizeof(a)), !=, 0);
}

static void test_clock_rises_and_sleep_takes_its_time(void)
{
    const MsSys *sys = ms_sys_real();
    uint64_t before = sys->now_ns(sys);

    g_assert_cmpuint(before, >, 0);
    sys->sleep_ns(sys, 1000 * 1000);
    g_assert_cmpuint(sys->now_ns(sys) - before, >=, 1000 * 1000);
}

static void test_small_file_is_read_whole_or_cut(void)
{
    FakeSys *fake = fake_sys_new();
    const MsSys *sys = fake_sys(fake);
    char buf[8];

    fake_file(fake, "/f", "abc\n");
    g_assert_cmpint(ms_sys_read_file(sys, "/f", buf, sizeof(buf)), ==, 4);
    g_assert_cmpstr(buf, ==, "abc\n");
    fake_file(fake, "/f", "0123456789");
    g_assert_cmpint(ms_sys_read_file(sys, "/f", buf, sizeof(buf)), ==, 7);
    g_assert_cmpstr(buf, ==, "0123456");
    g_assert_cmpint(ms_sys_read_file(sys, "/g", buf, sizeof(buf)), ==,
                    -ENOENT);
    fake_fail(fake, FAKE_READ_FILE, 0, 1, -EIO);
    g_assert_cmpint(ms_sys_read_file(sys, "/f", buf, sizeof(buf)), ==, -EIO);
    fake_sys_free(fake);
}

static void test_peek_and_poke(void)
{
    const MsSys *sys = ms_sys_real();
    char buf[8192], *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(map != MAP_FAILED);
    memset(map, 7, 8192);
    g_assert_cmpint(sys->peek(sys, buf, map, 8192), ==, 8192);
    g_assert_cmpmem(buf, 8192, map, 8192);
    memset(buf, 8, 8192);
    g_assert_cmpint(sys->poke(sys, map, buf, 8192), ==, 8192);
    g_assert_cmpmem(buf, 8192, map, 8192);
    g_assert_cmpint(mprotect(map + 4096, 4096, PROT_NONE), ==, 0);
    g_assert_cmpint(sys->peek(sys, buf, map, 8192), ==, 4096);
    g_assert_cmpint(sys->poke(sys, map, buf, 8192), ==, 4096);
    g_assert_cmpint(sys->peek(sys, buf, map + 4096, 1), ==, -EFAULT);
    g_assert_cmpint(sys->poke(sys, map + 4096, buf, 1), ==, -EFAULT);
    munmap(map, 8192);
}

static void *futex_sleeper(void *opaque)
{
    _Atomic uint32_t *word = opaque;
    const MsSys *sys = ms_sys_real();

    while (atomic_load(word) == 1) {
        sys->futex_wait(sys, word, 1);
    }
    return NULL;
}

static void test_futex(void)
{
    const MsSys *sys = ms_sys_real();
    _Atomic uint32_t word = 1;
    GThread *thread = g_thread_new("sleeper", futex_sleeper, &word);

    g_assert_cmpint(sys->gettid(sys), >, 0);
    sys->futex_wait(sys, &word, 2);     /* it is not 2: returns at once */
    atomic_store(&word, 0);
    sys->futex_wake(sys, &word);
    g_thread_join(thread);
}

/* Cancelled before it begins: the calls go through, then it ends. */
static void *call_cancelled(void *opaque)
{
    const MsSys *sys = ms_sys_real();
    bool *done = opaque;
    uint64_t value = 5;
    char buf[16];
    int fd = sys->eventfd(sys, 0, 0);
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    pthread_cancel(pthread_self());
    g_assert_cmpint(sys->write(sys, fd, &value, 8), ==, 8);
    g_assert_cmpint(sys->poll(sys, &pfd, 1, 0), ==, 1);
    g_assert_cmpint(sys->read(sys, fd, &value, 8), ==, 8);
    g_assert_cmpint(sys->pread(sys, fd, &value, 8, 0), ==, -ESPIPE);
    g_assert_cmpint(sys->close(sys, fd), ==, 0);
    g_assert_cmpint(sys->open(sys, "/nonexistent", O_RDONLY), ==, -ENOENT);
    g_assert_cmpint(ms_sys_read_file(sys, "/proc/self/comm", buf,
                                     sizeof(buf)), >, 0);
    sys->sleep_ns(sys, 1);
    *done = true;
    pthread_testcancel();
    g_assert_not_reached();
}

static void test_cancelled_thread_comes_back_from_each_call(void)
{
    bool done = false;
    pthread_t thread;
    void *value = NULL;

    g_assert_cmpint(pthread_create(&thread, NULL, call_cancelled, &done), ==,
                    0);
    pthread_join(thread, &value);
    g_assert_true(done);
    g_assert_true(value == PTHREAD_CANCELED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sys/peek-and-poke-say-how-far-they-came",
                    test_peek_and_poke);
    g_test_add_func("/sys/futex-wakes-who-sleeps", test_futex);
    g_test_add_func("/sys/errors-are-negative-errno",
                    test_errors_are_negative_errno);
    g_test_add_func("/sys/descriptors-carry-data",
                    test_descriptors_carry_data);
    g_test_add_func("/sys/random-bytes-differ", test_random_bytes_differ);
    g_test_add_func("/sys/clock-rises-and-sleep-takes-its-time",
                    test_clock_rises_and_sleep_takes_its_time);
    g_test_add_func("/sys/small-file-is-read-whole-or-cut",
                    test_small_file_is_read_whole_or_cut);
    g_test_add_func("/sys/cancelled-thread-comes-back-from-each-call",
                    test_cancelled_thread_comes_back_from_each_call);
    return g_test_run();
}
