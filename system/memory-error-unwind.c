/*
 * Out of an access to guest RAM that cannot be finished, under TCG.
 *
 * Generated code is left where its access was interrupted, as by a page fault
 * of the guest: the vCPU's state is restored to the beginning of that
 * instruction, which is executed again later.  A page fault knows the place
 * from the helper that it is in; a signal does not.  So the stack is walked up
 * to the first return address in generated code.  Between there and the access
 * are only functions that a page fault leaves in the same way, since the caller
 * has seen to it that no lock of the emulator and no RCU section is held.
 *
 * Two cases without state to restore: the look-up of the next block, which
 * generated code calls when its last instruction is done; and the fetch of
 * instructions, which no generated code has called.
 *
 * Signal context.  It is like a call of a helper: generated code and the
 * functions in question hold no lock, so what a helper may do may be done here.
 * The walk reads the tables that the compiler has written for each function,
 * found without a lock by the loader (_dl_find_object()).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <ucontext.h>
#include <unwind.h>
#include "cpu.h"
#include "exec/cpu-common.h"
#include "exec/helper-proto-common.h"
#include "hw/core/cpu.h"
#include "tcg/tcg.h"
#include "system/memory-error.h"

/* As upstream's: the look-up of an address steps back by so much. */
#define LOOKUP_ADJUST 2

typedef struct Walk {
    uintptr_t callee;           /* the function called from there */
    uintptr_t pc;               /* in generated code; 0: none found */
} Walk;

static bool is_generated(uintptr_t pc)
{
    return in_code_gen_buffer((const void *)(pc - tcg_splitwx_diff));
}

static _Unwind_Reason_Code look(struct _Unwind_Context *frame, void *opaque)
{
    Walk *walk = opaque;
    uintptr_t pc = _Unwind_GetIP(frame);

    if (is_generated(pc)) {
        walk->pc = pc;
        return _URC_END_OF_STACK;
    }
    walk->callee = _Unwind_GetRegionStart(frame);
    return _URC_NO_REASON;
}

bool memory_error_rewind(void *context)
{
    ucontext_t *interrupted = context;
    uintptr_t pc = interrupted->uc_mcontext.gregs[REG_RIP];
    Walk walk = { };

    if (is_generated(pc)) {
        walk.pc = pc + LOOKUP_ADJUST;
    } else {
        _Unwind_Backtrace(look, &walk);
    }
    return !walk.pc || walk.callee == (uintptr_t)helper_lookup_tb_ptr ||
        cpu_restore_state(current_cpu, walk.pc);
}

void memory_error_leave(void)
{
    sigset_t set;

    /* Else the thread could never again be told of an error. */
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    cpu_loop_exit(current_cpu);
}
