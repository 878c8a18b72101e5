/*
 * What belongs to the process as a whole.
 *
 * A guest may not change the process's identity, root, foreground or locks:
 * each function with which QEMU would do so is refused here, where it takes
 * effect, so that every spelling of an option is caught, a configuration
 * file's too.  The refusal ends the guest that asked, and nobody else.
 *
 * fork() waits until no instance is being loaded.  The buffer for generated
 * code gets a modest size where none is asked for: upstream's default is
 * made for one guest a process.
 *
 * Threads: any; no state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "wrap.h"

/* A booted Debian guest has generated about 40 MiB. */
#define GUEST_TB_SIZE (128 * MiB)

static bool refuse(const char *what)
{
    if (!instance_guest()) {
        return false;
    }
    error_report("%s concerns the whole process; give it to qemu-system-x86_64 "
                 "itself, not to guest '%s'", what, instance_id());
    return true;
}

static void G_NORETURN end_refused(void)
{
    exit(EXIT_FAILURE);
}

WRAP(int, os_set_daemonize, (bool on))
{
    if (on && refuse("-daemonize")) {
        end_refused();
    }
    return __real_os_set_daemonize(on);
}

WRAP(bool, os_set_runas, (const char *user))
{
    if (refuse("-runas, and user= of -run-with,")) {
        end_refused();
    }
    return __real_os_set_runas(user);
}

WRAP(void, os_set_chroot, (const char *path))
{
    if (refuse("-chroot, and chroot= of -run-with,")) {
        end_refused();
    }
    __real_os_set_chroot(path);
}

WRAP(void, init_async_teardown, (void))
{
    if (refuse("async-teardown=on of -run-with")) {
        end_refused();
    }
    __real_init_async_teardown();
}

WRAP(int, os_mlock, (bool on_fault))
{
    if (refuse("mem-lock of -overcommit")) {
        end_refused();
    }
    if (!on_fault && memsched_running()) {
        error_report("mem-lock=on of -overcommit would pin the memory that "
                     "-object memsched moves; use mem-lock=on-fault");
        return -EINVAL;
    }
    return __real_os_mlock(on_fault);
}

/* It names the thread, and here a thread is a guest. */
WRAP(void, os_set_proc_name, (const char *name))
{
    if (refuse("process= of -name")) {
        end_refused();
    }
    __real_os_set_proc_name(name);
}

WRAP(pid_t, fork, (void))
{
    const LauncherOps *ops = instance_ops();
    pid_t child;

    if (!ops) {
        return __real_fork();
    }
    ops->fork_begin();
    child = __real_fork();
    ops->fork_end();
    return child;
}

WRAP(void, tcg_init, (size_t tb_size, int splitwx, unsigned max_cpus))
{
    if (!tb_size && instance_guest()) {
        tb_size = GUEST_TB_SIZE;
    }
    __real_tcg_init(tb_size, splitwx, max_cpus);
}
