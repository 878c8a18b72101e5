/*
 * balloon-ex, driven as a guest's driver drives it, and worse
 *
 * The tests play the driver of one guest whose RAM the scheduler of the same
 * process owns (client "main").  Each ends with a recount of all memory, and
 * reads through the guest's eyes what must be in the pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest-single.h"
#include "libqos/balloon-ex.h"
#include "libqos/qgraph.h"
#include "qemu/bswap.h"
#include "qemu/module.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_balloon.h"
#include "standard-headers/linux/virtio_config.h"

#define PAGE        UINT64_C(4096)
#define FRAME       (UINT64_C(2) << 20)
#define FRAME_PAGES (FRAME / PAGE)
#define RAM_BYTES   (UINT64_C(128) << 20)   /* default of the machines */
#define LAST_PFN    (RAM_BYTES / PAGE - 1)
#define MUST_TELL   (1ull << VIRTIO_BALLOON_F_MUST_TELL_HOST)
#define REQUEST     256                     /* pages, as Linux' driver */

/* How long something that happens behind the device may take. */
#define WAIT_US     (10 * G_USEC_PER_SEC)

/* ---- what the scheduler says ---- */

static QDict *memory(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-memsched-guests' }");
    const QListEntry *entry = qlist_first(qdict_get_qlist(reply, "return"));
    QDict *result;

    g_assert_nonnull(entry);
    result = qdict_get_qdict(qobject_to(QDict, qlist_entry_obj(entry)),
                             "memory");
    g_assert_nonnull(result);
    qobject_ref(result);
    qobject_unref(reply);
    return result;
}

static uint64_t ballooned(QTestState *qts, const char *kind)
{
    QDict *m = memory(qts);
    uint64_t bytes = qdict_get_int(qdict_get_qdict(m, "ballooned"), kind);

    qobject_unref(m);
    return bytes;
}

static uint64_t figure(QTestState *qts, const char *name)
{
    QDict *m = memory(qts);
    uint64_t value = qdict_get_int(m, name);

    qobject_unref(m);
    return value;
}

/* Captures of whole frames may end after the request. */
static void wait_ballooned(QTestState *qts, const char *kind, uint64_t bytes)
{
    gint64 end = g_get_monotonic_time() + WAIT_US;

    while (ballooned(qts, kind) != bytes) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

static void assert_exact(QTestState *qts)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'memsched-check' }");
    QDict *check = qdict_get_qdict(reply, "return");

    g_assert_nonnull(check);
    if (!qdict_get_bool(check, "exact")) {
        g_error("%s", qdict_get_try_str(check, "message"));
    }
    qobject_unref(reply);
}

static void assert_state(QTestState *qts, uint64_t gpa, const char *state)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'memsched-translate',"
                             "  'arguments': { 'id': 'main', 'gpa': %"
                             PRIu64 " } }", gpa);
    QDict *translation = qdict_get_qdict(reply, "return");

    g_assert_nonnull(translation);
    g_assert_cmpstr(qdict_get_str(translation, "state"), ==, state);
    qobject_unref(reply);
}

/* ---- the guest's memory ---- */

static void assert_bytes(QTestState *qts, uint64_t gpa, uint64_t bytes,
                         uint8_t value)
{
    g_autofree uint8_t *data = g_malloc(bytes);

    qtest_memread(qts, gpa, data, bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        if (data[i] != value) {
            g_error("byte 0x%" PRIx64 " is 0x%02x, not 0x%02x", gpa + i,
                    data[i], value);
        }
    }
}

/*
 * Three frames for a test: the one in the middle to give, its neighbours to
 * watch.  They lie far above what the driver's own structures use.
 */
static uint64_t prepare(QTestState *qts)
{
    uint64_t frame = UINT64_C(48) << 20;

    qtest_memset(qts, frame - PAGE, 0x5a, PAGE);
    qtest_memset(qts, frame, 0xa5, FRAME);
    qtest_memset(qts, frame + FRAME, 0x5a, PAGE);
    return frame;
}

