/*
 * What tests of memory errors share: a handler of SIGBUS that asks the library,
 * protection that has settled, errors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_ERRORS_H
#define TESTS_ERRORS_H

#include "guest.h"

/* Signals since start, by what the library said. */
extern _Atomic unsigned errors_fixed, errors_lost;

/* A scheduler with allow_inject, and the handler. */
MemSched *errors_start(uint64_t pool_bytes);

/* Protect; cool_ms 1, as fast as it goes.  @group 0: off. */
void errors_protect(Guest *guest, MemSchedScheme scheme, unsigned group);
/* The same, and the scrubber reads so many bytes a second. */
void errors_protect_and_scrub(Guest *guest, MemSchedScheme scheme,
                              unsigned group, uint64_t scrub_bytes_per_s);
/* Wait (bounded) until @pages pages are covered. */
void errors_wait_covered(Guest *guest, uint64_t pages);
MemSchedProtectionInfo errors_query(Guest *guest);

void errors_inject(Guest *guest, uint64_t page);
/* The page is broken, and nobody has told the library. */
void errors_break(Guest *guest, uint64_t page);

/* Another page of the same stripe: that of the k-th other member. */
uint64_t errors_row_mate(Guest *guest, uint64_t page, unsigned k);

/* Books, parity and checksums are right. */
void errors_check(Guest *guest);

#endif /* TESTS_ERRORS_H */
