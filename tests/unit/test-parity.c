/*
 * Parity: every kernel against the reference, every loss of one and of two
 * pages, every size of a stripe
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "parity.h"

#define BYTES 4096u

typedef struct Stripe {
    unsigned count;
    uint8_t *page[MS_PARITY_SLOTS];
    uint8_t slot[MS_PARITY_SLOTS];
    uint8_t *parity[2];
    uint8_t *out[2];
} Stripe;

static uint8_t *page_new(void)
{
    uint8_t *page = aligned_alloc(64, BYTES);

    g_assert_nonnull(page);
    memset(page, 0xa5, BYTES);
    return page;
}

static void fill(uint8_t *page)
{
    for (unsigned i = 0; i < BYTES; i++) {
        page[i] = g_test_rand_int_range(0, 256);
    }
}

/* @count pages in random slots, in a random order. */
static void stripe_init(Stripe *s, unsigned count, bool in_order)
{
    uint8_t slot[MS_PARITY_SLOTS];

    for (unsigned i = 0; i < MS_PARITY_SLOTS; i++) {
        slot[i] = i;
    }
    for (unsigned i = MS_PARITY_SLOTS - 1; i > 0 && !in_order; i--) {
        unsigned k = g_test_rand_int_range(0, i + 1);
        uint8_t other = slot[k];

        slot[k] = slot[i];
        slot[i] = other;
    }
    s->count = count;
    for (unsigned i = 0; i < count; i++) {
        s->slot[i] = slot[i];
        s->page[i] = page_new();
        fill(s->page[i]);
    }
    for (unsigned k = 0; k < 2; k++) {
        s->parity[k] = page_new();
        s->out[k] = page_new();
    }
}

static void stripe_destroy(Stripe *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        free(s->page[i]);
    }
    for (unsigned k = 0; k < 2; k++) {
        free(s->parity[k]);
        free(s->out[k]);
    }
}

/* All but @a and @b (equal: one page). */
static MsParityRow row_without(const Stripe *s, unsigned a, unsigned b)
{
    MsParityRow row = {
        .bytes = BYTES, .parity = { s->parity[0], s->parity[1] },
    };

    for (unsigned i = 0; i < s->count; i++) {
        if (i != a && i != b) {
            row.slot[row.count] = s->slot[i];
            row.page[row.count++] = s->page[i];
        }
    }
    return row;
}

static void build(const MsParityKernel *kernel, Stripe *s)
{
    MsParityRow row = row_without(s, UINT32_MAX, UINT32_MAX);

    ms_parity_build(kernel, &row, (void *const *)s->parity);
}

/* Q by the definition, byte after byte. */
static void assert_definition(const Stripe *s)
{
    for (unsigned at = 0; at < BYTES; at++) {
        uint8_t p = 0, q = 0;

        for (unsigned i = 0; i < s->count; i++) {
            p ^= s->page[i][at];
            q ^= ms_gf_mul(s->page[i][at], ms_parity_coef(s->slot[i]));
        }
        g_assert_cmphex(s->parity[0][at], ==, p);
        g_assert_cmphex(s->parity[1][at], ==, q);
    }
}

static void rebuild_one(const MsParityKernel *kernel, Stripe *s, unsigned a,
                        int without)
{
    MsParityRow row = row_without(s, a, a);

    if (without >= 0) {
        row.parity[without] = NULL;
    }
    memset(s->out[0], 0, BYTES);
    g_assert_cmpint(ms_parity_rebuild(kernel, &row, 1, &s->slot[a],
                                      (void *const *)s->out), ==, 0);
    g_assert_cmpmem(s->out[0], BYTES, s->page[a], BYTES);
}

static void rebuild_two(const MsParityKernel *kernel, Stripe *s, unsigned a,
                        unsigned b)
{
    MsParityRow row = row_without(s, a, b);
    uint8_t lost[] = { s->slot[a], s->slot[b] };

    memset(s->out[0], 0, BYTES);
    memset(s->out[1], 0, BYTES);
    g_assert_cmpint(ms_parity_rebuild(kernel, &row, 2, lost,
                                      (void *const *)s->out), ==, 0);
    g_assert_cmpmem(s->out[0], BYTES, s->page[a], BYTES);
    g_assert_cmpmem(s->out[1], BYTES, s->page[b], BYTES);
    row.parity[g_test_rand_int_range(0, 2)] = NULL;
    g_assert_cmpint(ms_parity_rebuild(kernel, &row, 2, lost,
                                      (void *const *)s->out), ==, -ENODATA);
}

static void test_losses(gconstpointer opaque)
{
    const MsParityKernel *kernel = opaque;

    for (unsigned n = 1; n <= MS_PARITY_SLOTS; n += n < 4 ? 1 : PARITY_STEP) {
        Stripe s;

        stripe_init(&s, n, n % 2);
        build(kernel, &s);
        assert_definition(&s);
        for (unsigned a = 0; a < n; a++) {
            rebuild_one(kernel, &s, a, -1);
            rebuild_one(kernel, &s, a, 0);
            rebuild_one(kernel, &s, a, 1);
            for (unsigned b = 0; b < a; b++) {
                rebuild_two(kernel, &s, a, b);
            }
        }
        stripe_destroy(&s);
    }
}

