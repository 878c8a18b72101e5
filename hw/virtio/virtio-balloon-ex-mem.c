/*
 * balloon-ex and guest memory
 *
 * Owns what the device knows of RAM: it publishes the guest's address map to
 * the scheduler whenever QEMU's changes, passes on what the guest confirms,
 * and keeps migration and snapshots from reading memory that is not there.
 * State of pages is the scheduler's alone; nothing of it is kept here.
 *
 * Where this instance has no scheduler the same requests discard pages, as an
 * ordinary balloon does.
 *
 * Migration.  From setup to the end captures are forbidden, so that a page
 * that was sent stays what it was.  After each look at the dirty bitmap the
 * pages that are not in the guest are taken out of it: they read as zero on
 * the other side, which is what they read as here, and reading them here
 * would put host memory under each.  A page that the guest touches meanwhile
 * is dirty again and sent.  Postcopy and background snapshots want a
 * userfaultfd of their own on the same memory and fail for that reason.
 *
 * Loading a snapshot leaves alone what the stream does not mention, so
 * everything is taken out of the guest before.
 *
 * Threads: the BQL everywhere, except that the notifier of migration may run
 * in its thread; it reads the map, which the migration's own blocker of
 * memory hotplug keeps from changing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "system/instance-local.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "virtio-balloon-ex-mem.h"

/* A guest waits for its report: a frame of 2 MiB takes microseconds. */
#define REPORT_BUDGET_NS (10 * SCALE_MS)

/* All of RAM, while the machine stands still. */
#define LOAD_BUDGET_NS (10 * NANOSECONDS_PER_SECOND)

#define ABSENT ((1u << MEMSCHED_PAGE_HOLE) | \
                (1u << MEMSCHED_PAGE_BALLOONED) | \
                (1u << MEMSCHED_PAGE_REPORTED))

struct BalloonExMem {
    MemSchedClient *client;     /* NULL: an ordinary balloon */
    void *opaque;               /* of the device, for detaching */
    MemoryListener listener;
    GArray *map;                /* MemSchedGpaMapping, published */
    GArray *hosts;              /* void *, of each mapping */
    GArray *next_map;           /* between begin and commit */
    GArray *next_hosts;
    NotifierWithReturn precopy;
    bool inhibited;
};

/* The map */

static void map_begin(MemoryListener *listener)
{
    BalloonExMem *mem = container_of(listener, BalloonExMem, listener);

    g_array_set_size(mem->next_map, 0);
    g_array_set_size(mem->next_hosts, 0);
}

/* Called for old sections too, in ascending order of addresses. */
static void map_section(MemoryListener *listener, MemoryRegionSection *section)
{
    BalloonExMem *mem = container_of(listener, BalloonExMem, listener);
    MemoryRegion *mr = section->mr;
    MemSchedGpaMapping mapping;
    char *host;

    if (!memory_region_is_ram(mr) || memory_region_is_ram_device(mr) ||
        memory_region_is_rom(mr) || section->readonly) {
        return;
    }
    host = memory_region_get_ram_ptr(mr);
    mapping = (MemSchedGpaMapping) {
        .gpa = section->offset_within_address_space,
        .length_bytes = int128_get64(section->size),
        .region = memsched_instance_region(host),
        .offset_bytes = section->offset_within_region,
    };
    if (!mapping.region ||
        !QEMU_IS_ALIGNED(mapping.gpa | mapping.length_bytes |
                         mapping.offset_bytes, MEMSCHED_PAGE_SIZE)) {
        return;
    }
    host += mapping.offset_bytes;
    g_array_append_val(mem->next_map, mapping);
    g_array_append_val(mem->next_hosts, host);
}

static bool same(const GArray *a, const GArray *b)
{
    return a->len == b->len &&
        (!a->len || !memcmp(a->data, b->data,
                            a->len * sizeof(MemSchedGpaMapping)));
}

static void swap(GArray **a, GArray **b)
{
    GArray *kept = *a;

    *a = *b;
    *b = kept;
}

