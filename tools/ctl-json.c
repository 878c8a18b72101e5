/*
 * Members of answers, which may be absent or of another type
 *
 * Owns the rule that an older or newer process, or a nonsensical one, leaves a
 * hole in a table and never ends the program.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <math.h>
#include <string.h>

#include "ctl-json.h"

static JsonNode *member(JsonObject *object, const char *name, JsonNodeType type)
{
    JsonNode *node = object ? json_object_get_member(object, name) : NULL;

    return node && json_node_get_node_type(node) == type ? node : NULL;
}

JsonObject *ctl_object(JsonObject *object, const char *name)
{
    JsonNode *node = member(object, name, JSON_NODE_OBJECT);

    return node ? json_node_get_object(node) : NULL;
}

JsonArray *ctl_array(JsonObject *object, const char *name)
{
    JsonNode *node = member(object, name, JSON_NODE_ARRAY);

    return node ? json_node_get_array(node) : NULL;
}

const char *ctl_text(JsonObject *object, const char *name)
{
    JsonNode *node = member(object, name, JSON_NODE_VALUE);

    return node && json_node_get_value_type(node) == G_TYPE_STRING
           ? json_node_get_string(node) : NULL;
}

uint64_t ctl_number(JsonObject *object, const char *name)
{
    JsonNode *node = member(object, name, JSON_NODE_VALUE);

    if (!node || json_node_get_value_type(node) != G_TYPE_INT64 ||
        json_node_get_int(node) < 0) {
        return CTL_NONE;
    }
    return json_node_get_int(node);
}

double ctl_seconds(JsonObject *object, const char *name)
{
    JsonNode *node = member(object, name, JSON_NODE_VALUE);

    if (!node || (json_node_get_value_type(node) != G_TYPE_INT64 &&
                  json_node_get_value_type(node) != G_TYPE_DOUBLE)) {
        return NAN;
    }
    return json_node_get_double(node);
}

bool ctl_flag(JsonObject *object, const char *name)
{
    JsonNode *node = member(object, name, JSON_NODE_VALUE);

    return node && json_node_get_value_type(node) == G_TYPE_BOOLEAN &&
           json_node_get_boolean(node);
}

/* Of what is behind an array's "[]": each element's, or their number. */
static uint64_t sum_of(JsonArray *array, const char *rest)
{
    unsigned count = array ? json_array_get_length(array) : 0;
    uint64_t sum = 0;

    if (!array) {
        return CTL_NONE;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t one = *rest == '.' ? ctl_path(ctl_element(array, i), rest + 1)
                                    : 1;

        sum += one == CTL_NONE ? 0 : one;
    }
    return sum;
}

uint64_t ctl_path(JsonObject *object, const char *path)
{
    const char *end;

    while ((end = strpbrk(path, ".["))) {
        g_autofree char *name = g_strndup(path, end - path);

        if (*end == '[') {
            return sum_of(ctl_array(object, name), end + 2);
        }
        object = ctl_object(object, name);
        path = end + 1;
    }
    return ctl_number(object, path);
}

JsonObject *ctl_element(JsonArray *array, unsigned i)
{
    JsonNode *node = array && i < json_array_get_length(array)
                     ? json_array_get_element(array, i) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node)
                                                : NULL;
}
