/*
 * bxctl and the examples, run as programs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "pretend.h"
#include "program.h"

static pid_t start(Pretend *p, const char *const *words, int *ret_output)
{
    const char *argv[24] = { pretend_ctl, "--run-dir", p->run_dir };
    int count = 3;

    while (*words) {
        argv[count++] = *words++;
    }
    return pretend_spawn(argv, ret_output);
}

/* All that it prints; to be freed. */
static char *all_of(int fd)
{
    GString *text = g_string_new(NULL);
    char bytes[1024];
    ssize_t got;

    while ((got = read(fd, bytes, sizeof(bytes))) > 0) {
        g_string_append_len(text, bytes, got);
    }
    close(fd);
    return g_string_free(text, FALSE);
}

/* Runs to its end. */
static char *output_of(Pretend *p, int expected_status,
                       const char *const *words)
{
    int fd;
    pid_t pid = start(p, words, &fd);
    char *text = all_of(fd);

    g_assert_cmpint(pretend_wait_for(pid), ==, expected_status);
    return text;
}

#define WORDS(...) ((const char *const[]) { __VA_ARGS__, NULL })

static void assert_in(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        g_error("no \"%s\" in \"%s\"", part, text);
    }
}

static void test_condition_is_printed_for_people_and_for_programs(void)
{
    Pretend *p = pretend_new(NULL);
    g_autofree char *none = NULL, *text = NULL, *json = NULL;
    Program *reader;

    pretend_begin(p, 1);
    none = output_of(p, 1, WORDS("condition"));
    g_assert_cmpstr(none, ==, "");
    reader = program_new(p->run_dir, "reader", 0);
    pretend_condition(p, 4, VBX_CONDITION_SOFT, 96 * MIB);
    program_wait_u64(&reader->generation, 4);
    text = output_of(p, 0, WORDS("condition"));
    assert_in(text, "condition              soft\n");
    assert_in(text, "reservable             96 MiB\n");
    json = output_of(p, 0, WORDS("condition", "--json"));
    assert_in(json, "\"condition\": \"soft\"");
    assert_in(json, "\"reservable\": 100663296,");
    assert_in(json, "\"connected\": true}");
    program_free(reader);
    pretend_free(p);
}

static void read_line(int fd, char *line, size_t size)
{
    size_t length = 0;

    while (length < size - 1) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

        g_assert_cmpint(poll(&poll_fd, 1, 20000), ==, 1);
        g_assert_cmpint(read(fd, line + length, 1), ==, 1);
        if (line[length++] == '\n') {
            break;
        }
    }
    line[length] = 0;
}

static void test_watched_condition_is_printed_as_it_changes(void)
{
    Pretend *p = pretend_new(NULL);
    char line[1000];
    pid_t pid;
    int fd;

    pretend_begin(p, 1);
    pretend_condition(p, 1, VBX_CONDITION_HIGH, 0);
    pid = start(p, WORDS("condition", "--watch"), &fd);
    read_line(fd, line, sizeof(line));
    g_assert_true(g_str_has_prefix(line, "high pressure 100"));
    pretend_condition(p, 2, VBX_CONDITION_LOW, 0);
    read_line(fd, line, sizeof(line));
    g_assert_true(g_str_has_prefix(line, "low  pressure 100"));
    kill(pid, SIGTERM);
    g_assert_cmpint(pretend_wait_for(pid), ==, -1);
    close(fd);
    pretend_free(p);
}

static void answer(Pretend *p, const BxMessage *request, unsigned status,
                   unsigned reason, uint64_t bytes)
{
    BxMessage m;

    bx_wire_init(&m, VBX_ANSWER, 0, request->header.cookie);
    m.answer.status = status;
    m.answer.reason = reason;
    m.answer.bytes = bytes;
    pretend_send(p, &m);
}

