/*
 * balloon-exd: the agent of balloon applications in a guest
 *
 * Holds the guest's one connection with the host, is the guest's own balloon,
 * and relays for the other programs that take part.  Everything happens in one
 * thread, from GLib's main loop.
 *
 * It is built to be of use when the guest has no memory left: it locks itself
 * into memory at the start, is the first that the kernel kills, and asks for
 * memory of its own in small pieces only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "requests.h"

static gboolean on_signal(gpointer opaque)
{
    g_main_loop_quit(opaque);
    return G_SOURCE_CONTINUE;
}

/* To standard error, where a service's messages are gathered. */
static GLogWriterOutput write_log(GLogLevelFlags level,
                                  const GLogField *fields, gsize count,
                                  gpointer opaque)
{
    const AgentOptions *options = opaque;
    GLogLevelFlags shown = G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL |
                           G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE;

    if (options->verbose) {
        shown |= G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG;
    }
    for (gsize i = 0; level & shown && i < count; i++) {
        if (g_str_equal(fields[i].key, "MESSAGE")) {
            fprintf(stderr, "balloon-exd: %s\n",
                    (const char *)fields[i].value);
        }
    }
    return G_LOG_WRITER_HANDLED;
}

/* Without it the guest might kill another program for what we hold. */
static void be_the_first_victim(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "1000", 4) != 4) {
        g_warning("/proc/self/oom_score_adj: %s; the kernel may kill another "
                  "program before this one", g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
}

static gboolean start(Agent *agent, char **ret_error)
{
    const char *run_dir = agent->options.run_dir;

    /* Others must be able to reach the condition page in it. */
    if (mkdir(run_dir, 0755) < 0 && errno != EEXIST) {
        *ret_error = g_strdup_printf("%s: %s", run_dir, g_strerror(errno));
        return FALSE;
    }
    agent->requests = g_new0(Requests, 1);
    agent->locals = locals_new(agent, ret_error);
    if (!agent->locals || publish_start(agent, ret_error) < 0) {
        return FALSE;
    }
    agent->port = port_new(agent->options.port, agent->options.root,
                           &host_port_ops, agent);
    agent->own = own_new(agent);
    agent->pressure = pressure_new(agent);
    stats_start(agent);
    return TRUE;
}

static void stop(Agent *agent)
{
    stats_stop(agent);
    host_stop(agent);
    pressure_free(agent->pressure);
    if (agent->sleep_source) {
        g_source_remove(agent->sleep_source);
    }
    /* The host sees the port close; what we held is free at the same time. */
    if (agent->port) {
        port_free(agent->port);
        own_free(agent->own);
    }
    publish_stop(agent);
    locals_free(agent->locals);
    g_free(agent->requests);
}

static int run(Agent *agent)
{
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    char *error = NULL;
    int status = EXIT_SUCCESS;

    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    be_the_first_victim();
    /*
     * What we have touched stays; untouched stack and heap cost nothing.  Fails
     * where RLIMIT_MEMLOCK is small; then we may be paged out.
     */
    mlockall(MCL_CURRENT | MCL_ONFAULT);
    if (start(agent, &error)) {
        g_main_loop_run(loop);
    } else {
        g_warning("%s", error);
        g_free(error);
        status = EXIT_FAILURE;
    }
    stop(agent);
    g_main_loop_unref(loop);
    return status;
}

int main(int argc, char **argv)
{
    Agent agent = { .welcome = false };
    char *error = NULL;
    int status;

    g_log_set_writer_func(write_log, &agent.options, NULL);
    if (!agent_options_parse(&argc, &argv, &agent.options, &error)) {
        fprintf(stderr, "balloon-exd: %s\n", error);
        g_free(error);
        status = EXIT_FAILURE;
    } else if (agent.options.version) {
        puts("balloon-exd " BALLOONEX_PROJECT_VERSION);
        status = EXIT_SUCCESS;
    } else {
        status = run(&agent);
    }
    agent_options_clear(&agent.options);
    return status;
}
