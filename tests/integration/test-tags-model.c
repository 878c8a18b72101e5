/*
 * Random lives of tagged pages on the real kernel, against a model that knows
 * what each page holds
 *
 * Whatever the library does with a page (finds it, takes it, gives it back), a
 * guest that looks sees what was last written there: so the model is the
 * content alone, and each page is compared with it, all 4,096 bytes.  Ten
 * seconds; MEMSCHED_TEST_LONG=1: until a million pages were captured.
 * MEMSCHED_TEST_SEED repeats a run.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "agent.h"
#include "app.h"
#include "instance.h"
#include "standard-headers/linux/virtio_balloon_ex.h"

#define FRAMES      20u
#define PAGES       (FRAMES * 512u)
#define AGENT_FIRST (4u * 512u + 100u)      /* not at the start of a frame */
#define AGENT_PAGES (14u * 512u)
#define MILLION     1000000u

typedef enum Kind { ZERO, SEED, TAG } Kind;

/* What a page holds. */
typedef struct Page {
    Kind kind;
    uint64_t seed;
    MemSchedAppOrder order;     /* of a tag; its key may be a forged one */
    uint64_t sequence;
    unsigned changed;           /* this byte was inverted; 0: none */
} Page;

typedef struct Run {
    MemSched *ms;
    Guest *a, *b;
    Agent *agent;
    GRand *rand;
    Page *page;
    unsigned noted;             /* orders whose pages are in the model */
    unsigned fence[FRAMES];
    unsigned fences;
    uint64_t next_seed;
} Run;

static unsigned pick(Run *run, unsigned most)
{
    return g_rand_int_range(run->rand, 0, (gint32)most);
}

static unsigned char *bytes_of(Run *run, unsigned p)
{
    return (unsigned char *)run->a->ram + (uint64_t)p * MEMSCHED_PAGE_SIZE;
}

/* ---- compare ---- */

static void expect(const Page *page, unsigned char expected[4096])
{
    memset(expected, 0, 4096);
    vbx_tag_make((struct vbx_tag *)expected, page->order.app,
                 page->order.epoch, page->sequence, page->order.key);
    if (page->changed) {
        expected[page->changed] ^= 0xff;
    }
}

static void read_page(Run *run, unsigned p)
{
    const Page *page = &run->page[p];
    unsigned char expected[4096];
    bool same;

    if (page->kind == TAG) {
        expect(page, expected);
        same = memcmp(expected, bytes_of(run, p), 4096) == 0;
    } else if (page->kind == SEED) {
        same = guest_page_is(run->a, p, page->seed);
    } else {
        same = guest_page_is_zero(run->a, p);
    }
    if (!same) {
        g_error("page %u does not hold what was written there (kind %d)", p,
                page->kind);
    }
}

/* Orders that the agent has answered: its pages hold tags now. */
static void note_orders(Run *run)
{
    Agent *agent = run->agent;

    ms_lock(&agent->lock);
    for (; run->noted < agent->worked; run->noted++) {
        AgentEpoch *e = &agent->epoch[run->noted];

        for (uint64_t i = 0; i < e->told; i++) {
            run->page[e->page + i] = (Page) {
                .kind = TAG, .order = e->order, .sequence = i,
            };
        }
    }
    ms_unlock(&agent->lock);
}

/*
 * The agent answers what it was asked for so far, and nothing more: between
 * these calls nobody but this thread writes to the guest's memory.
 */
static void let_agent_work(Run *run)
{
    Agent *agent = run->agent;
    unsigned orders;

    ms_lock(&agent->lock);
    orders = agent->epochs;
    agent->work_until = orders;
    ms_cond_broadcast(&agent->cond);
    ms_unlock(&agent->lock);
    agent_wait_worked(agent, orders);
    note_orders(run);
}

static bool is_told(const MsEpoch *epoch, uint64_t sequence)
{
    return ms_epoch_wants(epoch, sequence);
}

