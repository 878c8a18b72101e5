/*
 * A fake of the kernel for unit tests
 *
 * The table of calls, and what tests steer it with; fake-mem.c has the memory.
 * One lock guards everything.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "fake-int.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>

#define FIRST_FD 1000       /* never that of something real */

static FakeSys *fake_of(const MsSys *sys)
{
    return (FakeSys *)sys;
}

/* ---- the table ---- */

int fake_enter(FakeSys *fake, FakeCall call)
{
    Failure *f = &fake->failures[call];

    fake->calls[call]++;
    if (f->skip) {
        f->skip--;
        return 0;
    }
    if (f->times) {
        f->times--;
        return f->rc;
    }
    return 0;
}

static int fake_mmap(const MsSys *sys, void *hint, size_t bytes, int prot,
                     int flags, void **ret_address)
{
    FakeSys *fake = fake_of(sys);
    Mapping *m;
    void *p;
    int rc;

    g_mutex_lock(&fake->lock);
    rc = fake_enter(fake, FAKE_MMAP);
    if (rc == 0) {
        p = mmap(NULL, bytes, prot, flags | MAP_NORESERVE, -1, 0);
        g_assert_true(p != MAP_FAILED);
        m = g_new0(Mapping, 1);
        m->map = p;
        m->bytes = bytes;
        m->base = (char *)((uintptr_t)p & ~(MEMSCHED_FRAME_SIZE - 1));
        m->pages = (m->map + bytes - m->base + MEMSCHED_FRAME_SIZE - 1)
                   / MEMSCHED_FRAME_SIZE * FRAME_PAGES;
        m->page = g_new0(Page, m->pages);
        m->frame = g_new0(Frame, m->pages / FRAME_PAGES);
        g_ptr_array_add(fake->mappings, m);
        *ret_address = p;
    }
    g_mutex_unlock(&fake->lock);
    return rc;
}

static int fake_munmap(const MsSys *sys, void *address, size_t bytes)
{
    FakeSys *fake = fake_of(sys);
    Mapping *m;

    g_mutex_lock(&fake->lock);
    m = fake_mapping_of(fake, (uintptr_t)address);
    g_assert_true(m && m->map == address && m->bytes == bytes);
    munmap(address, bytes);
    g_ptr_array_remove(fake->mappings, m);
    g_free(m->page);
    g_free(m->frame);
    g_free(m);
    g_mutex_unlock(&fake->lock);
    return 0;
}

static int fake_madvise(const MsSys *sys, void *address, size_t bytes,
                        int advice)
{
    FakeSys *fake = fake_of(sys);
    uint64_t at = (uintptr_t)address;
    int rc = 0;

    g_mutex_lock(&fake->lock);
    switch (advice) {
    case MADV_DONTFORK:
        rc = fake_enter(fake, FAKE_DONTFORK);
        break;
    case MADV_HUGEPAGE:
        fake_mem_advise(fake, at, bytes, true);
        break;
    case MADV_COLD:
        fake_mem_age(fake, at);
        break;
    case MADV_DONTNEED:
        rc = fake_enter(fake, FAKE_DONTNEED);
        if (rc == 0) {
            fake_mem_discard(fake, at, bytes);
        }
        break;
    case MS_MADV_POPULATE_WRITE:
        rc = fake_enter(fake, FAKE_POPULATE);
        if (rc == 0) {
            fake_mem_touch(fake, at, bytes >> MEMSCHED_PAGE_SHIFT);
        }
        break;
    }
    g_mutex_unlock(&fake->lock);
    return rc;
}

static int new_fd(FakeSys *fake, FakeCall kind, const char *text)
{
    File file = { .kind = kind, .text = g_strdup(text), .open = true };

    g_array_append_val(fake->fds, file);
    return FIRST_FD + fake->fds->len - 1;
}

static File *file_of(FakeSys *fake, int fd)
{
    File *file;

    if (fd < FIRST_FD || fd >= FIRST_FD + (int)fake->fds->len) {
        return NULL;
    }
    file = &g_array_index(fake->fds, File, fd - FIRST_FD);
    return file->open ? file : NULL;
}

