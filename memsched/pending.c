/*
 * What the contract promises and the library does not have yet.
 *
 * Weak: a file that defines a function for good replaces it without a word.
 * To be deleted once every function is there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>

#include "memsched/memsched.h"

#define PENDING __attribute__((weak))

PENDING
int memsched_set(MemSched *ms, const MemSchedChange *change,
    MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
int memsched_reallocate(MemSched *ms, const MemSchedTransferOptions *options,
    uint64_t *ret_id, MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
size_t memsched_query_transfers(MemSched *ms, MemSchedTransferInfo *ret_infos,
    size_t max)
{
    return 0;
}

PENDING
void memsched_observe(MemSched *ms, const MemSchedObserver *observer,
    void *opaque)
{
}
