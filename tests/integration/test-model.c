/*
 * Random operations of two guests' balloons on the real kernel, against a
 * model that knows every page's content
 *
 * After every operation all books are checked against the kernel, and a few
 * pages are read; from time to time all of them.  MEMSCHED_TEST_LONG=1 runs for
 * five minutes instead of ten seconds; MEMSCHED_TEST_SEED repeats a run.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "guest.h"

#define GUESTS 2
#define FRAMES 10u
#define PAGES  (FRAMES * 512u)

/* What a page may hold when it is read the next time. */
typedef struct Page {
    uint64_t seed;              /* 0: zeros */
    bool may_be_zero;           /* or zeros: its content was given up */
    bool given;                 /* inflated with must-tell-host, not deflated:
                                   it may still become zero */
} Page;

typedef struct Model {
    Guest *guest;
    Page page[PAGES];
    unsigned pages;
    unsigned fence[FRAMES + 1];
    bool inhibited, stopped;
} Model;

typedef struct Run {
    MemSched *ms;
    GRand *rand;
    Model model[GUESTS];
    uint64_t next_seed;
    unsigned fences;
} Run;

static unsigned frame_of(const Model *m, unsigned page)
{
    uint64_t in_frame = (uintptr_t)m->guest->ram & (MEMSCHED_FRAME_SIZE - 1);

    return (in_frame / MEMSCHED_PAGE_SIZE + page) / 512;
}

static void read_page(Model *m, unsigned p)
{
    Page *page = &m->page[p];
    bool zero = guest_page_is_zero(m->guest, p);
    bool own = !zero && page->seed != 0 &&
               guest_page_is(m->guest, p, page->seed);

    if (!zero && !own && page->may_be_zero) {
        /* On offer: the mover may have taken it between the two looks. */
        zero = guest_page_is_zero(m->guest, p);
    }
    if (zero && (page->may_be_zero || page->seed == 0)) {
        page->seed = 0;
    } else if (!own) {
        g_error("guest %s, page %u: neither its content%s", m->guest->id, p,
                page->may_be_zero ? " nor zeros" : "");
    }
    /* What has been seen stays, unless the guest still offers it. */
    page->may_be_zero = page->given;
}

static void range(Run *run, const Model *m, unsigned *first, unsigned *count)
{
    unsigned kind = g_rand_int_range(run->rand, 0, 4), most;

    *first = g_rand_int_range(run->rand, 0, m->pages);
    if (kind == 0) {
        *first &= ~511u;        /* whole frames */
    }
    most = kind == 0 ? 4 * 512 : kind == 1 ? 8 : kind == 2 ? 300 : 1500;
    *count = 1 + g_rand_int_range(run->rand, 0, most);
    if (kind == 0) {
        *count = (*count + 511) & ~511u;
    }
    *count = MIN(*count, m->pages - *first);
}

static void op_write(Run *run, Model *m)
{
    unsigned first, count;

    range(run, m, &first, &count);
    run->next_seed++;
    for (unsigned p = first; p < first + count; p++) {
        if (m->page[p].given) {
            continue;           /* promised not to be touched */
        }
        guest_fill(m->guest, p, 1, run->next_seed);
        m->page[p] = (Page) { .seed = run->next_seed };
    }
}

static void op_read(Run *run, Model *m)
{
    unsigned first, count;

    range(run, m, &first, &count);
    for (unsigned p = first; p < first + count; p++) {
        read_page(m, p);
    }
}

static void op_inflate(Run *run, Model *m)
{
    bool later = g_rand_boolean(run->rand);
    unsigned first, count;
    MemSchedGpaRange gpa;
    MemSchedOpResult result;
    int ret;

    range(run, m, &first, &count);
    gpa = (MemSchedGpaRange) {
        .gpa = (uint64_t)first << MEMSCHED_PAGE_SHIFT,
        .length_bytes = (uint64_t)count << MEMSCHED_PAGE_SHIFT,
    };
    ret = memsched_inflate(m->guest->client, &gpa, 1, later, &result);
    if ((m->inhibited || m->stopped) && !later) {
        g_assert_cmpint(ret, ==, -EBUSY);
        return;
    }
    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpuint(result.captured_pages + result.given_pages +
                     result.noop_pages + result.busy_pages, ==, count);
    for (unsigned p = first; p < first + count; p++) {
        Page *page = &m->page[p];

        if (later) {
            page->given = true;
            page->may_be_zero = true;
        } else if (!m->fence[frame_of(m, p)]) {
            *page = (Page) { 0 };
        }                       /* else it was put back as it was */
    }
}

static void op_deflate(Run *run, Model *m)
{
    unsigned first, count;

    range(run, m, &first, &count);
    guest_deflate(m->guest, first, count);
    for (unsigned p = first; p < first + count; p++) {
        m->page[p].given = false;
    }
}

