/*
 * A hungry program for a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Usage: eat NAME MIB [blind]
 *
 * Takes MIB of anonymous memory, a page after the other, and keeps it; how
 * far it has come is in its status (status.h).  What it takes must read as
 * zero before it is written: anything else is counted as an error.  Blind, it
 * writes a word a page and reads nothing: for benches, since an emulated CPU
 * needs 10 us to read a page.
 */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

/* Whether the page, never written so far, reads as zero; writes it. */
static bool take(uint64_t *words, bool blind)
{
    uint64_t any = 0;

    if (blind) {
        words[0] = 1;
        return true;
    }
    for (int i = 0; i < (int)(PAGE_BYTES / sizeof(*words)); i++) {
        any |= words[i];
    }
    words[0] = ~any | 1;
    return any == 0;
}

int main(int argc, char **argv)
{
    Status *status;
    uint64_t pages;
    char *memory;
    bool blind = argc == 4 && !strcmp(argv[3], "blind");

    if (argc != 3 && !blind) {
        fprintf(stderr, "usage: eat NAME MIB [blind]\n");
        return 2;
    }
    pages = strtoull(argv[2], NULL, 0) * (1024 * 1024 / PAGE_BYTES);
    status = status_map(argv[1]);
    memory = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!status || memory == MAP_FAILED) {
        perror("eat");
        return 1;
    }
    status->pages = pages;
    for (uint64_t page = 0; page < pages; page++) {
        if (!take((uint64_t *)(memory + page * PAGE_BYTES), blind)) {
            status->errors++;
        }
        status->filled = page + 1;
    }
    while (1) {
        pause();
    }
}