static int fake_open(const MsSys *sys, const char *path, int flags)
{
    FakeSys *fake = fake_of(sys);
    const char *text;
    int rc = -ENOENT;

    g_mutex_lock(&fake->lock);
    if (strcmp(path, "/dev/userfaultfd") == 0) {
        rc = fake_enter(fake, FAKE_OPEN_DEV);
        rc = rc ? rc : new_fd(fake, FAKE_OPEN_DEV, NULL);
    } else if (strcmp(path, "/proc/self/pagemap") == 0) {
        rc = fake_enter(fake, FAKE_OPEN_PAGEMAP);
        rc = rc ? rc : new_fd(fake, FAKE_OPEN_PAGEMAP, NULL);
    } else {
        text = g_hash_table_lookup(fake->files, path);
        if (text) {
            rc = new_fd(fake, FAKE_READ_FILE, text);
        }
    }
    g_mutex_unlock(&fake->lock);
    return rc;
}

static int fake_create(const MsSys *sys, const char *path, uint64_t bytes)
{
    FakeSys *fake = fake_of(sys);
    File *file;
    int rc;

    g_mutex_lock(&fake->lock);
    rc = fake_enter(fake, FAKE_CREATE);
    if (rc == 0) {
        rc = new_fd(fake, FAKE_CREATE, NULL);
        file = file_of(fake, rc);
        file->text = g_malloc0(bytes);
        file->bytes = bytes;
    }
    g_mutex_unlock(&fake->lock);
    return rc;
}

static int fake_close(const MsSys *sys, int fd)
{
    FakeSys *fake = fake_of(sys);
    File *file;

    g_mutex_lock(&fake->lock);
    file = file_of(fake, fd);
    g_assert_nonnull(file);
    g_free(file->text);
    file->open = false;
    g_mutex_unlock(&fake->lock);
    return 0;
}

static ssize_t read_events(FakeSys *fake, void *buf, size_t bytes)
{
    struct uffd_msg *msgs = buf;
    size_t n = 0;
    int rc = fake_enter(fake, FAKE_READ);

    if (rc) {
        return rc;
    }
    while ((n + 1) * sizeof(*msgs) <= bytes &&
           !g_queue_is_empty(&fake->events)) {
        MsFault *fault = g_queue_pop_head(&fake->events);

        memset(&msgs[n], 0, sizeof(msgs[n]));
        msgs[n].event = UFFD_EVENT_PAGEFAULT;
        msgs[n].arg.pagefault.address = fault->address;
        msgs[n].arg.pagefault.feat.ptid = fault->thread_id;
        msgs[n].arg.pagefault.flags =
            (fault->write ? UFFD_PAGEFAULT_FLAG_WRITE : 0) |
            (fault->protected_page ? UFFD_PAGEFAULT_FLAG_WP : 0);
        g_free(fault);
        n++;
    }
    return n ? (ssize_t)(n * sizeof(*msgs)) : -EAGAIN;
}

static ssize_t fake_read(const MsSys *sys, int fd, void *buf, size_t bytes)
{
    FakeSys *fake = fake_of(sys);
    File *file;
    ssize_t n;

    g_mutex_lock(&fake->lock);
    file = file_of(fake, fd);
    if (!file) {
        n = -EBADF;
    } else if (file->kind == FAKE_USERFAULTFD) {
        n = read_events(fake, buf, bytes);
    } else {
        n = fake_enter(fake, FAKE_READ_FILE);
        if (n == 0) {
            n = MIN(bytes, strlen(file->text + file->at));
            memcpy(buf, file->text + file->at, n);
            file->at += n;
        }
    }
    g_mutex_unlock(&fake->lock);
    return n;
}

/* @rc -EINTR: only half of it, this time. */
static ssize_t part(int rc, size_t bytes)
{
    return rc == -EINTR ? (ssize_t)bytes / 2 : rc ? rc : (ssize_t)bytes;
}

