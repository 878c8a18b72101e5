/*
 * Starting transfers, and showing them
 *
 * Owns the checks before a transfer: are there two guests, has the donor so
 * much above its min, has the acceptor room for it, counted with what other
 * transfers will still take and bring.  A refusal is one sentence with the
 * figures.
 *
 * Room is what the acceptor can still get: below its max, and in pages of its
 * RAM without a frame (never touched, ballooned, reported, tagged).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdarg.h>

#include "app-order.h"
#include "less.h"
#include "message.h"
#include "scheduler-int.h"

#define KIB(pages) ((pages) * 4)

static int G_GNUC_PRINTF(3, 4) refuse(int ret, MemSchedMessage *message,
                                      const char *format, ...)
{
    va_list args;

    va_start(args, format);
    ms_say_va(message, format, args);
    va_end(args);
    return ret;
}

/* What does not depend on the ledger. */
static int check_words(const MemSchedTransferOptions *o,
                       MemSchedClient *from, MemSchedClient *to,
                       MemSchedMessage *message)
{
    bool attached;

    if (from == NULL || to == NULL) {
        return refuse(-ENOENT, message, "there is no guest '%.*s'",
                      MEMSCHED_ID_MAX, from ? o->to : o->from);
    }
    if (from == to) {
        return refuse(-EINVAL, message, "a transfer needs two guests, '%s' is"
                      " one", from->id);
    }
    if (o->size_bytes == 0) {
        return refuse(-EINVAL, message, "a transfer needs a size above 0");
    }
    if (o->source == MEMSCHED_SOURCE_APPLICATION &&
        !ms_orders_usable(from)) {
        return refuse(-EOPNOTSUPP, message, from->ms->fallback
                      ? "memory of balloon applications in guest '%s' cannot be"
                        " taken: this kernel has no UFFDIO_MOVE"
                      : "no balloon application is connected in guest '%s', or"
                        " its RAM is shared and cannot be moved", from->id);
    }
    ms_lock(&from->lock);
    attached = from->attached;
    ms_unlock(&from->lock);
    if (o->source == MEMSCHED_SOURCE_KERNEL && !attached) {
        return refuse(-EOPNOTSUPP, message, "guest '%s' has no balloon: give"
                      " it a balloon-ex device", from->id);
    }
    return 0;
}

typedef struct Room {
    uint64_t ballooned;         /* B, G */
    uint64_t empty;             /* H, B, P, T */
} Room;

static Room room_of(MemSchedClient *client)
{
    MsClientPages pages;

    ms_client_pages(client, &pages);
    return (Room) {
        .ballooned = ms_pages_ballooned(&pages),
        .empty = pages.count[MEMSCHED_PAGE_HOLE] +
                 pages.count[MEMSCHED_PAGE_BALLOONED] +
                 pages.count[MEMSCHED_PAGE_REPORTED] +
                 pages.count[MEMSCHED_PAGE_TAG],
    };
}

static int check_sizes_locked(MsSched *sched, MemSchedClient *from,
                              MemSchedClient *to, uint64_t pages,
                              uint64_t empty, MemSchedMessage *message)
{
    MsTransferSums sums;
    uint64_t above, room;

    if (ms_sched_guest_locked(from)->gone || ms_sched_guest_locked(to)->gone) {
        return refuse(-ENOENT, message, "guest '%s' goes away just now",
                      ms_sched_guest_locked(from)->gone ? from->id : to->id);
    }
    ms_transfers_sums(&sched->transfers, from, &sums);
    above = ms_less(ms_less(from->account.allocated, from->account.min),
                    sums.give_left);
    if (pages > above) {
        return refuse(-EINVAL, message, "guest '%s' has only %" PRIu64 " KiB"
                      " above its min, %" PRIu64 " KiB are asked for",
                      from->id, KIB(above), KIB(pages));
    }
    ms_transfers_sums(&sched->transfers, to, &sums);
    room = ms_less(MIN(ms_ledger_room(&to->account), empty), sums.take_left);
    if (pages > room) {
        return refuse(-ENOSPC, message, "guest '%s' has room for only %"
                      PRIu64 " KiB (below its max, and not backed yet), not"
                      " for %" PRIu64 " KiB", to->id, KIB(room), KIB(pages));
    }
    return 0;
}

void ms_sched_know_locked(MemSchedClient *client, uint64_t ballooned)
{
    MsSchedGuest *record = ms_sched_guest_locked(client);

    if (!record->known) {
        record->base_pages = MAX(record->base_pages, ballooned);
        record->known = true;
    }
}

