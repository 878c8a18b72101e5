/*
 * bxctl condition: what the host says of this guest's memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "bxctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "balloonex.h"

static const struct {
    const char *name;
    size_t offset;
} sizes[] = {
    { "ram", offsetof(BxCondition, ram) },
    { "min", offsetof(BxCondition, min) },
    { "max", offsetof(BxCondition, max) },
    { "entitlement", offsetof(BxCondition, entitlement) },
    { "target", offsetof(BxCondition, target) },
    { "allocated", offsetof(BxCondition, allocated) },
    { "reservable", offsetof(BxCondition, reservable) },
    { "ballooned-kernel", offsetof(BxCondition, ballooned_kernel) },
    { "ballooned-application", offsetof(BxCondition, ballooned_application) },
    { "ballooned-reported", offsetof(BxCondition, ballooned_reported) },
};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static uint64_t size_of(const BxCondition *c, int which)
{
    uint64_t bytes;

    memcpy(&bytes, (const char *)c + sizes[which].offset, sizeof(bytes));
    return bytes;
}

static void print_session(const BxCondition *c)
{
    for (size_t i = 0; i < sizeof(c->session); i++) {
        printf("%02x", c->session[i]);
    }
}

static void print_text(const BxCondition *c)
{
    printf("%-22s %s\n", "condition", bx_level_name(c->level));
    printf("%-22s %s\n", "host", bx_level_name(c->host_level));
    printf("%-22s %u\n", "pressure", c->pressure);
    printf("%-22s %u\n", "shares", c->shares);
    for (int i = 0; i < SIZES; i++) {
        printf("%-22s %" PRIu64 " MiB\n", sizes[i].name, size_of(c, i) >> 20);
    }
    printf("%-22s %" PRIu64 "\n", "generation", c->generation);
    printf("%-22s ", "session");
    print_session(c);
    putchar('\n');
    printf("%-22s %" PRIu64 ".%03u s\n", "age", c->age_ms / 1000,
           (unsigned)(c->age_ms % 1000));
    if (!c->is_connected) {
        printf("the agent does not reach the host: these are the last "
               "figures\n");
    }
}

static void print_json(const BxCondition *c)
{
    printf("{\"condition\": \"%s\", \"host\": \"%s\", \"pressure\": %u, "
           "\"shares\": %u", bx_level_name(c->level),
           bx_level_name(c->host_level), c->pressure, c->shares);
    for (int i = 0; i < SIZES; i++) {
        printf(", \"%s\": %" PRIu64, sizes[i].name, size_of(c, i));
    }
    printf(", \"generation\": %" PRIu64 ", \"session\": \"", c->generation);
    print_session(c);
    printf("\", \"age-ms\": %" PRIu64 ", \"connected\": %s}\n", c->age_ms,
           c->is_connected ? "true" : "false");
}

typedef struct Watch {
    bool json;
    unsigned told;
} Watch;

static void on_condition(void *opaque, const BxCondition *condition)
{
    Watch *watch = opaque;

    if (watch->json) {
        print_json(condition);
    } else {
        printf("%-4s pressure %3u  allocated %" PRIu64 " MiB  target %"
               PRIu64 " MiB  reservable %" PRIu64 " MiB%s\n",
               bx_level_name(condition->level), condition->pressure,
               condition->allocated >> 20, condition->target >> 20,
               condition->reservable >> 20,
               condition->is_connected ? "" : "  (host not reached)");
    }
    /* Whoever reads this from a pipe wants it now. */
    fflush(stdout);
    watch->told++;
}

static int watch_for_ever(Bx *bx, bool json)
{
    Watch watch = { .json = json };

    bx_on_condition(bx, on_condition, &watch);
    while (!ferror(stdout)) {
        int rc;

        bx_dispatch(bx);
        rc = bx_wait(bx, -1);
        if (rc < 0 && rc != -EINTR) {
            fprintf(stderr, "bxctl: %s\n", strerror(-rc));
            return CTL_FAILED;
        }
    }
    return CTL_FAILED;
}

int ctl_condition(const char *run_dir, bool json, bool watch)
{
    BxCondition condition;
    int status = CTL_GOOD, rc;
    Bx *bx;

    rc = bx_open(run_dir, BX_CONDITION_ONLY, &bx);
    if (rc < 0) {
        fprintf(stderr, "bxctl: %s: %s\n", run_dir, strerror(-rc));
        return CTL_FAILED;
    }
    if (watch) {
        status = watch_for_ever(bx, json);
        bx_close(bx);
        return status;
    }
    rc = bx_condition_get(bx, &condition);
    if (rc < 0) {
        fprintf(stderr, "bxctl: %s/condition: %s\n", run_dir, rc == -ENODATA
                ? "nothing is known yet: balloon-exd does not run, or the "
                  "host has said nothing"
                : strerror(-rc));
        status = CTL_FAILED;
    } else if (json) {
        print_json(&condition);
    } else {
        print_text(&condition);
    }
    bx_close(bx);
    return status;
}
