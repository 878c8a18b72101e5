/*
 * Loading private copies of the emulator.
 *
 * The dynamic loader hands back the object that it already has when a file is
 * asked for twice, so each copy is a file of its own: a memfd that holds the
 * pages of the installed file that are not all zeros.  Once it is loaded, its
 * read-only segments are mapped from the installed file again, so that text
 * and constants exist once in memory whatever the number of copies, and its
 * writable segment is made this process's own by one write to each page;
 * then nothing refers to the memfd's pages any more, and they are given back.
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
/* Copied with one read; holes are found page by page. */
#define CHUNK (256 * PAGE)
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

/* Write the pages of @buffer that are not zero to @to at @offset. */
static int write_pages(int to, const char *buffer, size_t length, off_t offset)
{
    for (size_t at = 0; at < length; at += PAGE) {
        size_t part = MIN(PAGE, length - at);

        if (!is_zero(buffer + at, part) &&
            pwrite(to, buffer + at, part, offset + at) != (ssize_t)part) {
            return errno ? -errno : -EIO;
        }
    }
    return 0;
}

static int copy_file(int from, int to)
{
    g_autofree char *buffer = g_malloc(CHUNK);
    struct stat st;
    off_t offset = 0;

    if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0) {
        return -errno;
    }
    while (offset < st.st_size) {
        ssize_t got = pread(from, buffer, CHUNK, offset);
        int ret;

        if (got <= 0) {
            return got < 0 ? -errno : -EIO;
        }
        ret = write_pages(to, buffer, got, offset);
        if (ret < 0) {
            return ret;
        }
        offset += got;
    }
    return 0;
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
 * The part of the writable segment that the loader has made read-only after
 * relocation is opened for the moment of the write, and closed again.
 */
static int own_segment(const ElfW(Phdr) *segment, const ElfW(Phdr) *relro,
                       ElfW(Addr) base)
{
    char *start = (char *)((base + segment->p_vaddr) & ~(PAGE - 1));
    char *end = (char *)(base + segment->p_vaddr + segment->p_filesz);
    char *closed_end = start;

    if (relro) {
        closed_end = (char *)((base + relro->p_vaddr + relro->p_memsz) &
                              ~(PAGE - 1));
        if (mprotect(start, closed_end - start, PROT_READ | PROT_WRITE) < 0) {
            return -errno;
        }
    }
    own_pages(start, end);
    if (closed_end > start && mprotect(start, closed_end - start,
                                       PROT_READ) < 0) {
        return -errno;
    }
    return 0;
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
                ? own_segment(&copy[i], relro, map->l_addr)
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

int instance_load(const char *path, const char *id,
                  QemuInstanceMain **ret_entry, MemSchedMessage *ret_message)
{
    g_autofree char *label = g_strdup_printf("qemu-%s", id);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int memfd = memfd_create(label, MFD_CLOEXEC);
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
