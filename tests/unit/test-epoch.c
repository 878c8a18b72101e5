/*
 * Epochs: credit is given once for each sequence number, and never twice
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "epoch.h"

static const uint8_t key[MS_TAG_KEY_BYTES] = { 9 };

static void assert_right(const MsEpochs *epochs)
{
    g_assert_cmpstr(ms_epochs_check(epochs), ==, NULL);
}

static void test_told_numbers_are_credited_once_while_a_page_has_them(void)
{
    g_autofree MsEpochs *e = g_new0(MsEpochs, 1);
    MsEpoch *epoch = ms_epochs_open(e, 3, key, 100, 1000);
    MsTagRef a, b;

    g_assert_true(epoch->live && epoch->running);
    g_assert_true(ms_epochs_find(e, 3, epoch->number) == epoch);
    g_assert_null(ms_epochs_find(e, 4, epoch->number));
    g_assert_false(ms_epoch_wants(epoch, 5));
    ms_epoch_tell(e, epoch, 0, 10);
    ms_epoch_tell(e, epoch, 5, 10);
    g_assert_cmpuint(e->told, ==, 15);
    g_assert_true(ms_epoch_wants(epoch, 5));
    g_assert_false(ms_epoch_wants(epoch, 15));
    g_assert_false(ms_epoch_wants(epoch, 100));

    a = ms_epoch_add_page(e, epoch, 5);
    b = ms_epoch_add_page(e, epoch, 5);         /* a copy */
    g_assert_cmpuint(e->credited, ==, 1);
    g_assert_cmpuint(e->tag_pages, ==, 2);
    ms_epoch_remove_page(e, a);
    g_assert_cmpuint(e->credited, ==, 1);
    ms_epoch_remove_page(e, b);
    g_assert_cmpuint(e->credited, ==, 0);
    assert_right(e);

    /* what is not told earns nothing */
    a = ms_epoch_add_page(e, epoch, 50);
    g_assert_cmpuint(e->credited, ==, 0);
    ms_epoch_remove_page(e, a);
    assert_right(e);
    ms_epochs_destroy(e);
}

static void test_retired_numbers_are_never_credited_again(void)
{
    g_autofree MsEpochs *e = g_new0(MsEpochs, 1);
    MsEpoch *epoch = ms_epochs_open(e, 3, key, 100, 1000);

    ms_epoch_tell(e, epoch, 0, 100);
    ms_epoch_add_page(e, epoch, 1);
    ms_epoch_add_page(e, epoch, 2);
    ms_epoch_retire(e, epoch, 0, 2);
    g_assert_cmpuint(e->credited, ==, 1);
    g_assert_cmpuint(e->told, ==, 98);
    ms_epoch_tell(e, epoch, 0, 2);
    g_assert_false(ms_epoch_wants(epoch, 0));
    g_assert_true(ms_epoch_spares(epoch, 0));
    g_assert_cmpuint(e->told, ==, 98);
    assert_right(e);
    ms_epochs_destroy(e);
}

static void test_more_copies_than_can_be_counted_stay_exact(void)
{
    g_autofree MsEpochs *e = g_new0(MsEpochs, 1);
    MsEpoch *epoch = ms_epochs_open(e, 3, key, 4, 1000);
    MsTagRef ref[200];

    ms_epoch_tell(e, epoch, 0, 4);
    for (unsigned i = 0; i < G_N_ELEMENTS(ref); i++) {
        ref[i] = ms_epoch_add_page(e, epoch, 2);
        g_assert_true(ms_epochs_of(e, ref[i]) == epoch);
    }
    g_assert_cmpuint(e->credited, ==, 1);
    for (unsigned i = G_N_ELEMENTS(ref); i-- > 0; ) {
        g_assert_cmpuint(e->credited, ==, 1);
        ms_epoch_remove_page(e, ref[i]);
        assert_right(e);
    }
    g_assert_cmpuint(e->credited, ==, 0);
    g_assert_cmpuint(e->tag_pages, ==, 0);
    ms_epochs_destroy(e);
}

