/*
 * Human monitor commands of the host memory scheduler.
 *
 * Owns nothing: prints what the QMP commands answer.  The tables of commands
 * are upstream's; their entries have no function until this file gives them
 * one, before the first monitor exists.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/qapi-commands-memsched.h"
#include "qobject/qdict.h"
#include "qemu/module.h"

static void hmp_info_memsched(Monitor *mon, const QDict *qdict)
{
    g_autoptr(MemschedInfo) info = qmp_query_memsched(NULL);

    monitor_printf(mon, "libmemsched %s\n", info->version);
}

static void hmp_not_running(Monitor *mon, const QDict *qdict)
{
    monitor_printf(mon, "No memsched object in this process\n");
}

static void hmp_memsched_register(void)
{
    monitor_register_hmp("memsched", true, hmp_info_memsched);
    monitor_register_hmp("memsched-guests", true, hmp_not_running);
    monitor_register_hmp("memsched_reallocate", false, hmp_not_running);
}

type_init(hmp_memsched_register)