static void assert_neighbours(QTestState *qts, uint64_t frame)
{
    assert_bytes(qts, frame - PAGE, PAGE, 0x5a);
    assert_bytes(qts, frame + FRAME, PAGE, 0x5a);
}

static void give_frame(QBalloonEx *b, uint64_t frame)
{
    for (unsigned i = 0; i < FRAME_PAGES; i += REQUEST) {
        qballoon_ex_pages(b, QBALLOON_EX_INFLATE, frame / PAGE + i, 1,
                          REQUEST);
    }
}

static void take_frame(QBalloonEx *b, uint64_t frame)
{
    for (unsigned i = 0; i < FRAME_PAGES; i += REQUEST) {
        qballoon_ex_pages(b, QBALLOON_EX_DEFLATE, frame / PAGE + i, 1,
                          REQUEST);
    }
}

/* The driver goes; whatever it gave is the guest's again. */
static void finish(QBalloonEx *b, QTestState *qts)
{
    qvirtio_reset(b->vdev);
    qballoon_ex_stop(b);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 0);
    g_assert_cmpuint(figure(qts, "given"), ==, 0);
    assert_exact(qts);
}

/* ---- tests ---- */

static void test_offers_standard_features(void *obj, void *data,
                                          QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t features = qvirtio_get_features(b->vdev);

    for (unsigned bit = 0; bit <= VIRTIO_BALLOON_F_REPORTING; bit++) {
        /* hints of free pages come from the host's own map */
        g_assert_cmpint(!!(features & (1ull << bit)), ==,
                        bit != VIRTIO_BALLOON_F_FREE_PAGE_HINT);
    }
    qballoon_ex_start(b, qts, alloc, 0, 0);
    g_assert_cmphex(qvirtio_config_readl(b->vdev, 0), ==, 0);
    g_assert_cmphex(qvirtio_config_readl(b->vdev, 4), ==, 0);
    finish(b, qts);
}

static void test_balloon_command_sets_target(void *obj, void *data,
                                             QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    qtest_qmp_assert_success(qts, "{ 'execute': 'balloon',"
                             "  'arguments': { 'value': %" PRIu64 " } }",
                             RAM_BYTES - 3 * FRAME);
    g_assert_cmpuint(qvirtio_config_readl(b->vdev, 0), ==, 3 * FRAME_PAGES);
    /* back to nothing: more than there is counts as all there is */
    qtest_qmp_assert_success(qts, "{ 'execute': 'balloon',"
                             "  'arguments': { 'value': %" PRIu64 " } }",
                             2 * RAM_BYTES);
    g_assert_cmpuint(qvirtio_config_readl(b->vdev, 0), ==, 0);
    finish(b, qts);
}

static void test_frame_inflated_is_captured_and_comes_back_zero(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts), before;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    before = figure(qts, "allocated");
    give_frame(b, frame);
    wait_ballooned(qts, "kernel", FRAME);
    g_assert_cmpuint(figure(qts, "allocated"), ==, before - FRAME);
    assert_state(qts, frame + 17 * PAGE, "ballooned");
    assert_exact(qts);
    take_frame(b, frame);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 0);
    assert_bytes(qts, frame, FRAME, 0);
    assert_neighbours(qts, frame);
    finish(b, qts);
}

static void test_frame_in_any_order_is_captured_whole(void *obj, void *data,
                                                      QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    uint32_t pfn = frame / PAGE;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    /* odd pages upwards, even pages downwards */
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, pfn + 1, 2, REQUEST);
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, pfn + FRAME_PAGES - 2, -2,
                      REQUEST);
    wait_ballooned(qts, "kernel", FRAME);
    assert_neighbours(qts, frame);
    take_frame(b, frame);
    assert_bytes(qts, frame, FRAME, 0);
    finish(b, qts);
}

