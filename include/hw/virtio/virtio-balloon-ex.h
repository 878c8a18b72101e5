/*
 * balloon-ex: the balloon whose pages move to other guests
 *
 * The device speaks the standard virtio balloon, device ID 5, so that stock
 * drivers bind.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_H
#define HW_VIRTIO_BALLOON_EX_H

#include "hw/virtio/virtio.h"
#include "memsched/memsched.h"
#include "qom/object.h"

#define TYPE_VIRTIO_BALLOON_EX "balloon-ex-device"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIOBalloonEx, VIRTIO_BALLOON_EX)

typedef struct BalloonExMem BalloonExMem;

/* All fields under the BQL, unless they say otherwise. */
struct VirtIOBalloonEx {
    VirtIODevice parent_obj;

    VirtQueue *inflate_vq;
    VirtQueue *deflate_vq;
    VirtQueue *stats_vq;
    VirtQueue *reporting_vq;    /* NULL where reporting is not offered */

    /* The driver's statistics buffer, ours until fresh ones are wanted. */
    VirtQueueElement *stats_elem;
    QEMUTimer *stats_timer;

    uint32_t target_pages;      /* what the balloon should hold */
    uint32_t actual_pages;      /* what the driver says that it holds */
    uint32_t poison_val;

    /* From the scheduler's thread to the main loop; atomic. */
    uint32_t asked_pages;
    bool asked_target;
    bool asked_stats;
    QEMUBH *asked_bh;

    BalloonExMem *mem;

    uint64_t host_features;     /* properties */
    uint32_t stats_interval_ms;
};

#endif