/* Of the page map, and of what was created. */
static ssize_t fake_pread(const MsSys *sys, int fd, void *buf, size_t bytes,
                          uint64_t offset)
{
    FakeSys *fake = fake_of(sys);
    uint64_t *entries = buf;
    ssize_t n;
    File *file;

    g_mutex_lock(&fake->lock);
    file = file_of(fake, fd);
    if (file && file->kind == FAKE_CREATE) {
        n = part(fake_enter(fake, FAKE_PREAD), bytes);
        if (n > 0) {
            g_assert_cmpuint(offset + n, <=, file->bytes);
            memcpy(buf, file->text + offset, n);
        }
        g_mutex_unlock(&fake->lock);
        return n;
    }
    for (size_t i = 0; i < bytes / 8; i++) {
        uint64_t address = (offset / 8 + i) << MEMSCHED_PAGE_SHIFT;
        Page *page = fake_page_of(fake, address, NULL, NULL);
        PageKind kind = page ? page->kind : HOLE;

        entries[i] = 0;
        if (kind == FRAME || kind == ZERO) {
            entries[i] = MS_ABI_PAGEMAP_PRESENT | page->pfn;
        } else if (kind == SWAP || kind == MARKER) {
            entries[i] = MS_ABI_PAGEMAP_SWAPPED |
                         (kind == MARKER ? MS_ABI_PAGEMAP_MARKER : 0);
        }
    }
    g_mutex_unlock(&fake->lock);
    return bytes;
}

static ssize_t fake_write(const MsSys *sys, int fd, const void *buf,
                          size_t bytes)
{
    return bytes;
}

static ssize_t fake_pwrite(const MsSys *sys, int fd, const void *buf,
                           size_t bytes, uint64_t offset)
{
    FakeSys *fake = fake_of(sys);
    ssize_t n;
    File *file;

    g_mutex_lock(&fake->lock);
    file = file_of(fake, fd);
    n = part(fake_enter(fake, FAKE_PWRITE), bytes);
    if (n > 0) {
        g_assert_cmpuint(offset + n, <=, file->bytes);
        memcpy(file->text + offset, buf, n);
    }
    g_mutex_unlock(&fake->lock);
    return n;
}

/* ---- ioctls ---- */

static int do_api(FakeSys *fake, struct uffdio_api *api)
{
    int rc = fake_enter(fake, FAKE_API);

    if (rc == 0 && (api->features & ~fake->features)) {
        rc = -EINVAL;
    }
    api->features = fake->features;
    return rc;
}

static int do_uffd(FakeSys *fake, unsigned long request, void *arg)
{
    struct uffdio_copy *copy = arg;
    MsAbiMove *move = arg;
    int64_t done;
    int rc;

    switch (request) {
    case UFFDIO_API:
        return do_api(fake, arg);
    case UFFDIO_REGISTER:
        return fake_enter(fake, FAKE_REGISTER);
    case UFFDIO_UNREGISTER:
        return fake_enter(fake, FAKE_UNREGISTER);
    case UFFDIO_WAKE:
        return fake_enter(fake, FAKE_WAKE);
    case UFFDIO_WRITEPROTECT:
        return fake_enter(fake, FAKE_PROTECT);
    case MS_ABI_POISON:
        return fake_mem_poison(fake, arg);
    case MS_ABI_MOVE:
        return fake_mem_run(fake, FAKE_MOVE, move->dst, move->src, move->len,
                      &move->move);
    case UFFDIO_COPY:
        rc = fake_mem_run(fake, FAKE_COPY, copy->dst, copy->src, copy->len,
                          &done);
        copy->copy = done;
        return rc;
    default:
        return -ENOTTY;
    }
}

