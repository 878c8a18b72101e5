/*
 * A scheduler that pretends: the whole contract of memsched.h with made-up
 * answers, to be preloaded in place of libmemsched.
 *
 * Every figure differs from every other, so that a test of the monitor sees
 * each one that lands in the wrong place.  Some arguments provoke something:
 *
 *   memsched_reallocate()  from "nobody": -ENOENT with a sentence; from
 *                          "silent": -EAGAIN without one; deadline 4321: the
 *                          options are shown as the reason of the transfer
 *   memsched_set()         interval 1111: one event of each kind, from a
 *                          thread of its own; interval 2222: 100,000 changes
 *                          of condition, then one of another guest; idle tax
 *                          99: -EINVAL with a sentence
 *   memsched_check()       wrong once the interval is 3333, after 2 s once
 *                          it is 4444
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "memsched/memsched.h"
#include "memsched/recovery.h"

struct MemSched {
    bool started;
    unsigned interval_ms;
    MemSchedTransferOptions last;
    char last_from[MEMSCHED_ID_MAX], last_to[MEMSCHED_ID_MAX];
    const MemSchedObserver *observer;
    void *opaque;
};

static MemSched the;

static void say(MemSchedMessage *message, const char *text)
{
    if (message) {
        snprintf(message->text, sizeof(message->text), "%s", text);
    }
}

const char *memsched_version(void)
{
    return "9.8.7";
}

int memsched_probe(MemSchedKernel *ret_kernel, MemSchedMessage *ret_message)
{
    *ret_kernel = (MemSchedKernel) {
        .full_userfaultfd = true, .move = true, .poison = false,
        .write_protect = true, .write_protect_async = false,
        .pagemap_scan = true, .huge_pages = false,
        .release = "6.1.2-pretend", .warning = "too old for dreams",
    };
    return 0;
}

int memsched_start(const MemSchedOptions *options,
                   void (*progress)(void *, uint64_t, uint64_t), void *opaque,
                   MemSched **ret_ms, MemSchedMessage *ret_message)
{
    if (the.started) {
        say(ret_message, "a scheduler runs in this process already");
        return -EEXIST;
    }
    the.started = true;
    the.interval_ms = options->interval_ms;
    *ret_ms = &the;
    return 0;
}

int memsched_stop(MemSched *ms)
{
    ms->started = false;
    return 0;
}

MemSched *memsched_running(void)
{
    return the.started ? &the : NULL;
}

static void emit(const MemSchedEvent *event)
{
    the.observer->event(the.opaque, event);
}

static void transfer_info(MemSchedTransferInfo *info)
{
    *info = (MemSchedTransferInfo) {
        .id = 501, .from = "web", .to = "db",
        .source = MEMSCHED_SOURCE_REPORTED,
        .state = MEMSCHED_TRANSFER_PARTIAL, .requested_bytes = 511,
        .captured_bytes = 512, .moved_bytes = 513, .copied_bytes = 514,
        .discarded_bytes = 515, .elapsed_ns = UINT64_C(516999999),
        .deadline_ms = 517, .reason = "web gave no more",
        .estimate_ms = 531, .rate_bytes_per_s = 532, .rate_age_ms = 533,
        .left_ms = 534,
        .tags = { .scanned = 521, .scan_ns = 522, .found_by_scan = 523,
                  .found_by_hint = 524, .rejected = 525, .recaptured = 526,
                  .returned_by_fault = 527, .returned_by_release = 528 },
    };
}

static void decision_web(MemSchedDecision *d);

static void *one_of_each(void *unused)
{
    MemSchedEvent event = { .kind = MEMSCHED_EVENT_TRANSFER_COMPLETED };

    transfer_info(&event.transfer);
    emit(&event);
    event = (MemSchedEvent) { .kind = MEMSCHED_EVENT_CONDITION_CHANGED,
                              .id = "web",
                              .condition = MEMSCHED_CONDITION_HARD };
    emit(&event);
    event = (MemSchedEvent) { .kind = MEMSCHED_EVENT_CONDITION_CHANGED,
                              .condition = MEMSCHED_CONDITION_CLEAR };
    emit(&event);
    event = (MemSchedEvent) { .kind = MEMSCHED_EVENT_GUEST_UNRESPONSIVE,
                              .id = "web", .active = true };
    emit(&event);
    event = (MemSchedEvent) { .kind = MEMSCHED_EVENT_GUEST_STALLED,
                              .id = "db", .active = false };
    emit(&event);
    event = (MemSchedEvent) { .kind = MEMSCHED_EVENT_DECISION,
                              .id = "web", .skipped = 719 };
    decision_web(&event.decision);
    emit(&event);
    return NULL;
}

static void *flood(void *unused)
{
    MemSchedEvent event = { .kind = MEMSCHED_EVENT_CONDITION_CHANGED,
                            .id = "web" };

    for (int i = 0; i < 100000; i++) {
        event.condition = i % 2 ? MEMSCHED_CONDITION_LOW
                                : MEMSCHED_CONDITION_HIGH;
        emit(&event);
    }
    event = (MemSchedEvent) { .kind = MEMSCHED_EVENT_CONDITION_CHANGED,
                              .id = "db",
                              .condition = MEMSCHED_CONDITION_SOFT };
    emit(&event);
    return NULL;
}

static void start_thread(void *(*run)(void *))
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, run, NULL) == 0) {
        pthread_detach(thread);
    }
}

int memsched_set(MemSched *ms, const MemSchedChange *change,
                 MemSchedMessage *ret_message)
{
    if (change->has_idle_tax && change->idle_tax_pct == 99) {
        say(ret_message, "idle tax 99 is not for pretenders");
        return -EINVAL;
    }
    if (change->has_interval) {
        ms->interval_ms = change->interval_ms;
        if (ms->interval_ms == 1111) {
            start_thread(one_of_each);
        } else if (ms->interval_ms == 2222) {
            start_thread(flood);
        }
    }
    return 0;
}

int memsched_reallocate(MemSched *ms, const MemSchedTransferOptions *options,
                        uint64_t *ret_id, MemSchedMessage *ret_message)
{
    if (!strcmp(options->from, "nobody")) {
        say(ret_message, "no guest is named nobody");
        return -ENOENT;
    }
    if (!strcmp(options->from, "silent")) {
        return -EAGAIN;
    }
    ms->last = *options;
    snprintf(ms->last_from, sizeof(ms->last_from), "%s", options->from);
    snprintf(ms->last_to, sizeof(ms->last_to), "%s", options->to);
    *ret_id = UINT64_C(0x8000000000000001);
    return 0;
}

size_t memsched_query_transfers(MemSched *ms, MemSchedTransferInfo *ret_infos,
                                size_t max)
{
    if (max < 2) {
        return 0;
    }
    transfer_info(&ret_infos[0]);
    if (ms->last.deadline_ms != 4321) {
        return 1;
    }
    ret_infos[1] = (MemSchedTransferInfo) { .id = 502 };
    snprintf(ret_infos[1].reason, sizeof(ret_infos[1].reason),
             "%s %s %llu %d", ms->last_from, ms->last_to,
             (unsigned long long)ms->last.size_bytes, ms->last.source);
    return 2;
}

static void decision_web(MemSchedDecision *d)
{
    *d = (MemSchedDecision) {
        .number = 701, .age_ns = UINT64_C(702999999), .id = "web",
        .give = true, .bytes = 703, .dry_run = true, .reason = "pressure",
        .text = "web gets it.", .allocated_bytes = 704, .active_bytes = 705,
        .wanted_bytes = 706, .entitlement_bytes = 707, .min_bytes = 708,
        .max_bytes = 709, .ballooned_bytes = 710, .waiting_bytes = 711,
        .outgoing_bytes = 712, .shares = 713, .pressure = 714,
        .again_ms = 715, .policy = MEMSCHED_POLICY_IDLE_TAX,
        .idle_tax_pct = 716, .state = MEMSCHED_CONDITION_LOW,
        .free_bytes = 717, .min_free_bytes = 718,
    };
}

size_t memsched_query_decisions(MemSched *ms, const char *id,
                                MemSchedDecision *ret_decisions, size_t max)
{
    if (max < 2 || (id && strcmp(id, "web"))) {
        return 0;
    }
    decision_web(&ret_decisions[0]);
    if (id) {
        return 1;
    }
    ret_decisions[1] = (MemSchedDecision) {
        .number = 700, .id = "db", .bytes = 3 << 20, .reason = "idle",
        .text = "db gives it.",
    };
    return 2;
}

int memsched_explain(MemSched *ms, const char *id,
                     MemSchedDecision *ret_decision,
                     MemSchedMessage *ret_message)
{
    if (strcmp(id, "web")) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "no guest is named %s", id);
        return -ENOENT;
    }
    decision_web(ret_decision);
    ret_decision->bytes = 0;
    ret_decision->number = 0;
    ret_decision->text[3] = '!';
    return 0;
}

void memsched_query(MemSched *ms, MemSchedInfo *ret_info)
{
    *ret_info = (MemSchedInfo) {
        .id = "sched0", .policy = MEMSCHED_POLICY_SHARES,
        .interval_ms = ms->interval_ms, .idle_tax_pct = 61,
        .sample_ms = 337, .dry_run = true,
        .allow_inject = false, .fallback = true,
        .state = MEMSCHED_CONDITION_SOFT, .pressure = 162, .clients = 2,
        .pool_bytes = 101, .free_clean_bytes = 102, .free_dirty_bytes = 103,
        .allocated_bytes = 104, .transit_bytes = 105, .held_bytes = 106,
        .parity_bytes = 107, .quarantine_bytes = 108, .retired_bytes = 109,
        .claimed_bytes = 110, .reserved_bytes = 111, .min_free_bytes = 112,
        .free_huge_bytes = 113, .captured_pages = 201,
        .populated_pages = 202, .moved_pages = 203, .copied_pages = 204,
        .discarded_pages = 206, .scrubbed_pages = 207, .huge_moves = 208,
        .split_frames = 209, .faults = 210, .faults_stale = 211,
        .faults_waited = 212, .fault_ns_total = 213, .fault_p50_ns = 214,
        .fault_p99_ns = 215, .fault_max_ns = 216, .flushes = 217,
        .busy_pages = 218, .put_back_pages = 219, .refused_requests = 220,
        .held = {
            .configured = true, .store_bytes = 801, .store_most_bytes = 802,
            .stored_pages = 803, .compressed_bytes = 804, .swap_bytes = 805,
            .swapped_pages = 806, .out_pages = 807, .zero_pages = 808,
            .refused_pages = 809, .back_pages = 810, .read_pages = 811,
            .lost_pages = 812, .write_errors = 813, .read_errors = 814,
            .back = 815, .back_p50_ns = 816, .back_p99_ns = 817000,
            .back_max_ns = 818, .read = 819, .read_p50_ns = 820,
            .read_p99_ns = 821000, .read_max_ns = 822,
        },
    };
    memsched_probe(&ret_info->kernel, NULL);
}

static void client_web(MemSchedClientInfo *info)
{
    *info = (MemSchedClientInfo) {
        .id = "web", .min_bytes = 301, .max_bytes = 302, .ram_bytes = 303,
        .shares = 304, .entitlement_bytes = 305, .target_bytes = 306,
        .allocated_bytes = 307, .active_bytes = 308, .idle_bytes = 309,
        .ballooned_kernel_bytes = 310, .ballooned_application_bytes = 311,
        .ballooned_reported_bytes = 312, .given_bytes = 313,
        .held_bytes = 5 << 20, .swapped_bytes = 2 << 20,
        .huge_bytes = 314, .balloon_target_bytes = 315,
        .balloon_actual_bytes = 316, .claimed_bytes = 317,
        .condition = MEMSCHED_CONDITION_LOW, .pressure = 318,
        .attached = true, .running = true, .stalled = true,
        .unresponsive = false, .inhibited = true,
        .responsiveness_bytes_per_s = 319, .faults = 320,
        .fault_p50_ns = 321, .fault_p99_ns = 322, .fault_max_ns = 323,
        .captured_pages = 324, .populated_pages = 325, .oom_deflates = 326,
        .refused_pages = 327, .stats_age_ns = UINT64_C(640999999),
        .returned_pages = 328, .backoffs = 329,
        .backoff_ns = UINT64_C(329000001),
        .claimed_active_bytes = 331, .sampled_active_bytes = 332,
        .sampled_units = 333, .sampled_age_ns = UINT64_C(334999999),
        .sampled_fast_permille = 335, .sampled_slow_permille = 334,
        .sampled_after_ns = UINT64_C(335999999), .sampled_out_bytes = 336,
    };
    for (int i = 0; i < MEMSCHED_STATS; i++) {
        info->stats[i] = 401 + i;
    }
}

/* Nothing is known of it. */
static void client_db(MemSchedClientInfo *info)
{
    *info = (MemSchedClientInfo) {
        .id = "db", .stats_age_ns = UINT64_MAX,
        .claimed_active_bytes = UINT64_MAX, .sampled_why = "it hides",
    };
    for (int i = 0; i < MEMSCHED_STATS; i++) {
        info->stats[i] = MEMSCHED_STAT_UNKNOWN;
    }
}

