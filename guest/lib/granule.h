/*
 * Fresh memory for the reservoir: locked, faulted in, huge where it can be
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_GRANULE_H
#define BX_GRANULE_H

#include <stdbool.h>
#include <stdint.h>

#include "sys.h"

typedef struct BxMemory {
    char *address;
    uint64_t bytes;
    uint64_t huge_bytes;        /* of them in huge pages, as far as known */
} BxMemory;

/*
 * Set @bytes aside, zeroed, a multiple of @granule_bytes and aligned to it.
 * Huge pages only with @huge and granules of 2 MiB.  Free it with
 * sys->unmap().
 *
 *   -EDQUOT   a limit of this process (RLIMIT_MEMLOCK, RLIMIT_AS)
 *   -ENOMEM   the guest has no memory left
 */
int bx_granule_new(const BxSys *sys, uint64_t bytes, uint32_t granule_bytes,
                   bool huge, BxMemory *ret_memory);

#endif