static void test_incomplete_frame_is_given_and_content_of_others_stays(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);

    qballoon_ex_start(b, qts, alloc, 0, 0);
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, frame / PAGE, 1, 100);
    g_assert_cmpuint(ballooned(qts, "kernel") + figure(qts, "given"), ==,
                     100 * PAGE);
    assert_bytes(qts, frame + 100 * PAGE, FRAME - 100 * PAGE, 0xa5);
    qballoon_ex_pages(b, QBALLOON_EX_DEFLATE, frame / PAGE, 1, 100);
    g_assert_cmpuint(ballooned(qts, "kernel") + figure(qts, "given"), ==, 0);
    qtest_memset(qts, frame, 0xc3, 100 * PAGE);
    assert_bytes(qts, frame, 100 * PAGE, 0xc3);
    assert_bytes(qts, frame + 100 * PAGE, FRAME - 100 * PAGE, 0xa5);
    finish(b, qts);
}

static void test_without_must_tell_host_pages_leave_inside_the_request(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);

    qballoon_ex_start(b, qts, alloc, MUST_TELL, 0);
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, frame / PAGE, 2, 100);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 100 * PAGE);
    g_assert_cmpuint(figure(qts, "given"), ==, 0);
    for (unsigned i = 0; i < 100; i++) {
        /* a driver may use them without a word */
        assert_bytes(qts, frame + 2 * i * PAGE, PAGE, 0);
        assert_bytes(qts, frame + (2 * i + 1) * PAGE, PAGE, 0xa5);
    }
    assert_neighbours(qts, frame);
    finish(b, qts);
}

static void test_pages_that_are_no_ram_are_refused(void *obj, void *data,
                                                   QGuestAllocator *alloc)
{
    static const uint32_t bad[] = {
        LAST_PFN + 1, UINT32_MAX, UINT32_MAX - 1, 0xfee00, 0xfec00, 0xfffc0,
        0xe0000, 0xa0, 0xb8,
    };
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts), before = figure(qts, "refused");
    uint32_t pfns[ARRAY_SIZE(bad)];

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        pfns[i] = cpu_to_le32(bad[i]);
    }
    qballoon_ex_start(b, qts, alloc, 0, 0);
    qballoon_ex_send(b, QBALLOON_EX_INFLATE, pfns, sizeof(pfns));
    qballoon_ex_send(b, QBALLOON_EX_DEFLATE, pfns, sizeof(pfns));
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 0);
    g_assert_cmpuint(figure(qts, "given"), ==, 0);
    g_assert_cmpuint(figure(qts, "refused"), >=,
                     before + ARRAY_SIZE(bad) * PAGE);
    give_frame(b, frame);
    wait_ballooned(qts, "kernel", FRAME);
    finish(b, qts);
}

static void test_repeated_and_overlapping_pages_count_once(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    uint32_t pfn = frame / PAGE;

    qballoon_ex_start(b, qts, alloc, MUST_TELL, 0);
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, pfn, 0, 1024);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, PAGE);
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, pfn, 1, 64);
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, pfn + 32, 1, 64);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 96 * PAGE);
    qballoon_ex_pages(b, QBALLOON_EX_DEFLATE, pfn, 0, 1024);
    qballoon_ex_pages(b, QBALLOON_EX_DEFLATE, pfn + 90, 1, 64);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 89 * PAGE);
    assert_bytes(qts, frame + 96 * PAGE, FRAME - 96 * PAGE, 0xa5);
    assert_neighbours(qts, frame);
    finish(b, qts);
}

static void test_odd_length_ignores_the_rest(void *obj, void *data,
                                             QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    uint32_t pfns[2] = { cpu_to_le32(frame / PAGE),
                         cpu_to_le32(frame / PAGE + 1) };

    qballoon_ex_start(b, qts, alloc, MUST_TELL, 0);
    qballoon_ex_send(b, QBALLOON_EX_INFLATE, pfns, 3);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 0);
    qballoon_ex_send(b, QBALLOON_EX_INFLATE, pfns, 7);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, PAGE);
    assert_bytes(qts, frame + PAGE, FRAME - PAGE, 0xa5);
    finish(b, qts);
}

