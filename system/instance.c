/*
 * Loading private copies of the emulator.
 *
 * The dynamic loader hands back the object that it already has when a file is
 * asked for twice, so each copy is a file of its own: a memfd that holds what
 * the loader looks at, which is what the installed file has for its segments
 * but text and pages of zeros.  (Symbols for debuggers are two thirds of the
 * file.)  Once it is loaded, its read-only segments are mapped from the
 * installed file, so that text and constants exist once in memory whatever the
 * number of copies.  So are the parts of its writable segment that the loader
 * has left as they are: of 12 MiB of constants with addresses in them it
 * changes 2.  The rest is made this process's own by one write to each page;
 * then nothing refers to the memfd's pages any more, and they are given back.
 *
 * Constructors need the text, so the memfd's dynamic section does not name
 * them, and they are called when the text is there.  What the memfd holds, and
 * which constants the loader changes, is the same for each copy and found out
 * once.
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

/* A part of the installed file, in bytes; whole pages but for the last one. */
typedef struct Run {
    off_t start, end;
} Run;

typedef void Constructor(int argc, char **argv, char **environment);

/* What copies of one installed file have in common. */
typedef struct Template {
    struct stat file;           /* st_ino 0: nothing is known yet */
    off_t end;                  /* of the last segment */
    GArray *runs;               /* Run: what the loader needs of it */
    GArray *dynamic;            /* ElfW(Dyn): as a copy has it */
    off_t dynamic_offset;
    ElfW(Addr) init;            /* 0: none */
    ElfW(Addr) init_array;
    size_t init_count;
    GByteArray *changed;        /* 1 for each page of constants that the loader
                                 * changes; NULL before the first copy */
} Template;

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by load_lock. */
static unsigned copies;
static Template template;

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

/* Append the runs of pages in [at, end) of @file that are not zero. */
static void find_runs(GArray *runs, const char *file, off_t at, off_t end)
{
    Run run = { at, at };

    for (; at < end; at = run.end) {
        off_t next = MIN((off_t)((at & ~(PAGE - 1)) + PAGE), end);

        if (is_zero(file + at, next - at)) {
            if (at > run.start) {
                g_array_append_val(runs, run);
            }
            run.start = next;
        }
        run.end = next;
    }
    if (run.end > run.start) {
        g_array_append_val(runs, run);
    }
}

static int write_at(int to, const void *data, ssize_t length, off_t at)
{
    if (pwrite(to, data, length, at) != length) {
        return errno ? -errno : -EIO;
    }
    return 0;
}

static int write_runs(int to, const char *file, const GArray *runs)
{
    int ret = 0;

    for (guint i = 0; i < runs->len && !ret; i++) {
        const Run *run = &g_array_index(runs, Run, i);

        ret = write_at(to, file + run->start, run->end - run->start,
                       run->start);
    }
    return ret;
}

/* The dynamic section of a copy: constructors have a tag that nobody knows. */
static void learn_dynamic(Template *t, const char *file,
                          const ElfW(Phdr) *segment)
{
    const ElfW(Dyn) *from = (const void *)(file + segment->p_offset);

    t->dynamic_offset = segment->p_offset;
    for (size_t i = 0; i < segment->p_filesz / sizeof(*from); i++) {
        ElfW(Dyn) entry = from[i];

        switch (entry.d_tag) {
        case DT_INIT:
            t->init = entry.d_un.d_ptr;
            entry.d_tag = DT_HIOS;
            break;
        case DT_INIT_ARRAY:
            t->init_array = entry.d_un.d_ptr;
            entry.d_tag = DT_HIOS;
            break;
        case DT_INIT_ARRAYSZ:
            t->init_count = entry.d_un.d_val / sizeof(Constructor *);
            entry.d_tag = DT_HIOS;
            break;
        }
        g_array_append_val(t->dynamic, entry);
    }
}

