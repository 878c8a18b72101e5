/*
 * Transfers: memory on its way from one guest to another
 *
 * Owns the records of transfers and the rules of their lives:
 *
 *     start -> donor's balloon grows -> captured -> claimed -> mapped -> end
 *
 * Counts of one transfer, at any time:
 *
 *     mapped = moved + copied + discarded <= claimed <= captured
 *     claimed <= requested
 *     outstanding = claimed - mapped: what the acceptor's claim holds for it
 *
 * A page that is captured goes to the oldest transfer that may have it (FIFO,
 * so that the one with the earliest promise is not starved by later ones); a
 * page that is mapped counts for the oldest with something outstanding.  What
 * SAFE does not let be claimed stays in the pool, and the donor is asked for
 * that much more: captured may so be more than requested.
 *
 * The donor's balloon.  Stock drivers give any free page, also one that has
 * never been touched, which frees nothing.  So the goal is not "balloon at the
 * start + size" but what is in the balloon now + what is still missing: it
 * rises by the holes that the guest gives until enough frames have come.
 *
 * The acceptor's balloon is lowered by what has been claimed for it, so that
 * its kernel gets pages to use; only what exceeds its balloon is put into holes
 * that it has not asked for.  It is lowered further where that makes too few
 * holes: a guest may have touched ballooned pages, which then give none.  What
 * is in the balloon + holes - what is outstanding does not change while it
 * deflates and pages are mapped, so the goal stands still meanwhile.
 *
 * A guest that gives and takes at once gives first: otherwise both wishes would
 * cancel out and neither transfer would move.
 *
 * An acceptor whose touches wait knows best which pages it wants: the claim is
 * left to its faults, and holes are filled when none has waited for a while.
 *
 * Applications are asked before the kernel's balloon, and give back after it:
 * what was taken last goes back first.
 *
 * Ends.  All mapped: completed.  Deadline, or one side gone: partial if
 * anything was mapped, else failed; then the donor's balloon shrinks by what
 * nobody has taken, the claim lapses first so that it can.
 *
 * Pure; the caller holds the ledger's lock.  It moves nothing and asks nobody.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "less.h"
#include "transfer.h"

#define NS_PER_MS UINT64_C(1000000)

/*
 * So long without a capture means that what is given lies in incomplete
 * frames, although the guest still owes some: a stock driver gives 1 MiB every
 * few ms while it has free memory.
 */
#define URGE_IDLE_NS (200 * NS_PER_MS)
/* Before the deadline: time enough to take 1 GiB of split frames (1 ms each) */
#define URGE_LATE_NS (1000 * NS_PER_MS)
/* A balloon that has made no room for so long is not waited for. */
#define PREFETCH_IDLE_NS (1000 * NS_PER_MS)
/* So long a guest whose touches waited is left to take pages by touch ... */
#define HUNGRY_NS        (1000 * NS_PER_MS)
/* ... but not so shortly before the deadline: 1 GiB takes 0.1 s. */
#define PREFETCH_LATE_NS (500 * NS_PER_MS)

typedef enum Cause {
    CAUSE_MAPPED, CAUSE_DEADLINE, CAUSE_GONE, CAUSE_RESET, CAUSE_CANCELLED,
} Cause;

static bool runs(const MsTransfer *x)
{
    return x->id && x->state == MEMSCHED_TRANSFER_RUNNING;
}

static uint64_t mapped_of(const MsTransfer *x)
{
    return x->moved + x->copied + x->discarded;
}

/* The running transfer with the smallest id above @after, or NULL. */
static MsTransfer *next_running(const MsTransfers *t, uint64_t after)
{
    const MsTransfer *found = NULL;

    for (unsigned i = 0; i < MS_TRANSFERS_KEPT; i++) {
        const MsTransfer *x = &t->kept[i];

        if (runs(x) && x->id > after && (!found || x->id < found->id)) {
            found = x;
        }
    }
    return (MsTransfer *)found;
}

static void act(MsTransferActions *actions, MsTransferActionKind kind,
                MsTransfer *x, const void *client, uint64_t pages)
{
    g_assert(actions->count < G_N_ELEMENTS(actions->action));
    actions->action[actions->count++] = (MsTransferAction) {
        .kind = kind, .transfer = x, .client = client, .pages = pages,
    };
}

