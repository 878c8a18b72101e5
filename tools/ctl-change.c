/*
 * move and set: what changes something
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <string.h>

#include "ctl-command.h"
#include "ctl-json.h"
#include "ctl-size.h"

/* The scheduler's own default; a transfer always ends. */
#define DEADLINE_S 30
/* For what has to be told after a deadline. */
#define MARGIN_MS 5000u

static bool size_into(JsonObject *arguments, const char *name,
                      const char *text, int *ret_status)
{
    uint64_t bytes;

    if (!text) {
        return true;
    }
    if (!ctl_size_parse(text, &bytes)) {
        g_autofree char *words = g_strdup_printf(
            "%s is no size; give bytes, or a number with K, M, G or T", text);

        *ret_status = ctl_say(CTL_USAGE, words);
        return false;
    }
    json_object_set_int_member(arguments, name, bytes);
    return true;
}

/* ---- move ---- */

static int outcome(JsonObject *t)
{
    const char *state = ctl_text(t, "state"), *reason = ctl_text(t, "reason");
    g_autofree char *moved = ctl_mib(ctl_number(t, "moved"));
    g_autofree char *copied = ctl_mib(ctl_number(t, "copied"));
    g_autofree char *requested = ctl_mib(ctl_number(t, "requested"));
    g_autofree char *ms = ctl_count(ctl_number(t, "duration"));

    printf("%s in %s ms: %s of %s MiB moved, %s copied\n",
           state ? state : "ended", ms, moved, requested, copied);
    if (reason) {
        puts(reason);
    }
    return g_strcmp0(state, "completed") == 0 ? CTL_DONE :
           g_strcmp0(state, "partial") == 0 ? CTL_PARTIAL : CTL_FAILED;
}

/* Until the event of transfer @id comes. */
static int wait_for_end(CtlQmp *qmp, uint64_t id, unsigned deadline_ms)
{
    gint64 end = g_get_monotonic_time() +
                 ((gint64)deadline_ms + MARGIN_MS) * 1000;

    while (true) {
        gint64 left_ms = (end - g_get_monotonic_time()) / 1000;
        g_autoptr(JsonNode) data = NULL;
        GError *error = NULL;
        JsonObject *t;

        data = ctl_qmp_event(qmp, "MEMSCHED_TRANSFER_COMPLETED",
                             MAX(left_ms, 1), &error);
        if (error) {
            return ctl_fail(error);
        }
        t = data && JSON_NODE_HOLDS_OBJECT(data) ? json_node_get_object(data)
                                                 : NULL;
        if (ctl_number(t, "id") == id) {
            return outcome(t);
        }
    }
}

static int start_move(CtlQmp *qmp, JsonObject *arguments, bool wait,
                      unsigned deadline_ms)
{
    GError *error = NULL;
    g_autoptr(JsonNode) answer =
        ctl_qmp_run(qmp, "memsched-reallocate", arguments, &error);
    uint64_t id;

    if (!answer) {
        return ctl_fail(error);
    }
    id = ctl_number(JSON_NODE_HOLDS_OBJECT(answer)
                    ? json_node_get_object(answer) : NULL, "id");
    if (id == CTL_NONE) {
        return ctl_say(CTL_FAILED, "the process does not say which transfer "
                       "it started");
    }
    printf("transfer %" G_GUINT64_FORMAT "\n", id);
    return wait ? wait_for_end(qmp, id, deadline_ms) : CTL_DONE;
}

