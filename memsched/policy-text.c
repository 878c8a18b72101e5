/*
 * A snapshot as text, and back
 *
 * Owns the format: a line is a name, a blank and a number without sign; "guest"
 * alone begins the next guest.  Names are members of the structs, so that
 * whoever reads a recording needs no other document than policy.h.
 *
 *     snapshot 1
 *     policy 2
 *     budget 1048576
 *     ...
 *     guest
 *     allocated 65536
 *     ...
 *
 * What a line leaves out is zero: a snapshot written by hand is short.  Unknown
 * names are refused, since a member that was ignored would replay wrongly.
 *
 * Pure.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "policy-int.h"

#define HEADER "snapshot 1"
/* A host of so many guests is a mistake in the file. */
#define GUESTS_MOST 100000u

typedef struct Member {
    const char *name;
    size_t offset, size;
} Member;

#define INPUT(m) { #m, offsetof(MsPolicyInput, m), \
                   sizeof(((MsPolicyInput *)0)->m) }
#define GUEST(m) { #m, offsetof(MsPolicyGuest, m), \
                   sizeof(((MsPolicyGuest *)0)->m) }

static const Member input_members[] = {
    INPUT(policy), INPUT(idle_tax_pct), INPUT(budget), INPUT(min_free),
    INPUT(free), INPUT(state), INPUT(interval_ms), INPUT(now_ns),
    INPUT(tuning.headroom_permille), INPUT(tuning.headroom_pages),
    INPUT(tuning.dead_band_permille), INPUT(tuning.step_permille),
    INPUT(tuning.least_pages), INPUT(tuning.flushes_per_s),
    INPUT(tuning.slow_bytes_per_s), INPUT(tuning.slow_windows),
    INPUT(tuning.returned_permille), INPUT(tuning.rest_ms),
    INPUT(tuning.rest_most_ms),
    { NULL, 0, 0 }
};

static const Member guest_members[] = {
    GUEST(allocated), GUEST(min), GUEST(max), GUEST(active), GUEST(waiting),
    GUEST(incoming), GUEST(shares), GUEST(ballooned), GUEST(outgoing),
    GUEST(captured), GUEST(returned), GUEST(oom_deflates), GUEST(fixed),
    GUEST(held),
    GUEST(memory.known), GUEST(memory.allocated), GUEST(memory.captured),
    GUEST(memory.returned), GUEST(memory.oom_deflates),
    GUEST(memory.window_ns), GUEST(memory.window_pages),
    GUEST(memory.slow_windows), GUEST(memory.unresponsive),
    GUEST(memory.retry_ns), GUEST(memory.retries),
    GUEST(memory.rate_bytes_per_s), GUEST(memory.rest_ns),
    GUEST(memory.rests), GUEST(memory.captured_late),
    GUEST(memory.returned_late), GUEST(memory.calm_ns),
    GUEST(memory.pressed_ticks), GUEST(memory.throttled),
    GUEST(memory.was_short), GUEST(memory.idle_ns), GUEST(memory.growth),
    { NULL, 0, 0 }
};

/* ---- members ---- */

static uint64_t load(const void *base, const Member *m)
{
    const char *at = (const char *)base + m->offset;
    uint64_t wide = 0;
    uint32_t word = 0;

    if (m->size == sizeof(wide)) {
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
    if (m->size == sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        return word;
    }
    return *(const bool *)at;
}

/* False where the member has no room for @value. */
static bool store(void *base, const Member *m, uint64_t value)
{
    char *at = (char *)base + m->offset;
    uint32_t word = (uint32_t)value;

    if (m->size == sizeof(value)) {
        memcpy(at, &value, sizeof(value));
        return true;
    }
    if (m->size == sizeof(word)) {
        memcpy(at, &word, sizeof(word));
        return value <= UINT32_MAX;
    }
    *(bool *)at = value;
    return value <= 1;
}

static void dump(GString *out, const Member *members, const void *base)
{
    for (const Member *m = members; m->name; m++) {
        uint64_t value = load(base, m);

        if (value > 0) {
            g_string_append_printf(out, "%s %" PRIu64 "\n", m->name, value);
        }
    }
}

char *ms_policy_dump(const MsPolicyInput *input, const MsPolicyGuest *guests,
                     size_t count)
{
    GString *out = g_string_new(HEADER "\n");

    dump(out, input_members, input);
    for (size_t i = 0; i < count; i++) {
        g_string_append(out, "guest\n");
        dump(out, guest_members, &guests[i]);
    }
    return g_string_free(out, FALSE);
}

/* ---- back ---- */

static const char *read_line(const char *line, const Member *members,
                             void *base)
{
    const char *blank = strchr(line, ' ');
    size_t length = blank ? (size_t)(blank - line) : strlen(line);
    uint64_t value;

    if (!blank || !g_ascii_string_to_unsigned(blank + 1, 10, 0, UINT64_MAX,
                                              &value, NULL)) {
        return "is no name and number";
    }
    for (const Member *m = members; m->name; m++) {
        if (strlen(m->name) == length && memcmp(m->name, line, length) == 0) {
            return store(base, m, value) ? NULL : "has too large a number";
        }
    }
    return "has a name that is not known";
}

static const char *read_lines(char **lines, MsPolicyInput *input,
                              GArray *guests, unsigned *ret_line)
{
    const char *bad = NULL;

    *ret_line = 1;
    if (!lines[0] || strcmp(lines[0], HEADER) != 0) {
        return "is not \"" HEADER "\"";
    }
    for (unsigned i = 1; lines[i] && !bad; i++) {
        *ret_line = i + 1;
        if (lines[i][0] == '\0' || lines[i][0] == '#') {
            continue;
        }
        if (strcmp(lines[i], "guest") == 0) {
            g_array_set_size(guests, guests->len + 1);
            bad = guests->len > GUESTS_MOST ? "is one guest too many" : NULL;
        } else if (guests->len == 0) {
            bad = read_line(lines[i], input_members, input);
        } else {
            bad = read_line(lines[i], guest_members,
                            &g_array_index(guests, MsPolicyGuest,
                                           guests->len - 1));
        }
    }
    return bad;
}

int ms_policy_parse(const char *text, MsPolicyInput *ret_input,
                    MsPolicyGuest **ret_guests, size_t *ret_count,
                    MemSchedMessage *ret_message)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GArray *guests = g_array_new(FALSE, TRUE, sizeof(MsPolicyGuest));
    MsPolicyInput input = { 0 };
    unsigned line;
    const char *bad = read_lines(lines, &input, guests, &line);

    if (bad) {
        if (ret_message) {
            g_snprintf(ret_message->text, sizeof(ret_message->text),
                       "line %u of the snapshot %s", line, bad);
        }
        g_array_free(guests, TRUE);
        return -EINVAL;
    }
    *ret_input = input;
    *ret_count = guests->len;
    *ret_guests = (MsPolicyGuest *)(void *)g_array_free(guests, FALSE);
    return 0;
}
