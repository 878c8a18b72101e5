/*
 * balloon-ex: pages with a known tag, in migration and snapshots
 *
 * Such a page is content, and reading it would bring it back: a guest that has
 * lent its memory would have to have all of it for a moment, just to be moved.
 * So it is not sent with RAM; what it holds follows with the device's state,
 * generated, as one record for each run of consecutive tags.
 *
 * A page that was left out may be touched before the end.  It is the guest's
 * own then: where it was written to it is dirty and was sent, but where it was
 * only read nobody else knows of it.  So every page that was ever left out is
 * in the state: by its tag, or, if it is there by now, as it is.  A page that
 * has been given up since reads as zero on the other side as it does here.
 *
 * On the other side the pages are written, like those of RAM.  Their session is
 * over there: the guest's agent uses them for its next orders.
 *
 * Threads: that of migration; the BQL for the state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "exec/cpu-common.h"
#include "exec/ramblock.h"
#include "migration/misc.h"
#include "migration/qemu-file-types.h"
#include "qemu/error-report.h"
#include "standard-headers/linux/virtio_balloon_ex.h"
#include "system/instance-local.h"
#include "trace/trace-system_memsched.h"
#include "virtio-balloon-ex-tags.h"

/* Records of a block in the stream. */
enum { RECORD_END, RECORD_TAGS, RECORD_PAGE };

#define ABSENT ((1u << MEMSCHED_PAGE_HOLE) | \
                (1u << MEMSCHED_PAGE_BALLOONED) | \
                (1u << MEMSCHED_PAGE_REPORTED))

/* Pages that were left out, by RAMBlock; NULL: none. */
static GHashTable *left_out;

static uint64_t pages_of(RAMBlock *block)
{
    return qemu_ram_get_used_length(block) >> MEMSCHED_PAGE_SHIFT;
}

static char *page_of(RAMBlock *block, uint64_t page)
{
    return (char *)qemu_ram_get_host_addr(block) +
        (page << MEMSCHED_PAGE_SHIFT);
}

/* ---- leaving out ---- */

static unsigned long *bitmap_of(RAMBlock *block)
{
    unsigned long *bitmap;

    if (!left_out) {
        left_out = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    }
    bitmap = g_hash_table_lookup(left_out, block);
    if (!bitmap) {
        bitmap = bitmap_new(pages_of(block));
        g_hash_table_insert(left_out, block, bitmap);
    }
    return bitmap;
}

void balloon_ex_tags_skip(RAMBlock *block, MemSchedRegion *region)
{
    uint64_t end = pages_of(block), page = 0, first, count;

    while (page < end &&
           memsched_region_next_run(region, page, 1u << MEMSCHED_PAGE_TAG,
                                    &first, &count) && first < end) {
        count = MIN(count, end - first);
        bitmap_set(bitmap_of(block), first, count);
        qemu_guest_free_page_hint(page_of(block, first),
                                  count << MEMSCHED_PAGE_SHIFT);
        page = first + count;
    }
}

void balloon_ex_tags_end(void)
{
    g_clear_pointer(&left_out, g_hash_table_destroy);
}

/* ---- out ---- */

/* Tags that follow one another, not written yet. */
typedef struct Run {
    uint64_t first, count;
    struct vbx_tag tag;         /* of the first page */
} Run;

static bool follows(const Run *run, uint64_t page, const struct vbx_tag *tag)
{
    struct vbx_tag next;

    if (!run->count || page != run->first + run->count) {
        return false;
    }
    vbx_tag_make(&next, vbx_le32(run->tag.app), vbx_le64(run->tag.epoch),
                 vbx_le64(run->tag.sequence) + run->count, run->tag.key);
    return !memcmp(&next, tag, sizeof(next));
}

static void put_run(QEMUFile *f, Run *run)
{
    if (run->count) {
        qemu_put_byte(f, RECORD_TAGS);
        qemu_put_be64(f, run->first);
        qemu_put_be64(f, run->count);
        qemu_put_buffer(f, (uint8_t *)&run->tag, sizeof(run->tag));
        run->count = 0;
    }
}

static void put_page(QEMUFile *f, RAMBlock *block, MemSchedRegion *region,
                     uint64_t page, Run *run)
{
    g_autofree uint8_t *content = g_malloc(MEMSCHED_PAGE_SIZE);
    uint64_t first, count;
    struct vbx_tag tag;

    if (!memsched_region_tag_content(region, page, content)) {
        memcpy(&tag, content, sizeof(tag));
        if (!follows(run, page, &tag)) {
            put_run(f, run);
            run->first = page;
            run->tag = tag;
        }
        run->count++;
        return;
    }
    if (memsched_region_next_run(region, page, ABSENT, &first, &count) &&
        first == page) {
        return;
    }
    put_run(f, run);
    qemu_put_byte(f, RECORD_PAGE);
    qemu_put_be64(f, page);
    qemu_put_buffer(f, (uint8_t *)page_of(block, page), MEMSCHED_PAGE_SIZE);
}

