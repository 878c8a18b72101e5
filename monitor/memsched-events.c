/*
 * Events of the host memory scheduler become QMP events.
 *
 * Owns a queue.  libmemsched calls its observer in a thread of its own, which
 * must not block, and which is no thread of QEMU; the table of guests changes
 * in yet other threads.  They put a record into the queue; a bottom half in
 * this instance's main loop takes all of it and emits.
 *
 * Invariants: a bottom half is scheduled exactly while the queue is not empty
 * and nobody drains it.  Of events that tell a state (condition, stalled,
 * unresponsive, decision) at most one for each guest is in the queue: a later
 * one replaces it, so that a guest that flips between two states cannot make
 * the queue grow.  Transfers and guest states are counted by what the operator
 * does; beyond QUEUE_MAX, which a main loop that does not run for long may
 * reach, the oldest is dropped, and how many is said in a warning.
 * Errors of memory are counted by the hardware, and dropped likewise.
 *
 * Threads: memsched_events_start() and _stop() on the main thread, all else
 * anywhere.  Lock: queue.lock, held for a few instructions, nothing is called
 * with it but the allocator and aio_bh_schedule_oneshot().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "qapi/qapi-events-memsched.h"
#include "qapi/qapi-events-memsched-recovery.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/queue.h"
#include "system/memory-error.h"
#include "system/memsched-events.h"
#include "memsched-internal.h"

/* More than the guests of a process and the transfers that can run at once */
#define QUEUE_MAX 1024

typedef struct Pending {
    QSIMPLEQ_ENTRY(Pending) next;
    bool is_guest_state;
    bool is_error;
    MemSchedEvent event;            /* if neither; but always its id */
    MemSchedError error;            /* if is_error */
    MemschedGuestState state;       /* if is_guest_state, of event.id */
    char *message;                  /* likewise; may be NULL */
} Pending;

typedef QSIMPLEQ_HEAD(PendingQueue, Pending) PendingQueue;

static struct {
    QemuMutex lock;
    PendingQueue pending;           /* guarded by lock, as all below */
    unsigned length;
    unsigned dropped;
} queue;

static void __attribute__((constructor)) queue_init(void)
{
    qemu_mutex_init(&queue.lock);
    QSIMPLEQ_INIT(&queue.pending);
}

static void pending_free(Pending *pending)
{
    g_free(pending->message);
    g_free(pending);
}

static void emit_condition(const MemSchedEvent *event)
{
    qapi_event_send_memsched_condition_changed(
        event->id[0] ? event->id : NULL,
        memsched_condition_to_qapi(event->condition));
}

static void emit_transfer(const MemSchedEvent *event)
{
    g_autoptr(MemschedTransfer) t =
        memsched_transfer_to_qapi(&event->transfer, NULL);

    qapi_event_send_memsched_transfer_completed(
        t->id, t->from, t->to, t->source, t->state, t->requested, t->captured,
        t->moved, t->copied, t->discarded, t->duration, t->deadline,
        t->has_estimate, t->estimate, t->has_rate, t->rate, t->has_rate_age,
        t->rate_age, t->has_left, t->left, t->tags, t->reason);
}

static void emit_decision(const MemSchedEvent *event)
{
    g_autoptr(MemschedDecision) decision =
        memsched_decision_to_qapi(&event->decision, true);

    qapi_event_send_memsched_decision(decision, event->skipped);
}

static void emit_error(const MemSchedError *error)
{
    if (error->mismatch) {
        bool page = error->mismatch == MEMSCHED_MISMATCH_PAGE;

        warn_report("guest '%s': %s at offset 0x%" PRIx64 " of %s has content "
                    "that nobody gave it; check the host's memory", error->id,
                    page ? "a protected page" : "the parity of the page",
                    error->offset_bytes, error->region);
        qapi_event_send_memsched_stripe_mismatch(
            error->id, error->region, error->offset_bytes,
            page ? QAPI_MEMSCHED_MISMATCH_PAGE
                 : QAPI_MEMSCHED_MISMATCH_PARITY);
        return;
    }
    (error->lost ? qapi_event_send_memsched_page_lost
                 : qapi_event_send_memsched_page_recovered)(
        error->id, error->region, error->offset_bytes, error->duration_ns);
}