static int fake_ioctl(const MsSys *sys, int fd, unsigned long request,
                      void *arg)
{
    FakeSys *fake = fake_of(sys);
    File *file;
    int rc = -ENOTTY;

    g_mutex_lock(&fake->lock);
    file = file_of(fake, fd);
    if (!file) {
        rc = -EBADF;
    } else if (file->kind == FAKE_USERFAULTFD) {
        rc = do_uffd(fake, request, arg);
    } else if (file->kind == FAKE_OPEN_DEV &&
               request == MS_ABI_USERFAULTFD_NEW) {
        rc = fake_enter(fake, FAKE_USERFAULTFD);
        rc = rc ? rc : new_fd(fake, FAKE_USERFAULTFD, NULL);
    } else if (file->kind == FAKE_OPEN_PAGEMAP && request == MS_ABI_SCAN) {
        rc = fake_mem_scan(fake, arg);
    }
    g_mutex_unlock(&fake->lock);
    return rc;
}

static int fake_poll(const MsSys *sys, struct pollfd *fds, unsigned count,
                     int timeout_ms)
{
    for (unsigned i = 0; i < count; i++) {
        fds[i].revents = fds[i].events & POLLIN;
    }
    return count;
}

static int fake_eventfd(const MsSys *sys, unsigned initial, int flags)
{
    FakeSys *fake = fake_of(sys);
    int fd;

    g_mutex_lock(&fake->lock);
    fd = new_fd(fake, FAKE_READ_FILE, "");
    g_mutex_unlock(&fake->lock);
    return fd;
}

static int fake_userfaultfd(const MsSys *sys, int flags)
{
    FakeSys *fake = fake_of(sys);
    int rc;

    g_mutex_lock(&fake->lock);
    rc = fake_enter(fake, FAKE_USERFAULTFD);
    rc = rc ? rc : new_fd(fake, FAKE_USERFAULTFD, NULL);
    g_mutex_unlock(&fake->lock);
    return rc;
}

/* Different bytes at each call, the same in each run. */
static int fake_random(const MsSys *sys, void *buf, size_t bytes)
{
    FakeSys *fake = fake_of(sys);
    uint8_t *byte = buf;
    int rc;

    g_mutex_lock(&fake->lock);
    rc = fake_enter(fake, FAKE_RANDOM);
    for (size_t i = 0; i < bytes && rc == 0; i++) {
        byte[i] = (uint8_t)(fake->calls[FAKE_RANDOM] * 37 + i * 11);
    }
    g_mutex_unlock(&fake->lock);
    return rc;
}

static uint64_t fake_now_ns(const MsSys *sys)
{
    FakeSys *fake = fake_of(sys);
    uint64_t now;

    g_mutex_lock(&fake->lock);
    now = fake->now_ns;
    g_mutex_unlock(&fake->lock);
    return now;
}

static void fake_sleep_ns(const MsSys *sys, uint64_t duration_ns)
{
    fake_advance(fake_of(sys), duration_ns);
}

static void fake_name_thread(const MsSys *sys, const char *name)
{
}

static int fake_background(const MsSys *sys, bool on)
{
    FakeSys *fake = fake_of(sys);
    int rc;

    g_mutex_lock(&fake->lock);
    rc = fake_enter(fake, on ? FAKE_BACKGROUND : FAKE_FOREGROUND);
    g_mutex_unlock(&fake->lock);
    return rc;
}

static int fake_urgent(const MsSys *sys)
{
    return -EACCES;
}

static void fake_yield(const MsSys *sys)
{
    g_thread_yield();
}

/* ---- what tests call ---- */

FakeSys *fake_sys_new(void)
{
    FakeSys *fake = g_new0(FakeSys, 1);

    fake->sys = (MsSys) {
        .mmap = fake_mmap, .munmap = fake_munmap, .madvise = fake_madvise,
        .open = fake_open, .create = fake_create, .close = fake_close,
        .read = fake_read, .pwrite = fake_pwrite,
        .pread = fake_pread, .write = fake_write, .ioctl = fake_ioctl,
        .poll = fake_poll, .eventfd = fake_eventfd,
        .userfaultfd = fake_userfaultfd, .random = fake_random,
        .now_ns = fake_now_ns, .sleep_ns = fake_sleep_ns,
        .name_thread = fake_name_thread,
        .background = fake_background, .urgent = fake_urgent,
        .yield = fake_yield,
    };
    g_mutex_init(&fake->lock);
    fake->mappings = g_ptr_array_new();
    fake->fds = g_array_new(false, false, sizeof(File));
    fake->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                        g_free);
    g_queue_init(&fake->events);
    fake->next_pfn = FRAME_PAGES;
    fake->features = ~UINT64_C(0);
    fake->now_ns = 1000000000;
    fake->huge = true;
    return fake;
}

