/*
 * Whoever waits for vCPUs, while one of them may sleep in a touch.
 *
 * A vCPU that touched memory which no rule grants stops when it gets its page,
 * and not before.  These functions wait for it in a thread that the whole guest
 * needs, so for as long as they run a touch may use the guest's give-allowance.
 * A guest whose allowance is used up waits here until there is memory: its own
 * monitor does not answer then, instance 0's does.
 *
 * Threads: any.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include "guest-pause.h"
#include "wrap.h"

static void waiting(bool begin)
{
    MemSchedClient *client = memsched_instance_client();

    if (client) {
        memsched_client_awaited(client, begin);
    }
}

WRAP(int, vm_stop, (RunState state))
{
    int ret;

    waiting(true);
    ret = __real_vm_stop(state);
    waiting(false);
    return ret;
}

WRAP(int, vm_stop_force_state, (RunState state))
{
    int ret;

    waiting(true);
    ret = __real_vm_stop_force_state(state);
    waiting(false);
    return ret;
}

WRAP(void, pause_all_vcpus, (void))
{
    waiting(true);
    __real_pause_all_vcpus();
    waiting(false);
    /* Who calls it resumes all of them, without a change of state. */
    guest_pause_check();
}

WRAP(void, do_run_on_cpu, (CPUState *cpu, run_on_cpu_func func,
                           run_on_cpu_data data, QemuMutex *mutex))
{
    waiting(true);
    __real_do_run_on_cpu(cpu, func, data, mutex);
    waiting(false);
}