/*
 * How long it will take, with what others are to bring before it.  Refused
 * where that is too long and whoever asks would rather know now.
 */
static int expect_locked(MsSched *sched, const MemSchedTransferOptions *o,
                         MemSchedClient *from, uint64_t pages,
                         MsRateEstimate *ret_expected,
                         MemSchedMessage *message)
{
    uint64_t deadline_ms = o->deadline_ms ? o->deadline_ms
                                          : MS_TRANSFER_DEADLINE_MS;
    MsTransferSums sums;

    *ret_expected = (MsRateEstimate) { 0 };
    ms_transfers_sums(&sched->transfers, from, &sums);
    if (!ms_rates_estimate(&ms_sched_guest_locked(from)->rates, o->source,
                           pages + sums.give_left, ret_expected) ||
        !o->in_time || ret_expected->ms <= deadline_ms) {
        return 0;
    }
    return refuse(-ETIME, message, "guest '%s' gave %" PRIu64 " KiB/s when it"
                  " was last asked: %" PRIu64 " KiB would take %" PRIu64
                  " ms, and the deadline is %" PRIu64 " ms", from->id,
                  ret_expected->rate.bytes_per_s / 1024,
                  KIB(pages + sums.give_left), ret_expected->ms, deadline_ms);
}

static int start(MsSched *sched, const MemSchedTransferOptions *o,
                 MemSchedClient *from, MemSchedClient *to, uint64_t *ret_id,
                 MemSchedMessage *message)
{
    MemSched *ms = sched->ms;
    Room donor = room_of(from), acceptor = room_of(to);
    MsTransferStart s = {
        .from = from, .to = to, .from_id = from->id, .to_id = to->id,
        .source = o->source, .deadline_ms = o->deadline_ms,
        /* No overflow: the remainder is added after the shift. */
        .pages = (o->size_bytes >> MEMSCHED_PAGE_SHIFT) +
                 (o->size_bytes % MEMSCHED_PAGE_SIZE != 0),
        .now_ns = ms->sys->now_ns(ms->sys),
    };
    MsRateEstimate expected;
    int ret;

    ms_lock(&ms->ledger_lock);
    ret = check_sizes_locked(sched, from, to, s.pages, acceptor.empty,
                             message);
    if (ret == 0) {
        ret = expect_locked(sched, o, from, s.pages, &expected, message);
    }
    if (ret == 0) {
        ret = ms_transfers_start(&sched->transfers, &s, ret_id);
        if (ret < 0) {
            refuse(ret, message, "%u transfers run already: wait until one"
                   " of them has ended", MS_TRANSFERS_RUNNING);
        }
    }
    if (ret == 0) {
        MsTransfer *x = ms_transfers_find(&sched->transfers, *ret_id);

        x->expected = expected;
        ms_sched_tags_locked(x, true);
        ms_sched_know_locked(from, donor.ballooned);
        ms_sched_know_locked(to, acceptor.ballooned);
        ms_trace(ms, MEMSCHED_TRACE_TRANSFER_BEGIN, from->id, *ret_id,
                 s.pages);
    }
    ms_unlock(&ms->ledger_lock);
    return ret;
}

int memsched_reallocate(MemSched *ms, const MemSchedTransferOptions *options,
                        uint64_t *ret_id, MemSchedMessage *ret_message)
{
    MemSchedClient *from = ms_client_get(ms, options->from);
    MemSchedClient *to = ms_client_get(ms, options->to);
    int ret = check_words(options, from, to, ret_message);

    if (ret == 0) {
        ret = start(ms->sched, options, from, to, ret_id, ret_message);
    }
    if (ret == 0) {
        ms_sched_kick(ms->sched);
    }
    if (to) {
        ms_client_unref(to);
    }
    if (from) {
        ms_client_unref(from);
    }
    return ret;
}

size_t memsched_query_transfers(MemSched *ms, MemSchedTransferInfo *ret_infos,
                                size_t max)
{
    uint64_t now_ns = ms->sys->now_ns(ms->sys);
    size_t count;

    ms_lock(&ms->ledger_lock);
    for (unsigned i = 0; i < MS_TRANSFERS_KEPT; i++) {
        MsTransfer *x = &ms->sched->transfers.kept[i];

        /* Guests of those that have ended may be gone. */
        if (x->id && x->state == MEMSCHED_TRANSFER_RUNNING) {
            ms_sched_tags_locked(x, false);
        }
    }
    count = ms_transfers_list(&ms->sched->transfers, now_ns, ret_infos, max);
    ms_unlock(&ms->ledger_lock);
    return count;
}
