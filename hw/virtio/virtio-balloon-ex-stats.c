/*
 * balloon-ex: statistics of the guest
 *
 * Owns the statistics queue.  The driver leaves one filled buffer with the
 * device and fills it again each time that it gets it back; so returning it is
 * the way to ask.  It is returned on a timer, and when the scheduler wants
 * figures now.
 *
 * The buffer is held for seconds, and a mapped buffer keeps every page of its
 * 2 MiB where it is: the mapping is given up at once.  While the machine is
 * stopped nothing is held at all: the buffer is put back into the queue, so
 * that a snapshot needs to know nothing of it.  What is found there afterwards
 * is old, and returned without a look.
 *
 * Figures are the guest's word: passed on, shown, never believed.
 *
 * Threads: the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "qemu/timer.h"
#include "hw/virtio/virtio-access.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "standard-headers/linux/virtio_balloon.h"
#include "system/dma.h"
#include "trace/trace-system_memsched.h"
#include "virtio-balloon-ex-mem.h"
#include "virtio-balloon-ex-stats.h"

/*
 * More figures than the specification has: room for a driver that is newer
 * than this device.  What is behind is not looked at.
 */
#define STATS_MAX 64

/* The specification's numbers, the scheduler's, and QEMU's names. */
static const struct {
    MemSchedStat stat;
    const char *name;
} known[] = {
    [VIRTIO_BALLOON_S_SWAP_IN] = {
        MEMSCHED_STAT_SWAP_IN, "stat-swap-in"
    },
    [VIRTIO_BALLOON_S_SWAP_OUT] = {
        MEMSCHED_STAT_SWAP_OUT, "stat-swap-out"
    },
    [VIRTIO_BALLOON_S_MAJFLT] = {
        MEMSCHED_STAT_MAJOR_FAULTS, "stat-major-faults"
    },
    [VIRTIO_BALLOON_S_MINFLT] = {
        MEMSCHED_STAT_MINOR_FAULTS, "stat-minor-faults"
    },
    [VIRTIO_BALLOON_S_MEMFREE] = {
        MEMSCHED_STAT_FREE, "stat-free-memory"
    },
    [VIRTIO_BALLOON_S_MEMTOT] = {
        MEMSCHED_STAT_TOTAL, "stat-total-memory"
    },
    [VIRTIO_BALLOON_S_AVAIL] = {
        MEMSCHED_STAT_AVAILABLE, "stat-available-memory"
    },
    [VIRTIO_BALLOON_S_CACHES] = {
        MEMSCHED_STAT_CACHES, "stat-disk-caches"
    },
    [VIRTIO_BALLOON_S_HTLB_PGALLOC] = {
        MEMSCHED_STAT_HTLB_ALLOC, "stat-htlb-pgalloc"
    },
    [VIRTIO_BALLOON_S_HTLB_PGFAIL] = {
        MEMSCHED_STAT_HTLB_FAIL, "stat-htlb-pgfail"
    },
    [VIRTIO_BALLOON_S_OOM_KILL] = {
        MEMSCHED_STAT_OOM_KILL, "stat-oom-kills"
    },
    [VIRTIO_BALLOON_S_ALLOC_STALL] = {
        MEMSCHED_STAT_ALLOC_STALL, "stat-alloc-stalls"
    },
    [VIRTIO_BALLOON_S_ASYNC_SCAN] = {
        MEMSCHED_STAT_SCAN_ASYNC, "stat-async-scans"
    },
    [VIRTIO_BALLOON_S_DIRECT_SCAN] = {
        MEMSCHED_STAT_SCAN_DIRECT, "stat-direct-scans"
    },
    [VIRTIO_BALLOON_S_ASYNC_RECLAIM] = {
        MEMSCHED_STAT_RECLAIM_ASYNC, "stat-async-reclaims"
    },
    [VIRTIO_BALLOON_S_DIRECT_RECLAIM] = {
        MEMSCHED_STAT_RECLAIM_DIRECT, "stat-direct-reclaims"
    },
};

void balloon_ex_unmap(VirtIODevice *vdev, VirtQueueElement *elem)
{
    for (unsigned i = 0; i < elem->in_num; i++) {
        dma_memory_unmap(vdev->dma_as, elem->in_sg[i].iov_base,
                         elem->in_sg[i].iov_len, DMA_DIRECTION_FROM_DEVICE, 0);
    }
    for (unsigned i = 0; i < elem->out_num; i++) {
        dma_memory_unmap(vdev->dma_as, elem->out_sg[i].iov_base,
                         elem->out_sg[i].iov_len, DMA_DIRECTION_TO_DEVICE,
                         elem->out_sg[i].iov_len);
    }
    /* Whoever pushes or drops it finds nothing left to unmap. */
    elem->in_num = 0;
    elem->out_num = 0;
}

static void forget_figures(BalloonExStats *stats)
{
    stats->updated_s = 0;
    for (int i = 0; i < MEMSCHED_STATS; i++) {
        stats->last[i] = MEMSCHED_STAT_UNKNOWN;
    }
}

