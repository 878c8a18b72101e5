/*
 * Requests of balloon applications, and the guest's condition
 *
 * Not implemented yet: every call is refused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>

#include "memsched/memsched.h"

int memsched_app_request(MemSchedClient *client,
                         const MemSchedAppRequest *request)
{
    return -EOPNOTSUPP;
}

int memsched_app_cancel(MemSchedClient *client, uint32_t app, uint64_t cookie)
{
    return -EOPNOTSUPP;
}

int memsched_client_condition(MemSchedClient *client,
                              MemSchedGuestCondition *ret_condition)
{
    return -EOPNOTSUPP;
}