/*
 * Descriptors that no driver may make: the device wants a reset then, and
 * works after it.
 */
static void break_and_recover(QBalloonEx *b, QTestState *qts,
                              QGuestAllocator *alloc, uint64_t address,
                              uint32_t bytes, bool loop)
{
    uint64_t frame = prepare(qts);
    QVirtQueue *vq;
    uint32_t head;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    vq = b->vq[QBALLOON_EX_INFLATE];
    head = qvirtqueue_add(qts, vq, address, bytes, false, loop);
    if (loop) {
        /* next: itself */
        qtest_writew(qts, vq->desc + 16 * head + 14, head);
    }
    qvirtqueue_kick(qts, b->vdev, vq, head);
    qvirtio_reset(b->vdev);
    qballoon_ex_stop(b);
    assert_exact(qts);

    qballoon_ex_start(b, qts, alloc, 0, 0);
    give_frame(b, frame);
    wait_ballooned(qts, "kernel", FRAME);
    finish(b, qts);
}

static void test_looping_descriptor_is_survived(void *obj, void *data,
                                                QGuestAllocator *alloc)
{
    break_and_recover(obj, global_qtest, alloc, 0x100000, 16, true);
}

static void test_descriptor_to_nowhere_is_survived(void *obj, void *data,
                                                   QGuestAllocator *alloc)
{
    break_and_recover(obj, global_qtest, alloc, UINT64_C(1) << 45, 64, false);
}

static void test_empty_descriptor_is_survived(void *obj, void *data,
                                              QGuestAllocator *alloc)
{
    break_and_recover(obj, global_qtest, alloc, 0x100000, 0, false);
}

static void test_reset_makes_captured_pages_the_guests_again(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);

    qballoon_ex_start(b, qts, alloc, 0, 0);
    give_frame(b, frame);
    qballoon_ex_pages(b, QBALLOON_EX_INFLATE, frame / PAGE - 1, 1, 1);
    /* without waiting for the captures */
    finish(b, qts);
    qtest_memset(qts, frame, 0x3c, FRAME);
    assert_bytes(qts, frame, FRAME, 0x3c);
    assert_bytes(qts, frame + FRAME, PAGE, 0x5a);
    assert_exact(qts);
}

static void test_system_reset_leaves_the_books_exact(void *obj, void *data,
                                                     QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);

    qballoon_ex_start(b, qts, alloc, 0, 0);
    give_frame(b, frame);
    qtest_system_reset(qts);
    assert_exact(qts);
    g_assert_cmpuint(ballooned(qts, "kernel"), ==, 0);
    qtest_memset(qts, frame, 0x3c, FRAME);
    assert_bytes(qts, frame, FRAME, 0x3c);
    qballoon_ex_stop(b);
    assert_exact(qts);
}

static void test_reported_block_is_captured_and_reads_zero(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    QBalloonExBlock block = { frame, FRAME };

    qballoon_ex_start(b, qts, alloc,
                      1ull << VIRTIO_BALLOON_F_PAGE_POISON, 0);
    qballoon_ex_report(b, &block, 1);
    g_assert_cmpuint(ballooned(qts, "reported"), ==, FRAME);
    assert_state(qts, frame, "reported");
    assert_exact(qts);
    assert_bytes(qts, frame, FRAME, 0);
    g_assert_cmpuint(ballooned(qts, "reported"), ==, 0);
    assert_neighbours(qts, frame);
    finish(b, qts);
}

