/*
 * The connection of a guest's balloon applications
 *
 * Owns the state of the connection (closed until HELLO), what the host has to
 * say, and the way between messages and the scheduler's calls:
 *
 *     carrier -> receive() -> memsched_app_*()            (main loop)
 *     MemSchedAppOps -> outbox -> bottom half -> carrier  (scheduler's thread,
 *                                                          then main loop)
 *
 * A guest has one connection: the carrier whose HELLO came first has it until
 * it closes; a HELLO on another one is refused.  A second HELLO on the same
 * carrier begins anew.
 *
 * Nothing of a session outlives the machine's stay in this process.  What
 * travels is that the guest's end is open; where the machine goes on, a new
 * session begins, and a WELCOME that nobody asked for tells the guest.
 *
 * Without a scheduler HELLO is answered too, by a WELCOME that takes no
 * applications: an agent need not know why there is nothing to do.
 *
 * Bounds.  TURN_MESSAGES a turn of the main loop; BALLOON_EX_OUTBOX messages
 * wait for the guest, and a guest that does not read is not listened to.  One
 * that says nothing in spite of PINGs is taken for gone.  What is wrong is
 * counted and traced, never logged: a guest writes no host's log.
 *
 * Threads: the BQL, but for MemSchedAppOps, which run in the scheduler's
 * thread.  They share the outbox, under session->lock; no lock is held when a
 * carrier touches guest memory, so that the scheduler never waits for a guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "hw/virtio/balloon-ex-session.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "system/instance-local.h"
#include "system/runstate.h"
#include "trace/trace-system_memsched.h"
#include "balloon-ex-outbox.h"
#include "balloon-ex-relay.h"
#include "balloon-ex-wire.h"

/* Some microseconds each; a HELLO ends and begins a session. */
#define TURN_MESSAGES 64
#define HELLO_COSTS   32

/* Statistics come every 5 s; a guest that says nothing else is asked. */
#define PING_MS       10000
/* PINGs without any answer before the guest is taken for gone. */
#define PINGS_MAX     6

#define FEATURES      VBX_FEATURE_HINTS

typedef struct Counters {
    uint64_t received;
    uint64_t broken;            /* no message at all */
    uint64_t refused;           /* answered by ERROR */
    uint64_t passed;            /* unknown and optional */
    uint64_t sent;
    uint64_t errors;            /* ERRORs of the guest */
} Counters;

struct BalloonExSession {
    const BalloonExCarrier *carrier;
    void *opaque;
    MemSchedClient *client;     /* NULL: no scheduler */
    VMChangeStateEntry *state_entry;
    QEMUBH *out_bh, *again_bh;
    QEMUTimer *ping_timer;

    bool open;                  /* HELLO was answered */
    bool attached;              /* the scheduler knows of it */
    bool renew;                 /* a new session is due where it goes on */
    bool running;               /* the machine */
    bool held_back;             /* the carrier was told to wait */
    uint32_t features;          /* of both */
    unsigned pings;             /* since the last message */
    unsigned turn_left;
    BalloonExPacked pending;    /* out of the outbox, no room for it yet */
    BalloonExMessage in;        /* scratch */
    Counters counters;

    QemuMutex lock;
    BalloonExOutbox outbox;     /* lock */
};

/* Who has the guest's connection; one machine a copy of the emulator. */
static BalloonExSession *connected;

/* ---- out ---- */

static void put(BalloonExSession *s, const BalloonExMessage *message)
{
    bool fits;

    qemu_mutex_lock(&s->lock);
    fits = balloon_ex_outbox_put(&s->outbox, message);
    qemu_mutex_unlock(&s->lock);
    if (!fits) {
        trace_balloon_ex_not_read(s->carrier->name);
    }
    qemu_bh_schedule(s->out_bh);
}

static bool take(BalloonExSession *s)
{
    bool more;

    qemu_mutex_lock(&s->lock);
    more = balloon_ex_outbox_take(&s->outbox, &s->pending);
    qemu_mutex_unlock(&s->lock);
    return more;
}

static unsigned unread(BalloonExSession *s)
{
    unsigned count;

    qemu_mutex_lock(&s->lock);
    count = s->outbox.count;
    qemu_mutex_unlock(&s->lock);
    return count;
}

static void clear_outbox(BalloonExSession *s)
{
    qemu_mutex_lock(&s->lock);
    balloon_ex_outbox_clear(&s->outbox);
    qemu_mutex_unlock(&s->lock);
    s->pending.bytes = 0;
}

