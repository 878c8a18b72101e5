/*
 * QMP commands of recovery from memory errors.
 *
 * Owns nothing: checks who asks and what for, asks libmemsched, and puts the
 * answer into QAPI's types.  Parity is memory of the pool, so to protect a
 * guest is the host's to decide; a guest's own monitor shows how that guest is
 * protected, and may break its pages where errors may be injected at all.
 *
 * Threads: any, out of band too; takes no BQL and waits for no guest.  To
 * inject an error waits, as a touch would, for a page that is under way.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-memsched-recovery.h"
#include "qemu/timer.h"
#include "memsched-internal.h"

/* More guests than a process can hold; the list is cut there. */
#define GUESTS_MAX 4096

static MemSchedScheme scheme_from_qapi(MemschedScheme scheme)
{
    switch (scheme) {
    case QAPI_MEMSCHED_SCHEME_NONE:
        return MEMSCHED_SCHEME_NONE;
    case QAPI_MEMSCHED_SCHEME_XOR:
        return MEMSCHED_SCHEME_P;
    case QAPI_MEMSCHED_SCHEME_PQ:
        return MEMSCHED_SCHEME_PQ;
    default:
        g_assert_not_reached();
    }
}

static MemschedScheme scheme_to_qapi(MemSchedScheme scheme)
{
    switch (scheme) {
    case MEMSCHED_SCHEME_NONE:
        return QAPI_MEMSCHED_SCHEME_NONE;
    case MEMSCHED_SCHEME_P:
        return QAPI_MEMSCHED_SCHEME_XOR;
    case MEMSCHED_SCHEME_PQ:
        return QAPI_MEMSCHED_SCHEME_PQ;
    }
    g_assert_not_reached();
}

/* QAPI's values are the library's bits, in this order. */
QEMU_BUILD_BUG_ON((int)QAPI_MEMSCHED_COVER_POLICY_NONE !=
                  (int)MEMSCHED_COVER_NONE);
QEMU_BUILD_BUG_ON((int)QAPI_MEMSCHED_COVER_POLICY_PARITY !=
                  (int)MEMSCHED_COVER_PARITY);
QEMU_BUILD_BUG_ON((int)QAPI_MEMSCHED_COVER_POLICY_DISK !=
                  (int)MEMSCHED_COVER_DISK);
QEMU_BUILD_BUG_ON((int)QAPI_MEMSCHED_COVER_POLICY_BOTH !=
                  (int)MEMSCHED_COVER_ALL);

/* All of the address space, in whole frames. */
#define EVERYWHERE (UINT64_MAX & ~(MEMSCHED_FRAME_SIZE - 1))

/* The policy of what is in no range goes first, as a range of everything. */
static bool set_policies(const MemschedProtectOptions *arg,
                         MemSchedProtection *to, Error **errp)
{
    unsigned wanted = 0;

    to->range[to->ranges++] = (MemSchedCoverRange) {
        .length_bytes = EVERYWHERE,
        .cover = arg->has_policy ? (unsigned)arg->policy
                 : to->scheme ? MEMSCHED_COVER_PARITY : MEMSCHED_COVER_NONE,
    };
    for (MemschedCoverRangeList *e = arg->ranges; e; e = e->next) {
        if (to->ranges == MEMSCHED_COVER_RANGES) {
            error_setg(errp, "at most %u ranges can have a policy of their own",
                       MEMSCHED_COVER_RANGES - 1);
            return false;
        }
        to->range[to->ranges++] = (MemSchedCoverRange) {
            .gpa = e->value->gpa, .length_bytes = e->value->size,
            .cover = e->value->policy,
        };
    }
    for (unsigned i = 0; i < to->ranges; i++) {
        wanted |= to->range[i].cover;
    }
    if ((wanted & MEMSCHED_COVER_PARITY) && !to->scheme) {
        error_setg(errp, "a policy wants parity, for which scheme must be xor "
                   "or pq");
        return false;
    }
    to->disk = wanted & MEMSCHED_COVER_DISK;
    return true;
}

void qmp_memsched_protect(MemschedProtectOptions *arg, Error **errp)
{
    /* What is absent is 0, which is the library's default. */
    MemSchedProtection protection = {
        .scheme = scheme_from_qapi(arg->scheme),
        .group_size = arg->group_size,
        .max_parity_bytes = arg->max_parity,
        .cool_ms = arg->cool,
        .rate_bytes_per_s = arg->rate,
        .scrub_bytes_per_s = arg->has_scrub ? arg->scrub
                                            : MEMSCHED_SCRUB_BYTES_PER_S,
    };
    g_autoptr(MemSched) ms = NULL;
    MemSchedMessage message = { "" };
    int ret;

    if (!memsched_host_asks("memsched-protect", errp)) {
        return;
    }
    ms = memsched_hold_running(errp);
    if (!ms || !memsched_check_size("max-parity", arg->max_parity, errp) ||
        !memsched_check_size("rate", arg->rate, errp) ||
        !memsched_check_size("scrub", arg->scrub, errp)) {
        return;
    }
    if ((arg->has_group_size && !arg->group_size) ||
        (arg->has_max_parity && !arg->max_parity) ||
        (arg->has_cool && !arg->cool) || (arg->has_rate && !arg->rate)) {
        error_setg(errp, "group-size, max-parity, cool and rate must be above "
                   "0; leave one out for its default");
        return;
    }
    if (!set_policies(arg, &protection, errp)) {
        return;
    }
    ret = memsched_protect(ms, arg->id, &protection, &message);
    if (ret < 0) {
        memsched_set_error(errp, ret, &message);
    }
}

