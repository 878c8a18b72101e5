/*
 * Sizes: read with a suffix, written for people
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CTL_SIZE_H
#define CTL_SIZE_H

#include <glib.h>
#include <stdint.h>
#include <stdbool.h>

/*
 * Bytes out of "64M", "1.5G", "4096" (bytes); suffixes K, M, G, T, powers of
 * 1,024.  False where it is none of that, or less than a byte.
 */
bool ctl_size_parse(const char *text, uint64_t *ret_bytes);

/* MiB rounded, or "-" for CTL_NONE; to be freed. */
char *ctl_mib(uint64_t bytes);

/* A number, or "-" for CTL_NONE; to be freed. */
char *ctl_count(uint64_t number);

#endif /* CTL_SIZE_H */
