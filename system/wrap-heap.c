/*
 * The heap of a copy.
 *
 * QEMU leaves most of what it has allocated to the end of the process, so a
 * guest's copy allocates from an arena of its own, which goes as a whole when
 * the copy has ended.  Blocks come in classes, four to each power of two, and
 * a freed block goes to the list of its class; a freed block that is large
 * gives its pages back to the kernel.  16 bytes before each block say its
 * class.
 *
 * free() and realloc() also get what libc and libraries have allocated: an
 * address outside the arena is theirs.  The other way round does not happen:
 * no library frees or grows what QEMU has allocated.
 *
 * While a copy is loaded nobody knows whose it is, so what its constructors
 * allocate is in the arena in instance 0 too; later instance 0 uses libc's.
 *
 * Lock: each class has its own; the break of the arena is an atomic.  Taken
 * by its real name, for no thread waits in it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/atomic.h"
#include "qemu/host-utils.h"
#include "wrap.h"

/* Address space alone: 64 copies take a hundredth of what there is. */
#define ARENA_BYTES (UINT64_C(16) << 30)
#define MIN_SHIFT 5             /* the smallest block is 32 bytes */
#define CLASSES (4 * (34 - MIN_SHIFT))
/* Pages of freed blocks from this size on are given back. */
#define LARGE_BYTES (UINT64_C(128) << 10)
#define HEADER_BYTES 16
#define PAGE_BYTES UINT64_C(4096)

typedef struct Header {
    uint32_t class;
    uint32_t lead;              /* bytes from the block's start to the header */
    uint64_t unused;
} Header;

QEMU_BUILD_BUG_ON(sizeof(Header) != HEADER_BYTES);

typedef struct FreeBlock {
    struct FreeBlock *next;
} FreeBlock;

DECLARE_WRAP(void *, malloc, (size_t size));
DECLARE_WRAP(void, free, (void *pointer));
DECLARE_WRAP(void *, calloc, (size_t count, size_t size));
DECLARE_WRAP(void *, realloc, (void *pointer, size_t size));
DECLARE_WRAP(int, posix_memalign, (void **ret_pointer, size_t alignment,
                                   size_t size));
DECLARE_WRAP(char *, strdup, (const char *text));

static struct {
    char *start;                /* atomic; NULL before the first block */
    uint64_t used_bytes;        /* atomic */
    pthread_mutex_t init_lock;
    struct {
        pthread_mutex_t lock;
        FreeBlock *first;
    } classes[CLASSES];
} heap;

static bool is_mine(const void *pointer)
{
    const char *start = qatomic_read(&heap.start);

    return start && (const char *)pointer >= start &&
        (const char *)pointer < start + ARENA_BYTES;
}

static bool is_private(void)
{
    return !instance_context || instance_guest();
}

/* Four classes to each power of two: 32, 40, 48, 56, 64, 80, ... */
static unsigned class_of(uint64_t bytes)
{
    unsigned shift;

    if (bytes <= UINT64_C(1) << MIN_SHIFT) {
        return 0;
    }
    shift = 63 - clz64(bytes - 1);
    return (shift - MIN_SHIFT) * 4 +
        ((bytes - 1 - (UINT64_C(1) << shift)) >> (shift - 2)) + 1;
}

static uint64_t class_bytes(unsigned class)
{
    unsigned shift = MIN_SHIFT + class / 4;

    return (UINT64_C(1) << shift) + ((class % 4) * (UINT64_C(1) << shift) / 4);
}

static char *arena(void)
{
    char *start = qatomic_load_acquire(&heap.start);

    if (unlikely(!start)) {
        __real_pthread_mutex_lock(&heap.init_lock);
        start = heap.start;
        if (!start) {
            start = __real_mmap64(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                  -1, 0);
            start = start == MAP_FAILED ? NULL : start;
            qatomic_store_release(&heap.start, start);
        }
        pthread_mutex_unlock(&heap.init_lock);
    }
    return start;
}