static MemSchedPageState state_of(Run *run, unsigned p)
{
    MemSchedTranslation t;

    g_assert_cmpint(memsched_translate(run->ms, "a", (uint64_t)p << 12, &t,
                                       NULL), ==, 0);
    return t.state;
}

/*
 * With captures held: the pages in state T are tags, and credit is what the
 * model says: each told number that some page in state T has, once.
 */
static void check_credit(Run *run)
{
    MsApps *apps = run->a->client->apps;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(
        g_int64_hash, g_int64_equal, g_free, NULL);
    uint64_t credited = 0;

    memsched_client_inhibit(run->a->client, true);
    guest_check(run->ms);
    for (unsigned p = 0; p < PAGES; p++) {
        const Page *page = &run->page[p];
        gint64 key = (gint64)(page->order.epoch << 32 | page->sequence);
        MsEpoch *epoch;

        if (state_of(run, p) != MEMSCHED_PAGE_TAG) {
            continue;
        }
        g_assert_cmpint(page->kind, ==, TAG);
        g_assert_cmpuint(page->changed, ==, 0);
        ms_lock(&apps->lock);
        epoch = ms_epochs_find(&apps->epochs, page->order.app,
                               page->order.epoch);
        if (epoch && is_told(epoch, page->sequence) &&
            g_hash_table_add(seen, g_memdup2(&key, sizeof(key)))) {
            credited++;
        }
        ms_unlock(&apps->lock);
    }
    ms_lock(&apps->lock);
    g_assert_cmpuint(apps->epochs.credited, ==, credited);
    ms_unlock(&apps->lock);
    memsched_client_inhibit(run->a->client, false);
}

/* ---- operations ---- */

static void op_give(Run *run)
{
    MemSchedTransferOptions o = {
        .from = "a", .to = "b",
        .size_bytes = (uint64_t)(1 + pick(run, pick(run, 3) ? 300 : 4096))
                      << MEMSCHED_PAGE_SHIFT,
        .source = MEMSCHED_SOURCE_APPLICATION, .deadline_ms = 2000,
    };
    uint64_t id;

    run->agent->hints = pick(run, 2);
    memsched_reallocate(run->ms, &o, &id, NULL);
}

static void op_work(Run *run)
{
    let_agent_work(run);
}

static void op_read(Run *run)
{
    unsigned first = pick(run, PAGES), count = 1 + pick(run, 200);

    for (unsigned p = first; p < MIN(first + count, PAGES); p++) {
        read_page(run, p);
    }
}

static void op_write(Run *run)
{
    unsigned first = pick(run, PAGES), count = 1 + pick(run, 40);

    run->next_seed++;
    for (unsigned p = first; p < MIN(first + count, PAGES); p++) {
        guest_fill(run->a, p, 1, run->next_seed);
        run->page[p] = (Page) { .kind = SEED, .seed = run->next_seed };
    }
}

/* A page that holds a tag, or PAGES. */
static unsigned pick_tag(Run *run)
{
    for (unsigned tries = 0; tries < 50; tries++) {
        unsigned p = AGENT_FIRST + pick(run, AGENT_PAGES);

        if (run->page[p].kind == TAG) {
            return p;
        }
    }
    return PAGES;
}

/* What compaction does: the page lies elsewhere, as whole runs of them may. */
static void op_migrate(Run *run)
{
    unsigned from = pick_tag(run), to = pick(run, PAGES);
    unsigned count = 1 + pick(run, 60);

    for (; count > 0 && from < PAGES && to < PAGES; count--, from++, to++) {
        if (run->page[from].kind != TAG || from == to) {
            break;              /* a seed's content is one of its place */
        }
        memcpy(bytes_of(run, to), bytes_of(run, from), 4096);
        run->page[to] = run->page[from];
        if (pick(run, 2)) {
            guest_fill(run->a, from, 1, ++run->next_seed);
            run->page[from] = (Page) { .kind = SEED, .seed = run->next_seed };
        }
    }
}

