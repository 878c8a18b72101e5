/*
 * What tests of memory errors share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "client.h"
#include "errors.h"
#include "protect-int.h"

#define WAIT_US (20 * G_USEC_PER_SEC)

_Atomic unsigned errors_fixed, errors_lost;

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    switch (memsched_sigbus(info->si_addr)) {
    case MEMSCHED_SIGBUS_FIXED:
        errors_fixed++;
        break;
    case MEMSCHED_SIGBUS_LOST:
        errors_lost++;
        break;
    case MEMSCHED_SIGBUS_FOREIGN:
        abort();
    }
}

MemSched *errors_start(uint64_t pool_bytes)
{
    struct sigaction action = {
        .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER,
    };
    MemSchedOptions options = {
        .id = "test", .pool_bytes = pool_bytes, .allow_inject = true,
    };
    MemSchedMessage message = { "" };
    MemSched *ms = NULL;

    sigaction(SIGBUS, &action, NULL);
    if (memsched_start(&options, NULL, NULL, &ms, &message) < 0) {
        g_error("memsched_start: %s", message.text);
    }
    return ms;
}

void errors_protect(Guest *guest, MemSchedScheme scheme, unsigned group)
{
    errors_protect_and_scrub(guest, scheme, group, 0);
}

void errors_protect_and_scrub(Guest *guest, MemSchedScheme scheme,
                              unsigned group, uint64_t scrub_bytes_per_s)
{
    MemSchedProtection protection = {
        .scheme = scheme, .group_size = group, .cool_ms = 1,
        .rate_bytes_per_s = UINT64_C(1) << 40,
        .scrub_bytes_per_s = scrub_bytes_per_s,
    };
    MemSchedMessage message = { "" };

    if (memsched_protect(guest->ms, guest->id, &protection, &message) < 0) {
        g_error("memsched_protect: %s", message.text);
    }
}

MemSchedProtectionInfo errors_query(Guest *guest)
{
    MemSchedProtectionInfo info;

    g_assert_cmpint(memsched_query_protection(guest->ms, guest->id, &info),
                    ==, 0);
    return info;
}

void errors_wait_covered(Guest *guest, uint64_t pages)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;
    MemSchedProtectionInfo info;

    do {
        info = errors_query(guest);
        if (info.covered_bytes >= pages * MEMSCHED_PAGE_SIZE) {
            return;
        }
        g_usleep(200);
    } while (g_get_monotonic_time() < end);
    g_error("guest %s: %" G_GUINT64_FORMAT " KiB covered after 20 s, not %"
            G_GUINT64_FORMAT, guest->id, info.covered_bytes / 1024, pages * 4);
}

void errors_inject(Guest *guest, uint64_t page)
{
    MemSchedMessage message = { "" };

    if (memsched_inject_error(guest->ms, guest->id, page *
                              MEMSCHED_PAGE_SIZE, &message) < 0) {
        g_error("memsched_inject_error: %s", message.text);
    }
}

void errors_break(Guest *guest, uint64_t page)
{
    char *address = guest->ram + page * MEMSCHED_PAGE_SIZE;

    g_assert_cmpint(madvise(address, MEMSCHED_PAGE_SIZE, MADV_DONTNEED), ==,
                    0);
    g_assert_cmpint(ms_uffd_poison(&guest->client->uffd, address, 1, false),
                    ==, 0);
}

void errors_check(Guest *guest)
{
    const char *wrong = ms_protect_check(guest->region);

    g_assert_cmpstr(wrong, ==, NULL);
    guest_check(guest->ms);
}

uint64_t errors_row_mate(Guest *guest, uint64_t page, unsigned k)
{
    MsProtect *p = ms_protect_of(guest->region);
    uint64_t mate = UINT64_MAX;
    MsMember *m;

    ms_lock(&p->lock);
    m = ms_stripes_member(&p->stripes, page / 512);
    for (unsigned s = 0; s < p->stripes.size && mate == UINT64_MAX; s++) {
        MsMember *other = m->group->member[s];

        if (other && other != m &&
            ms_pageset_has(&other->in, page % 512) && k-- == 0) {
            mate = other->frame * 512 + page % 512;
        }
    }
    ms_unlock(&p->lock);
    g_assert_cmpuint(mate, !=, UINT64_MAX);
    return mate;
}
