/*
 * Let the host drive a guest over a serial line
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Runs as the guest's first process.  Each request is a line, `N WORD ...`,
 * and has an answer of one line, `N ok TEXT` or `N error TEXT`; N is any
 * number, returned so that the host can tell a late answer from its own.
 *
 *   ping
 *   run NAME PROGRAM ARGUMENT...   start a program that keeps a status
 *   status NAME                    its figures, as key=value words
 *   sweep NAME                     ask for a sweep; returns its number
 *   end NAME                       end it, and wait until it is gone
 *   sh COMMAND                     through the shell; what it printed, with
 *                                  newlines as \n and backslashes as \\
 *
 * One thread, one request at a time.  A command of `sh` that does not end
 * blocks it: the host bounds its waits, and a test that loses its guest has
 * failed.  Dead children are reaped between requests.
 */

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>

#include "status.h"

enum { LINE_BYTES = 4096, PROGRAMS = 8, ARGUMENTS = 12, ANSWER_BYTES = 16384 };

typedef struct Program {
    char name[NAME_BYTES];
    pid_t pid;
    int wait_status;
    Status *status;
} Program;

typedef struct Control {
    int line;
    const char *number;
    Program programs[PROGRAMS];
} Control;

static void write_all(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t done = write(fd, text, length);

        if (done < 0 && errno != EINTR && errno != EAGAIN) {
            return;
        }
        if (done > 0) {
            text += done;
            length -= done;
        }
    }
}

static void answer(Control *control, const char *verdict,
                   const char *format, ...)
{
    static const char newline = '\n';
    char text[ANSWER_BYTES];
    va_list args;
    int length;

    length = snprintf(text, sizeof(text), "%s %s ", control->number, verdict);
    write_all(control->line, text, length);
    va_start(args, format);
    length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (length >= (int)sizeof(text)) {
        length = sizeof(text) - 1;
    }
    write_all(control->line, text, length);
    write_all(control->line, &newline, 1);
}

static Program *find(Control *control, const char *name)
{
    for (int i = 0; i < PROGRAMS; i++) {
        if (control->programs[i].status &&
            !strcmp(control->programs[i].name, name)) {
            return &control->programs[i];
        }
    }
    return NULL;
}

static void reap(Control *control)
{
    int wait_status;
    pid_t pid;

    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        for (int i = 0; i < PROGRAMS; i++) {
            if (control->programs[i].pid == pid) {
                control->programs[i].pid = 0;
                control->programs[i].wait_status = wait_status;
            }
        }
    }
}

static void forget(Program *program)
{
    char path[NAME_BYTES + 32];

    snprintf(path, sizeof(path), STATUS_PATH, program->name);
    munmap(program->status, STATUS_BYTES);
    unlink(path);
    memset(program, 0, sizeof(*program));
}

/* The children own nothing of ours but their output, the console. */
static void start(const char *name, char **words)
{
    char path[NAME_BYTES + 8];
    char *argv[ARGUMENTS + 3];
    int count = 0;

    snprintf(path, sizeof(path), "/bin/%s", words[0]);
    argv[count++] = words[0];
    argv[count++] = (char *)name;
    for (int i = 1; words[i]; i++) {
        argv[count++] = words[i];
    }
    argv[count] = NULL;
    execv(path, argv);
    perror(path);
    _exit(127);
}

static void do_run(Control *control, char **words)
{
    Program *program = NULL;

    if (!words[1] || !words[2] || strlen(words[1]) >= NAME_BYTES) {
        answer(control, "error", "run NAME PROGRAM ARGUMENT...");
        return;
    }
    for (int i = 0; i < PROGRAMS && !program; i++) {
        program = control->programs[i].status ? NULL : &control->programs[i];
    }
    if (!program || find(control, words[1])) {
        answer(control, "error", "no room, or the name is taken");
        return;
    }
    strcpy(program->name, words[1]);
    program->status = status_map(words[1]);
    if (!program->status) {
        answer(control, "error", "%s", strerror(errno));
        return;
    }
    program->pid = fork();
    if (program->pid == 0) {
        start(words[1], words + 2);
    }
    if (program->pid < 0) {
        answer(control, "error", "%s", strerror(errno));
        forget(program);
        return;
    }
    answer(control, "ok", "pid=%d", program->pid);
}