/* @file is a mapping of all that is installed. */
static int learn_segments(Template *t, const char *file, size_t length)
{
    const ElfW(Ehdr) *header = (const void *)file;
    const ElfW(Phdr) *segments;

    if (length < sizeof(*header) || memcmp(file, ELFMAG, SELFMAG) != 0 ||
        header->e_phoff > length ||
        header->e_phnum > (length - header->e_phoff) / sizeof(*segments)) {
        return -ENOEXEC;
    }
    segments = (const void *)(file + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++) {
        const ElfW(Phdr) *s = &segments[i];

        if (s->p_offset > length || s->p_filesz > length - s->p_offset) {
            return -ENOEXEC;
        }
        if (s->p_type == PT_LOAD) {
            t->end = MAX(t->end, (off_t)(s->p_offset + s->p_filesz));
            if (!(s->p_flags & PF_X)) {
                find_runs(t->runs, file, s->p_offset,
                          s->p_offset + s->p_filesz);
            }
        } else if (s->p_type == PT_DYNAMIC) {
            learn_dynamic(t, file, s);
        }
    }
    return t->end > 0 && t->dynamic->len > 0 ? 0 : -ENOEXEC;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
        a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
        a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void forget(Template *t)
{
    g_clear_pointer(&t->runs, g_array_unref);
    g_clear_pointer(&t->dynamic, g_array_unref);
    g_clear_pointer(&t->changed, g_byte_array_unref);
    *t = (Template) { 0 };
}

/* Forgets what is known of another file, or of an older one. */
static int learn_file(const char *map, const struct stat *now, Template *t)
{
    int ret;

    if (is_same_file(&t->file, now)) {
        return 0;
    }
    forget(t);
    t->runs = g_array_new(FALSE, FALSE, sizeof(Run));
    t->dynamic = g_array_new(FALSE, FALSE, sizeof(ElfW(Dyn)));
    ret = learn_segments(t, map, now->st_size);
    if (ret < 0) {
        forget(t);
    } else {
        t->file = *now;
    }
    return ret;
}

static int copy_file(int from, int to, Template *t)
{
    struct stat now;
    size_t length;
    char *map;
    int ret;

    if (fstat(from, &now) < 0) {
        return -errno;
    }
    length = MAX(now.st_size, 1);
    map = mmap(NULL, length, PROT_READ, MAP_PRIVATE, from, 0);
    if (map == MAP_FAILED) {
        return -errno;
    }
    ret = learn_file(map, &now, t);
    if (!ret) {
        ret = ftruncate(to, t->end) < 0 ? -errno : write_runs(to, map, t->runs);
    }
    if (!ret) {
        ret = write_at(to, t->dynamic->data,
                       t->dynamic->len * sizeof(ElfW(Dyn)),
                       t->dynamic_offset);
    }
    munmap(map, length);
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
 * Pages [start, end) of a writable segment, and what the installed file has
 * for them: from @offset on, and at @pristine.
 */
typedef struct Part {
    char *start, *end;
    const char *pristine;
    int file;
    off_t offset;
} Part;

/* 1 for each page that is not as in the file, and for a last one cut short. */
static GByteArray *compare(const Part *part)
{
    GByteArray *changed = g_byte_array_new();

    for (char *page = part->start; page < part->end; page += PAGE) {
        guint8 differs = page + PAGE > part->end ||
            memcmp(page, part->pristine + (page - part->start), PAGE) != 0;

        g_byte_array_append(changed, &differs, 1);
    }
    return changed;
}

static int share_run(const Part *part, char *run, char *end)
{
    if ((size_t)(end - run) < SHARE_LEAST) {
        own_pages(run, end);
        return 0;
    }
    return mmap(run, end - run, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_FIXED, part->file,
                part->offset + (run - part->start)) == MAP_FAILED ? -errno : 0;
}

static int own_or_share(const Part *part, const GByteArray *changed)
{
    char *run = part->start;    /* pages [run, page) are as in the file */
    int ret = 0;

    for (guint i = 0; i < changed->len && !ret; i++) {
        char *page = part->start + i * PAGE;
        char *next = MIN(page + PAGE, part->end);

        if (changed->data[i]) {
            ret = share_run(part, run, page);
            own_pages(page, next);
            run = next;
        }
    }
    return ret ? ret : share_run(part, run, part->end);
}

/*
 * The part of the writable segment that the loader has made read-only after
 * relocation is opened for the moment of the write, and closed again.  No
 * constructor has written there, so in each copy the same pages have changed:
 * those with a word that the loader relocates, which is never as in the file.
 */
static int own_constants(const Part *part, Template *t)
{
    size_t length = part->end - part->start;
    int ret;

    if (length == 0) {
        return 0;
    }
    if (!t->changed) {
        t->changed = compare(part);
    }
    if (mprotect(part->start, length, PROT_READ | PROT_WRITE) < 0) {
        return -errno;
    }
    ret = own_or_share(part, t->changed);
    if (!ret && mprotect(part->start, length, PROT_READ) < 0) {
        ret = -errno;
    }
    return ret;
}

static int own_data(const Part *part)
{
    g_autoptr(GByteArray) changed = compare(part);

    return own_or_share(part, changed);
}

static int own_segment(const ElfW(Phdr) *segment, const ElfW(Phdr) *relro,
                       ElfW(Addr) base, int file, Template *t)
{
    char *start = (char *)((base + segment->p_vaddr) & ~(PAGE - 1));
    char *end = (char *)(base + segment->p_vaddr + segment->p_filesz);
    char *closed_end = relro
        ? (char *)((base + relro->p_vaddr + relro->p_memsz) & ~(PAGE - 1))
        : start;
    off_t offset = segment->p_offset & ~(PAGE - 1);
    char *pristine = mmap(NULL, end - start, PROT_READ, MAP_PRIVATE, file,
                          offset);
    Part constants = { start, closed_end, pristine, file, offset };
    Part data = { closed_end, end, pristine + (closed_end - start), file,
                  offset + (closed_end - start) };
    int ret;

    if (pristine == MAP_FAILED) {
        return -errno;
    }
    ret = own_constants(&constants, t);
    if (!ret) {
        ret = own_data(&data);
    }
    munmap(pristine, end - start);
    return ret;
}

/* Makes the copy that is mapped from @memfd independent of it. */
static int detach_copy(const struct link_map *map, int file, int memfd,
                       Template *t)
{
    const ElfW(Ehdr) *header = (const void *)map->l_addr;
    const ElfW(Phdr) *segments = (const void *)(map->l_addr +
                                                header->e_phoff);
    /* The table is inside a segment that is mapped anew: look at a copy. */
    size_t count = header->e_phnum;
    g_autofree ElfW(Phdr) *copy = g_memdup2(segments, count *
                                            sizeof(*segments));
    const ElfW(Phdr) *relro = NULL;
    int ret = 0;

    for (size_t i = 0; i < count; i++) {
        if (copy[i].p_type == PT_GNU_RELRO) {
            relro = &copy[i];
        }
    }
    for (size_t i = 0; i < count && !ret; i++) {
        if (copy[i].p_type == PT_LOAD) {
            ret = copy[i].p_flags & PF_W
                ? own_segment(&copy[i], relro, map->l_addr, file, t)
                : share_segment(&copy[i], map->l_addr, file);
        }
    }
    if (!ret && fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          0, t->end) < 0) {
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
 * The same of constants, which are some forty mappings: one in their place.
 * A process may have 65,530 (vm.max_map_count).
 */
static void discard_constants(uintptr_t start, uintptr_t end)
{
    start = (start + PAGE - 1) & ~(PAGE - 1);
    end &= ~(PAGE - 1);
    if (start < end &&
        mmap((void *)start, end - start, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
        discard(start, end);
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
        discard_constants(tables, (uintptr_t)map->l_ld);
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

/* As the loader would have done. */
static void construct(const struct link_map *map, const Template *t)
{
    static char *argv[] = { NULL };
    Constructor *const *table = (void *)(map->l_addr + t->init_array);

    if (t->init) {
        ((Constructor *)(map->l_addr + t->init))(0, argv, environ);
    }
    for (size_t i = 0; i < t->init_count; i++) {
        table[i](0, argv, environ);
    }
}

/* Called with load_lock. */
static int load_locked(int file, int memfd, QemuInstanceMain **ret_entry,
                       MemSchedMessage *ret_message)
{
    g_autofree char *name = NULL;
    struct link_map *map;
    void *handle;
    int ret = copy_file(file, memfd, &template);

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
    ret = detach_copy(map, file, memfd, &template);
    if (ret < 0) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "the emulator's copy cannot share its text: %s",
                 strerror(-ret));
        return ret;
    }
    construct(map, &template);
    return 0;
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
