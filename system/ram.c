/*
 * Guest RAM of this instance, and the scheduler.
 *
 * Owns the instance's regions: each RAMBlock that is guest RAM is registered
 * when it is made, before anything has touched it, and freed when it goes or
 * when the instance has ended.  Guest RAM is what a memory backend owns; VGA,
 * ROM and tables of firmware stay outside.  Publishes the guest's map of
 * addresses whenever it changes, and tells whether the machine runs.
 *
 * The client of the scheduler is the launcher's in a guest.  An instance 0
 * that has guest RAM of its own registers as "main" here.
 *
 * RAM that the scheduler cannot manage is refused with one sentence, and with
 * it the guest that asked; KSM is switched off for what it manages, since a
 * page that KSM has merged is nobody's.
 *
 * Invariants: regions[] has each registered block once.  The map published
 * last is kept, so that the many changes of an address space that move no RAM
 * cost a comparison.
 *
 * Threads: under the BQL; memsched_instance_client() anywhere, and
 * memsched_ram_release() once no thread of the instance runs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "exec/ramlist.h"
#include "exec/cpu-common.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "system/hostmem.h"
#include "system/instance-local.h"
#include "system/runstate.h"
#include "guest-pause.h"
#include "system/memory-error.h"
#include "wrap.h"

/* Boards have one block of RAM, NUMA machines one a node, DIMMs one each. */
#define REGIONS_MAX 512

static struct {
    MemSchedClient *client;
    bool own_client;            /* ours to free: instance 0 */
    bool listening;
    unsigned count;
    struct {
        void *host;
        uint64_t length_bytes;
        MemSchedRegion *region;
    } regions[REGIONS_MAX];
    GArray *map;                /* of MemSchedGpaMapping, published last */
} ram;

MemSchedClient *memsched_instance_client(void)
{
    return qatomic_read(&ram.client);
}

MemSchedRegion *memsched_instance_region(const void *host)
{
    for (unsigned i = 0; i < ram.count; i++) {
        if ((uintptr_t)host - (uintptr_t)ram.regions[i].host <
            ram.regions[i].length_bytes) {
            return ram.regions[i].region;
        }
    }
    return NULL;
}

static void add_run(GArray *map, uint64_t gpa, uint64_t length,
                    MemSchedRegion *region, uint64_t offset)
{
    uint64_t lead = -gpa & (MEMSCHED_PAGE_SIZE - 1);
    MemSchedGpaMapping run;

    if (length <= lead) {
        return;
    }
    run = (MemSchedGpaMapping) {
        .gpa = gpa + lead,
        .length_bytes = (length - lead) & ~(MEMSCHED_PAGE_SIZE - 1),
        .region = region,
        .offset_bytes = offset + lead,
    };
    /* Where the two differ within a page, no whole page is mapped. */
    if (run.length_bytes && !(run.offset_bytes & (MEMSCHED_PAGE_SIZE - 1))) {
        g_array_append_val(map, run);
    }
}

static bool collect_run(Int128 start, Int128 length, const MemoryRegion *mr,
                        hwaddr offset_in_region, void *opaque)
{
    MemSchedRegion *region;

    if (!mr->ram || mr->readonly || mr->rom_device || !mr->ram_block) {
        return false;
    }
    region = memsched_instance_region(mr->ram_block->host);
    if (region) {
        add_run(opaque, int128_get64(start), int128_get64(length), region,
                offset_in_region);
    }
    return false;
}

static bool same_map(const GArray *a, const GArray *b)
{
    return a && a->len == b->len &&
        !memcmp(a->data, b->data, a->len * sizeof(MemSchedGpaMapping));
}

static void publish_map(MemoryListener *listener)
{
    GArray *map = g_array_new(FALSE, TRUE, sizeof(MemSchedGpaMapping));
    int ret;

    WITH_RCU_READ_LOCK_GUARD() {
        flatview_for_each_range(address_space_to_flatview(
                                    &address_space_memory),
                                collect_run, map);
    }
    if (same_map(ram.map, map)) {
        g_array_free(map, TRUE);
        return;
    }
    ret = memsched_client_set_map(ram.client,
                                  (MemSchedGpaMapping *)map->data, map->len);
    if (ret < 0) {
        warn_report_once("the memory scheduler does not take the guest's map "
                         "of addresses: %s", strerror(-ret));
        g_array_free(map, TRUE);
        return;
    }
    if (ram.map) {
        g_array_free(ram.map, TRUE);
    }
    ram.map = map;
}

static MemoryListener listener = {
    .name = "memsched",
    .commit = publish_map,
};

static void run_state_changed(void *opaque, bool running, RunState state)
{
    memsched_client_run(ram.client, running);
}

static void G_NORETURN refuse(const char *sentence)
{
    error_report("%s", sentence);
    exit(EXIT_FAILURE);
}

