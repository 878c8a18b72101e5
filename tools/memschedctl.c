/*
 * memschedctl: the operator's client of the host memory scheduler
 *
 * Owns the command line.  Commands are in ctl-*.c; each opens its own
 * connection, so that nothing holds a monitor longer than it has to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl-command.h"

#define TIMEOUT_S 10

typedef struct Verb {
    const char *name;
    CtlCommand *run;
    const char *help;
} Verb;

static const Verb verbs[] = {
    { "status", ctl_status, "the host: pool, state, pressure, moves" },
    { "guests", ctl_guests, "a table of the guests" },
    { "applications", ctl_applications, "the balloon applications in them" },
    { "top", ctl_top, "both, drawn anew all the time" },
    { "move", ctl_move, "move memory from one guest to another" },
    { "set", ctl_set, "change limits of a guest, or options" },
    { "explain", ctl_explain, "why a guest has what it has" },
    { "protection", ctl_protection, "cover against memory errors" },
    { "record", ctl_record, "write what is seen to a file" },
    { "plot", ctl_draw, "make a picture or a page of a recording" },
    { "metrics", ctl_show_metrics, "Prometheus text" },
};

int ctl_say(int status, const char *words)
{
    fprintf(stderr, "memschedctl: %s\n", words);
    return status;
}

int ctl_fail(GError *error)
{
    ctl_say(CTL_FAILED, error->message);
    g_error_free(error);
    return CTL_FAILED;
}

CtlQmp *ctl_connect(const CtlContext *context, int *ret_status)
{
    GError *error = NULL;
    CtlQmp *qmp;

    if (!context->socket) {
        *ret_status = ctl_say(CTL_USAGE, "give the QMP socket of the process "
                              "by -s, or in MEMSCHED_SOCKET");
        return NULL;
    }
    qmp = ctl_qmp_open(context->socket, context->timeout_ms, &error);
    if (!qmp) {
        *ret_status = ctl_fail(error);
    }
    return qmp;
}

bool ctl_options(int *argc, char ***argv, const GOptionEntry *options,
                 const char *arguments, const char *about, int *ret_status)
{
    g_autofree char *name = g_strdup_printf("memschedctl %s", (*argv)[0]);
    g_autoptr(GOptionContext) context = g_option_context_new(arguments);
    g_autoptr(GError) error = NULL;
    gboolean help = FALSE;
    const GOptionEntry more[] = {
        { "help", 'h', 0, G_OPTION_ARG_NONE, &help, "this text", NULL },
        G_OPTION_ENTRY_NULL
    };

    g_set_prgname(name);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_summary(context, about);
    if (options) {
        g_option_context_add_main_entries(context, options, NULL);
    }
    g_option_context_add_main_entries(context, more, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        *ret_status = ctl_say(CTL_USAGE, error->message);
        return false;
    }
    if (help) {
        g_autofree char *words = g_option_context_get_help(context, TRUE,
                                                           NULL);

        fputs(words, stdout);
        *ret_status = CTL_DONE;
        return false;
    }
    return true;
}

void ctl_print(GPtrArray *lines)
{
    for (guint i = 0; i < lines->len; i++) {
        puts(g_ptr_array_index(lines, i));
    }
    g_ptr_array_unref(lines);
}

unsigned ctl_terminal_width(void)
{
    struct winsize size;

    return isatty(STDOUT_FILENO) &&
           ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* ---- command line ---- */

static void usage(FILE *out)
{
    fputs("Usage: memschedctl [-s SOCKET] [-t SECONDS] COMMAND "
          "[ARGUMENTS]\n\nCommands:\n", out);
    for (unsigned i = 0; i < G_N_ELEMENTS(verbs); i++) {
        fprintf(out, "  %-12s  %s\n", verbs[i].name, verbs[i].help);
    }
    fputs("\nOptions:\n"
          "  -s, --socket PATH   QMP socket of the process, instead of "
          "$MEMSCHED_SOCKET\n"
          "  -t, --timeout S     for each answer (default 10)\n"
          "  -h, --help          this text; after a command: about it\n",
          out);
}

/* The value of an option of two names at @argv[*i], or NULL. */
static const char *value_of(int argc, char **argv, int *i, const char *brief,
                            const char *full)
{
    size_t length = strlen(full);

    if (strcmp(argv[*i], brief) == 0 || strcmp(argv[*i], full) == 0) {
        return *i + 1 < argc ? argv[++*i] : "";
    }
    if (strncmp(argv[*i], full, length) == 0 && argv[*i][length] == '=') {
        return argv[*i] + length + 1;
    }
    return NULL;
}

/* Index of the command, or -1 after a sentence; 0 after --help. */
static int global_options(int argc, char **argv, CtlContext *context)
{
    for (int i = 1; i < argc; i++) {
        const char *value;

        if (argv[i][0] != '-') {
            return i;
        }
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            return 0;
        }
        value = value_of(argc, argv, &i, "-s", "--socket");
        if (value) {
            context->socket = value;
            continue;
        }
        value = value_of(argc, argv, &i, "-t", "--timeout");
        if (value) {
            double seconds = g_ascii_strtod(value, NULL);

            if (!(seconds > 0 && seconds <= 86400)) {
                ctl_say(CTL_USAGE, "the timeout is a number of seconds above "
                        "0, a day at most");
                return -1;
            }
            context->timeout_ms = MAX((unsigned)(seconds * 1000), 1);
        } else {
            g_autofree char *words = g_strdup_printf(
                "there is no option %s; try --help", argv[i]);

            ctl_say(CTL_USAGE, words);
            return -1;
        }
    }
    usage(stderr);
    return -1;
}

int main(int argc, char **argv)
{
    CtlContext context = {
        .socket = g_getenv("MEMSCHED_SOCKET"),
        .timeout_ms = TIMEOUT_S * 1000,
    };
    int at;

    /* Figures are for machines too: no decimal commas. */
    setlocale(LC_CTYPE, "");
    at = global_options(argc, argv, &context);
    if (at <= 0) {
        return at == 0 ? CTL_DONE : CTL_USAGE;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(verbs[i].name, argv[at]) == 0) {
            int status = verbs[i].run(&context, argc - at, argv + at);

            if (fflush(stdout) != 0 && status == CTL_DONE) {
                status = ctl_say(CTL_FAILED, "the output cannot be written");
            }
            return status;
        }
    }
    usage(stderr);
    return CTL_USAGE;
}
