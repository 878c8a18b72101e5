/*
 * What this host allows: kernel capabilities, memory limits
 *
 * Capabilities are tried, not looked up: a kernel may have a feature and a
 * policy forbid it.  The trial that matters most is a read() into a hole:
 * only a *full* userfaultfd reports faults that the kernel takes on our
 * behalf, and a guest's disk read into ballooned memory is one.
 *
 * Runs once, at start, before any guest; makes one short-lived thread.  It
 * touches only memory that it has mapped itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "abi.h"
#include "pagemap.h"
#include "uffd.h"

/* A fault is reported within microseconds; a loaded host may take longer. */
#define TRIAL_MS 2000

/*
 * Beyond the pool itself: page tables, the scrubber's spare chunk, and the
 * emulator's own heap until the first guest has booted.
 */
#define MARGIN_BYTES (UINT64_C(64) << 20)

static const char grant_text[] =
    "memsched needs a full userfaultfd: give this process access to "
    "/dev/userfaultfd, or CAP_SYS_PTRACE, or set "
    "vm.unprivileged_userfaultfd=1";

static void say(MemSchedMessage *message, const char *text)
{
    if (message) {
        snprintf(message->text, sizeof(message->text), "%s", text);
    }
}

/* ---- a read() into a hole ---- */

typedef struct Trial {
    const MsSys *sys;
    int fd;                     /* something to read from */
    int done_fd;                /* eventfd: the read has returned */
    void *hole;
    ssize_t result;
} Trial;

static void *trial_thread(void *opaque)
{
    Trial *trial = opaque;
    uint64_t one = 1;

    trial->result = trial->sys->read(trial->sys, trial->fd, trial->hole, 1);
    trial->sys->write(trial->sys, trial->done_fd, &one, sizeof(one));
    return NULL;
}

/* Serve the fault, or see the read fail: 1 the fault was reported, 0 not. */
static int trial_watch(const Trial *trial, const MsUffd *uffd,
                       const void *filler)
{
    const MsSys *sys = trial->sys;
    bool reported = false;

    for (;;) {
        struct pollfd fds[] = {
            { .fd = uffd->fd, .events = POLLIN },
            { .fd = trial->done_fd, .events = POLLIN },
        };
        int rc = sys->poll(sys, fds, 2, TRIAL_MS);
        MsFault fault;

        if (rc == -EINTR) {
            continue;
        }
        if (rc <= 0) {
            return rc < 0 ? rc : -ETIMEDOUT;
        }
        if ((fds[0].revents & POLLIN) &&
            ms_uffd_read(uffd, &fault, 1) == 1) {
            ms_uffd_copy(uffd, trial->hole, filler, 1, false, true);
            reported = true;
        }
        if (fds[1].revents & POLLIN) {
            return reported;
        }
    }
}

static int trial_run(Trial *trial, const MsUffd *uffd, const void *filler)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, trial_thread, trial);

    if (rc) {
        return -rc;
    }
    rc = trial_watch(trial, uffd, filler);
    if (rc < 0) {
        /* Whatever it waits for: a page there lets the read go on. */
        ms_uffd_copy(uffd, trial->hole, filler, 1, false, true);
        ms_uffd_wake(uffd, trial->hole, 1);
    }
    pthread_join(thread, NULL);
    return rc < 0 ? rc : rc && trial->result == 1;
}

static int try_full(const MsSys *sys, const MsUffd *uffd, char *hole,
                    const void *filler)
{
    Trial trial = { .sys = sys, .hole = hole };
    int rc = ms_uffd_register(uffd, hole, 1, MS_UFFD_MODE_MISSING);

    if (rc < 0) {
        return rc;
    }
    trial.fd = sys->open(sys, "/proc/sys/kernel/osrelease", O_RDONLY);
    if (trial.fd < 0) {
        return trial.fd;
    }
    trial.done_fd = sys->eventfd(sys, 0, 0);
    rc = trial.done_fd;
    if (rc >= 0) {
        rc = trial_run(&trial, uffd, filler);
        sys->close(sys, trial.done_fd);
    }
    sys->close(sys, trial.fd);
    return rc;
}

/* ---- the other capabilities ---- */

static bool try_move(const MsUffd *uffd, char *src, char *dst)
{
    MsMoveResult moved;

    src[0] = 'm';
    if (ms_uffd_register(uffd, dst, 1, MS_UFFD_MODE_MISSING) < 0) {
        return false;
    }
    moved = ms_uffd_move(uffd, dst, src, 1, false);
    return moved.moved_pages == 1 && dst[0] == 'm';
}

static bool try_poison(const MsUffd *uffd, char *page)
{
    return ms_uffd_register(uffd, page, 1, MS_UFFD_MODE_MISSING) == 0 &&
           ms_uffd_poison(uffd, page, 1, false) == 0;
}

