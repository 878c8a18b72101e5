/*
 * Looks at even distances, until a limit or a signal
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_PACE_H
#define CTL_PACE_H

#include <glib.h>
#include <stdbool.h>

typedef struct CtlPace {
    gint64 start_us, interval_us, limit_us, looks;
} CtlPace;

/* @limit_s 0: none.  From here on SIGINT and SIGTERM end the wait. */
void ctl_pace_start(CtlPace *pace, double interval_s, double limit_s);

/* Seconds since the start. */
double ctl_pace_now(const CtlPace *pace);

/*
 * Waits until the next look is due, or until @fd, where it is not -1, can be
 * read: 1, or 2 for @fd.  0: over.
 */
int ctl_pace_wait_fd(CtlPace *pace, int fd);
bool ctl_pace_wait(CtlPace *pace);

#endif /* CTL_PACE_H */
