/*
 * Reads of images that fill guest RAM, and what ends their being the same.
 *
 * One place sees them all: where a driver of formats, a filter or a device's
 * backend reads a node that is a file.  There the place in the file is known
 * whatever the format above, and what the guest gets without a detour has just
 * been read into its own memory.  What went by a detour (compressed,
 * encrypted, copied on read, IDE in PIO mode, 512 bytes alone) is in other
 * memory there, and is not noted.  So formats need no rules of their own: a
 * qcow2 cluster that is written anew lies elsewhere in the file, and what was
 * read stays where it is; snapshots, backing files and their changes are the
 * same to a file.
 *
 * What ends it: every write, discard or zeroing of the file passes by the
 * check of the write threshold when it is submitted, and sets dirty bits when
 * it has ended; every change of length truncates the dirty bitmaps; and every
 * node that is closed (a medium that is ejected, a layer that was committed)
 * gives them up.  Those four are functions of other files than their callers,
 * so that they can be watched from here without a change to QEMU.
 *
 * Left out: files that somebody else may write (share-rw=on, or locks off
 * between processes: the former is seen here, the latter in the checksum),
 * drivers other than "file" and "host_device", and vhost, which reads by
 * itself.
 *
 * Refilling.  A vCPU that waits for its page in the handler of SIGBUS may hold
 * the BQL, and a thread of an event loop may hold a lock of qcow2 or be in the
 * middle of a coroutine.  So nothing of the block layer can be asked: each
 * file is opened once more, for reading, and one thread of this copy reads at
 * the offset in the file that was noted, with no lock of QEMU's at all.  The
 * request gets there by a pipe, so that the thread of the library that asks
 * neither blocks nor allocates (a pipe holds 1,600 requests; a thread waits
 * for each).
 *
 * A system call on guest RAM says EFAULT where a page is broken: it is
 * repaired, and the request made once more, here as well.
 *
 * Lock: files.lock guards the list.  An entry stays as long as its node.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <glib-unix.h>
#include "block/block_int.h"
#include "block/write-threshold.h"
#include "qemu/thread.h"
#include "wrap.h"

/* Repairs of one request: more errors than that come faster than repairs. */
#define REPAIRS_MAX 64

typedef struct DiskFile {
    BlockDriverState *bs;
    MemSchedDisk *disk;         /* NULL: not to be had */
    int fd;
    struct DiskFile *next;
} DiskFile;

typedef struct Request {
    MemSchedDiskRead *read;
    DiskFile *file;
    uint64_t offset, length;
    void *buffer;
} Request;

static struct {
    pthread_mutex_t lock;
    DiskFile *first;
    bool any;                   /* atomic: the list is not empty */
    int pipe[2];                /* to the thread; 0: there is none */
} files = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- reading again ---- */

static void *refill_thread(void *unused)
{
    Request r;
    int state;

    while (RETRY_ON_EINTR(read(files.pipe[0], &r, sizeof(r))) == sizeof(r)) {
        ssize_t done = 0, got = 1;
        int64_t result;

        while (got > 0 && (uint64_t)done < r.length) {
            got = RETRY_ON_EINTR(pread(r.file->fd, (char *)r.buffer + done,
                                       r.length - done, r.offset + done));
            done += got > 0 ? got : 0;
        }
        result = got < 0 ? -errno : done;
        /* This thread may be ended while it waits, not while it answers. */
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
        memsched_disk_read_done(r.read, result);
        pthread_setcancelstate(state, NULL);
    }
    return NULL;
}

static void refill(void *opaque, MemSchedDiskRead *read, uint64_t offset,
                   void *buffer, uint64_t length)
{
    Request r = {
        .read = read, .file = opaque, .offset = offset, .length = length,
        .buffer = buffer,
    };

    if (RETRY_ON_EINTR(write(files.pipe[1], &r, sizeof(r))) != sizeof(r)) {
        memsched_disk_read_done(read, -EIO);
    }
}

static bool start_thread_locked(void)
{
    QemuThread thread;

    if (files.pipe[1]) {
        return true;
    }
    if (!g_unix_open_pipe(files.pipe, FD_CLOEXEC, NULL)) {
        files.pipe[1] = 0;
        return false;
    }
    qemu_thread_create(&thread, "disk-refill", refill_thread, NULL,
                       QEMU_THREAD_DETACHED);
    return true;
}

