/*
 * bxctl request: ask the host for memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "bxctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "balloonex.h"

/* The agent is there or it is not; it need not be waited for long. */
#define CONNECT_MS 2000

static const char *const wants[] = {
    "unsaid", "cache", "heap", "start", "pressure",
};

int ctl_want(const char *name)
{
    for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
        if (strcmp(wants[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

typedef struct Answer {
    bool came, last;
    BxStatus status;
    BxReason reason;
    uint64_t bytes;
} Answer;

static void on_answer(void *opaque, uint64_t request, BxStatus status,
                      BxReason reason, uint64_t bytes)
{
    Answer *answer = opaque;

    (void)request;              /* there is one */
    *answer = (Answer) {
        .came = true, .last = status != BX_QUEUED, .status = status,
        .reason = reason, .bytes = bytes,
    };
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* Until @flag or for @timeout_ms; false: time is up, or the agent is gone. */
static bool wait_for(Bx *bx, const bool *flag, int64_t timeout_ms)
{
    int64_t until = now_ms() + timeout_ms, left = timeout_ms;

    while (!(flag ? *flag : bx_is_connected(bx)) && left >= 0) {
        bx_wait(bx, (int)left);
        bx_dispatch(bx);
        left = until - now_ms();
    }
    return flag ? *flag : bx_is_connected(bx);
}

static int show(const Answer *answer, uint64_t asked, bool json)
{
    static const char *const names[] = {
        "queued", "granted", "partial", "refused",
    };
    static const int statuses[] = {
        CTL_GOOD, CTL_GOOD, CTL_PARTIAL, CTL_REFUSED,
    };

    if (json) {
        printf("{\"status\": \"%s\", \"reason\": \"%s\", \"asked\": %" PRIu64
               ", \"granted\": %" PRIu64 "}\n", names[answer->status],
               bx_reason_name(answer->reason), asked, answer->bytes);
    } else {
        printf("%s: %" PRIu64 " of %" PRIu64 " MiB", names[answer->status],
               answer->bytes >> 20, asked >> 20);
        if (answer->reason != BX_REASON_NONE) {
            printf(" (%s)", bx_reason_name(answer->reason));
        }
        printf("\n");
    }
    return statuses[answer->status];
}

static int ask(Bx *bx, const CtlRequest *r)
{
    BxRequest request = {
        .bytes = r->bytes, .deadline_ms = r->deadline_ms,
        .priority = r->priority, .want = r->want,
    };
    Answer answer = { .came = false };
    /* The host answers within the deadline; a little for the way. */
    int64_t patience = (int64_t)r->deadline_ms + 5000;
    uint64_t number;
    int rc;

    bx_on_answer(bx, on_answer, &answer);
    if (!wait_for(bx, NULL, CONNECT_MS)) {
        fprintf(stderr, "bxctl: balloon-exd does not run, or its socket is "
                "not for you\n");
        return CTL_FAILED;
    }
    rc = bx_request(bx, &request, &number);
    if (rc < 0) {
        fprintf(stderr, "bxctl: %s\n", strerror(-rc));
        return CTL_FAILED;
    }
    if (!wait_for(bx, r->wait ? &answer.last : &answer.came, patience)) {
        fprintf(stderr, "bxctl: the host does not answer\n");
        return CTL_FAILED;
    }
    return show(&answer, r->bytes, r->json);
}

int ctl_request(const char *run_dir, const CtlRequest *request)
{
    int rc, status;
    Bx *bx;

    rc = bx_open(run_dir, 0, &bx);
    if (rc < 0) {
        fprintf(stderr, "bxctl: %s: %s\n", run_dir, strerror(-rc));
        return CTL_FAILED;
    }
    status = ask(bx, request);
    bx_close(bx);
    return status;
}