/* ---- start ---- */

/*
 * Who makes room first: a slot never used, then what the policy did, of which
 * there is more every second, then the oldest.
 */
static bool goes_before(const MsTransfer *x, const MsTransfer *y)
{
    if (x->id == 0 || y->id == 0) {
        return x->id < y->id;
    }
    return x->automatic != y->automatic ? x->automatic : x->id < y->id;
}

int ms_transfers_start(MsTransfers *t, const MsTransferStart *start,
                       uint64_t *ret_id)
{
    MsTransfer *x = NULL;

    if (start->automatic ? t->automatic >= MS_TRANSFERS_AUTOMATIC
                         : t->running - t->automatic >= MS_TRANSFERS_RUNNING) {
        return -EAGAIN;
    }
    /* Fewer run than there are slots. */
    for (unsigned i = 0; i < MS_TRANSFERS_KEPT; i++) {
        MsTransfer *slot = &t->kept[i];

        if (!runs(slot) && (x == NULL || goes_before(slot, x))) {
            x = slot;
        }
    }
    *x = (MsTransfer) {
        .id = ++t->last_id, .from = start->from, .to = start->to,
        .automatic = start->automatic,
        .source = start->source, .state = MEMSCHED_TRANSFER_RUNNING,
        .requested = start->pages, .start_ns = start->now_ns,
        .captured_ns = start->now_ns, .mapped_ns = start->now_ns,
        .deadline_ms = start->deadline_ms ? start->deadline_ms
                                          : MS_TRANSFER_DEADLINE_MS,
    };
    /* 2^32 ms are 2^52 ns: no overflow before the clock's own. */
    x->deadline_ns = start->now_ns + x->deadline_ms * NS_PER_MS;
    g_strlcpy(x->from_id, start->from_id, sizeof(x->from_id));
    g_strlcpy(x->to_id, start->to_id, sizeof(x->to_id));
    t->running++;
    t->automatic += x->automatic;
    *ret_id = x->id;
    return 0;
}

MsTransfer *ms_transfers_find(MsTransfers *t, uint64_t id)
{
    for (unsigned i = 0; i < MS_TRANSFERS_KEPT; i++) {
        if (t->kept[i].id == id && id != 0) {
            return &t->kept[i];
        }
    }
    return NULL;
}

/* ---- end ---- */

static void say_why_late(MsTransfer *x)
{
    uint64_t mapped = mapped_of(x);

    if (x->from == NULL && x->claimed < x->requested) {
        g_snprintf(x->reason, sizeof(x->reason),
                   "only %" PRIu64 " of %" PRIu64 " KiB were left in the pool",
                   x->claimed * 4, x->requested * 4);
    } else if (x->captured < x->requested && x->why[0]) {
        g_snprintf(x->reason, sizeof(x->reason),
                   "guest '%.40s' gave only %" PRIu64 " of %" PRIu64
                   " KiB: %s", x->from_id, x->captured * 4,
                   x->requested * 4, x->why);
    } else if (x->captured == 0) {
        g_snprintf(x->reason, sizeof(x->reason),
                   "guest '%.40s' gave nothing within %u ms: its balloon does"
                   " not respond, or it has no free memory",
                   x->from_id, x->deadline_ms);
    } else if (x->captured < x->requested) {
        g_snprintf(x->reason, sizeof(x->reason),
                   "guest '%.40s' gave only %" PRIu64 " of %" PRIu64
                   " KiB within %u ms", x->from_id, x->captured * 4,
                   x->requested * 4, x->deadline_ms);
    } else if (x->claimed < x->requested) {
        g_snprintf(x->reason, sizeof(x->reason),
                   "only %" PRIu64 " of %" PRIu64 " KiB given were not needed"
                   " for guaranteed minimums", x->claimed * 4,
                   x->captured * 4);
    } else {
        g_snprintf(x->reason, sizeof(x->reason),
                   "guest '%.40s' took only %" PRIu64 " of %" PRIu64
                   " KiB within %u ms: it had no room left and its balloon did"
                   " not shrink", x->to_id, mapped * 4, x->requested * 4,
                   x->deadline_ms);
    }
}

