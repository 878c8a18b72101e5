/*
 * From the scheduler's types to those of QAPI.
 *
 * Owns nothing, takes no lock, asks nobody: every function turns one answer of
 * libmemsched into the object that QMP shows.  Pages become bytes here,
 * nanoseconds milliseconds, and what is not known becomes absent.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "memsched-internal.h"

/* No overflow: the pages of 2^64 bytes are 2^52. */
static uint64_t bytes(uint64_t pages)
{
    return pages << MEMSCHED_PAGE_SHIFT;
}

static uint64_t ms_of_ns(uint64_t ns)
{
    return ns / SCALE_MS;
}

/* NULL where there is nothing to say: an optional string that is absent. */
static char *sentence(const char *text)
{
    return text && text[0] ? g_strdup(text) : NULL;
}

MemschedPolicy memsched_policy_to_qapi(MemSchedPolicy policy)
{
    switch (policy) {
    case MEMSCHED_POLICY_STATIC:
        return QAPI_MEMSCHED_POLICY_STATIC;
    case MEMSCHED_POLICY_SHARES:
        return QAPI_MEMSCHED_POLICY_SHARES;
    case MEMSCHED_POLICY_IDLE_TAX:
        return QAPI_MEMSCHED_POLICY_IDLE_TAX;
    }
    g_assert_not_reached();
}

MemSchedPolicy memsched_policy_from_qapi(MemschedPolicy policy)
{
    switch (policy) {
    case QAPI_MEMSCHED_POLICY_STATIC:
        return MEMSCHED_POLICY_STATIC;
    case QAPI_MEMSCHED_POLICY_SHARES:
        return MEMSCHED_POLICY_SHARES;
    case QAPI_MEMSCHED_POLICY_IDLE_TAX:
        return MEMSCHED_POLICY_IDLE_TAX;
    default:
        g_assert_not_reached();
    }
}

MemschedCondition memsched_condition_to_qapi(MemSchedCondition condition)
{
    switch (condition) {
    case MEMSCHED_CONDITION_HIGH:
        return QAPI_MEMSCHED_CONDITION_HIGH;
    case MEMSCHED_CONDITION_CLEAR:
        return QAPI_MEMSCHED_CONDITION_CLEAR;
    case MEMSCHED_CONDITION_SOFT:
        return QAPI_MEMSCHED_CONDITION_SOFT;
    case MEMSCHED_CONDITION_HARD:
        return QAPI_MEMSCHED_CONDITION_HARD;
    case MEMSCHED_CONDITION_LOW:
        return QAPI_MEMSCHED_CONDITION_LOW;
    }
    g_assert_not_reached();
}

static MemschedSource source_to_qapi(MemSchedSource source)
{
    switch (source) {
    case MEMSCHED_SOURCE_ANY:
        return QAPI_MEMSCHED_SOURCE_ANY;
    case MEMSCHED_SOURCE_APPLICATION:
        return QAPI_MEMSCHED_SOURCE_APPLICATION;
    case MEMSCHED_SOURCE_KERNEL:
        return QAPI_MEMSCHED_SOURCE_KERNEL;
    case MEMSCHED_SOURCE_REPORTED:
        return QAPI_MEMSCHED_SOURCE_REPORTED;
    }
    g_assert_not_reached();
}

MemSchedSource memsched_source_from_qapi(MemschedSource source)
{
    switch (source) {
    case QAPI_MEMSCHED_SOURCE_ANY:
        return MEMSCHED_SOURCE_ANY;
    case QAPI_MEMSCHED_SOURCE_APPLICATION:
        return MEMSCHED_SOURCE_APPLICATION;
    case QAPI_MEMSCHED_SOURCE_KERNEL:
        return MEMSCHED_SOURCE_KERNEL;
    case QAPI_MEMSCHED_SOURCE_REPORTED:
        return MEMSCHED_SOURCE_REPORTED;
    default:
        g_assert_not_reached();
    }
}

