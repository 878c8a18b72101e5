/*
 * Sizes, tables, absent members, samples of memschedctl
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdbool.h>
#include <string.h>

#include "ctl-export.h"
#include "ctl-plot.h"
#include "ctl-size.h"
#include "ctl-table.h"
#include "ctl-view.h"

/* ---- sizes ---- */

static void test_sizes_are_read_with_their_suffix(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        { "1", 1 }, { "4096", 4096 }, { "64M", 64 << 20 }, { "1.5G",
        UINT64_C(3) << 29 }, { "2k", 2048 }, { "1T", UINT64_C(1) << 40 },
        { "3MiB", 3 << 20 }, { "0.5K", 512 },
    };
    static const char *const bad[] = {
        "", "M", "-1", "-1M", "1X", "1MB", "0", "0.1", "nan", "inf", "0x10",
        "1 M", "9999999999T", "1e400", "1.0000001K",
    };
    uint64_t bytes = 7;

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(ctl_size_parse(good[i].text, &bytes));
        g_assert_cmpuint(bytes, ==, good[i].bytes);
    }
    bytes = 7;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("'%s'", bad[i]);
        g_assert_false(ctl_size_parse(bad[i], &bytes));
    }
    g_assert_cmpuint(bytes, ==, 7);
}

static void check_mib(uint64_t bytes, const char *text)
{
    g_autofree char *mib = ctl_mib(bytes);

    g_assert_cmpstr(mib, ==, text);
}

static void test_mib_are_rounded_to_the_nearest(void)
{
    check_mib(0, "0");
    check_mib((1 << 19) - 1, "0");
    check_mib(1 << 19, "1");
    check_mib(UINT64_C(5) << 40, "5242880");
    check_mib(CTL_NONE, "-");
}

/* ---- tables ---- */

static const CtlColumn columns[] = {
    { "NAME", false, 0 }, { "A", true, 1 }, { "LONGER", true, 3 },
    { "B", true, 2 },
};

static GPtrArray *two_rows(void)
{
    static const char *const rows[2][5] = {
        { "web", "1", "22", "-", NULL }, { "database", "333", "4", "-", NULL },
    };
    GPtrArray *array =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);

    for (unsigned i = 0; i < 2; i++) {
        g_ptr_array_add(array, g_strdupv((char **)rows[i]));
    }
    return array;
}

static void check_table(unsigned width, const char *head, const char *row)
{
    g_autoptr(GPtrArray) rows = two_rows();
    g_autoptr(GPtrArray) lines = ctl_table(columns, 4, rows, width);

    g_assert_cmpuint(lines->len, ==, 3);
    g_assert_cmpstr(g_ptr_array_index(lines, 0), ==, head);
    g_assert_cmpstr(g_ptr_array_index(lines, 2), ==, row);
}

static void test_table_is_aligned_and_leaves_empty_columns_out(void)
{
    check_table(0, "NAME        A  LONGER", "database  333       4");
    check_table(21, "NAME        A  LONGER", "database  333       4");
}

static void test_narrow_table_leaves_out_what_ranks_last_then_is_cut(void)
{
    check_table(20, "NAME        A", "database  333");
    check_table(12, "NAME", "database");
    check_table(4, "NAME", "data");
}

static void test_names_do_not_drive_the_terminal(void)
{
    g_autofree char *clean = ctl_clean("a\033[2Jb\tc\x80\xc3\xa9");

    g_assert_null(strchr(clean, '\033'));
    g_assert_null(strchr(clean, '\t'));
    g_assert_true(g_utf8_validate(clean, -1, NULL));
    g_assert_true(g_str_has_suffix(clean, "\xc3\xa9"));
}

/* ---- samples ---- */

static CtlSample *sample(const char *guests)
{
    g_autofree char *line = g_strdup_printf(
        "{\"time\": 1.5, \"scheduler\": {\"id\": \"s\", \"state\": \"hard\", "
        "\"pressure\": 150, \"pool\": {\"free\": 1048576}}, \"guests\": %s}",
        guests);
    GError *error = NULL;
    CtlSample *s = ctl_sample_parse(line, &error);

    g_assert_no_error(error);
    return s;
}

