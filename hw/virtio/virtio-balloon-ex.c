/*
 * balloon-ex: the virtio side
 *
 * Owns the queues, the configuration space and the statistics timer.  It
 * copies what the driver sends, once, bounds it, and hands guest physical
 * ranges to virtio-balloon-ex-mem.c, which alone knows RAM and the scheduler.
 *
 * A range in a queue is a wish of an untrusted guest: nothing here looks at
 * the memory behind it, nothing is asserted about it, and every element is
 * completed, malformed ones too.  An element is pushed after the memory side
 * has returned, so that pages of a report are not touched once the driver has
 * them back.
 *
 * Threads: everything runs under the BQL.  The scheduler's requests come from
 * its own thread; they are left in atomic fields and carried out by a bottom
 * half, so that the scheduler never waits for this guest.
 *
 * It does not offer free page hinting: migration skips captured pages without
 * the driver's help.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-access.h"
#include "hw/virtio/virtio-balloon-ex.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qapi/qapi-events-machine.h"
#include "standard-headers/linux/virtio_balloon.h"
#include "standard-headers/linux/virtio_ids.h"
#include "system/balloon.h"
#include "virtio-balloon-ex-mem.h"

/* Linux sends 256 page numbers a request, and 32 reported blocks. */
#define QUEUE_SIZE 128
#define REPORTING_QUEUE_SIZE 32
#define RANGES 256

/* Page numbers copied out of an element at a time. */
#define PFNS 256

/*
 * More statistics than the specification has: a driver that is newer than
 * this device.  What is behind is not looked at.
 */
#define MAX_STATS 64

static uint64_t ram_bytes(void)
{
    return MACHINE(qdev_get_machine())->ram_size;
}

static uint64_t pages_to_bytes(uint32_t pages)
{
    return (uint64_t)pages << VIRTIO_BALLOON_PFN_SHIFT;
}

/*
 * Turns page numbers into ranges, neighbours into one range.  Linux sends
 * pages in either direction.
 */
static size_t coalesce(VirtIODevice *vdev, const uint32_t *untrusted_pfns,
                       size_t count, MemSchedGpaRange *ranges)
{
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        /* 32 bits shifted by 12 do not overflow 64 */
        uint64_t gpa = (uint64_t)virtio_ldl_p(vdev, &untrusted_pfns[i])
                       << VIRTIO_BALLOON_PFN_SHIFT;
        MemSchedGpaRange *last = used ? &ranges[used - 1] : NULL;

        if (last && gpa == last->gpa + last->length_bytes) {
            last->length_bytes += MEMSCHED_PAGE_SIZE;
        } else if (last && gpa + MEMSCHED_PAGE_SIZE == last->gpa) {
            last->gpa = gpa;
            last->length_bytes += MEMSCHED_PAGE_SIZE;
        } else {
            ranges[used++] = (MemSchedGpaRange) {
                .gpa = gpa,
                .length_bytes = MEMSCHED_PAGE_SIZE,
            };
        }
    }
    return used;
}

/* No honest element lists more pages than the guest has. */
static void handle_element(VirtIOBalloonEx *s, VirtQueue *vq,
                           VirtQueueElement *elem)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    bool tell = virtio_vdev_has_feature(vdev, VIRTIO_BALLOON_F_MUST_TELL_HOST);
    uint64_t left = ram_bytes() >> VIRTIO_BALLOON_PFN_SHIFT;
    g_autofree uint32_t *pfns = g_new(uint32_t, PFNS);
    g_autofree MemSchedGpaRange *ranges = g_new(MemSchedGpaRange, PFNS);
    size_t offset = 0;

    while (left) {
        size_t want = MIN(left, PFNS) * sizeof(*pfns);
        size_t got = iov_to_buf(elem->out_sg, elem->out_num, offset, pfns,
                                want);
        size_t count = got / sizeof(*pfns);
        size_t used = coalesce(vdev, pfns, count, ranges);

        if (used && vq == s->inflate_vq) {
            balloon_ex_mem_inflate(s->mem, ranges, used, tell);
        } else if (used) {
            balloon_ex_mem_deflate(s->mem, ranges, used);
        }
        offset += got;
        left -= count;
        if (got < want) {
            break;
        }
    }
}

static void handle_pages(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);
    VirtQueueElement *elem;

    while ((elem = virtqueue_pop(vq, sizeof(*elem)))) {
        handle_element(s, vq, elem);
        virtqueue_push(vq, elem, 0);
        virtio_notify(vdev, vq);
        g_free(elem);
    }
}

/*
 * A guest that wants its reported pages filled with its own pattern would
 * find zeros in captured ones: such reports are returned untouched.
 *
 * The driver describes the pages as buffers of the element, so popping it
 * maps them, and pages that are mapped for DMA are not captured.  Filling the
 * element unmaps them; the driver has it back only with the flush.
 */