/* Instance 0 has RAM of its own and a scheduler runs: it is a guest too. */
static MemSchedClient *admit_main(void)
{
    MemSchedClientOptions options = { .id = MEMSCHED_MAIN_ID };
    MemSchedMessage message = { "" };
    MemSchedClient *client;
    int ret;

    if (!memsched_running()) {
        return NULL;
    }
    ret = memsched_client_new(memsched_running(), &options, &client, &message);
    if (ret < 0) {
        refuse(message.text[0] ? message.text : strerror(-ret));
    }
    ram.own_client = true;
    return client;
}

/* True where the scheduler is to manage the RAM of this instance. */
static bool have_client(void)
{
    if (!ram.client) {
        qatomic_set(&ram.client, instance_guest() ? instance_context->client
                                                  : admit_main());
        if (ram.client) {
            memory_error_init();
            qemu_add_vm_change_state_handler(run_state_changed, NULL);
            memsched_client_run(ram.client, runstate_is_running());
            guest_pause_init(ram.client);
            /* Touches of vCPUs are told from those of devices by the name. */
            qemu_thread_naming(true);
        }
    }
    return ram.client;
}

/* The block is in no list by name yet: find it by its address. */
static RAMBlock *block_of(void *host)
{
    ram_addr_t offset;

    RCU_READ_LOCK_GUARD();
    return qemu_ram_block_from_host(host, false, &offset);
}

static HostMemoryBackend *backend_of(RAMBlock *block)
{
    Object *owner = block->mr ? block->mr->owner : NULL;

    return owner ? (HostMemoryBackend *)
        object_dynamic_cast(owner, TYPE_MEMORY_BACKEND) : NULL;
}

static void check_backend(HostMemoryBackend *backend)
{
    if (backend->prealloc) {
        refuse("prealloc=on would take memory that -object memsched hands "
               "out on demand; leave it out");
    }
    if (backend->guest_memfd) {
        refuse("memory of a confidential guest cannot be managed by -object "
               "memsched");
    }
    /* Before the backend acts on it. */
    backend->merge = false;
}

/* Pages set aside for hugetlbfs cannot become anybody else's. */
static void check_page_size(RAMBlock *block)
{
    if (qemu_ram_pagesize(block) != MEMSCHED_PAGE_SIZE) {
        refuse("RAM of hugetlbfs cannot be managed by -object memsched, whose "
               "pool has huge pages of its own; use ordinary RAM");
    }
}

static void register_block(void *host, size_t length, RAMBlock *block)
{
    MemSchedRegionOptions options = {
        .host = host,
        .length_bytes = length,
        .name = memory_region_name(block->mr),
        .anonymous_private = !qemu_ram_is_shared(block) && block->fd < 0,
    };
    MemSchedMessage message = { "" };
    MemSchedRegion *region;
    int ret;

    if (ram.count == REGIONS_MAX) {
        refuse("too many blocks of RAM for -object memsched");
    }
    ret = memsched_region_new(ram.client, &options, &region, &message);
    if (ret < 0) {
        refuse(message.text[0] ? message.text : strerror(-ret));
    }
    ram.regions[ram.count].host = host;
    ram.regions[ram.count].length_bytes = length;
    ram.regions[ram.count].region = region;
    ram.count++;
}

static void block_added(RAMBlockNotifier *n, void *host, size_t size,
                        size_t max_size)
{
    RAMBlock *block = block_of(host);
    HostMemoryBackend *backend = block ? backend_of(block) : NULL;

    if (!backend || !have_client()) {
        return;
    }
    check_backend(backend);
    check_page_size(block);
    register_block(host, max_size, block);
    if (!ram.listening) {
        ram.listening = true;
        memory_listener_register(&listener, &address_space_memory);
    }
}

static void block_removed(RAMBlockNotifier *n, void *host, size_t size,
                          size_t max_size)
{
    for (unsigned i = 0; i < ram.count; i++) {
        if (ram.regions[i].host == host) {
            MemSchedRegion *region = ram.regions[i].region;

            ram.regions[i] = ram.regions[--ram.count];
            /* It is in no address space any more. */
            publish_map(&listener);
            memsched_region_free(region);
            return;
        }
    }
}

void memsched_ram_release(void)
{
    /* The scheduler's thread calls into this copy no more. */
    memsched_client_ending(ram.client);
    while (ram.count) {
        memsched_region_free(ram.regions[--ram.count].region);
    }
    if (ram.own_client) {
        memsched_client_free(ram.client);
    }
    qatomic_set(&ram.client, NULL);
}

static RAMBlockNotifier notifier = {
    .ram_block_added = block_added,
    .ram_block_removed = block_removed,
};

/* Types are registered before any RAM is made. */
static void memsched_ram_register(void)
{
    ram_block_notifier_add(&notifier);
}

type_init(memsched_ram_register)
