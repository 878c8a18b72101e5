/*
 * Parity of pages: P, and P with Q
 *
 * ISA-L does the work; what is written out here in plain C is the reference
 * that says what is right, and a way to go where ISA-L has no code for a CPU.
 *
 * Rebuilding needs no matrix: with one parity page or two there are closed
 * forms.  Let p and q be P and Q less all known pages.
 *
 *     one page lost, P at hand    D = p
 *     one page lost, Q at hand    D = q / 2^a
 *     two lost, a and b           Da = (2^b p + q) / (2^a + 2^b)
 *                                 Db = (2^a p + q) / (2^a + 2^b)
 *
 * Each is a sum of all sources with constant coefficients, so one pass over the
 * sources does it.
 *
 * The checksum is ISA-L's CRC-64: no further dependency, as fast as memory is
 * read (19 GiB/s; 60 out of a cache, where the CPU has VPCLMULQDQ), finds any
 * burst of up to 64 bits for sure and others but for one in 2^64.  It is no
 * defence against somebody who makes pages up; stripes never span guests, so
 * nobody could harm anybody but himself with it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <assert.h>
#include <errno.h>
#include <isa-l/crc64.h>
#include <isa-l/erasure_code.h>
#include <isa-l/raid.h>
#include <stdbool.h>
#include <string.h>

#include "parity.h"

#define SOURCES (MS_PARITY_SLOTS + MS_PARITY_PAGES)
#define TABLE_BYTES 32u         /* ISA-L's, for each coefficient */

/* ---- GF(2^8) ---- */

uint8_t ms_gf_mul(uint8_t a, uint8_t b)
{
    unsigned product = 0, x = a;

    for (; b; b >>= 1) {
        product ^= b & 1 ? x : 0;
        x = x << 1 ^ (x & 0x80 ? 0x11d : 0);
    }
    return product;
}

uint8_t ms_gf_inverse(uint8_t a)
{
    uint8_t power = a, inverse = 1;

    /* a^254: the product of a^2, a^4, ..., a^128. */
    for (unsigned i = 1; i < 8; i++) {
        power = ms_gf_mul(power, power);
        inverse = ms_gf_mul(inverse, power);
    }
    return a ? inverse : 0;
}

uint8_t ms_parity_coef(unsigned slot)
{
    uint8_t power = 1;

    while (slot-- > 0) {
        power = ms_gf_mul(power, 2);
    }
    return power;
}

/* ---- the reference ---- */

static void plain_dot(size_t bytes, unsigned count, const uint8_t *coef,
                      unsigned rows, const void *const *src, void *const *dst)
{
    for (unsigned r = 0; r < rows; r++) {
        uint8_t *d = dst[r];

        memset(d, 0, bytes);
        for (unsigned s = 0; s < count; s++) {
            const uint8_t *from = src[s];
            uint8_t times[256];

            for (unsigned i = 0; i < 256; i++) {
                times[i] = ms_gf_mul(i, coef[r * count + s]);
            }
            for (size_t i = 0; i < bytes; i++) {
                d[i] ^= times[from[i]];
            }
        }
    }
}

static void plain_xor(size_t bytes, unsigned count, const void *const *src,
                      void *dst)
{
    uint64_t *d = dst;

    memcpy(dst, src[0], bytes);
    for (unsigned s = 1; s < count; s++) {
        const uint64_t *from = src[s];

        for (size_t i = 0; i < bytes / sizeof(*d); i++) {
            d[i] ^= from[i];
        }
    }
}

static void plain_pq(size_t bytes, unsigned count, const void *const *src,
                     void *p, void *q)
{
    uint8_t coef[MS_PARITY_SLOTS];

    for (unsigned i = 0; i < count; i++) {
        coef[i] = ms_parity_coef(i);
    }
    plain_xor(bytes, count, src, p);
    plain_dot(bytes, count, coef, 1, src, &q);
}

static uint64_t plain_sum(const void *data, size_t bytes)
{
    const uint8_t *byte = data;
    uint64_t sum = UINT64_MAX;

    for (size_t i = 0; i < bytes; i++) {
        sum ^= byte[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            sum = sum >> 1 ^ (sum & 1 ? UINT64_C(0xc96c5795d7870f42) : 0);
        }
    }
    return ~sum;
}

/* ---- ISA-L ---- */

/* Its functions take int and arrays that are not const; they write to dst. */

static void isal_xor(size_t bytes, unsigned count, const void *const *src,
                     void *dst)
{
    void *array[SOURCES + 1];

    if (count == 1) {
        memcpy(dst, src[0], bytes);
        return;
    }
    memcpy(array, src, count * sizeof(array[0]));
    array[count] = dst;
    xor_gen(count + 1, bytes, array);
}

static void isal_pq(size_t bytes, unsigned count, const void *const *src,
                    void *p, void *q)
{
    void *array[SOURCES + 2];

    if (count == 1) {
        memcpy(p, src[0], bytes);
        memcpy(q, src[0], bytes);
        return;
    }
    memcpy(array, src, count * sizeof(array[0]));
    array[count] = p;
    array[count + 1] = q;
    pq_gen(count + 2, bytes, array);
}

static void isal_dot(size_t bytes, unsigned count, const uint8_t *coef,
                     unsigned rows, const void *const *src, void *const *dst)
{
    unsigned char table[SOURCES * MS_PARITY_PAGES * TABLE_BYTES];

    ec_init_tables(count, rows, (unsigned char *)coef, table);
    ec_encode_data(bytes, count, rows, table, (unsigned char **)src,
                   (unsigned char **)dst);
}

static uint64_t isal_sum(const void *data, size_t bytes)
{
    return crc64_ecma_refl(0, data, bytes);
}