static void test_dead_epochs_keep_their_key_as_long_as_it_is_needed(void)
{
    g_autofree MsEpochs *e = g_new0(MsEpochs, 1);
    MsEpoch *epoch = ms_epochs_open(e, 3, key, 100, 1000);
    uint64_t number = epoch->number;
    MsTagRef before, after;

    ms_epoch_tell(e, epoch, 0, 100);
    before = ms_epoch_add_page(e, epoch, 7);
    ms_epoch_kill(e, epoch);
    g_assert_cmpuint(e->credited, ==, 0);
    g_assert_cmpuint(e->told, ==, 0);
    g_assert_cmpuint(e->live_pages, ==, 0);
    g_assert_null(ms_epochs_find(e, 3, number));
    g_assert_false(ms_epoch_wants(epoch, 7));
    after = ms_epoch_add_page(e, epoch, 8);     /* was on its way */
    assert_right(e);
    g_assert_true(ms_epochs_of(e, before) == epoch);
    ms_epoch_remove_page(e, before);
    ms_epoch_pin(epoch);
    ms_epoch_remove_page(e, after);
    g_assert_cmpuint(e->count, ==, 1);
    assert_right(e);
    ms_epoch_unpin(e, epoch);
    g_assert_cmpuint(e->count, ==, 0);
    assert_right(e);
}

static void test_epoch_dies_when_its_order_and_all_it_told_are_over(void)
{
    g_autofree MsEpochs *e = g_new0(MsEpochs, 1);
    MsEpoch *epoch = ms_epochs_open(e, 3, key, 100, 1000);

    ms_epoch_tell(e, epoch, 0, 10);
    ms_epoch_retire(e, epoch, 0, 10);
    g_assert_false(ms_epoch_reap(e, epoch));    /* the order runs */
    g_assert_false(ms_epoch_end_order(e, epoch));
    g_assert_cmpuint(e->count, ==, 0);

    epoch = ms_epochs_open(e, 3, key, 100, 1000);
    ms_epoch_tell(e, epoch, 0, 10);
    g_assert_true(ms_epoch_end_order(e, epoch));
    ms_epoch_retire(e, epoch, 0, 9);
    g_assert_false(ms_epoch_reap(e, epoch));
    ms_epoch_retire(e, epoch, 9, 1);
    g_assert_true(ms_epoch_reap(e, epoch));
    g_assert_cmpuint(e->count, ==, 0);
}

static void test_number_and_size_of_epochs_are_bounded(void)
{
    g_autofree MsEpochs *e = g_new0(MsEpochs, 1);
    MsEpoch *epoch;
    uint64_t last = 0;

    g_assert_null(ms_epochs_open(e, 1, key, 1001, 1000));
    g_assert_null(ms_epochs_open(e, 1, key, UINT64_C(1) << 32, UINT64_MAX));
    epoch = ms_epochs_open(e, 1, key, 600, 1000);
    g_assert_null(ms_epochs_open(e, 1, key, 401, 1000));
    g_assert_nonnull(ms_epochs_open(e, 1, key, 400, 1000));
    ms_epoch_kill(e, epoch);
    for (unsigned i = e->count; i < MS_EPOCHS; i++) {
        epoch = ms_epochs_open(e, 1, key, 0, 1000);
        g_assert_nonnull(epoch);
        g_assert_cmpuint(epoch->number, >, last);
        last = epoch->number;
    }
    g_assert_null(ms_epochs_open(e, 1, key, 0, 1000));
    g_assert_false(ms_epoch_has_range(epoch, 0, 1));
    g_assert_false(ms_epoch_has_range(epoch, UINT64_MAX, 2));
    g_assert_true(ms_epoch_has_range(epoch, 0, 0));
    assert_right(e);
    ms_epochs_destroy(e);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/epoch/credit",
        test_told_numbers_are_credited_once_while_a_page_has_them);
    g_test_add_func("/epoch/retired",
                    test_retired_numbers_are_never_credited_again);
    g_test_add_func("/epoch/copies",
                    test_more_copies_than_can_be_counted_stay_exact);
    g_test_add_func("/epoch/dead",
                    test_dead_epochs_keep_their_key_as_long_as_it_is_needed);
    g_test_add_func("/epoch/reap",
                    test_epoch_dies_when_its_order_and_all_it_told_are_over);
    g_test_add_func("/epoch/bounds",
                    test_number_and_size_of_epochs_are_bounded);
    return g_test_run();
}
