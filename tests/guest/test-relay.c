/*
 * Programs of a guest, the agent between them, and a pretended host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "pretend.h"
#include "program.h"

/* Registers it, and fails unless the host is told of @app. */
static Program *known_program(Pretend *p, const char *name, uint64_t offers,
                              uint32_t app)
{
    Program *program = program_new(p->run_dir, name, offers);
    BxMessage m;

    pretend_expect(p, VBX_REGISTER, app, &m);
    g_assert_cmpstr(m.reg.name, ==, name);
    g_assert_cmpuint(m.reg.offer_bytes, ==, offers);
    g_assert_cmpuint(m.reg.flags, ==, VBX_APP_RESERVES);
    return program;
}

static void test_two_programs_give_side_by_side_and_get_back(void)
{
    Pretend *p = pretend_new(NULL);
    Program *a, *b;
    uint64_t pages;
    BxMessage m;

    pretend_begin(p, 1);
    a = known_program(p, "first", 100 * MIB, 2);
    b = known_program(p, "second", 3 * MIB, 3);
    /* More than one step of the library; and more than the second has. */
    pretend_order(p, 2, 11, 40 * MIB, VBX_PAGE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 2, 11, &pages, NULL), ==,
                     VBX_RESERVE_WHOLE);
    g_assert_cmpuint(pages, ==, 40 * MIB / VBX_PAGE_BYTES);
    g_assert_cmpuint(atomic_load(&a->given), ==, 40 * MIB);
    g_assert_cmpuint(atomic_load(&b->given), ==, 0);
    pretend_order(p, 3, 12, 8 * MIB, VBX_PAGE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 3, 12, &pages, NULL), ==,
                     VBX_RESERVE_PARTIAL);
    g_assert_cmpuint(pages, ==, 3 * MIB / VBX_PAGE_BYTES);

    pretend_range(p, VBX_RELEASED, 2, 11, 0, 256);
    pretend_expect(p, VBX_UNMAPPED, 2, &m);
    g_assert_cmpuint(m.range.epoch, ==, 11);
    g_assert_cmpuint(m.range.count, ==, 256);
    program_wait_u64(&a->had, MIB);
    g_assert_cmpuint(atomic_load(&b->had), ==, 0);
    pretend_wait_held(p, 42 * MIB);
    program_free(a);
    pretend_expect(p, VBX_UNREGISTER, 2, &m);
    /* Its number is the lowest that is free. */
    a = known_program(p, "third", MIB, 2);
    program_free(a);
    pretend_expect(p, VBX_UNREGISTER, 2, &m);
    program_free(b);
    pretend_expect(p, VBX_UNREGISTER, 3, &m);
    pretend_wait_held(p, 0);
    pretend_free(p);
}

/* 3 MiB are freed for an order in granules of 2 MiB. */
static void test_program_hears_of_what_could_not_be_set_aside(void)
{
    Pretend *p = pretend_new(NULL);
    Program *a;
    uint64_t pages;
    unsigned reason;

    pretend_begin(p, 1);
    a = known_program(p, "odd", 3 * MIB, 2);
    pretend_order(p, 2, 11, 8 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 2, 11, &pages, &reason), ==,
                     VBX_RESERVE_PARTIAL);
    g_assert_cmpuint(reason, ==, VBX_REASON_LIMIT);
    g_assert_cmpuint(pages, ==, 512);
    g_assert_cmpuint(atomic_load(&a->given), ==, 3 * MIB);
    program_wait_u64(&a->had, MIB);
    program_free(a);
    pretend_free(p);
}