static void do_status(Control *control, Program *program)
{
    const Status *s = program->status;

    answer(control, "ok", "alive=%d wait=%d pages=%llu filled=%llu ops=%llu "
           "errors=%llu bad_page=%llu bad_word=%llu found=%llu wanted=%llu "
           "requested=%llu swept=%llu sum=%llu expected=%llu p50_us=%llu "
           "p99_us=%llu",
           program->pid != 0, program->wait_status,
           (unsigned long long)s->pages, (unsigned long long)s->filled,
           (unsigned long long)s->ops, (unsigned long long)s->errors,
           (unsigned long long)s->bad_page, (unsigned long long)s->bad_word,
           (unsigned long long)s->found, (unsigned long long)s->wanted,
           (unsigned long long)s->requested, (unsigned long long)s->swept,
           (unsigned long long)s->sum, (unsigned long long)s->expected,
           (unsigned long long)s->p50_us, (unsigned long long)s->p99_us);
}

static void do_end(Control *control, Program *program)
{
    if (program->pid) {
        kill(program->pid, SIGKILL);
        while (waitpid(program->pid, NULL, 0) < 0 && errno == EINTR) {
            /* again */
        }
    }
    forget(program);
    answer(control, "ok", "ended");
}

/* Returns the length of the output, escaped so that it is one line. */
static size_t escape(FILE *from, char *to, size_t room)
{
    size_t used = 0;
    int c;

    while ((c = fgetc(from)) != EOF) {
        if (used + 3 > room) {
            continue;
        }
        if (c == '\n' || c == '\\') {
            to[used++] = '\\';
            c = c == '\n' ? 'n' : c;
        }
        to[used++] = c;
    }
    to[used] = '\0';
    return used;
}

static void do_sh(Control *control, const char *command)
{
    char text[ANSWER_BYTES - 64];
    int wait_status;
    FILE *pipe;

    pipe = popen(command, "r");
    if (!pipe) {
        answer(control, "error", "%s", strerror(errno));
        return;
    }
    escape(pipe, text, sizeof(text));
    wait_status = pclose(pipe);
    answer(control, wait_status ? "error" : "ok", "%s", text);
}

static void handle(Control *control, char *line)
{
    char *words[ARGUMENTS + 1] = { 0 };
    char *rest, *word, *save = NULL;
    Program *program;
    int count = 0;

    control->number = strsep(&line, " ");
    rest = line;
    if (!rest) {
        return;
    }
    if (!strncmp(rest, "sh ", 3)) {
        do_sh(control, rest + 3);
        return;
    }
    for (word = strtok_r(rest, " ", &save); word && count < ARGUMENTS;
         word = strtok_r(NULL, " ", &save)) {
        words[count++] = word;
    }
    program = count > 1 ? find(control, words[1]) : NULL;
    if (count && !strcmp(words[0], "ping")) {
        answer(control, "ok", "pong");
    } else if (count && !strcmp(words[0], "run")) {
        do_run(control, words);
    } else if (!program) {
        answer(control, "error", "unknown request or program");
    } else if (!strcmp(words[0], "status")) {
        do_status(control, program);
    } else if (!strcmp(words[0], "sweep")) {
        program->status->requested++;
        answer(control, "ok", "%llu",
               (unsigned long long)program->status->requested);
    } else if (!strcmp(words[0], "end")) {
        do_end(control, program);
    } else {
        answer(control, "error", "unknown request");
    }
}

static int open_line(const char *path)
{
    int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios mode;

    if (fd >= 0 && tcgetattr(fd, &mode) == 0) {
        cfmakeraw(&mode);
        cfsetspeed(&mode, B115200);
        mode.c_cflag |= CLOCAL | CREAD;
        tcsetattr(fd, TCSANOW, &mode);
    }
    return fd;
}

int main(int argc, char **argv)
{
    static Control control;
    char line[LINE_BYTES];
    size_t used = 0;

    control.line = open_line(argc > 1 ? argv[1] : "/dev/ttyS1");
    if (control.line < 0) {
        perror("control");
        return 1;
    }
    control.number = "0";
    answer(&control, "ok", "ready");
    while (1) {
        char c;
        ssize_t got = read(control.line, &c, 1);

        if (got < 0 && errno != EINTR) {
            perror("control");
            return 1;
        }
        if (got <= 0) {
            continue;
        }
        if (c != '\n') {
            used = used + 1 < sizeof(line) ? used + 1 : used;
            line[used - 1] = c;
            continue;
        }
        line[used] = '\0';
        used = 0;
        reap(&control);
        handle(&control, line);
    }
}