static void handle_reports(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);
    VirtQueueElement *elem;

    while ((elem = virtqueue_pop(vq, sizeof(*elem)))) {
        g_autofree MemSchedGpaRange *ranges =
            g_new(MemSchedGpaRange, elem->in_num);

        for (unsigned i = 0; i < elem->in_num; i++) {
            ranges[i] = (MemSchedGpaRange) {
                .gpa = elem->in_addr[i],
                .length_bytes = elem->in_sg[i].iov_len,
            };
        }
        WITH_RCU_READ_LOCK_GUARD() {
            virtqueue_fill(vq, elem, 0, 0);
        }
        if (elem->in_num && !s->poison_val) {
            balloon_ex_mem_report(s->mem, ranges, elem->in_num);
        }
        WITH_RCU_READ_LOCK_GUARD() {
            virtqueue_flush(vq, 1);
        }
        virtio_notify(vdev, vq);
        g_free(elem);
    }
}

static void take_stats(VirtIOBalloonEx *s, const VirtQueueElement *elem)
{
    /* The specification's numbering on the left. */
    static const uint8_t order[] = {
        [VIRTIO_BALLOON_S_SWAP_IN] = MEMSCHED_STAT_SWAP_IN,
        [VIRTIO_BALLOON_S_SWAP_OUT] = MEMSCHED_STAT_SWAP_OUT,
        [VIRTIO_BALLOON_S_MAJFLT] = MEMSCHED_STAT_MAJOR_FAULTS,
        [VIRTIO_BALLOON_S_MINFLT] = MEMSCHED_STAT_MINOR_FAULTS,
        [VIRTIO_BALLOON_S_MEMFREE] = MEMSCHED_STAT_FREE,
        [VIRTIO_BALLOON_S_MEMTOT] = MEMSCHED_STAT_TOTAL,
        [VIRTIO_BALLOON_S_AVAIL] = MEMSCHED_STAT_AVAILABLE,
        [VIRTIO_BALLOON_S_CACHES] = MEMSCHED_STAT_CACHES,
        [VIRTIO_BALLOON_S_HTLB_PGALLOC] = MEMSCHED_STAT_HTLB_ALLOC,
        [VIRTIO_BALLOON_S_HTLB_PGFAIL] = MEMSCHED_STAT_HTLB_FAIL,
        [VIRTIO_BALLOON_S_OOM_KILL] = MEMSCHED_STAT_OOM_KILL,
        [VIRTIO_BALLOON_S_ALLOC_STALL] = MEMSCHED_STAT_ALLOC_STALL,
        [VIRTIO_BALLOON_S_ASYNC_SCAN] = MEMSCHED_STAT_SCAN_ASYNC,
        [VIRTIO_BALLOON_S_DIRECT_SCAN] = MEMSCHED_STAT_SCAN_DIRECT,
        [VIRTIO_BALLOON_S_ASYNC_RECLAIM] = MEMSCHED_STAT_RECLAIM_ASYNC,
        [VIRTIO_BALLOON_S_DIRECT_RECLAIM] = MEMSCHED_STAT_RECLAIM_DIRECT,
    };
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    uint64_t stats[MEMSCHED_STATS];
    struct virtio_balloon_stat untrusted_stat;
    size_t size = sizeof(untrusted_stat);

    for (int i = 0; i < MEMSCHED_STATS; i++) {
        stats[i] = MEMSCHED_STAT_UNKNOWN;
    }
    for (int i = 0; i < MAX_STATS; i++) {
        uint16_t tag;

        if (iov_to_buf(elem->out_sg, elem->out_num, i * size,
                       &untrusted_stat, size) != size) {
            break;
        }
        tag = virtio_tswap16(vdev, untrusted_stat.tag);
        if (tag < ARRAY_SIZE(order)) {
            stats[order[tag]] = virtio_tswap64(vdev, untrusted_stat.val);
        }
    }
    balloon_ex_mem_stats(s->mem, stats);
}

static void return_stats_buffer(VirtIOBalloonEx *s)
{
    if (s->stats_elem) {
        virtqueue_push(s->stats_vq, s->stats_elem, 0);
        virtio_notify(VIRTIO_DEVICE(s), s->stats_vq);
        g_clear_pointer(&s->stats_elem, g_free);
    }
}

/* The driver has one buffer; whoever sends another gets the first one back. */
static void handle_stats(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);
    VirtQueueElement *elem = virtqueue_pop(vq, sizeof(*elem));

    if (elem) {
        return_stats_buffer(s);
        take_stats(s, elem);
        s->stats_elem = elem;
    }
}

