/*
 * Parity of pages: P, and P with Q
 *
 * Pure: bytes in, bytes out; no state, no lock, no system call.
 *
 *     P = D0 + D1 + ... + Dn-1                    (+ is exclusive or)
 *     Q = D0 + 2 D1 + 4 D2 + ... + 2^(n-1) Dn-1   in GF(2^8), x^8+x^4+x^3+x^2+1
 *
 * D's number is its *slot*; an empty slot counts as zeros.  With P any one page
 * can be computed from the others, with both any two.
 *
 * Buffers are aligned to 32 bytes and do not overlap; sizes are multiples of
 * 4 KiB.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PARITY_H
#define MEMSCHED_PARITY_H

#include <stddef.h>
#include <stdint.h>

/* 2^slot is different for 255 slots; more than 32 would not be worth it. */
#define MS_PARITY_SLOTS  32u
#define MS_PARITY_PAGES  2u     /* P, Q */

/* One way to do the arithmetic; all of them give the same bytes. */
typedef struct MsParityKernel {
    const char *name;
    /* dst = sum of @count sources, at least 1. */
    void (*xor)(size_t bytes, unsigned count, const void *const *src,
                void *dst);
    /* P and Q of slots 0 to count - 1, at least 1. */
    void (*pq)(size_t bytes, unsigned count, const void *const *src, void *p,
               void *q);
    /*
     * dst[r] = sum of coef[r * count + s] * src[s]; 1 or 2 rows, up to
     * MS_PARITY_SLOTS + MS_PARITY_PAGES sources.
     */
    void (*dot)(size_t bytes, unsigned count, const uint8_t *coef,
                unsigned rows, const void *const *src, void *const *dst);
    /* CRC-64 (ECMA-182, reflected) of whatever number of bytes. */
    uint64_t (*sum)(const void *data, size_t bytes);
} MsParityKernel;

/*
 * All of them: [0] is the portable reference, the last one the one to use.
 */
const MsParityKernel *ms_parity_kernels(size_t *ret_count);
const MsParityKernel *ms_parity_best(void);

uint8_t ms_gf_mul(uint8_t a, uint8_t b);
uint8_t ms_gf_inverse(uint8_t a);       /* of 0: 0 */
uint8_t ms_parity_coef(unsigned slot);  /* 2^slot */

/*
 * A page joins or leaves (the same thing): new = old + page, for P, and for Q
 * with the slot's coefficient.  NULL in @old or @ret_new: not that one.
 */
void ms_parity_change(const MsParityKernel *kernel, size_t bytes,
                      unsigned slot, const void *page,
                      const void *const old[MS_PARITY_PAGES],
                      void *const ret_new[MS_PARITY_PAGES]);

/* What is known of one stripe. */
typedef struct MsParityRow {
    size_t bytes;
    unsigned count;             /* pages whose content is known */
    uint8_t slot[MS_PARITY_SLOTS];
    const void *page[MS_PARITY_SLOTS];
    const void *parity[MS_PARITY_PAGES];        /* NULL: not to be had */
} MsParityRow;

/*
 * Compute the pages of slots @lost, all that are missing, into @ret_pages.
 * -ENODATA: more are missing than the parity at hand makes good for.
 */
int ms_parity_rebuild(const MsParityKernel *kernel, const MsParityRow *row,
                      unsigned lost_count, const uint8_t *lost,
                      void *const *ret_pages);

/* P and Q (NULL: not that one) of the known pages. */
void ms_parity_build(const MsParityKernel *kernel, const MsParityRow *row,
                     void *const ret_parity[MS_PARITY_PAGES]);

#endif /* MEMSCHED_PARITY_H */
