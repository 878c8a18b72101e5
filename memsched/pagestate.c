/*
 * State of each page of one region
 *
 * Owns the bytes, the counts of each frame, and the table that says which
 * change of state is legal on which event.  Nothing else writes a state, so a
 * change that the protocol does not know cannot happen, only be refused.
 *
 * Invariants, recounted by ms_pages_check():
 *     count[s] = bytes with state s, for each s
 *     frame.resident = R + G + X + L in it, frame.given = G, transit = C
 *     MS_FRAME_READY = given > 0, given = resident and transit = 0
 *     MS_PAGE_PARKED only together with C
 *
 * Cost: a run of one state is scanned 8 bytes at a time, 64 steps for a whole
 * frame; a region of 16 GiB keeps 4 MiB of bytes and 64 KiB of frames.
 *
 * Threads and locks: none of its own; the caller holds the region's lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pagestate.h"

#define FRAME_PAGES MEMSCHED_PAGES_PER_FRAME

#define H MS_STATE_BIT(HOLE)
#define R MS_STATE_BIT(RESIDENT)
#define G MS_STATE_BIT(GIVEN)
#define B MS_STATE_BIT(BALLOONED)
#define P MS_STATE_BIT(REPORTED)
#define T MS_STATE_BIT(TAG)
#define S MS_STATE_BIT(HELD)
#define C MS_STATE_BIT(TRANSIT)
#define X MS_STATE_BIT(POISONED)
#define L MS_STATE_BIT(LOST)

#define IN_GUEST (R | G | X | L)

/* to[from]: the states that a page in state `from` may change to. */
typedef struct Changes {
    uint16_t to[MEMSCHED_PAGE_STATES];
} Changes;

#define FROM(state) [MEMSCHED_PAGE_##state]

static const Changes legal[MS_PAGE_EVENTS] = {
    [MS_PAGE_INFLATE] = { {
        FROM(HOLE) = B, FROM(REPORTED) = B, FROM(TAG) = B, FROM(HELD) = B,
        FROM(RESIDENT) = G,
    } },
    [MS_PAGE_REPORT] = { {
        FROM(HOLE) = P, FROM(TAG) = P, FROM(HELD) = P,
    } },
    [MS_PAGE_DEFLATE] = { {
        FROM(GIVEN) = R, FROM(BALLOONED) = H, FROM(REPORTED) = H,
    } },
    [MS_PAGE_DEVICE_RESET] = { {
        FROM(GIVEN) = R, FROM(BALLOONED) = H, FROM(REPORTED) = H,
    } },
    [MS_PAGE_SYSTEM_RESET] = { {
        FROM(GIVEN) = R, FROM(BALLOONED) = H, FROM(REPORTED) = H,
        FROM(TAG) = H, FROM(HELD) = H,
    } },
    [MS_PAGE_RESTORE] = { { FROM(HOLE) = B | P } },
    [MS_PAGE_RENEWED] = { { FROM(LOST) = R } },
    [MS_PAGE_DISCARDED] = { { FROM(RESIDENT) = H, FROM(GIVEN) = H } },
    [MS_PAGE_TAKE_OUT] = { { FROM(RESIDENT) = C, FROM(GIVEN) = C } },
    [MS_PAGE_TAKE_IN] = { {
        FROM(HOLE) = C, FROM(BALLOONED) = C, FROM(REPORTED) = C,
        FROM(TAG) = C, FROM(HELD) = C, FROM(POISONED) = C,
    } },
    [MS_PAGE_CAPTURED] = { { FROM(TRANSIT) = B | P | T | S | H } },
    [MS_PAGE_PUT_BACK] = { { FROM(TRANSIT) = R | G | X } },
    [MS_PAGE_POPULATED] = { { FROM(TRANSIT) = R | L } },
    [MS_PAGE_NOT_POPULATED] = { { FROM(TRANSIT) = H | B | P | T | S | X } },
};

bool ms_page_change_is_legal(MsPageEvent event, MemSchedPageState from,
                             MemSchedPageState to)
{
    if (event >= MS_PAGE_EVENTS || from >= MEMSCHED_PAGE_STATES ||
        to >= MEMSCHED_PAGE_STATES) {
        return false;
    }
    return legal[event].to[from] >> to & 1;
}

int ms_pages_init(MsPages *pages, uint64_t lead, uint64_t count)
{
    uint64_t end = lead + count;

    if (lead >= FRAME_PAGES || count == 0 || end < count ||
        end > UINT64_MAX / FRAME_PAGES) {
        return -EINVAL;
    }
    *pages = (MsPages) {
        .lead = lead, .end = end,
        .frames = (end + FRAME_PAGES - 1) / FRAME_PAGES,
    };
    /* Whole frames, so that no scan needs to look where the bytes end. */
    pages->state = calloc(pages->frames, FRAME_PAGES);
    pages->frame = calloc(pages->frames, sizeof(*pages->frame));
    if (pages->state == NULL || pages->frame == NULL) {
        ms_pages_destroy(pages);
        return -ENOMEM;
    }
    pages->count[MEMSCHED_PAGE_HOLE] = count;
    return 0;
}

