/*
 * Options of balloon-exd: the command line and the file
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef AGENT_OPTIONS_H
#define AGENT_OPTIONS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct AgentOptions {
    char *config;
    char *port;                 /* NULL: look for it */
    char *run_dir;
    char *root;                 /* where /proc, /sys and /dev are; "" */
    char *socket_group;         /* NULL: as we are */
    unsigned socket_mode;
    unsigned max_fraction_percent;      /* of the guest's RAM, at most */
    uint64_t keep_available_bytes;      /* 0: a tenth of RAM, 64 MiB at least */
    uint32_t granule_bytes;     /* the smallest that is used */
    uint64_t step_bytes;
    unsigned stock_seconds;
    bool huge, hints;
    bool verbose, version;
} AgentOptions;

#define AGENT_CONFIG "/etc/balloon-ex/balloon-exd.conf"

/*
 * The defaults, then the file, then the command line.  The file that nobody
 * named need not exist.  FALSE with a sentence in *ret_error.
 */
gboolean agent_options_parse(int *argc, char ***argv,
                             AgentOptions *ret_options, char **ret_error);
void agent_options_clear(AgentOptions *options);

#endif
