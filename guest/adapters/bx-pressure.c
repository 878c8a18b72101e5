/*
 * bx-pressure: systemd's memory pressure protocol, fed by the memory condition
 *
 * A service that speaks the protocol opens what MEMORY_PRESSURE_WATCH names and
 * drops what it can whenever that becomes readable.  As a rule that is a file
 * of the kernel's, which knows of the guest's own pressure only.  Here it is a
 * socket, which becomes readable when the host wants memory: the condition is
 * hard or low.
 *
 *   bx-pressure                    serves BX_RUN_DIR/pressure, for services
 *                                  that have it in their environment
 *   bx-pressure -- PROGRAM ...     runs one program, with a socket of its own
 *
 * A client that is connected gets a byte when the condition becomes hard or
 * low, and another one every --interval while it stays so.  Whether a client
 * has read the last one does not matter: what is readable is readable.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "balloonex.h"

#define CLIENTS_MAX 256

/* What is polled beside the clients. */
enum { AT_LISTENER, AT_SIGNALS, AT_CONDITION, AT_CLIENTS };

typedef struct Server {
    Bx *bx;
    struct sockaddr_un address;
    struct pollfd poll[AT_CLIENTS + CLIENTS_MAX];
    unsigned clients;
    unsigned interval_ms;
    uint64_t next_ms;           /* when to tell again; 0: no need */
    pid_t child;                /* 0: none */
    int status;                 /* of the child, or ours */
    bool ended;
} Server;

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * UINT64_C(1000) + now.tv_nsec / 1000000;
}

/* ---- clients ---- */

static void drop(Server *s, unsigned i)
{
    close(s->poll[AT_CLIENTS + i].fd);
    s->poll[AT_CLIENTS + i] = s->poll[AT_CLIENTS + --s->clients];
}