static MemschedTransferState transfer_state_to_qapi(MemSchedTransferState state)
{
    switch (state) {
    case MEMSCHED_TRANSFER_RUNNING:
        return QAPI_MEMSCHED_TRANSFER_STATE_RUNNING;
    case MEMSCHED_TRANSFER_COMPLETED:
        return QAPI_MEMSCHED_TRANSFER_STATE_COMPLETED;
    case MEMSCHED_TRANSFER_PARTIAL:
        return QAPI_MEMSCHED_TRANSFER_STATE_PARTIAL;
    case MEMSCHED_TRANSFER_FAILED:
        return QAPI_MEMSCHED_TRANSFER_STATE_FAILED;
    }
    g_assert_not_reached();
}

static MemschedPageState page_state_to_qapi(MemSchedPageState state)
{
    static const MemschedPageState states[MEMSCHED_PAGE_STATES] = {
        [MEMSCHED_PAGE_HOLE] = QAPI_MEMSCHED_PAGE_STATE_HOLE,
        [MEMSCHED_PAGE_RESIDENT] = QAPI_MEMSCHED_PAGE_STATE_RESIDENT,
        [MEMSCHED_PAGE_GIVEN] = QAPI_MEMSCHED_PAGE_STATE_GIVEN,
        [MEMSCHED_PAGE_BALLOONED] = QAPI_MEMSCHED_PAGE_STATE_BALLOONED,
        [MEMSCHED_PAGE_REPORTED] = QAPI_MEMSCHED_PAGE_STATE_REPORTED,
        [MEMSCHED_PAGE_TAG] = QAPI_MEMSCHED_PAGE_STATE_TAG,
        [MEMSCHED_PAGE_HELD] = QAPI_MEMSCHED_PAGE_STATE_HELD,
        [MEMSCHED_PAGE_TRANSIT] = QAPI_MEMSCHED_PAGE_STATE_TRANSIT,
        [MEMSCHED_PAGE_POISONED] = QAPI_MEMSCHED_PAGE_STATE_POISONED,
        [MEMSCHED_PAGE_LOST] = QAPI_MEMSCHED_PAGE_STATE_LOST,
    };

    assert(state < MEMSCHED_PAGE_STATES);
    return states[state];
}

static MemschedPool *pool_to_qapi(const MemSchedInfo *info)
{
    MemschedPool *pool = g_new0(MemschedPool, 1);

    pool->size = info->pool_bytes;
    pool->free = info->free_clean_bytes + info->free_dirty_bytes;
    pool->clean = info->free_clean_bytes;
    pool->dirty = info->free_dirty_bytes;
    pool->huge = info->free_huge_bytes;
    pool->claimed = info->claimed_bytes;
    pool->reserved = info->reserved_bytes;
    pool->min_free = info->min_free_bytes;
    pool->allocated = info->allocated_bytes;
    pool->transit = info->transit_bytes;
    pool->held = info->held_bytes;
    pool->parity = info->parity_bytes;
    pool->quarantine = info->quarantine_bytes;
    pool->retired = info->retired_bytes;
    return pool;
}

static MemschedCounters *counters_to_qapi(const MemSchedInfo *info)
{
    MemschedCounters *counters = g_new0(MemschedCounters, 1);

    counters->captured = bytes(info->captured_pages);
    counters->populated = bytes(info->populated_pages);
    counters->moved = bytes(info->moved_pages);
    counters->copied = bytes(info->copied_pages);
    counters->discarded = bytes(info->discarded_pages);
    counters->scrubbed = bytes(info->scrubbed_pages);
    counters->put_back = bytes(info->put_back_pages);
    counters->busy = bytes(info->busy_pages);
    counters->huge_moves = info->huge_moves;
    counters->split_frames = info->split_frames;
    counters->flushes = info->flushes;
    counters->stale_faults = info->faults_stale;
    counters->waited_faults = info->faults_waited;
    counters->refused_requests = info->refused_requests;
    return counters;
}

static MemschedFaults *faults_to_qapi(uint64_t served, uint64_t p50_ns,
                                      uint64_t p99_ns, uint64_t max_ns)
{
    MemschedFaults *faults = g_new0(MemschedFaults, 1);

    faults->served = served;
    faults->p50_ns = p50_ns;
    faults->p99_ns = p99_ns;
    faults->max_ns = max_ns;
    return faults;
}

