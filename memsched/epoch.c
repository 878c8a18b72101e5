/*
 * Epochs: what was ordered, what is said to be tagged, what is credited
 *
 * Owns the records of one guest's orders and the rule of credit: once for each
 * (application, epoch, sequence), while that number is told and some page in
 * state T carries it.
 *
 * One byte a sequence number of a live epoch:
 *
 *     bit 7     retired: was released or unmapped, never credited again
 *     bit 6     told
 *     bits 5-0  pages in state T that carry it, counted up to 63
 *
 * A guest may copy a tagged page as often as it likes.  The 64th copy in state
 * T is noted as not counted (UNCOUNTED in its reference), so that the count
 * never saturates and what is counted is exact.
 *
 * Invariants, recounted by ms_epochs_check():
 *     told = bytes with bit 6 and not bit 7
 *     credited = those of them with a count
 *     a dead epoch has no bytes, told = credited = 0; its record stays for its
 *     key while a page in state T, or a pin, needs it
 *
 * Bounded: live epochs together are at most one RAM's worth of pages (1 byte
 * each), and there are at most MS_EPOCHS records.
 *
 * Pure, without locks.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <string.h>

#include "epoch.h"

#define RETIRED   0x80u
#define TOLD      0x40u
#define COUNT     0x3fu
#define UNCOUNTED 0x8000u       /* in MsTagRef.epoch */

_Static_assert(MS_EPOCHS <= UNCOUNTED, "slots fit below the flag");

static bool is_told(uint8_t byte)
{
    return (byte & (TOLD | RETIRED)) == TOLD;
}

static bool is_credited(uint8_t byte)
{
    return is_told(byte) && (byte & COUNT);
}

/* Write one byte, sums following. */
static void put(MsEpochs *epochs, MsEpoch *epoch, uint64_t i, uint8_t byte)
{
    int told = is_told(byte) - is_told(epoch->sequence[i]);
    int credited = is_credited(byte) - is_credited(epoch->sequence[i]);

    epoch->sequence[i] = byte;
    epoch->told += told;
    epochs->told += told;
    epoch->credited += credited;
    epochs->credited += credited;
}

/* Nobody needs the key any more. */
static bool is_over(const MsEpoch *epoch)
{
    return !epoch->live && epoch->tag_pages == 0 && epoch->pins == 0;
}

static void drop_record(MsEpochs *epochs, MsEpoch *epoch)
{
    epochs->slot[epoch->slot] = NULL;
    epochs->count--;
    g_free(epoch->sequence);
    g_free(epoch);
}

void ms_epochs_destroy(MsEpochs *epochs)
{
    for (unsigned i = 0; i < MS_EPOCHS && epochs->count > 0; i++) {
        if (epochs->slot[i]) {
            drop_record(epochs, epochs->slot[i]);
        }
    }
}

MsEpoch *ms_epochs_open(MsEpochs *epochs, uint32_t app,
                        const uint8_t key[MS_TAG_KEY_BYTES], uint64_t pages,
                        uint64_t most)
{
    unsigned slot = 0;
    MsEpoch *epoch;

    if (epochs->count == MS_EPOCHS || pages > UINT32_MAX ||
        epochs->live_pages > most || pages > most - epochs->live_pages) {
        return NULL;
    }
    while (epochs->slot[slot]) {
        slot++;
    }
    epoch = g_new0(MsEpoch, 1);
    epoch->number = ++epochs->numbers;
    epoch->cookie = epoch->number;
    epoch->app = app;
    epoch->slot = slot;
    epoch->live = true;
    epoch->running = true;
    epoch->pages = pages;
    epoch->sequence = g_malloc0(pages);
    ms_tag_kind(&epoch->kind, app, epoch->number, key);
    epochs->slot[slot] = epoch;
    epochs->count++;
    epochs->live_pages += pages;
    return epoch;
}

MsEpoch *ms_epochs_find(MsEpochs *epochs, uint32_t app, uint64_t number)
{
    unsigned seen = 0;

    for (unsigned i = 0; i < MS_EPOCHS && seen < epochs->count; i++) {
        MsEpoch *epoch = epochs->slot[i];

        seen += epoch != NULL;
        if (epoch && epoch->live && epoch->app == app &&
            epoch->number == number) {
            return epoch;
        }
    }
    return NULL;
}

bool ms_epoch_has_range(const MsEpoch *epoch, uint64_t first, uint64_t count)
{
    return first <= epoch->pages && count <= epoch->pages - first;
}

void ms_epoch_tell(MsEpochs *epochs, MsEpoch *epoch, uint64_t first,
                   uint64_t count)
{
    epoch->tell = ++epochs->tells;
    for (uint64_t i = first; i < first + count; i++) {
        put(epochs, epoch, i, epoch->sequence[i] | TOLD);
    }
}

void ms_epoch_retire(MsEpochs *epochs, MsEpoch *epoch, uint64_t first,
                     uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        put(epochs, epoch, i, epoch->sequence[i] | RETIRED);
    }
}