size_t memsched_query_clients(MemSched *ms, MemSchedClientInfo *ret_infos,
                              size_t max)
{
    if (max >= 2) {
        client_web(&ret_infos[0]);
        client_db(&ret_infos[1]);
    }
    return 2;
}

int memsched_query_client(MemSched *ms, const char *id,
                          MemSchedClientInfo *ret_info)
{
    if (strcmp(id, "web")) {
        return -ENOENT;
    }
    client_web(ret_info);
    return 0;
}

void memsched_watch_errors(MemSched *ms,
                           void (*error)(void *opaque, const MemSchedError *e),
                           void *opaque)
{
}

int memsched_protect(MemSched *ms, const char *id,
                     const MemSchedProtection *protection,
                     MemSchedMessage *ret_message)
{
    return strcmp(id, "web") ? -ENOENT : 0;
}

int memsched_query_protection(MemSched *ms, const char *id,
                              MemSchedProtectionInfo *ret_info)
{
    if (strcmp(id, "web")) {
        return -ENOENT;
    }
    *ret_info = (MemSchedProtectionInfo) { .last_age_ns = UINT64_MAX };
    return 0;
}

int memsched_inject_error(MemSched *ms, const char *id, uint64_t gpa,
                          MemSchedMessage *ret_message)
{
    say(ret_message, "pretenders do not break");
    return -EOPNOTSUPP;
}

