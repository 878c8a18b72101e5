/*
 * Entry of one instance: a complete QEMU inside a shared object.
 *
 * Owns the order of the instance's life.  qemu_instance_main() is the only
 * symbol that the shared object exports; it stands where main() stands in
 * upstream's system/main.c, and the thread that calls it becomes the
 * instance's main-loop thread.  It is called once in each copy of the object.
 *
 * Instance 0 returns the status that upstream would give to exit().  A guest
 * does not return: wherever and however it ends, it ends in instance_exit();
 * hook_stop() and hook_give_back(), which the launcher then calls on a thread
 * of its own, stop what still runs and return what the copy has of the process.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "chardev/char.h"
#include "hw/core/cpu.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "system/runstate.h"
#include "system/system.h"
#include "system/instance-entry.h"
#include "system/memory-error.h"
#include "wrap.h"

/* A thread in a system call that nothing interrupts would take longer. */
#define END_MS 10000
/* Between two reminders of threads that may have missed the first. */
#define REMIND_MS 20

/* Threads that wait for memory get some, so that they can be stopped. */
static void ending(void)
{
    memsched_client_ending(memsched_instance_client());
}

static void hook_quit(int signal_number)
{
    ending();
    qemu_system_killed(signal_number, getpid());
}

/* Where no guest's code runs, nobody would see the button. */
static void hook_power_down(void)
{
    if (runstate_is_running()) {
        qemu_system_powerdown_request();
    } else {
        hook_quit(SIGTERM);
    }
}

/* Out of guest code, and out of the loop that would enter it again. */
static void stop_vcpus(void)
{
    CPUState *cpu;

    RCU_READ_LOCK_GUARD();
    CPU_FOREACH(cpu) {
        cpu->unplug = true;
        cpu->stop = true;
        if (cpu->created) {
            qemu_cpu_kick(cpu);
        }
    }
}

static int hook_stop(void)
{
    int left;

    ending();
    instance_threads_end();
    for (int waited = 0; ; waited += REMIND_MS) {
        stop_vcpus();
        left = instance_threads_wait(REMIND_MS);
        if (!left || waited >= END_MS) {
            break;
        }
    }
    return left;
}

static void hook_give_back(void)
{
    instance_threads_join();
    memsched_ram_release();
    instance_resources_release();
    instance_heap_release();
    /* Last: whatever of GLib runs here may ask for one. */
    instance_keys_release();
}

static const InstanceHooks hooks = {
    .power_down = hook_power_down,
    .quit = hook_quit,
    .memory_lost = memory_error_lost,
    .stop = hook_stop,
    .give_back = hook_give_back,
};

static void refuse_stdio(Chardev *chr, ChardevBackend *backend,
                         bool *be_opened, Error **errp)
{
    error_setg(errp, "guest '%s' has no standard input and output; use a "
               "socket or a file for '%s'", instance_id(), chr->label);
}

/* Standard input and output are the process's. */
static void refuse_in_guest(void)
{
    ObjectClass *class;

    module_call_init(MODULE_INIT_QOM);
    class = object_class_by_name(TYPE_CHARDEV_STDIO);
    CHARDEV_CLASS(class)->open = refuse_stdio;
}

static void run_guest(const LauncherContext *context, int argc, char **argv)
{
    int status;

    context->ops->set_hooks(context->guest, &hooks);
    instance_messages_init();
    refuse_in_guest();
    qemu_init(argc, argv);
    context->ops->set_state(context->guest, GUEST_RUNNING);
    status = qemu_main_loop();
    context->ops->set_state(context->guest, GUEST_STOPPING);
    ending();
    qemu_cleanup(status);
    instance_exit(status, false);
}

static int run_first(const LauncherContext *context, int argc, char **argv)
{
    int status;

    context->ops->set_hooks(NULL, &hooks);
    /* Returns with the BQL and the replay lock held, as the loop needs them. */
    qemu_init(argc, argv);
    guest_objects_start();
    status = qemu_main_loop();
    context->ops->end_all();
    ending();
    qemu_cleanup(status);
    return status;
}

int qemu_instance_main(const LauncherContext *context, int argc, char **argv)
{
    instance_context = context;
    if (!context->guest) {
        return run_first(context, argc, argv);
    }
    pthread_cleanup_push(instance_thread_leave, NULL);
    instance_thread_enter();
    run_guest(context, argc, argv);
    pthread_cleanup_pop(1);
    return 0;
}
