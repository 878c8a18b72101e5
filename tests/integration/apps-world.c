/*
 * Two pretended guests, the first one with an agent, and transfers between them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>

#include "apps-world.h"
#include "transfers.h"

World *world_new(void)
{
    World *w = g_new0(World, 1);

    w->ms = guest_start(FRAMES(32));
    w->a = guest_new(w->ms, "a", FRAMES(12), 0);
    w->b = guest_new(w->ms, "b", FRAMES(12), 0);
    guest_fill(w->a, 0, 12 * 512, 1);
    w->agent = agent_new(w->a, 2 * 512, 8 * 512);
    return w;
}

void world_free(World *w)
{
    guest_check(w->ms);
    if (w->agent) {
        agent_free(w->agent);
        guest_check(w->ms);
    }
    guest_free(w->a);
    if (w->b) {
        guest_free(w->b);
    }
    guest_stop(w->ms);
    g_free(w);
}

/* ---- transfers ---- */

uint64_t apps_begin(World *w, uint64_t pages, MemSchedSource source,
                    unsigned deadline_ms)
{
    return transfer_start(w->ms, "a", "b", pages << MEMSCHED_PAGE_SHIFT,
                          source, deadline_ms);
}

MemSchedTransferInfo apps_wait_end(World *w, uint64_t id)
{
    return transfer_wait(w->ms, id);
}

MemSchedTransferInfo apps_give(World *w, uint64_t pages)
{
    MemSchedTransferInfo info = apps_wait_end(w, apps_begin(
        w, pages, MEMSCHED_SOURCE_APPLICATION, 20000));

    g_assert_cmpint(info.state, ==, MEMSCHED_TRANSFER_COMPLETED);
    g_assert_cmpuint(info.moved_bytes, ==, pages * MEMSCHED_PAGE_SIZE);
    guest_check(w->ms);
    return info;
}

MemSchedPageState apps_state(World *w, uint64_t page)
{
    MemSchedTranslation t;

    g_assert_cmpint(memsched_translate(w->ms, "a", page << MEMSCHED_PAGE_SHIFT,
                                       &t, NULL), ==, 0);
    return t.state;
}

uint64_t apps_credited(World *w)
{
    MemSchedClientInfo info;

    guest_query(w->a, &info);
    return info.ballooned_application_bytes >> MEMSCHED_PAGE_SHIFT;
}

uint64_t apps_known(World *w)
{
    MemSchedAppsInfo info;

    g_assert_cmpint(memsched_query_apps(w->ms, "a", &info), ==, 0);
    return info.known_bytes >> MEMSCHED_PAGE_SHIFT;
}

void apps_wait_known(World *w, uint64_t pages)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while (apps_known(w) != pages) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(200);
    }
}
