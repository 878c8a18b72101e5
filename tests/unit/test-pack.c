/*
 * Compression of one page: back as it was, or not at all
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pack.h"

static void text(uint8_t *page)
{
    for (unsigned i = 0, n = 0; i < 4096; n++) {
        i += g_snprintf((char *)page + i, 4096 - i, "line %u of a file\n",
                        n * n) ;
    }
}

static void test_page_comes_back_as_it_was(void)
{
    MsPack *pack = ms_pack_new();
    uint8_t page[4097] = { 0 }, data[4096], back[4096];
    unsigned n;

    text(page);
    n = ms_pack(pack, page, data, sizeof(data));
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpuint(n, <, 2000);
    g_assert_cmpint(ms_unpack(pack, data, n, back), ==, 0);
    g_assert_cmpmem(back, 4096, page, 4096);
    /* exactly as much room, and less */
    g_assert_cmpuint(ms_pack(pack, page, data, n / 2), ==, 0);
    memset(page, 0x77, 4096);
    n = ms_pack(pack, page, data, 100);
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpint(ms_unpack(pack, data, n, back), ==, 0);
    g_assert_cmpmem(back, 4096, page, 4096);
    ms_pack_free(pack);
    ms_pack_free(NULL);
}

static void test_noise_does_not_get_shorter(void)
{
    MsPack *pack = ms_pack_new();
    uint8_t page[4096], data[4096];
    guint32 seed = g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    g_test_message("seed %u", seed);
    for (unsigned i = 0; i < 4096; i++) {
        page[i] = g_rand_int_range(rand, 0, 256);
    }
    g_assert_cmpuint(ms_pack(pack, page, data, 3000), ==, 0);
    ms_pack_free(pack);
}

static void test_damaged_data_is_refused_or_harmless(void)
{
    MsPack *pack = ms_pack_new();
    uint8_t page[4097] = { 0 }, data[4096], back[4096];
    guint32 seed = g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    unsigned n, refused = 0;

    g_test_message("seed %u", seed);
    text(page);
    n = ms_pack(pack, page, data, sizeof(data));
    g_assert_cmpint(ms_unpack(pack, data, n - 1, back), ==, -EBADMSG);
    for (unsigned i = 0; i < 2000; i++) {
        unsigned at = g_rand_int_range(rand, 0, n);
        uint8_t flip = 1 << g_rand_int_range(rand, 0, 8);

        data[at] ^= flip;
        refused += ms_unpack(pack, data, n, back) < 0;
        data[at] ^= flip;
    }
    g_assert_cmpuint(refused, >, 0);
    g_assert_cmpint(ms_unpack(pack, data, n, back), ==, 0);
    g_assert_cmpmem(back, 4096, page, 4096);
    ms_pack_free(pack);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pack/page-comes-back-as-it-was",
                    test_page_comes_back_as_it_was);
    g_test_add_func("/pack/noise-does-not-get-shorter",
                    test_noise_does_not_get_shorter);
    g_test_add_func("/pack/damaged-data-is-refused-or-harmless",
                    test_damaged_data_is_refused_or_harmless);
    return g_test_run();
}
