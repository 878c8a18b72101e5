/*
 * The system calls of the reservoir
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "sys.h"

#include <errno.h>
#include <sys/mman.h>

static int sys_map(size_t bytes, void **ret_address)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (address == MAP_FAILED) {
        return -errno;
    }
    *ret_address = address;
    return 0;
}

static int sys_unmap(void *address, size_t bytes)
{
    return munmap(address, bytes) < 0 ? -errno : 0;
}

static int sys_advise(void *address, size_t bytes, int advice)
{
    return madvise(address, bytes, advice) < 0 ? -errno : 0;
}

static int sys_lock(void *address, size_t bytes)
{
    return mlock2(address, bytes, MLOCK_ONFAULT) < 0 ? -errno : 0;
}

const BxSys bx_sys = {
    .map = sys_map,
    .unmap = sys_unmap,
    .advise = sys_advise,
    .lock = sys_lock,
};
