/*
 * What a test program of the guest says about itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One page of a file in /run, mapped by the program, which writes it, and by
 * `control`, which reads it for the host.  Every field is one aligned word
 * with one writer, so no lock is needed; `requested` alone is written by
 * `control`.
 */

#ifndef FUNCTIONAL_GUEST_STATUS_H
#define FUNCTIONAL_GUEST_STATUS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STATUS_BYTES = 4096, PAGE_BYTES = 4096, NAME_BYTES = 32 };

#define STATUS_PATH "/run/%s.status"

typedef struct Status {
    volatile uint64_t pages;        /* how many there will be */
    volatile uint64_t filled;       /* how many have been written */
    volatile uint64_t ops;          /* pages checked and written anew */
    volatile uint64_t errors;       /* pages with a wrong content */
    volatile uint64_t bad_page;     /* the first of them */
    volatile uint64_t bad_word;
    volatile uint64_t found;        /* what was there instead */
    volatile uint64_t wanted;
    volatile uint64_t requested;    /* sweeps asked for */
    volatile uint64_t swept;        /* sweeps done */
    volatile uint64_t sum;          /* of all words, at the last sweep */
    volatile uint64_t expected;     /* what the sum should have been */
    volatile uint64_t p50_us;       /* half of the operations took no longer */
    volatile uint64_t p99_us;       /* 99 of 100 took no longer */
} Status;

static inline Status *status_map(const char *name)
{
    char path[NAME_BYTES + 32];
    Status *status;
    int fd;

    snprintf(path, sizeof(path), STATUS_PATH, name);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return NULL;
    }
    if (ftruncate(fd, STATUS_BYTES) < 0) {
        close(fd);
        return NULL;
    }
    status = mmap(NULL, STATUS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);
    close(fd);
    return status == MAP_FAILED ? NULL : status;
}

#endif