static bool try_huge(const MsSys *sys, const MsPagemap *pagemap)
{
    size_t bytes = 2 * MEMSCHED_FRAME_SIZE;
    bool huge = false;
    void *map;
    char *frame;

    if (sys->mmap(sys, NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, &map) < 0) {
        return false;
    }
    frame = (char *)(((uintptr_t)map + MEMSCHED_FRAME_SIZE - 1) &
                     ~(uintptr_t)(MEMSCHED_FRAME_SIZE - 1));
    if (sys->madvise(sys, frame, MEMSCHED_FRAME_SIZE, MADV_HUGEPAGE) == 0 &&
        sys->madvise(sys, frame, MEMSCHED_FRAME_SIZE,
                     MS_MADV_POPULATE_WRITE) == 0) {
        huge = ms_pagemap_is_huge(pagemap, frame) == 1;
    }
    sys->munmap(sys, map, bytes);
    return huge;
}

/* ---- kernels that are too old ---- */

static void warn_release(MemSchedKernel *kernel)
{
    unsigned major = 0, minor = 0, patch = 0;
    const char *what = NULL;

    if (sscanf(kernel->release, "%u.%u.%u", &major, &minor, &patch) < 2) {
        return;
    }
    if (major < 6 || (major == 6 && minor < 8)) {
        what = "has no UFFDIO_MOVE (Linux 6.8): pages are copied and "
               "discarded instead of moved";
    } else if (major == 6 && minor < 18) {
        what = "may lack fixes of UFFDIO_MOVE made up to Linux 6.18: run it "
               "for tests only, unless its vendor has them";
    } else if (major == 6 && ((minor == 18 && patch < 20) ||
                              (minor == 19 && patch < 10))) {
        what = "moves a huge zero page wrongly (fixed in 6.18.20 and "
               "6.19.10): memsched makes none, others must not either";
    }
    if (what) {
        /* The release is cut to what leaves room for the sentence. */
        snprintf(kernel->warning, sizeof(kernel->warning), "Linux %.40s %s",
                 kernel->release, what);
    }
}

static void read_release(const MsSys *sys, MemSchedKernel *kernel)
{
    ssize_t n = ms_sys_read_file(sys, "/proc/sys/kernel/osrelease",
                                 kernel->release, sizeof(kernel->release));

    if (n < 0) {
        kernel->release[0] = '\0';
    } else {
        kernel->release[strcspn(kernel->release, "\n")] = '\0';
    }
}

/* Four pages of our own: a source, a destination, a hole, one to poison. */
static int try_all(const MsSys *sys, int features, MemSchedKernel *kernel)
{
    unsigned wanted = features & (MS_UFFD_MOVE | MS_UFFD_POISON | MS_UFFD_WP);
    size_t bytes = 4 * MEMSCHED_PAGE_SIZE;
    MsPagemap pagemap;
    MsPagemapCount count;
    MsUffd uffd;
    void *map;
    char *pages;
    int rc = sys->mmap(sys, NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, &map);

    if (rc < 0) {
        return rc;
    }
    pages = map;
    rc = ms_uffd_open(&uffd, sys, wanted);
    if (rc == 0) {
        pages[0] = 0;
        rc = try_full(sys, &uffd, pages + MEMSCHED_PAGE_SIZE, pages);
        kernel->full_userfaultfd = rc == 1;
        kernel->move = (wanted & MS_UFFD_MOVE) &&
                       try_move(&uffd, pages, pages + 2 * MEMSCHED_PAGE_SIZE);
        kernel->poison = (wanted & MS_UFFD_POISON) &&
                         try_poison(&uffd, pages + 3 * MEMSCHED_PAGE_SIZE);
        rc = rc < 0 ? rc : 0;
    }
    if (ms_pagemap_open(&pagemap, sys) == 0) {
        kernel->pagemap_scan = ms_pagemap_count(&pagemap, pages, 1,
                                                &count) == 0;
        kernel->huge_pages = kernel->pagemap_scan &&
                             try_huge(sys, &pagemap);
        ms_pagemap_close(&pagemap);
    }
    sys->munmap(sys, map, bytes);
    ms_uffd_close(&uffd);
    return rc;
}

int ms_probe_kernel(const MsSys *sys, MemSchedKernel *ret_kernel,
                    MemSchedMessage *ret_message)
{
    MemSchedKernel kernel = { 0 };
    int features = ms_uffd_features(sys);
    int rc;

    if (features == -EPERM || features == -EACCES) {
        say(ret_message, grant_text);
        return -EPERM;
    }
    if (features < 0) {
        say(ret_message, "this kernel has no userfaultfd "
            "(CONFIG_USERFAULTFD): memsched cannot run on it");
        return -ENOSYS;
    }
    read_release(sys, &kernel);
    kernel.write_protect = features & MS_UFFD_WP;
    kernel.write_protect_async = features & MS_UFFD_WP_ASYNC;
    rc = try_all(sys, features, &kernel);
    if (rc < 0) {
        say(ret_message, "the userfaultfd of this kernel does not report a "
            "fault of a read(): memsched cannot run on it");
        return -ENOSYS;
    }
    if (!kernel.full_userfaultfd) {
        say(ret_message, grant_text);
        return -EPERM;
    }
    warn_release(&kernel);
    *ret_kernel = kernel;
    return 0;
}

