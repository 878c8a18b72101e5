/*
 * The figures of a host and of a guest: where they are, what they are called
 *
 * Owns the list.  Order is that of columns and of CSV.  Names of members are
 * those of qapi/memsched.json; one that a process does not tell is absent in
 * everything that is made of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <string.h>

#include "ctl-field.h"
#include "ctl-size.h"

#define MIB (1 << 20)

const CtlField ctl_host_fields[] = {
    { "state", "state", NULL, CTL_TEXT, 0, "How much of the pool is left" },
    { "pressure", "pressure", NULL, CTL_PERCENT, 0,
      "What all guests want, of what there is" },
    { "guests", "guests", NULL, CTL_COUNT, 0, "Guests known" },
    { "pool", "pool.size", NULL, CTL_BYTES, 0, "Memory of the pool" },
    { "free", "pool.free", NULL, CTL_BYTES, 0, "Memory that nobody holds" },
    { "clean", "pool.clean", NULL, CTL_BYTES, 0, "Free and cleared memory" },
    { "dirty", "pool.dirty", NULL, CTL_BYTES, 0, "Free, not yet cleared" },
    { "free-huge", "pool.huge", NULL, CTL_BYTES, 0,
      "Free memory in whole frames of 2 MiB" },
    { "claimed", "pool.claimed", NULL, CTL_BYTES, 0,
      "Free memory promised to guests" },
    { "reserved", "pool.reserved", NULL, CTL_BYTES, 0,
      "Free memory kept for minimums" },
    { "min-free", "pool.min-free", NULL, CTL_BYTES, 0,
      "Memory kept free ahead of demand" },
    { "allocated", "pool.allocated", NULL, CTL_BYTES, 0,
      "Memory that guests hold" },
    { "transit", "pool.transit", NULL, CTL_BYTES, 0, "Memory on its way" },
    { "held", "pool.held", NULL, CTL_BYTES, 0,
      "Content kept for guests by the host" },
    { "parity", "pool.parity", NULL, CTL_BYTES, 0, "Parity" },
    { "quarantine", "pool.quarantine", NULL, CTL_BYTES, 0,
      "Memory that somebody may still refer to" },
    { "retired", "pool.retired", NULL, CTL_BYTES, 0,
      "Memory that is not used any more" },
    { "captured", "counters.captured", NULL, CTL_TOTAL_BYTES, 0,
      "Memory taken out of guests" },
    { "populated", "counters.populated", NULL, CTL_TOTAL_BYTES, 0,
      "Memory put into guests" },
    { "moved", "counters.moved", NULL, CTL_TOTAL_BYTES, 0,
      "Memory that changed place without a copy" },
    { "copied", "counters.copied", NULL, CTL_TOTAL_BYTES, 0,
      "Memory that was copied" },
    { "discarded", "counters.discarded", NULL, CTL_TOTAL_BYTES, 0,
      "Memory that was allocated anew" },
    { "scrubbed", "counters.scrubbed", NULL, CTL_TOTAL_BYTES, 0,
      "Memory that was cleared" },
    { "split-frames", "counters.split-frames", NULL, CTL_TOTAL, 0,
      "Huge pages that were broken up" },
    { "flushes", "counters.flushes", NULL, CTL_TOTAL, 0,
      "Flushes of translation caches" },
    { "faults", "faults.served", NULL, CTL_TOTAL, 0, "Faults answered" },
    { "fault-p50", "faults.p50-ns", NULL, CTL_NS, 0,
      "Half of the faults took no longer" },
    { "fault-p99", "faults.p99-ns", NULL, CTL_NS, 0,
      "99 of 100 faults took no longer" },
    { "fault-max", "faults.max-ns", NULL, CTL_NS, 0, "The longest fault" },
    { NULL, NULL, NULL, 0, 0, NULL }
};

const CtlField ctl_guest_fields[] = {
    { "guest", "id", "GUEST", CTL_TEXT, 0, "ID" },
    { "state", "state", "STATE", CTL_TEXT, 8, "What its emulator does" },
    { "condition", "memory.condition", "COND", CTL_TEXT, 0,
      "How short of memory it is" },
    { "pressure", "memory.pressure", "PRES%", CTL_PERCENT, 1,
      "What it wants, of what it has" },
    { "allocated", "memory.allocated", "ALLOC", CTL_BYTES, 0,
      "Memory that it holds" },
    { "target", "memory.target", "TARGET", CTL_BYTES, 0,
      "Memory that it is steered to" },
    { "entitlement", "memory.entitlement", "ENTITL", CTL_BYTES, 5,
      "Memory that the policy grants it" },
    { "active", "memory.active", "ACTIVE", CTL_BYTES, 1,
      "Memory that it seems to use" },
    { "idle", "memory.idle", "IDLE", CTL_BYTES, 9,
      "Memory that it does not seem to use" },
    { "sampled", "memory.usage.sampled", "SAMPLED", CTL_BYTES, 13,
      "Memory that the host has seen it use" },
    { "ram", "memory.ram", "RAM", CTL_BYTES, 7, "Memory that it believes in" },
    { "min", "memory.min", "MIN", CTL_BYTES, 6, "Memory guaranteed to it" },
    { "max", "memory.max", "MAX", CTL_BYTES, 10, "Most that it may have" },
    { "shares", "memory.shares", "SHARES", CTL_COUNT, 6, "Its weight" },
    { "ballooned-kernel", "memory.ballooned.kernel", "BKERN", CTL_BYTES, 2,
      "Memory given up by its kernel" },
    { "ballooned-application", "memory.ballooned.application", "BAPP",
      CTL_BYTES, 2, "Memory given up by its application" },
    { "ballooned-reported", "memory.ballooned.reported", "BREP", CTL_BYTES, 3,
      "Memory reported as free" },
    { "held", "memory.held", "HELD", CTL_BYTES, 4,
      "Its memory whose content the host keeps" },
    { "given", "memory.given", "GIVEN", CTL_BYTES, 12,
      "Memory given up, not taken yet" },
    { "claimed", "memory.claimed", "CLAIM", CTL_BYTES, 11,
      "Memory promised to it" },
    { "huge", "memory.huge", "HUGE", CTL_BYTES, 12,
      "Memory that it holds in pages of 2 MiB" },
    { "captured", "memory.captured", "OUT/s", CTL_TOTAL_BYTES, 4,
      "Memory taken from it" },
    { "populated", "memory.populated", "IN/s", CTL_TOTAL_BYTES, 4,
      "Memory put into it" },
    { "faults", "memory.faults.served", "FLT/s", CTL_TOTAL, 8,
      "Its faults" },
    { "fault-p99", "memory.faults.p99-ns", "P99us", CTL_NS, 10,
      "99 of 100 of its faults took no longer" },
    { "responsiveness", "memory.responsiveness", "MIB/s", CTL_BYTES, 11,
      "Memory a second that it gave when it was last asked" },
    { "requested", "applications.requests[].size", "REQ", CTL_BYTES, 3,
      "Memory that its applications ask for" },
    { "applications", "applications.list[]", "APPS", CTL_COUNT, 13,
      "Balloon applications in it" },
    { "oom-deflates", "memory.oom-deflates", NULL, CTL_TOTAL, 0,
      "Times that it took memory back when it ran out" },
    { "stalled", "memory.stalled", NULL, CTL_FLAG, 0,
      "It waits for memory above its minimum" },
    { "unresponsive", "memory.unresponsive", NULL, CTL_FLAG, 0,
      "It was asked and does not react" },
    { "inhibited", "memory.inhibited", NULL, CTL_FLAG, 0,
      "Its memory may not be taken" },
    { NULL, NULL, NULL, 0, 0, NULL }
};

const CtlField ctl_app_fields[] = {
    { "number", "number", "NO", CTL_COUNT, 1, "Its number in the guest" },
    { "name", "name", "NAME", CTL_TEXT, 0, "Its name" },
    { "priority", "priority", "PRIO", CTL_COUNT, 2,
      "Who has less is asked first" },
    { "offer", "offer", "OFFER", CTL_BYTES, 0, "What it could give, about" },
    { "ordered", "ordered", "ORDERED", CTL_BYTES, 0,
      "What it was asked for" },
    { "reserved", "reserved", "RESERVED", CTL_BYTES, 0,
      "What of it is set aside" },
    { "captured", "captured", "TAKEN", CTL_BYTES, 0,
      "What of it the host has taken" },
    { "cache", "cache.size", "CACHE", CTL_BYTES, 3, "Memory of its cache" },
    { "hits", "cache.hits", "HITS", CTL_COUNT, 4, "Found in its cache" },
    { "misses", "cache.misses", "MISSES", CTL_COUNT, 4,
      "Not found in its cache" },
    { NULL, NULL, NULL, 0, 0, NULL }
};

const CtlField *ctl_field_find(const CtlField *fields, const char *name)
{
    for (; fields->name; fields++) {
        if (strcmp(fields->name, name) == 0) {
            return fields;
        }
    }
    return NULL;
}

/* The object that holds the last part of @path, whose name is returned. */
static const char *descend(const char *path, JsonObject **object)
{
    const char *dot;

    while ((dot = strchr(path, '.'))) {
        g_autofree char *name = g_strndup(path, dot - path);

        *object = ctl_object(*object, name);
        path = dot + 1;
    }
    return path;
}

