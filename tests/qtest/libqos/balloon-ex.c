/*
 * A balloon driver for tests of balloon-ex
 *
 * What Linux' driver does, one request at a time: page numbers of 4 KiB pages
 * as little endian words in one device-readable buffer, and reports as
 * device-writable blocks.  Every request is waited for, with a limit.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "../libqtest.h"
#include "balloon-ex.h"
#include "qemu/bswap.h"
#include "qemu/module.h"
#include "standard-headers/linux/virtio_balloon.h"
#include "standard-headers/linux/virtio_balloon_ex.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"

#define BUFFER_BYTES 4096
#define TIMEOUT_US   (30 * 1000 * 1000)

/* All descriptors are free again: one request is under way at a time. */
static void reuse_descriptors(QVirtQueue *vq)
{
    vq->free_head = 0;
    vq->num_free = vq->size;
}

void qballoon_ex_poison(QBalloonEx *b, uint32_t poison)
{
    QVirtioPCIDevice *pci = container_of(b->vdev, QVirtioPCIDevice, vdev);

    g_assert_true(b->features & (1ull << VIRTIO_F_VERSION_1));
    qpci_io_writel(pci->pdev, pci->bar,
                   pci->device_cfg_offset +
                   offsetof(struct virtio_balloon_config, poison_val),
                   poison);
}

void qballoon_ex_start(QBalloonEx *b, QTestState *qts, QGuestAllocator *alloc,
                       uint64_t without, uint32_t poison)
{
    int queues = QBALLOON_EX_REPORTING, messages;
    uint64_t offered;

    b->qts = qts;
    b->alloc = alloc;
    qvirtio_start_device(b->vdev);
    offered = qvirtio_get_features(b->vdev);
    b->features = offered & ~without &
                  ~(QVIRTIO_F_BAD_FEATURE |
                    (1ull << VIRTIO_RING_F_INDIRECT_DESC) |
                    (1ull << VIRTIO_RING_F_EVENT_IDX));
    qvirtio_set_features(b->vdev, b->features);
    if (b->features & (1ull << VIRTIO_BALLOON_F_REPORTING)) {
        queues++;
    }
    memset(b->vq, 0, sizeof(b->vq));
    for (int i = 0; i < queues; i++) {
        b->vq[i] = qvirtqueue_setup(b->vdev, alloc, i);
    }
    if (b->features & (1ull << VIRTIO_BALLOON_EX_F_APPLICATION)) {
        /* They follow whatever is offered, taken or not. */
        messages = offered & (1ull << VIRTIO_BALLOON_F_REPORTING)
            ? QBALLOON_EX_REPORTING + 1 : QBALLOON_EX_REPORTING;
        b->vq[QBALLOON_EX_SAID] = qvirtqueue_setup(b->vdev, alloc, messages);
        b->vq[QBALLOON_EX_TOLD] = qvirtqueue_setup(b->vdev, alloc,
                                                   messages + 1);
    }
    b->buffer = guest_alloc(alloc, BUFFER_BYTES);
    b->mailbox = guest_alloc(alloc, BUFFER_BYTES);
    b->mailbox_posted = false;
    if (b->features & (1ull << VIRTIO_BALLOON_F_PAGE_POISON)) {
        qballoon_ex_poison(b, poison);
    }
    qvirtio_set_driver_ok(b->vdev);
}

void qballoon_ex_stop(QBalloonEx *b)
{
    for (int i = 0; i < QBALLOON_EX_QUEUES; i++) {
        if (b->vq[i]) {
            qvirtqueue_cleanup(b->vdev->bus, b->vq[i], b->alloc);
            b->vq[i] = NULL;
        }
    }
    guest_free(b->alloc, b->buffer);
    guest_free(b->alloc, b->mailbox);
}

uint32_t qballoon_ex_post(QBalloonEx *b, QBalloonExQueue queue,
                          const void *data, size_t bytes)
{
    uint32_t head;

    g_assert_cmpuint(bytes, <=, BUFFER_BYTES);
    qtest_memwrite(b->qts, b->buffer, data, bytes);
    head = qvirtqueue_add(b->qts, b->vq[queue], b->buffer, bytes, false,
                          false);
    qvirtqueue_kick(b->qts, b->vdev, b->vq[queue], head);
    return head;
}