int memsched_inject_covered_error(MemSched *ms, const char *id, uint64_t gpa,
                                  MemSchedMessage *ret_message)
{
    return memsched_inject_error(ms, id, gpa, ret_message);
}

static void apps_web(MemSchedAppsInfo *info)
{
    info->connected = true;
    info->known_bytes = 600;
    info->condition = (MemSchedGuestCondition) {
        .generation = 601, .age_ns = UINT64_C(602999999),
        .condition = MEMSCHED_CONDITION_HARD,
        .host = MEMSCHED_CONDITION_SOFT, .pressure = 603,
        .entitlement_bytes = 604, .target_bytes = 605,
        .allocated_bytes = 606, .reservable_bytes = 607,
    };
    info->counters = (MemSchedTagCounters) {
        .scanned = 611, .scan_ns = 612, .found_by_scan = 613,
        .found_by_hint = 614, .rejected = 615, .recaptured = 616,
        .returned_by_fault = 617, .returned_by_release = 618,
    };
    info->apps_count = 2;
    info->app[0] = (MemSchedAppInfo) {
        .app = 621, .name = "first", .reserves = true, .agent = false,
        .priority = 622, .offer_bytes = 623, .ordered_bytes = 624 << 20,
        .reserved_bytes = 625 << 20, .captured_bytes = 626 << 20,
        .veto_ms = 627,
        .cache_bytes = 628, .cache_hits = UINT64_MAX, .cache_misses = 629,
        .stats_age_ns = UINT64_C(630999999),
    };
    info->app[1] = (MemSchedAppInfo) {
        .app = 631, .name = "second", .agent = true,
        .offer_bytes = UINT64_MAX, .stats_age_ns = UINT64_MAX,
    };
    info->requests_count = 2;
    info->request[0] = (MemSchedRequestInfo) {
        .app = 641, .name = "first", .bytes = 642 << 20, .got_bytes = 643 << 20,
        .priority = 644, .want = 2, .age_ns = UINT64_C(645999999),
        .left_ms = 646999,
    };
    info->request[1] = (MemSchedRequestInfo) { .bytes = 651, .want = 77 };
}