/* A full socket has something to read already. */
static void tell_one(Server *s, unsigned i)
{
    send(s->poll[AT_CLIENTS + i].fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void accept_one(Server *s)
{
    int fd = accept4(s->poll[AT_LISTENER].fd, NULL, NULL,
                     SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        return;
    }
    if (s->clients == CLIENTS_MAX) {
        close(fd);              /* it goes on without, as the protocol says */
        return;
    }
    s->poll[AT_CLIENTS + s->clients] = (struct pollfd) {
        .fd = fd, .events = POLLIN,
    };
    s->clients++;
    if (s->next_ms) {
        tell_one(s, s->clients - 1);
    }
}

/* What a client writes (MEMORY_PRESSURE_WRITE) means nothing here. */
static void read_clients(Server *s)
{
    char buffer[256];

    for (unsigned i = s->clients; i-- > 0; ) {
        struct pollfd *p = &s->poll[AT_CLIENTS + i];
        ssize_t got;

        if (!p->revents) {
            continue;
        }
        got = recv(p->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            drop(s, i);
        }
    }
}

/* ---- the condition ---- */

static void look(Server *s)
{
    BxCondition condition;
    uint64_t now = now_ms();
    bool pressed = bx_condition_get(s->bx, &condition) == 0 &&
                   condition.level >= BX_HARD;

    if (!pressed) {
        s->next_ms = 0;
        return;
    }
    if (now >= s->next_ms) {
        for (unsigned i = 0; i < s->clients; i++) {
            tell_one(s, i);
        }
        s->next_ms = now + s->interval_ms;
    }
}

/* ---- the program ---- */

static void read_signals(Server *s)
{
    struct signalfd_siginfo info;
    int status;

    if (read(s->poll[AT_SIGNALS].fd, &info, sizeof(info)) != sizeof(info)) {
        return;
    }
    if (info.ssi_signo != SIGCHLD) {
        if (s->child) {
            kill(s->child, info.ssi_signo);     /* its end is ours */
        } else {
            s->ended = true;
        }
        return;
    }
    while (s->child && waitpid(s->child, &status, WNOHANG) == s->child) {
        s->status = WIFEXITED(status) ? WEXITSTATUS(status)
                                      : 128 + WTERMSIG(status);
        s->child = 0;
        s->ended = true;
    }
}

static int start_program(Server *s, char **argv, const sigset_t *mask)
{
    s->child = fork();
    if (s->child < 0) {
        s->child = 0;
        fprintf(stderr, "bx-pressure: fork: %s\n", strerror(errno));
        return -1;
    }
    if (s->child == 0) {
        setenv("MEMORY_PRESSURE_WATCH", s->address.sun_path, 1);
        unsetenv("MEMORY_PRESSURE_WRITE");
        sigprocmask(SIG_SETMASK, mask, NULL);
        execvp(argv[0], argv);
        fprintf(stderr, "bx-pressure: %s: %s\n", argv[0], strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
    }
    return 0;
}

/* ---- set-up ---- */

/* What an earlier run has left; anything but a socket is not ours. */
static void remove_old(const char *path)
{
    struct stat info;

    if (lstat(path, &info) == 0 && S_ISSOCK(info.st_mode)) {
        unlink(path);
    }
}

static int listen_at(Server *s, const char *path)
{
    int fd;

    s->address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(s->address.sun_path)) {
        fprintf(stderr, "bx-pressure: %s: a socket's path has at most %zu"
                " bytes\n", path, sizeof(s->address.sun_path) - 1);
        return -1;
    }
    strcpy(s->address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    remove_old(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&s->address,
                       sizeof(s->address)) < 0 || listen(fd, 16) < 0) {
        fprintf(stderr, "bx-pressure: %s: %s\n", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        s->address.sun_path[0] = '\0';          /* not ours to remove */
        return -1;
    }
    /* Anybody may be told that memory is short. */
    chmod(path, 0666);
    s->poll[AT_LISTENER] = (struct pollfd) { .fd = fd, .events = POLLIN };
    return 0;
}

static int block_signals(Server *s, sigset_t *ret_before)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, ret_before);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->poll[AT_SIGNALS] = (struct pollfd) { .fd = fd, .events = POLLIN };
    return fd < 0 ? -1 : 0;
}

static void serve(Server *s)
{
    while (!s->ended) {
        uint64_t now = now_ms();
        int timeout = 1000;

        look(s);
        if (s->next_ms > now && s->next_ms - now < 1000) {
            timeout = s->next_ms - now;
        }
        if (poll(s->poll, AT_CLIENTS + s->clients, timeout) < 0 &&
            errno != EINTR) {
            break;
        }
        bx_dispatch(s->bx);
        read_clients(s);
        if (s->poll[AT_LISTENER].revents) {
            accept_one(s);
        }
        if (s->poll[AT_SIGNALS].revents) {
            read_signals(s);
        }
    }
}

static void usage(FILE *out)
{
    fprintf(out, "Usage: bx-pressure [OPTION]... [-- PROGRAM [ARGUMENT]...]\n"
            "Tell programs that speak systemd's memory pressure protocol when"
            " the host wants\nmemory.\n\n"
            "  -s, --socket=PATH     serve here (default %s/pressure; with\n"
            "                        PROGRAM one of its own)\n"
            "  -i, --interval=MS     between two tellings while it lasts, 100 to"
            " 60000\n                        (default 2000)\n"
            "  -r, --run-dir=FOLDER  of the agent (default %s)\n"
            "  -h, --help            this text\n", BX_RUN_DIR, BX_RUN_DIR);
}

typedef struct Options {
    const char *run_dir, *socket;
    long interval_ms;
} Options;

static int parse(int argc, char **argv, Options *o)
{
    static const struct option longs[] = {
        { "socket", required_argument, NULL, 's' },
        { "interval", required_argument, NULL, 'i' },
        { "run-dir", required_argument, NULL, 'r' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int option;
    char *rest;

    while ((option = getopt_long(argc, argv, "+s:i:r:h", longs, NULL)) != -1) {
        switch (option) {
        case 's':
            o->socket = optarg;
            break;
        case 'i':
            o->interval_ms = strtol(optarg, &rest, 10);
            if (*rest || o->interval_ms < 100 || o->interval_ms > 60000) {
                fprintf(stderr, "bx-pressure: %s: not an interval: give 100 to"
                        " 60000 milliseconds\n", optarg);
                return -1;
            }
            break;
        case 'r':
            o->run_dir = optarg;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            return -1;
        }
    }
    return 0;
}

/* A folder of its own, so that the name cannot be taken by somebody else. */
static int private_socket(char *folder, char path[static 108])
{
    if (!mkdtemp(folder)) {
        fprintf(stderr, "bx-pressure: %s: %s\n", folder, strerror(errno));
        return -1;
    }
    snprintf(path, 108, "%s/pressure", folder);
    return 0;
}

int main(int argc, char **argv)
{
    Options o = { .interval_ms = 2000 };
    Server s = { 0 };
    char folder[] = "/tmp/bx-pressure.XXXXXX", path[108];
    bool own = false;
    sigset_t mask;
    int rc;

    if (parse(argc, argv, &o) < 0) {
        fprintf(stderr, "Try 'bx-pressure --help'.\n");
        return 2;
    }
    s.interval_ms = o.interval_ms;
    snprintf(path, sizeof(path), "%s/pressure",
             o.run_dir ? o.run_dir : BX_RUN_DIR);
    if (!o.socket && optind < argc) {
        if (private_socket(folder, path) < 0) {
            return 1;
        }
        own = true;
    }
    rc = bx_open(o.run_dir, BX_CONDITION_ONLY, &s.bx);
    if (rc < 0) {
        fprintf(stderr, "bx-pressure: %s: %s\n",
                o.run_dir ? o.run_dir : BX_RUN_DIR, strerror(-rc));
        s.status = 1;
    } else if (listen_at(&s, o.socket ? o.socket : path) < 0 ||
               block_signals(&s, &mask) < 0 ||
               (optind < argc && start_program(&s, argv + optind, &mask) < 0)) {
        s.status = 1;
    } else {
        s.poll[AT_CONDITION] = (struct pollfd) {
            .fd = bx_fd(s.bx), .events = POLLIN,
        };
        serve(&s);
    }
    if (s.address.sun_path[0]) {
        unlink(s.address.sun_path);
    }
    if (own) {
        rmdir(folder);
    }
    bx_close(s.bx);
    return s.status;
}
