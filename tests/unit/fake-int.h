/*
 * Inside of the fake kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FAKE_INT_H
#define TESTS_FAKE_INT_H

#include <glib.h>

#include "abi.h"
#include "fake-sys.h"
#include "memsched/types.h"

#define FRAME_PAGES MEMSCHED_PAGES_PER_FRAME

typedef enum PageKind { HOLE, FRAME, ZERO, SWAP, MARKER } PageKind;

typedef struct Page {
    PageKind kind;
    uint64_t pfn;               /* 512 successive ones where huge */
    int block;
} Page;

typedef struct Frame {
    bool huge;                  /* one entry maps it */
    bool table;                 /* a page table is there */
    bool folio;                 /* split in the map, still one page */
    bool advised;
} Frame;

typedef struct Mapping {
    char *base;                 /* aligned to 2 MiB, may lie below the map */
    uint64_t pages;
    char *map;
    size_t bytes;
    Page *page;
    Frame *frame;
} Mapping;

typedef struct Failure {
    unsigned skip, times;
    int rc;
} Failure;

typedef struct File {
    char *text;                 /* NULL: a userfaultfd, pagemap, ... */
    size_t at;
    uint64_t bytes;             /* of text, where it was created */
    FakeCall kind;
    bool open;
} File;

struct FakeSys {
    MsSys sys;                  /* first: the table that calls come with */
    GMutex lock;
    GPtrArray *mappings;
    GArray *fds;                /* File */
    GHashTable *files;
    GQueue events;
    Failure failures[FAKE_CALLS];
    unsigned calls[FAKE_CALLS];
    uint64_t next_pfn, interrupt, features, now_ns;
    bool huge;
};

/* Count the call; the negative errno that it is to fail with, or 0. */
int fake_enter(FakeSys *fake, FakeCall call);

/* ---- fake-mem.c; the lock is held ---- */

Mapping *fake_mapping_of(FakeSys *fake, uint64_t address);

/* NULL where nothing is mapped; both ret_ may be NULL. */
Page *fake_page_of(FakeSys *fake, uint64_t address, Frame **ret_frame,
                   unsigned *ret_position);

void fake_mem_touch(FakeSys *fake, uint64_t address, uint64_t pages);
void fake_mem_advise(FakeSys *fake, uint64_t address, size_t bytes, bool huge);
void fake_mem_age(FakeSys *fake, uint64_t address);
void fake_mem_discard(FakeSys *fake, uint64_t address, size_t bytes);

/* The work of UFFDIO_MOVE and UFFDIO_COPY; *ret_done as the kernel has it. */
int fake_mem_run(FakeSys *fake, FakeCall call, uint64_t dst, uint64_t src,
                 uint64_t len, int64_t *ret_done);
int fake_mem_poison(FakeSys *fake, MsAbiPoison *arg);
int fake_mem_scan(FakeSys *fake, MsAbiScan *arg);

#endif /* TESTS_FAKE_INT_H */
