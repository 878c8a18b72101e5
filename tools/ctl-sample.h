/*
 * One look at a process: what its queries say, and when
 *
 * A recording is a sample a line, a JSON object:
 *
 *     time       seconds since the recording began
 *     scheduler  what query-memsched returns
 *     guests     query-memsched-guests
 *     transfers  query-memsched-transfers
 *     decisions  query-memsched-decisions, where the process has it; in a
 *                recording, those that were not in a sample before it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_SAMPLE_H
#define CTL_SAMPLE_H

#include "ctl-json.h"
#include "ctl-qmp.h"

typedef struct CtlSample {
    double time_s;
    JsonObject *root;           /* the object above */
    /* parts of it: */
    JsonObject *scheduler;      /* NULL: a guest's own monitor */
    JsonArray *guests, *transfers, *decisions;  /* may be NULL */
    GHashTable *by_id;          /* guests; made when first asked for */
} CtlSample;

/* Asks; @time_s is kept.  NULL and @error. */
CtlSample *ctl_sample_take(CtlQmp *qmp, double time_s, GError **error);

/* A line of a recording; NULL and a sentence without the line's number. */
CtlSample *ctl_sample_parse(const char *line, GError **error);

/*
 * Drops decisions up to number @last, which becomes that of the newest: of
 * samples one after the other each decision is then in one.
 */
void ctl_sample_keep_new(CtlSample *sample, uint64_t *last);

/* Without the end of line; to be freed. */
char *ctl_sample_line(const CtlSample *sample);

/* NULL is fine. */
void ctl_sample_free(CtlSample *sample);

/* The guest's object by its ID, or NULL. */
JsonObject *ctl_sample_guest(CtlSample *sample, const char *id);

/*
 * All samples of a recording, at least @least, in the order of their time.
 * @path "-" is standard input.  NULL and @error, with the line.
 */
GPtrArray *ctl_recording_load(const char *path, unsigned least,
                              GError **error);

#endif /* CTL_SAMPLE_H */
