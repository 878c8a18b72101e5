/*
 * State of each page of one region
 *
 * One byte a page and one record a 2 MiB frame.  Pure: no lock, no system
 * call; the caller holds the region's lock.
 *
 * Page numbers count from the 2 MiB boundary at or below the region's first
 * byte, so that page / 512 is a frame as the kernel maps it.  Pages before
 * @lead and at or after @end do not exist.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PAGESTATE_H
#define MEMSCHED_PAGESTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "memsched/types.h"
#include "pageset.h"

/* What happens to a page; each has its row of legal changes. */
typedef enum MsPageEvent {
    MS_PAGE_INFLATE,            /* H,P,T,S -> B; R -> G */
    MS_PAGE_REPORT,             /* H,T,S -> P */
    MS_PAGE_DEFLATE,            /* G -> R; B,P -> H */
    MS_PAGE_DEVICE_RESET,       /* G -> R; B,P -> H */
    MS_PAGE_SYSTEM_RESET,       /* also T,S -> H (X and L hold something of
                                   the kernel's: they go through C) */
    MS_PAGE_RESTORE,            /* H -> B,P: incoming migration */
    MS_PAGE_RENEWED,            /* L -> R: given or protected anew, reset */
    MS_PAGE_DISCARDED,          /* R,G -> H: somebody discarded the frame */
    MS_PAGE_TAKE_OUT,           /* R,G -> C: a capture begins */
    MS_PAGE_TAKE_IN,            /* H,B,P,T,S,X -> C: a populate begins */
    MS_PAGE_CAPTURED,           /* C -> B,P,T,S,H */
    MS_PAGE_PUT_BACK,           /* C -> R,G,X */
    MS_PAGE_POPULATED,          /* C -> R,L */
    MS_PAGE_NOT_POPULATED,      /* C -> H,B,P,T,S,X */
    MS_PAGE_EVENTS
} MsPageEvent;

typedef enum MsFrameFlag {
    MS_FRAME_HUGE  = 1 << 0,    /* mapped by one 2 MiB entry */
    MS_FRAME_TABLE = 1 << 1,    /* may have a page table: discard the empty
                                   range before a huge page moves in */
    MS_FRAME_READY = 1 << 2,    /* every resident page is G: mover's turn;
                                   kept by ms_pages_change() */
    MS_FRAME_AHEAD = 1 << 3,    /* some of it was populated ahead of use, and
                                   nobody has looked since */
} MsFrameFlag;

typedef struct MsFrame {
    uint16_t resident;          /* R, G, X, L: what the guest holds */
    uint16_t given;             /* G, part of resident */
    uint16_t transit;           /* C */
    uint16_t flags;             /* MsFrameFlag */
} MsFrame;

typedef struct MsPages {
    uint8_t *state;             /* MemSchedPageState | MS_PAGE_PARKED */
    MsFrame *frame;
    uint64_t lead, end;         /* pages [lead, end) exist */
    uint64_t frames;
    uint64_t count[MEMSCHED_PAGE_STATES];
    uint64_t huge_frames;
    uint64_t ready_frames;
    uint64_t ahead_frames;
} MsPages;

/* A fault waits for the end of C at this page. */
#define MS_PAGE_PARKED 0x80u

/* All pages are holes.  -EINVAL, -ENOMEM. */
int ms_pages_init(MsPages *pages, uint64_t lead, uint64_t count);
void ms_pages_destroy(MsPages *pages);

/* The table of the protocol, one cell of it. */
bool ms_page_change_is_legal(MsPageEvent event, MemSchedPageState from,
                             MemSchedPageState to);

static inline MemSchedPageState ms_pages_get(const MsPages *pages,
                                             uint64_t page)
{
    return (MemSchedPageState)(pages->state[page] & ~MS_PAGE_PARKED);
}

/*
 * Change pages [first, first + count) to @to.  All or none: -EINVAL where one
 * of them may not; -ERANGE where one does not exist.  1: a fault was parked
 * at one of them (and is no longer noted); 0: none was.
 */
int ms_pages_change(MsPages *pages, MsPageEvent event, uint64_t first,
                    uint64_t count, MemSchedPageState to);

/* The same for members of @set in frame @frame. */
int ms_pages_change_set(MsPages *pages, MsPageEvent event, uint64_t frame,
                        const MsPageSet *set, MemSchedPageState to);

/* Lost ones of pages [first, first + count) are like others again. */
void ms_pages_renew(MsPages *pages, uint64_t first, uint64_t count);

/* Note a fault that waits for the end of C at this page. */
void ms_pages_park(MsPages *pages, uint64_t page);

/* A fault is parked at one of them, all of one frame. */
bool ms_pages_are_parked(const MsPages *pages, uint64_t first, uint64_t count);

/* Length of the run of pages with the state of page @first, up to @limit. */
uint64_t ms_pages_run(const MsPages *pages, uint64_t first, uint64_t limit);

/* Next run of pages whose state is in @mask, in [from, limit). */
bool ms_pages_next(const MsPages *pages, uint64_t from, uint64_t limit,
                   unsigned mask, uint64_t *ret_first, uint64_t *ret_count);

/* Members of [first, first + count), all of one frame, in a state of @mask. */
void ms_pages_select(const MsPages *pages, uint64_t first, uint64_t count,
                     unsigned mask, MsPageSet *ret_set);

void ms_pages_set_flag(MsPages *pages, uint64_t frame, MsFrameFlag flag,
                       bool on);

/* NULL if all counts equal a recount, else what differs. */
const char *ms_pages_check(const MsPages *pages);

#define MS_STATE_BIT(s) (1u << MEMSCHED_PAGE_##s)

#endif /* MEMSCHED_PAGESTATE_H */
