/*
 * The content of a page that an application has set aside
 *
 * Pure.  A tag is the first 64 bytes of the page, the other 4,032 are 0; the
 * layout is that of the wire header.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TAG_H
#define MEMSCHED_TAG_H

#include <stdbool.h>
#include <stdint.h>

#include "memsched/types.h"

#define MS_TAG_BYTES     64u
#define MS_TAG_KEY_BYTES 16u

/*
 * What all pages of one epoch have in common, made once: the checksum of a page
 * goes on from here, which is less than half of the work.
 */
typedef struct MsTagKind {
    uint64_t word[MS_TAG_BYTES / 8];    /* sequence and checksum are 0 */
    uint64_t prefix;            /* checksum up to the sequence */
} MsTagKind;

void ms_tag_kind(MsTagKind *ret_kind, uint32_t app, uint64_t epoch,
                 const uint8_t key[MS_TAG_KEY_BYTES]);

/* The first word of every tag, in this machine's order. */
uint64_t ms_tag_magic(void);

/* What a header says; the key is compared, never handed out. */
typedef struct MsTagName {
    uint32_t app;
    uint64_t epoch;
    uint64_t sequence;
} MsTagName;

/*
 * What a header that was copied out of a guest says of itself: false if it is
 * none.  Nothing of it is checked yet but the first word.
 */
bool ms_tag_peek(const uint64_t untrusted_word[MS_TAG_BYTES / 8],
                 MsTagName *ret_name);

/* True if the header is that of page @sequence: key and checksum too. */
bool ms_tag_is(const uint64_t untrusted_word[MS_TAG_BYTES / 8],
               const MsTagKind *kind, uint64_t sequence);

/* Turn a page of zeros into the tag. */
void ms_tag_stamp(void *zero_page, const MsTagKind *kind, uint64_t sequence);

/* All of a page, whatever it holds. */
void ms_tag_make(void *page, const MsTagKind *kind, uint64_t sequence);

/*
 * True if all 4,096 bytes are the tag.  The page must not change meanwhile: it
 * is in the arena.
 */
bool ms_tag_equal(const void *page, const MsTagKind *kind, uint64_t sequence);

#endif /* MEMSCHED_TAG_H */
