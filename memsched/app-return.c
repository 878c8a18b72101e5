/*
 * What balloon applications give back, or get back
 *
 * Owns releases (either side starts one) and what is unmapped.  A sequence
 * number that is released or unmapped is retired at once: the page in state T
 * stays known and comes back by touch, a later find of the tag is left alone,
 * and neither earns anything.  The pages are put into the guest by the tagger's
 * thread, which then says RELEASED.
 *
 * Threads: any.  Locks: apps->lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>

#include "app.h"
#include "instance.h"
#include "tagger.h"

int ms_apps_release_locked(MsApps *apps, MsEpoch *epoch, uint64_t first,
                           uint64_t count, bool tell)
{
    if (apps->releases == MS_APP_RELEASES) {
        return -EAGAIN;
    }
    ms_epoch_retire(&apps->epochs, epoch, first, count);
    ms_epoch_pin(epoch);
    apps->release[(apps->first_release + apps->releases++) %
                  MS_APP_RELEASES] = (MsAppRelease) {
        .epoch = epoch, .first = first, .count = count, .tell = tell,
    };
    return 0;
}

int memsched_app_release(MemSchedClient *client, const MemSchedAppRange *range,
                         MemSchedReason reason)
{
    MsApps *apps = client->apps;
    MsEpoch *epoch;
    int ret;

    ms_lock(&apps->lock);
    epoch = ms_epochs_find(&apps->epochs, range->app, range->epoch);
    if (epoch == NULL) {
        ret = -ENOENT;
    } else if (!ms_epoch_has_range(epoch, range->first_seq,
                                   range->count_pages)) {
        ret = -ERANGE;
    } else {
        ret = ms_apps_release_locked(apps, epoch, range->first_seq,
                                     range->count_pages, true);
    }
    ms_unlock(&apps->lock);
    if (ret == 0) {
        ms_tagger_kick(client->ms->tagger);
    }
    return ret;
}

int memsched_app_unmapped(MemSchedClient *client,
                          const MemSchedAppRange *range)
{
    MsApps *apps = client->apps;
    MsEpoch *epoch;
    int ret = 0;

    ms_lock(&apps->lock);
    epoch = ms_epochs_find(&apps->epochs, range->app, range->epoch);
    if (epoch == NULL) {
        /* One that is over: said, but nothing is left to do. */
        ret = range->epoch >= 1 && range->epoch <= apps->epochs.numbers
              ? 0 : -ENOENT;
    } else if (!ms_epoch_has_range(epoch, range->first_seq,
                                   range->count_pages)) {
        ret = -ERANGE;
    } else {
        ms_epoch_retire(&apps->epochs, epoch, range->first_seq,
                        range->count_pages);
        ms_epoch_reap(&apps->epochs, epoch);
    }
    ms_unlock(&apps->lock);
    return ret;
}