/* Pages come and go one by one: as if built anew. */
static void test_change(gconstpointer opaque)
{
    const MsParityKernel *kernel = opaque;
    Stripe s;

    stripe_init(&s, MS_PARITY_SLOTS, false);
    memset(s.parity[0], 0, BYTES);
    memset(s.parity[1], 0, BYTES);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < s.count; i++) {
            ms_parity_change(kernel, BYTES, s.slot[i], s.page[i],
                             (const void *const *)s.parity,
                             (void *const *)s.out);
            for (unsigned k = 0; k < 2; k++) {
                uint8_t *old = s.parity[k];

                s.parity[k] = s.out[k];
                s.out[k] = old;
            }
        }
        if (round == 0) {
            assert_definition(&s);
        }
    }
    for (unsigned i = 0; i < BYTES; i++) {
        g_assert_cmphex(s.parity[0][i] | s.parity[1][i], ==, 0);
    }
    stripe_destroy(&s);
}

static void test_change_of_one_leaves_the_other(void)
{
    const void *from[2] = { NULL, NULL };
    void *to[2];
    Stripe s;

    stripe_init(&s, 1, true);
    memset(s.out[1], 0x77, BYTES);
    from[0] = s.parity[0];
    to[0] = s.out[0];
    to[1] = s.out[1];
    ms_parity_change(ms_parity_best(), BYTES, 3, s.page[0], from, to);
    for (unsigned i = 0; i < BYTES; i++) {
        g_assert_cmphex(s.out[0][i], ==, s.page[0][i] ^ 0xa5);
        g_assert_cmphex(s.out[1][i], ==, 0x77);
    }
    stripe_destroy(&s);
}

static void test_large_units(gconstpointer opaque)
{
    const MsParityKernel *kernel = opaque;
    size_t bytes = 2u << 20, count;
    const MsParityKernel *plain = ms_parity_kernels(&count);
    uint8_t *buf = aligned_alloc(64, bytes * 8), *at[8];

    for (unsigned i = 0; i < 8; i++) {
        at[i] = buf + i * bytes;
    }
    for (size_t i = 0; i < 4 * bytes; i += 4) {
        uint32_t x = g_test_rand_int();

        memcpy(buf + i, &x, 4);
    }
    kernel->pq(bytes, 4, (const void *const *)at, at[4], at[5]);
    plain->pq(bytes, 4, (const void *const *)at, at[6], at[7]);
    g_assert_cmpmem(at[4], bytes, at[6], bytes);
    g_assert_cmpmem(at[5], bytes, at[7], bytes);
    g_assert_cmphex(kernel->sum(at[0], bytes), ==, plain->sum(at[0], bytes));
    free(buf);
}

static void test_sum(gconstpointer opaque)
{
    const MsParityKernel *kernel = opaque;
    size_t count;
    const MsParityKernel *plain = ms_parity_kernels(&count);
    uint8_t *page = page_new();

    /* The published check value of CRC-64/XZ. */
    g_assert_cmphex(kernel->sum("123456789", 9), ==,
                    UINT64_C(0x995dc9bbdf1939fa));
    for (unsigned i = 0; i < 200; i++) {
        size_t bytes = g_test_rand_int_range(0, BYTES + 1);
        uint64_t sum;

        fill(page);
        sum = kernel->sum(page, BYTES);
        g_assert_cmphex(sum, ==, plain->sum(page, BYTES));
        g_assert_cmphex(kernel->sum(page, bytes), ==,
                        plain->sum(page, bytes));
        page[g_test_rand_int_range(0, BYTES)] ^=
            1u << g_test_rand_int_range(0, 8);
        g_assert_cmphex(kernel->sum(page, BYTES), !=, sum);
    }
    free(page);
}

static void test_field(void)
{
    for (unsigned a = 0; a < 256; a++) {
        g_assert_cmphex(ms_gf_mul(a, 1), ==, a);
        g_assert_cmphex(ms_gf_mul(a, ms_gf_inverse(a)), ==, a != 0);
        for (unsigned b = 0; b < 256; b++) {
            unsigned c = g_test_rand_int_range(0, 256);

            g_assert_cmphex(ms_gf_mul(a, b), ==, ms_gf_mul(b, a));
            g_assert_cmphex(ms_gf_mul(a, b ^ c), ==,
                            ms_gf_mul(a, b) ^ ms_gf_mul(a, c));
        }
    }
    for (unsigned a = 0; a < MS_PARITY_SLOTS; a++) {
        for (unsigned b = 0; b < a; b++) {
            g_assert_cmphex(ms_parity_coef(a), !=, ms_parity_coef(b));
        }
    }
}

int main(int argc, char **argv)
{
    const MsParityKernel *kernels;
    size_t count;

    g_test_init(&argc, &argv, NULL);
    kernels = ms_parity_kernels(&count);
    g_test_add_func("/parity/field-has-inverses-and-distributes", test_field);
    g_test_add_func("/parity/change-of-one-leaves-the-other",
                    test_change_of_one_leaves_the_other);
    for (size_t i = 0; i < count; i++) {
        const MsParityKernel *k = &kernels[i];
        g_autofree char *losses =
            g_strdup_printf("/parity/%s/any-two-losses-are-rebuilt", k->name);
        g_autofree char *change =
            g_strdup_printf("/parity/%s/join-and-leave-as-built", k->name);
        g_autofree char *large =
            g_strdup_printf("/parity/%s/2-mib-units-as-reference", k->name);
        g_autofree char *sum =
            g_strdup_printf("/parity/%s/checksum-is-crc64", k->name);

        g_test_add_data_func(losses, k, test_losses);
        g_test_add_data_func(change, k, test_change);
        g_test_add_data_func(large, k, test_large_units);
        g_test_add_data_func(sum, k, test_sum);
    }
    return g_test_run();
}
