/*
 * A host that is pretended, and the real agent that it talks with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "pretend.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Longer than anything here takes on a machine that is busy otherwise. */
#define PATIENCE_MS 20000

#define PSI_QUIET \
    "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" \
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"

const char *pretend_exd, *pretend_ctl, *pretend_cache, *pretend_request;

void pretend_init(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 5);
    pretend_exd = argv[1];
    pretend_ctl = argv[2];
    pretend_cache = argv[3];
    pretend_request = argv[4];
    signal(SIGPIPE, SIG_IGN);
}

static void put(const char *root, const char *path, const char *text)
{
    g_autofree char *name = g_build_filename(root, path, NULL);
    g_autofree char *folder = g_path_get_dirname(name);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(name, text, -1, NULL));
}

void pretend_available(Pretend *p, uint64_t available_mib)
{
    g_autofree char *text = g_strdup_printf(
        "MemTotal:        1048576 kB\n"
        "MemFree:       %9" G_GUINT64_FORMAT " kB\n"
        "MemAvailable:  %9" G_GUINT64_FORMAT " kB\n"
        "Cached:           102400 kB\n"
        "SwapTotal:             0 kB\n"
        "SwapFree:              0 kB\n",
        available_mib * 1024, available_mib * 1024);

    put(p->root, "proc/meminfo", text);
}

static int wait_readable(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    int rc;

    do {
        rc = poll(&poll_fd, 1, PATIENCE_MS);
    } while (rc < 0 && errno == EINTR);
    return rc;
}

pid_t pretend_spawn(const char *const *argv, int *ret_output)
{
    int output[2];
    pid_t pid;

    g_assert_cmpint(pipe(output), ==, 0);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        /* A test that fails leaves nothing behind, nor its output open. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ret_output) {
            dup2(output[1], STDOUT_FILENO);
        } else {
            /* Not into the test's own report. */
            dup2(STDERR_FILENO, STDOUT_FILENO);
        }
        close(output[0]);
        close(output[1]);
        execv(argv[0], (char **)argv);
        _exit(127);
    }
    close(output[1]);
    if (ret_output) {
        *ret_output = output[0];
    } else {
        close(output[0]);
    }
    return pid;
}

int pretend_wait_for(pid_t pid)
{
    int status, fd = syscall(SYS_pidfd_open, pid, 0);

    g_assert_cmpint(fd, >=, 0);
    if (wait_readable(fd) != 1) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        g_error("process %d does not end", pid);
    }
    close(fd);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void pretend_start_agent(Pretend *p, const char *const *options)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, (char *)pretend_exd);
    g_ptr_array_add(argv, (char *)"--port");
    g_ptr_array_add(argv, p->socket_path);
    g_ptr_array_add(argv, (char *)"--run-dir");
    g_ptr_array_add(argv, p->run_dir);
    g_ptr_array_add(argv, (char *)"--root");
    g_ptr_array_add(argv, p->root);
    if (g_test_verbose()) {
        g_ptr_array_add(argv, (char *)"--verbose");
    }
    for (int i = 0; options && options[i]; i++) {
        g_ptr_array_add(argv, (char *)options[i]);
    }
    g_ptr_array_add(argv, NULL);
    p->agent = pretend_spawn((const char *const *)argv->pdata, NULL);
}

void pretend_kill_agent(Pretend *p)
{
    kill(p->agent, SIGKILL);
    g_assert_cmpint(pretend_wait_for(p->agent), ==, -1);
    p->agent = 0;
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpuint(strlen(path), <, sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)),
                    ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

Pretend *pretend_new(const char *const *options)
{
    Pretend *p = g_new0(Pretend, 1);

    p->dir = g_dir_make_tmp("bx-XXXXXX", NULL);
    g_assert_nonnull(p->dir);
    p->run_dir = g_build_filename(p->dir, "run", NULL);
    p->root = g_build_filename(p->dir, "root", NULL);
    p->socket_path = g_build_filename(p->dir, "port", NULL);
    p->port = -1;
    p->input = g_byte_array_new();
    pretend_available(p, 800);
    put(p->root, "proc/pressure/memory", PSI_QUIET);
    put(p->root, "proc/vmstat", "nr_free_pages 5\noom_kill 3\n");
    p->listener = listen_at(p->socket_path);
    pretend_start_agent(p, options);
    return p;
}

static void remove_tree(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    if (dir) {
        g_dir_close(dir);
    }
    g_remove(path);
}

void pretend_free(Pretend *p)
{
    if (p->agent) {
        kill(p->agent, SIGTERM);
        g_assert_cmpint(pretend_wait_for(p->agent), ==, 0);
    }
    pretend_hang_up(p);
    close(p->listener);
    remove_tree(p->dir);
    g_byte_array_unref(p->input);
    g_free(p->socket_path);
    g_free(p->root);
    g_free(p->run_dir);
    g_free(p->dir);
    g_free(p);
}

void pretend_accept(Pretend *p)
{
    g_assert_cmpint(wait_readable(p->listener), ==, 1);
    p->port = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(p->port, >=, 0);
}

void pretend_hang_up(Pretend *p)
{
    if (p->port >= 0) {
        close(p->port);
        p->port = -1;
    }
    g_byte_array_set_size(p->input, 0);
}

void pretend_send_bytes(Pretend *p, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size) {
        ssize_t done = send(p->port, at, size, MSG_NOSIGNAL);

        g_assert_cmpint(done, >, 0);
        at += done;
        size -= done;
    }
}

