/*
 * The commands of bxctl
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TOOLS_BXCTL_H
#define TOOLS_BXCTL_H

#include <stdbool.h>
#include <stdint.h>

/* Exit status; 1 is a failure, after a sentence to standard error. */
enum { CTL_GOOD = 0, CTL_FAILED = 1, CTL_PARTIAL = 2, CTL_REFUSED = 3 };

typedef struct CtlRequest {
    uint64_t bytes;
    unsigned priority, want, deadline_ms;
    bool wait, json;
} CtlRequest;

int ctl_condition(const char *run_dir, bool json, bool watch);
int ctl_request(const char *run_dir, const CtlRequest *request);
int ctl_status(const char *run_dir, bool json);
int ctl_veto(const char *run_dir, unsigned duration_ms);
int ctl_sleep(const char *run_dir, bool sleep);

/* A VBX_WANT_* by its name; -1. */
int ctl_want(const char *name);

#endif
