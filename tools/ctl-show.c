/*
 * status, guests, applications, explain, metrics: one look, printed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <string.h>

#include "ctl-command.h"
#include "ctl-export.h"
#include "ctl-view.h"

/* One sample, or NULL after a sentence. */
static CtlSample *look(const CtlContext *context, int *ret_status)
{
    CtlQmp *qmp = ctl_connect(context, ret_status);
    GError *error = NULL;
    CtlSample *sample;

    if (!qmp) {
        return NULL;
    }
    sample = ctl_sample_take(qmp, 0, &error);
    ctl_qmp_close(qmp);
    if (!sample) {
        *ret_status = ctl_fail(error);
    }
    return sample;
}

static bool no_more(int argc, int *ret_status)
{
    if (argc > 1) {
        *ret_status = ctl_say(CTL_USAGE, "there are too many arguments; try "
                              "--help");
    }
    return argc == 1;
}

int ctl_status(const CtlContext *context, int argc, char **argv)
{
    CtlSample *sample;
    int status = CTL_DONE;

    if (!ctl_options(&argc, &argv, NULL, NULL, "Show the host and its pool.",
                     &status) || !no_more(argc, &status)) {
        return status;
    }
    sample = look(context, &status);
    if (sample) {
        ctl_print(ctl_view_host(sample, NULL, 0));
        ctl_print(ctl_view_transfers(sample, 0));
        ctl_sample_free(sample);
    }
    return status;
}

int ctl_guests(const CtlContext *context, int argc, char **argv)
{
    gboolean csv = FALSE;
    gint width = -1;
    const GOptionEntry options[] = {
        { "csv", 0, 0, G_OPTION_ARG_NONE, &csv, "a line a guest, sizes in "
          "bytes", NULL },
        { "width", 'w', 0, G_OPTION_ARG_INT, &width, "columns of the screen "
          "(default: of the terminal; 0: no limit)", "N" },
        G_OPTION_ENTRY_NULL
    };
    CtlSample *sample;
    int status = CTL_DONE;

    if (!ctl_options(&argc, &argv, options, NULL, "Show the guests; sizes in "
                     "MiB.", &status) || !no_more(argc, &status)) {
        return status;
    }
    sample = look(context, &status);
    if (!sample) {
        return status;
    }
    if (csv) {
        g_autoptr(GString) out = g_string_new(NULL);

        ctl_csv_head(out);
        ctl_csv_sample(out, sample);
        fputs(out->str, stdout);
    } else {
        ctl_print(ctl_view_guests(sample, NULL, NULL, width < 0
                                  ? ctl_terminal_width() : (unsigned)width));
    }
    ctl_sample_free(sample);
    return status;
}

int ctl_applications(const CtlContext *context, int argc, char **argv)
{
    int width = -1;
    const GOptionEntry options[] = {
        { "width", 'w', 0, G_OPTION_ARG_INT, &width,
          "columns of what is printed (0: no limit)", "N" },
        G_OPTION_ENTRY_NULL
    };
    int status = CTL_DONE;
    CtlSample *sample;

    if (!ctl_options(&argc, &argv, options, "[GUEST]", "Print a table of "
                     "balloon applications, and what they ask for; sizes in "
                     "MiB.", &status)) {
        return status;
    }
    if (argc > 2) {
        return ctl_say(CTL_USAGE, "one guest at a time, or all, can be shown");
    }
    sample = look(context, &status);
    if (!sample) {
        return status;
    }
    if (argc == 2 && !ctl_sample_guest(sample, argv[1])) {
        g_autofree char *words = g_strdup_printf("there is no guest %s",
                                                 argv[1]);

        status = ctl_say(CTL_FAILED, words);
    } else {
        ctl_print(ctl_view_applications(sample, argc == 2 ? argv[1] : NULL,
                                        width < 0 ? ctl_terminal_width()
                                                  : (unsigned)width));
    }
    ctl_sample_free(sample);
    return status;
}

int ctl_show_metrics(const CtlContext *context, int argc, char **argv)
{
    g_autofree char *path = NULL;
    const GOptionEntry options[] = {
        { "output", 'o', 0, G_OPTION_ARG_FILENAME, &path, "replace this file "
          "in one go, for a collector of text files", "FILE" },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GString) out = g_string_new(NULL);
    GError *error = NULL;
    CtlSample *sample;
    int status = CTL_DONE;

    if (!ctl_options(&argc, &argv, options, NULL, "Print Prometheus text.",
                     &status) || !no_more(argc, &status)) {
        return status;
    }
    sample = look(context, &status);
    if (!sample) {
        return status;
    }
    ctl_metrics(out, sample);
    ctl_sample_free(sample);
    if (!path) {
        fputs(out->str, stdout);
    } else if (!g_file_set_contents(path, out->str, out->len, &error)) {
        status = ctl_fail(error);
    }
    return status;
}

/* ---- explain ---- */

static int explain_guest(CtlQmp *qmp, const char *id, GError **error)
{
    JsonObject *arguments = json_object_new();
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *object;
    const char *text;

    json_object_set_string_member(arguments, "id", id);
    answer = ctl_qmp_run(qmp, "memsched-explain", arguments, error);
    if (!answer) {
        return CTL_FAILED;
    }
    object = JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer)
                                            : NULL;
    text = ctl_text(object, "text");
    if (text) {
        puts(text);
    }
    if (ctl_array(object, "decisions")) {
        ctl_print(ctl_view_decisions(ctl_array(object, "decisions"), NULL,
                                     0));
    }
    if (!text) {
        ctl_print(ctl_view_any(answer));
    }
    return CTL_DONE;
}

static int explain_all(CtlQmp *qmp, GError **error)
{
    g_autoptr(JsonNode) answer =
        ctl_qmp_run(qmp, "query-memsched-decisions", NULL, error);
    GPtrArray *lines;

    if (!answer) {
        return CTL_FAILED;
    }
    lines = ctl_view_decisions(JSON_NODE_HOLDS_ARRAY(answer)
                               ? json_node_get_array(answer) : NULL, NULL, 0);
    if (lines->len == 0) {
        puts("no decision was made yet");
    }
    ctl_print(lines);
    return CTL_DONE;
}

int ctl_explain(const CtlContext *context, int argc, char **argv)
{
    GError *error = NULL;
    int status = CTL_DONE;
    CtlQmp *qmp;

    if (!ctl_options(&argc, &argv, NULL, "[GUEST]", "Tell why a guest has "
                     "the memory that it has; without one, the last "
                     "decisions.", &status)) {
        return status;
    }
    if (argc > 2) {
        return ctl_say(CTL_USAGE, "one guest at a time can be explained");
    }
    qmp = ctl_connect(context, &status);
    if (!qmp) {
        return status;
    }
    status = argc == 2 ? explain_guest(qmp, argv[1], &error)
                       : explain_all(qmp, &error);
    ctl_qmp_close(qmp);
    if (error) {
        status = ctl_fail(error);
    }
    return status;
}