static void test_program_takes_back_without_waiting(void)
{
    Pretend *p = pretend_new(NULL);
    Program *a;
    BxMessage m;

    pretend_begin(p, 1);
    a = known_program(p, "hasty", 8 * MIB, 2);
    pretend_order(p, 2, 11, 8 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 2, 11, NULL, NULL);
    atomic_store(&a->take_back, UINT64_MAX);
    program_poke(a);
    pretend_expect(p, VBX_RELEASE, 2, &m);
    g_assert_cmpuint(m.range.reason, ==, VBX_REASON_PRESSURE);
    pretend_expect(p, VBX_UNMAPPED, 2, &m);
    g_assert_cmpuint(m.range.count, ==, 2048);
    program_wait_u64(&a->had, 8 * MIB);
    program_free(a);
    pretend_free(p);
}

static void test_killed_program_is_gone_and_the_other_goes_on(void)
{
    Pretend *p = pretend_new(NULL);
    const char *argv[] = { pretend_cache, "600", "16", p->run_dir, NULL };
    Program *a;
    pid_t pid;
    BxMessage m;

    pretend_begin(p, 1);
    a = known_program(p, "survivor", 8 * MIB, 2);
    pid = pretend_spawn(argv, NULL);
    pretend_expect(p, VBX_REGISTER, 3, &m);
    g_assert_cmpstr(m.reg.name, ==, "example cache");
    pretend_order(p, 3, 11, 4 * MIB, VBX_GRANULE_BYTES);
    pretend_expect(p, VBX_RESERVED, 3, &m);
    kill(pid, SIGKILL);
    g_assert_cmpint(pretend_wait_for(pid), ==, -1);
    do {
        pretend_expect(p, 0, 0, &m);
    } while (m.header.type == VBX_RESERVED);
    g_assert_cmpuint(m.header.type, ==, VBX_UNREGISTER);
    g_assert_cmpuint(m.header.app, ==, 3);
    pretend_order(p, 2, 12, 2 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 2, 12, NULL, NULL), ==,
                     VBX_RESERVE_WHOLE);
    program_free(a);
    pretend_free(p);
}

static void test_host_that_returns_finds_all_programs_again(void)
{
    Pretend *p = pretend_new(NULL);
    uint64_t pages;
    Program *a;
    BxMessage m;

    pretend_begin(p, 1);
    a = known_program(p, "faithful", 8 * MIB, 2);
    pretend_order(p, 2, 11, 4 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 2, 11, NULL, NULL);
    pretend_condition(p, 5, VBX_CONDITION_SOFT, 100 * MIB);
    program_wait_u64(&a->generation, 5);
    pretend_hang_up(p);
    pretend_begin(p, 2);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    g_assert_cmpuint(atomic_load(&a->lost), >=, 1);
    /* The same memory, in a new session: nothing more is freed. */
    pretend_order(p, 2, 11, 4 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 2, 11, &pages, NULL), ==,
                     VBX_RESERVE_WHOLE);
    g_assert_cmpuint(atomic_load(&a->given), ==, 4 * MIB);
    /* A session on the open port, as after a migration. */
    pretend_new_session(p, 3);
    pretend_expect(p, VBX_REGISTER, 1, &m);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    program_free(a);
    pretend_free(p);
}

static void test_program_outlives_the_agent(void)
{
    Pretend *p = pretend_new(NULL);
    Program *a;
    BxMessage m;

    pretend_begin(p, 1);
    a = known_program(p, "patient", 8 * MIB, 2);
    pretend_kill_agent(p);
    pretend_hang_up(p);
    pretend_start_agent(p, NULL);
    pretend_begin(p, 2);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    g_assert_cmpstr(m.reg.name, ==, "patient");
    program_free(a);
    pretend_free(p);
}

static void answer(Pretend *p, const BxMessage *request, unsigned status,
                   unsigned reason, uint64_t bytes)
{
    BxMessage m;

    bx_wire_init(&m, VBX_ANSWER, request->header.app, request->header.cookie);
    m.answer.status = status;
    m.answer.reason = reason;
    m.answer.bytes = bytes;
    pretend_send(p, &m);
}

static void ask(Program *program, uint64_t bytes)
{
    atomic_store(&program->request_bytes, bytes);
    program_poke(program);
}

