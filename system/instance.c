/*
 * Loading private copies of the emulator.
 *
 * The dynamic loader hands back the object that it already has when a file is
 * asked for twice, so each copy is a file of its own: a memfd that holds what
 * the installed file has for its segments, pages of zeros left out.  (Symbols
 * for debuggers are two thirds of the file.)  Once it is loaded, its read-only
 * segments are mapped from the installed file again, so that text and constants
 * exist once in memory whatever the number of copies.  So are the parts of its
 * writable segment that the loader has left as they are: of 12 MiB of constants
 * with addresses in them it changes 2.  The rest is made this process's own by
 * one write to each page; then nothing refers to the memfd's pages any more,
 * and they are given back.
 *
 * The loader compares names too, and descriptors are used again: the name
 * under which a copy is opened spells its number in single and double
 * slashes.
 *
 * A copy is never unloaded: QEMU and GLib leave destructors of threads behind
 * that run later than any moment at which it could be.
 *
 * Threads: any.  Lock: load_lock, held while a copy is loaded; fork() takes
 * it too, so that no child inherits a half-made copy or the loader's lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "instance.h"

#define PAGE 4096UL
/* Shorter runs are not worth a mapping of their own: a process has 65,530. */
#define SHARE_LEAST (4 * PAGE)
/*
 * A debugger opens the name of a copy, and finds a descriptor of its own there:
 * a pipe among them would hang it.  It has none from this number on.
 */
#define FD_MIN 500
/* A copy's number in its name: more copies than a process can hold. */
#define NAME_BITS 20

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned copies;         /* guarded by load_lock */

void instance_lock(void)
{
    pthread_mutex_lock(&load_lock);
}

void instance_unlock(void)
{
    pthread_mutex_unlock(&load_lock);
}

static bool is_zero(const char *page, size_t length)
{
    return !page[0] && !memcmp(page, page + 1, length - 1);
}

/* Write the runs of pages of @file that are not zero to @to. */
static int write_pages(int to, const char *file, size_t length)
{
    size_t run = 0;             /* pages [run, at) are yet to be written */

    for (size_t at = 0; at <= length; at += PAGE) {
        bool zero = at < length && is_zero(file + at, MIN(PAGE, length - at));
        size_t end = zero ? at : length;

        if (!zero && at + PAGE <= length) {
            continue;
        }
        if (end > run &&
            pwrite(to, file + run, end - run, run) != (ssize_t)(end - run)) {
            return errno ? -errno : -EIO;
        }
        run = at + PAGE;
    }
    return 0;
}

/* Where the last segment of @file ends in it; behind lies nothing to load. */
static int segments_end(int file, off_t *ret_end)
{
    g_autofree ElfW(Phdr) *segments = NULL;
    ElfW(Ehdr) header;
    ssize_t size;

    *ret_end = 0;
    if (pread(file, &header, sizeof(header), 0) != sizeof(header)) {
        return -EIO;
    }
    /* 2^16 entries of 56 bytes at most. */
    size = header.e_phnum * sizeof(*segments);
    segments = g_malloc(size);
    if (pread(file, segments, size, header.e_phoff) != size) {
        return -EIO;
    }
    for (unsigned i = 0; i < header.e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD) {
            off_t end = segments[i].p_offset + segments[i].p_filesz;

            *ret_end = MAX(*ret_end, end);
        }
    }
    return *ret_end > 0 ? 0 : -ENOEXEC;
}

static int copy_file(int from, int to)
{
    off_t end;
    void *map;
    int ret = segments_end(from, &end);

    if (ret < 0 || ftruncate(to, end) < 0) {
        return ret < 0 ? ret : -errno;
    }
    map = mmap(NULL, end, PROT_READ, MAP_PRIVATE | MAP_POPULATE, from, 0);
    if (map == MAP_FAILED) {
        return -errno;
    }
    ret = write_pages(to, map, end);
    munmap(map, end);
    return ret;
}

/* One write to each page: from now on it is this process's own. */
static void own_pages(char *start, char *end)
{
    for (char *page = start; page < end; page += PAGE) {
        __atomic_fetch_or(page, 0, __ATOMIC_RELAXED);
    }
}