void fake_sys_free(FakeSys *fake)
{
    g_assert_cmpuint(fake->mappings->len, ==, 0);
    for (unsigned i = 0; i < fake->fds->len; i++) {
        g_assert_false(g_array_index(fake->fds, File, i).open);
    }
    g_ptr_array_free(fake->mappings, true);
    g_array_free(fake->fds, true);
    g_hash_table_destroy(fake->files);
    g_queue_clear_full(&fake->events, g_free);
    g_mutex_clear(&fake->lock);
    g_free(fake);
}

const MsSys *fake_sys(FakeSys *fake)
{
    return &fake->sys;
}

unsigned fake_calls(FakeSys *fake, FakeCall call)
{
    return fake->calls[call];
}

void fake_fail(FakeSys *fake, FakeCall call, unsigned skip, unsigned times,
               int rc)
{
    fake->failures[call] = (Failure) {
        .skip = skip, .times = times, .rc = rc,
    };
}

void fake_touch(FakeSys *fake, void *address, uint64_t pages)
{
    g_mutex_lock(&fake->lock);
    fake_mem_touch(fake, (uintptr_t)address, pages);
    g_mutex_unlock(&fake->lock);
}

void fake_block(FakeSys *fake, void *page, int rc)
{
    fake_page_of(fake, (uintptr_t)page, NULL, NULL)->block = rc;
}

void fake_swap_out(FakeSys *fake, void *page)
{
    fake_page_of(fake, (uintptr_t)page, NULL, NULL)->kind = SWAP;
}

void fake_interrupt(FakeSys *fake, uint64_t pages)
{
    fake->interrupt = pages;
}

void fake_huge(FakeSys *fake, bool huge)
{
    fake->huge = huge;
}

uint64_t fake_frames(FakeSys *fake)
{
    uint64_t n = 0;

    g_mutex_lock(&fake->lock);
    for (unsigned i = 0; i < fake->mappings->len; i++) {
        Mapping *m = g_ptr_array_index(fake->mappings, i);

        for (uint64_t p = 0; p < m->pages; p++) {
            n += m->page[p].kind == FRAME || m->page[p].kind == SWAP;
        }
    }
    g_mutex_unlock(&fake->lock);
    return n;
}

uint64_t fake_pfn(FakeSys *fake, const void *page)
{
    return fake_page_of(fake, (uintptr_t)page, NULL, NULL)->pfn;
}

bool fake_is_huge(FakeSys *fake, const void *address)
{
    Frame *frame;

    fake_page_of(fake, (uintptr_t)address, &frame, NULL);
    return frame->huge;
}

void fake_file(FakeSys *fake, const char *path, const char *text)
{
    if (text) {
        g_hash_table_replace(fake->files, g_strdup(path), g_strdup(text));
    } else {
        g_hash_table_remove(fake->files, path);
    }
}

void fake_corrupt(FakeSys *fake, uint64_t offset)
{
    for (unsigned i = fake->fds->len; i-- > 0; ) {
        File *file = &g_array_index(fake->fds, File, i);

        if (file->kind == FAKE_CREATE && file->open) {
            file->text[offset] ^= 1;
            return;
        }
    }
    g_assert_not_reached();
}

void fake_event(FakeSys *fake, const MsFault *fault)
{
    g_queue_push_tail(&fake->events, g_memdup2(fault, sizeof(*fault)));
}

void fake_features(FakeSys *fake, uint64_t features)
{
    fake->features = features;
}

void fake_advance(FakeSys *fake, uint64_t ns)
{
    g_mutex_lock(&fake->lock);
    fake->now_ns += ns;
    g_mutex_unlock(&fake->lock);
}
