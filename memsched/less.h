/*
 * A difference that does not go below zero
 *
 * What is left of @a when @b is taken out of it: counts of pages and of time
 * are unsigned, and what is subtracted is often of another moment.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_LESS_H
#define MEMSCHED_LESS_H

#include <stdint.h>

static inline uint64_t ms_less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

#endif /* MEMSCHED_LESS_H */
