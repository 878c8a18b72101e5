/*
 * Fuzzer of messages of balloon applications
 *
 * What must hold for any bytes: no look behind the message, a verdict, numbers
 * in the ranges that the specification gives, and an ERROR that can be written
 * wherever one is due.  The first input byte says how much of a header is put
 * right, and whether the rest is made likely, so that most inputs get past it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include <string.h>

#include "balloon-ex-wire.h"
#include "fuzz.h"

#define REQUIRE(condition)      \
    do {                        \
        if (!(condition)) {     \
            abort();            \
        }                       \
    } while (0)

/* of the first byte: */
#define KEEP_HEADER 0x80        /* as it came */
#define FOR_AN_APP  0x40
#define TAME        0x20        /* numbers that good messages have */

/* A header as guests send them, over what came. */
static void put_header_right(uint8_t *bytes, size_t count, uint8_t choice)
{
    static const uint8_t types[] = {
        VBX_HELLO, VBX_ERROR, VBX_PING, VBX_PONG, VBX_REGISTER,
        VBX_UNREGISTER, VBX_RESERVED, VBX_HINTS, VBX_VETO, VBX_RELEASE,
        VBX_UNMAPPED, VBX_REQUEST, VBX_CANCEL, VBX_STATISTICS,
    };
    struct vbx_header header;

    if (count < sizeof(header) || choice & KEEP_HEADER) {
        return;
    }
    memcpy(&header, bytes, sizeof(header));
    header.magic = vbx_le32(VBX_MAGIC);
    header.length = vbx_le32((uint32_t)(count & ~(size_t)7));
    header.type = vbx_le16(types[choice % sizeof(types)]);
    header.app = vbx_le32(choice & FOR_AN_APP ? 1 : 0);
    memcpy(bytes, &header, sizeof(header));
    if (choice & TAME) {
        fuzz_tame(bytes + sizeof(header), count - sizeof(header));
    }
}

static void check_hints(const BalloonExHints *hints)
{
    REQUIRE(hints->runs >= 1 && hints->runs <= VBX_HINTS_MAX);
    for (uint32_t i = 0; i < hints->runs; i++) {
        const MemSchedAppHint *run = &hints->run[i];
        uint64_t last = run->count_pages - 1;

        REQUIRE(run->count_pages >= 1);
        REQUIRE(run->seq + last >= run->seq);
        REQUIRE(!(run->gpa & (MEMSCHED_PAGE_SIZE - 1)));
        REQUIRE(last <= (UINT64_MAX - run->gpa) >> MEMSCHED_PAGE_SHIFT);
    }
}

static void check_good(const BalloonExMessage *m)
{
    REQUIRE(m->app <= 65535);
    switch (m->type) {
    case VBX_HELLO:
        REQUIRE(m->app == 0);
        REQUIRE(m->hello.version_min <= m->hello.version_max);
        break;
    case VBX_REGISTER:
        REQUIRE(m->app && m->reg.priority <= VBX_PRIORITY_MAX);
        REQUIRE(memchr(m->reg.name, '\0', VBX_NAME_MAX));
        break;
    case VBX_RESERVED:
        REQUIRE(m->range.status <= MEMSCHED_RESERVE_REFUSED);
        /* fall through */
    case VBX_RELEASE:
    case VBX_UNMAPPED:
        REQUIRE(m->app && m->range.reason < MEMSCHED_REASONS);
        REQUIRE(m->range.first_seq + m->range.count_pages >=
                m->range.first_seq);
        break;
    case VBX_HINTS:
        check_hints(&m->hints);
        break;
    case VBX_VETO:
        REQUIRE(m->app && m->veto.duration_ms <= VBX_VETO_MAX_MS);
        REQUIRE(m->veto.reason < MEMSCHED_REASONS);
        break;
    case VBX_REQUEST:
        REQUIRE(m->request.bytes && m->request.bytes <= INT64_MAX);
        REQUIRE(m->request.priority <= VBX_PRIORITY_MAX);
        REQUIRE(m->request.want <= VBX_WANT_PRESSURE);
        REQUIRE(m->request.deadline_ms <= VBX_REQUEST_MAX_MS);
        break;
    case VBX_STATISTICS:
        REQUIRE(m->statistics.count >= 1 &&
                m->statistics.count <= VBX_STATS_MAX);
        break;
    case VBX_ERROR:
    case VBX_PING:
    case VBX_PONG:
    case VBX_UNREGISTER:
    case VBX_CANCEL:
        break;
    default:
        REQUIRE(!"a type that guests do not send");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count = size ? size - 1 : 0;
    /* Exactly as large as promised: an overrun is seen by the sanitizer. */
    uint8_t *bytes = malloc(count ? count : 1);
    uint8_t out[BALLOON_EX_WIRE_OUT_MAX];
    BalloonExMessage m;

    REQUIRE(bytes);
    if (count) {
        memcpy(bytes, data + 1, count);
        put_header_right(bytes, count, data[0]);
    }
    switch (balloon_ex_wire_parse(bytes, count, &m)) {
    case BALLOON_EX_GOOD:
        check_good(&m);
        break;
    case BALLOON_EX_REFUSE:
        REQUIRE(m.type == VBX_ERROR && m.error.type != VBX_ERROR);
        REQUIRE(balloon_ex_wire_pack(&m, out) == sizeof(struct vbx_error));
        break;
    case BALLOON_EX_PASS:
        break;
    case BALLOON_EX_BROKEN:
        REQUIRE(balloon_ex_wire_length(bytes, count) <= 0 ||
                (size_t)balloon_ex_wire_length(bytes, count) > count);
        break;
    }
    free(bytes);
    return 0;
}
