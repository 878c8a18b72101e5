/*
 * QMP commands of the host memory scheduler.
 *
 * Owns nothing: each command checks who asks and what for, asks libmemsched
 * or the table of guests, and puts the answer into QAPI's types.
 *
 * Who may do what.  Instance 0 belongs to the host's operator and sees all.
 * The monitor of a guest belongs to a tenant: there a command is about that
 * guest alone, shows no address of the host and no neighbour, and says the
 * same about a neighbour as about a guest that does not exist.  What changes
 * the share that others get (sizes, shares, options, transfers) or counts the
 * whole pool is the host's.
 *
 * Threads: all commands but memsched-check may run out of band, in the
 * monitor's own thread; none takes the BQL or touches guest memory, and none
 * waits for a guest.  memsched-check reads page tables, for milliseconds, and
 * so does its work in a thread of the pool while its coroutine sleeps.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/thread-pool.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-memsched.h"
#include "memsched-internal.h"

/* Shown at most; the library keeps as many or fewer. */
#define TRANSFERS_MAX 64

/* Longer than this is no deadline any more; in milliseconds, an hour. */
#define DEADLINE_MAX_MS 3600000

void memsched_set_not_running(Error **errp)
{
    error_setg(errp, "No memory scheduler runs in this process; start QEMU "
               "with -object memsched,id=ID,pool=SIZE");
}

/* The caller unholds. */
MemSched *memsched_hold_running(Error **errp)
{
    MemSched *ms = memsched_hold();

    if (!ms) {
        memsched_set_not_running(errp);
    }
    return ms;
}

bool memsched_host_asks(const char *command, Error **errp)
{
    if (memsched_scope_guest()) {
        error_setg(errp, "%s concerns the whole host; use the monitor of "
                   "instance 0", command);
        return false;
    }
    return true;
}

/* The running scheduler, where the one who asks is the host's operator. */
static MemSched *running_for_host(const char *command, Error **errp)
{
    return memsched_host_asks(command, errp) ? memsched_hold_running(errp)
                                             : NULL;
}

/* The library's own sentence, or that of the errno where it wrote none. */
void memsched_set_error(Error **errp, int ret, const MemSchedMessage *message)
{
    if (message->text[0]) {
        error_setg(errp, "%s", message->text);
    } else {
        error_setg_errno(errp, -ret, "The memory scheduler refused");
    }
}

MemschedInfo *qmp_query_memsched(Error **errp)
{
    g_autoptr(MemSched) ms = running_for_host("query-memsched", errp);
    MemSchedInfo info;

    if (!ms) {
        return NULL;
    }
    memsched_query(ms, &info);
    return memsched_info_to_qapi(&info);
}

MemschedGuestList *qmp_query_memsched_guests(Error **errp)
{
    g_autoptr(MemSched) ms = memsched_hold();
    MemschedGuestList *guests = memsched_guest_list(ms,
                                                    memsched_scope_guest());

    /* Guests without a scheduler have states too. */
    if (!ms && !guests) {
        memsched_set_not_running(errp);
    }
    return guests;
}

/*
 * QAPI takes a negative number for a huge one.  Below 2^63 no rounding of the
 * library can overflow.
 */
bool memsched_check_size(const char *name, uint64_t size_bytes, Error **errp)
{
    if (size_bytes > INT64_MAX) {
        error_setg(errp, "Parameter '%s' must be from 0 to %" PRId64 " bytes",
                   name, INT64_MAX);
        return false;
    }
    return true;
}

static bool check_deadline(bool has_deadline, uint32_t deadline_ms,
                           Error **errp)
{
    if (has_deadline && (!deadline_ms || deadline_ms > DEADLINE_MAX_MS)) {
        error_setg(errp, "deadline is in milliseconds, from 1 to %d",
                   DEADLINE_MAX_MS);
        return false;
    }
    return true;
}

MemschedTransferId *qmp_memsched_reallocate(const char *from, const char *to,
                                            uint64_t size, bool has_source,
                                            MemschedSource source,
                                            bool has_deadline,
                                            uint32_t deadline,
                                            bool has_in_time, bool in_time,
                                            Error **errp)
{
    g_autoptr(MemSched) ms = running_for_host("memsched-reallocate", errp);
    MemSchedTransferOptions options = {
        .from = from,
        .to = to,
        .size_bytes = size,
        .source = has_source ? memsched_source_from_qapi(source)
                             : MEMSCHED_SOURCE_ANY,
        .deadline_ms = has_deadline ? deadline : 0,
        .in_time = has_in_time && in_time,
    };
    MemSchedMessage message = { "" };
    MemschedTransferId *started;
    uint64_t id;
    int ret;

    if (!ms || !memsched_check_size("size", size, errp) ||
        !check_deadline(has_deadline, deadline, errp)) {
        return NULL;
    }
    ret = memsched_reallocate(ms, &options, &id, &message);
    if (ret < 0) {
        memsched_set_error(errp, ret, &message);
        return NULL;
    }
    started = g_new0(MemschedTransferId, 1);
    started->id = id;
    return started;
}

