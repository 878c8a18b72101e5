/*
 * Options of balloon-exd: the command line and the file
 *
 * An option has one name, on the command line (--max-fraction=50) and in the
 * file (max-fraction=50), and one function that reads its value.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "options.h"

#include "size.h"
#include "standard-headers/linux/virtio_balloon_ex.h"

#define GROUP "balloon-exd"

static bool set_number(const char *value, unsigned min, unsigned max,
                       int base, unsigned *ret_number)
{
    uint64_t number;

    if (!g_ascii_string_to_unsigned(value, base, min, max, &number, NULL)) {
        return false;
    }
    *ret_number = number;
    return true;
}

static bool set_bool(const char *value, bool *ret_flag)
{
    /* On the command line a flag has no value. */
    if (!value || g_str_equal(value, "yes") || g_str_equal(value, "on") ||
        g_str_equal(value, "true")) {
        *ret_flag = true;
        return true;
    }
    *ret_flag = false;
    return g_str_equal(value, "no") || g_str_equal(value, "off") ||
           g_str_equal(value, "false");
}

static bool set_string(const char *value, char **string)
{
    if (!value[0]) {
        return false;
    }
    g_free(*string);
    *string = g_strdup(value);
    return true;
}

static bool set_size(const char *value, uint64_t min, uint64_t *ret_bytes)
{
    uint64_t bytes;

    if (bx_size_parse(value, &bytes) < 0 || bytes < min) {
        return false;
    }
    *ret_bytes = bytes;
    return true;
}

static bool set_granule(const char *value, uint32_t *ret_bytes)
{
    uint64_t bytes;

    if (bx_size_parse(value, &bytes) < 0 ||
        (bytes != VBX_PAGE_BYTES && bytes != VBX_GRANULE_BYTES)) {
        return false;
    }
    *ret_bytes = bytes;
    return true;
}

static bool set_not(const char *value, bool *ret_flag)
{
    bool flag;

    if (!set_bool(value, &flag)) {
        return false;
    }
    *ret_flag = !flag;
    return true;
}

/* Name, what a value is, and what is said in --help. */
typedef struct Known {
    const char *name, *value, *help;
    char letter;
} Known;

static const Known known[] = {
    { "port", "PATH", "the host's port, or a Unix socket (default: look for "
      VIRTIO_BALLOON_EX_PORT_NAME ")", 'p' },
    { "run-dir", "DIR", "socket and condition page (default: "
      "/run/balloon-ex)", 0 },
    { "socket-mode", "MODE", "of the socket, octal (default: 0660)", 0 },
    { "socket-group", "GROUP", "of the socket", 0 },
    { "max-fraction", "PERCENT", "of the guest's RAM to give at most "
      "(default: 75)", 0 },
    { "keep-available", "SIZE", "that must stay available to the guest "
      "(default: a tenth of RAM, at least 64M)", 0 },
    { "granule", "4K|2M", "give in no smaller units (default: 4K)", 0 },
    { "step", "SIZE", "set aside between two looks at the guest (default: "
      "16M)", 0 },
    { "stock-time", "SECONDS", "to keep memory of an earlier session "
      "(default: 30)", 0 },
    { "no-huge", NULL, "use no huge pages", 0 },
    { "no-hints", NULL, "do not tell the host where pages are", 0 },
    { "root", "DIR", "look for /proc, /sys and /dev in DIR (for tests)", 0 },
    { "verbose", NULL, "say what is done", 'v' },
    { "version", NULL, "print the version", 0 },
};

static bool set(AgentOptions *o, const char *name, const char *value)
{
    if (g_str_equal(name, "port")) {
        return set_string(value, &o->port);
    } else if (g_str_equal(name, "run-dir")) {
        return set_string(value, &o->run_dir);
    } else if (g_str_equal(name, "root")) {
        return set_string(value, &o->root);
    } else if (g_str_equal(name, "socket-group")) {
        return set_string(value, &o->socket_group);
    } else if (g_str_equal(name, "socket-mode")) {
        return set_number(value, 0, 0777, 8, &o->socket_mode);
    } else if (g_str_equal(name, "max-fraction")) {
        return set_number(value, 0, 95, 10, &o->max_fraction_percent);
    } else if (g_str_equal(name, "keep-available")) {
        return set_size(value, 16 << 20, &o->keep_available_bytes);
    } else if (g_str_equal(name, "granule")) {
        return set_granule(value, &o->granule_bytes);
    } else if (g_str_equal(name, "step")) {
        return set_size(value, VBX_GRANULE_BYTES, &o->step_bytes);
    } else if (g_str_equal(name, "stock-time")) {
        return set_number(value, 0, 3600, 10, &o->stock_seconds);
    } else if (g_str_equal(name, "no-huge")) {
        return set_not(value, &o->huge);
    } else if (g_str_equal(name, "no-hints")) {
        return set_not(value, &o->hints);
    } else if (g_str_equal(name, "verbose")) {
        return set_bool(value, &o->verbose);
    } else if (g_str_equal(name, "version")) {
        return set_bool(value, &o->version);
    }
    return false;
}

