/*
 * Stripes: random lives of groups, against a table of what is where
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "stripe.h"

#define FRAMES 40u
#define PAGES  MS_PAGESET_PAGES

/* The model: for each page of each frame, is it in, is it gone. */
typedef struct Life {
    MsStripes stripes;
    bool in[FRAMES][PAGES], gone[FRAMES][PAGES];
    char parity[2][FRAMES * 4];         /* addresses, never looked at */
    unsigned made, freed;
} Life;

static void assert_right(const Life *life)
{
    const char *wrong = ms_stripes_check(&life->stripes);
    uint64_t pages = 0;

    g_assert_cmpstr(wrong, ==, NULL);
    for (unsigned f = 0; f < FRAMES; f++) {
        const MsMember *m = ms_stripes_member(&life->stripes, f);

        for (unsigned p = 0; p < PAGES; p++) {
            g_assert_cmpint(m && ms_pageset_has(&m->in, p), ==,
                            life->in[f][p]);
            g_assert_cmpint(m && ms_pageset_has(&m->gone, p), ==,
                            life->gone[f][p]);
            pages += life->in[f][p];
        }
    }
    g_assert_cmpuint(pages, ==, life->stripes.pages);
}

/* No two pages of a stripe in one frame; none with too few good parities. */
static void assert_covered(const Life *life, unsigned f, unsigned p)
{
    const MsMember *m = ms_stripes_member(&life->stripes, f);
    unsigned lost = 0, good = 0;
    bool covered = life->in[f][p] && !life->gone[f][p];

    for (unsigned s = 0; m && s < life->stripes.size; s++) {
        const MsMember *other = m->group->member[s];

        if (other == NULL) {
            continue;
        }
        lost += life->gone[other->frame][p];
        for (unsigned t = 0; t < s; t++) {
            g_assert_true(m->group->member[t] == NULL ||
                          m->group->member[t]->frame != other->frame);
        }
    }
    for (unsigned k = 0; m && k < life->stripes.parities; k++) {
        good += !ms_pageset_has(&m->group->bad[k], p);
    }
    g_assert_cmpint(ms_stripes_covered(&life->stripes, m, p), ==,
                    covered && good > lost);
}

static void random_set(MsPageSet *set)
{
    unsigned first = g_test_rand_int_range(0, PAGES);

    ms_pageset_clear(set);
    ms_pageset_add(set, first, g_test_rand_int_range(1, PAGES - first + 1));
    if (g_test_rand_bit()) {
        ms_pageset_fill(set);
    }
}

static MsMember *member_of(Life *life, unsigned f)
{
    MsStripes *s = &life->stripes;
    MsMember *m = ms_stripes_member(s, f);
    MsGroup *group;

    if (m) {
        return m;
    }
    group = ms_stripes_open(s);
    if (group == NULL) {
        char *parity[2] = { &life->parity[0][life->made % FRAMES],
                            &life->parity[1][life->made % FRAMES] };

        for (unsigned g = 0; g < s->groups; g++) {
            g_assert_cmpuint(s->group[g]->used, ==, s->size);
        }
        group = ms_stripes_add_group(s, parity, life);
        g_assert_cmpint(group->parity[1] != NULL, ==, s->parities == 2);
        life->made++;
    }
    m = ms_stripes_add_member(s, group, f, false);
    g_assert_true(m->group == group && m->frame == f);
    return m;
}

static void join(Life *life, unsigned f)
{
    MsMember *m = member_of(life, f);
    MsPageSet set;

    random_set(&set);
    ms_pageset_subtract(&set, &m->in);
    ms_stripes_join(&life->stripes, m, &set);
    for (unsigned p = 0; p < PAGES; p++) {
        life->in[f][p] |= ms_pageset_has(&set, p);
    }
    m->keep = true;
    g_assert_false(ms_stripes_reap_member(&life->stripes, m));
    m->keep = false;
    ms_stripes_reap_member(&life->stripes, m);
}

static void leave(Life *life, unsigned f)
{
    MsMember *m = ms_stripes_member(&life->stripes, f);
    MsGroup *group = m->group;
    MsPageSet set;
    bool empty = true;
    void *opaque = NULL;

    random_set(&set);
    set = ms_pageset_and(&set, &m->in);
    ms_stripes_leave(&life->stripes, m, &set);
    for (unsigned p = 0; p < PAGES; p++) {
        life->in[f][p] &= !ms_pageset_has(&set, p);
        life->gone[f][p] &= life->in[f][p];
        empty &= !life->in[f][p];
    }
    g_assert_cmpint(ms_stripes_reap_member(&life->stripes, m), ==, empty);
    group->keep = 1;
    g_assert_false(ms_stripes_reap_group(&life->stripes, group, &opaque));
    group->keep = 0;
    if (ms_stripes_reap_group(&life->stripes, group, &opaque)) {
        g_assert_true(opaque == life);
        life->freed++;
    }
}