/* What the policy took it did not take for nobody: it has it in the pool. */
static bool gives_back(const MsTransfer *x)
{
    return x->state != MEMSCHED_TRANSFER_COMPLETED && !x->automatic;
}

static void finish(MsTransfers *t, MsTransfer *x, Cause cause,
                   const char *who, uint64_t now_ns,
                   MsTransferActions *actions)
{
    uint64_t mapped = mapped_of(x);
    /* What was taken last goes back first: the kernel's balloon. */
    uint64_t app_used = MIN(mapped, x->captured_app);
    uint64_t kernel_used = MIN(mapped - app_used, x->captured_kernel);

    if (mapped >= x->requested) {
        x->state = MEMSCHED_TRANSFER_COMPLETED;
    } else {
        x->state = mapped ? MEMSCHED_TRANSFER_PARTIAL
                          : MEMSCHED_TRANSFER_FAILED;
        if (cause == CAUSE_DEADLINE) {
            say_why_late(x);
        } else if (cause == CAUSE_CANCELLED) {
            g_strlcpy(x->reason, "the request was withdrawn",
                      sizeof(x->reason));
        } else {
            g_snprintf(x->reason, sizeof(x->reason),
                       cause == CAUSE_RESET ? "guest '%.40s' was reset"
                                            : "guest '%.40s' went away", who);
        }
    }
    x->end_ns = now_ns;
    t->running--;
    t->automatic -= x->automatic;

    if (x->claimed > mapped) {
        act(actions, MS_TRANSFER_RELEASE, x, x->to, x->claimed - mapped);
    }
    if (gives_back(x) && x->captured_kernel > kernel_used) {
        act(actions, MS_TRANSFER_RESTORE, x, x->from,
            x->captured_kernel - kernel_used);
    }
    if (gives_back(x) && x->captured_app > app_used) {
        act(actions, MS_TRANSFER_RESTORE_APP, x, x->from,
            x->captured_app - app_used);
    }
    if (mapped > 0 && x->to) {
        act(actions, MS_TRANSFER_LOWER, x, x->to, mapped);
    }
    act(actions, MS_TRANSFER_FINISH, x, NULL, 0);
}

int ms_transfers_from_pool(MsTransfers *t, const MsTransferStart *start,
                           uint64_t *ret_id, MsTransferActions *ret_actions)
{
    MsTransferStart s = *start;
    MsTransfer *x;
    int ret;

    ret_actions->count = 0;
    s.from = NULL;
    ret = ms_transfers_start(t, &s, ret_id);
    if (ret == 0) {
        x = ms_transfers_find(t, *ret_id);
        x->captured = x->requested;
        act(ret_actions, MS_TRANSFER_CLAIM, x, x->to, x->requested);
    }
    return ret;
}

void ms_transfers_cancel(MsTransfers *t, MsTransfer *transfer,
                         uint64_t now_ns, MsTransferActions *ret_actions)
{
    ret_actions->count = 0;
    if (runs(transfer)) {
        finish(t, transfer, CAUSE_CANCELLED, NULL, now_ns, ret_actions);
    }
}

void ms_transfers_time(MsTransfers *t, uint64_t now_ns,
                       MsTransferActions *ret_actions)
{
    MsTransfer *x;

    ret_actions->count = 0;
    for (uint64_t id = 0; (x = next_running(t, id)); id = x->id) {
        if (now_ns >= x->deadline_ns) {
            finish(t, x, CAUSE_DEADLINE, NULL, now_ns, ret_actions);
        }
    }
}

void ms_transfers_gone(MsTransfers *t, const void *client, bool reset,
                       uint64_t now_ns, MsTransferActions *ret_actions)
{
    MsTransfer *x;

    ret_actions->count = 0;
    if (t->running == 0) {
        return;
    }
    for (uint64_t id = 0; (x = next_running(t, id)); id = x->id) {
        if (x->from == client || x->to == client) {
            finish(t, x, reset ? CAUSE_RESET : CAUSE_GONE,
                   x->from == client ? x->from_id : x->to_id, now_ns,
                   ret_actions);
        }
    }
}

