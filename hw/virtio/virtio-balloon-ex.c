/*
 * balloon-ex: the virtio side
 *
 * Owns the queues and the configuration space.  It copies what the driver
 * sends, once, bounds it, and hands guest physical ranges to
 * virtio-balloon-ex-mem.c, which alone knows RAM and the scheduler.
 *
 * A range in a queue is a wish of an untrusted guest: nothing here looks at
 * the memory behind it, nothing is asserted about it, and every element is
 * completed, malformed ones too.  An element is pushed after the memory side
 * has returned, so that pages of a report are not touched once the driver has
 * them back.
 *
 * Work of a turn of the main loop is bounded.  A longer request stays ours,
 * with the place where it was left; a bottom half goes on with it.  Stopping
 * the machine puts such a request back into its queue; it is worked off from
 * its beginning afterwards, which is harmless: a page given twice counts once.
 * So there is nothing in flight in the state that is saved.
 *
 * Threads: everything runs under the BQL.  The scheduler's requests come from
 * its own thread; they are left in atomic fields and carried out by a bottom
 * half, so that the scheduler never waits for this guest.
 *
 * The queues for messages of balloon applications come after all others, and
 * are virtio-balloon-ex-apps.c's.
 *
 * It does not offer free page hinting: migration skips captured pages without
 * the driver's help.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "exec/address-spaces.h"
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
#include "standard-headers/linux/virtio_balloon_ex.h"
#include "trace/trace-system_memsched.h"
#include "virtio-balloon-ex-apps.h"
#include "virtio-balloon-ex-mem.h"
#include "virtio-balloon-ex-migrate.h"
#include "virtio-balloon-ex-pfns.h"
#include "virtio-balloon-ex-stats.h"
#include "virtio-balloon-ex-tags.h"

/* Linux sends 256 page numbers a request, and 32 reported blocks. */
#define QUEUE_SIZE 128
#define REPORTING_QUEUE_SIZE 32

/* Page numbers looked at together: four requests of Linux, 4 MiB. */
#define STEP_PFNS 1024

/*
 * Page numbers a turn of the main loop, which a request is worth at least
 * TURN_LEAST of: some hundred microseconds where frames move whole.
 */
#define TURN_PFNS (16 * STEP_PFNS)
#define TURN_LEAST 64

/* Reports a turn; each has a time limit of its own. */
#define TURN_REPORTS 8

struct BalloonExScratch {
    uint32_t words[STEP_PFNS];
    uint32_t pfns[STEP_PFNS];
    MemSchedGpaRange ranges[MAX_CONST(STEP_PFNS, VIRTQUEUE_MAX_SIZE)];
};

static uint64_t ram_bytes(void)
{
    return MACHINE(qdev_get_machine())->ram_size;
}

static uint64_t pages_to_bytes(uint32_t pages)
{
    return (uint64_t)pages << VIRTIO_BALLOON_PFN_SHIFT;
}

static void push(VirtIODevice *vdev, VirtQueue *vq, VirtQueueElement *elem)
{
    virtqueue_push(vq, elem, 0);
    virtio_notify(vdev, vq);
    g_free(elem);
}

/* Inflate and deflate */

/*
 * Work on the next page numbers of the queue's element: returns what it cost,
 * in page numbers, and whether the element is done with.  No honest one lists
 * more pages than the guest has; what is behind is not looked at.
 */