static void test_each_answer_finds_the_program_that_asked(void)
{
    Pretend *p = pretend_new(NULL);
    Program *a, *b;
    BxMessage ma, mb, m;

    pretend_begin(p, 1);
    a = known_program(p, "first", MIB, 2);
    b = program_new(p->run_dir, "second", 0);
    ask(a, 10 * MIB);
    pretend_expect(p, VBX_REQUEST, 2, &ma);
    g_assert_cmpuint(ma.request.bytes, ==, 10 * MIB);
    ask(b, 20 * MIB);
    /* It offers nothing, so it asks for the guest. */
    pretend_expect(p, VBX_REQUEST, 0, &mb);
    g_assert_cmpuint(mb.header.cookie, !=, ma.header.cookie);
    answer(p, &mb, VBX_ANSWER_QUEUED, 0, 0);
    program_wait_int(&b->status, BX_QUEUED);
    answer(p, &ma, VBX_ANSWER_GRANTED, 0, 10 * MIB);
    program_wait_int(&a->status, BX_GRANTED);
    answer(p, &mb, VBX_ANSWER_PARTIAL, VBX_REASON_HOST, 5 * MIB);
    program_wait_int(&b->status, BX_PARTIAL);
    g_assert_cmpint(atomic_load(&b->reason), ==, BX_REASON_HOST);
    g_assert_cmpuint(atomic_load(&b->answer_bytes), ==, 5 * MIB);

    /* The host goes: whoever waits is told. */
    ask(a, 10 * MIB);
    pretend_expect(p, VBX_REQUEST, 2, &m);
    pretend_hang_up(p);
    program_wait_int(&a->status, BX_REFUSED);
    g_assert_cmpint(atomic_load(&a->reason), ==, BX_REASON_END);
    program_free(a);
    program_free(b);
    pretend_free(p);
}

static void test_request_ends_with_its_program_unless_it_is_the_guests(void)
{
    Pretend *p = pretend_new(NULL);
    Program *a, *b;
    BxMessage request, m;

    pretend_begin(p, 1);
    a = known_program(p, "mortal", MIB, 2);
    b = program_new(p->run_dir, "messenger", 0);
    ask(b, 20 * MIB);
    pretend_expect(p, VBX_REQUEST, 0, &m);
    program_free(b);
    ask(a, 10 * MIB);
    pretend_expect(p, VBX_REQUEST, 2, &request);
    program_free(a);
    /* Nothing was said of the messenger's. */
    pretend_expect(p, VBX_CANCEL, 2, &m);
    g_assert_cmpuint(m.header.cookie, ==, request.header.cookie);
    pretend_expect(p, VBX_UNREGISTER, 2, &m);
    pretend_free(p);
}

static void test_condition_reaches_everybody_without_a_system_call(void)
{
    Pretend *p = pretend_new(NULL);
    BxCondition condition;
    Program *a;
    Bx *only;

    pretend_begin(p, 1);
    a = program_new(p->run_dir, "reader", 0);
    g_assert_cmpint(bx_open(p->run_dir, BX_CONDITION_ONLY, &only), ==, 0);
    g_assert_cmpint(bx_condition_get(only, &condition), ==, -ENODATA);
    bx_dispatch(only);
    pretend_condition(p, 7, VBX_CONDITION_HARD, 123 * MIB);
    program_wait_u64(&a->generation, 7);
    /* The file's times changed: that wakes who only watches. */
    g_assert_cmpint(bx_wait(only, 20000), ==, 1);
    bx_dispatch(only);
    g_assert_cmpint(bx_condition_get(only, &condition), ==, 0);
    g_assert_cmpuint(condition.generation, ==, 7);
    g_assert_cmpuint(condition.level, ==, BX_HARD);
    g_assert_cmpuint(condition.reservable, ==, 123 * MIB);
    g_assert_cmpuint(condition.is_connected, ==, 1);
    g_assert_cmpuint(condition.age_ms, <, 20000);
    /* From another thread than the program's own. */
    g_assert_cmpint(bx_condition_get(a->bx, &condition), ==, 0);
    pretend_hang_up(p);
    for (int i = 0; condition.is_connected && i < 1000; i++) {
        g_assert_cmpint(bx_wait(only, 20000), ==, 1);
        bx_dispatch(only);
        g_assert_cmpint(bx_condition_get(only, &condition), ==, 0);
    }
    g_assert_cmpuint(condition.is_connected, ==, 0);
    g_assert_cmpuint(condition.generation, ==, 7);
    bx_close(only);
    program_free(a);
    pretend_free(p);
}

