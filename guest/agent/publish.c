/*
 * Conditions, for the programs of this guest
 *
 * The host's message is written into the condition page; then everybody is
 * told that there is something new: connected programs by a message, and those
 * who only watch the file by its times, which are set to now (writing through a
 * mapping is not seen by inotify).  A message that only confirms what is known
 * refreshes the age of the figures and wakes nobody.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

int publish_start(Agent *agent, char **ret_error)
{
    int rc;

    agent->page_path = g_build_filename(agent->options.run_dir,
                                        BX_CONDPAGE_NAME, NULL);
    rc = bx_condpage_create(agent->page_path, &agent->page);
    if (rc < 0) {
        *ret_error = g_strdup_printf("%s: %s", agent->page_path,
                                     rc == -EPERM ? "not a file of ours"
                                                  : g_strerror(-rc));
    } else if (bx_condpage_read(agent->page, &agent->figures) == 0) {
        /* What an agent before us wrote is old now. */
        publish_lost(agent);
    }
    return rc;
}

static void write_page(Agent *agent, const BxFigures *figures, bool tell)
{
    BxMessage m;

    agent->figures = *figures;
    bx_condpage_write(agent->page, figures);
    if (!tell) {
        return;
    }
    utimensat(AT_FDCWD, agent->page_path, NULL, 0);
    if (agent->locals && figures->is_connected) {
        bx_wire_init(&m, VBX_CONDITION, 0, 0);
        m.condition.generation = figures->generation;
        m.condition.condition = figures->level;
        m.condition.host = figures->host_level;
        m.condition.pressure = figures->pressure;
        m.condition.shares = figures->shares;
        m.condition.ram = figures->ram;
        m.condition.min = figures->min;
        m.condition.max = figures->max;
        m.condition.entitlement = figures->entitlement;
        m.condition.target = figures->target;
        m.condition.allocated = figures->allocated;
        m.condition.reservable = figures->reservable;
        m.condition.ballooned_kernel = figures->ballooned_kernel;
        m.condition.ballooned_application = figures->ballooned_application;
        m.condition.ballooned_reported = figures->ballooned_reported;
        memcpy(m.condition.session, figures->session,
               sizeof(m.condition.session));
        locals_send_all(agent->locals, &m);
    }
}

void publish_condition(Agent *agent, const struct vbx_condition *condition)
{
    const BxFigures *last = &agent->figures;
    BxFigures figures;
    bool changed;

    bx_figures_from_message(condition, bx_now_ns(), &figures);
    changed = !last->is_connected || last->generation != figures.generation ||
              memcmp(last->session, figures.session, sizeof(figures.session));
    write_page(agent, &figures, changed);
}

void publish_lost(Agent *agent)
{
    BxFigures figures = agent->figures;

    /* Nothing was ever known: then nothing is lost. */
    if (figures.gathered_ns) {
        figures.is_connected = 0;
        write_page(agent, &figures, true);
    }
}

void publish_stop(Agent *agent)
{
    if (agent->page) {
        publish_lost(agent);
        bx_condpage_unmap(agent->page);
    }
    g_free(agent->page_path);
}