static int put_block(RAMBlock *block, void *opaque)
{
    const char *name = qemu_ram_get_idstr(block);
    unsigned long *bitmap = g_hash_table_lookup(left_out, block);
    MemSchedRegion *region =
        memsched_instance_region(qemu_ram_get_host_addr(block));
    uint64_t end = pages_of(block);
    QEMUFile *f = opaque;
    Run run = { 0 };

    if (!bitmap || !region) {
        return 0;
    }
    qemu_put_byte(f, strlen(name));
    qemu_put_buffer(f, (const uint8_t *)name, strlen(name));
    for (uint64_t page = find_first_bit(bitmap, end); page < end;
         page = find_next_bit(bitmap, end, page + 1)) {
        put_page(f, block, region, page, &run);
    }
    put_run(f, &run);
    qemu_put_byte(f, RECORD_END);
    return 0;
}

static int put_tags(QEMUFile *f, void *pv, size_t size,
                    const VMStateField *field, JSONWriter *vmdesc)
{
    qemu_ram_foreach_block(put_block, f);
    qemu_put_byte(f, 0);
    return 0;
}

/* ---- in ---- */

static int get_run(QEMUFile *f, RAMBlock *block)
{
    uint64_t first = qemu_get_be64(f), count = qemu_get_be64(f);
    struct vbx_tag tag, made;

    if (qemu_get_buffer(f, (uint8_t *)&tag, sizeof(tag)) != sizeof(tag)) {
        return -EIO;
    }
    if (!count || first >= pages_of(block) ||
        count > pages_of(block) - first) {
        return -EINVAL;
    }
    for (uint64_t i = 0; i < count; i++) {
        char *page = page_of(block, first + i);

        vbx_tag_make(&made, vbx_le32(tag.app), vbx_le64(tag.epoch),
                     vbx_le64(tag.sequence) + i, tag.key);
        memcpy(page, &made, sizeof(made));
        memset(page + sizeof(made), 0, MEMSCHED_PAGE_SIZE - sizeof(made));
    }
    trace_balloon_ex_restored(qemu_ram_get_idstr(block), count);
    return 0;
}

static int get_page(QEMUFile *f, RAMBlock *block)
{
    uint64_t page = qemu_get_be64(f);

    if (page >= pages_of(block)) {
        return -EINVAL;
    }
    return qemu_get_buffer(f, (uint8_t *)page_of(block, page),
                           MEMSCHED_PAGE_SIZE) == MEMSCHED_PAGE_SIZE
        ? 0 : -EIO;
}

static int get_records(QEMUFile *f, RAMBlock *block)
{
    int ret = 0;

    while (!ret) {
        switch (qemu_get_byte(f)) {
        case RECORD_END:
            return qemu_file_get_error(f);
        case RECORD_TAGS:
            ret = get_run(f, block);
            break;
        case RECORD_PAGE:
            ret = get_page(f, block);
            break;
        default:
            ret = -EINVAL;
        }
    }
    return ret;
}

static int get_tags(QEMUFile *f, void *pv, size_t size,
                    const VMStateField *field)
{
    char name[256];
    size_t length;

    while ((length = (uint8_t)qemu_get_byte(f))) {
        RAMBlock *block;
        int ret;

        if (qemu_get_buffer(f, (uint8_t *)name, length) != length) {
            return -EIO;
        }
        name[length] = '\0';
        block = qemu_ram_block_by_name(name);
        ret = block ? get_records(f, block) : -EINVAL;
        if (ret < 0) {
            error_report("balloon-ex: the list of tagged pages of block '%s' "
                         "is wrong", name);
            return ret;
        }
    }
    return qemu_file_get_error(f);
}

static bool tags_needed(void *opaque)
{
    return left_out;
}

static const VMStateInfo tags_info = {
    .name = "tagged pages",
    .get = get_tags,
    .put = put_tags,
};

const VMStateDescription balloon_ex_vmstate_tags = {
    .name = "balloon-ex-device/tags",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = tags_needed,
    .fields = (const VMStateField[]) {
        {
            .name = "tags",
            .info = &tags_info,
            .flags = VMS_SINGLE,
        },
        VMSTATE_END_OF_LIST()
    },
};
