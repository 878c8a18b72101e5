/*
 * Orders of memory to balloon applications
 *
 * Not implemented yet: every call is refused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>

#include "memsched/memsched.h"

int memsched_app_reserved(MemSchedClient *client, uint64_t cookie,
                          const MemSchedAppRange *range,
                          MemSchedReserveStatus status, MemSchedReason reason)
{
    return -EOPNOTSUPP;
}

int memsched_app_hints(MemSchedClient *client, uint32_t app, uint64_t epoch,
                       const MemSchedAppHint *hints, size_t count)
{
    return -EOPNOTSUPP;
}

int memsched_app_release(MemSchedClient *client, const MemSchedAppRange *range,
                         MemSchedReason reason)
{
    return -EOPNOTSUPP;
}

int memsched_app_unmapped(MemSchedClient *client,
                          const MemSchedAppRange *range)
{
    return -EOPNOTSUPP;
}