static unsigned step_pages(VirtIOBalloonEx *s, BalloonExPages *q,
                           bool *ret_done)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    const char *what = q == &s->inflate ? "inflate" : "deflate";
    uint64_t limit = (ram_bytes() >> VIRTIO_BALLOON_PFN_SHIFT) *
                     sizeof(uint32_t);
    size_t want = MIN(limit - q->done_bytes, sizeof(s->scratch->words));
    size_t got = iov_to_buf(q->elem->out_sg, q->elem->out_num, q->done_bytes,
                            s->scratch->words, want);
    size_t pfns = got / sizeof(uint32_t);
    size_t count = balloon_ex_pfns_to_ranges(
        (const uint8_t *)s->scratch->words, got,
        virtio_access_is_big_endian(vdev), s->scratch->pfns,
        s->scratch->ranges);

    q->done_bytes += got;
    *ret_done = got < want || q->done_bytes >= limit;
    if (*ret_done) {
        uint64_t size = iov_size(q->elem->out_sg, q->elem->out_num);
        uint64_t left = size - q->done_bytes + got % sizeof(uint32_t);

        if (left) {
            trace_balloon_ex_malformed(what, left);
        }
        /* A mapped request would keep pages near it where they are. */
        balloon_ex_unmap(vdev, q->elem);
    }
    if (count) {
        trace_balloon_ex_pages(what, pfns, count);
    }
    if (count && q == &s->inflate) {
        balloon_ex_mem_inflate(s->mem, s->scratch->ranges, count,
                               virtio_vdev_has_feature(
                                   vdev, VIRTIO_BALLOON_F_MUST_TELL_HOST));
    } else if (count) {
        balloon_ex_mem_deflate(s->mem, s->scratch->ranges, count);
    }
    return MAX(pfns, TURN_LEAST);
}

static void work_pages(VirtIOBalloonEx *s, BalloonExPages *q)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    unsigned left = TURN_PFNS;

    while (left) {
        bool done;

        if (!q->elem) {
            q->elem = virtqueue_pop(q->vq, sizeof(*q->elem));
            q->done_bytes = 0;
        }
        if (!q->elem) {
            return;
        }
        left -= MIN(left, step_pages(s, q, &done));
        if (done) {
            push(vdev, q->vq, g_steal_pointer(&q->elem));
        }
    }
    qemu_bh_schedule(s->again_bh);
}

static void handle_pages(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);

    if (vdev->vm_running) {
        work_pages(s, vq == s->inflate.vq ? &s->inflate : &s->deflate);
    }
}

static void put_back(BalloonExPages *q)
{
    if (q->elem) {
        virtqueue_unpop(q->vq, q->elem, 0);
        g_clear_pointer(&q->elem, g_free);
    }
}

static void drop(BalloonExPages *q)
{
    if (q->elem) {
        virtqueue_detach_element(q->vq, q->elem, 0);
        g_clear_pointer(&q->elem, g_free);
    }
}

/* Reports */

/*
 * A guest that wants its reported pages filled with its own pattern would
 * find zeros in captured ones, and behind an IOMMU of the guest's an address
 * is not where its memory is: such reports are returned untouched.
 */
static bool may_report(VirtIOBalloonEx *s)
{
    return !s->poison_val &&
        VIRTIO_DEVICE(s)->dma_as == &address_space_memory;
}

/* Popping an element maps what it names: that ends before pages move. */
static void work_report(VirtIOBalloonEx *s, VirtQueueElement *elem)
{
    size_t count = 0;

    for (unsigned i = 0; i < elem->in_num; i++) {
        count += balloon_ex_whole_pages(elem->in_addr[i],
                                        elem->in_sg[i].iov_len,
                                        &s->scratch->ranges[count]);
    }
    balloon_ex_unmap(VIRTIO_DEVICE(s), elem);
    if (count && may_report(s)) {
        balloon_ex_mem_report(s->mem, s->scratch->ranges, count);
    }
}

static void handle_reports(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);

    if (!vdev->vm_running) {
        return;
    }
    for (int left = TURN_REPORTS; left; left--) {
        VirtQueueElement *elem = virtqueue_pop(vq, sizeof(*elem));

        if (!elem) {
            return;
        }
        work_report(s, elem);
        push(vdev, vq, elem);
    }
    qemu_bh_schedule(s->again_bh);
}