static bool wants_apps(const MsTransfer *x, const void *from)
{
    return x->from == from && x->claimed < x->requested &&
           (x->source == MEMSCHED_SOURCE_ANY ||
            x->source == MEMSCHED_SOURCE_APPLICATION);
}

void ms_transfers_note(MsTransfers *t, const void *from, const char *why)
{
    MsTransfer *x;

    for (uint64_t id = 0; (x = next_running(t, id)); id = x->id) {
        if (wants_apps(x, from)) {
            g_strlcpy(x->why, why, sizeof(x->why));
        }
    }
}

void ms_transfers_hasten(MsTransfers *t, const void *from, const char *why,
                         uint64_t now_ns)
{
    MsTransfer *x;

    for (uint64_t id = 0; (x = next_running(t, id)); id = x->id) {
        if (wants_apps(x, from) &&
            x->source == MEMSCHED_SOURCE_APPLICATION) {
            g_strlcpy(x->why, why, sizeof(x->why));
            x->deadline_ns = MIN(x->deadline_ns, now_ns);
        }
    }
}

uint64_t ms_transfers_deadline_ns(const MsTransfers *t)
{
    uint64_t earliest = UINT64_MAX;

    for (unsigned i = 0; t->running > 0 && i < MS_TRANSFERS_KEPT; i++) {
        if (runs(&t->kept[i])) {
            earliest = MIN(earliest, t->kept[i].deadline_ns);
        }
    }
    return earliest;
}

/* ---- progress ---- */

/* How many pages of @from it may have next. */
static uint64_t wants_from(const MsTransfer *x, const void *from,
                           MemSchedSource source)
{
    bool may = x->from == from && (x->source == MEMSCHED_SOURCE_ANY ||
                                   x->source == source);

    return may ? x->requested - x->claimed : 0;
}

unsigned ms_transfers_takers(const MsTransfers *t, const void *from,
                             MemSchedSource source,
                             MsTransferTaker *ret_takers, unsigned max)
{
    unsigned count = 0;
    MsTransfer *x;

    if (t->running == 0) {
        return 0;
    }
    for (uint64_t id = 0; count < max && (x = next_running(t, id));
         id = x->id) {
        uint64_t n = wants_from(x, from, source);

        if (n > 0 && x->to) {
            ret_takers[count++] = (MsTransferTaker) {
                .to = x->to, .pages = n,
            };
        }
    }
    return count;
}

/* No claim: who is to have it is decided when somebody wants it. */
static void in_the_pool(MsTransfers *t, MsTransfer *x, uint64_t pages,
                        bool discarded, MsTransferActions *actions)
{
    x->claimed += pages;
    x->moved += discarded ? 0 : pages;
    x->discarded += discarded ? pages : 0;
    x->mapped_ns = x->captured_ns;
    if (mapped_of(x) >= x->requested) {
        finish(t, x, CAUSE_MAPPED, NULL, x->captured_ns, actions);
    }
}

void ms_transfers_captured(MsTransfers *t, const void *from,
                           MemSchedSource source, uint64_t pages,
                           bool discarded, uint64_t now_ns,
                           MsTransferActions *ret_actions)
{
    MsTransfer *x;

    ret_actions->count = 0;
    if (t->running == 0) {
        return;
    }
    for (uint64_t id = 0; pages > 0 && (x = next_running(t, id));
         id = x->id) {
        uint64_t n = MIN(pages, wants_from(x, from, source));

        if (n == 0) {
            continue;
        }
        x->captured += n;
        x->captured_ns = now_ns;
        x->captured_discarded += discarded ? n : 0;
        if (source == MEMSCHED_SOURCE_KERNEL) {
            x->captured_kernel += n;
            act(ret_actions, MS_TRANSFER_KEEP, x, x->from, n);
        } else if (source == MEMSCHED_SOURCE_APPLICATION) {
            x->captured_app += n;
            act(ret_actions, MS_TRANSFER_KEEP_APP, x, x->from, n);
        }
        pages -= n;
        if (x->to) {
            act(ret_actions, MS_TRANSFER_CLAIM, x, x->to, n);
        } else {
            in_the_pool(t, x, n, discarded, ret_actions);
        }
    }
}

void ms_transfers_claimed(MsTransfer *transfer, uint64_t pages)
{
    transfer->claimed += pages;
}