MemschedTransferList *qmp_query_memsched_transfers(Error **errp)
{
    g_autofree MemSchedTransferInfo *infos = NULL;
    const char *viewer = memsched_scope_guest();
    g_autoptr(MemSched) ms = memsched_hold_running(errp);
    MemschedTransferList *list = NULL, **tail = &list;
    size_t count;

    if (!ms) {
        return NULL;
    }
    infos = g_new(MemSchedTransferInfo, TRANSFERS_MAX);
    count = MIN(memsched_query_transfers(ms, infos, TRANSFERS_MAX),
                TRANSFERS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!viewer || !strcmp(infos[i].from, viewer) ||
            !strcmp(infos[i].to, viewer)) {
            QAPI_LIST_APPEND(tail,
                             memsched_transfer_to_qapi(&infos[i], viewer));
        }
    }
    return list;
}

void qmp_memsched_set_guest(const char *id, bool has_min, uint64_t min,
                            bool has_max, uint64_t max, bool has_shares,
                            uint32_t shares, Error **errp)
{
    g_autoptr(MemSched) ms = running_for_host("memsched-set-guest", errp);
    MemSchedClientChange change = {
        .has_min = has_min, .min_bytes = min,
        .has_max = has_max, .max_bytes = max,
        .has_shares = has_shares, .shares = shares,
    };
    MemSchedMessage message = { "" };
    int ret;

    if (!ms) {
        return;
    }
    if (!has_min && !has_max && !has_shares) {
        error_setg(errp, "Nothing to change: give min, max or shares");
        return;
    }
    if (has_shares && !shares) {
        error_setg(errp, "shares must be at least 1");
        return;
    }
    if (!memsched_check_size("min", min, errp) ||
        !memsched_check_size("max", max, errp)) {
        return;
    }
    ret = memsched_client_set(ms, id, &change, &message);
    if (ret < 0) {
        memsched_set_error(errp, ret, &message);
    }
}

void qmp_memsched_set(bool has_policy, MemschedPolicy policy,
                      bool has_interval, uint32_t interval,
                      bool has_idle_tax, uint32_t idle_tax,
                      bool has_sample_interval, uint32_t sample_interval,
                      bool has_dry_run, bool dry_run, Error **errp)
{
    g_autoptr(MemSched) ms = running_for_host("memsched-set", errp);
    MemSchedChange change = {
        .has_policy = has_policy,
        .policy = has_policy ? memsched_policy_from_qapi(policy) : 0,
        .has_interval = has_interval, .interval_ms = interval,
        .has_idle_tax = has_idle_tax, .idle_tax_pct = idle_tax,
        .has_sample = has_sample_interval, .sample_ms = sample_interval,
        .has_dry_run = has_dry_run, .dry_run = dry_run,
    };
    MemSchedMessage message = { "" };
    int ret;

    if (!ms) {
        return;
    }
    if (!has_policy && !has_interval && !has_idle_tax &&
        !has_sample_interval && !has_dry_run) {
        error_setg(errp, "Nothing to change: give policy, interval, idle-tax, "
                   "sample-interval or dry-run");
        return;
    }
    ret = memsched_set(ms, &change, &message);
    if (ret < 0) {
        memsched_set_error(errp, ret, &message);
    }
}

/* Whose addresses are asked for; NULL and an error where that is refused. */
const char *memsched_whose(const char *id, Error **errp)
{
    const char *self = memsched_scope_guest();

    if (self && id && strcmp(id, self)) {
        error_setg(errp, "This monitor shows guest '%s' only", self);
        return NULL;
    }
    if (!self && !id) {
        error_setg(errp, "Parameter 'id' is missing");
    }
    return self ? self : id;
}

MemschedTranslation *qmp_memsched_translate(const char *id, uint64_t gpa,
                                            Error **errp)
{
    g_autoptr(MemSched) ms = memsched_hold_running(errp);
    MemSchedTranslation translation;
    MemSchedMessage message = { "" };
    const char *whose;
    int ret;

    if (!ms) {
        return NULL;
    }
    whose = memsched_whose(id, errp);
    if (!whose) {
        return NULL;
    }
    ret = memsched_translate(ms, whose, gpa, &translation, &message);
    if (ret < 0) {
        memsched_set_error(errp, ret, &message);
        return NULL;
    }
    return memsched_translation_to_qapi(&translation,
                                        !memsched_scope_guest());
}

/* In a thread of the pool: the scheduler is held no longer than this takes. */
static int check_in_thread(void *opaque)
{
    g_autoptr(MemSched) ms = memsched_hold();

    return ms ? memsched_check(ms, opaque) : -ENODEV;
}

MemschedCheck *coroutine_fn qmp_memsched_check(Error **errp)
{
    MemSchedMessage message = { "" };
    MemschedCheck *check;
    int ret;

    if (!memsched_host_asks("memsched-check", errp)) {
        return NULL;
    }
    ret = thread_pool_submit_co(check_in_thread, &message);
    if (ret == -ENODEV) {
        memsched_set_not_running(errp);
        return NULL;
    }
    if (ret < 0 && ret != -EUCLEAN) {
        memsched_set_error(errp, ret, &message);
        return NULL;
    }
    check = g_new0(MemschedCheck, 1);
    check->exact = ret == 0;
    check->message = ret == 0 ? NULL : g_strdup(message.text);
    return check;
}
