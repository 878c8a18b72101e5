/*
 * A guest that stalls is paused whole
 *
 * Owns the pause that the scheduler asks for when a touch of this guest waits
 * for memory that no rule grants: its vCPUs stand still, and so does its clock,
 * so that it sees no time pass, and no lock of it is held for long.
 *
 * It is not a state of the machine.  vm_stop() would wait in the main loop for
 * the very vCPU that sleeps in its touch, with monitor, balloon and everything
 * else of the guest.  That vCPU stands still anyhow.  So the others are told to
 * stop, and nobody waits for them; the run state stays "running", devices
 * finish what they were asked to do.
 *
 * Whoever really stops the machine (stop, reset, savevm, migration, quit) waits
 * for all vCPUs, in QEMU's own functions, and is right to; wrap-pause.c tells
 * the scheduler that somebody waits, and the touch is granted.  The pause and
 * such a stop do not know of each other:
 *
 *   - a machine that is stopped is left alone; who starts it starts all of it;
 *   - whenever vCPUs may have been started (cont, the end of a reset), a bottom
 *     half looks whether the pause still holds, and pauses again.
 *
 * Pausing what is paused, and resuming what runs, changes nothing.
 *
 * Threads: set_paused() the scheduler's, all else under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/cpu-timers.h"
#include "system/cpus.h"
#include "system/instance-local.h"
#include "system/runstate.h"
#include "trace/trace-system_memsched.h"
#include "guest-pause.h"

static struct {
    QEMUBH *bh;
    bool wanted;                /* by the scheduler; atomic */
    bool done;                  /* vCPUs were told; BQL */
} pause_state;

/* As vm_stop() does it, but for the wait. */
static void stand_still(void)
{
    CPUState *cpu;

    cpu_disable_ticks();
    qemu_clock_enable(QEMU_CLOCK_VIRTUAL, false);
    CPU_FOREACH(cpu) {
        cpu_pause(cpu);
    }
}

static void go_on(void)
{
    cpu_enable_ticks();
    resume_all_vcpus();
}

static void look(void *opaque)
{
    bool wanted = qatomic_load_acquire(&pause_state.wanted);

    if (!runstate_is_running()) {
        return;
    }
    if (wanted != pause_state.done) {
        trace_memsched_pause(wanted);
    }
    if (wanted) {
        stand_still();
    } else if (pause_state.done) {
        go_on();
    }
    pause_state.done = wanted;
}

static void set_paused(void *opaque, bool paused)
{
    qatomic_store_release(&pause_state.wanted, paused);
    qemu_bh_schedule(pause_state.bh);
}

static void run_state_changed(void *opaque, bool running, RunState state)
{
    /* Who starts the machine resumes its vCPUs right after this. */
    guest_pause_check();
}

void guest_pause_check(void)
{
    if (pause_state.bh) {
        qemu_bh_schedule(pause_state.bh);
    }
}

void guest_pause_init(MemSchedClient *client)
{
    static const MemSchedMachineOps ops = { .set_paused = set_paused };

    pause_state.bh = qemu_bh_new(look, NULL);
    qemu_add_vm_change_state_handler(run_state_changed, NULL);
    memsched_client_set_machine(client, &ops, NULL);
}
