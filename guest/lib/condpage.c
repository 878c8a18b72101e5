/*
 * The condition page: one writer, any number of readers, no system call
 *
 * A file of one page under /run, which the agent writes and everybody maps.
 *
 * Readers must not wait for the writer: it may have been preempted, or killed,
 * between any two stores.  So there are two copies and a number, and the last
 * bit of the number says which copy is whole:
 *
 *   number even: copy 0 is whole       writer: number odd, write copy 0,
 *   number odd:  copy 1 is whole               number even, write copy 1
 *
 * A reader reads the copy that is whole, and again if the number has changed
 * meanwhile.
 *
 * All words are atomic, so that a torn read is a value to throw away and not
 * undefined.  The orders need no fence: each word is stored with release after
 * the number that sends readers elsewhere, and loaded with acquire before the
 * number is looked at again, so a reader that saw any new word sees that number
 * or a later one.
 *
 * What a writer that was killed left half done is put right by the next one
 * before it writes: it makes both copies the same.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "condpage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC   UINT64_C(0x31444e4f43584221)
#define WORDS   (sizeof(BxFigures) / sizeof(uint64_t))

/*
 * A reader loses a round when a write, of which there are ten a second, falls
 * into the 50 ns that it takes.
 */
#define ROUNDS  100000u

struct BxCondPage {
    _Atomic uint64_t magic;     /* written last, by the first agent */
    uint32_t bytes;             /* of the words; later versions have more */
    uint32_t reserved;
    _Atomic uint64_t number;    /* its last bit: the copy that is whole */
    _Atomic uint64_t word[2][WORDS];
};

_Static_assert(sizeof(struct BxCondPage) <= BX_CONDPAGE_BYTES, "one page");
_Static_assert(sizeof(BxFigures) % 8 == 0, "in words");

uint64_t bx_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}

static int map(int fd, int protection, struct BxCondPage **ret_page)
{
    void *page = mmap(NULL, BX_CONDPAGE_BYTES, protection, MAP_SHARED, fd, 0);

    if (page == MAP_FAILED) {
        return -errno;
    }
    *ret_page = page;
    return 0;
}

/* The file is ours, and stays as large as its readers need it to be. */
static int adopt(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1) {
        return -EPERM;
    }
    if (fchmod(fd, 0644) < 0 ||
        (st.st_size < BX_CONDPAGE_BYTES &&
         ftruncate(fd, BX_CONDPAGE_BYTES) < 0)) {
        return -errno;
    }
    return 0;
}

/* Not the copy that readers are sent to. */
static void write_copy(BxCondPage *page, unsigned copy,
                       const uint64_t words[WORDS])
{
    for (size_t i = 0; i < WORDS; i++) {
        atomic_store_explicit(&page->word[copy][i], words[i],
                              memory_order_release);
    }
}

static void read_copy(const BxCondPage *page, unsigned copy,
                      uint64_t words[WORDS])
{
    for (size_t i = 0; i < WORDS; i++) {
        words[i] = atomic_load_explicit(&page->word[copy][i],
                                        memory_order_acquire);
    }
}

/* Whatever a writer before us was at: both copies are what readers see. */
static void repair(BxCondPage *page)
{
    uint64_t number = atomic_load(&page->number), words[WORDS];

    read_copy(page, number & 1, words);
    write_copy(page, !(number & 1), words);
    if (number & 1) {
        atomic_store(&page->number, number + 1);
    }
}

int bx_condpage_create(const char *path, BxCondPage **ret_page)
{
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    struct BxCondPage *page = NULL;
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = adopt(fd);
    if (rc == 0) {
        rc = map(fd, PROT_READ | PROT_WRITE, &page);
    }
    close(fd);
    if (rc < 0) {
        return rc;
    }
    repair(page);
    page->bytes = sizeof(BxFigures);
    *ret_page = page;
    return 0;
}

void bx_condpage_write(BxCondPage *page, const BxFigures *figures)
{
    uint64_t words[WORDS];
    uint64_t number = atomic_load_explicit(&page->number,
                                           memory_order_relaxed);

    memcpy(words, figures, sizeof(words));
    atomic_store_explicit(&page->number, number + 1, memory_order_release);
    write_copy(page, 0, words);
    atomic_store_explicit(&page->number, number + 2, memory_order_release);
    write_copy(page, 1, words);
    atomic_store_explicit(&page->magic, MAGIC, memory_order_release);
}

int bx_condpage_open(const char *path, const BxCondPage **ret_page,
                     uint64_t *ret_inode)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct BxCondPage *page = NULL;
    struct stat st;
    int rc = 0;

    if (fd < 0) {
        return -ENODATA;
    }
    /* A shorter file would end in SIGBUS. */
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_size < BX_CONDPAGE_BYTES) {
        rc = -ENODATA;
    } else {
        rc = map(fd, PROT_READ, &page);
    }
    close(fd);
    if (rc == 0) {
        *ret_page = page;
        *ret_inode = st.st_ino;
    }
    return rc;
}

int bx_condpage_read(const BxCondPage *page, BxFigures *ret_figures)
{
    uint64_t words[WORDS];

    if (atomic_load_explicit(&page->magic, memory_order_acquire) != MAGIC) {
        return -ENODATA;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t before = atomic_load_explicit(&page->number,
                                               memory_order_acquire);

        read_copy(page, before & 1, words);
        if (atomic_load_explicit(&page->number, memory_order_relaxed) ==
            before) {
            memcpy(ret_figures, words, sizeof(words));
            return 0;
        }
    }
    return -EAGAIN;
}

void bx_condpage_unmap(const BxCondPage *page)
{
    if (page) {
        munmap((void *)page, BX_CONDPAGE_BYTES);
    }
}

void bx_figures_from_message(const struct vbx_condition *message,
                             uint64_t now_ns, BxFigures *ret_figures)
{
    uint64_t age_ns = message->age_ms * UINT64_C(1000000);

    *ret_figures = (BxFigures) {
        .generation = message->generation,
        .level = message->condition,
        .host_level = message->host,
        .pressure = message->pressure,
        .shares = message->shares,
        .is_connected = 1,
        .gathered_ns = now_ns > age_ns ? now_ns - age_ns : 0,
        .ram = message->ram,
        .min = message->min,
        .max = message->max,
        .entitlement = message->entitlement,
        .target = message->target,
        .allocated = message->allocated,
        .reservable = message->reservable,
        .ballooned_kernel = message->ballooned_kernel,
        .ballooned_application = message->ballooned_application,
        .ballooned_reported = message->ballooned_reported,
    };
    memcpy(ret_figures->session, message->session,
           sizeof(ret_figures->session));
}

void bx_figures_to_condition(const BxFigures *figures, uint64_t now_ns,
                             BxCondition *ret_condition)
{
    uint64_t age_ns = now_ns > figures->gathered_ns
                      ? now_ns - figures->gathered_ns : 0;

    *ret_condition = (BxCondition) {
        .generation = figures->generation,
        .level = figures->level,
        .host_level = figures->host_level,
        .pressure = figures->pressure,
        .shares = figures->shares,
        .is_connected = figures->is_connected,
        .age_ms = age_ns / 1000000,
        .ram = figures->ram,
        .min = figures->min,
        .max = figures->max,
        .entitlement = figures->entitlement,
        .target = figures->target,
        .allocated = figures->allocated,
        .reservable = figures->reservable,
        .ballooned_kernel = figures->ballooned_kernel,
        .ballooned_application = figures->ballooned_application,
        .ballooned_reported = figures->ballooned_reported,
    };
    memcpy(ret_condition->session, figures->session,
           sizeof(ret_condition->session));
}
