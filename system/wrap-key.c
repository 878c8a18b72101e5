/*
 * The keys of a copy: thread-specific data of libc.
 *
 * A process has PTHREAD_KEYS_MAX (1,024) of them, and GLib, of which each copy
 * has its own, never gives one back: a process that starts guests and ends
 * them all day would come to the day's last.  So a copy that has ended deletes
 * those that it still has.  Whoever gets the number next starts with nothing:
 * libc counts generations of a key.
 *
 * While a copy is loaded nobody knows whose it is, so what its constructors
 * create is noted in instance 0 too, which never gives it back.
 *
 * Threads: any; the table is made of atomics.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "wrap.h"

static bool mine[PTHREAD_KEYS_MAX];     /* atomic */

WRAP(int, pthread_key_create, (pthread_key_t *ret_key,
                               void (*destructor)(void *)))
{
    int ret = __real_pthread_key_create(ret_key, destructor);

    if (!ret && *ret_key < PTHREAD_KEYS_MAX &&
        (!instance_context || instance_guest())) {
        qatomic_set(&mine[*ret_key], true);
    }
    return ret;
}

WRAP(int, pthread_key_delete, (pthread_key_t key))
{
    /* Before: the number may be another's right after. */
    if (key < PTHREAD_KEYS_MAX) {
        qatomic_set(&mine[key], false);
    }
    return __real_pthread_key_delete(key);
}

void instance_keys_release(void)
{
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
        if (qatomic_read(&mine[key])) {
            __real_pthread_key_delete(key);
        }
    }
}
