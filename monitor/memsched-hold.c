/*
 * The scheduler stays while a command uses it.
 *
 * Owns a count.  Commands run out of band and in threads of the pool, while
 * object-del may end the scheduler on the main thread.  A command holds the
 * scheduler as long as it uses it; memsched_hold_end() forbids new holds and
 * waits for those that there are.
 *
 * A hold lasts for one call of the library, or a few; nobody holds the
 * scheduler while waiting for the main loop, or ending would wait for ever.
 *
 * Only instance 0 ends the scheduler, and only when no guest has memory of
 * it, so the count of each copy of the emulator is its own.
 *
 * Threads: any.  Lock: hold.lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "memsched-internal.h"

static struct {
    QemuMutex lock;
    QemuCond nobody;            /* users has become 0 */
    unsigned users;
    bool ending;
} hold;

static void __attribute__((constructor)) hold_init(void)
{
    qemu_mutex_init(&hold.lock);
    qemu_cond_init(&hold.nobody);
}

MemSched *memsched_hold(void)
{
    MemSched *ms;

    QEMU_LOCK_GUARD(&hold.lock);
    ms = hold.ending ? NULL : memsched_running();
    if (ms) {
        hold.users++;
    }
    return ms;
}

void memsched_unhold(MemSched *ms)
{
    QEMU_LOCK_GUARD(&hold.lock);
    if (--hold.users == 0) {
        qemu_cond_signal(&hold.nobody);
    }
}

void memsched_hold_end(void)
{
    QEMU_LOCK_GUARD(&hold.lock);
    hold.ending = true;
    while (hold.users) {
        qemu_cond_wait(&hold.nobody, &hold.lock);
    }
}

void memsched_hold_allow(void)
{
    QEMU_LOCK_GUARD(&hold.lock);
    hold.ending = false;
}