void qballoon_ex_wait(QBalloonEx *b, QBalloonExQueue queue, uint32_t head)
{
    qvirtio_wait_used_elem(b->qts, b->vdev, b->vq[queue], head, NULL,
                           TIMEOUT_US);
    reuse_descriptors(b->vq[queue]);
}

void qballoon_ex_send(QBalloonEx *b, QBalloonExQueue queue, const void *data,
                      size_t bytes)
{
    qballoon_ex_wait(b, queue, qballoon_ex_post(b, queue, data, bytes));
}

void qballoon_ex_pages(QBalloonEx *b, QBalloonExQueue queue, uint32_t first,
                       int step, unsigned count)
{
    g_autofree uint32_t *pfns = g_new(uint32_t, count);

    for (unsigned i = 0; i < count; i++) {
        pfns[i] = cpu_to_le32(first + i * step);
    }
    qballoon_ex_send(b, queue, pfns, count * sizeof(*pfns));
}

void qballoon_ex_report(QBalloonEx *b, const QBalloonExBlock *blocks,
                        unsigned count)
{
    QVirtQueue *vq = b->vq[QBALLOON_EX_REPORTING];
    uint32_t head = 0;

    for (unsigned i = 0; i < count; i++) {
        uint32_t index = qvirtqueue_add(b->qts, vq, blocks[i].gpa,
                                        blocks[i].bytes, true, i + 1 < count);

        head = i ? head : index;
    }
    qvirtqueue_kick(b->qts, b->vdev, vq, head);
    qvirtio_wait_used_elem(b->qts, b->vdev, vq, head, NULL, TIMEOUT_US);
    reuse_descriptors(vq);
}

bool qballoon_ex_hear(QBalloonEx *b, void *data, uint32_t bytes,
                      uint32_t *ret_bytes, gint64 timeout_us)
{
    QVirtQueue *vq = b->vq[QBALLOON_EX_TOLD];
    gint64 end = g_get_monotonic_time() + timeout_us;

    if (!b->mailbox_posted) {
        uint32_t head = qvirtqueue_add(b->qts, vq, b->mailbox, bytes, true,
                                       false);

        qvirtqueue_kick(b->qts, b->vdev, vq, head);
        b->mailbox_posted = true;
    }
    while (!qvirtqueue_get_buf(b->qts, vq, NULL, ret_bytes)) {
        if (g_get_monotonic_time() >= end) {
            return false;
        }
    }
    b->mailbox_posted = false;
    reuse_descriptors(vq);
    qtest_memread(b->qts, b->mailbox, data, MIN(*ret_bytes, bytes));
    return true;
}

static void *get_driver(void *object, const char *interface)
{
    QBalloonExPCI *pci = object;

    if (!g_strcmp0(interface, "pci-device")) {
        return pci->pci_vdev.pdev;
    }
    if (!g_strcmp0(interface, "virtio")) {
        return pci->balloon.vdev;
    }
    if (!g_strcmp0(interface, "balloon-ex-driver")) {
        return &pci->balloon;
    }
    g_assert_not_reached();
}

static void *create(void *pci_bus, QGuestAllocator *alloc, void *addr)
{
    QBalloonExPCI *pci = g_new0(QBalloonExPCI, 1);

    virtio_pci_init(&pci->pci_vdev, pci_bus, addr);
    pci->balloon.vdev = &pci->pci_vdev.vdev;
    pci->pci_vdev.obj.get_driver = get_driver;
    return &pci->pci_vdev.obj;
}

static void register_nodes(void)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4, 0) };
    QOSGraphEdgeOptions opts = { .extra_device_opts = "addr=04.0" };

    add_qpci_address(&opts, &addr);
    qos_node_create_driver("balloon-ex", create);
    qos_node_consumes("balloon-ex", "pci-bus", &opts);
    qos_node_produces("balloon-ex", "pci-device");
    qos_node_produces("balloon-ex", "virtio");
    qos_node_produces("balloon-ex", "balloon-ex-driver");
}

libqos_init(register_nodes);