/* One byte, anywhere; so it is no tag any more, or a forged one. */
static void op_change(Run *run)
{
    unsigned p = pick_tag(run);

    if (p < PAGES && run->page[p].changed == 0) {
        run->page[p].changed = 1 + pick(run, 4095);
        bytes_of(run, p)[run->page[p].changed] ^= 0xff;
    }
}

static void op_forge(Run *run)
{
    unsigned p = pick_tag(run), to = pick(run, PAGES);
    Page forged;

    if (p == PAGES) {
        return;
    }
    forged = run->page[p];
    switch (pick(run, 3)) {
    case 0:
        forged.order.key[pick(run, 16)] ^= 1;
        break;
    case 1:
        forged.sequence += 1 + pick(run, 100000);
        break;
    default:
        forged.order.epoch += 1 + pick(run, 3);
        forged.order.key[0] ^= 1;
    }
    expect(&forged, bytes_of(run, to));
    run->page[to] = forged;
}

static void op_fence(Run *run)
{
    unsigned f = pick(run, FRAMES);
    char *address = run->a->ram + (uint64_t)f * MEMSCHED_FRAME_SIZE + 5000;

    if (run->fence[f]) {
        memsched_dma_end(address, 100);
        run->fence[f] = 0;
        run->fences--;
    } else if (run->fences < 4) {
        memsched_dma_begin(address, 100);
        run->fence[f] = 1;
        run->fences++;
    }
}

static bool pick_range(Run *run, MemSchedAppRange *ret_range)
{
    unsigned p = pick_tag(run);

    if (p == PAGES || run->page[p].order.bytes == 0) {
        return false;
    }
    *ret_range = (MemSchedAppRange) {
        .app = run->page[p].order.app, .epoch = run->page[p].order.epoch,
        .first_seq = run->page[p].sequence,
        .count_pages = 1 + pick(run, 700),
    };
    return true;
}

static void op_release(Run *run)
{
    MemSchedAppRange range;
    int ret;

    if (pick_range(run, &range)) {
        ret = memsched_app_release(run->a->client, &range,
                                   MEMSCHED_REASON_PRESSURE);
        g_assert_true(ret == 0 || ret == -ENOENT || ret == -ERANGE);
    }
}

static void op_unmap(Run *run)
{
    MemSchedAppRange range;

    if (pick_range(run, &range)) {
        memsched_app_unmapped(run->a->client, &range);
    }
}

static void op_content(Run *run)
{
    unsigned char content[4096], expected[4096];
    uint64_t first, count;

    memsched_client_inhibit(run->a->client, true);
    guest_check(run->ms);
    if (memsched_region_next_run(run->a->region, pick(run, PAGES),
                                 1u << MEMSCHED_PAGE_TAG, &first, &count)) {
        g_assert_cmpint(memsched_region_tag_content(run->a->region, first,
                                                    content), ==, 0);
        g_assert_cmpint(run->page[first].kind, ==, TAG);
        expect(&run->page[first], expected);
        g_assert_cmpint(memcmp(content, expected, 4096), ==, 0);
        g_assert_cmpint(state_of(run, first), ==, MEMSCHED_PAGE_TAG);
    }
    memsched_client_inhibit(run->a->client, false);
}

static void op_dies(Run *run)
{
    if (pick(run, 2)) {
        memsched_client_new_session(run->a->client, run->agent->session);
    } else {
        memsched_app_unregister(run->a->client, 1);
    }
    agent_add(run->agent, 1, 5, true, UINT64_MAX);
}

static void op_deflate(Run *run)
{
    unsigned p = pick_tag(run);

    if (p < PAGES) {
        guest_deflate(run->a, p, MIN(1 + pick(run, 100), PAGES - p));
    }
}

static void op_settle(Run *run)
{
    check_credit(run);
}

static void (*const ops[])(Run *run) = {
    op_give, op_work, op_work, op_read, op_read, op_write, op_migrate,
    op_migrate,
    op_change, op_forge, op_fence, op_release, op_unmap, op_content,
    op_deflate, op_settle, op_dies,
};

