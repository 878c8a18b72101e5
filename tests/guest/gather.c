/*
 * What a giver says, kept for a test to look at
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "gather.h"

#include <string.h>

const uint8_t gather_key[VBX_KEY_BYTES] = "a key for tests";

static void on_send(void *opaque, BxMessage *message)
{
    Gather *gather = opaque;

    g_ptr_array_add(gather->messages,
                    g_memdup2(message, sizeof(*message)));
}

static uint64_t on_spare(void *opaque, uint64_t bytes, unsigned *ret_reason)
{
    Gather *gather = opaque;
    uint64_t spare = MIN(bytes, gather->spare_bytes);

    gather->spare_bytes -= spare;
    *ret_reason = gather->reason;
    return spare;
}

static void on_have(void *opaque, uint64_t bytes)
{
    Gather *gather = opaque;

    gather->had_bytes += bytes;
}

static const BxGiverOps ops = {
    .send = on_send,
    .spare = on_spare,
    .have = on_have,
};

void gather_open(Gather *gather, const BxSys *sys, int pagemap)
{
    BxGiverOptions options = {
        .sys = sys, .huge = true, .step_bytes = 64 << 10, .pagemap = pagemap,
    };

    *gather = (Gather) {
        .messages = g_ptr_array_new(), .spare_bytes = UINT64_MAX / 2,
        .reason = VBX_REASON_PRESSURE,
    };
    g_assert_cmpint(bx_giver_new(&options, &ops, gather, &gather->giver), ==,
                    0);
}

void gather_close(Gather *gather)
{
    gather_nothing(gather);
    bx_giver_free(gather->giver);
    g_ptr_array_free(gather->messages, TRUE);
}

BxMessage *gather_take(Gather *gather, unsigned type)
{
    BxMessage *message;

    g_assert_cmpuint(gather->messages->len, >, 0);
    message = g_ptr_array_remove_index(gather->messages, 0);
    g_assert_cmpstr(bx_wire_name(message->header.type), ==,
                    bx_wire_name(type));
    g_assert_cmpuint(message->header.app, ==, 3);
    return message;
}

void gather_nothing(const Gather *gather)
{
    if (gather->messages->len) {
        BxMessage *message = g_ptr_array_index(gather->messages, 0);

        g_error("a %s that was not expected",
                bx_wire_name(message->header.type));
    }
}

int gather_order(Gather *gather, uint64_t cookie, uint64_t epoch,
                 uint64_t bytes, uint32_t granule_bytes, uint64_t now_ms)
{
    BxMessage m;

    bx_wire_init(&m, VBX_RESERVE, 3, cookie);
    m.reserve.epoch = epoch;
    m.reserve.bytes = bytes;
    m.reserve.granule_bytes = granule_bytes;
    m.reserve.deadline_ms = 1000;
    memcpy(m.reserve.key, gather_key, sizeof(gather_key));
    return bx_giver_message(gather->giver, &m, now_ms);
}

void gather_range(Gather *gather, unsigned type, uint64_t epoch,
                  uint64_t first, uint64_t count)
{
    BxMessage m;

    bx_wire_init(&m, type, 3, 0);
    m.range.epoch = epoch;
    m.range.first_seq = first;
    m.range.count = count;
    g_assert_cmpint(bx_giver_message(gather->giver, &m, 0), ==, 0);
}

void gather_cancel(Gather *gather, uint64_t cookie)
{
    BxMessage m;

    bx_wire_init(&m, VBX_CANCEL, 3, cookie);
    g_assert_cmpint(bx_giver_message(gather->giver, &m, 0), ==, 0);
}

void gather_work(Gather *gather, uint64_t now_ms)
{
    while (bx_giver_work(gather->giver, now_ms)) {
        /* again */
    }
}

void gather_check_page(const void *page, uint64_t epoch, uint64_t seq)
{
    uint8_t expected[VBX_PAGE_BYTES] = { 0 };

    vbx_tag_make((struct vbx_tag *)expected, 3, epoch, seq, gather_key);
    g_assert_cmpmem(page, VBX_PAGE_BYTES, expected, sizeof(expected));
}