void ms_pages_destroy(MsPages *pages)
{
    free(pages->state);
    free(pages->frame);
    *pages = (MsPages) { 0 };
}

/* Bytes at @state that equal @value but for the flag; ORs the flags. */
static uint64_t scan(const uint8_t *state, uint64_t limit, uint8_t value,
                     bool *ret_parked)
{
    const uint64_t flags = UINT64_C(0x0101010101010101) * MS_PAGE_PARKED;
    const uint64_t same = UINT64_C(0x0101010101010101) * value;
    uint64_t i = 0, seen = 0;

    for (; i + 8 <= limit; i += 8) {
        uint64_t word;

        memcpy(&word, state + i, sizeof(word));
        if ((word & ~flags) != same) {
            break;
        }
        seen |= word;
    }
    for (; i < limit && (state[i] & ~MS_PAGE_PARKED) == value; i++) {
        seen |= state[i];
    }
    if (ret_parked) {
        *ret_parked |= (seen & flags) != 0;
    }
    return i;
}

uint64_t ms_pages_run(const MsPages *pages, uint64_t first, uint64_t limit)
{
    return scan(pages->state + first, limit,
                (uint8_t)ms_pages_get(pages, first), NULL);
}

static void refresh_ready(MsPages *pages, MsFrame *frame)
{
    bool was = frame->flags & MS_FRAME_READY;
    bool is = frame->given > 0 && frame->given == frame->resident &&
              frame->transit == 0;

    if (was != is) {
        frame->flags ^= MS_FRAME_READY;
        pages->ready_frames += is ? 1 : UINT64_MAX;
    }
}

/* Pages [first, first + count) have state @from, and get @to. */
static void apply(MsPages *pages, uint64_t first, uint64_t count,
                  MemSchedPageState from, MemSchedPageState to)
{
    memset(pages->state + first, to, count);
    pages->count[from] -= count;
    pages->count[to] += count;

    while (count > 0) {
        MsFrame *frame = &pages->frame[first / FRAME_PAGES];
        uint64_t n = FRAME_PAGES - first % FRAME_PAGES;
        int resident = (IN_GUEST >> to & 1) - (IN_GUEST >> from & 1);
        int given = (to == MEMSCHED_PAGE_GIVEN) -
                    (from == MEMSCHED_PAGE_GIVEN);
        int transit = (to == MEMSCHED_PAGE_TRANSIT) -
                      (from == MEMSCHED_PAGE_TRANSIT);

        n = n < count ? n : count;
        frame->resident += resident * (int)n;
        frame->given += given * (int)n;
        frame->transit += transit * (int)n;
        refresh_ready(pages, frame);
        first += n;
        count -= n;
    }
}

static int check_run(const MsPages *pages, MsPageEvent event, uint64_t first,
                     uint64_t count, MemSchedPageState to)
{
    if (first < pages->lead || first > pages->end ||
        count > pages->end - first) {
        return -ERANGE;
    }
    for (uint64_t n; count > 0; first += n, count -= n) {
        if (!ms_page_change_is_legal(event, ms_pages_get(pages, first), to)) {
            return -EINVAL;
        }
        n = ms_pages_run(pages, first, count);
    }
    return 0;
}

static int apply_run(MsPages *pages, uint64_t first, uint64_t count,
                     MemSchedPageState to)
{
    bool parked = false;

    for (uint64_t n; count > 0; first += n, count -= n) {
        MemSchedPageState from = ms_pages_get(pages, first);

        n = scan(pages->state + first, count, (uint8_t)from, &parked);
        apply(pages, first, n, from, to);
    }
    return parked;
}

int ms_pages_change(MsPages *pages, MsPageEvent event, uint64_t first,
                    uint64_t count, MemSchedPageState to)
{
    int ret = check_run(pages, event, first, count, to);

    return ret < 0 ? ret : apply_run(pages, first, count, to);
}

int ms_pages_change_set(MsPages *pages, MsPageEvent event, uint64_t frame,
                        const MsPageSet *set, MemSchedPageState to)
{
    uint64_t base = frame * FRAME_PAGES;
    unsigned first, count;
    int ret, parked = 0;

    for (unsigned p = 0; ms_pageset_run(set, p, &first, &count);
         p = first + count) {
        ret = check_run(pages, event, base + first, count, to);
        if (ret < 0) {
            return ret;
        }
    }
    for (unsigned p = 0; ms_pageset_run(set, p, &first, &count);
         p = first + count) {
        parked |= apply_run(pages, base + first, count, to);
    }
    return parked;
}

