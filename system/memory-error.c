/*
 * Errors in this instance's RAM that cannot be repaired.
 *
 * libmemsched has put zeros where the lost page was; who is about to read them
 * must not take them for the guest's data.
 *
 *   a vCPU that has not finished its access: is stopped before it can, gets a
 *     machine check (action required) from the main loop, and makes the access
 *     again when its guest's handler returns there;
 *   nobody yet (the error was found by a system call that then failed, or told
 *     early): a machine check (action optional) to the first vCPU;
 *   anybody else, who goes on with the zeros: a device, a vCPU inside the code
 *     of a device.  The guest is stopped in state internal-error, as where the
 *     CPU has no machine checks.
 *
 * A guest whose kernel has not enabled machine checks is reset, as hardware
 * would be.  Other guests of the process notice nothing.
 *
 * Owns a table of reports.  A slot goes FREE, TAKEN, READY, FREE: whoever meets
 * an error fills one, in a signal handler, and schedules the bottom half, which
 * is done by atomics alone; the bottom half empties the table.  Where there is
 * no free slot, the guest stops.
 *
 * Threads: memory_error_lost() any, and signal handlers; the rest under the
 * BQL, on the main loop.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "block/aio.h"
#include "cpu.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/core/cpu.h"
#include "qapi/qapi-events-run-state.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "system/instance-local.h"
#include "system/hw_accel.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "system/memory-error.h"

/* More than the threads that can meet an error before the main loop runs. */
#define REPORTS 64

enum { FREE, TAKEN, READY };

typedef enum Kind {
    UNTOUCHED,
    CLEAN,                      /* by a vCPU, which is held */
    CONSUMED,
} Kind;

typedef struct Report {
    int state;                  /* atomic */
    Kind kind;
    void *host;
    CPUState *cpu;              /* if CLEAN */
} Report;

static struct {
    QEMUBH *bh;
    bool overflow;              /* atomic */
    Report reports[REPORTS];
} errors;

static void report(void *host, Kind kind, CPUState *cpu)
{
    for (unsigned i = 0; i < REPORTS; i++) {
        Report *r = &errors.reports[i];

        if (qatomic_cmpxchg(&r->state, FREE, TAKEN) == FREE) {
            r->kind = kind;
            r->host = host;
            r->cpu = cpu;
            qatomic_store_release(&r->state, READY);
            qemu_bh_schedule(errors.bh);
            return;
        }
    }
    qatomic_set(&errors.overflow, true);
    qemu_bh_schedule(errors.bh);
}

/*
 * The access has left no trace but in the vCPU itself, which can make it
 * again.  A device works under the BQL, or in an RCU section of its own.
 */
static bool can_repeat(CPUState *cpu, void *context)
{
    return cpu && !bql_locked() && get_ptr_rcu_reader()->depth <= 1 &&
        (!tcg_enabled() || memory_error_rewind(context));
}

void memory_error_lost(void *host, void *context)
{
    CPUState *cpu = context ? current_cpu : NULL;

    if (!context) {
        report(host, UNTOUCHED, NULL);
    } else if (can_repeat(cpu, context)) {
        /* It runs no further than to its loop, where it waits. */
        qatomic_set(&cpu->stop, true);
        cpu_exit(cpu);
        report(host, CLEAN, cpu);
        if (tcg_enabled()) {
            memory_error_leave();
        } else if (kvm_enabled()) {
            cpu->kvm_run->immediate_exit = 1;
        }
    } else {
        report(host, CONSUMED, NULL);
    }
}

void memory_error_lost_of(const char *id, void *host)
{
    if (strcmp(id, MEMSCHED_MAIN_ID)) {
        instance_ops()->memory_lost(id, host);
    } else {
        memory_error_lost(host, NULL);
    }
}

/* ---- on the main loop ---- */

typedef struct Place {
    const MemoryRegion *mr;
    hwaddr offset;
    hwaddr gpa;
    bool found;
} Place;

static bool match_range(Int128 start, Int128 length, const MemoryRegion *mr,
                        hwaddr offset_in_region, void *opaque)
{
    Place *place = opaque;

    if (mr == place->mr && place->offset >= offset_in_region &&
        place->offset - offset_in_region < int128_get64(length)) {
        place->gpa = int128_get64(start) + place->offset - offset_in_region;
        place->found = true;
    }
    return place->found;
}

