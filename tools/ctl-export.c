/*
 * Figures for machines: CSV and Prometheus text
 *
 * Owns both formats.  Names come from ctl-field.c:
 *
 *     kind         metric
 *     bytes        memsched_guest_NAME_bytes
 *     total bytes  memsched_guest_NAME_bytes_total
 *     total        memsched_guest_NAME_total
 *     ns           memsched_guest_NAME_seconds
 *     percent      memsched_guest_NAME_ratio
 *     flag, count  memsched_guest_NAME
 *     text         one metric for each word that it can be, 0 or 1
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "ctl-export.h"
#include "ctl-table.h"

static const char *const host_columns[] = { "state", "free", "pressure" };

static const char *const conditions[] = {
    "high", "clear", "soft", "hard", "low", NULL
};
static const char *const states[] = {
    "loading", "running", "stopping", "stopped", "failed", NULL
};

/* ---- CSV ---- */

static void csv_cell(GString *out, const char *text)
{
    g_autofree char *clean = ctl_clean(text);

    if (strpbrk(clean, ",\"")) {
        g_auto(GStrv) parts = g_strsplit(clean, "\"", -1);
        g_autofree char *doubled = g_strjoinv("\"\"", parts);

        g_string_append_printf(out, "\"%s\"", doubled);
    } else {
        g_string_append(out, clean);
    }
}

void ctl_csv_head(GString *out)
{
    g_string_append(out, "time");
    for (unsigned i = 0; i < G_N_ELEMENTS(host_columns); i++) {
        g_string_append_printf(out, ",host-%s", host_columns[i]);
    }
    for (const CtlField *f = ctl_guest_fields; f->name; f++) {
        g_string_append_printf(out, ",%s", f->name);
    }
    g_string_append_c(out, '\n');
}

void ctl_csv_sample(GString *out, const CtlSample *sample)
{
    unsigned count = sample->guests ? json_array_get_length(sample->guests)
                                    : 0;

    for (unsigned i = 0; i < count; i++) {
        JsonObject *guest = ctl_element(sample->guests, i);

        g_string_append_printf(out, "%.3f", sample->time_s);
        for (unsigned k = 0; k < G_N_ELEMENTS(host_columns); k++) {
            g_autofree char *raw =
                ctl_field_raw(ctl_field_find(ctl_host_fields,
                                             host_columns[k]),
                              sample->scheduler);

            g_string_append_c(out, ',');
            csv_cell(out, raw);
        }
        for (const CtlField *f = ctl_guest_fields; f->name; f++) {
            g_autofree char *raw = ctl_field_raw(f, guest);

            g_string_append_c(out, ',');
            csv_cell(out, raw);
        }
        g_string_append_c(out, '\n');
    }
}

/* ---- Prometheus ---- */

static const char *unit_of(CtlKind kind)
{
    switch (kind) {
    case CTL_BYTES:
        return "_bytes";
    case CTL_TOTAL_BYTES:
        return "_bytes_total";
    case CTL_TOTAL:
        return "_total";
    case CTL_NS:
        return "_seconds";
    case CTL_PERCENT:
        return "_ratio";
    default:
        return "";
    }
}

/* To be freed. */
static char *metric_name(const CtlField *f, bool of_guest)
{
    return g_strdelimit(g_strdup_printf("memsched_%s%s%s",
                                        of_guest ? "guest_" : "", f->name,
                                        unit_of(f->kind)), "-", '_');
}

static void label(GString *out, const char *name, const char *value)
{
    g_autofree char *clean = ctl_clean(value);

    g_string_append_printf(out, "%s=\"", name);
    for (const char *p = clean; *p; p++) {
        if (*p == '"' || *p == '\\') {
            g_string_append_c(out, '\\');
        }
        g_string_append_c(out, *p);
    }
    g_string_append_c(out, '"');
}

static void sample_line(GString *out, const char *name, const char *guest,
                        const char *word, const char *value)
{
    g_string_append(out, name);
    if (guest || word) {
        g_string_append_c(out, '{');
        if (guest) {
            label(out, "guest", guest);
        }
        if (word) {
            g_string_append(out, guest ? "," : "");
            label(out, "state", word);
        }
        g_string_append_c(out, '}');
    }
    g_string_append_printf(out, " %s\n", value);
}

static void words_of(GString *out, const CtlField *f, const char *name,
                     const char *guest, const char *raw)
{
    bool life = guest && strcmp(f->name, "state") == 0;

    for (const char *const *w = life ? states : conditions; *w; w++) {
        sample_line(out, name, guest, *w, strcmp(raw, *w) == 0 ? "1" : "0");
    }
}

static void value_of(GString *out, const CtlField *f, const char *name,
                     const char *guest, JsonObject *object)
{
    g_autofree char *raw = ctl_field_raw(f, object);
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    if (*raw == '\0') {
        return;
    }
    switch (f->kind) {
    case CTL_TEXT:
        words_of(out, f, name, guest, raw);
        break;
    case CTL_NS:
        sample_line(out, name, guest, NULL,
                    g_ascii_formatd(text, sizeof(text), "%.9f",
                                    g_ascii_strtod(raw, NULL) / 1e9));
        break;
    case CTL_PERCENT:
        sample_line(out, name, guest, NULL,
                    g_ascii_formatd(text, sizeof(text), "%.2f",
                                    g_ascii_strtod(raw, NULL) / 100));
        break;
    default:
        sample_line(out, name, guest, NULL, raw);
    }
}

static void metric(GString *out, const CtlField *f, const CtlSample *s,
                   bool of_guest)
{
    g_autofree char *name = metric_name(f, of_guest);
    g_autoptr(GString) lines = g_string_new(NULL);
    bool counter = f->kind == CTL_TOTAL || f->kind == CTL_TOTAL_BYTES;
    unsigned count = s->guests ? json_array_get_length(s->guests) : 0;

    if (!of_guest) {
        value_of(lines, f, name, NULL, s->scheduler);
    }
    for (unsigned i = 0; of_guest && i < count; i++) {
        JsonObject *guest = ctl_element(s->guests, i);
        const char *id = ctl_text(guest, "id");

        if (id) {
            value_of(lines, f, name, id, guest);
        }
    }
    if (lines->len > 0) {
        g_string_append_printf(out, "# HELP %s %s.\n# TYPE %s %s\n%s", name,
                               f->help, name, counter ? "counter" : "gauge",
                               lines->str);
    }
}

void ctl_metrics(GString *out, const CtlSample *sample)
{
    for (const CtlField *f = ctl_host_fields; f->name; f++) {
        metric(out, f, sample, false);
    }
    for (const CtlField *f = ctl_guest_fields; f->name; f++) {
        if (strcmp(f->name, "guest") != 0) {
            metric(out, f, sample, true);
        }
    }
}