static int connect_local(Pretend *p)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *path = g_build_filename(p->run_dir, "socket", NULL);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    g_assert_cmpuint(strlen(path), <, sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)),
                    ==, 0);
    return fd;
}

static void say(int fd, BxMessage *m)
{
    size_t bytes = bx_wire_pack(m);

    g_assert_cmpint(send(fd, m->bytes, bytes, MSG_NOSIGNAL), ==, bytes);
}

/* False: the agent has closed the connection. */
static bool hear(int fd, BxMessage *ret)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    uint8_t bytes[VBX_MESSAGE_MAX];
    ssize_t got;

    g_assert_cmpint(poll(&poll_fd, 1, 20000), ==, 1);
    got = recv(fd, bytes, sizeof(bytes), 0);
    if (got <= 0) {
        return false;
    }
    g_assert_cmpint(bx_wire_unpack(bytes, got, BX_FROM_AGENT, ret), ==, 0);
    return true;
}

static void expect_error(int fd, unsigned type, unsigned code)
{
    BxMessage m;

    g_assert_true(hear(fd, &m));
    g_assert_cmpuint(m.header.type, ==, VBX_ERROR);
    g_assert_cmpuint(m.error.type, ==, type);
    g_assert_cmpuint(m.error.code, ==, code);
}

static void hello(int fd)
{
    BxMessage m;

    bx_wire_init(&m, VBX_HELLO, 0, 0);
    m.hello.version_min = m.hello.version_max = VBX_VERSION;
    say(fd, &m);
    g_assert_true(hear(fd, &m));
    g_assert_cmpuint(m.header.type, ==, VBX_WELCOME);
}

static void test_program_that_lies_or_babbles_hurts_nobody(void)
{
    Pretend *p = pretend_new(NULL);
    int fd, noise;
    BxMessage m;

    pretend_begin(p, 1);
    fd = connect_local(p);
    bx_wire_init(&m, VBX_REGISTER, 0, 0);
    strcpy(m.reg.name, "hasty");
    say(fd, &m);
    expect_error(fd, VBX_REGISTER, VBX_ERROR_STATE);    /* no hello */
    hello(fd);
    bx_wire_init(&m, VBX_UNMAPPED, 0, 0);
    m.range.count = 1;
    say(fd, &m);
    expect_error(fd, VBX_UNMAPPED, VBX_ERROR_STATE);    /* not registered */
    bx_wire_init(&m, VBX_REGISTER, 0, 0);
    say(fd, &m);
    expect_error(fd, VBX_REGISTER, VBX_ERROR_MALFORMED);        /* no name */
    bx_wire_init(&m, VBX_REGISTER, 1, 0);
    m.reg.flags = 0xffff;
    strcpy(m.reg.name, "l\ni\tar");
    say(fd, &m);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    g_assert_cmpstr(m.reg.name, ==, "l?i?ar");
    g_assert_cmpuint(m.reg.flags, ==, VBX_APP_RESERVES);        /* no agent */
    /* It speaks for the agent; the host hears who it is. */
    bx_wire_init(&m, VBX_UNMAPPED, 1, 0);
    m.range.epoch = 9;
    m.range.count = 1;
    say(fd, &m);
    pretend_expect(p, VBX_UNMAPPED, 2, &m);
    bx_wire_init(&m, VBX_CONDITION, 0, 0);
    say(fd, &m);
    expect_error(fd, VBX_CONDITION, VBX_ERROR_UNSUPPORTED);

    noise = connect_local(p);
    g_assert_cmpint(send(noise, "what?", 5, 0), ==, 5);
    g_assert_false(hear(noise, &m));
    close(noise);
    /* It still answers. */
    bx_wire_init(&m, VBX_PING, 0, 3);
    say(fd, &m);
    g_assert_true(hear(fd, &m));
    g_assert_cmpuint(m.header.type, ==, VBX_PONG);
    close(fd);
    pretend_expect(p, VBX_UNREGISTER, 2, &m);
    pretend_free(p);
}