/* NULL: the arena is full.  A fresh block is all zeros. */
static char *take_block(unsigned class, bool *ret_fresh)
{
    uint64_t bytes = class_bytes(class);
    uint64_t at;
    FreeBlock *block;
    char *start = arena();

    if (!start) {
        return NULL;
    }
    __real_pthread_mutex_lock(&heap.classes[class].lock);
    block = heap.classes[class].first;
    if (block) {
        heap.classes[class].first = block->next;
    }
    pthread_mutex_unlock(&heap.classes[class].lock);
    *ret_fresh = !block;
    if (block) {
        return (char *)block;
    }
    /* Every size is a multiple of 8; blocks start at multiples of 16. */
    at = qatomic_fetch_add(&heap.used_bytes, ROUND_UP(bytes, 16));
    return at + bytes <= ARENA_BYTES ? start + at : NULL;
}

static void *allocate(uint64_t size, uint64_t alignment, bool *ret_fresh)
{
    uint64_t slack = alignment > HEADER_BYTES ? alignment : 0;
    uint64_t bytes = size + HEADER_BYTES + slack;
    unsigned class;
    Header *header;
    char *block, *user;

    if (size > ARENA_BYTES / 2 || slack > ARENA_BYTES / 4) {
        return NULL;
    }
    class = class_of(bytes);
    block = take_block(class, ret_fresh);
    if (!block) {
        return NULL;
    }
    user = block + HEADER_BYTES;
    if (slack) {
        user = (char *)ROUND_UP((uintptr_t)user, alignment);
    }
    header = (Header *)user - 1;
    header->class = class;
    header->lead = (char *)header - block;
    return user;
}

static uint64_t usable_bytes(void *pointer)
{
    Header *header = (Header *)pointer - 1;

    return class_bytes(header->class) - header->lead - HEADER_BYTES;
}

static void release(void *pointer)
{
    Header *header = (Header *)pointer - 1;
    unsigned class = header->class;
    FreeBlock *block = (FreeBlock *)((char *)header - header->lead);
    uint64_t bytes = class_bytes(class);

    if (bytes >= LARGE_BYTES) {
        uintptr_t start = ROUND_UP((uintptr_t)(block + 1), PAGE_BYTES);
        uintptr_t end = ((uintptr_t)block + bytes) & ~(PAGE_BYTES - 1);

        madvise((void *)start, end - start, MADV_DONTNEED);
    }
    __real_pthread_mutex_lock(&heap.classes[class].lock);
    block->next = heap.classes[class].first;
    heap.classes[class].first = block;
    pthread_mutex_unlock(&heap.classes[class].lock);
}

void instance_heap_release(void)
{
    if (heap.start) {
        __real_munmap(heap.start, ARENA_BYTES);
    }
}

/* Where the arena has no room, libc's heap may. */
void *__wrap_malloc(size_t size)
{
    bool fresh;
    void *pointer = is_private() ? allocate(size, 0, &fresh) : NULL;

    return pointer ? pointer : __real_malloc(size);
}

void __wrap_free(void *pointer)
{
    int saved = errno;

    if (is_mine(pointer)) {
        release(pointer);
    } else {
        __real_free(pointer);
    }
    errno = saved;
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    void *pointer;
    bool fresh;

    if (!is_private() || __builtin_mul_overflow(count, size, &bytes)) {
        return __real_calloc(count, size);
    }
    pointer = allocate(bytes, 0, &fresh);
    if (!pointer) {
        return __real_calloc(count, size);
    }
    return fresh ? pointer : memset(pointer, 0, bytes);
}

void *__wrap_realloc(void *pointer, size_t size)
{
    void *moved;

    if (!pointer) {
        return __wrap_malloc(size);
    }
    if (!is_mine(pointer)) {
        return __real_realloc(pointer, size);
    }
    if (size && size <= usable_bytes(pointer)) {
        return pointer;
    }
    moved = size ? __wrap_malloc(size) : NULL;
    if (moved) {
        memcpy(moved, pointer, usable_bytes(pointer));
    }
    if (moved || !size) {
        release(pointer);
    }
    return moved;
}

int __wrap_posix_memalign(void **ret_pointer, size_t alignment, size_t size)
{
    bool fresh;
    void *pointer = is_private() ? allocate(size, alignment, &fresh) : NULL;

    if (!pointer) {
        return __real_posix_memalign(ret_pointer, alignment, size);
    }
    *ret_pointer = pointer;
    return 0;
}

char *__wrap_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = __wrap_malloc(bytes);

    return copy ? memcpy(copy, text, bytes) : NULL;
}
