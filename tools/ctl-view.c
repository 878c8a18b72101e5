/*
 * What a person sees of a sample
 *
 * Owns the words and the order of figures on a screen; ctl-field.c knows where
 * they are, ctl-table.c how they fit.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ctl-size.h"
#include "ctl-table.h"
#include "ctl-view.h"

static GPtrArray *new_lines(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

static void add(GPtrArray *lines, unsigned width, char *text)
{
    g_autofree char *clean = ctl_clean(text);

    g_ptr_array_add(lines, ctl_cut(clean, width));
    g_free(text);
}

static double elapsed(const CtlSample *sample, const CtlSample *before)
{
    return before ? sample->time_s - before->time_s : 0;
}

/* ---- host ---- */

/* The cell of a host field by its name; to be freed. */
static char *host_cell(const CtlSample *sample, const CtlSample *before,
                       const char *name)
{
    return ctl_field_cell(ctl_field_find(ctl_host_fields, name),
                          sample->scheduler,
                          before ? before->scheduler : NULL,
                          elapsed(sample, before));
}

/* A list with commas, continued below where it is too long for one line. */
static void add_list(GPtrArray *lines, unsigned width, char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ", ", -1);
    g_autoptr(GString) line = g_string_new(NULL);

    for (unsigned i = 0; parts[i]; i++) {
        size_t length = line->len + 2 + strlen(parts[i]) + 1;

        if (width > 0 && line->len > 0 && length > width) {
            g_string_append_c(line, ',');
            add(lines, width, g_strdup(line->str));
            g_string_assign(line, "    ");
        } else if (i > 0) {
            g_string_append(line, ", ");
        }
        g_string_append(line, parts[i]);
    }
    add(lines, width, g_strdup(line->str));
    g_free(text);
}

static char *pool_line(const CtlSample *s)
{
    static const char *const names[] = {
        "claimed", "reserved", "min-free", "transit", "held", "parity",
        "quarantine", "retired",
    };
    g_autofree char *size = host_cell(s, NULL, "pool");
    g_autofree char *allocated = host_cell(s, NULL, "allocated");
    g_autofree char *free = host_cell(s, NULL, "free");
    g_autofree char *clean = host_cell(s, NULL, "clean");
    GString *line = g_string_new(NULL);

    g_string_printf(line, "pool %s MiB: %s allocated, %s free (%s clean)",
                    size, allocated, free, clean);
    /* What most of the time is nothing. */
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *cell = host_cell(s, NULL, names[i]);

        if (strcmp(cell, "0") != 0 && strcmp(cell, "-") != 0) {
            g_string_append_printf(line, ", %s %s", cell, names[i]);
        }
    }
    return g_string_free(line, FALSE);
}

static char *moves_line(const CtlSample *s, const CtlSample *before)
{
    g_autofree char *out = host_cell(s, before, "captured");
    g_autofree char *in = host_cell(s, before, "populated");
    g_autofree char *faults = host_cell(s, before, "faults");
    g_autofree char *flushes = host_cell(s, before, "flushes");
    g_autofree char *p99 = host_cell(s, NULL, "fault-p99");
    g_autofree char *split = host_cell(s, before, "split-frames");

    return g_strdup_printf("out %s MiB/s, in %s MiB/s, flushes %s/s, faults "
                           "%s/s (p99 %s us), splits %s/s", out, in, flushes,
                           faults, p99, split);
}

