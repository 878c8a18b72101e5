/*
 * Tables of text that fit a width
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include <glib.h>
#include <stdbool.h>

typedef struct CtlColumn {
    const char *head;
    bool right;                 /* aligned */
    unsigned rank;              /* the largest goes first; 0: never goes */
} CtlColumn;

/* Unprintable characters become '?', so that no name drives a terminal. */
char *ctl_clean(const char *text);

/*
 * Lines, the head first, of rows of @count cells each (char **, in @rows).
 * Columns are left out until the rest fits @width; then lines are cut.  A
 * column that is "-" in every row is left out as if it had no room.  @width 0:
 * no limit.  To be freed with g_ptr_array_unref().
 */
GPtrArray *ctl_table(const CtlColumn *columns, unsigned count,
                     const GPtrArray *rows, unsigned width);

/* @text with no more than @width characters; to be freed. */
char *ctl_cut(const char *text, unsigned width);

#endif /* CTL_TABLE_H */