static void map_commit(MemoryListener *listener)
{
    BalloonExMem *mem = container_of(listener, BalloonExMem, listener);
    int ret;

    if (same(mem->map, mem->next_map)) {
        return;
    }
    ret = memsched_client_set_map(
        mem->client, (MemSchedGpaMapping *)mem->next_map->data,
        mem->next_map->len);
    if (ret < 0) {
        error_report("balloon-ex: the scheduler refuses the map of guest "
                     "memory: %s", strerror(-ret));
        return;
    }
    swap(&mem->map, &mem->next_map);
    swap(&mem->hosts, &mem->next_hosts);
}

/* Migration, snapshots, reset */

static void inhibit(BalloonExMem *mem, bool on)
{
    if (mem->inhibited != on) {
        mem->inhibited = on;
        memsched_client_inhibit(mem->client, on);
    }
}

static void skip_absent(const MemSchedGpaMapping *mapping, char *host)
{
    uint64_t start = mapping->offset_bytes >> MEMSCHED_PAGE_SHIFT;
    uint64_t end = start + (mapping->length_bytes >> MEMSCHED_PAGE_SHIFT);
    uint64_t page = start, first, count;

    while (page < end &&
           memsched_region_next_run(mapping->region, page, ABSENT, &first,
                                    &count) && first < end) {
        count = MIN(count, end - first);
        qemu_guest_free_page_hint(
            host + ((first - start) << MEMSCHED_PAGE_SHIFT),
            count << MEMSCHED_PAGE_SHIFT);
        page = first + count;
    }
}

static int precopy_notify_mem(NotifierWithReturn *notifier, void *data,
                              Error **errp)
{
    BalloonExMem *mem = container_of(notifier, BalloonExMem, precopy);
    PrecopyNotifyData *notification = data;

    switch (notification->reason) {
    case PRECOPY_NOTIFY_SETUP:
        inhibit(mem, true);
        break;
    case PRECOPY_NOTIFY_AFTER_BITMAP_SYNC:
        for (guint i = 0; i < mem->map->len; i++) {
            skip_absent(&g_array_index(mem->map, MemSchedGpaMapping, i),
                        g_array_index(mem->hosts, char *, i));
        }
        break;
    case PRECOPY_NOTIFY_CLEANUP:
        inhibit(mem, false);
        break;
    default:
        break;
    }
    return 0;
}

static void system_reset(void *opaque)
{
    BalloonExMem *mem = opaque;

    if (runstate_check(RUN_STATE_RESTORE_VM)) {
        for (guint i = 0; i < mem->map->len; i++) {
            MemSchedGpaMapping *mapping =
                &g_array_index(mem->map, MemSchedGpaMapping, i);
            MemSchedGpaRange all = {
                .gpa = mapping->gpa,
                .length_bytes = mapping->length_bytes,
            };
            MemSchedOpResult result;

            memsched_report(mem->client, &all, 1, LOAD_BUDGET_NS, &result);
        }
    }
    memsched_reset(mem->client, MEMSCHED_RESET_SYSTEM);
}

/* The life of it */

static void attach(BalloonExMem *mem)
{
    mem->listener = (MemoryListener) {
        .name = "balloon-ex",
        .begin = map_begin,
        .region_add = map_section,
        .region_nop = map_section,
        .commit = map_commit,
    };
    memory_listener_register(&mem->listener, &address_space_memory);
    mem->precopy.notify = precopy_notify_mem;
    precopy_add_notifier(&mem->precopy);
    qemu_register_reset(system_reset, mem);
}

static void free_arrays(BalloonExMem *mem)
{
    g_array_free(mem->map, true);
    g_array_free(mem->hosts, true);
    g_array_free(mem->next_map, true);
    g_array_free(mem->next_hosts, true);
    g_free(mem);
}

BalloonExMem *balloon_ex_mem_new(const MemSchedClientOps *ops, void *opaque,
                                 Error **errp)
{
    BalloonExMem *mem = g_new0(BalloonExMem, 1);
    int ret;

    mem->client = memsched_instance_client();
    mem->opaque = opaque;
    /* Cleared: padding takes part in comparisons. */
    mem->map = g_array_new(false, true, sizeof(MemSchedGpaMapping));
    mem->next_map = g_array_new(false, true, sizeof(MemSchedGpaMapping));
    mem->hosts = g_array_new(false, true, sizeof(char *));
    mem->next_hosts = g_array_new(false, true, sizeof(char *));
    if (!mem->client) {
        return mem;
    }
    ret = memsched_client_attach(mem->client, ops, opaque);
    if (ret < 0) {
        error_setg(errp, "the scheduler does not take this balloon: %s",
                   strerror(-ret));
        free_arrays(mem);
        return NULL;
    }
    attach(mem);
    return mem;
}