void ms_transfers_populated(MsTransfers *t, const void *to, uint64_t pages,
                            bool copied, uint64_t now_ns,
                            MsTransferActions *ret_actions)
{
    MsTransfer *x;

    ret_actions->count = 0;
    if (t->running == 0) {
        return;
    }
    for (uint64_t id = 0; pages > 0 && (x = next_running(t, id));
         id = x->id) {
        uint64_t n = MIN(pages, x->claimed - mapped_of(x)), other = 0;

        if (x->to != to || n == 0) {
            continue;
        }
        if (copied) {
            x->copied += n;
        } else {
            /* Frames that were not the donor's are not called moved. */
            other = MIN(n, ms_less(x->captured_discarded,
                                   x->discarded + x->copied));
            x->discarded += other;
            x->moved += n - other;
        }
        x->mapped_ns = now_ns;
        pages -= n;
        if (mapped_of(x) >= x->requested) {
            finish(t, x, CAUSE_MAPPED, NULL, now_ns, ret_actions);
        }
    }
}

/* ---- what follows for one guest ---- */

void ms_transfers_sums(const MsTransfers *t, const void *client,
                       MsTransferSums *ret_sums)
{
    MsTransferSums s = {
        .deadline_ns = UINT64_MAX, .take_deadline_ns = UINT64_MAX,
    };

    for (unsigned i = 0; t->running > 0 && i < MS_TRANSFERS_KEPT; i++) {
        const MsTransfer *x = &t->kept[i];
        uint64_t left = x->requested - x->claimed;

        if (!runs(x)) {
            continue;
        }
        if (x->from == client) {
            s.giving++;
            s.give_left += left;
            s.give_auto_left += x->automatic ? left : 0;
            if (x->source == MEMSCHED_SOURCE_ANY ||
                x->source == MEMSCHED_SOURCE_KERNEL) {
                s.give_kernel_left += left;
            }
            if (x->source == MEMSCHED_SOURCE_ANY) {
                s.give_any_left += left;
            } else if (x->source == MEMSCHED_SOURCE_APPLICATION) {
                s.give_app_left += left;
            }
            if (left > 0) {
                s.deadline_ns = MIN(s.deadline_ns, x->deadline_ns);
            }
            s.captured_ns = MAX(s.captured_ns, x->captured_ns);
        }
        if (x->to == client) {
            s.taking++;
            s.take_deadline_ns = MIN(s.take_deadline_ns, x->deadline_ns);
            s.mapped_ns = MAX(s.mapped_ns, x->mapped_ns);
            s.take_left += x->requested - mapped_of(x);
            s.take_auto_left += x->automatic ? x->requested - mapped_of(x) : 0;
            s.take_claimed += x->claimed;
            s.outstanding += x->claimed - mapped_of(x);
        }
    }
    *ret_sums = s;
}

uint64_t ms_transfers_balloon(const MsTransferSums *sums,
                              const MsTransferGuest *guest)
{
    uint64_t most = ms_less(guest->ram, guest->min), goal;

    if (sums->give_kernel_left > 0) {
        goal = MAX(guest->base, guest->ballooned) +
               ms_less(sums->give_kernel_left, guest->given);
        return MIN(goal, MAX(most, guest->base));
    }
    goal = ms_less(guest->base, sums->take_claimed);
    if (sums->outstanding > guest->holes) {
        goal = MIN(goal, ms_less(guest->ballooned,
                                 sums->outstanding - guest->holes));
    }
    return goal;
}

uint64_t ms_transfers_apps(const MsTransferSums *sums,
                           const MsTransferGuest *guest)
{
    uint64_t goal = ms_less(guest->apps_base,
                            ms_less(sums->take_claimed, guest->base));
    /* What its balloon gives back makes no room where no frame was taken. */
    uint64_t empty = guest->holes + ms_less(guest->ballooned, guest->given);

    if (sums->give_left == 0 && sums->outstanding > empty) {
        goal = MIN(goal, ms_less(guest->apps_held, sums->outstanding - empty));
    }
    return goal;
}

