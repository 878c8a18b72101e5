/*
 * Human monitor commands of the host memory scheduler.
 *
 * Owns nothing: prints what the QMP commands answer, in MiB, and their
 * refusals.  The tables of commands are upstream's; their entries have no
 * function until this file gives them one, before the first monitor exists.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-memsched.h"
#include "qobject/qdict.h"
#include "qemu/module.h"
#include "qemu/units.h"

/* Rounded to the nearest; nothing shows less than half a MiB. */
static uint64_t mib(uint64_t bytes)
{
    return bytes / MiB + (bytes % MiB >= MiB / 2);
}

static void print_pool(Monitor *mon, const MemschedPool *pool)
{
    monitor_printf(mon, "Pool (MiB):  size %" PRIu64 "  free %" PRIu64
                   "  clean %" PRIu64 "  dirty %" PRIu64 "  huge %" PRIu64
                   "\n", mib(pool->size), mib(pool->free), mib(pool->clean),
                   mib(pool->dirty), mib(pool->huge));
    monitor_printf(mon, "             allocated %" PRIu64 "  claimed %" PRIu64
                   "  reserved %" PRIu64 "  min-free %" PRIu64 "\n",
                   mib(pool->allocated), mib(pool->claimed),
                   mib(pool->reserved), mib(pool->min_free));
}

static void print_counters(Monitor *mon, const MemschedCounters *counters)
{
    monitor_printf(mon, "Done (MiB):  captured %" PRIu64 "  populated %"
                   PRIu64 "  moved %" PRIu64 "  copied %" PRIu64
                   "  discarded %" PRIu64 "  scrubbed %" PRIu64 "\n",
                   mib(counters->captured), mib(counters->populated),
                   mib(counters->moved), mib(counters->copied),
                   mib(counters->discarded), mib(counters->scrubbed));
}

static void print_last_resort(Monitor *mon, const MemschedLastResort *held)
{
    monitor_printf(mon, "Kept (MiB):  stored %" PRIu64 " in %" PRIu64 " of %"
                   PRIu64 "  swapped %" PRIu64 " of %" PRIu64 "  out %" PRIu64
                   "  zero %" PRIu64 "  refused %" PRIu64 "\n",
                   mib(held->stored), mib(held->store),
                   mib(held->store_limit), mib(held->swapped),
                   mib(held->swap), mib(held->out), mib(held->zero),
                   mib(held->refused));
    monitor_printf(mon, "             back %" PRIu64 ", p99 %" PRIu64
                   " us  read %" PRIu64 ", p99 %" PRIu64 " us  lost %" PRIu64
                   "  errors %" PRIu64 "\n", mib(held->back),
                   held->back_faults->p99_ns / 1000, mib(held->read),
                   held->read_faults->p99_ns / 1000, mib(held->lost),
                   held->write_errors + held->read_errors);
}

static void hmp_info_memsched(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(MemschedInfo) info = qmp_query_memsched(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "Scheduler:   %s, libmemsched %s, policy %s%s, "
                   "every %u ms\n", info->id, info->version,
                   MemschedPolicy_str(info->policy),
                   info->dry_run ? " (dry run)" : "", info->interval);
    monitor_printf(mon, "State:       %s, pressure %u %%, %u guests\n",
                   MemschedCondition_str(info->state), info->pressure,
                   info->guests);
    print_pool(mon, info->pool);
    print_counters(mon, info->counters);
    if (info->last_resort) {
        print_last_resort(mon, info->last_resort);
    }
    monitor_printf(mon, "Faults:      %" PRIu64 " served, p50 %" PRIu64
                   " us, p99 %" PRIu64 " us, longest %" PRIu64 " us\n",
                   info->faults->served, info->faults->p50_ns / 1000,
                   info->faults->p99_ns / 1000, info->faults->max_ns / 1000);
    monitor_printf(mon, "Kernel:      %s, %s\n", info->kernel->release,
                   info->fallback ? "pages are copied and discarded"
                                  : "pages are moved");
    if (info->kernel->warning) {
        monitor_printf(mon, "Warning:     %s\n", info->kernel->warning);
    }
}