static void test_report_under_a_poison_value_is_left_alone(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    QBalloonExBlock block = { frame, FRAME };

    qballoon_ex_start(b, qts, alloc, 0, 0xaaaaaaaa);
    qballoon_ex_report(b, &block, 1);
    g_assert_cmpuint(ballooned(qts, "reported"), ==, 0);
    assert_bytes(qts, frame, FRAME, 0xa5);
    finish(b, qts);
}

/* The guest was promised that what it reports stays as it is. */
static void test_poison_value_is_latched_until_the_driver_resets(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    QBalloonExBlock block = { frame, FRAME };

    qballoon_ex_start(b, qts, alloc, 0, 0xaaaaaaaa);
    qballoon_ex_poison(b, 0);
    qballoon_ex_report(b, &block, 1);
    g_assert_cmpuint(ballooned(qts, "reported"), ==, 0);
    assert_bytes(qts, frame, FRAME, 0xa5);
    qvirtio_reset(b->vdev);
    qballoon_ex_stop(b);

    qballoon_ex_start(b, qts, alloc, 0, 0);
    qballoon_ex_report(b, &block, 1);
    g_assert_cmpuint(ballooned(qts, "reported"), ==, FRAME);
    finish(b, qts);
}

/* Nothing of a stopped machine changes, the queue's used ring neither. */
static void test_nothing_is_used_while_the_machine_is_stopped(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    uint32_t pfns[512], head;

    for (unsigned i = 0; i < ARRAY_SIZE(pfns); i++) {
        pfns[i] = cpu_to_le32(frame / PAGE + i);
    }
    qballoon_ex_start(b, qts, alloc, 0, 0);
    qtest_qmp_assert_success(qts, "{ 'execute': 'stop' }");
    head = qballoon_ex_post(b, QBALLOON_EX_INFLATE, pfns, sizeof(pfns));
    for (unsigned i = 0; i < 20; i++) {
        /* Each answer is a turn of the main loop. */
        g_assert_cmpuint(ballooned(qts, "kernel"), ==, 0);
        g_assert_false(qvirtqueue_get_buf(qts, b->vq[QBALLOON_EX_INFLATE],
                                          NULL, NULL));
    }
    assert_state(qts, frame, "resident");
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    qballoon_ex_wait(b, QBALLOON_EX_INFLATE, head);
    wait_ballooned(qts, "kernel", FRAME);
    take_frame(b, frame);
    assert_bytes(qts, frame, FRAME, 0);
    finish(b, qts);
}

static void test_report_of_odd_blocks_takes_whole_pages_only(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    QBalloonExBlock blocks[] = {
        { frame + 100, PAGE },                  /* no whole page */
        { frame + 3 * PAGE - 1, PAGE + 2 },     /* one */
    };

    qballoon_ex_start(b, qts, alloc,
                      1ull << VIRTIO_BALLOON_F_PAGE_POISON, 0);
    qballoon_ex_report(b, blocks, ARRAY_SIZE(blocks));
    g_assert_cmpuint(ballooned(qts, "reported"), <=, PAGE);
    assert_bytes(qts, frame, 3 * PAGE, 0xa5);
    assert_bytes(qts, frame + 4 * PAGE, FRAME - 4 * PAGE, 0xa5);
    assert_neighbours(qts, frame);
    finish(b, qts);
}

