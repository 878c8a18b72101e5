/*
 * A pretended guest for tests of the whole library
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "instance.h"

#define WAIT_US (20 * G_USEC_PER_SEC)

static void test_skipped(gconstpointer reason)
{
    g_test_skip(reason);
}

bool guest_usable(void)
{
    static MemSchedMessage message;
    MemSchedKernel kernel;

    if (memsched_probe(&kernel, &message) == 0 && kernel.move) {
        return true;
    }
    g_test_add_data_func("/usable", message.text[0] ? message.text
                         : "this kernel has no UFFDIO_MOVE", test_skipped);
    return false;
}

MemSched *guest_start(uint64_t pool_bytes)
{
    MemSchedOptions options = { .id = "test", .pool_bytes = pool_bytes };
    MemSchedMessage message = { "" };
    MemSched *ms = NULL;
    int ret = memsched_start(&options, NULL, NULL, &ms, &message);

    if (ret < 0) {
        g_error("memsched_start: %s: %s", g_strerror(-ret), message.text);
    }
    return ms;
}

void guest_check(MemSched *ms)
{
    MemSchedMessage message = { "" };
    int ret = memsched_check(ms, &message);

    if (ret < 0) {
        g_error("memsched_check: %s: %s", g_strerror(-ret), message.text);
    }
}

void guest_stop(MemSched *ms)
{
    guest_check(ms);
    g_assert_cmpint(memsched_stop(ms), ==, 0);
}

static Guest *guest_make(MemSched *ms, const char *id, uint64_t bytes,
                         uint64_t min_bytes, uint64_t offset, bool shared)
{
    MemSchedClientOptions options = { .id = id, .min_bytes = min_bytes };
    MemSchedRegionOptions ram = {
        .length_bytes = bytes, .name = "ram", .anonymous_private = !shared,
    };
    MemSchedGpaMapping mapping = { .length_bytes = bytes };
    MemSchedMessage message = { "" };
    Guest *guest = g_new0(Guest, 1);
    int ret;

    guest->ms = ms;
    guest->bytes = bytes;
    guest->shared = shared;
    g_strlcpy(guest->id, id, sizeof(guest->id));
    guest->map_bytes = bytes + 2 * MEMSCHED_FRAME_SIZE;
    guest->map = mmap(NULL, guest->map_bytes, PROT_READ | PROT_WRITE,
                      (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS |
                      MAP_NORESERVE, -1, 0);
    g_assert_true(guest->map != MAP_FAILED);
    guest->ram = (char *)(((uintptr_t)guest->map + MEMSCHED_FRAME_SIZE - 1) &
                          ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1)) + offset;
    ret = memsched_client_new(ms, &options, &guest->client, &message);
    if (ret < 0) {
        g_error("memsched_client_new: %s: %s", g_strerror(-ret),
                message.text);
    }
    ram.host = guest->ram;
    ret = memsched_region_new(guest->client, &ram, &guest->region, &message);
    if (ret < 0 && shared) {
        memsched_client_free(guest->client);
        munmap(guest->map, guest->map_bytes);
        g_free(guest);
        return NULL;
    }
    if (ret < 0) {
        g_error("memsched_region_new: %s: %s", g_strerror(-ret),
                message.text);
    }
    mapping.region = guest->region;
    g_assert_cmpint(memsched_client_set_map(guest->client, &mapping, 1), ==,
                    0);
    return guest;
}

Guest *guest_new_at(MemSched *ms, const char *id, uint64_t bytes,
                    uint64_t min_bytes, uint64_t offset)
{
    return guest_make(ms, id, bytes, min_bytes, offset, false);
}

Guest *guest_new(MemSched *ms, const char *id, uint64_t bytes,
                 uint64_t min_bytes)
{
    return guest_make(ms, id, bytes, min_bytes, 0, false);
}

Guest *guest_new_shared(MemSched *ms, const char *id, uint64_t bytes,
                        uint64_t min_bytes)
{
    return guest_make(ms, id, bytes, min_bytes, 0, true);
}

void guest_free(Guest *guest)
{
    memsched_client_free(guest->client);
    munmap(guest->map, guest->map_bytes);
    g_free(guest);
}

void guest_no_huge(Guest *guest)
{
    madvise(guest->ram, guest->bytes, MADV_NOHUGEPAGE);
    ms_lock(&guest->region->lock);
    guest->region->huge = false;
    ms_unlock(&guest->region->lock);
}

void guest_query(Guest *guest, MemSchedClientInfo *ret_info)
{
    guest_check(guest->ms);     /* waits until nothing is in transit */
    g_assert_cmpint(memsched_query_client(guest->ms, guest->id, ret_info),
                    ==, 0);
}

/* ---- content ---- */

