/*
 * What a person sees of a sample
 *
 * All return lines, to be freed with g_ptr_array_unref(); @width 0 is no limit.
 * @before is an earlier sample for rates, or NULL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_VIEW_H
#define CTL_VIEW_H

#include <stdbool.h>

#include "ctl-field.h"

typedef struct CtlOrder {
    const CtlField *field;      /* NULL: as the process has them */
    bool ascending;
} CtlOrder;

/* The host, its pool, what moves; more than three lines where that is long. */
GPtrArray *ctl_view_host(const CtlSample *sample, const CtlSample *before,
                         unsigned width);

/* A table of guests. */
GPtrArray *ctl_view_guests(const CtlSample *sample, CtlSample *before,
                           const CtlOrder *order, unsigned width);

/*
 * A table of balloon applications, those of @guest alone unless that is NULL;
 * what they ask for is behind it.
 */
GPtrArray *ctl_view_applications(const CtlSample *sample, const char *guest,
                                 unsigned width);

/* Running transfers, a line each. */
GPtrArray *ctl_view_transfers(const CtlSample *sample, unsigned width);

/* Decisions, as the process has them; of @guest alone unless that is NULL. */
GPtrArray *ctl_view_decisions(JsonArray *decisions, const char *guest,
                              unsigned width);

/* Those that are not older than @since_s. */
GPtrArray *ctl_view_late_decisions(JsonArray *decisions, double since_s,
                                   unsigned width);

/* Everything that an answer says, a member a line: for what has no view. */
GPtrArray *ctl_view_any(JsonNode *node);

#endif /* CTL_VIEW_H */
