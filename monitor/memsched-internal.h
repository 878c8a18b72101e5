/*
 * What the files of the scheduler's control plane share.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MONITOR_MEMSCHED_INTERNAL_H
#define MONITOR_MEMSCHED_INTERNAL_H

#include "memsched/memsched.h"
#include "qapi/qapi-types-memsched.h"

/* qmp-memsched.c: no scheduler runs in this process. */
void memsched_set_not_running(Error **errp);

/*
 * qmp-memsched.c: the guest that a command with this @id is about: a guest's
 * own monitor knows one only, and may leave it out.  NULL and an error where
 * that is refused.
 */
const char *memsched_whose(const char *id, Error **errp);

/* memsched-convert.c: libmemsched's types to QAPI's; the caller frees. */
MemschedPolicy memsched_policy_to_qapi(MemSchedPolicy policy);
MemSchedPolicy memsched_policy_from_qapi(MemschedPolicy policy);
MemschedCondition memsched_condition_to_qapi(MemSchedCondition condition);
MemSchedSource memsched_source_from_qapi(MemschedSource source);
MemschedInfo *memsched_info_to_qapi(const MemSchedInfo *from);
MemschedGuestMemory *memsched_client_to_qapi(const MemSchedClientInfo *from);

/* memsched-apps.c: the same */
MemschedApplications *memsched_apps_to_qapi(const MemSchedAppsInfo *from);
bool memsched_tags_are_zero(const MemSchedTagCounters *tags);
MemschedTags *memsched_tags_to_qapi(const MemSchedTagCounters *from);

/* @host: with the figures of the pool. */
MemschedDecision *memsched_decision_to_qapi(const MemSchedDecision *from,
                                            bool host);

/* @viewer: the guest in whose monitor it is shown, or NULL for the host. */
MemschedTransfer *memsched_transfer_to_qapi(const MemSchedTransferInfo *from,
                                            const char *viewer);

/* @host_view: show addresses and page numbers of the host. */
MemschedTranslation *
memsched_translation_to_qapi(const MemSchedTranslation *from, bool host_view);

/* memsched-trace.c: MemSchedObserver.trace. */
void memsched_trace(void *opaque, MemSchedTracePoint point, const char *id,
                    uint64_t a, uint64_t b);

/*
 * memsched-hold.c: the running scheduler or NULL; it does not end before
 * memsched_unhold(), which g_autoptr(MemSched) calls.
 */
MemSched *memsched_hold(void);
void memsched_unhold(MemSched *ms);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MemSched, memsched_unhold)

/* The scheduler is about to end: wait for all holds, and forbid new ones. */
void memsched_hold_end(void);
/* It has ended, or did not want to. */
void memsched_hold_allow(void);

/* qmp-memsched.c: what the commands of all files check and say. */
bool memsched_host_asks(const char *command, Error **errp);
MemSched *memsched_hold_running(Error **errp);
bool memsched_check_size(const char *name, uint64_t size_bytes, Error **errp);
void memsched_set_error(Error **errp, int ret, const MemSchedMessage *message);

/*
 * memsched-guests.c: the guest whose monitor this instance's is, or NULL in
 * instance 0, which sees all.
 */
const char *memsched_scope_guest(void);

/*
 * All guests, or @viewer alone where it is not NULL; @ms may be NULL.  The
 * caller frees.
 */
MemschedGuestList *memsched_guest_list(MemSched *ms, const char *viewer);

#endif
