/*
 * Which guests a monitor shows, and the list of them.
 *
 * Owns nothing.  The launcher knows the guests of the process in the order of
 * their start, and what state each is in; the scheduler knows the memory of
 * those that it has admitted, and of an instance 0 that runs a machine of its
 * own.  In a guest's own monitor there is that guest alone.
 *
 * Threads: any; takes no BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/util.h"
#include "system/instance-local.h"
#include "memsched-internal.h"

/* More guests than a process can hold; the list is cut there. */
#define GUESTS_MAX 4096

const char *memsched_scope_guest(void)
{
    return instance_id();
}

static MemschedGuestState state_to_qapi(GuestState state)
{
    static const MemschedGuestState states[] = {
        [GUEST_LOADING] = QAPI_MEMSCHED_GUEST_STATE_LOADING,
        [GUEST_RUNNING] = QAPI_MEMSCHED_GUEST_STATE_RUNNING,
        [GUEST_STOPPING] = QAPI_MEMSCHED_GUEST_STATE_STOPPING,
        [GUEST_STOPPED] = QAPI_MEMSCHED_GUEST_STATE_STOPPED,
        [GUEST_FAILED] = QAPI_MEMSCHED_GUEST_STATE_FAILED,
    };

    return states[state];
}

/* NULL where the guest has gone meanwhile. */
static MemschedApplications *apps_of(MemSched *ms, const char *id)
{
    g_autofree MemSchedAppsInfo *info = g_new(MemSchedAppsInfo, 1);

    return memsched_query_apps(ms, id, info) < 0
        ? NULL : memsched_apps_to_qapi(info);
}

/* Either may be NULL: what the launcher says of it, and the scheduler. */
static MemschedGuest *guest_to_qapi(MemSched *ms, const GuestInfo *info,
                                    const MemSchedClientInfo *client)
{
    MemschedGuest *guest = g_new0(MemschedGuest, 1);

    guest->id = g_strdup(info ? info->id : client->id);
    guest->state = info ? state_to_qapi(info->state)
                        : QAPI_MEMSCHED_GUEST_STATE_RUNNING;
    if (info && info->message[0]) {
        guest->message = g_strdup(info->message);
    }
    if (client) {
        guest->memory = memsched_client_to_qapi(client);
        guest->applications = apps_of(ms, client->id);
    }
    return guest;
}

static size_t launcher_guests(GuestInfo *ret_infos)
{
    const LauncherOps *ops = instance_ops();

    return ops ? MIN(ops->guests(ret_infos, GUESTS_MAX), GUESTS_MAX) : 0;
}

static const MemSchedClientInfo *client_of(const MemSchedClientInfo *clients,
                                           size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(clients[i].id, id)) {
            return &clients[i];
        }
    }
    return NULL;
}

static bool is_known(const GuestInfo *infos, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(infos[i].id, id)) {
            return true;
        }
    }
    return false;
}

MemschedGuestList *memsched_guest_list(MemSched *ms, const char *viewer)
{
    g_autofree GuestInfo *infos = g_new(GuestInfo, GUESTS_MAX);
    g_autofree MemSchedClientInfo *clients =
        g_new(MemSchedClientInfo, GUESTS_MAX);
    size_t count = launcher_guests(infos);
    size_t client_count = ms ? MIN(memsched_query_clients(ms, clients,
                                                          GUESTS_MAX),
                                   GUESTS_MAX) : 0;
    MemschedGuestList *list = NULL, **tail = &list;

    /* A client that the launcher does not know is instance 0's machine. */
    for (size_t i = 0; i < client_count; i++) {
        if (!is_known(infos, count, clients[i].id) &&
            (!viewer || !strcmp(clients[i].id, viewer))) {
            QAPI_LIST_APPEND(tail, guest_to_qapi(ms, NULL, &clients[i]));
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!viewer || !strcmp(infos[i].id, viewer)) {
            const MemSchedClientInfo *client = client_of(clients, client_count,
                                                         infos[i].id);

            QAPI_LIST_APPEND(tail, guest_to_qapi(ms, &infos[i], client));
        }
    }
    return list;
}