static void stats_tick(void *opaque)
{
    VirtIOBalloonEx *s = opaque;

    if (VIRTIO_DEVICE(s)->vm_running) {
        return_stats_buffer(s);
    }
    timer_mod(s->stats_timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) +
              s->stats_interval_ms);
}

/* What the scheduler asks, carried out in the main loop. */

static void set_target(VirtIOBalloonEx *s, uint32_t pages)
{
    if (s->target_pages != pages) {
        s->target_pages = pages;
        virtio_notify_config(VIRTIO_DEVICE(s));
    }
}

static void asked(void *opaque)
{
    VirtIOBalloonEx *s = opaque;

    if (qatomic_xchg(&s->asked_target, false)) {
        set_target(s, qatomic_read(&s->asked_pages));
    }
    if (qatomic_xchg(&s->asked_stats, false) && VIRTIO_DEVICE(s)->vm_running) {
        return_stats_buffer(s);
    }
}

static void ask_balloon(void *opaque, uint64_t balloon_bytes)
{
    VirtIOBalloonEx *s = opaque;
    uint64_t pages = balloon_bytes >> VIRTIO_BALLOON_PFN_SHIFT;

    qatomic_set(&s->asked_pages, MIN(pages, UINT32_MAX));
    qatomic_store_release(&s->asked_target, true);
    qemu_bh_schedule(s->asked_bh);
}

static void ask_stats(void *opaque)
{
    VirtIOBalloonEx *s = opaque;

    qatomic_set(&s->asked_stats, true);
    qemu_bh_schedule(s->asked_bh);
}

/* QEMU's own `balloon` and `query-balloon` */

static void balloon_to_target(void *opaque, ram_addr_t target)
{
    VirtIOBalloonEx *s = opaque;
    uint64_t ram = ram_bytes();

    if (target && target <= ram) {
        set_target(s, (ram - target) >> VIRTIO_BALLOON_PFN_SHIFT);
    } else if (target) {
        set_target(s, 0);
    }
    balloon_ex_mem_manual(s->mem, pages_to_bytes(s->target_pages));
}

static void balloon_stat(void *opaque, BalloonInfo *info)
{
    VirtIOBalloonEx *s = opaque;
    uint64_t held = MIN(pages_to_bytes(s->actual_pages), ram_bytes());

    info->actual = ram_bytes() - held;
}

/* Configuration space: little endian whatever the driver's age */

static void get_config(VirtIODevice *vdev, uint8_t *config_data)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);
    struct virtio_balloon_config config = {
        .num_pages = cpu_to_le32(s->target_pages),
        .actual = cpu_to_le32(s->actual_pages),
        .poison_val = cpu_to_le32(s->poison_val),
    };

    memcpy(config_data, &config, sizeof(config));
}

static void set_config(VirtIODevice *vdev, const uint8_t *config_data)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);
    uint32_t before = s->actual_pages;
    struct virtio_balloon_config config;

    memcpy(&config, config_data, sizeof(config));
    s->actual_pages = le32_to_cpu(config.actual);
    s->poison_val = 0;
    if (virtio_vdev_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON)) {
        s->poison_val = le32_to_cpu(config.poison_val);
    }
    if (s->actual_pages == before) {
        return;
    }
    balloon_ex_mem_actual(s->mem, pages_to_bytes(s->actual_pages));
    /* Nobody asked for less than the target: the guest ran out of memory. */
    if (s->actual_pages < before && s->actual_pages < s->target_pages &&
        virtio_vdev_has_feature(vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM)) {
        balloon_ex_mem_oom_deflate(s->mem);
    }
    qapi_event_send_balloon_change(
        ram_bytes() - MIN(pages_to_bytes(s->actual_pages), ram_bytes()));
}

static uint64_t get_features(VirtIODevice *vdev, uint64_t features,
                             Error **errp)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);

    features |= s->host_features;
    virtio_add_feature(&features, VIRTIO_BALLOON_F_STATS_VQ);
    return features;
}

static void set_status(VirtIODevice *vdev, uint8_t status)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);

    balloon_ex_mem_run(s->mem, vdev->vm_running);
    /* A buffer that was with us when a snapshot was taken is asked again. */
    if (!s->stats_elem && vdev->vm_running &&
        (status & VIRTIO_CONFIG_S_DRIVER_OK) &&
        virtqueue_rewind(s->stats_vq, 1)) {
        handle_stats(vdev, s->stats_vq);
    }
}

static void device_reset(VirtIODevice *vdev)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);

    if (s->stats_elem) {
        virtqueue_unpop(s->stats_vq, s->stats_elem, 0);
        g_clear_pointer(&s->stats_elem, g_free);
    }
    s->poison_val = 0;
    s->actual_pages = 0;
    balloon_ex_mem_reset(s->mem);
    balloon_ex_mem_actual(s->mem, 0);
}