static void resume(BalloonExSession *s)
{
    if (s->held_back && balloon_ex_session_ready(s)) {
        s->held_back = false;
        s->carrier->resume(s->opaque);
    }
}

static void send_out(void *opaque)
{
    BalloonExSession *s = opaque;

    while (s->running && (s->pending.bytes || take(s))) {
        if (!s->carrier->send(s->opaque, s->pending.data, s->pending.bytes)) {
            return;
        }
        s->pending.bytes = 0;
        s->counters.sent++;
    }
    resume(s);
}

void balloon_ex_session_writable(BalloonExSession *s)
{
    send_out(s);
}

static void put_plain(BalloonExSession *s, uint16_t type, uint64_t cookie)
{
    BalloonExMessage m = { .type = type, .cookie = cookie };

    put(s, &m);
}

/* @m becomes the ERROR that answers it. */
static void put_error(BalloonExSession *s, BalloonExMessage *m, uint16_t code)
{
    uint16_t type = m->type;

    m->type = VBX_ERROR;
    m->flags = 0;
    m->error.code = code;
    m->error.type = type;
    s->counters.refused++;
    trace_balloon_ex_message_refused(s->carrier->name, type, code);
    put(s, m);
}

/* ---- what the scheduler says: its thread ---- */

static void put_range(BalloonExSession *s, uint16_t type,
                      const MemSchedAppRange *range)
{
    BalloonExMessage m = {
        .type = type, .app = range->app,
        .range = {
            .epoch = range->epoch, .first_seq = range->first_seq,
            .count_pages = range->count_pages,
            .reason = MEMSCHED_REASON_HOST,
        },
    };

    put(s, &m);
}

static void on_reserve(void *opaque, const MemSchedAppOrder *order)
{
    BalloonExMessage m = {
        .type = VBX_RESERVE, .app = order->app, .cookie = order->cookie,
        .reserve = {
            .epoch = order->epoch, .bytes = order->bytes,
            .granule_bytes = order->granule_bytes,
            .deadline_ms = order->deadline_ms,
        },
    };

    memcpy(m.reserve.key, order->key, sizeof(m.reserve.key));
    put(opaque, &m);
}

static void on_cancel(void *opaque, uint32_t app, uint64_t cookie)
{
    BalloonExMessage m = {
        .type = VBX_CANCEL, .app = app, .cookie = cookie,
    };

    put(opaque, &m);
}

static void on_release(void *opaque, const MemSchedAppRange *range)
{
    put_range(opaque, VBX_RELEASE, range);
}

static void on_released(void *opaque, const MemSchedAppRange *range)
{
    put_range(opaque, VBX_RELEASED, range);
}

static void on_answer(void *opaque, const MemSchedAppAnswer *answer)
{
    BalloonExMessage m = {
        .type = VBX_ANSWER, .app = answer->app, .cookie = answer->cookie,
        .answer = {
            .bytes = answer->bytes, .status = answer->status,
            .reason = answer->reason,
        },
    };

    put(opaque, &m);
}

static void on_condition(void *opaque, const MemSchedGuestCondition *condition)
{
    BalloonExMessage m = { .type = VBX_CONDITION, .condition = *condition };

    put(opaque, &m);
}

static void on_poll_stats(void *opaque)
{
    put_plain(opaque, VBX_POLL, 0);
}

/* ---- the session ---- */

static void end(BalloonExSession *s)
{
    if (s->attached) {
        memsched_client_detach_apps(s->client, s);
        s->attached = false;
    }
    clear_outbox(s);
    timer_del(s->ping_timer);
    s->open = false;
    s->renew = false;
    s->pings = 0;
    if (connected == s) {
        connected = NULL;
    }
}

static void set_ping(BalloonExSession *s)
{
    timer_mod(s->ping_timer,
              qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) + PING_MS);
}

static void ping(void *opaque)
{
    BalloonExSession *s = opaque;

    if (s->pings++ >= PINGS_MAX) {
        trace_balloon_ex_silent(s->carrier->name);
        end(s);
        s->carrier->hang_up(s->opaque);
        return;
    }
    if (s->pings > 1) {
        put_plain(s, VBX_PING, s->pings);
    }
    set_ping(s);
}