static void test_request_waits_for_the_last_answer_if_told_to(void)
{
    Pretend *p = pretend_new(NULL);
    g_autofree char *queued = NULL, *granted = NULL, *partial = NULL;
    BxMessage m;
    pid_t pid;
    int fd;

    pretend_begin(p, 1);
    pid = start(p, WORDS("request", "64M"), &fd);
    pretend_expect(p, VBX_REQUEST, 0, &m);
    g_assert_cmpuint(m.request.bytes, ==, 64 * MIB);
    g_assert_cmpuint(m.request.deadline_ms, ==, 30000);
    answer(p, &m, VBX_ANSWER_QUEUED, 0, 0);
    queued = all_of(fd);
    g_assert_cmpstr(queued, ==, "queued: 0 of 64 MiB\n");
    g_assert_cmpint(pretend_wait_for(pid), ==, 0);

    pid = start(p, WORDS("request", "1G", "--wait", "--priority", "9",
                         "--reason", "start", "--deadline", "60"), &fd);
    pretend_expect(p, VBX_REQUEST, 0, &m);
    g_assert_cmpuint(m.request.priority, ==, 9);
    g_assert_cmpuint(m.request.reason, ==, VBX_WANT_START);
    g_assert_cmpuint(m.request.deadline_ms, ==, 60000);
    answer(p, &m, VBX_ANSWER_QUEUED, 0, 0);
    answer(p, &m, VBX_ANSWER_GRANTED, 0, 1024 * MIB);
    granted = all_of(fd);
    g_assert_cmpstr(granted, ==, "granted: 1024 of 1024 MiB\n");
    g_assert_cmpint(pretend_wait_for(pid), ==, 0);

    pid = start(p, WORDS("request", "1G", "--json"), &fd);
    pretend_expect(p, VBX_REQUEST, 0, &m);
    answer(p, &m, VBX_ANSWER_PARTIAL, VBX_REASON_HOST, 5 * MIB);
    partial = all_of(fd);
    assert_in(partial, "\"status\": \"partial\", \"reason\": \"host\"");
    g_assert_cmpint(pretend_wait_for(pid), ==, 2);
    pretend_free(p);
}

static void test_veto_is_the_agents(void)
{
    Pretend *p = pretend_new(NULL);
    g_autofree char *first = NULL, *second = NULL;
    BxMessage m;

    pretend_begin(p, 1);
    first = output_of(p, 0, WORDS("veto", "20"));
    pretend_expect(p, VBX_VETO, 1, &m);
    g_assert_cmpuint(m.veto.duration_ms, ==, 20000);
    second = output_of(p, 0, WORDS("veto", "0"));
    pretend_expect(p, VBX_VETO, 1, &m);
    g_assert_cmpuint(m.veto.duration_ms, ==, 0);
    pretend_free(p);
}

static void test_status_lists_who_gives(void)
{
    Pretend *p = pretend_new(NULL);
    g_autofree char *text = NULL, *json = NULL;
    Program *a;
    BxMessage m;

    pretend_begin(p, 1);
    a = program_new(p->run_dir, "generous", 8 * MIB);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    pretend_order(p, 2, 11, 4 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 2, 11, NULL, NULL);
    pretend_order(p, 1, 12, 6 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 1, 12, NULL, NULL);
    text = output_of(p, 0, WORDS("status"));
    assert_in(text, "generous");
    assert_in(text, " 4 MiB\n");
    assert_in(text, "host          connected\n");
    assert_in(text, "given         6 MiB, ");
    json = output_of(p, 0, WORDS("status", "--json"));
    assert_in(json, "{\"applications\": [{\"app\": 2, \"name\": \"generous\"");
    assert_in(json, "\"reserved\": 6291456");
    program_free(a);
    pretend_free(p);
}

static void test_before_hibernation_everything_comes_back(void)
{
    Pretend *p = pretend_new(NULL);
    g_autofree char *asleep = NULL, *awake = NULL;
    unsigned reason;
    Program *a;
    BxMessage m;

    pretend_begin(p, 1);
    a = program_new(p->run_dir, "sleepy", 8 * MIB);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    pretend_order(p, 2, 11, 4 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 2, 11, NULL, NULL);
    pretend_order(p, 1, 12, 6 * MIB, VBX_GRANULE_BYTES);
    pretend_reserved(p, 1, 12, NULL, NULL);
    asleep = output_of(p, 0, WORDS("sleep"));
    /* When it returns, all is there. */
    g_assert_cmpuint(atomic_load(&a->had), ==, 4 * MIB);
    pretend_expect(p, VBX_VETO, 1, &m);
    g_assert_cmpuint(m.veto.reason, ==, VBX_REASON_HIBERNATE);
    pretend_expect(p, VBX_RELEASE, 1, &m);
    pretend_expect(p, VBX_UNMAPPED, 1, &m);
    g_assert_cmpuint(m.range.count, ==, 1536);
    pretend_expect(p, VBX_RELEASE, 2, &m);
    pretend_expect(p, VBX_UNMAPPED, 2, &m);
    pretend_order(p, 1, 13, 2 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 13, NULL, &reason), ==,
                     VBX_RESERVE_REFUSED);
    g_assert_cmpuint(reason, ==, VBX_REASON_HIBERNATE);
    awake = output_of(p, 0, WORDS("wake"));
    pretend_expect(p, VBX_VETO, 1, &m);
    g_assert_cmpuint(m.veto.duration_ms, ==, 0);
    pretend_order(p, 1, 14, 2 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 1, 14, NULL, NULL), ==,
                     VBX_RESERVE_WHOLE);
    program_free(a);
    pretend_free(p);
}

