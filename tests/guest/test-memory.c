/*
 * What the agent reads of the guest's memory, and what it makes of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>

#include "memory.h"
#include "options.h"
#include "size.h"
#include "spare.h"
#include "standard-headers/linux/virtio_balloon_ex.h"

#define MIB (UINT64_C(1) << 20)

static void test_figures_of_this_machine_are_understood(void)
{
    MemoryState m;

    g_assert_cmpint(memory_read("", &m), ==, 0);
    g_assert_cmpuint(m.total, >, 0);
    g_assert_cmpuint(m.available, >, 0);
    g_assert_cmpuint(m.available, <=, m.total);
    g_assert_cmpint(memory_read("/nowhere", &m), ==, -ENOENT);
}

static void test_texts_that_are_not_right_are_refused(void)
{
    static const char *const bad[] = {
        "", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemFree: 1 kB\n",
        "MemTotal: 99999999999999999999 kB\nMemFree: 1 kB\n"
        "MemAvailable: 1 kB\n",
        "XMemTotal: 5 kB\nMemFree: 1 kB\nMemAvailable: 1 kB\n",
    };
    MemoryState m = { .total = 0 };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(memory_parse_meminfo(bad[i], &m), ==, -EPROTO);
    }
    g_assert_cmpint(memory_parse_psi("some avg10=1.5\n", &m), ==, -EPROTO);
    g_assert_cmpint(memory_parse_psi("some avg10=12.34 avg60=0.00\n"
                                     "full avg10=1.05 avg60=0.00\n", &m), ==,
                    0);
    g_assert_cmpuint(m.psi_some, ==, 1234);
    g_assert_cmpuint(m.psi_full, ==, 105);
}

static void put(const char *root, const char *path, const char *text)
{
    g_autofree char *name = g_build_filename(root, path, NULL);
    g_autofree char *folder = g_path_get_dirname(name);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(name, text, -1, NULL));
}

static void test_tightest_limit_of_any_group_counts(void)
{
    g_autofree char *root = g_dir_make_tmp("memory-XXXXXX", NULL);
    g_autofree char *remove = g_strdup_printf("rm -r '%s'", root);
    MemoryState m;

    put(root, "proc/meminfo",
        "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 500 kB\n");
    put(root, "proc/self/cgroup", "4:memory:/old\n0::/a/b\n");
    put(root, "sys/fs/cgroup/a/memory.max", "10000000\n");
    put(root, "sys/fs/cgroup/a/memory.current", "4000000\n");
    put(root, "sys/fs/cgroup/a/b/memory.max", "max\n");
    put(root, "sys/fs/cgroup/a/b/memory.current", "2000000\n");
    g_assert_cmpint(memory_read(root, &m), ==, 0);
    g_assert_cmpuint(m.cgroup_room, ==, 6000000);
    put(root, "sys/fs/cgroup/a/b/memory.high", "3000000\n");
    g_assert_cmpint(memory_read(root, &m), ==, 0);
    g_assert_cmpuint(m.cgroup_room, ==, 1000000);
    put(root, "sys/fs/cgroup/a/b/memory.current", "3500000\n");
    g_assert_cmpint(memory_read(root, &m), ==, 0);
    g_assert_cmpuint(m.cgroup_room, ==, 0);
    put(root, "proc/self/cgroup", "4:memory:/old\n");
    g_assert_cmpint(memory_read(root, &m), ==, 0);
    g_assert_cmpuint(m.cgroup_room, ==, UINT64_MAX);
    g_assert_true(g_spawn_command_line_sync(remove, NULL, NULL, NULL, NULL));
}

static const struct {
    const char *what;
    uint64_t available_mib, held_mib, cgroup_mib;
    bool pressed;
    uint64_t spare_mib;
    unsigned reason;
    uint64_t excess_mib;
} cases[] = {
    /* 1,000 MiB of RAM: at most 750 may go, 100 must stay. */
    { "much is available", 900, 0, 9999, false, 750, VBX_REASON_LIMIT, 0 },
    { "the share is nearly reached", 900, 740, 9999, false, 10,
      VBX_REASON_LIMIT, 0 },
    { "the share is exceeded", 900, 800, 9999, false, 0, VBX_REASON_LIMIT,
      0 },
    { "little is available", 130, 100, 9999, false, 30, VBX_REASON_PRESSURE,
      0 },
    { "just what must stay", 100, 100, 9999, false, 0, VBX_REASON_PRESSURE,
      0 },
    { "a little less: not yet", 80, 100, 9999, false, 0, VBX_REASON_PRESSURE,
      0 },
    { "too little", 70, 100, 9999, false, 0, VBX_REASON_PRESSURE, 30 },
    { "nothing at all", 0, 60, 9999, false, 0, VBX_REASON_PRESSURE, 60 },
    { "nothing is held", 0, 0, 9999, true, 0, VBX_REASON_PRESSURE, 0 },
    { "tasks wait", 900, 400, 9999, true, 350, VBX_REASON_LIMIT, 50 },
    { "tasks wait, little is held", 900, 40, 9999, true, 710,
      VBX_REASON_LIMIT, 16 },
    { "a group's limit", 900, 0, 50, false, 37, VBX_REASON_LIMIT, 0 },
    { "a group is full", 900, 100, 1, false, 0, VBX_REASON_LIMIT, 12 },
};

