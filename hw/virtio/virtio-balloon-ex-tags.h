/*
 * balloon-ex: pages with a known tag, in migration and snapshots
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_TAGS_H
#define HW_VIRTIO_BALLOON_EX_TAGS_H

#include "memsched/memsched.h"
#include "migration/vmstate.h"

/*
 * Pages of @block that are in state T now need not be sent with RAM: note them,
 * and take them out of the dirty bitmap.  Migration's thread, captures are
 * forbidden.
 */
void balloon_ex_tags_skip(RAMBlock *block, MemSchedRegion *region);

/* The migration has ended: forget what was noted. */
void balloon_ex_tags_end(void);

/* What those pages hold, after all RAM. */
extern const VMStateDescription balloon_ex_vmstate_tags;

#endif