int ctl_move(const CtlContext *context, int argc, char **argv)
{
    gboolean no_wait = FALSE, in_time = FALSE;
    gint deadline = 0;
    g_autofree char *source = NULL;
    const GOptionEntry options[] = {
        { "no-wait", 'n', 0, G_OPTION_ARG_NONE, &no_wait, "start it, and do "
          "not wait for its end", NULL },
        { "deadline", 'd', 0, G_OPTION_ARG_INT, &deadline,
          "end after so long in any case (default 30)", "S" },
        { "in-time", 0, 0, G_OPTION_ARG_NONE, &in_time, "only if it is "
          "expected to end by then", NULL },
        { "source", 0, 0, G_OPTION_ARG_STRING, &source,
          "any, application, kernel or reported", "SOURCE" },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(JsonObject) arguments = json_object_new();
    int status = CTL_DONE;
    CtlQmp *qmp;

    if (!ctl_options(&argc, &argv, options, "FROM TO SIZE", "Move memory "
                     "from one guest to another.", &status)) {
        return status;
    }
    if (argc != 4) {
        return ctl_say(CTL_USAGE, "give the guest that gives, the guest that "
                       "receives, and a size");
    }
    if (deadline < 0 || deadline > 86400) {
        return ctl_say(CTL_USAGE, "the deadline is not between 1 and 86400 "
                       "seconds");
    }
    json_object_set_string_member(arguments, "from", argv[1]);
    json_object_set_string_member(arguments, "to", argv[2]);
    if (!size_into(arguments, "size", argv[3], &status)) {
        return status;
    }
    if (source) {
        json_object_set_string_member(arguments, "source", source);
    }
    if (deadline > 0) {
        json_object_set_int_member(arguments, "deadline", deadline * 1000);
    }
    if (in_time) {
        json_object_set_boolean_member(arguments, "in-time", TRUE);
    }
    qmp = ctl_connect(context, &status);
    if (qmp) {
        status = start_move(qmp, g_steal_pointer(&arguments), !no_wait,
                            (deadline ? deadline : DEADLINE_S) * 1000);
        ctl_qmp_close(qmp);
    }
    return status;
}

/* ---- set ---- */

typedef struct Change {
    char *min, *max, *policy, *dry_run;
    gint shares, interval, tax, sample;
} Change;

static void clear_change(Change *c)
{
    g_free(c->min);
    g_free(c->max);
    g_free(c->policy);
    g_free(c->dry_run);
}

static void number_into(JsonObject *arguments, const char *name, gint value)
{
    if (value >= 0) {
        json_object_set_int_member(arguments, name, value);
    }
}

static bool guest_arguments(JsonObject *arguments, const Change *c,
                            const char *id, int *ret_status)
{
    if (c->policy || c->dry_run || c->interval >= 0 || c->tax >= 0 ||
        c->sample >= 0) {
        *ret_status = ctl_say(CTL_USAGE, "policy, interval, idle-tax, "
                              "sample-interval and dry-run belong to the "
                              "host: leave the guest out");
        return false;
    }
    json_object_set_string_member(arguments, "id", id);
    number_into(arguments, "shares", c->shares);
    return size_into(arguments, "min", c->min, ret_status) &&
           size_into(arguments, "max", c->max, ret_status);
}

static bool host_arguments(JsonObject *arguments, const Change *c,
                           int *ret_status)
{
    bool on = g_strcmp0(c->dry_run, "on") == 0;

    if (c->min || c->max || c->shares >= 0) {
        *ret_status = ctl_say(CTL_USAGE, "min, max and shares belong to a "
                              "guest: name it");
        return false;
    }
    if (c->dry_run && !on && strcmp(c->dry_run, "off") != 0) {
        *ret_status = ctl_say(CTL_USAGE, "dry-run is on or off");
        return false;
    }
    if (c->policy) {
        json_object_set_string_member(arguments, "policy", c->policy);
    }
    if (c->dry_run) {
        json_object_set_boolean_member(arguments, "dry-run", on);
    }
    number_into(arguments, "interval", c->interval);
    number_into(arguments, "idle-tax", c->tax);
    number_into(arguments, "sample-interval", c->sample);
    return true;
}

static int change(const CtlContext *context, JsonObject *arguments,
                  bool of_guest)
{
    int status = CTL_DONE;
    GError *error = NULL;
    CtlQmp *qmp = ctl_connect(context, &status);
    g_autoptr(JsonNode) answer = NULL;

    if (!qmp) {
        json_object_unref(arguments);
        return status;
    }
    answer = ctl_qmp_run(qmp, of_guest ? "memsched-set-guest"
                                       : "memsched-set", arguments, &error);
    ctl_qmp_close(qmp);
    return answer ? CTL_DONE : ctl_fail(error);
}

static int parse_change(Change *c, int *argc, char ***argv, int *ret_status)
{
    const GOptionEntry options[] = {
        { "min", 0, 0, G_OPTION_ARG_STRING, &c->min, "guaranteed to the "
          "guest", "SIZE" },
        { "max", 0, 0, G_OPTION_ARG_STRING, &c->max, "most that the guest "
          "may have", "SIZE" },
        { "shares", 0, 0, G_OPTION_ARG_INT, &c->shares, "the guest's weight",
          "N" },
        { "policy", 0, 0, G_OPTION_ARG_STRING, &c->policy,
          "static, shares or idle-tax", "POLICY" },
        { "interval", 0, 0, G_OPTION_ARG_INT, &c->interval,
          "between two looks at all guests", "MS" },
        { "idle-tax", 0, 0, G_OPTION_ARG_INT, &c->tax,
          "by which idle memory counts more", "PCT" },
        { "sample-interval", 0, 0, G_OPTION_ARG_INT, &c->sample,
          "that sampled memory is out of its guest; 0: off", "MS" },
        { "dry-run", 0, 0, G_OPTION_ARG_STRING, &c->dry_run,
          "decide, and move nothing", "on|off" },
        G_OPTION_ENTRY_NULL
    };

    return ctl_options(argc, argv, options, "[GUEST]", "Change limits of a "
                       "guest, or, without one, options of the scheduler.",
                       ret_status);
}

int ctl_set(const CtlContext *context, int argc, char **argv)
{
    Change c = {
        .shares = -1, .interval = -1, .tax = -1, .sample = -1,
    };
    JsonObject *arguments = json_object_new();
    int status = CTL_DONE;
    bool good = parse_change(&c, &argc, &argv, &status);

    if (good && argc > 2) {
        status = ctl_say(CTL_USAGE, "one guest at a time can be changed");
        good = false;
    }
    good = good && (argc == 2
                    ? guest_arguments(arguments, &c, argv[1], &status)
                    : host_arguments(arguments, &c, &status));
    if (good && json_object_get_size(arguments) == (argc == 2 ? 1u : 0u)) {
        status = ctl_say(CTL_USAGE, "nothing to change; try --help");
        good = false;
    }
    clear_change(&c);
    if (!good) {
        json_object_unref(arguments);
        return status;
    }
    return change(context, arguments, argc == 2);
}
