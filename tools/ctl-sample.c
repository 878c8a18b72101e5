/*
 * One look at a process: what its queries say, and when
 *
 * Owns samples and recordings.  A query that the process does not have leaves
 * its member out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ctl-sample.h"

/* ---- a sample ---- */

static CtlSample *sample_of(JsonObject *root)
{
    CtlSample *s = g_new0(CtlSample, 1);

    s->root = root;
    s->time_s = ctl_seconds(root, "time");
    s->scheduler = ctl_object(root, "scheduler");
    s->guests = ctl_array(root, "guests");
    s->transfers = ctl_array(root, "transfers");
    s->decisions = ctl_array(root, "decisions");
    return s;
}

/* True where it went on: a command that is not there is no failure. */
static bool ask(CtlQmp *qmp, JsonObject *root, const char *member,
                const char *command, bool needed, GError **error)
{
    g_autoptr(GError) local = NULL;
    JsonNode *node = ctl_qmp_run(qmp, command, NULL, &local);

    if (node) {
        json_object_set_member(root, member, node);
        return true;
    }
    if (!needed && (local->code == CTL_QMP_UNKNOWN ||
                    local->code == CTL_QMP_REFUSED)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

CtlSample *ctl_sample_take(CtlQmp *qmp, double time_s, GError **error)
{
    JsonObject *root = json_object_new();

    json_object_set_double_member(root, "time", round(time_s * 1000) / 1000);
    /* In a guest's own monitor the whole is not shown, the guest is. */
    if (!ask(qmp, root, "guests", "query-memsched-guests", true, error) ||
        !ask(qmp, root, "scheduler", "query-memsched", false, error) ||
        !ask(qmp, root, "transfers", "query-memsched-transfers", false,
             error) ||
        !ask(qmp, root, "decisions", "query-memsched-decisions", false,
             error)) {
        json_object_unref(root);
        return NULL;
    }
    return sample_of(root);
}

CtlSample *ctl_sample_parse(const char *line, GError **error)
{
    g_autoptr(JsonNode) node = json_from_string(line, NULL);
    CtlSample *s;

    if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_NONSENSE,
                            "is no sample of a recording: it is no JSON "
                            "object");
        return NULL;
    }
    s = sample_of(json_node_dup_object(node));
    if (!isfinite(s->time_s) || !s->guests) {
        g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_NONSENSE,
                            "is no sample of a recording: time or guests "
                            "are missing");
        ctl_sample_free(s);
        return NULL;
    }
    return s;
}

void ctl_sample_keep_new(CtlSample *sample, uint64_t *last)
{
    unsigned count = sample->decisions
                     ? json_array_get_length(sample->decisions) : 0;
    uint64_t newest = *last;
    JsonArray *kept;

    if (!sample->decisions) {
        return;
    }
    kept = json_array_new();
    for (unsigned i = 0; i < count; i++) {
        JsonObject *d = ctl_element(sample->decisions, i);
        uint64_t number = ctl_number(d, "number");

        if (number != CTL_NONE && number > *last) {
            json_array_add_object_element(kept, json_object_ref(d));
            newest = MAX(newest, number);
        }
    }
    *last = newest;
    json_object_set_array_member(sample->root, "decisions", kept);
    sample->decisions = kept;
}

char *ctl_sample_line(const CtlSample *sample)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    json_node_set_object(node, sample->root);
    return json_to_string(node, FALSE);
}

void ctl_sample_free(CtlSample *sample)
{
    if (sample) {
        g_clear_pointer(&sample->by_id, g_hash_table_unref);
        json_object_unref(sample->root);
        g_free(sample);
    }
}

JsonObject *ctl_sample_guest(CtlSample *sample, const char *id)
{
    unsigned count = sample->guests ? json_array_get_length(sample->guests)
                                    : 0;

    if (!sample->by_id) {
        sample->by_id = g_hash_table_new(g_str_hash, g_str_equal);
        for (unsigned i = 0; i < count; i++) {
            JsonObject *guest = ctl_element(sample->guests, i);
            const char *name = ctl_text(guest, "id");

            if (name) {
                g_hash_table_insert(sample->by_id, (char *)name, guest);
            }
        }
    }
    return g_hash_table_lookup(sample->by_id, id);
}

/* ---- a recording ---- */

static char *read_all(const char *path, GError **error)
{
    GString *text;
    char chunk[65536];
    size_t n;
    char *contents;

    if (strcmp(path, "-") != 0) {
        return g_file_get_contents(path, &contents, NULL, error) ? contents
                                                                 : NULL;
    }
    text = g_string_new(NULL);
    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0) {
        g_string_append_len(text, chunk, n);
    }
    return g_string_free(text, FALSE);
}

static int by_time(const void *a, const void *b)
{
    const CtlSample *x = *(CtlSample *const *)a, *y = *(CtlSample *const *)b;

    return x->time_s < y->time_s ? -1 : x->time_s > y->time_s;
}

GPtrArray *ctl_recording_load(const char *path, unsigned least,
                              GError **error)
{
    g_autofree char *text = read_all(path, error);
    g_autoptr(GPtrArray) samples =
        g_ptr_array_new_with_free_func((GDestroyNotify)ctl_sample_free);
    g_auto(GStrv) lines = NULL;

    if (!text) {
        return NULL;
    }
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        CtlSample *sample;

        if (*g_strstrip(lines[i]) == '\0') {
            continue;
        }
        sample = ctl_sample_parse(lines[i], error);
        if (!sample) {
            g_prefix_error(error, "line %u ", i + 1);
            return NULL;
        }
        g_ptr_array_add(samples, sample);
    }
    if (samples->len < least) {
        g_set_error(error, CTL_QMP_ERROR, CTL_QMP_NONSENSE,
                    "a picture needs %u samples or more; record for longer",
                    least);
        return NULL;
    }
    g_ptr_array_sort(samples, by_time);
    return g_steal_pointer(&samples);
}
