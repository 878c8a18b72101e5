/*
 * A recording as a page
 *
 * Owns the HTML: two pictures, and what the last sample says as tables.  Well
 * formed as XML, no script, nothing outside of the file.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "ctl-field.h"
#include "ctl-plot.h"
#include "ctl-table.h"
#include "ctl-view.h"

#define MOST_DECISIONS 100u

static void add_text(GString *out, const char *tag, const char *words)
{
    g_autofree char *clean = ctl_clean(words);
    g_autofree char *safe = g_markup_escape_text(clean, -1);

    g_string_append_printf(out, "<%s>%s</%s>", tag, safe, tag);
}

static void guests(GString *out, const CtlSample *s)
{
    add_text(out, "h2", "Guests at the end (sizes in MiB)");
    g_string_append(out, "<table><tr>");
    for (const CtlField *f = ctl_guest_fields; f->name; f++) {
        if (f->kind != CTL_TOTAL && f->kind != CTL_TOTAL_BYTES) {
            add_text(out, "th", f->name);
        }
    }
    g_string_append(out, "</tr>\n");
    for (guint i = 0; i < json_array_get_length(s->guests); i++) {
        g_string_append(out, "<tr>");
        for (const CtlField *f = ctl_guest_fields; f->name; f++) {
            if (f->kind != CTL_TOTAL && f->kind != CTL_TOTAL_BYTES) {
                g_autofree char *cell =
                    ctl_field_cell(f, ctl_element(s->guests, i), NULL, 0);

                add_text(out, "td", cell);
            }
        }
        g_string_append(out, "</tr>\n");
    }
    g_string_append(out, "</table>\n");
}

static void transfers(GString *out, const CtlSample *s)
{
    static const char *const words[] = { "from", "to", "source", "state" };
    guint count = s->transfers ? json_array_get_length(s->transfers) : 0;

    if (count == 0) {
        return;
    }
    add_text(out, "h2", "The last transfers");
    g_string_append(out, "<table><tr><th>id</th><th>from</th><th>to</th>"
                    "<th>source</th><th>state</th><th>requested, MiB</th>"
                    "<th>moved, MiB</th><th>ms</th><th>reason</th></tr>\n");
    for (guint i = 0; i < count; i++) {
        JsonObject *t = ctl_element(s->transfers, i);
        const CtlField sizes[] = {
            { "requested", "requested", NULL, CTL_BYTES, 0, NULL },
            { "moved", "moved", NULL, CTL_BYTES, 0, NULL },
            { "duration", "duration", NULL, CTL_COUNT, 0, NULL },
        };
        const CtlField id = { "id", "id", NULL, CTL_COUNT, 0, NULL };
        g_autofree char *number = ctl_field_cell(&id, t, NULL, 0);
        const char *reason = ctl_text(t, "reason");

        g_string_append(out, "<tr>");
        add_text(out, "td", number);
        for (unsigned k = 0; k < G_N_ELEMENTS(words); k++) {
            const char *word = ctl_text(t, words[k]);

            add_text(out, "td", word ? word : "-");
        }
        for (unsigned k = 0; k < G_N_ELEMENTS(sizes); k++) {
            g_autofree char *cell = ctl_field_cell(&sizes[k], t, NULL, 0);

            add_text(out, "td", cell);
        }
        add_text(out, "td", reason ? reason : "");
        g_string_append(out, "</tr>\n");
    }
    g_string_append(out, "</table>\n");
}

/* Newest first; a recording has each in the sample that first saw it. */
static void decisions(GString *out, const GPtrArray *samples)
{
    guint count = 0;

    for (guint i = samples->len; i-- > 0 && count < MOST_DECISIONS;) {
        const CtlSample *s = g_ptr_array_index(samples, i);
        g_autoptr(GPtrArray) lines = ctl_view_decisions(s->decisions, NULL, 0);

        for (guint k = 0; k < lines->len && count < MOST_DECISIONS; k++) {
            g_autofree char *words =
                g_strdup_printf("At %.1f s, %s", s->time_s,
                                (char *)g_ptr_array_index(lines, k));

            if (count++ == 0) {
                add_text(out, "h2", "The last decisions");
                g_string_append(out, "<ul>\n");
            }
            add_text(out, "li", words);
            g_string_append_c(out, '\n');
        }
    }
    g_string_append(out, count > 0 ? "</ul>\n" : "");
}

void ctl_page(GString *out, const GPtrArray *samples, const char *title)
{
    const CtlSample *last = g_ptr_array_index(samples, samples->len - 1);

    g_string_append(out, "<!DOCTYPE html>\n<html lang=\"en\"><head>"
                    "<meta charset=\"utf-8\"/>");
    add_text(out, "title", title);
    g_string_append(out, "<style>body{font-family:sans-serif;margin:2em}"
                    "table{border-collapse:collapse}"
                    "td,th{border:1px solid #ccc;padding:2px 8px;"
                    "text-align:right}</style></head><body>\n");
    add_text(out, "h1", title);
    ctl_plot(out, samples, "Held", "memory.allocated", true);
    ctl_plot(out, samples, "In use, as far as known", "memory.active",
             false);
    guests(out, last);
    transfers(out, last);
    decisions(out, samples);
    g_string_append(out, "</body></html>\n");
}