/* Attach, and say so.  -errno where the scheduler does not take it. */
static int begin(BalloonExSession *s, uint64_t cookie)
{
    static const MemSchedAppOps ops = {
        .reserve = on_reserve, .cancel = on_cancel, .release = on_release,
        .released = on_released, .answer = on_answer,
        .condition = on_condition, .poll_stats = on_poll_stats,
    };
    BalloonExMessage m = {
        .type = VBX_WELCOME, .cookie = cookie,
        .welcome = { .version = VBX_VERSION, .features = s->features },
    };
    MemSchedGuestCondition condition;

    if (s->client) {
        int ret = memsched_client_attach_apps(s->client, &ops, s,
                                              m.welcome.session);

        if (ret < 0) {
            return ret;
        }
        s->attached = true;
        m.welcome.apps_max = MEMSCHED_APPS_MAX;
    }
    s->open = true;
    s->renew = false;
    connected = s;
    trace_balloon_ex_session(s->carrier->name, s->features, s->attached);
    put(s, &m);
    if (s->client && !memsched_client_condition(s->client, &condition)) {
        on_condition(s, &condition);
    }
    set_ping(s);
    return 0;
}

static void take_hello(BalloonExSession *s, BalloonExMessage *m)
{
    const BalloonExHello *hello = &m->hello;

    s->turn_left -= MIN(s->turn_left, HELLO_COSTS);
    if (connected && connected != s) {
        trace_balloon_ex_second_carrier(s->carrier->name,
                                        connected->carrier->name);
        put_error(s, m, VBX_ERROR_STATE);
        return;
    }
    if (hello->version_min > VBX_VERSION || hello->version_max < VBX_VERSION) {
        put_error(s, m, VBX_ERROR_VERSION);
        return;
    }
    trace_balloon_ex_hello(s->carrier->name, hello->held_bytes);
    end(s);
    s->features = hello->features & FEATURES;
    if (begin(s, m->cookie) < 0) {
        put_error(s, m, VBX_ERROR_STATE);
    }
}

/* ---- what the guest says ---- */

static uint16_t code_of(int ret)
{
    switch (ret) {
    case -ENOSPC:
    case -EAGAIN:
        return VBX_ERROR_LIMIT;
    case -ENOENT:
        return VBX_ERROR_UNKNOWN;
    case -EEXIST:
    case -ENOTCONN:
        return VBX_ERROR_STATE;
    default:
        return VBX_ERROR_MALFORMED;
    }
}

/* Nobody gives, nobody gets. */
static void take_without_scheduler(BalloonExSession *s, BalloonExMessage *m)
{
    switch (m->type) {
    case VBX_REGISTER:
        put_error(s, m, VBX_ERROR_LIMIT);
        break;
    case VBX_REQUEST:
        m->type = VBX_ANSWER;
        m->flags = 0;
        m->answer = (BalloonExAnswer) {
            .status = MEMSCHED_ANSWER_REFUSED, .reason = MEMSCHED_REASON_HOST,
        };
        put(s, m);
        break;
    case VBX_STATISTICS:
        break;
    default:
        put_error(s, m, VBX_ERROR_UNKNOWN);
        break;
    }
}

static void take_message(BalloonExSession *s, BalloonExMessage *m)
{
    int ret;

    switch (m->type) {
    case VBX_HELLO:
        take_hello(s, m);
        return;
    case VBX_ERROR:
        s->counters.errors++;
        trace_balloon_ex_guest_error(s->carrier->name, m->error.type,
                                     m->error.code);
        return;
    default:
        break;
    }
    if (!s->open || s->renew) {
        put_error(s, m, VBX_ERROR_STATE);
        return;
    }
    switch (m->type) {
    case VBX_PING:
        put_plain(s, VBX_PONG, m->cookie);
        return;
    case VBX_PONG:
        return;
    default:
        break;
    }
    if (!s->client) {
        take_without_scheduler(s, m);
        return;
    }
    ret = balloon_ex_relay(s->client, s->features, m);
    if (ret < 0) {
        put_error(s, m, code_of(ret));
    }
}

bool balloon_ex_session_ready(BalloonExSession *s)
{
    bool ready = s->running && s->turn_left &&
        unread(s) < BALLOON_EX_OUTBOX_HIGH;

    if (!ready && !s->held_back) {
        s->held_back = true;
        /* The next turn looks again; a stopped machine is started some day. */
        qemu_bh_schedule(s->again_bh);
    }
    return ready;
}

static void again(void *opaque)
{
    BalloonExSession *s = opaque;

    s->turn_left = TURN_MESSAGES;
    resume(s);
}

