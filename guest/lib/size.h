/*
 * Sizes as people write them
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

#ifndef BX_SIZE_H
#define BX_SIZE_H

#include <stdint.h>

/*
 * "64M", "64MiB", "4096": whole numbers, binary units K, M, G, T.  At most
 * 2^56.  -EINVAL for anything else.
 */
int bx_size_parse(const char *text, uint64_t *ret_bytes);

#endif