static void test_statistics_are_shown_with_their_age(void *obj, void *data,
                                                     QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    struct virtio_balloon_stat stats[] = {
        { cpu_to_le16(VIRTIO_BALLOON_S_MEMFREE), cpu_to_le64(12345678) },
        { cpu_to_le16(VIRTIO_BALLOON_S_OOM_KILL), cpu_to_le64(3) },
        { cpu_to_le16(0xfff0), cpu_to_le64(1) },
    };
    QVirtQueue *vq;
    uint32_t head;
    QDict *m, *shown, *sample;

    qballoon_ex_start(b, qts, alloc, 0, 0);
    /* the device keeps this buffer until it wants fresh ones */
    qtest_memwrite(qts, b->buffer, stats, sizeof(stats));
    vq = b->vq[QBALLOON_EX_STATS];
    head = qvirtqueue_add(qts, vq, b->buffer, sizeof(stats), false, false);
    qvirtqueue_kick(qts, b->vdev, vq, head);

    m = memory(qts);
    shown = qdict_get_qdict(m, "stats");
    g_assert_nonnull(shown);
    sample = qdict_get_qdict(shown, "free");
    g_assert_nonnull(sample);
    g_assert_cmpuint(qdict_get_int(sample, "value"), ==, 12345678);
    g_assert_true(qdict_haskey(sample, "age"));
    g_assert_false(qdict_haskey(shown, "available"));
    qobject_unref(m);
    finish(b, qts);
}

static void test_without_scheduler_it_is_an_ordinary_balloon(
    void *obj, void *data, QGuestAllocator *alloc)
{
    QBalloonEx *b = obj;
    QTestState *qts = global_qtest;
    uint64_t frame = prepare(qts);
    QDict *reply;

    reply = qtest_qmp(qts, "{ 'execute': 'query-memsched' }");
    g_assert_true(qdict_haskey(reply, "error"));
    qobject_unref(reply);

    qballoon_ex_start(b, qts, alloc, 0, 0);
    give_frame(b, frame);
    take_frame(b, frame);
    assert_bytes(qts, frame, FRAME, 0);
    assert_neighbours(qts, frame);
    qvirtio_reset(b->vdev);
    qballoon_ex_stop(b);
}

static void *with_scheduler(GString *cmd_line, void *arg)
{
    g_string_append(cmd_line, " -object memsched,id=ms,pool=192M ");
    return arg;
}

static void register_tests(void)
{
    static const struct {
        const char *name;
        void (*test)(void *obj, void *data, QGuestAllocator *alloc);
    } tests[] = {
        { "offers-standard-features", test_offers_standard_features },
        { "balloon-command-sets-target", test_balloon_command_sets_target },
        { "inflate/frame-comes-back-zero",
          test_frame_inflated_is_captured_and_comes_back_zero },
        { "inflate/any-order", test_frame_in_any_order_is_captured_whole },
        { "inflate/incomplete-frame",
          test_incomplete_frame_is_given_and_content_of_others_stays },
        { "inflate/without-must-tell-host",
          test_without_must_tell_host_pages_leave_inside_the_request },
        { "hostile/no-ram", test_pages_that_are_no_ram_are_refused },
        { "hostile/repeated", test_repeated_and_overlapping_pages_count_once },
        { "hostile/odd-length", test_odd_length_ignores_the_rest },
        { "hostile/loop", test_looping_descriptor_is_survived },
        { "hostile/nowhere", test_descriptor_to_nowhere_is_survived },
        { "hostile/empty", test_empty_descriptor_is_survived },
        { "reset/device", test_reset_makes_captured_pages_the_guests_again },
        { "reset/system", test_system_reset_leaves_the_books_exact },
        { "report/captured", test_reported_block_is_captured_and_reads_zero },
        { "report/poison", test_report_under_a_poison_value_is_left_alone },
        { "report/poison-is-latched",
          test_poison_value_is_latched_until_the_driver_resets },
        { "stopped", test_nothing_is_used_while_the_machine_is_stopped },
        { "report/odd-blocks",
          test_report_of_odd_blocks_takes_whole_pages_only },
        { "statistics", test_statistics_are_shown_with_their_age },
    };
    QOSGraphTestOptions opts = {
        .before = with_scheduler,
        .edge.extra_device_opts = "free-page-reporting=on",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
        qos_add_test(tests[i].name, "balloon-ex-driver", tests[i].test, &opts);
    }
    qos_add_test("without-scheduler", "balloon-ex-driver",
                 test_without_scheduler_it_is_an_ordinary_balloon, NULL);
}

libqos_init(register_tests);