static MemschedLastResort *last_resort_to_qapi(const MemSchedHeldInfo *from)
{
    MemschedLastResort *to;

    if (!from->configured) {
        return NULL;
    }
    to = g_new0(MemschedLastResort, 1);
    to->store = from->store_bytes;
    to->store_limit = from->store_most_bytes;
    to->stored = bytes(from->stored_pages);
    to->compressed = from->compressed_bytes;
    to->swap = from->swap_bytes;
    to->swapped = bytes(from->swapped_pages);
    to->out = bytes(from->out_pages);
    to->zero = bytes(from->zero_pages);
    to->refused = bytes(from->refused_pages);
    to->back = bytes(from->back_pages);
    to->read = bytes(from->read_pages);
    to->lost = bytes(from->lost_pages);
    to->write_errors = from->write_errors;
    to->read_errors = from->read_errors;
    to->back_faults = faults_to_qapi(from->back, from->back_p50_ns,
                                     from->back_p99_ns, from->back_max_ns);
    to->read_faults = faults_to_qapi(from->read, from->read_p50_ns,
                                     from->read_p99_ns, from->read_max_ns);
    return to;
}

static MemschedHeld *held_to_qapi(const MemSchedClientInfo *from)
{
    MemschedHeld *held;

    if (from->held_bytes == 0) {
        return NULL;
    }
    held = g_new0(MemschedHeld, 1);
    held->stored = from->held_bytes - from->swapped_bytes;
    held->swapped = from->swapped_bytes;
    return held;
}

static MemschedKernel *kernel_to_qapi(const MemSchedKernel *from)
{
    MemschedKernel *kernel = g_new0(MemschedKernel, 1);

    kernel->release = g_strdup(from->release);
    kernel->full_userfaultfd = from->full_userfaultfd;
    kernel->move = from->move;
    kernel->poison = from->poison;
    kernel->write_protect = from->write_protect;
    kernel->write_protect_async = from->write_protect_async;
    kernel->pagemap_scan = from->pagemap_scan;
    kernel->huge_pages = from->huge_pages;
    kernel->warning = sentence(from->warning);
    return kernel;
}

MemschedInfo *memsched_info_to_qapi(const MemSchedInfo *from)
{
    MemschedInfo *info = g_new0(MemschedInfo, 1);

    info->id = g_strdup(from->id);
    info->version = g_strdup(memsched_version());
    info->policy = memsched_policy_to_qapi(from->policy);
    info->interval = from->interval_ms;
    info->idle_tax = from->idle_tax_pct;
    info->sample_interval = from->sample_ms;
    info->dry_run = from->dry_run;
    info->allow_inject = from->allow_inject;
    info->fallback = from->fallback;
    info->state = memsched_condition_to_qapi(from->state);
    info->pressure = from->pressure;
    info->guests = from->clients;
    info->pool = pool_to_qapi(from);
    info->counters = counters_to_qapi(from);
    info->faults = faults_to_qapi(from->faults, from->fault_p50_ns,
                                  from->fault_p99_ns, from->fault_max_ns);
    info->last_resort = last_resort_to_qapi(&from->held);
    info->kernel = kernel_to_qapi(&from->kernel);
    return info;
}

static MemschedSample *sample_to_qapi(const MemSchedClientInfo *from,
                                      MemSchedStat stat)
{
    MemschedSample *sample;

    if (from->stats[stat] == MEMSCHED_STAT_UNKNOWN ||
        from->stats_age_ns == UINT64_MAX) {
        return NULL;
    }
    sample = g_new0(MemschedSample, 1);
    sample->value = from->stats[stat];
    sample->age = ms_of_ns(from->stats_age_ns);
    return sample;
}

