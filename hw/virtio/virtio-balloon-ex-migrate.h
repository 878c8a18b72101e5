/*
 * Migration and snapshots of a guest whose pages are partly elsewhere
 *
 * All functions under the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_MIGRATE_H
#define HW_VIRTIO_BALLOON_EX_MIGRATE_H

#include "migration/vmstate.h"
#include "memsched/memsched.h"

typedef struct BalloonExMigrate BalloonExMigrate;

/* From now on migration, snapshots and resets know of @client's pages. */
BalloonExMigrate *balloon_ex_migrate_new(MemSchedClient *client);

/* NULL is fine. */
void balloon_ex_migrate_free(BalloonExMigrate *m);

/* Subsection of the device's state: which pages lie in the balloon. */
extern const VMStateDescription balloon_ex_vmstate_pages;

#endif
