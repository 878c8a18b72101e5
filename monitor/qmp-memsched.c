/*
 * QMP commands of the host memory scheduler.
 *
 * Owns nothing: each command asks libmemsched and puts the answer into QAPI's
 * types.  Runs on the monitor's thread under the BQL, and never waits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-commands-memsched.h"
#include "memsched/memsched.h"

MemschedInfo *qmp_query_memsched(Error **errp)
{
    MemschedInfo *info = g_new0(MemschedInfo, 1);

    info->version = g_strdup(memsched_version());
    return info;
}
