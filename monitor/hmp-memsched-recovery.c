/*
 * Human monitor command of recovery from memory errors.
 *
 * Owns nothing: prints what query-memsched-protection answers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-memsched-recovery.h"
#include "qemu/module.h"
#include "qemu/units.h"

/* Rounded to the nearest. */
static uint64_t mib(uint64_t bytes)
{
    return bytes / MiB + (bytes % MiB >= MiB / 2);
}

static unsigned percent(uint64_t part, uint64_t rest)
{
    uint64_t all = part + rest;

    return all ? part * 100 / all : 0;
}

static void print_guest(Monitor *mon, const MemschedProtection *p)
{
    const MemschedCoverage *c = p->coverage;
    uint64_t all = c->parity + c->disk + c->none;

    monitor_printf(mon, "%-16s %-6s %5u %8" PRIu64 " %7u%% %7u%% %8" PRIu64
                   " %8" PRIu64 " %8" PRIu64 " %9" PRIu64 " %6" PRIu64 "\n",
                   p->id, MemschedScheme_str(p->scheme), p->group_size,
                   mib(all), percent(c->parity, all - c->parity),
                   percent(c->disk, all - c->disk), mib(p->parity),
                   p->poisoned / 4096,
                   p->recovered + p->recovered_dead, p->lost_pages,
                   p->lost / 4096);
    if (p->has_last_age) {
        monitor_printf(mon, "    last error %" PRIu64 " s ago; repairs p50 %"
                       PRIu64 " us, p99 %" PRIu64 " us, longest %" PRIu64
                       " us\n", p->last_age / 1000, p->repair->p50_ns / 1000,
                       p->repair->p99_ns / 1000, p->repair_max_ns / 1000);
    }
}

static void print_scrub(Monitor *mon, const MemschedScrub *s)
{
    monitor_printf(mon, "    scrubber: %" PRIu64 " passes", s->passes);
    if (s->has_last_age) {
        monitor_printf(mon, ", the last one %" PRIu64 " s ago in %" PRIu64
                       " s", s->last_age / 1000, s->last_duration / 1000);
    }
    monitor_printf(mon, "; %u%% of this one; %" PRIu64 " errors, %" PRIu64
                   " pages and %" PRIu64 " of parity that differ\n",
                   percent(s->done, s->all - MIN(s->done, s->all)), s->errors,
                   s->mismatches, s->parity_mismatches);
}

static void hmp_info_memsched_protection(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(MemschedProtectionList) list =
        qmp_query_memsched_protection(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    monitor_printf(mon, "%-16s %-6s %5s %8s %8s %8s %8s %8s %8s %9s %6s\n",
                   "Guest (MiB)", "Scheme", "Group", "Has", "By group",
                   "By disk", "Parity", "Poisoned", "Repaired", "Lost ever",
                   "Lost");
    for (MemschedProtectionList *entry = list; entry; entry = entry->next) {
        print_guest(mon, entry->value);
        if (entry->value->scrub->rate) {
            print_scrub(mon, entry->value->scrub);
        }
    }
}

static void hmp_memsched_recovery_register(void)
{
    monitor_register_hmp("memsched-protection", true,
                         hmp_info_memsched_protection);
}

type_init(hmp_memsched_recovery_register)