GPtrArray *ctl_view_host(const CtlSample *s, const CtlSample *before,
                         unsigned width)
{
    GPtrArray *lines = new_lines();
    JsonObject *host = s->scheduler;
    const char *id = ctl_text(host, "id"), *policy = ctl_text(host, "policy");
    g_autofree char *tax = ctl_count(ctl_number(host, "idle-tax"));
    g_autofree char *pressure = NULL, *state = NULL, *guests = NULL;

    if (!host) {
        add(lines, width, g_strdup("a guest's own monitor: the host is not "
                                   "shown here"));
        return lines;
    }
    pressure = host_cell(s, NULL, "pressure");
    state = host_cell(s, NULL, "state");
    guests = host_cell(s, NULL, "guests");
    add(lines, width,
        g_strdup_printf("%s  state %s  pressure %s %%  %s guests  policy %s%s"
                        "%s%s%s%s", id ? id : "memsched", state, pressure,
                        guests, policy ? policy : "-",
                        g_strcmp0(policy, "idle-tax") == 0 ? " " : "",
                        g_strcmp0(policy, "idle-tax") == 0 ? tax : "",
                        g_strcmp0(policy, "idle-tax") == 0 ? " %" : "",
                        ctl_flag(host, "dry-run") ? "  dry run" : "",
                        ctl_flag(host, "fallback") ? "  cannot move: copies"
                                                   : ""));
    add_list(lines, width, pool_line(s));
    add_list(lines, width, moves_line(s, before));
    return lines;
}

/* ---- guests ---- */

typedef struct Row {
    char **cells;
    JsonObject *guest;
    unsigned place;
} Row;

static char *notes(JsonObject *guest)
{
    JsonObject *memory = ctl_object(guest, "memory");
    const char *message = ctl_text(guest, "message");
    GString *text = g_string_new(NULL);

    for (const CtlField *f = ctl_guest_fields; f->name; f++) {
        if (f->kind == CTL_FLAG && ctl_flag(memory, f->name)) {
            g_string_append_printf(text, "%s ", f->name);
        }
    }
    if (message) {
        g_string_append(text, message);
    }
    return g_string_free(text, FALSE);
}

static char **cells_of(JsonObject *guest, JsonObject *before, double since_s)
{
    GPtrArray *cells = g_ptr_array_new();
    g_autofree char *words = notes(guest);

    for (const CtlField *f = ctl_guest_fields; f->name; f++) {
        if (f->head) {
            g_autofree char *cell = ctl_field_cell(f, guest, before, since_s);

            g_ptr_array_add(cells, ctl_clean(cell));
        }
    }
    g_ptr_array_add(cells, ctl_clean(g_strchomp(words)));
    g_ptr_array_add(cells, NULL);
    return (char **)g_ptr_array_free(cells, FALSE);
}

static int compare_rows(const void *a, const void *b, void *opaque)
{
    const Row *x = a, *y = b;
    const CtlOrder *order = opaque;
    int sign = order->ascending ? 1 : -1;
    g_autofree char *p = ctl_field_raw(order->field, x->guest);
    g_autofree char *q = ctl_field_raw(order->field, y->guest);
    uint64_t m, n;

    if (order->field->kind == CTL_TEXT) {
        int words = strcmp(p, q);

        return words ? -sign * words : (int)x->place - (int)y->place;
    }
    m = g_ascii_strtoull(p, NULL, 10);
    n = g_ascii_strtoull(q, NULL, 10);
    return m != n ? sign * (m < n ? -1 : 1) : (int)x->place - (int)y->place;
}

static unsigned columns_of(CtlColumn *columns)
{
    unsigned count = 0;

    for (const CtlField *f = ctl_guest_fields; f->name; f++) {
        if (f->head) {
            columns[count++] = (CtlColumn) {
                f->head, f->kind != CTL_TEXT, f->rank,
            };
        }
    }
    /* Notes are cut where there is no room. */
    columns[count++] = (CtlColumn) { "", false, 0 };
    return count;
}

GPtrArray *ctl_view_guests(const CtlSample *s, CtlSample *before,
                           const CtlOrder *order, unsigned width)
{
    CtlColumn columns[64];
    unsigned count = columns_of(columns);
    unsigned guests = s->guests ? json_array_get_length(s->guests) : 0;
    g_autofree Row *rows = g_new0(Row, guests);
    g_autoptr(GPtrArray) cells =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    unsigned n = 0;

    for (unsigned i = 0; i < guests; i++) {
        JsonObject *guest = ctl_element(s->guests, i);
        const char *id = ctl_text(guest, "id");

        if (id) {
            rows[n++] = (Row) {
                cells_of(guest, before ? ctl_sample_guest(before, id) : NULL,
                         elapsed(s, before)), guest, i,
            };
        }
    }
    if (order && order->field && n > 0) {
        g_qsort_with_data(rows, n, sizeof(rows[0]), compare_rows,
                          (void *)order);
    }
    for (unsigned i = 0; i < n; i++) {
        g_ptr_array_add(cells, rows[i].cells);
    }
    return ctl_table(columns, count, cells, width);
}

