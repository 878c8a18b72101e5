/*
 * The figures of a host and of a guest: where they are, what they are called
 *
 * One table for columns, CSV and metrics, so that a figure has one name.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_FIELD_H
#define CTL_FIELD_H

#include "ctl-sample.h"

typedef enum CtlKind {
    CTL_TEXT,
    CTL_FLAG,
    CTL_COUNT,
    CTL_BYTES,
    CTL_PERCENT,
    CTL_NS,
    CTL_TOTAL,                  /* counts up; shown as a rate */
    CTL_TOTAL_BYTES,
} CtlKind;

typedef struct CtlField {
    const char *name;           /* in CSV, and to sort by */
    const char *path;           /* in the answer, from the guest or host */
    const char *head;           /* of a column; NULL: none */
    CtlKind kind;
    unsigned rank;              /* of a column: the largest goes first where */
                                /* there is no room; 0: never goes */
    const char *help;
} CtlField;

/* All end with a field without name. */
extern const CtlField ctl_host_fields[];
extern const CtlField ctl_guest_fields[];
extern const CtlField ctl_app_fields[];

/* The field by its name, or NULL. */
const CtlField *ctl_field_find(const CtlField *fields, const char *name);

/* As it is, bytes as bytes, for machines; "" where absent; to be freed. */
char *ctl_field_raw(const CtlField *field, JsonObject *object);

/*
 * For people, sizes in MiB, totals as a rate since @before (NULL: "-"); to be
 * freed.  @elapsed_s is between the two.
 */
char *ctl_field_cell(const CtlField *field, JsonObject *object,
                     JsonObject *before, double elapsed_s);

#endif /* CTL_FIELD_H */
