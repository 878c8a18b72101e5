/*
 * Sizes as people write them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#include "size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_MAX (UINT64_C(1) << 56)

int bx_size_parse(const char *text, uint64_t *ret_bytes)
{
    static const char units[] = "kKmMgGtT";
    uint64_t bytes, factor = 1;
    const char *unit;
    char *end;

    /* strtoull() would take a sign and leading space. */
    if (text[0] < '0' || text[0] > '9') {
        return -EINVAL;
    }
    errno = 0;
    bytes = strtoull(text, &end, 10);
    if (errno) {
        return -EINVAL;
    }
    unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        factor = UINT64_C(1) << (10 * ((unit - units) / 2 + 1));
        end++;
        if (strcmp(end, "iB") == 0) {
            end += 2;
        }
    }
    if (*end || bytes > BYTES_MAX / factor) {
        return -EINVAL;
    }
    *ret_bytes = bytes * factor;
    return 0;
}
