/*
 * Messages of a guest carry its id.
 *
 * Everything that a copy reports goes through error_vprintf(), in pieces.  In
 * a guest's copy the pieces of a line are put together for each thread, and
 * the line is written at once with the guest's id in front, so that lines of
 * guests do not mix.  The last line that is an error explains a guest that
 * fails.
 *
 * What is said to a human monitor stays there, as upstream.
 *
 * Threads: any; the line is the thread's own.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/monitor.h"
#include "qemu/error-report.h"
#include "wrap.h"

#define PROGRAM "qemu-system-x86_64: "

static __thread GString *line;

static bool is_error(const char *text)
{
    return !strstr(text, "warning: ") && !strstr(text, "info: ");
}

static void write_line(const char *text)
{
    const char *sentence = g_str_has_prefix(text, PROGRAM)
        ? text + strlen(PROGRAM) : text;

    fprintf(stderr, "%s %s\n", instance_id(), text);
    if (is_error(sentence) && sentence[0]) {
        instance_ops()->set_message(instance_guest(), sentence);
    }
}

static void write_lines(void)
{
    char *end;

    while ((end = strchr(line->str, '\n'))) {
        *end = '\0';
        write_line(line->str);
        g_string_erase(line, 0, end + 1 - line->str);
    }
    if (!line->len) {
        g_string_free(line, TRUE);
        line = NULL;
    }
}

int __wrap_error_vprintf(const char *format, va_list arguments)
{
    size_t before;
    int written;

    if (!instance_guest() || (monitor_cur() && !monitor_cur_is_qmp())) {
        return __real_error_vprintf(format, arguments);
    }
    if (!line) {
        line = g_string_new(NULL);
    }
    before = line->len;
    g_string_append_vprintf(line, format, arguments);
    written = line->len - before;
    write_lines();
    return written;
}

/* Failed assertions of GLib, and what QEMU prints this way. */
static void print_error(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **one = lines; *one; one++) {
        if ((*one)[0] && strcmp(*one, "**")) {
            write_line(*one);
        }
    }
}

/* What is printed and explains nothing. */
static void print(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **one = lines; *one; one++) {
        if ((*one)[0]) {
            fprintf(stderr, "%s %s\n", instance_id(), *one);
        }
    }
}

void instance_messages_init(void)
{
    g_set_printerr_handler(print_error);
    g_set_print_handler(print);
}
