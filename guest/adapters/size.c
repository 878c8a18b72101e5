/*
 * How large a cache should be
 *
 * The guest's kernel says how much of the memory that it believes in is
 * available.  Where the host gives the guest less than that, the figure is too
 * high: pages behind it are not there, and a program that counts on them waits
 * for them, or drives other things out.  The host says what it will really
 * back: what the guest holds, and what it could still get.  So
 *
 *   used     = ram - ballooned - available
 *   headroom = min(available, allocated + reservable - used)
 *
 * Free memory that the guest has reported to the host is in available, and not
 * in ballooned: what was reported can be touched again.
 *
 * The cache may take what is left of the headroom when keep is set aside, a
 * quarter of its size at a time: other programs look at the same figures.  When
 * there is less than keep it gives up what is missing.  In hard it never grows
 * and gives up a sixteenth a step, in low an eighth, down to its min.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "size.h"

#define MIB (UINT64_C(1) << 20)

/* What a small cache may grow by in one step. */
#define STEP_MIN (16 * MIB)

/* Growth by less than a 32nd is not worth a word to the cache. */
#define DEAD_BAND 32u

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t size_headroom(const SizeInput *input)
{
    const BxCondition *c = input->condition;
    uint64_t ballooned, used;

    if (!c) {
        return input->available;
    }
    ballooned = c->ballooned_kernel + c->ballooned_application;
    used = less(less(c->ram, ballooned), input->available);
    return smaller(input->available,
                   less(c->allocated + c->reservable, used));
}

/* What the host's word takes away, whatever there is room for. */
static uint64_t ceiling(const SizeInput *input)
{
    const BxCondition *c = input->condition;
    uint64_t cache = input->cache;

    if (!c) {
        return UINT64_MAX;
    }
    switch (c->level) {
    case BX_HIGH:
    case BX_SOFT:
        if (!c->is_connected || c->age_ms > SIZE_STALE_MS) {
            return input->limit;
        }
        return UINT64_MAX;
    case BX_HARD:
        return smaller(input->limit, cache - cache / 16);
    default:
        return smaller(input->limit, cache - cache / 8);
    }
}

uint64_t size_next(const SizeOptions *options, const SizeInput *input)
{
    uint64_t headroom = size_headroom(input);
    uint64_t max = options->max ? options->max : UINT64_MAX;
    uint64_t wanted;

    if (headroom >= options->keep) {
        /* No overflow: both are sizes of memory. */
        wanted = input->cache + (headroom - options->keep);
        if (wanted > input->limit) {
            wanted = smaller(wanted, input->limit +
                             larger(input->limit / 4, STEP_MIN));
        }
    } else {
        wanted = smaller(input->limit,
                         less(input->cache, options->keep - headroom));
    }
    wanted = smaller(wanted, ceiling(input));
    wanted = larger(smaller(wanted, max), options->min);
    if (wanted > input->limit && input->limit >= options->min &&
        wanted - input->limit < input->limit / DEAD_BAND) {
        return input->limit;
    }
    return wanted;
}
