/*
 * What the host allows: refusals and memory limits, with the fake kernel
 *
 * The trial of a read() into a hole needs a real kernel: test-uffd-real has
 * it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "fake-sys.h"
#include "probe.h"

#define MIB(n) ((uint64_t)(n) << 20)

static void test_no_permission_names_the_three_ways(void)
{
    FakeSys *fake = fake_sys_new();
    MemSchedKernel kernel;
    MemSchedMessage message = { "" };

    fake_fail(fake, FAKE_OPEN_DEV, 0, 9, -EACCES);
    fake_fail(fake, FAKE_USERFAULTFD, 0, 9, -EPERM);
    g_assert_cmpint(ms_probe_kernel(fake_sys(fake), &kernel, &message), ==,
                    -EPERM);
    g_assert_nonnull(strstr(message.text, "/dev/userfaultfd"));
    g_assert_nonnull(strstr(message.text, "CAP_SYS_PTRACE"));
    g_assert_nonnull(strstr(message.text, "vm.unprivileged_userfaultfd"));
    fake_sys_free(fake);
}

static void test_no_userfaultfd_is_enosys(void)
{
    FakeSys *fake = fake_sys_new();
    MemSchedKernel kernel;
    MemSchedMessage message = { "" };

    fake_fail(fake, FAKE_OPEN_DEV, 0, 9, -ENOENT);
    fake_fail(fake, FAKE_USERFAULTFD, 0, 9, -ENOSYS);
    g_assert_cmpint(ms_probe_kernel(fake_sys(fake), &kernel, &message), ==,
                    -ENOSYS);
    g_assert_nonnull(strstr(message.text, "CONFIG_USERFAULTFD"));
    fake_sys_free(fake);
}

static void test_failed_probe_without_message_is_fine(void)
{
    FakeSys *fake = fake_sys_new();
    MemSchedKernel kernel = { .release = "untouched" };

    fake_fail(fake, FAKE_OPEN_DEV, 0, 9, -EACCES);
    fake_fail(fake, FAKE_USERFAULTFD, 0, 9, -EPERM);
    g_assert_cmpint(ms_probe_kernel(fake_sys(fake), &kernel, NULL), ==,
                    -EPERM);
    g_assert_cmpstr(kernel.release, ==, "untouched");
    fake_sys_free(fake);
}

static FakeSys *host(const char *meminfo)
{
    FakeSys *fake = fake_sys_new();

    fake_file(fake, "/proc/meminfo", meminfo);
    return fake;
}

static void test_pool_within_available_memory_fits(void)
{
    FakeSys *fake = host("MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n");
    MemSchedMessage message = { "" };

    g_assert_cmpint(ms_probe_pool_fits(fake_sys(fake), MIB(960), &message),
                    ==, 0);
    g_assert_cmpint(ms_probe_pool_fits(fake_sys(fake), MIB(961), &message),
                    ==, -ENOMEM);
    g_assert_nonnull(strstr(message.text, "961 MiB"));
    g_assert_nonnull(strstr(message.text, "1024 MiB"));
    g_assert_cmpint(ms_probe_pool_fits(fake_sys(fake), UINT64_MAX, NULL), ==,
                    -ENOMEM);
    fake_sys_free(fake);
}

static void test_tightest_cgroup_above_us_counts(void)
{
    FakeSys *fake = host("MemAvailable: 8388608 kB\n");
    MemSchedMessage message = { "" };
    MsProbeMemory memory;

    fake_file(fake, "/proc/self/cgroup", "0::/a/b\n");
    fake_file(fake, "/sys/fs/cgroup/a/b/memory.max", "max\n");
    fake_file(fake, "/sys/fs/cgroup/a/b/memory.current", "1000\n");
    fake_file(fake, "/sys/fs/cgroup/a/memory.max", "1073741824\n");
    fake_file(fake, "/sys/fs/cgroup/a/memory.current", "536870912\n");
    g_assert_cmpint(ms_probe_memory(fake_sys(fake), &memory), ==, 0);
    g_assert_cmpuint(memory.available_bytes, ==, MIB(8192));
    g_assert_cmpuint(memory.cgroup_free_bytes, ==, MIB(512));
    g_assert_cmpint(ms_probe_pool_fits(fake_sys(fake), MIB(449), &message),
                    ==, -ENOMEM);
    g_assert_nonnull(strstr(message.text, "cgroup"));
    g_assert_cmpint(ms_probe_pool_fits(fake_sys(fake), MIB(448), &message),
                    ==, 0);
    fake_sys_free(fake);
}

static void test_cgroup_of_version_1_counts_too(void)
{
    FakeSys *fake = host("MemAvailable: 8388608 kB\n");
    MsProbeMemory memory;

    fake_file(fake, "/proc/self/cgroup", "12:cpu:/x\n5:memory:/m\n");
    fake_file(fake, "/sys/fs/cgroup/memory/m/memory.limit_in_bytes",
              "268435456\n");
    fake_file(fake, "/sys/fs/cgroup/memory/m/memory.usage_in_bytes",
              "268435457\n");
    fake_file(fake, "/sys/fs/cgroup/memory/memory.limit_in_bytes",
              "9223372036854771712\n");
    fake_file(fake, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n");
    g_assert_cmpint(ms_probe_memory(fake_sys(fake), &memory), ==, 0);
    g_assert_cmpuint(memory.cgroup_free_bytes, ==, 0);
    fake_sys_free(fake);
}

static void test_no_cgroup_files_mean_no_limit(void)
{
    FakeSys *fake = host("MemAvailable: 1024 kB\n");
    MsProbeMemory memory;

    g_assert_cmpint(ms_probe_memory(fake_sys(fake), &memory), ==, 0);
    g_assert_cmpuint(memory.cgroup_free_bytes, ==, UINT64_MAX);
    fake_file(fake, "/proc/self/cgroup", "nonsense\n:\n0::/../..\n");
    g_assert_cmpint(ms_probe_memory(fake_sys(fake), &memory), ==, 0);
    g_assert_cmpuint(memory.cgroup_free_bytes, ==, UINT64_MAX);
    fake_sys_free(fake);
}

static void test_no_meminfo_is_said(void)
{
    FakeSys *fake = fake_sys_new();
    MemSchedMessage message = { "" };

    g_assert_cmpint(ms_probe_pool_fits(fake_sys(fake), 1, &message), ==,
                    -ENOENT);
    g_assert_nonnull(strstr(message.text, "/proc/meminfo"));
    fake_sys_free(fake);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/probe/no-permission-names-the-three-ways",
                    test_no_permission_names_the_three_ways);
    g_test_add_func("/probe/no-userfaultfd-is-enosys",
                    test_no_userfaultfd_is_enosys);
    g_test_add_func("/probe/failed-probe-without-message-is-fine",
                    test_failed_probe_without_message_is_fine);
    g_test_add_func("/probe/pool-within-available-memory-fits",
                    test_pool_within_available_memory_fits);
    g_test_add_func("/probe/tightest-cgroup-above-us-counts",
                    test_tightest_cgroup_above_us_counts);
    g_test_add_func("/probe/cgroup-of-version-1-counts-too",
                    test_cgroup_of_version_1_counts_too);
    g_test_add_func("/probe/no-cgroup-files-mean-no-limit",
                    test_no_cgroup_files_mean_no_limit);
    g_test_add_func("/probe/no-meminfo-is-said", test_no_meminfo_is_said);
    return g_test_run();
}