static void test_guest_comes_first(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        MemoryState m = {
            .total = 1000 * MIB, .available = cases[i].available_mib * MIB,
            .cgroup_room = cases[i].cgroup_mib * MIB,
        };
        SpareLimits limits = spare_limits(&m, 75, 100 * MIB);
        unsigned reason;

        g_test_message("%s", cases[i].what);
        /* 75 hundredths, each rounded down by less than a byte. */
        limits.max_bytes = (limits.max_bytes + MIB - 1) / MIB * MIB;
        g_assert_cmpuint(spare_bytes(&limits, &m, cases[i].held_mib * MIB,
                                     &reason) / MIB, ==, cases[i].spare_mib);
        g_assert_cmpuint(reason, ==, cases[i].reason);
        g_assert_cmpuint(spare_excess(&limits, &m, cases[i].held_mib * MIB,
                                      cases[i].pressed) / MIB, ==,
                         cases[i].excess_mib);
    }
}

static void test_sizes_are_whole_numbers_in_binary_units(void)
{
    static const struct { const char *text; uint64_t bytes; } good[] = {
        { "0", 0 }, { "4096", 4096 }, { "64M", 64 * MIB },
        { "64MiB", 64 * MIB }, { "2g", 2048 * MIB }, { "1k", 1024 },
        { "65536T", UINT64_C(1) << 56 },
    };
    static const char *const bad[] = {
        "", "M", "-1", "+1", " 1", "1.5G", "1MB", "1MiBs", "65537T",
        "99999999999999999999", "1 M", "0x10",
    };
    uint64_t bytes;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_cmpint(bx_size_parse(good[i].text, &bytes), ==, 0);
        g_assert_cmpuint(bytes, ==, good[i].bytes);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i]);
        g_assert_cmpint(bx_size_parse(bad[i], &bytes), ==, -EINVAL);
    }
}

/* A sentence, or NULL; @words end with NULL. */
static char *parse(AgentOptions *options, const char *const *words)
{
    g_autofree char **argv = g_new0(char *, 10);
    char **moved = argv, *error = NULL;
    int argc = 1;

    argv[0] = (char *)"balloon-exd";
    while (*words) {
        argv[argc++] = (char *)*words++;
    }
    return agent_options_parse(&argc, &moved, options, &error) ? NULL : error;
}

#define WORDS(...) ((const char *const[]) { __VA_ARGS__, NULL })

static void test_command_line_goes_over_the_file(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(),
                                             "options-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    AgentOptions o;

    g_assert_cmpint(fd, >=, 0);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(path, "[balloon-exd]\n"
        "max-fraction=30\nkeep-available=256M\nno-huge=yes\n", -1, NULL));
    g_assert_null(parse(&o, WORDS("--config", path, "--max-fraction=40",
                                  "-v")));
    g_assert_cmpuint(o.max_fraction_percent, ==, 40);
    g_assert_cmpuint(o.keep_available_bytes, ==, 256 * MIB);
    g_assert_false(o.huge);
    g_assert_true(o.hints);
    g_assert_true(o.verbose);
    agent_options_clear(&o);
    g_unlink(path);
}

static void test_wrong_options_are_named_in_a_sentence(void)
{
    static const struct { const char *word, *part; } wrong[] = {
        { "--max-fraction=96", "max-fraction" },
        { "--max-fraction=-1", "max-fraction" },
        { "--keep-available=1M", "keep-available" },
        { "--keep-available=much", "keep-available" },
        { "--granule=8K", "granule" }, { "--step=4K", "step" },
        { "--socket-mode=999", "socket-mode" }, { "--port=", "port" },
        { "--config=/nowhere/at/all", "/nowhere/at/all" },
        { "--no-such-thing", "no-such-thing" }, { "word", "word" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *error = NULL;
        AgentOptions o;

        error = parse(&o, WORDS(wrong[i].word));
        g_assert_nonnull(error);
        g_test_message("%s", error);
        g_assert_nonnull(g_strstr_len(error, -1, wrong[i].part));
        agent_options_clear(&o);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/figures-of-this-machine-are-understood",
                    test_figures_of_this_machine_are_understood);
    g_test_add_func("/texts-that-are-not-right-are-refused",
                    test_texts_that_are_not_right_are_refused);
    g_test_add_func("/tightest-limit-of-any-group-counts",
                    test_tightest_limit_of_any_group_counts);
    g_test_add_func("/guest-comes-first", test_guest_comes_first);
    g_test_add_func("/sizes-are-whole-numbers-in-binary-units",
                    test_sizes_are_whole_numbers_in_binary_units);
    g_test_add_func("/command-line-goes-over-the-file",
                    test_command_line_goes_over_the_file);
    g_test_add_func("/wrong-options-are-named-in-a-sentence",
                    test_wrong_options_are_named_in_a_sentence);
    return g_test_run();
}