static void print_applications(Monitor *mon, const MemschedApplications *apps)
{
    for (MemschedApplicationList *entry = apps->list; entry;
         entry = entry->next) {
        const MemschedApplication *app = entry->value;

        monitor_printf(mon, "    application %u (%s): asked for %" PRIu64
                       ", set aside %" PRIu64 ", taken %" PRIu64 "%s\n",
                       app->number, app->name, mib(app->ordered),
                       mib(app->reserved), mib(app->captured),
                       app->veto ? ", wants to be left alone" : "");
    }
    for (MemschedRequestList *entry = apps->requests; entry;
         entry = entry->next) {
        const MemschedRequest *request = entry->value;

        monitor_printf(mon, "    request of %s: %" PRIu64 ", got %" PRIu64
                       ", priority %u, for %s, %" PRIu64 " s left\n",
                       request->name ? request->name : "the guest",
                       mib(request->size), mib(request->got),
                       request->priority,
                       request->reason == QAPI_MEMSCHED_WANT_UNSAID
                       ? "an unsaid reason"
                       : MemschedWant_str(request->reason),
                       request->left / 1000);
    }
}

static void print_guest(Monitor *mon, const MemschedGuest *guest)
{
    const MemschedGuestMemory *m = guest->memory;
    const char *state = MemschedGuestState_str(guest->state);

    if (m) {
        uint64_t ballooned = m->ballooned->kernel +
            m->ballooned->application + m->ballooned->reported;

        monitor_printf(mon, "%-16s %-8s %9" PRIu64 " %9" PRIu64 " %9" PRIu64
                       " %9" PRIu64 " %9" PRIu64 " %6u %-9s %7u%%%s%s\n",
                       guest->id, state, mib(m->allocated), mib(m->target),
                       mib(ballooned), mib(m->min), mib(m->max), m->shares,
                       MemschedCondition_str(m->condition), m->pressure,
                       m->stalled ? " stalled" : "",
                       m->unresponsive ? " unresponsive" : "");
    } else {
        monitor_printf(mon, "%-16s %-8s\n", guest->id, state);
    }
    if (guest->message) {
        monitor_printf(mon, "    %s\n", guest->message);
    }
    if (m && m->held) {
        monitor_printf(mon, "    kept by the host: compressed %" PRIu64
                       ", in the swap file %" PRIu64 "\n",
                       mib(m->held->stored), mib(m->held->swapped));
    }
    if (guest->applications) {
        print_applications(mon, guest->applications);
    }
}

static void hmp_info_memsched_guests(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(MemschedGuestList) guests = qmp_query_memsched_guests(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "%-16s %-8s %9s %9s %9s %9s %9s %6s %-9s %8s\n",
                   "Guest (MiB)", "State", "Allocated", "Target", "Ballooned",
                   "Min", "Max", "Shares", "Condition", "Pressure");
    for (MemschedGuestList *entry = guests; entry; entry = entry->next) {
        print_guest(mon, entry->value);
    }
}

static void hmp_info_memsched_decisions(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(MemschedDecisionList) list = qmp_query_memsched_decisions(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "%8s %9s %-16s %-6s %9s %-12s\n", "Decision",
                   "Ago (s)", "Guest", "Action", "MiB", "Reason");
    for (MemschedDecisionList *entry = list; entry; entry = entry->next) {
        const MemschedDecision *d = entry->value;

        monitor_printf(mon, "%8" PRIu64 " %7" PRIu64 ".%u %-16s %-6s %9"
                       PRIu64 " %-12s%s\n", d->number, d->age / 1000,
                       (unsigned)(d->age % 1000 / 100), d->id,
                       MemschedAction_str(d->action), mib(d->size), d->reason,
                       d->dry_run ? " (dry run)" : "");
    }
}

static void hmp_memsched_reallocate(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(MemschedTransferId) started = qmp_memsched_reallocate(
        qdict_get_str(qdict, "from"), qdict_get_str(qdict, "to"),
        qdict_get_int(qdict, "size"), false, 0, false, 0, false,
        false, &err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "Transfer %" PRIu64 " started\n", started->id);
}

static void hmp_memsched_register(void)
{
    monitor_register_hmp("memsched", true, hmp_info_memsched);
    monitor_register_hmp("memsched-guests", true, hmp_info_memsched_guests);
    monitor_register_hmp("memsched-decisions", true,
                         hmp_info_memsched_decisions);
    monitor_register_hmp("memsched_reallocate", false,
                         hmp_memsched_reallocate);
}

type_init(hmp_memsched_register)
