/*
 * Fuzzer of orders: whatever the host sends, in any order
 *
 * The input is a list of events of 8 bytes each: messages of the host, steps of
 * work, time, pressure, ends of sessions.  What must hold:
 *
 *  - each order gets exactly one last word, none after the session's end;
 *  - pages are told in sequence, never more than were ordered;
 *  - what is held is what was told, less what was unmapped, plus the stock;
 *  - every tag that was told is in its page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "giver.h"

#define REQUIRE(condition)      \
    do {                        \
        if (!(condition)) {     \
            abort();            \
        }                       \
    } while (0)

enum { EPOCHS = 8, PAGES_MAX = 48 };

typedef struct Model {
    bool open;                  /* an order runs */
    uint64_t cookie, epoch, told, ordered;
    uint64_t spare;
    bool there[EPOCHS][PAGES_MAX];
} Model;

static void on_send(void *opaque, BxMessage *m)
{
    Model *model = opaque;

    if (m->header.type == VBX_RESERVED) {
        if (m->reserved.reason == VBX_REASON_BUSY) {
            REQUIRE(model->open && !m->reserved.count);
            return;
        }
        REQUIRE(model->open && m->header.cookie == model->cookie);
        REQUIRE(m->reserved.epoch == model->epoch);
        REQUIRE(m->reserved.first_seq == model->told);
        REQUIRE(m->reserved.count <= model->ordered - model->told);
        for (uint64_t i = 0; i < m->reserved.count; i++) {
            model->there[model->epoch][model->told++] = true;
        }
        REQUIRE((m->reserved.status == VBX_RESERVE_WHOLE) ==
                (model->told == model->ordered));
        model->open = m->reserved.status == VBX_RESERVE_PROGRESS;
    } else if (m->header.type == VBX_UNMAPPED) {
        for (uint64_t i = 0; i < m->range.count; i++) {
            uint64_t seq = m->range.first_seq + i;

            if (seq < PAGES_MAX) {
                model->there[m->range.epoch][seq] = false;
            }
        }
    } else {
        REQUIRE(m->header.type == VBX_RELEASE);
    }
}

static uint64_t on_spare(void *opaque, uint64_t bytes, unsigned *ret_reason)
{
    Model *model = opaque;
    uint64_t spare = bytes < model->spare ? bytes : model->spare;

    model->spare -= spare;
    *ret_reason = VBX_REASON_PRESSURE;
    return spare;
}

static void on_have(void *opaque, uint64_t bytes)
{
    Model *model = opaque;

    model->spare += bytes;
}

static const BxGiverOps ops = {
    .send = on_send, .spare = on_spare, .have = on_have,
};

static uint64_t count(const Model *model)
{
    uint64_t pages = 0;

    for (int e = 0; e < EPOCHS; e++) {
        for (int i = 0; i < PAGES_MAX; i++) {
            pages += model->there[e][i];
        }
    }
    return pages;
}

static void order(BxGiver *giver, Model *model, const uint8_t *event,
                  uint64_t now_ms)
{
    Model before = *model;
    BxMessage m;
    int rc;

    bx_wire_init(&m, VBX_RESERVE, 3, event[2]);
    m.reserve.epoch = event[1] % EPOCHS;
    m.reserve.granule_bytes = VBX_PAGE_BYTES;
    m.reserve.bytes = (1 + event[3] % PAGES_MAX) * VBX_PAGE_BYTES;
    m.reserve.deadline_ms = event[4];
    if (!model->open) {
        model->open = true;
        model->cookie = event[2];
        model->epoch = m.reserve.epoch;
        model->told = 0;
        model->ordered = m.reserve.bytes / VBX_PAGE_BYTES;
    }
    rc = bx_giver_message(giver, &m, now_ms);
    if (rc) {
        /* The epoch is in use. */
        REQUIRE(rc == VBX_ERROR_STATE && !before.open);
        *model = before;
    }
}

static void host_says(BxGiver *giver, Model *model, const uint8_t *event,
                      uint64_t now_ms)
{
    static const uint16_t types[] = {
        VBX_CANCEL, VBX_RELEASE, VBX_RELEASED, VBX_POLL,
    };
    BxMessage m;

    bx_wire_init(&m, types[event[0] / 8 % 4], 3, event[2]);
    m.range.epoch = event[1] % EPOCHS;
    m.range.first_seq = event[3] % PAGES_MAX;
    m.range.count = 1 + event[4];
    bx_giver_message(giver, &m, now_ms);
    (void)model;
}

static void do_event(BxGiver *giver, Model *model, const uint8_t *event,
                     uint64_t *now_ms)
{
    switch (event[0] % 8) {
    case 0:
    case 1:
        order(giver, model, event, *now_ms);
        break;
    case 2:
        host_says(giver, model, event, *now_ms);
        break;
    case 3:
        bx_giver_shrink(giver, event[1] * VBX_PAGE_BYTES, VBX_REASON_PRESSURE);
        break;
    case 4:
        *now_ms += event[1] * 200u;
        break;
    case 5:
        if (event[1] % 4 == 0) {
            bx_giver_end_session(giver, *now_ms);
            memset(model->there, 0, sizeof(model->there));
            model->open = false;
        } else {
            bx_giver_stop(giver, VBX_REASON_VETO);
        }
        break;
    default:
        bx_giver_work(giver, *now_ms);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BxGiverOptions options = {
        .step_bytes = 8 * VBX_PAGE_BYTES, .pagemap = -1,
    };
    Model model = { .spare = 128 * VBX_PAGE_BYTES };
    uint64_t now_ms = 1000;
    BxGiver *giver;

    REQUIRE(bx_giver_new(&options, &ops, &model, &giver) == 0);
    /* Each page is a system call: as many events as take a millisecond. */
    for (size_t at = 0; at + 8 <= size && at < 64 * 8; at += 8) {
        BxGiverInfo info;

        do_event(giver, &model, data + at, &now_ms);
        bx_giver_info(giver, &info);
        REQUIRE(info.busy == model.open);
        REQUIRE(info.memory.held_bytes - info.memory.stock_bytes ==
                count(&model) * VBX_PAGE_BYTES);
        REQUIRE(info.memory.held_bytes + model.spare ==
                128 * VBX_PAGE_BYTES);
    }
    bx_giver_free(giver);
    return 0;
}