static void spoil(Life *life, unsigned f)
{
    MsMember *m = ms_stripes_member(&life->stripes, f);
    unsigned p = g_test_rand_int_range(0, PAGES);

    if (!ms_pageset_has(&m->in, p)) {
        return;
    }
    if (g_test_rand_bit()) {
        ms_pageset_add(&m->gone, p, 1);
        life->gone[f][p] = true;
    } else {
        ms_pageset_add(&m->group->bad[g_test_rand_int_range(
                           0, life->stripes.parities)], p, 1);
    }
}

static void live(unsigned parities, unsigned size)
{
    Life *life = g_new0(Life, 1);

    g_assert_cmpint(ms_stripes_init(&life->stripes, FRAMES, parities, size),
                    ==, 0);
    for (unsigned i = 0; i < 3000; i++) {
        unsigned f = g_test_rand_int_range(0, FRAMES);

        if (ms_stripes_member(&life->stripes, f) == NULL ||
            g_test_rand_int_range(0, 3) == 0) {
            join(life, f);
        } else if (g_test_rand_int_range(0, 4) == 0) {
            spoil(life, f);
        } else {
            leave(life, f);
        }
        assert_covered(life, f, g_test_rand_int_range(0, PAGES));
        if (i % 16 == 0) {
            assert_right(life);
        }
    }
    assert_right(life);
    g_assert_cmpuint(life->made - life->freed, ==, life->stripes.groups);
    ms_stripes_destroy(&life->stripes);
    g_free(life);
}

static void test_random(void)
{
    for (unsigned parities = 1; parities <= 2; parities++) {
        live(parities, 2);
        live(parities, 5);
        live(parities, MS_PARITY_SLOTS);
    }
}

static void test_arguments(void)
{
    MsStripes s;

    g_assert_cmpint(ms_stripes_init(&s, 1, 0, 4), ==, -EINVAL);
    g_assert_cmpint(ms_stripes_init(&s, 1, 3, 4), ==, -EINVAL);
    g_assert_cmpint(ms_stripes_init(&s, 1, 1, 1), ==, -EINVAL);
    g_assert_cmpint(ms_stripes_init(&s, 1, 1, MS_PARITY_SLOTS + 1), ==,
                    -EINVAL);
    g_assert_cmpint(ms_stripes_init(&s, 0, 1, 4), ==, -EINVAL);
}

/* A row that empties forgets that its parity was bad: its next sum is new. */
static void test_empty_row_is_good(void)
{
    MsStripes s;
    char parity;
    char *pages[] = { &parity, NULL };
    MsMember *m;
    MsPageSet one;

    g_assert_cmpint(ms_stripes_init(&s, 2, 1, 2), ==, 0);
    m = ms_stripes_add_member(&s, ms_stripes_add_group(&s, pages, NULL), 1,
                              false);
    ms_pageset_clear(&one);
    ms_pageset_add(&one, 7, 1);
    ms_stripes_join(&s, m, &one);
    ms_pageset_add(&m->group->bad[0], 7, 1);
    g_assert_false(ms_stripes_covered(&s, m, 7));
    ms_stripes_leave(&s, m, &one);
    ms_stripes_join(&s, m, &one);
    g_assert_true(ms_stripes_covered(&s, m, 7));
    ms_stripes_destroy(&s);
}

/* Bookkeeping of what is covered: at most 0.25 % of it. */
static void test_memory_is_bounded(void)
{
    MsStripes s;
    MsPageSet all;
    const unsigned frames = 512;

    ms_pageset_fill(&all);
    g_assert_cmpint(ms_stripes_init(&s, frames, 2, 8), ==, 0);
    for (unsigned f = 0; f < frames; f++) {
        MsGroup *group = ms_stripes_open(&s);
        static char parity;
        char *pages[] = { &parity, &parity };

        if (group == NULL) {
            group = ms_stripes_add_group(&s, pages, NULL);
        }
        ms_stripes_join(&s, ms_stripes_add_member(&s, group, f, true), &all);
    }
    g_assert_cmpuint(s.groups, ==, frames / 8);
    g_assert_cmpuint(ms_stripes_bytes(&s) * 400, <=, s.pages * 4096);
    ms_stripes_destroy(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stripe/random-lives-as-the-model", test_random);
    g_test_add_func("/stripe/bad-arguments-are-refused", test_arguments);
    g_test_add_func("/stripe/empty-row-is-good-again", test_empty_row_is_good);
    g_test_add_func("/stripe/memory-is-bounded", test_memory_is_bounded);
    return g_test_run();
}
