/*
 * Page numbers of a balloon request, and the ranges that they make
 *
 * No QEMU header: unit tests and the fuzzer build this alone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_BALLOON_EX_PFNS_H
#define HW_VIRTIO_BALLOON_EX_PFNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memsched/memsched.h"

/*
 * Turn @bytes bytes of untrusted 32-bit page numbers into guest physical
 * ranges: sorted, disjoint, no two of them adjacent, each page once.
 *
 * @big_endian tells how the words lie (a legacy driver uses the guest's
 * order).  Bytes behind the last whole word are not looked at.  @pfns is room
 * to work in; it and @ranges have @bytes / 4 members.  Returns the number of
 * ranges.
 */
size_t balloon_ex_pfns_to_ranges(const uint8_t *untrusted_words, size_t bytes,
                                 bool big_endian, uint32_t *pfns,
                                 MemSchedGpaRange *ranges);

/*
 * The whole pages of [gpa, gpa + bytes), which is untrusted: false where
 * there is none, or where the sum does not fit 64 bits.
 */
bool balloon_ex_whole_pages(uint64_t untrusted_gpa, uint64_t untrusted_bytes,
                            MemSchedGpaRange *ret_range);

#endif
