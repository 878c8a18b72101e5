/*
 * record and plot: what happened, in a file and in a picture
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl-command.h"
#include "ctl-pace.h"
#include "ctl-plot.h"
#include "ctl-sample.h"

static int write_samples(CtlQmp *qmp, FILE *out, double interval_s,
                         double limit_s)
{
    GError *error = NULL;
    uint64_t decided = 0;
    CtlPace pace;

    ctl_pace_start(&pace, interval_s, limit_s);
    do {
        CtlSample *sample = ctl_sample_take(qmp, ctl_pace_now(&pace), &error);
        g_autofree char *line = NULL;

        if (!sample) {
            break;
        }
        /* The process tells hundreds each time: each is written once. */
        ctl_sample_keep_new(sample, &decided);
        line = ctl_sample_line(sample);
        ctl_sample_free(sample);
        if (fprintf(out, "%s\n", line) < 0 || fflush(out) != 0) {
            return ctl_say(CTL_FAILED, "the recording cannot be written");
        }
    } while (ctl_pace_wait(&pace));
    if (error && error->code == CTL_QMP_CLOSED) {
        /* The process ended: so does its recording. */
        g_error_free(error);
        return CTL_DONE;
    }
    return error ? ctl_fail(error) : CTL_DONE;
}

int ctl_record(const CtlContext *context, int argc, char **argv)
{
    double interval = 0.5, limit = 0;
    const GOptionEntry options[] = {
        { "interval", 'i', 0, G_OPTION_ARG_DOUBLE, &interval,
          "between two looks (default 0.5)", "S" },
        { "for", 'f', 0, G_OPTION_ARG_DOUBLE, &limit,
          "end after so long (default: when the process ends)", "S" },
        G_OPTION_ENTRY_NULL
    };
    int status = CTL_DONE;
    CtlQmp *qmp;
    FILE *out;

    if (!ctl_options(&argc, &argv, options, "FILE", "Write what is seen to a "
                     "file, a JSON object a line, until the process ends.",
                     &status)) {
        return status;
    }
    if (argc != 2) {
        return ctl_say(CTL_USAGE, "give the file for the recording, or -");
    }
    if (!(interval >= 0.01 && interval <= 3600) || !(limit >= 0)) {
        return ctl_say(CTL_USAGE, "the interval is not between 0.01 and 3600 "
                       "seconds, or the limit is below 0");
    }
    qmp = ctl_connect(context, &status);
    if (!qmp) {
        return status;
    }
    out = strcmp(argv[1], "-") == 0 ? stdout : fopen(argv[1], "w");
    if (!out) {
        g_autofree char *words = g_strdup_printf("%s: %s", argv[1],
                                                 g_strerror(errno));

        status = ctl_say(CTL_FAILED, words);
    } else {
        status = write_samples(qmp, out, interval, limit);
        if (out != stdout && fclose(out) != 0 && status == CTL_DONE) {
            status = ctl_say(CTL_FAILED, "the recording cannot be written");
        }
    }
    ctl_qmp_close(qmp);
    return status;
}

/* ---- plot ---- */

int ctl_draw(const CtlContext *context, int argc, char **argv)
{
    g_autofree char *output = NULL, *title = NULL;
    const GOptionEntry options[] = {
        { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output, "where it goes; "
          "a name in .html makes a page (default: SVG to standard output)",
          "FILE" },
        { "title", 0, 0, G_OPTION_ARG_STRING, &title, "above it", "TEXT" },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GPtrArray) samples = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    GError *error = NULL;
    int status = CTL_DONE;

    if (!ctl_options(&argc, &argv, options, "RECORDING", "Make a picture of "
                     "a recording.", &status)) {
        return status;
    }
    if (argc != 2) {
        return ctl_say(CTL_USAGE, "give a recording, or -");
    }
    samples = ctl_recording_load(argv[1], 2, &error);
    if (!samples) {
        return ctl_fail(error);
    }
    if (output && (g_str_has_suffix(output, ".html") ||
                   g_str_has_suffix(output, ".htm"))) {
        ctl_page(out, samples, title ? title : "Host memory of the guests");
    } else {
        ctl_plot(out, samples, title ? title : "Host memory of the guests",
                 "memory.allocated", true);
    }
    if (!output || strcmp(output, "-") == 0) {
        fputs(out->str, stdout);
    } else if (!g_file_set_contents(output, out->str, out->len, &error)) {
        return ctl_fail(error);
    }
    return CTL_DONE;
}