/* ---- applications ---- */

static const char *kind_of(JsonObject *application)
{
    return ctl_flag(application, "agent") ? "agent" :
           ctl_flag(application, "reserves") ? "gives" : "follows";
}

/* What is not told is a dash. */
static char **application_row(const char *id, JsonObject *application)
{
    GPtrArray *cells = g_ptr_array_new();
    uint64_t veto = ctl_number(application, "veto");

    g_ptr_array_add(cells, ctl_clean(id));
    for (const CtlField *f = ctl_app_fields; f->name; f++) {
        g_autofree char *cell = ctl_field_cell(f, application, NULL, 0);

        g_ptr_array_add(cells, ctl_clean(cell));
        if (strcmp(f->name, "name") == 0) {
            g_ptr_array_add(cells, g_strdup(kind_of(application)));
        }
    }
    g_ptr_array_add(cells, veto != CTL_NONE && veto > 0
                    ? g_strdup_printf("left alone for %.1f s",
                                      (double)veto / 1000) : g_strdup(""));
    g_ptr_array_add(cells, NULL);
    return (char **)g_ptr_array_free(cells, FALSE);
}

static unsigned application_columns(CtlColumn *columns)
{
    unsigned count = 0;

    columns[count++] = (CtlColumn) { "GUEST", false, 0 };
    for (const CtlField *f = ctl_app_fields; f->name; f++) {
        columns[count++] = (CtlColumn) {
            f->head, f->kind != CTL_TEXT, f->rank,
        };
        if (strcmp(f->name, "name") == 0) {
            columns[count++] = (CtlColumn) { "KIND", false, 0 };
        }
    }
    columns[count++] = (CtlColumn) { "", false, 0 };
    return count;
}

static void add_requests(GPtrArray *lines, const char *id,
                         JsonArray *requests, unsigned width)
{
    unsigned count = requests ? json_array_get_length(requests) : 0;

    for (unsigned i = 0; i < count; i++) {
        JsonObject *r = ctl_element(requests, i);
        const char *name = ctl_text(r, "name"), *why = ctl_text(r, "reason");
        g_autofree char *size = ctl_mib(ctl_number(r, "size"));
        g_autofree char *got = ctl_mib(ctl_number(r, "got"));
        g_autofree char *priority = ctl_count(ctl_number(r, "priority"));

        add(lines, width,
            g_strdup_printf("%s: %s asks for %s MiB (%s, priority %s), has "
                            "got %s", id, name ? name : "the guest", size,
                            why ? why : "unsaid", priority, got));
    }
}

GPtrArray *ctl_view_applications(const CtlSample *s, const char *guest,
                                 unsigned width)
{
    CtlColumn columns[32];
    unsigned count = application_columns(columns);
    unsigned guests = s->guests ? json_array_get_length(s->guests) : 0;
    g_autoptr(GPtrArray) rows =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    g_autoptr(GPtrArray) requests = new_lines();
    GPtrArray *lines;

    for (unsigned i = 0; i < guests; i++) {
        JsonObject *g = ctl_element(s->guests, i);
        JsonObject *applications = ctl_object(g, "applications");
        JsonArray *list = ctl_array(applications, "list");
        const char *id = ctl_text(g, "id");

        if (!id || (guest && strcmp(id, guest) != 0)) {
            continue;
        }
        for (unsigned k = 0; list && k < json_array_get_length(list); k++) {
            g_ptr_array_add(rows, application_row(id, ctl_element(list, k)));
        }
        add_requests(requests, id, ctl_array(applications, "requests"),
                     width);
    }
    lines = ctl_table(columns, count, rows, width);
    g_ptr_array_extend_and_steal(lines, g_steal_pointer(&requests));
    return lines;
}

