/*
 * A huge page of which a part has gone: split for good, every page a frame
 *
 * Threads: any; what is torn is the caller's, so that nobody moves it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TORN_H
#define MEMSCHED_TORN_H

#include "pagemap.h"

/*
 * The aligned 2 MiB at @frame were a huge page, of which a part, but not
 * @page, was discarded or broke.  @ret_lost: pages that the split has mapped to
 * the kernel's zero page; none where the kernel does not tell.
 */
void ms_torn_split(const MsPagemap *map, char *frame, unsigned page,
                   MsPageSet *ret_lost);

/* They get frames again, of zeros.  None of them is write-protected. */
void ms_torn_touch(char *frame, const MsPageSet *lost);

#endif /* MEMSCHED_TORN_H */
