/*
 * Transfers that the policy starts by itself
 *
 * Owns what is different about them.  The policy does not say from whom to
 * whom: it takes from those who have too much, and gives to those who lack
 * something, so one end is always the pool:
 *
 *     guest -> pool    over as soon as it is captured: nobody is promised it
 *     pool -> guest    claimed as memory becomes free, and mapped like others
 *
 * A guest has at most one of each.  Each tick says anew how much is left to do;
 * so a guest whose demand turns is not asked for the rest of what it was asked
 * for a second ago, and one whose demand rises does not wait for a place.
 *
 * They count for themselves, so that an operator's transfers always find room,
 * and are the first to be forgotten.  What such a transfer has taken stays in
 * the pool when it ends short, and in its guest's balloon.
 *
 * Pure, as transfer.c is.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "transfer.h"

MsTransfer *ms_transfers_automatic(MsTransfers *t, const void *from,
                                   const void *to)
{
    for (unsigned i = 0; t->automatic > 0 && i < MS_TRANSFERS_KEPT; i++) {
        MsTransfer *x = &t->kept[i];

        if (x->id && x->automatic && x->from == from && x->to == to &&
            x->state == MEMSCHED_TRANSFER_RUNNING) {
            return x;
        }
    }
    return NULL;
}

void ms_transfers_set_left(MsTransfers *t, MsTransfer *x, uint64_t pages,
                           uint64_t now_ns, MsTransferActions *ret_actions)
{
    ret_actions->count = 0;
    x->requested = x->claimed + pages;
    if (x->from == NULL) {
        x->captured = x->requested;
    }
    if (pages > 0) {
        x->deadline_ns = now_ns + x->deadline_ms * UINT64_C(1000000);
    } else if (x->moved + x->copied + x->discarded >= x->requested) {
        ms_transfers_cancel(t, x, now_ns, ret_actions);
    }
}

void ms_transfers_claim_more(MsTransfer *x, uint64_t pages,
                             MsTransferActions *ret_actions)
{
    pages = MIN(pages, x->requested - x->claimed);
    ret_actions->count = 0;
    if (pages > 0) {
        ret_actions->action[ret_actions->count++] = (MsTransferAction) {
            .kind = MS_TRANSFER_CLAIM, .transfer = x, .client = x->to,
            .pages = pages,
        };
    }
}