static void take(VirtIOBalloonEx *s, const VirtQueueElement *elem)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    struct virtio_balloon_stat untrusted_stat;
    size_t size = sizeof(untrusted_stat);
    int count;

    forget_figures(&s->stats);
    for (count = 0; count < STATS_MAX; count++) {
        uint16_t tag;

        if (iov_to_buf(elem->out_sg, elem->out_num, count * size,
                       &untrusted_stat, size) != size) {
            break;
        }
        tag = virtio_tswap16(vdev, untrusted_stat.tag);
        if (tag < ARRAY_SIZE(known)) {
            s->stats.last[known[tag].stat] =
                virtio_tswap64(vdev, untrusted_stat.val);
        }
    }
    s->stats.updated_s = g_get_real_time() / G_USEC_PER_SEC;
    trace_balloon_ex_stats(count);
    balloon_ex_mem_stats(s->mem, s->stats.last);
}

void balloon_ex_stats_ask(VirtIOBalloonEx *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    if (s->stats.elem && vdev->vm_running) {
        virtqueue_push(s->stats.vq, s->stats.elem, 0);
        virtio_notify(vdev, s->stats.vq);
        g_clear_pointer(&s->stats.elem, g_free);
    }
}

/* The driver has one buffer; whoever sends another gets the first one back. */
void balloon_ex_stats_handle(VirtIODevice *vdev, VirtQueue *vq)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(vdev);
    VirtQueueElement *elem = virtqueue_pop(vq, sizeof(*elem));

    if (!elem) {
        return;
    }
    balloon_ex_stats_ask(s);
    if (!s->stats.is_old) {
        take(s, elem);
    }
    balloon_ex_unmap(vdev, elem);
    s->stats.elem = elem;
    if (s->stats.is_old) {
        s->stats.is_old = false;
        balloon_ex_stats_ask(s);
    }
}

void balloon_ex_stats_put_back(VirtIOBalloonEx *s)
{
    if (s->stats.elem) {
        virtqueue_unpop(s->stats.vq, s->stats.elem, 0);
        g_clear_pointer(&s->stats.elem, g_free);
        s->stats.is_old = true;
    }
}

void balloon_ex_stats_drop(VirtIOBalloonEx *s)
{
    if (s->stats.elem) {
        virtqueue_detach_element(s->stats.vq, s->stats.elem, 0);
        g_clear_pointer(&s->stats.elem, g_free);
    }
    s->stats.is_old = false;
    forget_figures(&s->stats);
}

static void set_timer(VirtIOBalloonEx *s)
{
    if (s->stats.interval_ms) {
        timer_mod(s->stats.timer, qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL) +
                  s->stats.interval_ms);
    } else {
        timer_del(s->stats.timer);
    }
}

static void tick(void *opaque)
{
    VirtIOBalloonEx *s = opaque;

    balloon_ex_stats_ask(s);
    set_timer(s);
}

void balloon_ex_stats_start(VirtIOBalloonEx *s)
{
    forget_figures(&s->stats);
    s->stats.timer = timer_new_ms(QEMU_CLOCK_VIRTUAL, tick, s);
    set_timer(s);
}

void balloon_ex_stats_end(VirtIOBalloonEx *s)
{
    timer_free(s->stats.timer);
    s->stats.timer = NULL;
    balloon_ex_stats_drop(s);
}

/* As upstream's balloon has it: scripts read it. */
static void get_all(Object *obj, Visitor *v, const char *name, void *opaque,
                    Error **errp)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(obj);
    bool good;

    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    good = visit_type_int64(v, "last-update", &s->stats.updated_s, errp) &&
           visit_start_struct(v, "stats", NULL, 0, errp);
    if (good) {
        for (size_t i = 0; good && i < ARRAY_SIZE(known); i++) {
            good = visit_type_uint64(v, known[i].name,
                                     &s->stats.last[known[i].stat], errp);
        }
        good = good && visit_check_struct(v, errp);
        visit_end_struct(v, NULL);
    }
    if (good) {
        visit_check_struct(v, errp);
    }
    visit_end_struct(v, NULL);
}

static void get_interval(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(obj);
    int64_t seconds = DIV_ROUND_UP(s->stats.interval_ms, 1000);

    visit_type_int(v, name, &seconds, errp);
}

static void set_interval(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    VirtIOBalloonEx *s = VIRTIO_BALLOON_EX(obj);
    int64_t seconds;

    if (!visit_type_int(v, name, &seconds, errp)) {
        return;
    }
    if (seconds < 0 || seconds > UINT32_MAX / 1000) {
        error_setg(errp, "%s must be 0 to %u seconds", name,
                   UINT32_MAX / 1000);
        return;
    }
    s->stats.interval_ms = seconds * 1000;
    if (s->stats.timer) {
        balloon_ex_stats_ask(s);
        set_timer(s);
    }
}

void balloon_ex_stats_class_init(ObjectClass *klass)
{
    object_class_property_add(klass, "guest-stats", "guest statistics",
                              get_all, NULL, NULL, NULL);
    object_class_property_add(klass, "guest-stats-polling-interval", "int",
                              get_interval, set_interval, NULL, NULL);
}
