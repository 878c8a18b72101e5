/*
 * Which guests a monitor shows, and the list of them.
 *
 * Owns nothing.  The scheduler knows the guests whose memory it manages, in
 * the order in which they were admitted.
 *
 * Threads: any; takes no BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/util.h"
#include "memsched-internal.h"

/* More guests than a process can hold; the list is cut there. */
#define GUESTS_MAX 4096

const char *memsched_scope_guest(void)
{
    return NULL;
}

static MemschedGuest *guest_of_client(const MemSchedClientInfo *client)
{
    MemschedGuest *guest = g_new0(MemschedGuest, 1);

    guest->id = g_strdup(client->id);
    guest->state = QAPI_MEMSCHED_GUEST_STATE_RUNNING;
    guest->memory = memsched_client_to_qapi(client);
    return guest;
}

MemschedGuestList *memsched_guest_list(MemSched *ms, const char *viewer)
{
    g_autofree MemSchedClientInfo *clients = NULL;
    MemschedGuestList *list = NULL, **tail = &list;
    size_t count;

    if (!ms) {
        return NULL;
    }
    clients = g_new(MemSchedClientInfo, GUESTS_MAX);
    count = MIN(memsched_query_clients(ms, clients, GUESTS_MAX), GUESTS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!viewer || !strcmp(clients[i].id, viewer)) {
            QAPI_LIST_APPEND(tail, guest_of_client(&clients[i]));
        }
    }
    return list;
}
