/*
 * The thread that finds, captures and returns tagged pages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_TAGGER_H
#define MEMSCHED_TAGGER_H

#include "memsched/memsched.h"

typedef struct MsTagger MsTagger;

int ms_tagger_start(MemSched *ms, MsTagger **ret_tagger);
void ms_tagger_stop(MsTagger *tagger);  /* NULL is fine */

/* Something to do: no leaf held; NULL is fine. */
void ms_tagger_kick(MsTagger *tagger);

#endif /* MEMSCHED_TAGGER_H */