static void test_example_cache_shrinks_when_asked_and_grows_again(void)
{
    Pretend *p = pretend_new(NULL);
    const char *argv[] = { pretend_cache, "600", "32", p->run_dir, NULL };
    char line[1000];
    BxMessage m;
    pid_t pid;
    int fd;

    pretend_begin(p, 1);
    pid = pretend_spawn(argv, &fd);
    pretend_expect(p, VBX_REGISTER, 2, &m);
    read_line(fd, line, sizeof(line));
    g_assert_cmpstr(line, ==, "cache 32 MiB, given 0 MiB\n");
    pretend_order(p, 2, 11, 8 * MIB, VBX_GRANULE_BYTES);
    g_assert_cmpuint(pretend_reserved(p, 2, 11, NULL, NULL), ==,
                     VBX_RESERVE_WHOLE);
    read_line(fd, line, sizeof(line));
    g_assert_cmpstr(line, ==, "cache 24 MiB, given 8 MiB\n");
    pretend_range(p, VBX_RELEASED, 2, 11, 0, 2048);
    pretend_expect(p, VBX_UNMAPPED, 2, &m);
    read_line(fd, line, sizeof(line));
    g_assert_cmpstr(line, ==, "cache 32 MiB, given 0 MiB\n");
    pretend_condition(p, 1, VBX_CONDITION_HARD, 5 * MIB);
    read_line(fd, line, sizeof(line));
    g_assert_cmpstr(line, ==, "condition hard, 5 MiB could be had\n");
    read_line(fd, line, sizeof(line));
    g_assert_cmpstr(line, ==, "cache 16 MiB, given 0 MiB\n");
    kill(pid, SIGTERM);
    pretend_wait_for(pid);
    close(fd);
    pretend_free(p);
}

static void test_example_request_acts_on_the_answer(void)
{
    Pretend *p = pretend_new(NULL);
    const char *argv[] = { pretend_request, "64", p->run_dir, NULL };
    g_autofree char *text = NULL;
    BxMessage m;
    pid_t pid;
    int fd;

    pretend_begin(p, 1);
    pid = pretend_spawn(argv, &fd);
    pretend_expect(p, VBX_REQUEST, 0, &m);
    answer(p, &m, VBX_ANSWER_REFUSED, VBX_REASON_HOST, 0);
    text = all_of(fd);
    g_assert_cmpstr(text, ==, "refused (host): the small job, then\n");
    g_assert_cmpint(pretend_wait_for(pid), ==, 0);
    pretend_free(p);
}

static void test_wrong_words_are_refused_with_a_sentence(void)
{
    static const char *const wrong[][4] = {
        { "request" }, { "request", "12Q" }, { "request", "-1" },
        { "request", "0" }, { "request", "1M", "--priority=10" },
        { "request", "1M", "--deadline=601" },
        { "request", "1M", "--reason=greed" }, { "veto", "61" },
        { "frobnicate" }, { "status", "now" }, { "condition", "--cheese" },
    };
    Pretend *p = pretend_new(NULL);

    pretend_begin(p, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *text = output_of(p, 1, wrong[i]);

        g_assert_cmpstr(text, ==, "");
    }
    pretend_free(p);
}

int main(int argc, char **argv)
{
    pretend_init(argc, argv);
    g_test_add_func("/condition-is-printed-for-people-and-for-programs",
                    test_condition_is_printed_for_people_and_for_programs);
    g_test_add_func("/watched-condition-is-printed-as-it-changes",
                    test_watched_condition_is_printed_as_it_changes);
    g_test_add_func("/request-waits-for-the-last-answer-if-told-to",
                    test_request_waits_for_the_last_answer_if_told_to);
    g_test_add_func("/veto-is-the-agents", test_veto_is_the_agents);
    g_test_add_func("/status-lists-who-gives", test_status_lists_who_gives);
    g_test_add_func("/before-hibernation-everything-comes-back",
                    test_before_hibernation_everything_comes_back);
    g_test_add_func("/example-cache-shrinks-when-asked-and-grows-again",
                    test_example_cache_shrinks_when_asked_and_grows_again);
    g_test_add_func("/example-request-acts-on-the-answer",
                    test_example_request_acts_on_the_answer);
    g_test_add_func("/wrong-words-are-refused-with-a-sentence",
                    test_wrong_words_are_refused_with_a_sentence);
    return g_test_run();
}