/* ---- transfers, decisions, anything ---- */

GPtrArray *ctl_view_transfers(const CtlSample *s, unsigned width)
{
    unsigned count = s->transfers ? json_array_get_length(s->transfers) : 0;
    /* In a guest's own monitor it is a neighbour, who is not named. */
    const char *other = s->scheduler ? "pool" : "?";
    GPtrArray *lines = new_lines();

    for (unsigned i = 0; i < count; i++) {
        JsonObject *t = ctl_element(s->transfers, i);
        const char *from = ctl_text(t, "from"), *to = ctl_text(t, "to");
        g_autofree char *id = ctl_count(ctl_number(t, "id"));
        g_autofree char *moved = ctl_mib(ctl_number(t, "moved"));
        g_autofree char *requested = ctl_mib(ctl_number(t, "requested"));

        if (g_strcmp0(ctl_text(t, "state"), "running") == 0) {
            add(lines, width,
                g_strdup_printf("transfer %s: %s -> %s, %s of %s MiB", id,
                                from ? from : other, to ? to : other, moved,
                                requested));
        }
    }
    return lines;
}

static char *decision_text(JsonObject *d)
{
    const char *id = ctl_text(d, "id"), *text = ctl_text(d, "text");
    const char *action = ctl_text(d, "action");
    const char *reason = ctl_text(d, "reason");
    uint64_t age = ctl_number(d, "age");
    g_autofree char *size = ctl_mib(ctl_number(d, "size"));
    g_autofree char *ago = age == CTL_NONE ? g_strdup("") :
        g_strdup_printf("%.1f s ago: ", (double)age / 1000);

    return text ? g_strdup_printf("%s%s", ago, text)
                : g_strdup_printf("%s%s %s %s MiB (%s)", ago, id ? id : "?",
                                  action ? action : "?", size,
                                  reason ? reason : "no reason told");
}

GPtrArray *ctl_view_decisions(JsonArray *decisions, const char *guest,
                              unsigned width)
{
    unsigned count = decisions ? json_array_get_length(decisions) : 0;
    GPtrArray *lines = new_lines();

    for (unsigned i = 0; i < count; i++) {
        JsonObject *d = ctl_element(decisions, i);

        if (d && (!guest || g_strcmp0(ctl_text(d, "id"), guest) == 0)) {
            add(lines, width, decision_text(d));
        }
    }
    return lines;
}

GPtrArray *ctl_view_late_decisions(JsonArray *decisions, double since_s,
                                   unsigned width)
{
    unsigned count = decisions ? json_array_get_length(decisions) : 0;
    GPtrArray *lines = new_lines();

    for (unsigned i = 0; i < count; i++) {
        JsonObject *d = ctl_element(decisions, i);
        uint64_t age = ctl_number(d, "age");

        if (age != CTL_NONE && (double)age / 1000 <= since_s) {
            add(lines, width, decision_text(d));
        }
    }
    return lines;
}

static void add_any(GPtrArray *lines, const char *name, JsonNode *node)
{
    g_autofree char *text = NULL;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        g_autoptr(GList) names =
            json_object_get_members(json_node_get_object(node));

        for (GList *n = names; n; n = n->next) {
            g_autofree char *path = *name
                ? g_strdup_printf("%s.%s", name, (char *)n->data)
                : g_strdup(n->data);

            add_any(lines, path, json_object_get_member(
                                     json_node_get_object(node), n->data));
        }
        return;
    }
    text = json_node_get_value_type(node) == G_TYPE_STRING
           ? g_strdup(json_node_get_string(node))
           : json_to_string(node, FALSE);
    add(lines, 0, *name ? g_strdup_printf("%s: %s", name, text)
                        : g_strdup(text));
}

GPtrArray *ctl_view_any(JsonNode *node)
{
    GPtrArray *lines = new_lines();

    add_any(lines, "", node);
    return lines;
}
