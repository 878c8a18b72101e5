/*
 * The content of a tagged page: made, read, compared
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "standard-headers/linux/virtio_balloon_ex.h"
#include "tag.h"

#define PAGE MEMSCHED_PAGE_SIZE

static const uint8_t key[MS_TAG_KEY_BYTES] = {
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255,
};

typedef struct Page {
    uint64_t word[PAGE / 8];
} Page;

static Page *page_new(void)
{
    Page *page = g_new(Page, 1);

    memset(page, 0xa5, sizeof(*page));
    return page;
}

static void test_tag_is_that_of_the_wire_header(void)
{
    struct vbx_tag wire;
    Page *page = page_new();
    MsTagKind kind;

    ms_tag_kind(&kind, 7, 123456789012345, key);
    for (uint64_t seq = 0; seq < 100000; seq += 997) {
        vbx_tag_make(&wire, 7, 123456789012345, seq, key);
        ms_tag_make(page, &kind, seq);
        g_assert_cmpint(memcmp(page, &wire, sizeof(wire)), ==, 0);
        for (unsigned i = sizeof(wire) / 8; i < PAGE / 8; i++) {
            g_assert_cmpuint(page->word[i], ==, 0);
        }
        g_assert_true(ms_tag_is(page->word, &kind, seq));
        g_assert_true(ms_tag_equal(page, &kind, seq));
        g_assert_false(ms_tag_equal(page, &kind, seq + 1));
    }
    g_free(page);
}

static void test_header_names_itself(void)
{
    Page *page = page_new();
    MsTagName name;
    MsTagKind kind;

    g_assert_false(ms_tag_peek(page->word, &name));
    ms_tag_kind(&kind, 65535, UINT64_MAX, key);
    memset(page, 0, PAGE);
    ms_tag_stamp(page, &kind, UINT32_MAX);
    g_assert_cmpuint(page->word[0], ==, ms_tag_magic());
    g_assert_true(ms_tag_peek(page->word, &name));
    g_assert_cmpuint(name.app, ==, 65535);
    g_assert_cmpuint(name.epoch, ==, UINT64_MAX);
    g_assert_cmpuint(name.sequence, ==, UINT32_MAX);
    g_free(page);
}

/* Each bit of the page counts, wherever it is. */
static void test_any_changed_bit_is_seen(void)
{
    Page *page = page_new();
    MsTagKind kind;

    ms_tag_kind(&kind, 1, 2, key);
    ms_tag_make(page, &kind, 3);
    for (unsigned bit = 0; bit < PAGE * 8; bit++) {
        uint64_t mask = UINT64_C(1) << (bit % 64);

        page->word[bit / 64] ^= mask;
        g_assert_false(ms_tag_equal(page, &kind, 3));
        page->word[bit / 64] ^= mask;
    }
    g_assert_true(ms_tag_equal(page, &kind, 3));
    g_free(page);
}

static void test_other_keys_epochs_and_applications_differ(void)
{
    uint8_t other[MS_TAG_KEY_BYTES];
    Page *page = page_new();
    MsTagKind kind, k;

    memcpy(other, key, sizeof(other));
    other[15] ^= 1;
    ms_tag_kind(&kind, 1, 2, key);
    ms_tag_make(page, &kind, 3);
    ms_tag_kind(&k, 1, 2, other);
    g_assert_false(ms_tag_is(page->word, &k, 3));
    ms_tag_kind(&k, 1, 3, key);
    g_assert_false(ms_tag_is(page->word, &k, 3));
    ms_tag_kind(&k, 2, 2, key);
    g_assert_false(ms_tag_is(page->word, &k, 3));
    ms_tag_kind(&k, 1, 2, key);
    g_assert_true(ms_tag_is(page->word, &k, 3));
    g_free(page);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tag/wire", test_tag_is_that_of_the_wire_header);
    g_test_add_func("/tag/peek", test_header_names_itself);
    g_test_add_func("/tag/bits", test_any_changed_bit_is_seen);
    g_test_add_func("/tag/kind",
                    test_other_keys_epochs_and_applications_differ);
    return g_test_run();
}