static void test_members_of_the_wrong_type_are_absent(void)
{
    g_autoptr(JsonNode) node = json_from_string(
        "{\"a\": \"x\", \"b\": [1], \"c\": null, \"d\": 1.5, \"e\": -1, "
        "\"f\": true, \"g\": {\"h\": 5}}", NULL);
    JsonObject *o = json_node_get_object(node);

    for (const char *name = "abcdefz"; *name; name++) {
        const char text[] = { *name, '\0' };

        g_assert_cmpuint(ctl_number(o, text), ==, CTL_NONE);
        g_assert_null(ctl_object(o, text));
        g_assert_cmpuint(ctl_path(o, text), ==, CTL_NONE);
    }
    g_assert_cmpuint(ctl_path(o, "g.h"), ==, 5);
    g_assert_cmpuint(ctl_path(o, "g.h.i"), ==, CTL_NONE);
    g_assert_cmpuint(ctl_path(o, ""), ==, CTL_NONE);
    g_assert_false(ctl_flag(o, "a"));
    g_assert_true(ctl_flag(o, "f"));
    g_assert_null(ctl_text(o, "f"));
    g_assert_cmpuint(ctl_number(NULL, "a"), ==, CTL_NONE);
    g_assert_null(ctl_element(ctl_array(o, "b"), 0));
    g_assert_null(ctl_element(NULL, 0));
}

/* Whatever guests are, no view fails. */
static void test_nonsense_leaves_holes_in_every_view(void)
{
    static const char *const guests[] = {
        "[]", "[1, null, \"x\"]", "[{}]", "[{\"id\": 5}]",
        "[{\"id\": \"a\", \"memory\": 7}]",
        "[{\"id\": \"a\", \"memory\": {\"allocated\": \"much\"}}]",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++) {
        CtlSample *s = sample(guests[i]);
        g_autoptr(GPtrArray) table = ctl_view_guests(s, s, NULL, 80);
        g_autoptr(GPtrArray) host = ctl_view_host(s, s, 80);
        g_autoptr(GPtrArray) samples = g_ptr_array_new();
        g_autoptr(GString) out = g_string_new(NULL);

        g_ptr_array_add(samples, s);
        g_ptr_array_add(samples, s);
        ctl_csv_sample(out, s);
        ctl_metrics(out, s);
        ctl_page(out, samples, "title");
        g_assert_cmpuint(host->len, ==, 3);
        g_assert_cmpuint(table->len, >=, 1);
        ctl_sample_free(s);
    }
}

static void test_order_is_by_value_and_stable(void)
{
    CtlSample *s = sample(
        "[{\"id\": \"a\", \"memory\": {\"allocated\": 9000000}},"
        " {\"id\": \"b\", \"memory\": {\"allocated\": 10000000}},"
        " {\"id\": \"c\", \"memory\": {\"allocated\": 9000000}}]");
    CtlOrder order = { ctl_field_find(ctl_guest_fields, "allocated"), false };
    const char *want[2] = { "bac", "acb" };

    for (unsigned up = 0; up < 2; up++) {
        g_autoptr(GPtrArray) lines = NULL;

        order.ascending = up;
        lines = ctl_view_guests(s, NULL, &order, 0);
        for (unsigned i = 0; i < 3; i++) {
            g_assert_cmpint(*(char *)g_ptr_array_index(lines, i + 1), ==,
                            want[up][i]);
        }
    }
    ctl_sample_free(s);
}

static void test_lines_of_a_recording_that_are_none_are_refused(void)
{
    static const char *const bad[] = {
        "", "x", "[]", "{}", "{\"time\": \"soon\", \"guests\": []}",
        "{\"time\": 1}", "{\"time\": 1, \"guests\": {}}",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(ctl_sample_parse(bad[i], &error));
        g_assert_nonnull(strstr(error->message, "is no sample"));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sizes-are-read-with-their-suffix",
                    test_sizes_are_read_with_their_suffix);
    g_test_add_func("/mib-are-rounded-to-the-nearest",
                    test_mib_are_rounded_to_the_nearest);
    g_test_add_func("/table-is-aligned-and-leaves-empty-columns-out",
                    test_table_is_aligned_and_leaves_empty_columns_out);
    g_test_add_func("/narrow-table-leaves-out-what-ranks-last-then-is-cut",
                    test_narrow_table_leaves_out_what_ranks_last_then_is_cut);
    g_test_add_func("/names-do-not-drive-the-terminal",
                    test_names_do_not_drive_the_terminal);
    g_test_add_func("/members-of-the-wrong-type-are-absent",
                    test_members_of_the_wrong_type_are_absent);
    g_test_add_func("/nonsense-leaves-holes-in-every-view",
                    test_nonsense_leaves_holes_in_every_view);
    g_test_add_func("/order-is-by-value-and-stable",
                    test_order_is_by_value_and_stable);
    g_test_add_func("/lines-of-a-recording-that-are-none-are-refused",
                    test_lines_of_a_recording_that_are_none_are_refused);
    return g_test_run();
}
