/*
 * A program that speaks systemd's memory pressure protocol, as a service would
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Connects to the socket that MEMORY_PRESSURE_WATCH names, and writes to the
 * file that it is given how often that was readable so far: "waits" before the
 * first time.  Reads what is there each time, as the protocol asks.
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    if (file) {
        fprintf(file, "%s\n", text);
        fclose(file);
    }
}

static int watch(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address,
                          sizeof(address)) < 0) {
        fprintf(stderr, "pressed: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    const char *path = getenv("MEMORY_PRESSURE_WATCH");
    struct pollfd p = { .events = POLLIN };
    char buffer[64], text[32];

    if (argc != 2 || !path) {
        fprintf(stderr, "pressed: needs a file, and MEMORY_PRESSURE_WATCH\n");
        return 2;
    }
    p.fd = watch(path);
    tell(argv[1], "waits");
    for (unsigned times = 1; poll(&p, 1, -1) > 0; times++) {
        if (read(p.fd, buffer, sizeof(buffer)) <= 0) {
            return 3;
        }
        snprintf(text, sizeof(text), "%u", times);
        tell(argv[1], text);
    }
    return 4;
}
