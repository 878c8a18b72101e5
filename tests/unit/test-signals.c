/*
 * Signals of a process with several guests: whose handler runs
 *
 * Guests here are two records and a thread each.  What the kernel does with a
 * signal is real.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "signals.h"

static LauncherGuest guest_a, guest_b;
static atomic_int first, a, b, launcher;
static _Thread_local int mine;      /* handlers that ran on this thread */

static void of_first(int signo)
{
    first++;
    mine++;
}

static void of_a(int signo, siginfo_t *info, void *context)
{
    a++;
    mine++;
    errno = EDOM;
}

static void of_b(int signo)
{
    b++;
    mine++;
}

static void of_launcher(int signo)
{
    launcher++;
}

/* What libmemsched says of the address, and what the copy is told. */
static _Atomic MemSchedSigbus verdict = MEMSCHED_SIGBUS_FOREIGN;
static atomic_int asked, lost, untouched;

MemSchedSigbus memsched_sigbus(void *address)
{
    asked++;
    errno = ERANGE;
    return verdict;
}

MemSched *memsched_running(void)
{
    return (MemSched *)&verdict;
}

static void of_lost(void *host, void *context)
{
    (context ? &lost : &untouched)[0]++;
}

static void forget_counts(void)
{
    first = a = b = launcher = 0;
}

static void unblock(int signo)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signo);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* A thread of @opaque raises both routed signals, three times each. */
static gpointer raise_both(gpointer opaque)
{
    signals_enter_thread(opaque);
    unblock(SIGUSR1);
    for (unsigned i = 0; i < 3; i++) {
        errno = ENOENT;
        g_assert_cmpint(raise(SIGUSR1), ==, 0);
        g_assert_cmpint(raise(SIGBUS), ==, 0);
        g_assert_cmpint(errno, ==, ENOENT);
    }
    g_assert_cmpint(mine, ==, 6);
    return NULL;
}

static void set(LauncherGuest *guest, int signo, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler };

    g_assert_cmpint(signals_sigaction(guest, signo, &action, NULL), ==, 0);
}

static void set_all(int signo)
{
    struct sigaction with_info = { .sa_sigaction = of_a,
                                   .sa_flags = SA_SIGINFO };

    set(NULL, signo, of_first);
    set(&guest_b, signo, of_b);
    g_assert_cmpint(signals_sigaction(&guest_a, signo, &with_info, NULL), ==,
                    0);
}

