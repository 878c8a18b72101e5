/*
 * Who is told of errors, and of what the scrubber finds
 *
 * Owns the one watcher.  It is called in the thread that knows, with no lock
 * held; calls are counted, so that it can be taken away (repair->lock, a leaf).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "instance.h"
#include "protect-int.h"
#include "repair-int.h"

static void tell(MemSchedRegion *region, uint64_t page, MemSchedError *error)
{
    MsRepair *repair = region->ms->repair;
    void (*watch)(void *opaque, const MemSchedError *error);
    void *opaque;

    error->host = ms_region_address(region, page);
    g_strlcpy(error->id, region->client->id, sizeof(error->id));
    g_strlcpy(error->region, region->name, sizeof(error->region));
    error->offset_bytes = (char *)error->host - region->host;

    ms_lock(&repair->lock);
    watch = repair->watch;
    opaque = repair->watch_opaque;
    repair->watch_calls += watch != NULL;
    ms_unlock(&repair->lock);
    if (watch) {
        watch(opaque, error);
        ms_lock(&repair->lock);
        repair->watch_calls--;
        ms_cond_broadcast(&repair->cond);
        ms_unlock(&repair->lock);
    }
}

void ms_repair_tell(MemSchedRegion *region, uint64_t page, bool lost,
                    bool awaited, uint64_t since_ns)
{
    MsProtectStats *stats = &region->client->protect_stats;
    MemSchedError error = {
        .lost = lost, .awaited = awaited,
        .duration_ns = region->ms->sys->now_ns(region->ms->sys) - since_ns,
    };

    ms_histogram_add(&stats->repair, error.duration_ns);
    atomic_store(&stats->last_ns, since_ns + error.duration_ns);
    tell(region, page, &error);
}

void ms_repair_tell_mismatch(MemSchedRegion *region, uint64_t page,
                             MemSchedMismatch what)
{
    MemSchedError error = { .mismatch = what };

    tell(region, page, &error);
}

void ms_repair_tell_lost(MemSchedRegion *region, uint64_t page,
                         uint64_t since_ns)
{
    ms_count(&region->client->protect_stats.lost, 1);
    ms_repair_tell(region, page, true, false, since_ns);
}

void memsched_watch_errors(MemSched *ms,
                           void (*error)(void *opaque, const MemSchedError *e),
                           void *opaque)
{
    MsRepair *repair = ms->repair;

    ms_lock(&repair->lock);
    repair->watch = NULL;
    while (repair->watch_calls > 0) {
        ms_cond_wait(&repair->cond, &repair->lock);
    }
    repair->watch = error;
    repair->watch_opaque = opaque;
    ms_unlock(&repair->lock);
}