static MemschedGuestStats *stats_to_qapi(const MemSchedClientInfo *from)
{
    MemschedGuestStats *stats = g_new0(MemschedGuestStats, 1);

    stats->swap_in = sample_to_qapi(from, MEMSCHED_STAT_SWAP_IN);
    stats->swap_out = sample_to_qapi(from, MEMSCHED_STAT_SWAP_OUT);
    stats->major_faults = sample_to_qapi(from, MEMSCHED_STAT_MAJOR_FAULTS);
    stats->minor_faults = sample_to_qapi(from, MEMSCHED_STAT_MINOR_FAULTS);
    stats->free = sample_to_qapi(from, MEMSCHED_STAT_FREE);
    stats->total = sample_to_qapi(from, MEMSCHED_STAT_TOTAL);
    stats->available = sample_to_qapi(from, MEMSCHED_STAT_AVAILABLE);
    stats->caches = sample_to_qapi(from, MEMSCHED_STAT_CACHES);
    stats->hugetlb_allocations = sample_to_qapi(from, MEMSCHED_STAT_HTLB_ALLOC);
    stats->hugetlb_failures = sample_to_qapi(from, MEMSCHED_STAT_HTLB_FAIL);
    stats->oom_kills = sample_to_qapi(from, MEMSCHED_STAT_OOM_KILL);
    stats->alloc_stalls = sample_to_qapi(from, MEMSCHED_STAT_ALLOC_STALL);
    stats->scan_async = sample_to_qapi(from, MEMSCHED_STAT_SCAN_ASYNC);
    stats->scan_direct = sample_to_qapi(from, MEMSCHED_STAT_SCAN_DIRECT);
    stats->reclaim_async = sample_to_qapi(from, MEMSCHED_STAT_RECLAIM_ASYNC);
    stats->reclaim_direct = sample_to_qapi(from, MEMSCHED_STAT_RECLAIM_DIRECT);
    return stats;
}

static MemschedBalloon *balloon_to_qapi(const MemSchedClientInfo *from)
{
    MemschedBalloon *balloon;

    if (!from->attached) {
        return NULL;
    }
    balloon = g_new0(MemschedBalloon, 1);
    balloon->target = from->balloon_target_bytes;
    balloon->actual = from->balloon_actual_bytes;
    return balloon;
}

static MemschedUsage *usage_to_qapi(const MemSchedClientInfo *from)
{
    MemschedUsage *usage = g_new0(MemschedUsage, 1);

    usage->has_claimed = from->claimed_active_bytes != UINT64_MAX;
    usage->claimed = usage->has_claimed ? from->claimed_active_bytes : 0;
    usage->has_sampled = from->sampled_why == NULL;
    usage->out = from->sampled_out_bytes;
    if (!usage->has_sampled) {
        usage->reason = g_strdup(from->sampled_why);
        return usage;
    }
    usage->sampled = from->sampled_active_bytes;
    usage->has_units = usage->has_age = true;
    usage->units = from->sampled_units;
    usage->age = from->sampled_age_ns / 1000000;
    usage->has_fast = usage->has_slow = true;
    usage->fast = (from->sampled_fast_permille + 5) / 10;
    usage->slow = (from->sampled_slow_permille + 5) / 10;
    usage->has_touched_after = from->sampled_after_ns > 0;
    usage->touched_after = from->sampled_after_ns / 1000000;
    usage->has_difference = usage->has_claimed;
    /* Sizes of memory: both fit. */
    usage->difference = (int64_t)usage->claimed - (int64_t)usage->sampled;
    return usage;
}