static void op_report(Run *run, Model *m)
{
    unsigned first, count;
    MemSchedGpaRange gpa;

    range(run, m, &first, &count);
    if (m->inhibited || m->stopped) {
        return;
    }
    for (unsigned p = first; p < first + count; p++) {
        if (m->page[p].given) {
            return;             /* no driver reports what it has inflated */
        }
    }
    gpa = (MemSchedGpaRange) {
        .gpa = (uint64_t)first << MEMSCHED_PAGE_SHIFT,
        .length_bytes = (uint64_t)count << MEMSCHED_PAGE_SHIFT,
    };
    g_assert_cmpint(memsched_report(m->guest->client, &gpa, 1, UINT64_MAX,
                                    NULL), ==, 0);
    for (unsigned p = first; p < first + count; p++) {
        m->page[p].may_be_zero = true;
    }
}

static void op_reset(Run *run, Model *m)
{
    memsched_reset(m->guest->client, g_rand_boolean(run->rand)
                   ? MEMSCHED_RESET_DEVICE : MEMSCHED_RESET_SYSTEM);
    for (unsigned p = 0; p < m->pages; p++) {
        m->page[p].given = false;
    }
}

static void op_fence(Run *run, Model *m)
{
    unsigned p = g_rand_int_range(run->rand, 0, m->pages);
    unsigned *fence = &m->fence[frame_of(m, p)];
    char *address = m->guest->ram + (uint64_t)p * MEMSCHED_PAGE_SIZE;

    if (*fence) {
        memsched_dma_end(address, 100);
        (*fence)--;
    } else {
        /* what has been given may be on its way: a device maps its own */
        memsched_dma_begin(address, 100);
        (*fence)++;
    }
}

static void op_inhibit(Run *run, Model *m)
{
    m->inhibited = !m->inhibited;
    memsched_client_inhibit(m->guest->client, m->inhibited);
}

static void op_stop(Run *run, Model *m)
{
    m->stopped = !m->stopped;
    memsched_client_run(m->guest->client, !m->stopped);
}

static void (*const ops[])(Run *run, Model *m) = {
    op_write, op_write, op_write, op_read, op_inflate, op_inflate, op_inflate,
    op_deflate, op_deflate, op_report, op_fence,
    /* seldom */
    op_reset, op_inhibit, op_stop,
};

#define SELDOM 3

static void step(Run *run)
{
    Model *m = &run->model[g_rand_int_range(run->rand, 0, GUESTS)];
    bool seldom = g_rand_int_range(run->rand, 0, 12) == 0 || m->inhibited ||
                  m->stopped;
    unsigned often = G_N_ELEMENTS(ops) - SELDOM;
    unsigned op = seldom && g_rand_boolean(run->rand)
                  ? often + g_rand_int_range(run->rand, 0, SELDOM)
                  : (unsigned)g_rand_int_range(run->rand, 0, often);

    ops[op](run, m);
    for (unsigned i = 0; i < 4; i++) {
        read_page(m, g_rand_int_range(run->rand, 0, m->pages));
    }
    guest_check(run->ms);
}

static void read_all(Run *run)
{
    for (int g = 0; g < GUESTS; g++) {
        for (unsigned p = 0; p < run->model[g].pages; p++) {
            read_page(&run->model[g], p);
        }
    }
}

static void test_random_operations_keep_every_page(void)
{
    const char *given = g_getenv("MEMSCHED_TEST_SEED");
    guint32 seed = given ? g_ascii_strtoull(given, NULL, 0)
                         : (guint32)g_test_rand_int();
    bool is_long = g_getenv("MEMSCHED_TEST_LONG") != NULL;
    gint64 end = g_get_monotonic_time() +
                 (is_long ? 300 : 10) * G_USEC_PER_SEC;
    Run *run = g_new0(Run, 1);
    unsigned steps = 0;

    g_test_message("seed %u", seed);
    run->rand = g_rand_new_with_seed(seed);
    run->ms = guest_start((2 * FRAMES + 8) * MEMSCHED_FRAME_SIZE);
    run->model[0].pages = PAGES;
    run->model[0].guest = guest_new(run->ms, "even", (uint64_t)PAGES * 4096,
                                    0);
    run->model[1].pages = PAGES - 100;
    run->model[1].guest = guest_new_at(run->ms, "odd",
                                       (uint64_t)(PAGES - 100) * 4096,
                                       1000 * 4096, 37 * 4096);
    while (g_get_monotonic_time() < end) {
        step(run);
        if (++steps % 500 == 0) {
            read_all(run);
            guest_check(run->ms);
        }
    }
    read_all(run);
    g_test_message("%u operations", steps);
    for (int g = 0; g < GUESTS; g++) {
        guest_free(run->model[g].guest);
    }
    guest_stop(run->ms);
    g_rand_free(run->rand);
    g_free(run);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/model/random",
                        test_random_operations_keep_every_page);
    }
    return g_test_run();
}
