/*
 * top: host and guests, drawn anew all the time
 *
 * Owns the screen and its keys.  Without a terminal, or with --batch, looks are
 * printed one below the other; --csv prints a line a guest and look.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <ncurses.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl-command.h"
#include "ctl-export.h"
#include "ctl-pace.h"
#include "ctl-view.h"

typedef struct Top {
    CtlQmp *qmp;
    CtlPace pace;
    CtlOrder order;
    CtlSample *now, *before;
    gint64 looks;               /* left; -1: no limit */
    bool help, paused;
    int first;                  /* guest at the top of the screen */
} Top;

static const char *const keys[] = {
    "q      end",
    "space  look now",
    "s, S   sort by the next column, the one before",
    "r      turn the order",
    "o      order of the process",
    "p      pause",
    "arrows, page keys  scroll",
    "h      these keys",
    NULL
};

static bool look(Top *top, GError **error)
{
    CtlSample *next = ctl_sample_take(top->qmp, ctl_pace_now(&top->pace),
                                      error);

    if (!next) {
        return false;
    }
    ctl_sample_free(top->before);
    top->before = top->now;
    top->now = next;
    return true;
}

/* ---- batch ---- */

/* Those that were made since the look before. */
static void print_decisions(const Top *top, int width)
{
    double since_s = top->before ? top->now->time_s - top->before->time_s : 0;

    ctl_print(ctl_view_late_decisions(top->now->decisions, since_s, width));
}

static void print_look(const Top *top, bool csv, int width)
{
    if (csv) {
        g_autoptr(GString) out = g_string_new(NULL);

        ctl_csv_sample(out, top->now);
        fputs(out->str, stdout);
    } else {
        printf("%.1f s\n", top->now->time_s);
        ctl_print(ctl_view_host(top->now, top->before, width));
        ctl_print(ctl_view_guests(top->now, top->before, &top->order, width));
        ctl_print(ctl_view_transfers(top->now, width));
        print_decisions(top, width);
        putchar('\n');
    }
    fflush(stdout);
}

static void batch(Top *top, bool csv, int width, GError **error)
{
    if (csv) {
        g_autoptr(GString) out = g_string_new(NULL);

        ctl_csv_head(out);
        fputs(out->str, stdout);
    }
    do {
        if (!look(top, error)) {
            return;
        }
        print_look(top, csv, width);
        if (top->looks > 0 && --top->looks == 0) {
            return;
        }
    } while (ctl_pace_wait(&top->pace));
}

/* ---- screen ---- */

static int draw_lines(GPtrArray *lines, int row, guint from, int attributes)
{
    attron(attributes);
    for (guint i = from; i < lines->len && row < LINES; i++) {
        mvaddnstr(row++, 0, g_ptr_array_index(lines, i), -1);
    }
    attroff(attributes);
    return row;
}

static int condition_attributes(const CtlSample *s)
{
    const char *state = ctl_text(s->scheduler, "state");

    return g_strcmp0(state, "hard") == 0 || g_strcmp0(state, "low") == 0
           ? A_BOLD | A_REVERSE : A_BOLD;
}

/* Guests, as many as there is room for, and below them what moves and why. */
static void draw_guests(Top *top, int row)
{
    g_autoptr(GPtrArray) guests =
        ctl_view_guests(top->now, top->before, &top->order, COLS);
    g_autoptr(GPtrArray) moving = ctl_view_transfers(top->now, COLS);
    g_autoptr(GPtrArray) why = ctl_view_decisions(top->now->decisions, NULL,
                                                  COLS);
    int rest = LINES - row - 1, most, below;

    g_ptr_array_extend_and_steal(moving, g_steal_pointer(&why));
    /* With the blank line above it; a third at most, if guests need more. */
    below = moving->len > 0 ? (int)moving->len + 1 : 0;
    below = MIN(below, MAX(rest / 3, rest - (int)guests->len + 1));
    rest -= below;
    most = MAX((int)guests->len - 1 - rest, 0);
    top->first = CLAMP(top->first, 0, most);
    attron(A_REVERSE);
    mvprintw(row, 0, "%*s", COLS, "");
    mvaddnstr(row++, 0, g_ptr_array_index(guests, 0), -1);
    attroff(A_REVERSE);
    if ((int)guests->len > 1 + top->first + rest) {
        g_ptr_array_set_size(guests, 1 + top->first + rest);
    }
    row = draw_lines(guests, row, 1 + top->first, 0);
    draw_lines(moving, row + 1, 0, A_DIM);
}

static void draw(Top *top)
{
    g_autoptr(GPtrArray) host = ctl_view_host(top->now, top->before, COLS);
    const CtlField *by = top->order.field;
    int row = 0;

    erase();
    attron(condition_attributes(top->now));
    mvaddnstr(row++, 0, g_ptr_array_index(host, 0), COLS);
    attroff(condition_attributes(top->now));
    row = draw_lines(host, row, 1, 0);
    mvprintw(row, 0, "%.1f s  sorted by %s%s%s  h: keys", top->now->time_s,
             by ? by->name : "start",
             by && top->order.ascending ? ", smallest first" : "",
             top->paused ? "  PAUSED" : "");
    row += 2;
    if (top->help) {
        for (unsigned i = 0; keys[i] && row < LINES; i++) {
            mvaddnstr(row++, 0, keys[i], COLS);
        }
    } else {
        draw_guests(top, row);
    }
    refresh();
}

