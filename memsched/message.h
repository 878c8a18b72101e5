/*
 * One sentence for whoever asked
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_MESSAGE_H
#define MEMSCHED_MESSAGE_H

#include <glib.h>
#include <stdarg.h>

#include "memsched/memsched.h"

/* Cut to what a message holds; nothing is done with NULL. */
void ms_say(MemSchedMessage *message, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
void ms_say_va(MemSchedMessage *message, const char *format, va_list args)
    G_GNUC_PRINTF(2, 0);

#endif /* MEMSCHED_MESSAGE_H */
