/*
 * A fake of the kernel for unit tests: memory with page tables, userfaultfd,
 * PAGEMAP_SCAN, small files and a clock
 *
 * Memory is real memory, so that contents move; what the kernel knows about it
 * (frames, huge pages, page tables, markers) is kept beside it.  It behaves as
 * measured on the real one: a run that stops early says EAGAIN with the bytes
 * done, a huge page stays one only where the destination has no page table, a
 * split maps zero-filled pages to the shared zero page.
 *
 * Any call can be made to fail, any page to be in the way.  Threads may use
 * it at the same time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_FAKE_SYS_H
#define TESTS_FAKE_SYS_H

#include <stdbool.h>
#include <stdint.h>

#include "sys.h"
#include "uffd.h"

typedef struct FakeSys FakeSys;

/* Calls that can be counted and made to fail. */
typedef enum FakeCall {
    FAKE_MMAP,
    FAKE_DONTFORK,
    FAKE_DONTNEED,
    FAKE_POPULATE,
    FAKE_OPEN_PAGEMAP,
    FAKE_OPEN_DEV,              /* /dev/userfaultfd */
    FAKE_USERFAULTFD,
    FAKE_API,
    FAKE_REGISTER,
    FAKE_UNREGISTER,
    FAKE_MOVE,
    FAKE_COPY,
    FAKE_WAKE,
    FAKE_POISON,
    FAKE_PROTECT,
    FAKE_SCAN,
    FAKE_READ,                  /* of a userfaultfd */
    FAKE_READ_FILE,
    FAKE_RANDOM,
    FAKE_BACKGROUND,            /* behind ordinary threads */
    FAKE_FOREGROUND,            /* beside them again */
    FAKE_CREATE,                /* of a swap file */
    FAKE_PREAD,                 /* of it */
    FAKE_PWRITE,
    FAKE_CALLS
} FakeCall;

FakeSys *fake_sys_new(void);

/* Every descriptor and mapping has to be gone by then. */
void fake_sys_free(FakeSys *fake);

/* The table to hand to the code under test. */
const MsSys *fake_sys(FakeSys *fake);

/* How often a call was made. */
unsigned fake_calls(FakeSys *fake, FakeCall call);

/* After @skip more calls, the next @times fail with @rc (a negative errno). */
void fake_fail(FakeSys *fake, FakeCall call, unsigned skip, unsigned times,
               int rc);

/* ---- memory ---- */

/* The guest, or the kernel, writes to these pages: each gets a frame. */
void fake_touch(FakeSys *fake, void *address, uint64_t pages);

/* The page cannot be moved: @rc, until set to 0. */
void fake_block(FakeSys *fake, void *page, int rc);

/* The page has been swapped out. */
void fake_swap_out(FakeSys *fake, void *page);

/* Moves and copies stop after this many pages, EAGAIN; once; 0: not. */
void fake_interrupt(FakeSys *fake, uint64_t pages);

/* No huge page is to be had from now on, or again. */
void fake_huge(FakeSys *fake, bool huge);

/* Frames in use, all mappings; zero pages carry none. */
uint64_t fake_frames(FakeSys *fake);

/* Number of the frame of a page, 0 for none. */
uint64_t fake_pfn(FakeSys *fake, const void *page);

bool fake_is_huge(FakeSys *fake, const void *frame);

/* ---- files, events, time ---- */

/* Content of a file; NULL takes it away.  None is there to begin with. */
void fake_file(FakeSys *fake, const char *path, const char *text);

/* The byte at @offset of the file that was created last changes. */
void fake_corrupt(FakeSys *fake, uint64_t offset);

/* A fault that the next ms_uffd_read() of any descriptor will see. */
void fake_event(FakeSys *fake, const MsFault *fault);

/* Features that UFFDIO_API offers (MS_ABI_FEATURE_*); all at first. */
void fake_features(FakeSys *fake, uint64_t features);

void fake_advance(FakeSys *fake, uint64_t ns);

#endif /* TESTS_FAKE_SYS_H */
