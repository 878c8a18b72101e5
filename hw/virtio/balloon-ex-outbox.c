/*
 * What the host has to say to a guest, until the guest reads it
 *
 * Owns the order: the ring first, then the condition, then the wish for
 * statistics.  Answers come before news, and a flood of answers cannot last:
 * it takes messages of the guest, which are not read beyond
 * BALLOON_EX_OUTBOX_HIGH.
 *
 * Pure; the caller serialises.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "balloon-ex-outbox.h"

static void pack(const BalloonExMessage *message, BalloonExPacked *ret_packed)
{
    ret_packed->bytes = balloon_ex_wire_pack(message, ret_packed->data);
}

bool balloon_ex_outbox_put(BalloonExOutbox *box,
                           const BalloonExMessage *message)
{
    bool fits = true;

    switch (message->type) {
    case VBX_CONDITION:
        pack(message, &box->condition);
        return true;
    case VBX_POLL:
        pack(message, &box->poll);
        return true;
    default:
        break;
    }
    if (box->count == BALLOON_EX_OUTBOX) {
        box->dropped += box->count;
        box->count = 0;
        fits = false;
    }
    pack(message, &box->ring[(box->first + box->count++) %
                             BALLOON_EX_OUTBOX]);
    return fits;
}

bool balloon_ex_outbox_take(BalloonExOutbox *box, BalloonExPacked *ret_packed)
{
    BalloonExPacked *news = box->condition.bytes ? &box->condition
                                                 : &box->poll;

    if (box->count) {
        *ret_packed = box->ring[box->first];
        box->first = (box->first + 1) % BALLOON_EX_OUTBOX;
        box->count--;
        return true;
    }
    if (!news->bytes) {
        return false;
    }
    *ret_packed = *news;
    news->bytes = 0;
    return true;
}

void balloon_ex_outbox_clear(BalloonExOutbox *box)
{
    box->count = 0;
    box->condition.bytes = 0;
    box->poll.bytes = 0;
}