uint64_t ms_transfers_prefetch(const MsTransferSums *sums,
                               const MsTransferGuest *guest, uint64_t claim,
                               uint64_t now_ns)
{
    bool late = now_ns + PREFETCH_LATE_NS >= sums->take_deadline_ns;
    uint64_t expected = 0;

    if (guest->hungry_ns && now_ns < guest->hungry_ns + HUNGRY_NS && !late) {
        return 0;
    }
    if (guest->deflates && now_ns < sums->mapped_ns + PREFETCH_IDLE_NS) {
        /* While it gives it does not shrink, but it will. */
        expected = ms_less(guest->ballooned,
                           ms_less(guest->base, sums->take_claimed));
    }
    if (now_ns < sums->mapped_ns + PREFETCH_IDLE_NS) {
        expected += ms_less(guest->apps_held, ms_transfers_apps(sums, guest));
    }
    return ms_less(MIN(claim, sums->outstanding), expected);
}

uint64_t ms_transfers_urge(const MsTransferSums *sums,
                           const MsTransferGuest *guest, uint64_t now_ns)
{
    uint64_t want = MIN(sums->give_kernel_left, guest->given);
    bool all = ms_transfers_balloon(sums, guest) <= guest->ballooned;
    bool idle = now_ns >= sums->captured_ns + URGE_IDLE_NS;
    bool late = now_ns + URGE_LATE_NS >= sums->deadline_ns;

    return all || idle || late ? want : 0;
}

/* ---- for people ---- */

void ms_transfer_tags_start(MsTransfer *transfer,
                            const MemSchedTagCounters *now)
{
    transfer->tags_before = *now;
}

void ms_transfer_tags(MsTransfer *transfer, const MemSchedTagCounters *now)
{
    const MemSchedTagCounters *b = &transfer->tags_before;

    transfer->tags = (MemSchedTagCounters) {
        .scanned = ms_less(now->scanned, b->scanned),
        .scan_ns = ms_less(now->scan_ns, b->scan_ns),
        .found_by_scan = ms_less(now->found_by_scan, b->found_by_scan),
        .found_by_hint = ms_less(now->found_by_hint, b->found_by_hint),
        .rejected = ms_less(now->rejected, b->rejected),
        .recaptured = ms_less(now->recaptured, b->recaptured),
        .returned_by_fault = ms_less(now->returned_by_fault,
                                     b->returned_by_fault),
        .returned_by_release = ms_less(now->returned_by_release,
                                       b->returned_by_release),
    };
}

void ms_transfer_info(const MsTransfer *x, uint64_t now_ns,
                      MemSchedTransferInfo *ret_info)
{
    MemSchedTransferInfo info = {
        .id = x->id, .source = x->source, .state = x->state,
        .requested_bytes = x->requested << MEMSCHED_PAGE_SHIFT,
        .captured_bytes = x->captured << MEMSCHED_PAGE_SHIFT,
        .moved_bytes = x->moved << MEMSCHED_PAGE_SHIFT,
        .copied_bytes = x->copied << MEMSCHED_PAGE_SHIFT,
        .discarded_bytes = x->discarded << MEMSCHED_PAGE_SHIFT,
        .elapsed_ns = ms_less(x->end_ns ? x->end_ns : now_ns, x->start_ns),
        .deadline_ms = x->deadline_ms, .tags = x->tags,
    };

    g_strlcpy(info.from, x->from_id, sizeof(info.from));
    g_strlcpy(info.to, x->to_id, sizeof(info.to));
    g_strlcpy(info.reason, x->reason, sizeof(info.reason));
    ms_transfer_expect(x, now_ns, &info);
    *ret_info = info;
}

size_t ms_transfers_list(const MsTransfers *t, uint64_t now_ns,
                         MemSchedTransferInfo *ret_infos, size_t max)
{
    uint64_t before = UINT64_MAX;
    size_t count = 0;

    while (count < max) {
        const MsTransfer *found = NULL;

        for (unsigned i = 0; i < MS_TRANSFERS_KEPT; i++) {
            const MsTransfer *x = &t->kept[i];

            if (x->id && x->id < before && (!found || x->id > found->id)) {
                found = x;
            }
        }
        if (found == NULL) {
            break;
        }
        ms_transfer_info(found, now_ns, &ret_infos[count++]);
        before = found->id;
    }
    return count;
}
