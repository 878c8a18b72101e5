/*
 * The one scheduler of this process: start, stop, and what everybody asks it
 *
 * Owns the instance.  It is a static object, because devices raise the DMA
 * fence without a handle and without a lock: there is never a moment at which
 * they could hold a pointer to something freed.
 *
 * Order of start: kernel, pool, place for held pages, scrubber, parity thread,
 * swap readers, fault threads, mover, repair thread, tagger, holder,
 * scheduler's thread.  Stop goes the other way round, and
 * only without guests.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "held.h"
#include "hold.h"
#include "instance.h"
#include "message.h"
#include "probe.h"
#include "scheduler.h"
#include "swapin.h"
#include "tagger.h"

/* One more helps from two vCPUs on; a third one adds nothing measurable. */
#define FAULT_THREADS 2u

#define DEFAULT_INTERVAL_MS 1000u
/* Kept free ahead of demand, unless told otherwise: 1/64 of the pool. */
#define MIN_FREE_DIVISOR 64u

typedef enum Phase {
    PHASE_NONE,
    PHASE_BUSY,                 /* starts or stops */
    PHASE_RUNNING,
} Phase;

/* The one instance, and the only mutable globals of the library. */
static MemSched the_instance;
static _Atomic int the_phase = PHASE_NONE;

const char *memsched_version(void)
{
    return MEMSCHED_VERSION;
}

MemSched *memsched_running(void)
{
    return atomic_load(&the_phase) == PHASE_RUNNING ? &the_instance : NULL;
}

/* ---- start ---- */

static int check_options(const MemSchedOptions *options,
                         MemSchedMessage *ret_message)
{
    size_t length = options->id ? strlen(options->id) : 0;

    if (length >= MEMSCHED_ID_MAX) {
        ms_say(ret_message, "the id of memsched has at most %d bytes",
               MEMSCHED_ID_MAX - 1);
    } else if (options->pool_bytes < MEMSCHED_FRAME_SIZE) {
        ms_say(ret_message, "the pool of memsched must have at least 2 MiB");
    } else if (options->min_free_bytes > options->pool_bytes) {
        ms_say(ret_message, "min-free of memsched is more than its pool");
    } else if (options->held_memory_bytes > options->pool_bytes / 2) {
        ms_say(ret_message, "held-memory of memsched is at most half of its"
               " pool");
    } else if (!options->swap_path != !options->swap_bytes) {
        ms_say(ret_message, "swap-file and swap-size of memsched belong"
               " together");
    } else if (!ms_sampler_window_is_valid(options->sample_ms)) {
        ms_say(ret_message, "sample-interval of memsched is 1000 to 3600000"
               " ms, or 0");
    } else if (options->idle_tax_pct > 99) {
        ms_say(ret_message, "the idle tax of memsched is a number from 0 to"
               " 99");
    } else {
        return 0;
    }
    return -EINVAL;
}

static void init_fields(MemSched *ms, const MemSchedOptions *options)
{
    uint64_t pages = options->pool_bytes >> MEMSCHED_PAGE_SHIFT;

    memset(ms, 0, sizeof(*ms));
    g_strlcpy(ms->id, options->id ? options->id : "", sizeof(ms->id));
    ms->sys = ms_sys_real();
    ms->allow_inject = options->allow_inject;
    ms->min_free_pages = options->min_free_bytes
                         ? options->min_free_bytes >> MEMSCHED_PAGE_SHIFT
                         : pages / MIN_FREE_DIVISOR;
    atomic_init(&ms->policy, options->policy);
    atomic_init(&ms->interval_ms, options->interval_ms
                                  ? options->interval_ms
                                  : DEFAULT_INTERVAL_MS);
    atomic_init(&ms->idle_tax_pct, options->idle_tax_pct);
    atomic_init(&ms->sample_ms, options->sample_ms);
    atomic_init(&ms->host_state, MEMSCHED_CONDITION_HIGH);
    atomic_init(&ms->pressure, 100);
    ms_lock_init(&ms->ledger_lock, MS_RANK_LEDGER);
    ms_lock_init(&ms->clients_lock, MS_RANK_LEAF);
    ms_lock_init(&ms->observer_lock, MS_RANK_LEAF);
    ms_cond_init(&ms->observer_cond);
}

/* Whatever is there, in the reverse order of start_parts(). */
static void stop_parts(MemSched *ms)
{
    ms_sched_stop(ms->sched);
    ms_hold_stop(ms->holder);
    ms->holder = NULL;
    ms_tagger_stop(ms->tagger);
    ms->tagger = NULL;
    ms_repair_stop(ms->repair);
    ms->repair = NULL;
    ms_sampler_stop(ms->sampler);
    ms->sampler = NULL;
    ms_mover_stop(ms->mover);
    ms->mover = NULL;
    ms_protector_stop(ms->protector);
    ms->protector = NULL;
    ms_faults_stop(ms->faults);
    ms->faults = NULL;
    ms_swapin_stop(ms->swapin);
    ms->swapin = NULL;
    ms_scrub_stop(ms->scrub);
    ms->scrub = NULL;
    ms_held_free(ms->held);
    ms->held = NULL;
    ms_pool_free(ms->pool);
    ms->pool = NULL;
    ms_fence_destroy(&ms->fence);
    g_free(ms->clients);
    g_free(ms->regions);
    ms_cond_destroy(&ms->observer_cond);
    ms_lock_destroy(&ms->observer_lock);
    ms_lock_destroy(&ms->clients_lock);
    ms_lock_destroy(&ms->ledger_lock);
}

