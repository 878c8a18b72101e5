/*
 * Transfers on the real kernel: memory of one pretended guest comes to be
 * another one's, whole, in part, or not at all
 *
 * Where frames are compared the pool is used up before, so that what the
 * acceptor gets can hardly be anybody's but the donor's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "balloon.h"

#define MIB      (UINT64_C(1) << 20)
#define PAGES(n) ((uint64_t)(n) * MIB / MEMSCHED_PAGE_SIZE)
#define WAIT_US  (60 * G_USEC_PER_SEC)

/* ---- events ---- */

typedef struct Heard {
    GMutex lock;
    GCond cond;
    unsigned ends, stalled, went_on, unresponsive;
    MemSchedTransferInfo last;
} Heard;

static void hear(void *opaque, const MemSchedEvent *event)
{
    Heard *heard = opaque;

    g_mutex_lock(&heard->lock);
    switch (event->kind) {
    case MEMSCHED_EVENT_TRANSFER_COMPLETED:
        heard->ends++;
        heard->last = event->transfer;
        break;
    case MEMSCHED_EVENT_GUEST_STALLED:
        heard->stalled += event->active;
        heard->went_on += !event->active;
        break;
    case MEMSCHED_EVENT_GUEST_UNRESPONSIVE:
        heard->unresponsive += event->active;
        break;
    case MEMSCHED_EVENT_CONDITION_CHANGED:
        break;
    }
    g_cond_broadcast(&heard->cond);
    g_mutex_unlock(&heard->lock);
}

static void listen_to(MemSched *ms, Heard *heard)
{
    MemSchedObserver observer = { .event = hear };

    memset(heard, 0, sizeof(*heard));
    g_mutex_init(&heard->lock);
    g_cond_init(&heard->cond);
    memsched_observe(ms, &observer, heard);
}

static void listen_no_more(MemSched *ms, Heard *heard)
{
    memsched_observe(ms, NULL, NULL);
    g_mutex_clear(&heard->lock);
    g_cond_clear(&heard->cond);
}

/* Until *count has reached @n. */
static void wait_heard(Heard *heard, const unsigned *count, unsigned n)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    g_mutex_lock(&heard->lock);
    while (*count < n) {
        if (!g_cond_wait_until(&heard->cond, &heard->lock, end)) {
            g_error("no event after 60 s");
        }
    }
    g_mutex_unlock(&heard->lock);
}

/* ---- transfers ---- */

static int try_transfer(MemSched *ms, const char *from, const char *to,
                        uint64_t bytes, unsigned deadline_ms, uint64_t *ret_id,
                        MemSchedMessage *message)
{
    MemSchedTransferOptions options = {
        .from = from, .to = to, .size_bytes = bytes,
        .deadline_ms = deadline_ms,
    };

    return memsched_reallocate(ms, &options, ret_id, message);
}

static uint64_t transfer(MemSched *ms, const char *from, const char *to,
                         uint64_t bytes, unsigned deadline_ms)
{
    MemSchedMessage message = { "" };
    uint64_t id = 0;
    int ret = try_transfer(ms, from, to, bytes, deadline_ms, &id, &message);

    if (ret < 0) {
        g_error("%s to %s: %s", from, to, message.text);
    }
    return id;
}

static void assert_completed(const MemSchedTransferInfo *t)
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

static void assert_no_claims(MemSched *ms)
{
    MemSchedInfo info;

    guest_check(ms);
    memsched_query(ms, &info);
    g_assert_cmpuint(info.claimed_bytes, ==, 0);
}

static uint64_t free_bytes(MemSched *ms)
{
    MemSchedInfo info;

    memsched_query(ms, &info);
    return info.free_clean_bytes + info.free_dirty_bytes;
}

/* 0 where it has none, or PFNs are hidden. */
static uint64_t pfn_of(Guest *guest, uint64_t page)
{
    MemSchedTranslation t;

    g_assert_cmpint(memsched_translate(guest->ms, guest->id,
                                       page << MEMSCHED_PAGE_SHIFT, &t, NULL),
                    ==, 0);
    return t.has_pfn ? t.pfn : 0;
}

/* ---- whole ---- */

static void test_256_mib_are_moved_with_their_frames(void)
{
    MemSched *ms = guest_start(512 * MIB);
    Guest *a = guest_new(ms, "a", 512 * MIB, 0);
    Guest *b = guest_new(ms, "b", 512 * MIB, 0);
    g_autoptr(GHashTable) frames = g_hash_table_new(g_int64_hash,
                                                    g_int64_equal);
    g_autofree gint64 *pfns = g_new0(gint64, PAGES(384));
    MemSchedClientInfo before, after;
    MemSchedTransferInfo t;
    uint64_t spare, same = 0, hidden;
    Balloon *driver;
    Heard heard;

    listen_to(ms, &heard);
    guest_fill(a, 0, PAGES(384), 1);
    guest_fill(b, 0, PAGES(112), 2);
    spare = free_bytes(ms);
    g_assert_cmpuint(spare, <=, 16 * MIB);
    for (uint64_t p = 0; p < PAGES(384); p++) {
        pfns[p] = pfn_of(a, p);
        g_hash_table_add(frames, &pfns[p]);
    }
    hidden = pfns[0] == 0;
    guest_query(b, &before);
    driver = balloon_new(a, PAGES(64), PAGES(320), true);
    transfer(ms, "a", "b", 256 * MIB, 0);
    wait_heard(&heard, &heard.ends, 1);
    t = heard.last;
    assert_completed(&t);
    g_test_message("256 MiB in %" G_GUINT64_FORMAT " us, %" G_GUINT64_FORMAT
                   " KiB captured", t.elapsed_ns / 1000,
                   t.captured_bytes / 1024);
    assert_no_claims(ms);
    guest_query(b, &after);
    g_assert_cmpuint(after.allocated_bytes, ==,
                     before.allocated_bytes + 256 * MIB);

    for (uint64_t p = 0; p < b->bytes / MEMSCHED_PAGE_SIZE; p++) {
        gint64 pfn = pfn_of(b, p);

        same += pfn != 0 && g_hash_table_contains(frames, &pfn);
    }
    if (hidden) {
        g_test_message("PFNs are hidden here: not compared");
    } else {
        g_assert_cmpuint(same, >=, PAGES(256) - spare / MEMSCHED_PAGE_SIZE);
    }
    guest_assert(a, 0, PAGES(64), 1);
    guest_assert(b, 0, PAGES(112), 2);
    guest_assert_zero(b, PAGES(112), PAGES(256) - spare / MEMSCHED_PAGE_SIZE);
    balloon_free(driver);
    listen_no_more(ms, &heard);
    guest_free(a);
    guest_free(b);
    guest_stop(ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/256-mib-are-moved-with-their-frames",
                        test_256_mib_are_moved_with_their_frames);
    }
    return g_test_run();
}