/* ---- files ---- */

static bool is_file(const BlockDriverState *bs)
{
    const char *name = bs->drv ? bs->drv->format_name : "";

    return !strcmp(name, "file") || !strcmp(name, "host_device");
}

/* Somebody whom this process does not see may write to it. */
static bool is_shared(const BlockDriverState *bs)
{
    BdrvChild *parent;

    QLIST_FOREACH(parent, &bs->parents, next_parent) {
        if (parent->shared_perm & BLK_PERM_WRITE) {
            return true;
        }
    }
    return false;
}

static void open_file_locked(DiskFile *file, MemSchedClient *client)
{
    static const MemSchedDiskOps ops = { .read = refill };

    if (!file->bs->exact_filename[0] || !start_thread_locked()) {
        return;
    }
    file->fd = qemu_open_old(file->bs->exact_filename, O_RDONLY);
    if (file->fd >= 0 &&
        memsched_disk_new(client, &ops, file, &file->disk) < 0) {
        file->disk = NULL;
    }
}

static DiskFile *find_locked(const BlockDriverState *bs)
{
    DiskFile *file = files.first;

    while (file && file->bs != bs) {
        file = file->next;
    }
    return file;
}

/* NULL: nothing is noted of this node. */
static MemSchedDisk *disk_of(const BlockDriverState *bs)
{
    MemSchedDisk *disk = NULL;
    DiskFile *file;

    if (qatomic_read(&files.any)) {
        pthread_mutex_lock(&files.lock);
        file = find_locked(bs);
        disk = file ? file->disk : NULL;
        pthread_mutex_unlock(&files.lock);
    }
    return disk;
}

static MemSchedDisk *disk_of_or_new(BlockDriverState *bs)
{
    MemSchedClient *client = memsched_instance_client();
    DiskFile *file;

    if (!memsched_disk_wanted(client) || !is_file(bs) || is_shared(bs)) {
        return NULL;
    }
    pthread_mutex_lock(&files.lock);
    file = find_locked(bs);
    if (!file) {
        file = g_new0(DiskFile, 1);
        file->bs = bs;
        file->fd = -1;
        open_file_locked(file, client);
        file->next = files.first;
        files.first = file;
        qatomic_set(&files.any, true);
    }
    pthread_mutex_unlock(&files.lock);
    return file->disk;
}

static void close_file(BlockDriverState *bs)
{
    DiskFile **at, *file;
    bool unused = true;

    if (!qatomic_read(&files.any)) {
        return;
    }
    pthread_mutex_lock(&files.lock);
    at = &files.first;
    while (*at && (*at)->bs != bs) {
        at = &(*at)->next;
    }
    file = *at;
    if (file) {
        *at = file->next;
    }
    pthread_mutex_unlock(&files.lock);
    if (file) {
        /* Without its client the disk has gone with it. */
        if (memsched_instance_client()) {
            unused = memsched_disk_free(file->disk);
        }
    }
    /* Else it goes with the copy, which ends. */
    if (file && unused) {
        if (file->fd >= 0) {
            qemu_close(file->fd);
        }
        g_free(file);
    }
}

static void changed(const BlockDriverState *bs, uint64_t offset,
                    uint64_t length)
{
    MemSchedDisk *disk = disk_of(bs);

    if (disk && memsched_instance_client()) {
        memsched_disk_changed(disk, offset, length);
    }
}

/* ---- a request's memory ---- */

typedef struct Memory {
    QEMUIOVector *qiov;
    size_t skip, length;
} Memory;

/*
 * The next piece of the memory: what lies together is one.  *at: bytes done.
 */
static bool next_piece(const Memory *m, size_t *at, char **ret_start,
                       size_t *ret_length)
{
    size_t begin = 0, length = 0;
    char *start = NULL;

    for (int i = 0; i < m->qiov->niov && length < m->length - *at; i++) {
        const struct iovec *v = &m->qiov->iov[i];
        size_t from = MAX(begin, m->skip + *at + length);

        if (from < begin + v->iov_len) {
            char *here = (char *)v->iov_base + (from - begin);

            if (start && start + length != here) {
                break;
            }
            start = start ? start : here;
            length += begin + v->iov_len - from;
        }
        begin += v->iov_len;
    }
    length = MIN(length, m->length - *at);
    *ret_start = start;
    *ret_length = length;
    *at += length;
    return length > 0;
}