static int start_pool(MemSched *ms, const MemSchedOptions *options,
                      void (*progress)(void *opaque, uint64_t done_bytes,
                                       uint64_t total_bytes),
                      void *opaque, MemSchedMessage *ret_message)
{
    MsPoolOptions pool = {
        .frames = options->pool_bytes >> MEMSCHED_FRAME_SHIFT,
        .progress = progress, .opaque = opaque,
    };
    int ret = ms_probe_kernel(ms->sys, &ms->kernel, ret_message);

    if (ret < 0) {
        return ret;
    }
    ms->fallback = !ms->kernel.move;
    ret = ms_probe_pool_fits(ms->sys, options->pool_bytes, ret_message);
    if (ret < 0) {
        return ret;
    }
    ret = ms_pool_new(ms->sys, &pool, &ms->pool);
    if (ret < 0) {
        ms_say(ret_message, "the pool of memsched cannot be allocated: %s",
               g_strerror(-ret));
        return ret;
    }
    ms_ledger_init(&ms->ledger, pool.frames * MEMSCHED_PAGES_PER_FRAME);
    if (options->held_memory_bytes > 0 || options->swap_path) {
        ret = ms_held_new(ms, options->held_memory_bytes, options->swap_path,
                          options->swap_bytes, &ms->held, ret_message);
    }
    return ret;
}

static int start_parts(MemSched *ms, MemSchedMessage *ret_message)
{
    int ret = ms_scrub_start(ms->sys, ms->pool, 0, &ms->scrub);

    if (ret == 0) {
        ret = ms_protector_start(ms, &ms->protector);
    }
    if (ret == 0 && ms->held && ms->held->swap) {
        ret = ms_swapin_start(ms, &ms->swapin);
    }
    if (ret == 0) {
        ret = ms_faults_start(ms, FAULT_THREADS, &ms->faults);
    }
    if (ret == 0) {
        ret = ms_mover_start(ms, &ms->mover);
    }
    if (ret == 0) {
        ret = ms_sampler_start(ms, &ms->sampler);
    }
    if (ret == 0) {
        ret = ms_repair_start(ms, &ms->repair);
    }
    if (ret == 0) {
        ret = ms_tagger_start(ms, &ms->tagger);
    }
    if (ret == 0 && ms->held) {
        ret = ms_hold_start(ms, &ms->holder);
    }
    if (ret == 0) {
        ret = ms_sched_start(ms, &ms->sched);
    }
    if (ret < 0) {
        ms_say(ret_message, "the threads of memsched cannot be started: %s",
               g_strerror(-ret));
    }
    return ret;
}

int memsched_start(const MemSchedOptions *options,
                   void (*progress)(void *opaque, uint64_t done_bytes,
                                    uint64_t total_bytes),
                   void *opaque, MemSched **ret_ms,
                   MemSchedMessage *ret_message)
{
    MemSched *ms = &the_instance;
    int none = PHASE_NONE, ret = check_options(options, ret_message);

    if (ret < 0) {
        return ret;
    }
    if (!atomic_compare_exchange_strong(&the_phase, &none, PHASE_BUSY)) {
        ms_say(ret_message, "there is a memsched in this process already");
        return -EEXIST;
    }
    init_fields(ms, options);
    ret = start_pool(ms, options, progress, opaque, ret_message);
    if (ret == 0) {
        ret = start_parts(ms, ret_message);
    }
    if (ret < 0) {
        stop_parts(ms);
        atomic_store(&the_phase, PHASE_NONE);
        return ret;
    }
    atomic_store(&the_phase, PHASE_RUNNING);
    *ret_ms = ms;
    return 0;
}

int memsched_stop(MemSched *ms)
{
    int running = PHASE_RUNNING;
    bool clients;

    ms_lock(&ms->clients_lock);
    clients = ms->clients_count > 0;
    ms_unlock(&ms->clients_lock);
    if (clients) {
        return -EBUSY;
    }
    if (!atomic_compare_exchange_strong(&the_phase, &running, PHASE_BUSY)) {
        return -EBUSY;
    }
    stop_parts(ms);
    atomic_store(&the_phase, PHASE_NONE);
    return 0;
}

/* ---- what everybody asks ---- */

bool ms_is_short(MemSched *ms)
{
    return atomic_load(&ms->waiters) > 0 ||
           atomic_load(&ms->host_state) >= MEMSCHED_CONDITION_HARD;
}

void ms_ledger_rose(MemSched *ms)
{
    if (atomic_load(&ms->waiters) > 0) {
        ms_faults_retry(ms->faults);
    }
}

void memsched_dma_begin(const void *host, uint64_t length_bytes)
{
    MemSched *ms = memsched_running();

    if (ms) {
        ms_fence_begin(&ms->fence, host, length_bytes);
    }
}

void memsched_dma_end(const void *host, uint64_t length_bytes)
{
    MemSched *ms = memsched_running();

    if (ms) {
        ms_fence_end(&ms->fence, host, length_bytes);
    }
}
