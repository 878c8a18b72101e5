/*
 * Commands of memschedctl
 *
 * Each takes its own arguments, the name of the command first, and returns the
 * exit status: CTL_DONE, or one of the others after one sentence on stderr.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_COMMAND_H
#define CTL_COMMAND_H

#include <stdbool.h>

#include "ctl-qmp.h"

enum {
    CTL_DONE = 0,
    CTL_FAILED = 1,             /* the process refused, or has gone */
    CTL_USAGE = 2,              /* wrong command line */
    CTL_PARTIAL = 3,            /* a transfer brought less than asked for */
};

typedef struct CtlContext {
    const char *socket;         /* NULL: not given */
    unsigned timeout_ms;
} CtlContext;

typedef int CtlCommand(const CtlContext *context, int argc, char **argv);

CtlCommand ctl_status, ctl_guests, ctl_applications, ctl_explain;
CtlCommand ctl_show_metrics, ctl_protection;
CtlCommand ctl_top, ctl_record, ctl_draw, ctl_move, ctl_set;

/* "memschedctl: " and @words on stderr; returns @status. */
int ctl_say(int status, const char *words);

/* The same with an error, which is freed. */
int ctl_fail(GError *error);

/* A connection, or NULL after a sentence; @ret_status is then set. */
CtlQmp *ctl_connect(const CtlContext *context, int *ret_status);

/*
 * Parses @options out of @argv; what is left stays in it.  False after a
 * sentence, or after --help with CTL_DONE in @ret_status.
 */
bool ctl_options(int *argc, char ***argv, const GOptionEntry *options,
                 const char *arguments, const char *about, int *ret_status);

/* Prints lines, and frees them. */
void ctl_print(GPtrArray *lines);

/* Columns of the terminal on stdout, or 0 where it is none. */
unsigned ctl_terminal_width(void);

#endif /* CTL_COMMAND_H */
