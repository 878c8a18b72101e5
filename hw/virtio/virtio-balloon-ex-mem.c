/*
 * balloon-ex and guest memory
 *
 * Owns the way from the device to the scheduler's client of this instance:
 * what the guest confirms is passed on, and what came of it is traced.  The
 * state of pages is the scheduler's alone; nothing of it is kept here.  The
 * map from guest physical addresses to RAM is published by system/ram.c.
 *
 * Where this instance has no scheduler the same requests discard pages, as an
 * ordinary balloon does.  Whole pages of writable RAM are given back to the
 * host's kernel, anything else is left alone.
 *
 * Where somebody has guest RAM pinned or mapped for good
 * (ram_block_discard_disable()) nothing is taken at all.
 *
 * Threads: the BQL.  The callbacks of MemSchedClientOps are the device's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "qapi/error.h"
#include "qemu/timer.h"
#include "system/instance-local.h"
#include "trace/trace-system_memsched.h"
#include "virtio-balloon-ex-mem.h"
#include "virtio-balloon-ex-migrate.h"

/* A guest waits for its report: a frame of 2 MiB takes microseconds. */
#define REPORT_BUDGET_NS (10 * SCALE_MS)

struct BalloonExMem {
    MemSchedClient *client;     /* NULL: an ordinary balloon */
    void *opaque;               /* of the device, for detaching */
    BalloonExMigrate *migrate;
};

BalloonExMem *balloon_ex_mem_new(const MemSchedClientOps *ops, void *opaque,
                                 Error **errp)
{
    MemSchedClient *client = memsched_instance_client();
    BalloonExMem *mem;
    int ret;

    if (client) {
        ret = memsched_client_attach(client, ops, opaque);
        if (ret < 0) {
            error_setg(errp, "the memory scheduler does not take this "
                       "balloon: %s", strerror(-ret));
            return NULL;
        }
    }
    mem = g_new0(BalloonExMem, 1);
    mem->client = client;
    mem->opaque = opaque;
    if (client) {
        mem->migrate = balloon_ex_migrate_new(client);
    }
    return mem;
}

void balloon_ex_mem_free(BalloonExMem *mem)
{
    if (!mem) {
        return;
    }
    if (mem->client) {
        memsched_client_detach(mem->client, mem->opaque);
        balloon_ex_migrate_free(mem->migrate);
        memsched_reset(mem->client, MEMSCHED_RESET_DEVICE);
    }
    g_free(mem);
}

/* True where the pages of @section may be discarded one by one. */
static bool may_discard(const MemoryRegionSection *section)
{
    MemoryRegion *mr = section->mr;

    return memory_region_is_ram(mr) && !memory_region_is_rom(mr) &&
        !memory_region_is_romd(mr) && !memory_region_is_ram_device(mr) &&
        qemu_ram_pagesize(mr->ram_block) == MEMSCHED_PAGE_SIZE &&
        QEMU_IS_ALIGNED(section->offset_within_region |
                        int128_get64(section->size), MEMSCHED_PAGE_SIZE);
}

/* An ordinary balloon: pages go back to the host's kernel. */
static void discard(const MemSchedGpaRange *untrusted_range)
{
    uint64_t gpa = untrusted_range->gpa;
    uint64_t left = untrusted_range->length_bytes;

    while (left) {
        MemoryRegionSection section =
            memory_region_find(get_system_memory(), gpa, left);
        uint64_t end;

        if (!section.mr) {
            trace_balloon_ex_refused("discard", left >> MEMSCHED_PAGE_SHIFT);
            return;
        }
        if (may_discard(&section)) {
            ram_block_discard_range(section.mr->ram_block,
                                    section.offset_within_region,
                                    int128_get64(section.size));
        }
        memory_region_unref(section.mr);
        /* The section lies within [gpa, gpa + left): nothing overflows. */
        end = section.offset_within_address_space +
              int128_get64(section.size);
        left -= end - gpa;
        gpa = end;
    }
}

static void discard_all(const MemSchedGpaRange *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        discard(&ranges[i]);
    }
}

static void trace_result(const char *what, int ret,
                         const MemSchedOpResult *result)
{
    if (ret < 0) {
        return;                 /* -EBUSY: the pages stay with the guest */
    }
    trace_balloon_ex_result(what, result->captured_pages, result->given_pages,
                            result->populated_pages, result->busy_pages);
    if (result->refused_pages) {
        trace_balloon_ex_refused(what, result->refused_pages);
    }
}

void balloon_ex_mem_inflate(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                            size_t count, bool must_tell_host)
{
    MemSchedOpResult result = { 0 };

    if (ram_block_discard_is_disabled()) {
        return;
    }
    if (mem->client) {
        int ret = memsched_inflate(mem->client, ranges, count, must_tell_host,
                                   &result);

        trace_result("inflate", ret, &result);
    } else {
        discard_all(ranges, count);
    }
}

void balloon_ex_mem_deflate(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                            size_t count)
{
    MemSchedOpResult result = { 0 };

    if (mem->client) {
        int ret = memsched_deflate(mem->client, ranges, count, &result);

        trace_result("deflate", ret, &result);
    }
}

void balloon_ex_mem_report(BalloonExMem *mem, const MemSchedGpaRange *ranges,
                           size_t count)
{
    MemSchedOpResult result = { 0 };

    if (ram_block_discard_is_disabled()) {
        return;
    }
    if (mem->client) {
        int ret = memsched_report(mem->client, ranges, count,
                                  REPORT_BUDGET_NS, &result);

        trace_result("report", ret, &result);
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

void balloon_ex_mem_stats(BalloonExMem *mem,
                          const uint64_t stats[MEMSCHED_STATS])
{
    if (mem->client) {
        memsched_client_stats(mem->client, stats);
    }
}
