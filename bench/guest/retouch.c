/*
 * How fast a guest writes to memory, at first and again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Usage: retouch MIB PASSES [keep]
 *
 * Maps MIB of anonymous memory and writes a word in each page of it, PASSES
 * times.  Prints the microseconds of each pass, one line.  The first pass has
 * the guest's kernel hand out pages, and the host back those that it did not;
 * what the others cost besides the program itself is what the host has made
 * of its mappings.  With "keep" it then waits to be ended, and the memory
 * stays in use.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096 };

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * UINT64_C(1000000) + now.tv_nsec / 1000;
}

static uint64_t pass(char *memory, size_t bytes, uint64_t word)
{
    uint64_t start = now_us();

    for (size_t at = 0; at < bytes; at += PAGE_BYTES) {
        /* volatile: the store is what is timed */
        *(volatile uint64_t *)(memory + at) = word;
    }
    return now_us() - start;
}

int main(int argc, char **argv)
{
    size_t bytes = argc > 1 ? strtoull(argv[1], NULL, 0) << 20 : 0;
    unsigned passes = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
    char *memory;

    if (argc < 3 || !bytes || !passes) {
        fprintf(stderr, "usage: retouch MIB PASSES [keep]\n");
        return 2;
    }
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("retouch");
        return 1;
    }
    for (unsigned i = 1; i <= passes; i++) {
        printf("%s%llu", i > 1 ? " " : "",
               (unsigned long long)pass(memory, bytes, i));
    }
    printf("\n");
    fflush(stdout);
    if (argc > 3 && !strcmp(argv[3], "keep")) {
        pause();
    }
    return 0;
}