void balloon_ex_mem_free(BalloonExMem *mem)
{
    if (!mem) {
        return;
    }
    if (mem->client) {
        memsched_client_detach(mem->client, mem->opaque);
        qemu_unregister_reset(system_reset, mem);
        precopy_remove_notifier(&mem->precopy);
        memory_listener_unregister(&mem->listener);
        inhibit(mem, false);
        memsched_reset(mem->client, MEMSCHED_RESET_DEVICE);
    }
    free_arrays(mem);
}

/* An ordinary balloon: pages of 4 KiB go back to the host's kernel. */
static void discard(const MemSchedGpaRange *untrusted_range)
{
    uint64_t gpa = untrusted_range->gpa;
    uint64_t left = untrusted_range->length_bytes;

    while (left) {
        MemoryRegionSection section =
            memory_region_find(get_system_memory(), gpa, left);
        uint64_t size, start;
        MemoryRegion *mr = section.mr;

        if (!mr) {
            return;
        }
        start = section.offset_within_address_space;
        size = int128_get64(section.size);
        if (memory_region_is_ram(mr) && !memory_region_is_rom(mr) &&
            !memory_region_is_romd(mr) &&
            qemu_ram_pagesize(mr->ram_block) == MEMSCHED_PAGE_SIZE &&
            QEMU_IS_ALIGNED(section.offset_within_region | size,
                            MEMSCHED_PAGE_SIZE)) {
            ram_block_discard_range(mr->ram_block,
                                    section.offset_within_region, size);
        }
        memory_region_unref(mr);
        /* The section lies within [gpa, gpa + left): no overflow. */
        left -= start + size - gpa;
        gpa = start + size;
    }
}

static void discard_all(const MemSchedGpaRange *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        discard(&ranges[i]);
    }
}

void balloon_ex_mem_inflate(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                            size_t count, bool must_tell_host)
{
    MemSchedOpResult result;

    if (ram_block_discard_is_disabled()) {
        return;
    }
    if (mem->client) {
        memsched_inflate(mem->client, ranges, count, must_tell_host, &result);
    } else {
        discard_all(ranges, count);
    }
}

void balloon_ex_mem_deflate(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                            size_t count)
{
    MemSchedOpResult result;

    if (mem->client) {
        memsched_deflate(mem->client, ranges, count, &result);
    }
}

void balloon_ex_mem_report(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                           size_t count)
{
    MemSchedOpResult result;

    if (ram_block_discard_is_disabled()) {
        return;
    }
    if (mem->client) {
        memsched_report(mem->client, ranges, count, REPORT_BUDGET_NS, &result);
    } else {
        discard_all(ranges, count);
    }
}

void balloon_ex_mem_reset(BalloonExMem *mem)
{
    if (mem->client) {
        memsched_reset(mem->client, MEMSCHED_RESET_DEVICE);
    }
}

void balloon_ex_mem_actual(BalloonExMem *mem, uint64_t balloon_bytes)
{
    if (mem->client) {
        memsched_client_balloon_actual(mem->client, balloon_bytes);
    }
}

void balloon_ex_mem_manual(BalloonExMem *mem, uint64_t balloon_bytes)
{
    if (mem->client) {
        memsched_client_balloon_manual(mem->client, balloon_bytes);
    }
}

void balloon_ex_mem_oom_deflate(BalloonExMem *mem)
{
    if (mem->client) {
        memsched_client_oom_deflate(mem->client);
    }
}

void balloon_ex_mem_run(BalloonExMem *mem, bool running)
{
    if (mem->client) {
        memsched_client_run(mem->client, running);
    }
}

void balloon_ex_mem_stats(BalloonExMem *mem,
                          const uint64_t stats[MEMSCHED_STATS])
{
    if (mem->client) {
        memsched_client_stats(mem->client, stats);
    }
}
