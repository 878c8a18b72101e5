/*
 * Fresh memory for the reservoir: locked, faulted in, huge where it can be
 *
 * The order of the steps is what matters here.
 *
 * 1. Map, aligned to a granule, and say what the memory is: not for children
 *    (after fork() the host could not move its pages), not for core dumps
 *    (which would read every page back from the host), not for same-page
 *    merging (which reads pages as well).
 * 2. Lock, on fault.  A limit shows here, before any memory was touched.
 * 3. Fault in, with huge pages where they are wanted.  A guest whose memory is
 *    fragmented gets small pages all the same; collapsing is the kernel's
 *    chance to make room for a huge one.
 * 4. Never huge from now on.  Nothing may collapse these pages later: the host
 *    will have taken them, and khugepaged would read all 512 back.  This does
 *    not split what is huge.
 *
 * The caller writes its tags only after that.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "granule.h"

#include <errno.h>
#include <sys/mman.h>

#include "standard-headers/linux/virtio_balloon_ex.h"

/* Of Linux 5.14 and 6.1; the C library's headers may be older. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static int map_aligned(const BxSys *sys, uint64_t bytes, uint64_t align,
                       char **ret_address)
{
    uint64_t slack = align > VBX_PAGE_BYTES ? align - VBX_PAGE_BYTES : 0;
    uint64_t before;
    void *map;
    int rc;

    /* No memory is touched: what fails here is a limit on address space. */
    rc = sys->map(bytes + slack, &map);
    if (rc < 0) {
        return -EDQUOT;
    }
    before = -(uintptr_t)map & (align - 1);
    if (before) {
        sys->unmap(map, before);
    }
    if (slack > before) {
        sys->unmap((char *)map + before + bytes, slack - before);
    }
    *ret_address = (char *)map + before;
    return 0;
}

static int fault_in(const BxSys *sys, char *address, uint64_t bytes)
{
    int rc;

    do {
        rc = sys->advise(address, bytes, MADV_POPULATE_WRITE);
    } while (rc == -EAGAIN || rc == -EINTR);
    if (rc == -EINVAL) {
        /* The kernel is older than 5.14. */
        for (uint64_t at = 0; at < bytes; at += VBX_PAGE_BYTES) {
            __atomic_store_n(address + at, 0, __ATOMIC_RELAXED);
        }
        return 0;
    }
    return rc < 0 ? -ENOMEM : 0;
}

/* Returns how many bytes are huge; older kernels (before 6.1) do not tell. */
static uint64_t collapse(const BxSys *sys, char *address, uint64_t bytes)
{
    uint64_t huge = 0;

    for (uint64_t at = 0; at < bytes; at += VBX_GRANULE_BYTES) {
        int rc = sys->advise(address + at, VBX_GRANULE_BYTES, MADV_COLLAPSE);

        if (rc == 0) {
            huge += VBX_GRANULE_BYTES;
        } else if (rc == -EINVAL || rc == -ENOMEM) {
            break;      /* not on this kernel, or no huge page is to be had */
        }
    }
    return huge;
}

int bx_granule_new(const BxSys *sys, uint64_t bytes, uint32_t granule_bytes,
                   bool huge, BxMemory *ret_memory)
{
    BxMemory memory = { .bytes = bytes };
    int rc;

    huge = huge && granule_bytes == VBX_GRANULE_BYTES;
    rc = map_aligned(sys, bytes, granule_bytes, &memory.address);
    if (rc < 0) {
        return rc;
    }
    rc = sys->advise(memory.address, bytes, MADV_DONTFORK);
    if (rc == 0) {
        rc = sys->advise(memory.address, bytes, MADV_DONTDUMP);
    }
    if (rc < 0) {
        rc = -EDQUOT;           /* too many mappings */
        goto fail;
    }
    /* Kernels without same-page merging or huge pages refuse these. */
    sys->advise(memory.address, bytes, MADV_UNMERGEABLE);
    sys->advise(memory.address, bytes,
                huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);

    if (sys->lock(memory.address, bytes) < 0) {
        rc = -EDQUOT;
        goto fail;
    }
    rc = fault_in(sys, memory.address, bytes);
    if (rc < 0) {
        goto fail;
    }
    if (huge) {
        memory.huge_bytes = collapse(sys, memory.address, bytes);
        sys->advise(memory.address, bytes, MADV_NOHUGEPAGE);
    }
    *ret_memory = memory;
    return 0;

fail:
    sys->unmap(memory.address, bytes);
    return rc;
}
