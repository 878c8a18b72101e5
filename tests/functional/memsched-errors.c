/*
 * Preloaded by tests of disk location: protects, breaks pages, and tells.
 *
 * Commands come by a Unix socket, a line each, and are answered by a line:
 *
 *   protect ID           pages that are on a disk; join at once
 *   query ID             sure unsure recovered lost left-by-write left-by-disk
 *   inject ID GPA        0, or -errno
 *
 * The handler of SIGBUS asks the library, and ends the process where that
 * has no answer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "memsched/memsched.h"

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    static const char text[] = "memsched-errors: no page of the scheduler\n";

    if (memsched_sigbus(info->si_addr) == MEMSCHED_SIGBUS_FOREIGN) {
        if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
            /* Nobody reads it: the end tells all the same. */
        }
        _exit(99);
    }
}

static int protect(MemSched *ms, const char *id)
{
    MemSchedProtection protection = {
        .scheme = MEMSCHED_SCHEME_NONE, .disk = true, .cool_ms = 1,
        .rate_bytes_per_s = UINT64_C(1) << 40,
    };

    return memsched_protect(ms, id, &protection, NULL);
}

static void answer(FILE *out, const char *line)
{
    MemSched *ms = memsched_running();
    MemSchedProtectionInfo i;
    char what[16], id[MEMSCHED_ID_MAX];
    uint64_t gpa = 0;

    if (sscanf(line, "%15s %63s %" SCNx64, what, id, &gpa) < 2) {
        fprintf(out, "?\n");
    } else if (!strcmp(what, "protect")) {
        fprintf(out, "%d\n", protect(ms, id));
    } else if (!strcmp(what, "inject")) {
        fprintf(out, "%d\n", memsched_inject_error(ms, id, gpa, NULL));
    } else if (memsched_query_protection(ms, id, &i) == 0) {
        fprintf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                " %" PRIu64 " %" PRIu64 "\n",
                i.disk_bytes / MEMSCHED_PAGE_SIZE,
                i.disk_unsure_bytes / MEMSCHED_PAGE_SIZE,
                i.disk_recovered_pages, i.lost_pages,
                i.disk_left_by_write_pages, i.disk_left_by_disk_pages);
    } else {
        fprintf(out, "?\n");
    }
    fflush(out);
}

static void *serve(void *opaque)
{
    struct sigaction action = {
        .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER,
    };
    int fd = accept((int)(intptr_t)opaque, NULL, NULL);
    FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
    FILE *out = fd < 0 ? NULL : fdopen(dup(fd), "w");
    char line[256];

    while (in && out && fgets(line, sizeof(line), in)) {
        /* Whoever has set another meanwhile has none that knows us. */
        sigaction(SIGBUS, &action, NULL);
        answer(out, line);
    }
    return NULL;
}

static __attribute__((constructor)) void begin(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = getenv("MEMSCHED_ERRORS");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;

    if (path == NULL || strlen(path) >= sizeof(address.sun_path)) {
        return;
    }
    strcpy(address.sun_path, path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        listen(fd, 1) == 0 &&
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0) {
        pthread_detach(thread);
    }
}