static int share_segment(const ElfW(Phdr) *segment, ElfW(Addr) base, int file)
{
    uintptr_t start = (base + segment->p_vaddr) & ~(PAGE - 1);
    uintptr_t end = base + segment->p_vaddr + segment->p_filesz;
    int prot = PROT_READ | (segment->p_flags & PF_X ? PROT_EXEC : 0);

    if (mmap((void *)start, end - start, prot, MAP_PRIVATE | MAP_FIXED, file,
             segment->p_offset & ~(PAGE - 1)) == MAP_FAILED) {
        return -errno;
    }
    return 0;
}

/*
 * Pages [start, end) of the writable segment; @pristine is what the installed
 * file has for them, from its @offset on.
 */
static int own_or_share(char *start, char *end, const char *pristine,
                        int file, off_t offset)
{
    char *run = start;          /* pages [run, page) are as in the file */

    for (char *page = start; page <= end; page += PAGE) {
        if (page + PAGE <= end &&
            !memcmp(page, pristine + (page - start), PAGE)) {
            continue;
        }
        if ((size_t)(page - run) < SHARE_LEAST) {
            own_pages(run, page);
        } else if (mmap(run, page - run, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_FIXED, file,
                        offset + (run - start)) == MAP_FAILED) {
            return -errno;
        }
        own_pages(page, MIN(page + PAGE, end));
        run = page + PAGE;
    }
    return 0;
}

/*
 * The part of the writable segment that the loader has made read-only after
 * relocation is opened for the moment of the write, and closed again.
 */
static int own_segment(const ElfW(Phdr) *segment, const ElfW(Phdr) *relro,
                       ElfW(Addr) base, int file)
{
    char *start = (char *)((base + segment->p_vaddr) & ~(PAGE - 1));
    char *end = (char *)(base + segment->p_vaddr + segment->p_filesz);
    off_t offset = segment->p_offset & ~(PAGE - 1);
    char *closed_end = start;
    void *pristine;
    int ret;

    pristine = mmap(NULL, end - start, PROT_READ, MAP_PRIVATE, file, offset);
    if (pristine == MAP_FAILED) {
        return -errno;
    }
    if (relro) {
        closed_end = (char *)((base + relro->p_vaddr + relro->p_memsz) &
                              ~(PAGE - 1));
    }
    ret = mprotect(start, closed_end - start, PROT_READ | PROT_WRITE) < 0
        ? -errno : own_or_share(start, end, pristine, file, offset);
    if (!ret && mprotect(start, closed_end - start, PROT_READ) < 0) {
        ret = -errno;
    }
    munmap(pristine, end - start);
    return ret;
}

/* Makes the copy that is mapped from @memfd independent of it. */
static int detach_copy(const struct link_map *map, int file, int memfd)
{
    const ElfW(Ehdr) *header = (const void *)map->l_addr;
    const ElfW(Phdr) *segments = (const void *)(map->l_addr +
                                                header->e_phoff);
    /* The table is inside a segment that is mapped anew: look at a copy. */
    size_t count = header->e_phnum;
    g_autofree ElfW(Phdr) *copy = g_memdup2(segments, count *
                                            sizeof(*segments));
    const ElfW(Phdr) *relro = NULL;
    struct stat st;
    int ret = 0;

    for (size_t i = 0; i < count; i++) {
        if (copy[i].p_type == PT_GNU_RELRO) {
            relro = &copy[i];
        }
    }
    for (size_t i = 0; i < count && !ret; i++) {
        if (copy[i].p_type == PT_LOAD) {
            ret = copy[i].p_flags & PF_W
                ? own_segment(&copy[i], relro, map->l_addr, file)
                : share_segment(&copy[i], map->l_addr, file);
        }
    }
    if (!ret && (fstat(memfd, &st) < 0 ||
                 fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           0, st.st_size) < 0)) {
        ret = -errno;
    }
    return ret;
}

static void discard(uintptr_t start, uintptr_t end)
{
    start = (start + PAGE - 1) & ~(PAGE - 1);
    end &= ~(PAGE - 1);
    if (start < end) {
        madvise((void *)start, end - start, MADV_DONTNEED);
    }
}

/*
 * Between the tables of constructors and the table for the loader lies
 * .data.rel.ro: constants with addresses in them, 12 MiB that only code of
 * the copy reads.  The loader and the destructors look at what is around it,
 * and at the first words of .data and .bss, whose first pages stay.
 */
