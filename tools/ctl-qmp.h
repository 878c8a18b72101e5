/*
 * A QMP client over a Unix socket
 *
 * One command at a time; blocking, and every wait has a limit.  One thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_QMP_H
#define CTL_QMP_H

#include <json-glib/json-glib.h>

typedef enum CtlQmpError {
    CTL_QMP_CONNECT,            /* nobody listens there */
    CTL_QMP_CLOSED,             /* the other side has gone */
    CTL_QMP_TIMEOUT,            /* no answer in time */
    CTL_QMP_NONSENSE,           /* what came is not QMP */
    CTL_QMP_REFUSED,            /* the command failed: QEMU's own sentence */
    CTL_QMP_UNKNOWN,            /* this process has no such command */
} CtlQmpError;

#define CTL_QMP_ERROR ctl_qmp_error_quark()
GQuark ctl_qmp_error_quark(void);

typedef struct CtlQmp CtlQmp;

/*
 * Connects, reads the greeting and leaves capability negotiation.  Each wait of
 * this connection takes @timeout_ms at most.  NULL and @error.
 */
CtlQmp *ctl_qmp_open(const char *path, unsigned timeout_ms, GError **error);

/* NULL is fine. */
void ctl_qmp_close(CtlQmp *qmp);

/*
 * What the command returns; free with json_node_unref().  Takes @arguments,
 * which may be NULL.  Events that come in between are kept, the last 1,000.
 */
JsonNode *ctl_qmp_run(CtlQmp *qmp, const char *command,
                      JsonObject *arguments, GError **error);

/*
 * The data of the next event @name, or CTL_QMP_TIMEOUT after @timeout_ms.
 * NULL and no error: an event without data.
 */
JsonNode *ctl_qmp_event(CtlQmp *qmp, const char *name, unsigned timeout_ms,
                        GError **error);

#endif /* CTL_QMP_H */
