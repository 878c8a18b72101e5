/*
 * The guest's own need comes first
 *
 * Two things are watched.  The kernel tells when tasks have waited for memory
 * (pressure stall information, a trigger on /proc/pressure/memory and on the
 * same file of our own control group); that comes within the second in which it
 * happens.  And once a second, four times where there is no trigger, what is
 * available is looked at while we hold anything.
 *
 * Upon either, memory goes back at once: unmapped first, told afterwards.  For
 * ten seconds after that nothing is given, or the host would have it again
 * before those who waited have got it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

#include "spare.h"

#define TICK_MS         1000u
#define TICK_ALONE_MS   250u
#define PRESSED_MS      10000u

/* Tasks waited 100 ms within a second; without privileges, within two. */
#define TRIGGER         "some 100000 1000000"
#define TRIGGER_ANYBODY "some 200000 2000000"

enum { TRIGGERS = 2 };

struct Pressure {
    Agent *agent;
    int fd[TRIGGERS];
    guint source[TRIGGERS];
    guint tick_source;
    uint64_t pressed_until_ms;
};

static void look(Pressure *pressure, bool pressed)
{
    Agent *agent = pressure->agent;
    uint64_t held = own_held_bytes(agent->own), excess, gone;
    MemoryState memory;
    SpareLimits limits;

    if (memory_read(agent->options.root, &memory) < 0) {
        return;
    }
    limits = spare_limits(&memory, agent->options.max_fraction_percent,
                          agent->options.keep_available_bytes);
    excess = spare_excess(&limits, &memory, held, pressed);
    if (pressed || excess) {
        pressure->pressed_until_ms = agent_now_ms() + PRESSED_MS;
    }
    if (excess) {
        gone = own_shrink(agent->own, excess, VBX_REASON_PRESSURE);
        g_message("the guest is short of memory: %" G_GUINT64_FORMAT
                  " MiB given back", gone >> 20);
    }
}

static gboolean on_tick(gpointer opaque)
{
    Pressure *pressure = opaque;

    if (own_held_bytes(pressure->agent->own)) {
        look(pressure, false);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_trigger(gint fd, GIOCondition condition, gpointer opaque)
{
    Pressure *pressure = opaque;

    if (condition & (G_IO_ERR | G_IO_NVAL)) {
        return G_SOURCE_REMOVE;         /* the control group is gone */
    }
    look(pressure, true);
    return G_SOURCE_CONTINUE;
}

static int open_trigger(const char *path)
{
    static const char *const triggers[] = { TRIGGER, TRIGGER_ANYBODY };

    for (size_t i = 0; i < G_N_ELEMENTS(triggers); i++) {
        int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0) {
            return -errno;
        }
        if (write(fd, triggers[i], strlen(triggers[i]) + 1) > 0) {
            return fd;
        }
        close(fd);
    }
    return -EPERM;
}

static bool watch(Pressure *pressure, int which, const char *path)
{
    int fd = path ? open_trigger(path) : -ENOENT;

    pressure->fd[which] = fd;
    if (fd < 0) {
        return false;
    }
    pressure->source[which] = g_unix_fd_add(fd, G_IO_PRI | G_IO_ERR,
                                            on_trigger, pressure);
    return true;
}

Pressure *pressure_new(Agent *agent)
{
    Pressure *pressure = g_new0(Pressure, 1);
    const char *root = agent->options.root;
    g_autofree char *system = g_strconcat(root, "/proc/pressure/memory", NULL);
    g_autofree char *cgroup = memory_cgroup(root), *own = NULL;
    bool good;

    pressure->agent = agent;
    own = cgroup ? g_build_filename(cgroup, "memory.pressure", NULL) : NULL;
    good = watch(pressure, 0, system);
    watch(pressure, 1, own);
    if (!good) {
        g_message("the kernel does not tell of memory pressure (%s); what is "
                  "available is looked at instead", system);
    }
    pressure->tick_source = g_timeout_add(good ? TICK_MS : TICK_ALONE_MS,
                                          on_tick, pressure);
    return pressure;
}

bool pressure_is_on(const Pressure *pressure)
{
    return agent_now_ms() < pressure->pressed_until_ms;
}

void pressure_free(Pressure *pressure)
{
    if (!pressure) {
        return;
    }
    g_source_remove(pressure->tick_source);
    for (int i = 0; i < TRIGGERS; i++) {
        if (pressure->fd[i] >= 0) {
            if (pressure->source[i]) {
                g_source_remove(pressure->source[i]);
            }
            close(pressure->fd[i]);
        }
    }
    g_free(pressure);
}