MemschedGuestMemory *memsched_client_to_qapi(const MemSchedClientInfo *from)
{
    MemschedGuestMemory *memory = g_new0(MemschedGuestMemory, 1);

    memory->ram = from->ram_bytes;
    memory->min = from->min_bytes;
    memory->max = from->max_bytes;
    memory->shares = from->shares;
    memory->entitlement = from->entitlement_bytes;
    memory->target = from->target_bytes;
    memory->allocated = from->allocated_bytes;
    memory->active = from->active_bytes;
    memory->idle = from->idle_bytes;
    memory->usage = usage_to_qapi(from);
    memory->huge = from->huge_bytes;
    memory->claimed = from->claimed_bytes;
    memory->ballooned = g_new0(MemschedBallooned, 1);
    memory->ballooned->kernel = from->ballooned_kernel_bytes;
    memory->ballooned->application = from->ballooned_application_bytes;
    memory->ballooned->reported = from->ballooned_reported_bytes;
    memory->given = from->given_bytes;
    memory->held = held_to_qapi(from);
    memory->balloon = balloon_to_qapi(from);
    memory->condition = memsched_condition_to_qapi(from->condition);
    memory->pressure = from->pressure;
    memory->vm_running = from->running;
    memory->stalled = from->stalled;
    memory->unresponsive = from->unresponsive;
    memory->inhibited = from->inhibited;
    memory->has_responsiveness = from->responsiveness_bytes_per_s != 0;
    memory->responsiveness = from->responsiveness_bytes_per_s;
    memory->faults = faults_to_qapi(from->faults, from->fault_p50_ns,
                                    from->fault_p99_ns, from->fault_max_ns);
    memory->captured = bytes(from->captured_pages);
    memory->populated = bytes(from->populated_pages);
    memory->oom_deflates = from->oom_deflates;
    memory->refused = bytes(from->refused_pages);
    memory->thrash = g_new0(MemschedThrash, 1);
    memory->thrash->returned = bytes(from->returned_pages);
    memory->thrash->back_offs = from->backoffs;
    memory->thrash->has_remaining = from->backoff_ns > 0;
    /* Rounded up: what is there is not shown as 0. */
    memory->thrash->remaining = (from->backoff_ns + 999999) / 1000000;
    memory->stats = stats_to_qapi(from);
    return memory;
}

/*
 * A neighbour's name is not for the eyes of @viewer (NULL: sees all); the pool
 * has none.
 */
static char *party(const char *id, const char *viewer)
{
    return !id[0] ? NULL : !viewer || !strcmp(id, viewer) ? g_strdup(id) : NULL;
}

MemschedTransfer *memsched_transfer_to_qapi(const MemSchedTransferInfo *from,
                                            const char *viewer)
{
    MemschedTransfer *transfer = g_new0(MemschedTransfer, 1);

    transfer->id = from->id;
    transfer->from = party(from->from, viewer);
    transfer->to = party(from->to, viewer);
    transfer->source = source_to_qapi(from->source);
    transfer->state = transfer_state_to_qapi(from->state);
    transfer->requested = from->requested_bytes;
    transfer->captured = from->captured_bytes;
    transfer->moved = from->moved_bytes;
    transfer->copied = from->copied_bytes;
    transfer->discarded = from->discarded_bytes;
    transfer->duration = ms_of_ns(from->elapsed_ns);
    transfer->deadline = from->deadline_ms;
    /* How another guest gives is not for the eyes of @viewer. */
    transfer->has_estimate = transfer->has_rate = transfer->has_rate_age =
        from->estimate_ms > 0 && !viewer;
    transfer->estimate = from->estimate_ms;
    transfer->rate = from->rate_bytes_per_s;
    transfer->rate_age = from->rate_age_ms;
    transfer->has_left = from->left_ms > 0 && !viewer;
    transfer->left = from->left_ms;
    if (!memsched_tags_are_zero(&from->tags) &&
        (!viewer || !strcmp(from->from, viewer))) {
        transfer->tags = memsched_tags_to_qapi(&from->tags);
    }
    /* The sentence may name the other guest. */
    transfer->reason = viewer ? NULL : sentence(from->reason);
    return transfer;
}

MemschedTranslation *
memsched_translation_to_qapi(const MemSchedTranslation *from, bool host_view)
{
    MemschedTranslation *translation = g_new0(MemschedTranslation, 1);

    translation->block = g_strdup(from->region);
    translation->offset = from->offset_bytes;
    translation->state = page_state_to_qapi(from->state);
    translation->huge = from->huge;
    translation->has_hva = host_view;
    translation->hva = host_view ? from->host_address : 0;
    translation->has_pfn = host_view && from->has_pfn;
    translation->pfn = translation->has_pfn ? from->pfn : 0;
    return translation;
}