static void note_read(MemSchedDisk *disk, uint64_t stamp, uint64_t offset,
                      const Memory *m)
{
    size_t at = 0, length;
    char *start;

    while (next_piece(m, &at, &start, &length)) {
        memsched_disk_filled(disk, stamp, offset + at - length, start, length);
    }
}

/* True: something was broken, and is not any more. */
static bool repair(const Memory *m)
{
    size_t at = 0, length;
    bool any = false;
    char *start;

    while (next_piece(m, &at, &start, &length)) {
        int ret = memsched_repair_range(start, length);

        any |= ret != 0 && ret != -ENOENT;
    }
    return any;
}

static bool again(int ret, int *tries, const Memory *m)
{
    return ret == -EFAULT && m->qiov && memsched_instance_client() &&
        (*tries)++ < REPAIRS_MAX && repair(m);
}

/* ---- requests ---- */

WRAP(int coroutine_fn, bdrv_co_preadv_part, (BdrvChild *child, int64_t offset,
                                             int64_t bytes, QEMUIOVector *qiov,
                                             size_t qiov_offset,
                                             BdrvRequestFlags flags))
{
    Memory m = { .qiov = qiov, .skip = qiov_offset, .length = bytes };
    MemSchedDisk *disk = qiov ? disk_of_or_new(child->bs) : NULL;
    uint64_t stamp = disk ? memsched_disk_stamp(disk) : 0;
    int ret, tries = 0;

    do {
        ret = __real_bdrv_co_preadv_part(child, offset, bytes, qiov,
                                         qiov_offset, flags);
    } while (again(ret, &tries, &m));
    if (ret >= 0 && disk) {
        note_read(disk, stamp, offset, &m);
    }
    return ret;
}

WRAP(int coroutine_fn, bdrv_co_preadv, (BdrvChild *child, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        BdrvRequestFlags flags))
{
    return __wrap_bdrv_co_preadv_part(child, offset, bytes, qiov, 0, flags);
}

WRAP(int coroutine_fn, bdrv_co_pwritev_part, (BdrvChild *child, int64_t offset,
                                              int64_t bytes,
                                              QEMUIOVector *qiov,
                                              size_t qiov_offset,
                                              BdrvRequestFlags flags))
{
    Memory m = { .qiov = qiov, .skip = qiov_offset, .length = bytes };
    int ret, tries = 0;

    do {
        ret = __real_bdrv_co_pwritev_part(child, offset, bytes, qiov,
                                          qiov_offset, flags);
    } while (again(ret, &tries, &m));
    return ret;
}

WRAP(int coroutine_fn, bdrv_co_pwritev, (BdrvChild *child, int64_t offset,
                                         int64_t bytes, QEMUIOVector *qiov,
                                         BdrvRequestFlags flags))
{
    return __wrap_bdrv_co_pwritev_part(child, offset, bytes, qiov, 0, flags);
}

/* ---- what ends it ---- */

/* A write, discard or zeroing is about to begin. */
WRAP(void, bdrv_write_threshold_check_write, (BlockDriverState *bs,
                                              int64_t offset, int64_t bytes))
{
    changed(bs, offset, bytes);
    __real_bdrv_write_threshold_check_write(bs, offset, bytes);
}

/* It has ended. */
WRAP(void, bdrv_set_dirty, (BlockDriverState *bs, int64_t offset,
                            int64_t bytes))
{
    changed(bs, offset, bytes);
    __real_bdrv_set_dirty(bs, offset, bytes);
}

WRAP(void, bdrv_dirty_bitmap_truncate, (BlockDriverState *bs, int64_t bytes))
{
    changed(bs, bytes, UINT64_MAX);
    __real_bdrv_dirty_bitmap_truncate(bs, bytes);
}

/* A node is closed. */
WRAP(void, bdrv_release_named_dirty_bitmaps, (BlockDriverState *bs))
{
    close_file(bs);
    __real_bdrv_release_named_dirty_bitmaps(bs);
}