/* True and the address at which the guest has it. */
static bool find_gpa(void *host, hwaddr *ret_gpa)
{
    Place place = { };
    ram_addr_t offset;
    RAMBlock *block;

    RCU_READ_LOCK_GUARD();
    block = qemu_ram_block_from_host(host, false, &offset);
    if (!block) {
        return false;
    }
    place.mr = block->mr;
    place.offset = offset & TARGET_PAGE_MASK;
    flatview_for_each_range(address_space_to_flatview(&address_space_memory),
                            match_range, &place);
    *ret_gpa = place.gpa;
    return place.found;
}

static void stop_guest(void *host)
{
    MemoryFailureFlags flags = { .action_required = true };

    error_report("an uncorrectable memory error at host address %p has taken "
                 "data that was in use; the guest is stopped", host);
    qapi_event_send_memory_failure(MEMORY_FAILURE_RECIPIENT_GUEST,
                                   MEMORY_FAILURE_ACTION_FATAL, &flags);
    vm_stop(RUN_STATE_INTERNAL_ERROR);
}

/* As a CPU of this vendor tells it; bank and codes are those of KVM guests. */
static void machine_check(CPUState *cs, hwaddr gpa, bool required)
{
    X86CPU *cpu = X86_CPU(cs);
    CPUX86State *env = &cpu->env;
    uint64_t status = MCI_STATUS_VAL | MCI_STATUS_EN | MCI_STATUS_MISCV |
                      MCI_STATUS_ADDRV;
    uint64_t mcg_status = MCG_STATUS_MCIP | MCG_STATUS_RIPV;
    int flags;

    if (IS_AMD_CPU(env)) {
        status |= MCI_STATUS_POISON;
        status |= required ? MCI_STATUS_UC : MCI_STATUS_DEFERRED;
    } else {
        status |= MCI_STATUS_S | MCI_STATUS_UC;
        status |= required ? MCI_STATUS_AR | 0x134 : 0xc0;
    }
    if (required) {
        mcg_status |= MCG_STATUS_EIPV;
    }
    cpu_synchronize_state(cs);
    flags = cpu_x86_support_mca_broadcast(env) ? MCE_INJECT_BROADCAST : 0;
    if (env->mcg_ext_ctl & MCG_EXT_CTL_LMCE_EN) {
        mcg_status |= MCG_STATUS_LMCE;
        flags = 0;
    }
    cpu_x86_inject_mce(NULL, cpu, 9, status, mcg_status, gpa,
                       (MCM_ADDR_PHYS << 6) | 0xc, flags);
}

static bool is_there(CPUState *wanted)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (cpu == wanted) {
            return true;
        }
    }
    return false;
}

static void answer(const Report *r)
{
    CPUState *cpu = r->kind == CLEAN ? r->cpu : first_cpu;
    hwaddr gpa;

    if (r->kind == CONSUMED || !cpu || !is_there(cpu) ||
        !(X86_CPU(cpu)->env.mcg_cap & MCG_SER_P) || !find_gpa(r->host, &gpa)) {
        stop_guest(r->host);
        return;
    }
    error_report("an uncorrectable memory error has taken the page at guest "
                 "address 0x%" HWADDR_PRIx "; the guest gets a machine check",
                 gpa);
    machine_check(cpu, gpa, r->kind == CLEAN);
    if (r->kind == CLEAN && runstate_is_running()) {
        cpu_resume(cpu);
    }
}

/*
 * Somebody has met the page since, and is told of it: one machine check is
 * enough, and a second before the first has ended would reset the guest.
 */
static bool is_superseded(const Report *untouched)
{
    for (unsigned i = 0; i < REPORTS; i++) {
        const Report *r = &errors.reports[i];

        if (qatomic_load_acquire(&r->state) == READY &&
            r->kind != UNTOUCHED &&
            (((uintptr_t)r->host ^ (uintptr_t)untouched->host) &
             TARGET_PAGE_MASK) == 0) {
            return true;
        }
    }
    return false;
}

static void answer_all(void *opaque)
{
    if (qatomic_xchg(&errors.overflow, false)) {
        stop_guest(NULL);
    }
    for (unsigned i = 0; i < REPORTS; i++) {
        Report *r = &errors.reports[i];

        if (qatomic_load_acquire(&r->state) == READY) {
            Report taken = *r;

            qatomic_store_release(&r->state, FREE);
            if (taken.kind != UNTOUCHED || !is_superseded(&taken)) {
                answer(&taken);
            }
        }
    }
}

void memory_error_init(void)
{
    if (!errors.bh) {
        errors.bh = aio_bh_new(qemu_get_aio_context(), answer_all, NULL);
    }
}
