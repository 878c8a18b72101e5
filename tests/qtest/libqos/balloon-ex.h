/*
 * A balloon driver for tests of balloon-ex
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_BALLOON_EX_H
#define TESTS_LIBQOS_BALLOON_EX_H

#include "qgraph.h"
#include "virtio.h"
#include "virtio-pci.h"

typedef enum QBalloonExQueue {
    QBALLOON_EX_INFLATE,
    QBALLOON_EX_DEFLATE,
    QBALLOON_EX_STATS,
    QBALLOON_EX_REPORTING,
    QBALLOON_EX_SAID,                   /* messages to the host */
    QBALLOON_EX_TOLD,                   /* messages to the guest */
    QBALLOON_EX_QUEUES
} QBalloonExQueue;

typedef struct QBalloonEx {
    QVirtioDevice *vdev;
    QTestState *qts;
    QGuestAllocator *alloc;
    uint64_t features;                  /* negotiated */
    QVirtQueue *vq[QBALLOON_EX_QUEUES];
    uint64_t buffer;                    /* guest page for requests */
    uint64_t mailbox;                   /* guest page for messages */
    bool mailbox_posted;                /* the device has it */
} QBalloonEx;

typedef struct QBalloonExPCI {
    QVirtioPCIDevice pci_vdev;
    QBalloonEx balloon;
} QBalloonExPCI;

/* One guest physical block of a report. */
typedef struct QBalloonExBlock {
    uint64_t gpa;
    uint32_t bytes;
} QBalloonExBlock;

/*
 * Reset the device, negotiate what it offers but @without, set up its queues
 * and, where the page poison feature is negotiated, tell @poison.
 */
void qballoon_ex_start(QBalloonEx *b, QTestState *qts, QGuestAllocator *alloc,
                       uint64_t without, uint32_t poison);

/* Give the queues back.  The device has been reset. */
void qballoon_ex_stop(QBalloonEx *b);

/* Write the page poison value into the configuration space. */
void qballoon_ex_poison(QBalloonEx *b, uint32_t poison);

/* Send @bytes bytes of @data; the device has them until the wait returns. */
uint32_t qballoon_ex_post(QBalloonEx *b, QBalloonExQueue queue,
                          const void *data, size_t bytes);
void qballoon_ex_wait(QBalloonEx *b, QBalloonExQueue queue, uint32_t head);

/* Both of them. */
void qballoon_ex_send(QBalloonEx *b, QBalloonExQueue queue, const void *data,
                      size_t bytes);

/*
 * Send @count (at most 1024) page numbers from @first on in steps of @step
 * (which may be negative).
 */
void qballoon_ex_pages(QBalloonEx *b, QBalloonExQueue queue, uint32_t first,
                       int step, unsigned count);

/*
 * Wait until the device puts a message into a buffer of @bytes bytes (at most
 * 4096), *ret_bytes of which it says to have written.  False where none comes
 * within @timeout_us; the device keeps the buffer then.
 */
bool qballoon_ex_hear(QBalloonEx *b, void *data, uint32_t bytes,
                      uint32_t *ret_bytes, gint64 timeout_us);

/* Send one report of @count blocks, wait until the device returns it. */
void qballoon_ex_report(QBalloonEx *b, const QBalloonExBlock *blocks,
                        unsigned count);

#endif
