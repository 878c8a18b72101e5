/*
 * Disks of a guest, as far as its pages were filled from them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_DISK_H
#define MEMSCHED_DISK_H

#include <stdatomic.h>

#include "memsched/recovery.h"
#include "lock.h"

/* Changes that are remembered, for reads that were under way meanwhile. */
#define MS_DISK_CHANGES 64u

typedef struct MsDiskChange {
    uint64_t offset_bytes, last_byte;
} MsDiskChange;

struct MemSchedDisk {
    MemSchedClient *client;     /* outlives it */
    uint32_t number;
    MemSchedDiskOps ops;
    void *opaque;
    unsigned reads;             /* that are not answered; client->lock */
    bool closing;               /* there are no more; client->lock */
    _Atomic bool noted;         /* pages have been, ever */

    MsLock lock;                /* leaf: what follows */
    uint64_t changes;           /* since it was made */
    MsDiskChange change[MS_DISK_CHANGES];       /* the last ones, a ring */
};

/* For one read: stays until ms_disk_release(); NULL: there is none. */
MemSchedDisk *ms_disk_take(MemSchedClient *client, uint32_t number);
void ms_disk_release(MemSchedDisk *disk);

#endif /* MEMSCHED_DISK_H */