static MemschedLatency *latency(uint64_t p50_ns, uint64_t p99_ns)
{
    MemschedLatency *to = g_new0(MemschedLatency, 1);

    to->p50_ns = p50_ns;
    to->p99_ns = p99_ns;
    return to;
}

static MemschedScrub *scrub(const MemSchedProtectionInfo *from)
{
    MemschedScrub *to = g_new0(MemschedScrub, 1);

    to->rate = from->settings.scrub_bytes_per_s;
    to->done = from->scrub_done_bytes;
    to->all = from->scrub_all_bytes;
    to->passes = from->scrub_passes;
    to->has_last_age = from->scrub_age_ns != UINT64_MAX;
    to->last_age = from->scrub_age_ns / SCALE_MS;
    to->has_last_duration = to->has_last_age;
    to->last_duration = from->scrub_took_ns / SCALE_MS;
    to->errors = from->found_broken_pages;
    to->mismatches = from->mismatched_pages;
    to->parity_mismatches = from->mismatched_parity_pages;
    return to;
}

static MemschedCoverage *coverage(const MemSchedProtectionInfo *from)
{
    MemschedCoverage *to = g_new0(MemschedCoverage, 1);

    /* Both are read while pages come and go. */
    to->parity = MIN(from->covered_bytes, from->resident_bytes);
    to->disk = MIN(from->disk_only_bytes, from->resident_bytes - to->parity);
    to->none = from->resident_bytes - to->parity - to->disk;
    to->excluded = MIN(from->excluded_bytes, to->none);
    return to;
}

/* Of the command; the first range is that of everything, if there is one. */
static void policies_to_qapi(const MemSchedProtection *from,
                             MemschedProtection *to)
{
    MemschedCoverRangeList **tail = &to->ranges;

    to->policy = from->ranges ? from->range[0].cover : MEMSCHED_COVER_NONE;
    for (unsigned i = 1; i < from->ranges; i++) {
        MemschedCoverRange *range = g_new0(MemschedCoverRange, 1);

        range->gpa = from->range[i].gpa;
        range->size = from->range[i].length_bytes;
        range->policy = from->range[i].cover;
        QAPI_LIST_APPEND(tail, range);
    }
}

static MemschedProtection *to_qapi(const char *id,
                                   const MemSchedProtectionInfo *from)
{
    MemschedProtection *to = g_new0(MemschedProtection, 1);

    to->id = g_strdup(id);
    to->scheme = scheme_to_qapi(from->settings.scheme);
    to->group_size = from->settings.group_size;
    to->max_parity = from->settings.max_parity_bytes;
    to->cool = from->settings.cool_ms;
    to->rate = from->settings.rate_bytes_per_s;
    policies_to_qapi(&from->settings, to);
    to->coverage = coverage(from);
    to->parity = from->parity_bytes;
    to->bookkeeping = from->bookkeeping_bytes;
    to->groups = from->groups;
    to->poisoned = from->poisoned_bytes;
    to->lost = from->lost_bytes;
    to->joined = from->joined_pages;
    to->left_by_write = from->left_by_write_pages;
    to->left_by_capture = from->left_by_capture_pages;
    to->recovered = from->recovered_pages;
    to->recovered_dead = from->recovered_dead_pages;
    to->lost_pages = from->lost_pages;
    to->has_last_age = from->last_age_ns != UINT64_MAX;
    to->last_age = from->last_age_ns / SCALE_MS;
    to->repair = latency(from->repair_p50_ns, from->repair_p99_ns);
    to->repair_max_ns = from->repair_max_ns;
    to->first_write = latency(from->write_p50_ns, from->write_p99_ns);
    to->scrub = scrub(from);
    return to;
}

MemschedProtectionList *qmp_query_memsched_protection(Error **errp)
{
    g_autofree MemSchedClientInfo *clients = NULL;
    g_autoptr(MemSched) ms = memsched_hold_running(errp);
    MemschedProtectionList *list = NULL, **tail = &list;
    const char *viewer = memsched_scope_guest();
    size_t count;

    if (!ms) {
        return NULL;
    }
    clients = g_new(MemSchedClientInfo, GUESTS_MAX);
    count = MIN(memsched_query_clients(ms, clients, GUESTS_MAX), GUESTS_MAX);
    for (size_t i = 0; i < count; i++) {
        MemSchedProtectionInfo info;

        if ((!viewer || !strcmp(clients[i].id, viewer)) &&
            memsched_query_protection(ms, clients[i].id, &info) == 0) {
            QAPI_LIST_APPEND(tail, to_qapi(clients[i].id, &info));
        }
    }
    return list;
}

void qmp_memsched_inject_error(const char *id, uint64_t gpa, bool has_covered,
                               bool covered, Error **errp)
{
    g_autoptr(MemSched) ms = memsched_hold_running(errp);
    MemSchedMessage message = { "" };
    const char *whose;
    int ret;

    if (!ms) {
        return;
    }
    whose = memsched_whose(id, errp);
    if (!whose) {
        return;
    }
    ret = (covered ? memsched_inject_covered_error
                   : memsched_inject_error)(ms, whose, gpa, &message);
    if (ret < 0) {
        memsched_set_error(errp, ret, &message);
    }
}
