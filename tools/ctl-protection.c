/*
 * protection: how guests are covered against memory errors, and what became of
 * errors
 *
 * Asks for nothing but query-memsched-protection, so that it works where a
 * guest's own socket is given, too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>

#include "ctl-command.h"
#include "ctl-json.h"
#include "ctl-table.h"

static const CtlColumn columns[] = {
    { "GUEST", false, 0 }, { "SCHEME", false, 0 }, { "GROUP", true, 5 },
    { "MIB", true, 1 }, { "PARITY%", true, 0 }, { "DISK%", true, 2 },
    { "LEFT-OUT%", true, 6 }, { "COST-MIB", true, 4 }, { "BROKEN", true, 1 },
    { "REPAIRED", true, 0 }, { "LOST", true, 0 }, { "AGE-S", true, 3 },
    { "P50-US", true, 3 }, { "P99-US", true, 3 }, { "SCRUBBED%", true, 5 },
    { "PASSES", true, 6 }, { "DIFFER", true, 1 },
};

/* Steals nothing; "-" where the process does not say. */
static char *number(uint64_t value, uint64_t divisor)
{
    return value == CTL_NONE ? g_strdup("-")
           : g_strdup_printf("%" PRIu64, value / divisor);
}

static char *percent(uint64_t part, uint64_t all)
{
    if (part == CTL_NONE || all == CTL_NONE || all == 0) {
        return g_strdup("-");
    }
    /* Both are bytes of memory: no overflow. */
    return g_strdup_printf("%" PRIu64, part * 100 / all);
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a == CTL_NONE ? b : b == CTL_NONE ? a : a + b;
}

static char **protection_row(JsonObject *p)
{
    JsonObject *c = ctl_object(p, "coverage");
    uint64_t all = sum(sum(ctl_number(c, "parity"), ctl_number(c, "disk")),
                       ctl_number(c, "none"));
    GPtrArray *row = g_ptr_array_new();
    const char *id = ctl_text(p, "id"), *scheme = ctl_text(p, "scheme");

    g_ptr_array_add(row, ctl_clean(id ? id : "-"));
    g_ptr_array_add(row, ctl_clean(scheme ? scheme : "-"));
    g_ptr_array_add(row, number(ctl_number(p, "group-size"), 1));
    g_ptr_array_add(row, number(all, 1 << 20));
    g_ptr_array_add(row, percent(ctl_number(c, "parity"), all));
    g_ptr_array_add(row, percent(ctl_number(c, "disk"), all));
    g_ptr_array_add(row, percent(ctl_number(c, "excluded"), all));
    g_ptr_array_add(row, number(sum(ctl_number(p, "parity"),
                                    ctl_number(p, "bookkeeping")), 1 << 20));
    g_ptr_array_add(row, number(ctl_number(p, "poisoned"), 4096));
    g_ptr_array_add(row, number(sum(ctl_number(p, "recovered"),
                                    ctl_number(p, "recovered-dead")), 1));
    g_ptr_array_add(row, number(ctl_number(p, "lost-pages"), 1));
    g_ptr_array_add(row, number(ctl_number(p, "last-age"), 1000));
    g_ptr_array_add(row, number(ctl_path(p, "repair.p50-ns"), 1000));
    g_ptr_array_add(row, number(ctl_path(p, "repair.p99-ns"), 1000));
    g_ptr_array_add(row, percent(ctl_path(p, "scrub.done"),
                                 ctl_path(p, "scrub.all")));
    g_ptr_array_add(row, number(ctl_path(p, "scrub.passes"), 1));
    g_ptr_array_add(row, number(sum(ctl_path(p, "scrub.mismatches"),
                                    ctl_path(p, "scrub.parity-mismatches")),
                                1));
    g_ptr_array_add(row, NULL);
    return (char **)g_ptr_array_free(row, FALSE);
}

static int print(JsonArray *guests, const char *guest, unsigned width)
{
    g_autoptr(GPtrArray) rows =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    unsigned count = guests ? json_array_get_length(guests) : 0;

    for (unsigned i = 0; i < count; i++) {
        JsonObject *p = ctl_element(guests, i);

        if (p && (!guest || g_strcmp0(ctl_text(p, "id"), guest) == 0)) {
            g_ptr_array_add(rows, protection_row(p));
        }
    }
    if (guest && rows->len == 0) {
        g_autofree char *words = g_strdup_printf("there is no guest %s",
                                                 guest);

        return ctl_say(CTL_FAILED, words);
    }
    ctl_print(ctl_table(columns, G_N_ELEMENTS(columns), rows, width));
    return CTL_DONE;
}

int ctl_protection(const CtlContext *context, int argc, char **argv)
{
    gint width = -1;
    const GOptionEntry options[] = {
        { "width", 'w', 0, G_OPTION_ARG_INT, &width, "columns of the screen "
          "(default: of the terminal; 0: no limit)", "N" },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(JsonNode) answer = NULL;
    GError *error = NULL;
    int status = CTL_DONE;
    CtlQmp *qmp;

    if (!ctl_options(&argc, &argv, options, "[GUEST]", "Print how guests are "
                     "covered against memory errors, in percent of what they "
                     "hold, and what became of errors.", &status)) {
        return status;
    }
    if (argc > 2) {
        return ctl_say(CTL_USAGE, "one guest at a time, or all, can be shown");
    }
    qmp = ctl_connect(context, &status);
    if (!qmp) {
        return status;
    }
    answer = ctl_qmp_run(qmp, "query-memsched-protection", NULL, &error);
    ctl_qmp_close(qmp);
    if (!answer) {
        return ctl_fail(error);
    }
    return print(JSON_NODE_HOLDS_ARRAY(answer) ? json_node_get_array(answer)
                                               : NULL,
                 argc == 2 ? argv[1] : NULL,
                 width < 0 ? ctl_terminal_width() : (unsigned)width);
}
