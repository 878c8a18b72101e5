/*
 * The content of a page that an application has set aside
 *
 * Owns the knowledge of the layout: making a tag, reading one, and comparing
 * all of a page with what it should hold.
 *
 * Cost.  A comparison reads the whole page, 0.3 us, as fast as one CPU reads
 * memory: wider vectors than the compiler's gain nothing, so there is one
 * variant.  The checksum is a byte at a time by its definition, 4 cycles each;
 * that of the 24 bytes before the sequence is kept with the kind.
 *
 * Pure: no lock, no state.  Content from a guest is copied before it comes
 * here, or is in the arena, where the guest cannot reach it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stddef.h>
#include <string.h>

#include "standard-headers/linux/virtio_balloon_ex.h"
#include "tag.h"

#define WORDS       (MS_TAG_BYTES / 8)
#define SEQUENCE    (offsetof(struct vbx_tag, sequence) / 8)
#define CHECKSUM    (offsetof(struct vbx_tag, checksum) / 8)
#define FNV_PRIME   UINT64_C(0x100000001b3)

_Static_assert(sizeof(struct vbx_tag) == MS_TAG_BYTES, "tag");
_Static_assert(VBX_KEY_BYTES == MS_TAG_KEY_BYTES, "key");
_Static_assert(CHECKSUM == WORDS - 1, "the checksum is of all before it");

/* vbx_checksum(), going on from @hash. */
static uint64_t go_on(uint64_t hash, const void *data, unsigned bytes)
{
    const uint8_t *byte = data;

    while (bytes--) {
        hash = (hash ^ *byte++) * FNV_PRIME;
    }
    return hash;
}

static void header(uint64_t word[WORDS], const MsTagKind *kind,
                   uint64_t sequence)
{
    memcpy(word, kind->word, sizeof(kind->word));
    word[SEQUENCE] = vbx_le64(sequence);
    word[CHECKSUM] = vbx_le64(go_on(kind->prefix, &word[SEQUENCE],
                                    (CHECKSUM - SEQUENCE) * 8));
}

void ms_tag_kind(MsTagKind *ret_kind, uint32_t app, uint64_t epoch,
                 const uint8_t key[MS_TAG_KEY_BYTES])
{
    struct vbx_tag tag;

    vbx_tag_make(&tag, app, epoch, 0, key);
    tag.checksum = 0;
    memcpy(ret_kind->word, &tag, sizeof(ret_kind->word));
    ret_kind->prefix = vbx_checksum(&tag, SEQUENCE * 8);
}

uint64_t ms_tag_magic(void)
{
    return vbx_le64(VBX_TAG_MAGIC);
}

bool ms_tag_peek(const uint64_t untrusted_word[WORDS], MsTagName *ret_name)
{
    struct vbx_tag tag;

    memcpy(&tag, untrusted_word, sizeof(tag));
    if (tag.magic != vbx_le64(VBX_TAG_MAGIC)) {
        return false;
    }
    ret_name->app = vbx_le32(tag.app);
    ret_name->epoch = vbx_le64(tag.epoch);
    ret_name->sequence = vbx_le64(tag.sequence);
    return true;
}

bool ms_tag_is(const uint64_t untrusted_word[WORDS], const MsTagKind *kind,
               uint64_t sequence)
{
    uint64_t word[WORDS];

    header(word, kind, sequence);
    return memcmp(word, untrusted_word, sizeof(word)) == 0;
}

void ms_tag_stamp(void *zero_page, const MsTagKind *kind, uint64_t sequence)
{
    uint64_t word[WORDS];

    header(word, kind, sequence);
    memcpy(zero_page, word, sizeof(word));
}

void ms_tag_make(void *page, const MsTagKind *kind, uint64_t sequence)
{
    memset((char *)page + MS_TAG_BYTES, 0, MEMSCHED_PAGE_SIZE - MS_TAG_BYTES);
    ms_tag_stamp(page, kind, sequence);
}

bool ms_tag_equal(const void *page, const MsTagKind *kind, uint64_t sequence)
{
    const uint64_t *word = page;

    if (!ms_tag_is(word, kind, sequence)) {
        return false;
    }
    /* A line a step: the compiler makes vectors of it. */
    for (unsigned i = WORDS; i < MEMSCHED_PAGE_SIZE / 8; i += 8) {
        if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] |
            word[i + 4] | word[i + 5] | word[i + 6] | word[i + 7]) {
            return false;
        }
    }
    return true;
}
