/*
 * Guest physical addresses to pages of regions
 *
 * Owns the immutable map that a guest's side publishes, and the translation of
 * ranges that the guest sent.  Those are untrusted: nothing in them is
 * believed but what the map confirms, sums are 64 bits and saturate, and the
 * result holds every page once, however often or through whatever alias it was
 * named.
 *
 * Bounds.  A range yields at most one run for each mapping that it crosses;
 * a guest has some twenty.  A balloon's request of 256 PFNs in ascending or
 * descending order becomes one run without sorting; any other order costs one
 * sort of at most that many runs.
 *
 * Threads: a map never changes; the count of references is atomic.  No lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gpamap.h"
#include "region.h"

struct MsGpaMap {
    _Atomic unsigned refs;
    size_t count;
    MemSchedGpaMapping mapping[];
};

static bool mapping_is_valid(const MemSchedGpaMapping *m)
{
    uint64_t bits = m->gpa | m->length_bytes | m->offset_bytes;

    return bits % MEMSCHED_PAGE_SIZE == 0 && m->length_bytes > 0 &&
           m->gpa + (m->length_bytes - 1) >= m->gpa && m->region != NULL &&
           m->offset_bytes <= m->region->length_bytes &&
           m->length_bytes <= m->region->length_bytes - m->offset_bytes;
}

int ms_gpamap_new(const MemSchedGpaMapping *mappings, size_t count,
                  MsGpaMap **ret_map)
{
    MsGpaMap *map;

    for (size_t i = 0; i < count; i++) {
        const MemSchedGpaMapping *m = &mappings[i];

        if (!mapping_is_valid(m) ||
            (i > 0 && m->gpa - mappings[i - 1].gpa <
                      mappings[i - 1].length_bytes) ||
            (i > 0 && m->gpa < mappings[i - 1].gpa)) {
            return -EINVAL;
        }
    }
    map = calloc(1, sizeof(*map) + count * sizeof(map->mapping[0]));
    if (map == NULL) {
        return -ENOMEM;
    }
    atomic_init(&map->refs, 1);
    map->count = count;
    for (size_t i = 0; i < count; i++) {
        map->mapping[i] = mappings[i];
        ms_region_ref(mappings[i].region);
    }
    *ret_map = map;
    return 0;
}

MsGpaMap *ms_gpamap_ref(MsGpaMap *map)
{
    if (map) {
        atomic_fetch_add(&map->refs, 1);
    }
    return map;
}

void ms_gpamap_unref(MsGpaMap *map)
{
    if (map == NULL || atomic_fetch_sub(&map->refs, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < map->count; i++) {
        ms_region_unref(map->mapping[i].region);
    }
    free(map);
}

void ms_runs_init(MsRuns *runs)
{
    runs->run = runs->inline_run;
    runs->count = 0;
    runs->size = sizeof(runs->inline_run) / sizeof(runs->inline_run[0]);
}

void ms_runs_destroy(MsRuns *runs)
{
    if (runs->run != runs->inline_run) {
        free(runs->run);
    }
}

static int append(MsRuns *runs, MsRun run)
{
    MsRun *last = runs->count ? &runs->run[runs->count - 1] : NULL;

    if (last && last->region == run.region) {
        if (last->first + last->count == run.first) {
            last->count += run.count;
            return 0;
        }
        if (run.first + run.count == last->first) {
            last->first = run.first;
            last->count += run.count;
            return 0;
        }
    }
    if (runs->count == runs->size) {
        size_t size = runs->size * 2;
        MsRun *more = malloc(size * sizeof(*more));

        if (more == NULL) {
            return -ENOMEM;
        }
        memcpy(more, runs->run, runs->count * sizeof(*more));
        ms_runs_destroy(runs);
        runs->run = more;
        runs->size = size;
    }
    runs->run[runs->count++] = run;
    return 0;
}

static int compare(const void *a, const void *b)
{
    const MsRun *x = a, *y = b;

    if (x->region != y->region) {
        return (uintptr_t)x->region < (uintptr_t)y->region ? -1 : 1;
    }
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Sort, unless sorted, and merge what touches or overlaps. */
static void normalise(MsRuns *runs)
{
    size_t out = 0;

    for (size_t i = 1; i < runs->count; i++) {
        if (compare(&runs->run[i - 1], &runs->run[i]) > 0) {
            qsort(runs->run, runs->count, sizeof(runs->run[0]), compare);
            break;
        }
    }
    for (size_t i = 1; i < runs->count; i++) {
        MsRun *last = &runs->run[out], *run = &runs->run[i];
        uint64_t end = run->first + run->count;

        if (run->region != last->region ||
            run->first > last->first + last->count) {
            runs->run[++out] = *run;
        } else if (end > last->first + last->count) {
            last->count = end - last->first;
        }
    }
    runs->count = runs->count ? out + 1 : 0;
}