static void test_routed_signals_reach_the_handler_of_their_thread(void)
{
    LauncherGuest *const owners[] = { &guest_a, NULL, &guest_b };
    GThread *threads[3];

    signals_init();
    set_all(SIGUSR1);
    set_all(SIGBUS);
    forget_counts();
    for (unsigned i = 0; i < 3; i++) {
        threads[i] = g_thread_new("owner", raise_both, owners[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpint(a, ==, 6);
    g_assert_cmpint(b, ==, 6);
    g_assert_cmpint(first, ==, 6);
}

static void test_a_kick_without_a_handler_is_nothing(void)
{
    signals_init();
    set_all(SIGUSR1);
    set(&guest_a, SIGUSR1, SIG_DFL);
    forget_counts();
    signals_enter_thread(&guest_a);
    unblock(SIGUSR1);
    raise(SIGUSR1);
    set(&guest_a, SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    signals_enter_thread(NULL);
    g_assert_cmpint(a + b + first, ==, 0);
}

static void test_a_broken_page_without_a_handler_ends_the_process(void)
{
    if (g_test_subprocess()) {
        signals_init();
        set(NULL, SIGBUS, of_first);
        signals_enter_thread(&guest_a);
        raise(SIGBUS);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

/* As the kernel sends it. */
static void send_error(int code)
{
    siginfo_t info = { .si_signo = SIGBUS, .si_code = code };

    info.si_addr = &guest_a;
    errno = ENOENT;
    g_assert_cmpint(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS,
                            &info), ==, 0);
    g_assert_cmpint(errno, ==, ENOENT);
}

static void test_an_error_in_guest_ram_is_no_business_of_a_copy(void)
{
    static const InstanceHooks hooks = { .memory_lost = of_lost };
    static const int codes[] = { BUS_ADRERR, BUS_MCEERR_AR, BUS_MCEERR_AO };

    signals_init();
    set_all(SIGBUS);
    signals_set_first(&hooks);
    guest_a.hooks = &hooks;
    for (unsigned i = 0; i < G_N_ELEMENTS(codes); i++) {
        bool early = codes[i] == BUS_MCEERR_AO;

        for (unsigned owner = 0; owner < 2; owner++) {
            signals_enter_thread(owner ? &guest_a : NULL);
            forget_counts();
            asked = lost = untouched = 0;
            verdict = MEMSCHED_SIGBUS_FIXED;
            send_error(codes[i]);
            g_assert_cmpint(lost + untouched, ==, 0);
            verdict = MEMSCHED_SIGBUS_LOST;
            send_error(codes[i]);
            g_assert_cmpint(lost, ==, !early);
            g_assert_cmpint(untouched, ==, early);
            g_assert_cmpint(a + first, ==, 0);
            /* Nobody's page, and nobody has touched it: no reason to end. */
            verdict = MEMSCHED_SIGBUS_FOREIGN;
            send_error(codes[i]);
            g_assert_cmpint(a + first, ==, !early);
            g_assert_cmpint(asked, ==, 3);
        }
    }
    /* Sent by somebody: no error in memory. */
    asked = 0;
    raise(SIGBUS);
    g_assert_cmpint(asked, ==, 0);
    signals_enter_thread(NULL);
}

static void test_a_copy_is_told_what_it_had_set(void)
{
    struct sigaction old;

    set(&guest_b, SIGUSR1, of_b);
    g_assert_cmpint(signals_sigaction(&guest_b, SIGUSR1, NULL, &old), ==, 0);
    g_assert_true(old.sa_handler == of_b);
    set(NULL, SIGUSR1, of_first);
    g_assert_cmpint(signals_sigaction(&guest_b, SIGUSR1, NULL, &old), ==, 0);
    g_assert_true(old.sa_handler == of_b);
}

static void test_a_guest_sets_no_other_handler(void)
{
    static const int others[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD,
                                  SIGIO, SIGALRM };

    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
        struct sigaction before, after;

        sigaction(others[i], NULL, &before);
        set(&guest_a, others[i], of_b);
        sigaction(others[i], NULL, &after);
        g_assert_true(before.sa_handler == after.sa_handler);
    }
}

/* SIGTERM is instance 0's until the launcher takes it, and never again. */
static void test_ends_belong_to_the_launcher_once_it_has_taken_them(void)
{
    forget_counts();
    set(NULL, SIGTERM, of_first);
    raise(SIGTERM);
    g_assert_cmpint(first, ==, 1);
    signals_take_over(of_launcher);
    raise(SIGTERM);
    set(NULL, SIGTERM, of_first);
    raise(SIGTERM);
    raise(SIGINT);
    raise(SIGHUP);
    g_assert_cmpint(first, ==, 1);
    g_assert_cmpint(launcher, ==, 4);
    /* The others stay instance 0's. */
    set(NULL, SIGPIPE, of_first);
    raise(SIGPIPE);
    g_assert_cmpint(first, ==, 2);
}

static void test_a_kick_of_no_thread_in_particular_waits(void)
{
    sigset_t pending, kick;
    int signo;

    signals_init();
    set_all(SIGUSR1);
    forget_counts();
    kill(getpid(), SIGUSR1);
    sigpending(&pending);
    g_assert_true(sigismember(&pending, SIGUSR1));
    g_assert_cmpint(a + b + first, ==, 0);
    sigemptyset(&kick);
    sigaddset(&kick, SIGUSR1);
    g_assert_cmpint(sigwait(&kick, &signo), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/signals/a-kick-of-no-thread-in-particular-waits",
                    test_a_kick_of_no_thread_in_particular_waits);
    g_test_add_func("/signals/routed-ones-reach-the-handler-of-their-thread",
                    test_routed_signals_reach_the_handler_of_their_thread);
    g_test_add_func("/signals/a-kick-without-a-handler-is-nothing",
                    test_a_kick_without_a_handler_is_nothing);
    g_test_add_func("/signals/a-broken-page-without-a-handler-ends-the-process",
                    test_a_broken_page_without_a_handler_ends_the_process);
    g_test_add_func("/signals/an-error-in-guest-ram-is-no-business-of-a-copy",
                    test_an_error_in_guest_ram_is_no_business_of_a_copy);
    g_test_add_func("/signals/a-copy-is-told-what-it-had-set",
                    test_a_copy_is_told_what_it_had_set);
    g_test_add_func("/signals/a-guest-sets-no-other-handler",
                    test_a_guest_sets_no_other_handler);
    g_test_add_func("/signals/ends-belong-to-the-launcher-once-taken",
                    test_ends_belong_to_the_launcher_once_it_has_taken_them);
    return g_test_run();
}
