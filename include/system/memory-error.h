/*
 * Errors in this instance's RAM that cannot be repaired
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_MEMORY_ERROR_H
#define SYSTEM_MEMORY_ERROR_H

/* Under the BQL, before the first RAM is registered; once more is fine. */
void memory_error_init(void);

/* Instance 0: a page of guest @id is lost, and nobody has touched it. */
void memory_error_lost_of(const char *id, void *host);

/* As InstanceHooks.memory_lost says. */
void memory_error_lost(void *host, void *context);

/*
 * memory-error-unwind.c, in a vCPU's thread under TCG, in a signal handler
 * with @context: take the vCPU back to before the access that the signal has
 * interrupted.  False where that cannot be done.
 */
bool memory_error_rewind(void *context);

/* After that: leave the access, and the handler. */
void G_NORETURN memory_error_leave(void);

#endif
