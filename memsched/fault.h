/*
 * Threads that serve missing faults
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_FAULT_H
#define MEMSCHED_FAULT_H

#include "memsched/memsched.h"

typedef struct MsFaults MsFaults;

int ms_faults_start(MemSched *ms, unsigned threads, MsFaults **ret_faults);
void ms_faults_stop(MsFaults *faults);  /* NULL is fine */

/* Somebody may get more pages than before: try waiting faults again. */
void ms_faults_retry(MsFaults *faults); /* any lock may be held */

/*
 * The list of clients changed.  With @wait, no fault thread uses a client
 * that is not in the list any more when it returns (no lock held).
 */
void ms_faults_clients_changed(MsFaults *faults, bool wait);

#endif /* MEMSCHED_FAULT_H */