/* Index of the first mapping that ends above @gpa; count if none does. */
static size_t mapping_above(const MsGpaMap *map, uint64_t gpa)
{
    size_t low = 0, high = map->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const MemSchedGpaMapping *m = &map->mapping[middle];

        /* the last byte, so that a mapping may end at 2^64 */
        if (m->gpa + (m->length_bytes - 1) < gpa) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint64_t page_of(const MemSchedRegion *region, uint64_t offset_bytes)
{
    return region->pages.lead + (offset_bytes >> MEMSCHED_PAGE_SHIFT);
}

/*
 * Whole pages [first, end) (numbers, so 2^52 at most): append what is RAM,
 * return how many pages that was or -ENOMEM.
 */
static int64_t translate_pages(const MsGpaMap *map, uint64_t first,
                               uint64_t end, MsRuns *runs)
{
    uint64_t good = 0;

    for (size_t i = mapping_above(map, first << MEMSCHED_PAGE_SHIFT);
         i < map->count && first < end; i++) {
        const MemSchedGpaMapping *m = &map->mapping[i];
        uint64_t begin = m->gpa >> MEMSCHED_PAGE_SHIFT;
        uint64_t limit = begin + (m->length_bytes >> MEMSCHED_PAGE_SHIFT);
        int ret;

        first = first > begin ? first : begin;
        limit = limit < end ? limit : end;
        if (first >= limit) {
            break;
        }
        ret = append(runs, (MsRun) {
            .region = m->region,
            .first = page_of(m->region, m->offset_bytes) + (first - begin),
            .count = limit - first,
        });
        if (ret < 0) {
            return ret;
        }
        good += limit - first;
        first = limit;
    }
    return (int64_t)good;
}

int ms_gpamap_translate(const MsGpaMap *map, const MemSchedGpaRange *ranges,
                        size_t count, MsRuns *runs,
                        uint64_t *ret_refused_pages)
{
    uint64_t refused = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t gpa = ranges[i].gpa, length = ranges[i].length_bytes;
        uint64_t last, first, end, touched;
        int64_t good = 0;

        if (length == 0) {
            continue;
        }
        /* A range that wraps is cut at the end of the address space. */
        last = gpa + (length - 1) < gpa ? UINT64_MAX : gpa + (length - 1);
        touched = (last >> MEMSCHED_PAGE_SHIFT) -
                  (gpa >> MEMSCHED_PAGE_SHIFT) + 1;
        first = (gpa >> MEMSCHED_PAGE_SHIFT) +
                (gpa % MEMSCHED_PAGE_SIZE != 0);
        end = (last >> MEMSCHED_PAGE_SHIFT) +
              ((last & (MEMSCHED_PAGE_SIZE - 1)) == MEMSCHED_PAGE_SIZE - 1);
        if (map && first < end) {
            good = translate_pages(map, first, end, runs);
            if (good < 0) {
                return (int)good;
            }
        }
        touched -= (uint64_t)good;
        refused = refused + touched < refused ? UINT64_MAX
                                              : refused + touched;
    }
    normalise(runs);
    *ret_refused_pages = refused;
    return 0;
}

bool ms_gpamap_find(const MsGpaMap *map, uint64_t gpa,
                    MemSchedRegion **ret_region, uint64_t *ret_offset_bytes)
{
    size_t i = map ? mapping_above(map, gpa) : 0;

    if (map == NULL || i == map->count || map->mapping[i].gpa > gpa) {
        return false;
    }
    *ret_region = map->mapping[i].region;
    *ret_offset_bytes = map->mapping[i].offset_bytes +
                        (gpa - map->mapping[i].gpa);
    return true;
}