static void sort_by_next(Top *top, int step)
{
    int count = 0, at = -1;

    while (ctl_guest_fields[count].name) {
        at = top->order.field == &ctl_guest_fields[count] ? count : at;
        count++;
    }
    do {
        at = (at + step + count) % count;
    } while (!ctl_guest_fields[at].head);
    top->order.field = &ctl_guest_fields[at];
}

/* False: end. */
static bool key(Top *top, int c, bool *ret_look)
{
    switch (c) {
    case 'q':
        return false;
    case ' ':
        *ret_look = true;
        break;
    case 's':
        sort_by_next(top, 1);
        break;
    case 'S':
        sort_by_next(top, -1);
        break;
    case 'r':
        top->order.ascending = !top->order.ascending;
        break;
    case 'o':
        top->order.field = NULL;
        break;
    case 'p':
        top->paused = !top->paused;
        break;
    case 'h':
    case '?':
        top->help = !top->help;
        break;
    case KEY_DOWN:
    case KEY_UP:
        top->first += c == KEY_DOWN ? 1 : -1;
        break;
    case KEY_NPAGE:
    case KEY_PPAGE:
        top->first += c == KEY_NPAGE ? LINES / 2 : -LINES / 2;
        break;
    }
    return true;
}

static void watch(Top *top, GError **error)
{
    bool due = true;
    int c;

    while (true) {
        int what;

        if (due && !look(top, error)) {
            return;
        }
        draw(top);
        if (due && top->looks > 0 && --top->looks == 0) {
            return;
        }
        what = ctl_pace_wait_fd(&top->pace, STDIN_FILENO);
        if (what == 0) {
            return;
        }
        due = what == 1 && !top->paused;
        while ((c = getch()) != ERR) {
            if (!key(top, c, &due)) {
                return;
            }
        }
    }
}

static bool screen(Top *top, GError **error)
{
    SCREEN *s = newterm(NULL, stdout, stdin);

    if (!s) {
        return false;
    }
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    watch(top, error);
    endwin();
    delscreen(s);
    return true;
}

/* ---- command ---- */

static int run(Top *top, bool batched, bool csv, int width)
{
    GError *error = NULL;

    if (batched || csv || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)) {
        batch(top, csv, width < 0 ? (int)ctl_terminal_width() : width,
              &error);
    } else if (!screen(top, &error)) {
        return ctl_say(CTL_FAILED, "this terminal is not known (TERM); use "
                       "--batch");
    }
    if (error && error->code == CTL_QMP_CLOSED) {
        fputs("memschedctl: the process has ended\n", stderr);
        g_error_free(error);
        return CTL_DONE;
    }
    return error ? ctl_fail(error) : CTL_DONE;
}

static void list_figures(void)
{
    for (const CtlField *f = ctl_guest_fields; f->name; f++) {
        printf("%-20s  %s\n", f->name, f->help);
    }
}

int ctl_top(const CtlContext *context, int argc, char **argv)
{
    gboolean batched = FALSE, csv = FALSE;
    double interval = 1, limit = 0;
    g_autofree char *sort = NULL;
    gint looks = -1, width = -1;
    const GOptionEntry options[] = {
        { "batch", 'b', 0, G_OPTION_ARG_NONE, &batched,
          "print, also on a terminal", NULL },
        { "csv", 0, 0, G_OPTION_ARG_NONE, &csv, "print CSV, sizes in bytes",
          NULL },
        { "interval", 'i', 0, G_OPTION_ARG_DOUBLE, &interval,
          "between two looks (default 1)", "S" },
        { "looks", 'n', 0, G_OPTION_ARG_INT, &looks, "end after so many",
          "N" },
        { "for", 'f', 0, G_OPTION_ARG_DOUBLE, &limit, "end after so long",
          "S" },
        { "sort", 0, 0, G_OPTION_ARG_STRING, &sort,
          "by this figure, largest first; help lists them", "NAME" },
        { "width", 'w', 0, G_OPTION_ARG_INT, &width,
          "columns of what is printed (0: no limit)", "N" },
        G_OPTION_ENTRY_NULL
    };
    Top top = { 0 };
    int status = CTL_DONE;

    if (!ctl_options(&argc, &argv, options, NULL, "Show host and guests all "
                     "the time; sizes in MiB.", &status)) {
        return status;
    }
    if (argc > 1 || looks == 0 || !(interval >= 0.01 && interval <= 3600) ||
        !(limit >= 0)) {
        return ctl_say(CTL_USAGE, "the interval is 0.01 to 3600 seconds, the "
                       "number of looks 1 or more, and nothing else is "
                       "taken; try --help");
    }
    if (g_strcmp0(sort, "help") == 0) {
        list_figures();
        return CTL_DONE;
    }
    top.order.field = sort ? ctl_field_find(ctl_guest_fields, sort) : NULL;
    if (sort && !top.order.field) {
        return ctl_say(CTL_USAGE, "there is no figure of that name to sort "
                       "by; --sort help lists them");
    }
    top.looks = looks;
    top.qmp = ctl_connect(context, &status);
    if (top.qmp) {
        ctl_pace_start(&top.pace, interval, limit);
        status = run(&top, batched, csv, width);
        ctl_sample_free(top.now);
        ctl_sample_free(top.before);
        ctl_qmp_close(top.qmp);
    }
    return status;
}
