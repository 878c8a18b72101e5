/*
 * Looks at even distances, until a limit or a signal
 *
 * Owns the signals.  A look that takes longer than the interval makes no queue
 * of looks: those that are overdue are left out.
 *
 * Signals are blocked but inside of ppoll(), so none is missed between a test
 * and a wait.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "ctl-pace.h"

static volatile sig_atomic_t ended;

static void end(int number)
{
    ended = 1;
}

void ctl_pace_start(CtlPace *pace, double interval_s, double limit_s)
{
    struct sigaction action = { .sa_handler = end };
    sigset_t set;

    *pace = (CtlPace) {
        .start_us = g_get_monotonic_time(),
        .interval_us = (gint64)(interval_s * 1e6),
        .limit_us = (gint64)(limit_s * 1e6),
    };
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

double ctl_pace_now(const CtlPace *pace)
{
    return (double)(g_get_monotonic_time() - pace->start_us) / 1e6;
}

int ctl_pace_wait_fd(CtlPace *pace, int fd)
{
    gint64 gone = g_get_monotonic_time() - pace->start_us, due;
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    sigset_t none;

    pace->looks = MAX(pace->looks + 1, gone / pace->interval_us);
    due = pace->looks * pace->interval_us;
    if (pace->limit_us > 0 && due > pace->limit_us) {
        return 0;
    }
    sigemptyset(&none);
    while (!ended) {
        gint64 left = pace->start_us + due - g_get_monotonic_time();
        struct timespec wait = { left / 1000000, left % 1000000 * 1000 };
        int n;

        if (left <= 0) {
            return 1;
        }
        n = ppoll(&poll_fd, 1, &wait, &none);
        if (n > 0) {
            /* Not a look: the next one is due as before. */
            pace->looks--;
            return 2;
        }
        if (n < 0 && errno != EINTR) {
            return 0;
        }
        if (n < 0 && !ended) {
            /* The terminal has another size: draw anew. */
            pace->looks--;
            return 2;
        }
    }
    return 0;
}

bool ctl_pace_wait(CtlPace *pace)
{
    int what;

    do {
        what = ctl_pace_wait_fd(pace, -1);
    } while (what == 2);
    return what == 1;
}
