/*
 * Tables of text that fit a width
 *
 * Owns the layout.  Two blanks between columns.  Width is counted in
 * characters.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "ctl-table.h"

#define GAP 2u

char *ctl_clean(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new(NULL);

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        g_string_append_unichar(out, g_unichar_isprint(c) ? c : '?');
    }
    return g_string_free(out, FALSE);
}

char *ctl_cut(const char *text, unsigned width)
{
    if (width == 0 || g_utf8_strlen(text, -1) <= (glong)width) {
        return g_strdup(text);
    }
    return g_utf8_substring(text, 0, width);
}

static const char *cell(const GPtrArray *rows, unsigned row, unsigned column)
{
    return ((char **)g_ptr_array_index(rows, row))[column];
}

static unsigned width_of(const char *head, const GPtrArray *rows,
                         unsigned column)
{
    glong widest = g_utf8_strlen(head, -1);

    for (guint i = 0; i < rows->len; i++) {
        widest = MAX(widest, g_utf8_strlen(cell(rows, i, column), -1));
    }
    return widest;
}

static bool is_empty(const GPtrArray *rows, unsigned column)
{
    for (guint i = 0; i < rows->len; i++) {
        if (strcmp(cell(rows, i, column), "-") != 0) {
            return false;
        }
    }
    return rows->len > 0;
}

/* The column that goes first, or @count. */
static unsigned least_wanted(const CtlColumn *columns, unsigned count,
                             const unsigned *widths)
{
    unsigned found = count;

    for (unsigned i = 0; i < count; i++) {
        if (widths[i] > 0 && columns[i].rank > 0 &&
            (found == count || columns[i].rank >= columns[found].rank)) {
            found = i;
        }
    }
    return found;
}

/* Sets the widths of columns that go to 0. */
static void fit(const CtlColumn *columns, unsigned count, unsigned *widths,
                unsigned width)
{
    while (width > 0) {
        unsigned sum = 0, goes = least_wanted(columns, count, widths);

        for (unsigned i = 0; i < count; i++) {
            sum += widths[i] > 0 ? widths[i] + GAP : 0;
        }
        if (sum <= width + GAP || goes == count) {
            return;
        }
        widths[goes] = 0;
    }
}

static void append(GString *line, const char *text, unsigned width, bool right)
{
    int pad = (int)width - (int)g_utf8_strlen(text, -1);

    if (line->len > 0) {
        g_string_append(line, "  ");
    }
    if (right) {
        g_string_append_printf(line, "%*s%s", MAX(pad, 0), "", text);
    } else {
        g_string_append_printf(line, "%s%*s", text, MAX(pad, 0), "");
    }
}

GPtrArray *ctl_table(const CtlColumn *columns, unsigned count,
                     const GPtrArray *rows, unsigned width)
{
    g_autofree unsigned *widths = g_new0(unsigned, count);
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < count; i++) {
        bool goes = columns[i].rank > 0 && is_empty(rows, i);

        widths[i] = goes ? 0 : width_of(columns[i].head, rows, i);
    }
    fit(columns, count, widths, width);
    for (guint row = 0; row <= rows->len; row++) {
        g_autoptr(GString) line = g_string_new(NULL);

        for (unsigned i = 0; i < count; i++) {
            if (widths[i] > 0) {
                append(line, row == 0 ? columns[i].head
                                      : cell(rows, row - 1, i),
                       widths[i], columns[i].right);
            }
        }
        g_ptr_array_add(lines, ctl_cut(g_strchomp(line->str), width));
    }
    return lines;
}