void ms_epoch_kill(MsEpochs *epochs, MsEpoch *epoch)
{
    if (epoch->live) {
        epoch->live = false;
        epoch->running = false;
        epochs->live_pages -= epoch->pages;
        epochs->told -= epoch->told;
        epochs->credited -= epoch->credited;
        epoch->told = 0;
        epoch->credited = 0;
        g_free(epoch->sequence);
        epoch->sequence = NULL;
    }
    if (is_over(epoch)) {
        drop_record(epochs, epoch);
    }
}

void ms_epoch_pin(MsEpoch *epoch)
{
    epoch->pins++;
}

void ms_epoch_unpin(MsEpochs *epochs, MsEpoch *epoch)
{
    epoch->pins--;
    if (is_over(epoch)) {
        drop_record(epochs, epoch);
    }
}

bool ms_epoch_reap(MsEpochs *epochs, MsEpoch *epoch)
{
    if (epoch->running || epoch->told > 0) {
        return false;
    }
    ms_epoch_kill(epochs, epoch);
    return true;
}

bool ms_epoch_end_order(MsEpochs *epochs, MsEpoch *epoch)
{
    epoch->running = false;
    return !ms_epoch_reap(epochs, epoch);
}

bool ms_epoch_wants(const MsEpoch *epoch, uint64_t sequence)
{
    return epoch->live && sequence < epoch->pages &&
           is_told(epoch->sequence[sequence]);
}

bool ms_epoch_spares(const MsEpoch *epoch, uint64_t sequence)
{
    return !ms_epoch_wants(epoch, sequence) ||
           (epoch->sequence[sequence] & COUNT) > 1;
}

bool ms_epoch_last_run(const MsEpoch *epoch, bool credited,
                       uint64_t *ret_first, uint64_t *ret_count)
{
    uint64_t end = epoch->live ? epoch->pages : 0, first;

    while (end > 0 && !(is_told(epoch->sequence[end - 1]) &&
                        is_credited(epoch->sequence[end - 1]) == credited)) {
        end--;
    }
    for (first = end; first > 0 && is_told(epoch->sequence[first - 1]) &&
         is_credited(epoch->sequence[first - 1]) == credited; first--) {
        continue;
    }
    *ret_first = first;
    *ret_count = end - first;
    return end > first;
}

MsTagRef ms_epoch_add_page(MsEpochs *epochs, MsEpoch *epoch, uint32_t sequence)
{
    MsTagRef ref = { .sequence = sequence, .epoch = epoch->slot };
    bool counts = epoch->live &&
                  (epoch->sequence[sequence] & COUNT) < COUNT;

    epoch->tag_pages++;
    epochs->tag_pages++;
    if (counts) {
        put(epochs, epoch, sequence, epoch->sequence[sequence] + 1);
    } else {
        ref.epoch |= UNCOUNTED;
    }
    return ref;
}

MsEpoch *ms_epochs_of(const MsEpochs *epochs, MsTagRef ref)
{
    return epochs->slot[ref.epoch & ~UNCOUNTED];
}

void ms_epoch_remove_page(MsEpochs *epochs, MsTagRef ref)
{
    MsEpoch *epoch = ms_epochs_of(epochs, ref);

    epoch->tag_pages--;
    epochs->tag_pages--;
    if (epoch->live && !(ref.epoch & UNCOUNTED)) {
        put(epochs, epoch, ref.sequence, epoch->sequence[ref.sequence] - 1);
    }
    if (is_over(epoch)) {
        drop_record(epochs, epoch);
    }
}

static const char *check_epoch(const MsEpoch *epoch)
{
    uint64_t told = 0, credited = 0;

    if (!epoch->live) {
        return epoch->told || epoch->credited || epoch->sequence ||
               epoch->running || is_over(epoch)
               ? "a dead epoch has something of a live one" : NULL;
    }
    for (uint64_t i = 0; i < epoch->pages; i++) {
        told += is_told(epoch->sequence[i]);
        credited += is_credited(epoch->sequence[i]);
    }
    return told != epoch->told || credited != epoch->credited
           ? "an epoch's counts differ from its sequence numbers" : NULL;
}

const char *ms_epochs_check(const MsEpochs *epochs)
{
    uint64_t live = 0, told = 0, credited = 0, tags = 0;
    unsigned count = 0;

    for (unsigned i = 0; i < MS_EPOCHS; i++) {
        const MsEpoch *epoch = epochs->slot[i];
        const char *wrong = epoch ? check_epoch(epoch) : NULL;

        if (wrong) {
            return wrong;
        }
        if (epoch) {
            count++;
            live += epoch->live ? epoch->pages : 0;
            told += epoch->told;
            credited += epoch->credited;
            tags += epoch->tag_pages;
        }
    }
    if (count != epochs->count || live != epochs->live_pages ||
        told != epochs->told || credited != epochs->credited ||
        tags != epochs->tag_pages) {
        return "the sums over epochs differ from the epochs";
    }
    return NULL;
}
