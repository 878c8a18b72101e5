/*
 * Putting pool pages into a guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_POPULATE_H
#define MEMSCHED_POPULATE_H

#include "ledger.h"
#include "memsched/memsched.h"
#include "pageset.h"

/*
 * Fill holes (H) of @client out of its claim, up to @pages, ahead of use; what
 * finds no hole stays claimed.  Queued for the mover; returns at once; adds to
 * an earlier wish.
 */
void ms_populate_claim(MemSchedClient *client, uint64_t pages);

/* The mover's part of it: some of the wish; true while more is to do. */
bool ms_populate_claim_step(MemSchedClient *client);

/*
 * Populate members of @want in frame @frame of @region that are holes now
 * (states of @mask), as many as the grant rule gives at once, to all of which
 * the caller has entered the region (no lock held).  Returns how many.
 */
uint64_t ms_populate_frame(MemSchedRegion *region, uint64_t frame,
                           const MsPageSet *want, unsigned mask,
                           unsigned grant_flags, uint64_t keep);

#endif /* MEMSCHED_POPULATE_H */
