/*
 * Example: ask for memory before a large job begins
 *
 * Looks whether the memory can be had at all, asks for it, waits for the
 * answer, and says what it would do then.
 *
 *     request MIB [RUN_DIR]
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <balloonex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Answer {
    int last;
    BxStatus status;
    BxReason reason;
    uint64_t bytes;
} Answer;

static void on_answer(void *opaque, uint64_t request, BxStatus status,
                      BxReason reason, uint64_t bytes)
{
    Answer *answer = opaque;

    (void)request;
    answer->last = status != BX_QUEUED;
    answer->status = status;
    answer->reason = reason;
    answer->bytes = bytes;
}

static int ask(Bx *bx, uint64_t bytes, Answer *answer)
{
    BxRequest request = {
        .bytes = bytes, .deadline_ms = 10000, .priority = 6,
        .want = BX_WANT_START,
    };
    uint64_t number;
    int rc;

    for (int i = 0; i < 50 && !bx_is_connected(bx); i++) {
        bx_wait(bx, 100);
        bx_dispatch(bx);
    }
    rc = bx_request(bx, &request, &number);
    while (rc == 0 && !answer->last) {
        bx_wait(bx, -1);
        bx_dispatch(bx);
    }
    return rc;
}

int main(int argc, char **argv)
{
    uint64_t bytes = (uint64_t)(argc > 1 ? atoi(argv[1]) : 64) << 20;
    Answer answer = { .last = 0 };
    BxCondition condition;
    Bx *bx;
    int rc;

    rc = bx_open(argc > 2 ? argv[2] : NULL, 0, &bx);
    if (rc < 0) {
        fprintf(stderr, "request: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    bx_on_answer(bx, on_answer, &answer);
    if (bx_condition_get(bx, &condition) == 0) {
        printf("%llu MiB could be had now\n",
               (unsigned long long)(condition.reservable >> 20));
    }
    rc = ask(bx, bytes, &answer);
    if (rc < 0) {
        fprintf(stderr, "request: %s\n", strerror(-rc));
    } else if (answer.status == BX_REFUSED) {
        printf("refused (%s): the small job, then\n",
               bx_reason_name(answer.reason));
    } else {
        printf("a job of %llu MiB begins\n",
               (unsigned long long)(answer.bytes >> 20));
    }
    bx_close(bx);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
