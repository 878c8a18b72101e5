/*
 * Guests whose pages come back
 *
 * Taking a page costs every running vCPU of the process a TLB flush, clearing
 * it costs a CPU, and putting one back costs the guest a fault.  All of that is
 * for nothing where the guest touches the page again at once, as one does that
 * reports its free memory and uses it in the next second.
 *
 * Windows.  Of what was captured in this window and the one before, more than a
 * quarter came back: the guest is left alone, a second at first, twice as long
 * each time that it happens again, up to some four minutes.  A time as long as
 * the last one without its happening again takes one step back.  Fewer than
 * 4 MiB captured say nothing.
 *
 *     level      0      1      2     ...     9
 *     alone      -     1 s    2 s    ...   256 s
 *
 * Buckets bound what a guest costs that does not thrash by that measure.  What
 * has to be done is done on credit, and the next one waits; rates are such that
 * a guest that frees or fills its memory at full speed is not held up for its
 * first GiBs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stddef.h>

#include "thrash.h"

#define NS_PER_S      UINT64_C(1000000000)
#define WINDOW_NS     (10 * NS_PER_S)
#define RETURN_PCT    25u
#define MIN_PAGES     1024u
#define MAX_LEVEL     9u

/* A second, and what a burst may take at once.  rate * 2 s fits 64 bits. */
static const struct {
    uint32_t rate, burst;
} limits[MS_COSTS] = {
    /* A flush is 5 us of each running vCPU: 1 % of it. */
    [MS_COST_CAPTURE] = { 2000, 4000 },
    /* One brings 4 KiB to 2 MiB, and flushes as well. */
    [MS_COST_FAULT] = { 5000, 5000 },
    /* 4 GiB/s, a third of what one CPU clears. */
    [MS_COST_SCRUB] = { 1 << 20, 1 << 21 },
};

void ms_thrash_init(MsThrash *t, uint64_t now_ns)
{
    *t = (MsThrash) { .window_ns = now_ns };
    for (unsigned i = 0; i < MS_COSTS; i++) {
        t->bucket[i] = (MsBucket) {
            .tokens = limits[i].burst, .filled_ns = now_ns,
        };
    }
}

/* ---- buckets ---- */

static int64_t tokens_at(const MsBucket *b, MsCost cost, uint64_t now_ns)
{
    uint64_t passed = now_ns > b->filled_ns ? now_ns - b->filled_ns : 0;
    int64_t tokens = b->tokens;

    /* In whole seconds first: no product of an hour and a rate. */
    if (passed / NS_PER_S > (uint64_t)(limits[cost].burst - tokens) /
                            limits[cost].rate) {
        return limits[cost].burst;
    }
    tokens += passed / NS_PER_S * limits[cost].rate +
              passed % NS_PER_S * limits[cost].rate / NS_PER_S;
    return tokens < limits[cost].burst ? tokens : limits[cost].burst;
}

void ms_thrash_charge(MsThrash *t, MsCost cost, uint64_t amount,
                      uint64_t now_ns)
{
    MsBucket *b = &t->bucket[cost];
    int64_t before = b->tokens, now = tokens_at(b, cost, now_ns);
    /* No more debt than ten seconds pay off. */
    int64_t most = now + 10 * (int64_t)limits[cost].rate;

    if (most < 0) {
        most = 0;
    }
    if (now == limits[cost].burst) {
        b->filled_ns = now_ns;
    } else {
        /* As far as whole tokens have come: no fraction is lost. */
        b->filled_ns += (uint64_t)(now - before) * NS_PER_S /
                        limits[cost].rate;
    }
    b->tokens = now - (amount < (uint64_t)most ? (int64_t)amount : most);
}

uint64_t ms_thrash_dry_until_ns(const MsThrash *t, MsCost cost,
                                uint64_t now_ns)
{
    int64_t tokens = tokens_at(&t->bucket[cost], cost, now_ns);

    if (tokens > 0) {
        return 0;
    }
    return now_ns + (uint64_t)(1 - tokens) * NS_PER_S / limits[cost].rate + 1;
}

/* ---- what comes back ---- */

static uint64_t alone_ns(unsigned level)
{
    return level ? NS_PER_S << (level - 1) : 0;
}

/* Begin the windows, and forget the levels, that time has brought. */
static void pass_time(MsThrash *t, uint64_t now_ns)
{
    uint64_t windows = now_ns > t->window_ns
                       ? (now_ns - t->window_ns) / WINDOW_NS : 0;

    if (windows > 0) {
        t->captured[1] = windows == 1 ? t->captured[0] : 0;
        t->returned[1] = windows == 1 ? t->returned[0] : 0;
        t->captured[0] = t->returned[0] = 0;
        t->window_ns += windows * WINDOW_NS;
    }
    while (t->level > 0 && now_ns >= t->until_ns + alone_ns(t->level)) {
        t->until_ns += alone_ns(t->level);
        t->level--;
    }
}

static void leave_alone(MsThrash *t, uint64_t now_ns)
{
    if (t->level < MAX_LEVEL) {
        t->level++;
    }
    t->until_ns = now_ns + alone_ns(t->level);
    t->backoffs++;
    t->captured[0] = t->captured[1] = 0;
    t->returned[0] = t->returned[1] = 0;
}

void ms_thrash_captured(MsThrash *t, uint64_t pages, uint64_t now_ns)
{
    pass_time(t, now_ns);
    t->captured[0] += pages;
    ms_thrash_charge(t, MS_COST_SCRUB, pages, now_ns);
}

bool ms_thrash_returned(MsThrash *t, uint64_t pages, uint64_t now_ns)
{
    uint64_t captured, returned;

    pass_time(t, now_ns);
    t->returned_pages += pages;
    t->returned[0] += pages;
    captured = t->captured[0] + t->captured[1];
    returned = t->returned[0] + t->returned[1];
    if (captured < MIN_PAGES || ms_thrash_left_ns(t, now_ns) > 0 ||
        returned * 100 <= captured * RETURN_PCT) {
        return false;
    }
    leave_alone(t, now_ns);
    return true;
}

void ms_thrash_oom(MsThrash *t, uint64_t now_ns)
{
    pass_time(t, now_ns);
    /* A driver takes 1 MiB a time: one shortage is many of them. */
    if (ms_thrash_left_ns(t, now_ns) == 0) {
        leave_alone(t, now_ns);
    }
}

void ms_thrash_asked(MsThrash *t, uint64_t now_ns)
{
    pass_time(t, now_ns);
    if (t->until_ns > now_ns) {
        t->until_ns = now_ns;
    }
}

uint64_t ms_thrash_left_ns(const MsThrash *t, uint64_t now_ns)
{
    return t->level > 0 && t->until_ns > now_ns ? t->until_ns - now_ns : 0;
}
