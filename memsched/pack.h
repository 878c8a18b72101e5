/*
 * Compression of one page
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_PACK_H
#define MEMSCHED_PACK_H

#include "memsched/types.h"

/*
 * What one thread needs to compress and to bring back: a context is used by one
 * thread at a time.
 */
typedef struct MsPack MsPack;

MsPack *ms_pack_new(void);
void ms_pack_free(MsPack *pack);        /* NULL is fine */

/*
 * What @page becomes, at most @most bytes in @ret_data: its length, or 0: it
 * does not get that short.
 */
unsigned ms_pack(MsPack *pack, const void *page, void *ret_data,
                 unsigned most);

/* The page again: 0, or -EBADMSG: @data is not what ms_pack() made. */
int ms_unpack(MsPack *pack, const void *data, unsigned bytes, void *ret_page);

#endif /* MEMSCHED_PACK_H */