void pretend_send(Pretend *p, BxMessage *m)
{
    size_t size = bx_wire_pack(m);

    pretend_send_bytes(p, m->bytes, size);
}

/* False at the end of the stream. */
static bool next_message(Pretend *p, BxMessage *ret)
{
    int length;

    while ((length = bx_wire_next(p->input->data, p->input->len)) == 0) {
        uint8_t bytes[4096];
        ssize_t got;

        g_assert_cmpint(wait_readable(p->port), ==, 1);
        got = recv(p->port, bytes, sizeof(bytes), 0);
        if (got <= 0) {
            return false;
        }
        g_byte_array_append(p->input, bytes, got);
    }
    g_assert_cmpint(length, >, 0);
    g_assert_cmpint(bx_wire_unpack(p->input->data, length, BX_FROM_GUEST, ret),
                    ==, 0);
    g_byte_array_remove_range(p->input, 0, length);
    return true;
}

static bool is_asked_for(unsigned type, unsigned wanted)
{
    return type == wanted ||
           (type != VBX_STATISTICS && type != VBX_HINTS);
}

void pretend_expect(Pretend *p, unsigned type, uint32_t app, BxMessage *ret)
{
    do {
        g_assert_true(next_message(p, ret));
    } while (!is_asked_for(ret->header.type, type));
    if (!type) {
        return;
    }
    g_assert_cmpstr(bx_wire_name(ret->header.type), ==, bx_wire_name(type));
    g_assert_cmpuint(ret->header.app, ==, app);
}

void pretend_expect_end(Pretend *p)
{
    BxMessage m;

    while (next_message(p, &m)) {
        g_assert_false(is_asked_for(m.header.type, 0));
    }
    pretend_hang_up(p);
}

void pretend_new_session(Pretend *p, uint8_t session)
{
    BxMessage m;

    bx_wire_init(&m, VBX_WELCOME, 0, 0);
    m.welcome.version = VBX_VERSION;
    m.welcome.apps_max = 64;
    m.welcome.features = VBX_FEATURE_HINTS;
    memset(m.welcome.session, session, sizeof(m.welcome.session));
    pretend_send(p, &m);
}

void pretend_welcome(Pretend *p, uint8_t session, BxMessage *ret_hello)
{
    pretend_expect(p, VBX_HELLO, 0, ret_hello);
    pretend_new_session(p, session);
}

void pretend_begin(Pretend *p, uint8_t session)
{
    BxMessage m;

    pretend_accept(p);
    pretend_welcome(p, session, &m);
    pretend_expect(p, VBX_REGISTER, 1, &m);
}

void pretend_order(Pretend *p, uint32_t app, uint64_t epoch, uint64_t bytes,
                   uint32_t granule_bytes)
{
    BxMessage m;

    bx_wire_init(&m, VBX_RESERVE, app, epoch);
    m.reserve.epoch = epoch;
    m.reserve.bytes = bytes;
    m.reserve.granule_bytes = granule_bytes;
    m.reserve.deadline_ms = 60000;
    memset(m.reserve.key, 0x5a, sizeof(m.reserve.key));
    pretend_send(p, &m);
}

unsigned pretend_reserved(Pretend *p, uint32_t app, uint64_t epoch,
                          uint64_t *ret_pages, unsigned *ret_reason)
{
    uint64_t pages = 0;
    BxMessage m;

    do {
        pretend_expect(p, VBX_RESERVED, app, &m);
        g_assert_cmpuint(m.reserved.epoch, ==, epoch);
        g_assert_cmpuint(m.header.cookie, ==, epoch);
        if (m.reserved.count) {
            g_assert_cmpuint(m.reserved.first_seq, ==, pages);
        }
        pages += m.reserved.count;
    } while (m.reserved.status == VBX_RESERVE_PROGRESS);
    if (ret_pages) {
        *ret_pages = pages;
    }
    if (ret_reason) {
        *ret_reason = m.reserved.reason;
    }
    return m.reserved.status;
}

void pretend_range(Pretend *p, unsigned type, uint32_t app, uint64_t epoch,
                   uint64_t first, uint64_t count)
{
    BxMessage m;

    bx_wire_init(&m, type, app, 0);
    m.range.epoch = epoch;
    m.range.first_seq = first;
    m.range.count = count;
    pretend_send(p, &m);
}

void pretend_condition(Pretend *p, uint64_t generation, unsigned condition,
                       uint64_t reservable)
{
    BxMessage m;

    bx_wire_init(&m, VBX_CONDITION, 0, 0);
    memset(m.condition.session, 1, sizeof(m.condition.session));
    m.condition.generation = generation;
    m.condition.condition = condition;
    m.condition.pressure = 100;
    m.condition.ram = 1024 * MIB;
    m.condition.max = 1024 * MIB;
    m.condition.allocated = 500 * MIB;
    m.condition.reservable = reservable;
    pretend_send(p, &m);
}

void pretend_wait_held(Pretend *p, uint64_t bytes)
{
    uint64_t held = UINT64_MAX;

    for (int i = 0; held != bytes && i < PATIENCE_MS / 20; i++) {
        BxMessage m;

        poll(NULL, 0, i ? 20 : 0);
        bx_wire_init(&m, VBX_POLL, 0, 0);
        pretend_send(p, &m);
        pretend_expect(p, VBX_STATISTICS, 0, &m);
        for (uint32_t k = 0; k < m.statistics.count; k++) {
            if (m.statistics.stat[k].tag == VBX_STAT_RESERVED) {
                held = m.statistics.stat[k].value;
            }
        }
    }
    g_assert_cmpuint(held, ==, bytes);
}