static void test_program_that_does_not_read_is_cut_off(void)
{
    Pretend *p = pretend_new(NULL);
    BxMessage m;
    int fd;

    pretend_begin(p, 1);
    fd = connect_local(p);
    hello(fd);
    bx_wire_init(&m, VBX_REGISTER, 0, 0);
    strcpy(m.reg.name, "deaf");
    say(fd, &m);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    for (int i = 0; i < 20000; i++) {
        bx_wire_init(&m, VBX_RELEASED, 2, 0);
        m.range.count = 1;
        pretend_send(p, &m);
    }
    /* Answers to what came after it was gone may come first. */
    do {
        pretend_expect(p, 0, 2, &m);
    } while (m.header.type == VBX_ERROR);
    g_assert_cmpuint(m.header.type, ==, VBX_UNREGISTER);
    close(fd);
    pretend_free(p);
}

static void test_number_of_programs_is_bounded(void)
{
    enum { PROGRAMS = 62 };
    Pretend *p = pretend_new(NULL);
    int fd[PROGRAMS + 1];
    BxMessage m;

    pretend_begin(p, 1);
    for (int i = 0; i <= PROGRAMS; i++) {
        fd[i] = connect_local(p);
        hello(fd[i]);
        bx_wire_init(&m, VBX_REGISTER, 0, 0);
        strcpy(m.reg.name, "one of many");
        say(fd[i], &m);
        if (i < PROGRAMS) {
            pretend_expect(p, VBX_REGISTER, 2 + i, &m);
        } else {
            expect_error(fd[i], VBX_REGISTER, VBX_ERROR_LIMIT);
        }
    }
    for (int i = 0; i <= PROGRAMS; i++) {
        close(fd[i]);
    }
    pretend_free(p);
}

int main(int argc, char **argv)
{
    pretend_init(argc, argv);
    g_test_add_func("/two-programs-give-side-by-side-and-get-back",
                    test_two_programs_give_side_by_side_and_get_back);
    g_test_add_func("/program-hears-of-what-could-not-be-set-aside",
                    test_program_hears_of_what_could_not_be_set_aside);
    g_test_add_func("/program-takes-back-without-waiting",
                    test_program_takes_back_without_waiting);
    g_test_add_func("/killed-program-is-gone-and-the-other-goes-on",
                    test_killed_program_is_gone_and_the_other_goes_on);
    g_test_add_func("/host-that-returns-finds-all-programs-again",
                    test_host_that_returns_finds_all_programs_again);
    g_test_add_func("/program-outlives-the-agent",
                    test_program_outlives_the_agent);
    g_test_add_func("/each-answer-finds-the-program-that-asked",
                    test_each_answer_finds_the_program_that_asked);
    g_test_add_func("/request-ends-with-its-program-unless-it-is-the-guests",
                    test_request_ends_with_its_program_unless_it_is_the_guests);
    g_test_add_func("/condition-reaches-everybody-without-a-system-call",
                    test_condition_reaches_everybody_without_a_system_call);
    g_test_add_func("/program-that-lies-or-babbles-hurts-nobody",
                    test_program_that_lies_or_babbles_hurts_nobody);
    g_test_add_func("/program-that-does-not-read-is-cut-off",
                    test_program_that_does_not_read_is_cut_off);
    g_test_add_func("/number-of-programs-is-bounded",
                    test_number_of_programs_is_bounded);
    return g_test_run();
}