/* The next turn of what one turn could not do. */
static void again(void *opaque)
{
    VirtIOBalloonEx *s = opaque;
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    if (!vdev->vm_running || !(vdev->status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        return;
    }
    /* Deflate first: a guest without memory may wait for it. */
    work_pages(s, &s->deflate);
    work_pages(s, &s->inflate);
    if (s->reporting_vq) {
        handle_reports(vdev, s->reporting_vq);
    }
    if (s->stats.is_old) {
        balloon_ex_stats_handle(vdev, s->stats.vq);
    }
    balloon_ex_apps_start(s);
}

/* What the scheduler asks, carried out in the main loop. */

static void set_target(VirtIOBalloonEx *s, uint32_t pages)
{
    if (s->target_pages != pages) {
        s->target_pages = pages;
        trace_balloon_ex_target(pages);
        virtio_notify_config(VIRTIO_DEVICE(s));
    }
}

static void asked(void *opaque)
{
    VirtIOBalloonEx *s = opaque;

    if (qatomic_xchg(&s->asked_target, false)) {
        set_target(s, qatomic_read(&s->asked_pages));
    }
    if (qatomic_xchg(&s->asked_stats, false)) {
        balloon_ex_stats_ask(s);
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
    /*
     * Latched until the driver resets: what was promised to stay as it is
     * would else be taken.
     */
    if (!s->poison_val &&
        virtio_vdev_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON)) {
        s->poison_val = le32_to_cpu(config.poison_val);
    }
    if (s->actual_pages == before) {
        return;
    }
    trace_balloon_ex_actual(s->actual_pages);
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

    if (!vdev->vm_running) {
        put_back(&s->inflate);
        put_back(&s->deflate);
        balloon_ex_stats_put_back(s);
    } else if (status & VIRTIO_CONFIG_S_DRIVER_OK) {
        /* What was put back; the driver does not kick a second time. */
        qemu_bh_schedule(s->again_bh);
    }
}

static void device_reset(VirtIODevice *vdev)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);

    qemu_bh_cancel(s->again_bh);
    drop(&s->inflate);
    drop(&s->deflate);
    balloon_ex_stats_drop(s);
    balloon_ex_apps_reset(s);
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
    s->inflate.vq = virtio_add_queue(vdev, QUEUE_SIZE, handle_pages);
    s->deflate.vq = virtio_add_queue(vdev, QUEUE_SIZE, handle_pages);
    s->stats.vq = virtio_add_queue(vdev, QUEUE_SIZE, balloon_ex_stats_handle);
    if (virtio_has_feature(s->host_features, VIRTIO_BALLOON_F_REPORTING)) {
        s->reporting_vq = virtio_add_queue(vdev, REPORTING_QUEUE_SIZE,
                                           handle_reports);
    }
    balloon_ex_apps_realize(s);
    s->scratch = g_new0(BalloonExScratch, 1);
    s->again_bh = qemu_bh_new_guarded(again, s, &dev->mem_reentrancy_guard);
    balloon_ex_stats_start(s);
}

static void unrealize(DeviceState *dev)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(dev);

    balloon_ex_stats_end(s);
    balloon_ex_apps_unrealize(s);
    drop(&s->inflate);
    drop(&s->deflate);
    qemu_remove_balloon_handler(s);
    balloon_ex_mem_free(s->mem);
    qemu_bh_delete(s->asked_bh);
    qemu_bh_delete(s->again_bh);
    g_free(s->scratch);
    virtio_delete_queue(s->inflate.vq);
    virtio_delete_queue(s->deflate.vq);
    virtio_delete_queue(s->stats.vq);
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
    /* What the statistics queue holds was told to another process. */
    s->stats.is_old = true;
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
    },
    .subsections = (const VMStateDescription * const []) {
        &balloon_ex_vmstate_pages,
        &balloon_ex_vmstate_tags,
        &balloon_ex_vmstate_apps,
        NULL
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
                      VIRTIO_BALLOON_F_REPORTING, true),
    DEFINE_PROP_BIT64("application", VirtIOBalloonEx, host_features,
                      VIRTIO_BALLOON_EX_F_APPLICATION, true),
    DEFINE_PROP_UINT32("stats-interval", VirtIOBalloonEx, stats.interval_ms,
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
    balloon_ex_stats_class_init(klass);
    balloon_ex_apps_class_init(klass);
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
