/*
 * A QMP client over a Unix socket
 *
 * Owns the connection, its framing and its time limits.  A message is a line of
 * JSON.  What comes is not believed: a line has a largest length, an answer has
 * to be an object with "return" or "error", and everything else ends the
 * connection with a sentence.  A monitor that is being set up may greet twice.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <stdbool.h>
#include <string.h>

#include "ctl-qmp.h"

/* Ten thousand guests answer in less. */
#define LINE_MOST   (64u << 20)
#define CHUNK       65536u
#define EVENTS_KEPT 1000u

struct CtlQmp {
    GSocket *socket;
    GString *rest;              /* received, not a whole line yet */
    GQueue events;              /* JsonObject, oldest first */
    unsigned timeout_ms;
};

GQuark ctl_qmp_error_quark(void)
{
    return g_quark_from_static_string("ctl-qmp-error");
}

static gint64 deadline_in(unsigned ms)
{
    return g_get_monotonic_time() + (gint64)ms * 1000;
}

/* ---- bytes ---- */

static bool wait_for(CtlQmp *qmp, GIOCondition condition, gint64 deadline,
                     GError **error)
{
    gint64 left = deadline - g_get_monotonic_time();
    g_autoptr(GError) local = NULL;

    if (left > 0 && g_socket_condition_timed_wait(qmp->socket, condition,
                                                  left, NULL, &local)) {
        return true;
    }
    if (left <= 0 || g_error_matches(local, G_IO_ERROR,
                                     G_IO_ERROR_TIMED_OUT)) {
        g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_TIMEOUT,
                            "the process does not answer in time");
    } else {
        g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_CLOSED,
                            local->message);
    }
    return false;
}

/* False: the connection is over.  True: try again, or go on. */
static bool still_there(gssize n, GError *local, GError **error)
{
    if (n > 0 || g_error_matches(local, G_IO_ERROR,
                                 G_IO_ERROR_WOULD_BLOCK)) {
        return true;
    }
    g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_CLOSED,
                        "the process has closed the connection");
    return false;
}

static bool send_all(CtlQmp *qmp, const char *text, gsize length,
                     GError **error)
{
    gint64 deadline = deadline_in(qmp->timeout_ms);

    while (length > 0) {
        g_autoptr(GError) local = NULL;
        gssize n;

        if (!wait_for(qmp, G_IO_OUT, deadline, error)) {
            return false;
        }
        n = g_socket_send(qmp->socket, text, length, NULL, &local);
        if (!still_there(n, local, error)) {
            return false;
        }
        text += MAX(n, 0);
        length -= MAX(n, 0);
    }
    return true;
}

/* A line without its end, to be freed; NULL and @error. */
static char *receive_line(CtlQmp *qmp, gint64 deadline, GError **error)
{
    char chunk[CHUNK];
    gsize seen = 0;

    while (true) {
        g_autoptr(GError) local = NULL;
        char *end = memchr(qmp->rest->str + seen, '\n',
                           qmp->rest->len - seen);
        gssize n;

        if (end) {
            gsize length = end - qmp->rest->str;
            char *line = g_strndup(qmp->rest->str, length);

            g_string_erase(qmp->rest, 0, length + 1);
            return line;
        }
        seen = qmp->rest->len;
        if (seen > LINE_MOST) {
            g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_NONSENSE,
                                "what the socket sends has no end of line: "
                                "is it a QMP monitor?");
            return NULL;
        }
        if (!wait_for(qmp, G_IO_IN, deadline, error)) {
            return NULL;
        }
        n = g_socket_receive(qmp->socket, chunk, sizeof(chunk), NULL, &local);
        if (!still_there(n, local, error)) {
            return NULL;
        }
        g_string_append_len(qmp->rest, chunk, MAX(n, 0));
    }
}

/* ---- messages ---- */

/* The next message, an object; blank lines are skipped. */
static JsonObject *receive(CtlQmp *qmp, gint64 deadline, GError **error)
{
    while (true) {
        g_autofree char *line = receive_line(qmp, deadline, error);
        g_autoptr(JsonNode) node = NULL;

        if (!line) {
            return NULL;
        }
        if (*g_strstrip(line) == '\0') {
            continue;
        }
        node = json_from_string(line, NULL);
        if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
            g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_NONSENSE,
                                "what the socket sends is not QMP");
            return NULL;
        }
        return json_node_dup_object(node);
    }
}

static const char *text_of(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && json_node_get_value_type(node) == G_TYPE_STRING
           ? json_node_get_string(node) : NULL;
}

static void keep_event(CtlQmp *qmp, JsonObject *event)
{
    if (qmp->events.length == EVENTS_KEPT) {
        json_object_unref(g_queue_pop_head(&qmp->events));
    }
    g_queue_push_tail(&qmp->events, json_object_ref(event));
}

