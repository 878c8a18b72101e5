/*
 * A pretended disk, and a guest that reads it
 *
 * The disk is an array, which a thread of the emulator's reads: at once, or
 * when the test says so.  Locks are the library's: a thread sanitizer cannot
 * see into GLib's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_DISK_GUEST_H
#define TESTS_DISK_GUEST_H

#include <glib.h>
#include <stdatomic.h>

#include "guest.h"
#include "lock.h"

typedef struct Disk {
    MemSchedDisk *disk;
    char *data;
    uint64_t bytes;
    GThread *thread;
    MsLock lock;
    MsCond cond;
    GQueue requests;            /* lock */
    _Atomic unsigned asked, answered;
    _Atomic bool held;          /* requests stay where they are */
    _Atomic bool fails;
} Disk;

Disk *disk_new(Guest *guest, uint64_t pages);
/* The thread that would answer is gone. */
void disk_kill(Disk *disk);
/* With @closed the library has let the disk go before. */
void disk_free(Disk *disk, bool closed);

/* As an emulator reads; how many pages were noted. */
uint64_t disk_fill(Guest *guest, Disk *disk, uint64_t page, uint64_t count,
                   uint64_t offset);
/* Wait (bounded) until so many pages are known to be on disks, none unsure. */
void disk_wait(Guest *guest, uint64_t pages);
bool disk_is_page(Guest *guest, Disk *disk, uint64_t page, uint64_t offset);

#endif /* TESTS_DISK_GUEST_H */
