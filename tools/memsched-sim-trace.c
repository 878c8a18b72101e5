/*
 * Recorded demand
 *
 * Owns the reading of a recording as CSV.  Its first line names the columns, of
 * which three are used: time in seconds, guest, and active in bytes.  Lines of
 * a guest are in the order of their time.  Values are plain: no quotes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "memsched-sim.h"

typedef struct Columns {
    int time, guest, active;
    unsigned count;
} Columns;

static bool find_columns(const char *line, Columns *ret)
{
    g_auto(GStrv) names = g_strsplit(line, ",", -1);

    *ret = (Columns) { -1, -1, -1, g_strv_length(names) };
    for (unsigned i = 0; i < ret->count; i++) {
        if (strcmp(names[i], "time") == 0) {
            ret->time = i;
        } else if (strcmp(names[i], "guest") == 0) {
            ret->guest = i;
        } else if (strcmp(names[i], "active") == 0) {
            ret->active = i;
        }
    }
    return ret->time >= 0 && ret->guest >= 0 && ret->active >= 0;
}

static SimGuest *find_guest(GArray *guests, guint from, const char *id,
                            const SimGuest *pattern)
{
    SimGuest one = *pattern;

    for (guint i = from; i < guests->len; i++) {
        SimGuest *g = &g_array_index(guests, SimGuest, i);

        if (strcmp(g->id, id) == 0) {
            return g;
        }
    }
    g_strlcpy(one.id, id, sizeof(one.id));
    one.trace = g_array_new(FALSE, FALSE, sizeof(SimPoint));
    g_array_append_val(guests, one);
    return &g_array_index(guests, SimGuest, guests->len - 1);
}

static bool read_line(const char *line, const Columns *c, guint from,
                      const SimGuest *pattern, GArray *guests)
{
    g_auto(GStrv) cells = g_strsplit(line, ",", -1);
    SimPoint point;
    double seconds;
    uint64_t bytes;
    char *end;

    if (g_strv_length(cells) != c->count || cells[c->guest][0] == '\0') {
        return false;
    }
    if (cells[c->active][0] == '\0') {
        /* The scheduler did not know the guest at that time. */
        return true;
    }
    seconds = g_ascii_strtod(cells[c->time], &end);
    if (end == cells[c->time] || *end || !(seconds >= 0 && seconds < 1e9) ||
        !g_ascii_string_to_unsigned(cells[c->active], 10, 0,
                                    UINT64_C(1) << 52, &bytes, NULL)) {
        return false;
    }
    point = (SimPoint) { (uint64_t)seconds, bytes >> MEMSCHED_PAGE_SHIFT };
    g_array_append_val(find_guest(guests, from, cells[c->guest],
                                  pattern)->trace, point);
    return true;
}

bool sim_trace_load(const char *path, const SimGuest *pattern,
                    GArray *guests, GError **error)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    guint from = guests->len;
    Columns columns;

    if (!g_file_get_contents(path, &text, NULL, error)) {
        return false;
    }
    lines = g_strsplit(text, "\n", -1);
    if (!lines[0] || !find_columns(lines[0], &columns)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: the first line does not name time, guest, active",
                    path);
        return false;
    }
    for (unsigned i = 1; lines[i]; i++) {
        if (lines[i][0] != '\0' &&
            !read_line(lines[i], &columns, from, pattern, guests)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "%s: line %u is no line of a recording", path,
                        i + 1);
            return false;
        }
    }
    return true;
}