static const Known *find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_str_equal(known[i].name, name)) {
            return &known[i];
        }
    }
    return NULL;
}

static char *complaint(const char *where, const char *name, const char *value)
{
    const Known *option = find(name);

    if (!option) {
        return g_strdup_printf("%s: there is no option %s", where, name);
    }
    return g_strdup_printf("%s: %s is not a value for %s, %s", where, value,
                           name, option->help);
}

static gboolean read_file(AgentOptions *o, bool must_exist, char **ret_error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = NULL;

    if (!g_key_file_load_from_file(file, o->config, G_KEY_FILE_NONE,
                                   &error)) {
        if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT) &&
            !must_exist) {
            return TRUE;
        }
        *ret_error = g_strdup_printf("%s: %s", o->config, error->message);
        return FALSE;
    }
    names = g_key_file_get_keys(file, GROUP, NULL, NULL);
    if (!names) {
        *ret_error = g_strdup_printf("%s: there is no section [" GROUP "]",
                                     o->config);
        return FALSE;
    }
    for (int i = 0; names[i]; i++) {
        g_autofree char *value = g_key_file_get_string(file, GROUP, names[i],
                                                       NULL);

        if (!value || !set(o, names[i], value)) {
            *ret_error = complaint(o->config, names[i], value ? value : "?");
            return FALSE;
        }
    }
    return TRUE;
}

/* What the command line says waits until the file has been read. */
typedef struct Given {
    const char *name;
    char *value;
} Given;

static void given_clear(gpointer data)
{
    g_free(((Given *)data)->value);
}

static gboolean take_argument(const gchar *name, const gchar *value,
                              gpointer data, GError **error)
{
    GArray *given = data;
    const Known *option = name[1] == '-' ? find(name + 2) : NULL;

    for (size_t i = 0; !option && i < G_N_ELEMENTS(known); i++) {
        option = known[i].letter == name[1] ? &known[i] : NULL;
    }
    if (option) {
        Given one = { option->name, g_strdup(value) };

        g_array_append_val(given, one);
    }
    return option != NULL;
}

static gboolean parse_arguments(int *argc, char ***argv, AgentOptions *o,
                                GArray *given, char **ret_error)
{
    GOptionEntry entries[G_N_ELEMENTS(known) + 2] = { { NULL } };
    GOptionContext *context = g_option_context_new(NULL);
    GOptionGroup *group = g_option_group_new(GROUP, "", "", given, NULL);
    GError *error = NULL;
    gboolean good;

    entries[0] = (GOptionEntry) {
        "config", 'c', 0, G_OPTION_ARG_FILENAME, &o->config,
        "options, one a line (default: " AGENT_CONFIG ")", "FILE"
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        entries[i + 1] = (GOptionEntry) {
            known[i].name, known[i].letter,
            known[i].value ? 0 : G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK,
            take_argument, known[i].help, known[i].value
        };
    }
    g_option_group_add_entries(group, entries);
    g_option_context_set_main_group(context, group);
    g_option_context_set_summary(context,
        "Give this guest's memory to the host when it asks, and tell programs "
        "how much\nthere is.");
    good = g_option_context_parse(context, argc, argv, &error);
    if (good && *argc > 1) {
        *ret_error = g_strdup_printf("%s is not an option", (*argv)[1]);
        good = FALSE;
    } else if (!good) {
        *ret_error = g_strdup(error->message);
        g_error_free(error);
    }
    g_option_context_free(context);
    return good;
}

static void set_defaults(AgentOptions *o)
{
    *o = (AgentOptions) {
        .run_dir = g_strdup("/run/balloon-ex"),
        .root = g_strdup(""),
        .socket_mode = 0660,
        .max_fraction_percent = 75,
        .granule_bytes = VBX_PAGE_BYTES,
        .step_bytes = 16 << 20,
        .stock_seconds = 30,
        .huge = true,
        .hints = true,
    };
}

gboolean agent_options_parse(int *argc, char ***argv,
                             AgentOptions *ret_options, char **ret_error)
{
    GArray *given = g_array_new(FALSE, FALSE, sizeof(Given));
    gboolean good, named;

    g_array_set_clear_func(given, given_clear);
    set_defaults(ret_options);
    good = parse_arguments(argc, argv, ret_options, given, ret_error);
    named = ret_options->config != NULL;
    if (!named) {
        ret_options->config = g_strdup(AGENT_CONFIG);
    }
    good = good && read_file(ret_options, named, ret_error);
    for (guint i = 0; good && i < given->len; i++) {
        Given *one = &g_array_index(given, Given, i);

        if (!set(ret_options, one->name, one->value)) {
            *ret_error = complaint("command line", one->name, one->value);
            good = FALSE;
        }
    }
    g_array_free(given, TRUE);
    return good;
}

void agent_options_clear(AgentOptions *options)
{
    g_free(options->config);
    g_free(options->port);
    g_free(options->run_dir);
    g_free(options->root);
    g_free(options->socket_group);
}
