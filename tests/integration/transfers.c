/*
 * Transfers between pretended guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "transfers.h"

#define WAIT_US (60 * G_USEC_PER_SEC)

uint64_t transfer_start(MemSched *ms, const char *from, const char *to,
                        uint64_t bytes, MemSchedSource source,
                        unsigned deadline_ms)
{
    MemSchedTransferOptions options = {
        .from = from, .to = to, .size_bytes = bytes, .source = source,
        .deadline_ms = deadline_ms,
    };
    MemSchedMessage message = { "" };
    uint64_t id = 0;

    if (memsched_reallocate(ms, &options, &id, &message) < 0) {
        g_error("%s to %s: %s", from, to, message.text);
    }
    return id;
}

MemSchedTransferInfo transfer_info(MemSched *ms, uint64_t id)
{
    MemSchedTransferInfo infos[256];
    size_t count = memsched_query_transfers(ms, infos, 256);

    for (size_t i = 0; i < count; i++) {
        if (infos[i].id == id) {
            return infos[i];
        }
    }
    g_error("transfer %" G_GUINT64_FORMAT " is not shown", id);
}

MemSchedTransferInfo transfer_wait(MemSched *ms, uint64_t id)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedTransferInfo info;

    do {
        info = transfer_info(ms, id);
        if (info.state != MEMSCHED_TRANSFER_RUNNING) {
            g_test_message("transfer: %s", info.reason);
            return info;
        }
        g_usleep(500);
    } while (g_get_monotonic_time() < end);
    g_error("transfer %" G_GUINT64_FORMAT " has not ended after 60 s", id);
}

void transfer_assert_completed(const MemSchedTransferInfo *t)
{
    if (t->state != MEMSCHED_TRANSFER_COMPLETED) {
        g_error("%s to %s: state %d, %" G_GUINT64_FORMAT " KiB captured, %"
                G_GUINT64_FORMAT " moved, of %" G_GUINT64_FORMAT ": %s",
                t->from, t->to, t->state, t->captured_bytes / 1024,
                t->moved_bytes / 1024, t->requested_bytes / 1024, t->reason);
    }
    g_assert_cmpuint(t->moved_bytes, ==, t->requested_bytes);
    g_assert_cmpstr(t->reason, ==, "");
}
