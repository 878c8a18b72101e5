/*
 * Guest physical addresses to pages of regions
 *
 * A map is immutable and counted; a new one replaces it whole.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MEMSCHED_GPAMAP_H
#define MEMSCHED_GPAMAP_H

#include "memsched/memsched.h"

typedef struct MsGpaMap MsGpaMap;

/* A run of pages of one region (page numbers as in pagestate.h). */
typedef struct MsRun {
    MemSchedRegion *region;
    uint64_t first;
    uint64_t count;
} MsRun;

/* Runs, sorted by region and page, merged: each page is there once. */
typedef struct MsRuns {
    MsRun *run;
    size_t count, size;
    MsRun inline_run[64];       /* most requests fit */
} MsRuns;

/* -EINVAL: not sorted, overlapping, not aligned, beyond its region. */
int ms_gpamap_new(const MemSchedGpaMapping *mappings, size_t count,
                  MsGpaMap **ret_map);
MsGpaMap *ms_gpamap_ref(MsGpaMap *map);
void ms_gpamap_unref(MsGpaMap *map);    /* NULL is fine */

/* Runs keep no reference: the map does. */
void ms_runs_init(MsRuns *runs);
void ms_runs_destroy(MsRuns *runs);

/*
 * Translate untrusted ranges.  Pages that are no RAM of the map, and partial
 * pages, go to *ret_refused_pages (64-bit sums, saturating).  -ENOMEM.
 */
int ms_gpamap_translate(const MsGpaMap *map, const MemSchedGpaRange *ranges,
                        size_t count, MsRuns *runs,
                        uint64_t *ret_refused_pages);

/* One address: true and the region's page, or false. */
bool ms_gpamap_find(const MsGpaMap *map, uint64_t gpa,
                    MemSchedRegion **ret_region, uint64_t *ret_offset_bytes);

#endif /* MEMSCHED_GPAMAP_H */