static void emit(const Pending *pending)
{
    const MemSchedEvent *event = &pending->event;

    if (pending->is_error) {
        emit_error(&pending->error);
        return;
    }
    if (pending->is_guest_state) {
        qapi_event_send_memsched_guest_state(event->id, pending->state,
                                             pending->message);
        return;
    }
    switch (event->kind) {
    case MEMSCHED_EVENT_TRANSFER_COMPLETED:
        emit_transfer(event);
        break;
    case MEMSCHED_EVENT_CONDITION_CHANGED:
        emit_condition(event);
        break;
    case MEMSCHED_EVENT_GUEST_UNRESPONSIVE:
        qapi_event_send_memsched_guest_unresponsive(event->id, event->active);
        break;
    case MEMSCHED_EVENT_GUEST_STALLED:
        qapi_event_send_memsched_guest_stalled(event->id, event->active);
        break;
    case MEMSCHED_EVENT_DECISION:
        emit_decision(event);
        break;
    }
}

/* Takes the whole queue, so that emitting needs no lock. */
static void drain(void *opaque)
{
    PendingQueue taken = QSIMPLEQ_HEAD_INITIALIZER(taken);
    Pending *pending;
    unsigned dropped;

    WITH_QEMU_LOCK_GUARD(&queue.lock) {
        QSIMPLEQ_CONCAT(&taken, &queue.pending);
        dropped = queue.dropped;
        queue.length = 0;
        queue.dropped = 0;
    }
    if (dropped) {
        warn_report("%u events of the memory scheduler were lost, because "
                    "the main loop did not run", dropped);
    }
    while ((pending = QSIMPLEQ_FIRST(&taken))) {
        QSIMPLEQ_REMOVE_HEAD(&taken, next);
        emit(pending);
        pending_free(pending);
    }
}

/* Called with queue.lock. */
static bool replace_locked(const MemSchedEvent *event)
{
    Pending *pending;

    if (event->kind == MEMSCHED_EVENT_TRANSFER_COMPLETED) {
        return false;
    }
    QSIMPLEQ_FOREACH(pending, &queue.pending, next) {
        if (!pending->is_guest_state && !pending->is_error &&
            pending->event.kind == event->kind &&
            !strcmp(pending->event.id, event->id)) {
            pending->event = *event;
            return true;
        }
    }
    return false;
}

/* Called with queue.lock; takes ownership of @pending. */
static void append_locked(Pending *pending)
{
    bool was_empty = QSIMPLEQ_EMPTY(&queue.pending);

    if (queue.length == QUEUE_MAX) {
        Pending *oldest = QSIMPLEQ_FIRST(&queue.pending);

        QSIMPLEQ_REMOVE_HEAD(&queue.pending, next);
        pending_free(oldest);
        queue.dropped++;
        queue.length--;
    }
    QSIMPLEQ_INSERT_TAIL(&queue.pending, pending, next);
    queue.length++;
    if (was_empty) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), drain, NULL);
    }
}

static void observe_event(void *opaque, const MemSchedEvent *event)
{
    Pending *pending;

    QEMU_LOCK_GUARD(&queue.lock);
    if (replace_locked(event)) {
        return;
    }
    pending = g_new0(Pending, 1);
    pending->event = *event;
    append_locked(pending);
}

/*
 * In the thread that repairs, before the access goes on; no allocation waits
 * for guest memory.  What nobody waits for is told to its guest from here.
 */
static void observe_error(void *opaque, const MemSchedError *error)
{
    Pending *pending = g_new0(Pending, 1);

    if (error->lost && !error->awaited) {
        memory_error_lost_of(error->id, error->host);
    }
    pending->is_error = true;
    pending->error = *error;
    QEMU_LOCK_GUARD(&queue.lock);
    append_locked(pending);
}

void memsched_events_guest_state(const char *id, MemschedGuestState state,
                                 const char *message)
{
    Pending *pending = g_new0(Pending, 1);

    pending->is_guest_state = true;
    pstrcpy(pending->event.id, sizeof(pending->event.id), id);
    pending->state = state;
    pending->message = message && message[0] ? g_strdup(message) : NULL;
    QEMU_LOCK_GUARD(&queue.lock);
    append_locked(pending);
}

void memsched_events_start(MemSched *ms)
{
    static const MemSchedObserver observer = {
        .event = observe_event,
        .trace = memsched_trace,
    };

    memsched_observe(ms, &observer, NULL);
    memsched_watch_errors(ms, observe_error, NULL);
}

/* What is queued is still emitted: it happened. */
void memsched_events_stop(MemSched *ms)
{
    memsched_watch_errors(ms, NULL, NULL);
    memsched_observe(ms, NULL, NULL);
}