void instance_discard(QemuInstanceMain *entry)
{
    struct link_map *map;
    const ElfW(Ehdr) *header;
    const ElfW(Phdr) *segments;
    uintptr_t tables = 0, relro_end = 0, data_end = 0, end = 0;
    Dl_info info;

    if (!dladdr1((void *)entry, &info, (void **)&map, RTLD_DL_LINKMAP)) {
        return;
    }
    for (const ElfW(Dyn) *dyn = map->l_ld; dyn->d_tag; dyn++) {
        if (dyn->d_tag == DT_FINI_ARRAY) {
            tables += map->l_addr + dyn->d_un.d_ptr;
        } else if (dyn->d_tag == DT_FINI_ARRAYSZ) {
            tables += dyn->d_un.d_val;
        }
    }
    header = (const void *)map->l_addr;
    segments = (const void *)(map->l_addr + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++) {
        const ElfW(Phdr) *segment = &segments[i];
        uintptr_t start = map->l_addr + segment->p_vaddr;

        if (segment->p_type == PT_GNU_RELRO) {
            relro_end = start + segment->p_memsz;
        } else if (segment->p_type == PT_LOAD && segment->p_flags & PF_W) {
            data_end = start + segment->p_filesz;
            end = start + segment->p_memsz;
        }
    }
    if (tables && relro_end) {
        discard(tables, (uintptr_t)map->l_ld);
        discard(relro_end + PAGE, data_end);
        discard(data_end + PAGE, end);
    }
}

static char *copy_name(int memfd, unsigned number)
{
    GString *name = g_string_new("/proc/self/fd");

    for (int bit = 0; bit < NAME_BITS; bit++) {
        g_string_append(name, number & (1u << bit) ? "//" : "/");
        g_string_append_c(name, '.');
    }
    g_string_append_printf(name, "/%d", memfd);
    return g_string_free(name, FALSE);
}

static int open_copy(const char *name, void **ret_handle,
                     QemuInstanceMain **ret_entry,
                     MemSchedMessage *ret_message)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    void *entry = handle ? dlsym(handle, QEMU_INSTANCE_ENTRY) : NULL;

    if (!entry) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "the emulator cannot be loaded: %s", dlerror());
        return -ELIBBAD;
    }
    *ret_handle = handle;
    *ret_entry = (QemuInstanceMain *)entry;
    return 0;
}

/* Called with load_lock. */
static int load_locked(int file, int memfd, QemuInstanceMain **ret_entry,
                       MemSchedMessage *ret_message)
{
    g_autofree char *name = NULL;
    struct link_map *map;
    void *handle;
    int ret = copy_file(file, memfd);

    if (ret < 0) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "the emulator cannot be copied: %s", strerror(-ret));
        return ret;
    }
    name = copy_name(memfd, ++copies);
    ret = open_copy(name, &handle, ret_entry, ret_message);
    if (ret < 0) {
        return ret;
    }
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) < 0) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "the emulator's copy cannot be found: %s", dlerror());
        return -ELIBBAD;
    }
    ret = detach_copy(map, file, memfd);
    if (ret < 0) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "the emulator's copy cannot share its text: %s",
                 strerror(-ret));
    }
    return ret;
}

static int create_memfd(const char *id)
{
    g_autofree char *label = g_strdup_printf("qemu-%s", id);
    int memfd = memfd_create(label, MFD_CLOEXEC);
    int high = memfd < 0 ? -1 : fcntl(memfd, F_DUPFD_CLOEXEC, FD_MIN);

    if (high < 0) {
        return memfd;           /* a low limit: it is the debugger's loss */
    }
    close(memfd);
    return high;
}

int instance_load(const char *path, const char *id,
                  QemuInstanceMain **ret_entry, MemSchedMessage *ret_message)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int memfd = create_memfd(id);
    int ret;

    if (file < 0 || memfd < 0) {
        ret = -errno;
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "%s cannot be opened for a copy: %s", path, strerror(-ret));
    } else {
        instance_lock();
        ret = load_locked(file, memfd, ret_entry, ret_message);
        instance_unlock();
    }
    if (file >= 0) {
        close(file);
    }
    if (memfd >= 0) {
        close(memfd);
    }
    return ret;
}

int instance_load_first(const char *path, QemuInstanceMain **ret_entry,
                        MemSchedMessage *ret_message)
{
    void *handle;

    return open_copy(path, &handle, ret_entry, ret_message);
}
