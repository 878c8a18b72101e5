/*
 * Messages of balloon applications, as calls of the scheduler
 *
 * Owns nothing: the parser has checked numbers, the scheduler checks whether
 * applications, epochs and cookies exist.
 *
 * Threads: the BQL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "balloon-ex-relay.h"

static MemSchedAppRange range_of(const BalloonExMessage *m)
{
    return (MemSchedAppRange) {
        .app = m->app, .epoch = m->range.epoch,
        .first_seq = m->range.first_seq, .count_pages = m->range.count_pages,
    };
}

static int take_register(MemSchedClient *client, const BalloonExMessage *m)
{
    MemSchedAppOptions options = {
        .app = m->app, .name = m->reg.name,
        .reserves = m->reg.flags & VBX_APP_RESERVES,
        .agent = m->reg.flags & VBX_APP_AGENT,
        .priority = m->reg.priority, .offer_bytes = m->reg.offer_bytes,
    };

    return memsched_app_register(client, &options);
}

static int take_request(MemSchedClient *client, const BalloonExMessage *m)
{
    MemSchedAppRequest request = {
        .app = m->app, .cookie = m->cookie, .bytes = m->request.bytes,
        .priority = m->request.priority, .want = m->request.want,
        .deadline_ms = m->request.deadline_ms,
    };

    return memsched_app_request(client, &request);
}

static int take_hints(MemSchedClient *client, uint32_t features,
                      const BalloonExMessage *m)
{
    if (!(features & VBX_FEATURE_HINTS)) {
        return -ENOTCONN;
    }
    return memsched_app_hints(client, m->app, m->hints.epoch, m->hints.run,
                              m->hints.runs);
}

int balloon_ex_relay(MemSchedClient *client, uint32_t features,
                     const BalloonExMessage *m)
{
    MemSchedAppRange range;

    switch (m->type) {
    case VBX_REGISTER:
        return take_register(client, m);
    case VBX_UNREGISTER:
        return memsched_app_unregister(client, m->app);
    case VBX_RESERVED:
        range = range_of(m);
        return memsched_app_reserved(client, m->cookie, &range,
                                     m->range.status, m->range.reason);
    case VBX_HINTS:
        return take_hints(client, features, m);
    case VBX_VETO:
        return memsched_app_veto(client, m->app, m->veto.duration_ms,
                                 m->veto.reason);
    case VBX_RELEASE:
        range = range_of(m);
        return memsched_app_release(client, &range, m->range.reason);
    case VBX_UNMAPPED:
        range = range_of(m);
        return memsched_app_unmapped(client, &range);
    case VBX_REQUEST:
        return take_request(client, m);
    case VBX_CANCEL:
        return memsched_app_cancel(client, m->app, m->cookie);
    case VBX_STATISTICS:
        return memsched_app_stats(client, m->app, m->statistics.stat,
                                  m->statistics.count);
    default:
        return -EINVAL;         /* the parser knows no other */
    }
}
