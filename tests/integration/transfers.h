/*
 * Transfers between pretended guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_TRANSFERS_H
#define TESTS_TRANSFERS_H

#include "memsched/memsched.h"

/* Must start; returns its number. */
uint64_t transfer_start(MemSched *ms, const char *from, const char *to,
                        uint64_t bytes, MemSchedSource source,
                        unsigned deadline_ms);
MemSchedTransferInfo transfer_info(MemSched *ms, uint64_t id);
/* Wait (bounded) for its end. */
MemSchedTransferInfo transfer_wait(MemSched *ms, uint64_t id);

/* All of it moved, without a reason why not; or say what came of it. */
void transfer_assert_completed(const MemSchedTransferInfo *t);

#endif /* TESTS_TRANSFERS_H */