static JsonNode *refuse(JsonObject *answer, const char *command,
                        GError **error)
{
    JsonNode *node = json_object_get_member(answer, "error");
    JsonObject *refusal = node && JSON_NODE_HOLDS_OBJECT(node)
                          ? json_node_get_object(node) : NULL;
    const char *class = refusal ? text_of(refusal, "class") : NULL;
    const char *words = refusal ? text_of(refusal, "desc") : NULL;

    if (!refusal) {
        g_set_error(error, CTL_QMP_ERROR, CTL_QMP_NONSENSE,
                    "the answer to %s is neither a result nor an error",
                    command);
    } else if (g_strcmp0(class, "CommandNotFound") == 0) {
        g_set_error(error, CTL_QMP_ERROR, CTL_QMP_UNKNOWN,
                    "this process has no command %s", command);
    } else {
        g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_REFUSED,
                            words ? words : "the command failed");
    }
    return NULL;
}

static JsonNode *answer_of(CtlQmp *qmp, const char *command, GError **error)
{
    gint64 deadline = deadline_in(qmp->timeout_ms);

    while (true) {
        g_autoptr(JsonObject) message = receive(qmp, deadline, error);

        if (!message) {
            return NULL;
        }
        if (json_object_has_member(message, "event")) {
            keep_event(qmp, message);
        } else if (json_object_has_member(message, "return")) {
            return json_object_dup_member(message, "return");
        } else if (!json_object_has_member(message, "QMP")) {
            return refuse(message, command, error);
        }
    }
}

JsonNode *ctl_qmp_run(CtlQmp *qmp, const char *command,
                      JsonObject *arguments, GError **error)
{
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    JsonObject *message = json_object_new();
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;

    json_object_set_string_member(message, "execute", command);
    if (arguments) {
        json_object_set_object_member(message, "arguments", arguments);
    }
    json_node_take_object(root, message);
    text = json_to_string(root, FALSE);
    line = g_strconcat(text, "\n", NULL);
    if (!send_all(qmp, line, strlen(line), error)) {
        return NULL;
    }
    return answer_of(qmp, command, error);
}

JsonNode *ctl_qmp_event(CtlQmp *qmp, const char *name, unsigned timeout_ms,
                        GError **error)
{
    gint64 deadline = deadline_in(timeout_ms);

    while (true) {
        JsonObject *next = g_queue_pop_head(&qmp->events);
        g_autoptr(JsonObject) event = next ? next
                                           : receive(qmp, deadline, error);

        if (!event) {
            return NULL;
        }
        if (g_strcmp0(text_of(event, "event"), name) == 0) {
            return json_object_has_member(event, "data")
                   ? json_object_dup_member(event, "data") : NULL;
        }
    }
}

/* ---- connection ---- */

static bool greet(CtlQmp *qmp, GError **error)
{
    g_autoptr(JsonObject) greeting =
        receive(qmp, deadline_in(qmp->timeout_ms), error);
    g_autoptr(JsonNode) done = NULL;

    if (!greeting) {
        return false;
    }
    if (!json_object_has_member(greeting, "QMP")) {
        g_set_error_literal(error, CTL_QMP_ERROR, CTL_QMP_NONSENSE,
                            "what the socket sends is not QMP");
        return false;
    }
    done = ctl_qmp_run(qmp, "qmp_capabilities", NULL, error);
    return done != NULL;
}

CtlQmp *ctl_qmp_open(const char *path, unsigned timeout_ms, GError **error)
{
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    g_autoptr(GError) local = NULL;
    GSocket *socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM,
                                   G_SOCKET_PROTOCOL_DEFAULT, error);
    CtlQmp *qmp;

    if (!socket) {
        return NULL;
    }
    if (!g_socket_connect(socket, address, NULL, &local)) {
        g_set_error(error, CTL_QMP_ERROR, CTL_QMP_CONNECT,
                    "%s: %s; give the path of a QMP socket", path,
                    local->message);
        g_object_unref(socket);
        return NULL;
    }
    g_socket_set_blocking(socket, FALSE);
    qmp = g_new0(CtlQmp, 1);
    qmp->socket = socket;
    qmp->rest = g_string_new(NULL);
    qmp->timeout_ms = timeout_ms;
    g_queue_init(&qmp->events);
    if (!greet(qmp, &local)) {
        if (local->code == CTL_QMP_TIMEOUT) {
            g_clear_error(&local);
            g_set_error(error, CTL_QMP_ERROR, CTL_QMP_TIMEOUT, "%s: nobody "
                        "greets; a monitor serves one client at a time, and "
                        "another one may hold it", path);
        } else {
            g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                       "%s: ", path);
        }
        ctl_qmp_close(qmp);
        return NULL;
    }
    return qmp;
}

void ctl_qmp_close(CtlQmp *qmp)
{
    if (qmp) {
        g_object_unref(qmp->socket);
        g_string_free(qmp->rest, TRUE);
        g_queue_clear_full(&qmp->events, (GDestroyNotify)json_object_unref);
        g_free(qmp);
    }
}