bool balloon_ex_session_receive(BalloonExSession *s,
                                const uint8_t *untrusted_bytes, size_t count)
{
    BalloonExMessage *m = &s->in;

    s->turn_left -= MIN(s->turn_left, 1);
    switch (balloon_ex_wire_parse(untrusted_bytes, count, m)) {
    case BALLOON_EX_GOOD:
        s->counters.received++;
        s->pings = 0;
        trace_balloon_ex_message(s->carrier->name, m->type, m->app,
                                 m->cookie);
        take_message(s, m);
        return true;
    case BALLOON_EX_PASS:
        s->counters.passed++;
        return true;
    case BALLOON_EX_REFUSE:
        s->counters.refused++;
        trace_balloon_ex_message_refused(s->carrier->name, m->error.type,
                                         m->error.code);
        put(s, m);
        return true;
    case BALLOON_EX_BROKEN:
        break;
    }
    s->counters.broken++;
    trace_balloon_ex_message_broken(s->carrier->name, count);
    return false;
}

int balloon_ex_session_length(const uint8_t *untrusted_bytes, size_t count)
{
    return balloon_ex_wire_length(untrusted_bytes, count);
}

/* ---- the machine ---- */

static void renew(BalloonExSession *s)
{
    s->renew = false;
    if (begin(s, 0) < 0) {
        end(s);
    }
}

static void state_changed(void *opaque, bool running, RunState state)
{
    BalloonExSession *s = opaque;

    s->running = running;
    if (running) {
        if (s->renew) {
            renew(s);
        }
        qemu_bh_schedule(s->out_bh);
        qemu_bh_schedule(s->again_bh);
    }
}

void balloon_ex_session_close(BalloonExSession *s)
{
    if (s->open) {
        trace_balloon_ex_closed(s->carrier->name);
    }
    end(s);
}

BalloonExSession *balloon_ex_session_new(DeviceState *dev,
                                         const BalloonExCarrier *carrier,
                                         void *opaque)
{
    BalloonExSession *s = g_new0(BalloonExSession, 1);

    s->carrier = carrier;
    s->opaque = opaque;
    s->client = memsched_instance_client();
    s->running = runstate_is_running();
    s->turn_left = TURN_MESSAGES;
    qemu_mutex_init(&s->lock);
    s->out_bh = qemu_bh_new_guarded(send_out, s, &dev->mem_reentrancy_guard);
    s->again_bh = qemu_bh_new_guarded(again, s, &dev->mem_reentrancy_guard);
    s->ping_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, ping, s);
    s->state_entry = qemu_add_vm_change_state_handler(state_changed, s);
    return s;
}

void balloon_ex_session_free(BalloonExSession *s)
{
    if (!s) {
        return;
    }
    end(s);
    qemu_del_vm_change_state_handler(s->state_entry);
    timer_free(s->ping_timer);
    qemu_bh_delete(s->again_bh);
    qemu_bh_delete(s->out_bh);
    qemu_mutex_destroy(&s->lock);
    g_free(s);
}

/* The state that is loaded is that of a session which is over. */
static int post_load(void *opaque, int version_id)
{
    BalloonExSession *s = opaque;
    bool open = s->open;

    end(s);
    if (open && (!connected || connected == s)) {
        s->open = true;
        s->renew = true;
        s->features &= FEATURES;
        connected = s;
    }
    return 0;
}

const VMStateDescription balloon_ex_vmstate_session = {
    .name = "balloon-ex-session",
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(open, BalloonExSession),
        VMSTATE_UINT32(features, BalloonExSession),
        VMSTATE_END_OF_LIST()
    },
};

void balloon_ex_session_show(BalloonExSession *s, Visitor *v,
                             const char *name, Error **errp)
{
    Counters c = s ? s->counters : (Counters) { 0 };
    bool open = s && s->open;
    uint64_t dropped = 0;

    if (s) {
        qemu_mutex_lock(&s->lock);
        dropped = s->outbox.dropped;
        qemu_mutex_unlock(&s->lock);
    }
    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    if (visit_type_bool(v, "open", &open, errp) &&
        visit_type_uint64(v, "received", &c.received, errp) &&
        visit_type_uint64(v, "broken", &c.broken, errp) &&
        visit_type_uint64(v, "refused", &c.refused, errp) &&
        visit_type_uint64(v, "passed-over", &c.passed, errp) &&
        visit_type_uint64(v, "errors", &c.errors, errp) &&
        visit_type_uint64(v, "sent", &c.sent, errp) &&
        visit_type_uint64(v, "dropped", &dropped, errp)) {
        visit_check_struct(v, errp);
    }
    visit_end_struct(v, NULL);
}
