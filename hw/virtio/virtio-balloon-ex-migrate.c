/*
 * Migration and snapshots of a guest whose pages are partly elsewhere
 *
 * Owns what migration has to know of pages that are not in the guest, and
 * what a reset of the machine means for them.
 *
 * Out.  From the first look at the dirty bitmap to the end captures are
 * forbidden, so that a page that was sent stays what it was.  After each look
 * the pages that are not in the guest are taken out of the bitmap: they read
 * as zero on the other side, which is what they read as here, and reading
 * them here would put host memory under each.  A page that the guest touches
 * meanwhile is dirty again and sent.  (Pages with a known tag are content:
 * virtio-balloon-ex-tags.c.)  A list of what lies in the balloon follows with
 * the device's state.
 *
 * In.  RAM has been read when the device's state comes.  Pages of the list
 * become what they were; where zeros of the stream were put under one, the
 * frame goes home.  The list is checked as guest input is: it may say no more
 * than which pages of RAM a guest has given up.
 *
 * Snapshots are loaded over a guest that has run.  The stream does not
 * mention pages that were absent when it was written, so everything is taken
 * out of the guest before.
 *
 * Refused, each with a sentence: postcopy and background snapshots, which
 * want a userfaultfd of their own on the same memory, and zero-copy send,
 * which keeps references to pages after they were sent.
 *
 * Threads: the BQL everywhere, except that the notifier of the bitmap runs in
 * the thread of migration, which holds the list of RAM blocks still.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/cpu-common.h"
#include "exec/ramblock.h"
#include "migration/misc.h"
#include "migration/client-options.h"
#include "migration/options.h"
#include "migration/postcopy-ram.h"
#include "migration/qemu-file-types.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "system/instance-local.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "trace/trace-system_memsched.h"
#include "virtio-balloon-ex-migrate.h"
#include "virtio-balloon-ex-tags.h"

#define ABSENT ((1u << MEMSCHED_PAGE_HOLE) | \
                (1u << MEMSCHED_PAGE_BALLOONED) | \
                (1u << MEMSCHED_PAGE_REPORTED))

/* Given up, captured or not. */
#define IN_BALLOON ((1u << MEMSCHED_PAGE_BALLOONED) | \
                    (1u << MEMSCHED_PAGE_GIVEN))

struct BalloonExMigrate {
    MemSchedClient *client;
    NotifierWithReturn setup;       /* a migration is about to start */
    NotifierWithReturn precopy;
    NotifierWithReturn postcopy;    /* incoming */
    bool inhibited;
};

static void inhibit(BalloonExMigrate *m, bool on)
{
    if (m->inhibited != on) {
        m->inhibited = on;
        memsched_client_inhibit(m->client, on);
    }
}

/* Out */

static int skip_absent(RAMBlock *block, void *opaque)
{
    char *host = qemu_ram_get_host_addr(block);
    MemSchedRegion *region = memsched_instance_region(host);
    uint64_t end = qemu_ram_get_used_length(block) >> MEMSCHED_PAGE_SHIFT;
    uint64_t page = 0, first, count;

    if (!region) {
        return 0;
    }
    while (page < end &&
           memsched_region_next_run(region, page, ABSENT, &first, &count) &&
           first < end) {
        count = MIN(count, end - first);
        qemu_guest_free_page_hint(host + (first << MEMSCHED_PAGE_SHIFT),
                                  count << MEMSCHED_PAGE_SHIFT);
        page = first + count;
    }
    balloon_ex_tags_skip(block, region);
    return 0;
}

static int precopy_notified(NotifierWithReturn *notifier, void *data,
                            Error **errp)
{
    BalloonExMigrate *m = container_of(notifier, BalloonExMigrate, precopy);
    PrecopyNotifyData *notification = data;

    switch (notification->reason) {
    case PRECOPY_NOTIFY_BEFORE_BITMAP_SYNC:
    case PRECOPY_NOTIFY_SETUP:
        inhibit(m, true);
        break;
    case PRECOPY_NOTIFY_AFTER_BITMAP_SYNC:
        qemu_ram_foreach_block(skip_absent, NULL);
        break;
    case PRECOPY_NOTIFY_CLEANUP:
        balloon_ex_tags_end();
        inhibit(m, false);
        break;
    default:
        break;
    }
    return 0;
}

static int setup_notified(NotifierWithReturn *notifier, MigrationEvent *event,
                          Error **errp)
{
    if (event->type != MIG_EVENT_PRECOPY_SETUP) {
        return 0;
    }
    if (migrate_postcopy_ram()) {
        error_setg(errp, "guest memory is managed by -object memsched: "
                   "postcopy cannot be used, switch postcopy-ram off");
        return -ENOTSUP;
    }
    if (migrate_background_snapshot()) {
        error_setg(errp, "guest memory is managed by -object memsched: take "
                   "an ordinary snapshot, switch background-snapshot off");
        return -ENOTSUP;
    }
    if (migrate_zero_copy_send()) {
        error_setg(errp, "guest memory is managed by -object memsched: "
                   "frames may move while the kernel still sends them, "
                   "switch zero-copy-send off");
        return -ENOTSUP;
    }
    return 0;
}

static int postcopy_notified(NotifierWithReturn *notifier, void *data,
                             Error **errp)
{
    struct PostcopyNotifyData *notification = data;

    if (notification->reason != POSTCOPY_NOTIFY_PROBE) {
        return 0;
    }
    error_setg(errp, "guest memory is managed by -object memsched, which has "
               "the userfaultfd that postcopy would need");
    return -ENOTSUP;
}

