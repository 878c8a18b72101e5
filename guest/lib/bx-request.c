/*
 * Requests for memory: which are open, and what came of them
 *
 * A request's number is its cookie.  Its place is free before the program is
 * told the last answer, so that it may ask again from there.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "bx-int.h"

#include <errno.h>

_Static_assert((int)BX_QUEUED == VBX_ANSWER_QUEUED &&
               (int)BX_GRANTED == VBX_ANSWER_GRANTED &&
               (int)BX_PARTIAL == VBX_ANSWER_PARTIAL &&
               (int)BX_REFUSED == VBX_ANSWER_REFUSED, "the wire's numbers");
_Static_assert((int)BX_REASON_PRESSURE == VBX_REASON_PRESSURE &&
               (int)BX_REASON_END == VBX_REASON_END &&
               (int)BX_REASON_HIBERNATE == VBX_REASON_HIBERNATE,
               "the wire's numbers");
_Static_assert((int)BX_WANT_PRESSURE == VBX_WANT_PRESSURE &&
               BX_PRIORITY_MAX == VBX_PRIORITY_MAX &&
               BX_DEADLINE_MAX_MS == VBX_REQUEST_MAX_MS &&
               BX_VETO_MAX_MS == VBX_VETO_MAX_MS, "the wire's numbers");

const char *bx_reason_name(unsigned reason)
{
    static const char *const names[] = {
        "none", "pressure", "limit", "deadline", "veto", "busy", "unknown",
        "end", "host", "cancelled", "hibernate",
    };

    return reason < sizeof(names) / sizeof(names[0]) ? names[reason] : "?";
}

static uint64_t *find(Bx *bx, uint64_t request)
{
    for (unsigned i = 0; i < BX_REQUESTS_MAX; i++) {
        if (bx->request[i] == request) {
            return &bx->request[i];
        }
    }
    return NULL;
}

void bx_on_answer(Bx *bx, BxAnswerFunc *func, void *opaque)
{
    bx->on_answer = func;
    bx->on_answer_opaque = opaque;
}

static void tell(Bx *bx, uint64_t request, BxStatus status, BxReason reason,
                 uint64_t bytes)
{
    if (bx->on_answer) {
        bx->on_answer(bx->on_answer_opaque, request, status, reason, bytes);
    }
}

int bx_request(Bx *bx, const BxRequest *request, uint64_t *ret_request)
{
    uint64_t *place;
    BxMessage m;
    int rc;

    if (request->bytes == 0 || request->bytes > UINT64_C(1) << 56 ||
        request->deadline_ms > BX_DEADLINE_MAX_MS ||
        request->priority > BX_PRIORITY_MAX) {
        return -EINVAL;
    }
    if (!bx->welcome) {
        return -ENOTCONN;
    }
    place = find(bx, 0);
    if (!place) {
        return -ENOSPC;
    }
    bx_wire_init(&m, VBX_REQUEST, 0, bx->last_request + 1);
    m.request.bytes = request->bytes;
    m.request.deadline_ms = request->deadline_ms;
    m.request.priority = request->priority;
    m.request.reason = request->want;
    rc = bx_send(bx, &m);
    if (rc < 0) {
        return rc;
    }
    *place = *ret_request = ++bx->last_request;
    return 0;
}

int bx_cancel(Bx *bx, uint64_t request)
{
    uint64_t *place = request ? find(bx, request) : NULL;
    BxMessage m;
    int rc;

    if (!place) {
        return -ENOENT;
    }
    bx_wire_init(&m, VBX_CANCEL, 0, request);
    rc = bx_send(bx, &m);
    if (rc == 0) {
        *place = 0;
    }
    return rc;
}

void bx_request_answer(Bx *bx, const BxMessage *message)
{
    uint64_t request = message->header.cookie;
    uint64_t *place = request ? find(bx, request) : NULL;

    if (!place) {
        return;                 /* cancelled meanwhile */
    }
    if (message->answer.status != VBX_ANSWER_QUEUED) {
        *place = 0;
    }
    tell(bx, request, (BxStatus)message->answer.status,
         (BxReason)message->answer.reason, message->answer.bytes);
}

void bx_request_error(Bx *bx, const BxMessage *message)
{
    uint64_t request = message->header.cookie;
    uint64_t *place = request ? find(bx, request) : NULL;

    if (place && message->error.type == VBX_REQUEST) {
        *place = 0;
        tell(bx, request, BX_REFUSED,
             message->error.code == VBX_ERROR_LIMIT ? BX_REASON_LIMIT
                                                    : BX_REASON_UNKNOWN, 0);
    }
}

void bx_request_end_all(Bx *bx, bool tell_them)
{
    for (unsigned i = 0; i < BX_REQUESTS_MAX; i++) {
        uint64_t request = bx->request[i];

        bx->request[i] = 0;
        if (request && tell_them) {
            tell(bx, request, BX_REFUSED, BX_REASON_END, 0);
        }
    }
}
