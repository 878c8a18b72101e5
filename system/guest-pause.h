/*
 * A guest that stalls is paused whole
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_GUEST_PAUSE_H
#define SYSTEM_GUEST_PAUSE_H

#include "memsched/types.h"

/*
 * From now on the scheduler may pause this instance.  Once, under the BQL, when
 * the main loop's AioContext is there.
 */
void guest_pause_init(MemSchedClient *client);

/* What pauses may be undone by: looks again when the main loop runs next. */
void guest_pause_check(void);

#endif