void ms_pages_renew(MsPages *pages, uint64_t first, uint64_t count)
{
    uint64_t run, n;

    for (uint64_t p = first; pages->count[MEMSCHED_PAGE_LOST] > 0 &&
         ms_pages_next(pages, p, first + count, MS_STATE_BIT(LOST), &run, &n);
         p = run + n) {
        ms_pages_change(pages, MS_PAGE_RENEWED, run, n,
                        MEMSCHED_PAGE_RESIDENT);
    }
}

void ms_pages_park(MsPages *pages, uint64_t page)
{
    if (pages->state[page] == MEMSCHED_PAGE_TRANSIT) {
        pages->state[page] |= MS_PAGE_PARKED;
    }
}

bool ms_pages_are_parked(const MsPages *pages, uint64_t first, uint64_t count)
{
    for (uint64_t p = first; p < first + count; p++) {
        if (pages->state[p] & MS_PAGE_PARKED) {
            return true;
        }
    }
    return false;
}

bool ms_pages_next(const MsPages *pages, uint64_t from, uint64_t limit,
                   unsigned mask, uint64_t *ret_first, uint64_t *ret_count)
{
    uint64_t first, n;

    from = from < pages->lead ? pages->lead : from;
    limit = limit < pages->end ? limit : pages->end;
    for (; from < limit; from += n) {
        n = ms_pages_run(pages, from, limit - from);
        if (mask >> ms_pages_get(pages, from) & 1) {
            break;
        }
    }
    if (from >= limit) {
        return false;
    }
    first = from;
    do {
        from += ms_pages_run(pages, from, limit - from);
    } while (from < limit && mask >> ms_pages_get(pages, from) & 1);
    *ret_first = first;
    *ret_count = from - first;
    return true;
}

void ms_pages_select(const MsPages *pages, uint64_t first, uint64_t count,
                     unsigned mask, MsPageSet *ret_set)
{
    uint64_t limit = first + count, run, n;

    ms_pageset_clear(ret_set);
    while (ms_pages_next(pages, first, limit, mask, &run, &n)) {
        ms_pageset_add(ret_set, run % FRAME_PAGES, n);
        first = run + n;
    }
}

void ms_pages_set_flag(MsPages *pages, uint64_t frame, MsFrameFlag flag,
                       bool on)
{
    bool was = pages->frame[frame].flags & flag;

    if (was != on) {
        pages->frame[frame].flags ^= flag;
        if (flag == MS_FRAME_HUGE) {
            pages->huge_frames += on ? 1 : UINT64_MAX;
        } else if (flag == MS_FRAME_AHEAD) {
            pages->ahead_frames += on ? 1 : UINT64_MAX;
        }
    }
}

/* Recount one frame into @count; NULL or what differs. */
static const char *check_frame(const MsPages *pages, uint64_t f,
                               uint64_t count[MEMSCHED_PAGE_STATES])
{
    uint64_t here[MEMSCHED_PAGE_STATES] = { 0 };
    const MsFrame *frame = &pages->frame[f];
    uint64_t resident = 0;

    for (uint64_t p = f * FRAME_PAGES; p < (f + 1) * FRAME_PAGES; p++) {
        MemSchedPageState s = ms_pages_get(pages, p);

        if (p < pages->lead || p >= pages->end) {
            if (pages->state[p]) {
                return "a page outside the region has a state";
            }
            continue;
        }
        if (s >= MEMSCHED_PAGE_STATES ||
            (pages->state[p] & MS_PAGE_PARKED &&
             s != MEMSCHED_PAGE_TRANSIT)) {
            return "a page has an impossible state";
        }
        here[s]++;
        resident += IN_GUEST >> s & 1;
    }
    for (int s = 0; s < MEMSCHED_PAGE_STATES; s++) {
        count[s] += here[s];
    }
    if (frame->resident != resident ||
        frame->given != here[MEMSCHED_PAGE_GIVEN] ||
        frame->transit != here[MEMSCHED_PAGE_TRANSIT]) {
        return "a frame's counts differ from its pages";
    }
    if (!(frame->flags & MS_FRAME_READY) !=
        !(frame->given && frame->given == resident && !frame->transit)) {
        return "a frame is wrongly called ready, or not";
    }
    return NULL;
}

const char *ms_pages_check(const MsPages *pages)
{
    uint64_t count[MEMSCHED_PAGE_STATES] = { 0 };
    uint64_t huge = 0, ready = 0;

    for (uint64_t f = 0; f < pages->frames; f++) {
        const char *wrong = check_frame(pages, f, count);

        if (wrong) {
            return wrong;
        }
        huge += (pages->frame[f].flags & MS_FRAME_HUGE) != 0;
        ready += (pages->frame[f].flags & MS_FRAME_READY) != 0;
    }
    if (memcmp(count, pages->count, sizeof(count)) != 0) {
        return "the counts of page states differ from the pages";
    }
    if (huge != pages->huge_frames || ready != pages->ready_frames) {
        return "the counts of huge or ready frames differ from the frames";
    }
    return NULL;
}