static void realize(DeviceState *dev, Error **errp)
{
    static const MemSchedClientOps ops = {
        .set_balloon = ask_balloon,
        .poll_stats = ask_stats,
    };
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(dev);

    if (!s->stats_interval_ms) {
        error_setg(errp, "stats-interval must be 1 or more milliseconds");
        return;
    }
    if (qemu_add_balloon_handler(balloon_to_target, balloon_stat, s) < 0) {
        error_setg(errp, "a machine has one balloon: remove the other one");
        return;
    }
    s->asked_bh = qemu_bh_new_guarded(asked, s, &dev->mem_reentrancy_guard);
    s->mem = balloon_ex_mem_new(&ops, s, errp);
    if (!s->mem) {
        qemu_bh_delete(s->asked_bh);
        qemu_remove_balloon_handler(s);
        return;
    }
    virtio_init(vdev, VIRTIO_ID_BALLOON, sizeof(struct virtio_balloon_config));
    s->inflate_vq = virtio_add_queue(vdev, QUEUE_SIZE, handle_pages);
    s->deflate_vq = virtio_add_queue(vdev, QUEUE_SIZE, handle_pages);
    s->stats_vq = virtio_add_queue(vdev, QUEUE_SIZE, handle_stats);
    if (virtio_has_feature(s->host_features, VIRTIO_BALLOON_F_REPORTING)) {
        s->reporting_vq = virtio_add_queue(vdev, REPORTING_QUEUE_SIZE,
                                           handle_reports);
    }
    s->stats_timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, stats_tick, s);
    timer_mod(s->stats_timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) +
              s->stats_interval_ms);
}

static void unrealize(DeviceState *dev)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(dev);

    timer_free(s->stats_timer);
    qemu_remove_balloon_handler(s);
    balloon_ex_mem_free(s->mem);
    qemu_bh_delete(s->asked_bh);
    g_clear_pointer(&s->stats_elem, g_free);
    virtio_delete_queue(s->inflate_vq);
    virtio_delete_queue(s->deflate_vq);
    virtio_delete_queue(s->stats_vq);
    if (s->reporting_vq) {
        virtio_delete_queue(s->reporting_vq);
    }
    virtio_cleanup(vdev);
}

static int post_load(void *opaque, int version_id)
{
    VirtIOBalloonEx *s = opaque;

    balloon_ex_mem_actual(s->mem, pages_to_bytes(s->actual_pages));
    balloon_ex_mem_manual(s->mem, pages_to_bytes(s->target_pages));
    return 0;
}

static const VMStateDescription vmstate_device = {
    .name = "balloon-ex-device",
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(target_pages, VirtIOBalloonEx),
        VMSTATE_UINT32(actual_pages, VirtIOBalloonEx),
        VMSTATE_UINT32(poison_val, VirtIOBalloonEx),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_virtio = {
    .name = "balloon-ex",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_VIRTIO_DEVICE,
        VMSTATE_END_OF_LIST()
    },
};

static const Property properties[] = {
    DEFINE_PROP_BIT64("must-tell-host", VirtIOBalloonEx, host_features,
                      VIRTIO_BALLOON_F_MUST_TELL_HOST, true),
    DEFINE_PROP_BIT64("deflate-on-oom", VirtIOBalloonEx, host_features,
                      VIRTIO_BALLOON_F_DEFLATE_ON_OOM, true),
    DEFINE_PROP_BIT64("page-poison", VirtIOBalloonEx, host_features,
                      VIRTIO_BALLOON_F_PAGE_POISON, true),
    DEFINE_PROP_BIT64("free-page-reporting", VirtIOBalloonEx, host_features,
                      VIRTIO_BALLOON_F_REPORTING, false),
    DEFINE_PROP_UINT32("stats-interval", VirtIOBalloonEx, stats_interval_ms,
                       1000),
};

static void class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    device_class_set_props(dc, properties);
    dc->desc = "balloon whose pages move to other guests";
    dc->vmsd = &vmstate_virtio;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    vdc->realize = realize;
    vdc->unrealize = unrealize;
    vdc->reset = device_reset;
    vdc->get_config = get_config;
    vdc->set_config = set_config;
    vdc->get_features = get_features;
    vdc->set_status = set_status;
    vdc->vmsd = &vmstate_device;
}

static const TypeInfo balloon_ex_info = {
    .name = TYPE_VIRTIO_BALLOON_EX,
    .parent = TYPE_VIRTIO_DEVICE,
    .instance_size = sizeof(VirtIOBalloonEx),
    .class_init = class_init,
};

static void register_types(void)
{
    type_register_static(&balloon_ex_info);
}

type_init(register_types)
