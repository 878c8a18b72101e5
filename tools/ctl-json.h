/*
 * Members of answers, which may be absent or of another type
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_JSON_H
#define CTL_JSON_H

#include <json-glib/json-glib.h>
#include <stdint.h>
#include <stdbool.h>

/* What is not there. */
#define CTL_NONE UINT64_MAX

/* Each takes NULL for @object.  The absent: NULL, CTL_NONE, false. */
JsonObject *ctl_object(JsonObject *object, const char *name);
JsonArray *ctl_array(JsonObject *object, const char *name);
const char *ctl_text(JsonObject *object, const char *name);
uint64_t ctl_number(JsonObject *object, const char *name);
double ctl_seconds(JsonObject *object, const char *name);
bool ctl_flag(JsonObject *object, const char *name);

/*
 * Members joined by dots: "ballooned.kernel".  "requests[].size" is the sum of
 * an array's, "list[]" their number.
 */
uint64_t ctl_path(JsonObject *object, const char *path);

/* The @i-th element where it is an object, or NULL. */
JsonObject *ctl_element(JsonArray *array, unsigned i);

#endif /* CTL_JSON_H */
