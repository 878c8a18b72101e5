/*
 * Where our pages are in the guest's memory, if we may know
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_PAGEMAP_H
#define BX_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>

#include "standard-headers/linux/virtio_balloon_ex.h"

/* A file descriptor; -errno where the kernel does not let us. */
int bx_pagemap_open(void);

/*
 * Runs of guest frames behind @pages pages from @address on, of which the first
 * has sequence number @seq.  Writes at most @max runs, and says in *ret_pages
 * how many pages those and any pages without a frame account for.  Returns the
 * number of runs, -EPERM where frame numbers are not shown to us, -errno.
 */
int bx_pagemap_runs(int fd, const void *address, uint64_t pages, uint64_t seq,
                    struct vbx_hint *ret_runs, size_t max,
                    uint64_t *ret_pages);

#endif
