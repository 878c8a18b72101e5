/*
 * Guest RAM that somebody outside the guest may touch without a fault.
 *
 * Between address_space_map() and _unmap() a device hands host addresses of
 * guest RAM to the kernel; the fence of libmemsched keeps the frames there.
 * It is raised after the address is known and before anybody uses it.  What
 * is outside the scheduled RAM (bounce buffers, ROM) libmemsched ignores.
 *
 * ram_block_discard_disable() says that a frame may not leave at all, since
 * somebody has it mapped for good: VFIO, vhost, RDMA.  So no page is captured.
 *
 * Threads: any; no state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/memory.h"
#include "exec/cpu-common.h"
#include "wrap.h"

WRAP(void *, address_space_map, (AddressSpace *as, hwaddr addr, hwaddr *plen,
                                 bool is_write, MemTxAttrs attrs))
{
    void *host = __real_address_space_map(as, addr, plen, is_write, attrs);

    if (host && memsched_instance_client()) {
        memsched_dma_begin(host, *plen);
    }
    return host;
}

WRAP(void, address_space_unmap, (AddressSpace *as, void *host, hwaddr len,
                                 bool is_write, hwaddr access_len))
{
    __real_address_space_unmap(as, host, len, is_write, access_len);
    if (memsched_instance_client()) {
        memsched_dma_end(host, len);
    }
}

WRAP(void *, cpu_physical_memory_map, (hwaddr addr, hwaddr *plen,
                                       bool is_write))
{
    void *host = __real_cpu_physical_memory_map(addr, plen, is_write);

    if (host && memsched_instance_client()) {
        memsched_dma_begin(host, *plen);
    }
    return host;
}

WRAP(void, cpu_physical_memory_unmap, (void *host, hwaddr len, bool is_write,
                                       hwaddr access_len))
{
    __real_cpu_physical_memory_unmap(host, len, is_write, access_len);
    if (memsched_instance_client()) {
        memsched_dma_end(host, len);
    }
}

WRAP(int, ram_block_discard_disable, (bool state))
{
    int ret = __real_ram_block_discard_disable(state);

    if (!ret && memsched_instance_client()) {
        memsched_client_inhibit(memsched_instance_client(), state);
    }
    return ret;
}
