/*
 * balloon-ex: the balloon whose pages move to other guests
 *
 * The device speaks the standard virtio balloon, device ID 5, so that stock
 * drivers bind.  Behind a feature bit of its own it has two more queues, for
 * messages of balloon applications.
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
typedef struct BalloonExSession BalloonExSession;
typedef struct BalloonExScratch BalloonExScratch;

/* A queue of page numbers, and how far its element has been worked off. */
typedef struct BalloonExPages {
    VirtQueue *vq;
    VirtQueueElement *elem;     /* NULL between requests */
    uint64_t done_bytes;
} BalloonExPages;

/* The statistics queue, and what came out of it last. */
typedef struct BalloonExStats {
    VirtQueue *vq;
    VirtQueueElement *elem;     /* ours until fresh figures are wanted */
    bool is_old;                /* what the next buffer holds is no news */
    QEMUTimer *timer;
    uint32_t interval_ms;       /* property */
    int64_t updated_s;          /* wall clock; 0: never */
    uint64_t last[MEMSCHED_STATS];
} BalloonExStats;

/* The queues for messages of balloon applications; all NULL without. */
typedef struct BalloonExApps {
    VirtQueue *said_vq;         /* to the host */
    VirtQueue *told_vq;         /* to the guest */
    BalloonExSession *session;
    uint8_t *in;                /* room for one message */
} BalloonExApps;

/* All fields under the BQL, unless they say otherwise. */
struct VirtIOBalloonEx {
    VirtIODevice parent_obj;

    BalloonExPages inflate;
    BalloonExPages deflate;
    BalloonExStats stats;
    BalloonExApps apps;
    VirtQueue *reporting_vq;    /* NULL where reporting is not offered */
    BalloonExScratch *scratch;
    QEMUBH *again_bh;           /* work that was left for the next turn */

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
};

#endif