/* The list of what lies in the balloon */

static int put_block(RAMBlock *block, void *opaque)
{
    const char *name = qemu_ram_get_idstr(block);
    MemSchedRegion *region =
        memsched_instance_region(qemu_ram_get_host_addr(block));
    uint64_t page = 0, first, count;
    QEMUFile *f = opaque;

    if (!region) {
        return 0;
    }
    qemu_put_byte(f, strlen(name));
    qemu_put_buffer(f, (const uint8_t *)name, strlen(name));
    while (memsched_region_next_run(region, page, IN_BALLOON, &first,
                                    &count)) {
        qemu_put_be64(f, first);
        qemu_put_be64(f, count);
        page = first + count;
    }
    qemu_put_be64(f, 0);
    qemu_put_be64(f, 0);
    return 0;
}

static int put_pages(QEMUFile *f, void *pv, size_t size,
                     const VMStateField *field, JSONWriter *vmdesc)
{
    qemu_ram_foreach_block(put_block, f);
    qemu_put_byte(f, 0);
    return 0;
}

/* The runs of one block, up to the empty one. */
static int get_runs(QEMUFile *f, const char *name)
{
    RAMBlock *block = qemu_ram_block_by_name(name);
    MemSchedRegion *region = block ?
        memsched_instance_region(qemu_ram_get_host_addr(block)) : NULL;
    uint64_t first, count, before = 0, pages = 0;

    for (;;) {
        first = qemu_get_be64(f);
        count = qemu_get_be64(f);
        if (qemu_file_get_error(f)) {
            return -EIO;
        }
        if (!count) {
            break;
        }
        /* Ascending: a bad stream ends, and does no page twice. */
        if (first < before || count > UINT64_MAX - first) {
            return -EINVAL;
        }
        before = first + count;
        /* Without a scheduler here: its content was not sent, it is zero. */
        if (region && memsched_region_restore(region, first, count,
                                              MEMSCHED_PAGE_BALLOONED) < 0) {
            return -EINVAL;
        }
        pages += count;
    }
    trace_balloon_ex_restored(name, pages);
    return 0;
}

static int get_pages(QEMUFile *f, void *pv, size_t size,
                     const VMStateField *field)
{
    char name[256];
    size_t length;
    int ret;

    while ((length = (uint8_t)qemu_get_byte(f))) {
        if (qemu_get_buffer(f, (uint8_t *)name, length) != length) {
            return -EIO;
        }
        name[length] = '\0';
        ret = get_runs(f, name);
        if (ret < 0) {
            error_report("balloon-ex: the list of ballooned pages of block "
                         "'%s' is wrong", name);
            return ret;
        }
    }
    return qemu_file_get_error(f);
}

static bool pages_needed(void *opaque)
{
    return memsched_instance_client();
}

static const VMStateInfo pages_info = {
    .name = "ballooned pages",
    .get = get_pages,
    .put = put_pages,
};

const VMStateDescription balloon_ex_vmstate_pages = {
    .name = "balloon-ex-device/pages",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = pages_needed,
    .fields = (const VMStateField[]) {
        {
            .name = "pages",
            .info = &pages_info,
            .flags = VMS_SINGLE,
        },
        VMSTATE_END_OF_LIST()
    },
};

/* Reset of the machine, and the one before a snapshot is loaded */

static int take_all(RAMBlock *block, void *opaque)
{
    char *host = qemu_ram_get_host_addr(block);
    MemSchedRegion *region = memsched_instance_region(host);
    uint64_t end = qemu_ram_get_used_length(block) >> MEMSCHED_PAGE_SHIFT;
    uint64_t page = 0, first, count;

    if (!region) {
        return 0;
    }
    memsched_region_restore(region, 0, end, MEMSCHED_PAGE_REPORTED);
    /* What could not be taken is pinned: it stays, and is cleared. */
    while (page < end &&
           memsched_region_next_run(region, page,
                                    1u << MEMSCHED_PAGE_RESIDENT, &first,
                                    &count) && first < end) {
        count = MIN(count, end - first);
        memset(host + (first << MEMSCHED_PAGE_SHIFT), 0,
               count << MEMSCHED_PAGE_SHIFT);
        page = first + count;
    }
    return 0;
}

static void machine_reset(void *opaque)
{
    BalloonExMigrate *m = opaque;

    memsched_reset(m->client, MEMSCHED_RESET_SYSTEM);
    if (runstate_check(RUN_STATE_RESTORE_VM)) {
        qemu_ram_foreach_block(take_all, NULL);
        memsched_reset(m->client, MEMSCHED_RESET_SYSTEM);
    }
}

BalloonExMigrate *balloon_ex_migrate_new(MemSchedClient *client)
{
    BalloonExMigrate *m = g_new0(BalloonExMigrate, 1);

    m->client = client;
    m->precopy.notify = precopy_notified;
    m->postcopy.notify = postcopy_notified;
    precopy_add_notifier(&m->precopy);
    postcopy_add_notifier(&m->postcopy);
    migration_add_notifier(&m->setup, setup_notified);
    qemu_register_reset(machine_reset, m);
    return m;
}

void balloon_ex_migrate_free(BalloonExMigrate *m)
{
    if (!m) {
        return;
    }
    qemu_unregister_reset(machine_reset, m);
    migration_remove_notifier(&m->setup);
    postcopy_remove_notifier(&m->postcopy);
    precopy_remove_notifier(&m->precopy);
    inhibit(m, false);
    g_free(m);
}
