/*
 * bxctl status, veto, sleep: what is between the agent and its own tool
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "bxctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "talk.h"

static void print_app(const struct bx_local_app *app, bool json, bool first)
{
    bool known = app->flags & BX_LOCAL_APP_KNOWN;

    if (json) {
        /* The agent has made names printable; quotes are left. */
        char name[VBX_NAME_MAX];

        memcpy(name, app->name, sizeof(name));
        for (char *c = name; *c; c++) {
            *c = *c == '"' || *c == '\\' ? '_' : *c;
        }
        printf("%s{\"app\": %u, \"name\": \"%s\", \"pid\": %" PRIu64
               ", \"priority\": %u, \"reserved\": %" PRIu64
               ", \"known\": %s}", first ? "" : ", ", app->header.app, name,
               app->pid, app->priority, app->reserved_bytes,
               known ? "true" : "false");
        return;
    }
    if (first) {
        printf("%5s %-31s %8s %8s %9s\n", "app", "name", "process", "priority",
               "given");
    }
    printf("%5u %-31s %8" PRIu64 " %8u %5" PRIu64 " MiB%s\n", app->header.app,
           app->name, app->pid, app->priority, app->reserved_bytes >> 20,
           known ? "" : "  (not known to the host)");
}

static void print_agent_text(const struct bx_local_agent *a)
{
    printf("host          %s\n", a->flags & BX_LOCAL_AGENT_CONNECTED
           ? "connected" : "not reached");
    printf("given         %" PRIu64 " MiB, %" PRIu64 " of it in huge pages, %"
           PRIu64 " of earlier sessions\n", a->reserved_bytes >> 20,
           a->huge_bytes >> 20, a->stock_bytes >> 20);
    printf("could give    %" PRIu64 " MiB of %" PRIu64 " MiB available%s%s\n",
           a->spare_bytes >> 20, a->available_bytes >> 20,
           a->flags & BX_LOCAL_AGENT_PRESSED ? "; the guest was short lately"
                                             : "",
           a->flags & BX_LOCAL_AGENT_SLEEPS ? "; about to hibernate" : "");
    printf("given back    %" PRIu64 " MiB in all\n",
           a->given_back_bytes >> 20);
    printf("orders        %" PRIu64 "\n", a->orders);
    printf("requests      %u open\n", a->requests);
    if (a->refused_messages) {
        printf("refused       %" PRIu64 " messages\n", a->refused_messages);
    }
}

static void print_agent_json(const struct bx_local_agent *a)
{
    printf("\"connected\": %s, \"sleeps\": %s, \"pressed\": %s, "
           "\"reserved\": %" PRIu64 ", \"stock\": %" PRIu64 ", \"huge\": %"
           PRIu64 ", \"spare\": %" PRIu64 ", \"available\": %" PRIu64
           ", \"given-back\": %" PRIu64 ", \"orders\": %" PRIu64
           ", \"requests\": %u, \"refused-messages\": %" PRIu64 "}\n",
           a->flags & BX_LOCAL_AGENT_CONNECTED ? "true" : "false",
           a->flags & BX_LOCAL_AGENT_SLEEPS ? "true" : "false",
           a->flags & BX_LOCAL_AGENT_PRESSED ? "true" : "false",
           a->reserved_bytes, a->stock_bytes, a->huge_bytes, a->spare_bytes,
           a->available_bytes, a->given_back_bytes, a->orders, a->requests,
           a->refused_messages);
}

int ctl_status(const char *run_dir, bool json)
{
    int fd = talk_open(run_dir);
    bool first = true;
    BxMessage m;

    if (fd < 0) {
        return CTL_FAILED;
    }
    bx_wire_init(&m, BX_LOCAL_STATUS, 0, 1);
    if (talk_send(fd, &m) < 0) {
        close(fd);
        return CTL_FAILED;
    }
    if (json) {
        printf("{\"applications\": [");
    }
    while (talk_receive(fd, &m) == 0) {
        if (m.header.type == BX_LOCAL_APP) {
            print_app(&m.local_app, json, first);
            first = false;
        } else if (m.header.type == BX_LOCAL_AGENT) {
            if (json) {
                printf("], ");
                print_agent_json(&m.local_agent);
            } else {
                print_agent_text(&m.local_agent);
            }
            close(fd);
            return CTL_GOOD;
        }
    }
    close(fd);
    return CTL_FAILED;
}

int ctl_veto(const char *run_dir, unsigned duration_ms)
{
    int fd = talk_open(run_dir), status = CTL_FAILED;
    BxMessage m;

    if (fd < 0) {
        return CTL_FAILED;
    }
    bx_wire_init(&m, VBX_VETO, 0, 0);
    m.veto.duration_ms = duration_ms;
    m.veto.reason = VBX_REASON_VETO;
    if (talk_send(fd, &m) == 0) {
        /* The answer to this shows that the veto has been read. */
        bx_wire_init(&m, VBX_PING, 0, 1);
        status = talk_send(fd, &m) == 0 ? CTL_GOOD : CTL_FAILED;
    }
    while (status == CTL_GOOD && m.header.type != VBX_PONG) {
        status = talk_receive(fd, &m) == 0 ? CTL_GOOD : CTL_FAILED;
    }
    close(fd);
    return status;
}

int ctl_sleep(const char *run_dir, bool sleep)
{
    int fd = talk_open(run_dir), status = CTL_GOOD;
    BxMessage m;

    if (fd < 0) {
        return CTL_FAILED;
    }
    bx_wire_init(&m, BX_LOCAL_SLEEP, 0, 1);
    m.local_sleep.sleep = sleep;
    if (talk_send(fd, &m) < 0) {
        close(fd);
        return CTL_FAILED;
    }
    do {
        status = talk_receive(fd, &m) == 0 ? CTL_GOOD : CTL_FAILED;
    } while (status == CTL_GOOD && m.header.type != BX_LOCAL_SLEEP &&
             m.header.type != VBX_ERROR);
    if (status == CTL_GOOD && m.header.type == VBX_ERROR) {
        fprintf(stderr, "bxctl: only root may do that\n");
        status = CTL_FAILED;
    }
    close(fd);
    return status;
}