/* ---- a round: one agent, one acceptor ---- */

/* An agent remembers so many orders. */
static bool has_room(Run *run)
{
    bool has;

    ms_lock(&run->agent->lock);
    has = run->agent->epochs < AGENT_EPOCHS / 2;
    ms_unlock(&run->agent->lock);
    return has;
}

static void round_of(Run *run, unsigned steps)
{
    run->agent = agent_new(run->a, AGENT_FIRST, AGENT_PAGES);
    ms_lock(&run->agent->lock);
    run->agent->work_until = 0;
    ms_unlock(&run->agent->lock);
    run->b = guest_new(run->ms, "b", (uint64_t)PAGES * 4096, 0);
    run->noted = 0;
    for (unsigned i = 0; i < steps; i++) {
        if (!has_room(run)) {
            break;
        }
        ops[pick(run, G_N_ELEMENTS(ops))](run);
        read_page(run, pick(run, AGENT_FIRST));
        guest_check(run->ms);
    }
    let_agent_work(run);
    check_credit(run);
    guest_free(run->b);
    agent_free(run->agent);
    for (unsigned p = 0; p < PAGES; p++) {
        read_page(run, p);
    }
    guest_check(run->ms);
    /* Its pages are other programs' now. */
    run->next_seed++;
    for (unsigned p = AGENT_FIRST; p < AGENT_FIRST + AGENT_PAGES; p++) {
        run->page[p] = (Page) { .kind = SEED, .seed = run->next_seed };
    }
    guest_fill(run->a, AGENT_FIRST, AGENT_PAGES, run->next_seed);
}

static void test_random_lives_of_tagged_pages(void)
{
    const char *given = g_getenv("MEMSCHED_TEST_SEED");
    guint32 seed = given ? g_ascii_strtoull(given, NULL, 0)
                         : (guint32)g_test_rand_int();
    bool is_long = g_getenv("MEMSCHED_TEST_LONG") != NULL;
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    Run *run = g_new0(Run, 1);
    MemSchedAppsInfo info;
    unsigned rounds = 0;
    uint64_t total = 0;

    g_test_message("seed %u", seed);
    run->rand = g_rand_new_with_seed(seed);
    run->page = g_new0(Page, PAGES);
    run->ms = guest_start((2 * FRAMES + 12) * MEMSCHED_FRAME_SIZE);
    run->a = guest_new(run->ms, "a", (uint64_t)PAGES * 4096, 0);
    for (unsigned p = 0; p < PAGES; p++) {
        run->page[p] = (Page) { .kind = SEED, .seed = 1 };
    }
    run->next_seed = 1;
    guest_fill(run->a, 0, PAGES, 1);
    while (is_long ? total < MILLION : g_get_monotonic_time() < end) {
        round_of(run, 80);
        g_assert_cmpint(memsched_query_apps(run->ms, "a", &info), ==, 0);
        total = info.counters.found_by_hint + info.counters.found_by_scan;
        rounds++;
    }
    g_test_message("%u rounds, %" G_GUINT64_FORMAT " pages captured, %"
                   G_GUINT64_FORMAT " came back by touch, %" G_GUINT64_FORMAT
                   " by release, %" G_GUINT64_FORMAT " rejected, %"
                   G_GUINT64_FORMAT " looked at", rounds, total,
                   info.counters.returned_by_fault,
                   info.counters.returned_by_release, info.counters.rejected,
                   info.counters.scanned);
    g_assert_cmpuint(total, >, 0);
    for (unsigned f = 0; f < FRAMES; f++) {
        if (run->fence[f]) {
            memsched_dma_end(run->a->ram + (uint64_t)f * MEMSCHED_FRAME_SIZE +
                             5000, 100);
        }
    }
    guest_free(run->a);
    guest_stop(run->ms);
    g_rand_free(run->rand);
    g_free(run->page);
    g_free(run);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (guest_usable()) {
        g_test_add_func("/tags-model/random",
                        test_random_lives_of_tagged_pages);
    }
    return g_test_run();
}
