/*
 * What the contract promises and the library does not have yet.
 *
 * Weak: a file that defines a function for good replaces it without a word.
 * To be deleted once every function is there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>

#include "memsched/memsched.h"

#define PENDING __attribute__((weak))

PENDING
int memsched_start(const MemSchedOptions *options,
    void (*progress)(void *opaque, uint64_t done_bytes, uint64_t total_bytes),
    void *opaque, MemSched **ret_ms, MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
int memsched_stop(MemSched *ms)
{
    return -ENOSYS;
}

PENDING
MemSched *memsched_running(void)
{
    return NULL;
}

PENDING
int memsched_set(MemSched *ms, const MemSchedChange *change,
    MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
int memsched_client_new(MemSched *ms, const MemSchedClientOptions *options,
    MemSchedClient **ret_client, MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
void memsched_client_free(MemSchedClient *client)
{
}

PENDING
int memsched_client_set(MemSched *ms, const char *id,
    const MemSchedClientChange *change, MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
int memsched_client_attach(MemSchedClient *client,
    const MemSchedClientOps *ops, void *opaque)
{
    return -ENOSYS;
}

PENDING
void memsched_client_detach(MemSchedClient *client, void *opaque)
{
}

PENDING
void memsched_client_balloon_actual(MemSchedClient *client,
    uint64_t balloon_bytes)
{
}

PENDING
void memsched_client_balloon_manual(MemSchedClient *client,
    uint64_t balloon_bytes)
{
}

PENDING
void memsched_client_oom_deflate(MemSchedClient *client)
{
}

PENDING
void memsched_client_run(MemSchedClient *client, bool running)
{
}

PENDING
void memsched_client_inhibit(MemSchedClient *client, bool inhibit)
{
}

PENDING
void memsched_client_stats(MemSchedClient *client,
    const uint64_t stats[MEMSCHED_STATS])
{
}

PENDING
int memsched_region_new(MemSchedClient *client,
    const MemSchedRegionOptions *options, MemSchedRegion **ret_region,
    MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
void memsched_region_free(MemSchedRegion *region)
{
}

PENDING
int memsched_client_set_map(MemSchedClient *client,
    const MemSchedGpaMapping *mappings, size_t count)
{
    return -ENOSYS;
}

PENDING
void memsched_dma_begin(const void *host, uint64_t length_bytes)
{
}

PENDING
void memsched_dma_end(const void *host, uint64_t length_bytes)
{
}

PENDING
int memsched_inflate(MemSchedClient *client, const MemSchedGpaRange *ranges,
    size_t count, bool must_tell_host, MemSchedOpResult *ret_result)
{
    return -ENOSYS;
}

PENDING
int memsched_deflate(MemSchedClient *client, const MemSchedGpaRange *ranges,
    size_t count, MemSchedOpResult *ret_result)
{
    return -ENOSYS;
}

PENDING
int memsched_report(MemSchedClient *client, const MemSchedGpaRange *ranges,
    size_t count, uint64_t budget_ns, MemSchedOpResult *ret_result)
{
    return -ENOSYS;
}

PENDING
void memsched_reset(MemSchedClient *client, MemSchedReset kind)
{
}

PENDING
bool memsched_region_next_run(MemSchedRegion *region, uint64_t from_page,
    unsigned state_mask, uint64_t *ret_first_page, uint64_t *ret_count_pages)
{
    return false;
}

PENDING
int memsched_region_restore(MemSchedRegion *region, uint64_t first_page,
    uint64_t count_pages, MemSchedPageState state)
{
    return -ENOSYS;
}

PENDING
int memsched_reallocate(MemSched *ms, const MemSchedTransferOptions *options,
    uint64_t *ret_id, MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
size_t memsched_query_transfers(MemSched *ms, MemSchedTransferInfo *ret_infos,
    size_t max)
{
    return 0;
}

PENDING
void memsched_query(MemSched *ms, MemSchedInfo *ret_info)
{
}

PENDING
size_t memsched_query_clients(MemSched *ms, MemSchedClientInfo *ret_infos,
    size_t max)
{
    return 0;
}

PENDING
int memsched_query_client(MemSched *ms, const char *id,
    MemSchedClientInfo *ret_info)
{
    return -ENOSYS;
}

PENDING
MemSchedClient *memsched_client_find(MemSched *ms, const char *id)
{
    return NULL;
}

PENDING
int memsched_translate(MemSched *ms, const char *id, uint64_t gpa,
    MemSchedTranslation *ret_translation, MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
int memsched_check(MemSched *ms, MemSchedMessage *ret_message)
{
    return -ENOSYS;
}

PENDING
void memsched_observe(MemSched *ms, const MemSchedObserver *observer,
    void *opaque)
{
}
