/*
 * Sizes: read with a suffix, written for people
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ctl-json.h"
#include "ctl-size.h"

#define MIB (UINT64_C(1) << 20)

static bool suffix_bits(const char *suffix, unsigned *ret_bits)
{
    static const char letters[] = "KMGT";
    const char *at;

    if (*suffix == '\0') {
        *ret_bits = 0;
        return true;
    }
    at = strchr(letters, g_ascii_toupper(*suffix));
    if (!at || !(suffix[1] == '\0' || g_ascii_strcasecmp(suffix + 1, "iB")
                 == 0)) {
        return false;
    }
    *ret_bits = 10 * (1 + (at - letters));
    return true;
}

bool ctl_size_parse(const char *text, uint64_t *ret_bytes)
{
    double value;
    unsigned bits;
    char *end;

    if (!g_ascii_isdigit(*text) || g_str_has_prefix(text, "0x")) {
        return false;
    }
    value = g_ascii_strtod(text, &end);
    if (!suffix_bits(end, &bits)) {
        return false;
    }
    value *= (double)(UINT64_C(1) << bits);
    if (!(value >= 1 && value < 0x1p62) || value != floor(value)) {
        return false;
    }
    *ret_bytes = (uint64_t)value;
    return true;
}

char *ctl_mib(uint64_t bytes)
{
    if (bytes == CTL_NONE) {
        return g_strdup("-");
    }
    return g_strdup_printf("%" PRIu64,
                           bytes / MIB + (bytes % MIB >= MIB / 2));
}

char *ctl_count(uint64_t number)
{
    return number == CTL_NONE ? g_strdup("-")
                              : g_strdup_printf("%" PRIu64, number);
}