int memsched_probe(MemSchedKernel *ret_kernel, MemSchedMessage *ret_message)
{
    return ms_probe_kernel(ms_sys_real(), ret_kernel, ret_message);
}

/* ---- Memory ---- */

/* A file with one number; "max", nonsense or no file: UINT64_MAX. */
static uint64_t read_number(const MsSys *sys, const char *path)
{
    char text[64], *end;
    unsigned long long value;

    if (ms_sys_read_file(sys, path, text, sizeof(text)) <= 0) {
        return UINT64_MAX;
    }
    errno = 0;
    value = strtoull(text, &end, 10);
    return end == text || errno ? UINT64_MAX : value;
}

typedef struct CgroupKind {
    const char *root, *limit, *usage;
} CgroupKind;

/* The tightest limit from @path up to the root. */
static uint64_t cgroup_free(const MsSys *sys, const CgroupKind *kind,
                            char *path)
{
    uint64_t least = UINT64_MAX;

    for (;;) {
        char file[640], *slash;
        uint64_t limit, usage;

        snprintf(file, sizeof(file), "%s%.512s/%s", kind->root, path,
                 kind->limit);
        limit = read_number(sys, file);
        snprintf(file, sizeof(file), "%s%.512s/%s", kind->root, path,
                 kind->usage);
        usage = read_number(sys, file);
        /* Version 1 says "no limit" by a number near 2^63. */
        if (limit < UINT64_C(1) << 60 && usage != UINT64_MAX) {
            uint64_t room = usage < limit ? limit - usage : 0;

            least = room < least ? room : least;
        }
        slash = strrchr(path, '/');
        if (!slash) {
            return least;
        }
        *slash = '\0';
    }
}

static uint64_t tightest_cgroup(const MsSys *sys)
{
    static const CgroupKind v1 = {
        "/sys/fs/cgroup/memory", "memory.limit_in_bytes",
        "memory.usage_in_bytes",
    };
    static const CgroupKind v2 = {
        "/sys/fs/cgroup", "memory.max", "memory.current",
    };
    char text[4096], *line, *save = NULL;
    uint64_t least = UINT64_MAX;

    if (ms_sys_read_file(sys, "/proc/self/cgroup", text, sizeof(text)) < 0) {
        return UINT64_MAX;
    }
    for (line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        /* hierarchy-ID:controller-list:cgroup-path */
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        const CgroupKind *kind = NULL;
        uint64_t room;

        if (!path) {
            continue;
        }
        *path++ = '\0';
        if (strcmp(controllers, ":") == 0) {
            kind = &v2;
        } else if (strstr(controllers, "memory")) {
            kind = &v1;
        }
        if (kind) {
            room = cgroup_free(sys, kind, path);
            least = room < least ? room : least;
        }
    }
    return least;
}

int ms_probe_memory(const MsSys *sys, MsProbeMemory *ret_memory)
{
    static const char key[] = "MemAvailable:";
    char text[4096];
    const char *at;
    ssize_t n = ms_sys_read_file(sys, "/proc/meminfo", text, sizeof(text));

    if (n < 0) {
        return n;
    }
    at = strstr(text, key);
    if (!at) {
        return -ENOENT;
    }
    ret_memory->available_bytes = strtoull(at + strlen(key), NULL, 10) * 1024;
    ret_memory->cgroup_free_bytes = tightest_cgroup(sys);
    return 0;
}

int ms_probe_pool_fits(const MsSys *sys, uint64_t pool_bytes,
                       MemSchedMessage *ret_message)
{
    MsProbeMemory memory;
    const char *who = "the host has";
    uint64_t room;
    int rc = ms_probe_memory(sys, &memory);

    if (rc < 0) {
        say(ret_message, "/proc/meminfo cannot be read: mount /proc");
        return rc;
    }
    room = memory.available_bytes;
    if (memory.cgroup_free_bytes < room) {
        room = memory.cgroup_free_bytes;
        who = "its memory cgroup leaves";
    }
    if (room >= MARGIN_BYTES && room - MARGIN_BYTES >= pool_bytes) {
        return 0;
    }
    if (ret_message) {
        snprintf(ret_message->text, sizeof(ret_message->text),
                 "a pool of %" PRIu64 " MiB (and %" PRIu64 " MiB beside it) "
                 "does not fit: %s %" PRIu64 " MiB; make the pool smaller",
                 pool_bytes >> 20, MARGIN_BYTES >> 20, who, room >> 20);
    }
    return -ENOMEM;
}
