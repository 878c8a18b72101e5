/*
 * One sentence for whoever asked
 *
 * The text of a refusal is made where its figures are, and travels in a buffer
 * of the caller's.  Pure; any thread, any lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "message.h"

void ms_say_va(MemSchedMessage *message, const char *format, va_list args)
{
    if (message) {
        g_vsnprintf(message->text, sizeof(message->text), format, args);
    }
}

void ms_say(MemSchedMessage *message, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    ms_say_va(message, format, args);
    va_end(args);
}