static uint64_t word_of(uint64_t page, uint64_t seed, unsigned i)
{
    uint64_t x = (page * 512 + i + 1) * UINT64_C(0x9e3779b97f4a7c15) ^
                 seed * UINT64_C(0xbf58476d1ce4e5b9);

    x ^= x >> 29;
    return x ? x : 1;
}

static uint64_t *words(const Guest *guest, uint64_t page)
{
    return (uint64_t *)(guest->ram + page * MEMSCHED_PAGE_SIZE);
}

void guest_fill(Guest *guest, uint64_t first, uint64_t count, uint64_t seed)
{
    for (uint64_t p = first; p < first + count; p++) {
        for (unsigned i = 0; i < 512; i++) {
            /* Several vCPUs may fill one page. */
            __atomic_store_n(&words(guest, p)[i], word_of(p, seed, i),
                             __ATOMIC_RELAXED);
        }
    }
}

typedef struct Touch {
    char name[16];
    Guest *guest;
    uint64_t first, count, seed;
} Touch;

static gpointer touch(gpointer opaque)
{
    g_autofree Touch *t = opaque;

    pthread_setname_np(pthread_self(), t->name);
    guest_fill(t->guest, t->first, t->count, t->seed);
    return NULL;
}

GThread *guest_touch(const char *name, Guest *guest, uint64_t first,
                     uint64_t count, uint64_t seed)
{
    Touch *t = g_new(Touch, 1);

    *t = (Touch) {
        .guest = guest, .first = first, .count = count, .seed = seed,
    };
    g_strlcpy(t->name, name, sizeof(t->name));
    return g_thread_new(name, touch, t);
}

bool guest_page_is(const Guest *guest, uint64_t page, uint64_t seed)
{
    for (unsigned i = 0; i < 512; i++) {
        if (words(guest, page)[i] != word_of(page, seed, i)) {
            return false;
        }
    }
    return true;
}

bool guest_page_is_zero(const Guest *guest, uint64_t page)
{
    for (unsigned i = 0; i < 512; i++) {
        if (words(guest, page)[i]) {
            return false;
        }
    }
    return true;
}

void guest_assert(const Guest *guest, uint64_t first, uint64_t count,
                  uint64_t seed)
{
    for (uint64_t p = first; p < first + count; p++) {
        if (!guest_page_is(guest, p, seed)) {
            g_error("guest %s, page %" G_GUINT64_FORMAT " has lost its"
                    " content", guest->id, p);
        }
    }
}

void guest_assert_zero(const Guest *guest, uint64_t first, uint64_t count)
{
    for (uint64_t p = first; p < first + count; p++) {
        if (!guest_page_is_zero(guest, p)) {
            g_error("guest %s, page %" G_GUINT64_FORMAT " is not zero",
                    guest->id, p);
        }
    }
}

/* ---- balloon ---- */

static MemSchedGpaRange range_of(uint64_t first, uint64_t count)
{
    return (MemSchedGpaRange) {
        .gpa = first << MEMSCHED_PAGE_SHIFT,
        .length_bytes = count << MEMSCHED_PAGE_SHIFT,
    };
}

MemSchedOpResult guest_inflate(Guest *guest, uint64_t first, uint64_t count,
                               bool must_tell_host)
{
    MemSchedGpaRange range = range_of(first, count);
    MemSchedOpResult result;

    g_assert_cmpint(memsched_inflate(guest->client, &range, 1,
                                     must_tell_host, &result), ==, 0);
    return result;
}

MemSchedOpResult guest_deflate(Guest *guest, uint64_t first, uint64_t count)
{
    MemSchedGpaRange range = range_of(first, count);
    MemSchedOpResult result;

    g_assert_cmpint(memsched_deflate(guest->client, &range, 1, &result), ==,
                    0);
    return result;
}

MemSchedOpResult guest_report(Guest *guest, uint64_t first, uint64_t count)
{
    MemSchedGpaRange range = range_of(first, count);
    MemSchedOpResult result;

    g_assert_cmpint(memsched_report(guest->client, &range, 1, UINT64_MAX,
                                    &result), ==, 0);
    return result;
}

void guest_wait_ballooned(Guest *guest, uint64_t pages)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedClientInfo info;

    do {
        g_assert_cmpint(memsched_query_client(guest->ms, guest->id, &info),
                        ==, 0);
        if (info.ballooned_kernel_bytes >= pages * MEMSCHED_PAGE_SIZE) {
            return;
        }
        g_usleep(100);
    } while (g_get_monotonic_time() < end);
    g_error("guest %s: %" G_GUINT64_FORMAT " KiB ballooned after 20 s, not %"
            G_GUINT64_FORMAT, guest->id, info.ballooned_kernel_bytes / 1024,
            pages * 4);
}