int memsched_query_apps(MemSched *ms, const char *id,
                        MemSchedAppsInfo *ret_info)
{
    *ret_info = (MemSchedAppsInfo) { .connected = false };
    if (!strcmp(id, "web")) {
        apps_web(ret_info);
    }
    return 0;
}

int memsched_client_set(MemSched *ms, const char *id,
                        const MemSchedClientChange *change,
                        MemSchedMessage *ret_message)
{
    if (strcmp(id, "web")) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "no guest is named %s", id);
        return -ENOENT;
    }
    /* The only way in which a test can see what arrived. */
    snprintf(ret_message->text, sizeof(ret_message->text),
             "%d %llu %d %llu %d %u", change->has_min,
             (unsigned long long)change->min_bytes, change->has_max,
             (unsigned long long)change->max_bytes, change->has_shares,
             change->shares);
    return change->has_shares && change->shares == 7 ? 0 : -EINVAL;
}

int memsched_translate(MemSched *ms, const char *id, uint64_t gpa,
                       MemSchedTranslation *ret_translation,
                       MemSchedMessage *ret_message)
{
    if (strcmp(id, "web")) {
        return -ENOENT;
    }
    *ret_translation = (MemSchedTranslation) {
        .region = "pc.ram", .offset_bytes = gpa + 1, .host_address = gpa + 2,
        .has_pfn = gpa != 4096, .pfn = gpa + 3, .huge = gpa == 8192,
        .state = gpa / 4096 % MEMSCHED_PAGE_STATES,
    };
    return 0;
}

int memsched_check(MemSched *ms, MemSchedMessage *ret_message)
{
    if (ms->interval_ms == 4444) {
        sleep(2);
    }
    if (ms->interval_ms == 3333) {
        say(ret_message, "free is 3 pages, counted 4");
        return -EUCLEAN;
    }
    return 0;
}

bool memsched_disk_wanted(MemSchedClient *client)
{
    return false;
}

void memsched_observe(MemSched *ms, const MemSchedObserver *observer,
                      void *opaque)
{
    ms->observer = observer;
    ms->opaque = opaque;
}
