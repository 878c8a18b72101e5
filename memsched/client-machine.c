/*
 * The machine behind a guest
 *
 * Owns the way to whoever stops and starts the guest's vCPUs.  It is not the
 * balloon's: a guest without a balloon stalls as well.
 *
 * A machine that has to wait for a vCPU (to stop it, to reset it) may find it
 * asleep in a touch that the grant rule refuses, and waits then in a thread
 * that the guest's balloon, monitor and everything else needs.  It says so, and
 * touches may use the give-allowance for that time, as those of a thread that
 * is not a vCPU's always may, and for the same reason.
 *
 * Locks: client->lock, a leaf; none is held in a call of the machine.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "fault.h"
#include "instance.h"

void memsched_client_set_machine(MemSchedClient *client,
                                 const MemSchedMachineOps *ops, void *opaque)
{
    ms_lock(&client->lock);
    client->machine = ops ? *ops : (MemSchedMachineOps) { 0 };
    client->machine_opaque = ops ? opaque : NULL;
    while (client->machine_calls > 0) {
        ms_cond_wait(&client->cond, &client->lock);
    }
    ms_unlock(&client->lock);
}

void ms_client_set_paused(MemSchedClient *client, bool paused)
{
    MemSchedMachineOps ops;
    void *opaque;

    ms_lock(&client->lock);
    ops = client->machine;
    opaque = client->machine_opaque;
    client->machine_calls++;
    ms_unlock(&client->lock);
    if (ops.set_paused) {
        ops.set_paused(opaque, paused);
    }
    ms_lock(&client->lock);
    if (--client->machine_calls == 0) {
        ms_cond_broadcast(&client->cond);
    }
    ms_unlock(&client->lock);
}

void memsched_client_awaited(MemSchedClient *client, bool begin)
{
    if (begin) {
        atomic_fetch_add(&client->awaited, 1);
        /* Who begins to wait from now on sees that for himself. */
        if (atomic_load(&client->waiting_since_ns) != 0) {
            ms_faults_retry(client->ms->faults);
        }
    } else {
        atomic_fetch_sub(&client->awaited, 1);
    }
}
