/*
 * bxctl: look at this guest's memory condition, ask for memory, ask for peace
 *
 * Needs the C library alone, and is of use in an initramfs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "bxctl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloonex.h"
#include "size.h"

static const char usage[] =
    "Usage: bxctl [--run-dir DIR] COMMAND\n"
    "\n"
    "  condition [--json] [--watch]\n"
    "      what the host says of this guest's memory\n"
    "  request SIZE [--priority 0..9] [--reason WHY] [--deadline SECONDS]\n"
    "          [--wait] [--json]\n"
    "      ask the host for memory; WHY: cache, heap, start, pressure\n"
    "  status [--json]\n"
    "      who gives how much\n"
    "  veto [SECONDS]\n"
    "      nothing shall be taken for so long (default 60; 0 ends it)\n"
    "  sleep | wake\n"
    "      give everything back before hibernation; it is over\n";

typedef struct Arguments {
    const char *run_dir, *priority, *reason, *deadline;
    bool json, watch, wait;
    const char *command, *operand;
} Arguments;

static int complain(const char *what, const char *value)
{
    fprintf(stderr, "bxctl: %s%s%s\n", what, value ? ": " : "",
            value ? value : "");
    return CTL_FAILED;
}

/* False where it is no whole number of that range. */
static bool number(const char *text, unsigned long max, unsigned *ret_number)
{
    unsigned long value;
    char *end;

    if (text[0] < '0' || text[0] > '9' || strlen(text) > 9) {
        return false;
    }
    value = strtoul(text, &end, 10);
    *ret_number = (unsigned)value;
    return !*end && value <= max;
}

static int request(const Arguments *a)
{
    CtlRequest r = {
        .deadline_ms = 30000, .priority = 5, .wait = a->wait, .json = a->json,
    };
    unsigned seconds = 30;
    int want = a->reason ? ctl_want(a->reason) : 0;

    if (!a->operand || bx_size_parse(a->operand, &r.bytes) < 0 || !r.bytes) {
        return complain("request needs a size such as 256M", a->operand);
    }
    if (a->priority && !number(a->priority, BX_PRIORITY_MAX, &r.priority)) {
        return complain("a priority is 0 to 9", a->priority);
    }
    if (a->deadline &&
        !number(a->deadline, BX_DEADLINE_MAX_MS / 1000, &seconds)) {
        return complain("a deadline is 0 to 600 seconds", a->deadline);
    }
    if (want < 0) {
        return complain("a reason is cache, heap, start or pressure",
                        a->reason);
    }
    r.want = (unsigned)want;
    r.deadline_ms = seconds * 1000;
    return ctl_request(a->run_dir, &r);
}

static int veto(const Arguments *a)
{
    unsigned seconds = BX_VETO_MAX_MS / 1000;

    if (a->operand &&
        !number(a->operand, BX_VETO_MAX_MS / 1000, &seconds)) {
        return complain("a veto lasts 0 to 60 seconds", a->operand);
    }
    return ctl_veto(a->run_dir, seconds * 1000);
}

static int run(const Arguments *a)
{
    const char *command = a->command;

    if (strcmp(command, "request") == 0) {
        return request(a);
    } else if (strcmp(command, "veto") == 0) {
        return veto(a);
    } else if (a->operand) {
        return complain("one word too many", a->operand);
    } else if (strcmp(command, "condition") == 0) {
        return ctl_condition(a->run_dir, a->json, a->watch);
    } else if (strcmp(command, "status") == 0) {
        return ctl_status(a->run_dir, a->json);
    } else if (strcmp(command, "sleep") == 0) {
        return ctl_sleep(a->run_dir, true);
    } else if (strcmp(command, "wake") == 0) {
        return ctl_sleep(a->run_dir, false);
    }
    return complain("there is no such command (see bxctl --help)", command);
}

/* Returns an exit status, or -1 to go on. */
static int parse(int argc, char **argv, Arguments *a)
{
    static const struct option options[] = {
        { "run-dir", required_argument, NULL, 'd' },
        { "json", no_argument, NULL, 'j' },
        { "watch", no_argument, NULL, 'w' },
        { "wait", no_argument, NULL, 'W' },
        { "priority", required_argument, NULL, 'p' },
        { "reason", required_argument, NULL, 'r' },
        { "deadline", required_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int letter;

    while ((letter = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (letter) {
        case 'd':
            a->run_dir = optarg;
            break;
        case 'j':
            a->json = true;
            break;
        case 'w':
            a->watch = true;
            break;
        case 'W':
            a->wait = true;
            break;
        case 'p':
            a->priority = optarg;
            break;
        case 'r':
            a->reason = optarg;
            break;
        case 't':
            a->deadline = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return CTL_GOOD;
        default:
            return CTL_FAILED;
        }
    }
    if (optind == argc) {
        fputs(usage, stderr);
        return CTL_FAILED;
    }
    a->command = argv[optind];
    a->operand = optind + 1 < argc ? argv[optind + 1] : NULL;
    return optind + 2 < argc ? complain("one word too many", argv[optind + 2])
                             : -1;
}

int main(int argc, char **argv)
{
    Arguments arguments = { .run_dir = BX_RUN_DIR };
    int status = parse(argc, argv, &arguments);

    return status >= 0 ? status : run(&arguments);
}