char *ctl_field_raw(const CtlField *field, JsonObject *object)
{
    const char *name, *text;
    uint64_t number;

    switch (field->kind) {
    case CTL_TEXT:
        name = descend(field->path, &object);
        text = ctl_text(object, name);
        return g_strdup(text ? text : "");
    case CTL_FLAG:
        name = descend(field->path, &object);
        return g_strdup(!object || !json_object_has_member(object, name) ? ""
                        : ctl_flag(object, name) ? "1" : "0");
    default:
        number = ctl_path(object, field->path);
        return number == CTL_NONE ? g_strdup("") : ctl_count(number);
    }
}

static char *rate(const CtlField *field, uint64_t now, JsonObject *before,
                  double elapsed_s)
{
    uint64_t then = ctl_path(before, field->path);
    double per_s;

    if (now == CTL_NONE || then == CTL_NONE || elapsed_s <= 0) {
        return g_strdup("-");
    }
    /* A counter that fell belongs to a guest that started anew. */
    per_s = now > then ? (double)(now - then) / elapsed_s : 0;
    return g_strdup_printf("%.0f", field->kind == CTL_TOTAL_BYTES
                                   ? per_s / MIB : per_s);
}

char *ctl_field_cell(const CtlField *field, JsonObject *object,
                     JsonObject *before, double elapsed_s)
{
    g_autofree char *raw = ctl_field_raw(field, object);
    uint64_t number;

    if (*raw == '\0') {
        return g_strdup("-");
    }
    number = ctl_path(object, field->path);
    switch (field->kind) {
    case CTL_BYTES:
        return ctl_mib(number);
    case CTL_NS:
        return g_strdup_printf("%" PRIu64, (number + 500) / 1000);
    case CTL_TOTAL:
    case CTL_TOTAL_BYTES:
        return rate(field, number, before, elapsed_s);
    case CTL_FLAG:
        return g_strdup(*raw == '1' ? "yes" : "no");
    default:
        return g_steal_pointer(&raw);
    }
}
