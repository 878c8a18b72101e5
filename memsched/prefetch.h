/*
 * Claimed pages put into a guest before it touches them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PREFETCH_H
#define MEMSCHED_PREFETCH_H

#include <stdbool.h>

#include "memsched/memsched.h"

/*
 * Fill pages of @client that have no frame and that it has not asked for, out
 * of its claim, up to @pages: holes and reported pages (H, P), then known pages
 * (T, credited to nobody).  What finds no such place stays claimed.  Queued for
 * the mover; returns at once; adds to an earlier wish.
 */
void ms_prefetch(MemSchedClient *client, uint64_t pages);

/*
 * The mover's part of it: some of the wish; true while more is to do now.
 * *ret_later: nothing could be done now, and there is still a claim.
 */
bool ms_prefetch_step(MemSchedClient *client, bool *ret_later);

#endif /* MEMSCHED_PREFETCH_H */
