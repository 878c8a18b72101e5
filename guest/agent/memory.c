/*
 * How much memory the guest has, by its own account
 *
 * MemAvailable is the kernel's estimate of what can be had without swapping.
 * A limit of a control group that we are in can be tighter: what we set aside
 * is charged to it, and being the one who exceeds it means that somebody in it
 * is killed.  Limits of all groups up to the root count.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "memory.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "Name:   123 kB" */
static int find_kib(const char *text, const char *name, uint64_t *ret_bytes)
{
    size_t length = strlen(name);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        unsigned long long kib;

        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ':' &&
            sscanf(line + length + 1, " %llu kB", &kib) == 1 &&
            kib < UINT64_C(1) << 46) {
            *ret_bytes = kib * 1024;
            return 0;
        }
    }
    return -EPROTO;
}

int memory_parse_meminfo(const char *text, MemoryState *state)
{
    if (find_kib(text, "MemTotal", &state->total) < 0 ||
        find_kib(text, "MemFree", &state->free) < 0 ||
        find_kib(text, "MemAvailable", &state->available) < 0) {
        return -EPROTO;
    }
    find_kib(text, "Cached", &state->cached);
    find_kib(text, "SwapTotal", &state->swap_total);
    find_kib(text, "SwapFree", &state->swap_free);
    return 0;
}

static int find_average(const char *text, const char *which, unsigned *ret)
{
    const char *line = strstr(text, which);
    unsigned whole, hundredths;

    if (!line || sscanf(line + strlen(which), " avg10=%u.%2u", &whole,
                        &hundredths) != 2 || whole > 100) {
        return -EPROTO;
    }
    *ret = whole * 100 + hundredths;
    return 0;
}

int memory_parse_psi(const char *text, MemoryState *state)
{
    if (find_average(text, "some", &state->psi_some) < 0 ||
        find_average(text, "full", &state->psi_full) < 0) {
        return -EPROTO;
    }
    return 0;
}

static char *contents(const char *root, const char *path)
{
    g_autofree char *name = g_strconcat(root, path, NULL);
    char *text = NULL;

    g_file_get_contents(name, &text, NULL, NULL);
    return text;
}

char *memory_cgroup(const char *root)
{
    g_autofree char *text = contents(root, "/proc/self/cgroup");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

    for (int i = 0; lines[i]; i++) {
        if (g_str_has_prefix(lines[i], "0::/")) {
            g_autofree char *folder = g_strconcat(root, "/sys/fs/cgroup",
                                                  lines[i] + 3, NULL);

            return g_file_test(folder, G_FILE_TEST_IS_DIR)
                   ? g_steal_pointer(&folder) : NULL;
        }
    }
    return NULL;
}

/* A number, or UINT64_MAX where there is none ("max") or no such file. */
static uint64_t cgroup_number(const char *folder, const char *name)
{
    g_autofree char *text = NULL, *path = g_build_filename(folder, name, NULL);
    unsigned long long number;

    if (!g_file_get_contents(path, &text, NULL, NULL) ||
        sscanf(text, "%llu", &number) != 1) {
        return UINT64_MAX;
    }
    return number;
}

static uint64_t cgroup_room(const char *root)
{
    g_autofree char *folder = memory_cgroup(root);
    g_autofree char *top = g_strconcat(root, "/sys/fs/cgroup", NULL);
    uint64_t room = UINT64_MAX;

    while (folder && strlen(folder) > strlen(top)) {
        uint64_t max = cgroup_number(folder, "memory.max");
        uint64_t high = cgroup_number(folder, "memory.high");
        uint64_t used = cgroup_number(folder, "memory.current");
        char *parent = g_path_get_dirname(folder);

        max = MIN(max, high);
        if (max != UINT64_MAX && used != UINT64_MAX) {
            room = MIN(room, max > used ? max - used : 0);
        }
        g_free(folder);
        folder = parent;
    }
    return room;
}

int memory_read(const char *root, MemoryState *ret_state)
{
    g_autofree char *meminfo = contents(root, "/proc/meminfo");
    g_autofree char *psi = contents(root, "/proc/pressure/memory");
    g_autofree char *vmstat = contents(root, "/proc/vmstat");
    const char *kills = vmstat ? strstr(vmstat, "\noom_kill ") : NULL;
    int rc;

    *ret_state = (MemoryState) { .total = 0 };
    if (!meminfo) {
        return -ENOENT;
    }
    rc = memory_parse_meminfo(meminfo, ret_state);
    if (rc < 0) {
        return rc;
    }
    if (psi) {
        memory_parse_psi(psi, ret_state);
    }
    if (kills) {
        ret_state->oom_kills = strtoull(kills + 10, NULL, 10);
    }
    ret_state->cgroup_room = cgroup_room(root);
    return 0;
}