static const MsParityKernel kernels[] = {
    { "portable", plain_xor, plain_pq, plain_dot, plain_sum },
    { "isa-l", isal_xor, isal_pq, isal_dot, isal_sum },
};

#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

const MsParityKernel *ms_parity_kernels(size_t *ret_count)
{
    *ret_count = KERNELS;
    return kernels;
}

const MsParityKernel *ms_parity_best(void)
{
    return &kernels[KERNELS - 1];
}

/* ---- stripes ---- */

void ms_parity_change(const MsParityKernel *kernel, size_t bytes,
                      unsigned slot, const void *page,
                      const void *const old[MS_PARITY_PAGES],
                      void *const ret_new[MS_PARITY_PAGES])
{
    const uint8_t coef[] = { 1, ms_parity_coef(slot) };

    if (old[0] && ret_new[0]) {
        kernel->xor(bytes, 2, (const void *const[]) { old[0], page },
                    ret_new[0]);
    }
    if (old[1] && ret_new[1]) {
        kernel->dot(bytes, 2, coef, 1,
                    (const void *const[]) { old[1], page }, &ret_new[1]);
    }
}

/* All sources of a rebuild, with a coefficient each and for each result. */
typedef struct Terms {
    unsigned count;
    const void *src[SOURCES];
    uint8_t coef[MS_PARITY_PAGES][SOURCES];
} Terms;

static void add_term(Terms *terms, const void *src, uint8_t first,
                     uint8_t second)
{
    terms->src[terms->count] = src;
    terms->coef[0][terms->count] = first;
    terms->coef[1][terms->count] = second;
    terms->count++;
}

static void evaluate(const MsParityKernel *kernel, const Terms *terms,
                     size_t bytes, unsigned rows, void *const *dst)
{
    uint8_t coef[SOURCES * MS_PARITY_PAGES];

    for (unsigned r = 0; r < rows; r++) {
        memcpy(coef + r * terms->count, terms->coef[r], terms->count);
    }
    kernel->dot(bytes, terms->count, coef, rows, terms->src, dst);
}

static void rebuild_by_p(const MsParityKernel *kernel, const MsParityRow *row,
                         void *ret_page)
{
    const void *src[SOURCES];

    memcpy(src, row->page, row->count * sizeof(src[0]));
    src[row->count] = row->parity[0];
    kernel->xor(row->bytes, row->count + 1, src, ret_page);
}

static void rebuild_by_q(const MsParityKernel *kernel, const MsParityRow *row,
                         uint8_t lost, void *ret_page)
{
    uint8_t inverse = ms_gf_inverse(ms_parity_coef(lost));
    Terms terms = { 0 };

    for (unsigned i = 0; i < row->count; i++) {
        add_term(&terms, row->page[i],
                 ms_gf_mul(ms_parity_coef(row->slot[i]), inverse), 0);
    }
    add_term(&terms, row->parity[1], inverse, 0);
    evaluate(kernel, &terms, row->bytes, 1, &ret_page);
}

static void rebuild_two(const MsParityKernel *kernel, const MsParityRow *row,
                        const uint8_t *lost, void *const *ret_pages)
{
    uint8_t a = ms_parity_coef(lost[0]), b = ms_parity_coef(lost[1]);
    uint8_t inverse = ms_gf_inverse(a ^ b);
    Terms terms = { 0 };

    for (unsigned i = 0; i < row->count; i++) {
        uint8_t c = ms_parity_coef(row->slot[i]);

        add_term(&terms, row->page[i], ms_gf_mul(b ^ c, inverse),
                 ms_gf_mul(a ^ c, inverse));
    }
    add_term(&terms, row->parity[0], ms_gf_mul(b, inverse),
             ms_gf_mul(a, inverse));
    add_term(&terms, row->parity[1], inverse, inverse);
    evaluate(kernel, &terms, row->bytes, 2, ret_pages);
}

int ms_parity_rebuild(const MsParityKernel *kernel, const MsParityRow *row,
                      unsigned lost_count, const uint8_t *lost,
                      void *const *ret_pages)
{
    bool p = row->parity[0], q = row->parity[1];

    assert(row->count + lost_count <= MS_PARITY_SLOTS);
    if (lost_count > (unsigned)p + q) {
        return -ENODATA;
    }
    if (lost_count == 2) {
        rebuild_two(kernel, row, lost, ret_pages);
    } else if (lost_count == 1 && p) {
        rebuild_by_p(kernel, row, ret_pages[0]);
    } else if (lost_count == 1) {
        rebuild_by_q(kernel, row, lost[0], ret_pages[0]);
    }
    return 0;
}

void ms_parity_build(const MsParityKernel *kernel, const MsParityRow *row,
                     void *const ret_parity[MS_PARITY_PAGES])
{
    uint8_t coef[MS_PARITY_SLOTS];
    bool in_order = true;

    for (unsigned i = 0; i < row->count; i++) {
        coef[i] = ms_parity_coef(row->slot[i]);
        in_order = in_order && row->slot[i] == i;
    }
    if (row->count == 0) {
        for (unsigned k = 0; k < MS_PARITY_PAGES; k++) {
            if (ret_parity[k]) {
                memset(ret_parity[k], 0, row->bytes);
            }
        }
        return;
    }
    if (ret_parity[0] && ret_parity[1] && in_order) {
        kernel->pq(row->bytes, row->count, row->page, ret_parity[0],
                   ret_parity[1]);
        return;
    }
    if (ret_parity[0]) {
        kernel->xor(row->bytes, row->count, row->page, ret_parity[0]);
    }
    if (ret_parity[1]) {
        kernel->dot(row->bytes, row->count, coef, 1, row->page,
                    &ret_parity[1]);
    }
}
